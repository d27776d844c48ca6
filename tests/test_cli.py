import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rsciio import hspy

from nion_distortion import held_out
from nion_distortion.cli import demo, main, summary
from nion_distortion.diagnostics import with_std
from nion_distortion.files import read_frames
from nion_distortion.frame import ScanSettings
from nion_distortion.held_out import held_out_residual
from nion_distortion.pipeline import process_frame
from nion_distortion.session import LiveReport
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.scan import strong_flyback
from simulator.specimen import make_specimen

SETTINGS = ScanSettings(
    shape_px=(192, 192), field_of_view_nm=6.0, dwell_time_us=1.0, flyback_time_us=30.0
)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Write a simulated stack of three frames with its settings beside it."""
    microscope = Microscope(
        make_specimen("sto_001", rotation_rad=0.05),
        errors=strong_flyback(SETTINGS, sign=1, seed=2),
        detector=Detector(counts_at_peak=100.0),
    )
    path = tmp_path / "sto.npy"
    np.save(path, np.stack([microscope.shot(SETTINGS, k).frame.image for k in range(3)]))
    path.with_suffix(".json").write_text(json.dumps(asdict(SETTINGS)))
    return path


def numbers_in(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_correct_reports_what_process_frame_finds(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stack.read_bytes()
    out = tmp_path / "new" / "folder"
    assert main(["correct", str(stack), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "real displacements longer than about two cells are removed as well" in said
    assert stack.read_bytes() == before
    measured = r"off by [\d.]+( to [\d.]+)? \+- [\d.]+ pm"
    expected = r"an expected [\d.]+( to [\d.]+)? pm \(rms, predicted by the model, with no uncert"
    assert re.search(f"3 frames, {measured}, corrected to {expected}", said)
    numbers, model = numbers_in(out), None
    assert numbers["pixel_size_nm"] == pytest.approx(6.0 / 192)
    assert len(numbers["frames"]) == 3
    assert numbers["frames"][0]["drift_nm"] is None  # nothing that it could have drifted from
    for frame, shown in zip(read_frames(stack), numbers["frames"], strict=True):
        report = process_frame(frame, model=model)
        model = report.model
        assert report.off_by_pm is not None
        assert report.corrected_pm is not None
        assert report.corrected is not None
        assert shown["off_by_pm"]["value"] == pytest.approx(report.off_by_pm.value, rel=1e-6)
        if shown["drift_nm"] is not None:
            assert shown["drift_nm"] == pytest.approx(report.drift_nm)
            assert shown["drift_std_nm"] == pytest.approx(report.drift_std_nm)
        assert shown["corrected_pm"]["p95"] == pytest.approx(report.corrected_pm.p95, rel=1e-6)
        (stored,) = hspy.file_reader(str(out / f"sto_corrected_{frame.index:04d}.hspy"))
        np.testing.assert_allclose(stored["data"], report.corrected.image, rtol=1e-5)
        assert stored["axes"][0]["scale"] == pytest.approx(6.0 / 192)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    last = numbers["frames"][-1]["off_by_pm"]
    assert with_std(last["value"], last["std"], "pm").removesuffix(" pm") in page


def test_a_single_image_needs_no_settings_but_the_field_of_view(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "one.npy"
    np.save(one, np.load(stack)[0])
    assert main(["correct", str(one), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    sentence = "one.npy has no pixel size; give the field of view (--fov-nm)"
    assert said.err == f"nion-distortion: {sentence}\n"
    assert not (tmp_path / "out").exists()
    assert main(["correct", str(one), "--fov-nm", "6", "--out", str(tmp_path / "out")]) == 0
    assert numbers_in(tmp_path / "out")["dwell_time_us"] is None


def test_a_spectrum_image_is_told_which_argument_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "eels.npy", np.ones((80, 96, 5)))
    assert main(["correct", str(tmp_path / "eels.npy"), "--fov-nm", "3"]) == 2
    assert capsys.readouterr().err.endswith(
        "it looks like a spectrum image, which needs --calibration "
        "(with auto also its settings in a JSON beside it)\n"
    )


def test_results_of_an_earlier_run_are_replaced_and_nothing_else(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, one = tmp_path / "out", tmp_path / "shorter" / stack.name
    one.parent.mkdir()
    np.save(one, np.load(stack)[0])
    assert main(["correct", str(stack), "--out", str(out)]) == 0
    assert "Replaced" not in capsys.readouterr().out
    first = sorted(path.name for path in out.iterdir())
    assert sorted(numbers_in(out)["files"]) == first
    assert "drift_of_the_sample.png" in first
    (out / "mine.png").write_bytes(b"of the user")
    edited = out / "sto_corrected_0001.hspy"
    os.utime(edited, ns=(time.time_ns() + 10**9,) * 2)
    told = numbers_in(out)
    (tmp_path / "outside.png").write_bytes(b"of the user")
    told["files"].append("../outside.png")
    stamp = (out / "report.json").stat().st_mtime_ns
    (out / "report.json").write_text(json.dumps(told), encoding="utf-8")
    os.utime(out / "report.json", ns=(stamp, stamp))
    assert main(["correct", str(one), "--fov-nm", "6", "--out", str(out)]) == 0
    line = f"Replaced the results of an earlier run in {out}.\n"
    assert capsys.readouterr().out.count(line) == 1
    left = {path.name for path in out.iterdir()}
    assert left == {*numbers_in(out)["files"], "mine.png", edited.name}
    assert (tmp_path / "outside.png").exists()
    assert "drift_of_the_sample.png" not in left


def test_results_of_another_file_stay_beside_the_new_ones_and_that_is_said(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, one = tmp_path / "out", tmp_path / "one.npy"
    np.save(one, np.load(stack)[0])
    assert main(["correct", str(stack), "--out", str(out)]) == 0
    first = {path.name for path in out.iterdir()}
    assert main(["correct", str(one), "--fov-nm", "6", "--out", str(out)]) == 0
    assert "of an earlier run on another file" in capsys.readouterr().out
    assert first < {path.name for path in out.iterdir()}


def test_held_out_columns_are_measured_beside_the_fitted_ones(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["correct", str(stack), "--held-out", "--out", str(tmp_path / "out")]) == 0
    found = numbers_in(tmp_path / "out")["held_out"]
    expected = held_out_residual(read_frames(stack)[0], rng=np.random.default_rng(found["seed"]))
    assert found["erased"] == expected.erased
    assert found["corrected_slow_pm"] == pytest.approx(expected.corrected_pm[0], rel=1e-6)
    assert found["raw_fast_pm"] == pytest.approx(expected.raw_pm[1], rel=1e-6)
    assert found["fitted_fast_pm"] == pytest.approx(expected.fitted_pm[1], rel=1e-6)
    shown = f"-> {expected.corrected_pm[0]:.1f}/{expected.corrected_pm[1]:.1f} pm; fitted columns"
    said = capsys.readouterr().out
    assert shown in said
    assert "one draw of 20 % at random" in said
    assert "One draw has no uncertainty" in said


def test_when_no_erased_column_is_found_again_one_sentence_says_so(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(held_out, "SAME_COLUMN", 1e-12)
    assert main(["correct", str(stack), "--held-out", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert "nan" not in said.out
    assert said.err.endswith("found again in the corrected image: there is nothing to compare\n")


def test_what_nobody_expected_is_one_sentence_too(
    stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> None:
        def process_frame(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(summary, "process_frame", process_frame)

    fail(RuntimeError("two\nlines"))
    assert main(["correct", str(stack)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "nion-distortion: RuntimeError: two lines (--debug shows where)"
    with pytest.raises(RuntimeError):
        main(["--debug", "correct", str(stack)])
    fail(KeyboardInterrupt())
    assert main(["correct", str(stack)]) == 2
    assert capsys.readouterr().err.endswith("nion-distortion: stopped\n")


def test_stopped_while_libraries_are_loaded_it_says_so_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert main(["correct", "image.npy"]) == 2
    assert capsys.readouterr().err == "nion-distortion: stopped\n"


def test_an_image_without_columns_is_refused_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "flat.npy", np.full((128, 128), 7.0))
    out = tmp_path / "out"
    assert main(["correct", str(tmp_path / "flat.npy"), "--fov-nm", "4", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("nion-distortion: flat.npy: ")
    assert said.count("\n") == 1
    assert not out.exists()


def test_a_frame_that_is_not_finite_costs_no_other_frame(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.load(stack)
    for broken in (0, 2):
        images[broken, 3, 4] = np.nan
    np.save(stack, images)
    assert main(["correct", str(stack), "--out", str(tmp_path / "out"), "--held-out"]) == 0
    said = capsys.readouterr().out
    for broken in (0, 2):
        sentence = "could not be measured: image must be finite, but 1 of its pixels are not."
        assert f"Frame {broken} {sentence}" in said
    assert "sto.npy: 3 frames, off by" in said
    assert "State none" not in said
    frames = numbers_in(tmp_path / "out")["frames"]
    assert [one["unusable"] is None for one in frames] == [False, True, False]
    assert [path.name for path in (tmp_path / "out").glob("*.hspy")] == ["sto_corrected_0001.hspy"]


def test_a_file_that_is_not_finite_is_named(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(stack, np.full_like(np.load(stack), np.nan))
    where = ["--out", str(tmp_path / "out")]
    for words in (["correct"], ["calibrate", "--store", str(tmp_path / "store.sqlite")]):
        assert main([words[0], str(stack), *words[1:], *where]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("nion-distortion: sto.npy: ")
        assert said.endswith("image must be finite, but 36864 of its pixels are not")


def test_a_cut_out_image_is_fitted_without_fly_back_and_says_so(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "one.npy", np.load(stack)[0])
    assert (
        main(["correct", str(tmp_path / "one.npy"), "--fov-nm", "6", "--out", str(tmp_path)]) == 0
    )
    (result,) = tmp_path.glob("one_corrected_*.hspy")
    aligned = tmp_path / "aligned.hspy"
    (signal,) = hspy.file_reader(str(result))
    signal["metadata"]["General"]["title"] = "Aligned average"
    del signal["metadata"]["nion_distortion"]
    signal |= {"learning_results": {}, "models": {}, "tmp_parameters": {}, "package_info": {}}
    hspy.file_writer(str(aligned), signal | {"attributes": {"_lazy": False}})
    capsys.readouterr()
    assert main(["correct", str(aligned), "--out", str(tmp_path / "out")]) == 0
    assert "the fly-back was not fitted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["correct", "missing.dm3"], "missing.dm3 does not exist"),
        (["correct", "FILE", "--fov-nm", "-3"], "field_of_view_nm must be positive, not -3"),
        (["correct", "FILE", "--out", "FILE"], "sto.npy is a file, not a folder"),
        (["correct", "FILE", "--out", "FILE/in"], "sto.npy is a file, not a folder"),
        (["demo", "--out", "FILE"], "sto.npy is a file, not a folder"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    stack: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    filled = [word.replace("FILE", str(stack)) for word in arguments]
    assert main(filled) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    with pytest.raises(ValueError, match=re.escape(sentence)):
        main(["--debug", *filled])
    with pytest.raises(ValueError, match=re.escape(sentence)):
        main([*filled, "--debug"])


def test_version_and_usage_answer_without_loading_anything_heavy() -> None:
    code = (
        "import sys; from nion_distortion.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit as end: print(end.code)\n"
        "print(*[name for name in ('torch', 'numba', 'matplotlib', 'nion') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, exit_code, *loaded = done.stdout.split("\n")
    assert version.startswith("nion-distortion ")
    assert exit_code == "0"
    assert loaded == ["", ""]


def demo_with_reports(monkeypatch: pytest.MonkeyPatch, reports: list[LiveReport]) -> Any:
    """Let the demo receive these reports; return a host that knows their truth."""

    @contextmanager
    def given(*_: object) -> Iterator[Any]:
        yield iter(reports).__next__

    monkeypatch.setattr(demo, "_reports", given)
    monkeypatch.setattr(demo, "FRAMES", len(reports))
    monkeypatch.setattr(demo, "Session", lambda **_: SimpleNamespace(model="what was learnt"))
    other = make_specimen("pto_sto", rotation_rad=0.05)
    truth = Microscope(other).shot(SETTINGS).truth
    return SimpleNamespace(truth={report.scan[0].frame_id: truth for report in reports})


def live_report(stack: Path, index: int, *, usable: bool = True) -> LiveReport:
    frame = read_frames(stack)[index]
    if not usable:
        flat = np.full_like(frame.image, 7.0)
        frame = replace(frame, image=flat, provenance={})
    return LiveReport(scan=(frame,), report=process_frame(frame), accepted=index)


def test_the_demo_writes_no_picture_for_a_frame_that_was_not_corrected(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [live_report(stack, k, usable=k != 1) for k in range(3)]
    live, _ = demo._learn(demo_with_reports(monkeypatch, reports), tmp_path)
    assert [one["frame"] for one in live.numbers] == [0, 2]
    written = sorted(path.name for path in tmp_path.glob("*.hspy"))
    assert written == ["sto_live_0000_corrected.hspy", "sto_live_0002_corrected.hspy"]


def test_a_demo_without_a_corrected_frame_says_so(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = demo_with_reports(monkeypatch, [live_report(stack, 0, usable=False)])
    with pytest.raises(ValueError, match=r"^no frame of the simulated microscope could be correc"):
        demo._learn(host, tmp_path)
    model: Any = None
    with pytest.raises(ValueError, match=r"^what SrTiO3 taught does not correct the other sample"):
        demo._apply(host, model, tmp_path)
    assert not list(tmp_path.glob("*.hspy"))


def test_the_demo_learns_on_one_sample_and_corrects_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "FRAMES", 5)
    monkeypatch.setattr(demo, "TIME_SCALE", 0.0)
    monkeypatch.setattr(demo, "SHAPE_PX", (256, 256))
    monkeypatch.setattr(demo, "FIELD_NM", 8.0)
    assert main(["--debug", "demo", "--out", str(tmp_path)]) == 0
    numbers = numbers_in(tmp_path)
    assert len(numbers["frames"]) == 5
    for one in (*numbers["frames"], numbers["pto_sto"]):
        assert one["true_off_by_pm"] > 25
        assert one["true_corrected_pm"] < 0.25 * one["true_off_by_pm"]
        # by one definition: what is left is what jitter adds, and what the other sample's frame did
        assert one["off_by_pm"]["value"] == pytest.approx(one["true_off_by_pm"], rel=0.03)
    held_back, *others = numbers["frames"]
    assert held_back["drift_nm"] is None
    assert np.ptp([one["true_drift_nm"] for one in others], axis=0).min() > 2e-3
    for one in others:  # the mean of each frame's walk, 1.8 pm, is no drift but looks the same
        np.testing.assert_allclose(one["drift_nm"], one["true_drift_nm"], atol=8e-3)
    assert numbers["pto_sto"]["columns"] is None  # the other sample is never measured
    for name in ("sto_live_0004", "pto_sto"):
        (stored,) = hspy.file_reader(str(tmp_path / f"{name}_corrected.hspy"))
        kind = stored["metadata"]["nion_distortion"]["provenance"]["correction"]["kind"]
        assert kind == ("stationary" if name == "pto_sto" else "frame")
    said = capsys.readouterr()
    assert f"{numbers['pto_sto']['true_corrected_pm']:.1f} pm after correction" in said.out
    assert re.search(r"pm as scanned \(measured [\d.]+ \+- [\d.]+ pm\)", said.out)
    assert re.search(r"SrTiO3, live: 100%.* 5/5", said.err)  # the progress bar
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for axis in "yx":
        assert f"<th>drift {axis} (nm)</th><th>" in page
        assert f"<th>true drift {axis} (nm)</th>" in page
    for caption in (
        "As scanned and corrected",
        "Displacement taken out",
        "Uncertainty of the corrected picture",
        "Drift of the sample",
        "Principal components of the distortion",
        "Distortion of each frame against the truth",
    ):
        assert f'alt="{caption}"' in page
    assert page.count("data:image/png;base64,") == len(list(tmp_path.glob("*.png"))) >= 8


def test_swift_starts_the_host_with_the_simulated_microscope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], *, env: dict[str, str], check: bool) -> Any:
        assert not check
        started.append((command, env))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("nion_distortion.cli.swift.subprocess.run", run)
    monkeypatch.setattr("nion_distortion.cli.swift.importlib.util.find_spec", lambda _: object())
    assert main(["swift"]) == 0
    ((command, env),) = started
    assert command[0] == sys.executable
    assert "nion.swift.command" in command[-1]
    assert env["NION_DISTORTION_SIMULATOR"] == "1"


@pytest.mark.parametrize(
    ("is_there", "code", "words"),
    [(False, 0, "the window of Nion Swift is not installed"), (True, 3, "exit code 3")],
)
def test_swift_that_does_not_start_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_there: bool,  # noqa: FBT001  # a case
    code: int,
    words: str,
) -> None:
    found = object() if is_there else None
    monkeypatch.setattr("nion_distortion.cli.swift.importlib.util.find_spec", lambda _: found)
    ended = SimpleNamespace(returncode=code)
    monkeypatch.setattr("nion_distortion.cli.swift.subprocess.run", lambda *_, **__: ended)
    assert main(["swift"]) == 2
    assert words in capsys.readouterr().err
