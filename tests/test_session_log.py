"""The log of a live session: every row whole, whatever the disk does; and what it says in words."""

import csv
import os
import pathlib
import pickle
import queue
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import session_fakes as fakes

import nion_distortion as nd
from nion_distortion.calibrations.records import CalibrationSummary
from nion_distortion.gaussian_process import FREEDOMS
from nion_distortion.pipeline import FrameReport
from nion_distortion.session import LiveReport, Session
from nion_distortion.session_log import (
    LogRow,
    SessionLog,
    log_row,
    methods_paragraph,
    read_log,
)
from nion_distortion.session_log.methods import REFERENCES, WORDS
from simulator.microscope import Microscope
from simulator.scan import strong_flyback
from simulator.specimen import make_specimen

PATIENCE_S = 60.0
TESTS = pathlib.Path(__file__).resolve().parent

SCAN = nd.ScanSettings(
    shape_px=(64, 96),
    field_of_view_nm=16.0,
    dwell_time_us=1.5,
    flyback_time_us=120.0,
    line_time_us=264.0,
    high_tension_v=200_000.0,
    line_sync=True,
    rotation_rad=0.25,
    device_id="superscan",
    subscan_px=(128, 192, 10, 20),
    extra=(("beam_lag", 2), ("scanner", ("a", 1))),
)
NOON_S = datetime(2026, 11, 25, 12, 0, tzinfo=UTC).timestamp()
CALIBRATION = CalibrationSummary(
    calibration_id="abcd1234",
    settings=SCAN,
    time_s=NOON_S - 3 * 3600,
    sample="SrTiO3 [001]",
    note="",
    frames=20,
    reference="free",
    predicted_error_pm=2.0,
    field_error_pm=1.0,
    tau_us=None,
    amplitude_pm=None,
    hyperparameters={},
    provenance={},
    software="1.0",
)


def live(index: int = 0, *, report: Any = ..., **changes: Any) -> LiveReport:
    """Make a live report in which everything is known."""
    scan = changes.pop("settings", SCAN)
    frame = nd.Frame(
        image=np.zeros(scan.shape_px, np.float32),
        settings=scan,
        index=index,
        frame_id=f"scan {index}",
        channel="HAADF",
        time_s=changes.pop("time_s", NOON_S + 0.25 * index),
    )
    full = FrameReport(
        field=fakes.field(scan, 1.0, kind="frame", frame_id=frame.frame_id),
        drift_nm=np.array([7.0, 8.0]),
        effective_counts=nd.Estimate(48.5, 0.5, 60.0),
        off_by_pm=nd.Estimate(100.0 + index, 1.5, 200.0),
        corrected_pm=nd.Estimate(2.0 + 0.1 * index, None, 4.0),
        state="valid",
        worth_it=True,
        removed_pm={"line_flyback": 80.0, "smooth": 30.0, "mains": 0.01},
    )
    values: dict[str, Any] = {
        "report": full if report is ... else report,
        "drift_nm": np.array([[0.0, 0.0], [0.125, -0.25]]),
        "drift_std_nm": np.array([[0.0, 0.0], [0.001, 0.002]]),
        "duration_s": 0.0425,
        "calibration": CALIBRATION,
    }
    return LiveReport(scan=(frame,), **values | changes)


def cells(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(tmp_path: pathlib.Path, *reports: LiveReport) -> pathlib.Path:
    log = SessionLog(tmp_path / "log.csv")
    for one in reports:
        log.add(one)
    assert log.problem == ""
    assert log.written == len(reports)
    log.close()
    return log.path


def test_a_row_says_everything_with_its_unit_in_the_name(tmp_path: pathlib.Path) -> None:
    (row,) = cells(written(tmp_path, live()))
    assert row == {
        "time": "2026-11-25T12:00:00.000+00:00",
        "frame": "0",
        "frame_id": "scan 0",
        "channel": "HAADF",
        "shape_y_px": "64",
        "shape_x_px": "96",
        "field_of_view_nm": "16",
        "dwell_time_us": "1.5",
        "flyback_time_us": "120",
        "line_time_us": "264",
        "high_tension_v": "200000",
        "line_sync": "true",
        "frame_sync": "",
        "rotation_rad": "0.25",
        "device_id": "superscan",
        "subscan_px": "128 192 10 20",
        "extra": '[["beam_lag", 2], ["scanner", ["a", 1]]]',
        "sample": "reference",
        "applied": "frame",
        "reference": "free",
        "calibration_id": "abcd1234",
        "state": "valid",
        "off_by_pm": "100",
        "off_by_std_pm": "1.5",
        "corrected_pm": "2",
        "corrected_std_pm": "",
        "drift_y_nm": "0.125",
        "drift_x_nm": "-0.25",
        "drift_y_std_nm": "0.001",
        "drift_x_std_nm": "0.002",
        "drift_ambiguous": "false",
        "effective_counts": "48.5",
        "effective_counts_std": "0.5",
        "worth_it": "true",
        "removed_smooth_pm": "30",
        "removed_line_flyback_pm": "80",
        "removed_frame_flyback_pm": "",
        "removed_fast_axis_pm": "",
        "removed_frame_locked_pm": "",
        "removed_scan_time_pm": "",
        "removed_mains_pm": "0.01",
        "processing_ms": "42.5",
        "reason": "",
    }


def test_every_setting_of_a_scan_has_a_column(tmp_path: pathlib.Path) -> None:
    (row,) = cells(written(tmp_path, live()))
    names = {item for item in nd.ScanSettings.__dataclass_fields__ if item != "shape_px"}
    assert names <= set(row)


def test_what_is_not_known_is_empty(tmp_path: pathlib.Path) -> None:
    settings = nd.ScanSettings(shape_px=(64, 64), field_of_view_nm=3.0)
    failed = live(report=None, settings=settings, time_s=None, reason="It broke.\nBadly.")
    nothing = live(report=FrameReport(unusable="no lattice"), reason="no lattice")
    first, second = cells(written(tmp_path, failed, nothing))
    empty = {name for name, text in first.items() if not text}
    known = {"frame", "frame_id", "channel", "shape_y_px", "shape_x_px", "field_of_view_nm"}
    known |= {"rotation_rad", "extra", "sample", "state", "drift_ambiguous", "processing_ms"}
    assert set(first) - empty == known | {"reason"}
    assert first["reason"] == "It broke. Badly."
    assert second["calibration_id"] == second["drift_y_nm"] == second["worth_it"] == ""
    assert second["time"] == "2026-11-25T12:00:00.000+00:00"


def test_a_frame_that_was_not_measured_has_no_drift() -> None:
    row = log_row(live(report=FrameReport(unusable="too few columns")))
    assert row.drift_nm is None


def test_rows_are_read_as_they_were_written(tmp_path: pathlib.Path) -> None:
    reports = [live(index) for index in range(3)]
    reports.append(live(3, report=None, reason='A "quoted", strange\u00a0reason: 5 \u00b5s'))
    reports.append(live(4, settings=fakes.settings(), calibration=None, time_s=None))
    read = read_log(written(tmp_path, *reports))
    assert read[:3] == [log_row(one) for one in reports[:3]]
    assert read[3].reason == 'A "quoted", strange reason: 5 \u00b5s'
    assert read[4] == log_row(reports[4])
    assert not read[0].settings.differences(SCAN)


def test_a_row_can_be_pickled() -> None:
    row = log_row(live())
    assert pickle.loads(pickle.dumps(row)) == row


def test_a_log_is_gone_on_with_under_one_header(tmp_path: pathlib.Path) -> None:
    written(tmp_path, live(0), live(1))
    path = written(tmp_path, live(2))
    assert [row["frame"] for row in cells(path)] == ["0", "1", "2"]
    assert path.read_text().count("frame_id") == 1


def test_each_row_is_in_the_file_at_once(tmp_path: pathlib.Path) -> None:
    log = SessionLog(tmp_path / "deep" / "folder" / "log.csv")
    log.add(live(0))
    assert len(cells(log.path)) == 1
    log.add(live(1))
    assert len(cells(log.path)) == 2
    log.close()


def test_an_empty_session_leaves_an_empty_file(tmp_path: pathlib.Path) -> None:
    assert written(tmp_path).read_bytes() == b""


def test_a_row_that_was_cut_off_by_a_crash_does_not_spoil_the_next(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path, live(0), live(1))
    path.write_bytes(path.read_bytes()[:-30])
    written(tmp_path, live(2), live(3))
    assert [row.frame for row in read_log(path)] == [0, 2, 3]


def test_a_file_that_is_something_else_is_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("name,price\n")
    with pytest.raises(ValueError, match=r"log.csv is no session log of this version"):
        SessionLog(path)
    with pytest.raises(ValueError, match=r"log.csv is no session log of this version"):
        read_log(path)
    assert path.read_text() == "name,price\n"


def test_a_file_that_cannot_be_opened_is_said_at_once(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"the session log .* cannot be opened: is a directory"):
        SessionLog(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be read: no such file or directory"):
        read_log(tmp_path / "none.csv")


def test_a_closed_log_counts_what_it_misses(tmp_path: pathlib.Path) -> None:
    log = SessionLog(tmp_path / "log.csv")
    log.close()
    log.add(live(0))
    assert log.problem.startswith(f"1 row is missing in the session log {log.path}: ")
    assert "closed file" in log.problem


FULL = """
import logging, pathlib, resource, sys
from test_session_log import live
from nion_distortion.session_log import SessionLog, read_log

logging.basicConfig(level=logging.WARNING)
path = pathlib.Path(sys.argv[1])
log = SessionLog(path)
log.add(live(0))
log.add(live(1))
whole = path.read_bytes()
row = len(whole) - len(whole.splitlines(keepends=True)[0]) >> 1
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + row // 2, hard))
for index in range(2, 7):
    log.add(live(index))
print(path.read_bytes() == whole, log.written)
print(log.problem)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
log.add(live(7))
print([row.frame for row in read_log(path)], log.written)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
late = SessionLog(path.with_name("late.csv"))
late.add(live(0))
size = late.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
late.add(live(1))
print(size, [row.frame for row in read_log(late.path)])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_one_sentence_and_nothing_written_is_lost(tmp_path: pathlib.Path) -> None:
    # a limit on the size of files: like a full disk it takes half a row before it refuses
    path = tmp_path / "log.csv"
    paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        text=True,
    )
    whole, problem, after, late = ended.stdout.splitlines()
    assert whole == "True 2"
    assert problem == f"5 rows are missing in the session log {path}: file too large"
    assert after == "[0, 1, 7] 3"
    assert late == "0 [1]"
    assert ended.stderr.count("WARNING") == 2


def test_what_is_no_text_file_is_refused() -> None:
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("this system has no endless file")
    with pytest.raises(ValueError, match="is no session log of this version"):
        SessionLog("/dev/full")


def said(*reports: LiveReport, **known: Any) -> str:
    return methods_paragraph([log_row(one) for one in reports], **known)


def test_the_paragraph_names_software_paper_scan_and_calibration() -> None:
    reports = [live(index) for index in range(10)]
    text = said(*reports, calibrations=[CALIBRATION], microscope="UltraSTEM 100")

    assert text.startswith("Frames were processed live with nion_distortion")
    assert text.endswith(
        "[1] K. M. Roccapriore, N. Creange, M. Ziatdinov, S. V. Kalinin, Identification and "
        "Correction of Temporal and Spatial Distortions in Scanning Transmission Electron "
        "Microscopy, Ultramicroscopy, 2021."
    )
    assert (
        "10 frames of 64 x 96 pixels over 16 nm were taken with UltraSTEM 100 on 2026-11-25 at "
        "12:00 UTC (dwell time 1.5 us, line time 264 us, fly-back time 120 us, scan rotation "
        "0.25 rad, high tension 200 kV)." in text
    )
    assert "10 of 10 (100 %) were corrected." in text
    assert (
        "10 frames were corrected by what their own columns showed against the best lattice of "
        "each frame (an affine distortion of the scan stays unknown), beginning with calibration "
        "abcd1234 (20 frames on SrTiO3 [001], 3 hours old)." in text
    )


def test_the_citation_is_that_of_the_readme() -> None:
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    plain = " ".join(readme.replace("*", "").split())
    assert said().split("[1] ")[1].rstrip(".") in plain


def test_medians_stand_with_their_standard_errors() -> None:
    text = said(*(live(index) for index in range(100)))
    # uniform from 100 to 199 and from 2.0 to 11.9: median deviation 25 and 2.5
    assert "Before the correction the images were off by 149.5 +- 4.6 pm; " in text
    assert "6.95 +- 0.46 pm are expected to be left after it" in text
    assert "medians of 100 frames with their standard errors from the scatter" in text


def test_standard_errors_are_those_of_medians() -> None:
    rng = np.random.default_rng(0)
    medians, claimed = [], []
    for _ in range(200):
        values = rng.normal(50.0, 5.0, 60)
        text = methods_paragraph(
            [LogRow(settings=SCAN, frame=0, corrected_pm=float(value)) for value in values]
        )
        number, std = text.split(" pm are expected")[0].split(" +- ")
        medians.append(float(number.split()[-1]))
        claimed.append(float(std))
    assert np.std(medians) == pytest.approx(np.mean(claimed), rel=0.12)


def test_what_was_taken_out_is_named_from_what_can_be_printed_on() -> None:
    text = said(live(0), live(1))
    assert (
        "Taken out were, as rms medians of terms that may overlap, without uncertainties: the "
        "fly-back of the lines 80.0 pm, the smooth distortion 30.0 pm." in text
    )
    assert "mains" not in text


def test_every_term_has_words() -> None:
    assert set(WORDS) == set(nd.Options().terms)
    assert set(REFERENCES) == set(FREEDOMS)


def test_too_few_frames_have_no_uncertainty() -> None:
    assert "2.05 pm are expected" in said(live(0), live(1))
    assert "from 2 frames, too few for an uncertainty" in said(live(0), live(1))


def test_frames_that_are_all_alike_have_none_either() -> None:
    text = said(live(0), live(0), live(0))
    assert "+-" not in text
    assert "the same for all 3 frames" in text


def test_frames_that_gave_nothing_are_counted_with_the_reason() -> None:
    unusable = [live(index, report=None, reason="too few columns.") for index in (2, 3)]
    text = said(live(0), live(1), *unusable)
    assert "2 of 4 (50 %) were corrected; 2 gave no measurement of their own, because: " in text
    assert "because: too few columns. " in text
    other = said(live(0), *unusable, live(4, report=None, reason="no lattice"))
    assert "most often because: too few columns. " in other


def test_without_a_corrected_frame_it_says_that_nothing_was_measured() -> None:
    text = said(live(0, report=None, reason="no lattice"))
    assert "0 of 1 (0 %) were corrected" in text
    assert "So no residual was measured." in text
    assert " pm" not in text
    assert "No frame was processed, so no number was measured." in said()


def unknown(index: int = 0, **changes: Any) -> LiveReport:
    """Make a report of a frame to which a stored calibration was applied."""
    whole = live(index).report
    assert whole is not None
    field = fakes.field(SCAN, 1.0, kind="stationary")
    report = FrameReport(
        field=field, off_by_pm=whole.off_by_pm, corrected_pm=whole.corrected_pm, worth_it=False
    )
    return live(index, report=report, options=nd.Options(sample="unknown"), **changes)


def test_stored_calibrations_are_named_with_what_is_known_of_them() -> None:
    text = said(unknown(), calibrations=[CALIBRATION])
    assert (
        "1 frame was corrected by the stationary distortion from calibration abcd1234 (20 frames "
        "on SrTiO3 [001], 3 hours old), measured against the best lattice" in text
    )
    assert "In 1 frame the error of the correction exceeded what it took out." in text
    assert "from calibration abcd1234, whose age is not known, measured" in said(unknown())
    assert "from what the session's other frames had taught" in said(unknown(calibration=None))


@pytest.mark.parametrize(
    ("old_s", "words"),
    [
        (-1.0, "of unknown age"),
        (1.0, "1 second old"),
        (30.0, "30 seconds old"),
        (150.0, "2.5 minutes old"),
        (7300.0, "2.03 hours old"),
        (30 * 86400.0, "30 days old"),
    ],
)
def test_ages_are_told_in_their_unit(old_s: float, words: str) -> None:
    made = replace(CALIBRATION, time_s=NOON_S - old_s)
    assert f"SrTiO3 [001], {words})" in said(live(), calibrations=[made])


def test_each_setting_of_the_scan_is_told_by_itself() -> None:
    text = said(live(0), live(1), live(2, settings=fakes.settings(), calibration=None))
    assert text.count("Before the correction") == 2
    assert "1 frame of 64 x 64 pixels over 3 nm was taken with a scan device that does not" in text


def test_periods_are_told_as_far_as_they_are_known() -> None:
    hours, days = live(1, time_s=NOON_S + 5400), live(1, time_s=NOON_S + 86400)
    assert "on 2026-11-25 from 12:00 to 13:30 UTC" in said(live(), hours)
    assert "from 2026-11-25 12:00 to 2026-11-26 12:00 UTC" in said(live(), days)
    assert "UTC" not in said(live(time_s=None))


def test_a_real_session_is_logged_and_described(tmp_path: pathlib.Path) -> None:
    scan = fakes.settings(6.0, 192, flyback_time_us=30.0, device_id="simulator")
    machine = Microscope(specimen=make_specimen("sto_001"), errors=strong_flyback(scan))
    log, session, done = SessionLog(tmp_path / "log.csv"), Session(), queue.Queue[LiveReport]()
    session.subscribe(log.add)
    session.subscribe(done.put)
    for index in range(4):
        session.submit((machine.shot(scan, index).frame,))
        last = done.get(timeout=PATIENCE_S)
    session.close()
    log.close()
    rows = read_log(log.path)

    assert [row.frame for row in rows] == [0, 1, 2, 3]
    assert log.problem == ""
    assert last.report is not None
    assert last.report.corrected_pm is not None
    assert rows[-1].corrected_pm == pytest.approx(last.report.corrected_pm.value)
    assert rows[-1].drift_nm == pytest.approx(last.drift_nm[-1], abs=1e-8)
    assert rows[-1].removed_pm.keys() == last.report.removed_pm.keys()  # type: ignore[union-attr]
    text = methods_paragraph(rows)
    assert "4 frames of 192 x 192 pixels over 6 nm were taken with simulator" in text
    assert "4 of 4 (100 %) were corrected." in text
    assert "the fly-back of the lines" in text
