"""Whether the microscope is set up well enough for the distortion to be measured."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from nion_distortion._order import median
from nion_distortion._uncertainty import with_std
from nion_distortion.diagnostics.numbers import PM_PER_NM, Estimate, effective_counts
from nion_distortion.lattice import IndexedColumns

__all__ = ["SetupHint", "Verdict", "setup_hint"]

Array = npt.NDArray[np.float64]
Verdict = Literal["usable", "too coarse", "too few counts"]

FEWEST_COUNTS = 5.0
"""Electrons at the peak of the brightest columns below which weaker ones begin to be missed."""

NARROWEST_SIGMA_PX = 0.8
"""Sigma of a column below which its Gaussian is undersampled (aliased)."""

CENTRED = 0.12
"""Distance from the cell's centre, in cells, within which a sublattice is taken to be centred in
the crystal itself."""

MOST_STRANGERS = 0.2
"""Share of the columns outside the lattice from which it is worth a word."""

CLEAR, CLEAR_PM = 4.0, 5.0
"""Standard deviations, and picometres, both of which an offset has to exceed to be mentioned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupHint:
    """What the frame says about how the microscope is set up.

    Parameters
    ----------
    verdict : {"usable", "too coarse", "too few counts"}
        Whether the distortion can be measured.
    sentence : str
        The verdict with its numbers, and a sign of mistilt where there is one.
    pixels_per_cell : float
        Shorter edge of the cell, px.
    columns : int
        Columns in the lattice.
    effective_counts : Estimate, optional
        Electrons at the peak of the brightest columns; None where the noise does not tell.
    sublattice_offset_pm : tuple of float, optional
        Mean place of the second sublattice relative to the cell's centre, (y, x); None where
        the crystal has no column there.
    sublattice_offset_std_pm : float, optional
        Its standard deviation per axis.
    """

    verdict: Verdict
    sentence: str
    pixels_per_cell: float
    columns: int
    effective_counts: Estimate | None
    sublattice_offset_pm: tuple[float, float] | None = None
    sublattice_offset_std_pm: float | None = None


def setup_hint(indexed: IndexedColumns, pixel_size_nm: float) -> SetupHint:
    """Judge the set-up by an indexed frame.

    Parameters
    ----------
    indexed : IndexedColumns
        Columns of a crystal.
    pixel_size_nm : float
        Side of a pixel.

    Returns
    -------
    SetupHint
        Numbers, a verdict and one sentence.

    Notes
    -----
    On a crystal with a column at the cell's centre (the Ti-O column of SrTiO3 [001]) mistilt moves
    the two kinds of columns apart, the heavy one least; so do a polar sample and a scan whose
    error changes within a cell. The offset is a sign, not a measure, of mistilt.
    """
    cell = float(np.linalg.norm(indexed.lattice.basis_px, axis=1).min())
    counts = effective_counts(indexed.columns, indexed.sublattice)
    sigma = median(indexed.columns.sigma_px)
    verdict: Verdict = "usable"
    if sigma < NARROWEST_SIGMA_PX:
        verdict = "too coarse"
    elif counts is not None and counts.value < FEWEST_COUNTS:
        verdict = "too few counts"
    sentence = (
        f"{verdict}: about {cell:.1f} px per cell, {len(indexed.columns)} columns in the lattice, "
    )
    sentence += _counts_in_words(counts) + _strangers_in_words(indexed)
    offset = _centre_offset(indexed)
    if offset is None:
        return SetupHint(
            verdict=verdict,
            sentence=sentence,
            pixels_per_cell=cell,
            columns=len(indexed.columns),
            effective_counts=counts,
        )
    offset_pm = offset[0] * PM_PER_NM * pixel_size_nm
    std_pm = offset[1] * PM_PER_NM * pixel_size_nm
    length = float(np.hypot(*offset_pm))
    if length > max(CLEAR * std_pm, CLEAR_PM):
        sentence += f"; the sublattices stand {with_std(length, std_pm, 'pm')} off the cell's "
        sentence += "centre, perhaps by a mistilt"
    return SetupHint(
        verdict=verdict,
        sentence=sentence,
        pixels_per_cell=cell,
        columns=len(indexed.columns),
        effective_counts=counts,
        sublattice_offset_pm=(float(offset_pm[0]), float(offset_pm[1])),
        sublattice_offset_std_pm=std_pm,
    )


def _counts_in_words(counts: Estimate | None) -> str:
    if counts is None:
        return "electrons at their peaks not known: the noise does not grow with the brightness"
    return f"{with_std(counts.value, counts.std, 'electrons')} at the peak of the brightest"


def _strangers_in_words(indexed: IndexedColumns) -> str:
    whole = len(indexed.columns) + indexed.unindexed
    if indexed.unindexed <= MOST_STRANGERS * whole:
        return ""
    return (
        f"; {indexed.unindexed} of {whole} columns are not of this lattice (another grain?): "
        "around them the distortion is extrapolated, and its error may be larger than expected"
    )


def _centre_offset(indexed: IndexedColumns) -> tuple[Array, float] | None:
    """Offset of the sublattice nearest the cell's centre, px, and its deviation per axis."""
    away = indexed.lattice.motif - np.floor(indexed.lattice.motif) - 0.5
    nearest = int(np.abs(away).max(axis=1).argmin())
    if np.abs(away[nearest]).max() > CENTRED:
        return None
    variance = 0.0
    for one in (0, nearest):
        mine = indexed.columns.variance_px2[indexed.sublattice == one]
        precision = (1.0 / mine).sum()
        variance += 1.0 / max(float(precision), 1e-12)
    return away[nearest] @ indexed.lattice.basis_px, float(np.sqrt(variance))
