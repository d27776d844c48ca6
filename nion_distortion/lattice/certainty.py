"""Columns on sites -> those that are certain, judged by their fits and by their neighbours."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
import numpy.typing as npt
from scipy.ndimage import label
from scipy.special import ndtri

from nion_distortion._order import median
from nion_distortion.atoms.accept import LEAST_SIGNAL
from nion_distortion.frame import UnusableFrameError
from nion_distortion.lattice.cells import SiteTable, like_neighbours
from nion_distortion.lattice.neighbours import count_within

if TYPE_CHECKING:
    from nion_distortion.atoms import AtomColumns

__all__ = [
    "LEAST_COLUMNS",
    "LEAST_CONFIDENCE",
    "Placed",
    "certain",
    "check_single",
    "error_in_spreads",
    "held",
    "majority",
]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

LEAST_CONFIDENCE = 0.9
"""Least confidence for an index (amplitude 3.0 times its error): weaker columns are too often
noise; they may help to find the lattice, but get no index."""

ODDS = 4.6
"""A column of signal z (amplitude over its error) may be up to d = sqrt(z^2 - 4.6) spreads from its
site. A noise peak of that height has the likelihood exp(-z^2 / 2) and stands anywhere, a column at
distance d has exp(-d^2 / 2). The constant, 2 ln 10, keeps the column's ten times larger; as noise
may stand anywhere, a column is then about a thousand times as likely."""

ALWAYS, SURE = 2.0, 0.99999
"""Distance in spreads that is always accepted; confidence above which any distance is."""

ODD_SHAPE, LEAST_SPREAD = 3.5, 0.1
"""Excess of chi^2 over the typical one, in spreads, beyond which a column loses its index unless
its neighbours' chi^2 is raised as much; and the least spread, as a share of the typical chi^2."""

LEAST_COMPANIONS, LEAST_COLUMNS = 3, 25
"""Fewest other indexed columns in the 3 x 3 cells around a column for it to keep its index; and
fewest columns of a connected region: fewer may lie on a lattice by chance."""

LEAST_COMPANIONS_OF_MANY = 5
"""The first of these where the cell has several columns: one without the others of its cell is
easily assigned to the wrong sublattice."""

CLOSE, EQUAL = 3.6, 1.15
"""Distance in sigma below which two sites may be fitted as one column; and ratio to the shortest
distance up to which others count as equally short."""

LEAST_WIDTH_SPREAD, DISPLACED = 0.02, 0.1
"""Least spread of log sigma in a sublattice; and shift towards the empty site beside a column, as
a share of the distance to it, that counts as one spread."""

MISFIT = 0.035
"""Excess of chi^2 over 1, per electron at the peak, above which a crystal of one column in the cell
consists of unresolved pairs: these have 0.045 to 0.065, single columns up to 0.02 even where lines
jitter by 15 pm, and up to 0.01 in real frames."""

MERGED = 3.0
"""Sum of the excesses of width, chi^2 and shift, each in its spread, above which a column is two
fitted as one: halfway between the expected values of one (0) and two (about 2 each)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """Columns that have a site each, n of them.

    Parameters
    ----------
    columns : AtomColumns, n or more columns
        All of the frame.
    rows : ndarray, shape (n,)
        Those that have one.
    table : SiteTable, n columns
        Where they are.
    sites : ndarray, shape (n, 3)
        Index i and j, and sublattice.
    error : ndarray, shape (n,)
        Distance from the place that the neighbours, or the known lattice, give; in spreads.
    correction_px : ndarray, shape (n, 2)
        Seen minus proposed.
    basis_px : ndarray, shape (2, 2)
        Rows are the basis vectors.
    motif : ndarray, shape (m, 2)
        Fractional places of the sublattices.
    """

    columns: "AtomColumns"
    rows: Integers
    table: SiteTable
    sites: Integers
    error: Array
    correction_px: Array
    basis_px: Array
    motif: Array


def error_in_spreads(error_px: Array, variance_px2: Array) -> Array:
    """Divide distances by their standard deviation: each column's variance plus a common one.

    Parameters
    ----------
    error_px : ndarray, shape (n,)
        Distance of each from where it should be.
    variance_px2 : ndarray, shape (n,)
        Of each place, for each axis.

    Returns
    -------
    ndarray, shape (n,)
        Distances in standard deviations.
    """
    # the median of a squared distance in the plane is 2 ln 2 variances
    common = median(error_px**2 / (2 * np.log(2)) - variance_px2)
    return np.asarray(error_px / np.sqrt(variance_px2 + max(common, 1e-12)))


def certain(placed: Placed) -> Booleans:
    """Decide which are certainly columns, and single ones.

    Parameters
    ----------
    placed : Placed, n columns
        Columns on sites.

    Returns
    -------
    ndarray of bool, shape (n,)
        False for what may be noise, or two columns fitted as one.
    """
    columns, rows, table = placed.columns, placed.rows, placed.table
    chi2, sigma = columns.chi2[rows], columns.sigma_px[rows]
    odd = _oddness(chi2)
    keep = _above_noise(columns.confidence[rows], placed.error)
    keep &= _like_the_others(odd, chi2, table)
    keep &= like_neighbours(table, columns.amplitude[rows])
    keep &= like_neighbours(table, sigma)
    return np.asarray(keep & ~_merged(placed, sigma, odd))


def check_single(placed: Placed) -> None:
    """Refuse a lattice of unresolved pairs: it is consistent, but not the crystal's.

    Parameters
    ----------
    placed : Placed, n columns
        Columns on sites.

    Raises
    ------
    UnusableFrameError
        If there is one column in the cell, and it has not the shape of one.
    """
    chi2, counts = placed.columns.chi2[placed.rows], placed.columns.counts[placed.rows]
    misfit = (median(chi2) - 1) / median(counts)
    if len(placed.motif) == 1 and misfit > MISFIT:
        raise UnusableFrameError(
            "no lattice was found: the columns do not have the shape of single ones (chi^2"
            f" {median(chi2):.1f} at {median(counts):.0f} counts); pairs that are not resolved"
            " look like that"
        )


def majority(places_px: Array, keep: Booleans, strangers: Booleans, reach_px: float) -> Booleans:
    """Drop columns around which more others stand off the lattice than on it.

    Parameters
    ----------
    places_px : ndarray, shape (n, 2)
        All columns.
    keep : ndarray of bool, shape (n,)
        Those with an index.
    strangers : ndarray of bool, shape (n,)
        Those off the lattice.
    reach_px : float
        How far is looked.

    Returns
    -------
    ndarray of bool, shape (n,)
        What is left of ``keep``: at the rim of another grain some of its columns are on sites.
    """
    near = _near_crowds(places_px, places_px[strangers], reach_px)
    places, kept = places_px[near], keep[near]
    if not kept.any():
        return keep
    others = count_within(places, kept, strangers[near], reach_px)
    doubtful = others >= LEAST_COMPANIONS
    friends = count_within(places, doubtful, kept, reach_px)
    result = keep.copy()
    result[near] &= ~(doubtful & (others > friends))
    return result


def _near_crowds(places: Array, strangers: Array, reach: float) -> Integers:
    """Find the columns in the bounding box of clusters of strangers; mostly few, or none."""
    nowhere = np.zeros(0, np.int64)
    if len(strangers) < LEAST_COMPANIONS:
        return nowhere
    every = np.ones(len(strangers), bool)
    company = count_within(strangers, every, every, 2 * reach)
    crowd = strangers[company >= LEAST_COMPANIONS - 1]
    if not len(crowd):
        return nowhere
    y, x = places.T
    # twice the reach: the neighbours of a crowd's neighbours are counted too
    (top, left), (bottom, right) = crowd.min(0) - 2 * reach, crowd.max(0) + 2 * reach
    return np.flatnonzero((y >= top) & (y <= bottom) & (x >= left) & (x <= right))


def held(table: SiteTable, keep: Booleans) -> Booleans:
    """Keep columns with enough indexed neighbours, in a region too large to be coincidence.

    Parameters
    ----------
    table : SiteTable, n columns
        Where they are.
    keep : ndarray of bool, shape (n,)
        Those with an index.

    Returns
    -------
    ndarray of bool, shape (n,)
        What is left of ``keep``, without lonely columns and small islands.
    """
    i, j = table.place[:, 0], table.place[:, 1]
    sites = table.held(keep)
    filled = sites.sum(2)
    least = LEAST_COMPANIONS if sites.shape[2] == 1 else LEAST_COMPANIONS_OF_MANY
    around = filled.copy()
    around[1:-1] += filled[:-2] + filled[2:]
    around[:, 1:-1] += around[:, :-2] + around[:, 2:]
    part = label(filled > 0, np.ones((3, 3)))[0][i, j]
    enough = np.bincount(part) >= LEAST_COLUMNS
    return np.asarray(keep & (around[i, j] > least) & enough[part])


def _above_noise(confidence: Array, error: Array) -> Booleans:
    """Tell columns from noise near an empty site: the weaker a column, the nearer it must be."""
    keep = np.asarray(confidence >= LEAST_CONFIDENCE)
    far = np.flatnonzero(keep & (error > ALWAYS) & (confidence < SURE))
    signal = LEAST_SIGNAL + ndtri(confidence[far])
    keep[far] = error[far] ** 2 <= signal**2 - ODDS
    return keep


def _oddness(chi2: Array) -> Array:
    """Departure of chi^2 from the typical one, in spreads."""
    typical = median(chi2)
    return (chi2 - typical) / max(1.4826 * median(np.abs(chi2 - typical)), LEAST_SPREAD * typical)


def _like_the_others(odd: Array, chi2: Array, table: SiteTable) -> Booleans:
    """Find columns whose chi^2 is like that of the others; it is not for two fitted as one.

    Where the fly-back stretches columns, all of them have a raised chi^2: there each is compared
    with its neighbours.
    """
    like = np.asarray(odd <= ODD_SHAPE)
    rows = np.flatnonzero(~like)
    if rows.size:
        typical, most = median(chi2), float(chi2[like].max())
        around = _around(table.place, table.held(chi2), rows)
        like[rows] = chi2[rows] <= most * np.maximum(around / typical, 1.0)
    return like


@numba.njit(cache=True, nogil=True)
def _around(place, held, rows):  # type: ignore[no-untyped-def]
    """Median value of the columns in the nine cells around each; 0 where there is no other."""
    result = np.zeros(len(rows))
    values = np.empty(9 * held.shape[2])
    for r in range(len(rows)):
        i, j, s = place[rows[r], 0], place[rows[r], 1], place[rows[r], 2]
        count = 0
        for di in range(-1, 2):
            for dj in range(-1, 2):
                for t in range(held.shape[2]):
                    other = held[i + di, j + dj, t]
                    if other > 0.0 and (di != 0 or dj != 0 or t != s):
                        values[count] = other
                        count += 1
        if count:
            result[r] = np.median(values[:count])
    return result


def _merged(placed: Placed, sigma_px: Array, odd: Array) -> Booleans:
    """Mark two columns fitted as one: broad, of high chi^2, and shifted to an empty site close by.

    None of the three is conclusive alone. Pairs that are resolved nowhere are one site of the
    motif, and cannot be found here.
    """
    result = np.zeros(len(odd), bool)
    short = _short_steps(placed, median(sigma_px))
    if not any(len(steps) for steps in short):
        return result
    width = np.log(sigma_px)
    for s, steps in enumerate(short):
        rows = np.flatnonzero(placed.sites[:, 2] == s)
        if not len(steps) or not len(rows):
            continue
        typical = median(width[rows])
        spread = max(1.4826 * median(np.abs(width[rows] - typical)), LEAST_WIDTH_SPREAD)
        shape = (width[rows] - typical) / spread + odd[rows]
        for step in steps:
            vector = (step[:2] + placed.motif[step[2]] - placed.motif[s]) @ placed.basis_px
            drawn = placed.correction_px[rows] @ vector / (vector @ vector) / DISPLACED
            result[rows] |= placed.table.empty(rows, step) & (shape + drawn > MERGED)
    return result


def _short_steps(placed: Placed, sigma_px: float) -> list[Integers]:
    """List for each sublattice the steps (i, j, sublattice) to the nearest sites, if close."""
    count = len(placed.motif)
    steps = np.indices((3, 3, count)).reshape(3, -1).T - [1, 1, 0]
    result = []
    for s in range(count):
        away = (steps[:, :2] + placed.motif[steps[:, 2]] - placed.motif[s]) @ placed.basis_px
        length = np.sqrt((away**2).sum(1))
        length[length < 1e-6] = np.inf
        limit = min(EQUAL * float(length.min()), CLOSE * sigma_px)
        result.append(steps[length < limit])
    return result
