"""The stages for many frames: a calibration."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

import numpy as np

from nion_distortion._validation import check_finite
from nion_distortion.diagnostics import FlybackAdvice, SetupHint, flyback_advice, setup_hint
from nion_distortion.diagnostics.numbers import field_error_pm
from nion_distortion.frame import Frame, UnusableFrameError
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.gaussian_process.calibration import CalibrationFrame, calibrated
from nion_distortion.options import Free, Options, StackAverage
from nion_distortion.pipeline import Measured, measure_frame
from nion_distortion.references import against_average

__all__ = ["CalibrationProgress", "calibrate"]

FEWEST_FRAMES = 3
"""Frames before ``stop_pm`` may end a calibration: of two nobody knows which one is wrong."""

MOST_FRAMES = 200
"""Frames whose samples a calibration keeps; more are not read."""

MORE_ROUNDS, MARGIN = 3, 0.98
"""How often more are read and all fitted again, which takes seconds, where the fit predicts an
error above ``stop_pm``; and the share of that which is then aimed at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationProgress:
    """How far a calibration has come.

    Parameters
    ----------
    frames : int
        Usable frames so far.
    unusable : tuple of str
        Why other frames were not.
    error_pm : float, optional
        Predicted error of the stationary distortion, rms length, pm: of what the frames taught one
        by one, then of all fitted together; None before the first usable frame. It has no
        uncertainty of its own.
    passes : int
        Passes over all frames that are done; 0 while frames are being read.
    hint : SetupHint, optional
        What the newest usable frame says about how the microscope is set up.
    advice : FlybackAdvice, optional
        What a longer fly-back would gain, by the usable frames so far.
    stop_pm : float, optional
        The predicted error that was asked for.
    """

    frames: int
    unusable: tuple[str, ...] = ()
    error_pm: float | None = None
    passes: int = 0
    hint: SetupHint | None = None
    advice: FlybackAdvice | None = None
    stop_pm: float | None = None

    @property
    def shortfall(self) -> str | None:
        """What was asked for and what is reached, one sentence; None where nothing is missing."""
        if self.stop_pm is None or self.error_pm is None or self.error_pm < self.stop_pm:
            return None
        return (
            f"a predicted error below {self.stop_pm:g} pm was asked for, and "
            f"{self.error_pm:.2f} pm is reached with {self.frames} frame{'s' * (self.frames != 1)}"
        )


def calibrate(
    frames: Iterable[Frame],
    *,
    options: Options | None = None,
    stop_pm: float | None = None,
    progress: Callable[[CalibrationProgress], bool | None] | None = None,
) -> DistortionModel:
    """Learn the distortion of one scan setting from frames of a reference crystal.

    Parameters
    ----------
    frames : iterable of Frame
        Of one setting; read one after the other, at most 200 usable ones.
    options : Options, optional
        What counts as undistorted, and how frames are processed; default ``Options()``.
    stop_pm : float, optional
        Read no more frames once the predicted error of the stationary distortion is below this,
        that of the result included; where too few frames are left for that,
        `CalibrationProgress.shortfall` says so.
    progress : callable, optional
        Told how far it is; ``False`` from it cancels the calibration.

    Returns
    -------
    DistortionModel
        From all usable frames together. Those that disagree with the others, a first frame that
        had not settled among them, stand in ``flagged`` with the reason and are not averaged in.

    Raises
    ------
    ValueError
        If there is no frame, settings differ, or the sample is not a reference.
    UnusableFrameError
        If no frame could be used, with the first one's reason.
    concurrent.futures.CancelledError
        If it was cancelled; nothing is kept.

    Notes
    -----
    Frames are first learnt one by one, as in a live run; then all are linearised and fitted
    together until nothing moves, with hyperparameters learnt from all of them. The fit may predict
    a larger error than the frames did one by one: then as many more are read as the ratio of the
    two asks for, and all are fitted again, at most three times.

    With another number of BLAS threads sums are rounded differently, and the search of
    hyperparameters ends at another point of a flat maximum: D then differs by up to 1e-3 px, a few
    hundredths of a picometre, and a tighter tolerance of the search does not change that. One
    thread is the fastest.
    """
    options = Options() if options is None else options
    if options.sample != "reference":
        raise ValueError('a calibration needs a reference crystal, so sample must be "reference"')
    told = _Told(progress, stop_pm)
    reading = _Reading(frames, options, told)
    reading.goes_on()
    model = reading.fitted()
    for _ in range(MORE_ROUNDS):
        if told.now.shortfall is None or not reading.goes_on():
            break
        model = reading.fitted()
    return model


class _Reading:
    """The frames of a calibration: read, learnt one by one, and fitted together."""

    def __init__(self, frames: Iterable[Frame], options: Options, told: "_Told") -> None:
        self._frames, self._told, self._reference = enumerate(frames, 1), told, options.reference
        self._averages = isinstance(options.reference, StackAverage)
        one_by_one = replace(options, reference=Free()) if self._averages else options
        self._learning = _OneByOne(one_by_one)
        self._gathered: dict[int, CalibrationFrame] = {}
        self._count = 0
        self._error_pm, self._limit_pm = np.inf, told.now.stop_pm

    def goes_on(self) -> bool:
        """Read until the frames one by one predict a small error; tell whether any was usable."""
        before = len(self._gathered)
        if before:
            self._told.of_more()
        while not self._is_enough and (numbered := next(self._frames, None)):
            self._take(*numbered)
        return len(self._gathered) > before

    def fitted(self) -> DistortionModel:
        """Fit all that were read together; what that predicts says how many more are needed."""
        model, used = self._learning.model, list(self._gathered.values())
        if model is None:
            raise _nothing_usable(self._count, self._told.now.unusable)
        if self._averages:
            pairs = zip(against_average([one.samples for one in used]), used, strict=True)
            used = [CalibrationFrame(one, frame.lattice) for one, frame in pairs]
            model = replace(model, reference=self._reference)
        model = calibrated(model, used, told=self._told.of_pass)
        if self._told.is_asked:
            error_pm, stop_pm = predicted_error_pm(model), self._told.now.stop_pm
            self._told.of_fit(error_pm)
            if stop_pm is not None:
                self._limit_pm = MARGIN * self._error_pm * stop_pm / error_pm
        return model

    @property
    def _is_enough(self) -> bool:
        count = len(self._gathered)
        if count < FEWEST_FRAMES or self._limit_pm is None:
            return count >= MOST_FRAMES
        return self._error_pm < self._limit_pm or count >= MOST_FRAMES

    def _take(self, number: int, frame: Frame) -> None:
        self._count = number
        try:
            measured = self._learning.measured(frame, self._gathered)
        except UnusableFrameError as reason:
            self._told.of_unusable(f"frame {number}: {reason}")
            return
        self._gathered[number] = CalibrationFrame(measured.samples, measured.indexed.lattice)
        if self._told.is_asked:
            self._error_pm = predicted_error_pm(measured.model)
        self._told.of_frame(self._error_pm, measured, frame.altered)


class _OneByOne:
    """What frames teach one by one, until all are learnt together.

    Frames of a scan that settles contradict the first one: where two that follow each other agree,
    they begin anew. `calibrated` looks at all of them again.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.model: DistortionModel | None = None
        self._against: DistortionModel | None = None  # the newest that contradicted, by itself

    def measured(self, frame: Frame, gathered: Mapping[int, CalibrationFrame]) -> Measured:
        """Measure a frame that is none of the gathered ones; what is wrong costs it alone."""
        try:
            check_finite(frame.image)
        except ValueError as reason:
            raise UnusableFrameError(str(reason)) from reason
        measured = measure_frame(frame, model=self.model, options=self._options)
        for number, one in gathered.items():
            if measured.samples.is_same_image(one.samples):  # its noise would count as distortion
                raise UnusableFrameError(f"it is the image of frame {number} once more")
        model = self._going_on(measured)
        self.model = model
        return measured._replace(model=model)

    def _going_on(self, measured: Measured) -> DistortionModel:
        if not measured.model.is_contradicted:
            self._against = None
            return measured.model
        before, model, lattice = self._against, measured.model, measured.indexed.lattice
        terms = model.basis.terms
        self._against = alone = first_model(
            measured.samples,
            lattice,
            terms,
            reference=model.reference,
            zero_px=model.zero_px,
        )
        if before is None or not before.stationary_field().agrees_with(alone.stationary_field()):
            return model
        self._against = None
        return before.updated(measured.samples, lattice)


def predicted_error_pm(model: DistortionModel) -> float:
    """Predict the error of a model's stationary distortion.

    Parameters
    ----------
    model : DistortionModel
        The model.

    Returns
    -------
    float
        Rms length of the stationary field's standard deviation over the valid pixels, pm; what
        moves the beam in single frames only is not in it. NaN where no pixel is valid.
    """
    field = model.stationary_field()
    error_pm = field_error_pm(field, field.std_px)
    return np.nan if error_pm is None else error_pm


def _nothing_usable(count: int, reasons: tuple[str, ...]) -> Exception:
    if not count:
        return ValueError("a calibration needs at least one frame")
    return UnusableFrameError(f"none of the {count} frames could be used; {reasons[0]}")


class _Told:
    """Pass progress on, and end the calibration where it is not wanted any more."""

    def __init__(
        self,
        progress: Callable[[CalibrationProgress], bool | None] | None,
        stop_pm: float | None,
    ) -> None:
        self._progress = progress
        self.is_asked = progress is not None or stop_pm is not None
        self.now = CalibrationProgress(frames=0, stop_pm=stop_pm)

    def of_unusable(self, reason: str) -> None:
        self._tell(replace(self.now, unusable=(*self.now.unusable, reason)))

    def of_frame(self, error_pm: float, measured: Measured, altered: str | None) -> None:
        now = replace(self.now, frames=self.now.frames + 1, error_pm=error_pm)
        if self._progress is not None:
            size_nm = measured.model.settings.pixel_size_nm
            hint = setup_hint(measured.indexed, size_nm)
            advice = flyback_advice(measured.model, altered=altered)
            now = replace(now, hint=hint, advice=advice)
        self._tell(now)

    def of_pass(self, passes: int) -> None:
        self._tell(replace(self.now, passes=passes))

    def of_fit(self, error_pm: float) -> None:
        self._tell(replace(self.now, error_pm=error_pm))

    def of_more(self) -> None:
        self._tell(replace(self.now, passes=0))

    def _tell(self, now: CalibrationProgress) -> None:
        self.now = now
        if self._progress is not None and self._progress(now) is False:
            raise CancelledError("the calibration was cancelled")
