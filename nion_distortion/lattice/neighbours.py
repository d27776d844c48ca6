"""Neighbour searches: columns sorted into square cells."""

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["cell_grid", "column_spacing_px", "count_within", "nearest_within", "vectors_within"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

SAMPLE, NEIGHBOUR = 60, 8
"""Number of columns, about, that give the spacing; and which neighbour's distance is taken."""


def cell_grid(positions: Array, side_px: float) -> tuple[Integers, Integers, Array, float]:
    """Sort columns into square cells, for kernels that look for neighbours.

    Parameters
    ----------
    positions : ndarray, shape (n, 2)
        The columns.
    side_px : float
        Side of a cell: about how far will be looked.

    Returns
    -------
    first : ndarray, shape (rows, columns + 1)
        Where each cell's run begins in ``order``.
    order : ndarray, shape (n,)
        The columns, cell by cell.
    corner : ndarray, shape (2,)
        Corner of the first cell.
    side : float
        Side of a cell.
    """
    side = max(side_px, 2.0)
    corner = positions.min(0) - 1.5 * side
    place = ((positions - corner) / side).astype(np.int64)
    rows, across = place.max(0) + 2
    number = place[:, 0] * (across + 1) + place[:, 1]
    counts = np.bincount(number, minlength=rows * (across + 1))
    first = np.concatenate([[0], np.cumsum(counts)])[:-1].reshape(rows, across + 1)
    return first, np.argsort(number, kind="stable"), corner, side


@numba.njit(cache=True, nogil=True, error_model="numpy")
def nearest_within(places, first, order, frame, place, radius):  # type: ignore[no-untyped-def]
    """Find the nearest column; called from kernels.

    Parameters
    ----------
    places : ndarray, shape (n, 2 or more)
        The columns.
    first, order : ndarray
        From `cell_grid`.
    frame : tuple of float
        Corner (y, x) and side of that grid.
    place : tuple of float
        Where to look.
    radius : float
        How far.

    Returns
    -------
    number : int
        The column; -1 where there is none within the radius.
    distance : float
        How far away it is.
    """
    (top_y, left_x, side), (y, x) = frame, place
    best, best_square = -1, radius * radius
    top = max(int(np.floor((y - radius - top_y) / side)), 0)
    bottom = min(int(np.floor((y + radius - top_y) / side)), first.shape[0] - 1)
    left = max(int(np.floor((x - radius - left_x) / side)), 0)
    right = min(int(np.floor((x + radius - left_x) / side)), first.shape[1] - 2)
    if left > right:
        return -1, radius
    for row in range(top, bottom + 1):
        for p in range(first[row, left], first[row, right + 1]):
            n = order[p]
            dy, dx = places[n, 0] - y, places[n, 1] - x
            square = dy * dy + dx * dx
            if square < best_square:
                best, best_square = n, square
    return best, np.sqrt(best_square)


@numba.njit(cache=True, nogil=True)
def _count(places, chosen, counted, radius, grid):  # type: ignore[no-untyped-def]
    first, order, corner, side = grid
    counts = np.zeros(len(places), np.int64)
    for n in range(len(places)):
        if not chosen[n]:
            continue
        y, x = places[n, 0], places[n, 1]
        top = max(int((y - radius - corner[0]) / side), 0)
        bottom = min(int((y + radius - corner[0]) / side), first.shape[0] - 1)
        left = max(int((x - radius - corner[1]) / side), 0)
        right = min(int((x + radius - corner[1]) / side), first.shape[1] - 2)
        for row in range(top, bottom + 1):
            for p in range(first[row, left], first[row, right + 1]):
                other = order[p]
                if counted[other] and other != n:
                    dy, dx = places[other, 0] - y, places[other, 1] - x
                    counts[n] += dy * dy + dx * dx <= radius * radius
    return counts


def count_within(
    places_px: Array, chosen: Booleans, counted: Booleans, reach_px: float
) -> Integers:
    """Count columns around columns.

    Parameters
    ----------
    places_px : ndarray, shape (n, 2)
        The columns.
    chosen : ndarray of bool, shape (n,)
        Around which.
    counted : ndarray of bool, shape (n,)
        Which are counted.
    reach_px : float
        How near.

    Returns
    -------
    ndarray of int, shape (n,)
        Others within reach of each chosen one; 0 for the rest.
    """
    grid = cell_grid(places_px, reach_px)
    return np.asarray(_count(np.array(places_px), chosen, counted, reach_px, grid))


def vectors_within(starts_px: Array, places_px: Array, reach_px: float) -> tuple[Integers, Array]:
    """List the vectors from some columns to all others near them.

    Parameters
    ----------
    starts_px : ndarray, shape (k, 2)
        Where they begin.
    places_px : ndarray, shape (n, 2)
        Where they end.
    reach_px : float
        The longest.

    Returns
    -------
    start : ndarray of int, shape (p,)
        Row of ``starts_px``, ascending.
    vector_px : ndarray, shape (p, 2)
        From there to another column.
    """
    return _vectors(np.array(starts_px), np.array(places_px), reach_px)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _vectors(starts, places, reach):  # type: ignore[no-untyped-def]
    number = np.empty(len(starts) * len(places), np.int64)
    vector = np.empty((len(starts) * len(places), 2))
    found = 0
    for s in range(len(starts)):
        for n in range(len(places)):
            dy, dx = places[n, 0] - starts[s, 0], places[n, 1] - starts[s, 1]
            square = dy * dy + dx * dx
            if 1e-18 < square <= reach * reach:
                number[found], vector[found, 0], vector[found, 1] = s, dy, dx
                found += 1
    return number[:found].copy(), vector[:found].copy()


def column_spacing_px(positions_px: Array) -> float:
    """Square root of the area of one column, from the distance to the eighth neighbour.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        The columns, at least ten.

    Returns
    -------
    float
        The spacing in px; half empty frames do not widen it.
    """
    some = positions_px[:: max(1, len(positions_px) // SAMPLE)]
    eighth = np.median(_nth_squares(np.array(some), np.array(positions_px), NEIGHBOUR))
    return float(np.sqrt(eighth * np.pi / (NEIGHBOUR + 0.5)))


@numba.njit(cache=True, nogil=True)
def _nth_squares(some, places, nth):  # type: ignore[no-untyped-def]
    """Squared distance to the nth neighbour of each; the column itself is the 0th."""
    result = np.empty(len(some))
    nearest = np.empty(nth + 1)
    for s in range(len(some)):
        nearest[:] = np.inf
        for n in range(len(places)):
            square = (places[n, 0] - some[s, 0]) ** 2 + (places[n, 1] - some[s, 1]) ** 2
            k = nth
            if square < nearest[k]:
                while k > 0 and nearest[k - 1] > square:
                    nearest[k] = nearest[k - 1]
                    k -= 1
                nearest[k] = square
        result[s] = nearest[nth]
    return result
