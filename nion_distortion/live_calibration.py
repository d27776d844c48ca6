"""A calibration from live frames: on a thread of its own, until there are enough of them."""

import importlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from threading import Condition, Thread, current_thread
from typing import TYPE_CHECKING, Any, Literal

from nion_distortion._failures import log_failure
from nion_distortion._validation import as_positive
from nion_distortion.child_process import ChildEndedError
from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError
from nion_distortion.options import KnownFlyback, Options
from nion_distortion.worker import blas_limit

if TYPE_CHECKING:
    from nion_distortion.diagnostics import FlybackAdvice, SetupHint
    from nion_distortion.gaussian_process import DistortionModel
    from nion_distortion.stack import CalibrationProgress

__all__ = ["CalibrationState", "LiveCalibration", "Phase"]

_log = logging.getLogger(__name__)

Phase = Literal["waiting", "reading", "finishing", "done", "cancelled", "failed"]

WAITING_FRAMES = 4
"""Frames that may wait while one is looked at; the oldest gives way."""

MOST_FRAMES = 200
"""Usable frames after which no more are read; see `stack.calibrate`."""

FIRST_FRAMES = 2
"""Up to this many first frames whose settings differ from the next one's count as the last ones of
an old scan, and the calibration begins anew; after more it ends."""

MOST_IN_A_ROW = 50
"""Unusable frames in a row after which the reading ends."""

UNITS = {"nm": "nm", "px": "px", "us": "us", "rad": "rad", "v": "V"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationState:
    """How far a live calibration has come.

    Parameters
    ----------
    phase : {"waiting", "reading", "finishing", "done", "cancelled", "failed"}
        Waiting for the first frame; reading frames; fitting them together; the last three are
        final.
    frames : int, default: 0
        Usable frames so far.
    wanted : int, optional
        Usable frames that end the reading; None where only the predicted error does.
    error_pm : float, optional
        Predicted error of the stationary distortion, rms length, pm: of what the frames taught one
        by one, then of all fitted together; None before the first usable frame. It has no
        uncertainty of its own.
    unusable : tuple of str, default: ()
        Why other frames were not usable.
    passes : int, default: 0
        Passes over all frames that are done.
    reason : str, optional
        Why it failed, or ended with fewer frames or a larger error than wanted, one sentence.
    first : Frame, optional
        The first frame that was read: its settings are the calibration's, and its provenance is
        what there is to keep beside the model.
    model : DistortionModel, optional
        The result; None unless it is done.
    hint : SetupHint, optional
        What the newest usable frame says about how the microscope is set up.
    advice : FlybackAdvice, optional
        What a longer fly-back would gain, by the usable frames so far.
    """

    phase: Phase
    frames: int = 0
    wanted: int | None = None
    error_pm: float | None = None
    unusable: tuple[str, ...] = ()
    passes: int = 0
    reason: str | None = None
    first: Frame | None = None
    model: "DistortionModel | None" = None
    hint: "SetupHint | None" = None
    advice: "FlybackAdvice | None" = None

    @property
    def is_over(self) -> bool:
        """Whether the phase is final."""
        return self.phase in ("done", "cancelled", "failed")


class _OtherScanError(Exception):
    """A frame of other settings came in between."""

    def __init__(self, before: ScanSettings, frame: Frame) -> None:
        super().__init__(f"the scan's settings changed: {_changes(before, frame.settings)}")
        self.frame = frame


class LiveCalibration:
    """Learn the distortion of one scan setting from the frames of a running scan.

    Parameters
    ----------
    options : Options
        What counts as undistorted, and how frames are processed; its sample is a reference.
    told : callable
        Called with each `CalibrationState` on the calibration's thread, the final one last; its
        exceptions are logged.
    frames : int, optional
        Usable frames after which no more are read; default, and at most: 200.
    stop_pm : float, optional
        Predicted error below which no more are read, from three frames on; where the fit of all
        together predicts a larger one, more are read.
    known_flyback : callable, optional
        Asked, where the options do not say, what is known of the line fly-back of a device:
        ``CalibrationStore.known_flyback``.
    calibrate : callable, optional
        What learns from the frames; default: ``stack.calibrate``, loaded on the thread.

    Raises
    ------
    ValueError
        If a number is not positive.

    Notes
    -----
    Frames are learnt one by one while they come, so most of the work is done when the last one
    is there. Frames of other settings end it, unless only the first two differ: those are the
    last of the scan before, or all frames so far have been fitted together, which is kept. While it
    runs, BLAS is held to one thread, as in a `Session`.
    """

    def __init__(
        self,
        *,
        options: Options,
        told: Callable[[CalibrationState], object],
        frames: int | None = None,
        stop_pm: float | None = None,
        known_flyback: Callable[[str], KnownFlyback | None] | None = None,
        calibrate: "Callable[..., DistortionModel] | None" = None,
    ) -> None:
        for name, number in (("frames", frames), ("stop_pm", stop_pm)):
            if number is not None:
                as_positive(name, number)
        self._options, self._stop_pm = options, stop_pm
        self._known_flyback, self._calibrate, self._told = known_flyback, calibrate, told
        self._changed = Condition()
        self._waiting: deque[Frame] = deque(maxlen=WAITING_FRAMES)
        self._takes_frames, self._is_cancelled, self._is_muted = True, False, False
        self._dropped = self._in_a_row = 0
        self._is_fitted, self._missed = False, ""
        wanted = None if frames is None else min(frames, MOST_FRAMES)
        self._state = CalibrationState(phase="waiting", wanted=wanted)
        self._thread = Thread(target=self._run, name="nion_distortion.calibration", daemon=True)
        self._thread.start()

    @property
    def state(self) -> CalibrationState:
        """How far it has come."""
        return self._state

    @property
    def dropped(self) -> int:
        """How many frames gave way to newer ones before they were looked at."""
        with self._changed:
            return self._dropped

    def submit(self, scan: tuple[Frame, ...]) -> None:
        """Leave a scan's frame to be learnt from and return at once.

        Parameters
        ----------
        scan : tuple of Frame
            The frames of all enabled channels of one scan; the first one is analysed. Ignored
            once no more are read.

        Raises
        ------
        ValueError
            If it is empty.
        """
        if not scan:
            raise ValueError("scan must have at least one frame")
        with self._changed:
            if not self._takes_frames:
                return
            self._dropped += len(self._waiting) == WAITING_FRAMES
            self._waiting.append(scan[0])
            self._changed.notify()

    def cancel(self) -> None:
        """End it as soon as possible and keep nothing; afterwards it does nothing."""
        with self._changed:
            self._is_cancelled, self._takes_frames = True, False
            self._waiting.clear()
            self._changed.notify()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Cancel it, and tell nobody any more.

        Parameters
        ----------
        timeout_s : float, default: 10
            How long to wait for the thread, which is at most one pass over all frames away.

        Returns
        -------
        bool
            Whether the thread has ended. Called from the thread itself it cannot have.
        """
        self._is_muted = True
        self.cancel()
        if current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # on its own thread

    def _run(self) -> None:
        self._tell(self._state)
        end = self._outcome()
        with self._changed:
            self._takes_frames = False
            self._waiting.clear()
            if self._is_cancelled:  # perhaps in the last pass, which nobody asks
                end = replace(self._state, phase="cancelled")
        _log.info("The calibration has ended: %s", end.reason or end.phase)
        self._tell(end)

    def _outcome(self) -> CalibrationState:
        with ExitStack() as limit:
            try:
                calibrate = (
                    self._calibrate or importlib.import_module("nion_distortion.stack").calibrate
                )
                blas_limit.enter()
                limit.callback(blas_limit.leave)
                model = self._learnt(calibrate)
            except CancelledError:
                return replace(self._state, phase="cancelled")
            except (UnusableFrameError, _OtherScanError, ChildEndedError) as reason:
                return replace(self._state, phase="failed", reason=str(reason))
            except Exception as error:
                log_failure(_log, "The calibration failed", error)
                return replace(self._state, phase="failed", reason=_sentence(error))
        said = [one for one in (model.unsettled, self._shortfall()) if one]
        return replace(self._state, phase="done", reason="; ".join(said) or None, model=model)

    def _learnt(self, calibrate: "Callable[..., DistortionModel]") -> "DistortionModel":
        """Calibrate; begin anew with a frame of other settings where little is lost."""
        first = self._next()
        while True:
            self._in_a_row = 0
            # told before the import of `calibrate`, which takes seconds: frames do come
            self._tell(CalibrationState(phase="reading", wanted=self._state.wanted, first=first))
            try:
                return calibrate(
                    self._frames_of_one_scan(first),
                    options=self._options_for(first.settings),
                    stop_pm=self._stop_pm,
                    progress=self._progressed,
                )
            except _OtherScanError as other:
                if self._state.frames + len(self._state.unusable) > FIRST_FRAMES:
                    raise
                first = other.frame

    def _options_for(self, settings: ScanSettings) -> Options:
        is_asked = self._options.flyback is None and bool(settings.device_id)
        if self._known_flyback is None or not is_asked:
            return self._options
        return replace(self._options, flyback=self._known_flyback(settings.device_id))

    def _frames_of_one_scan(self, first: Frame) -> Iterator[Frame]:
        """Yield frames as they come, until they are enough or there is no hope."""
        yield first
        while not self._is_enough() and self._in_a_row < MOST_IN_A_ROW:
            frame = self._next()
            if first.settings.differences(frame.settings):
                if self._is_fitted:  # the frames before it have made a calibration
                    break
                raise _OtherScanError(first.settings, frame)
            yield frame
        self._stop_taking()
        self._tell(replace(self._state, phase="finishing"))

    def _is_enough(self) -> bool:
        return self._state.frames >= (self._state.wanted or MOST_FRAMES)

    def _next(self) -> Frame:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_cancelled)
            if self._is_cancelled:
                raise CancelledError
            return self._waiting.popleft()

    def _progressed(self, now: "CalibrationProgress") -> bool:
        """Pass on what is new; False ends the calibration."""
        before = self._state
        self._in_a_row += len(now.unusable) - len(before.unusable)
        if now.frames > before.frames:
            self._in_a_row = 0
        self._is_fitted = self._is_fitted or now.passes > 0
        self._missed = now.shortfall or ""
        self._tell(
            replace(
                before,
                phase="finishing" if now.passes or not self._takes_frames else "reading",
                frames=now.frames,
                unusable=now.unusable,
                error_pm=now.error_pm,
                passes=now.passes,
                hint=now.hint,
                advice=now.advice,
            )
        )
        return not self._is_cancelled

    def _stop_taking(self) -> None:
        with self._changed:
            self._takes_frames = False
            self._waiting.clear()

    def _shortfall(self) -> str | None:
        said = [self._missed] if self._missed else []
        if self._in_a_row >= MOST_IN_A_ROW:
            said.append(
                f"the last {MOST_IN_A_ROW} frames could not be used, so it rests on "
                f"{self._state.frames}; {self._state.unusable[-1]}"
            )
        return "; ".join(said) or None

    def _tell(self, state: CalibrationState) -> None:
        self._state = state
        if self._is_muted:
            return
        try:
            self._told(state)
        except Exception as error:
            log_failure(_log, "The progress of a calibration could not be told", error)


def _sentence(error: Exception) -> str:
    if isinstance(error, ValueError):  # a caller's mistake, in words
        return str(error)
    return f"the calibration could not be made: {type(error).__name__}: {error}"


def _changes(before: ScanSettings, after: ScanSettings) -> str:
    """Say what differs: ``field of view 16 -> 8 nm``."""
    names = before.differences(after)
    return ", ".join(_change(name, _value(before, name), _value(after, name)) for name in names)


def _change(name: str, before: Any, after: Any) -> str:
    if name not in {item.name for item in fields(ScanSettings)}:
        return f"{name} {_as_text(before)} -> {_as_text(after)}"
    words, _, ending = name.rpartition("_")
    unit = f" {UNITS[ending]}" if ending in UNITS else ""
    values = f"{_as_text(before, unit)} -> {_as_text(after, unit)}"
    if before is not None and after is not None:
        values = f"{_as_text(before)} -> {_as_text(after, unit)}"
    return f"{(words if unit else name).replace('_', ' ')} {values}"


def _as_text(value: Any, unit: str = "") -> str:
    if value is None:
        return "not reported"
    return f"{value:.7g}{unit}" if isinstance(value, float) else f"{value}{unit}"


def _value(settings: ScanSettings, name: str) -> Any:
    return getattr(settings, name, dict(settings.extra).get(name))
