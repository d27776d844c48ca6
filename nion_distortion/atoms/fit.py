"""All columns of an image fitted at once: a Gaussian and a constant each, neighbours taken out."""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks

__all__ = ["Fits", "Window", "improve", "render", "starting"]

Y, X, AMPLITUDE, LOG_SIGMA, BACKGROUND = range(5)
"""The five parameters of a column."""

RENDERED = 4.5
"""A Gaussian is drawn this many sigma far: 4e-5 of its height is left out."""

LONGEST_STEP, LONGEST_LOG_STEP = 0.5, 0.3
"""Limits of one step: of the position in sigma, and of log sigma."""

SHORTEST_SHARE, LONGEST_SHARE = 0.5, 1.5
"""Limits of the share of a step that is taken."""

TOLERANCE_PX, TOLERANCE = 1e-3, 0.01
"""A step that is shorter, or than this share of the position's error, ends a fit."""

FARTHEST = 0.6
"""A position this share of the radius from the middle of its window is no longer in it."""

FEWEST_PIXELS, SMALLEST_CHUNK = 9, 128
"""Fewer pixels make no fit; fewer columns need no second thread."""


class Window(NamedTuple):
    """What all fits of an image share.

    Attributes
    ----------
    radius_px : float
        Pixels this far from the column's first pixel are looked at.
    log_sigma : float
        Centre of the prior on a column's width.
    precision : float
        Of that prior, one over the variance of log sigma.
    gain : float
        Variance of a pixel for each unit of its expected value; negative for dark columns.
    offset : float
        Variance at zero.
    floor : float
        Least variance.
    """

    radius_px: float
    log_sigma: float
    precision: float
    gain: float
    offset: float
    floor: float


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
    worst : ndarray, shape (n,)
        The largest term of that sum.
    last : ndarray, shape (n, 3)
        The last step of the position, and the share of it that was taken; 0: none yet.
    pixels : ndarray, shape (n,)
        How many there are in the window; 0 where the fit broke down.
    active : ndarray, shape (n,)
        Whether the last step was longer than the tolerance.
    """

    parameters: npt.NDArray[np.float64]
    middle: npt.NDArray[np.int64]
    covariance: npt.NDArray[np.float64]
    chi2: npt.NDArray[np.float64]
    worst: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]

    def kept(self, keep: npt.NDArray[np.bool_]) -> "Fits":
        """Return some of the rows.

        Parameters
        ----------
        keep : ndarray, shape (n,)
            Which.

        Returns
        -------
        Fits
            Copies of them.
        """
        return Fits(*(array[keep] for array in self))


def starting(
    positions_px: npt.NDArray[np.float64],
    height: npt.NDArray[np.float64],
    background: npt.NDArray[np.float64],
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
        np.zeros(n),
        np.zeros((n, 3)),
        np.zeros(n, np.int64),
        np.ones(n, np.bool_),
    )


def render(parameters: npt.NDArray[np.float64], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Draw all Gaussians into one image, without their backgrounds.

    Parameters
    ----------
    parameters : ndarray, shape (n, 5)
        As in `Fits`.
    shape : tuple of int
        Of the image.

    Returns
    -------
    ndarray, shape (ny, nx)
        Their sum. Each thread draws rows of its own, always in the same order of columns.
    """
    image = np.zeros(shape, np.float32)

    def rows(start: int, stop: int) -> None:
        _render_rows(image, parameters, start, stop)

    for_chunks(rows, shape[0], smallest=64)
    return image


@numba.njit(cache=True, nogil=True)
def _render_rows(
    image: npt.NDArray[np.float32], parameters: npt.NDArray[np.float64], start: int, stop: int
) -> None:
    along = np.empty(image.shape[1], np.float32)
    for n in range(len(parameters)):
        y, x, amplitude, log_sigma = parameters[n, :4]
        sigma = np.exp(log_sigma)
        reach = RENDERED * sigma
        first, last = max(start, int(np.ceil(y - reach))), min(stop - 1, int(np.floor(y + reach)))
        if first > last:
            continue
        left = max(0, int(np.ceil(x - reach)))
        right = min(image.shape[1] - 1, int(np.floor(x + reach)))
        scale = -0.5 / sigma**2
        for j in range(left, right + 1):
            along[j] = np.exp(scale * (j - x) ** 2)
        for i in range(first, last + 1):
            height = np.float32(amplitude * np.exp(scale * (i - y) ** 2))
            for j in range(left, right + 1):
                image[i, j] += height * along[j]


def improve(
    image: npt.NDArray[np.float32],
    model: npt.NDArray[np.float32] | None,
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
    alone = model is None
    drawn = image if model is None else model

    def rows(start: int, stop: int) -> None:
        _improve_rows(image, drawn, Fits(*(array[start:stop] for array in fits)), window, alone)

    for_chunks(rows, len(fits.chi2), smallest=SMALLEST_CHUNK)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _improve_rows(
    image: npt.NDArray[np.float32],
    drawn: npt.NDArray[np.float32],
    fits: Fits,
    window: Window,
    alone: bool,
) -> None:
    normal, right = np.empty((5, 5)), np.empty(5)
    for n in range(len(fits.chi2)):
        if not fits.active[n]:
            continue
        now = fits.parameters[n]
        equations = (normal, right)
        chi2, worst, pixels = _accumulate(
            (image, drawn), now, fits.middle[n], window, alone, equations
        )
        normal[LOG_SIGMA, LOG_SIGMA] += window.precision
        right[LOG_SIGMA] += window.precision * (window.log_sigma - now[LOG_SIGMA])
        if pixels < FEWEST_PIXELS or not _inverted(normal, fits.covariance[n]):
            fits.pixels[n], fits.active[n] = 0, False
            continue
        fits.chi2[n], fits.worst[n], fits.pixels[n] = chi2, worst, pixels
        length = _moved(now, fits.covariance[n], right, fits.last[n])
        fits.active[n] = length > max(TOLERANCE_PX, TOLERANCE * np.sqrt(fits.covariance[n, Y, Y]))
        if _ran_away(now, fits.middle[n], window):
            now[AMPLITUDE], fits.pixels[n], fits.active[n] = 0.0, 0, False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ran_away(now, middle, window):
    """Tell whether a fit has left the middle of its window."""
    away = (now[Y] - middle[0]) ** 2 + (now[X] - middle[1]) ** 2
    return not away < (FARTHEST * window.radius_px) ** 2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(images, now, middle, window, alone, equations):
    """Sum J^T J/v, J^T r/v and r^2/v over the disc of one column."""
    image, drawn = images
    normal, right = equations
    normal[:] = 0.0
    right[:] = 0.0
    reach, inverse = int(window.radius_px), np.exp(-2.0 * now[LOG_SIGMA])
    chi2, worst, pixels = 0.0, 0.0, 0
    for i in range(max(0, middle[0] - reach), min(image.shape[0] - 1, middle[0] + reach) + 1):
        half = int(np.sqrt(window.radius_px**2 - (i - middle[0]) ** 2))
        first = max(0, middle[1] - half)
        stop = min(image.shape[1], middle[1] + half + 1)
        dy = i - now[Y]
        place = (dy, first - now[X], inverse)
        sums = _row_sums((image[i, first:stop], drawn[i, first:stop]), now, place, window, alone)
        _add_row(normal, right, sums, dy)
        chi2 += sums[13]
        worst = max(worst, sums[14])
        pixels += max(0, stop - first)
    _scale(normal, right, now[AMPLITUDE] * inverse)
    return chi2, worst, pixels


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _row_sums(rows, now, place, window, alone):
    """Sums along a row: e^2 dx^k (k = 0..4), e dx^k, 1, r e dx^k (k = 0..2), r, r^2, all over v."""
    values, drawn = rows
    dy, dx, inverse = place
    amplitude, background = now[AMPLITUDE], now[BACKGROUND]
    worst = 0.0
    e2_0 = e2_1 = e2_2 = e2_3 = e2_4 = e_0 = e_1 = e_2 = one = 0.0
    r_0 = r_1 = r_2 = r = r2 = 0.0
    # exp(-(dx + 1)^2 / 2 s^2) follows from exp(-dx^2 / 2 s^2) by one factor, itself a recurrence.
    e = np.exp(-0.5 * inverse * (dy * dy + dx * dx))
    factor, change = np.exp(-inverse * (dx + 0.5)), np.exp(-inverse)
    for k in range(len(values)):
        expected = background + (amplitude * e if alone else drawn[k])
        weight = 1.0 / max(window.gain * expected + window.offset, window.floor)
        residual = values[k] - expected
        we, wr = weight * e, weight * residual
        wee, wre, xx = we * e, we * residual, dx * dx
        e2_0 += wee
        e2_1 += wee * dx
        e2_2 += wee * xx
        e2_3 += wee * xx * dx
        e2_4 += wee * xx * xx
        e_0 += we
        e_1 += we * dx
        e_2 += we * xx
        one += weight
        r_0 += wre
        r_1 += wre * dx
        r_2 += wre * xx
        r += wr
        r2 += wr * residual
        worst = max(worst, wr * residual)
        e *= factor
        factor *= change
        dx += 1.0
    return e2_0, e2_1, e2_2, e2_3, e2_4, e_0, e_1, e_2, one, r_0, r_1, r_2, r, r2, worst


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_row(normal, right, sums, dy):
    """Add a row's sums to the lower triangle, dy being the same along the row."""
    e2_0, e2_1, e2_2, e2_3, e2_4, e_0, e_1, e_2, one, r_0, r_1, r_2, r, _, _ = sums
    yy = dy * dy
    normal[Y, Y] += e2_0 * yy
    normal[X, Y] += e2_1 * dy
    normal[X, X] += e2_2
    normal[AMPLITUDE, Y] += e2_0 * dy
    normal[AMPLITUDE, X] += e2_1
    normal[AMPLITUDE, AMPLITUDE] += e2_0
    normal[LOG_SIGMA, Y] += dy * (e2_0 * yy + e2_2)
    normal[LOG_SIGMA, X] += e2_1 * yy + e2_3
    normal[LOG_SIGMA, AMPLITUDE] += e2_0 * yy + e2_2
    normal[LOG_SIGMA, LOG_SIGMA] += e2_0 * yy * yy + 2.0 * yy * e2_2 + e2_4
    normal[BACKGROUND, Y] += e_0 * dy
    normal[BACKGROUND, X] += e_1
    normal[BACKGROUND, AMPLITUDE] += e_0
    normal[BACKGROUND, LOG_SIGMA] += e_0 * yy + e_2
    normal[BACKGROUND, BACKGROUND] += one
    right[Y] += r_0 * dy
    right[X] += r_1
    right[AMPLITUDE] += r_0
    right[LOG_SIGMA] += r_0 * yy + r_2
    right[BACKGROUND] += r


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _scale(normal, right, factor):
    """Give the gradients of y, x and log sigma their common factor A/sigma^2."""
    for i in (Y, X, LOG_SIGMA):
        right[i] *= factor
        for j in range(5):
            normal[i, j] *= factor
            normal[j, i] *= factor


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _inverted(lower, inverse):
    """Invert a symmetric 5 x 5 matrix by Cholesky; False where it is not positive."""
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
    for i in range(5):  # in place: the inverse of the factor
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
            inverse[i, j] = inverse[j, i] = total
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _moved(now, covariance, right, last):
    """Take the step, at its own length where neighbours alternate; return its length in px.

    Fits of overlapping columns take turns in the same pixels. Aitken's factor, from the last two
    steps of each, stops them from swinging.
    """
    step = np.zeros(5)
    for i in range(5):
        for j in range(5):
            step[i] += covariance[i, j] * right[j]
    change_y, change_x = step[Y] - last[Y], step[X] - last[X]
    change = change_y**2 + change_x**2
    if last[2] > 0.0 and change > 0.0:
        share = -last[2] * (last[Y] * change_y + last[X] * change_x) / change
        share = min(max(share, SHORTEST_SHARE), LONGEST_SHARE)
    else:
        share = 1.0
    last[Y], last[X], last[2] = step[Y], step[X], share
    length = np.sqrt(step[Y] ** 2 + step[X] ** 2)
    longest = LONGEST_STEP * np.exp(now[LOG_SIGMA])
    share = min(share, longest / max(length, 1e-30))
    share = min(share, LONGEST_LOG_STEP / max(abs(step[LOG_SIGMA]), 1e-30))
    for i in range(5):
        now[i] += share * step[i]
    return length
