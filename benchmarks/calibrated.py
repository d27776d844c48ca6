"""How good a calibration is: twenty real-like frames through ``calibrate``, and coil errors."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import numpy.typing as npt

from benchmarks.results import Measured
from benchmarks.samples import samples_of
from benchmarks.scenes import settings_of, sto
from benchmarks.speed import job_ms
from benchmarks.told import TrueNumbers, told
from nion_distortion.distortion import DistortionField
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.gaussian_process.calibration import CalibrationFrame
from nion_distortion.gaussian_process.calibration import calibrated as fitted_together
from nion_distortion.options import TERMS, KnownCrystal
from nion_distortion.stack import calibrate
from simulator.microscope import Microscope, Truth
from simulator.scan import ScanErrors, real_like
from simulator.scoring import Score, score_map

__all__ = ["calibrated", "coils"]

SETTINGS = settings_of(512)
SLOW = replace(SETTINGS, dwell_time_us=4.0)
FRAMES, SEEDS = 20, 6
STEP_PX = 2

MOVED_PX = 0.1
"""By which columns are elsewhere in a frame that is new: less than a good part of their standard
errors would make it one that is known."""

INSIDE = 0.06
"""Margin that is left out of what is called inside, in lengths of the frame's side."""

TRUE = TrueNumbers(
    decay=0.05,
    amplitudes_pm={
        "smooth": (40 / np.sqrt(2), 40 / np.sqrt(2)),
        "line": (0.0, 100.0),
        "fast": (0.0, 10.0),
        "walk": (10.0, 10.0),
        "jitter": (5.0, 5.0),
    },
)
"""Of the real-like scan."""

COIL_SCALE, COIL_SKEW_RAD = (-0.03, 0.015), 0.02
COIL_SEEDS, COIL_FRAMES = 8, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One calibration: whole, inside, and an estimator that is told the truth about the terms."""

    whole: Score
    inside: Score
    told: Score
    wall_s: float
    cpu_s: float


def calibrated(*, quick: bool) -> Mapping[str, Measured]:
    """Calibrate on real-like scans.

    Parameters
    ----------
    quick : bool
        One seed.

    Returns
    -------
    Mapping of str to Measured
        Accuracy of the stationary field, how honest it is, and how long it all takes.
    """
    judged: list[_Judged] = []
    model: DistortionModel | None = None
    for seed in range(1 if quick else SEEDS):
        one, model = _calibration(seed)
        judged.append(one)
    if model is None:
        raise RuntimeError("no seed was run")
    wall_s = [one.wall_s for one in judged]
    cpu_s = median([one.cpu_s for one in judged])
    job = f"one cubic map_coordinates {job_ms():.0f} ms"
    return _accuracy(judged) | {
        "calibrated time": Measured(
            value=median(wall_s),
            beside=f"{cpu_s:.1f} s by the processor's clock; the slowest {max(wall_s):.1f} s;"
            f" {job}",
        ),
        "calibrated update": Measured(value=_least_ms(_update_of(model)), beside=job),
        "calibrated field": Measured(value=_least_ms(model.stationary_field), beside=job),
    }


def coils(*, quick: bool) -> Mapping[str, Measured]:
    """Measure scale and skew of coils against a known crystal, on a sample that drifts.

    Parameters
    ----------
    quick : bool
        Two seeds.

    Returns
    -------
    Mapping of str to Measured
        Largest errors, and errors over their error bars.
    """
    off, claimed = [], []
    for seed in range(2 if quick else COIL_SEEDS):
        model = _coils(seed)
        if model.coils is None:
            raise RuntimeError("a known crystal gave no scale")
        off.append(model.coils.values - [*COIL_SCALE, COIL_SKEW_RAD])
        claimed.append(np.sqrt(np.diag(model.coils.covariance)))
    error, std = np.array(off), np.array(claimed)
    scale, skew = 100 * np.abs(error[:, :2]), np.rad2deg(np.abs(error[:, 2]))
    bars = 100 * std[:, :2].mean(), np.rad2deg(std[:, 2].mean())
    z = float(np.sqrt(np.mean((error / std) ** 2)))
    return {
        "coils scale": Measured(
            value=float(scale.max()), beside=f"of {scale.size}; mean error bar {bars[0]:.4f} %"
        ),
        "coils skew": Measured(
            value=float(skew.max()), beside=f"of {skew.size}; mean error bar {bars[1]:.4f} deg"
        ),
        "coils z": Measured(
            value=abs(z - 1.0), beside=f"z {z:.2f} of {error.size} numbers, {_each_z(error / std)}"
        ),
    }


def _calibration(seed: int) -> tuple[_Judged, DistortionModel]:
    machine = sto(real_like(SETTINGS, seed=seed), seed=seed)
    frames = [machine.shot(SETTINGS, index).frame for index in range(FRAMES)]
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    model = calibrate(frames)
    wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    truth = machine.exposure(SETTINGS, 0).truth
    field = model.stationary_field()
    judged = _Judged(
        whole=_score(field, truth),
        inside=_score(field, truth, inside=True),
        told=_score(told(model, TRUE).stationary_field(), truth, inside=True),
        wall_s=wall_s,
        cpu_s=cpu_s,
    )
    return judged, model


def _score(field: DistortionField, truth: Truth, *, inside: bool = False) -> Score:
    return score_map(
        field.displacement_px,
        field.valid & _inside(field.settings.shape_px) if inside else field.valid,
        truth.stationary_place_px,
        pixel_size_nm=field.settings.pixel_size_nm,
        std_px=field.std_px,
        step_px=STEP_PX,
    )


def _inside(shape_px: tuple[int, int]) -> npt.NDArray[np.bool_]:
    rows, columns = (
        np.abs(np.arange(size) - 0.5 * (size - 1)) < (0.5 - INSIDE) * size for size in shape_px
    )
    return np.asarray(np.logical_and.outer(rows, columns))


def _accuracy(judged: Sequence[_Judged]) -> dict[str, Measured]:
    whole = [one.whole for one in judged]
    inside, told = (_rms([getattr(one, part) for one in judged]) for part in ("inside", "told"))
    claimed = np.sqrt(np.mean([np.square(s.claimed_pm or (np.nan,) * 2) for s in whole], axis=0))
    worst = [score.worst_pm for score in whole]
    z, told_z = (_z(scores) for scores in (whole, [one.told for one in judged]))
    covered = 100 * float(np.mean([score.coverage or np.nan for score in whole]))
    told_all = f"told every amplitude, length and decay: {_pair(told)}"
    return {
        "calibrated share": Measured(
            value=100 * _share(whole),
            beside="each: " + ", ".join(f"{100 * score.share:.2f}" for score in whole),
        ),
        "calibrated rms": Measured(
            value=float(inside.max()), beside=f"{_pair(inside)} (slow/fast); {told_all}"
        ),
        "calibrated worst": Measured(
            value=median(worst), beside="each: " + ", ".join(f"{pm:.1f}" for pm in worst)
        ),
        "calibrated z": Measured(
            value=abs(z - 1.0),
            beside=f"z {z:.2f}, claimed {_pair(claimed)} pm; told every number: z {told_z:.2f}",
        ),
        "calibrated coverage": Measured(value=covered),
    }


def _share(scores: Sequence[Score]) -> float:
    """Pool what is removed: all errors over all distortions."""
    before = np.array([np.square(score.before_pm).sum() for score in scores])
    shares = np.array([score.share for score in scores])
    return float(before @ shares / before.sum())


def _rms(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    rms = np.sqrt(np.mean([np.square(score.rms_pm) for score in scores], axis=0))
    return np.asarray(rms, dtype=np.float64)


def _z(scores: Sequence[Score]) -> float:
    return float(np.sqrt(np.mean([(score.z or np.nan) ** 2 for score in scores])))


def _pair(both: npt.NDArray[np.float64]) -> str:
    return f"{both[0]:.2f}/{both[1]:.2f}"


def _update_of(model: DistortionModel) -> Callable[[], object]:
    if model.lattice is None:
        raise RuntimeError("a calibration came back without a lattice")
    samples = model.samples[-1]  # from one that it knows it would not learn
    moved = replace(samples, observed_px=samples.observed_px + MOVED_PX)
    return partial(model.updated, moved, model.lattice)


def _least_ms(job: Callable[[], object]) -> float:
    durations = []
    for _ in range(12):
        begun_s = time.perf_counter()
        job()
        durations.append(time.perf_counter() - begun_s)
    return 1e3 * min(durations)


def _coils(seed: int) -> DistortionModel:
    """Calibrate against SrTiO3 while it drifts by 1 nm a minute under a restless beam."""
    turn = 0.9 * seed
    drift = np.sin(turn) / 60, np.cos(turn) / 60
    errors = ScanErrors(
        coil_scale=COIL_SCALE,
        coil_skew_rad=COIL_SKEW_RAD,
        drift_nm_s=drift,
        walk_nm=0.005,
        line_jitter_nm=0.002,
        seed=seed,
    )
    frames = _sampled(sto(errors, seed=seed))
    # the simulated cell is exactly this: with what real ones scatter by, bars would be too wide
    named = KnownCrystal.named("SrTiO3 [001]")
    known = KnownCrystal(a_nm=named.a_nm, b_nm=named.b_nm, gamma_deg=named.gamma_deg)
    model = first_model(*frames[0], TERMS, reference=known)
    for frame in frames[1:]:
        model = model.updated(*frame)
    return fitted_together(model, frames)


def _sampled(machine: Microscope) -> list[CalibrationFrame]:
    shots = [samples_of(machine, SLOW, index=index) for index in range(COIL_FRAMES)]
    return [CalibrationFrame(samples, lattice) for samples, lattice, _ in shots]


def _each_z(z: npt.NDArray[np.float64]) -> str:
    slow, fast, skew = np.sqrt(np.mean(z**2, axis=0))
    return f"slow {slow:.2f}, fast {fast:.2f}, skew {skew:.2f}"
