"""The slow steps of a live run, done in this process or in a child process."""

import importlib
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from nion_distortion.child_process import Answers, ChildEndedError, ChildProcess, ask
from nion_distortion.frame import Frame
from nion_distortion.options import Options
from nion_distortion.worker import blas_limit

if TYPE_CHECKING:
    from nion_distortion.gaussian_process import DistortionModel
    from nion_distortion.pipeline import FrameReport
    from nion_distortion.stack import CalibrationProgress

__all__ = ["ProcessFrame", "Stages", "calibrate_in_child"]

_log = logging.getLogger(__name__)

WITHOUT_CHILD = "The work is done beside the window, not in another process: %s"

YIELDING = 10
"""Nice value (0 to 19) of the calibration's process: window, scan and live frames come first."""


class ProcessFrame(Protocol):
    """The stages in order, for one frame: ``nion_distortion.pipeline.process_frame``."""

    def __call__(
        self, frame: Frame, *, model: "DistortionModel | None", options: Options
    ) -> "FrameReport":
        """Process a frame.

        Parameters
        ----------
        frame : Frame
            The analysed frame.
        model : DistortionModel or None
            What is known of its settings.
        options : Options
            How it is processed.

        Returns
        -------
        FrameReport
            What came out.
        """
        ...


class Stages:
    """The two slow steps, processing a frame and refitting amplitudes, in whichever process.

    Used on one thread.

    Parameters
    ----------
    process : callable, optional
        What is done to a frame; default: ``pipeline.process_frame``.
    refit : callable, optional
        Finds the amplitudes again from the samples in a model; default:
        ``gaussian_process.refit_amplitudes``.
    in_child : bool
        Whether another process does both; then they are functions of modules.
    """

    def __init__(
        self,
        process: ProcessFrame | None,
        refit: "Callable[[DistortionModel], DistortionModel] | None",
        *,
        in_child: bool,
    ) -> None:
        self._process, self._refit = process, refit
        self.child = ChildProcess(_prepare_child) if in_child else None

    def load(self) -> None:
        """Import what is heavy, here and at the same time in the other process.

        Raises
        ------
        ImportError
            If something is not installed.
        """
        self._try(ChildProcess.start)
        if self._process is None:
            self._process = importlib.import_module("nion_distortion.pipeline").process_frame
        if self._refit is None:
            module = importlib.import_module("nion_distortion.gaussian_process")
            self._refit = module.refit_amplitudes
        self._try(ChildProcess.wait)

    @property
    def process(self) -> ProcessFrame:
        """What is done to a frame."""
        return partial(self._call, self._process)

    def refit(self, model: "DistortionModel") -> "DistortionModel":
        """Find the amplitudes again.

        Parameters
        ----------
        model : DistortionModel
            With the samples of all its frames.

        Returns
        -------
        DistortionModel
            The same with other amplitudes.
        """
        refitted: DistortionModel = self._call(self._refit, model)
        return refitted

    def close(self) -> None:
        """End the other process, if there is one."""
        if self.child is not None:
            self.child.close()

    def _try(self, step: Callable[[ChildProcess], object]) -> None:
        if self.child is not None:
            try:
                step(self.child)
            except (ChildEndedError, OSError) as error:
                self._do_without_child(error)

    def _call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        if self.child is not None:
            return self.child.call(function, *arguments, **named)
        return function(*arguments, **named)

    def _do_without_child(self, error: Exception) -> None:
        self.close()
        self.child = None
        _log.warning(WITHOUT_CHILD, error)


def calibrate_in_child(
    frames: Iterable[Frame],
    *,
    options: Options,
    stop_pm: float | None = None,
    progress: "Callable[[CalibrationProgress], bool | None]",
) -> "DistortionModel":
    """Run `stack.calibrate` in another process; frames and progress are handled in this one.

    Parameters
    ----------
    frames : iterable of Frame
        As of `stack.calibrate`.
    options : Options
        How they are processed.
    stop_pm : float, optional
        Predicted error below which no more are read.
    progress : callable
        Told how far it is; ``False`` from it cancels the calibration.

    Returns
    -------
    DistortionModel
        From all usable frames together.

    Raises
    ------
    ChildEndedError
        If the process ends before it is done; where none can be started, this one does the work.
    Exception
        What ``stack.calibrate``, ``frames`` or ``progress`` raise.
    """
    child, left = ChildProcess(_prepare_calibration), iter(frames)
    try:
        try:
            child.wait()
        except (ChildEndedError, OSError) as error:
            _log.warning(WITHOUT_CHILD, error)
            return _calibrate(left, options, stop_pm, progress)
        answers: Answers = {"frame": lambda: next(left, None), "progress": progress}
        model: DistortionModel = child.call(_calibrate_there, options, stop_pm, answers=answers)
    finally:
        child.close()
    return model


def _calibrate_there(options: Options, stop_pm: float | None) -> "DistortionModel":
    frames, progress = iter(partial(ask, "frame"), None), partial(ask, "progress")
    return _calibrate(frames, options, stop_pm, progress)


def _calibrate(
    frames: Iterable[Frame], options: Options, stop_pm: float | None, progress: Any
) -> "DistortionModel":
    stack = importlib.import_module("nion_distortion.stack")
    model: DistortionModel = stack.calibrate(
        frames, options=options, stop_pm=stop_pm, progress=progress
    )
    return model


def _prepare_child() -> None:
    """Import what is heavy, in the other process, and hold its BLAS to one thread."""
    for name in ("pipeline", "gaussian_process"):
        importlib.import_module(f"nion_distortion.{name}")
    blas_limit.enter()


def _prepare_calibration() -> None:
    if hasattr(os, "nice"):
        os.nice(YIELDING)
    _prepare_child()
    importlib.import_module("nion_distortion.stack")
    importlib.import_module("torch").set_num_threads(1)  # its own pool, as that of BLAS
