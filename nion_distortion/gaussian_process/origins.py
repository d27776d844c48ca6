"""Where a frame's fit puts the sample, how well, and how that changes with what is known of D."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.distortion import DistortionSamples
from nion_distortion.gaussian_process.factors import divide
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.hyperparameters import wave_variances
from nion_distortion.gaussian_process.linearisation import crystal_scale

__all__ = ["Origin", "origin_of"]

Array = npt.NDArray[np.float64]

MEAN = np.zeros(1)
"""Half periods of the wave that is the mean of W_k over its interval."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """Place on the sample of the crystal point that a frame shows at its centre.

    Parameters
    ----------
    stationary_px : ndarray, shape (2, m)
        Weights of D that the place was found with.
    slopes : ndarray, shape (2, m)
        Change of the place with each of them, px per px.
    variance_px2 : ndarray, shape (2,)
        Variance of the place if they were exact, the mean of W_k included.
    unknown_px : ndarray, shape (2, m, m), optional
        Covariance of those weights as factors U: ``covariance = U^-1 U^-T``; of the newest frame
        only, since they are large.

    Notes
    -----
    Columns show the sum of the lattice's origin and of the mean of D, so what is learnt of D later
    moves the origins of all frames alike. Drift is a difference of origins under one and the same
    D: it is known ten times better than each of them.
    """

    stationary_px: Array
    slopes: Array
    variance_px2: Array
    unknown_px: Array | None = None

    def __post_init__(self) -> None:
        stationary = as_array("stationary_px", self.stationary_px, (2, None))
        size = stationary.shape[1]
        object.__setattr__(self, "stationary_px", stationary)
        object.__setattr__(self, "slopes", as_array("slopes", self.slopes, (2, size)))
        variance = as_array("variance_px2", self.variance_px2, (2,))
        object.__setattr__(self, "variance_px2", variance)
        if self.unknown_px is not None:
            unknown = as_array("unknown_px", self.unknown_px, (2, size, size))
            object.__setattr__(self, "unknown_px", unknown)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    def moved_px(self, now: "Origin", since: "Origin") -> Array:
        """Say by how much the place moves with what was learnt of D between two other frames.

        Parameters
        ----------
        now, since : Origin
            Of these frames.

        Returns
        -------
        ndarray, shape (2,)
            Px, (y, x).
        """
        result: Array = (self.slopes * (now.stationary_px - since.stationary_px)).sum(axis=1)
        return result

    def variance_since(self, first: "Origin") -> Array:
        """Variance of the motion since another frame, whose place was moved to the D of this one.

        Parameters
        ----------
        first : Origin
            Of the other frame.

        Returns
        -------
        ndarray, shape (2,)
            In px^2, (y, x).

        Notes
        -----
        The first frame counts at least as much as this one: its variance was found when one frame
        was all that was known of W_k.
        """
        variance: Array = self.variance_px2 + np.maximum(first.variance_px2, self.variance_px2)
        if self.unknown_px is None:
            return variance
        rows = self.slopes - first.slopes
        apart = [
            divide(row[None].copy(), factor)[0]
            for row, factor in zip(rows, self.unknown_px, strict=True)
        ]
        return np.asarray(variance + np.square(apart).sum(axis=1))

    def to_keep(self) -> "Origin":
        """Return it without what only the newest frame needs.

        Returns
        -------
        Origin
            The same place.
        """
        return replace(self, unknown_px=None)


def origin_of(fit: FrameFit, samples: DistortionSamples, centre_px: Array) -> Origin:
    """Find where a fit puts the crystal point at the centre of its frame.

    Parameters
    ----------
    fit : FrameFit
        The fit.
    samples : DistortionSamples
        Its columns.
    centre_px : ndarray, shape (2,)
        The centre.

    Returns
    -------
    Origin
        Its variance is that of the lattice A_k in the joint posterior of D, W_k and A_k for given
        D, and of what W_k has no function for: its mean, which moves all columns as the sample
        does.
    """
    posterior, basis = fit.posterior, fit.basis
    kept, own = posterior.kept, posterior.mean.shape[1] - posterior.kept
    point = np.linalg.solve(fit.lattice_px[:, 1:], centre_px - fit.lattice_px[:, 0])
    row = np.zeros((1, own))
    row[0, -3:] = np.r_[1.0, point] * crystal_scale(samples)
    slopes, variance = np.empty((2, kept)), np.empty(2)
    for axis, factor in enumerate(posterior.factors):
        # own weights stand first: with U = [[U_1, U_12], [0, U_2]] their mean for given weights d
        # of D changes by -U_1^-1 U_12 d, and their covariance is U_1^-1 U_1^-T
        along = divide(row.copy(), factor[:own, :own])[0]
        slopes[axis] = -along @ factor[:own, own:]
        variance[axis] = along @ along
        if basis.walk_modes:
            variance[axis] += wave_variances(basis, fit.hyperparameters.logs[axis], MEAN)[0][0]
    return Origin(
        stationary_px=posterior.mean[:, :kept],
        slopes=slopes,
        variance_px2=variance,
        unknown_px=posterior.factors[:, own:, own:],
    )
