"""Shapes of the terms by GPyTorch's exact marginal likelihood on some well-spread columns."""

from dataclasses import replace
from typing import NamedTuple

import gpytorch
import numpy as np
import numpy.typing as npt
import torch
from linear_operator import to_linear_operator

from nion_distortion.distortion import DistortionSamples
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import WIDE
from nion_distortion.gaussian_process.flyback import FRAME_DECAYS, LINE_CORRELATION
from nion_distortion.gaussian_process.hyperparameters import (
    DECAYS,
    FAST_CORRELATION,
    NAMES,
    TAIL,
    Hyperparameters,
    mains_shape,
    prior_logs,
)
from nion_distortion.gaussian_process.linearisation import linearised_frame

__all__ = ["exact_surprise", "learn_shapes"]

Array = npt.NDArray[np.float64]

MOST_SITES = 600
"""Most columns that are used: one evaluation takes 0.05 s; with 2400 it would be 2.5 s."""

MOST_EVALUATIONS, NATS = 25, 0.01
"""Most evaluations of the search, and the gain (nats) of a step below which it ends."""

DECAY_LOG_STD = 0.3
"""Prior standard deviation of log decay about the trial chosen by the evidence of all columns."""

FLAT = 1e4
"""Prior variance of an affine map, px^2: as good as flat."""


class _Sites(NamedTuple):
    """Columns of one frame as tensors."""

    unit_y: torch.Tensor  # places in lengths of the basis' interval
    unit_x: torch.Tensor
    along: torch.Tensor  # from the line start, in line lengths
    time: torch.Tensor  # in lengths of the interval
    height: torch.Tensor  # scan time in frame heights
    mains: torch.Tensor  # (8 or 0, n): its functions by their prior standard deviations
    targets: torch.Tensor  # (2, n)
    variance: torch.Tensor  # (2, n)


def learn_shapes(
    samples: DistortionSamples,
    basis: Basis,
    hyperparameters: Hyperparameters,
    *,
    moving_px: npt.NDArray[np.float32],
) -> tuple[Basis, Hyperparameters]:
    """Find the decay of the line fly-back and the correlation lengths that make a frame probable.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of a frame.
    basis : Basis
        The functions; its decay is where the search starts.
    hyperparameters : Hyperparameters
        Where the search starts.
    moving_px : ndarray of float32, shape (2, ny, nx)
        D at every pixel, for the linearisation.

    Returns
    -------
    basis : Basis
        With the decay that was found.
    hyperparameters : Hyperparameters
        With the lengths that were found, and the amplitudes found beside them.

    Notes
    -----
    The kernels are those that the finite basis stands for, of continuous places and scan time;
    both axes share the decay. Gradients are PyTorch's, the marginal likelihood GPyTorch's [1]_.

    References
    ----------
    .. [1] J. R. Gardner et al., GPyTorch: Blackbox Matrix-Matrix Gaussian Process Inference with
       GPU Acceleration, NeurIPS (2018).
    """
    sites = _sites(samples, basis, hyperparameters, moving_px)
    mean, std = prior_logs(samples.settings.pixel_size_nm, basis.shape_px[0])
    start = np.r_[hyperparameters.logs.ravel(), np.log(basis.decay)]
    numbers = torch.tensor(start, requires_grad=True)
    centre = torch.tensor(np.r_[mean, mean, np.log(basis.decay)])
    spread = torch.tensor(np.r_[std, std, DECAY_LOG_STD])
    search = torch.optim.LBFGS(
        [numbers],
        max_iter=MOST_EVALUATIONS,
        tolerance_change=NATS,
        line_search_fn="strong_wolfe",
    )

    def _surprise() -> torch.Tensor:
        search.zero_grad()
        value = _negative_log_evidence(numbers, sites, basis)
        off2 = ((numbers - centre) / spread) ** 2
        value = value + 0.5 * (TAIL + 1) * (off2 / TAIL).log1p().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(_surprise)  # type: ignore[no-untyped-call]
    found = numbers.detach().numpy()
    if not np.isfinite(found).all():
        return basis, hyperparameters
    decay = float(np.clip(np.exp(found[-1]), DECAYS[0], DECAYS[-1]))
    logs = found[:-1].reshape(2, len(NAMES))
    return basis.with_decay(decay), replace(hyperparameters, logs=logs)


def exact_surprise(
    samples: DistortionSamples,
    basis: Basis,
    hyperparameters: Hyperparameters,
    *,
    moving_px: npt.NDArray[np.float32],
) -> float:
    """Return the negative logarithm of the exact evidence, without priors.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of a frame.
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Amplitudes and lengths.
    moving_px : ndarray of float32, shape (2, ny, nx)
        D at every pixel, for the linearisation.

    Returns
    -------
    float
        Of the columns that a search of shapes looks at, both axes together.
    """
    sites = _sites(samples, basis, hyperparameters, moving_px)
    numbers = torch.tensor(np.r_[hyperparameters.logs.ravel(), np.log(basis.decay)])
    return float(_negative_log_evidence(numbers, sites, basis))


def _sites(
    samples: DistortionSamples,
    basis: Basis,
    hyperparameters: Hyperparameters,
    moving_px: npt.NDArray[np.float32],
) -> _Sites:
    linearised = linearised_frame(samples, hyperparameters, moving_px)
    ny, nx = basis.shape_px
    chosen = _well_spread(linearised.predicted_px, (ny, nx))
    y, x = linearised.predicted_px[chosen].T
    time = y + x / basis.period_px
    weights = linearised.weights[chosen]
    variance = 1.0 / np.maximum(np.stack([weights[:, 0, 0], weights[:, 1, 1]]), 1e-12)
    return _Sites(
        unit_y=torch.tensor(y / (WIDE * ny)),
        unit_x=torch.tensor(x / (WIDE * nx)),
        along=torch.tensor(np.maximum(x, -0.5) / nx),
        time=torch.tensor(time / (WIDE * ny)),
        height=torch.tensor(np.maximum(time / ny, 0.0)),
        mains=torch.tensor(_mains(basis, linearised.predicted_px[chosen])),
        targets=torch.tensor(linearised.targets[chosen].T.copy()),
        variance=torch.tensor(variance),
    )


def _mains(basis: Basis, places: Array) -> Array:
    functions = basis.scan_time.mains_functions(places)
    return np.asarray(functions * np.sqrt(mains_shape()[: len(functions), None]))


def _well_spread(places: Array, shape_px: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Choose the first column of each block; blocks are narrower towards the line start."""
    ny, nx = shape_px
    rows = int(np.sqrt(MOST_SITES / 1.5))
    columns = MOST_SITES // rows
    row = np.clip(places[:, 0] / ny * rows, 0, rows - 1).astype(int)
    along = np.clip(places[:, 1] / nx, 0.0, 1.0) ** (2 / 3)
    column = np.clip(along * columns, 0, columns - 1).astype(int)
    return np.unique(row * columns + column, return_index=True)[1]


def _negative_log_evidence(numbers: torch.Tensor, sites: _Sites, basis: Basis) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    decay = numbers[-1].exp()
    for axis in range(2):
        logs = numbers[axis * len(NAMES) : (axis + 1) * len(NAMES)]
        value = dict(zip(NAMES, logs.exp(), strict=True))
        covariance = _covariance(value, decay, sites, basis) + torch.diag(sites.variance[axis])
        normal = gpytorch.distributions.MultivariateNormal(
            torch.zeros_like(sites.targets[axis]), to_linear_operator(covariance)
        )
        total = total - normal.log_prob(sites.targets[axis])
    return total


def _covariance(
    value: dict[str, torch.Tensor], decay: torch.Tensor, sites: _Sites, basis: Basis
) -> torch.Tensor:
    """Sum the kernels of all terms and of a free affine map, (n, n)."""
    y2, x2, time = (_apart(one) for one in (sites.unit_y, sites.unit_x, sites.time))
    affine = torch.stack([torch.ones_like(sites.unit_y), sites.unit_y, sites.unit_x])
    total = FLAT * affine.T @ affine
    if "smooth" in basis.terms:
        near = -0.5 * (y2**2 + x2**2) / value["smooth_length"] ** 2
        total = total + value["smooth"] ** 2 * near.exp()
    if "line_flyback" in basis.terms:
        lag = (-sites.along / decay).exp()
        along_y = (-0.5 * (y2 * WIDE / LINE_CORRELATION) ** 2).exp()
        total = total + value["line"] ** 2 * torch.outer(lag, lag) * along_y
    if "frame_flyback" in basis.terms:
        drops = torch.stack([(-sites.height / one).exp() for one in FRAME_DECAYS])
        total = total + value["frame"] ** 2 * drops.T @ drops
    if "fast_axis" in basis.terms:
        total = total + value["fast"] ** 2 * (-x2.abs() / FAST_CORRELATION).exp()
    if basis.walk_modes:
        total = total + value["walk"] ** 2 * (-time.abs() / value["walk_length"]).exp()
        same_line = (1.0 - time.abs() * basis.scan_time.interval_lines).clamp(min=0.0)
        total = total + value["jitter"] ** 2 * same_line
    if basis.locked_modes:
        total = total + value["locked"] ** 2 * (-time.abs() / value["walk_length"]).exp()
    return total + value["mains"] ** 2 * sites.mains.T @ sites.mains


def _apart(places: torch.Tensor) -> torch.Tensor:
    return places[:, None] - places[None, :]
