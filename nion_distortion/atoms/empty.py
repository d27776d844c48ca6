"""Areas that show nothing: outside of a scan, under a blanked beam, or beyond the detector."""

import cv2
import numpy as np
import numpy.typing as npt
import scipy.ndimage

from nion_distortion._order import quantiles

__all__ = ["away_from", "without_empty"]

FEWEST, COMPACT = 64, 0.7
"""Fewest pixels of one value that make an area; and, for a value outside the range of the others,
the least share of them in solid 3 x 3 patches (single electrons among zeros are scattered)."""

OUTSIDE = 1.0
"""Distance of a value from the range of the others (1st to 99th percentile), in units of that
range, beyond which it is outside."""

WIDE = 16
"""Where the lowest value is not outside that range, only square patches of it count, with at least
this side in px, and at least the image's side divided by this; noise leaves no such patch."""

BLOCK = 8
"""Side in px of the blocks of a quick first check."""

MOST = 0.5
"""An image with a larger empty share is left as it is, and refused later: its scan was stopped."""

SAMPLED_PX = 20_000
"""Number of pixels, about, that the range is taken from."""

RIM_SIGMA = 2.5
"""Columns nearer to an empty area than this many sigma are cut by its rim."""

Mask = npt.NDArray[np.bool_]


def without_empty(
    image: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], Mask | None]:
    """Continue an image by its mirror image into areas that show nothing.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Finite values.

    Returns
    -------
    image : ndarray, shape (ny, nx)
        With mirrored noise and columns in the empty areas, so that they do not change the range,
        the noise, or the width of columns; the same object where there are none.
    empty : ndarray of bool, shape (ny, nx), optional
        The areas; None where there are none.
    """
    areas = [_area_of(image, value) for value in (image.min(), image.max())]
    empty = areas[0] | areas[1]
    if not 0 < np.count_nonzero(empty) <= MOST * empty.size:
        return image, None
    nearest = scipy.ndimage.distance_transform_edt(
        empty, return_distances=False, return_indices=True
    )
    farthest = np.array(image.shape)[:, None, None] - 1
    mirrored = np.clip(2 * nearest - np.indices(image.shape), 0, farthest)
    seen = np.where(empty[tuple(mirrored)], nearest, mirrored)
    return np.ascontiguousarray(image[tuple(seen)]), empty


def _area_of(image: npt.NDArray[np.float32], value: np.float32) -> Mask:
    """Find the areas of the lowest or the highest value."""
    same = np.asarray(image == value)
    nothing = np.zeros_like(same)
    if np.count_nonzero(same) < FEWEST:
        return nothing
    some = image.ravel()[:: 1 + image.size // SAMPLED_PX]
    others = some[some != value]
    low, high = quantiles(others, [0.01, 0.99]) if others.size else (0.0, 0.0)
    if not high > low:
        return nothing
    if max(low - value, value - high) > OUTSIDE * (high - low):
        patches = _patches(same, 3)
        return same if np.count_nonzero(patches) > COMPACT * np.count_nonzero(same) else nothing
    # saturated tops of bright columns are areas of the highest value too; `saturated` reports them
    side_px = max(WIDE, min(image.shape) // WIDE)
    if not value < low or np.count_nonzero(same) < side_px**2 or not _has_blocks(same, side_px):
        return nothing
    return _patches(same, side_px)


def _has_blocks(mask: Mask, side_px: int) -> bool:
    """Rule out quickly that a patch of this side fits anywhere: in most pictures none does."""
    ny, nx = (length // BLOCK * BLOCK for length in mask.shape)
    whole = mask[:ny, :nx].reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK)
    blocks: Mask = np.asarray(whole.all(axis=(1, 3)))
    least = side_px // BLOCK - 1  # whole blocks across a patch, wherever it lies
    return bool(_patches(blocks, max(least, 1)).any())


def _patches(mask: Mask, side_px: int) -> Mask:
    """Keep what squares of this side cover without reaching beyond: a morphological opening."""
    patch = np.ones((side_px, side_px), np.uint8)
    return cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, patch) > 0


def away_from(empty: Mask, positions_px: npt.NDArray[np.float64], sigma_px: float) -> Mask:
    """Mark columns that no empty area cuts.

    Parameters
    ----------
    empty : ndarray of bool, shape (ny, nx)
        The areas.
    positions_px : ndarray, shape (n, 2)
        Where the columns are, inside the image.
    sigma_px : float
        Of a column.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where all of the middle of a column is seen.
    """
    room = scipy.ndimage.distance_transform_edt(~empty)
    y, x = np.clip(np.rint(positions_px).astype(np.intp).T, 0, np.array(empty.shape)[:, None] - 1)
    return np.asarray(room[y, x] > RIM_SIGMA * sigma_px)
