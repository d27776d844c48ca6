"""What the columns of an image have in common, learnt from those that are seen well."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion.atoms.drawing import (
    AMPLITUDE,
    BACKGROUND,
    LOG_SIGMA,
    Floats,
    Image,
    Tail,
    Y,
    draw_anew,
    render,
)
from nion_distortion.atoms.fit import Fits, Window, improve

__all__ = ["learnt_tail", "learnt_window", "tail_of", "unseen_share"]

TAIL_RADIUS, NO_COLUMN = 5.0, 4.0
"""Where a column's tail ends, in sigma; and times what nine of ten amplitudes stay under, that of a
hot pixel."""

USUAL_TAIL, USUAL_SPREAD, HIGHEST_TAIL = 0.06, 0.04, 0.25
"""Height of the tail over the column's: what calculated images have, its spread, and a limit."""

IN_STRIP, RIM = 600, 8.0
"""Columns from whose tails is learnt, about; and sigma from the border, where columns beyond it
shine in."""

TRIED, STEPS, OVERLAP = (0.06, 0.12), 3, 2.0
"""Heights with which they are fitted, in so many steps; and how many windows a pixel is in."""

FOLLOWED = 30.0
"""How much too low a height is seen, in squares of the positions' variance over sigma^2."""

TAUGHT, FEWEST_TEACHERS = 1000, 12
"""Columns from which is learnt, about, and with fewer of which nothing is."""

LEAST_SIGNAL = 4.0
"""Amplitude over its error of a column from which something is learnt."""

LEAST_WIDTH_SPREAD, LEAST_BACKGROUND_SPREAD = 0.03, 0.05
"""Of log sigma, and of the background in the typical column's height: none are more alike."""


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
        `TAIL_RADIUS` sigma wide, whatever each column's own width is.
    """
    high = float(np.quantile(fits.parameters[:, AMPLITUDE], 0.9)) if len(fits.chi2) else 0.0
    return Tail(height, TAIL_RADIUS * float(np.exp(window.log_sigma)), NO_COLUMN * high)


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
    count. Positions that follow the noise leave too little over: so far the height is not
    believed, and what is usual takes its place.

    References
    ----------
    .. [1] Anderson, King, Toward high-precision astrometry with WFPC2. I. Deriving an accurate
       point-spread function, Publications of the Astronomical Society of the Pacific, 2000.
    """
    sigma_px = float(np.exp(window.log_sigma))
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
    """Sum what is left times its change, and its change squared, over all windows' variances."""
    image, drawn, other = images
    radius, reach = window.radius_px, int(window.radius_px)
    both = spread = 0.0
    for n in range(len(low.chi2)):
        y, x = low.middle[n]
        background, changed = low.parameters[n, BACKGROUND], high.parameters[n, BACKGROUND]
        for i in range(max(0, y - reach), min(image.shape[0], y + reach + 1)):
            for j in range(max(0, x - reach), min(image.shape[1], x + reach + 1)):
                if (i - y) ** 2 + (j - x) ** 2 <= radius**2:
                    expected = drawn[i, j] + background
                    change = other[i, j] + changed - expected
                    variance = max(window.gain * expected + window.offset, window.floor)
                    both += (image[i, j] - expected) * change / variance
                    spread += change * change / variance
    return both, spread


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
    square = 0.5 * (y**2 + x**2) * np.exp(-2.0 * window.log_sigma)
    core, fall = np.exp(-square), np.maximum(1.0 - 2.0 * square / TAIL_RADIUS**2, 0.0)
    light = background + height * (core + tail * fall**2)
    weight = y**2 / np.maximum(window.gain * light + window.offset, window.floor)
    seen = np.sum(weight * (core + 4.0 * tail / TAIL_RADIUS**2 * fall) ** 2)
    return float(np.sum(weight * core**2) / seen)


def learnt_window(fits: Fits, window: Window) -> Window:
    """Learn how much widths and backgrounds differ from column to column.

    Parameters
    ----------
    fits : Fits
        Where they stand.
    window : Window
        What they shared.

    Returns
    -------
    Window
        With normal priors on both.
    """
    chosen = _teachers(fits)
    if np.count_nonzero(chosen) < FEWEST_TEACHERS:
        return window
    height = float(np.median(fits.parameters[chosen, AMPLITUDE]))
    # What the old prior pulled together is pulled apart again.
    variance = fits.covariance[chosen, LOG_SIGMA, LOG_SIGMA]
    own = np.maximum(1.0 - window.precision * variance, 0.05)
    widths = window.log_sigma + (fits.parameters[chosen, LOG_SIGMA] - window.log_sigma) / own
    log_sigma, width_spread = _spread(widths, variance / own)
    background, spread = _spread(
        fits.parameters[chosen, BACKGROUND], fits.covariance[chosen, BACKGROUND, BACKGROUND]
    )
    return window._replace(
        log_sigma=log_sigma,
        precision=max(width_spread, LEAST_WIDTH_SPREAD) ** -2,
        background=background,
        background_precision=max(spread, LEAST_BACKGROUND_SPREAD * height) ** -2,
    )


def _spread(values: Floats, variance: Floats) -> tuple[float, float]:
    """Centre and standard deviation of what was measured with errors of some variance."""
    centre = float(np.median(values))
    seen = (1.4826 * float(np.median(np.abs(values - centre)))) ** 2
    return centre, float(np.sqrt(max(seen - float(np.median(variance)), 0.0)))


def _teachers(fits: Fits) -> npt.NDArray[np.bool_]:
    variance = np.maximum(fits.covariance[:, AMPLITUDE, AMPLITUDE], 1e-30)
    chosen = fits.parameters[:, AMPLITUDE] > LEAST_SIGNAL * np.sqrt(variance)
    chosen &= fits.pixels == fits.pixels.max(initial=0)
    rows = np.flatnonzero(chosen)
    taught = np.zeros(len(chosen), np.bool_)
    taught[rows[:: max(1, len(rows) // TAUGHT)]] = True
    return taught
