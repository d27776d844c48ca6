"""Columns -> indexed lattice sites: the stages in order, and why a frame is refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nion_distortion._order import median
from nion_distortion._validation import as_array
from nion_distortion.frame import UnusableFrameError
from nion_distortion.lattice.basis import (
    basis_from_fourier,
    basis_from_neighbours,
    fold_motif,
    primitive,
    same_lattice,
)
from nion_distortion.lattice.cells import (
    LOWEST_FRACTION,
    canonical_cell,
    cell_like,
    site_table,
    split_by_brightness,
)
from nion_distortion.lattice.certainty import (
    LEAST_COLUMNS,
    LEAST_CONFIDENCE,
    Placed,
    certain,
    check_single,
    error_in_spreads,
    held,
    majority,
)
from nion_distortion.lattice.growth import LEAST_NEIGHBOURS, Growth, grow, joined
from nion_distortion.lattice.indexed import IndexedColumns, Lattice
from nion_distortion.lattice.neighbours import count_within
from nion_distortion.lattice.refinement import fit_motif
from nion_distortion.lattice.rounding import rounded_sites

if TYPE_CHECKING:
    from nion_distortion.atoms import AtomColumns

__all__ = ["index_columns"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

MOST_SUBLATTICES = 8

MOSTLY_SURE = 0.9
"""Share of confident columns (`LEAST_CONFIDENCE`) below which the lattice is also looked for in
these alone."""

LEAST_PATCH = 0.3
"""A lattice holds at least this share of a frame's columns."""

WHOLE = 0.5
"""Score of a patch, as a share of the columns, at which no larger patch can exist beside it."""

TURN, SLOW_SHEAR = 0.1, 0.25
"""Rotation of the local lattice (rad), and its change along the slow axis (relative), beyond which
a column belongs to another grain."""

RIM = 0.5
"""Ratio of columns without an index to those with one around a column, at which it belongs to
another grain."""

OUTLIER = 4.5
"""Distance from the place its neighbours predict, in spreads, beyond which a column loses its
index."""

NEGLIGIBLE, FARTHEST = 0.06, 0.3
"""The same in nearest distances of sites: below the first it never, above the second it always
loses it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Patch:
    basis_px: Array
    growth: Growth
    keep: Booleans
    error: Array
    filled: float

    @property
    def score(self) -> float:
        return float(self.keep.sum()) * self.filled**2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """For all n columns: which keep their site (i, j, sublattice), and seen minus proposed."""

    keep: Booleans
    sites: Integers
    correction_px: Array


def index_columns(
    columns: "AtomColumns",
    shape_px: tuple[int, int],
    *,
    undistorted_px: Array | None = None,
    previous: Lattice | None = None,
) -> IndexedColumns:
    """Give every column its place in the lattice, or none where that is not certain.

    Parameters
    ----------
    columns : AtomColumns, n columns
        As found in the frame.
    shape_px : tuple of int
        The frame, (ny, nx).
    undistorted_px : ndarray, shape (n, 2), optional
        The columns' places with an already known distortion taken out; basis, indices and the
        fitted lattice are then those of these places.
    previous : Lattice, optional
        The lattice of the frame before: of all equivalent cells the one like it is chosen.

    Returns
    -------
    IndexedColumns
        The largest patch that is consistent; its site (0, 0) of the first sublattice is the one
        whose column is nearest the frame's centre.

    Raises
    ------
    UnusableFrameError
        If no lattice was found; says why.
    ValueError
        If the arrays do not belong together.
    """
    places = columns.positions_px
    if undistorted_px is not None:
        places = as_array("undistorted_px", undistorted_px, places.shape)
    found = None
    if undistorted_px is not None and previous is not None:
        found = _by_rounding(columns, places, shape_px, previous)
    if found is None:
        found = _by_growing(columns, places, shape_px, previous)
    mine, kept, sites = places[found.keep], columns.subset(found.keep), found.sites[found.keep]
    sites = _only_used(_centred(sites, mine, shape_px))
    origin, basis, motif, _ = fit_motif(sites[:, :2], sites[:, 2], mine, _weights(kept))
    correction = found.correction_px[found.keep]
    return IndexedColumns(
        columns=kept,
        indices=sites[:, :2],
        sublattice=sites[:, 2],
        lattice=Lattice(origin_px=origin, basis_px=basis, motif=motif),
        propagated_px=kept.positions_px - correction,
        correction_px=correction,
        unindexed=len(places) - len(mine),
    )


def _by_rounding(
    columns: "AtomColumns", places: Array, shape: tuple[int, int], previous: Lattice
) -> _Found | None:
    """Sites of the lattice before, None where the columns are not on them."""
    rounded = rounded_sites(places, columns.amplitude, shape, previous)
    if rounded is None:
        return None
    keep, sites, off = rounded
    rows, off = np.flatnonzero(keep), off[keep]
    placed = Placed(
        columns=columns,
        rows=rows,
        table=site_table(sites[rows]),
        sites=sites[rows],
        error=error_in_spreads(
            np.sqrt(off[:, 0] ** 2 + off[:, 1] ** 2), columns.variance_px2[rows]
        ),
        correction_px=off,
        basis_px=previous.basis_px,
        motif=previous.motif,
    )
    found = _found(placed, places, ~keep)
    return found if found.keep.sum() >= LEAST_COLUMNS else None


def _by_growing(
    columns: "AtomColumns", places: Array, shape: tuple[int, int], previous: Lattice | None
) -> _Found:
    """Sites of a lattice looked for from nothing."""
    pool, patch = _best_pool(columns, places, shape)
    rows, strangers = np.flatnonzero(pool)[patch.keep], pool.copy()
    strangers[rows] = False
    placed = _placed(columns, rows, places, patch, previous)
    check_single(placed)
    found = _found(placed, places, strangers)
    if found.keep.sum() < LEAST_COLUMNS:
        raise UnusableFrameError(
            f"no lattice was found: only {found.keep.sum()} columns are on its sites beyond doubt,"
            f" and {LEAST_COLUMNS} are needed"
        )
    return found


def _placed(
    columns: "AtomColumns", rows: Integers, places: Array, patch: _Patch, previous: Lattice | None
) -> Placed:
    """Give the patch's columns their sites in the crystal's cell."""
    keep, mine = patch.keep, places[rows]
    sites = _crystal(patch.growth.sites[keep], mine, columns.amplitude[rows], previous)
    _, basis, motif, _ = fit_motif(sites[:, :2], sites[:, 2], mine, np.ones(len(sites)))
    return Placed(
        columns=columns,
        rows=rows,
        table=site_table(sites),
        sites=sites,
        error=patch.error[keep],
        correction_px=mine - patch.growth.propagated_px[keep],
        basis_px=basis,
        motif=motif,
    )


def _found(placed: Placed, places: Array, strangers: Booleans) -> _Found:
    """Columns that keep their site: those that are certain and supported by neighbours."""
    rows, count = placed.rows, len(places)
    keep = np.zeros(count, bool)
    keep[rows] = certain(placed)
    keep = majority(places, keep, strangers, _reach(placed.basis_px))
    keep[rows] = held(placed.table, keep[rows])
    sites, correction = np.zeros((count, 3), np.int64), np.zeros((count, 2))
    sites[rows], correction[rows] = placed.sites, placed.correction_px
    return _Found(keep=keep, sites=sites, correction_px=correction)


def _centred(sites: Integers, places: Array, shape: tuple[int, int]) -> Integers:
    """Count cells from the column of the first sublattice that is nearest the frame's centre."""
    first = np.flatnonzero(sites[:, 2] == sites[:, 2].min())
    square = ((places[first] - (np.array(shape) - 1) / 2) ** 2).sum(1)
    return np.asarray(sites - [*sites[first[np.argmin(square)], :2], 0])


def _best_pool(
    columns: "AtomColumns", places: Array, shape: tuple[int, int]
) -> tuple[Booleans, _Patch]:
    """Index all columns, and, if many are doubtful, only the confident ones; keep the better patch.

    At few counts a weak sublattice is mostly doubtful, but so is noise.
    """
    sure = columns.confidence >= LEAST_CONFIDENCE
    pools = [np.ones(len(sure), bool)] + [sure] * bool(sure.mean() < MOSTLY_SURE)
    variance = columns.variance_px2
    found, reason = [], "no lattice was found"
    for pool in pools:
        try:
            found.append((pool, _largest_patch(places[pool], variance[pool], shape)))
        except UnusableFrameError as error:
            reason = str(error)
    if not found:
        raise UnusableFrameError(reason)
    return max(found, key=lambda item: item[1].score)


def _largest_patch(places: Array, variance: Array, shape: tuple[int, int]) -> _Patch:
    """Take the patch around the centre where it holds most columns, else the largest of several."""
    if len(places) < LEAST_COLUMNS:
        raise UnusableFrameError(
            f"no lattice was found: only {len(places)} columns, and {LEAST_COLUMNS} are needed"
        )
    best: _Patch | None = None
    share = 0.0
    for centre in _centres(places, shape):
        found, here = _patch_at(places, variance, centre)
        share = max(share, here)
        if found is not None and (best is None or found.score > 1.1 * best.score):
            best = found
        if best is not None and best.score >= WHOLE * len(places):
            break
    if best is None:
        raise UnusableFrameError(
            f"no lattice was found: {100 * (1 - share):.0f} % of the columns have no neighbour"
            " at the most frequent distance and direction"
        )
    if best.keep.sum() < max(LEAST_PATCH * len(places), LEAST_COLUMNS):
        raise UnusableFrameError(
            "no lattice was found: the largest consistent patch holds"
            f" {best.keep.sum()} of {len(places)} columns"
        )
    return best


def _centres(places: Array, shape: tuple[int, int]) -> Iterator[Array]:
    """Give the column nearest the frame's centre, then those nearest to eight places around."""
    steps = [(0.5, 0.5), (0.5, 0.75), (0.5, 0.25), (0.25, 0.5), (0.75, 0.5)]
    steps += [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]
    for step in steps:
        away = places - np.array(step) * (np.array(shape) - 1)
        yield places[np.argmin(away[:, 0] ** 2 + away[:, 1] ** 2)]


def _patch_at(places: Array, variance: Array, centre: Array) -> tuple[_Patch | None, float]:
    """Better patch of the two ways to find the basis here, and `basis_from_neighbours`' share."""
    by_neighbours, share = basis_from_neighbours(places, centre)
    by_fourier = basis_from_fourier(places, centre)
    bases = [basis for basis in (by_neighbours, by_fourier) if basis is not None]
    if len(bases) == 2 and same_lattice(bases[1], bases[0]):
        bases.pop()
    patches = [p for p in (_grown(places, variance, centre, b) for b in bases) if p is not None]
    return max(patches, key=lambda p: p.score, default=None), share


def _grown(places: Array, variance: Array, centre: Array, basis: Array) -> _Patch | None:
    motif, _ = fold_motif(places, centre, basis)
    if len(motif) > MOST_SUBLATTICES:
        return None
    basis, motif = primitive(basis, motif)
    seed = _seed(places, centre, basis, motif)
    if seed is None:
        return None
    growth = grow(places, seed, basis, motif)
    error = _error(growth, variance)
    keep = _consistent(places, error, growth, basis, seed[0])
    if keep.sum() < LEAST_COLUMNS:
        return None
    expected = (growth.near[..., 5] >= 0).sum(1)[growth.sites[keep, 2]]
    filled = float((growth.neighbours[keep] / expected).mean())
    return _Patch(basis_px=basis, growth=growth, keep=keep, error=error, filled=filled)


def _seed(places: Array, centre: Array, basis: Array, motif: Array) -> tuple[int, int] | None:
    """Find the column nearest the centre that is where the motif has one, and its sublattice."""
    square = ((places - centre) ** 2).sum(1)
    nearest = np.argpartition(square, 12)[:12]
    nearest = nearest[np.argsort(square[nearest])]
    step = ((places[nearest] - centre) @ np.linalg.inv(basis))[:, None] - motif
    step -= np.rint(step)
    off = np.hypot(*np.moveaxis(step @ basis, -1, 0))
    limit = 0.12 * float(np.hypot(*basis.T).min())
    for n, row in zip(nearest, off, strict=True):
        if row.min() < limit:
            return int(n), int(row.argmin())
    return None


def _error(growth: Growth, variance: Array) -> Array:
    """Distance of each column from where its neighbours put it, in spreads; infinite without."""
    known = (growth.sites[:, 2] >= 0) & (growth.neighbours >= LEAST_NEIGHBOURS)
    error = np.full(len(known), np.inf)
    if known.any():
        error[known] = error_in_spreads(growth.error_px[known], variance[known])
    return error


def _consistent(places: Array, error: Array, growth: Growth, basis: Array, seed: int) -> Booleans:
    """Columns that several indexed neighbours put where they are, joined to the seed."""
    near = growth.error_px <= NEGLIGIBLE * growth.nearest_px
    keep = np.isfinite(error) & ((error <= OUTLIER) | near)
    if not keep[seed]:
        return np.zeros_like(keep)
    keep &= growth.error_px <= FARTHEST * growth.nearest_px
    keep &= ~_other_grain(growth, basis)
    strangers = ~keep
    keep = _without_rim(places, keep, _reach(basis))
    if not keep[seed]:
        return np.zeros_like(keep)
    others = count_within(places, keep, strangers, _reach(basis))
    return joined(growth, keep, seed, others >= 2)


def _reach(basis: Array) -> float:
    """Radius around a column within which others decide whether it belongs to its lattice."""
    lengths = np.hypot(*basis.T)
    return float(max(1.5 * lengths.min(), 1.2 * lengths.max()))


def _other_grain(growth: Growth, basis: Array) -> Booleans:
    """Where the local lattice is turned against the seed's, or differs along the slow axis.

    A scan stretches and shears along the fast axis (fly-back), and from line to line by a few per
    cent (walk), but never turns: that is y moving along x as much as x along -y.
    """
    gradient = np.linalg.inv(basis) @ growth.vectors_px
    turn_square = -gradient[:, 0, 1] * gradient[:, 1, 0]
    slow = np.hypot(gradient[:, 0, 0] - 1, gradient[:, 0, 1])
    return np.asarray((turn_square > TURN**2) | (slow > SLOW_SHEAR))


def _without_rim(places: Array, keep: Booleans, reach: float) -> Booleans:
    """Drop columns that stand among others without an index: another grain begins there."""
    strangers = count_within(places, keep, ~keep, reach)
    doubtful = strangers >= 2
    friends = count_within(places, doubtful, keep, reach)
    return keep & ~(doubtful & (strangers >= RIM * friends))


def _crystal(grown: Integers, places: Array, bright: Array, previous: Lattice | None) -> Integers:
    """Sites (i, j, sublattice) in the cell that is chosen among the equivalent ones."""
    _, sites = split_by_brightness(grown, bright)
    sites = _only_used(sites)
    _, basis, motif, _ = fit_motif(sites[:, :2], sites[:, 2], places, np.ones(len(sites)))
    cell = None if previous is None else cell_like(basis, previous)
    if cell is None:
        cell, previous = canonical_cell(basis), None
    to_cell = np.linalg.inv(cell)
    basis, motif = cell @ basis, motif @ to_cell
    sites = np.column_stack([np.rint(sites[:, :2] @ to_cell).astype(np.int64), sites[:, 2]])
    return _relabelled(sites, motif, _sublattice_order(motif, basis, sites[:, 2], bright, previous))


def _only_used(sites: Integers) -> Integers:
    """Count from 0 the sublattices that occur."""
    used = np.bincount(sites[:, 2]) > 0
    if used.all():
        return sites
    return np.column_stack([sites[:, :2], (np.cumsum(used) - 1)[sites[:, 2]]])


def _relabelled(sites: Integers, motif: Array, order: Integers) -> Integers:
    """Sublattices in this order, their fractions from the first one's place, near [0, 1)."""
    fractions = motif[order] - motif[order[0]]
    cells = np.floor(fractions - LOWEST_FRACTION).astype(np.int64)
    name = np.argsort(order)[sites[:, 2]]
    return np.column_stack([sites[:, :2] + cells[name], name])


def _sublattice_order(
    motif: Array, basis: Array, sublattice: Integers, bright: Array, previous: Lattice | None
) -> Integers:
    """Brightest first; of equally bright ones that whose nearest neighbour lies furthest to +y.

    With a previous lattice the order whose motif is most like its motif.
    """
    count = len(motif)
    level = np.array([median(bright[sublattice == s]) for s in range(count)])
    if previous is not None and len(previous.motif) == count:
        return _order_like(motif, level, previous.motif)
    order = np.argsort(-level, kind="stable")
    equal = [int(s) for s in order if level[s] > 0.93 * level[order[0]]]
    first = max(equal, key=lambda s: _height(motif, basis, s))
    return np.array([first, *(s for s in order if s != first)])


def _height(motif: Array, basis: Array, s: int) -> float:
    """How far up (+y, then +x) the nearest column of another sublattice lies."""
    step = np.delete(motif - motif[s], s, axis=0)
    if not len(step):
        return 0.0
    whole = np.mgrid[-1:2, -1:2].reshape(2, -1).T[:, None]
    away = ((step - np.rint(step) + whole) @ basis).reshape(-1, 2)
    length = np.hypot(*away.T)
    near = away[length < 1.1 * length.min()]
    return float((near @ [1.0, 0.37]).max())


def _order_like(motif: Array, level: Array, wanted: Array) -> Integers:
    """Sublattices so numbered that their places are nearest to the wanted ones."""
    best, best_cost = np.arange(len(motif)), np.inf
    for first in np.argsort(-level, kind="stable"):
        step = (motif - motif[first])[None] - wanted[:, None]
        off = ((step - np.rint(step)) ** 2).sum(2)
        order = off.argmin(1)
        if len(set(order.tolist())) < len(order):
            continue
        # a cell that looks the same from either sublattice (SrTiO3) keeps the brightest first
        cost = float(off.min(1).sum()) + 0.02 * float(np.any(np.diff(level[order]) > 0))
        if cost < best_cost:
            best, best_cost = order, cost
    return best


def _weights(columns: "AtomColumns") -> Array:
    """Inverse variances, floored: a few very bright columns must not carry the lattice alone."""
    variance = columns.variance_px2
    return np.asarray(1 / (variance + median(variance)))
