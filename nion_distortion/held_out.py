"""Columns that the fit has never seen: the honest residual of a frame without a truth."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from scipy.spatial import KDTree

from nion_distortion.atoms import AtomColumns, estimate_noise, find_columns
from nion_distortion.correction import CorrectedFrame, correct_frame
from nion_distortion.frame import Frame, UnusableFrameError
from nion_distortion.lattice import IndexedColumns, index_columns
from nion_distortion.options import Options
from nion_distortion.pipeline import process_frame

__all__ = ["HeldOut", "erase_columns", "held_out_residual"]

Array = npt.NDArray[np.float64]

REACH_SIGMA = 4.0
"""A column ends at this many of its sigmas (3e-4 of its peak)."""

SAME_COLUMN = 0.25
"""Two positions closer than this share of the distance between neighbours are one column's."""

RIM_SIGMA = 2.5
"""Columns closer than this to pixels that are not valid are not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What the columns say that were erased before the fit.

    Parameters
    ----------
    erased : int
        Columns that were erased.
    found : int
        Those of them that were found again in the corrected original.
    refitted : int
        Columns that were found in the image without them; they are left out.
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
        In a disc around each erased column: its local background and the fitted Gaussians of
        the columns that stay, with the noise of the image; all else unchanged.
    """
    noise = estimate_noise(image)
    result = np.array(image, dtype=np.float64)
    disc, level = np.zeros(image.shape, dtype=bool), np.zeros(image.shape)
    for n in np.flatnonzero(~keep):
        where, distance2 = _around(columns, int(n), image.shape)
        inside = distance2 < REACH_SIGMA**2
        disc[where] |= inside
        level[where] = np.where(inside, columns.background[n], level[where])
    sign = 1.0 if columns.polarity == "bright" else -1.0
    for n in np.flatnonzero(keep):
        where, distance2 = _around(columns, int(n), image.shape)
        level[where] += sign * columns.amplitude[n] * np.exp(-0.5 * distance2)
    deviation = np.sqrt(np.maximum(noise.gain * level[disc] + noise.offset, 0.0))
    result[disc] = level[disc] + deviation * rng.normal(size=deviation.shape)
    return result.astype(np.float32)


def _around(
    columns: AtomColumns, n: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], Array]:
    """Return a box around a column, and the squared distances in it in units of its sigma."""
    (y, x), sigma = columns.positions_px[n], columns.sigma_px[n]
    reach = REACH_SIGMA * sigma
    rows = slice(max(int(y - reach), 0), min(int(y + reach) + 2, shape[0]))
    across = slice(max(int(x - reach), 0), min(int(x + reach) + 2, shape[1]))
    dy = (np.arange(rows.start, rows.stop) - y) / sigma
    dx = (np.arange(across.start, across.stop) - x) / sigma
    return (rows, across), dy[:, None] ** 2 + dx[None, :] ** 2


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
