"""A frame's fit -> the scale and skew that its reference crystal shows."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from nion_distortion.distortion import DistortionSamples
from nion_distortion.gaussian_process.coils import (
    Cell,
    CoilErrors,
    ShapeErrors,
    cell_at_centre,
    cell_of,
    measure_shape,
    near_centre,
    without_drift,
)
from nion_distortion.gaussian_process.drift import Drift
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.gauge import find_gauge
from nion_distortion.gaussian_process.linearisation import crystal_scale
from nion_distortion.options import AnyReference, KnownCrystal, Similarity

__all__ = ["FrameShapes", "as_distorted", "reference_cell", "shapes_of_frame"]

Array = npt.NDArray[np.float64]

AROUND = 45
"""Places along each axis of the grid of which those near the centre are looked at: 140 of them."""

NODES = 15
"""Places along each axis at which functions are compared with an affine map."""


class FrameShapes(NamedTuple):
    """Scale and skew measured against the reference crystal."""

    coils: CoilErrors
    """Of the scan, after this frame."""
    frame: ShapeErrors
    """Of this frame, its drift and its beam's own motion included."""
    alone: ShapeErrors
    """Of the coils, by this frame alone, its drift taken out."""


def reference_cell(reference: AnyReference, samples: DistortionSamples) -> Cell | None:
    """Find the cell that the first frame is compared with.

    Parameters
    ----------
    reference : Free, Similarity or KnownCrystal
        What counts as undistorted.
    samples : DistortionSamples
        The first frame.

    Returns
    -------
    Cell or None
        None where the cell is free.

    Raises
    ------
    UnusableFrameError
        If there are too few columns near the centre.
    """
    if isinstance(reference, KnownCrystal):
        return cell_of(reference, samples.settings.pixel_size_nm)
    if not isinstance(reference, Similarity):
        return None
    return cell_at_centre(
        samples.crystal_sites,
        samples.observed_px,
        samples.variance_px2,
        samples.settings.shape_px,
    )


def as_distorted(cell: Cell, fit: FrameFit) -> Cell:
    """Widen the error of a cell that a frame showed by what the scan did to it there.

    Parameters
    ----------
    cell : Cell
        The reference; one of known size was not taken from the frame and stays as it is.
    fit : FrameFit
        The frame's fit.

    Returns
    -------
    Cell
        The same one, with a wider error.

    Notes
    -----
    The cell in the middle counts as undistorted, yet D and W_k have a gradient G there, in which
    the cell ``(1 + G) cell`` is seen. Its mean square in the posterior is the error: what the fit
    knows of it, and what its priors allow. The coils' own scale and skew are not in the priors.
    """
    if cell.has_scale:
        return cell
    basis = fit.basis
    y, x = (np.linspace(0, n - 1, AROUND) for n in basis.shape_px)
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = grid[near_centre(grid, basis.shape_px)]
    gradient = np.linalg.pinv(np.c_[np.ones(len(grid)), grid])[1:]
    rows = np.zeros((2, fit.posterior.mean.shape[1]))
    rows[:, : basis.size] = gradient @ basis.design(grid).T
    mean = (fit.posterior.mean @ rows.T).ravel()
    square = block_diag(*fit.posterior.covariance_of(np.stack([rows, rows])))
    into = np.kron(np.eye(2), cell.basis.T)  # of the gradient, row by row, to -G cell
    moved = into @ (square + np.outer(mean, mean)) @ into.T
    return replace(cell, covariance=cell.covariance + moved)


def shapes_of_frame(
    fit: FrameFit,
    samples: DistortionSamples,
    cell: Cell,
    drift: Drift,
    before: CoilErrors | None,
) -> FrameShapes:
    """Measure scale and skew in a frame, and add what it says to what is known of the coils.

    Parameters
    ----------
    fit : FrameFit
        The frame's fit.
    samples : DistortionSamples
        Its columns.
    cell : Cell
        The reference.
    drift : Drift
        The sample's motion.
    before : CoilErrors or None
        What earlier frames said.

    Returns
    -------
    FrameShapes
        Of the coils, of this frame, and of the coils by this frame alone.

    Raises
    ------
    UnusableFrameError
        If the frame shows another crystal.

    Notes
    -----
    The lattice A_k of each frame is free in its fit. What its shape says of the coils is exact to
    first order: errors of the fitted lattice and of the affine part of D enter together, by the
    joint covariance of their weights.
    """
    expected = None if before is None else before.as_shape()
    steady = _measured(fit, samples, cell, fit.basis.stationary_size, expected)
    motion, variance = drift.in_frame_px(samples.settings)
    coil = without_drift(steady, motion, variance, samples.settings.shape_px[0])
    return FrameShapes(
        coils=CoilErrors.of(coil, before=before),
        frame=_measured(fit, samples, cell, fit.basis.size, expected),
        alone=coil,
    )


def _measured(
    fit: FrameFit,
    samples: DistortionSamples,
    cell: Cell,
    size: int,
    expected: ShapeErrors | None,
) -> ShapeErrors:
    """Compare the cell with the one shown when the first functions' motion is taken out."""
    moving = fit.basis.on_pixels(fit.posterior.mean[:, :size])
    back = np.linalg.inv(find_gauge(moving)[:, 1:])
    covariance = _gradient_covariance(fit, samples, moving, size)
    return measure_shape(back @ fit.lattice_px[:, 1:], covariance, cell, expected)


def _gradient_covariance(
    fit: FrameFit, samples: DistortionSamples, moving: npt.NDArray[np.float32], size: int
) -> Array:
    """Covariance of the affine part of what moves the crystal on the sample, (4, 4).

    It is a linear function of the weights: of D (and W_k) and of the lattice together.
    """
    basis = fit.basis
    y, x = (np.linspace(0, n - 1, NODES).astype(int) for n in basis.shape_px)
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    places = grid - moving[:, grid[:, 0], grid[:, 1]].T
    cells = np.linalg.solve(fit.lattice_px[:, 1:], places.T - fit.lattice_px[:, :1])
    rows = basis.design(grid.astype(np.float64), spare=3)
    rows[size : basis.size] = 0.0
    rows[basis.size :] = np.concatenate([np.ones((1, len(grid))), cells])
    rows[basis.size :] *= crystal_scale(samples)[:, None]
    slopes = np.linalg.pinv(np.c_[np.ones(len(places)), places])[1:] @ rows.T
    return np.asarray(block_diag(*fit.posterior.covariance_of(np.stack([slopes, slopes]))))
