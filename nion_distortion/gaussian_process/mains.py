"""The mains: whether one frame shows it, and at which frequency."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.hyperparameters import (
    MAINS_STEP,
    Hyperparameters,
    mains_shape,
    wave_variances,
)
from nion_distortion.gaussian_process.linearisation import Linearised
from nion_distortion.gaussian_process.posterior import Posterior
from nion_distortion.gaussian_process.scan_time import MAINS_MODES

__all__ = ["MainsLine", "find_mains", "mains_line"]

Array = npt.NDArray[np.float64]

NOMINAL_HZ, WITHIN_HZ = (50.0, 60.0), 0.2
SPACING, FINE = 0.25, 9
"""Spacing of trial frequencies, in periods over the frame; then number of trials about the best."""

AMPLITUDES_PM = (1.0, 3.0, 10.0, 30.0)
"""Standard deviations to try along each axis."""

CERTAIN = 10.0
"""Log evidence (nats) for the mains, beyond the logarithm of the number of trials, that is needed:
a few nats are gained by chance."""


class MainsLine(NamedTuple):
    """The mains as a model knows it."""

    hz: float
    hz_std: float
    amplitude_px: float
    """Root of the summed squares of the fundamental's amplitudes along y and x."""


def find_mains(
    linearised: Linearised,
    basis: Basis,
    hyperparameters: Hyperparameters,
    posterior: Posterior,
    pixel_size_nm: float,
) -> float | None:
    """Look for the mains in the residual of a fit without it.

    Parameters
    ----------
    linearised : Linearised
        Samples of one frame.
    basis : Basis
        The functions of the fit, none of which is the mains'.
    hyperparameters : Hyperparameters
        Those of the fit: they give the power that W_k has at the same frequencies.
    posterior : Posterior
        Their weights, those of a change of the lattice last.
    pixel_size_nm : float
        Side of a pixel.

    Returns
    -------
    float or None
        Its frequency, Hz; None where the frame does not show it, or there can be none.

    Notes
    -----
    With functions F, weights W of the columns, residual r, and the other functions Phi with
    posterior covariance C, ``K = F W F - F W Phi C Phi W F`` and ``g = F W r`` hold all of the
    evidence: with prior variances P it gains ``(g (1/P + K)^-1 g - log det(1 + P K)) / 2``. Waves
    too fast for W_k's functions have some power without any mains: the mains' gain is counted from
    there.
    """
    if basis.line_time_s is None:
        return None
    duration = basis.line_time_s * basis.shape_px[0]
    left = _Left.of(linearised, (basis, hyperparameters), posterior, 1e-3 / pixel_size_nm)
    count = 2 * int(np.ceil(WITHIN_HZ * duration / SPACING)) - 1
    coarse = np.concatenate([_about(hz, WITHIN_HZ, count) for hz in NOMINAL_HZ])
    gains = left.gains(coarse)
    if gains.max() < CERTAIN + np.log(len(coarse)):
        return None
    best = float(coarse[np.argmax(gains)])
    fine = _about(best, min(WITHIN_HZ, 0.5 * SPACING / duration), FINE)
    return float(fine[np.argmax(left.gains(fine))])


def _about(hz: float, within_hz: float, count: int) -> Array:
    """Middles of equal parts of an interval."""
    return hz + within_hz * ((2 * np.arange(count) + 1) / max(count, 1) - 1)


class _Left(NamedTuple):
    """Residual of a fit, and what is needed to know which part of it its functions would fit."""

    linearised: Linearised
    prior: tuple[Basis, Hyperparameters]
    shown: Array  # (2, m, n): all functions of the fit as the columns show them, weighted
    covariance: Array  # (2, m, m)
    residual: Array  # (2, n)
    weights: Array  # (2, n)
    amplitudes_px: Array

    @classmethod
    def of(
        cls,
        linearised: Linearised,
        prior: tuple[Basis, Hyperparameters],
        posterior: Posterior,
        px_per_pm: float,
    ) -> "_Left":
        design, seen = linearised.design(prior[0]), linearised.seen(prior[0])
        weights = np.stack([linearised.weights[:, axis, axis] for axis in range(2)])
        predicted = (posterior.mean * seen) @ design
        shown = seen[:, :, None] * design * weights[:, None]
        residual = linearised.targets.T - predicted
        amplitudes = px_per_pm * np.array(AMPLITUDES_PM)
        return cls(linearised, prior, shown, posterior.covariance, residual, weights, amplitudes)

    def gains(self, trials_hz: Array) -> Array:
        """Evidence that the mains at each frequency adds to that of none."""
        return np.array([self._gain(float(hz)) for hz in trials_hz])

    def _gain(self, hz: float) -> float:
        basis, hyperparameters = self.prior
        trial = basis.with_mains(hz)
        functions = trial.scan_time.mains_functions(self.linearised.predicted_px)
        seen = trial.seen()[:, trial.slices["mains"]]
        waves = trial.scan_time.mains_waves()
        stretch = basis.scan_time.interval_lines / basis.shape_px[0]
        gain = 0.0
        for axis, logs in enumerate(hyperparameters.logs):
            without = 2 * stretch * wave_variances(basis, logs, waves)[0]
            without *= waves > basis.walk_modes
            without[-2:] = 0.0
            gain += self._gain_along(axis, functions * seen[axis, :, None], without)
        return gain

    def _gain_along(self, axis: int, functions: Array, without: Array) -> float:
        """Evidence along one axis, of the best amplitude or none."""
        weighted = functions * self.weights[axis]
        taken_up = self.shown[axis] @ functions.T
        matrix = weighted @ functions.T - taken_up.T @ self.covariance[axis] @ taken_up
        vector = weighted @ self.residual[axis]
        powers = np.r_[0.0, self.amplitudes_px**2]
        gains = [_gain_of(matrix, vector, without + one * mains_shape()) for one in powers]
        return max(gains) - gains[0]


def _gain_of(matrix: Array, vector: Array, variances: Array) -> float:
    """Evidence that functions of these prior variances add."""
    root = np.sqrt(variances)
    inner = np.eye(MAINS_MODES) + matrix * np.outer(root, root)
    right = root * vector
    gain = right @ np.linalg.solve(inner, right) - np.linalg.slogdet(inner)[1]
    return 0.5 * float(gain)


def mains_line(basis: Basis, posterior: Posterior) -> MainsLine | None:
    """Read frequency and amplitude of the mains off its weights.

    Parameters
    ----------
    basis : Basis
        The functions.
    posterior : Posterior
        Weights of all of them, or of D where the mains belongs to it.

    Returns
    -------
    MainsLine or None
        None where there is none.

    Notes
    -----
    A wave whose frequency is off by d periods over the frame turns its cosine c and sine s by
    ``2 pi d`` times the time from the middle: weights of the change are ``2 pi d (s, -c)``.
    """
    part = basis.slices["mains"]
    if basis.mains_hz is None or basis.line_time_s is None or part.stop > posterior.mean.shape[1]:
        return None
    weights, covariance = posterior.mean[:, part], posterior.covariance[:, part, part]
    turned = 2 * np.pi * np.stack([weights[:, 1], -weights[:, 0]], axis=1)
    known = np.linalg.inv(covariance[:, -2:, -2:])
    prior = 1.0 / MAINS_STEP**2  # the weights carry their own prior, of unknown direction
    change = np.einsum("ai,aij,aj->", turned, known, weights[:, -2:])
    certain = np.einsum("ai,aij,aj->", turned, known, turned)
    duration = basis.line_time_s * basis.shape_px[0]
    return MainsLine(
        hz=basis.mains_hz + float(change) / (float(certain) + prior) / duration,
        hz_std=float((certain + prior) ** -0.5) / duration,
        amplitude_px=float(np.sqrt((weights[:, :2] ** 2).sum())),
    )
