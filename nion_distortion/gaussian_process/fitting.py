"""One frame's samples -> weights, linearised at the model's own prediction."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion.distortion import DistortionSamples
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.hyperparameters import (
    Hyperparameters,
    prior_variances,
    suited,
)
from nion_distortion.gaussian_process.learning import Evidence, is_at_bound, learn, weigh_calm
from nion_distortion.gaussian_process.linearisation import (
    Linearised,
    Prediction,
    linearise,
    linearised_frame,
    precision_of,
    predict,
    renewed,
)
from nion_distortion.gaussian_process.mains import find_mains, mains_line
from nion_distortion.gaussian_process.posterior import Posterior, combined, marginal, solve
from nion_distortion.gaussian_process.weights import Information

__all__ = [
    "fit_frame",
    "fit_frame_and_hyperparameters",
    "frame_evidence",
    "stationary_posterior",
    "stationary_variances",
    "walk_precision",
]

Array = npt.NDArray[np.float64]

MOST_PASSES, STANDS_STILL_PX = 6, 0.01
GUARDED_PASSES = 2
"""Passes in which predictions that began with nothing are held close to their columns."""

FITTED_PASSES = 3
"""Number of first passes, after each of which the functions of the smooth term are chosen anew."""

GROWTHS = (1.0, 0.3)
"""Greatest growth of any hyperparameter's logarithm from one pass to the next: at first, and in a
second try if amplitudes ran away. Linearised about a poor prediction, columns contradict each
other, which only an unbounded amplitude explains, and with it the next prediction is poorer
still."""


def fit_frame(
    samples: DistortionSamples,
    basis: Basis,
    hyperparameters: Hyperparameters,
    *,
    known: Information | None,
    moving_px: npt.NDArray[np.float32] | None,
    passes: int = 1,
) -> FrameFit:
    """Fit a frame with given hyperparameters.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Amplitudes, lengths and floor.
    known : Information or None
        What earlier frames said about D; None where nothing is known.
    moving_px : ndarray of float32, shape (2, ny, nx), or None
        D at every pixel under it, from which the first prediction is made; None where nothing is
        known.
    passes : int, default: 1
        How often the samples are linearised.

    Returns
    -------
    FrameFit
        The posterior holds what was known and what this frame adds.
    """
    state = predict(samples, moving_px)
    for number in range(passes - 1):
        fit, linearised = _solve_frame(samples, state, basis, hyperparameters, known)
        guard = moving_px is None and number < GUARDED_PASSES
        state = renewed(samples, state, fit, linearised, guard=guard)
    return _solve_frame(samples, state, basis, hyperparameters, known)[0]


def fit_frame_and_hyperparameters(
    samples: DistortionSamples, basis: Basis, pixel_size_nm: float
) -> FrameFit:
    """Fit the first frame of new settings: decay, amplitudes and floor are found as well.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    basis : Basis
        The functions; its decay is found here.
    pixel_size_nm : float
        Side of a pixel, which brings the priors to pixels.

    Returns
    -------
    FrameFit
        With the basis and the hyperparameters that were found; mains is looked for beside them.
    """
    found = _learnt_cautiously(samples, basis, predict(samples, None), pixel_size_nm)
    fit = found.fit
    mains_hz = find_mains(
        found.linearised, fit.basis, fit.hyperparameters, fit.posterior, pixel_size_nm
    )
    if mains_hz is not None:  # they were learnt with the mains among the rest
        basis = fit.basis.with_mains(mains_hz)
        found = _learnt_cautiously(samples, basis, found.state, pixel_size_nm)
    basis, posterior = found.fit.basis, found.fit.posterior
    hyperparameters = weigh_calm([found.evidence], basis, found.hyperparameters, pixel_size_nm)
    line = mains_line(basis, posterior)
    basis = basis.with_mains(None if line is None else line.hz)
    return _solve_frame(samples, found.state, basis, hyperparameters, None)[0]


class _Learnt(NamedTuple):
    """What passes over one frame have found."""

    state: Prediction
    hyperparameters: Hyperparameters
    evidence: Evidence
    fit: FrameFit
    linearised: Linearised


def _learnt_cautiously(
    samples: DistortionSamples, basis: Basis, state: Prediction, pixel_size_nm: float
) -> _Learnt:
    """Learn again with amplitudes that grow less, where they ran away."""
    found = _learnt(samples, basis, state, pixel_size_nm, GROWTHS[0])
    for growth in GROWTHS[1:]:
        if is_at_bound(found.hyperparameters, pixel_size_nm, basis.shape_px[0]):
            found = _learnt(samples, basis, state, pixel_size_nm, growth)
    return found


def _learnt(
    samples: DistortionSamples,
    basis: Basis,
    state: Prediction,
    pixel_size_nm: float,
    growth: float,
) -> _Learnt:
    """Repeat linearisation, hyperparameters and fit until the prediction stands still."""
    hyperparameters = Hyperparameters.typical(pixel_size_nm, basis.shape_px[0])
    waves = None
    for number in range(MOST_PASSES):
        linearised = linearise(samples, state, hyperparameters)
        basis, hyperparameters, given, evidence = learn(
            linearised, basis, hyperparameters, pixel_size_nm, waves, growth
        )
        fit = _solved(linearised, given, state, (basis, hyperparameters), None)
        following = renewed(samples, state, fit, linearised, guard=number < GUARDED_PASSES)
        moved = np.abs(following.predicted_px - state.predicted_px).max()
        floor = _floor(linearised, fit, samples.variance_px2, hyperparameters)
        state, hyperparameters = following, replace(hyperparameters, floor_px=floor)
        waves = linearised.fast_waves(basis, fit.posterior.mean)
        if number < FITTED_PASSES:
            basis = suited(basis, hyperparameters, precision_of(samples, hyperparameters))
        if number and moved < STANDS_STILL_PX and basis == fit.basis:
            break
    return _Learnt(state, hyperparameters, evidence, fit, linearised)


def frame_evidence(
    samples: DistortionSamples,
    basis: Basis,
    hyperparameters: Hyperparameters,
    moving_px: npt.NDArray[np.float32],
) -> Evidence:
    """Gather the information of one frame about D and its own W_k, its lattice integrated out.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Those that the prediction is made with.
    moving_px : ndarray of float32, shape (2, ny, nx)
        D at every pixel, for the prediction.

    Returns
    -------
    Evidence
        About the weights of D and W_k, without any prior of theirs, and about fast waves.
    """
    linearised = linearised_frame(samples, hyperparameters, moving_px)
    given = linearised.information(basis)
    posterior = solve(given, _precision(linearised, basis, hyperparameters))
    known = marginal(given, basis.size, np.full((2, 3), linearised.lattice_precision))
    return Evidence(
        information=known,
        apart=known.beside(posterior.mean[:, : basis.size]),
        waves=linearised.fast_waves(basis, posterior.mean),
    )


def _precision(linearised: Linearised, basis: Basis, hyperparameters: Hyperparameters) -> Array:
    """Inverse prior variances of all weights, those of the lattice last, (2, m + 3)."""
    lattice = np.full((2, len(linearised.crystal)), linearised.lattice_precision)
    return np.concatenate([1.0 / _variances(basis, hyperparameters), lattice], axis=1)


def stationary_posterior(
    basis: Basis, hyperparameters: Hyperparameters, known: Information
) -> Posterior:
    """Combine what frames said about D with its prior.

    Parameters
    ----------
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Their amplitudes.
    known : Information
        What the frames said.

    Returns
    -------
    Posterior
        Of the weights of D.
    """
    return solve(known, 1.0 / stationary_variances(basis, hyperparameters))


def stationary_variances(basis: Basis, hyperparameters: Hyperparameters) -> Array:
    """Prior variances of the weights of D.

    Parameters
    ----------
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Their amplitudes.

    Returns
    -------
    ndarray, shape (2, stationary_size)
        In px^2.
    """
    return _variances(basis, hyperparameters)[:, : basis.stationary_size]


def walk_precision(basis: Basis, hyperparameters: Hyperparameters) -> Array:
    """Inverse prior variances of the weights of W_k.

    Parameters
    ----------
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Their amplitudes.

    Returns
    -------
    ndarray, shape (2, walk_modes)
        In px^-2.
    """
    precision: Array = 1.0 / _variances(basis, hyperparameters)[:, basis.stationary_size :]
    return precision


def _variances(basis: Basis, hyperparameters: Hyperparameters) -> Array:
    return np.stack([prior_variances(basis, logs)[0] for logs in hyperparameters.logs])


def _solve_frame(
    samples: DistortionSamples,
    state: Prediction,
    basis: Basis,
    hyperparameters: Hyperparameters,
    known: Information | None,
) -> tuple[FrameFit, Linearised]:
    linearised = linearise(samples, state, hyperparameters)
    given = linearised.information(basis)
    fit = _solved(linearised, given, state, (basis, hyperparameters), known)
    return replace(fit, frame_id=samples.frame_id), linearised


def _solved(
    linearised: Linearised,
    given: Information,
    state: Prediction,
    prior: tuple[Basis, Hyperparameters],
    known: Information | None,
) -> FrameFit:
    basis, hyperparameters = prior
    precision = _precision(linearised, basis, hyperparameters)
    kept = basis.stationary_size
    posterior, said = combined(given, precision, kept, known)
    change = posterior.mean[:, basis.size :] * state.scale
    return FrameFit(
        basis=basis,
        hyperparameters=hyperparameters,
        posterior=posterior,
        known=said,
        lattice_px=state.lattice_px + change,
        predicted_px=state.predicted_px,
        robust=state.robust,
        squares=_squares(
            linearised, given, posterior.mean, _pull(posterior.mean, precision, known)
        ),
        observations=2 * int(np.count_nonzero(linearised.weights[:, 0, 0])),
        precision=precision,
        before=known,
    )


def _squares(linearised: Linearised, given: Information, mean: Array, pull: Array) -> float:
    """Weighted squared residual from the normal equations, without going through the samples.

    ``M w = v + pull``, where the prior and earlier frames contribute the pull.
    """
    targets = linearised.targets
    total = np.einsum("na,nab,nb->", targets, linearised.weights, targets)
    return float(total + (mean * (pull - given.vector)).sum())


def _pull(mean: Array, precision: Array, known: Information | None) -> Array:
    """Add up what earlier frames and the prior contribute to the normal equations at the mean."""
    pull = -precision * mean
    if known is None:
        return pull
    kept = known.vector.shape[1]
    pull[:, :kept] += known.slope(mean[:, :kept])
    return pull


def _floor(
    linearised: Linearised, fit: FrameFit, variance: Array, hyperparameters: Hyperparameters
) -> float:
    """Find the extra standard deviation that brings chi^2 to the degrees of freedom."""
    residual = linearised.residual_px(fit.basis, fit.posterior.mean)
    claimed = variance + hyperparameters.floor_px**2
    squares = np.einsum("na,nab,nb->n", residual, linearised.weights, residual) * claimed
    freedom = float((squares / claimed).sum()) / fit.chi2
    if (squares / variance).sum() <= freedom:
        return 0.0
    low, high = 0.0, float(squares.sum()) / freedom
    for _ in range(50):
        middle = 0.5 * (low + high)
        enough = float((squares / (variance + middle)).sum()) <= freedom
        low, high = (low, middle) if enough else (middle, high)
    return float(np.sqrt(high))
