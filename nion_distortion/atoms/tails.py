"""The tails of columns: their relative height, learnt from the residuals of fits of the cores."""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._order import median, quantiles
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

__all__ = ["NOTHING_SEEN", "TailSeen", "learnt_tail", "tail_of", "unseen_share"]

NO_COLUMN = 4.0
"""Multiple of the 90th percentile of amplitudes beyond which one is a hot pixel, without a tail."""

USUAL_TAIL, USUAL_SPREAD, HIGHEST_TAIL = 0.06, 0.04, 0.25
"""Prior on the tail's height relative to the core's, from calculated images: mean and standard
deviation; and the upper limit."""

IN_STRIP, RIM = 600, 8.0
"""Number of columns, about, that tails are learnt from; and margin in sigma at the border, where
columns beyond it contribute."""

TRIED, STEPS, OVERLAP = (0.06, 0.12), 3, 2.0
"""The two tail heights that are tried, iterations with each, and how many windows share a pixel."""

LOOSER = 10.0
"""Factor by which the prior precision of backgrounds is reduced while tails are learnt."""

FOLLOWED = 15.0
"""Remaining systematic error of the height (standard deviation), in units of the square of
position variance over sigma^2."""

STRETCHES, CHANGE, LEFT, SUMMED = 4, 4, 5, 6
"""Quantities whose products are summed in a window: the first four (0 to 3) are what a locally
stretched scan does, then the change by a higher tail, then the residual; and how many there are."""


MEMORY, CHANGED = 1.25, 4.0
"""Factor by which the variance of what earlier frames showed grows before another frame is added;
and standard errors by which it contradicts them, so that they are forgotten."""


class TailSeen(NamedTuple):
    """What frames show of the height of the tails.

    Attributes
    ----------
    seen : float
        The height, without its prior.
    variance : float
        Of that by noise; 0 where nothing could be learnt.
    doubt : float
        Of that by what fits do not do as they should, the same in every frame.
    lower : float
        Change of the backgrounds between the two heights that were tried.
    """

    seen: float
    variance: float
    doubt: float
    lower: float

    @property
    def height(self) -> float:
        """Height relative to that of the Gaussians without tails, from zero up."""
        known = USUAL_SPREAD**2 / (USUAL_SPREAD**2 + (self.variance + self.doubt))
        return float(np.clip(known * self.seen + (1.0 - known) * USUAL_TAIL, 0.0, HIGHEST_TAIL))

    @property
    def background(self) -> float:
        """Change of the backgrounds by such tails; negative."""
        return self.lower * self.height / (TRIED[1] - TRIED[0])

    def after(self, before: "TailSeen") -> "TailSeen":
        """Combine this with what frames before it showed.

        Parameters
        ----------
        before : TailSeen
            Theirs; the older, the less it counts.

        Returns
        -------
        TailSeen
            Weighted by inverse variances; this one alone where they contradict each other.
        """
        if self.variance == 0.0:
            return before
        variance = MEMORY * before.variance
        both = self.variance + variance
        if variance == 0.0 or (self.seen - before.seen) ** 2 > CHANGED**2 * both:
            return self
        share = variance / both
        seen, lower = (
            share * now + (1.0 - share) * then
            for now, then in ((self.seen, before.seen), (self.lower, before.lower))
        )
        return TailSeen(seen, share * self.variance, self.doubt, lower)


NOTHING_SEEN = TailSeen(0.0, 0.0, 0.0, 0.0)


def tail_of(height: float, fits: Fits, window: Window) -> Tail:
    """Define how the tails of an image are drawn.

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
        Its radius follows the usual width at each amplitude, not each column's own width.
    """
    high = quantiles(fits.parameters[:, AMPLITUDE], [0.9])[0] if len(fits.chi2) else 0.0
    return Tail(height, window.widths, NO_COLUMN * high)


def learnt_tail(image: Image, fits: Fits, window: Window) -> TailSeen:
    """Find the height of the tails relative to that of the Gaussians without them.

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
    TailSeen
        In this image; of no height where there are too few columns.

    Notes
    -----
    In a strip of the image all columns are fitted to convergence with tails of two heights, as an
    effective point-spread function is built from stars whose positions are refitted with it [1]_.
    The residuals are nearly linear in the height, which is chosen by least squares: what
    positions, amplitudes, widths and backgrounds can imitate is absorbed by the fits, what a
    locally stretched scan does to columns is projected out. Widths and backgrounds were learnt
    without tails, so their priors are loosened. Because fitted positions and widths follow the
    noise, the mean fitted column is broader than the true one by half the fit's covariance times
    the second derivative of the model; that is corrected. Where this is not small, the prior on
    the height counts for more.

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
        return NOTHING_SEEN
    step = TRIED[1] - TRIED[0]
    moved = float(np.mean(low.covariance[:, Y, Y])) / sigma_px**2
    higher = median(high.parameters[:, BACKGROUND] - low.parameters[:, BACKGROUND])
    return TailSeen(
        seen=TRIED[0] + step * both / spread,
        variance=step**2 * OVERLAP / spread,
        doubt=(FOLLOWED * moved**2) ** 2,
        lower=higher,
    )


def _strip(image: Image, fits: Fits, rim: float) -> tuple[Image, Fits]:
    """Cut out whole lines in the middle of the columns, with about `IN_STRIP` of them."""
    seen = fits.pixels > 0
    rows = fits.parameters[seen, Y]
    if len(rows) == 0:
        return image, fits.rows(seen)
    height = int(max(len(image) * IN_STRIP / len(rows), 4.0 * rim))
    first = max(0, min(int(median(rows)) - height // 2, len(image) - height))
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
    """Iterate all columns after a change of their tails; return them and the drawn model."""
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
    """Sum residual times change, and change squared, with inverse variances, over all windows.

    What stretches of the scan can imitate is projected out of both first, window by window.
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
            # stretches of its own core (0, 1), and of its neighbours' tails (2, 3)
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
    """Return half the second derivative of a core times its fit's covariance, over the core."""
    (dy, dx), c = away, covariance
    square = inverse * (dy * dy + dx * dx)
    moved = inverse * (dy * dy * c[0, 0] + 2.0 * dy * dx * c[0, 1] + dx * dx * c[1, 1])
    total = 0.5 * amplitude * inverse * (moved - c[0, 0] - c[1, 1])
    total += inverse * (dy * c[0, 2] + dx * c[1, 2]) + square * c[2, 3]
    total += amplitude * inverse * (square - 2.0) * (dy * c[0, 3] + dx * c[1, 3])
    return float(total + 0.5 * amplitude * square * (square - 2.0) * c[3, 3])


def unseen_share(fits: Fits, window: Window, tail: float) -> float:
    """Return the ratio of a position's variance with tails to that of its core alone.

    Parameters
    ----------
    fits : Fits
        After convergence.
    window : Window
        What they share.
    tail : float
        Height of the tails relative to the cores.

    Returns
    -------
    float
        At most one: Fisher information of the core over that of core and tail, for a typical
        column; tails carry information too.
    """
    if tail == 0.0:
        return 1.0
    height, background = (median(fits.parameters[::8, one]) for one in (AMPLITUDE, BACKGROUND))
    reach = int(window.radius_px)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    square = 0.5 * (y**2 + x**2) * np.exp(-2.0 * window.widths.log_sigma)
    core, fall = np.exp(-square), np.maximum(1.0 - 2.0 * square / TAIL_RADIUS**2, 0.0)
    light = background + height * (core + tail * fall**2)
    weight = y**2 / np.maximum(window.gain * light + window.offset, window.floor)
    seen = np.sum(weight * (core + 4.0 * tail / TAIL_RADIUS**2 * fall) ** 2)
    return float(np.sum(weight * core**2) / seen)
