"""The real Nion Swift under a virtual screen, with the simulated microscope."""

import json
import os
import pathlib
import shutil
from typing import Any

import pytest

from benchmarks.nion_swift import missing, run_in_swift
from nion_distortion.cli.swift import WANTED

SCRIPT = pathlib.Path(__file__).resolve().parent / "session.py"
LONGEST_S = 420.0
"""Kernels are compiled at the first frame, on a machine that may be busy."""

pytestmark = [pytest.mark.gui_app, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the operator's session once; return what was seen in it."""
    folder = tmp_path_factory.mktemp("session")
    output = run_in_swift(SCRIPT, folder, timeout_s=LONGEST_S, settings=WANTED)
    (folder / "output.txt").write_text(output)
    if os.environ.get("NION_DISTORTION_KEEP"):  # pictures for the README, or to look at
        shutil.copytree(folder, os.environ["NION_DISTORTION_KEEP"], dirs_exist_ok=True)
    seen: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    return seen | {"output": output, "folder": folder}


def test_program_ends_by_itself_without_a_traceback_of_ours(session: dict[str, Any]) -> None:
    assert "Live correction started" in session["output"]  # what is logged is printed
    files = [one for one in session["output"].splitlines() if one.lstrip().startswith("File ")]
    # the script's host stands in each stack, and the checkout may be named as the package is
    files = [one for one in files if "benchmarks/nion_swift/application.py" not in one]
    assert not [one for one in files if "nion_distortion/" in one or "simulator/" in one]


def test_programs_own_log_has_our_plug_ins_and_no_error(session: dict[str, Any]) -> None:
    (log,) = session["folder"].rglob("commands_*.log")
    written = log.read_text()
    for name in ("nion_distortion", "nion_distortion_simulator"):
        assert f"plug-in 'nionswift_plugin.{name}' loaded" in written
    assert not [one for one in written.splitlines() if " - ERROR - " in one or "Traceback" in one]


def test_one_click_starts_the_scan_and_one_corrects_it(session: dict[str, Any]) -> None:
    first = session["clicked"]
    assert first["reason"] is None
    assert 0 < first["corrected_pm"] < 0.5 * first["off_by_pm"]


def test_frames_are_processed_in_another_process_that_ends(session: dict[str, Any]) -> None:
    assert session["child"]
    with pytest.raises(ProcessLookupError):
        os.kill(session["child"], 0)


def test_keys_reach_every_widget_of_the_panel_from_top_to_bottom(session: dict[str, Any]) -> None:
    walked = session["walked"]
    assert walked["order"] == sorted(walked["order"])
    assert set(walked["reachable"]) <= set(walked["order"])


def test_set_up_is_seen_before_anything_is_calibrated(session: dict[str, Any]) -> None:
    assert session["set-up"].startswith("usable: ")


def test_without_a_calibration_nothing_is_corrected_and_the_panel_says_so(
    session: dict[str, Any],
) -> None:
    before = session["uncalibrated"]
    assert before["off_by_pm"] is None
    assert "no calibration matches" in before["reason"]


def test_calibration_corrects_the_next_sample_by_the_stationary_field(
    session: dict[str, Any],
) -> None:
    other = session["other sample"]
    assert other["kind"] == "stationary"
    assert other["calibration"]
    assert 0 < other["corrected_pm"] < 0.5 * other["off_by_pm"]


def test_reference_is_corrected_by_its_own_lattice(session: dict[str, Any]) -> None:
    own = session["own lattice"]
    assert own["kind"] == "frame"
    assert 0 < own["corrected_pm"] < 0.5 * own["off_by_pm"]


def test_other_settings_have_no_calibration_and_the_first_ones_have_it_again(
    session: dict[str, Any],
) -> None:
    assert session["other settings"]["calibration"] is None
    assert session["other settings"]["off_by_pm"] is None
    assert session["first settings"]["calibration"] == session["other sample"]["calibration"]


def test_data_items_are_made_once(session: dict[str, Any]) -> None:
    assert session["other sample"]["items"] == session["own lattice"]["items"]
    assert session["stopped"]["items"] == session["recorded"]["items"]


def test_record_keeps_scan_and_correction(session: dict[str, Any]) -> None:
    assert session["recorded"]["items"] == session["other sample"]["items"] + 2


@pytest.mark.parametrize("name", ["opened", "clicked", "set-up", "reference", "sample"])
def test_pictures_show_something(session: dict[str, Any], name: str) -> None:
    # an empty screen compresses to a few kilobytes
    assert (session["folder"] / f"{name}.png").stat().st_size > 50_000
