"""A frame's samples about the model's own prediction: what is then linear in the weights."""

from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._order import median
from nion_distortion.distortion import DistortionSamples
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.fast_waves import FastWaves, find_fast_waves
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.hyperparameters import Hyperparameters
from nion_distortion.gaussian_process.moments import information
from nion_distortion.gaussian_process.weights import Information
from nion_distortion.scan_places import scan_places

__all__ = [
    "Linearised",
    "Prediction",
    "crystal_scale",
    "linearise",
    "linearised_frame",
    "precision_of",
    "predict",
    "renewed",
]

Array = npt.NDArray[np.float64]

LATTICE_PRIOR_PX = 30.0
"""Prior standard deviation of a change of the fitted lattice, at its outermost columns: as good as
flat."""

STRONG_SLOPE = 0.02
"""Columns where an element of J (px per px) exceeds this enter with their full 2 x 2 weight."""

ALIKE = 0.1
"""Weights of the two axes that differ by less are both set to their mean: a second Gram matrix for
these columns would cost as much as the first, and gain 1e-4 of the variance."""

WEAK_COUPLING = 0.1
"""Correlation of the axes below which they are kept apart."""

GUARD_PX = 3.0
"""Early predictions are clipped to this distance from the observed column; later ones that jump
farther away (out of the scan) are discarded for the one before."""

TURNS, LINE_START = 0.5, 2.0
"""Where dD_x/ds_x at the start of a line exceeds the first (the fly-back takes half of the beam's
advance), columns nearer to the line start than the second, in sigma, are ignored: they may be the
flank of a column that the beam never reaches."""

MEDIAN_LENGTH = 1.177
"""Median length of a vector whose components are normal with unit variance."""

ROBUST_FROM, ROBUST_TO = 4.0, 8.0
"""Residual, in robust standard deviations, from which a column counts less, and beyond which not
at all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linearised:
    """Samples about a prediction: ``targets = design^T weights + noise``.

    Parameters
    ----------
    predicted_px : ndarray, shape (n, 2)
        The places at which the functions are evaluated.
    crystal : ndarray, shape (3, n)
        Functions of a change of the lattice A_k: ``[1, X]``, scaled.
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
        seen = self.seen(basis)
        return information(basis, self.predicted_px, self.crystal, self.targets, self.weights, seen)

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
        shown = mean * self.seen(basis)
        residual: Array = self.targets - (shown @ self.design(basis)).T
        return residual

    def fast_waves(self, basis: Basis, mean: Array) -> FastWaves:
        """Look for waves of scan time that are too fast for W_k in what a fit has left.

        Parameters
        ----------
        basis : Basis
            The functions of D and W_k.
        mean : ndarray, shape (2, m + 3)
            The weights.

        Returns
        -------
        FastWaves
            Their power, and that of the columns' own errors.
        """
        weights = np.stack([self.weights[:, axis, axis] for axis in range(2)], axis=1)
        return find_fast_waves(basis, self.predicted_px, self.residual_px(basis, mean), weights)

    def seen(self, basis: Basis) -> Array:
        """Return the response of column positions to each function; see `Basis.seen`.

        Parameters
        ----------
        basis : Basis
            The functions of D and W_k.

        Returns
        -------
        ndarray, shape (2, m + 3)
            One for those of a change of the lattice.
        """
        return np.pad(basis.seen(), ((0, 0), (0, len(self.crystal))), constant_values=1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """The prediction about which a frame's samples are linearised.

    Parameters
    ----------
    crystal : ndarray, shape (n, 3)
        ``[1, X]`` of each column.
    lattice_px : ndarray, shape (2, 3)
        A_k: ``place = lattice_px @ [1, X]``.
    predicted_px : ndarray, shape (n, 2)
        Where the model expects each column in the scan.
    jacobian : ndarray, shape (n, 2, 2)
        J = dD/ds there, px per px.
    robust : ndarray, shape (n,)
        Weight of each column, 0 to 1.
    """

    crystal: Array
    lattice_px: Array
    predicted_px: Array
    jacobian: Array
    robust: Array

    @property
    def scale(self) -> Array:
        """Return factors that bring ``crystal`` to the size of 1, shape (3,)."""
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
    return linearise(samples, predict(samples, moving_px), hyperparameters)


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
    return float((1.0 / (samples.variance_px2 + hyperparameters.floor_px**2)).sum())


def predict(samples: DistortionSamples, moving_px: npt.NDArray[np.float32] | None) -> Prediction:
    """Fit the lattice alone, with the known D taken out.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    moving_px : ndarray of float32, shape (2, ny, nx), or None
        D at every pixel; None where nothing is known of it.

    Returns
    -------
    Prediction
        The first one of a frame.
    """
    n = len(samples)
    crystal = np.c_[np.ones(n), samples.crystal_sites]
    seen = samples.observed_px
    if moving_px is None:
        lattice = _robust_lattice(crystal, seen)
        places = crystal @ lattice.T
        jacobian = np.zeros((n, 2, 2))
        return Prediction(
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
    return Prediction(
        crystal=crystal,
        lattice_px=lattice,
        predicted_px=predicted,
        jacobian=jacobian,
        robust=_robust_weights(((seen - predicted) ** 2).sum(axis=1) / samples.variance_px2)
        * _reached(samples, moving_px),
    )


def _robust_lattice(crystal: Array, places: Array) -> Array:
    """Least squares without columns that are far off: fly-back must not tilt the lattice."""
    whole = _least_squares(crystal, places)
    off = np.abs(places - crystal @ whole.T)
    rest = np.maximum(off[:, 0], off[:, 1])
    calm = rest < 3 * median(rest) + 1.0
    return whole if calm.all() else _least_squares(crystal[calm], places[calm])


def _least_squares(crystal: Array, places: Array) -> Array:
    solution = np.linalg.solve(crystal.T @ crystal, crystal.T @ places)
    return np.asarray(solution.T, dtype=np.float64)


def linearise(
    samples: DistortionSamples, state: Prediction, hyperparameters: Hyperparameters
) -> Linearised:
    """Linearise a frame's samples about a prediction.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    state : Prediction
        Where they are expected.
    hyperparameters : Hyperparameters
        The floor is taken from them.

    Returns
    -------
    Linearised
        Places, targets and weights.
    """
    off = samples.observed_px - state.predicted_px
    seen = samples.observed_px - np.einsum("nab,nb->na", state.jacobian, off)
    variance = samples.variance_px2 + hyperparameters.floor_px**2
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


def renewed(
    samples: DistortionSamples,
    state: Prediction,
    fit: FrameFit,
    linearised: Linearised,
    *,
    guard: bool = False,
) -> Prediction:
    """Predict the columns anew from a fit.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    state : Prediction
        The prediction that the fit was made about.
    fit : FrameFit
        The fit.
    linearised : Linearised
        What it was made from.
    guard : bool, default: False
        Hold each prediction close to its column.

    Returns
    -------
    Prediction
        From D and the lattice of the fit; columns that are far off it count less.
    """
    # D alone: places that followed the frame's own W_k would make small W_k seem likely
    size = fit.basis.stationary_size
    moving = fit.basis.on_pixels(fit.posterior.mean[:, :size] * fit.basis.seen()[:, :size])
    predicted, jacobian = scan_places(moving, state.crystal @ fit.lattice_px.T, state.predicted_px)
    seen = samples.observed_px
    if guard:
        predicted = np.clip(predicted, seen - GUARD_PX, seen + GUARD_PX)
    # where the scan turns back no predicted place is that of the column: keep the last prediction
    lost = np.abs(predicted - seen).max(axis=1) > GUARD_PX
    predicted[lost], jacobian[lost] = state.predicted_px[lost], state.jacobian[lost]
    residual = linearised.residual_px(fit.basis, fit.posterior.mean)
    variance = samples.variance_px2 + fit.hyperparameters.floor_px**2
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
    """Mark columns that the beam surely reached; see `TURNS`."""
    lines = np.rint(samples.observed_px[:, 0]).astype(int).clip(0, moving_px.shape[1] - 1)
    near = int(LINE_START * samples.sigma_px) + 2
    slope = np.diff(moving_px[1, :, :near], axis=1).max(axis=1)
    away = samples.observed_px[:, 1] > LINE_START * samples.sigma_px
    return np.asarray(away | (slope[lines] < TURNS))


def _robust_weights(off2: Array) -> Array:
    """Weigh columns by their squared distance from the prediction, in their own variances."""
    off = np.sqrt(off2)
    off /= max(median(off) / MEDIAN_LENGTH, 1.0)
    weights = np.where(off < ROBUST_FROM, 1.0, (ROBUST_FROM / np.maximum(off, ROBUST_FROM)) ** 2)
    weights[off > ROBUST_TO] = 0.0
    return weights
