"""What columns say of a sample's own displacements, in its own cell, and how well they say it.

A free reference leaves an affine map unknown, which may stretch a picture by a percent: lengths are
therefore taken in units of the sample's own cell, whose true size is known, in the same direction.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.gaussian_process.hyperparameters import prior_variances, unresolved_variance

__all__ = ["SeenColumns", "StrainProfile", "polar_shift", "strain_profile"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))

FEWEST_IN_ROW = 4
"""Columns of a row whose place is used: shorter ones are cut off by the frame's corners."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenColumns:
    """Columns of another sample, with labels.

    Parameters
    ----------
    places_px : ndarray, shape (n, 2)
        Where each is on the sample, as far as it was measured.
    covariance_px2 : ndarray, shape (n, 2, 2)
        Of its fit.
    scan_px : ndarray, shape (n, 2)
        Where the scan saw it.
    true_px : ndarray, shape (n, 2)
        Where it really is.
    cell : ndarray of int, shape (n, 2)
        Its cell.
    sublattice : ndarray of int, shape (n,)
        Its row of the motif.
    """

    places_px: Array
    covariance_px2: Array
    scan_px: Array
    true_px: Array
    cell: Integers
    sublattice: Integers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrainProfile:
    """How much longer cells are than those of the substrate.

    Parameters
    ----------
    step : float
        Strain of all rows from 0 on against the others, from one fit.
    step_std : float
        Its standard deviation.
    rows : ndarray of int, shape (r,)
        Rows of cells.
    strain, std : ndarray, shape (r,)
        Strain of each, from the places of its two rows of columns, and its standard deviation.
    """

    step: float
    step_std: float
    rows: Integers
    strain: Array
    std: Array


def strain_profile(columns: SeenColumns, model: DistortionModel) -> StrainProfile:
    """Measure the strain of cells of rows 0, 1, ... against those of the rows before.

    Parameters
    ----------
    columns : SeenColumns
        Of both layers.
    model : DistortionModel
        What the places were corrected by.

    Returns
    -------
    StrainProfile
        Along the first basis vector, in units of the substrate's cell.

    Notes
    -----
    Both are least-squares fits with the columns' own variances as weights. Their errors are those
    of the columns' fits, of D by the covariance of its weights (the field's ``std_px`` is its
    diagonal), and of what the beam may have done in this frame only, all brought through the fit.
    """
    chosen = columns.sublattice == 0
    i, j = columns.cell[chosen].T
    row, past = i.astype(np.float64), np.maximum(i, 0).astype(np.float64)
    whole = np.c_[np.ones(len(row)), row, j, past]
    along = np.linalg.lstsq(whole, columns.places_px[chosen], rcond=None)[0][1]
    along /= np.linalg.norm(along)
    places, covariance = columns.places_px[chosen] @ along, _covariance(columns, model, along)
    covariance = covariance[np.ix_(chosen, chosen)]
    weights = 1.0 / _of_fits(columns, along)[chosen]
    fitted, spread = _fit(whole, places, weights, covariance)
    step, step_std = _ratio(fitted, spread, np.eye(4)[3:], np.eye(4)[1])
    rows = np.flatnonzero(np.bincount(i - i.min()) >= FEWEST_IN_ROW) + i.min()
    used = np.isin(i, rows)
    each = np.c_[i[used, None] == rows, j[used]].astype(np.float64)
    fitted, spread = _fit(each, places[used], weights[used], covariance[np.ix_(used, used)])
    spacing, substrate = _spacings(rows, len(fitted))
    strain, std = _ratio(fitted, spread, spacing - substrate, substrate)
    return StrainProfile(
        step=float(step[0]), step_std=float(step_std[0]), rows=rows[:-1], strain=strain, std=std
    )


def polar_shift(columns: SeenColumns) -> float:
    """Average how far each B column stands off the centre of its four A columns.

    Parameters
    ----------
    columns : SeenColumns
        Of a crystal with A columns at the corners of the cell, and B at its centre.

    Returns
    -------
    float
        Along the first basis vector, in units of its length in the same cells.
    """
    corner = columns.sublattice == 0
    places = {
        (int(i), int(j)): place
        for (i, j), place in zip(columns.cell[corner], columns.places_px[corner], strict=True)
    }
    off, lengths = [], []
    for (i, j), place in zip(columns.cell[~corner], columns.places_px[~corner], strict=True):
        if all((i + di, j + dj) in places for di, dj in CORNERS):
            four = np.array([places[i + di, j + dj] for di, dj in CORNERS])
            off.append(place - four.mean(axis=0))
            lengths.append(0.5 * (four[2] + four[3] - four[0] - four[1]))
    along = np.mean(lengths, axis=0)
    return float(np.mean(off, axis=0) @ along / (along @ along))


def _of_fits(columns: SeenColumns, along: Array) -> Array:
    return np.asarray(np.einsum("a,nab,b->n", along, columns.covariance_px2, along))


def _covariance(columns: SeenColumns, model: DistortionModel, along: Array) -> Array:
    """Return the covariance (n, n) of the columns' places along one direction."""
    design = model.basis.design(columns.scan_px)
    size = model.basis.stationary_size
    result = np.diag(_of_fits(columns, along))
    axes = zip(along**2, model.stationary.covariance, model.hyperparameters.logs, strict=True)
    for share, weights, logs in axes:
        own = prior_variances(model.basis, logs)[0][size:]
        result += share * (design[:size].T @ weights @ design[:size])
        result += share * (design[size:].T * own) @ design[size:]
        result += share * unresolved_variance(model.basis, logs) * np.eye(len(result))
    return np.asarray(result)


def _fit(known: Array, values: Array, weights: Array, covariance: Array) -> tuple[Array, Array]:
    """Fit by weighted least squares; the covariance of what is fitted holds for any weights."""
    weighted = known * weights[:, None]
    solve = np.linalg.solve(weighted.T @ known, weighted.T)
    return solve @ values, solve @ covariance @ solve.T


def _spacings(rows: Integers, unknowns: int) -> tuple[Array, Array]:
    """Return what makes of the rows' places their spacings, and the mean spacing before row 0."""
    spacing = np.zeros((len(rows) - 1, unknowns))
    numbers = np.arange(len(rows) - 1)
    spacing[numbers, numbers], spacing[numbers, numbers + 1] = -1.0, 1.0
    before = np.flatnonzero(rows <= 0)
    line = np.c_[np.ones(len(before)), rows[before]]
    substrate = np.zeros(unknowns)
    substrate[before] = np.linalg.pinv(line)[1]
    return spacing, substrate


def _ratio(fitted: Array, spread: Array, above: Array, below: Array) -> tuple[Array, Array]:
    """Divide linear combinations (k, n) of what was fitted by one (n,), with standard errors."""
    length = float(below @ fitted)
    ratio = above @ fitted / length
    slope = (above - ratio[:, None] * below) / length
    return ratio, np.sqrt(np.einsum("kn,nm,km->k", slope, spread, slope))
