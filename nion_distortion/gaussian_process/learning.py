"""Hyperparameters from the evidence in weight space."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from nion_distortion._chunks import for_chunks
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.evidence import (
    Frames,
    Scored,
    negative_log_evidence,
    scored,
)
from nion_distortion.gaussian_process.fast_waves import (
    FastWaves,
    alias_variances,
    score_fast_waves,
)
from nion_distortion.gaussian_process.hyperparameters import (
    DECAYS,
    NAMES,
    Hyperparameters,
    decay_surprise,
    flyback_surprise,
    prior_logs,
    prior_surprise,
    prior_variances,
)
from nion_distortion.gaussian_process.linearisation import Linearised
from nion_distortion.gaussian_process.posterior import marginal
from nion_distortion.gaussian_process.weights import Information

__all__ = [
    "Evidence",
    "is_at_bound",
    "learn",
    "learn_amplitudes",
    "weigh_calm",
]

Array = npt.NDArray[np.float64]

MOST_EVALUATIONS = 25
WIDEST_LOGS, LARGEST_LOGS = 5.0, 3.0
"""Bounds of the search below and above the priors' medians, in their spreads: an error may be
absent, but no scan has a smooth distortion of a nanometre, which contradictory columns suggest."""

AT_BOUND = 0.01
"""A logarithm this close to its bound was stopped by it."""

PERHAPS_ABSENT = ("jitter", "walk", "frame", "fast")
"""Errors that some scans lack altogether, in the order in which `weigh_calm` treats them."""

CALM = 0.5
"""Prior probability that a scan lacks each of them."""

CERTAIN = 8.0
"""Log evidence (nats) for an error beyond which its absence is not considered."""

TRIALS = np.linspace(-2.4, 1.2, 7)
"""Trial amplitudes for that average: offsets of the logarithm from the most probable one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What one frame says about the hyperparameters.

    Parameters
    ----------
    information : Information
        About the weights of D and W_k, without any prior.
    apart : Information
        The same of each axis, with the most probable weights of the other.
    waves : FastWaves, optional
        Waves that are too fast for W_k, in the residual of an earlier fit.

    Notes
    -----
    Hyperparameters are found axis by axis. The vector of ``information`` has in it what columns at
    a steep fly-back say of one axis by what they show along the other, which without the block
    between the axes looks like a motion of several pixels.
    """

    information: Information
    apart: Information
    waves: FastWaves | None = None


def learn(
    linearised: Linearised,
    basis: Basis,
    hyperparameters: Hyperparameters,
    pixel_size_nm: float,
    waves: FastWaves | None,
    growth: float,
) -> tuple[Basis, Hyperparameters, Information, Evidence]:
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
    waves : FastWaves or None
        Fast waves in the residual of the last pass; None in the first one.
    growth : float
        Greatest growth of the logarithm of an amplitude or length from one pass to the next.

    Returns
    -------
    basis : Basis
        With the decay that was found.
    hyperparameters : Hyperparameters
        With the amplitudes and lengths that were found.
    given : Information
        What the samples say about the weights of that basis and of a change of the lattice.
    evidence : Evidence
        What they were found from.

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
        scores = scores + decay_surprise(basis.expected)
        decay = float(DECAYS[np.argmin(scores)])
        hyperparameters = replace(hyperparameters, decay_log_std=_spread_of_decays(scores))
        if decay != basis.decay:
            basis = basis.with_decay(decay)
            given = linearised.information(basis)
    known = marginal(given, basis.size, np.full((2, 3), linearised.lattice_precision))
    # Not with the other axis given: about the first, poor predictions that runs away.
    evidence = Evidence(information=known, apart=known, waves=waves)
    found = learn_amplitudes([evidence], basis, hyperparameters, pixel_size_nm)
    if waves is not None:  # the first pass starts from what is typical, not from a fit
        found = replace(found, logs=np.minimum(found.logs, hyperparameters.logs + growth))
    return basis, found, given, evidence


def learn_amplitudes(
    given: Sequence[Evidence],
    basis: Basis,
    hyperparameters: Hyperparameters,
    pixel_size_nm: float,
) -> Hyperparameters:
    """Find amplitudes and lengths from what one or several frames say about D and their own W_k.

    Parameters
    ----------
    given : sequence of Evidence
        One for each frame.
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

    def _of_axis(axis: int, _: int) -> Array:
        return _climb(_Score(given, basis, axis), hyperparameters.logs[axis], pixel_size_nm)

    return replace(hyperparameters, logs=np.stack(for_chunks(_of_axis, 2)))


def is_at_bound(hyperparameters: Hyperparameters, pixel_size_nm: float, lines: int) -> bool:
    """Say whether the search for the smooth term's amplitude ended at its upper bound.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Those that were found.
    pixel_size_nm : float
        Side of a pixel.
    lines : int
        Of the frame.

    Returns
    -------
    bool
        True where no amplitude of a real scan explains the columns.
    """
    mean, std = prior_logs(pixel_size_nm, lines)
    smooth = NAMES.index("smooth")
    largest = mean[smooth] + LARGEST_LOGS * std[smooth]
    return bool((hyperparameters.logs[:, smooth] > largest - AT_BOUND).any())


def weigh_calm(
    given: Sequence[Evidence],
    basis: Basis,
    hyperparameters: Hyperparameters,
    pixel_size_nm: float,
) -> Hyperparameters:
    """Average each amplitude over the models with and without that error.

    Parameters
    ----------
    given : sequence of Evidence
        One for each frame.
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        The most probable ones if all errors are present.
    pixel_size_nm : float
        Side of a pixel.

    Returns
    -------
    Hyperparameters
        The square of each amplitude is its expectation over both models.

    Notes
    -----
    One frame hardly tells no jitter from 0.5 pm of it, yet the latter would set the claimed error
    of every line; the same holds for W_k's walk, the frame fly-back and steps along x. This is
    Bayesian model averaging: with the prior probability ``CALM`` that the error is absent, and the
    evidence of each trial amplitude, the expected square is a sum over both models; one amplitude
    is treated after the other.
    """

    def _of_axis(axis: int, _: int) -> Array:
        logs: Array = hyperparameters.logs[axis]
        slopes = prior_variances(basis, logs)[1]
        for name in PERHAPS_ABSENT:
            if slopes[NAMES.index(name)].any():  # the basis has such functions
                logs = _weighed(_Score(given, basis, axis), logs, name, pixel_size_nm)
        return logs

    return replace(hyperparameters, logs=np.stack(for_chunks(_of_axis, 2)))


def _line_rows(basis: Basis) -> slice:
    return slice(basis.slices["line"].start, basis.slices["line_slope"].stop)


class _Score(NamedTuple):
    """Negative logarithm of the evidence of all frames along one axis."""

    given: Sequence[Evidence]
    basis: Basis
    axis: int

    def __call__(self, logs: Array) -> Scored:
        """Return it for the logarithms of the axis, with slope and curvature, (10,)."""
        variances, slopes = self._variances(logs)
        slow = scored(self._frames, self.basis.stationary_size, variances)
        relative = slopes / variances
        parts = [Scored(slow.value, relative @ slow.slope, relative**2 @ slow.curvature)]
        return _sum_of(parts + self._fast(logs))

    def value(self, logs: Array) -> float:
        """Return it alone, which takes half as long."""
        variances, _ = self._variances(logs)
        slow = negative_log_evidence(self._frames, self.basis.stationary_size, variances)
        return slow + sum(one.value for one in self._fast(logs))

    @property
    def _frames(self) -> Frames:
        found = [one.apart for one in self.given]
        return [(one.blocks[self.axis], one.vector[self.axis]) for one in found]

    def _fast(self, logs: Array) -> list[Scored]:
        waves = [one.waves for one in self.given if one.waves is not None]
        return [score_fast_waves(one, self.basis, self.axis, logs) for one in waves]

    def _variances(self, logs: Array) -> tuple[Array, Array]:
        variances, slopes = prior_variances(self.basis, logs)
        waves, walk = self.given[0].waves, self.basis.slices["walk"]
        if waves is not None:
            more, change = alias_variances(waves, self.basis, self.axis, logs)
            variances[walk] += more
            slopes[:, walk] += change
        return variances, slopes


def _sum_of(parts: Sequence[Scored]) -> Scored:
    return Scored(*(sum(one) for one in zip(*parts, strict=True)))


def _climb(score: _Score, start: Array, pixel_size_nm: float) -> Array:
    """Maximise evidence times prior over the logarithms of one axis.

    Each is scaled by its curvature's standard deviation: the gradient search then begins with
    steps of the right length, and takes two thirds of the evaluations.
    """
    mean, std = prior_logs(pixel_size_nm, score.basis.shape_px[0])
    low, high = mean - WIDEST_LOGS * std, mean + LARGEST_LOGS * std
    used = np.asarray(prior_variances(score.basis, start)[1].any(axis=1))
    start = np.clip(start, low, high)

    def surprise(logs: Array) -> Scored:
        return _sum_of([score(logs), _prior(score, logs, used, pixel_size_nm)])

    first = surprise(start)  # of many frames it is millions, and the tolerance is relative
    unit = 1.0 / np.sqrt(first.curvature)

    def off_first(steps: Array) -> tuple[float, Array]:
        now = surprise(start + unit * steps) if steps.any() else first
        return now.value - first.value, now.slope * unit

    found = minimize(
        off_first,
        np.zeros(len(start)),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip((low - start) / unit, (high - start) / unit, strict=True)),
        options={"maxfun": MOST_EVALUATIONS, "ftol": 1e-4},
    )
    return np.clip(start + unit * found.x, low, high)


def _prior(score: _Score, logs: Array, used: npt.NDArray[np.bool_], pixel_size_nm: float) -> Scored:
    """Negative log prior of the logarithms; its value counts only those that the basis uses."""
    lines = score.basis.shape_px[0]
    prior, slope, curvature = prior_surprise(logs, pixel_size_nm, lines)
    line = NAMES.index("line")
    more = flyback_surprise(score.basis.expected, score.axis, logs[line])
    slope[line] += more[1]
    curvature[line] += more[2]
    return Scored(float(prior[used].sum()) + more[0], slope, curvature)


def _weighed(score: _Score, found: Array, name: str, pixel_size_nm: float) -> Array:
    """Replace one amplitude of one axis by the root of its expected square."""
    where, lines = NAMES.index(name), score.basis.shape_px[0]
    mean, std = prior_logs(pixel_size_nm, lines)

    def _with(log: float) -> Array:
        logs = found.copy()
        logs[where] = log
        return logs

    least = mean[where] - WIDEST_LOGS * std[where]
    calm = score.value(_with(least))
    if calm - score.value(found) > CERTAIN:
        return found
    trials = found[where] + TRIALS
    better = np.array([calm - score.value(_with(log)) for log in trials])
    prior = [prior_surprise(_with(log), pixel_size_nm, lines)[0][where] for log in trials]
    shaking = (1.0 - CALM) / CALM * np.exp(better - prior)
    share = np.trapezoid(shaking * np.exp(2 * trials), trials)
    expected = share / (1.0 + np.trapezoid(shaking, trials))
    return _with(max(0.5 * float(np.log(expected)), least))


def _score_decays(
    linearised: Linearised, basis: Basis, hyperparameters: Hyperparameters, given: Information
) -> Array:
    """Negative logarithm of the evidence of each of ``DECAYS``, up to a constant."""
    lines = _line_rows(basis)
    trials = np.concatenate(
        [basis.with_decay(float(d)).line_functions(linearised.predicted_px) for d in DECAYS]
    )
    seen = linearised.seen(basis)
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
        shown = root * np.delete(seen[axis], lines)
        both = np.concatenate([tried, right[None]]) * weighted
        with_others = (others @ both.T) * shown[:, None]
        return _score_axis(gram, with_others, tried, right)

    scores: Array = np.sum(for_chunks(score, 2), axis=0)
    return scores


def _spread_of_decays(scores: Array) -> float:
    """Compute the standard deviation of log decay over the trials, weighted by their evidence."""
    probable = np.exp(scores.min() - scores)
    probable /= probable.sum()
    logs = np.log(DECAYS)
    return float(np.sqrt(probable @ (logs - probable @ logs) ** 2))


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
