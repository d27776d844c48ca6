"""Residuals of columns that the fit has not used: validation of a frame whose truth is unknown."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from scipy.spatial import KDTree

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.atoms import AtomColumns, estimate_noise, find_columns
from nion_distortion.atoms.drawing import TAIL_RADIUS
from nion_distortion.correction import CorrectedFrame, correct_frame
from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import Frame, UnusableFrameError
from nion_distortion.gaussian_process import first_model
from nion_distortion.gaussian_process.linearisation import crystal_scale
from nion_distortion.lattice import IndexedColumns, Lattice, index_columns
from nion_distortion.options import TERMS, Options
from nion_distortion.pipeline import process_frame
from nion_distortion.scan_places import scan_places

__all__ = [
    "HeldOut",
    "Withheld",
    "erase_columns",
    "held_out_residual",
    "some_rows",
    "withheld_residual",
]

Array = npt.NDArray[np.float64]

CORE_SIGMA = 3.0
"""Pixels within this many sigma of an erased column, and nearest to it, are replaced by background
and noise; farther away its modelled intensity is subtracted."""

SAME_COLUMN = 0.25
"""Two positions closer than this share of the nearest-neighbour distance are the same column."""

RIM_SIGMA = 2.5
"""Columns closer than this many sigma to pixels that are not valid are not measured."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Withheld:
    """Residuals of columns that are in the image but were withheld from the fit.

    Parameters
    ----------
    residual_px : ndarray, shape (n, 2)
        Their places on the sample less those that the model predicts.
    std_px : ndarray, shape (n, 2)
        Standard deviation that the model predicts for it, with the columns' own fit error.
    """

    residual_px: Array
    std_px: Array

    def __post_init__(self) -> None:
        residual = as_array("residual_px", self.residual_px, (None, 2))
        object.__setattr__(self, "residual_px", residual)
        object.__setattr__(self, "std_px", as_array("std_px", self.std_px, residual.shape))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def z(self) -> Array:
        """Residual over its standard deviation, shape (n, 2)."""
        z: Array = self.residual_px / self.std_px
        return z


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Residuals of columns that were erased from the image before the fit.

    Parameters
    ----------
    erased : int
        Columns that were erased.
    found : int
        Those of them that were found again in the corrected original.
    refitted : int
        Erased columns that were found in the image nevertheless; they are left out.
    raw_pm, corrected_pm : tuple of float
        Their residual against the best lattice, rms (slow, fast), in the frame as scanned and
        after correction.
    fitted_pm : tuple of float
        The same of the columns that were fitted, after correction.
    """

    erased: int
    found: int
    refitted: int
    raw_pm: tuple[float, float]
    corrected_pm: tuple[float, float]
    fitted_pm: tuple[float, float]


def held_out_residual(
    frame: Frame,
    *,
    rng: np.random.Generator,
    share: float = 0.2,
    options: Options | None = None,
) -> HeldOut:
    """Erase some columns from a frame, fit it, and measure them in the corrected original.

    Parameters
    ----------
    frame : Frame, image of shape (ny, nx)
        The frame as scanned.
    rng : numpy.random.Generator
        Chooses the columns and draws the noise that replaces them.
    share : float, default: 0.2
        How many of the indexed columns are erased.
    options : Options, optional
        How the frame is processed.

    Returns
    -------
    HeldOut
        Residuals before and after.

    Raises
    ------
    UnusableFrameError
        If the frame, or what is left of it, cannot be measured, or no erased column is found
        again.
    """
    raw = _indexed(frame.image)
    chosen = np.zeros(len(raw.columns), dtype=bool)
    chosen[rng.choice(len(chosen), round(share * len(chosen)), replace=False)] = True
    image = erase_columns(frame.image, raw.columns, ~chosen, rng=rng)
    blind = replace(frame, image=image, provenance=dict(frame.provenance))
    report = process_frame(blind, options=options)
    if report.unusable is not None or report.field is None or report.indexed is None:
        raise UnusableFrameError(report.unusable or "nothing was corrected")
    radius = SAME_COLUMN * _spacing_px(raw.columns.positions_px)
    seen = raw.columns.positions_px
    refitted = _nearest(report.indexed.columns.positions_px, seen, radius) >= 0
    held_out = chosen & ~refitted
    # a field of its own frame: the original is the same scan
    corrected = correct_frame(replace(frame, frame_id=report.field.frame_id), report.field)
    after, places = _measured(corrected)
    match = _nearest(places, seen, radius)
    found = held_out & (match >= 0)
    fitted = ~chosen & refitted & (match >= 0)
    if not (found.any() and fitted.any()):
        raise UnusableFrameError(
            f"{found.sum()} of {chosen.sum()} erased columns and {fitted.sum()} of the fitted ones "
            "were found again in the corrected image: there is nothing to compare"
        )
    pm = 1e3 * frame.settings.pixel_size_nm
    before, left = pm * _residual_px(raw), pm * _residual_px(after)
    return HeldOut(
        erased=int(chosen.sum()),
        found=int(found.sum()),
        refitted=int((chosen & refitted).sum()),
        raw_pm=_rms(before[found]),
        corrected_pm=_rms(left[match[found]]),
        fitted_pm=_rms(left[match[fitted]]),
    )


def some_rows(lattice: Lattice, sites: Array, *, first: int, every: int) -> npt.NDArray[np.bool_]:
    """Choose whole rows of columns along the fast axis.

    Parameters
    ----------
    lattice : Lattice
        The lattice.
    sites : ndarray, shape (n, 2)
        Crystal sites of the columns, in cells.
    first, every : int
        Of ``every`` rows of cells the one with this number.

    Returns
    -------
    ndarray of bool, shape (n,)
        Columns whose cell is in such a row, all sublattices of it.
    """
    slope = np.abs(lattice.basis_px[:, 0]) / np.linalg.norm(lattice.basis_px, axis=1)
    across = int(np.argmax(slope))  # the basis vector that leads from row to row
    row = np.floor(sites[:, across] + 0.25).astype(int)
    chosen: npt.NDArray[np.bool_] = row % every == first % every
    return chosen


def withheld_residual(
    samples: DistortionSamples, lattice: Lattice, withheld: npt.NDArray[np.bool_]
) -> Withheld:
    """Fit a frame without some of its columns, and compare these with the prediction for them.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    lattice : Lattice
        Its lattice.
    withheld : ndarray of bool, shape (n,)
        The columns that the fit is not given.

    Returns
    -------
    Withheld
        One row for each of them.

    Raises
    ------
    UnusableFrameError
        If there are too few columns left.
    """
    kept = samples.subset(~withheld)
    fit = first_model(kept, lattice, TERMS).last
    if fit is None:
        raise UnusableFrameError("the model of the other columns does not hold their fit")
    out = samples.subset(withheld)
    basis, mean = fit.basis, fit.posterior.mean
    crystal = np.c_[np.ones(len(out)), out.crystal_sites]
    moving = basis.on_pixels(mean[:, : basis.size] * basis.seen())
    expected, jacobian = scan_places(moving, crystal @ fit.lattice_px.T, out.observed_px)
    forward = np.eye(2) - jacobian
    design = basis.design(expected, spare=3)
    design[basis.size :] = (crystal * crystal_scale(kept)).T
    seen = np.pad(basis.seen(), ((0, 0), (0, 3)), constant_values=1.0)[:, :, None] * design
    variance = np.einsum("akn,akl,aln->na", seen, fit.posterior.covariance, seen, optimize=True)
    own = out.covariance_px2 + fit.hyperparameters.floor_px**2 * np.eye(2)
    variance += np.einsum("nab,nbc,nac->na", forward, own, forward)
    residual = np.einsum("nab,nb->na", forward, out.observed_px - expected)
    return Withheld(residual_px=residual, std_px=np.sqrt(variance))


def erase_columns(
    image: npt.NDArray[np.floating],
    columns: AtomColumns,
    keep: npt.NDArray[np.bool_],
    *,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Replace columns by what would be there without them, noise included.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Detector units.
    columns : AtomColumns, n columns
        All columns of the image.
    keep : ndarray of bool, shape (n,)
        The columns that stay.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        In the pixels that are an erased column's: the mean of what is there without it, the
        columns that stay, and the image's noise. From the pixels of its neighbours what it adds is
        taken out, so that their fits stay as they were; all else is unchanged.
    """
    noise = estimate_noise(image)
    staying, gone = np.zeros(image.shape), np.zeros(image.shape)
    for n in range(len(columns)):
        where, drawn = _drawn(columns, n, image.shape)
        (staying if keep[n] else gone)[where] += drawn
    result = image - gone
    y, x = np.nonzero(gone)
    found = KDTree(columns.positions_px).query(np.stack([y, x], axis=1))
    distance, nearest = (np.asarray(part) for part in found)
    own = ~keep[nearest] & (distance < CORE_SIGMA * columns.sigma_px[nearest])
    y, x, nearest = y[own], x[own], nearest[own]
    pixels = np.maximum(np.bincount(nearest, minlength=len(columns)), 1)
    background = np.bincount(nearest, (result - staying)[y, x], len(columns)) / pixels
    level = staying[y, x] + background[nearest]
    deviation = np.sqrt(np.maximum(noise.gain * level + noise.offset, 0.0))
    result[y, x] = level + deviation * rng.normal(size=deviation.shape)
    return result.astype(np.float32)


def _drawn(
    columns: AtomColumns, n: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], Array]:
    """Return a box around a column, and what the column adds to its pixels, tail included."""
    (y, x), sigma = columns.positions_px[n], columns.sigma_px[n]
    reach = TAIL_RADIUS * sigma
    rows = slice(max(int(y - reach), 0), min(int(y + reach) + 2, shape[0]))
    across = slice(max(int(x - reach), 0), min(int(x + reach) + 2, shape[1]))
    dy = (np.arange(rows.start, rows.stop) - y) / sigma
    dx = (np.arange(across.start, across.stop) - x) / sigma
    square = dy[:, None] ** 2 + dx[None, :] ** 2
    left = np.maximum(1.0 - square / TAIL_RADIUS**2, 0.0)
    sign = 1.0 if columns.polarity == "bright" else -1.0
    height = sign * columns.amplitude[n] / (1.0 + columns.tail)
    drawn = np.where(left > 0.0, np.exp(-0.5 * square) + columns.tail * left**2, 0.0)
    return (rows, across), height * drawn


def _indexed(image: npt.NDArray[np.float32]) -> IndexedColumns:
    return index_columns(find_columns(image), (image.shape[0], image.shape[1]))


def _measured(corrected: CorrectedFrame) -> tuple[IndexedColumns, Array]:
    """Index the columns of a corrected image, and say where in the scan they are."""
    image = np.where(corrected.valid, corrected.image, np.median(corrected.image[corrected.valid]))
    columns = find_columns(image)
    room = scipy.ndimage.distance_transform_edt(np.pad(corrected.valid, 1, mode="edge"))
    y, x = np.rint(columns.positions_px).astype(int).T
    away = room[y + 1, x + 1] > RIM_SIGMA * columns.sigma_px
    indexed = index_columns(columns.subset(away), corrected.settings.shape_px)
    places = indexed.columns.positions_px
    moved = [
        scipy.ndimage.map_coordinates(part, places.T, order=1, mode="nearest")
        for part in corrected.displacement_px
    ]
    return indexed, places + np.stack(moved, axis=1)


def _residual_px(indexed: IndexedColumns) -> Array:
    ideal = indexed.lattice.positions_px(indexed.crystal_sites)
    return np.asarray(indexed.columns.positions_px - ideal)


def _spacing_px(positions: Array) -> float:
    distances, _ = KDTree(positions).query(positions, k=[2])
    return float(np.median(distances))


def _nearest(positions: Array, wanted: Array, radius: float) -> npt.NDArray[np.intp]:
    """For each wanted place the row of the position there, or -1."""
    distance, row = KDTree(positions).query(wanted)
    return np.where(distance < radius, row, -1)


def _rms(residual: Array) -> tuple[float, float]:
    slow, fast = np.sqrt(np.mean(residual**2, axis=0))
    return float(slow), float(fast)
