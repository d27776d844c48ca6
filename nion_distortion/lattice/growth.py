"""Indexing outward from one column: every column reached corrects the running lattice vectors."""

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_NEIGHBOURS", "Growth", "grow", "joined"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NEAR, FAR = 1.45, 2.6
"""Steps up to this many times the longer basis vector are taken; the far ones, over a missing row,
where nothing else leads on."""

ISLAND = 0.02
"""Share of columns out of reach for which far steps are tried."""

TOLERANCES = (0.2, 0.3, 0.42)
"""How far from its proposed place a column may be, in distances of nearest sites: first every
column that is easily reached, so that the hard ones are proposed by more neighbours."""

LEAST_NEIGHBOURS = 3
"""Indexed neighbours that have to agree on a column: those of a corner of the crystal."""

MOST_CELLS = 4000
"""Largest i and j from the seed."""

CALM = 0.7
"""Weight of the neighbours' mean vectors against what the new column says of them."""


class Steps(NamedTuple):
    """Steps to the sites around one, for each of m sublattices the shortest first.

    ``target`` (m, k, 3) is the change of i and j and the sublattice reached, ``cells`` (m, k, 2)
    the step in cells, ``count`` (m,) how many of the k there are, ``offset`` (m, k) the way in the
    flat table of sites.
    """

    target: Integers
    cells: Array
    count: Integers
    offset: Integers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Growth:
    """What growing gave for each of n columns; those not reached have sublattice -1.

    Parameters
    ----------
    sites : ndarray, shape (n, 3)
        i, j and sublattice.
    propagated_px : ndarray, shape (n, 2)
        Proposed place.
    vectors_px : ndarray, shape (n, 2, 2)
        Basis vectors at each column, averaged over its neighbours and theirs.
    error_px : ndarray, shape (n,)
        Distance from the place that all indexed neighbours together give it afterwards.
    neighbours : ndarray, shape (n,)
        How many those are.
    nearest_px : float
        Shortest distance between two sites.
    near, far : Steps
        The steps that were taken.
    flat : ndarray, shape (n,)
        Place of each column's site in a flat table of sites with room for ``size`` of them.
    size : int
        Length of that table.
    """

    sites: Integers
    propagated_px: Array
    vectors_px: Array
    error_px: Array
    neighbours: Integers
    nearest_px: float
    near: Steps
    far: Steps
    flat: Integers
    size: int


def grow(
    positions_px: Array,
    seed: tuple[int, int],
    basis_px: Array,
    motif: Array,
) -> Growth:
    """Index columns outward from one of them, breadth first.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        The columns.
    seed : tuple of int
        The column to start from, and its sublattice; it becomes cell (0, 0).
    basis_px : ndarray, shape (2, 2)
        Reduced basis vectors around the seed.
    motif : ndarray, shape (m, 2)
        Fractional places of the sublattices.

    Returns
    -------
    Growth
        Sites, proposed places, running vectors, and how well each column fits its neighbours.

    Notes
    -----
    Every indexed column keeps basis vectors of its own. A site is proposed at the weighted mean
    of what its indexed neighbours' vectors say; the nearest column, if near enough, takes it, and
    its vectors are those of the neighbours corrected by least squares with the steps to it
    (the paper's running correction, for two vectors at once).
    """
    places = np.array(positions_px, order="C")  # kernels are compiled for writeable arrays only
    basis = np.array(basis_px, order="C")
    half = _half_width(places, basis)
    near = _steps(basis, motif, NEAR, half)
    far = _steps(basis, motif, FAR, half)
    nearest = np.hypot(*(near.cells[:, 0] @ basis).T)
    grid = _cell_grid(places, float(nearest.min()))
    start = (np.int64(seed[0]), np.int64(seed[1]), np.int64(half))
    shares = nearest / np.hypot(*basis.T).min()
    sites, propagated, vectors, held, reached = _grow(
        places, start, basis, tuple(near), tuple(far), shares, grid
    )
    flat = ((sites[:, 0] + half) * (2 * half + 1) + sites[:, 1] + half) * len(motif) + sites[:, 2]
    error, neighbours, smooth = _check(places, flat, sites, vectors, held, reached, tuple(near))
    return Growth(
        sites=sites,
        propagated_px=propagated,
        vectors_px=smooth.reshape(-1, 2, 2),
        error_px=error,
        neighbours=neighbours,
        nearest_px=float(nearest.min()),
        near=near,
        far=far,
        flat=flat,
        size=len(held),
    )


def _half_width(places: Array, basis: Array) -> int:
    """Largest i and j that can occur, with some room for columns that are pushed together."""
    extent = float(np.hypot(*np.ptp(places, axis=0)))
    height = abs(np.linalg.det(basis)) / np.hypot(*basis.T).max()
    return min(int(1.15 * extent / height) + 16, MOST_CELLS)


def _steps(basis: Array, motif: Array, reach: float, half: int) -> Steps:
    limits = 0.05 * np.hypot(*basis.T).min(), reach * np.hypot(*basis.T).max()
    i, j, to = np.meshgrid(*[np.arange(-4, 5)] * 2, np.arange(len(motif)), indexing="ij")
    target = np.stack([i, j, to], -1).reshape(-1, 3)
    cells = target[:, :2] + motif[target[:, 2]] - motif[:, None]
    length = np.sqrt(((cells @ basis) ** 2).sum(2))
    length[(length < limits[0]) | (length > limits[1])] = np.inf
    count = np.isfinite(length).sum(1)
    order = np.argsort(length, axis=1, kind="stable")[:, : count.max()]
    target = target[order]
    to = target[..., 2] - np.arange(len(motif))[:, None]
    return Steps(
        target=target,
        cells=np.take_along_axis(cells, order[..., None], 1),
        count=count,
        offset=(target[..., 0] * (2 * half + 1) + target[..., 1]) * len(motif) + to,
    )


def joined(growth: Growth, keep: npt.NDArray[np.bool_], start: int) -> npt.NDArray[np.bool_]:
    """Keep the columns that steps between kept columns join to one of them.

    Parameters
    ----------
    growth : Growth, n columns
        Their sites.
    keep : ndarray of bool, shape (n,)
        The columns to look at.
    start : int
        One of them.

    Returns
    -------
    ndarray of bool, shape (n,)
        The part of ``keep`` that holds ``start``, less what has too few neighbours.
    """
    tables = tuple(growth.near), tuple(growth.far)
    return np.asarray(_joined(growth.sites, growth.flat, keep, np.int64(start), tables, growth.size))


@numba.njit(cache=True, nogil=True)
def _joined(sites, flat, keep, start, tables, size):  # type: ignore[no-untyped-def]
    """Flood from the start over columns that have several near neighbours."""
    held = np.full(size, -1, np.int32)
    for n in range(len(keep)):
        if keep[n]:
            held[flat[n]] = n
    _, _, count, offset = tables[0]
    solid = np.zeros(len(keep), np.bool_)
    for n in range(len(keep)):
        if keep[n]:
            crowd, s = 0, sites[n, 2]
            for k in range(count[s]):
                crowd += held[flat[n] + offset[s, k]] >= 0
            solid[n] = crowd >= LEAST_NEIGHBOURS
    inside = np.zeros(len(keep), np.bool_)
    queue, end, head = np.empty(len(keep), np.int64), 1, 0
    queue[0] = start
    inside[start] = True
    _, _, count, offset = tables[1]
    while head < end:
        c = queue[head]
        head += 1
        s = sites[c, 2]
        for k in range(count[s]):
            other = held[flat[c] + offset[s, k]]
            if other >= 0 and solid[other] and not inside[other]:
                inside[other] = True
                queue[end] = other
                end += 1
    return inside


def _cell_grid(positions: Array, side_px: float) -> tuple[Integers, Integers, Array, float]:
    """Sort the columns into square cells: where each cell begins, columns by cell, corner, side."""
    side = max(side_px, 2.0)
    corner = positions.min(0) - 1.5 * side
    place = ((positions - corner) / side).astype(np.int64)
    rows, across = place.max(0) + 2
    number = place[:, 0] * (across + 1) + place[:, 1]
    counts = np.bincount(number, minlength=rows * (across + 1))
    first = np.concatenate([[0], np.cumsum(counts)])[:-1].reshape(rows, across + 1)
    return first, np.argsort(number, kind="stable"), corner, side


@numba.njit(cache=True, nogil=True)
def _nearest(positions, grid, y, x, radius):  # type: ignore[no-untyped-def]
    """Nearest column within the radius, -1 without one."""
    first, order, corner, side = grid
    best, best_square = -1, radius * radius
    top = max(int(np.floor((y - radius - corner[0]) / side)), 0)
    bottom = min(int(np.floor((y + radius - corner[0]) / side)), first.shape[0] - 1)
    left = max(int(np.floor((x - radius - corner[1]) / side)), 0)
    right = min(int(np.floor((x + radius - corner[1]) / side)), first.shape[1] - 2)
    if left > right:
        return -1
    for row in range(top, bottom + 1):
        for p in range(first[row, left], first[row, right + 1]):
            n = order[p]
            dy, dx = positions[n, 0] - y, positions[n, 1] - x
            square = dy * dy + dx * dx
            if square < best_square:
                best, best_square = n, square
    return best


@numba.njit(cache=True, nogil=True)
def _propose(site, s, held, positions, vectors, steps, out):  # type: ignore[no-untyped-def]
    """Mean of what the indexed neighbours of a site say of its place and vectors; how many."""
    _, cells, count, offset = steps
    py, px, a, b, c, d, total = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    found = 0
    for k in range(count[s]):
        n = held[site + offset[s, k]]
        if n < 0:
            continue
        u, v = -cells[s, k, 0], -cells[s, k, 1]
        dy = u * vectors[n, 0] + v * vectors[n, 2]
        dx = u * vectors[n, 1] + v * vectors[n, 3]
        weight = 1.0 / (dy * dy + dx * dx)
        py += weight * (positions[n, 0] + dy)
        px += weight * (positions[n, 1] + dx)
        a += weight * vectors[n, 0]
        b += weight * vectors[n, 1]
        c += weight * vectors[n, 2]
        d += weight * vectors[n, 3]
        total += weight
        found += 1
    if found:
        out[0], out[1] = py / total, px / total
        out[2], out[3], out[4], out[5] = a / total, b / total, c / total, d / total
    return found


@numba.njit(cache=True, nogil=True)
def _correct(n, site, s, held, positions, mean, steps, calm, vectors):  # type: ignore[no-untyped-def]
    """Vectors at column n: the mean ones, turned and stretched to fit its neighbours' places."""
    _, cells, count, offset = steps
    yy, yx, xx = calm, 0.0, calm
    ey, ex, fy, fx = 0.0, 0.0, 0.0, 0.0
    for k in range(count[s]):
        other = held[site + offset[s, k]]
        if other < 0:
            continue
        u, v = -cells[s, k, 0], -cells[s, k, 1]
        dy = u * mean[2] + v * mean[4]
        dx = u * mean[3] + v * mean[5]
        weight = 1.0 / (dy * dy + dx * dx)
        ry = weight * (positions[n, 0] - positions[other, 0] - dy)
        rx = weight * (positions[n, 1] - positions[other, 1] - dx)
        yy += weight * dy * dy
        yx += weight * dy * dx
        xx += weight * dx * dx
        ey += dy * ry
        ex += dy * rx
        fy += dx * ry
        fx += dx * rx
    det = yy * xx - yx * yx
    a00, a01 = (xx * ey - yx * fy) / det, (xx * ex - yx * fx) / det
    a10, a11 = (yy * fy - yx * ey) / det, (yy * fx - yx * ex) / det
    for r in (0, 2):
        vectors[n, r] = mean[2 + r] * (1 + a00) + mean[3 + r] * a10
        vectors[n, r + 1] = mean[3 + r] * (1 + a11) + mean[2 + r] * a01


@numba.njit(cache=True, nogil=True)
def _visit(c, end, tolerance, state, grid, steps, shares):  # type: ignore[no-untyped-def]
    """Propose the empty sites around column c; the columns found there join the queue."""
    positions, sites, propagated, vectors, held, queue, out, half = state
    target, _, count, offset = steps
    sublattices = len(count)
    i, j, s = sites[c, 0], sites[c, 1], sites[c, 2]
    if max(abs(i), abs(j)) > half - 10:
        return end
    here = ((i + half) * (2 * half + 1) + j + half) * sublattices + s
    for k in range(count[s]):
        site, to = here + offset[s, k], target[s, k, 2]
        if held[site] >= 0:
            continue
        _propose(site, to, held, positions, vectors, steps, out)
        short = min(out[2] * out[2] + out[3] * out[3], out[4] * out[4] + out[5] * out[5])
        radius = tolerance * shares[to] * np.sqrt(short)
        found = _nearest(positions, grid, out[0], out[1], radius)
        if found < 0 or sites[found, 2] >= 0:
            continue
        sites[found, 0], sites[found, 1] = i + target[s, k, 0], j + target[s, k, 1]
        sites[found, 2] = to
        propagated[found, 0], propagated[found, 1] = out[0], out[1]
        _correct(found, site, to, held, positions, out, steps, CALM, vectors)
        held[site] = found
        queue[end] = found
        end += 1
    return end


@numba.njit(cache=True, nogil=True)
def _grow(positions, start, basis, near, far, shares, grid):  # type: ignore[no-untyped-def]
    seed, sublattice, half = start
    n, size = len(positions), 2 * half + 1
    held = np.full(size * size * len(shares), -1, np.int32)
    sites = np.full((n, 3), -1, np.int64)
    propagated, vectors = np.zeros((n, 2)), np.zeros((n, 4))
    queue, out = np.empty(n, np.int64), np.empty(6)
    sites[seed, 0], sites[seed, 1], sites[seed, 2] = 0, 0, sublattice
    propagated[seed] = positions[seed]
    vectors[seed] = basis.ravel()
    held[(half * size + half) * len(shares) + sublattice] = seed
    queue[0], end = seed, 1
    state = (positions, sites, propagated, vectors, held, queue, out, half)
    for tolerance in TOLERANCES:
        head = 0
        while head < end:
            end = _visit(queue[head], end, tolerance, state, grid, near, shares)
            head += 1
    before = 0
    while n - end > ISLAND * n and end > before:
        before = end
        for head in range(before):
            end = _visit(queue[head], end, TOLERANCES[1], state, grid, far, shares)
        head = before
        while head < end:
            end = _visit(queue[head], end, TOLERANCES[1], state, grid, near, shares)
            head += 1
    return sites, propagated, vectors, held, queue[:end]


@numba.njit(cache=True, nogil=True)
def _check(positions, flat, sites, vectors, held, reached, steps):  # type: ignore[no-untyped-def]
    """Compare each column with the place that its neighbours give by the mean of both ends' vectors.

    That is exact to second order. Also gives the number of neighbours, and vectors fitted from all
    sides and averaged over the neighbours and theirs.
    """
    _, cells, count, offset = steps
    n = len(positions)
    around, smooth, out = np.zeros((n, 4)), np.zeros((n, 4)), np.empty(6)
    for c in reached:
        s = sites[c, 2]
        _propose(flat[c], s, held, positions, vectors, steps, out)
        _correct(c, flat[c], s, held, positions, out, steps, 0.1, around)
    error, neighbours = np.full(n, np.inf), np.zeros(n, np.int64)
    for c in reached:
        s, total, ry, rx = sites[c, 2], 0.0, 0.0, 0.0
        one = around[c]
        for k in range(count[s]):
            other = held[flat[c] + offset[s, k]]
            if other < 0:
                continue
            u, v = -0.5 * cells[s, k, 0], -0.5 * cells[s, k, 1]
            two = around[other]
            dy = u * (one[0] + two[0]) + v * (one[2] + two[2])
            dx = u * (one[1] + two[1]) + v * (one[3] + two[3])
            weight = 1.0 / (dy * dy + dx * dx)
            total += weight
            ry += weight * (positions[other, 0] + dy - positions[c, 0])
            rx += weight * (positions[other, 1] + dx - positions[c, 1])
            neighbours[c] += 1
        if total > 0:
            error[c] = np.sqrt(ry * ry + rx * rx) / total
    for _ in range(2):
        for c in reached:
            if _propose(flat[c], sites[c, 2], held, positions, around, steps, out):
                smooth[c] = 0.8 * out[2:] + 0.2 * around[c]
        around, smooth = smooth, around
    return error, neighbours, around
