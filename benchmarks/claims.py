"""How honest expected errors are: claimed against true ones, by kinds of frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.results import Measured
from benchmarks.scenes import settings_of, sto
from nion_distortion.distortion import DistortionField
from nion_distortion.gaussian_process import DistortionModel, refit_amplitudes
from nion_distortion.pipeline import FrameReport, process_frame
from simulator.microscope import Shot
from simulator.scan import ScanErrors, real_like, strong_flyback
from simulator.scoring import Score, score_map

__all__ = ["claims"]

SETTINGS = settings_of(512)
SEEDS = 12
STEP_PX = 3
LIVE_FRAMES, REFITTED_AFTER = 7, 5
LIVE = ("calm", "jitter", "walk", "real-like")

PICTURE, STATIONARY = "picture", "stationary"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One frame: the corrected picture against all errors, D against the stationary ones."""

    kind: str
    picture: Score
    stationary: Score
    worst_pm: float


def claims(*, quick: bool) -> Mapping[str, Measured]:
    """Compare what reports expect with the truth.

    Parameters
    ----------
    quick : bool
        One seed, and no live models.

    Returns
    -------
    Mapping of str to Measured
        How far claim over error is from 1 for each kind of frames; z and coverage pooled.
    """
    seeds = range(1 if quick else SEEDS)
    single = [_single(kind, errors, seed) for seed in seeds for kind, errors in _scenes(seed)]
    found: dict[str, Measured] = {}
    for kind in dict.fromkeys(one.kind for one in single):
        found |= _ratio(f"claims {kind}", [one for one in single if one.kind == kind])
    found |= _pooled("", single)
    if not quick:
        found |= _pooled("live ", [one for seed in range(2) for one in _live(seed)])
    return found


def _scenes(seed: int) -> Iterator[tuple[str, ScanErrors]]:
    """Kinds of frames; what shakes has a strong fly-back as well."""
    lag = strong_flyback(SETTINGS, sign=1, seed=seed)
    yield "calm", lag
    yield "calm", strong_flyback(SETTINGS, sign=-1, seed=seed)
    yield "null", ScanErrors(seed=seed)
    for jitter_nm in (0.002, 0.005, 0.01):
        yield "jitter", replace(lag, line_jitter_nm=jitter_nm)
    for walk_nm in (0.005, 0.01):
        yield "walk", replace(lag, walk_nm=walk_nm)
    yield "real-like", real_like(SETTINGS, seed=seed)


def _single(kind: str, errors: ScanErrors, seed: int) -> _Judged:
    shot = sto(errors, seed=seed).shot(SETTINGS)
    return _judge(kind, process_frame(shot.frame), shot)


def _live(seed: int) -> Iterator[_Judged]:
    """Judge the last of a few frames, the amplitudes found again on the way."""
    last = {kind: errors for kind, errors in _scenes(seed) if kind in LIVE}
    for kind, errors in last.items():
        microscope, model = sto(errors, seed=seed), None
        for index in range(LIVE_FRAMES):
            shot = microscope.shot(SETTINGS, index)
            report = process_frame(shot.frame, model=model)
            model = report.model
            if model is not None and index + 1 == REFITTED_AFTER:
                model = refit_amplitudes(model)
        yield _judge(kind, report, shot)


def _judge(kind: str, report: FrameReport, shot: Shot) -> _Judged:
    if report.unusable is not None or report.model is None or report.field is None:
        raise RuntimeError(f"a frame could not be used: {report.unusable}")
    picture = _score(report.field, shot, stationary=False)
    return _Judged(
        kind=kind,
        picture=picture,
        stationary=_stationary(report.model, shot),
        worst_pm=picture.worst_pm,
    )


def _stationary(model: DistortionModel, shot: Shot) -> Score:
    return _score(model.stationary_field(), shot, stationary=True)


def _score(field: DistortionField, shot: Shot, *, stationary: bool) -> Score:
    """Judge a stationary field by its own deviation, a picture by that of all that is left."""
    truth = shot.truth
    return score_map(
        field.displacement_px,
        field.valid,
        truth.stationary_place_px if stationary else truth.place_px,
        pixel_size_nm=SETTINGS.pixel_size_nm,
        std_px=field.std_px if stationary else np.hypot(field.std_px, field.unremoved_std_px),
        step_px=STEP_PX,
    )


def _ratio(name: str, judged: Sequence[_Judged]) -> dict[str, Measured]:
    """How far the claim is from the error, both rms over the frames."""
    picture, stationary = (
        _claim_over_error([getattr(one, part) for one in judged]) for part in (PICTURE, STATIONARY)
    )
    error = np.sqrt(np.mean([np.hypot(*one.picture.rms_pm) ** 2 for one in judged]))
    worst = np.median([one.worst_pm for one in judged])
    beside = (
        f"claim over error {picture:.2f}, error {error:.2f} pm; stationary field: {stationary:.2f};"
        f" {len(judged)} frames, median worst point {worst:.1f} pm"
    )
    return {name: Measured(value=abs(picture - 1.0), beside=beside)}


def _claim_over_error(scores: Sequence[Score]) -> float:
    claimed = [np.hypot(*(score.claimed_pm or (np.nan, np.nan))) ** 2 for score in scores]
    errors = [np.hypot(*score.rms_pm) ** 2 for score in scores]
    return float(np.sqrt(np.mean(claimed) / np.mean(errors)))


def _pooled(prefix: str, judged: Sequence[_Judged]) -> dict[str, Measured]:
    found: dict[str, Measured] = {}
    for part in (PICTURE, STATIONARY):
        scores = [getattr(one, part) for one in judged]
        z = float(np.sqrt(np.mean([(score.z or np.nan) ** 2 for score in scores])))
        covered = 100 * float(np.mean([score.coverage for score in scores]))
        name = f"claims {prefix}{part}"
        found |= {
            f"{name} z": Measured(
                value=abs(z - 1.0),
                beside=f"z {z:.2f}, claim over error {_claim_over_error(scores):.2f},"
                f" {len(judged)} frames",
            ),
            f"{name} band": Measured(value=abs(covered - 95.0), beside=f"{covered:.1f} %"),
        }
    return found
