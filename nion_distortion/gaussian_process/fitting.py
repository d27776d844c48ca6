"""One frame's samples -> weights, linearised at the model's own prediction."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._validation import reduce_frozen
from nion_distortion.distortion import DistortionSamples
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.hyperparameters import (
    Hyperparameters,
    prior_variances,
    suited,
)
from nion_distortion.gaussian_process.learning import Evidence, Linearised, learn, weigh_calm
from nion_distortion.gaussian_process.mains import find_mains, mains_line
from nion_distortion.gaussian_process.posterior import Posterior, combined, marginal, solve
from nion_distortion.gaussian_process.weights import Information
from nion_distortion.scan_places import scan_places

__all__ = [
    "FrameFit",
    "crystal_scale",
    "fit_frame",
    "fit_frame_and_hyperparameters",
    "frame_evidence",
    "linearised_frame",
    "precision_of",
    "stationary_posterior",
    "stationary_variances",
    "walk_precision",
]

Array = npt.NDArray[np.float64]

LATTICE_PRIOR_PX = 30.0
"""Standard deviation of the lattice's origin and edges about the lattice fit: as good as flat."""

STRONG_SLOPE = 0.02
"""Columns where the distortion changes faster than this enter with their full 2 x 2 weight."""

ALIKE = 0.05
"""Weights of the two axes that differ by less are both set to their mean: a second Gram matrix for
these columns would cost as much as the first, and gain 1e-4 of the variance."""

WEAK_COUPLING = 0.05
"""Correlation of the axes below which they are kept apart."""

MOST_PASSES, STANDS_STILL_PX = 6, 0.01
FITTED_PASSES = 3
"""Passes after which the functions of the smooth term are chosen anew."""

GUARD_PX = 3.0
"""Early predictions are held this close to the column, and later ones that jump farther away, as
out of the scan, are not followed."""

TURNS, LINE_START = 0.5, 2.0
"""Where fly-back takes this share of the beam's advance at the start of a line, light of a
column that it never reaches looks like one up to so many sigmas from there."""

MEDIAN_LENGTH = 1.177
"""Median length of a vector whose components are normal with unit variance."""

ROBUST_FROM, ROBUST_TO = 4.0, 8.0
"""Columns this many standard deviations off count less, and not at all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameFit:
    """What one frame says.

    Parameters
    ----------
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Those that were used.
    posterior : Posterior
        Weights of D, W_k and of the change of the lattice.
    known : Information
        What this frame alone says about the weights of D.
    lattice_px : ndarray, shape (2, 3)
        A_k: ``place = lattice_px @ [1, X]``.
    predicted_px : ndarray, shape (n, 2)
        Where the model expects each column in the scan.
    robust : ndarray, shape (n,)
        Weight of each column, 0 to 1.
    squares : float
        Weighted squared residual.
    observations : int
        How many numbers were seen.
    precision : ndarray, shape (2, m)
        Inverse prior variances of all weights.
    before : Information, optional
        What was known about the weights of D before this frame.
    """

    basis: Basis
    hyperparameters: Hyperparameters
    posterior: Posterior
    known: Information
    lattice_px: Array
    predicted_px: Array
    robust: Array
    squares: float
    observations: int
    precision: Array
    before: Information | None = None

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def chi2(self) -> float:
        """Squared residual over its expectation; computed at each call.

        That is the number of observations less the weights that they determined themselves: the
        trace of the weights' covariance C times this frame's information, or what is left of
        ``trace(C C^-1)`` without the parts of the prior and of what earlier frames said.
        """
        covariance = self.posterior.covariance
        diagonal = np.stack([np.diag(block) for block in covariance])
        determined = float((1.0 - self.precision * diagonal).clip(0.0, 1.0).sum())
        if self.before is not None:
            kept = self.before.vector.shape[1]
            determined -= float(np.vdot(covariance[:, :kept, :kept], self.before.blocks))
        return self.squares / max(self.observations - determined, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _State:
    """The prediction about which the samples are linearised."""

    crystal: Array  # (n, 3): [1, X]
    lattice_px: Array  # (2, 3)
    predicted_px: Array  # (n, 2)
    jacobian: Array  # (n, 2, 2)
    robust: Array  # (n,)

    @property
    def scale(self) -> Array:
        """Brings ``crystal`` to the size of 1, shape (3,)."""
        return _scale(self.crystal)

    @property
    def places_px(self) -> Array:
        """Ideal sites on the sample, shape (n, 2)."""
        return self.crystal @ self.lattice_px.T


def crystal_scale(samples: DistortionSamples) -> Array:
    """Return the factors that the weights of a change of the lattice were fitted with.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of a frame.

    Returns
    -------
    ndarray, shape (3,)
        For the origin and the two basis vectors.
    """
    return _scale(np.c_[np.ones(len(samples)), samples.crystal_sites])


def _scale(crystal: Array) -> Array:
    scale: Array = 1.0 / np.maximum(np.abs(crystal).max(axis=0), 1.0)
    return scale


def fit_frame(
    samples: DistortionSamples,
    basis: Basis,
    hyperparameters: Hyperparameters,
    *,
    known: Information,
    moving_px: npt.NDArray[np.float32],
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
    known : Information
        What earlier frames said about D.
    moving_px : ndarray of float32, shape (2, ny, nx)
        D at every pixel under it, from which the first prediction is made.
    passes : int, default: 1
        How often the samples are linearised.

    Returns
    -------
    FrameFit
        The posterior holds what was known and what this frame adds.
    """
    state = _start(samples, moving_px)
    for _ in range(passes - 1):
        fit, linearised = _solve_frame(samples, state, basis, hyperparameters, known)
        state = _renewed(samples, state, fit, linearised)
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
    found = _learnt(samples, basis, _start(samples, None), pixel_size_nm)
    fit = found.fit
    mains_hz = find_mains(
        found.linearised, fit.basis, fit.hyperparameters, fit.posterior, pixel_size_nm
    )
    if mains_hz is not None:  # they were learnt with the mains among the rest
        basis = fit.basis.with_mains(mains_hz)
        found = _learnt(samples, basis, found.state, pixel_size_nm)
    basis, posterior = found.fit.basis, found.fit.posterior
    hyperparameters = weigh_calm([found.evidence], basis, found.hyperparameters, pixel_size_nm)
    line = mains_line(basis, posterior)
    basis = basis.with_mains(None if line is None else line.hz)
    return _solve_frame(samples, found.state, basis, hyperparameters, None)[0]


class _Learnt(NamedTuple):
    """What passes over one frame have found."""

    state: _State
    hyperparameters: Hyperparameters
    evidence: Evidence
    fit: FrameFit
    linearised: Linearised


def _learnt(
    samples: DistortionSamples, basis: Basis, state: _State, pixel_size_nm: float
) -> _Learnt:
    """Repeat linearisation, hyperparameters and fit until the prediction stands still."""
    hyperparameters = Hyperparameters.typical(pixel_size_nm)
    waves = None
    for number in range(MOST_PASSES):
        linearised = _linearise(samples, state, hyperparameters)
        basis, hyperparameters, given, evidence = learn(
            linearised, basis, hyperparameters, pixel_size_nm, waves
        )
        fit = _solved(linearised, given, state, (basis, hyperparameters), None)
        renewed = _renewed(samples, state, fit, linearised, guard=number < 2)
        moved = np.abs(renewed.predicted_px - state.predicted_px).max()
        floor = _floor(linearised, fit, _covariance(samples), hyperparameters)
        state, hyperparameters = renewed, replace(hyperparameters, floor_px=floor)
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
    """Gather what one frame says about D and its own W_k, its lattice integrated out.

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
    lattice = np.full((2, 3), linearised.lattice_precision)
    return Evidence(
        information=marginal(given, basis.size, lattice),
        waves=linearised.fast_waves(basis, posterior.mean),
    )


def _precision(linearised: Linearised, basis: Basis, hyperparameters: Hyperparameters) -> Array:
    """Inverse prior variances of all weights, those of the lattice last, (2, m + 3)."""
    lattice = np.full((2, len(linearised.crystal)), linearised.lattice_precision)
    return np.concatenate([1.0 / _variances(basis, hyperparameters), lattice], axis=1)


def linearised_frame(
    samples: DistortionSamples,
    hyperparameters: Hyperparameters,
    moving_px: npt.NDArray[np.float32],
) -> Linearised:
    """Linearise a frame's samples about a known D and the lattice alone.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    hyperparameters : Hyperparameters
        The floor is taken from them.
    moving_px : ndarray of float32, shape (2, ny, nx)
        D at every pixel.

    Returns
    -------
    Linearised
        Places, targets and weights.
    """
    return _linearise(samples, _start(samples, moving_px), hyperparameters)


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


def _start(samples: DistortionSamples, moving_px: npt.NDArray[np.float32] | None) -> _State:
    """Fit the lattice alone, with the known part of the motion taken out."""
    n = len(samples)
    crystal = np.c_[np.ones(n), samples.crystal_sites]
    seen = samples.observed_px
    if moving_px is None:
        lattice = _robust_lattice(crystal, seen)
        places = crystal @ lattice.T
        jacobian = np.zeros((n, 2, 2))
        return _State(
            crystal=crystal,
            lattice_px=lattice,
            predicted_px=places,
            jacobian=jacobian,
            robust=np.ones(n),
        )
    predicted, jacobian = scan_places(moving_px, samples.sites_px, seen)
    off = seen - predicted
    lattice = _robust_lattice(
        crystal, samples.sites_px + off - np.einsum("nab,nb->na", jacobian, off)
    )
    predicted, jacobian = scan_places(moving_px, crystal @ lattice.T, predicted)
    return _State(
        crystal=crystal,
        lattice_px=lattice,
        predicted_px=predicted,
        jacobian=jacobian,
        robust=_robust_weights(((seen - predicted) ** 2).sum(axis=1) / _covariance(samples))
        * _reached(samples, moving_px),
    )


def _robust_lattice(crystal: Array, places: Array) -> Array:
    """Least squares over the columns that are calm: fly-back must not tilt the lattice."""
    whole = _least_squares(crystal, places)
    rest = np.abs(places - crystal @ whole.T).max(axis=1)
    calm = rest < 3 * float(np.median(rest)) + 1.0
    return _least_squares(crystal[calm], places[calm])


def _least_squares(crystal: Array, places: Array) -> Array:
    solution = np.linalg.solve(crystal.T @ crystal, crystal.T @ places)
    return np.asarray(solution.T, dtype=np.float64)


def _covariance(samples: DistortionSamples) -> Array:
    """Isotropic variance of each column, shape (n,); fits of round columns are isotropic."""
    return 0.5 * (samples.covariance_px2[:, 0, 0] + samples.covariance_px2[:, 1, 1])


def precision_of(samples: DistortionSamples, hyperparameters: Hyperparameters) -> float:
    """Sum the inverse variances of a frame's columns.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    hyperparameters : Hyperparameters
        The floor is taken from them.

    Returns
    -------
    float
        Along one axis, px^-2.
    """
    return float((1.0 / (_covariance(samples) + hyperparameters.floor_px**2)).sum())


def _linearise(
    samples: DistortionSamples, state: _State, hyperparameters: Hyperparameters
) -> Linearised:
    off = samples.observed_px - state.predicted_px
    seen = samples.observed_px - np.einsum("nab,nb->na", state.jacobian, off)
    variance = _covariance(samples) + hyperparameters.floor_px**2
    return Linearised(
        predicted_px=state.predicted_px,
        crystal=(state.crystal * state.scale).T,
        targets=seen - state.places_px,
        weights=_weights(variance, state.jacobian) * state.robust[:, None, None],
        lattice_precision=LATTICE_PRIOR_PX**-2,
    )


def _weights(variance: Array, jacobian: Array) -> Array:
    """Inverse covariance of the linearised targets, ``[(1 - J) C (1 - J)^T]^-1``, (n, 2, 2)."""
    weights = np.empty((len(variance), 2, 2))
    _fill_weights(variance, jacobian, weights)
    return weights


@numba.njit(cache=True, nogil=True)
def _fill_weights(variance, jacobian, weights):  # type: ignore[no-untyped-def]
    """Invert the covariance of each column; where J is weak it is its variance."""
    for n in range(len(variance)):
        y, x, both = 1.0, 1.0, 0.0
        (yy, yx), (xy, xx) = jacobian[n]
        if max(abs(yy), abs(yx), abs(xy), abs(xx)) > STRONG_SLOPE:
            spread_y, spread_x = (1 - yy) ** 2 + yx**2 + 1e-4, xy**2 + (1 - xx) ** 2 + 1e-4
            shared = -(1 - yy) * xy - yx * (1 - xx)
            if abs(shared) < WEAK_COUPLING * np.sqrt(spread_y * spread_x):
                shared = 0.0
            determinant = spread_y * spread_x - shared**2
            y, x, both = spread_x / determinant, spread_y / determinant, -shared / determinant
            if shared == 0.0 and abs(x - y) <= ALIKE * y:
                y = x = 0.5 * (y + x)
        weights[n, 0, 0], weights[n, 1, 1] = y / variance[n], x / variance[n]
        weights[n, 0, 1] = weights[n, 1, 0] = both / variance[n]


def _solve_frame(
    samples: DistortionSamples,
    state: _State,
    basis: Basis,
    hyperparameters: Hyperparameters,
    known: Information | None,
) -> tuple[FrameFit, Linearised]:
    linearised = _linearise(samples, state, hyperparameters)
    given = linearised.information(basis)
    return _solved(linearised, given, state, (basis, hyperparameters), known), linearised


def _solved(
    linearised: Linearised,
    given: Information,
    state: _State,
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
    """Weighted squared residual by the normal equations: no second look at the samples.

    ``M w = v + pull`` with what else pulls at the weights.
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
    first = mean[:, :kept]
    pull[:, :kept] += known.vector - np.matmul(known.blocks, first[..., None])[..., 0]
    if known.cross is not None:
        pull[0, :kept] -= known.cross @ first[1]
        pull[1, :kept] -= first[0] @ known.cross
    return pull


def _renewed(
    samples: DistortionSamples,
    state: _State,
    fit: FrameFit,
    linearised: Linearised,
    *,
    guard: bool = False,
) -> _State:
    # D alone: with the frame's own walk in them, places would make small walks seem likely
    size = fit.basis.stationary_size
    moving = fit.basis.on_pixels(fit.posterior.mean[:, :size] * fit.basis.seen()[:, :size])
    predicted, jacobian = scan_places(moving, state.crystal @ fit.lattice_px.T, state.predicted_px)
    seen = samples.observed_px
    if guard:
        predicted = np.clip(predicted, seen - GUARD_PX, seen + GUARD_PX)
    # no place of a scan that turns back here is that of the column: it stays where it was predicted
    lost = np.abs(predicted - seen).max(axis=1) > GUARD_PX
    predicted[lost], jacobian[lost] = state.predicted_px[lost], state.jacobian[lost]
    residual = linearised.residual_px(fit.basis, fit.posterior.mean)
    variance = _covariance(samples) + fit.hyperparameters.floor_px**2
    off = np.einsum("na,nab,nb->n", residual, _weights(variance, state.jacobian), residual)
    return replace(
        state,
        lattice_px=fit.lattice_px,
        predicted_px=predicted,
        jacobian=jacobian,
        robust=_robust_weights(off) * _reached(samples, moving),
    )


def _reached(
    samples: DistortionSamples, moving_px: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Say which columns are not perhaps light from beyond the place where the beam turns back."""
    lines = np.rint(samples.observed_px[:, 0]).astype(int).clip(0, moving_px.shape[1] - 1)
    near = int(LINE_START * samples.sigma_px) + 2
    slope = np.diff(moving_px[1, :, :near], axis=1).max(axis=1)
    away = samples.observed_px[:, 1] > LINE_START * samples.sigma_px
    return np.asarray(away | (slope[lines] < TURNS))


def _robust_weights(off2: Array) -> Array:
    """Weigh columns by their squared distance from the prediction, in their own variances."""
    off = np.sqrt(off2)
    off /= max(float(np.median(off)) / MEDIAN_LENGTH, 1.0)
    weights = np.where(off < ROBUST_FROM, 1.0, (ROBUST_FROM / np.maximum(off, ROBUST_FROM)) ** 2)
    weights[off > ROBUST_TO] = 0.0
    return weights


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
