"""The parameters of a column, and images drawn from them."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks

__all__ = ["Floats", "Image", "Places", "draw_anew", "gaussian", "redraw", "render"]

Y, X, AMPLITUDE, LOG_SIGMA, BACKGROUND = range(5)
"""The five parameters of a column."""

DRAWN = 4.0
"""A Gaussian is drawn this many sigma far: 3e-4 of its height is left out."""

FEW, SMALLEST_STRIP = 128, 64
"""Fewer columns, or rows of the image, need no second thread."""

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Image = npt.NDArray[np.float32]


def render(parameters: Floats, shape: tuple[int, int]) -> Image:
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
        Their sum.
    """
    image = np.zeros(shape, np.float32)
    _draw(image, parameters)
    return image


def draw_anew(image: Image, parameters: Floats) -> None:
    """Draw all Gaussians as `render` does, into an image that is there: new memory costs as much.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Its values are lost.
    parameters : ndarray, shape (n, 5)
        As in `Fits`.
    """
    image[:] = 0.0
    _draw(image, parameters)


def redraw(image: Image, before: Floats, after: Floats) -> None:
    """Take some Gaussians out of an image and draw them with other parameters, in place.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        What `render` made.
    before, after : ndarray, shape (n, 5)
        Their parameters, then and now.
    """
    out = before.copy()
    out[:, AMPLITUDE] *= -1.0
    _draw(image, np.concatenate([out, after]))


def _draw(image: Image, parameters: Floats) -> None:
    """Add Gaussians: each thread to rows of its own, always in the same order of columns."""

    def _chunk(start: int, stop: int) -> None:
        _draw_rows(image, parameters, start, stop)

    few = len(parameters) < FEW
    for_chunks(_chunk, len(image), smallest=len(image) if few else SMALLEST_STRIP)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _draw_rows(image: Image, parameters: Floats, start: int, stop: int) -> None:
    width = image.shape[1]
    widest = np.exp(np.max(parameters[:, LOG_SIGMA])) if len(parameters) else 0.0
    room = np.empty((2, min(2 * int(DRAWN * widest) + 2, max(image.shape))), np.float32)
    for n in range(len(parameters)):
        y, x, amplitude, log_sigma = parameters[n, :4]
        reach = DRAWN * np.exp(log_sigma)
        first, last = max(start, int(np.ceil(y - reach))), min(stop - 1, int(np.floor(y + reach)))
        left, right = max(0, int(np.ceil(x - reach))), min(width - 1, int(np.floor(x + reach)))
        if first > last or left > right:
            continue
        along_x, along_y = room[0, : right - left + 1], room[1, : last - first + 1]
        gaussian(along_x, left - x, log_sigma)
        gaussian(along_y, first - y, log_sigma)
        for i in range(first, last + 1):
            height, line = np.float32(amplitude) * along_y[i - first], image[i, left : right + 1]
            for j in range(len(line)):
                line[j] += height * along_x[j]


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
