"""All columns of an image fitted at once: a Gaussian and a constant each, neighbours taken out."""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion.atoms.drawing import (
    AMPLITUDE,
    BACKGROUND,
    LOG_SIGMA,
    Floats,
    Image,
    Places,
    Widths,
    X,
    Y,
    usual_log_sigma,
)

__all__ = [
    "Fits",
    "Window",
    "disc",
    "factorised",
    "gradient",
    "hottest",
    "improve",
    "inverse",
    "starting",
]

LONGEST_STEP, LONGEST_LOG_STEP = 0.5, 0.3
"""Limits of one step: of the position in sigma, and of log sigma."""

SHORTEST_SHARE, LONGEST_SHARE = 0.5, 1.5
"""Limits of Aitken's factor, by which a step is multiplied (`_moved`)."""

TOLERANCE_PX, TOLERANCE = 1e-3, 0.05
"""A fit has converged when its step is shorter than this, or than this share of the position's
standard error."""

FARTHEST = 0.6
"""A fit whose position is farther from the middle of its window than this share of the radius is
given up."""

FEWEST_PIXELS, SMALLEST_CHUNK = 9, 512
"""Fewer pixels make no fit; fewer columns need no second thread."""


VECTOR = 16
"""Pixels in the longest SIMD vector: windows are padded to a multiple of it."""

ONE, EIGHTH, C2, C3, C4, C5, C6 = np.array(
    [1, 1 / 8, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720], np.float32
)
"""Coefficients of the exponential series, in single precision: Python's numbers would turn all
arithmetic into double precision."""

FREE_ORDER = {"reassoc", "contract", "nsz"}

Sums = tuple[np.float32, ...]
Unsigned = npt.NDArray[np.uint64]


class Window(NamedTuple):
    """What all fits of an image share.

    Attributes
    ----------
    radius_px : float
        Of the window, around the fixed central pixel `Fits.middle`.
    widths : Widths
        Centre of the prior on a column's width.
    precision : float
        Of that prior, one over the variance of log sigma.
    gain : float
        Variance of a pixel for each unit of its expected value; negative for dark columns.
    offset : float
        Variance at zero.
    floor : float
        Least variance.
    background : float, default: 0
        Centre of the prior on a column's background.
    background_precision : float, default: 0
        Of that prior, one over its variance.
    """

    radius_px: float
    widths: Widths
    precision: float
    gain: float
    offset: float
    floor: float
    background: float = 0.0
    background_precision: float = 0.0


class Fits(NamedTuple):
    """The state of the fits; rows are columns.

    Attributes
    ----------
    parameters : ndarray, shape (n, 5)
        Position y, x, amplitude, log sigma, background.
    middle : ndarray, shape (n, 2)
        The pixel around which each window lies: it stands still while the fit moves.
    covariance : ndarray, shape (n, 5, 5)
        Inverse of the Fisher information, prior included.
    chi2 : ndarray, shape (n,)
        Sum over the window of squared residual over variance.
    last : ndarray, shape (n, 3)
        The last step of the position, and the share of it that was taken; 0: none yet.
    pixels : ndarray, shape (n,)
        How many there are in the window; 0 where the fit broke down.
    active : ndarray, shape (n,)
        Whether the fit has not converged yet: its last step was longer than the tolerance.
    """

    parameters: Floats
    middle: Places
    covariance: Floats
    chi2: Floats
    last: Floats
    pixels: Places
    active: npt.NDArray[np.bool_]

    def rows(self, chosen: slice | npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Fits":
        """Return some of the rows.

        Parameters
        ----------
        chosen : slice, or ndarray of bool, shape (n,), or of int
            Which: a slice gives views, others copies.

        Returns
        -------
        Fits
            Theirs.
        """
        parameters, middle, covariance = self.parameters, self.middle, self.covariance
        return Fits(
            parameters[chosen],
            middle[chosen],
            covariance[chosen],
            self.chi2[chosen],
            self.last[chosen],
            self.pixels[chosen],
            self.active[chosen],
        )


def starting(
    positions_px: Floats,
    height: Floats,
    background: Floats,
    sigma_px: float,
) -> Fits:
    """Lay out the fits at their first guesses.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        First guesses.
    height : ndarray, shape (n,)
        Over the background.
    background : ndarray, shape (n,)
        Around each.
    sigma_px : float
        Of all.

    Returns
    -------
    Fits
        All active.
    """
    n = len(positions_px)
    log_sigma = np.full(n, np.log(sigma_px))
    parameters = np.column_stack([positions_px, height, log_sigma, background])
    return Fits(
        np.ascontiguousarray(parameters),
        np.rint(positions_px).astype(np.int64),
        np.zeros((n, 5, 5)),
        np.zeros(n),
        np.zeros((n, 3)),
        np.zeros(n, np.int64),
        np.ones(n, np.bool_),
    )


def improve(
    image: Image,
    model: Image | None,
    fits: Fits,
    window: Window,
) -> None:
    """Make one step of Fisher scoring in every active fit, in place.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        The pixels.
    model : ndarray, shape (ny, nx), or None
        All columns drawn with the present parameters; None: each column as if it were alone.
    fits : Fits
        Where the fits stand.
    window : Window
        What they share.

    Notes
    -----
    With expected values m and variances v = gain * m + offset, gradients J of m and P the prior's
    information, the step is ``(J^T J/v + P)^-1 (J^T (image - m)/v + P (prior - now))``: Newton's
    method on the quasi-likelihood with its expected curvature. Weights belong to the model, never
    to the data, whose own noise would bias amplitudes.
    """
    halves = disc(window.radius_px)
    images = (image, image if model is None else model, model is None)

    def _chunk(start: int, stop: int) -> None:
        _improve_rows(images, fits.rows(slice(start, stop)), window, halves)

    # Converged fits cost nothing, and a few active ones are not worth a second thread.
    moving = max(1, int(np.count_nonzero(fits.active)))
    for_chunks(_chunk, len(fits.chi2), smallest=SMALLEST_CHUNK * len(fits.chi2) // moving)


def disc(radius_px: float) -> Places:
    """List the rows of a window.

    Parameters
    ----------
    radius_px : float
        Its radius.

    Returns
    -------
    ndarray, shape (rows,)
        How many pixels each row reaches to either side of the middle.
    """
    reach = int(radius_px)
    halves = np.sqrt(radius_px**2 - np.arange(-reach, reach + 1) ** 2)
    return np.asarray(halves, dtype=np.int64)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _improve_rows(
    images: tuple[Image, Image, bool], fits: Fits, window: Window, halves: Places
) -> None:
    # Unpacked here: unpacking in the loop would cost reference counting for each column.
    (image, drawn, is_alone), (parameters, middles, covariances, _, lasts, _, active) = images, fits
    normal, right, step = np.zeros((5, 5)), np.empty(5), np.empty(5)
    away, patch = _laid_out(halves), np.zeros((5, _room(halves)), np.float32)
    patch[:2, : away.shape[1]] = away
    for n in range(len(parameters)):
        if not active[n]:
            continue
        now, middle, covariance = parameters[n], middles[n], covariances[n]
        pixels = _copied(image, drawn, middle, away, patch)
        if is_alone:
            _draw_alone(patch, middle, now)
        fits.chi2[n] = _sums(patch, middle, now, window, normal, right)
        fits.pixels[n] = pixels
        normal[LOG_SIGMA, LOG_SIGMA] += window.precision
        usual = usual_log_sigma(window.widths, now[AMPLITUDE])
        right[LOG_SIGMA] += window.precision * (usual - now[LOG_SIGMA])
        normal[BACKGROUND, BACKGROUND] += window.background_precision
        right[BACKGROUND] += window.background_precision * (window.background - now[BACKGROUND])
        if pixels < FEWEST_PIXELS or not factorised(normal):
            _give_up(fits, n, window)
            continue
        inverse(normal, covariance)
        length = _moved(now, covariance, right, lasts[n], step)
        active[n] = length > max(TOLERANCE_PX, TOLERANCE * np.sqrt(covariance[Y, Y]))
        if _is_away(now, middle, window):
            _give_up(fits, n, window)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _give_up(fits: Fits, n: int, window: Window) -> None:
    """Leave a column of no height; a usual one in the middle if the step led to no numbers."""
    now, middle = fits.parameters[n], fits.middle[n]
    if not np.all(np.isfinite(now)):
        now[Y], now[X] = middle[0], middle[1]
        now[LOG_SIGMA], now[BACKGROUND] = window.widths.log_sigma, window.background
    now[AMPLITUDE], fits.pixels[n], fits.active[n] = 0.0, 0, False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _room(halves: Places) -> int:
    """Pixels of a window, padded to a whole number of SIMD vectors; padding has zero weight."""
    return int(-(-np.sum(2 * halves + 1) // VECTOR) * VECTOR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _laid_out(halves: Places) -> Places:
    """List how far the pixels of a window lie from its middle, along y and x."""
    away, count = np.empty((2, np.sum(2 * halves + 1)), np.int64), 0
    for row in range(len(halves)):
        for j in range(-halves[row], halves[row] + 1):
            away[0, count], away[1, count] = row - len(halves) // 2, j
            count += 1
    return away


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _copied(image: Image, drawn: Image, middle: Places, away: Places, patch: Image) -> int:
    """Copy a window: value, expected without background, and 1 for what lies in the image."""
    height, width, inside = np.uint64(image.shape[0]), np.uint64(image.shape[1]), 0
    for k in range(away.shape[1]):
        # Unsigned: what lies before the first line or pixel is far behind the last.
        i, j = np.uint64(middle[0] + away[0, k]), np.uint64(middle[1] + away[1, k])
        patch[4, k] = 0.0
        if i < height and j < width:
            patch[2, k], patch[3, k], patch[4, k] = image[i, j], drawn[i, j], 1.0
            inside += 1
    return inside


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _falling(x: np.float32) -> np.float32:
    """Return exp(-x) for x from 0 to 12, within 3e-6 of 1: a series for one eighth of it."""
    x = x * EIGHTH
    series = ONE + x * (ONE + x * (C2 + x * (C3 + x * (C4 + x * (C5 + x * C6)))))
    eighth = np.float32(ONE / series)
    quarter = eighth * eighth
    half = quarter * quarter
    return half * half


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FREE_ORDER)
def _draw_alone(patch: Image, middle: Places, now: Floats) -> None:
    fy, fx = np.float32(now[Y] - middle[0]), np.float32(now[X] - middle[1])
    half_inverse = np.float32(0.5 * np.exp(-2.0 * now[LOG_SIGMA]))
    amplitude = np.float32(now[AMPLITUDE])
    for k in range(patch.shape[1]):
        dy, dx = patch[0, k] - fy, patch[1, k] - fx
        patch[3, k] = amplitude * _falling(half_inverse * (dy * dy + dx * dx))


# Reordering of the sums is allowed, or they could not be vectorised; results stay reproducible.
@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FREE_ORDER)
def _sums(
    patch: Image, middle: Places, now: Floats, window: Window, normal: Floats, right: Floats
) -> float:
    """Sum J^T J / v (lower triangle), J^T r / v and r^2 / v, which is returned."""
    yy = xy = xx = ay = ax = aa = sy = sx = ss = by = bx = ba = bs = bb = np.float32(0.0)
    ry = rx = ra = rs = rb = chi2 = np.float32(0.0)
    fy, fx = np.float32(now[Y] - middle[0]), np.float32(now[X] - middle[1])
    half_inverse = np.float32(0.5 * np.exp(-2.0 * now[LOG_SIGMA]))
    background, gain = np.float32(now[BACKGROUND]), np.float32(window.gain)
    offset = np.float32(window.offset + window.gain * now[BACKGROUND])
    floor = np.float32(window.floor)
    for k in range(patch.shape[1]):
        dy, dx = patch[0, k] - fy, patch[1, k] - fx
        square = dy * dy + dx * dx
        e = _falling(half_inverse * square)
        weight = patch[4, k] / max(gain * patch[3, k] + offset, floor)
        residual = patch[2, k] - patch[3, k] - background
        we, wr = weight * e, weight * residual
        wee, wre = we * e, wr * e
        weey, weex, wees = wee * dy, wee * dx, wee * square
        yy, xy, xx = yy + weey * dy, xy + weey * dx, xx + weex * dx
        ay, ax, aa = ay + weey, ax + weex, aa + wee
        sy, sx, ss = sy + wees * dy, sx + wees * dx, ss + wees * square
        by, bx, bs = by + we * dy, bx + we * dx, bs + we * square
        ba, bb = ba + we, bb + weight
        ry, rx, rs = ry + wre * dy, rx + wre * dx, rs + wre * square
        ra, rb, chi2 = ra + wre, rb + wr, chi2 + wr * residual
    sums = (yy, xy, xx, ay, ax, aa, sy, sx, yy + xx, ss, by, bx, ba, bs, bb, ry, rx, ra, rs, rb)
    # The gradients by y, x and log sigma have the factor amplitude / sigma^2 in common.
    _fill(sums, 2.0 * now[AMPLITUDE] * half_inverse, normal, right)
    return float(chi2)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill(sums: Sums, slope: float, normal: Floats, right: Floats) -> None:
    count = 0
    for a in range(5):
        for b in range(a + 1):
            normal[a, b] = sums[count]
            count += 1
    for a in range(5):
        right[a] = sums[count + a]
    for a in (Y, X, LOG_SIGMA):
        right[a] *= slope
        for b in range(5):
            normal[a, b] *= slope
            normal[b, a] *= slope


@numba.njit(cache=True, nogil=True, error_model="numpy")
def factorised(lower: Floats) -> bool:
    """Factorise a matrix of five parameters; for compiled callers.

    Parameters
    ----------
    lower : ndarray, shape (5, 5)
        Its lower triangle is replaced by its Cholesky factor.

    Returns
    -------
    bool
        False if it is not positive.
    """
    for i in range(5):
        for j in range(i + 1):
            total = lower[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i > j:
                lower[i, j] = total / lower[j, j]
            elif total > 0.0:
                lower[i, i] = np.sqrt(total)
            else:
                return False
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def inverse(lower: Floats, result: Floats) -> None:
    """Fill in the inverse of a matrix; for compiled callers.

    Parameters
    ----------
    lower : ndarray, shape (5, 5)
        From `factorised`; it is used up.
    result : ndarray, shape (5, 5)
        Written to.
    """
    for i in range(5):
        lower[i, i] = 1.0 / lower[i, i]
        for j in range(i):
            total = 0.0
            for k in range(j, i):
                total -= lower[i, k] * lower[k, j]
            lower[i, j] = total * lower[i, i]
    for i in range(5):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, 5):
                total += lower[k, i] * lower[k, j]
            result[i, j] = result[j, i] = total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _is_away(now: Floats, middle: Places, window: Window) -> bool:
    away = (now[Y] - middle[0]) ** 2 + (now[X] - middle[1]) ** 2
    return not away < (FARTHEST * window.radius_px) ** 2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _moved(now: Floats, covariance: Floats, right: Floats, last: Floats, step: Floats) -> float:
    """Take the step, scaled by Aitken's factor; return its unscaled length in px.

    Fits of overlapping columns explain the same pixels in turn and would oscillate: the factor,
    from the last two steps of each, damps that.
    """
    for i in range(5):
        step[i] = 0.0
        for j in range(5):
            step[i] += covariance[i, j] * right[j]
    change_y, change_x = step[Y] - last[Y], step[X] - last[X]
    change = change_y**2 + change_x**2
    share = 1.0
    if last[2] > 0.0 and change > 0.0:
        share = -last[2] * (last[Y] * change_y + last[X] * change_x) / change
        share = min(max(share, SHORTEST_SHARE), LONGEST_SHARE)
    last[Y], last[X], last[2] = step[Y], step[X], share
    length = np.sqrt(step[Y] ** 2 + step[X] ** 2)
    share = min(share, LONGEST_STEP * np.exp(now[LOG_SIGMA]) / max(length, 1e-30))
    share = min(share, LONGEST_LOG_STEP / max(abs(step[LOG_SIGMA]), 1e-30))
    for i in range(5):
        now[i] += share * step[i]
    return float(length)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gradient(parameters: Floats, i: int, j: int, result: Floats) -> None:
    """Fill in the gradient of what a column adds to a pixel, by its parameters.

    Parameters
    ----------
    parameters : ndarray, shape (5,)
        The column's.
    i, j : int
        The pixel.
    result : ndarray, shape (5,)
        Written to.
    """
    dy, dx = i - parameters[Y], j - parameters[X]
    inverse = np.exp(-2.0 * parameters[LOG_SIGMA])
    shape = np.exp(-0.5 * inverse * (dy * dy + dx * dx))
    slope = parameters[AMPLITUDE] * shape * inverse
    result[Y], result[X] = slope * dy, slope * dx
    result[AMPLITUDE], result[LOG_SIGMA] = shape, slope * (dy * dy + dx * dx)
    result[BACKGROUND] = 1.0


def hottest(image: Image, model: Image, fits: Fits, window: Window) -> Floats:
    """Find the share of the worst pixel in each fit's chi^2.

    Parameters
    ----------
    image, model : ndarray, shape (ny, nx)
        As in `improve`.
    fits : Fits
        Where they have come to.
    window : Window
        What they share.

    Returns
    -------
    ndarray, shape (n,)
        From 0 to 1; near 1 for a single hot pixel.
    """
    share = np.empty(len(fits.chi2))
    halves = disc(window.radius_px)

    def _chunk(start: int, stop: int) -> None:
        part = slice(start, stop)
        _hottest_rows(image, model, fits.rows(part), window, (halves, share[part]))

    for_chunks(_chunk, len(share), smallest=SMALLEST_CHUNK)
    return share


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _hottest_rows(
    image: Image, drawn: Image, fits: Fits, window: Window, into: tuple[Places, Floats]
) -> None:
    halves, share = into
    reach = len(halves) // 2
    for n in range(len(share)):
        background, worst, total = fits.parameters[n, BACKGROUND], 0.0, 0.0
        y, x = fits.middle[n]
        for i in range(max(0, y - reach), min(image.shape[0], y + reach + 1)):
            half = halves[i - y + reach]
            for j in range(max(0, x - half), min(image.shape[1], x + half + 1)):
                expected = background + drawn[i, j]
                variance = max(window.gain * expected + window.offset, window.floor)
                term = (image[i, j] - expected) ** 2 / variance
                worst, total = max(worst, term), total + term
        share[n] = worst / max(total, 1e-30)
