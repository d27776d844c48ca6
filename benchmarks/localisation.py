"""How well columns are located, against the Cramer-Rao bound of their Poisson noise."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from benchmarks.results import Measured
from benchmarks.scenes import settings_of, sto
from nion_distortion.atoms import AtomColumns, find_columns
from simulator.microscope import Exposure, Microscope, Shot
from simulator.scan import ScanErrors
from simulator.specimen import PROFILE_NM2

__all__ = ["cramer_rao_px", "localisation", "one_to_one"]

Array = npt.NDArray[np.float64]

COUNTS = (10.0, 50.0, 500.0)
KINDS = ("Sr", "Ti-O")
UNITS = ((30.0, 15000.0), (0.01, -0.2))
"""Detector units: gain and offset."""

SAME_PX = 4.0
"""A found column that is farther than this from every true one is none of them."""


def localisation(*, quick: bool) -> Mapping[str, Measured]:
    """Compare found columns with the truth, one to one.

    Parameters
    ----------
    quick : bool
        One frame for each number of counts.

    Returns
    -------
    Mapping of str to Measured
        Error, claims, and independence of detector units.

    Notes
    -----
    A found column beside a true one that was found better is a false column, not an error of
    position: such columns are counted instead.
    """
    errors, typical, claims, false = {}, {}, {}, []
    for counts in COUNTS:
        shots = [_shot(counts, seed) for seed in range(1 if quick else 4)]
        pairs = [_pairs(shot) for shot in shots]
        none, found = np.sum([(one.false, one.false + len(one.kind)) for one in pairs], axis=0)
        false.append(f"{none} of {found} found at {counts:g}")
        for kind, name in enumerate(KINDS):
            label = f"{name} {counts:g}"
            errors[label], typical[label], claims[label] = _one_kind(pairs, kind, counts)
    position, variance = _change_with_units(_shot(50.0, 0))
    return {
        "localisation error": Measured(
            value=max(errors.values()),
            beside=f"rms: {_listed(errors)}; by the median: {_listed(typical)}; no columns:"
            f" {', '.join(false)}",
        ),
        "localisation least-claim": Measured(value=min(claims.values()), beside=_listed(claims)),
        "localisation largest-claim": Measured(value=max(claims.values())),
        "localisation units-position": Measured(value=position),
        "localisation units-claim": Measured(value=variance),
    }


def cramer_rao_px(exposure: Exposure, kind: int, *, columns: int = 200) -> float:
    """Return the least standard deviation of the position of a kind of column along one axis.

    Parameters
    ----------
    exposure : Exposure
        The frame.
    kind : int
        Row of the specimen's motif.
    columns : int, default: 200
        So many are looked at.

    Returns
    -------
    float
        Pixels, rms over the columns and both axes.

    Notes
    -----
    Fisher information of Poisson counts, ``sum (dmu/dx)^2 / mu`` over the pixels that a column
    reaches, with the shape that the column really has and the light of its neighbours in mu;
    position is orthogonal to height, width and background by symmetry.
    """
    truth = exposure.truth
    pixel_nm = truth.settings.pixel_size_nm
    expected = exposure.expected(0, truth.settings.shape_px[0])
    slope = np.gradient(truth.specimen.profile[kind], PROFILE_NM2)
    mine = truth.columns.sublattice == kind
    reach = int(np.ceil(np.sqrt(PROFILE_NM2[-1]) / pixel_nm))
    room = np.array(truth.settings.shape_px) - 1 - reach
    inside = ((truth.columns.seen_px > reach) & (truth.columns.seen_px < room)).all(axis=1)
    variances = []
    for n in np.flatnonzero(mine & inside)[:columns]:
        corner = np.rint(truth.columns.seen_px[n]).astype(int) - reach
        y, x = (corner - truth.columns.seen_px[n])[:, None, None] + np.indices((2 * reach + 1,) * 2)
        squared = (y**2 + x**2) * pixel_nm**2
        steep = 2 * pixel_nm**2 * truth.columns.counts[n] * np.interp(squared, PROFILE_NM2, slope)
        steep[squared > PROFILE_NM2[-1]] = 0.0
        light = expected[corner[0] :, corner[1] :][: 2 * reach + 1, : 2 * reach + 1]
        variances += [1 / np.sum((steep * along) ** 2 / light) for along in (y, x)]
    return float(np.sqrt(np.mean(variances)))


def one_to_one(
    found_px: Array, true_px: Array
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Find which found column is which true one: each is the other's nearest.

    Parameters
    ----------
    found_px, true_px : ndarray, shape (n, 2) and (m, 2)
        Positions.

    Returns
    -------
    same : ndarray of bool, shape (n,)
        False for a found column that is none, or beside one that was found better.
    row : ndarray of int, shape (n,)
        The true column's.
    """
    distance, row = _nearest(true_px, found_px)
    back = _nearest(found_px, true_px)[1]
    return (distance < SAME_PX) & (back[row] == np.arange(len(row))), row


def _microscope(counts: float, seed: int) -> Microscope:
    return sto(ScanErrors(), seed=seed, counts=counts)


def _shot(counts: float, seed: int) -> Shot:
    return _microscope(counts, seed).shot(settings_of(512))


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


class _Pairs(NamedTuple):
    """The found columns of a frame that are true ones."""

    kind: npt.NDArray[np.int64]
    """Rows of the specimen's motif."""
    error_px: Array
    variance_px2: Array
    """Of both axes, as claimed."""
    false: int
    """Found columns that are none."""


def _pairs(shot: Shot) -> _Pairs:
    found, truth = find_columns(shot.frame.image), shot.truth.columns
    same, row = one_to_one(found.positions_px, truth.seen_px)
    return _Pairs(
        kind=truth.sublattice[row[same]],
        error_px=found.positions_px[same] - truth.seen_px[row[same]],
        variance_px2=np.diagonal(found.covariance_px2[same], axis1=1, axis2=2),
        false=int(np.sum(~same)),
    )


def _one_kind(pairs: list[_Pairs], kind: int, counts: float) -> tuple[float, float, float]:
    """Error over the bound, rms and by the median, and claimed variance over squared error."""
    squares = np.concatenate([one.error_px[one.kind == kind] ** 2 for one in pairs])
    claimed = np.concatenate([one.variance_px2[one.kind == kind] for one in pairs])
    error2, typical = float(np.mean(squares)), 1.4826 * float(np.sqrt(np.median(squares)))
    bound = cramer_rao_px(_microscope(counts, 0).exposure(settings_of(512)), kind)
    return float(np.sqrt(error2)) / bound, typical / bound, float(np.mean(claimed)) / error2


def _change_with_units(shot: Shot) -> tuple[float, float]:
    """Largest change of a position, in its sd, and of a variance, in %, with gain and offset."""
    plain = find_columns(shot.frame.image)
    moved, grown = 0.0, 0.0
    for gain, offset in UNITS:
        image = gain * shot.frame.image.astype(np.float64) + offset
        one, two = _matched(plain, find_columns(image))
        sd = np.sqrt(one.covariance_px2[:, 0, 0])
        moved = max(moved, float((np.hypot(*(two.positions_px - one.positions_px).T) / sd).max()))
        ratio = two.covariance_px2[:, (0, 1), (0, 1)] / one.covariance_px2[:, (0, 1), (0, 1)]
        grown = max(grown, float(100 * np.abs(ratio - 1).max()))
    return moved, grown


def _matched(one: AtomColumns, two: AtomColumns) -> tuple[AtomColumns, AtomColumns]:
    if len(one) != len(two):
        raise RuntimeError(f"other detector units, other columns: {len(one)} and {len(two)}")
    return one, two.subset(_nearest(two.positions_px, one.positions_px)[1])


def _nearest(positions: Array, wanted: Array) -> tuple[Array, npt.NDArray[np.intp]]:
    distance, row = cKDTree(positions).query(wanted)
    return np.asarray(distance), np.asarray(row)
