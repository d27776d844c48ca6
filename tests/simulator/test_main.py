import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from nion_distortion.frame import ScanSettings
from simulator.__main__ import main


def test_a_stack_is_written_with_its_settings_and_truth(tmp_path: Path) -> None:
    out, truth = tmp_path / "stack.npy", tmp_path / "truth.npz"
    sizes = ["--pixels", "96", "--fov-nm", "3", "--frames", "2"]
    assert main(["--out", str(out), "--truth", str(truth), *sizes]) == 0
    stack, written = np.load(out), json.loads(out.with_suffix(".json").read_text())
    assert set(written) == {item.name for item in dataclasses.fields(ScanSettings)}
    assert stack.shape == (2, *written["shape_px"]) == (2, 96, 96)
    assert stack.dtype == np.float32
    assert (written["field_of_view_nm"], written["line_time_us"]) == (3.0, 126.0)
    known = np.load(truth)
    assert known["distortion_px"].shape == (2, 96, 96)
    assert set(known["columns_frame"]) == {0, 1}


def test_a_mistake_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "x.npy"), "--pixels", "2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
