"""The tails of columns: how high they are, learnt from what fits of their cores leave over."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion.atoms.drawing import (
    AMPLITUDE,
    BACKGROUND,
    LOG_SIGMA,
    TAIL_RADIUS,
    Floats,
    Image,
    Places,
    Tail,
    X,
    Y,
    draw_anew,
    render,
)
from nion_distortion.atoms.fit import Fits, Window, improve
from nion_distortion.atoms.learning import FEWEST_TEACHERS
from nion_distortion.atoms.view import WIDTH_PRIOR

__all__ = ["learnt_tail", "tail_of", "unseen_share"]

NO_COLUMN = 4.0
"""Times what nine of ten amplitudes stay under, the amplitude of a hot pixel."""

USUAL_TAIL, USUAL_SPREAD, HIGHEST_TAIL = 0.06, 0.04, 0.25
"""Height of the tail over the column's: what calculated images have, its spread, and a limit."""

IN_STRIP, RIM = 600, 8.0
"""Columns from whose tails is learnt, about; and sigma from the border, where columns beyond it
shine in."""

TRIED, STEPS, OVERLAP = (0.06, 0.12), 3, 2.0
"""Heights with which they are fitted, in so many steps; and how many windows a pixel is in."""

LOOSER = 10.0
"""What divides the precision of backgrounds while tails are learnt."""

FOLLOWED = 15.0
"""How wrong a height may be seen yet, in squares of the positions' variance over sigma^2."""

STRETCHES, CHANGE, LEFT, SUMMED = 4, 4, 5, 6
"""What is summed in a window: shapes of a stretched scan, the change by a higher tail, and what is
left over."""


def tail_of(height: float, fits: Fits, window: Window) -> Tail:
    """Say how the tails of an image are drawn.

    Parameters
    ----------
    height : float
        Over the amplitude of the Gaussians.
    fits : Fits
        Where they stand.
    window : Window
        With their width.

    Returns
    -------
    Tail
        As wide as columns of an amplitude are usually, whatever each column's own width is.
    """
    high = float(np.quantile(fits.parameters[:, AMPLITUDE], 0.9)) if len(fits.chi2) else 0.0
    return Tail(height, window.widths, NO_COLUMN * high)


def learnt_tail(image: Image, fits: Fits, window: Window) -> tuple[float, float]:
    """Find how high the tails are, over the height of the columns.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        The pixels, without hot ones.
    fits : Fits
        Where they stand; they have no tails yet.
    window : Window
        What they share.

    Returns
    -------
    height : float
        From zero up.
    background : float
        By how much the backgrounds are higher with such tails than without; below zero.

    Notes
    -----
    In a strip of the image all columns are fitted twice, with tails of two heights, until they
    stand still: as an effective point-spread function is built from stars whose places follow it
    [1]_. What the fits leave over in their windows goes nearly in a line with the height, which is
    chosen by least squares: what positions, heights, widths and backgrounds can imitate does not
    count, nor what a stretched scan does to the columns. Widths and backgrounds were learnt without
    tails, so they are held less than elsewhere. Fits that follow the noise are drawn broader, on
    average, than the columns are: by half their covariance times the curvature of what is drawn,
    which is taken out. Where that is not small, what is usual counts for more.

    References
    ----------
    .. [1] Anderson, King, Toward high-precision astrometry with WFPC2. I. Deriving an accurate
       point-spread function, Publications of the Astronomical Society of the Pacific, 2000.
    """
    sigma_px = float(np.exp(window.widths.log_sigma))
    window = window._replace(
        precision=min(window.precision, WIDTH_PRIOR**-2),
        background_precision=window.background_precision / LOOSER,
    )
    strip, fits = _strip(image, fits, RIM * sigma_px)
    low, low_model = _settled(strip, fits, window, (0.0, TRIED[0]))
    high, high_model = _settled(strip, low, window, TRIED)
    taught = (low.pixels > 0) & (high.pixels > 0) & _inner(low, strip.shape, RIM * sigma_px)
    low, high = low.rows(taught), high.rows(taught)
    both, spread = _sum_left((strip, low_model, high_model), low, high, window)
    if len(low.chi2) < FEWEST_TEACHERS or spread <= 0.0:
        return 0.0, 0.0
    step = TRIED[1] - TRIED[0]
    moved = float(np.mean(low.covariance[:, Y, Y])) / sigma_px**2
    variance = step**2 * OVERLAP / spread + (FOLLOWED * moved**2) ** 2
    known = USUAL_SPREAD**2 / (USUAL_SPREAD**2 + variance)
    seen = TRIED[0] + step * both / spread
    height = float(np.clip(known * seen + (1.0 - known) * USUAL_TAIL, 0.0, HIGHEST_TAIL))
    higher = float(np.median(high.parameters[:, BACKGROUND] - low.parameters[:, BACKGROUND]))
    return height, higher * height / step


def _strip(image: Image, fits: Fits, rim: float) -> tuple[Image, Fits]:
    """Cut out whole lines in the middle of the columns, with about `IN_STRIP` of them."""
    seen = fits.pixels > 0
    rows = fits.parameters[seen, Y]
    if len(rows) == 0:
        return image, fits.rows(seen)
    height = int(max(len(image) * IN_STRIP / len(rows), 4.0 * rim))
    first = max(0, min(int(np.median(rows)) - height // 2, len(image) - height))
    part = image[first : first + height]
    seen &= (fits.middle[:, Y] >= first) & (fits.middle[:, Y] < first + len(part))
    inside = fits.rows(seen)
    inside.parameters[:, Y] -= first
    inside.middle[:, Y] -= first
    return part, inside


def _inner(fits: Fits, shape: tuple[int, ...], rim: float) -> npt.NDArray[np.bool_]:
    farthest = np.array(shape) - 1 - rim
    return np.asarray(np.all((fits.middle >= rim) & (fits.middle <= farthest), axis=1))


def _settled(
    image: Image, fits: Fits, window: Window, heights: tuple[float, float]
) -> tuple[Fits, Image]:
    """Step all columns after a change of their tails; return them, and what is drawn."""
    fits, tail = fits.rows(np.ones(len(fits.chi2), np.bool_)), tail_of(heights[1], fits, window)
    fits.parameters[:, AMPLITUDE] *= 1.0 + heights[0] - heights[1]
    fits.last[:] = 0.0
    model = render(fits.parameters, image.shape, tail)
    for _ in range(STEPS):
        fits.active[:] = fits.pixels > 0
        improve(image, model, fits, window)
        draw_anew(model, fits.parameters, tail)
    return fits, model


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sum_left(
    images: tuple[Image, Image, Image], low: Fits, high: Fits, window: Window
) -> tuple[float, float]:
    """Sum what is left times its change, and its change squared, over all windows' variances.

    Of both, what the stretches can imitate is taken out first, in each window.
    """
    values, products = np.empty(SUMMED), np.empty((SUMMED, SUMMED))
    both = spread = 0.0
    for n in range(len(low.chi2)):
        column = (low.middle[n], low.parameters[n], low.covariance[n])
        higher = high.parameters[n, BACKGROUND] - low.parameters[n, BACKGROUND]
        _sum_products(images, column, higher, window, (values, products))
        for k in range(STRETCHES):
            for a in range(k + 1, SUMMED):
                share = products[a, k] / max(products[k, k], 1e-30)
                for b in range(k + 1, a + 1):
                    products[a, b] -= share * products[b, k]
        both += products[LEFT, CHANGE]
        spread += products[CHANGE, CHANGE]
    return both, spread


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sum_products(
    images: tuple[Image, Image, Image],
    column: tuple[Places, Floats, Floats],
    higher: float,
    window: Window,
    into: tuple[Floats, Floats],
) -> None:
    """Sum the products (lower triangle) of all that is compared in the window of one column."""
    (image, drawn, other), (middle, now, covariance), (values, products) = images, column, into
    radius, reach = window.radius_px, int(window.radius_px)
    inverse = np.exp(-2.0 * now[LOG_SIGMA])
    products[:] = 0.0
    for i in range(max(0, middle[0] - reach), min(image.shape[0], middle[0] + reach + 1)):
        for j in range(max(0, middle[1] - reach), min(image.shape[1], middle[1] + reach + 1)):
            if (i - middle[0]) ** 2 + (j - middle[1]) ** 2 > radius**2:
                continue
            dy, dx = i - now[Y], j - now[X]
            square = inverse * (dy * dy + dx * dx)
            core = np.exp(-0.5 * square)
            # of its own core, and of the tails of those around it
            values[2], values[3] = inverse * (dy * dy - dx * dx), inverse * dy * dx
            values[0], values[1] = core * values[2], core * values[3]
            expected = drawn[i, j] + now[BACKGROUND]
            values[CHANGE] = other[i, j] - drawn[i, j] + higher
            values[LEFT] = image[i, j] - expected
            values[LEFT] += core * _curved(now[AMPLITUDE], covariance, (dy, dx), inverse)
            weight = 1.0 / max(window.gain * expected + window.offset, window.floor)
            for a in range(SUMMED):
                for b in range(a + 1):
                    products[a, b] += weight * values[a] * values[b]


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _curved(
    amplitude: float, covariance: Floats, away: tuple[float, float], inverse: float
) -> float:
    """Return half the curvature of a core times the errors of its fit, over the core."""
    (dy, dx), c = away, covariance
    square = inverse * (dy * dy + dx * dx)
    moved = inverse * (dy * dy * c[0, 0] + 2.0 * dy * dx * c[0, 1] + dx * dx * c[1, 1])
    total = 0.5 * amplitude * inverse * (moved - c[0, 0] - c[1, 1])
    total += inverse * (dy * c[0, 2] + dx * c[1, 2]) + square * c[2, 3]
    total += amplitude * inverse * (square - 2.0) * (dy * c[0, 3] + dx * c[1, 3])
    return float(total + 0.5 * amplitude * square * (square - 2.0) * c[3, 3])


def unseen_share(fits: Fits, window: Window, tail: float) -> float:
    """Say by how much the variance of a position is smaller than cores alone make it.

    Parameters
    ----------
    fits : Fits
        Where they have come to.
    window : Window
        What they share.
    tail : float
        Height of the tails.

    Returns
    -------
    float
        Up to one: the information of cores over that of cores with tails, of a typical column.
    """
    if tail == 0.0:
        return 1.0
    height, background = np.median(fits.parameters[::8, [AMPLITUDE, BACKGROUND]], axis=0)
    reach = int(window.radius_px)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    square = 0.5 * (y**2 + x**2) * np.exp(-2.0 * window.widths.log_sigma)
    core, fall = np.exp(-square), np.maximum(1.0 - 2.0 * square / TAIL_RADIUS**2, 0.0)
    light = background + height * (core + tail * fall**2)
    weight = y**2 / np.maximum(window.gain * light + window.offset, window.floor)
    seen = np.sum(weight * (core + 4.0 * tail / TAIL_RADIUS**2 * fall) ** 2)
    return float(np.sum(weight * core**2) / seen)
