"""Noise that neighbouring pixels share: how much, and what that costs the fits."""

from typing import NamedTuple

import cv2
import numba
import numpy as np

from nion_distortion._validation import frozen
from nion_distortion.atoms.drawing import AMPLITUDE, BACKGROUND, Floats, Image
from nion_distortion.atoms.fit import FREE_ORDER, ONE, Fits, Window, gradient
from nion_distortion.atoms.noise import DIFFERENCE, Noise, noise_of_residual

__all__ = ["WHITE", "Correlation", "correlated_noise", "lost_information"]

LAGS = 8
"""Neighbours looked at to either side: columns that are worth it are not much wider."""

LINES, FEWEST = 40_000, 2000
"""Pixels looked at along each axis, about: their correlations are known within 0.7 %; and how many
are needed."""

SURE = 3.0
"""Standard errors of a correlation that is not chance."""

PERIOD, LEAST_REACH_PX2 = 64, 1e-4
"""Pixels after which noise repeats itself where its filter is looked for, and the least blur."""

LEAST_SLOW = 0.1
"""Power of the slowest noise over the mean one: of less, no filter can be found."""

LEAST_SHARE, LEAST_RATIO, LEAST_VARIANCE = 0.01, 0.1, 1e-6
"""Of variances: chance correlations must not make a fit surer than that; and of a pixel."""

FARTHEST = 8.0
"""Times the mean size of a line's fourth differences: larger ones are no noise, but a hot pixel."""

TAPS = tuple(float(tap) for tap in DIFFERENCE[:3])
"""Of the fourth difference, from its end to its middle."""


class Correlation(NamedTuple):
    """How much noise neighbours share: the product of both for one that is apart along both axes.

    Attributes
    ----------
    y, x : ndarray, shape (k,)
        Correlation at distances of 0 (one), 1, 2, ... px along the axis; zero beyond.
    """

    y: Floats
    x: Floats


WHITE = Correlation(frozen(np.ones(1)), frozen(np.ones(1)))
"""Each pixel's noise is its own."""


def correlated_noise(
    residual: Image, image: Image, cores: Image, *, sign: float, background: float
) -> tuple[Noise, Correlation]:
    """Find the noise of an image, and how much of it neighbouring pixels share.

    Parameters
    ----------
    residual : ndarray, shape (ny, nx)
        The image less its columns.
    image : ndarray, shape (ny, nx)
        The image, without hot pixels.
    cores : ndarray, shape (ny, nx)
        The columns, without background.
    sign : float
        As in `noise_of_residual`.
    background : float
        Typical one.

    Returns
    -------
    noise : Noise
        Of a pixel.
    correlation : Correlation
        Of its neighbours.

    Notes
    -----
    An image that was interpolated, filtered, or seen by a slow detector has less fine noise than
    coarse. The fourth difference along one axis takes out the columns; what it leaves keeps the
    noise's whole spectrum along the other, if that is a product of one for each axis, and its
    power beside the one of differences along both says how much noise there is in all. Products
    z z' of neighbours, in units of their standard deviation, are fitted by a correlation and a
    multiple of u u', the product of the image's slopes: what a scan that trembles leaves is as
    wide as a column and is no noise of the detector. Correlations count up to the first that
    could be chance; if none does, noise is what `noise_of_residual` says.
    """
    noise = noise_of_residual(residual, image, sign=sign)
    y, x = (_along(residual, cores, (noise, background), axis) for axis in (0, 1))
    if len(y) == len(x) == 1:
        return noise, WHITE
    reach = [float(np.sqrt(_reach_px2(one))) for one in (x, y)]
    level = cv2.GaussianBlur(image, (0, 0), sigmaX=reach[0], sigmaY=reach[1])
    fine = noise_of_residual(residual, np.asarray(level, np.float32), sign=sign)
    seen = _seen_share(y) * _seen_share(x)
    return Noise(*(one / seen for one in fine)), Correlation(y, x)


def _seen_share(correlation: Floats) -> float:
    """Return which share of the noise the fourth difference shows, relative to independent one."""
    own = np.convolve(DIFFERENCE, DIFFERENCE)[4:]
    lags = min(len(own), len(correlation))
    share = 1.0 + 2.0 * float(own[1:lags] @ correlation[1:lags])
    return max(share, LEAST_SHARE)


def _reach_px2(correlation: Floats) -> float:
    """Return from how far the noise comes that the fourth difference shows, as a variance.

    Of independent noise filtered by h, w shows ``(w * h)^2``, which is wider than ``w^2``.
    """
    spectrum = np.fft.rfft(
        np.concatenate(
            [correlation, np.zeros(PERIOD + 1 - 2 * len(correlation)), correlation[:0:-1]]
        )
    ).real
    if spectrum[0] < LEAST_SLOW:  # no filter of noise does that, but a scan that vibrates
        return LEAST_REACH_PX2
    h = np.fft.fftshift(np.fft.irfft(np.sqrt(np.maximum(spectrum, 0.0)), PERIOD))
    both = np.square(np.convolve(h, DIFFERENCE, "same"))
    return max(_variance(both) - _variance(h) - _variance(np.square(DIFFERENCE)), LEAST_REACH_PX2)


def _variance(weights: Floats) -> float:
    away = np.arange(len(weights)) - len(weights) // 2
    return float(weights @ away**2 / weights.sum())


def _along(residual: Image, cores: Image, level: tuple[Noise, float], axis: int) -> Floats:
    """Return the correlation along an axis, up to the first that could be chance."""
    (gain, offset, _), background = level
    variance = (gain, gain * background + offset, LEAST_VARIANCE)
    step = max(1, round(residual.size / LINES))
    sums = np.zeros((LAGS + 1, 5))
    for lags in (1, LAGS):  # most images need no more than the first
        sums[: lags + 1] = 0.0
        _add_lines((residual, cores), variance, (axis, step), sums[: lags + 1])
        correlation = _sure(sums[: lags + 1])
        if len(correlation) == 1:
            break
    return correlation


def _sure(sums: Floats) -> Floats:
    """Return correlations up to the first that could be chance, from what `_add_lines` sums."""
    count, product, slope, both, square = sums.T
    spread = count * square - slope**2
    if count[-1] < FEWEST or not spread.min() > 0.0:
        return np.ones(1)
    covariance = (square * product - slope * both) / spread
    if not covariance[0] > 0.0:  # the slopes explain more than there is: no noise is left to share
        return np.ones(1)
    correlation = covariance / covariance[0]
    sure = np.abs(correlation[1:]) > SURE * np.sqrt(square[1:] / spread[1:])
    return np.asarray(correlation[: 1 + int(np.logical_and.accumulate(sure).sum())])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_lines(
    images: tuple[Image, Image],
    variance: tuple[float, float, float],
    along: tuple[int, int],
    sums: Floats,
) -> None:
    """Sum 1, z z', u u', z z' u u' and (u u')^2 over the pairs of every step-th line, by distance.

    Lines lie along the axis; z is the fourth difference across them, u the slopes of both axes,
    all in standard deviations; the variance is a gain, an offset and the least.
    """
    axis, step = along
    across, length = images[0].shape[1 - axis], images[0].shape[axis]
    line = np.empty((4, length - 2), np.float32)
    for number in range(2, across - 2, step):
        _fill_line(images, variance, (axis, number), line)
        _leave_out_hot(line)
        for lag in range(len(sums)):
            _add_pairs(line, lag, sums[lag])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill_line(
    images: tuple[Image, Image],
    variance: tuple[float, float, float],
    place: tuple[int, int],
    line: Image,
) -> None:
    """Fill in z and both u along one line, but for its ends."""
    residual, cores = images
    axis, number = place
    gain, offset, least = np.float32(variance[0]), np.float32(variance[1]), np.float32(variance[2])
    outer, inner, middle = np.float32(TAPS[0]), np.float32(TAPS[1]), np.float32(TAPS[2])
    down, right = (0, 1) if axis == 0 else (1, 0)
    z, uy, ux, light = line
    for k in range(len(z)):
        i, j = (k + 1, number) if axis == 0 else (number, k + 1)
        one = residual[i - down, j - right] + residual[i + down, j + right]
        two = residual[i - 2 * down, j - 2 * right] + residual[i + 2 * down, j + 2 * right]
        z[k] = middle * residual[i, j] + inner * one + outer * two
        uy[k] = cores[i + 1, j] - cores[i - 1, j]
        ux[k] = cores[i, j + 1] - cores[i, j - 1]
        light[k] = cores[i, j]
    for k in range(len(z)):  # without strides: several at once
        scale = ONE / np.sqrt(max(gain * light[k] + offset, least))
        z[k], uy[k], ux[k] = z[k] * scale, uy[k] * scale, ux[k] * scale


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _leave_out_hot(line: Image) -> None:
    """Make pairs with a hot pixel zero: one weighs more than all others together."""
    z, mean = line[0], np.float32(0.0)
    for k in range(len(z)):
        mean += abs(z[k])
    limit = np.float32(FARTHEST) * mean / np.float32(len(z))
    for k in range(len(z)):
        if abs(z[k]) > limit:
            line[:3, k] = 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FREE_ORDER)
def _add_pairs(line: Image, lag: int, sums: Floats) -> None:
    product = slope = both = square = np.float32(0.0)
    z, uy, ux = line[:3]
    count = len(z) - lag
    for k in range(count):
        zz = z[k] * z[k + lag]
        uu = uy[k] * uy[k + lag] + ux[k] * ux[k + lag]
        product, slope = product + zz, slope + uu
        both, square = both + zz * uu, square + uu * uu
    sums[0] += count
    sums[1] += product
    sums[2] += slope
    sums[3] += both
    sums[4] += square


def lost_information(fits: Fits, window: Window, correlation: Correlation) -> Floats:
    """Say by how much the variances of a typical column grow with noise that pixels share.

    Parameters
    ----------
    fits : Fits
        Where they have come to.
    window : Window
        What they share.
    correlation : Correlation
        Of the noise.

    Returns
    -------
    ndarray, shape (5,)
        Factors of the parameters' variances: those of fits that weigh pixels as if each had noise
        of its own, over what they claim, which will be scaled by chi^2.

    Notes
    -----
    With gradients J in units of the pixels' standard deviations, the prior's information P, and
    the correlations C, the covariance is ``H (J^T C J + P) H`` instead of
    ``H = (J^T J + P)^-1``, and of N pixels chi^2 has ``N - tr(H J^T C J)`` instead of N - 5.
    """
    if correlation is WHITE:
        return np.ones(5)
    slopes = _whitened_gradient(fits, window)
    prior = np.diag([0.0, 0.0, 0.0, window.precision, window.background_precision])
    flat = slopes.reshape(5, -1)
    along_y, along_x = (_band(one, slopes.shape[1]) for one in correlation)
    shared = (along_y @ slopes @ along_x).reshape(5, -1)
    inverse = np.linalg.inv(flat @ flat.T + prior)
    covariance = inverse @ (flat @ shared.T + prior) @ inverse
    pixels = np.count_nonzero(flat[BACKGROUND])
    left = (pixels - np.trace(inverse @ flat @ shared.T)) / (pixels - 5)
    ratio = np.diagonal(covariance) / np.diagonal(inverse) / left
    return np.asarray(np.maximum(ratio, LEAST_RATIO))


def _whitened_gradient(fits: Fits, window: Window) -> Floats:
    """Return the gradient of the typical column, (5, side, side), in standard deviations."""
    column = np.median(fits.parameters[::8], axis=0)
    column[:2] = 0.0
    reach = int(window.radius_px)
    slopes = np.zeros((5, 2 * reach + 1, 2 * reach + 1))
    one = np.empty(5)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            if i * i + j * j <= window.radius_px**2:
                gradient(column, i, j, one)
                expected = column[BACKGROUND] + column[AMPLITUDE] * one[AMPLITUDE]
                variance = max(window.gain * expected + window.offset, window.floor)
                slopes[:, i + reach, j + reach] = one / np.sqrt(variance)
    return slopes


def _band(correlation: Floats, size: int) -> Floats:
    """Lay correlations out as the matrix of a line's pixels."""
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    return np.where(apart < len(correlation), np.pad(correlation, (0, size))[apart], 0.0)
