"""Sums over columns in the order of scan time: what `moments` puts together."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._validation import owned
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import cosines, fill_cosines, fill_products

__all__ = ["Columns", "Sums", "Sweep", "added", "sums_of"]

Array = npt.NDArray[np.float64]

GROUPS, FEWEST_IN_GROUP = 8, 256
"""Groups of columns, each of which one thread sums over, and fewest columns of one."""

REACH = 7
"""Nodes of the time grid at either side that a column is spread to."""

SHARPNESS = 2.3 * 2 * REACH
"""Exponent of the spreading function: with grids twice as fine as the fastest function needs,
sums are exact to 1e-12."""

CELLS, MOST_IN_STRETCH = 4, 128
"""Cells of the time grid that make a stretch, and most columns of one: these stay in the cache."""

SPREAD = 2 * REACH + CELLS - 1
"""Nodes that the columns of a stretch are spread to."""


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


class TimeGrid(NamedTuple):
    """Nodes in scan time to which columns are spread, as fine as its functions need.

    A sum of cosines over columns at any times is a sum over the nodes, divided by what spreading
    does to each cosine: a non-uniform discrete Fourier transform [1]_.

    References
    ----------
    .. [1] Barnett, Magland, af Klinteberg, A parallel nonuniform fast Fourier transform library
       based on an "exponential of semicircle" kernel, SIAM J. Sci. Comput. 41, C479 (2019).
    """

    modes: int
    """Of the fastest function."""
    first: int
    """Number of the first node; node 0 is at the beginning of the interval."""
    nodes: int
    """How many."""

    @classmethod
    def of(cls, time: Array, modes: int) -> "TimeGrid":
        """Choose the grid for columns.

        Parameters
        ----------
        time : ndarray, shape (n,)
            Of the columns, in order.
        modes : int
            How many functions of scan time there are beside the constant.

        Returns
        -------
        TimeGrid
            That all of them can be spread to.
        """
        cells = np.floor(time[[0, -1]] / _step(modes)).astype(int)
        return cls(modes, int(cells[0]) - REACH + 1, int(np.ptp(cells)) + SPREAD)

    @property
    def step(self) -> float:
        """Distance of the nodes, on the interval of the functions of scan time."""
        return _step(self.modes)

    def places(self, time: Array) -> Array:
        """Return where columns are on the grid.

        Parameters
        ----------
        time : ndarray, shape (n,)
            Of the columns.

        Returns
        -------
        ndarray, shape (n,)
            In steps, from its first node.
        """
        return np.asarray(time / self.step - self.first)

    def functions(self) -> Array:
        """Return the functions of scan time at the nodes, so that sums over these are exact.

        Returns
        -------
        ndarray, shape (modes, nodes)
            All but the constant.
        """
        nodes = self.step * (self.first + np.arange(self.nodes))
        return cosines(nodes, self.modes + 1)[1:] / _spread_cosines(self.modes)[:, None]


def _step(modes: int) -> float:
    return 0.5 / (modes + 1)


@functools.lru_cache
def _spread_cosines(modes: int) -> Array:
    """Return what spreading multiplies functions by, (modes,): the kernel's Fourier transform."""
    z, weights = np.polynomial.legendre.leggauss(8 * REACH)
    kernel = weights * np.exp(SHARPNESS * (np.sqrt(1.0 - z**2) - 1.0))
    waves = np.pi * _step(modes) * np.arange(1, modes + 1)
    return owned(REACH * np.cos(np.outer(waves, REACH * z)) @ kernel)


class Sweep(NamedTuple):
    """Columns, and how sums over them are divided.

    Functions stand in groups: the smooth ones, those of x alone, and the single ones, which are
    no cosines (fly-backs, then the given ones).
    """

    columns: Columns
    single: Array
    """The single functions, and the targets, (single + 2, n)."""
    grid: TimeGrid
    places: Array
    """Of the columns on the time grid, (n,)."""
    edges: npt.NDArray[np.intp]
    """First column of each stretch of scan time, (stretches + 1,)."""
    ends: npt.NDArray[np.intp]
    """First stretch of each group of them, (groups + 1,)."""

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
        grid, count = TimeGrid.of(columns.time, basis.walk_modes), len(columns.time)
        places = grid.places(columns.time)
        stretches = np.floor(places).astype(np.intp) // CELLS
        begins = np.flatnonzero(np.diff(stretches)) + 1
        edges = np.unique(np.r_[np.arange(0, count, MOST_IN_STRETCH), begins, count])
        groups = max(1, min(GROUPS, count // FEWEST_IN_GROUP))
        ends = np.searchsorted(edges, count * np.arange(groups + 1) // groups)
        flyback = basis.flyback_functions(columns.places_px)
        single = np.concatenate([flyback, columns.others, columns.pull])
        shown = columns.weights != 0
        np.divide(single[-2:], columns.weights, out=single[-2:], where=shown)  # weighted again
        return cls(columns, single, grid, places, edges, ends)


class Sums(NamedTuple):
    """Sums over some columns of weighted products of functions."""

    plain: Array
    """Of the single functions, the targets, cosines along y, and the last cosine along x, with all
    but the walk's: smooth functions, cosines along x (as fast as products of smooth ones with those
    of x alone), single ones and targets, (single + 2 + smooth_count + 1, all)."""
    corner: Array
    """Of faster cosines along y with those along x that products of smooth functions need,
    (smooth_count, 2 smooth_count)."""
    time: Array
    """Of cosines of scan time, twice as fast ones as well, (2 modes + 1,)."""
    spread: Array
    """Of all but the walk's, by node of the time grid, (nodes, all)."""
    first: int
    """The first of these nodes."""


def sums_of(basis: Basis, sweep: Sweep, group: int) -> Sums:
    """Sum over one group of stretches.

    Parameters
    ----------
    basis : Basis
        The functions.
    sweep : Sweep
        The columns.
    group : int
        Number of the group.

    Returns
    -------
    Sums
        Over its columns.
    """
    edges = sweep.edges[sweep.ends[group] : sweep.ends[group + 1] + 1]
    part = slice(edges[0], edges[-1])
    columns, single, places = sweep.columns.some(part), sweep.single[:, part], sweep.places[part]
    first, smooth, count = (
        int(places[0]) - REACH + 1,
        len(basis.smooth_modes[0]),
        basis.smooth_count,
    )
    sizes = smooth, basis.fast_modes, count
    spread = np.zeros(
        (int(places[-1]) - int(places[0]) + SPREAD, smooth + sum(sizes[1:]) + len(single))
    )
    kept = np.zeros((count, 2 * count)), np.zeros(2 * sweep.grid.modes + 1), spread
    functions = (*basis.on_intervals(columns.places_px), single, columns.weights)
    time = columns.time, places - first, edges - edges[0]
    return Sums(_sum_stretches(functions, basis.smooth_modes, sizes, time, kept), *kept, first)


def added(sweep: Sweep, groups: Sequence[Sums]) -> Sums:
    """Add up what groups of columns give.

    Parameters
    ----------
    sweep : Sweep
        The columns.
    groups : sequence of Sums
        Over all of them.

    Returns
    -------
    Sums
        With all nodes of the time grid.
    """
    spread = np.zeros((sweep.grid.nodes, groups[0].spread.shape[1]))
    for one in groups:
        spread[one.first : one.first + len(one.spread)] += one.spread
    plain, corner, time = (np.sum(parts, axis=0) for parts in list(zip(*groups, strict=True))[:3])
    return Sums(plain, corner, time, spread, 0)


@numba.njit(cache=True, nogil=True)
def _sum_stretches(functions, modes, sizes, time, kept):  # type: ignore[no-untyped-def]
    """Sum over the columns of each stretch, few enough to stay in the cache.

    All is one product of matrices: on its left, weighted, what spreads the columns in time, single
    functions, cosines along y and the last one along x, on its right smooth functions, cosines
    along x and single ones.
    """
    (unit_y, unit_x, single, weights), (iy, ix), (smooth, top, count) = functions, modes, sizes
    (times, places, edges), (corner, along_time, spread) = time, kept
    own, across = len(single), top + count
    height, width = SPREAD + own + count + 1, smooth + across + own
    total, product = np.zeros((height - SPREAD, width)), np.empty((height, width))
    most = np.max(np.diff(edges))
    lefts, rights = np.empty(height * most), np.empty(width * most)
    for k in range(len(edges) - 1):
        some, n = slice(edges[k], edges[k + 1]), edges[k + 1] - edges[k]
        left, right = lefts[: height * n].reshape(height, n), rights[: width * n].reshape(width, n)
        y, x, w = _table(unit_y[some], 2 * count), right[smooth : smooth + across], weights[some]
        x[0] = 1.0
        fill_cosines(unit_x[some], x[1:])
        fill_products(y, x, iy, ix, right[:smooth])
        first = _spread(places[some], left[:SPREAD])
        left[SPREAD : SPREAD + own] = right[smooth + across :] = single[:, some]
        left[SPREAD + own : height - 1], left[height - 1] = y[:count], x[top - 1]
        left *= w
        np.dot(left, right.T, product)
        spread[first : first + SPREAD] += product[:SPREAD]
        total += product[SPREAD:]
        corner += (y[count:] * w) @ x[: 2 * count].T
        _add_cosines(times[some], w, along_time)
    return total


@numba.njit(cache=True, nogil=True)
def _table(place, modes):  # type: ignore[no-untyped-def]
    """Equivalent to `cosines`, for compiled callers."""
    rows = np.ones((modes, len(place)))
    fill_cosines(place, rows[1:])
    return rows


@numba.njit(cache=True, nogil=True)
def _spread(places, rows):  # type: ignore[no-untyped-def]
    """Spread each column of a stretch to the nodes around it; return the first of all."""
    first = int(places[0]) - REACH + 1
    rows[:] = 0.0
    for i in range(len(places)):
        nearest = int(places[i]) - REACH + 1
        for node in range(nearest, nearest + 2 * REACH):
            away = (places[i] - node) / REACH
            rows[node - first, i] = np.exp(SHARPNESS * (np.sqrt(1.0 - away * away) - 1.0))
    return first


# Reordering of the sums is allowed, or they could not be vectorised; results stay reproducible.
@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _add_cosines(place, weights, sums):  # type: ignore[no-untyped-def]
    """Add ``sum weights cos(pi k place)`` for each k, the functions by their recurrence."""
    before, now = weights * np.cos(np.pi * place), weights.copy()
    twice = 2.0 * np.cos(np.pi * place)
    for k in range(len(sums)):
        total = 0.0
        for i in range(len(place)):
            total += now[i]
            following = twice[i] * now[i] - before[i]
            before[i], now[i] = now[i], following
        sums[k] += total
