"""Indexing by rounding, where the distortion and the lattice are known from the frame before."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._order import median
from nion_distortion.lattice.indexed import Lattice
from nion_distortion.lattice.refinement import MEDIAN_LENGTH

__all__ = ["rounded_sites"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

CENTRAL = 48
"""Number of central columns from which the shift since the frame before is found."""

NEAR = 0.15
"""Distance from a site, in nearest distances of sites, within which a column votes for a shift."""

OUTLIER, FARTHEST = 4.5, 0.25
"""Farthest from a site: in robust standard deviations, and in nearest distances of sites."""

LEAST_SHARE, LEAST_BLOCK_SHARE, BLOCKS = 0.8, 0.6, 4
"""Least share of the columns on sites, in the whole frame and in each block; and blocks along each
axis."""


def rounded_sites(
    places_px: Array, amplitude: Array, shape_px: tuple[int, int], previous: Lattice
) -> tuple[Booleans, Integers, Array] | None:
    """Round places to the sites of a known lattice that may have moved, and check that they fit.

    Parameters
    ----------
    places_px : ndarray, shape (n, 2)
        The columns, with the distortion taken out.
    amplitude : ndarray, shape (n,)
        Brightness: where a crystal looks the same from two sublattices, the first is the brightest.
    shape_px : tuple of int
        The frame.
    previous : Lattice
        The lattice of the frame before.

    Returns
    -------
    keep : ndarray of bool, shape (n,)
        The columns that are on a site.
    sites : ndarray, shape (n, 3)
        Index i and j, and sublattice.
    off_px : ndarray, shape (n, 2)
        Distance from the site; None instead of all three where the lattice does not fit.
    """
    inverse = np.linalg.inv(previous.basis_px)
    table = (inverse, previous.basis_px, previous.motif)
    nearest = _nearest_sites(previous)
    central = _central(places_px, shape_px)
    origin = _moved(places_px[central], amplitude[central], table, NEAR * nearest)
    off = _rounded(places_px, origin, *table)[1]
    origin = origin + np.array([median(off[:, 0]), median(off[:, 1])])
    sites, off = _rounded(places_px, origin, *table)
    size = np.sqrt(off[:, 0] ** 2 + off[:, 1] ** 2)
    limit = min(OUTLIER * median(size) / MEDIAN_LENGTH, FARTHEST * nearest)
    keep = size <= limit
    _drop_twins(sites, size, keep)
    fits = _everywhere(places_px, keep, shape_px) and _first_is_brightest(sites, amplitude, keep)
    return (keep, sites, off) if fits else None


def _nearest_sites(lattice: Lattice) -> float:
    """Shortest distance between two sites."""
    whole = np.mgrid[-1:2, -1:2].reshape(2, -1).T[:, None]
    steps = (whole + lattice.motif - lattice.motif[:, None, None]).reshape(-1, 2)
    lengths = np.hypot(*(steps @ lattice.basis_px).T)
    return float(lengths[lengths > 1e-6].min())


def _central(places: Array, shape: tuple[int, int]) -> Integers:
    square = ((places - (np.array(shape) - 1) / 2) ** 2).sum(1)
    return np.asarray(np.argpartition(square, min(CENTRAL, len(square) - 1))[:CENTRAL])


@numba.njit(cache=True, nogil=True)
def _moved(places, amplitude, table, near):  # type: ignore[no-untyped-def]
    """Origin that puts most columns on sites; of equal ones, the brightest on the first."""
    motif = table[2]
    best, best_score = places[0].copy(), -1.0
    total = amplitude.sum()
    for n in range(len(places)):
        for s in range(len(motif)):
            origin = places[n] - motif[s, 0] * table[1][0] - motif[s, 1] * table[1][1]
            sites, off = _rounded(places, origin, table[0], table[1], motif)
            score = 0.0
            for p in range(len(places)):
                if off[p, 0] ** 2 + off[p, 1] ** 2 < near * near:
                    score += 1.0 + len(places) * (sites[p, 2] == 0) * 0.2 * amplitude[p] / total
            if score > best_score:
                best, best_score = origin, score
    return best


@numba.njit(cache=True, nogil=True)
def _rounded(places, origin, inverse, basis, motif):  # type: ignore[no-untyped-def]
    """Nearest site of each place, and the distance."""
    sites, off = np.empty((len(places), 3), np.int64), np.empty((len(places), 2))
    for n in range(len(places)):
        y, x = places[n, 0] - origin[0], places[n, 1] - origin[1]
        u, v = y * inverse[0, 0] + x * inverse[1, 0], y * inverse[0, 1] + x * inverse[1, 1]
        nearest = np.inf
        for s in range(len(motif)):
            i, j = np.rint(u - motif[s, 0]), np.rint(v - motif[s, 1])
            a, b = u - motif[s, 0] - i, v - motif[s, 1] - j
            dy, dx = a * basis[0, 0] + b * basis[1, 0], a * basis[0, 1] + b * basis[1, 1]
            if dy * dy + dx * dx < nearest:
                nearest = dy * dy + dx * dx
                sites[n, 0], sites[n, 1], sites[n, 2] = int(i), int(j), s
                off[n, 0], off[n, 1] = dy, dx
    return sites, off


@numba.njit(cache=True, nogil=True)
def _drop_twins(sites, size, keep):  # type: ignore[no-untyped-def]
    """Where two columns claim one site the nearer has it."""
    top, left = sites[:, 0].min(), sites[:, 1].min()
    shape = (sites[:, 0].max() - top + 1, sites[:, 1].max() - left + 1, sites[:, 2].max() + 1)
    held = np.full(shape, -1, np.int32)
    for n in range(len(sites)):
        if not keep[n]:
            continue
        i, j, s = sites[n, 0] - top, sites[n, 1] - left, sites[n, 2]
        other = held[i, j, s]
        if other >= 0 and size[other] <= size[n]:
            keep[n] = False
            continue
        if other >= 0:
            keep[other] = False
        held[i, j, s] = n


def _everywhere(places: Array, keep: Booleans, shape: tuple[int, int]) -> bool:
    """Whether nearly all columns are on sites, in every part of the frame that has some."""
    part = np.clip((places / np.array(shape) * BLOCKS).astype(np.int64), 0, BLOCKS - 1)
    number = part[:, 0] * BLOCKS + part[:, 1]
    there = np.bincount(number, minlength=BLOCKS**2)
    fit = np.bincount(number[keep], minlength=BLOCKS**2)
    crowded = there >= 10
    enough = fit[crowded] >= LEAST_BLOCK_SHARE * there[crowded]
    return bool(keep.mean() >= LEAST_SHARE and enough.all())


def _first_is_brightest(sites: Integers, amplitude: Array, keep: Booleans) -> bool:
    """Whether no sublattice outshines the first: else they are taken for each other."""
    bright, names = amplitude[keep], sites[keep, 2]
    there = np.bincount(names)
    levels = [median(bright[names == s]) for s in np.flatnonzero(there)]
    return bool(there[0] > 0 and levels[0] >= 0.9 * max(levels))
