"""The covariance that overlapping columns add to each other's fits by sharing pixels."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion.atoms.drawing import (
    BACKGROUND,
    Floats,
    Image,
    Places,
)
from nion_distortion.atoms.fit import Fits, Window, gradient

__all__ = ["close_pairs", "shared_covariance"]

NEAREST = 4.8
"""Distance in sigma beyond which two columns share practically no pixels."""

FEW_PAIRS = 4
"""Pairs for each column for which memory is allocated at first."""

SHARED = 4
"""Parameters of a neighbour that reach into the window: all but its background."""


def close_pairs(positions_px: Floats, reach_px: float) -> Places:
    """List the pairs of positions that are closer than some distance.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        In any order.
    reach_px : float
        The distance.

    Returns
    -------
    ndarray, shape (k, 2)
        Rows of the two; equivalent to `scipy.spatial.cKDTree.query_pairs`, several times faster.
    """
    y, x = positions_px.T
    bands = np.floor(y / reach_px)
    farthest = float(np.abs(x, where=np.isfinite(x), out=np.zeros(len(x))).max(initial=0.0))
    order = np.argsort(bands * (3.0 * farthest + 1.0) + x)  # NaN comes last
    ordered, bands = positions_px[order], bands[order]
    pairs = np.empty((FEW_PAIRS * len(order), 2), np.int64)
    count = _pairs(ordered, bands, reach_px, pairs)
    if count > len(pairs):
        pairs = np.empty((count, 2), np.int64)
        _pairs(ordered, bands, reach_px, pairs)
    return np.asarray(order[pairs[:count]], dtype=np.int64)


@numba.njit(cache=True, nogil=True)
def _pairs(ordered: Floats, bands: Floats, reach: float, pairs: Places) -> int:
    """Count the pairs, and fill in as many as there is room for.

    Positions stand in bands of lines as wide as the reach, and along x in each of them: partners
    are the next few of the same band, and of the next one those that are about as far along x.
    """
    count = after = 0
    for i in range(len(ordered)):
        left, right, below = ordered[i, 1] - reach, ordered[i, 1] + reach, bands[i] + 1.0
        for j in range(i + 1, len(ordered)):
            if bands[j] != bands[i] or ordered[j, 1] > right:
                break
            count += _added(ordered, (i, j), reach, pairs, count)
        while after < len(ordered) and (
            bands[after] < below or (bands[after] == below and ordered[after, 1] < left)
        ):
            after += 1
        for j in range(after, len(ordered)):
            if bands[j] != below or ordered[j, 1] > right:
                break
            count += _added(ordered, (i, j), reach, pairs, count)
    return count


@numba.njit(cache=True, nogil=True, inline="always")
def _added(ordered: Floats, both: tuple[int, int], reach: float, pairs: Places, count: int) -> int:
    """Add a pair if it is close: 1, otherwise 0."""
    i, j = both
    dy, dx = ordered[j, 0] - ordered[i, 0], ordered[j, 1] - ordered[i, 1]
    if not dy * dy + dx * dx <= reach * reach:
        return 0
    if count < len(pairs):
        pairs[count, 0], pairs[count, 1] = i, j
    return 1


def shared_covariance(
    model: npt.NDArray[np.float32], fits: Fits, window: Window
) -> npt.NDArray[np.float64]:
    """Find what the errors of its neighbours add to the covariance of each position.

    Parameters
    ----------
    model : ndarray, shape (ny, nx)
        All columns drawn, as in `improve`.
    fits : Fits
        After convergence.
    window : Window
        What they share.

    Returns
    -------
    ndarray, shape (n, 2, 2)
        To be added to the positions' part of ``fits.covariance``, px^2.

    Notes
    -----
    With the inverse information H of each fit and the information ``S_nm = J_n^T J_m / v`` that
    two fits share, the inverse of the joint information has the diagonal blocks
    ``H_n + sum_m H_n S_nm H_m S_mn H_n`` to second order in S.
    """
    result = np.zeros((len(fits.chi2), 2, 2))
    pairs = close_pairs(fits.parameters[:, :2], NEAREST * float(np.exp(window.widths.log_sigma)))
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = np.ascontiguousarray(both[np.lexsort(both.T[::-1])])

    def _chunk(start: int, stop: int) -> None:
        first, last = np.searchsorted(both[:, 0], [start, stop])
        _add_pairs(model, fits, window, both[first:last], result)

    for_chunks(_chunk, len(result), smallest=512)
    return result


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_pairs(model: Image, fits: Fits, window: Window, pairs: Places, result: Floats) -> None:
    shared = np.empty((5, SHARED))
    for k in range(len(pairs)):
        n, m = pairs[k]
        if fits.pixels[n] > 0 and fits.pixels[m] > 0:
            _shared_information(model, fits, window, (n, m), shared)
            _add_product(fits.covariance[n], shared, fits.covariance[m], result[n])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_product(mine: Floats, shared: Floats, theirs: Floats, result: Floats) -> None:
    """Add H_n S H_m S^T H_n, its first two rows and columns."""
    passed = np.zeros((2, SHARED))
    for i in range(2):
        for b in range(SHARED):
            for a in range(5):
                passed[i, b] += mine[i, a] * shared[a, b]
    for i in range(2):
        for j in range(2):
            for a in range(SHARED):
                for b in range(SHARED):
                    result[i, j] += passed[i, a] * theirs[a, b] * passed[j, b]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shared_information(
    model: Image, fits: Fits, window: Window, pair: tuple[int, int], shared: Floats
) -> None:
    """Sum J_n^T J_m / v over the pixels that lie in both windows."""
    n, m = pair
    shared[:] = 0.0
    one, two = np.ones(5), np.empty(5)
    radius, reach = window.radius_px, int(window.radius_px)
    middle, other = fits.middle[n], fits.middle[m]
    top, bottom = max(0, middle[0] - reach), min(model.shape[0] - 1, middle[0] + reach)
    left, right = max(0, middle[1] - reach), min(model.shape[1] - 1, middle[1] + reach)
    for i in range(max(top, other[0] - reach), min(bottom, other[0] + reach) + 1):
        for j in range(max(left, other[1] - reach), min(right, other[1] + reach) + 1):
            if (i - middle[0]) ** 2 + (j - middle[1]) ** 2 > radius**2:
                continue
            if (i - other[0]) ** 2 + (j - other[1]) ** 2 > radius**2:
                continue
            expected = fits.parameters[n, BACKGROUND] + model[i, j]
            weight = 1.0 / max(window.gain * expected + window.offset, window.floor)
            gradient(fits.parameters[n], i, j, one)
            gradient(fits.parameters[m], i, j, two)
            for a in range(5):
                for b in range(SHARED):
                    shared[a, b] += weight * one[a] * two[b]
