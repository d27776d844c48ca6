"""Columns found in the image of another sample, each with the label of the true one it shows.

Which column is which is told by the truth: an index that is wrong would show here as an error of
the scan, and how often that happens is a case of its own.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import cKDTree

from benchmarks.strain import SeenColumns
from nion_distortion.atoms import AtomColumns, find_columns
from nion_distortion.correction import CorrectedFrame
from nion_distortion.pipeline import FrameReport
from nion_distortion.scan_places import places_on_sample
from simulator.microscope import Shot

__all__ = [
    "labelled_corrected",
    "labelled_raw",
    "labelled_undone",
    "off_px",
    "with_claims_of",
]

Array = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]

NEAR_PX = 3.0
"""A column farther than this from any true one is none."""

RIM_SIGMA = 3.0
"""Columns of a corrected frame nearer to what was not seen, in their widths, are left out."""

HALF_STEP_PX = 0.5


def labelled_raw(shot: Shot, report: FrameReport) -> SeenColumns:
    """Find columns in the frame as it was scanned, and correct their places.

    Parameters
    ----------
    shot : Shot
        The frame and the truth about it.
    report : FrameReport
        With the model that it was corrected by.

    Returns
    -------
    SeenColumns
        Places and covariances with D taken out.
    """
    if report.model is None:
        raise RuntimeError("a sample was corrected without a model")
    moving, columns = report.model.distortion_px, find_columns(shot.frame.image)
    scan = columns.positions_px
    places, stretch = places_on_sample(moving, scan), _stretch(moving, scan)
    covariance = stretch @ columns.covariance_px2 @ stretch.transpose(0, 2, 1)
    return _labelled(shot, scan, places, covariance)


def labelled_corrected(shot: Shot, corrected: CorrectedFrame) -> SeenColumns:
    """Find columns in the corrected frame.

    Parameters
    ----------
    shot : Shot
        The frame and the truth about it.
    corrected : CorrectedFrame
        What became of it.

    Returns
    -------
    SeenColumns
        Places and covariances as they come out, but for columns at the rim of what was seen.
    """
    columns = find_columns(corrected.image)
    depth = distance_transform_edt(np.pad(corrected.valid, 1))[1:-1, 1:-1]
    rim = np.rint(columns.positions_px).astype(np.int64)
    columns = columns.subset(depth[rim[:, 0], rim[:, 1]] > RIM_SIGMA * columns.sigma_px)
    places = columns.positions_px
    moved = _at(corrected.displacement_px, places)
    return _labelled(shot, places + moved, places, columns.covariance_px2)


def labelled_undone(shot: Shot) -> SeenColumns:
    """Find columns in the frame as it was scanned, and correct nothing.

    Parameters
    ----------
    shot : Shot
        The frame and the truth about it.

    Returns
    -------
    SeenColumns
        Places as they come out.
    """
    columns: AtomColumns = find_columns(shot.frame.image)
    places = columns.positions_px
    return _labelled(shot, places, places, columns.covariance_px2)


def with_claims_of(other: SeenColumns, columns: SeenColumns) -> SeenColumns:
    """Exchange the covariances for those of the same columns elsewhere.

    Parameters
    ----------
    other : SeenColumns
        Whose covariances count.
    columns : SeenColumns
        Whose places count.

    Returns
    -------
    SeenColumns
        The second, each with the covariance of the nearest of the first.
    """
    _, rows = cKDTree(other.true_px).query(columns.true_px)
    return replace(columns, covariance_px2=other.covariance_px2[rows])


def off_px(columns: SeenColumns) -> tuple[float, float]:
    """Say how far off the brighter sublattice's columns are.

    Parameters
    ----------
    columns : SeenColumns
        With their true places.

    Returns
    -------
    tuple of float
        Distance from the true places, rms along y and x, the best affine map removed.
    """
    bright = columns.sublattice == 0
    known = np.c_[np.ones(bright.sum()), columns.places_px[bright]]
    solution, *_ = np.linalg.lstsq(known, columns.true_px[bright], rcond=None)
    off = columns.true_px[bright] - known @ solution
    slow, fast = np.sqrt(np.square(off).sum(axis=0) / (len(off) - 3))
    return float(slow), float(fast)


def _labelled(shot: Shot, scan: Array, places: Array, covariance: Array) -> SeenColumns:
    truth = shot.truth.columns
    found = cKDTree(truth.seen_px).query(scan, distance_upper_bound=NEAR_PX)[1]
    rows = np.asarray(found, dtype=np.int64)
    known = rows < len(truth.seen_px)
    return SeenColumns(
        places_px=places[known],
        covariance_px2=covariance[known],
        scan_px=scan[known],
        true_px=truth.place_px[rows[known]],
        cell=truth.cell[rows[known]],
        sublattice=truth.sublattice[rows[known]],
    )


def _stretch(moving: Field, scan: Array) -> Array:
    """Return by how much places on the sample change with places in the scan, (n, 2, 2)."""
    steps = HALF_STEP_PX * np.eye(2)
    sides = [
        places_on_sample(moving, scan + step) - places_on_sample(moving, scan - step)
        for step in steps
    ]
    return np.stack(sides, axis=-1) / (2 * HALF_STEP_PX)


def _at(field: Field, places: Array) -> Array:
    return np.stack([map_coordinates(one, places.T, order=1, mode="nearest") for one in field], 1)
