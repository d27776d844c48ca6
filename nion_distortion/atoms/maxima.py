"""First guesses: the size of a column from the image itself, and band-passed local maxima."""

from typing import NamedTuple

import cv2
import numba
import numpy as np
import numpy.typing as npt
import scipy.fft

from nion_distortion._chunks import for_chunks
from nion_distortion._order import quantiles
from nion_distortion._validation import as_array
from nion_distortion.frame import UnusableFrameError

__all__ = [
    "Normalised",
    "band_passed",
    "blurred",
    "column_sigma_px",
    "local_maxima",
    "normalised",
    "peaks",
]

LINES, LAGS, SLOWEST_PX = 128, 96, 32.0
"""For the autocorrelation: number of lines used, about; lags; and the length scale of the high-pass
that removes slower structure."""

SIGNIFICANT = 7.0
"""An autocorrelation that does not fall by this many standard errors after lag 1 is noise."""

NARROW, WIDE, NEAREST = 0.7, 2.0, 1.3
"""Sigmas of the two Gaussians of the band-pass (narrower: more weak columns kept), and least
distance of two maxima; in units of a column's sigma."""

COARSE_PX, HALVED_PX2 = 2.4, 0.25 + 2.0 / 3.0
"""Sigma from which a blur is done on an image of half the size, and the variance that halving and
enlarging add."""

SMALLEST_SIGMA_PX = 0.6

SMALLEST_STRIP = 128
"""Fewer lines need no second thread."""


class Normalised(NamedTuple):
    """An image brought to zero median and a scale of its own, columns bright or dark.

    Attributes
    ----------
    image : ndarray, shape (ny, nx)
        The values, ``(raw - zero) / unit``.
    clipped : ndarray, shape (ny, nx)
        The same, without hot pixels: nothing far outside of what nearly all pixels show; the same
        array where there are none.
    zero : float
        Detector units.
    unit : float
        Detector units.
    """

    image: npt.NDArray[np.float32]
    clipped: npt.NDArray[np.float32]
    zero: float
    unit: float


def normalised(image: npt.NDArray[np.float32]) -> Normalised:
    """Bring an image to a scale of its own, so that gain and offset cannot matter.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Finite values.

    Returns
    -------
    Normalised
        Zero is the median, one the distance between the 1st and 99th percentile.

    Raises
    ------
    UnusableFrameError
        If nearly all pixels have the same value.
    """
    step = int(np.ceil(np.sqrt(image.size / 20_000)))
    sample = image[::step, ::step]
    low, zero, high = quantiles(sample, [0.01, 0.5, 0.99])
    if not high > low:
        raise UnusableFrameError("the image is the same nearly everywhere: it shows no columns")
    unit = high - low
    values = image - np.float32(zero)
    values *= np.float32(1.0 / unit)
    below, above = (low - zero) / unit - 1.0, (high - zero) / unit + 1.0
    is_clipped = values.min() < below or values.max() > above  # few images have hot pixels
    return Normalised(values, np.clip(values, below, above) if is_clipped else values, zero, unit)


def column_sigma_px(image: npt.NDArray[np.float32]) -> float:
    """Find the width of the columns from the image's autocorrelation.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Bright or dark columns.

    Returns
    -------
    float
        Sigma of a Gaussian column; good to about a third where columns overlap.

    Raises
    ------
    UnusableFrameError
        If nothing but noise is seen.

    Notes
    -----
    Gaussians of width sigma have an autocorrelation of width sqrt(2) sigma, which falls to half
    of its height at 1.67 sigma. Lag zero holds the noise as well and is not used. The direction
    in which it falls faster is taken: neighbours along a line broaden the other.
    """
    rows = image[:: max(1, image.shape[0] // LINES)]
    columns = image[:, :: max(1, image.shape[1] // LINES)].T
    widths = [_half_width_px(lines) for lines in (rows, columns)]
    found = [width for width in widths if width is not None]
    if not found:
        raise UnusableFrameError("no columns stand out of the image's noise")
    return float(max(SMALLEST_SIGMA_PX, min(found) / (2.0 * np.sqrt(np.log(2.0)))))


def _half_width_px(lines: npt.NDArray[np.float32]) -> float | None:
    correlation = _autocorrelation(lines)
    top = correlation[1] + (correlation[1] - correlation[2]) / 3.0
    bottom = correlation[1:].min()
    if top - bottom <= SIGNIFICANT * correlation[0] / np.sqrt(lines.size):
        return None
    half = 0.5 * (top + bottom)
    below = int(np.argmax(correlation[1:] < half)) + 1
    upper = top if below == 1 else correlation[below - 1]
    return float(below - (half - correlation[below]) / (upper - correlation[below]))


def _autocorrelation(lines: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Mean autocorrelation along the lines, shapes longer than `SLOWEST_PX` taken out."""
    length = lines.shape[1]
    lags = min(LAGS, length // 2)
    padded = scipy.fft.next_fast_len(length + lags, real=True)
    spectrum = scipy.fft.rfft(lines - lines.mean(axis=1, keepdims=True), padded, axis=1)
    power = np.sum(spectrum.real**2 + spectrum.imag**2, axis=0, dtype=np.float64)
    frequency = np.arange(padded // 2 + 1) / padded
    slow = np.exp(-2.0 * (np.pi * SLOWEST_PX * frequency) ** 2)
    correlation = scipy.fft.irfft(power * (1.0 - slow) ** 2, padded)[:lags]
    overlap = len(lines) * (length - np.arange(lags))
    return np.asarray(correlation / overlap, dtype=np.float64)


def band_passed(
    image: npt.NDArray[np.float32], sigma_px: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Keep what has the size of a column: a narrow less a wide Gaussian.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Columns bright.
    sigma_px : float
        A column's sigma.

    Returns
    -------
    band : ndarray, shape (ny, nx)
        The difference: near zero where nothing stands out.
    narrow : ndarray, shape (ny, nx)
        The image under the narrow Gaussian alone.
    """
    narrow = cv2.GaussianBlur(image, (0, 0), NARROW * sigma_px, borderType=cv2.BORDER_REFLECT_101)
    wide = blurred(image, WIDE * sigma_px)
    return np.subtract(narrow, wide, out=wide), np.asarray(narrow, dtype=np.float32)


def blurred(image: npt.NDArray[np.float32], sigma_px: float) -> npt.NDArray[np.float32]:
    """Convolve with a Gaussian; with a wide one at half the size, to a few thousandths.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Any.
    sigma_px : float
        Of the Gaussian.

    Returns
    -------
    ndarray, shape (ny, nx)
        Mirrored at the borders.
    """
    if sigma_px < COARSE_PX:
        full = cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(full, np.float32)
    ny, nx = image.shape
    even = np.pad(image, ((0, ny % 2), (0, nx % 2)), mode="edge") if ny % 2 or nx % 2 else image
    half = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    sigma = 0.5 * np.sqrt(sigma_px**2 - HALVED_PX2)
    half = cv2.GaussianBlur(half, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    full = cv2.resize(half, even.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(full[:ny, :nx], np.float32)


def peaks(image: npt.NDArray[np.float32], reach_px: float) -> npt.NDArray[np.float64]:
    """Local maxima above zero, each moved to the top of the parabola through its neighbours.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Band-passed.
    reach_px : float
        Nothing higher stands within this distance.

    Returns
    -------
    ndarray, shape (n, 2)
        Positions in px, in order of lines; none on the outermost pixels.
    """
    y, x = np.indices((2 * max(1, int(reach_px)) + 1,) * 2) - max(1, int(reach_px))
    square = y**2 + x**2
    near = (square > 0) & (square <= max(2.0, reach_px**2))
    # nearest first: most of what is no peak has a higher one nearby
    around = np.stack([y[near], x[near]], axis=1)[np.argsort(square[near], kind="stable")]

    def _chunk(start: int, stop: int) -> npt.NDArray[np.float64]:
        lines, found = (max(start, 1), stop), np.empty(((stop - start) * image.shape[1] // 16, 2))
        count = _fill_peaks(image, around, lines, found)
        if count > len(found):  # areas of one value, in which each pixel is one
            found = np.empty((count, 2))
            _fill_peaks(image, around, lines, found)
        return found[:count]

    parts = for_chunks(_chunk, image.shape[0] - 1, smallest=SMALLEST_STRIP)
    return np.concatenate(parts)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill_peaks(
    image: npt.NDArray[np.float32],
    around: npt.NDArray[np.int64],
    lines: tuple[int, int],
    found: npt.NDArray[np.float64],
) -> int:
    """Count the peaks of some lines, and fill in as many as there is room for."""
    count, (height, width) = 0, image.shape
    of_three, is_high = np.empty(width, np.float32), np.zeros(width, np.bool_)
    for i in range(lines[0], lines[1]):
        _mark_high(image, i, of_three, is_high)
        for j in range(1, width - 1):
            if not is_high[j]:
                continue
            top, is_peak = image[i, j], True
            for k in range(len(around)):
                y, x = i + around[k, 0], j + around[k, 1]
                if 0 <= y < height and 0 <= x < width and image[y, x] > top:
                    is_peak = False
                    break
            if is_peak and count < len(found):
                found[count, 0] = i + _parabola(image[i - 1, j], top, image[i + 1, j])
                found[count, 1] = j + _parabola(image[i, j - 1], top, image[i, j + 1])
            count += is_peak
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mark_high(
    image: npt.NDArray[np.float32],
    i: int,
    of_three: npt.NDArray[np.float32],
    is_high: npt.NDArray[np.bool_],
) -> None:
    """Mark what is above zero in a line, and not below any of its eight neighbours.

    Without branches: several pixels at once.
    """
    above, line, below = image[i - 1], image[i], image[min(i + 1, len(image) - 1)]
    least = np.float32(np.finfo(np.float32).tiny)
    for j in range(len(line)):
        of_two = above[j] if above[j] > line[j] else line[j]
        of_three[j] = below[j] if below[j] > of_two else of_two
    for j in range(1, len(line) - 1):
        beside = of_three[j - 1] if of_three[j - 1] > of_three[j + 1] else of_three[j + 1]
        highest = of_three[j] if of_three[j] > beside else beside
        is_high[j] = (line[j] >= highest) & (line[j] >= least)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _parabola(before, top, after):  # type: ignore[no-untyped-def]
    """Where a parabola through three values is highest, from the middle one."""
    curvature = max(2.0 * top - before - after, 1e-20)
    return min(max(0.5 * (after - before) / curvature, -0.5), 0.5)


def local_maxima(image: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Find first guesses of the columns' positions as band-passed local maxima.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Finite values, columns bright.

    Returns
    -------
    ndarray, shape (n, 2)
        Positions (y, x) in px. Noise is among them: a fit has to decide (`find_columns`).

    Raises
    ------
    UnusableFrameError
        If nothing but noise is seen.
    """
    values = normalised(as_array("image", image, (None, None), np.float32)).clipped
    sigma_px = column_sigma_px(values)
    return peaks(band_passed(values, sigma_px)[0], NEAREST * sigma_px)
