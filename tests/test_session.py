"""The live session: models per setting, first frames held back, nothing lost on an exception."""

import errno
import logging
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import child_functions as there
import numpy as np
import pytest
import session_fakes as fakes

from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.live_model import LiveModel
from nion_distortion.options import Free, KnownCrystal, KnownFlyback, Options
from nion_distortion.session import LiveReport, Session
from simulator.microscope import Microscope
from simulator.scan import strong_flyback
from simulator.scoring import score_map
from simulator.specimen import make_specimen

PATIENCE_S = 20.0
TESTS = pathlib.Path(__file__).resolve().parent


class Run:
    """A session whose reports are waited for one by one, so that no scan is dropped."""

    def __init__(self, **options: Any) -> None:
        self.process = options.pop("process", fakes.Process())
        self.session = Session(process=self.process, refit=fakes.refit, **options)
        self.reports: queue.Queue[LiveReport] = queue.Queue()
        self.session.subscribe(self.reports.put)

    def submit(self, *scan: Frame) -> LiveReport:
        self.session.submit(scan)
        return self.reports.get(timeout=PATIENCE_S)

    def levels(self, *levels: float, **changes: Any) -> list[LiveReport]:
        first = changes.pop("first", 0)
        return [
            self.submit(fakes.frame(first + index, level, **changes))
            for index, level in enumerate(levels)
        ]

    @property
    def model(self) -> Any:
        return self.session.model


@pytest.fixture
def run() -> Iterator[Run]:
    running = Run()
    yield running
    running.session.close()


def test_first_frame_is_held_back_until_the_second_agrees(run: Run) -> None:
    first, second, third = run.levels(1.0, 1.125, 0.875)
    assert [one.accepted for one in (first, second, third)] == [0, 2, 3]
    assert first.report is not None
    assert first.report.corrected is not None
    assert run.model.levels == (1.0, 1.125, 0.875)


def test_first_frame_that_disagrees_with_two_that_agree_is_dropped(run: Run) -> None:
    reports = run.levels(5.0, 1.0, 1.125)
    assert [one.accepted for one in reports] == [0, 0, 2]
    assert run.model.levels == (1.0, 1.125)


def test_second_frame_that_disagrees_with_first_and_third_is_dropped(run: Run) -> None:
    run.levels(1.0, 5.0, 1.125)
    assert run.model.levels == (1.0, 1.125)


def test_frames_that_never_agree_give_no_model(run: Run) -> None:
    reports = run.levels(1.0, 2.0, 3.0, 4.0, 5.0)
    assert [one.accepted for one in reports] == [0] * 5
    assert run.model is None


def test_frames_that_contradict_the_model_and_agree_begin_it_anew(run: Run) -> None:
    reports = run.levels(1.0, 1.0, 1.0, 101.0, 101.125, 101.0)
    assert [one.accepted for one in reports] == [0, 2, 3, 3, 2, 3]
    assert run.model.levels == (101.0, 101.125, 101.0)


def test_one_frame_that_contradicts_the_model_is_forgotten(run: Run) -> None:
    reports = run.levels(1.0, 1.0, 101.0, 1.125, 101.0, 1.0)
    assert [one.accepted for one in reports] == [0, 2, 2, 3, 3, 4]
    assert run.model.levels == (1.0, 1.0, 1.125, 1.0)


@pytest.mark.parametrize(("difference", "agrees"), [(1.9, True), (2.1, False)])
def test_agreement_is_two_standard_deviations_of_the_difference(
    run: Run, difference: float, *, agrees: bool
) -> None:
    run.levels(0.0, difference * np.sqrt(2) * fakes.STD_PX)
    assert (run.model is not None) == agrees


@pytest.mark.parametrize(
    ("first_px", "second_px", "agrees"),
    [(0.1, 0.1, True), (0.19, 0.1, True), (0.21, 0.1, False), (0.1, 0.3, True)],
)
def test_a_first_frame_that_knows_little_is_not_gone_on_with(
    first_px: float, second_px: float, *, agrees: bool
) -> None:
    """It agrees with any other, but its decay and lengths would stay."""

    def model(std_px: float) -> Any:
        scan = fakes.settings()
        std = np.full((2, *scan.shape_px), std_px)
        known = fakes.field(scan, 0.0, std_px=std, kind="stationary")
        return SimpleNamespace(stationary_field=lambda: known)

    live = LiveModel(fakes.frame(0, 0.0).settings, Free())
    first = model(first_px)
    assert live.agreeing(first) is None
    assert (live.agreeing(model(second_px)) is first) == agrees


def test_amplitudes_are_found_again_once_after_the_fifth_accepted_frame(run: Run) -> None:
    run.levels(1.0, 1.0, 1.0, 1.0)
    assert not run.model.refitted
    run.levels(1.0, first=4)
    assert run.model.refitted
    run.levels(1.0, first=5)
    assert not run.model.refitted  # the stand-in's next model: no second call
    assert len(run.model.levels) == 6


def test_new_settings_begin_a_model_of_their_own(run: Run) -> None:
    run.levels(1.0, 1.0)
    changed = run.levels(3.0, 3.0, first=2, settings=fakes.settings(4.0))
    assert [one.accepted for one in changed] == [0, 2]
    assert run.model.levels == (3.0, 3.0)
    assert run.model.settings.field_of_view_nm == 4.0


def test_settings_that_come_back_find_their_model_but_hold_the_first_frame_back(run: Run) -> None:
    run.levels(1.0, 1.0)
    run.levels(3.0, 3.0, first=2, settings=fakes.settings(4.0))
    run.levels(1.0, first=4)
    assert run.process.calls[-1][1].levels == (1.0, 1.0)
    assert run.model.levels == (1.0, 1.0)
    run.levels(1.0, first=5)
    assert run.model.levels == (1.0, 1.0, 1.0)


def test_restarted_scan_holds_its_first_frame_back(run: Run) -> None:
    run.levels(1.0, 1.0, 1.0)
    run.levels(9.0, 1.0)
    assert run.model.levels == (1.0, 1.0, 1.0, 1.0)


def test_no_more_models_are_kept_than_said(run: Run) -> None:
    for number in range(6):
        run.levels(1.0, 1.0, first=2 * number, settings=fakes.settings(3.0 + number))
    run.levels(1.0, first=20)
    assert run.process.calls[-1][1] is None


def test_no_frame_meets_the_model_of_other_settings(run: Run) -> None:
    rng = np.random.default_rng(0)
    for index in range(60):
        width = 3.0 + rng.integers(0, 6)
        run.submit(fakes.frame(index, 1.0, settings=fakes.settings(width)))
    assert run.session.counts.failed == 0
    assert all(
        model is None or not model.settings.differences(frame.settings)
        for frame, model in run.process.calls
    )


def test_unusable_frame_keeps_the_model_and_says_why(run: Run) -> None:
    run.levels(1.0, 1.0)
    (report,) = run.levels(fakes.UNUSABLE, first=2)
    assert report.reason == fakes.REASON
    assert run.model.levels == (1.0, 1.0)
    assert run.session.counts.unusable == 1


def test_exception_in_processing_is_reported_and_the_next_frame_is_taken(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run.levels(1.0, 1.0)
    (broken,) = run.levels(fakes.BROKEN, first=2)
    assert broken.report is None
    assert broken.reason == (
        "This frame could not be processed: RuntimeError: the lattice fell apart"
    )
    assert "Traceback" in caplog.text
    (after,) = run.levels(1.0, first=3)
    assert after.accepted == 3
    counts = run.session.counts
    assert (counts.processed, counts.failed, counts.dropped) == (3, 1, 0)


def test_subscriber_that_fails_does_not_hurt_the_others(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: LiveReport) -> None:
        raise ZeroDivisionError

    seen: list[LiveReport] = []
    run.session.subscribe(fail)
    run.session.subscribe(seen.append)
    run.levels(1.0, 1.0)
    run.levels(1.0, first=2)
    assert len(seen) >= 2
    assert "A subscriber of the live reports failed" in caplog.text


def test_unsubscribed_callback_is_not_called_again(run: Run) -> None:
    seen: list[LiveReport] = []
    unsubscribe = run.session.subscribe(seen.append)
    unsubscribe()
    unsubscribe()
    run.levels(1.0)
    assert not seen


def test_subscriber_may_subscribe_and_ask_while_it_is_called(run: Run) -> None:
    done = threading.Event()

    def ask(report: LiveReport) -> None:
        run.session.subscribe(lambda _: None)
        assert run.session.last is report
        assert run.session.counts.processed == 1
        done.set()

    run.session.subscribe(ask)
    run.levels(1.0)
    assert done.wait(PATIENCE_S)


def test_next_frame_does_not_wait_for_who_is_told_of_the_last(run: Run) -> None:
    told, go = threading.Event(), threading.Event()

    def look(report: LiveReport) -> None:
        if report.scan[0].index == 0:
            told.set()
            assert go.wait(PATIENCE_S)

    run.session.subscribe(look)
    run.session.submit((fakes.frame(0),))
    assert told.wait(PATIENCE_S)
    run.session.submit((fakes.frame(1),))
    for _ in range(2):
        assert run.process.begun.acquire(timeout=PATIENCE_S)
    go.set()
    indices = [run.reports.get(timeout=PATIENCE_S).scan[0].index for _ in range(2)]
    assert indices == [0, 1]


def test_session_closes_while_somebody_is_told(run: Run) -> None:
    told, go = threading.Event(), threading.Event()

    def look(_: LiveReport) -> None:
        told.set()
        assert go.wait(PATIENCE_S)

    run.session.subscribe(look)
    for index in range(3):
        run.session.submit((fakes.frame(index),))
        assert run.process.begun.acquire(timeout=PATIENCE_S)
    assert told.wait(PATIENCE_S)
    run.session.close(timeout_s=0.0)
    go.set()
    run.session.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not {"nion_distortion.session", "nion_distortion.reports"} & set(names)


def test_newest_scan_wins_and_the_others_count_as_dropped() -> None:
    process = fakes.Process(gated=True)
    session = Session(process=process, refit=fakes.refit)
    reports: queue.Queue[LiveReport] = queue.Queue()
    session.subscribe(reports.put)
    session.submit((fakes.frame(0),))
    assert process.begun.acquire(timeout=PATIENCE_S)
    for index in (1, 2, 3):
        session.submit((fakes.frame(index),))
    process.go.release(10)
    indices = [reports.get(timeout=PATIENCE_S).scan[0].index for _ in range(2)]
    counts = session.counts
    session.close()
    assert indices == [0, 3]
    assert (counts.processed, counts.dropped, counts.dropped_at_start) == (2, 2, 2)
    assert counts.frame_ms > 0


def test_other_channels_of_the_scan_are_corrected_with_the_same_field(run: Run) -> None:
    images = [fakes.frame(0, 2.0), fakes.frame(0, 7.0, channel="MAADF")]
    report = run.submit(*images)
    (other,) = report.others
    assert other.channel == "MAADF"
    assert other.frame_id == "scan 0"
    np.testing.assert_array_equal(other.displacement_px, np.full((2, 64, 64), 2.0))


def test_scan_must_be_one_scan(run: Run) -> None:
    with pytest.raises(ValueError, match="one frame_id"):
        run.session.submit((fakes.frame(0), fakes.frame(1)))
    with pytest.raises(ValueError, match="at least one frame"):
        run.session.submit(())


def test_known_model_is_applied_to_an_unknown_sample_and_stays_as_it_is() -> None:
    known: Any = fakes.Model(fakes.settings(), (1.0,))
    run = Run(options=Options(sample="unknown"), model=known)
    run.levels(3.0, 3.0, 3.0)
    run.session.close()
    assert [model for _, model in run.process.calls] == [known] * 3
    assert run.model is known


def test_drift_is_the_way_since_it_was_last_certain(run: Run) -> None:
    reports = run.levels(1.0, 1.0, 1.0)
    expected = np.array([[0.0, 0.0], [0.1, 0.2], [0.2, 0.4]])
    np.testing.assert_allclose(reports[-1].drift_nm, expected)
    (restarted,) = run.levels(1.0)
    assert len(restarted.drift_nm) == 1


def test_drift_begins_at_zero_where_old_settings_come_back(run: Run) -> None:
    run.levels(1.0, 1.0, 1.0)
    run.levels(2.0, 2.0, first=3, settings=fakes.settings(4.0))
    first, second = run.levels(1.0, 1.0, first=5)
    np.testing.assert_allclose(first.drift_nm, [[0.0, 0.0]])
    np.testing.assert_allclose(second.drift_nm, [[0.0, 0.0], [0.1, 0.2]])


def test_known_model_leaves_the_first_frame_out_and_is_never_refitted() -> None:
    known: Any = fakes.Model(fakes.settings(), (1.0,))
    run = Run(model=known)
    reports = run.levels(*[1.0] * 8)
    run.session.close()
    assert [report.accepted for report in reports] == list(range(8))
    assert run.model.levels == (1.0,) * 8
    assert not run.model.refitted


def test_channels_of_a_scan_without_a_name_are_corrected_too(run: Run) -> None:
    names = {"frame_id": "", "channel": "BF"}
    report = run.submit(fakes.frame(0, 1.0, frame_id=""), fakes.frame(0, 1.0, **names))
    assert report.reason is None
    assert [other.channel for other in report.others] == ["BF"]


def test_live_components_are_those_of_the_fields_so_far(run: Run) -> None:
    reports = run.levels(1.0, 1.0, fakes.UNUSABLE, 1.0)
    assert reports[-1].components is not None
    assert len(reports[-1].components) == 3


BLAS = """
import queue, threadpoolctl, session_fakes as fakes
from nion_distortion.session import Session

def threads():
    pools = threadpoolctl.threadpool_info()
    return {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}

before = threads()
session, reports = Session(process=fakes.Process(), refit=fakes.refit), queue.Queue()
session.subscribe(reports.put)
session.submit((fakes.frame(0),))
reports.get(timeout=60)
during = threads()
session.close(60)
print(before, during, threads())
one, two = (Session(process=fakes.Process(), refit=fakes.refit) for _ in range(2))
for session in (one, two):
    session.subscribe(reports.put)
    session.submit((fakes.frame(0),))
    reports.get(timeout=60)
one.close(60)
still = threads()
two.close(60)
print(still, threads())
"""


def test_blas_is_held_to_one_thread_while_the_session_lives() -> None:
    # in a process of its own: here the tests' own limit is in force
    paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment |= {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    ended = subprocess.run(
        [sys.executable, "-c", BLAS], capture_output=True, check=True, env=environment, text=True
    )
    assert ended.stdout.split() == ["{2}", "{1}", "{2}", "{1}", "{2}"]


def test_close_ends_thread_and_subscriptions_and_ignores_what_comes_later(run: Run) -> None:
    run.levels(1.0)
    run.session.close()
    run.session.close()
    run.session.submit((fakes.frame(1),))
    names = [thread.name for thread in threading.enumerate()]
    assert not {"nion_distortion.session", "nion_distortion.reports"} & set(names)
    assert run.reports.empty()


def test_only_changes_of_state_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nion_distortion.session"):
        run = Run()
        run.levels(1.0, 1.0, fakes.UNUSABLE, fakes.UNUSABLE, 1.0, 1.0)
        run.session.close()
    begun = [record.getMessage().split(":")[0] for record in caplog.records]
    assert begun == [
        "Live correction started",
        "New scan settings",
        "Frame 2 cannot be used",
        "Frames can be used again since frame 4",
        "Live correction stopped",
    ]


def test_stage_that_cannot_be_loaded_is_reported_with_each_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nion_distortion.correction", None)
    run = Run()
    reasons = [report.reason for report in run.levels(1.0, 1.0)]
    run.session.close()
    assert all(reason and "nion_distortion.correction" in reason for reason in reasons)
    assert run.session.counts.failed == 2


def test_real_run_drops_its_start_up_transient_and_learns_the_stationary_distortion() -> None:
    scan = fakes.settings(6.0, 192, flyback_time_us=30.0)
    errors = replace(
        strong_flyback(scan), startup_nm=0.15, startup_frames=0.25, drift_nm_s=(0.02, 0.03)
    )
    microscope = Microscope(specimen=make_specimen("sto_001"), errors=errors)
    session, reports = Session(), queue.Queue[LiveReport]()
    session.subscribe(reports.put)
    accepted = []
    for index in range(7):
        shot = microscope.shot(scan, index)
        session.submit((shot.frame,))
        report = reports.get(timeout=10 * PATIENCE_S)
        assert report.reason is None
        accepted.append(report.accepted)
    session.close()
    assert accepted == [0, 0, 2, 3, 4, 5, 6]
    assert session.model is not None
    learnt = session.model.stationary_field()
    score = score_map(
        learnt.displacement_px,
        learnt.valid,
        shot.truth.stationary_place_px,
        pixel_size_nm=scan.pixel_size_nm,
    )
    assert score.share > 0.99


def in_child() -> tuple[Session, "queue.Queue[LiveReport]"]:
    session = Session(process=there.processed, refit=there.refitted, in_child=True)
    reports = queue.Queue[LiveReport]()
    session.subscribe(reports.put)
    return session, reports


def levels_of_two_frames() -> tuple[float, ...]:
    session, reports = in_child()
    for index in range(2):
        session.submit((fakes.frame(index, 1.0),))
        assert reports.get(timeout=PATIENCE_S).reason is None
    session.close()
    model: Any = session.model
    return tuple(model.levels)


def test_child_does_the_work_and_is_replaced_when_it_has_ended() -> None:
    session, reports = in_child()
    reasons, accepted, refitted = [], [], []
    for index in range(7):
        session.submit((fakes.frame(index, 1.0),))
        report = reports.get(timeout=10 * PATIENCE_S)
        reasons.append(report.reason)
        accepted.append(report.accepted)
        refitted.append(getattr(session.model, "refitted", False))
    child = session._stages.child
    session.close()
    assert [reason is None for reason in reasons] == [index != 2 for index in range(7)]
    assert "the process that computes has ended (exit code -9)" in str(reasons[2])
    assert accepted == [0, 2, 0, 3, 4, 5, 6]
    assert [index for index, is_so in enumerate(refitted) if is_so] == [5]
    assert child is not None
    assert child.pid is None


def test_where_no_child_can_be_started_the_session_does_the_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/swift/NionSwiftLauncher")
    assert levels_of_two_frames() == (1.0, 1.0)
    assert "The work is done beside the window, not in another process" in caplog.text


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="only some systems promise memory")
def test_where_memory_cannot_be_shared_the_child_does_the_work_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    assert levels_of_two_frames() == (1.0, 1.0)
    assert "of shared memory (No space left on device): it takes longer" in caplog.text


def test_child_finds_what_the_session_finds_by_itself() -> None:
    scan = fakes.settings(6.0, 192, flyback_time_us=30.0)
    microscope = Microscope(specimen=make_specimen("sto_001"), errors=strong_flyback(scan))
    frames = [microscope.shot(scan, index).frame for index in range(3)]
    pictures, stds = [], []
    for is_in_child in (False, True):
        session, reports = Session(in_child=is_in_child), queue.Queue[LiveReport]()
        session.subscribe(reports.put)
        for frame in frames:
            session.submit((frame,))
            last = reports.get(timeout=10 * PATIENCE_S)
        session.close()
        assert last.report is not None
        assert last.report.corrected is not None
        pictures.append(last.report.corrected.image)
        stds.append(last.report.corrected.std_px)
    # a process that has just compiled a kernel adds up in another order than one that has read it
    largest = np.abs(pictures[0]).max()
    np.testing.assert_allclose(pictures[1], pictures[0], rtol=0, atol=1e-6 * largest)
    np.testing.assert_allclose(stds[1], stds[0], rtol=1e-5)
    assert not pictures[1].flags.writeable


class Store:
    """A store with one calibration; remembers the thread that asked."""

    def __init__(self, model: Any = None, *, damaged: bool = False) -> None:
        self.model, self.damaged = model, damaged
        self.threads: list[str] = []

    def find(self, wanted: ScanSettings) -> Any:
        self.threads.append(threading.current_thread().name)
        if self.damaged:
            raise ValueError("calibration abcd is damaged")
        if self.model is None or self.model.settings.differences(wanted):
            return None
        return SimpleNamespace(model=self.model, summary=SimpleNamespace(calibration_id="abcd"))

    def known_flyback(self, _device_id: str) -> Any:
        return self.flyback

    flyback: KnownFlyback | None = None

    def nearest(self, _wanted: ScanSettings) -> Any:
        return "the nearest calibration (abcd) differs in dwell_time_us (2 there, 1 here)"


@pytest.mark.parametrize("sample", ["unknown", "reference"])
def test_a_stored_calibration_is_used_where_its_settings_match(sample: Any) -> None:
    known = fakes.Model(fakes.settings(), (0.0,))
    store = Store(known)
    run = Run(options=Options(sample=sample), store=store)
    report, _ = run.levels(0.0, 0.0)
    run.session.close()
    assert run.process.calls[0][1] is known
    assert store.threads == ["nion_distortion.session"]
    assert report.report is not None
    assert report.report.corrected is not None
    record = report.report.corrected.provenance["correction"]["calibration"]
    assert (record["id"], record["predicted_error_pm"]) == ("abcd", 2.0)


@pytest.mark.parametrize(
    ("store", "words"),
    [(Store(), "the nearest calibration"), (Store(damaged=True), "abcd is damaged")],
)
def test_without_a_match_the_reason_names_the_nearest(store: Store, words: str) -> None:
    run = Run(options=Options(sample="unknown"), store=store)
    (report,) = run.levels(fakes.UNUSABLE)
    run.session.close()
    assert report.reason is not None
    assert report.reason.startswith(fakes.REASON)
    assert words in report.reason


def test_a_stored_calibration_stays_whatever_frames_say() -> None:
    known = fakes.Model(fakes.settings(), (0.0,))
    run = Run(store=Store(known))
    reports = run.levels(0.0, 101.0, 101.0, 101.0, 0.125)
    run.session.close()
    assert run.model.levels == (0.0, 0.125)
    assert [one.accepted for one in reports] == [0, 0, 0, 0, 1]


def test_a_new_calibration_is_looked_for_when_settings_change_only() -> None:
    store = Store()
    run = Run(options=Options(sample="unknown"), store=store)
    run.levels(1.0, 1.0, 1.0)
    assert len(store.threads) == 1
    run.levels(1.0, first=3, settings=fakes.settings(4.0))
    run.session.close()
    assert len(store.threads) == 2


def test_another_reference_begins_anew_and_hold_goes_on() -> None:
    run = Run()
    run.levels(1.0, 1.0, 1.0)
    learnt = run.session.model
    run.session.set_options(Options(sample="unknown"))
    run.levels(1.0, first=3)
    assert run.process.calls[-1][1] is learnt
    assert run.session.model is learnt
    run.session.set_options(Options(reference=KnownCrystal.named("SrTiO3 [001]")))
    report, _ = run.levels(1.0, 1.0, first=4)
    run.session.close()
    assert run.process.calls[-2][1] is None
    assert report.options.reference == KnownCrystal.named("SrTiO3 [001]")


def test_a_calibration_made_meanwhile_is_used_once_asked_for() -> None:
    known: Any = fakes.Model(fakes.settings(), (0.0,))
    store = Store()
    run = Run(options=Options(sample="unknown"), store=store)
    run.levels(1.0)
    assert run.process.calls[-1][1] is None
    store.model = known
    run.levels(1.0, first=1)
    assert run.process.calls[-1][1] is None
    run.session.look_up_again()
    (report,) = run.levels(1.0, first=2)
    run.session.close()
    assert run.process.calls[-1][1] is known
    assert report.calibration is not None
    assert report.calibration.calibration_id == "abcd"


def test_a_calibration_against_another_reference_serves_unknown_samples_only() -> None:
    known: Any = fakes.Model(fakes.settings(), (0.0,))
    wanted = Options(reference=KnownCrystal.named("SrTiO3 [001]"))
    run = Run(options=wanted, store=Store(known))
    run.levels(1.0)
    assert run.process.calls[-1][1] is None
    run.session.set_options(replace(wanted, sample="unknown"))
    run.session.look_up_again()
    run.levels(1.0, first=1)
    run.session.close()
    assert run.process.calls[-1][1] is known


def test_new_settings_begin_with_what_the_device_has_taught() -> None:
    store = Store()
    store.flyback = KnownFlyback(tau_us=15.0)
    run = Run(store=store)
    run.levels(1.0)
    run.session.close()
    assert run.process.options[-1].flyback == store.flyback
