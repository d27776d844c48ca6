"""Information from many columns by sums of cosines over them.

Products of cosines are sums of cosines: what the smooth and the rough functions say about each
other is read from a table of sums over the columns, and so are those of scan time. What functions
of scan time share with all others comes from columns spread to a grid in scan time. Only the few
functions that are no cosines are multiplied with all others column by column.
"""

from itertools import chain, islice
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import owned
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.factors import mirrored
from nion_distortion.gaussian_process.stretches import Columns, Sums, Sweep, added, sums_of
from nion_distortion.gaussian_process.weights import Information

__all__ = ["information"]

Array = npt.NDArray[np.float64]

NORM = np.sqrt(2.0)
"""Normalisation of all cosines but the constant."""


class _Gathered(NamedTuple):
    """What becomes an `Information`."""

    blocks: Array
    vector: Array
    cross: Array | None

    def ordered(self, order: npt.NDArray[np.intp]) -> "_Gathered":
        """Bring functions to another order, in which some may occur twice."""
        if np.array_equal(order, np.arange(self.vector.shape[1])):
            return self
        both = np.ix_(order, order)
        return _Gathered(
            np.stack([block[both] for block in self.blocks]),
            self.vector[:, order],
            None if self.cross is None else self.cross[both],
        )

    def seen(self, factors: Array) -> Information:
        """Multiply each function by what columns show of it, in place."""
        for block, axis in zip(self.blocks, factors, strict=True):
            _scale(block, axis, axis)
        if self.cross is not None:
            _scale(self.cross, *factors)
        self.vector[:] *= factors
        cross = None if self.cross is None else owned(self.cross)
        return Information(blocks=owned(self.blocks), vector=owned(self.vector), cross=cross)


def information(
    basis: Basis, places_px: Array, crystal: Array, targets: Array, weights: Array, seen: Array
) -> Information:
    """Gather the information of the samples about all weights.

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
    seen : ndarray, shape (2, m)
        Response of the columns to each function, those of the lattice last.

    Returns
    -------
    Information
        ``M_ab = design W_ab design^T``, ``v_a = sum_b design W_ab target_b`` with all functions
        as they are seen: equal to these products, within 1e-11 of the largest number.

    Notes
    -----
    What is locked to the frame has the functions of the walk, so its rows are theirs; those of the
    mains are gathered with the lattice's.
    """
    core = basis.core()
    more = np.concatenate([basis.scan_time.mains_functions(places_px), crystal])
    found = _of_core(core, places_px, more, targets, weights)
    return found.ordered(_order(basis, core)).seen(seen)


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
) -> _Gathered:
    """Gather it for the functions of the core and any others, those of the lattice last."""
    time = basis.scan_time.unit(places_px)
    pull = np.einsum("nab,nb->an", weights, targets)
    order = np.argsort(time, kind="stable")
    columns = Columns(places_px, time, crystal, weights[:, 0, 0], pull).some(order)
    more, cross = weights[order, 1, 1] - columns.weights, weights[order, 0, 1]
    parts = [columns.weighted(one) for one in (more, cross) if one.any()]
    size = basis.size + len(crystal)
    blocks, apart = np.empty((2, size, size)), np.empty((size, size))
    wanted = [blocks[0]] + [blocks[1]] * bool(more.any()) + [apart] * bool(cross.any())
    vector = _fill_grams(basis, [columns, *parts], wanted)
    if more.any():
        blocks[1] += blocks[0]
    else:
        blocks[1] = blocks[0]
    return _Gathered(blocks, vector, apart if cross.any() else None)


def _fill_grams(basis: Basis, parts: list[Columns], grams: list[Array]) -> Array:
    """``design weights design^T`` for each set of columns; the result is the first's ``pull``'s."""
    sweeps = [Sweep.of(basis, columns) for columns in parts]
    tasks = [(sweep, k) for sweep in sweeps for k in range(len(sweep.ends) - 1)]

    def some(start: int, stop: int) -> list[Sums]:
        return [sums_of(basis, *task) for task in tasks[start:stop]]

    sums = chain.from_iterable(for_chunks(some, len(tasks)))
    own = [list(islice(sums, len(sweep.ends) - 1)) for sweep in sweeps]
    vectors = for_chunks(lambda k, _: _fill_gram(basis, sweeps[k], own[k], grams[k]), len(sweeps))
    first: Array = vectors[0]
    return first


def _fill_gram(basis: Basis, sweep: Sweep, groups: list[Sums], gram: Array) -> Array:
    """Put the sums over all stretches into the matrix; the result is ``pull design^T``."""
    sums, where, size = added(sweep, groups), basis.slices, basis.size
    smooth, fast, walk = where["smooth"], where["fast"], where["walk"]
    flyback = slice(where["line"].start, where["frame"].stop)
    own, end, count = len(sweep.single), sums.plain.shape[1], flyback.stop - flyback.start
    given = slice(end - own + count, end - 2)
    along_x = slice(smooth.stop + 1, smooth.stop + 1 + fast.stop - fast.start)
    stationary = np.r_[smooth, end - own : given.start, along_x]
    single, targets = sums.plain[: own - 2], sums.plain[own - 2 : own]
    across = sums.plain[own:, smooth.stop : end - own]
    _fill_cosine_products(basis, _whole_table(across, sums.corner, basis.fast_modes), gram)
    _fill_time_products(sums.time, gram[walk, walk])
    with_walk = sweep.grid.functions() @ sums.spread
    gram[: walk.start, walk] = with_walk[:, stationary].T
    gram[walk, size:] = with_walk[:, given]
    flybacks, last = single[:count], single[count:]
    gram[: walk.start, flyback] = flybacks[:, stationary].T
    gram[flyback, fast] = flybacks[:, along_x]
    gram[: walk.start, size:], gram[size:, size:] = last[:, stationary].T, last[:, given]
    mirrored(gram)
    return np.concatenate([targets[:, stationary], with_walk[:, -2:].T, targets[:, given]], axis=1)


def _whole_table(along_y: Array, corner: Array, fast: int) -> Array:
    """Complete sums of ``cos(a y) cos(b x)`` for all a and b that products need.

    With n functions of x, ``cos(n-1 + c) = 2 cos(n-1) cos(c) - cos(n-1 - c)``.
    """
    low, last = along_y[:-1], along_y[-1, :fast] / NORM
    count, known = low.shape
    whole = np.zeros((2 * count, max(2 * fast - 1, known, 2 * count)))
    whole[:count, :known], whole[count:, : 2 * count] = low, corner
    whole[1:] /= NORM
    whole[:, 1:known] /= NORM
    last[1:] /= NORM
    beyond = np.arange(known - fast + 1, fast)
    whole[0, fast - 1 + beyond] = 2 * last[beyond] - whole[0, fast - 1 - beyond]
    return whole


def _fill_cosine_products(basis: Basis, table: Array, gram: Array) -> None:
    """Put products of smooth functions and those of x alone into the matrix; the upper triangle."""
    smooth, fast = basis.slices["smooth"], basis.slices["fast"]
    _fill_smooth_products(table, basis.smooth_modes, gram[smooth], fast)
    _fill_fast_products(table[0], gram[fast, fast])


@numba.njit(cache=True, nogil=True)
def _fill_smooth_products(table, modes, rows, fast):  # type: ignore[no-untyped-def]
    """Multiply smooth functions by each other and by those of x alone; the upper triangle.

    ``cos a cos b = (cos(a - b) + cos(a + b)) / 2`` along both axes.
    """
    my, mx = modes
    for i in range(len(my)):
        norm = 0.25 * (NORM if my[i] else 1.0) * (NORM if mx[i] else 1.0)
        for j in range(i, len(my)):
            low, high, near, far = (
                abs(my[i] - my[j]),
                my[i] + my[j],
                abs(mx[i] - mx[j]),
                mx[i] + mx[j],
            )
            total = table[low, near] + table[low, far] + table[high, near] + table[high, far]
            rows[i, j] = norm * (NORM if my[j] else 1.0) * (NORM if mx[j] else 1.0) * total
        same = table[my[i]]
        for j in range(fast.start, fast.stop):
            mode = j - fast.start + 1
            rows[i, j] = 2.0 * NORM * norm * (same[abs(mx[i] - mode)] + same[mx[i] + mode])


@numba.njit(cache=True, nogil=True)
def _fill_fast_products(table, gram):  # type: ignore[no-untyped-def]
    """Multiply functions of x alone, but the constant, alike; the upper triangle."""
    for i in range(len(gram)):
        for j in range(i, len(gram)):
            gram[i, j] = table[j - i] + table[i + j + 2]


@numba.njit(cache=True, nogil=True)
def _fill_time_products(along_time, gram):  # type: ignore[no-untyped-def]
    """Multiply the functions of scan time, but the constant, alike."""
    for i in range(len(gram)):
        for j in range(len(gram)):
            gram[i, j] = along_time[abs(i - j)] + along_time[i + j + 2]


@numba.njit(cache=True, nogil=True)
def _scale(matrix, rows, columns):  # type: ignore[no-untyped-def]
    """``matrix *= rows[:, None] * columns``."""
    for i in range(len(rows)):
        for j in range(len(columns)):
            matrix[i, j] *= rows[i] * columns[j]
