"""A calibration from images of SrTiO3 on other samples: their displacements beside the true ones.

The polar shift of BaTiO3 and the strain step of PbTiO3 on SrTiO3, at other rotations, and scattered
columns without a lattice. Columns are found in the frame as it was scanned, their places then
corrected, and in the corrected frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.labels import (
    labelled_corrected,
    labelled_raw,
    labelled_undone,
    off_px,
    with_claims_of,
)
from benchmarks.results import Measured
from benchmarks.scenes import sto
from benchmarks.strain import SeenColumns, StrainProfile, polar_shift, strain_profile
from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.options import Options
from nion_distortion.pipeline import FrameReport, measure_frame, process_frame
from nion_distortion.stack import calibrate
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors, strong_flyback
from simulator.scoring import Score, score_map
from simulator.specimen import Specimen, make_specimen

__all__ = ["transfer"]

Array = npt.NDArray[np.float64]

SCAN = ScanSettings(
    shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=60.0
)
PIXEL_PM = 1e3 * SCAN.pixel_size_nm
LEARNT_FROM, REALISATIONS, WALKS = 5, 20, 8
WALK_NM = 0.01

STRAIN, SUBSTRATE_PM = 0.064, 390.5
"""By which a cell of PbTiO3 is longer than one of SrTiO3, and the length of the latter."""

POLAR_PM, POLAR_CELL_PM = 30.0, 403.6

UNKNOWN = Options(sample="unknown")

WAYS = ("raw", "corrected")
"""Where columns are found."""


class Scattered(NamedTuple):
    """Columns without a lattice: rms distance of their places from the true ones, per axis."""

    corrected: float
    undone: float
    claimed: float
    """What their fits claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Realisation:
    """One calibration on three samples; errors in pm."""

    steps_pm: Mapping[str, float]
    shifts_pm: Mapping[str, float]
    profiles: Mapping[str, Array]
    left: Score
    scattered_pm: Scattered


def transfer(*, quick: bool) -> Mapping[str, Measured]:
    """Learn on SrTiO3, then measure a polar shift and a strain step at other rotations.

    Parameters
    ----------
    quick : bool
        Two realisations, and no walks.

    Returns
    -------
    Mapping of str to Measured
        Errors of both, corrected by D alone; not corrected beside it.
    """
    found = [_realisation(seed) for seed in range(2 if quick else REALISATIONS)]
    steps, shifts = [one.steps_pm for one in found], [one.shifts_pm for one in found]
    told: dict[str, Measured] = {}
    for way in WAYS:
        told |= _told(f"{way} step", [one[way] for one in steps], _beside(steps))
        told |= _told(f"{way} shift", [one[way] for one in shifts], _beside(shifts))
        told |= _chi2(way, [one.profiles for one in found])
    beyond = [one["raw"] - one["perfect"] for one in shifts]
    told |= _told("scan shift", beyond)
    left = [one.left for one in found]
    told |= _left(left) | _claim("claim", left)
    told |= _scattered([one.scattered_pm for one in found])
    if not quick:
        told |= _claim("walk-claim", [_walked(seed) for seed in range(WALKS)])
    return told


def _realisation(seed: int) -> _Realisation:
    errors = _errors(seed)
    model = _learnt(errors, seed)
    turn = 0.3 + 0.2 * seed
    strained = make_specimen("pto_sto", rotation_rad=turn, seed=seed)
    polar = make_specimen("batio3_polar", rotation_rad=turn, seed=seed)
    shot, report = _applied(strained, errors, seed, model)
    profiles = {
        way: strain_profile(columns, model) for way, columns in _columns(shot, report).items()
    }
    shot, report = _applied(polar, errors, seed, model)
    perfect = Microscope(polar, seed=100 + seed).shot(SCAN, LEARNT_FROM)
    seen = _columns(shot, report) | {"perfect": labelled_undone(perfect)}
    return _Realisation(
        steps_pm={way: SUBSTRATE_PM * (one.step - STRAIN) for way, one in profiles.items()},
        shifts_pm={way: POLAR_CELL_PM * polar_shift(one) - POLAR_PM for way, one in seen.items()},
        profiles={way: _squares(one) for way, one in profiles.items()},
        left=_score(shot, report),
        scattered_pm=_without_lattice(errors, seed, model),
    )


def _errors(seed: int) -> ScanErrors:
    """Return the strong fly-back with the slope that it has in a frame of twice this width."""
    errors = strong_flyback(SCAN, sign=1 if seed % 2 else -1, seed=seed)
    return replace(errors, line_flyback_nm=(0.0, 0.5 * errors.line_flyback_nm[1]))


def _learnt(errors: ScanErrors, seed: int) -> DistortionModel:
    machine = sto(errors, seed=seed)
    return calibrate([machine.shot(SCAN, index).frame for index in range(LEARNT_FROM)])


def _applied(
    specimen: Specimen, errors: ScanErrors, seed: int, model: DistortionModel
) -> tuple[Shot, FrameReport]:
    shot = Microscope(specimen, errors, seed=100 + seed).shot(SCAN, LEARNT_FROM)
    return shot, process_frame(shot.frame, model=model, options=UNKNOWN)


def _columns(shot: Shot, report: FrameReport) -> dict[str, SeenColumns]:
    """Find the columns in both frames; those of the frame as it is show what was wrong."""
    if report.corrected is None:
        raise RuntimeError(f"a sample was not corrected: {report.unusable}")
    raw, corrected = labelled_raw(shot, report), labelled_corrected(shot, report.corrected)
    return {
        "raw": raw,
        "corrected": corrected,
        "corrected, claims of raw": with_claims_of(raw, corrected),
        "undone": labelled_undone(shot),
    }


def _squares(profile: StrainProfile) -> Array:
    truth = np.where(profile.rows >= 0, STRAIN, 0.0)
    return np.asarray(((profile.strain - truth) / profile.std) ** 2)


def _score(shot: Shot, report: FrameReport) -> Score:
    if report.field is None or report.corrected is None:
        raise RuntimeError(f"a sample was not corrected: {report.unusable}")
    return score_map(
        report.field.displacement_px,
        report.field.valid,
        shot.truth.place_px,
        pixel_size_nm=SCAN.pixel_size_nm,
        std_px=report.corrected.std_px,
    )


def _without_lattice(errors: ScanErrors, seed: int, model: DistortionModel) -> Scattered:
    """Correct scattered columns, after making sure of what they are."""
    specimen = make_specimen("sto_001", vacancy_fraction=0.9, seed=seed)
    shot, report = _applied(specimen, errors, seed, model)
    if _has_lattice(shot.frame, model):
        raise RuntimeError("the sample without a lattice has one")
    corrected, undone = labelled_raw(shot, report), labelled_undone(shot)
    bright = corrected.sublattice == 0
    variance = np.trace(corrected.covariance_px2[bright], axis1=1, axis2=2) / 2
    claimed = PIXEL_PM * float(np.sqrt(variance.mean()))
    return Scattered(_off_pm(corrected), _off_pm(undone), claimed)


def _off_pm(columns: SeenColumns) -> float:
    return PIXEL_PM * float(np.sqrt(np.mean(np.square(off_px(columns)))))


def _has_lattice(frame: Frame, model: DistortionModel) -> bool:
    try:
        measure_frame(frame, model=model)
    except UnusableFrameError:
        return False
    return True


def _walked(seed: int) -> Score:
    """Correct the polar sample under a beam that walks in every frame, in this one as well."""
    errors = replace(_errors(seed), walk_nm=WALK_NM)
    specimen = make_specimen("batio3_polar", rotation_rad=0.3 + 0.2 * seed, seed=seed)
    return _score(*_applied(specimen, errors, seed, _learnt(errors, seed)))


def _told(name: str, errors_pm: Sequence[float], beside: str = "") -> dict[str, Measured]:
    mean, sd, bar = _mean(errors_pm)
    said = f"{mean:.2f} +- {bar:.2f} pm, {len(errors_pm)} realisations"
    return {
        f"transfer {name}": Measured(value=abs(mean), beside=said + beside),
        f"transfer {name}-bias": Measured(value=abs(mean) / bar),
        f"transfer {name}-sd": Measured(value=sd),
    }


def _mean(errors_pm: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, standard deviation, and the mean's standard error."""
    sd = float(np.std(errors_pm, ddof=1))
    return float(np.mean(errors_pm)), sd, sd / float(np.sqrt(len(errors_pm)))


def _beside(errors_pm: Sequence[Mapping[str, float]]) -> str:
    names = {"undone": "not corrected", "perfect": "in a perfect scan"}
    said = ""
    for way, name in names.items():
        if way in errors_pm[0]:
            mean, sd, bar = _mean([one[way] for one in errors_pm])
            said += f"; {name} {mean:.2f} +- {bar:.2f}, sd {sd:.2f}"
    return said


def _chi2(way: str, squares: Sequence[Mapping[str, Array]]) -> dict[str, Measured]:
    pooled = np.concatenate([one[way] for one in squares])
    each = [one[way].mean() for one in squares]
    beside = (
        f"chi^2 {pooled.mean():.2f} of {len(pooled)} points; frames {min(each):.1f} to"
        f" {max(each):.1f}"
    )
    other = f"{way}, claims of raw"
    if other in squares[0]:
        own = np.concatenate([one[other] for one in squares]).mean()
        beside += f"; with what fits in the frame as scanned claim: {own:.2f}"
    return {f"transfer {way} chi2": Measured(value=abs(float(pooled.mean()) - 1.0), beside=beside)}


def _left(scores: Sequence[Score]) -> dict[str, Measured]:
    length, before = _length([one.rms_pm for one in scores]), [one.before_pm for one in scores]
    worst = np.median([one.worst_pm for one in scores])
    said = f"of {_length(before):.1f} pm; median worst point {worst:.1f} pm"
    return {"transfer left": Measured(value=length, beside=said)}


def _scattered(found: Sequence[Scattered]) -> dict[str, Measured]:
    corrected, undone, claimed = np.sqrt(np.mean(np.square(found), axis=0))
    said = f"not corrected {undone:.1f} pm; their fits claim {claimed:.1f} pm"
    return {"transfer no-lattice": Measured(value=float(corrected), beside=said)}


def _claim(name: str, scores: Sequence[Score]) -> dict[str, Measured]:
    claimed = _length([one.claimed_pm or (np.nan, np.nan) for one in scores])
    true = _length([one.rms_pm for one in scores])
    said = f"claimed {claimed:.2f} pm, true {true:.2f} pm, {len(scores)} realisations"
    return {f"transfer {name}": Measured(value=abs(claimed / true - 1.0), beside=said)}


def _length(both: Sequence[tuple[float, float]]) -> float:
    """Pool rms vectors to an rms length."""
    return float(np.sqrt(np.mean(np.square(both).sum(axis=1))))
