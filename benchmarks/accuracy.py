"""How much distortion one frame's field removes, and how much it invents, by the truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
import numpy.typing as npt

from benchmarks.results import Measured
from benchmarks.scenes import flyback_microscope, settings_of, sto
from benchmarks.told import TrueNumbers, told
from nion_distortion.distortion import DistortionField
from nion_distortion.pipeline import FrameReport, process_frame
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors
from simulator.scoring import Score, score_map

__all__ = ["flyback", "null"]

Place = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

SIGNS = {"lag": 1, "overshoot": -1}

TRUE = {
    sign: TrueNumbers(
        decay=0.03,
        amplitudes_pm={"smooth": (40 / np.sqrt(2), 40 / np.sqrt(2)), "line": (0.0, line_pm)},
    )
    for sign, line_pm in ((1, 200.0), (-1, 150.0))
}
"""Of the scan with a strong fly-back."""


def flyback(*, quick: bool) -> Mapping[str, Measured]:
    """Score the stationary field of single frames with a strong fly-back.

    Parameters
    ----------
    quick : bool
        One frame for each sign.

    Returns
    -------
    Mapping of str to Measured
        Three numbers for each sign, and how honest the report is about what is left.
    """
    found: dict[str, Measured] = {}
    claims: list[float] = []
    for name, sign in SIGNS.items():
        judged = [_judge_flyback(sign, seed) for seed in range(1 if quick else 4)]
        scores = [one.score for one in judged]
        claims += [one.claim for one in judged]
        shares = [100 * score.share for score in scores]
        worst = [score.worst_pm for score in scores]
        known = [one.told for one in judged]
        beside = (
            f"left {_left(scores)} pm rms (slow/fast), {_claims(scores)}; told every amplitude,"
            f" length and decay: {_left(known)} pm, {100 * mean(s.share for s in known):.3f} %"
        )
        found |= {
            f"flyback {name} mean": Measured(value=mean(shares), beside=beside),
            f"flyback {name} least": Measured(value=min(shares)),
            f"flyback {name} worst": Measured(
                value=median(worst), beside="each: " + ", ".join(f"{pm:.1f}" for pm in worst)
            ),
        }
    each = ", ".join(f"{claim:.2f}" for claim in claims)
    return found | {"flyback claim": Measured(value=mean(claims), beside=f"each: {each}")}


def null(*, quick: bool) -> Mapping[str, Measured]:
    """Score the fields of frames with which nothing is wrong.

    Parameters
    ----------
    quick : bool
        Three frames.

    Returns
    -------
    Mapping of str to Measured
        False correction, claim, and one over the other.
    """
    settings = settings_of(512)
    scores = []
    for seed in range(3 if quick else 24):
        shot, report = _processed(sto(ScanErrors(), seed=seed), seed)
        scores.append(_score(report.field, shot.truth.place_px))
    false = [float(np.sqrt(np.mean([s.rms_pm[a] ** 2 for s in scores]))) for a in range(2)]
    claims = [s.claimed_pm or (np.nan, np.nan) for s in scores]
    claimed = [float(np.sqrt(np.mean([claim[a] ** 2 for claim in claims]))) for a in range(2)]
    z = float(np.sqrt(np.mean([(s.z or np.nan) ** 2 for s in scores])))
    worst = max(max(s.rms_pm) for s in scores)
    pixel_pm = 1e3 * settings.pixel_size_nm
    return {
        "null false": Measured(
            value=max(false),
            beside=f"{false[0]:.2f}/{false[1]:.2f} (slow/fast), worst frame {worst:.2f};"
            f" a pixel is {pixel_pm:.1f} pm",
        ),
        "null claimed": Measured(
            value=max(claimed), beside=f"{claimed[0]:.2f}/{claimed[1]:.2f} (slow/fast)"
        ),
        "null z": Measured(value=z, beside=_claims(scores)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One frame: its stationary field, the report's claim, and one that is told the truth."""

    score: Score
    claim: float
    told: Score


def _judge_flyback(sign: int, seed: int) -> _Judged:
    settings = settings_of(512)
    shot, report = _processed(flyback_microscope(settings, sign=sign, seed=seed), seed)
    if report.model is None or report.corrected_pm is None:
        raise RuntimeError("a usable frame came back without a model")
    left = _score(report.field, shot.truth.place_px).rms_pm
    claim = report.corrected_pm.value / float(np.hypot(*left))
    place, known = shot.truth.stationary_place_px, told(report.model, TRUE[sign])
    return _Judged(
        score=_score(report.model.stationary_field(), place),
        claim=claim,
        told=_score(known.stationary_field(), place),
    )


def _processed(microscope: Microscope, seed: int) -> tuple[Shot, FrameReport]:
    shot = microscope.shot(settings_of(512))
    report = process_frame(shot.frame)
    if report.unusable is not None:
        raise RuntimeError(f"the frame of seed {seed} could not be used: {report.unusable}")
    return shot, report


def _score(field: DistortionField | None, place: Place) -> Score:
    if field is None:
        raise RuntimeError("a usable frame came back without a field")
    return score_map(
        field.displacement_px,
        field.valid,
        place,
        pixel_size_nm=field.settings.pixel_size_nm,
        std_px=field.std_px,
    )


def _left(scores: Sequence[Score]) -> str:
    slow, fast = np.sqrt(np.mean([np.square(score.rms_pm) for score in scores], axis=0))
    return f"{slow:.2f}/{fast:.2f}"


def _claims(scores: Sequence[Score]) -> str:
    z = np.sqrt(np.mean([(score.z or np.nan) ** 2 for score in scores]))
    covered = np.mean([score.coverage for score in scores if score.coverage is not None])
    return f"z {z:.2f}, 95 % band covers {100 * covered:.1f} %"
