"""How long a frame takes, as a ratio to one cubic ``map_coordinates`` of the same image."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import numpy as np
from scipy import ndimage

from benchmarks.interpolation import apply_cached, compare_interpolations
from benchmarks.results import Measured
from benchmarks.scenes import flyback_microscope, settings_of
from nion_distortion.frame import Frame
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.pipeline import process_frame
from simulator.microscope import Microscope

__all__ = ["apply", "first", "frame", "interpolation", "job_ms"]

LIVE_FRAMES = 2
"""Frames that a live model has seen, beside its first, before time is taken."""


def frame(*, quick: bool) -> Mapping[str, Measured]:
    """Time a live frame, complete to corrected, its model known.

    Parameters
    ----------
    quick : bool
        512 x 512 only.

    Returns
    -------
    Mapping of str to Measured
        One for each size.
    """
    sizes = {512: 3} if quick else {512: 15, 1024: 9, 2048: 5}
    return {f"frame {size}": _live_frame(size, repeats) for size, repeats in sizes.items()}


def first(*, quick: bool) -> Mapping[str, Measured]:
    """Time a first frame, whose hyperparameters have to be found.

    Parameters
    ----------
    quick : bool
        One frame.

    Returns
    -------
    Mapping of str to Measured
        What it costs beyond a live frame.
    """
    settings = settings_of(512)
    microscope = flyback_microscope(settings, sign=1, seed=0)
    shots = [microscope.shot(settings, index).frame for index in range(2 if quick else 4)]
    model = _model(microscope, 512)
    whole_ms = [_timed(partial(process_frame, shot)) for shot in shots]
    live_ms = [_timed(partial(process_frame, shot, model=model)) for shot in shots]
    whole, live = median(whole_ms), median(live_ms)
    beside = f"whole first frame {whole:.0f} ms, live frame {live:.0f} ms"
    return {"first 512": Measured(value=whole - live, beside=beside)}


def apply(*, quick: bool) -> Mapping[str, Measured]:
    """Time the correction by a field that is known.

    Parameters
    ----------
    quick : bool
        512 x 512 only.

    Returns
    -------
    Mapping of str to Measured
        One for each size.
    """
    found = {}
    for size, repeats in ({512: 3} if quick else {512: 21, 1024: 11, 2048: 5}).items():
        ratio, time_ms = apply_cached(size, repeats=repeats)
        beside = f"{time_ms:.1f} ms, the job {time_ms / ratio:.0f} ms"
        found[f"apply {size}"] = Measured(value=ratio, beside=beside)
    return found


def interpolation(*, quick: bool) -> Mapping[str, Measured]:
    """Measure what resampling alone does to positions.

    Parameters
    ----------
    quick : bool
        Fewer repeats.

    Returns
    -------
    Mapping of str to Measured
        Ours, the other ways beside it.
    """
    ways = {way.name: way for way in compare_interpolations(repeats=1 if quick else 5)}
    ours = ways.pop("correct_frame")
    others = ", ".join(f"{name} {way.rms_pm:.3f}" for name, way in ways.items())
    beside = f"worst {ours.worst_pm:.3f} pm; {others} pm rms"
    return {"interpolation position": Measured(value=ours.rms_pm, beside=beside)}


def job_ms() -> float:
    """Time the reference job: it says what a number in milliseconds is worth on this machine.

    Returns
    -------
    float
        One cubic ``map_coordinates`` of 512 x 512, median of nine.
    """
    image = np.random.default_rng(0).random((512, 512)).astype(np.float32)
    places = np.indices(image.shape) + 0.3
    job = partial(ndimage.map_coordinates, image, places, order=3)
    return median(_timed(job) for _ in range(9))


def _live_frame(size: int, repeats: int) -> Measured:
    settings = settings_of(size)
    microscope = flyback_microscope(settings, sign=1, seed=0)
    model = _model(microscope, size)
    places = np.indices(settings.shape_px) + model.stationary_field().displacement_px
    ours, theirs = [], []
    for index in range(repeats + 1):
        shot = microscope.shot(settings, LIVE_FRAMES + 1 + index % 3).frame
        ours.append(_timed(partial(process_frame, shot, model=model)))
        theirs.append(_timed(partial(ndimage.map_coordinates, shot.image, places, order=3)))
    # the first turn compiles, and fills caches
    time_ms, job_ms = median(ours[1:]), median(theirs[1:])
    scan_ms = 1e3 * (settings.frame_time_s or 0.0)
    beside = f"{time_ms:.0f} ms, the job {job_ms:.0f} ms, the scan {scan_ms:.0f} ms"
    return Measured(value=time_ms / job_ms, beside=beside)


def _model(microscope: Microscope, size: int) -> DistortionModel:
    """Learn from a few frames, as a live session does."""
    settings = settings_of(size)
    model = _learnt(microscope.shot(settings).frame, None)
    for index in range(1, 1 + LIVE_FRAMES):
        model = _learnt(microscope.shot(settings, index).frame, model)
    return model


def _learnt(shot: Frame, model: DistortionModel | None) -> DistortionModel:
    report = process_frame(shot, model=model)
    if report.unusable is not None or report.model is None:
        raise RuntimeError(f"frame {shot.index} could not be used: {report.unusable}")
    return report.model


def _timed(job: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    job()
    return 1e3 * (time.perf_counter() - begun_s)
