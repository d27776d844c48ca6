"""Information from many columns by sums of cosines over them.

Products of cosines are sums of cosines: what the smooth and the rough functions say about each
other is read from a table of sums over the columns, and so are those of scan time. Within a
stretch of scan time every function of it is a polynomial, so what they share with all others
needs a few sums for each stretch. Only the few functions that are no cosines are multiplied with
all others column by column.
"""

from itertools import chain, islice
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import owned
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import cosines
from nion_distortion.gaussian_process.weights import Information

__all__ = ["information"]

Array = npt.NDArray[np.float64]

COLUMNS_AT_ONCE = 2048

PHASE = 4.5
"""Phase of the fastest function of scan time over half a stretch."""

SERIES, SQUARE_SERIES = 20, 28
"""Chebyshev polynomials that are exact to 1e-11 of such a function, and of products of two."""

NORM = np.sqrt(2.0)
"""Of all cosines but the constant."""


class _Columns(NamedTuple):
    """Columns in the order of scan time."""

    places_px: Array  # (n, 2)
    time: Array  # (n,)
    crystal: Array  # (3 or more, n): of the lattice, after those of the mains
    weights: Array  # (n,)
    pull: Array  # (2, n)

    def some(self, which: npt.NDArray[np.intp] | slice) -> "_Columns":
        return _Columns(
            self.places_px[which],
            self.time[which],
            self.crystal[:, which],
            self.weights[which],
            self.pull[:, which],
        )

    def weighted(self, weights: Array) -> "_Columns":
        """Give the columns other weights, of either sign, and leave out those without any."""
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


class _Sums(NamedTuple):
    """Sums over the columns of some stretches."""

    table: Array  # (25, fast_modes): of weighted products of cosines along y and x
    high: Array  # (13, fast_modes): the same times the last cosine along x
    few: (
        Array  # (few + 2, all but walk's): functions that are no cosines and pull, times all but it
    )


class _Sweep(NamedTuple):
    """Columns, and what is summed over them."""

    columns: _Columns
    stretches: _Stretches
    ends: npt.NDArray[np.intp]  # (groups + 1,): first stretch of each
    at_nodes: Array
    """All functions but the walk's, weighted, and pull, times the polynomials that are 1 at one
    node and 0 at the others, (all, stretches, SERIES)."""
    squares: Array
    """Such polynomials for squares, weighted, (stretches, SQUARE_SERIES)."""

    @classmethod
    def of(cls, basis: Basis, columns: _Columns) -> "_Sweep":
        stretches = _Stretches.of(columns.time, basis.walk_modes)
        count = len(stretches.middles)
        groups = min(count, -(-len(columns.time) // COLUMNS_AT_ONCE))
        at_nodes = np.empty((basis.stationary_size + len(columns.crystal) + 2, count, SERIES))
        ends = count * np.arange(groups + 1) // groups
        return cls(columns, stretches, ends, at_nodes, np.empty((count, SQUARE_SERIES)))


def information(
    basis: Basis, places_px: Array, crystal: Array, targets: Array, weights: Array
) -> Information:
    """Gather what the samples say.

    Parameters
    ----------
    basis : Basis
        The functions of D and W_k.
    places_px : ndarray, shape (n, 2)
        Places in the scan at which they are evaluated.
    crystal : ndarray, shape (3, n)
        Functions of a change of the lattice.
    targets : ndarray, shape (n, 2)
        Linearised observations, px.
    weights : ndarray, shape (n, 2, 2)
        Inverse covariance of the targets, px^-2.

    Returns
    -------
    Information
        ``M_ab = design W_ab design^T``, ``v_a = sum_b design W_ab target_b`` with all functions:
        equal to these products, within 1e-10 of the largest number.

    Notes
    -----
    What is locked to the frame has the functions of the walk, so its rows are theirs; those of the
    mains are gathered with the lattice's.
    """
    core = basis.core()
    more = np.concatenate([basis.scan_time.mains_functions(places_px), crystal])
    found = _of_core(core, places_px, more, targets, weights)
    order = _order(basis, core)
    if np.array_equal(order, np.arange(found.vector.shape[1])):
        return found
    both = np.ix_(order, order)
    return Information(
        blocks=owned(np.stack([block[both] for block in found.blocks])),
        vector=owned(found.vector[:, order]),
        cross=None if found.cross is None else owned(found.cross[both]),
    )


def _order(basis: Basis, core: Basis) -> npt.NDArray[np.intp]:
    """Place of each function, then of the lattice's, among those of the core and the rest."""
    order = np.empty(basis.size + 3, dtype=np.intp)
    for name, part in basis.slices.items():
        twin = {"locked": "walk"}.get(name, name)
        first = core.size if name == "mains" else core.slices[twin].start
        order[part] = first + np.arange(part.stop - part.start)
    mains = basis.slices["mains"]
    order[basis.size :] = core.size + mains.stop - mains.start + np.arange(3)
    return order


def _of_core(
    basis: Basis, places_px: Array, crystal: Array, targets: Array, weights: Array
) -> Information:
    """Gather it for the functions of the core and any others, those of the lattice last."""
    time = basis.scan_time.unit(places_px)
    pull = np.einsum("nab,nb->an", weights, targets)
    order = np.argsort(time, kind="stable")
    columns = _Columns(places_px, time, crystal, weights[:, 0, 0], pull).some(order)
    more, cross = weights[order, 1, 1] - columns.weights, weights[order, 0, 1]
    parts = [columns.weighted(one) for one in (more, cross) if one.any()]
    size = basis.size + len(crystal)
    blocks, apart = np.empty((2, size, size)), np.empty((size, size))
    wanted = [blocks[0]] + [blocks[1]] * bool(more.any()) + [apart] * bool(cross.any())
    vector = _fill_grams(basis, [columns, *parts], wanted)
    blocks[1] = blocks[0] + blocks[1] if more.any() else blocks[0]
    return Information(
        blocks=owned(blocks),
        vector=owned(vector),
        cross=owned(apart) if cross.any() else None,
    )


def _fill_grams(basis: Basis, parts: list[_Columns], grams: list[Array]) -> Array:
    """``design weights design^T`` for each set of columns; the result is the first's ``pull``'s."""
    sweeps = [_Sweep.of(basis, columns) for columns in parts]
    tasks = [(sweep, k) for sweep in sweeps for k in range(len(sweep.ends) - 1)]

    def some(start: int, stop: int) -> list[_Sums]:
        return [_sums(basis, *task) for task in tasks[start:stop]]

    sums = chain.from_iterable(for_chunks(some, len(tasks)))
    own = [list(islice(sums, len(sweep.ends) - 1)) for sweep in sweeps]
    vectors = for_chunks(lambda k, _: _fill_gram(basis, sweeps[k], own[k], grams[k]), len(sweeps))
    first: Array = vectors[0]
    return first


def _fill_gram(basis: Basis, sweep: _Sweep, sums: list[_Sums], gram: Array) -> Array:
    """Put the sums over all stretches together; the result is ``pull design^T``."""
    table, high, few = (np.sum(one, axis=0) for one in zip(*sums, strict=True))
    walk, stretches = basis.walk_modes, sweep.stretches
    with_walk = sweep.at_nodes.reshape(len(sweep.at_nodes), -1)
    with_walk = with_walk @ stretches.at_nodes(SERIES, walk + 1)[1:].T
    along_time = stretches.at_nodes(SQUARE_SERIES, 2 * walk + 1) @ sweep.squares.ravel()
    return _assemble(basis, (_whole_table(table, high), along_time, few, with_walk), gram)


def _sums(basis: Basis, sweep: _Sweep, group: int) -> _Sums:
    """Sum over one group of stretches; what is kept for each of them goes into the sweep."""
    some = slice(sweep.ends[group], sweep.ends[group + 1])
    stretches = sweep.stretches
    edges = stretches.edges[some.start : some.stop + 1]
    part = sweep.columns.some(slice(edges[0], edges[-1]))
    edges = edges - edges[0]
    size, weights = basis.stationary_size, part.weights
    last = size + len(part.crystal)
    along_y, along_x = basis.cosines_at(part.places_px, 2 * basis.smooth_count - 1)
    rows = np.empty((last + 2, len(weights)))
    basis.fill_stationary(part.places_px, (along_y, along_x), rows)
    rows[size:last] = part.crystal
    left = np.concatenate([rows[_not_cosines(basis, last)] * weights, part.pull])
    few = left @ rows[:last].T
    rows[:last] *= weights
    rows[last:] = part.pull
    series = np.empty((SQUARE_SERIES, len(weights)))
    _fill_polynomials(part.time, edges, stretches.middles[some], stretches.half, series)
    single, double = series[:SERIES].T @ _to_nodes(SERIES), series.T @ _to_nodes(SQUARE_SERIES)
    _fill_stretches(rows, single, edges, sweep.at_nodes[:, some])
    _fill_stretches(weights[None], double, edges, sweep.squares[None, some])
    along_y *= weights
    high = along_y[: basis.smooth_count] * along_x[-1]
    return _Sums(along_y @ along_x.T, high @ along_x.T, few)


def _not_cosines(basis: Basis, last: int) -> npt.NDArray[np.intp]:
    """Rows of the fly-back, the mains and the lattice among all but the walk's."""
    where, size = basis.slices, basis.stationary_size
    flyback = np.arange(where["line"].start, where["frame"].stop)
    return np.concatenate([flyback, np.arange(size, last)])


def _nodes(count: int) -> Array:
    nodes: Array = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return nodes


def _to_nodes(count: int) -> Array:
    """Values at Chebyshev nodes -> coefficients of the polynomials, (polynomials, nodes)."""
    table = (2.0 / count) * np.cos(np.outer(np.arange(count), np.arccos(_nodes(count))))
    table[0] *= 0.5
    return np.asarray(table)


def _whole_table(table: Array, high: Array) -> Array:
    """Continue sums of ``cos(a y) cos(b x)`` to all a and b that products need.

    With n functions of x, ``cos(n-1 + c) = 2 cos(n-1) cos(c) - cos(n-1 - c)``; beyond, a is at most
    12.
    """
    count = table.shape[1]
    norms = np.full(count, NORM)
    norms[0] = 1.0
    table = table / norms / norms[: len(table), None]
    high = high / norms / norms[: len(high), None] / NORM
    whole = np.zeros((len(table), 2 * count - 1))
    whole[:, :count] = table
    whole[: len(high), count:] = 2 * high[:, 1:] - table[: len(high), -2::-1]
    return whole


def _assemble(basis: Basis, sums: tuple[Array, Array, Array, Array], gram: Array) -> Array:
    """Put the parts into ``design weights design^T``; the result is ``pull design^T``."""
    size, walk, (table, along_time, few, with_walk) = (
        basis.stationary_size,
        basis.slices["walk"],
        sums,
    )
    where, (iy, ix) = basis.slices, basis.smooth_modes
    fast = np.arange(1, where["fast"].stop - where["fast"].start + 1)
    modes = np.r_[iy, 0 * fast], np.r_[ix, fast]
    _fill_cosine_products(table, modes, np.r_[where["smooth"], where["fast"]], gram)
    along_time[1:] /= NORM
    _fill_time_products(along_time, gram[walk, walk])
    lattice = np.arange(basis.size, len(gram))  # and the mains
    others = np.r_[:size, lattice]
    single = np.r_[where["line"].start : where["frame"].stop, lattice]
    gram[np.ix_(single, others)] = few[:-2]
    gram[np.ix_(others, single)] = few[:-2].T
    gram[others, walk] = with_walk[:-2]
    gram[walk, others] = with_walk[:-2].T
    vector = np.empty((2, len(gram)))
    vector[:, others], vector[:, walk] = few[-2:], with_walk[-2:]
    return vector


@numba.njit(cache=True, nogil=True)
def _fill_polynomials(time, edges, middles, half, rows):  # type: ignore[no-untyped-def]
    """Chebyshev polynomials of the place in each column's stretch, by their recurrence."""
    series, n = rows.shape
    for k in range(len(middles)):
        for i in range(edges[k], edges[k + 1]):
            rows[0, i] = 1.0
            rows[1, i] = (time[i] - middles[k]) / half
    for k in range(2, series):
        for i in range(n):
            rows[k, i] = 2.0 * rows[1, i] * rows[k - 1, i] - rows[k - 2, i]


@numba.njit(cache=True, nogil=True)
def _fill_stretches(rows, polynomials, edges, sums):  # type: ignore[no-untyped-def]
    """``rows @ polynomials`` over the columns of each stretch."""
    for k in range(len(edges) - 1):
        some = slice(edges[k], edges[k + 1])
        sums[:, k] = rows[:, some].copy() @ polynomials[some]


@numba.njit(cache=True, nogil=True)
def _fill_cosine_products(table, modes, rows, gram):  # type: ignore[no-untyped-def]
    """``cos a cos b = (cos(a - b) + cos(a + b)) / 2`` along both axes."""
    my, mx = modes
    for i in range(len(rows)):
        norm = 0.25 * (NORM if my[i] else 1.0) * (NORM if mx[i] else 1.0)
        for j in range(i + 1):
            low_y, high_y = abs(my[i] - my[j]), my[i] + my[j]
            low_x, high_x = abs(mx[i] - mx[j]), mx[i] + mx[j]
            total = table[low_y, low_x] + table[low_y, high_x]
            total += table[high_y, low_x] + table[high_y, high_x]
            total *= norm * (NORM if my[j] else 1.0) * (NORM if mx[j] else 1.0)
            gram[rows[i], rows[j]] = gram[rows[j], rows[i]] = total


@numba.njit(cache=True, nogil=True)
def _fill_time_products(along_time, gram):  # type: ignore[no-untyped-def]
    """Multiply the functions of scan time, but the constant, alike."""
    for i in range(len(gram)):
        for j in range(len(gram)):
            gram[i, j] = along_time[abs(i - j)] + along_time[i + j + 2]
