"""A calibration from live frames: when it ends, what it says, and that it always ends."""

import logging
import multiprocessing
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import cache
from multiprocessing import connection
from typing import Any

import numpy as np
import pytest
import session_fakes as fakes
import torch
from model_cases import flyback
from threadpoolctl import threadpool_limits

import nion_distortion as nd
from nion_distortion import stack
from nion_distortion.live_calibration import (
    MOST_FRAMES,
    MOST_IN_A_ROW,
    WAITING_FRAMES,
    CalibrationState,
    LiveCalibration,
)
from nion_distortion.stages import calibrate_in_child
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.specimen import make_specimen

PATIENCE_S = 180.0
"""Kernels may have to be compiled, in a process that gives way to all others."""
TESTS = pathlib.Path(__file__).resolve().parent
REFERENCE = nd.Options()


class Learner:
    """Reads, tells and ends as ``stack.calibrate`` does; its error is 60 pm over the frames."""

    def __init__(self) -> None:
        self.read: list[nd.Frame] = []
        self.options: list[nd.Options] = []
        self.gate: threading.Semaphore | None = None
        self.in_pass = threading.Event()
        self.threads: list[str] = []

    def __call__(
        self,
        frames: Iterator[nd.Frame],
        *,
        options: nd.Options,
        stop_pm: float | None,
        progress: Callable[[nd.CalibrationProgress], bool | None],
    ) -> Any:
        self.options.append(options)
        self.threads.append(threading.current_thread().name)
        usable, unusable, error = 0, [], None
        for frame in frames:
            self.read.append(frame)
            level = float(frame.image[0, 0])
            if level == fakes.BROKEN:
                raise RuntimeError("the lattice fell apart")
            if level == fakes.UNUSABLE:
                unusable.append(f"frame {frame.index + 1}: {fakes.REASON}")
            else:
                usable, error = usable + 1, 60.0 / (usable + 1)
            self.tell(progress, usable, unusable, error)
            if stop_pm is not None and error is not None and error < stop_pm:
                break
        if not usable:
            raise nd.UnusableFrameError(f"none of the {len(unusable)} frames could be used")
        for passes in (1, 2):
            self.tell(progress, usable, unusable, error, passes)
        self.in_pass.set()
        if self.gate is not None:
            assert self.gate.acquire(timeout=PATIENCE_S)
        return fakes.Model(self.read[-1].settings, (float(usable),))

    @staticmethod
    def tell(
        progress: Callable[[nd.CalibrationProgress], bool | None],
        usable: int,
        unusable: list[str],
        error: float | None,
        passes: int = 0,
    ) -> None:
        now = nd.CalibrationProgress(
            frames=usable, unusable=tuple(unusable), error_pm=error, passes=passes
        )
        if progress(now) is False:
            raise CancelledError


class Run:
    """A live calibration whose states are waited for one by one."""

    def __init__(self, **changes: Any) -> None:
        self.learner = changes.pop("calibrate", None) or Learner()
        self.states: queue.Queue[CalibrationState] = queue.Queue()
        self.seen: list[CalibrationState] = []
        self.also: Callable[[CalibrationState], object] = lambda _: None
        values: dict[str, Any] = {"options": REFERENCE, "told": self.told}
        self.live = LiveCalibration(**values | {"calibrate": self.learner} | changes)
        assert self.next().phase == "waiting"

    def told(self, state: CalibrationState) -> None:
        self.states.put(state)
        self.also(state)

    def next(self) -> CalibrationState:
        self.seen.append(self.states.get(timeout=PATIENCE_S))
        return self.seen[-1]

    def frames(self, *levels: float, first: int = 0, **changes: Any) -> CalibrationState:
        """Submit frames, each after the one before has been looked at."""
        for index, level in enumerate(levels, start=first):
            self.live.submit((fakes.frame(index, level, **changes),))
            state = self.next()
            if state.phase == "reading" and state.frames + len(state.unusable) == 0:  # the first
                state = self.next()
        return state

    def end(self) -> CalibrationState:
        while not (self.seen and self.seen[-1].is_over):
            self.next()
        assert self.live.close(PATIENCE_S)
        return self.seen[-1]


@pytest.fixture
def run() -> Iterator[Run]:
    running = Run(frames=3)
    yield running
    assert running.live.close(PATIENCE_S)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_it_ends_with_as_many_usable_frames_as_were_wanted(run: Run) -> None:
    run.frames(1.0, fakes.UNUSABLE, 1.0, 1.0)
    end = run.end()
    assert (end.phase, end.frames, end.wanted, end.error_pm) == ("done", 3, 3, 20.0)
    assert end.unusable == (f"frame 2: {fakes.REASON}",)
    assert end.reason is None
    assert end.model is not None
    assert end.first is not None
    assert end.first.index == 0
    assert run.live.state is end


def test_phases_follow_one_another_and_passes_are_counted(run: Run) -> None:
    run.frames(1.0, 1.0, 1.0)
    run.end()
    phases = [state.phase for state in run.seen]
    assert phases == ["waiting", *["reading"] * 4, *["finishing"] * 3, "done"]
    assert [state.passes for state in run.seen if state.phase == "finishing"] == [0, 1, 2]
    assert [state.frames for state in run.seen if state.phase == "reading"] == [0, 1, 2, 3]
    assert [state.model is None for state in run.seen] == [True] * 8 + [False]


def test_it_ends_once_the_predicted_error_is_small_enough() -> None:
    run = Run(stop_pm=14.0)
    run.frames(*[1.0] * 5)
    end = run.end()
    assert (end.phase, end.frames, end.error_pm, end.wanted) == ("done", 5, 12.0, None)
    assert len(run.learner.read) == 5


def reads_on(
    frames: Iterator[nd.Frame],
    *,
    stop_pm: float,
    progress: Callable[[nd.CalibrationProgress], bool | None],
    **_: Any,
) -> Any:
    """Fit after three frames, which are not enough, and after each further one."""
    count = 0
    for count, _frame in enumerate(frames, start=1):
        now = nd.CalibrationProgress(frames=count, error_pm=60.0 / count, stop_pm=stop_pm)
        progress(now)
        if count < 3:
            continue
        progress(replace(now, passes=1))
        progress(replace(now, passes=1, error_pm=90.0 / count))
        if 90.0 / count < stop_pm:
            break
        progress(replace(now, error_pm=90.0 / count))
    return fakes.Model(fakes.settings(), (float(count),))


def read_to(run: Run, *errors_pm: float) -> None:
    """Submit frames, each once the one before it has led to its error and more are read."""
    for index, error_pm in enumerate(errors_pm):
        run.live.submit((fakes.frame(index),))
        while (state := run.next()).error_pm != error_pm or state.phase != "reading":
            pass


def test_where_the_fit_of_all_frames_is_not_good_enough_it_reads_on() -> None:
    run = Run(stop_pm=21.0, calibrate=reads_on)
    read_to(run, 60.0, 30.0, 30.0, 22.5)
    run.live.submit((fakes.frame(4),))
    end = run.end()
    assert (end.phase, end.frames, end.error_pm, end.reason) == ("done", 5, 18.0, None)
    phases = [state.phase for state in run.seen if state.frames >= 3]
    assert phases[:5] == ["reading", "finishing", "finishing", "reading", "reading"]


def test_error_that_the_wanted_frames_do_not_reach_is_said() -> None:
    run = Run(stop_pm=14.0, frames=3, calibrate=reads_on)
    read_to(run, 60.0, 30.0)
    run.live.submit((fakes.frame(2),))
    end = run.end()
    assert (end.phase, end.frames) == ("done", 3)
    assert end.reason == (
        "a predicted error below 14 pm was asked for, and 30.00 pm is reached with 3 frames"
    )


def test_other_settings_after_a_fit_cost_no_calibration() -> None:
    run = Run(stop_pm=14.0, calibrate=reads_on)
    read_to(run, 60.0, 30.0, 30.0)
    run.live.submit((fakes.frame(3, settings=fakes.settings(flyback_time_us=7.0)),))
    end = run.end()
    assert (end.phase, end.frames) == ("done", 3)
    assert end.reason is not None
    assert end.reason.endswith("30.00 pm is reached with 3 frames")


def test_more_frames_than_a_calibration_keeps_are_not_read() -> None:
    run = Run(frames=100_000)
    run.frames(*[1.0] * MOST_FRAMES)
    end = run.end()
    assert end.frames == end.wanted == MOST_FRAMES == stack.MOST_FRAMES


def test_the_first_frame_of_a_scan_is_analysed(run: Run) -> None:
    scan = (fakes.frame(0, 1.0), fakes.frame(0, 9.0, channel="BF"))
    run.live.submit(scan)
    run.next(), run.next()
    assert run.learner.read == [scan[0]]
    with pytest.raises(ValueError, match="at least one frame"):
        run.live.submit(())


def test_it_runs_on_a_thread_of_its_own_that_ends(run: Run) -> None:
    run.frames(1.0, 1.0, 1.0)
    run.end()
    assert run.learner.threads == ["nion_distortion.calibration"]
    assert "nion_distortion.calibration" not in threads()


def test_cancelled_while_it_waits_for_the_first_frame(run: Run) -> None:
    run.live.cancel()
    assert run.end().phase == "cancelled"
    assert not run.learner.read


def test_cancelled_while_it_waits_for_another_frame(run: Run) -> None:
    run.frames(1.0)
    run.live.cancel()
    end = run.end()
    assert (end.phase, end.frames, end.model, end.reason) == ("cancelled", 1, None, None)


def test_cancelled_by_who_is_told(run: Run) -> None:
    run.also = lambda state: run.live.cancel() if state.frames == 2 else None
    run.live.submit((fakes.frame(0, 1.0),))
    run.live.submit((fakes.frame(1, 1.0),))
    assert run.end().phase == "cancelled"
    assert len(run.learner.read) == 2


def test_cancelled_in_the_last_pass_keeps_nothing(run: Run) -> None:
    run.learner.gate = threading.Semaphore(0)
    run.frames(1.0, 1.0, 1.0)
    assert run.learner.in_pass.wait(PATIENCE_S)
    run.live.cancel()
    run.learner.gate.release()
    end = run.end()
    assert (end.phase, end.model) == ("cancelled", None)


def test_it_ends_once_and_for_all_whenever_it_is_cancelled() -> None:
    for _ in range(100):
        run = Run(frames=3)
        for index in range(3):
            run.live.submit((fakes.frame(index, 1.0),))
        run.live.cancel()
        end = run.end()
        assert end.phase in ("cancelled", "done")
        assert (end.model is None) == (end.phase == "cancelled")
        assert run.states.empty()


def test_cancelling_what_is_done_changes_nothing(run: Run) -> None:
    run.frames(1.0, 1.0, 1.0)
    end = run.end()
    run.live.cancel()
    assert run.live.state is end
    assert end.phase == "done"
    assert run.states.empty()


def test_closed_it_tells_nobody_any_more(run: Run) -> None:
    run.frames(1.0)
    assert run.live.close(PATIENCE_S)
    assert run.states.empty()
    assert run.live.state.phase == "cancelled"
    assert "nion_distortion.calibration" not in threads()
    run.live.submit((fakes.frame(1),))
    assert run.live.dropped == 0


def test_closed_from_its_own_thread_it_does_not_wait_for_itself(run: Run) -> None:
    ended: queue.Queue[bool] = queue.Queue()
    run.also = lambda _: ended.put(run.live.close(PATIENCE_S))
    run.live.submit((fakes.frame(0, 1.0),))
    assert ended.get(timeout=PATIENCE_S) is False
    assert run.live.close(PATIENCE_S)


def test_settings_that_change_later_end_it_in_words() -> None:
    run = Run(frames=10)
    run.frames(1.0, 1.0, 1.0, settings=fakes.settings(16.0))
    state = run.frames(1.0, first=3, settings=fakes.settings(8.0))
    assert state.phase == "failed"
    assert state.reason == "the scan's settings changed: field of view 16 -> 8 nm"
    assert run.live.close(PATIENCE_S)


def test_every_setting_that_changed_is_named() -> None:
    before = fakes.settings(16.0, flyback_time_us=120.0, extra=(("beam_lag", 1.0),))
    after = fakes.settings(16.0, 32, line_sync=True, rotation_rad=0.5)
    run = Run(frames=10)
    run.frames(1.0, 1.0, 1.0, settings=before)
    state = run.frames(1.0, first=3, settings=after)
    assert state.reason == (
        "the scan's settings changed: shape (64, 64) -> (32, 32) px, "
        "flyback time 120 us -> not reported, line sync not reported -> True, "
        "rotation 0 -> 0.5 rad, beam_lag 1 -> not reported"
    )
    assert run.live.close(PATIENCE_S)


@pytest.mark.parametrize("old", [1, 2])
def test_first_frames_of_other_settings_are_left_behind(run: Run, old: int) -> None:
    run.frames(*[9.0] * old, settings=fakes.settings(16.0))
    run.frames(1.0, 1.0, 1.0, first=old, settings=fakes.settings(8.0))
    end = run.end()
    assert (end.phase, end.frames) == ("done", 3)
    assert end.first is not None
    assert end.first.settings.field_of_view_nm == 8.0
    assert [frame.index for frame in run.learner.read[-3:]] == [old, old + 1, old + 2]


def test_no_hope_ends_it_with_the_reason() -> None:
    run = Run(frames=3)
    run.frames(*[fakes.UNUSABLE] * MOST_IN_A_ROW)
    end = run.end()
    assert end.phase == "failed"
    assert end.reason == f"none of the {MOST_IN_A_ROW} frames could be used"


def test_a_scan_that_becomes_unusable_leaves_what_there_is_and_says_so() -> None:
    run = Run(frames=5)
    run.frames(1.0, 1.0, *[fakes.UNUSABLE] * MOST_IN_A_ROW)
    end = run.end()
    assert (end.phase, end.frames) == ("done", 2)
    assert end.reason is not None
    assert end.reason.startswith("the last 50 frames could not be used, so it rests on 2; frame 52")
    assert end.reason.endswith(fakes.REASON)


def test_a_scan_that_had_not_settled_is_said() -> None:
    class Unsettled(Learner):
        def __call__(self, frames: Iterator[nd.Frame], **how: Any) -> Any:
            return replace(
                super().__call__(frames, **how), unsettled="the distortion still changed"
            )

    run = Run(frames=2, calibrate=Unsettled())
    run.frames(1.0, 1.0)
    end = run.end()
    assert (end.phase, end.reason) == ("done", "the distortion still changed")


def test_an_exception_is_a_sentence_and_a_traceback(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run.frames(1.0)
    state = run.frames(fakes.BROKEN, first=1)
    assert state.phase == "failed"
    assert state.reason == (
        "the calibration could not be made: RuntimeError: the lattice fell apart"
    )
    assert run.live.close(PATIENCE_S)
    assert "Traceback" in caplog.text
    assert "nion_distortion.calibration" not in threads()


def test_what_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nion_distortion.stack", None)
    states: queue.Queue[CalibrationState] = queue.Queue()
    live = LiveCalibration(options=REFERENCE, told=states.put, frames=3)
    states.get(timeout=PATIENCE_S)
    end = states.get(timeout=PATIENCE_S)
    assert end.phase == "failed"
    assert end.reason is not None
    assert "nion_distortion.stack" in end.reason
    assert live.close(PATIENCE_S)


def test_who_is_told_and_fails_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail(state: CalibrationState) -> None:
        if state.is_over:
            done.set()
        raise ZeroDivisionError

    live = LiveCalibration(options=REFERENCE, told=fail, frames=1, calibrate=Learner())
    live.submit((fakes.frame(0),))
    assert done.wait(PATIENCE_S)
    assert live.close(PATIENCE_S)
    assert live.state.phase == "done"
    assert "The progress of a calibration could not be told" in caplog.text


def test_frames_that_come_too_fast_are_dropped_the_oldest_first() -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(state: CalibrationState) -> None:
        if state.frames == 1:
            begun.set()
            assert go.wait(PATIENCE_S)

    run = Run(frames=1 + WAITING_FRAMES)
    run.also = hold
    run.live.submit((fakes.frame(0, 1.0),))
    assert begun.wait(PATIENCE_S)
    for index in range(1, 8):
        run.live.submit((fakes.frame(index, 1.0),))
    assert run.live.dropped == 3
    go.set()
    assert run.end().phase == "done"
    assert [frame.index for frame in run.learner.read] == [0, 4, 5, 6, 7]


def test_frames_that_come_after_the_reading_are_not_kept(run: Run) -> None:
    run.learner.gate = threading.Semaphore(0)
    run.frames(1.0, 1.0, 1.0)
    assert run.learner.in_pass.wait(PATIENCE_S)
    for index in range(3, 20):
        run.live.submit((fakes.frame(index),))
    assert run.live.dropped == 0
    run.learner.gate.release()
    assert run.end().phase == "done"
    assert len(run.learner.read) == 3


def test_submit_takes_microseconds_while_nobody_takes_frames() -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(_: CalibrationState) -> None:
        begun.set()
        assert go.wait(PATIENCE_S)

    live = LiveCalibration(options=REFERENCE, told=hold, calibrate=Learner())
    assert begun.wait(PATIENCE_S)
    scan = (fakes.frame(0),)
    times_s = []
    for _ in range(1000):
        before_s = time.thread_time()
        live.submit(scan)
        times_s.append(time.thread_time() - before_s)
    go.set()
    assert live.close(PATIENCE_S)
    assert np.median(times_s) < 50e-6


def test_known_flyback_of_the_device_is_where_it_begins() -> None:
    asked: list[str] = []
    known = nd.KnownFlyback(tau_us=17.0)

    def ask(device_id: str) -> nd.KnownFlyback:
        asked.append(device_id)
        return known

    one = Run(frames=1, known_flyback=ask)
    one.frames(1.0, settings=fakes.settings(device_id="superscan"))
    assert one.end().phase == "done"
    given = Run(frames=1, known_flyback=ask, options=nd.Options(flyback=nd.KnownFlyback(tau_us=9)))
    given.frames(1.0, settings=fakes.settings(device_id="superscan"))
    assert given.end().phase == "done"
    nameless = Run(frames=1, known_flyback=ask)
    nameless.frames(1.0)
    assert nameless.end().phase == "done"
    assert asked == ["superscan"]
    began = [run.learner.options[0].flyback for run in (one, given, nameless)]
    assert began == [known, nd.KnownFlyback(tau_us=9), None]


@pytest.mark.parametrize("name", ["frames", "stop_pm"])
def test_a_number_that_is_not_positive_is_refused(name: str) -> None:
    numbers: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        LiveCalibration(options=REFERENCE, told=print, **numbers)


SETTINGS = nd.ScanSettings(
    shape_px=(160, 160), field_of_view_nm=5.0, dwell_time_us=1.0, flyback_time_us=120.0
)
MACHINE = Microscope(
    make_specimen("sto_001", rotation_rad=0.1), flyback(), Detector(counts_at_peak=100.0)
)


@cache
def shot(index: int) -> nd.Frame:
    return MACHINE.shot(SETTINGS, index).frame


def real(count: int, **changes: Any) -> Run:
    run = Run(**{"calibrate": nd.calibrate} | changes)
    for index in range(count):
        run.live.submit((shot(index),))
        while run.next().frames <= index:
            pass
    return run


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Bitwise the same needs sums in the same order, in PyTorch as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("calibrate", [nd.calibrate, calibrate_in_child])
def test_real_frames_teach_what_the_same_frames_teach_from_a_file(calibrate: Any) -> None:
    run = real(3, frames=3, calibrate=calibrate)
    end = run.end()
    expected = nd.calibrate([shot(index) for index in range(3)])
    assert end.model is not None
    assert (end.phase, end.model.frames) == ("done", 3)
    assert not multiprocessing.active_children()
    np.testing.assert_array_equal(end.model.stationary.mean, expected.stationary.mean)
    *passes, fitted = [state.passes for state in run.seen if state.phase == "finishing"]
    assert passes == list(range(len(passes)))
    assert len(passes) > 1
    assert fitted == passes[-1]
    assert end.error_pm == stack.predicted_error_pm(end.model)


def test_real_frames_end_at_the_wanted_error() -> None:
    run = real(3, stop_pm=50.0)
    end = run.end()
    assert (end.phase, end.frames) == ("done", 3)
    assert "finishing" in {state.phase for state in run.seen}


def test_real_calibration_of_an_unknown_sample_is_refused_in_words() -> None:
    run = Run(options=nd.Options(sample="unknown"), calibrate=nd.calibrate, frames=3)
    run.live.submit((shot(0),))
    end = run.end()
    assert end.phase == "failed"
    assert end.reason is not None
    assert end.reason.startswith("a calibration needs a reference crystal")


def test_child_that_learns_is_another_for_other_settings_and_gone_in_the_end() -> None:
    run = Run(calibrate=calibrate_in_child)
    run.live.submit((shot(0),))
    assert run.next().phase == "reading"
    run.live.submit((replace(shot(1), settings=replace(SETTINGS, flyback_time_us=100.0)),))
    while run.seen[-1].frames == 0:  # begun anew
        run.next()
    (child,) = multiprocessing.active_children()
    assert child.name == "nion_distortion"
    run.live.cancel()
    assert run.end().phase == "cancelled"
    assert not multiprocessing.active_children()


def test_child_that_ends_is_a_calibration_that_failed_in_words() -> None:
    run = real(1, calibrate=calibrate_in_child)
    (child,) = multiprocessing.active_children()
    child.kill()
    assert connection.wait([child.sentinel], PATIENCE_S)
    run.live.submit((shot(1),))
    end = run.end()
    assert end.phase == "failed"
    assert end.reason is not None
    assert end.reason.startswith("the process that computes has ended (exit code ")


def test_where_no_child_can_be_started_it_learns_in_this_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/swift/NionSwiftLauncher")
    run = real(1, frames=1, calibrate=calibrate_in_child)
    assert run.end().phase == "done"
    assert "not in another process" in caplog.text


BLAS = """
import queue, threadpoolctl, session_fakes as fakes
from nion_distortion.live_calibration import LiveCalibration
from nion_distortion.options import Options

def threads():
    pools = threadpoolctl.threadpool_info()
    return {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}

during = queue.Queue()
def learn(frames, **_):
    next(iter(frames))
    during.put(threads())

before, states = threads(), queue.Queue()
live = LiveCalibration(options=Options(), told=states.put, calibrate=learn)
live.submit((fakes.frame(0),))
seen = during.get(timeout=60)
live.close(60)
print(before, seen, threads())
"""


def test_blas_is_held_to_one_thread_while_it_runs() -> None:
    # in a process of its own: here the tests' own limit is in force
    paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment |= {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    ended = subprocess.run(
        [sys.executable, "-c", BLAS], capture_output=True, check=True, env=environment, text=True
    )
    assert ended.stdout.split() == ["{2}", "{1}", "{2}"]


def test_its_end_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nion_distortion.live_calibration"):
        run.frames(1.0, 1.0, 1.0)
        run.end()
    assert [record.getMessage() for record in caplog.records] == ["The calibration has ended: done"]


def test_importing_it_loads_nothing_heavy() -> None:
    script = (
        "import sys, nion_distortion.live_calibration; "
        "print([m for m in ('torch', 'gpytorch', 'scipy', 'numba') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert ended.stdout.strip() == "[]"
