"""Weights -> field on the pixels of the corrected image, with its standard deviation."""

import functools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import owned
from nion_distortion.distortion import DistortionField, FieldKind
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.coils import ShapeErrors, name_of, scan_matrix
from nion_distortion.gaussian_process.gauge import (
    FREEDOMS,
    Freedom,
    composed,
    find_gauge,
    fitted,
    moved_to_zero,
)
from nion_distortion.gaussian_process.hyperparameters import (
    Hyperparameters,
    finer_variance,
    prior_variances,
    unresolved_variance,
)
from nion_distortion.gaussian_process.posterior import Posterior
from nion_distortion.line_shifts import LineShifts
from nion_distortion.options import AnyReference, Free, Reference
from nion_distortion.scan_places import scan_places_of_pixels

__all__ = ["FieldEstimate", "Subject", "estimate_field"]

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

FREE = Free()

NODES = (25, 33)
"""Places (y, x) where standard deviations are computed; splines fill the pixels between."""

PIXELS_AT_ONCE, NODES_AT_ONCE = 2**16, 128

EDGE_SHARE = 0.75
"""How much denser the nodes are at the rim, where standard deviations change fastest (0: evenly
spaced, 1: Chebyshev's)."""


class Subject(NamedTuple):
    """Which field is wanted, and what is known of scale and skew."""

    kind: FieldKind
    frame_id: str = ""
    """The frame of a frame's field."""
    shape: ShapeErrors | None = None
    """Scale and skew measured against the reference crystal; None where an affine map is free."""
    zero_px: tuple[float, float] | None = None
    """A place of the corrected image that is not displaced by definition."""
    reference: AnyReference = FREE
    """What counts as undistorted."""
    lines: LineShifts | None = None
    """Shifts of single lines measured beside D + W_k, which are then removed as well."""

    @property
    def freedom(self) -> Freedom:
        """What the reference leaves unknown."""
        return "affine" if self.shape is None else self.shape.freedom

    @property
    def reference_name(self) -> str:
        """How fields name the reference."""
        if self.shape is None:
            return name_of(self.reference)
        return next(name for name, one in FREEDOMS.items() if one == self.freedom)


class FieldEstimate(NamedTuple):
    """A field, and how well its own size is known."""

    field: DistortionField
    off_by_std_px: float
    """Standard deviation of the rms length of the displacement."""


def estimate_field(
    basis: Basis,
    posterior: Posterior,
    hyperparameters: Hyperparameters,
    moving_px: npt.NDArray[np.float32],
    settings: ScanSettings,
    subject: Subject,
) -> FieldEstimate:
    """Bring the posterior of the weights to the pixels of the corrected image.

    Parameters
    ----------
    basis : Basis
        The functions.
    posterior : Posterior
        Weights of D (stationary), or of D and W_k (frame), first.
    hyperparameters : Hyperparameters
        Prior amplitudes of what is not removed.
    moving_px : ndarray of float32, shape (2, ny, nx)
        Mean of D, or of D + W_k, at every pixel of the scan.
    settings : ScanSettings
        The scan.
    subject : Subject
        Whether D or D + W_k is removed, and scale and skew where they were measured.

    Returns
    -------
    FieldEstimate
        The field in its gauge: over the pixels that the scan saw, the least-squares part of its
        displacement that the reference leaves unknown (an affine map, a similarity, or a rotation
        and a shift) is zero.

    Notes
    -----
    The gauge is a map of the sample: it is applied before the scan place is looked up. Standard
    deviations are those of the place on the sample that a pixel shows, the same part removed.
    """
    size = basis.size if subject.kind == "frame" else basis.stationary_size
    gauge = _gauge(moving_px, subject)
    displacement, valid, refused = scan_places_of_pixels(
        _with_lines(moving_px, subject.lines), gauge
    )
    nodes = _Nodes.of(displacement, valid)
    design = _design(basis, nodes)
    finer = np.array([finer_variance(basis, logs) for logs in hyperparameters.logs])
    variance = posterior.variances_of(design[:size]) + finer[:, None]
    unremoved = _unremoved_variance(basis, hyperparameters, design[size:], subject.lines)
    off_by = nodes.rms_variance(design[:size], posterior)
    if subject.shape is not None:
        spread = nodes.spread_of_shape(subject.shape)
        variance = variance + spread.variance
        off_by += spread.rms_variance
    std, unremoved_std = nodes.spread(np.sqrt(variance), np.sqrt(unremoved))
    field = DistortionField(
        displacement_px=owned(displacement),
        std_px=std,
        unremoved_std_px=unremoved_std,
        valid=owned(valid),
        kind=subject.kind,
        settings=settings,
        reference=subject.reference_name,
        frame_id=subject.frame_id,
        folded=refused.folded,
        crossed=refused.crossed,
    )
    if isinstance(subject.reference, Reference):
        return _with_error_of(subject.reference, field, off_by)
    return FieldEstimate(field, float(np.sqrt(off_by)))


def _with_lines(moving: Single, lines: LineShifts | None) -> Single:
    if lines is None or not lines.rms_px:
        return moving
    return np.asarray(moving + lines.on_pixels(moving.shape[2]))


def _with_error_of(reference: Reference, field: DistortionField, off_by: float) -> FieldEstimate:
    """Add the error of the field that is the reference; for the rms size, its upper bound."""
    also = reference.field.std_px
    mean = np.square(also, dtype=np.float64).sum(axis=0)[field.valid].mean()
    whole = replace(field, std_px=np.hypot(field.std_px, also))
    return FieldEstimate(whole, float(np.sqrt(off_by + mean)))


def _gauge(moving: npt.NDArray[np.float32], subject: Subject) -> Array:
    gauge = find_gauge(moving)
    if subject.shape is not None:
        back = np.linalg.inv(scan_matrix(subject.shape.values))
        centre = 0.5 * (np.array(moving.shape[1:]) - 1.0)
        start = composed(gauge, np.c_[centre - back @ centre, back])
        gauge = find_gauge(moving, freedom=subject.freedom, start=start)
    if subject.zero_px is not None:
        gauge = moved_to_zero(moving, gauge, subject.zero_px)
    return gauge


def _design(basis: Basis, nodes: "_Nodes") -> Single:
    """Each function at the nodes without its affine part as a function of sample place."""
    affine = nodes.affine
    weighted = affine * nodes.weights[:, None]
    design = np.empty((basis.size, len(affine)), np.float32)

    def _products(start: int, stop: int) -> Array:
        functions = basis.design(nodes.seen_px[start:stop])
        design[:, start:stop] = functions
        return np.asarray(functions @ weighted[start:stop])

    products = sum(for_chunks(_products, len(affine), smallest=NODES_AT_ONCE))
    part = np.linalg.solve(weighted.T @ affine, products.T)
    design -= part.T.astype(np.float32) @ affine.T.astype(np.float32)
    return design


def _unremoved_variance(
    basis: Basis, hyperparameters: Hyperparameters, design: Single, lines: LineShifts | None
) -> Array:
    """Prior variance of what is not removed: W_k's functions (if any), and motion between rows."""
    variances = np.stack([prior_variances(basis, logs)[0] for logs in hyperparameters.logs])
    between = np.array([unresolved_variance(basis, logs) for logs in hyperparameters.logs])
    if lines is not None:
        # where shifts of lines were measured, these count and not what was expected
        is_seen = lines.shift_px.any(axis=1)
        left = np.where(is_seen, lines.left_px2, np.minimum(between, lines.left_px2))
        between = left + lines.within_px2
    moving = variances[:, basis.size - len(design) :].astype(np.float32) @ np.square(design)
    result: Array = moving + between[:, None]
    return result


class _ShapeSpread(NamedTuple):
    """What the errors of scale and skew do to the places that the pixels show."""

    variance: Array  # (2, nodes)
    rms_variance: float


class _Nodes(NamedTuple):
    """Pixels of the corrected image at which standard deviations are computed."""

    shape_px: tuple[int, int]
    y: npt.NDArray[np.intp]
    x: npt.NDArray[np.intp]
    seen_px: Array  # (nodes, 2): where the scan saw them
    displacement_px: Array  # (nodes, 2)
    weights: Array  # (nodes,): area of each that the scan saw; sums to 1

    @classmethod
    def of(cls, displacement: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> "_Nodes":
        _, ny, nx = displacement.shape
        y, x = _crowded(ny, NODES[0]), _crowded(nx, NODES[1])
        grid = _nearest_seen(valid, y, x)
        moved = displacement[:, grid[:, 0], grid[:, 1]].T.astype(np.float64)
        area = np.outer(np.gradient(y.astype(float)), np.gradient(x.astype(float)))
        weights = (area * valid[np.ix_(y, x)]).ravel()
        weights = weights if weights.any() else area.ravel()
        return cls((ny, nx), y, x, grid + moved, moved, weights / weights.sum())

    @property
    def affine(self) -> Array:
        """Affine functions of the place on the sample: 1, y and x from -1 to 1, (nodes, 3)."""
        middle = 0.5 * (np.array(self.shape_px) - 1.0)
        places = (self.seen_px - self.displacement_px - middle) / middle.max()
        return np.concatenate([np.ones((len(places), 1)), places], axis=1)

    def spread(self, *values: Array) -> list[Single]:
        """Interpolate values, (2, nodes) each, to all pixels, nowhere less than the least."""
        to_y, to_x = map(_spline_matrix, self.shape_px, NODES)
        return [self._spread(one, to_y, to_x) for one in values]

    def _spread(self, values: Array, to_y: Single, to_x: Single) -> Single:
        if np.ptp(values, axis=1).max() == 0.0:
            return np.broadcast_to(values[:, :1, None].astype(np.float32), (2, *self.shape_px))
        grid = values.reshape(2, len(self.y), len(self.x)).astype(np.float32)
        least = grid.min(axis=(1, 2))[:, None, None]  # beside a steep rise splines swing below it
        along_y, result = np.matmul(to_y, grid), np.empty((2, *self.shape_px), np.float32)

        def _part(start: int, stop: int) -> None:
            rows = result[:, start:stop]
            np.matmul(along_y[:, start:stop], to_x.T, out=rows)
            np.maximum(rows, least, out=rows)

        for_chunks(_part, self.shape_px[0], smallest=PIXELS_AT_ONCE // self.shape_px[1])
        return owned(result)

    def spread_of_shape(self, shape: ShapeErrors) -> _ShapeSpread:
        """Propagate the covariance of scale and skew, without what the reference leaves unknown."""
        y, x = (self.seen_px - self.displacement_px - 0.5 * (np.array(self.shape_px) - 1.0)).T
        zero = np.zeros(len(y))
        vectors = np.stack([[y, zero], [zero, x], [zero, y]])  # (3, 2, nodes)
        places = np.stack([y, x], axis=1)
        affine = np.c_[np.ones(len(y)), places]
        unknown = [fitted(places, one.T, self.weights, shape.freedom) for one in vectors]
        vectors = vectors - np.stack(unknown) @ affine.T
        covariance = shape.whole_covariance
        variance = np.einsum("kan,kl,lan->an", vectors, covariance, vectors)
        rms = np.sqrt((self.weights * (self.displacement_px**2).sum(axis=1)).sum())
        slope = np.einsum("kan,na,n->k", vectors, self.displacement_px, self.weights)
        return _ShapeSpread(variance, float(slope @ covariance @ slope) / max(rms, 1e-12) ** 2)

    def rms_variance(self, design: Single, posterior: Posterior) -> float:
        """Propagate the weights' covariance to the rms length of the displacement, px^2."""
        rms = float(np.sqrt((self.weights * (self.displacement_px**2).sum(axis=1)).sum()))
        along = self.displacement_px * self.weights[:, None] / max(rms, 1e-12)
        slopes = np.zeros((2, 1, posterior.mean.shape[1]))
        slopes[:, 0, : len(design)] = along.T.astype(np.float32) @ design.T
        return float(posterior.covariance_of(slopes).sum())


def _nearest_seen(
    valid: npt.NDArray[np.bool_], y: npt.NDArray[np.intp], x: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Move nodes of the grid (y, x) that the scan did not see to its edge, (nodes, 2).

    Beyond the edge nothing is known, and the step there would make the splines swing inside.
    """
    seen = np.flatnonzero(valid.any(axis=1))
    rows = np.clip(y, seen[0], seen[-1]) if seen.size else y
    first = valid[rows].argmax(axis=1)
    last = valid.shape[1] - 1 - valid[rows, ::-1].argmax(axis=1)
    columns = np.clip(x, first[:, None], last[:, None])
    return np.stack([np.repeat(rows, len(x)), columns.ravel()], axis=1)


def _crowded(length: int, count: int) -> npt.NDArray[np.intp]:
    """Pixels from edge to edge, closer together at both edges."""
    even = np.linspace(0.0, 1.0, count)
    crowded = 0.5 * (1 - np.cos(np.pi * even))
    place = EDGE_SHARE * crowded + (1 - EDGE_SHARE) * even
    return np.unique(np.rint(place * (length - 1)).astype(np.intp))


@functools.lru_cache(maxsize=4)
def _spline_matrix(length: int, count: int) -> Single:
    """Values at crowded nodes -> values at all pixels, (length, nodes)."""
    nodes = _crowded(length, count)
    spline = make_interp_spline(nodes, np.eye(len(nodes)), k=3)
    result: Single = owned(spline(np.arange(length)).astype(np.float32))
    return result
