"""The finite basis held against the exact posterior of a Gaussian process, by GPyTorch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import gpytorch
import numpy as np
import numpy.typing as npt
import torch
from gpytorch.kernels import LinearKernel, RBFKernel, ScaleKernel

from benchmarks import real
from benchmarks.results import Measured
from benchmarks.scenes import flyback_microscope, settings_of
from nion_distortion.distortion import DistortionSamples
from nion_distortion.files import read_frames
from nion_distortion.gaussian_process import flyback
from nion_distortion.gaussian_process import hyperparameters as priors
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import WIDE
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.hyperparameters import (
    finer_variance,
    prior_variances,
    suited,
)
from nion_distortion.gaussian_process.linearisation import Linearised, crystal_scale, precision_of
from nion_distortion.gaussian_process.posterior import solve
from nion_distortion.pipeline import process_frame
from nion_distortion.scan_places import places_on_sample, scan_places

__all__ = [
    "Agreement",
    "Estimates",
    "compare",
    "exact",
    "exact_estimates",
    "finite_estimates",
    "linearised",
    "places_to_try",
    "projection",
    "refined",
]

Array = npt.NDArray[np.float64]

LATTICE_SD_PX = 30.0
"""As good as flat."""

POINTS, ON_THE_RIM = 500, 125
WAVES_PER_MODE = 4
"""Frequencies between two cosines of the walk: no reflection within four frames."""

FAST_PER_MODE, FINEST = 2, 600
"""Of the rough term along x, whose correlation is short; finer waves have 0.7 % of its variance."""


class Estimates(NamedTuple):
    """Mean and standard deviation at some points, both axes, without their affine part."""

    mean: Array  # (2, points)
    std: Array  # (2, points)


class Agreement(NamedTuple):
    """How far a finite basis is from the exact posterior."""

    mean_rms: float
    """In exact standard deviations."""
    mean_worst: float
    std_rms: float
    """Relative."""
    std_worst: float

    @classmethod
    def of(cls, found: Estimates, exact: Estimates) -> "Agreement":
        """Compare two estimates.

        Parameters
        ----------
        found : Estimates
            By the finite basis.
        exact : Estimates
            By the exact posterior.

        Returns
        -------
        Agreement
            Over all points and both axes.
        """
        z, r = (found.mean - exact.mean) / exact.std, found.std / exact.std - 1.0
        return cls(*(float(f) for one in (z, r) for f in (_rms(one), np.abs(one).max())))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def linearised(
    samples: DistortionSamples, fit: FrameFit
) -> tuple[Linearised, npt.NDArray[np.float32]]:
    """Linearise a frame's samples about its own fit, each axis by itself.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    fit : FrameFit
        Its fit.

    Returns
    -------
    Linearised
        Of the columns that count.
    moving_px : ndarray of float32, shape (2, ny, nx)
        D + W_k at every pixel.
    """
    moving = fit.basis.on_pixels(fit.posterior.mean[:, : fit.basis.size] * fit.basis.seen())
    crystal = np.c_[np.ones(len(samples)), samples.crystal_sites]
    sites = crystal @ fit.lattice_px.T
    predicted, jacobian = scan_places(moving, sites, fit.predicted_px)
    off = samples.observed_px - predicted
    forward = np.eye(2) - jacobian
    variance = np.trace(samples.covariance_px2, axis1=1, axis2=2) / 2
    variance = (variance + fit.hyperparameters.floor_px**2)[:, None, None]
    spread = forward @ forward.swapaxes(1, 2) * variance * np.eye(2)
    keep = fit.robust > 0
    weights = fit.robust[keep, None, None] * np.linalg.inv(spread[keep])
    targets = samples.observed_px - np.einsum("nab,nb->na", jacobian, off) - sites
    return Linearised(
        predicted_px=predicted[keep],
        crystal=(crystal * crystal_scale(samples))[keep].T,
        targets=targets[keep],
        weights=weights,
        lattice_precision=LATTICE_SD_PX**-2,
    ), moving


def places_to_try(shape_px: tuple[int, int], rng: np.random.Generator) -> Array:
    """Draw places in the scan, a quarter of them on its rim.

    Parameters
    ----------
    shape_px : tuple of int
        Lines and pixels.
    rng : numpy.random.Generator
        Source of the places.

    Returns
    -------
    ndarray, shape (500, 2)
        The first 125 are on the rim.
    """
    low, high = np.full(2, -0.5), np.array(shape_px) - 0.5
    places = rng.uniform(low, high, (POINTS, 2))
    side = rng.integers(0, 4, ON_THE_RIM)
    places[np.arange(ON_THE_RIM), side % 2] = np.where(side < 2, low[side % 2], high[side % 2])
    return places


def projection(places_px: Array) -> Array:
    """Return what removes the affine part of values at places on the sample: the gauge.

    Parameters
    ----------
    places_px : ndarray, shape (n, 2)
        The places.

    Returns
    -------
    ndarray, shape (n, n)
        The projection.
    """
    centred = (places_px - places_px.mean(axis=0)) / places_px.std(axis=0)
    affine = np.c_[np.ones(len(centred)), centred]
    result: Array = np.eye(len(centred)) - affine @ np.linalg.pinv(affine)
    return result


def finite_estimates(
    given: Linearised, fit: FrameFit, places_px: Array, gauge: Array
) -> list[Estimates]:
    """Estimate by the finite basis.

    Parameters
    ----------
    given : Linearised
        The samples.
    fit : FrameFit
        Basis and hyperparameters.
    places_px : ndarray, shape (n, 2)
        Places in the scan.
    gauge : ndarray, shape (n, n)
        What removes the affine part.

    Returns
    -------
    list of Estimates
        Of D + W_k, and of D; their standard deviations count, as those of a field do, the waves
        along x that a live basis lacks by their prior.
    """
    basis = fit.basis
    variances = [prior_variances(basis, logs)[0] for logs in fit.hyperparameters.logs]
    flat = np.full((2, 3), given.lattice_precision)
    posterior = solve(given.information(basis), np.c_[1 / np.stack(variances), flat])
    design = basis.design(places_px) @ gauge.T
    finer = np.array([finer_variance(basis, logs) for logs in fit.hyperparameters.logs])
    found = []
    for size in (basis.size, basis.stationary_size):
        some, part = design[:size], posterior.covariance[:, :size, :size]
        variance = np.einsum("kn,akl,ln->an", some, part, some, optimize=True) + finer[:, None]
        found.append(Estimates(posterior.mean[:, :size] @ some, np.sqrt(variance)))
    return found


def exact_estimates(
    given: Linearised, fit: FrameFit, places_px: Array, gauge: Array
) -> list[Estimates]:
    """Estimate by the exact posterior of the same terms in continuous space.

    Parameters
    ----------
    given : Linearised
        The samples.
    fit : FrameFit
        Basis (shapes of the terms, and the resolution in scan time) and hyperparameters.
    places_px : ndarray, shape (n, 2)
        Places in the scan.
    gauge : ndarray, shape (n, n)
        What removes the affine part.

    Returns
    -------
    list of Estimates
        Of D + W_k, and of D.

    Notes
    -----
    Waves have factors: what columns show of them; at the places asked for 1, but 0 for W_k in D.
    """
    count = len(places_px)
    moments = []
    for axis in range(2):
        terms = _Terms.of(fit, axis)
        shown = fit.basis.shown(terms.frequencies)[axis]
        along = fit.basis.shown_along_x(terms.rough)[axis]
        columns = terms.features(given.predicted_px, (shown, along), given.crystal.T)
        whole = np.ones_like(along)
        asked = [
            terms.features(places_px, (on * np.ones_like(shown), whole), np.zeros((count, 3)))
            for on in (1.0, 0.0)
        ]
        noise = 1 / given.weights[:, axis, axis]
        training = (columns, torch.tensor(given.targets[:, axis]), torch.tensor(noise))
        moments.append(_posterior(terms.kernel(given), training, torch.cat(asked)))
    found = []
    for part in (slice(count), slice(count, 2 * count)):
        means = [gauge @ mean[part] for mean, _ in moments]
        spread = [np.diag(gauge @ covariance[part, part] @ gauge.T) for _, covariance in moments]
        found.append(Estimates(np.stack(means), np.sqrt(np.stack(spread))))
    return found


class _Terms(NamedTuple):
    """The terms of one axis in continuous space."""

    basis: Basis
    values: dict[str, float]  # hyperparameters by name
    frequencies: Array  # half periods of the walk in its interval
    powers: Array  # of each frequency, px^2
    rough: Array  # half periods of the rough waves along x in the interval of the cosines
    rough_powers: Array

    @classmethod
    def of(cls, fit: FrameFit, axis: int) -> "_Terms":
        basis, logs = fit.basis, fit.hyperparameters.logs[axis]
        modes = np.arange(1, basis.walk_modes + 1)
        step = 1.0 / WAVES_PER_MODE
        frequencies = np.arange(0.5 * step, basis.walk_modes + 0.5, step)
        walk = prior_variances(basis, logs)[0][basis.slices["walk"]]
        powers = step * np.interp(frequencies, modes, walk)
        value = dict(zip(priors.NAMES, np.exp(logs), strict=True))
        step = 1.0 / FAST_PER_MODE
        rough = np.arange(0.5 * step, FINEST, step)
        length = priors.FAST_CORRELATION * WIDE / basis.wide
        lorentzian = 2 * length / (1 + (np.pi * rough * length) ** 2)
        return cls(basis, value, frequencies, powers, rough, step * value["fast"] ** 2 * lorentzian)

    def features(self, places: Array, shown: tuple[Array, Array], crystal: Array) -> torch.Tensor:
        """Place (in intervals), fly-back (2), first lines (3), lattice (3), waves: time, then x."""
        (ny, nx), (y, x) = self.basis.shape_px, np.asarray(places).T
        time = y + x / self.basis.period_px
        along = x / (self.basis.decay * nx)
        lag = np.exp(-np.maximum(along, -0.5 / (self.basis.decay * nx)))
        first = np.exp(-np.outer(np.maximum(time, 0.0), 1 / (np.array(flyback.FRAME_DECAYS) * ny)))
        angle = np.outer(time / self.basis.scan_time.interval_lines, np.pi * self.frequencies)
        waves = _waves(angle, shown[0] * np.sqrt(self.powers))
        angle = np.outer(x / (self.basis.wide * nx), np.pi * self.rough)
        rough = _waves(angle, shown[1] * np.sqrt(self.rough_powers))
        place = np.c_[y / (WIDE * ny), x / (WIDE * nx)]
        return torch.tensor(np.c_[place, lag, lag * along, first, crystal, waves, rough])

    def kernel(self, given: Linearised) -> Any:
        """Sum the terms: DESIGN of the model, each by GPyTorch's own kernels."""
        value, size = self.values, 10 + 2 * (len(self.frequencies) + len(self.rough))
        along_y = _rbf((0,), flyback.LINE_CORRELATION / WIDE)
        terms = [
            _scaled(_rbf((0, 1), value["smooth_length"]), value["smooth"] ** 2),
            _scaled(_linear(2, 3) * along_y, value["line"] ** 2),
            _scaled(_linear(3, 4) * along_y, (priors.DECAY_STEP * value["line"]) ** 2),
            _scaled(_linear(4, 7), value["frame"] ** 2),
            _scaled(_linear(7, 10), 1 / given.lattice_precision),
            _linear(10, size),
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


def _waves(angle: Array, amplitudes: Array) -> Array:
    waves: Array = np.c_[np.cos(angle), np.sin(angle)] * np.tile(amplitudes, 2)
    return waves


def _rbf(dims: tuple[int, ...], length: float) -> Any:
    kernel = RBFKernel(active_dims=dims).double()
    kernel.lengthscale = length
    return kernel


def _linear(start: int, stop: int) -> Any:
    kernel = LinearKernel(active_dims=tuple(range(start, stop))).double()
    kernel.variance = 1.0
    return kernel


def _scaled(kernel: Any, variance: float) -> Any:
    scaled = ScaleKernel(kernel).double()
    scaled.outputscale = variance
    return scaled


class _ExactGP(gpytorch.models.ExactGP):  # type: ignore[misc]
    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, parts: tuple[Any, Any]) -> None:
        super().__init__(inputs, targets, parts[0])
        self.mean_module = gpytorch.means.ZeroMean()
        self.covar_module = parts[1]

    def forward(self, inputs: torch.Tensor) -> Any:
        mean, covariance = self.mean_module(inputs), self.covar_module(inputs)
        return gpytorch.distributions.MultivariateNormal(mean, covariance)


def _posterior(
    kernel: Any, training: tuple[torch.Tensor, torch.Tensor, torch.Tensor], asked: torch.Tensor
) -> tuple[Array, Array]:
    inputs, targets, noise = training
    likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(noise=noise)
    process = _ExactGP(inputs, targets, (likelihood, kernel)).double().eval()
    settings = gpytorch.settings
    with (
        torch.no_grad(),
        settings.fast_computations(covar_root_decomposition=False, log_prob=False, solves=False),
        settings.max_cholesky_size(len(targets) + 1),
    ):
        found = process(asked)
        return found.mean.numpy(), found.covariance_matrix.numpy()


def compare(
    given: Linearised, moving_px: npt.NDArray[np.float32], fit: FrameFit, *, seed: int = 0
) -> list[Agreement]:
    """Compare both estimates of one frame.

    Parameters
    ----------
    given : Linearised
        Samples of the frame.
    moving_px : ndarray of float32, shape (2, ny, nx)
        D + W_k at every pixel, which decides the gauge.
    fit : FrameFit
        Basis and hyperparameters.
    seed : int, default: 0
        Of the places.

    Returns
    -------
    list of Agreement
        Of D + W_k, and of D.
    """
    places = places_to_try(fit.basis.shape_px, np.random.default_rng(seed))
    gauge = projection(places_on_sample(moving_px, places))
    both = zip(
        finite_estimates(given, fit, places, gauge),
        exact_estimates(given, fit, places, gauge),
        strict=True,
    )
    return [Agreement.of(found, right) for found, right in both]


def exact(*, quick: bool) -> Mapping[str, Measured]:
    """Compare a frame with strong fly-back and the real one.

    Parameters
    ----------
    quick : bool
        The simulated frame alone.

    Returns
    -------
    Mapping of str to Measured
        The larger of D + W_k and D: difference of means and of standard deviations.
    """
    frames = {
        "flyback": flyback_microscope(settings_of(512), sign=1, seed=0).shot(settings_of(512)).frame
    }
    found: dict[str, Measured] = {}
    missing = Measured(beside="data missing: 16_STOimage_1.ser")
    if real.STO_FILE.exists() and not quick:
        frames["sto"] = read_frames(real.STO_FILE)[0]
    elif not quick:
        found |= {f"exact sto {what}": missing for what in ("mean", "sd")}
    for name, frame in frames.items():
        model = process_frame(frame).model
        if model is None or model.last is None:
            raise RuntimeError(f"the frame {name} could not be used")
        given = linearised(model.samples[-1], model.last)
        fine = refined(model.last, model.samples[-1])
        moving, steady = compare(*given, fine)
        live = compare(*given, model.last)
        sizes = f"{fine.basis.size} functions, live {model.last.basis.size}"
        found |= {
            f"exact {name} mean": Measured(
                value=max(moving.mean_rms, steady.mean_rms),
                beside=f"of a calibration; D + W_k {moving.mean_rms:.2f}, D {steady.mean_rms:.2f};"
                f" largest {moving.mean_worst:.2f}, {steady.mean_worst:.2f};"
                f" a live model {max(one.mean_rms for one in live):.2f}; {sizes}",
            ),
            f"exact {name} sd": Measured(
                value=100 * max(moving.std_rms, steady.std_rms),
                beside=f"D + W_k {100 * moving.std_rms:.1f}, D {100 * steady.std_rms:.1f};"
                f" largest {100 * moving.std_worst:.1f}, {100 * steady.std_worst:.1f};"
                f" a live model {100 * max(one.std_rms for one in live):.1f}",
            ),
        }
    return found


def refined(fit: FrameFit, samples: DistortionSamples) -> FrameFit:
    """Exchange a frame's functions for those that a calibration would have of the same terms.

    Parameters
    ----------
    fit : FrameFit
        Of a frame.
    samples : DistortionSamples
        Its columns.

    Returns
    -------
    FrameFit
        Only basis and hyperparameters are what they say.
    """
    basis = fit.basis.refined()
    precision = precision_of(samples, fit.hyperparameters)
    return replace(fit, basis=suited(basis, fit.hyperparameters, precision))
