"""The one stateful object of a live run: frames in, reports out, on threads of its own."""

import importlib
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nion_distortion._failures import log_failure
from nion_distortion._validation import as_array
from nion_distortion.frame import Frame
from nion_distortion.live_model import Calibrations, LiveModel
from nion_distortion.options import Options
from nion_distortion.stages import ProcessFrame, Stages
from nion_distortion.worker import Worker, blas_limit

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationSummary
    from nion_distortion.correction import CorrectedFrame
    from nion_distortion.gaussian_process import DistortionModel
    from nion_distortion.pipeline import FrameReport
    from nion_distortion.principal_components import LiveComponents

__all__ = ["Calibrations", "LiveReport", "Session", "SessionCounts"]

_log = logging.getLogger(__name__)

MODELS_KEPT = 4
"""Scan settings whose models are remembered, so that switching back does not begin anew."""

REFIT_AFTER = 5
"""Accepted frames after which the amplitudes are found again, once."""

TIMED_FRAMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCounts:
    """What became of the scans.

    Parameters
    ----------
    processed : int
        Scans with a report.
    unusable : int
        Those of them that gave no samples.
    failed : int
        Scans that ended in an exception.
    dropped : int
        Scans that were replaced by a newer one before they were looked at.
    dropped_at_start : int
        Those of them that came before the first report, while libraries were loaded.
    frame_ms : float
        Mean time for a scan, over the last 20.
    """

    processed: int = 0
    unusable: int = 0
    failed: int = 0
    dropped: int = 0
    dropped_at_start: int = 0
    frame_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveReport:
    """What came out of one scan.

    Parameters
    ----------
    scan : tuple of Frame
        The frames of its channels, the analysed one first.
    report : FrameReport or None
        Of the analysed frame; None where processing failed.
    others : tuple of CorrectedFrame
        The other channels, corrected with the same field.
    reason : str or None
        Why the frame gave nothing new, one sentence; None where it did.
    accepted : int
        Frames that this session put into the model of these settings; 0 while the first ones are
        held back.
    drift_nm : ndarray, shape (n, 2)
        Drift of the sample (y, x), one row for each usable frame since the run began or the drift
        was last ambiguous; the first row is zero.
    drift_std_nm : ndarray, shape (n, 2)
        Its standard deviation; zero in the first row, NaN where it is not known.
    components : LiveComponents or None
        The distortion fields of the last 100 frames of these settings; its ``components()``
        takes milliseconds and is called only by those who show them.
    duration_s : float
        Time that the scan took to process.
    calibration : CalibrationSummary or None
        The stored calibration that the model of these settings began with.
    options : Options
        How it was processed.
    """

    scan: tuple[Frame, ...]
    report: "FrameReport | None" = None
    others: "tuple[CorrectedFrame, ...]" = ()
    reason: str | None = None
    accepted: int = 0
    drift_nm: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    drift_std_nm: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    components: "LiveComponents | None" = None
    duration_s: float = 0.0
    calibration: "CalibrationSummary | None" = None
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        for name in ("drift_nm", "drift_std_nm"):
            object.__setattr__(self, name, as_array(name, getattr(self, name), (None, 2)))


class Session:
    """Process the newest scan of a live run on a thread of its own.

    The first frames of a run, and those after a change of settings, are held back: a scan that
    has just begun may still settle, so a model is adopted only when a second frame agrees.

    Parameters
    ----------
    options : Options, optional
        How frames are processed.
    model : DistortionModel, optional
        What is known already; used where a frame's settings are the model's.
    store : Calibrations, optional
        Where a calibration is looked up when settings change and no model is known for them.
    process : callable, optional
        What is done to a frame; default: ``pipeline.process_frame``, loaded on the worker.
    refit : callable, optional
        Finds the amplitudes again from the samples in a model; default:
        ``gaussian_process.refit_amplitudes``, loaded on the worker.
    in_child : bool, default: False
        Let a process of its own do both, so that they need not wait for Python's lock in a program
        that draws; where none can be started the worker does them. Both are then functions of
        modules.

    Notes
    -----
    Only the worker's thread writes; other threads read immutable reports. Subscribers are told on
    another thread, so that the next frame does not wait for what they do with a report. While the
    session lives, BLAS is held to one thread: two thread pools that alternate would cost five times
    the time of a frame.
    """

    def __init__(
        self,
        *,
        options: Options | None = None,
        model: "DistortionModel | None" = None,
        store: Calibrations | None = None,
        process: ProcessFrame | None = None,
        refit: "Callable[[DistortionModel], DistortionModel] | None" = None,
        in_child: bool = False,
    ) -> None:
        self._options = Options() if options is None else options
        self._stages = Stages(process, refit, in_child=in_child)
        self._store = store
        self._known = [] if model is None else [LiveModel(model.settings, model.reference, model)]
        self._is_to_look_up = False
        self._subscribers: tuple[Callable[[LiveReport], object], ...] = ()
        self._subscribing = Lock()
        self._in_hand: tuple[Frame, ...] = ()
        self._last: LiveReport | None = None
        self._submitting = Lock()
        self._newest = (-1, "")
        self._run = self._learnt_run = 0
        self._counts = SessionCounts()
        self._durations_s: deque[float] = deque(maxlen=TIMED_FRAMES)
        self._leave_limit = ExitStack()
        self._is_loaded = False
        self._teller = Worker(self._tell, name="nion_distortion.reports", takes_all=True)
        self._worker = Worker(
            self._work,
            failed=self._fail,
            prepare=self._load,
            finish=self._unload,
            name="nion_distortion.session",
        )

    @property
    def options(self) -> Options:
        """How the next frame is processed."""
        return self._options

    def set_options(self, options: Options) -> None:
        """Process the frames from the next one on in another way.

        What is known of a scan stays, but for what was learnt against another reference.

        Parameters
        ----------
        options : Options
            The new ones.
        """
        self._options = options

    def look_up_again(self) -> None:
        """Forget what this session has learnt, and ask the store again at the next frame."""
        self._is_to_look_up = True

    @property
    def last(self) -> LiveReport | None:
        """The newest report."""
        return self._last

    @property
    def model(self) -> "DistortionModel | None":
        """The accepted model of the newest settings."""
        return self._known[0].model if self._known else None

    @property
    def counts(self) -> SessionCounts:
        """What became of the scans so far."""
        return replace(self._counts, dropped=self._worker.dropped)

    def submit(self, scan: tuple[Frame, ...]) -> None:
        """Leave a scan for the worker and return at once; a newer scan replaces one that waits.

        Parameters
        ----------
        scan : tuple of Frame
            The frames of all enabled channels of one scan, the analysed one first.

        Raises
        ------
        ValueError
            If it is empty, or the frames are not of one scan.
        """
        if not scan:
            raise ValueError("scan must have at least one frame")
        if len({frame.frame_id for frame in scan}) > 1:
            raise ValueError("the frames of a scan must have one frame_id")
        with self._submitting:
            # here, as the worker would not notice a new run whose first frames are dropped
            self._run += self._begins_a_run(scan[0])
            self._newest = (scan[0].index, scan[0].frame_id)
            self._worker.submit((self._run, scan))

    def _begins_a_run(self, frame: Frame) -> bool:
        index, frame_id = self._newest
        is_other = bool(frame_id) and frame.frame_id != frame_id
        return index < 0 or frame.index < index or (frame.index == index and is_other)

    def subscribe(self, callback: Callable[[LiveReport], object]) -> Callable[[], None]:
        """Be told of each report, one after the other, on a thread of the session's.

        Parameters
        ----------
        callback : callable
            Called with each report; its exceptions are logged, and others are still told.

        Returns
        -------
        callable
            Ends the subscription; may be called more than once.
        """
        with self._subscribing:
            self._subscribers = (*self._subscribers, callback)
        return partial(self._unsubscribe, callback)

    def _unsubscribe(self, callback: Callable[[LiveReport], object]) -> None:
        with self._subscribing:
            kept = (one for one in self._subscribers if one is not callback)
            self._subscribers = tuple(kept)

    def close(self, timeout_s: float = 10.0) -> None:
        """End the threads after the scan in hand, and give BLAS its threads back.

        Parameters
        ----------
        timeout_s : float, default: 10
            How long to wait for the scan in hand; its report reaches nobody any more. As long
            again for a subscriber that is being told.
        """
        with self._subscribing:
            self._subscribers = ()
        self._teller.close(0.0)  # before the worker, which may wait there
        self._worker.close(timeout_s)
        self._teller.close(timeout_s)

    # on the worker's thread

    def _load(self) -> None:
        """Import what is heavy, and hold its BLAS to one thread."""
        self._stages.load()
        correction = importlib.import_module("nion_distortion.correction")
        self._correct, self._noted = correction.correct_frame, correction.noted
        components = importlib.import_module("nion_distortion.principal_components")
        self._no_components = components.LiveComponents
        blas_limit.enter()
        self._leave_limit.callback(blas_limit.leave)
        self._is_loaded = True
        _log.info("Live correction started")

    def _unload(self) -> None:
        self._leave_limit.close()
        self._stages.close()
        _log.info("Live correction stopped: %s", self.counts)

    def _work(self, item: tuple[int, tuple[Frame, ...]]) -> None:
        begun_s = time.perf_counter()
        run, scan = item
        self._in_hand = scan
        if not self._is_loaded:  # loading failed before; the next failure says so again
            self._load()
        options = self._options  # one for the whole scan, whatever another thread sets meanwhile
        learning = self._learning_of(scan[0], run, options)
        report = self._told(self._process_first(scan[0], learning, options), learning)
        if report.unusable is None:
            learning.follow(report, self._no_components)
        self._publish(
            LiveReport(
                scan=scan,
                report=report,
                others=self._others(scan, report, options),
                reason=report.unusable,
                accepted=learning.accepted,
                drift_nm=learning.way_nm(),
                drift_std_nm=learning.way_std_nm(),
                components=learning.components,
                duration_s=time.perf_counter() - begun_s,
                calibration=learning.calibration,
                options=options,
            )
        )

    def _told(self, report: "FrameReport", learning: LiveModel) -> "FrameReport":
        """Say in the report which calibration was used, or which one comes nearest."""
        if report.corrected is None and report.unusable is not None and learning.no_match:
            return replace(report, unusable=f"{report.unusable}; {learning.no_match}")
        if report.corrected is None or learning.calibration is None:
            return report
        error = report.corrected_pm
        used = {
            "id": learning.calibration.calibration_id,
            "predicted_error_pm": None if error is None else error.value,
            "state": report.state,
            "state_reason": report.state_reason,
        }
        return replace(report, corrected=self._noted(report.corrected, used))

    def _learning_of(self, frame: Frame, run: int, options: Options) -> LiveModel:
        """Return what is known of the frame's settings; the newest settings come first."""
        if self._is_to_look_up:
            self._is_to_look_up, self._known = False, []
        is_same = bool(self._known) and self._known[0].serves(frame.settings, options)
        if is_same and run == self._learnt_run:
            return self._known[0]
        self._learnt_run = run
        matching = [one for one in self._known if one.serves(frame.settings, options)]
        learning = matching[0] if matching else LiveModel(frame.settings, options.reference)
        others = [one for one in self._known if one is not learning]
        self._known = [learning, *others][:MODELS_KEPT]
        learning.settle()
        if not is_same:
            _log.info("New scan settings: %s", frame.settings)
        if learning.model is None and self._store is not None:
            learning.look_up(self._store, options)
        return learning

    def _process_first(self, frame: Frame, learning: LiveModel, options: Options) -> "FrameReport":
        process = self._stages.process
        if options.flyback is None:  # where new settings begin
            options = replace(options, flyback=learning.flyback)
        report = process(frame, model=learning.model, options=options)
        learnt = None if options.sample == "unknown" else report.model
        if learnt is None or report.unusable is not None:
            return report
        alone = partial(process, frame, options=options)
        if learning.model is None:
            return self._hold_back(learnt, learning, alone) or report
        if learnt.is_contradicted:
            learning.model = learnt  # which follows the frame's lattice and drift, no more
            anew = self._begin_anew(learning, alone) if learning.is_own else None
            return anew or report
        if learning.is_settling:
            learning.is_settling = False
        else:
            learning.held_back.clear()
            self._adopt(learnt, learning)
        return report

    def _begin_anew(
        self, learning: LiveModel, process_with: "Callable[..., FrameReport]"
    ) -> "FrameReport | None":
        """Learn from frames that contradict the model and agree with each other, and no others."""
        report = process_with(model=None)
        if report.unusable is not None or report.model is None:
            return None
        together = self._hold_back(report.model, learning, process_with)
        if together is not None:
            _log.info("The distortion has changed: what was learnt before is forgotten")
        return together

    def _hold_back(
        self,
        learnt: "DistortionModel",
        learning: LiveModel,
        process_with: "Callable[..., FrameReport]",
    ) -> "FrameReport | None":
        """Begin with an earlier frame that agrees with this one, and this one; None until then."""
        earlier = learning.agreeing(learnt)
        if earlier is None:
            return None
        learning.is_settling, learning.accepted = False, 0
        self._adopt(earlier, learning)
        together = process_with(model=earlier)
        if together.unusable is None and together.model is not None:
            self._adopt(together.model, learning)
        return together

    def _adopt(self, model: "DistortionModel", learning: LiveModel) -> None:
        # a model that came from elsewhere no longer holds the samples of all its frames
        if learning.is_own and learning.accepted + 1 == REFIT_AFTER:
            model = self._stages.refit(model)
        learning.model = model
        learning.accepted += 1

    def _others(
        self, scan: tuple[Frame, ...], report: "FrameReport", options: Options
    ) -> "tuple[CorrectedFrame, ...]":
        field, resample = report.field, options.resample
        if field is None:
            return ()
        channels = scan[1:]
        if field.frame_id and not scan[0].frame_id:  # a scan without identity was given one
            channels = tuple(
                replace(one, frame_id=field.frame_id, provenance=dict(one.provenance))
                for one in channels
            )
        corrected = (self._correct(one, field, resample=resample) for one in channels)
        record = {} if report.corrected is None else report.corrected.provenance.get("correction")
        used = record.get("calibration") if record else None
        return tuple(one if used is None else self._noted(one, used) for one in corrected)

    def _fail(self, error: Exception) -> None:
        """Report that the scan in hand could not be processed."""
        if self._in_hand:
            reason = f"This frame could not be processed: {type(error).__name__}: {error}"
            self._publish(LiveReport(scan=self._in_hand, reason=reason))

    def _publish(self, report: LiveReport) -> None:
        self._count(report)
        before, self._last, self._in_hand = self._last, report, ()
        _log_change(before, report)
        self._teller.submit(report)

    def _tell(self, report: LiveReport) -> None:
        """Pass a report on; on a thread of its own."""
        for subscriber in self._subscribers:
            try:
                subscriber(report)
            except Exception as error:
                log_failure(_log, "A subscriber of the live reports failed", error)

    def _count(self, report: LiveReport) -> None:
        counts = self._counts
        if counts.processed + counts.failed == 0:
            counts = replace(counts, dropped_at_start=self._worker.dropped)
        if report.report is None:
            self._counts = replace(counts, failed=counts.failed + 1)
            return
        self._durations_s.append(report.duration_s)
        self._counts = replace(
            counts,
            processed=counts.processed + 1,
            unusable=counts.unusable + (report.reason is not None),
            frame_ms=1e3 * float(np.mean(self._durations_s)),
        )


def _log_change(before: LiveReport | None, now: LiveReport) -> None:
    """Log only what has changed: that frames can no longer be used, or can again."""
    was_usable = before is None or before.reason is None
    if was_usable == (now.reason is None):  # the numbers in a reason change with every frame
        return
    if now.reason is None:
        _log.info("Frames can be used again since frame %d", now.scan[0].index)
    else:
        _log.warning("Frame %d cannot be used: %s", now.scan[0].index, now.reason)
