"""Prior variances of the weights, and the priors of the numbers that set them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.gaussian_process.basis import FRAME_DECAYS, LINE_MODES, SLOPE_MODES, Basis

__all__ = ["DECAYS", "Hyperparameters", "LogNormal", "prior_variances"]

Array = npt.NDArray[np.float64]


class LogNormal(NamedTuple):
    """A weakly informative prior: median and standard deviation of the natural logarithm."""

    median: float
    log_std: float


PRIORS_PM = {
    "smooth": LogNormal(30.0, 1.0),
    "line": LogNormal(20.0, 1.5),
    "frame": LogNormal(5.0, 1.0),
    "fast": LogNormal(3.0, 1.0),
    "walk": LogNormal(6.0, 0.5),
    "jitter": LogNormal(4.0, 0.5),
}
"""Amplitudes (rms over the scan; at the start of line or frame; of each line), in picometres."""

PRIORS_LENGTH = {"smooth_length": LogNormal(0.15, 0.3), "walk_length": LogNormal(0.05, 0.3)}
"""Correlation lengths, in lengths of the basis' interval."""

NAMES = (*PRIORS_PM, *PRIORS_LENGTH)

DECAYS = np.geomspace(0.008, 0.16, 25)
"""Decays of the line fly-back to try, in line lengths: its evidence has more than one maximum."""

DECAY_STEP = 0.08
"""Relative uncertainty of a decay: neighbouring trials are 13 % apart, and the slope fills in."""

LINE_CORRELATION, FAST_CORRELATION = 0.6, 0.05
"""Of the fly-back along y and of the rough term along x, in lengths of the interval."""

TINY = 1e-14


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hyperparameters:
    """Amplitudes and lengths of the terms, for each axis.

    Parameters
    ----------
    logs : ndarray, shape (2, 8)
        Natural logarithms, in the order of ``NAMES``; amplitudes in px.
    floor_px : float, default: 0
        Standard deviation of the columns beyond the covariance of their fits.
    """

    logs: Array
    floor_px: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "logs", as_array("logs", self.logs, (2, len(NAMES))))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @classmethod
    def typical(cls, pixel_size_nm: float) -> "Hyperparameters":
        """Return the medians of the priors.

        Parameters
        ----------
        pixel_size_nm : float
            Side of a pixel.

        Returns
        -------
        Hyperparameters
            The same for both axes.
        """
        return cls(logs=np.tile(prior_logs(pixel_size_nm)[0], (2, 1)))

    def jitter_px2(self) -> Array:
        """Variance of the jitter of each line, shape (2,)."""
        variance: Array = np.exp(2 * self.logs[:, NAMES.index("jitter")])
        return variance


def prior_logs(pixel_size_nm: float) -> tuple[Array, Array]:
    """Return means and standard deviations of the logarithms, in the order of ``NAMES``.

    Parameters
    ----------
    pixel_size_nm : float
        Side of a pixel.

    Returns
    -------
    mean, std : ndarray, shape (8,)
        Amplitudes are in px.
    """
    to_px = 1e-3 / pixel_size_nm
    amplitudes = [np.log(prior.median * to_px) for prior in PRIORS_PM.values()]
    lengths = [np.log(prior.median) for prior in PRIORS_LENGTH.values()]
    stds = [prior.log_std for prior in (*PRIORS_PM.values(), *PRIORS_LENGTH.values())]
    return np.array(amplitudes + lengths), np.array(stds)


def prior_variances(basis: Basis, logs: Array) -> tuple[Array, Array]:
    """Prior variance of each weight of one axis, and its change with each logarithm.

    Parameters
    ----------
    basis : Basis
        The functions.
    logs : ndarray, shape (8,)
        One axis of ``Hyperparameters.logs``.

    Returns
    -------
    variances : ndarray, shape (size,)
        In px^2.
    slopes : ndarray, shape (8, size)
        Derivatives of ``variances`` with respect to ``logs``.
    """
    value = dict(zip(NAMES, np.exp(logs), strict=True))
    where = basis.slices
    variances = np.full(basis.size, TINY)
    slopes = np.zeros((len(NAMES), basis.size))

    def _add(group: str, shape: Array, amplitude: str) -> None:
        part = value[amplitude] ** 2 * shape[: where[group].stop - where[group].start]
        variances[where[group]] += part
        slopes[NAMES.index(amplitude), where[group]] += 2 * part

    smooth, smooth_slope = _smooth_shape(basis, value["smooth_length"])
    _add("smooth", smooth, "smooth")
    slopes[NAMES.index("smooth_length"), where["smooth"]] = value["smooth"] ** 2 * smooth_slope
    along_y = np.exp(-0.5 * (np.arange(LINE_MODES) * np.pi * LINE_CORRELATION) ** 2)
    _add("line", along_y, "line")
    _add("line_slope", DECAY_STEP**2 * along_y[:SLOPE_MODES], "line")
    _add("frame", np.ones(len(FRAME_DECAYS)), "frame")
    fast = np.arange(1, where["fast"].stop - where["fast"].start + 1) * np.pi * FAST_CORRELATION
    _add("fast", _unit_sum(1 / (1 + fast**2)), "fast")
    walk, walk_slope = _walk_shape(basis, value["walk_length"])
    _add("walk", walk, "walk")
    slopes[NAMES.index("walk_length"), where["walk"]] = value["walk"] ** 2 * walk_slope
    _add("walk", np.full(basis.walk_modes, 1 / basis.interval_lines), "jitter")
    return variances, slopes


def _unit_sum(shape: Array) -> Array:
    return shape / shape.sum() if shape.size else shape


def _smooth_shape(basis: Basis, length: float) -> tuple[Array, Array]:
    """Spectrum of a squared exponential, and its change with the logarithm of its length."""
    iy, ix = basis.smooth_modes
    square = np.pi**2 * (iy**2 + ix**2) * length**2
    shape = _unit_sum(np.exp(-0.5 * square))
    return shape, shape * ((shape * square).sum() - square)


def _walk_shape(basis: Basis, length: float) -> tuple[Array, Array]:
    """Spectrum of an exponential correlation in scan time, and its change with its length."""
    square = (np.arange(1, basis.walk_modes + 1) * np.pi * length) ** 2
    shape = _unit_sum(1 / (1 + square))
    slope = -2 * square / (1 + square)
    return shape, shape * (slope - (shape * slope).sum())
