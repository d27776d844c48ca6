"""Sums over columns, stretch of scan time by stretch: what `moments` puts together."""

import functools
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._validation import owned
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import cosines, fill_cosines, fill_products

__all__ = ["Columns", "Sums", "Sweep", "sums_of"]

Array = npt.NDArray[np.float64]

COLUMNS_AT_ONCE = 512

PHASE = 4.5
"""Phase (rad) of the fastest function of scan time over half a stretch."""

PLAIN = "smooth", "fast"
"""Groups whose functions are cosines, and products of two."""

SERIES, SQUARE_SERIES = 20, 28
"""Chebyshev polynomials that are exact to 1e-11 of such a function, and of products of two."""


class Columns(NamedTuple):
    """Columns in the order of scan time."""

    places_px: Array
    """(n, 2)"""
    time: Array
    """On the interval of the functions of scan time, (n,)."""
    others: Array
    """Functions that are given, those of the lattice last, (3 or more, n)."""
    weights: Array
    """(n,)"""
    pull: Array
    """Weights times targets, (2, n)."""

    def some(self, which: npt.NDArray[np.intp] | slice) -> "Columns":
        """Take some of the columns.

        Parameters
        ----------
        which : ndarray of int, or slice
            In the order of scan time.

        Returns
        -------
        Columns
            These.
        """
        return Columns(
            self.places_px[which],
            self.time[which],
            self.others[:, which],
            self.weights[which],
            self.pull[:, which],
        )

    def weighted(self, weights: Array) -> "Columns":
        """Give the columns other weights, of either sign, and leave out those without any.

        Parameters
        ----------
        weights : ndarray, shape (n,)
            The weights.

        Returns
        -------
        Columns
            Those that have one.
        """
        return self._replace(weights=weights).some(np.flatnonzero(weights))


class _Stretches(NamedTuple):
    """Equal stretches of scan time."""

    edges: npt.NDArray[np.intp]  # (stretches + 1,): first column of each
    middles: Array  # (stretches,)
    half: float

    @classmethod
    def of(cls, time: Array, modes: int) -> "_Stretches":
        length = max(float(time[-1] - time[0]), 1e-9)
        count = int(np.ceil(0.5 * np.pi * max(modes, 1) * length / PHASE))
        half = 0.5 * length / count
        middles = time[0] + half * (2 * np.arange(count) + 1)
        inner = np.searchsorted(time, middles[1:] - half)
        return cls(np.r_[0, inner, len(time)], middles, half)

    def at_nodes(self, series: int, modes: int) -> Array:
        """Functions of scan time at the Chebyshev nodes of all stretches, (modes, nodes)."""
        return cosines(np.add.outer(self.middles, self.half * _nodes(series)).ravel(), modes)

    def as_series(self, series: int, modes: int) -> Array:
        """Chebyshev coefficients of functions of scan time, (modes, stretches * series)."""
        values = self.at_nodes(series, modes).reshape(-1, series)
        return np.asarray(values @ _to_series(series).T).reshape(modes, -1)


class Sweep(NamedTuple):
    """Columns, and what is summed over them.

    Functions stand in groups: the smooth ones, those of x alone, and the single ones, which are
    no cosines (fly-backs, then the given ones).
    """

    columns: Columns
    single: Array
    """The single functions, and the targets, (single + 2, n)."""
    stretches: _Stretches
    ends: npt.NDArray[np.intp]
    """First stretch of each group of them, (groups + 1,)."""
    along_time: Array
    """All functions but the walk's, weighted, and pull, times the polynomials of each stretch,
    (all, stretches, SERIES)."""
    squares: Array
    """Weights times more of the polynomials, (stretches, SQUARE_SERIES)."""

    @classmethod
    def of(cls, basis: Basis, columns: Columns) -> "Sweep":
        """Divide columns into stretches.

        Parameters
        ----------
        basis : Basis
            The functions.
        columns : Columns
            In the order of scan time.

        Returns
        -------
        Sweep
            With nothing summed yet.
        """
        stretches = _Stretches.of(columns.time, basis.walk_modes)
        count = len(stretches.middles)
        groups = min(count, -(-len(columns.time) // COLUMNS_AT_ONCE))
        along_time = np.empty((basis.stationary_size + len(columns.others) + 2, count, SERIES))
        ends = count * np.arange(groups + 1) // groups
        flyback = basis.flyback_functions(columns.places_px)
        single = np.concatenate([flyback, columns.others, columns.pull])
        shown = columns.weights != 0
        np.divide(single[-2:], columns.weights, out=single[-2:], where=shown)  # weighted again
        return cls(columns, single, stretches, ends, along_time, np.empty((count, SQUARE_SERIES)))

    def with_walk(self, modes: int) -> Array:
        """Multiply all functions by the walk's.

        Parameters
        ----------
        modes : int
            How many the walk has.

        Returns
        -------
        ndarray, shape (all, modes)
            Sums over the columns, those of the pull last.
        """
        rows = self.along_time.reshape(len(self.along_time), -1)
        products: Array = rows @ self.stretches.as_series(SERIES, modes + 1)[1:].T
        return products

    def of_walk(self, modes: int) -> Array:
        """Sum the weighted functions of scan time, twice as fast ones as well.

        Parameters
        ----------
        modes : int
            How many the walk has.

        Returns
        -------
        ndarray, shape (2 modes + 1,)
            Of the constant first.
        """
        weights = (self.squares @ _to_series(SQUARE_SERIES)).ravel()
        sums: Array = self.stretches.at_nodes(SQUARE_SERIES, 2 * modes + 1) @ weights
        return sums


class Sums(NamedTuple):
    """Sums over the columns of some stretches, of weighted products of cosines."""

    low: Array
    """Of y and x, as fast as the functions themselves along y; along x as fast as products of
    smooth ones with those of x alone, (smooth_count, fast_modes + smooth_count)."""
    corner: Array
    """The others that products of smooth functions need, (smooth_count, 2 smooth_count)."""
    last: Array
    """Of the last cosine along x with all others, (fast_modes,)."""
    single: Array
    """Of the single functions and the pull with all but the walk's, (single + 2, all)."""


def sums_of(basis: Basis, sweep: Sweep, group: int) -> Sums:
    """Sum over one group of stretches; what is kept for each of them goes into the sweep.

    Parameters
    ----------
    basis : Basis
        The functions.
    sweep : Sweep
        The columns; others may sum over other groups meanwhile.
    group : int
        Number of the group.

    Returns
    -------
    Sums
        Over its columns.
    """
    some = slice(sweep.ends[group], sweep.ends[group + 1])
    stretches = sweep.stretches
    edges = stretches.edges[some.start : some.stop + 1]
    part = slice(edges[0], edges[-1])
    columns, single = sweep.columns.some(part), sweep.single[:, part]
    smooth, fast = (basis.slices[name].stop - basis.slices[name].start for name in PLAIN)
    sizes = smooth, fast, basis.fast_modes, basis.smooth_count
    corner = np.zeros((basis.smooth_count, 2 * basis.smooth_count))
    time = (columns.time, edges - edges[0], stretches.middles[some], stretches.half)
    functions = (*basis.on_intervals(columns.places_px), single, columns.weights)
    kept = sweep.along_time[:, some], sweep.squares[some], corner
    products = _sum_stretches(functions, basis.smooth_modes, sizes, time, kept)
    own, end = len(single), len(products)
    along_x = products[smooth : end - own, own:]
    all_but_walk = np.r_[:smooth, smooth + 1 : smooth + 1 + fast, end - own : end - 2]
    return Sums(
        low=along_x[:, :-1].T,
        corner=corner,
        last=along_x[: basis.fast_modes, -1],
        single=products[all_but_walk, :own].T,
    )


def _nodes(count: int) -> Array:
    nodes: Array = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return nodes


@functools.lru_cache
def _to_series(count: int) -> Array:
    """Values at Chebyshev nodes -> coefficients of the polynomials, (polynomials, nodes)."""
    table = (2.0 / count) * np.cos(np.outer(np.arange(count), np.arccos(_nodes(count))))
    table[0] *= 0.5
    return owned(table)


@numba.njit(cache=True, nogil=True)
def _sum_stretches(functions, modes, sizes, time, kept):  # type: ignore[no-untyped-def]
    """Sum over the columns of each stretch, few enough to stay in the cache.

    All is one product of matrices: on its left smooth functions, cosines along x and single ones,
    on its right, weighted, the polynomials of scan time, single functions, cosines along y and the
    last one along x. What is not the polynomials' is added up over the stretches, and returned.
    """
    along_time, squares, corner = kept
    (unit_y, unit_x, single, weights), (iy, ix) = functions, modes
    (times, edges, middles, half), (smooth, fast, top, count) = time, sizes
    own, across = len(single), top + count
    height, width = smooth + across + own, SERIES + own + count + 1
    total, product = np.zeros((height, width - SERIES)), np.empty((height, width))
    for k in range(len(middles)):
        some = slice(edges[k], edges[k + 1])
        w, columns = weights[some], edges[k + 1] - edges[k]
        series, y = _polynomials((times[some] - middles[k]) / half), _table(unit_y[some], 2 * count)
        left, right = np.empty((height, columns)), np.empty((width, columns))
        x = left[smooth : smooth + across]
        x[0] = 1.0
        fill_cosines(unit_x[some], x[1:])
        fill_products(y, x, iy, ix, left[:smooth])
        left[smooth + across :] = single[:, some]
        right[:SERIES], right[SERIES : SERIES + own] = series[:SERIES], single[:, some]
        right[SERIES + own : width - 1], right[width - 1] = y[:count], x[top - 1]
        right *= w
        np.dot(left, right.T, product)
        squares[k] = series @ w
        along_time[:smooth, k] = product[:smooth, :SERIES]
        along_time[smooth : smooth + fast, k] = product[smooth + 1 : smooth + 1 + fast, :SERIES]
        along_time[smooth + fast :, k] = product[smooth + across :, :SERIES]
        total += product[:, SERIES:]
        corner += (y[count:] * w) @ x[: 2 * count].T
    return total


@numba.njit(cache=True, nogil=True)
def _table(place, modes):  # type: ignore[no-untyped-def]
    """Equivalent to `cosines`, for compiled callers."""
    rows = np.ones((modes, len(place)))
    fill_cosines(place, rows[1:])
    return rows


@numba.njit(cache=True, nogil=True)
def _polynomials(place):  # type: ignore[no-untyped-def]
    """Chebyshev polynomials by their recurrence, (SQUARE_SERIES, n)."""
    rows = np.empty((SQUARE_SERIES, len(place)))
    for i in range(len(place)):
        rows[0, i] = 1.0
        rows[1, i] = place[i]
    for k in range(2, SQUARE_SERIES):
        for i in range(len(place)):
            rows[k, i] = 2.0 * place[i] * rows[k - 1, i] - rows[k - 2, i]
    return rows
