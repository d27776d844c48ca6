"""The noise of an image, from the image itself: variance = gain * intensity + offset."""

from typing import NamedTuple

import cv2
import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._order import quantiles
from nion_distortion._validation import as_array
from nion_distortion.frame import UnusableFrameError

__all__ = ["Noise", "estimate_noise", "noise_of_residual"]

DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / np.sqrt(70.0)
"""Fourth difference, normalised to unit noise power: along both axes it leaves little of a
column."""

SAMPLES = 100_000
"""Number of pixels sampled, about."""

BINS, STRIPES, FEWEST_PIXELS = 24, 15, 20
"""Bins of intensity; stripes of the image, over which the median is taken; and fewest pixels for
the mean of one bin in one stripe."""

HOT = 1.5
"""A pixel is hot beyond this many ranges (0.5 to 99.5 %) from the middle of the range."""

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]


class Noise(NamedTuple):
    """Variance of a pixel, ``gain * intensity + offset``.

    Attributes
    ----------
    gain : float
        Detector units for each electron.
    offset : float
        Variance at zero intensity, detector units squared; a dark level makes it negative.
    gain_std : float, default: 0
        Standard deviation of the gain.
    """

    gain: float
    offset: float
    gain_std: float = 0.0


def estimate_noise(image: npt.ArrayLike) -> Noise:
    """Estimate an image's noise model from its finest detail.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Finite values, detector units.

    Returns
    -------
    Noise
        Gain (positive) and offset.

    Raises
    ------
    UnusableFrameError
        If the image holds no noise at all.

    Notes
    -----
    With the filter w = fourth difference along y and x, sum w^2 = 1, a signal that w takes out
    leaves ``E[(w * I)^2] = gain * (w^2 * I) + offset`` exactly; a line is fitted through the means
    at several levels. Each mean is the median over stripes of the image, so that single hot
    pixels do not count. Where columns are narrower than about 1.3 px w lets some of their shape
    through: `find_columns` therefore subtracts the fitted columns first.
    """
    pixels = as_array("image", image, (None, None), np.float32)
    return noise_of_residual(pixels, pixels)


def noise_of_residual(
    residual: npt.NDArray[np.float32],
    image: npt.NDArray[np.float32],
    *,
    sign: float = 1.0,
    samples: int = SAMPLES,
) -> Noise:
    """Estimate the noise from what is left of an image, at the levels of the image.

    Parameters
    ----------
    residual : ndarray, shape (ny, nx)
        The image, or the image less what is known of its signal.
    image : ndarray, shape (ny, nx)
        The image.
    sign : float, default: 1
        -1 where the image was inverted, so that brighter pixels have less noise.
    samples : int, default: 100 000
        Pixels looked at, about: their variance is then known within 0.5 %.

    Returns
    -------
    Noise
        Gain (of the given sign) and offset.

    Raises
    ------
    UnusableFrameError
        If the image holds no noise at all.
    """
    step = int(np.ceil(np.sqrt(image.size / samples)))
    power, level, reached = _power_and_level(residual, image, step)
    low, high = quantiles(level[::3, ::3], [0.005, 0.995])
    if not high > low:
        raise UnusableFrameError("the image is the same everywhere: it shows nothing")
    means, variances, weights = _binned(power, level, reached, (low, high))
    if not np.any(variances > 0):
        raise UnusableFrameError("the image is the same nearly everywhere: it shows no noise")
    found = _line(sign * means, variances, weights / _counted_as_one(step))
    return found._replace(gain=sign * found.gain)


def _counted_as_one(step: int) -> float:
    """How many squares of filtered noise, of every step-th pixel, say as much as one would alone.

    Those of pixels nearby are correlated, and of means over stripes the median is taken.
    """
    own = np.convolve(DIFFERENCE, DIFFERENCE)[len(DIFFERENCE) - 1 :]
    along = 1.0 + 2.0 * float(np.square(own[step::step]).sum())
    return 0.5 * np.pi * along**2


def _power_and_level(
    residual: Image, image: Image, step: int
) -> tuple[Image, Image, npt.NDArray[np.bool_]]:
    """Filter every step-th pixel, and mark those that a hot one reaches."""
    shape = tuple(len(range(2, length - 2, step)) for length in image.shape)
    fine, level = np.empty(shape, np.float32), np.empty(shape, np.float32)
    _filter_sample(residual, DIFFERENCE.astype(np.float32), step, fine)
    _filter_sample(image, np.square(DIFFERENCE).astype(np.float32), step, level)
    low, high = quantiles(image[:: 4 * step, :: 4 * step], [0.005, 0.995])
    middle, farthest = 0.5 * (low + high), HOT * (high - low)
    reached = np.zeros(shape, np.bool_)
    if max(image.max() - middle, middle - image.min()) > farthest:
        hot = (np.abs(image - middle) > farthest).view(np.uint8)
        inner = (slice(2, -2, step), slice(2, -2, step))
        reached = cv2.dilate(hot, np.ones((5, 5), np.uint8))[inner] > 0
    return np.square(fine), level, reached


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _filter_sample(image: Image, taps: Image, step: int, result: Image) -> None:
    """Filter by five taps along both axes, at every step-th pixel that is not at the border."""
    line = np.empty(image.shape[1], np.float32)
    for i in range(result.shape[0]):
        rows = image[i * step : i * step + 5]
        for j in range(image.shape[1]):
            line[j] = (
                taps[0] * (rows[0, j] + rows[4, j])
                + taps[1] * (rows[1, j] + rows[3, j])
                + taps[2] * rows[2, j]
            )
        for j in range(result.shape[1]):
            around = line[j * step : j * step + 5]
            result[i, j] = (
                taps[0] * (around[0] + around[4])
                + taps[1] * (around[1] + around[3])
                + taps[2] * around[2]
            )


def _binned(
    power: Image, level: Image, reached: npt.NDArray[np.bool_], limits: tuple[float, float]
) -> tuple[Floats, Floats, Floats]:
    """Sort pixels by level; of each bin the mean level, the variance, and the number of pixels."""
    count, power_sum, level_sum = np.zeros((3, STRIPES, BINS))
    _sort(power, level, reached, limits, (count, power_sum, level_sum))
    total = count.sum(axis=0)
    enough = count >= FEWEST_PIXELS
    used = enough.sum(axis=0) >= STRIPES // 2
    if not used.any():
        used, enough = total > 0, count > 0
    by_stripe = np.where(enough, power_sum / np.maximum(count, 1), np.inf)[:, used]
    means = level_sum.sum(axis=0)[used] / total[used]
    return means, _median_of_first(by_stripe, enough[:, used].sum(axis=0)), total[used]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sort(
    power: Image,
    level: Image,
    reached: npt.NDArray[np.bool_],
    limits: tuple[float, float],
    into: tuple[Floats, Floats, Floats],
) -> None:
    count, power_sum, level_sum = into
    low, scale = limits[0], BINS / (limits[1] - limits[0])
    for i in range(level.shape[0]):
        stripe = i * STRIPES // level.shape[0]
        for j in range(level.shape[1]):
            place = (level[i, j] - low) * scale
            if 0.0 <= place < BINS and not reached[i, j]:
                count[stripe, int(place)] += 1.0
                power_sum[stripe, int(place)] += power[i, j]
                level_sum[stripe, int(place)] += level[i, j]


def _median_of_first(values: Floats, count: npt.NDArray[np.intp]) -> Floats:
    """Median along axis 0 of the ``count`` lowest values of each column; the rest is infinite."""
    ordered = np.sort(values, axis=0)
    middle = np.stack([(count - 1) // 2, count // 2])
    return np.asarray(np.take_along_axis(ordered, middle, axis=0).mean(axis=0))


def _line(
    level: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    count: npt.NDArray[np.float64],
) -> Noise:
    """Fit a line through the variances, weighted by the errors that the line itself implies.

    ``count`` is how many independent squares each is the mean of.
    """
    typical = np.average(variance, weights=count)
    expected = np.full_like(variance, typical)
    gain, offset = 0.0, float(typical)
    for _ in range(4):
        weight = count / expected**2
        centre = np.average(level, weights=weight)
        mean = np.average(variance, weights=weight)
        spread = np.sum(weight * (level - centre) ** 2)
        slope = np.sum(weight * (level - centre) * (variance - mean)) / spread if spread else 0.0
        gain, offset = float(slope), float(mean - slope * centre)
        expected = np.maximum(gain * level + offset, 0.02 * typical)
    # Without photon noise there is no gain: use the least that could be told from zero.
    least = 1e-3 * float(typical / max(np.ptp(level), 1e-30))
    gain_std = float(np.sqrt(2.0 / spread)) if spread else np.inf
    if gain < least:
        gain, mean = least, np.average(variance, weights=count)
        offset = float(mean - least * np.average(level, weights=count))
    return Noise(gain, offset, gain_std)
