"""What is left, and what is claimed, against frames, dose, view, fly-back and pixels per cell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.results import Measured
from benchmarks.scenes import settings_of, sto
from benchmarks.sections import (
    BEST,
    CELLS_PX,
    DOSES,
    FRAMES,
    LAGS_NM,
    SAMPLED_COUNTS,
    SECTIONS,
    SIDES_PX,
    VIEWS_NM,
    Section,
)
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import refit_amplitudes
from nion_distortion.pipeline import process_frame
from simulator.microscope import Truth
from simulator.scan import ScanErrors, real_like, strong_flyback
from simulator.scoring import Score, score_map

__all__ = ["dose", "frames", "sampling", "strength", "view"]

Cells = Mapping[str, Measured]

SETTINGS = settings_of(512)
SEEDS = 4
REFITTED_AFTER = 5
STEP_PX = 2
AS_GOOD = 1.1
"""Four frames do not tell rms errors apart that differ by less."""

COUNTS = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pooled:
    """Some scores together, rms or median, as the tables show them."""

    scores: Sequence[Score]
    refused: int

    @classmethod
    def of(cls, tried: Sequence[Score | None]) -> "_Pooled":
        scores = [one for one in tried if one is not None]
        return cls(scores=scores, refused=len(tried) - len(scores))

    @property
    def left(self) -> str:
        return _pair([score.rms_pm for score in self.scores])

    @property
    def claimed(self) -> str:
        return _pair([score.claimed_pm or (np.nan, np.nan) for score in self.scores])

    @property
    def z(self) -> str:
        return f"{np.sqrt(np.mean([(score.z or np.nan) ** 2 for score in self.scores])):.2f}"

    @property
    def worst(self) -> str:
        return f"{np.median([score.worst_pm for score in self.scores]):.1f}"

    @property
    def removed(self) -> str:
        before = np.array([np.square(score.before_pm).sum() for score in self.scores])
        if before.max() < 1e-12:
            return "-"
        return f"{100 * before @ [score.share for score in self.scores] / before.sum():.2f}"

    @property
    def count(self) -> str:
        refused = f", {self.refused} refused" if self.refused else ""
        return f"{len(self.scores)}{refused}"

    @property
    def length_pm(self) -> float:
        if not self.scores:
            return np.inf
        return float(np.sqrt(np.mean([np.square(score.rms_pm).sum() for score in self.scores])))


def frames(*, quick: bool) -> Cells:
    """Learn from more and more real-like frames.

    Parameters
    ----------
    quick : bool
        One realisation, five frames.

    Returns
    -------
    Mapping of str to Measured
        The cells of its table.
    """
    (section,) = _sections("frames")
    wanted = [count for count in FRAMES if count <= 5 or not quick]
    runs = [dict(_run(seed, wanted)) for seed in _seeds(quick)]
    found: dict[str, Measured] = {}
    for count in wanted:
        stationary = _Pooled.of([run[count][0] for run in runs])
        picture = _Pooled.of([run[count][1] for run in runs])
        texts = [stationary.left, stationary.claimed, stationary.z, stationary.removed]
        found |= _row(section, f"{count}", [*texts, picture.left, picture.claimed, picture.count])
    return found


def dose(*, quick: bool) -> Cells:
    """Fit single frames of few and of many electrons.

    Parameters
    ----------
    quick : bool
        One realisation.

    Returns
    -------
    Mapping of str to Measured
        The cells of its table.
    """
    scan, seeds = SETTINGS, _seeds(quick)
    return _column(
        "dose", {f"{counts}": [_single(scan, counts, n) for n in seeds] for counts in DOSES}
    )


def view(*, quick: bool) -> Cells:
    """Fit single frames of small and of large fields of view.

    Parameters
    ----------
    quick : bool
        One realisation.

    Returns
    -------
    Mapping of str to Measured
        The cells of its table.
    """
    scans = {f"{nm}": replace(SETTINGS, field_of_view_nm=float(nm)) for nm in VIEWS_NM}
    seeds = _seeds(quick)
    return _column(
        "view", {row: [_single(scan, COUNTS, n) for n in seeds] for row, scan in scans.items()}
    )


def strength(*, quick: bool) -> Cells:
    """Fit single frames with weak and with strong fly-backs.

    Parameters
    ----------
    quick : bool
        One realisation.

    Returns
    -------
    Mapping of str to Measured
        The cells of its table.
    """
    (section,) = _sections("strength")
    return _column(
        "strength",
        {
            row: [_single(SETTINGS, COUNTS, n, lag_nm=lag) for n in _seeds(quick)]
            for row, lag in zip(section.rows, LAGS_NM, strict=True)
        },
    )


def sampling(*, quick: bool) -> Cells:
    """Spread the same electrons over few and over many pixels.

    Parameters
    ----------
    quick : bool
        One realisation, without the largest frames.

    Returns
    -------
    Mapping of str to Measured
        The cells of its table.
    """
    (section,) = _sections("sampling")
    sides = SIDES_PX[:3] if quick else SIDES_PX
    found: dict[str, Measured] = {}
    for counts in SAMPLED_COUNTS:
        column = f"{counts} electrons"
        lengths_pm = {}
        for row, side in zip(CELLS_PX, sides, strict=False):
            scan = replace(SETTINGS, shape_px=(side, side))
            here = counts * (SETTINGS.shape_px[0] / side) ** 2
            pooled = _Pooled.of([_single(scan, here, seed) for seed in _seeds(quick)])
            lengths_pm[row] = pooled.length_pm
            text = f"{pooled.left} ({pooled.claimed}), {pooled.count}"
            found[section.key(row, column)] = Measured(beside=text)
        found[section.key(BEST, column)] = Measured(beside=_best(lengths_pm))
    return found


def _best(lengths_pm: Mapping[str, float]) -> str:
    """Name the rows that leave as little as the best one, as far as so few frames tell."""
    limit_pm = AS_GOOD * min(lengths_pm.values())
    return ", ".join(row for row, length_pm in lengths_pm.items() if length_pm <= limit_pm)


def _sections(case: str) -> tuple[Section, ...]:
    return tuple(section for section in SECTIONS if section.case == case)


def _seeds(quick: bool) -> range:  # noqa: FBT001
    return range(1 if quick else SEEDS)


def _row(section: Section, row: str, texts: Sequence[str]) -> dict[str, Measured]:
    cells = zip(section.head[1:], texts, strict=True)
    return {section.key(row, column): Measured(beside=text) for column, text in cells}


def _column(case: str, tried: Mapping[str, Sequence[Score | None]]) -> Cells:
    """Fill a table whose rows are values of one parameter."""
    (section,) = _sections(case)
    found: dict[str, Measured] = {}
    for row, scores in tried.items():
        one = _Pooled.of(scores)
        texts = ["-"] * 5
        if one.scores:
            texts = [one.left, one.claimed, one.z, one.worst, one.removed]
        found |= _row(section, row, [*texts, one.count])
    return found


def _pair(both: Sequence[tuple[float, float]]) -> str:
    if not both:
        return "-"
    slow, fast = np.sqrt(np.mean(np.square(both), axis=0))
    return f"{slow:.2f}/{fast:.2f}"


def _single(
    scan: ScanSettings, counts: float, seed: int, *, lag_nm: float | None = None
) -> Score | None:
    """Score the stationary field of one frame, or say that it was refused."""
    shot = sto(_errors(scan, seed, lag_nm), seed=seed, counts=counts).shot(scan)
    report = process_frame(shot.frame)
    if report.unusable is not None or report.model is None:
        return None
    return _stationary(report.model.stationary_field(), shot.truth)


def _errors(scan: ScanSettings, seed: int, lag_nm: float | None) -> ScanErrors:
    """Return a share of the field of view, or a given lag at the line start of 16 nm."""
    share = scan.field_of_view_nm / SETTINGS.field_of_view_nm
    errors = strong_flyback(scan, sign=-1 if seed % 2 else 1, smooth_nm=0.04 * share, seed=seed)
    if lag_nm is None:
        return replace(errors, line_flyback_nm=(0.0, share * errors.line_flyback_nm[1]))
    lags = strong_flyback(scan, smooth_nm=0.04, seed=seed)  # by 0.2 nm
    return replace(lags, line_flyback_nm=(0.0, lag_nm / 0.2 * lags.line_flyback_nm[1]))


def _run(seed: int, wanted: Sequence[int]) -> Iterator[tuple[int, tuple[Score, Score]]]:
    """Score the stationary field and the newest picture after so many frames."""
    machine, model = sto(real_like(SETTINGS, seed=seed), seed=seed), None
    for index in range(max(wanted)):
        shot = machine.shot(SETTINGS, index)
        report = process_frame(shot.frame, model=model)
        model = report.model
        if report.unusable is not None or model is None or report.field is None:
            raise RuntimeError(f"a frame could not be used: {report.unusable}")
        if model.frames == REFITTED_AFTER:
            model = refit_amplitudes(model)
        if model.frames in wanted:
            picture = score_map(
                report.field.displacement_px,
                report.field.valid,
                shot.truth.place_px,
                pixel_size_nm=SETTINGS.pixel_size_nm,
                std_px=np.hypot(report.field.std_px, report.field.unremoved_std_px),
                step_px=STEP_PX,
            )
            yield model.frames, (_stationary(model.stationary_field(), shot.truth), picture)


def _stationary(field: DistortionField, truth: Truth) -> Score:
    return score_map(
        field.displacement_px,
        field.valid,
        truth.stationary_place_px,
        pixel_size_nm=field.settings.pixel_size_nm,
        std_px=field.std_px,
        step_px=STEP_PX,
    )
