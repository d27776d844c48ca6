"""Indexing outward from one column: every column reached corrects the running lattice vectors."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["Growth", "Steps", "grow", "joined", "neighbour_steps"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STEP = 1.45
"""Steps up to this many times the longer basis vector are tried: past a missing column as well."""

TOLERANCES = (0.2, 0.3, 0.42)
"""How far from its proposed place a column may be, in distances of nearest sites: first every
column that is easily reached, so that the hard ones are proposed by more neighbours."""

LEAST_NEIGHBOURS = 3
"""Indexed neighbours that have to agree on a column: those of a corner of the crystal."""

CALM = 0.7
"""Weight of the neighbours' mean vectors against what the new column says of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """Steps from a site to the sites around it, for each sublattice the short ones first.

    Parameters
    ----------
    target : ndarray, shape (m, k, 3)
        Change of i and j, and the sublattice reached.
    cells : ndarray, shape (m, k, 2)
        The step in cells.
    count : ndarray, shape (m,)
        How many of the k there are.
    nearest : ndarray, shape (m,)
        Shortest step as a share of the shorter basis vector.
    """

    target: Integers
    cells: Array
    count: Integers
    nearest: Array


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
    steps : Steps
        The steps that were tried.
    half : int
        Largest i and j that were allowed.
    """

    sites: Integers
    propagated_px: Array
    vectors_px: Array
    error_px: Array
    neighbours: Integers
    steps: Steps
    half: int


def neighbour_steps(basis_px: Array, motif: Array) -> Steps:
    """List the steps that growing takes from each sublattice.

    Parameters
    ----------
    basis_px : ndarray, shape (2, 2)
        Rows are the reduced basis vectors.
    motif : ndarray, shape (m, 2)
        Fractional places of the sublattices.

    Returns
    -------
    Steps
        All steps up to `STEP` longer basis vectors.
    """
    lengths = np.hypot(*basis_px.T)
    i, j, to = np.meshgrid(*[np.arange(-3, 4)] * 2, np.arange(len(motif)), indexing="ij")
    target = np.stack([i, j, to], -1).reshape(-1, 3)
    lists = []
    for place in motif:
        cells = target[:, :2] + motif[target[:, 2]] - place
        length = np.hypot(*(cells @ basis_px).T)
        order = np.argsort(length, kind="stable")
        order = order[(length[order] > 0.05 * lengths[0]) & (length[order] <= STEP * lengths[1])]
        lists.append((target[order], cells[order], float(length[order[0]])))
    most = max(len(item[0]) for item in lists)
    pad = [((0, most - len(item[0])), (0, 0)) for item in lists]
    return Steps(
        target=np.array([np.pad(a[0], p) for a, p in zip(lists, pad, strict=True)], np.int64),
        cells=np.array([np.pad(a[1], p) for a, p in zip(lists, pad, strict=True)]),
        count=np.array([len(item[0]) for item in lists], np.int64),
        nearest=np.array([item[2] for item in lists]) / lengths[0],
    )


def grow(
    positions_px: Array,
    seed: tuple[int, int],
    basis_px: Array,
    motif: Array,
    shape_px: tuple[int, int],
) -> Growth:
    """Index columns outward from one of them, breadth first.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        The columns.
    seed : tuple of int
        The column to start from, and its sublattice; it becomes cell (0, 0).
    basis_px : ndarray, shape (2, 2)
        Basis vectors around the seed.
    motif : ndarray, shape (m, 2)
        Fractional places of the sublattices.
    shape_px : tuple of int
        The frame.

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
    steps = neighbour_steps(basis_px, motif)
    nearest = float(np.hypot(*basis_px.T).min() * steps.nearest.min())
    first, order, cell_px = _cell_grid(positions_px, shape_px, nearest)
    half = int(0.9 * np.hypot(*shape_px) / np.sqrt(abs(np.linalg.det(basis_px)))) + 8
    half = min(half * 2, 4000)
    sites, propagated, vectors, reached = _grow(
        np.ascontiguousarray(positions_px),
        (np.int64(seed[0]), np.int64(seed[1])),
        np.ascontiguousarray(basis_px),
        (steps.target, steps.cells, steps.count, steps.nearest),
        (first, order, cell_px),
        (np.int64(half), np.array(TOLERANCES), CALM),
    )
    error, neighbours, vectors = _check(
        positions_px, sites, vectors, reached, (steps.target, steps.cells, steps.count), half
    )
    return Growth(
        sites=sites,
        propagated_px=propagated,
        vectors_px=vectors,
        error_px=error,
        neighbours=neighbours,
        steps=steps,
        half=half,
    )


def joined(growth: Growth, keep: npt.NDArray[np.bool_], start: int) -> npt.NDArray[np.bool_]:
    """Keep the columns that are joined to one of them by steps between kept columns.

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
    steps = growth.steps
    table = (steps.target, steps.cells, steps.count)
    return np.asarray(_connected(growth.sites, keep, np.int64(start), table, np.int64(growth.half)))


def _cell_grid(
    positions: Array, shape: tuple[int, int], cell_px: float
) -> tuple[Integers, Integers, float]:
    """Sort the columns into square cells: (start of each cell's run, columns by cell, side)."""
    cell_px = max(cell_px, 2.0)
    rows, across = (int(length / cell_px) + 3 for length in shape)
    row = np.clip((positions[:, 0] / cell_px).astype(np.int64) + 1, 1, rows - 2)
    place = np.clip((positions[:, 1] / cell_px).astype(np.int64) + 1, 1, across - 2)
    number = row * across + place
    first = np.zeros((rows, across + 1), np.int64)
    counts = np.bincount(number, minlength=rows * across)
    starts = np.concatenate([[0], np.cumsum(counts)])
    first[:, :across] = starts[:-1].reshape(rows, across)
    first[:, across] = starts[across::across]
    return first, np.argsort(number, kind="stable"), cell_px


@numba.njit(cache=True, nogil=True)
def _nearest(positions, grid, y, x, radius):  # type: ignore[no-untyped-def]
    """Nearest column within the radius, -1 without one."""
    first, order, cell_px = grid
    best, best_square = -1, radius * radius
    top = max(int(np.floor((y - radius) / cell_px)) + 1, 0)
    bottom = min(int(np.floor((y + radius) / cell_px)) + 1, first.shape[0] - 1)
    left = max(int(np.floor((x - radius) / cell_px)) + 1, 0)
    right = min(int(np.floor((x + radius) / cell_px)) + 1, first.shape[1] - 2)
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
def _propose(i, j, s, held, positions, vectors, steps, half, place, mean):  # type: ignore[no-untyped-def]
    """Mean of what the indexed neighbours of a site say of its place and vectors; their weight."""
    target, cells, count = steps[0], steps[1], steps[2]
    place[:] = 0.0
    mean[:] = 0.0
    total = 0.0
    for k in range(count[s]):
        n = held[i + target[s, k, 0] + half, j + target[s, k, 1] + half, target[s, k, 2]]
        if n < 0:
            continue
        u, v = -cells[s, k, 0], -cells[s, k, 1]
        dy = u * vectors[n, 0, 0] + v * vectors[n, 1, 0]
        dx = u * vectors[n, 0, 1] + v * vectors[n, 1, 1]
        weight = 1.0 / (dy * dy + dx * dx)
        place[0] += weight * (positions[n, 0] + dy)
        place[1] += weight * (positions[n, 1] + dx)
        for a in range(2):
            for b in range(2):
                mean[a, b] += weight * vectors[n, a, b]
        total += weight
    if total > 0:
        place /= total
        mean /= total
    return total


@numba.njit(cache=True, nogil=True)
def _corrected(n, i, j, s, held, positions, mean, steps, half, calm, out):  # type: ignore[no-untyped-def]
    """Vectors at column n: the mean ones, turned and stretched to fit its neighbours' places."""
    target, cells, count = steps[0], steps[1], steps[2]
    yy, yx, xx = calm, 0.0, calm
    ey, ex, fy, fx = 0.0, 0.0, 0.0, 0.0
    for k in range(count[s]):
        other = held[i + target[s, k, 0] + half, j + target[s, k, 1] + half, target[s, k, 2]]
        if other < 0:
            continue
        u, v = -cells[s, k, 0], -cells[s, k, 1]
        dy = u * mean[0, 0] + v * mean[1, 0]
        dx = u * mean[0, 1] + v * mean[1, 1]
        weight = 1.0 / (dy * dy + dx * dx)
        ry = positions[n, 0] - positions[other, 0] - dy
        rx = positions[n, 1] - positions[other, 1] - dx
        yy += weight * dy * dy
        yx += weight * dy * dx
        xx += weight * dx * dx
        ey += weight * dy * ry
        ex += weight * dy * rx
        fy += weight * dx * ry
        fx += weight * dx * rx
    det = yy * xx - yx * yx
    a00, a01 = (xx * ey - yx * fy) / det, (xx * ex - yx * fx) / det
    a10, a11 = (yy * fy - yx * ey) / det, (yy * fx - yx * ex) / det
    for r in range(2):
        out[r, 0] = mean[r, 0] + mean[r, 0] * a00 + mean[r, 1] * a10
        out[r, 1] = mean[r, 1] + mean[r, 0] * a01 + mean[r, 1] * a11


@numba.njit(cache=True, nogil=True)
def _grow(positions, seed, basis, steps, grid, settings):  # type: ignore[no-untyped-def]
    half, tolerances, calm = settings
    target, nearest = steps[0], steps[3]
    n, size = len(positions), 2 * half + 1
    held = np.full((size, size, len(target)), -1, np.int32)
    sites = np.full((n, 3), -1, np.int64)
    propagated, vectors = np.zeros((n, 2)), np.zeros((n, 2, 2))
    queue, place, mean = np.empty(n, np.int64), np.empty(2), np.empty((2, 2))
    sites[seed[0], 0], sites[seed[0], 1], sites[seed[0], 2] = 0, 0, seed[1]
    propagated[seed[0]] = positions[seed[0]]
    vectors[seed[0]] = basis
    held[half, half, seed[1]] = seed[0]
    queue[0], end = seed[0], 1
    for tolerance in tolerances:
        head = 0
        while head < end:
            c = queue[head]
            head += 1
            s = sites[c, 2]
            for k in range(steps[2][s]):
                i, j = sites[c, 0] + target[s, k, 0], sites[c, 1] + target[s, k, 1]
                to = target[s, k, 2]
                if max(abs(i), abs(j)) > half - 4 or held[i + half, j + half, to] >= 0:
                    continue
                _propose(i, j, to, held, positions, vectors, steps, half, place, mean)
                short = np.sqrt(
                    min(mean[0, 0] ** 2 + mean[0, 1] ** 2, mean[1, 0] ** 2 + mean[1, 1] ** 2)
                )
                radius = tolerance * nearest[to] * short
                found = _nearest(positions, grid, place[0], place[1], radius)
                if found < 0 or sites[found, 2] >= 0:
                    continue
                sites[found, 0], sites[found, 1], sites[found, 2] = i, j, to
                propagated[found] = place
                _corrected(
                    found, i, j, to, held, positions, mean, steps, half, calm, vectors[found]
                )
                held[i + half, j + half, to] = found
                queue[end] = found
                end += 1
    return sites, propagated, vectors, queue[:end]


@numba.njit(cache=True, nogil=True)
def _held(sites, reached, half, sublattices):  # type: ignore[no-untyped-def]
    """Column at each site, -1 where there is none."""
    held = np.full((2 * half + 1, 2 * half + 1, sublattices), -1, np.int32)
    for c in reached:
        held[sites[c, 0] + half, sites[c, 1] + half, sites[c, 2]] = c
    return held


@numba.njit(cache=True, nogil=True)
def _check(positions, sites, vectors, reached, steps, half):  # type: ignore[no-untyped-def]
    """Compare each column with the place that its neighbours give by the mean of both ends' vectors.

    That is exact to second order. Also gives the number of neighbours, and vectors fitted from all
    sides and averaged over the neighbours and theirs.
    """
    target, cells, count = steps
    n = len(positions)
    held = _held(sites, reached, half, len(target))
    around, mean, place = np.zeros((n, 2, 2)), np.empty((2, 2)), np.empty(2)
    for c in reached:
        i, j, s = sites[c, 0], sites[c, 1], sites[c, 2]
        _propose(i, j, s, held, positions, vectors, steps, half, place, mean)
        _corrected(c, i, j, s, held, positions, mean, steps, half, 0.1, around[c])
    error, neighbours = np.full(n, np.inf), np.zeros(n, np.int64)
    for c in reached:
        i, j, s = sites[c, 0], sites[c, 1], sites[c, 2]
        total, ry, rx = 0.0, 0.0, 0.0
        for k in range(count[s]):
            other = held[i + target[s, k, 0] + half, j + target[s, k, 1] + half, target[s, k, 2]]
            if other < 0:
                continue
            u, v = -0.5 * cells[s, k, 0], -0.5 * cells[s, k, 1]
            one, two = around[c], around[other]
            dy = u * (one[0, 0] + two[0, 0]) + v * (one[1, 0] + two[1, 0])
            dx = u * (one[0, 1] + two[0, 1]) + v * (one[1, 1] + two[1, 1])
            weight = 1.0 / (dy * dy + dx * dx)
            total += weight
            ry += weight * (positions[other, 0] + dy - positions[c, 0])
            rx += weight * (positions[other, 1] + dx - positions[c, 1])
            neighbours[c] += 1
        if total > 0:
            error[c] = np.sqrt(ry * ry + rx * rx) / total
    for _ in range(2):
        smooth = around.copy()
        for c in reached:
            i, j, s = sites[c, 0], sites[c, 1], sites[c, 2]
            _propose(i, j, s, held, positions, around, steps, half, place, mean)
            smooth[c] = 0.8 * mean + 0.2 * around[c]
        around = smooth
    return error, neighbours, around


@numba.njit(cache=True, nogil=True)
def _crowd(site, held, target, count, half):  # type: ignore[no-untyped-def]
    """How many of the sites around one are held."""
    i, j, s = site[0] + half, site[1] + half, site[2]
    crowd = 0
    for k in range(count[s]):
        crowd += held[i + target[s, k, 0], j + target[s, k, 1], target[s, k, 2]] >= 0
    return crowd


@numba.njit(cache=True, nogil=True)
def _connected(sites, keep, start, steps, half):  # type: ignore[no-untyped-def]
    """Columns joined to the first by steps between kept columns, each with several neighbours."""
    target, _, count = steps
    held = _held(sites, np.flatnonzero(keep), half, len(target))
    joined = np.zeros(len(keep), np.bool_)
    queue, end, head = np.empty(len(keep), np.int64), 1, 0
    queue[0] = start
    joined[start] = True
    while head < end:
        c = queue[head]
        head += 1
        i, j, s = sites[c, 0] + half, sites[c, 1] + half, sites[c, 2]
        for k in range(count[s]):
            other = held[i + target[s, k, 0], j + target[s, k, 1], target[s, k, 2]]
            if other < 0 or joined[other]:
                continue
            if _crowd(sites[other], held, target, count, half) >= LEAST_NEIGHBOURS:
                joined[other] = True
                queue[end] = other
                end += 1
    return joined
