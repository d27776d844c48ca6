"""Prior variances of the weights, and the hyperparameters that set them, with their priors."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import MARGIN, WIDE
from nion_distortion.gaussian_process.flyback import (
    FRAME_DECAYS,
    LINE_MODES,
    SLOPE_MODES,
    ExpectedFlyback,
)
from nion_distortion.gaussian_process.scan_time import HARMONICS

__all__ = [
    "DECAYS",
    "Hyperparameters",
    "LogStudent",
    "decay_surprise",
    "finer_variance",
    "flyback_surprise",
    "mains_shape",
    "prior_surprise",
    "prior_variances",
    "suited",
    "unresolved_variance",
    "wave_densities",
    "wave_variances",
]

Array = npt.NDArray[np.float64]
Modes = npt.NDArray[np.intp]


class LogStudent(NamedTuple):
    """A weakly informative prior: median, and spread of the natural logarithm.

    The logarithm is distributed like Student's t with ``TAIL`` degrees of freedom: a scan that
    lacks one of the errors is a real possibility, not one of six standard deviations.
    """

    median: float
    log_std: float


TAIL = 2.0


PRIORS_PM = {
    "smooth": LogStudent(30.0, 1.0),
    "line": LogStudent(20.0, 1.5),
    "frame": LogStudent(5.0, 1.0),
    "fast": LogStudent(3.0, 1.0),
    "walk": LogStudent(4.0, 1.0),
    "jitter": LogStudent(2.0, 1.0),
    "locked": LogStudent(3.0, 1.0),
    "mains": LogStudent(2.0, 1.0),
}
"""Amplitudes in picometres: standard deviation of the term, for fly-backs at the start of the line
or frame, for jitter of each line."""

PRIORS_LENGTH = {"smooth_length": LogStudent(0.15, 0.3)}
"""Correlation lengths in lengths of the basis' interval: coils are steered by the share of the
frame that they have gone."""

PRIORS_LINES = {"walk_length": LogStudent(25.0, 0.3)}
"""Correlation lengths in lines: what moves the beam does not know when a frame ends. Of a few
lines none tells it, because D is as free along y as a walk that goes on for longer: it is the prior
that says how they share what both can hold."""

NAMES = (*PRIORS_PM, *PRIORS_LENGTH, *PRIORS_LINES)

DECAYS = np.geomspace(0.008, 0.16, 25)
"""Decay lengths of the line fly-back that are tried, in line lengths: the evidence has more than
one maximum."""

DECAY_STEP = 0.08
"""Relative standard deviation of a decay about its trial (trials are 13 % apart): the functions
``"line_slope"`` cover what is between."""

FLYBACK_LOG_STD, LEAST_FLYBACK_PX = 0.5, 0.01
"""Standard deviation of the logarithm of a fly-back's amplitude about the one expected from other
settings, and the least amplitude expected."""

MAINS_STEP = 0.1
"""Standard deviation of the mains' frequency about the one found, in periods over a frame."""

FAST_CORRELATION = 0.05
"""Correlation length of the rough term f(x), in lengths of the interval."""

BETWEEN_LINES = 0.874
"""Variance, relative to that of independent shifts of lines, of a cubic spline through them, mean
over places between two lines."""

TINY = 1e-14

ROOM, STEP, MARGINS = 1.25, 0.05, (0.1, 0.45)
"""Margin of the cosines' interval in correlation lengths of the smooth term; its step and bounds in
lengths of the frame. With 1.25, 4 % of the variance at the rim comes from reflection at the
interval's end."""

FEWEST_SMOOTH, MOST_SMOOTH, MOST_REFINED = 8, 16, 20
"""Cosines of the smooth term along one axis: fewest, most in a live model, most in a
calibration."""

SHARED_BY, NEGLIGIBLE = 20.0, 1.0
"""Waves of the smooth term are left out if this many frames together would give less information
about their weight than this many times its prior precision."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hyperparameters:
    """Amplitudes and lengths of the terms, for each axis.

    Parameters
    ----------
    logs : ndarray, shape (2, 10)
        Natural logarithms, in the order of ``NAMES``; amplitudes in px.
    floor_px : float, default: 0
        Standard deviation of column positions in excess of their fits' covariance.
    decay_log_std : float, default: 0
        Spread of the natural logarithm of the line fly-back's decay over the decays that were
        tried, each by its evidence; 0 where one of them is the only probable one.
    """

    logs: Array
    floor_px: float = 0.0
    decay_log_std: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "logs", as_array("logs", self.logs, (2, len(NAMES))))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @classmethod
    def typical(cls, pixel_size_nm: float, lines: int) -> "Hyperparameters":
        """Return the medians of the priors.

        Parameters
        ----------
        pixel_size_nm : float
            Side of a pixel.
        lines : int
            Of the frame.

        Returns
        -------
        Hyperparameters
            The same for both axes.
        """
        return cls(logs=np.tile(prior_logs(pixel_size_nm, lines)[0], (2, 1)))


def prior_logs(pixel_size_nm: float, lines: int) -> tuple[Array, Array]:
    """Return means and spreads of the logarithms, in the order of ``NAMES``.

    Parameters
    ----------
    pixel_size_nm : float
        Side of a pixel.
    lines : int
        Of the frame.

    Returns
    -------
    mean, std : ndarray, shape (10,)
        Amplitudes are in px.
    """
    to_px = 1e-3 / pixel_size_nm
    amplitudes = [np.log(prior.median * to_px) for prior in PRIORS_PM.values()]
    lengths = [np.log(prior.median) for prior in PRIORS_LENGTH.values()]
    lengths += [np.log(prior.median / (WIDE * lines)) for prior in PRIORS_LINES.values()]
    priors = (*PRIORS_PM.values(), *PRIORS_LENGTH.values(), *PRIORS_LINES.values())
    return np.array(amplitudes + lengths), np.array([prior.log_std for prior in priors])


def prior_surprise(logs: Array, pixel_size_nm: float, lines: int) -> tuple[Array, Array, Array]:
    """Negative logarithm of the priors' densities, its slope, and a curvature above zero.

    Parameters
    ----------
    logs : ndarray, shape (10,)
        One axis of ``Hyperparameters.logs``.
    pixel_size_nm : float
        Side of a pixel.
    lines : int
        Of the frame.

    Returns
    -------
    surprise, slope, curvature : ndarray, shape (10,)
        For each logarithm by itself; the curvature is the slope over the distance from the mean.
    """
    mean, std = prior_logs(pixel_size_nm, lines)
    off = (logs - mean) / std
    norm = np.log(std * np.sqrt(TAIL * np.pi)) + gammaln(TAIL / 2) - gammaln((TAIL + 1) / 2)
    surprise = norm + 0.5 * (TAIL + 1) * np.log1p(off**2 / TAIL)
    curvature = (TAIL + 1) / (TAIL + off**2) / std**2
    return surprise, curvature * (logs - mean), curvature


def flyback_surprise(
    expected: ExpectedFlyback | None, axis: int, log: float
) -> tuple[float, float, float]:
    """Negative log prior of the fly-back's amplitude, from other settings of the device.

    Parameters
    ----------
    expected : ExpectedFlyback or None
        What they expect.
    axis : int
        0: slow, 1: fast.
    log : float
        Natural logarithm of the amplitude, px.

    Returns
    -------
    surprise, slope, curvature : float
        Zero where nothing is known.
    """
    if expected is None or expected.amplitude_px is None:
        return 0.0, 0.0, 0.0
    off = (log - np.log(max(expected.amplitude_px[axis], LEAST_FLYBACK_PX))) / FLYBACK_LOG_STD
    return 0.5 * float(off**2), float(off) / FLYBACK_LOG_STD, FLYBACK_LOG_STD**-2


def decay_surprise(expected: ExpectedFlyback | None) -> Array:
    """Negative log prior of each of ``DECAYS``, from other settings of the device.

    Parameters
    ----------
    expected : ExpectedFlyback or None
        What they expect.

    Returns
    -------
    ndarray, shape (25,)
        Up to a constant; zeros where nothing is known.
    """
    if expected is None:
        return np.zeros(len(DECAYS))
    std = np.hypot(expected.decay_log_std, DECAY_STEP)  # trials are no closer than that
    surprise: Array = 0.5 * (np.log(DECAYS / expected.decay) / std) ** 2
    return surprise


def prior_variances(basis: Basis, logs: Array) -> tuple[Array, Array]:
    """Prior variance of each weight of one axis, and its change with each logarithm.

    Parameters
    ----------
    basis : Basis
        The functions.
    logs : ndarray, shape (10,)
        One axis of ``Hyperparameters.logs``.

    Returns
    -------
    variances : ndarray, shape (size,)
        In px^2.
    slopes : ndarray, shape (10, size)
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
    _add("line", np.ones(LINE_MODES), "line")
    _add("line_slope", np.full(SLOPE_MODES, DECAY_STEP**2), "line")
    _add("frame", np.ones(len(FRAME_DECAYS)), "frame")
    fast = np.arange(1, where["fast"].stop - where["fast"].start + 1)
    _add("fast", _exponential_spectrum(fast, FAST_CORRELATION * WIDE / basis.wide), "fast")
    modes = np.arange(1.0, basis.walk_modes + 1)
    variances[where["walk"]], slopes[:, where["walk"]] = wave_variances(basis, logs, modes)
    variances[where["walk"]] += TINY
    _add("mains", mains_shape(), "mains")
    if basis.locked_modes:
        every = np.arange(1.0, basis.locked_modes + 1)
        rough, change = _walk_shape(basis, value["walk_length"], every)
        _add("locked", rough, "locked")
        slopes[NAMES.index("walk_length"), where["locked"]] += value["locked"] ** 2 * change
    return variances, slopes


def suited(basis: Basis, hyperparameters: Hyperparameters, precision: float) -> Basis:
    """Choose margin and number of cosines of the smooth term by its amplitudes and lengths.

    Parameters
    ----------
    basis : Basis
        The functions so far.
    hyperparameters : Hyperparameters
        Amplitudes and lengths.
    precision : float
        Sum of the inverse variances of a frame's columns along one axis, px^-2.

    Returns
    -------
    Basis
        Cosines reflect the term at the ends of their interval, which is therefore ``ROOM`` lengths
        longer than the frame at each end; waves are left out that many frames could not show.
    """
    logs = hyperparameters.logs
    amplitude = np.exp(logs[:, NAMES.index("smooth")])
    length = WIDE * np.exp(logs[:, NAMES.index("smooth_length")])
    shown = amplitude**2 * precision * SHARED_BY / NEGLIGIBLE
    matters = shown * 2 * np.pi * length**2 > 1.0
    if not matters.any():
        return basis.with_smooth(MARGIN, FEWEST_SMOOTH)
    margin = float(np.clip(np.ceil(ROOM * length[matters].max() / STEP) * STEP, *MARGINS))
    unit = length[matters] / (1 + 2 * margin)
    radius = np.sqrt(2 * np.log(np.maximum(shown[matters] * 2 * np.pi * unit**2, 1.0)))
    count = int(np.ceil((radius / (np.pi * unit)).max())) + 1
    most = MOST_REFINED if basis.is_refined else MOST_SMOOTH
    return basis.with_smooth(margin, int(np.clip(count, FEWEST_SMOOTH, most)))


def mains_shape() -> Array:
    """Return prior variances of the mains' functions, relative to the variance of the mains.

    Returns
    -------
    ndarray, shape (8,)
        Harmonics fall like their number; the last two stand for the frequency's uncertainty.
    """
    powers = np.array(HARMONICS) ** -2.0
    powers /= powers.sum()
    return np.asarray(
        np.r_[np.repeat(powers, 2), np.full(2, powers[0] * (2 * np.pi * MAINS_STEP) ** 2)]
    )


def _gaussian_spectrum(modes: Modes, length: float) -> Array:
    """Variances of cosines that sum to a squared exponential of unit variance."""
    spectrum: Array = np.sqrt(2 * np.pi) * length * np.exp(-0.5 * (np.pi * modes * length) ** 2)
    return spectrum


def _exponential_spectrum(modes: Modes, length: float) -> Array:
    """Variances of cosines that sum to an exponential correlation of unit variance."""
    return np.asarray(2 * length / (1 + (np.pi * modes * length) ** 2), dtype=np.float64)


def _smooth_shape(basis: Basis, length: float) -> tuple[Array, Array]:
    """Spectrum of a squared exponential in both axes, and its change with its length."""
    iy, ix = basis.smooth_modes
    length = length * WIDE / basis.wide
    shape = np.asarray(_gaussian_spectrum(iy, length) * _gaussian_spectrum(ix, length))
    return shape, shape * (2 - (np.pi * length) ** 2 * (iy**2 + ix**2))


def _walk_shape(basis: Basis, length: float, modes: Array) -> tuple[Array, Array]:
    """Spectrum of an exponential correlation in scan time, and its change with its length.

    It has power up to the rate of the lines, beyond what the rows of columns resolve.
    """
    every = (np.arange(1, int(basis.scan_time.interval_lines) + 1) * np.pi * length) ** 2
    total, change = (1 / (1 + every)).sum(), (-2 * every / (1 + every) ** 2).sum()
    square = (modes * np.pi * length) ** 2
    shape = 1 / (1 + square) / total
    return shape, shape * (-2 * square / (1 + square) - change / total)


def wave_variances(basis: Basis, logs: Array, modes: Array) -> tuple[Array, Array]:
    """Prior variance of single waves of scan time along one axis, and its change with each log.

    Parameters
    ----------
    basis : Basis
        The functions.
    logs : ndarray, shape (10,)
        One axis of ``Hyperparameters.logs``.
    modes : ndarray, shape (k,)
        Half periods of each in the interval of W_k, also beyond the basis.

    Returns
    -------
    variances : ndarray, shape (k,)
        Of weights of cosines on that interval, px^2.
    slopes : ndarray, shape (10, k)
        Derivatives of ``variances`` with respect to ``logs``.
    """
    value = dict(zip(NAMES, np.exp(logs), strict=True))
    shape, slope = _walk_shape(basis, value["walk_length"], modes)
    walk, jitter = value["walk"] ** 2 * shape, value["jitter"] ** 2 / basis.scan_time.interval_lines
    slopes = np.zeros((len(NAMES), len(modes)))
    slopes[NAMES.index("walk")], slopes[NAMES.index("jitter")] = 2 * walk, 2 * jitter
    slopes[NAMES.index("walk_length")] = value["walk"] ** 2 * slope
    return walk + jitter, slopes


def wave_densities(basis: Basis, hyperparameters: Hyperparameters) -> Array:
    """Prior power of waves over the lines, scaled to the variance of independent line shifts.

    Parameters
    ----------
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Amplitudes and lengths.

    Returns
    -------
    ndarray, shape (2, ny)
        For 0, 1, 2, ... half periods in all lines, px^2.
    """
    lines, interval = basis.shape_px[0], basis.scan_time.interval_lines
    modes = np.arange(lines) * interval / lines
    found = [wave_variances(basis, logs, modes)[0] for logs in hyperparameters.logs]
    return interval * np.stack(found)


def unresolved_variance(basis: Basis, logs: Array) -> float:
    """Prior variance of what W_k does between the rows of columns, along one axis.

    Parameters
    ----------
    basis : Basis
        The functions.
    logs : ndarray, shape (10,)
        One axis of ``Hyperparameters.logs``.

    Returns
    -------
    float
        In px^2.
    """
    if not basis.walk_modes:
        return 0.0
    value = dict(zip(NAMES, np.exp(logs), strict=True))
    walk, _ = _walk_shape(basis, value["walk_length"], np.arange(1.0, basis.walk_modes + 1))
    resolved = basis.walk_modes / basis.scan_time.interval_lines
    jitter = value["jitter"] ** 2 * max(BETWEEN_LINES - resolved, 0.0)
    return float(value["walk"] ** 2 * (1.0 - walk.sum()) + jitter)


def finer_variance(basis: Basis, logs: Array) -> float:
    """Prior variance of the waves of f(x) that the basis lacks and a refined one has, on an axis.

    Parameters
    ----------
    basis : Basis
        The functions.
    logs : ndarray, shape (10,)
        One axis of ``Hyperparameters.logs``.

    Returns
    -------
    float
        In px^2, mean along x; still finer waves are narrower than a column, and not counted.
    """
    if "fast_axis" not in basis.terms or basis.is_refined:
        return 0.0
    lacking = np.arange(basis.fast_modes, basis.refined().fast_modes)
    spectrum = _exponential_spectrum(lacking, FAST_CORRELATION * WIDE / basis.wide)
    return float(np.exp(2.0 * logs[NAMES.index("fast")]) * spectrum.sum())
