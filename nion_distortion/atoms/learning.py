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
    X,
    Y,
)
from nion_distortion.atoms.fit import Fits, Window, disc
from nion_distortion.atoms.maxima import blurred

__all__ = ["learnt_tail", "learnt_window", "tails", "unseen_share"]

TAIL_WIDTH = 2.0
"""Sigma of a column's tail, in units of its own."""

USUAL_TAIL, USUAL_SPREAD, HIGHEST_TAIL = 0.09, 0.04, 0.25
"""Height of the tail over the column's: what calculated images have, its spread, and a limit."""

FAR, TILE, FEWEST_FAR, FOLLOWED, RIM = 2.4, 32.0, 50, 2.0, 8.0
"""Sigma from a column that is between columns; sigma and fewest such pixels of a tile; and by how
much of the positions' variance over sigma^2 the height is seen too low."""

TAUGHT, FEWEST_TEACHERS = 1000, 12
"""Columns from which is learnt, about, and with fewer of which nothing is."""

LEAST_SIGNAL = 4.0
"""Amplitude over its error of a column from which something is learnt."""

LEAST_WIDTH_SPREAD, LEAST_BACKGROUND_SPREAD = 0.03, 0.05
"""Of log sigma, and of the background in the typical column's height: none are more alike."""


def tails(cores: Image, sigma_px: float) -> Image:
    """Draw the tails of all columns: Gaussians of the same height, `TAIL_WIDTH` times as wide.

    Parameters
    ----------
    cores : ndarray, shape (ny, nx)
        The columns without tails, as `render` draws them.
    sigma_px : float
        Their width.

    Returns
    -------
    ndarray, shape (ny, nx)
        Convolution with a Gaussian does it, if all widths are nearly the same.
    """
    wider = np.sqrt(TAIL_WIDTH**2 - 1.0) * sigma_px
    tail = blurred(cores, wider)
    tail *= np.float32(TAIL_WIDTH**2)
    return tail


def learnt_tail(
    image: Image, cores: Image, tail: Image, fits: Fits, window: Window
) -> tuple[float, float]:
    """Find how high the tails are, over the height of the columns.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        The pixels, without hot ones.
    cores : ndarray, shape (ny, nx)
        All columns drawn, without tails.
    tail : ndarray, shape (ny, nx)
        Their tails, as `tails` draws them.
    fits : Fits
        Where they stand.
    window : Window
        What they share.

    Returns
    -------
    float
        From zero up.

    Notes
    -----
    Between the columns, farther than `FAR` sigma from each, a line is laid through what the cores
    leave over against the tails, in tiles that each have a background of their own. Positions
    that follow the noise leave too little over, by about twice their relative variance: so far the
    slope is not believed, and what is usual takes its place.
    """
    sigma_px = float(np.exp(window.log_sigma))
    near, rim = np.ones(image.shape, np.bool_), int(np.ceil(RIM * sigma_px))
    near[rim:-rim, rim:-rim] = False
    _mark(near, fits.parameters, disc(FAR * sigma_px))
    side = int(np.ceil(TILE * sigma_px))
    tiles = np.zeros((image.shape[0] // side + 1, image.shape[1] // side + 1, 6))
    _sum_tiles((image, cores, tail), near, side, tiles)
    count, x, y, xx, xy, yy = tiles[tiles[..., 0] > FEWEST_FAR].T
    spread = float(np.sum(xx - x * x / count))
    both = float(np.sum(xy - x * y / count))
    if spread <= 0.0:
        return 0.0, 0.0
    height = both / spread
    left = float(np.sum(yy - y * y / count)) - height * both
    seen = fits.pixels > 0
    moved = float(np.mean(fits.covariance[seen, Y, Y])) / sigma_px**2
    variance = max(left, 0.0) / float(count.sum()) / spread + (FOLLOWED * moved) ** 2
    known = USUAL_SPREAD**2 / (USUAL_SPREAD**2 + variance)
    height = float(np.clip(known * height + (1.0 - known) * USUAL_TAIL, 0.0, HIGHEST_TAIL))
    return height, float(x.sum() / count.sum())


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mark(near: npt.NDArray[np.bool_], parameters: Floats, halves: npt.NDArray[np.int64]) -> None:
    reach = len(halves) // 2
    for n in range(len(parameters)):
        y, x = int(np.rint(parameters[n, Y])), int(np.rint(parameters[n, X]))
        for i in range(max(0, y - reach), min(near.shape[0], y + reach + 1)):
            half = halves[i - y + reach]
            near[i, max(0, x - half) : max(0, x + half + 1)] = True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sum_tiles(
    images: tuple[Image, Image, Image], near: npt.NDArray[np.bool_], side: int, tiles: Floats
) -> None:
    """Sum 1, x, y, x^2, x y, y^2 over each tile's pixels on every other line that are not near.

    Tails are x, what cores leave over is y.
    """
    image, cores, tail = images
    for i in range(0, image.shape[0], 2):
        for j in range(image.shape[1]):
            if not near[i, j]:
                x, y = tail[i, j], image[i, j] - cores[i, j]
                sums = tiles[i // side, j // side]
                sums[0] += 1.0
                sums[1] += x
                sums[2] += y
                sums[3] += x * x
                sums[4] += x * y
                sums[5] += y * y


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
    core, wide = np.exp(-square), np.exp(-square / TAIL_WIDTH**2)
    light = background + height * (core + tail * wide)
    weight = y**2 / np.maximum(window.gain * light + window.offset, window.floor)
    seen = np.sum(weight * (core + tail / TAIL_WIDTH**2 * wide) ** 2)
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
