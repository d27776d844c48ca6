"""The parameters of a column, and images drawn from them."""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks

__all__ = [
    "NO_TAIL",
    "Floats",
    "Image",
    "Places",
    "Tail",
    "Widths",
    "draw_anew",
    "gaussian",
    "redraw",
    "render",
    "usual_log_sigma",
]

Y, X, AMPLITUDE, LOG_SIGMA, BACKGROUND = range(5)
"""The five parameters of a column."""

DRAWN = 4.0
"""A Gaussian is drawn out to this many sigma (where 3e-4 of its height is left), or as far as its
tail if that reaches farther."""

TAIL_RADIUS = 5.0
"""Radius at which a column's tail ends, in the usual sigma of columns as bright as it."""

FEW, SMALLEST_STRIP = 512, 128
"""Fewer columns, or rows of the image, need no second thread."""

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Image = npt.NDArray[np.float32]


class Widths(NamedTuple):
    """The usual width of columns: brighter kinds are wider, as their scattering reaches farther.

    Attributes
    ----------
    log_sigma : float
        Of a column of the amplitude ``exp(log_amplitude)``.
    slope : float, default: 0
        Change of log sigma with log amplitude.
    log_amplitude : float, default: 0
        Mean of the columns.
    reach : float, default: 0
        Distance from there, either way, up to which the width follows log amplitude.
    """

    log_sigma: float
    slope: float = 0.0
    log_amplitude: float = 0.0
    reach: float = 0.0


class Tail(NamedTuple):
    """What each column adds to its Gaussian: ``height * (1 - (r / radius)^2)^2`` of its amplitude.

    Attributes
    ----------
    height : float
        At the column's centre, relative to the amplitude of the Gaussian.
    widths : Widths
        The radius is `TAIL_RADIUS` times the usual sigma at the column's amplitude.
    highest : float, default: inf
        Amplitude above which no tail is drawn: a hot pixel has none.
    """

    height: float
    widths: Widths
    highest: float = np.inf


NO_TAIL = Tail(0.0, Widths(0.0))


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def usual_log_sigma(widths: Widths, amplitude: float) -> float:
    """Return log sigma of columns that are as bright as one.

    Parameters
    ----------
    widths : Widths
        Of all.
    amplitude : float
        The one's; its sign does not matter.

    Returns
    -------
    float
        Held constant beyond the amplitudes of the faintest and the brightest kind.
    """
    brighter = np.log(max(abs(amplitude), 1e-30)) - widths.log_amplitude
    brighter = min(max(brighter, -widths.reach), widths.reach)
    return float(widths.log_sigma + widths.slope * brighter)


def render(parameters: Floats, shape: tuple[int, int], tail: Tail = NO_TAIL) -> Image:
    """Draw all columns into one image, without their backgrounds.

    Parameters
    ----------
    parameters : ndarray, shape (n, 5)
        As in `Fits`.
    shape : tuple of int
        Of the image.
    tail : Tail, default: NO_TAIL
        Of all columns.

    Returns
    -------
    ndarray, shape (ny, nx)
        Their sum.
    """
    image = np.zeros(shape, np.float32)
    _draw(image, parameters, tail)
    return image


def draw_anew(image: Image, parameters: Floats, tail: Tail = NO_TAIL) -> None:
    """Draw all columns as `render` does, into an image that is there: new memory costs as much.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Its values are lost.
    parameters : ndarray, shape (n, 5)
        As in `Fits`.
    tail : Tail, default: NO_TAIL
        Of all columns.
    """
    image[:] = 0.0
    _draw(image, parameters, tail)


def redraw(image: Image, before: Floats, after: Floats, tail: Tail = NO_TAIL) -> None:
    """Take some columns out of an image and draw them with other parameters, in place.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        What `render` made.
    before, after : ndarray, shape (n, 5)
        Their parameters, then and now.
    tail : Tail, default: NO_TAIL
        Of all columns, as it was drawn.
    """
    out = before.copy()
    out[:, AMPLITUDE] *= -1.0
    _draw(image, np.concatenate([out, after]), tail)


def _draw(image: Image, parameters: Floats, tail: Tail) -> None:
    """Add columns: each thread to rows of its own, always in the same order of columns."""

    def _chunk(start: int, stop: int) -> None:
        _draw_rows(image, parameters, tail, (start, stop))

    few = len(parameters) < FEW
    for_chunks(_chunk, len(image), smallest=len(image) if few else SMALLEST_STRIP)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _draw_rows(image: Image, parameters: Floats, tail: Tail, rows: tuple[int, int]) -> None:
    width = image.shape[1]
    widest = np.exp(np.max(parameters[:, LOG_SIGMA])) if len(parameters) else 0.0
    widths, most = tail.widths, TAIL_RADIUS if tail.height != 0.0 else 0.0
    most *= np.exp(widths.log_sigma + abs(widths.slope) * widths.reach)
    most = max(DRAWN * widest, most)
    lines = np.empty((3, min(2 * int(most) + 2, max(image.shape))), np.float32)
    zero = np.float32(0.0)
    for n in range(len(parameters)):
        y, x, amplitude, log_sigma = parameters[n, :4]
        if y + most < rows[0] or y - most > rows[1]:
            continue
        radius = _tail_radius(tail, amplitude)
        reach, inverse = max(DRAWN * np.exp(log_sigma), radius), 1.0 / max(radius, 1.0) ** 2
        first = max(rows[0], int(np.ceil(y - reach)))
        last = min(rows[1] - 1, int(np.floor(y + reach)))
        left, right = max(0, int(np.ceil(x - reach))), min(width - 1, int(np.floor(x + reach)))
        if first > last or left > right:
            continue
        along_x, along_y = lines[0, : right - left + 1], lines[1, : last - first + 1]
        gaussian(along_x, left - x, log_sigma)
        gaussian(along_y, first - y, log_sigma)
        away = lines[2, : right - left + 1]
        for j in range(len(away)):
            away[j] = inverse * (left + j - x) ** 2
        low = np.float32(amplitude * tail.height if abs(amplitude) <= tail.highest else 0.0)
        for i in range(first, last + 1):
            height, line = np.float32(amplitude) * along_y[i - first], image[i, left : right + 1]
            middle = np.float32(1.0 - inverse * (i - y) ** 2) if radius > 0.0 else zero
            for j in range(len(line)):
                fall = max(middle - away[j], zero)
                line[j] += height * along_x[j] + low * fall * fall


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _tail_radius(tail: Tail, amplitude: float) -> float:
    if tail.height == 0.0:
        return 0.0
    return float(TAIL_RADIUS * np.exp(usual_log_sigma(tail.widths, amplitude)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gaussian(values: Image, first: float, log_sigma: float) -> None:
    """Fill in ``exp(-x^2 / 2 sigma^2)`` at x = first, first + 1, ..., each from the one before.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Written to.
    first : float
        Place of its first value.
    log_sigma : float
        Log of sigma; the first value must not be farther away than 35 sigma.
    """
    inverse = np.exp(-2.0 * log_sigma)
    value, factor = np.exp(-0.5 * inverse * first**2), np.exp(-inverse * (first + 0.5))
    change = np.exp(-inverse)
    for k in range(len(values)):
        values[k] = value
        value *= factor
        factor *= change
