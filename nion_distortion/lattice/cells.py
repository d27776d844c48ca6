"""Choice of the cell: split by brightness, then the canonical one or that of the last frame."""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._order import median
from nion_distortion.lattice.basis import reduced
from nion_distortion.lattice.indexed import Lattice

__all__ = [
    "SiteTable",
    "canonical_cell",
    "cell_like",
    "like_neighbours",
    "site_table",
    "split_by_brightness",
]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LEAST_CONTRAST, LEAST_SIGNIFICANCE = 0.06, 8.0
"""Least alternation of brightness that splits one sublattice in two: relative, and in standard
errors."""

DIM = (0.45, 0.8)
"""Limits of the least allowed ratio of a column's brightness or width to its neighbours', and of
theirs to its own: one less three of their relative spreads. Below it stands noise on an empty site
(dim), above its inverse another grain's column (bright) or two fitted as one (broad)."""

MEDIAN_TO_SPREAD = 1.4826 * 2**0.5
"""Factor from the median of |a - b| / (a + b) over pairs to the relative standard deviation."""

LOWEST_FRACTION = -0.15
"""Fractional places of a motif run from here to 0.85: noise moves none of the usual ones (0, 1/4,
1/3, 1/2, ...) across the limit."""


def split_by_brightness(sites: Integers, amplitude: Array) -> tuple[Integers, Integers]:
    """Enlarge the cell where equal places alternate in brightness (Sr and Ti-O in SrTiO3 [001]).

    Parameters
    ----------
    sites : ndarray, shape (n, 3)
        Index i and j, and sublattice, in the lattice of places.
    amplitude : ndarray, shape (n,)
        Brightness of each column.

    Returns
    -------
    rows : ndarray, shape (2, 2)
        The larger cell's vectors in the smaller one's; the identity where nothing alternates.
    sites : ndarray, shape (n, 3)
        Index i and j, and sublattice, in the larger cell.
    """
    bright = np.minimum(amplitude, 4 * median(amplitude))
    waves = [w for w in ((1, 0), (0, 1), (1, 1)) if _alternates(sites, bright, np.array(w))]
    rows = _common_cell(waves)
    if abs(round(np.linalg.det(rows))) == 1:
        return rows, sites
    cells = sites[:, :2] @ np.linalg.inv(rows)
    whole = np.floor(cells + 1e-9).astype(np.int64)
    rest = np.rint(sites[:, :2] - whole @ rows).astype(np.int64)
    key = (4 * rest[:, 0] + rest[:, 1] + 20) * (int(sites[:, 2].max()) + 1) + sites[:, 2]
    sublattice = np.cumsum(np.bincount(key) > 0)[key] - 1
    return rows, np.column_stack([whole, sublattice])


class SiteTable(NamedTuple):
    """Where columns stand in a table of sites, with an empty rim.

    Attributes
    ----------
    place : ndarray, shape (n, 3)
        Row, column and sublattice of each in the table.
    shape : tuple of int
        The table's.
    """

    place: Integers
    shape: tuple[int, int, int]

    def held(self, values: npt.NDArray[Any]) -> Array:
        """Lay values out by site.

        Parameters
        ----------
        values : ndarray, shape (n,)
            One for each column, positive.

        Returns
        -------
        ndarray
            The table, 0 where there is no column.
        """
        table = np.zeros(self.shape)
        table[self.place[:, 0], self.place[:, 1], self.place[:, 2]] = values
        return table

    def empty(self, rows: Integers, step: Integers) -> npt.NDArray[np.bool_]:
        """Tell from which columns a step leads to a site without one.

        Parameters
        ----------
        rows : ndarray of int, shape (k,)
            The columns, all of one sublattice.
        step : ndarray of int, shape (3,)
            Change of i and j, at most one each, and the sublattice reached.

        Returns
        -------
        ndarray of bool, shape (k,)
            True where nothing stands there.
        """
        filled = self.held(np.ones(len(self.place)))
        i, j = self.place[rows, 0] + step[0], self.place[rows, 1] + step[1]
        return np.asarray(filled[i, j, step[2]] == 0)


def site_table(sites: Integers) -> SiteTable:
    """Make room for the sites that occur.

    Parameters
    ----------
    sites : ndarray, shape (n, 3)
        Index i and j, and sublattice.

    Returns
    -------
    SiteTable
        With one empty site around them.
    """
    axes = sites.T.copy()  # three long rows: reduced ten times faster than three columns
    corner = [int(axes[0].min()) - 1, int(axes[1].min()) - 1, 0]
    height, width, last = (int(a.max()) - c for a, c in zip(axes, corner, strict=True))
    place = sites - np.array(corner)
    return SiteTable(place=place, shape=(height + 2, width + 2, last + 1))


def like_neighbours(table: SiteTable, size: Array) -> npt.NDArray[np.bool_]:
    """Find columns as bright, or as wide, as their neighbours; noise is dim, a merged pair broad.

    Parameters
    ----------
    table : SiteTable, n columns
        Where they are.
    size : ndarray, shape (n,)
        Brightness or width of each.

    Returns
    -------
    ndarray of bool, shape (n,)
        False where a column has much less, or much more, than most of those next to it on its own
        sublattice.
    """
    held = table.held(size)
    scatter = _scatter(held) * MEDIAN_TO_SPREAD
    return np.asarray(_like(table.place, size, held, np.clip(1 - 3 * scatter, *DIM)))


@numba.njit(cache=True, nogil=True)
def _scatter(held):  # type: ignore[no-untyped-def]
    """Median relative difference of neighbours, for each sublattice; 1 where there are none."""
    rows, across, count = held.shape
    result, off = np.ones(count), np.empty(rows * across)
    for s in range(count):
        pairs = 0
        for i in range(rows):
            for j in range(1, across):
                one, two = held[i, j - 1, s], held[i, j, s]
                if one > 0 and two > 0:
                    off[pairs] = abs(one - two) / (one + two)
                    pairs += 1
        if pairs:
            result[s] = np.median(off[:pairs])
    return result


@numba.njit(cache=True, nogil=True)
def _like(place, size, held, share):  # type: ignore[no-untyped-def]
    """Compare each column with the eight around it on its sublattice."""
    keep = np.ones(len(place), np.bool_)
    for n in range(len(place)):
        i, j, s = place[n, 0], place[n, 1], place[n, 2]
        around, larger, smaller = 0, 0, 0
        for di in range(-1, 2):
            for dj in range(-1, 2):
                other = held[i + di, j + dj, s]
                if other > 0.0 and (di != 0 or dj != 0):
                    around += 1
                    larger += size[n] < share[s] * other
                    smaller += other < share[s] * size[n]
        keep[n] = around < 2 or max(larger, smaller) < 0.7 * around
    return keep


def _alternates(sites: Integers, bright: Array, wave: Integers) -> bool:
    """Whether brightness changes with the sign (-1)^(wave . cell), on any sublattice."""
    odd = ((sites[:, :2] @ wave) % 2).astype(bool)
    for s in range(int(sites[:, 2].max()) + 1):
        one = bright[(sites[:, 2] == s) & odd]
        two = bright[(sites[:, 2] == s) & ~odd]
        if min(len(one), len(two)) < 6:
            continue
        contrast = abs(one.mean() - two.mean())
        error = np.sqrt(one.var() / len(one) + two.var() / len(two)) + 1e-12
        large = contrast > LEAST_CONTRAST * (one.mean() + two.mean())
        if large and contrast > LEAST_SIGNIFICANCE * error:
            return True
    return False


def _common_cell(waves: list[tuple[int, int]]) -> Integers:
    """Basis of the cells at which every one of these waves has the same sign."""
    if not waves:
        return np.eye(2, dtype=np.int64)
    if len(waves) > 1:
        return 2 * np.eye(2, dtype=np.int64)
    return np.array(
        {(1, 0): [[2, 0], [0, 1]], (0, 1): [[1, 0], [0, 2]], (1, 1): [[1, 1], [-1, 1]]}[waves[0]]
    )


def canonical_cell(basis_px: Array) -> Integers:
    """Choose among the equivalent reduced cells the one nearest to (+y, +x).

    Parameters
    ----------
    basis_px : ndarray, shape (2, 2)
        Any basis of the lattice.

    Returns
    -------
    ndarray, shape (2, 2)
        Whole numbers M, so that M @ basis_px has the shortest vectors, 60 to 120 degrees apart,
        positive determinant, and of these the largest sum of cosines between the first vector
        and +y and the second and +x.
    """
    short = reduced(basis_px)
    to_short = np.rint(short @ np.linalg.inv(basis_px))
    steps = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 4, indexing="ij"), -1).reshape(-1, 2, 2)
    steps = steps[np.rint(np.linalg.det(steps @ to_short) * np.sign(np.linalg.det(basis_px))) == 1]
    bases = steps @ short
    lengths = np.sqrt((bases**2).sum(2))
    upright = bases[:, 0, 0] / lengths[:, 0] + bases[:, 1, 1] / lengths[:, 1]
    allowed = lengths.sum(1) < 1.03 * lengths.sum(1).min()
    best = steps[np.argmax(np.where(allowed, upright, -9.0))]
    return np.asarray(np.rint(best @ to_short), dtype=np.int64)


def cell_like(basis_px: Array, previous: Lattice) -> Integers | None:
    """Choose among the equivalent cells the one nearest to an earlier lattice's.

    Parameters
    ----------
    basis_px : ndarray, shape (2, 2)
        Any basis of the lattice.
    previous : Lattice
        The lattice to stay with.

    Returns
    -------
    ndarray, shape (2, 2), or None
        Whole numbers M, so that M @ basis_px is nearest; None where none is within 10 %.
    """
    exact = previous.basis_px @ np.linalg.inv(basis_px)
    whole = np.rint(exact)
    size = np.abs(np.linalg.det(previous.basis_px)) ** 0.5
    off = np.abs(whole @ basis_px - previous.basis_px).max() / size
    if abs(round(np.linalg.det(whole))) != 1 or off > 0.1:
        return None
    return whole.astype(np.int64)
