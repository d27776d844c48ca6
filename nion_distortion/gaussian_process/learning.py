"""Hyperparameters from the evidence in weight space."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from nion_distortion._chunks import for_chunks
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.hyperparameters import (
    DECAYS,
    Hyperparameters,
    prior_logs,
    prior_variances,
)
from nion_distortion.gaussian_process.moments import information
from nion_distortion.gaussian_process.weights import (
    Information,
    joint_negative_log_evidence,
    marginal,
    negative_log_evidence,
)

__all__ = ["Linearised", "learn", "learn_amplitudes"]

Array = npt.NDArray[np.float64]

MOST_EVALUATIONS = 25
WIDEST_LOGS = 5.0
"""Bounds of the search, in standard deviations of the priors."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linearised:
    """Samples about a prediction: ``targets = design^T weights + noise``.

    Parameters
    ----------
    predicted_px : ndarray, shape (n, 2)
        The places at which the functions are evaluated.
    crystal : ndarray, shape (3, n)
        Functions of a change of the lattice.
    targets : ndarray, shape (n, 2)
        Linearised observations less the ideal sites, px.
    weights : ndarray, shape (n, 2, 2)
        Inverse covariance of the targets, px^-2.
    lattice_precision : float
        Inverse prior variance of the change of the lattice, px^-2.
    """

    predicted_px: Array
    crystal: Array
    targets: Array
    weights: Array
    lattice_precision: float

    def design(self, basis: Basis) -> Array:
        """Evaluate the functions of D and W_k, then those of a change of the lattice.

        Parameters
        ----------
        basis : Basis
            The functions of D and W_k.

        Returns
        -------
        ndarray, shape (m + 3, n)
            One row for each function.
        """
        rows = basis.design(self.predicted_px, spare=len(self.crystal))
        rows[basis.size :] = self.crystal
        return rows

    def information(self, basis: Basis) -> Information:
        """Gather what the samples say about all weights.

        Parameters
        ----------
        basis : Basis
            The functions of D and W_k.

        Returns
        -------
        Information
            Without any prior.
        """
        return information(basis, self.predicted_px, self.crystal, self.targets, self.weights)

    def residual_px(self, basis: Basis, mean: Array) -> Array:
        """Compare the targets with what the weights predict.

        Parameters
        ----------
        basis : Basis
            The functions of D and W_k.
        mean : ndarray, shape (2, m + 3)
            The weights.

        Returns
        -------
        ndarray, shape (n, 2)
            Targets less prediction.
        """
        residual: Array = self.targets - (mean @ self.design(basis)).T
        return residual


def learn(
    linearised: Linearised,
    basis: Basis,
    hyperparameters: Hyperparameters,
    pixel_size_nm: float,
) -> tuple[Basis, Hyperparameters, Information]:
    """Find the decay, then amplitudes and lengths, that make the samples most probable.

    Parameters
    ----------
    linearised : Linearised
        Samples of one frame.
    basis : Basis
        The functions with the decay of the last pass.
    hyperparameters : Hyperparameters
        Those of the last pass; the floor stays.
    pixel_size_nm : float
        Side of a pixel.

    Returns
    -------
    basis : Basis
        With the decay that was found.
    hyperparameters : Hyperparameters
        With the amplitudes and lengths that were found.
    given : Information
        What the samples say about the weights of that basis and of a change of the lattice.

    Notes
    -----
    The evidence has more than one maximum in the decay, so all of its range is tried; the rest is
    found by gradients of the evidence in weight space [1]_, times its priors.

    References
    ----------
    .. [1] C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning,
       MIT Press (2006), sections 2.7 and 5.4.
    """
    given = linearised.information(basis)
    if "line_flyback" in basis.terms:
        scores = _score_decays(linearised, basis, hyperparameters, given)
        decay = float(DECAYS[np.argmin(scores)])
        if decay != basis.decay:
            basis = basis.with_decay(decay)
            given = linearised.information(basis)
    known = marginal(given, basis.size, np.full((2, 3), linearised.lattice_precision))
    return basis, learn_amplitudes([known], basis, hyperparameters, pixel_size_nm), given


def learn_amplitudes(
    given: Sequence[Information],
    basis: Basis,
    hyperparameters: Hyperparameters,
    pixel_size_nm: float,
) -> Hyperparameters:
    """Find amplitudes and lengths from what one or several frames say about D and their own W_k.

    Parameters
    ----------
    given : sequence of Information
        One for each frame: about the weights of D and W_k, without any prior.
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Where the search starts; the floor stays.
    pixel_size_nm : float
        Side of a pixel.

    Returns
    -------
    Hyperparameters
        Those of greatest evidence, times their priors.
    """
    prior = prior_logs(pixel_size_nm)

    def _of_axis(axis: int, _: int) -> Array:
        frames = [(frame.blocks[axis], frame.vector[axis]) for frame in given]
        return _climb(frames, basis, hyperparameters.logs[axis], prior)

    return replace(hyperparameters, logs=np.stack(for_chunks(_of_axis, 2)))


def _line_rows(basis: Basis) -> slice:
    return slice(basis.slices["line"].start, basis.slices["line_slope"].stop)


def _climb(
    frames: Sequence[tuple[Array, Array]],
    basis: Basis,
    start: Array,
    prior: tuple[Array, Array],
) -> Array:
    """Maximise evidence times prior over the logarithms of one axis."""
    mean, std = prior

    def score(variances: Array) -> tuple[float, Array]:
        if len(frames) == 1:
            return negative_log_evidence(*frames[0], variances)
        return joint_negative_log_evidence(frames, basis.stationary_size, variances)

    def surprise(logs: Array) -> tuple[float, Array]:
        variances, slopes = prior_variances(basis, logs)
        value, by_variance = score(variances)
        off = (logs - mean) / std
        return value + 0.5 * float(off @ off), slopes @ (by_variance / variances) + off / std

    bounds = list(zip(mean - WIDEST_LOGS * std, mean + WIDEST_LOGS * std, strict=True))
    found = minimize(
        surprise,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxfun": MOST_EVALUATIONS, "ftol": 1e-6},
    )
    result: Array = found.x
    return result


def _score_decays(
    linearised: Linearised, basis: Basis, hyperparameters: Hyperparameters, given: Information
) -> Array:
    """Negative logarithm of the evidence of each of ``DECAYS``, up to a constant."""
    lines = _line_rows(basis)
    trials = np.concatenate(
        [basis.with_decay(float(d)).line_functions(linearised.predicted_px) for d in DECAYS]
    )
    others = np.delete(linearised.design(basis), lines, axis=0)

    def score(axis: int, _: int) -> Array:
        variances = prior_variances(basis, hyperparameters.logs[axis])[0]
        rest = np.sqrt(np.delete(variances, lines))
        root = np.concatenate([rest, np.full(3, linearised.lattice_precision**-0.5)])
        gram = np.delete(np.delete(given.blocks[axis], lines, axis=0), lines, axis=1)
        gram *= np.outer(root, root)
        weighted = np.sqrt(linearised.weights[:, axis, axis])
        tried = trials * np.tile(np.sqrt(variances[lines]), len(DECAYS))[:, None] * weighted
        right = linearised.targets[:, axis] * weighted
        with_others = (others @ (np.concatenate([tried, right[None]]) * weighted).T) * root[:, None]
        return _score_axis(gram, with_others, tried, right)

    scores: Array = np.sum(for_chunks(score, 2), axis=0)
    return scores


def _score_axis(gram: Array, with_others: Array, tried: Array, right: Array) -> Array:
    """Evidence of each group of trial functions beside the others, all of unit prior variance.

    The others are factorised once, by their ``gram`` and their products ``with_others`` with the
    trial functions and the targets; each trial adds a small Schur complement.
    """
    gram.flat[:: len(gram) + 1] += 1.0
    lower = cholesky(gram, lower=True, overwrite_a=True)
    reached = solve_triangular(lower, with_others, lower=True)
    reached, explained = reached[:, :-1], reached[:, -1]
    size = len(tried) // len(DECAYS)
    scores = np.empty(len(DECAYS))
    for k in range(len(DECAYS)):
        block = slice(k * size, (k + 1) * size)
        own, cross = tried[block], reached[:, block]
        schur = np.eye(size) + own @ own.T - cross.T @ cross
        gain = own @ right - cross.T @ explained
        factor = cholesky(schur, lower=True)
        scores[k] = np.log(np.diag(factor)).sum() - 0.5 * gain @ cho_solve((factor, True), gain)
    return scores
