"""Indexing outward from one column: every column reached corrects the running lattice vectors."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion.lattice.neighbours import cell_grid, nearest_within

__all__ = ["LEAST_NEIGHBOURS", "Growth", "grow", "joined"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NEAR, FAR = 1.45, 2.6
"""Longest steps to neighbouring sites, in units of the longer basis vector; the far ones, across a
missing row, are taken only where the near ones reach no further column."""

ISLAND = 0.02
"""Share of columns not reached above which far steps are tried."""

TOLERANCES = (0.2, 0.3, 0.42)
"""Greatest distance of a column from its proposed place, in nearest distances of sites, in three
passes: first the easy columns, so that the difficult ones are proposed by more neighbours."""

LEAST_NEIGHBOURS = 3
"""Fewest indexed neighbours that confirm a column: as many as one at a crystal's corner has."""

VACANT = 0.45
"""A site proposed by several neighbours is vacant if no column is within this distance of it, in
nearest distances of sites."""

EMPTY, DEAD = -1, -2
"""Marks of sites without a column: not searched yet, and known to be vacant."""

MOST_CELLS = 4000
"""Largest i and j from the seed."""

NODE = 8
"""Numbers kept for each column: place (2), local basis vectors (4), proposed place (2)."""

CALM = 0.7
"""Weight of the neighbours' mean vectors against the correction by the new column's place."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Growth:
    """The result of growing, for each of n columns; those not reached have sublattice -1.

    Parameters
    ----------
    sites : ndarray, shape (n, 3)
        Index i and j, and sublattice.
    propagated_px : ndarray, shape (n, 2)
        Proposed place.
    vectors_px : ndarray, shape (n, 2, 2)
        Basis vectors at each column, averaged over its neighbours and theirs.
    error_px : ndarray, shape (n,)
        Distance from the place predicted by all its indexed neighbours, after growing has ended.
    neighbours : ndarray, shape (n,)
        How many those are.
    nearest_px : float
        Shortest distance between two sites.
    near, far : ndarray, shape (m, k, 6)
        The steps from each sublattice to neighbouring sites, shortest first: in cells (2), offset
        in the flat table of sites, change of i and of j, and the sublattice reached (-1: no more).
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
    near: Array
    far: Array
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
    nearest = np.hypot(*(near[:, 0, :2] @ basis).T)
    grid = cell_grid(places, float(nearest.min()))
    start = (np.int64(seed[0]), np.int64(seed[1]), np.int64(half))
    shares = nearest / np.hypot(*basis.T).min()
    nodes = np.zeros((len(places), NODE))
    nodes[:, :2] = places
    sites, held = _grow(nodes, start, basis, near, far, shares, grid)
    flat = ((sites[:, 0] + half) * (2 * half + 1) + sites[:, 1] + half) * len(motif) + sites[:, 2]
    error, neighbours, smooth = _check(nodes, flat, sites, held, near)
    return Growth(
        sites=sites,
        propagated_px=nodes[:, 6:],
        vectors_px=smooth[:, 2:6].reshape(-1, 2, 2),
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


def _steps(basis: Array, motif: Array, reach: float, half: int) -> Array:
    """List the steps up to ``reach`` longer basis vectors; see `Growth`."""
    limits = 0.05 * np.hypot(*basis.T).min(), reach * np.hypot(*basis.T).max()
    i, j, to = np.meshgrid(*[np.arange(-4, 5)] * 2, np.arange(len(motif)), indexing="ij")
    target = np.stack([i, j, to], -1).reshape(-1, 3)
    cells = target[:, :2] + motif[target[:, 2]] - motif[:, None]
    length = np.sqrt(((cells @ basis) ** 2).sum(2))
    length[(length < limits[0]) | (length > limits[1])] = np.inf
    order = np.argsort(length, axis=1, kind="stable")[:, : np.isfinite(length).sum(1).max()]
    target = target[order]
    to = target[..., 2] - np.arange(len(motif))[:, None]
    way = (target[..., 0] * (2 * half + 1) + target[..., 1]) * len(motif) + to
    target[np.isinf(np.take_along_axis(length, order, 1)), 2] = -1
    cells = np.take_along_axis(cells, order[..., None], 1)
    return np.concatenate([cells, way[..., None], target], axis=2)


def joined(
    growth: Growth, keep: npt.NDArray[np.bool_], start: int, crowded: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Keep the columns that steps between kept columns join to one of them.

    Parameters
    ----------
    growth : Growth, n columns
        Their sites.
    keep : ndarray of bool, shape (n,)
        The columns to look at.
    start : int
        One of them.
    crowded : ndarray of bool, shape (n,)
        Those among columns that are not kept: no far step leads from or to one, as what it would
        cross is not an empty row but another grain.

    Returns
    -------
    ndarray of bool, shape (n,)
        The part of ``keep`` that holds ``start``, less what has too few neighbours.
    """
    tables = growth.near, growth.far
    return np.asarray(
        _joined(growth.sites, growth.flat, (keep, crowded), np.int64(start), tables, growth.size)
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _joined(sites, flat, masks, start, tables, size):  # type: ignore[no-untyped-def]
    """Flood from the start over columns that have several near neighbours."""
    keep, crowded = masks
    held = np.full(size, -1, np.int32)
    for n in range(len(keep)):
        if keep[n]:
            held[flat[n]] = n
    near, far = tables
    solid = _crowd(flat, sites, held, keep, near) >= LEAST_NEIGHBOURS
    inside = np.zeros(len(keep), np.bool_)
    queue, end, head = np.empty(len(keep), np.int64), 1, 0
    queue[0] = start
    inside[start] = True
    while head < end:
        c = queue[head]
        head += 1
        s = sites[c, 2]
        for k in range(far.shape[1]):
            if far[s, k, 5] < 0:
                break
            other = held[flat[c] + int(far[s, k, 2])]
            if other < 0 or inside[other] or not solid[other]:
                continue
            if (k < near.shape[1] and near[s, k, 5] >= 0) or not (crowded[c] or crowded[other]):
                inside[other] = True
                queue[end] = other
                end += 1
    return inside


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _crowd(flat, sites, held, keep, steps):  # type: ignore[no-untyped-def]
    """Count the held sites around each column that is kept."""
    crowd = np.zeros(len(keep), np.int64)
    for n in range(len(keep)):
        if not keep[n]:
            continue
        s = sites[n, 2]
        for k in range(steps.shape[1]):
            if steps[s, k, 5] >= 0:
                crowd[n] += held[flat[n] + int(steps[s, k, 2])] >= 0
    return crowd


# Each array handed to a compiled function costs reference counting at each call: hence few of them,
# with one row (node) for each column: place (2), vectors (4), proposed place (2).


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _propose(site, s, held, nodes, steps):  # type: ignore[no-untyped-def]
    """Weighted mean of a site's place and vectors as its indexed neighbours predict; how many."""
    y, x, a, b, c, d, total, known = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1e-300, 0
    for k in range(steps.shape[1]):
        if steps[s, k, 5] < 0:
            break
        n = held[site + int(steps[s, k, 2])]
        if n < 0:
            continue
        u, v = -steps[s, k, 0], -steps[s, k, 1]
        dy = u * nodes[n, 2] + v * nodes[n, 4]
        dx = u * nodes[n, 3] + v * nodes[n, 5]
        weight = 1.0 / (dy * dy + dx * dx)
        y += weight * (nodes[n, 0] + dy)
        x += weight * (nodes[n, 1] + dx)
        a += weight * nodes[n, 2]
        b += weight * nodes[n, 3]
        c += weight * nodes[n, 4]
        d += weight * nodes[n, 5]
        total += weight
        known += 1
    return known, (y / total, x / total, a / total, b / total, c / total, d / total)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _corrected(n, site, s, held, nodes, mean, steps, calm):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    """Vectors at column n: the mean ones, turned and stretched to fit its neighbours' places."""
    yy, yx, xx = calm, 0.0, calm
    ey, ex, fy, fx = 0.0, 0.0, 0.0, 0.0
    for k in range(steps.shape[1]):
        if steps[s, k, 5] < 0:
            break
        other = held[site + int(steps[s, k, 2])]
        if other < 0:
            continue
        u, v = -steps[s, k, 0], -steps[s, k, 1]
        dy, dx = u * mean[2] + v * mean[4], u * mean[3] + v * mean[5]
        weight = 1.0 / (dy * dy + dx * dx)
        ry = weight * (nodes[n, 0] - nodes[other, 0] - dy)
        rx = weight * (nodes[n, 1] - nodes[other, 1] - dx)
        yy += weight * dy * dy
        yx += weight * dy * dx
        xx += weight * dx * dx
        ey += dy * ry
        ex += dy * rx
        fy += dx * ry
        fx += dx * rx
    det = yy * xx - yx * yx
    a00, a01 = 1 + (xx * ey - yx * fy) / det, (xx * ex - yx * fx) / det
    a10, a11 = (yy * fy - yx * ey) / det, 1 + (yy * fx - yx * ex) / det
    _, _, a, b, c, d = mean
    return a * a00 + b * a10, a * a01 + b * a11, c * a00 + d * a10, c * a01 + d * a11


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spread(head, end, tolerance, half, nodes, sites, held, queue, steps, shares, grid):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    """Propose the empty sites around each column of the queue; those found there join it."""
    first, order, corner, side = grid
    sublattices = len(shares)
    while head < end:
        c = queue[head]
        head += 1
        i, j, s = sites[c, 0], sites[c, 1], sites[c, 2]
        if max(abs(i), abs(j)) > half - 10:
            continue
        here = ((i + half) * (2 * half + 1) + j + half) * sublattices + s
        for k in range(steps.shape[1]):
            to, site = int(steps[s, k, 5]), here + int(steps[s, k, 2])
            if to < 0 or held[site] != EMPTY:
                continue
            known, mean = _propose(site, to, held, nodes, steps)
            y, x, va, vb, vc, vd = mean
            scale = shares[to] * np.sqrt(min(va * va + vb * vb, vc * vc + vd * vd))
            found, distance = nearest_within(
                nodes, first, order, (corner[0], corner[1], side), (y, x), VACANT * scale
            )
            if found < 0 and known >= LEAST_NEIGHBOURS:
                held[site] = DEAD
            if found < 0 or distance > tolerance * scale or sites[found, 2] >= 0:
                continue
            sites[found, 0], sites[found, 1] = i + int(steps[s, k, 3]), j + int(steps[s, k, 4])
            sites[found, 2] = to
            va, vb, vc, vd = _corrected(found, site, to, held, nodes, mean, steps, CALM)
            nodes[found, 2], nodes[found, 3], nodes[found, 4], nodes[found, 5] = va, vb, vc, vd
            nodes[found, 6], nodes[found, 7] = y, x
            held[site] = found
            queue[end] = found
            end += 1
    return end


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _grow(nodes, start, basis, near, far, shares, grid):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    seed, sublattice, half = start
    n, size = len(nodes), 2 * half + 1
    held = np.full(size * size * len(shares), EMPTY, np.int32)
    sites, queue = np.full((n, 3), -1, np.int64), np.empty(n, np.int64)
    sites[seed, 0], sites[seed, 1], sites[seed, 2] = 0, 0, sublattice
    nodes[seed, 2:6], nodes[seed, 6:] = basis.ravel(), nodes[seed, :2]
    held[(half * size + half) * len(shares) + sublattice] = seed
    queue[0], end, before = seed, 1, 0
    for tolerance in TOLERANCES:
        end = _spread(0, end, tolerance, half, nodes, sites, held, queue, near, shares, grid)
    while n - end > ISLAND * n and end > before:
        before, wide = end, TOLERANCES[1]
        end = _spread(0, end, wide, half, nodes, sites, held, queue, far, shares, grid)
        end = _spread(before, end, wide, half, nodes, sites, held, queue, near, shares, grid)
    return sites, held


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _check(nodes, flat, sites, held, steps):  # type: ignore[no-untyped-def]
    """Compare each column with the place its neighbours predict with the mean vectors of both ends.

    That is exact to second order. Also gives the number of neighbours, and vectors fitted to all
    neighbours and averaged over them and their neighbours.
    """
    n, around = len(nodes), nodes.copy()
    for c in range(n):
        s = sites[c, 2]
        if s >= 0:
            _, mean = _propose(flat[c], s, held, nodes, steps)
            a, b, d, e = _corrected(c, flat[c], s, held, nodes, mean, steps, 0.1)
            around[c, 2], around[c, 3], around[c, 4], around[c, 5] = a, b, d, e
    error, neighbours = np.full(n, np.inf), np.zeros(n, np.int64)
    for c in range(n):
        if sites[c, 2] >= 0:
            error[c], neighbours[c] = _off(c, flat[c], sites[c, 2], held, around, steps)
    smooth = around.copy()
    _smooth(around, smooth, flat, sites, held, steps)
    _smooth(smooth, around, flat, sites, held, steps)
    return error, neighbours, around


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _smooth(nodes, smooth, flat, sites, held, steps):  # type: ignore[no-untyped-def]
    """Average each column's vectors with its neighbours'."""
    for c in range(len(nodes)):
        if sites[c, 2] < 0:
            continue
        known, mean = _propose(flat[c], sites[c, 2], held, nodes, steps)
        for r in range(2, 6):
            smooth[c, r] = 0.8 * mean[r] + 0.2 * nodes[c, r] if known else nodes[c, r]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _off(c, site, s, held, nodes, steps):  # type: ignore[no-untyped-def]
    """Distance of column c from the mean of the places that its neighbours give; how many."""
    total, ry, rx, known = 1e-300, 0.0, 0.0, 0
    for k in range(steps.shape[1]):
        if steps[s, k, 5] < 0:
            break
        n = held[site + int(steps[s, k, 2])]
        if n < 0:
            continue
        u, v = -0.5 * steps[s, k, 0], -0.5 * steps[s, k, 1]
        dy = u * (nodes[c, 2] + nodes[n, 2]) + v * (nodes[c, 4] + nodes[n, 4])
        dx = u * (nodes[c, 3] + nodes[n, 3]) + v * (nodes[c, 5] + nodes[n, 5])
        weight = 1.0 / (dy * dy + dx * dx)
        total += weight
        ry += weight * (nodes[n, 0] + dy - nodes[c, 0])
        rx += weight * (nodes[n, 1] + dx - nodes[c, 1])
        known += 1
    return np.sqrt(ry * ry + rx * rx) / total, known
