"""Cosines on an interval that is longer than the frame at each end."""

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["MARGIN", "WIDE", "cosines", "fill_cosines", "fill_products", "on_interval"]

Array = npt.NDArray[np.float64]

MARGIN = 0.15
"""How far the interval extends beyond the frame at each end, in lengths of the frame: cosines have
zero slope at its ends."""

WIDE = 1 + 2 * MARGIN
"""Length of the interval, in lengths of the frame."""


def cosines(place: npt.ArrayLike, modes: int) -> Array:
    """Tabulate orthonormal cosines on the unit interval by their recurrence.

    Parameters
    ----------
    place : array_like, shape (n,)
        Places in the unit interval.
    modes : int
        How many functions; the first is constant.

    Returns
    -------
    ndarray, shape (modes, n)
        ``1, sqrt(2) cos(pi x), sqrt(2) cos(2 pi x), ...``; equal to ``np.cos`` of the same
        arguments, at a tenth of its cost.
    """
    table = np.empty((modes, np.size(place)))
    table[:1] = 1.0
    fill_cosines(np.asarray(place, dtype=np.float64), table[1:])
    return table


def on_interval(place_px: Array, length_px: int, margin: float = MARGIN) -> Array:
    """Bring places in the frame to the unit interval.

    Parameters
    ----------
    place_px : ndarray, shape (n,)
        Places along one axis, px.
    length_px : int
        Pixels of the frame along it.
    margin : float, default: 0.15
        How far the interval extends beyond the frame at each end, in lengths of the frame.

    Returns
    -------
    ndarray, shape (n,)
        Between 0 and 1, at both ends with the margin.
    """
    unit: Array = (place_px + 0.5 + margin * length_px) / (length_px * (1 + 2 * margin))
    return unit


@numba.njit(cache=True, nogil=True)
def fill_cosines(place, rows):  # type: ignore[no-untyped-def]
    """Tabulate cosines but the constant, each from the two before; for compiled callers.

    Parameters
    ----------
    place : ndarray, shape (n,)
        Places in the unit interval.
    rows : ndarray, shape (modes, n)
        Filled with ``rows[k - 1] = sqrt(2) cos(pi k place)``.
    """
    modes, n = rows.shape
    root = np.sqrt(2.0)
    twice = np.empty(n)
    for i in range(n):
        twice[i] = 2.0 * np.cos(np.pi * place[i])
    for k in range(modes):
        for i in range(n):
            last = rows[k - 1, i] if k > 0 else root
            before = rows[k - 2, i] if k > 1 else root
            rows[k, i] = twice[i] * last - before if k > 0 else 0.5 * twice[i] * root


@numba.njit(cache=True, nogil=True)
def fill_products(along_y, along_x, iy, ix, rows):  # type: ignore[no-untyped-def]
    """Multiply functions of y by functions of x; for compiled callers.

    Parameters
    ----------
    along_y, along_x : ndarray, shape (modes, n)
        Functions of each axis at the same places.
    iy, ix : ndarray of int, shape (k,)
        Which of each.
    rows : ndarray, shape (k, n)
        Filled with ``rows[j] = along_y[iy[j]] * along_x[ix[j]]``.
    """
    for j in range(len(iy)):
        y, x, row = along_y[iy[j]], along_x[ix[j]], rows[j]
        for i in range(len(row)):
            row[i] = y[i] * x[i]
