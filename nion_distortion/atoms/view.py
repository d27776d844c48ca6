"""Contrast of an image (bright or dark columns), width of its columns, and first guesses."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion._order import median, quantiles
from nion_distortion._validation import as_array
from nion_distortion.atoms.correlation import WHITE, Correlation
from nion_distortion.atoms.drawing import AMPLITUDE, LOG_SIGMA, Widths
from nion_distortion.atoms.fit import Fits, Window, improve, starting
from nion_distortion.atoms.maxima import (
    NARROW,
    NEAREST,
    SMALLEST_SIGMA_PX,
    WIDE,
    Normalised,
    band_passed,
    column_sigma_px,
    peaks,
)
from nion_distortion.atoms.noise import Noise, noise_of_residual
from nion_distortion.frame import UnusableFrameError
from nion_distortion.options import Detect

__all__ = ["Polarity", "View", "guessed", "guessed_again", "oriented", "seen_again"]

Polarity = Literal["bright", "dark"]

WIDTH_PRIOR = 0.15
"""Prior standard deviation of a column's log sigma around the frame's typical one."""

LOOSE_WIDTH_PRIOR, PROBED_RADIUS = 0.5, 2.0
"""The same, and radius of the window in sigma, while the frame's typical width is determined."""

PROBES = 200
"""Number of columns, about, from which the frame's typical width is taken."""

NARROWEST, WIDEST, SAME_WIDTH = 0.6, 2.0, 0.15
"""Limits of the width relative to its first guess; and the change of log sigma below which the
band-pass is not repeated."""

SMALLEST_RADIUS_PX = 2.3
"""A window has at least 21 pixels."""

LEAST_VARIANCE = 0.03
"""Least variance of a pixel, as a share of the brightest ones': where next to nothing is expected,
a single count would dominate the fit."""

FINEST = 3e-3
"""Least standard deviation of a pixel, as a share of the image's range: no column is Gaussian to
better than this, which is all that limits the fits in an image without noise."""

FRINGES, LOOKED_AT_PX = 0.7, 256
"""Structure-tensor coherence above which an image shows fringes (crystals have 0.01 to 0.36,
dumbbells the most, lattice fringes 0.86 and more); and side of the central area examined."""

FIRST_SAMPLES = 30_000
"""Pixels for a first look at the noise."""

CLEARLY_DARK = -0.9
"""Skewness below which columns are dark: the holes of a honeycomb reach -0.82."""


class View(NamedTuple):
    """An image with its columns bright, their width, and the noise of its pixels.

    Attributes
    ----------
    image, clipped : ndarray, shape (ny, nx)
        As in `Normalised`, times `sign`.
    sign : float
        1 for bright columns, -1 for dark ones.
    noise : Noise
        Of `image`: the gain of dark columns is negative.
    sigma_px : float
        Of a column.
    band_sigma_px : float
        Not far from it, perhaps a first guess of it: what `band` is made for.
    band, narrow : ndarray, shape (ny, nx)
        From `band_passed`.
    correlation : Correlation, default: WHITE
        How much of their noise neighbouring pixels share.
    """

    image: npt.NDArray[np.float32]
    clipped: npt.NDArray[np.float32]
    sign: float
    noise: Noise
    sigma_px: float
    band_sigma_px: float
    band: npt.NDArray[np.float32]
    narrow: npt.NDArray[np.float32]
    correlation: Correlation = WHITE

    @property
    def polarity(self) -> Polarity:
        """Contrast of the columns in the image as it came."""
        return "bright" if self.sign > 0.0 else "dark"

    def with_sigma(self, sigma_px: float) -> "View":
        """Return the same image, band-passed for columns of another width.

        Parameters
        ----------
        sigma_px : float
            The width.

        Returns
        -------
        View
            With `band` and `narrow` made anew.
        """
        band, narrow = band_passed(self.clipped, sigma_px)
        return self._replace(sigma_px=sigma_px, band_sigma_px=sigma_px, band=band, narrow=narrow)

    def flipped(self) -> "View":
        """Return the same image with the other contrast.

        Returns
        -------
        View
            Its negative.
        """
        return self._replace(
            image=-self.image,
            clipped=-self.clipped,
            sign=-self.sign,
            noise=self.noise._replace(gain=-self.noise.gain),
            band=-self.band,
            narrow=-self.narrow,
        )

    def window(self, radius: float, width_prior: float) -> Window:
        """Return what the fits share.

        Parameters
        ----------
        radius : float
            Of the window, in sigma.
        width_prior : float
            Standard deviation of log sigma.

        Returns
        -------
        Window
            No pixel's variance is less than what nearly all pixels have.
        """
        gain, offset, _ = self.noise
        variances = gain * np.array(quantiles(self.clipped[::7, ::7], [0.01, 0.99])) + offset
        floor = max(float(variances.min()), LEAST_VARIANCE * float(variances.max()), FINEST**2)
        radius_px = max(radius * self.sigma_px, SMALLEST_RADIUS_PX)
        widths = Widths(float(np.log(self.sigma_px)))
        return Window(radius_px, widths, width_prior**-2, gain, offset, floor)


def oriented(scaled: Normalised) -> View:
    """Turn an image so that its columns are bright.

    Parameters
    ----------
    scaled : Normalised
        The image.

    Returns
    -------
    View
        With a first guess of the columns' width.

    Raises
    ------
    UnusableFrameError
        If nothing but noise is seen, or slopes in one direction only.

    Notes
    -----
    Columns are small and their background is wide, so that the band-passed image is skewed
    towards them. Where it is not, as with a honeycomb whose holes are as small as its columns,
    the contrast is the one that gives the narrower Gaussians.
    """
    sigma_px = column_sigma_px(scaled.clipped)
    band, narrow = band_passed(scaled.clipped, sigma_px)
    if _one_sidedness(band) > FRINGES:
        raise UnusableFrameError(
            "the image changes in one direction only: it shows fringes, a ramp or an edge, no"
            " columns"
        )
    noise = noise_of_residual(scaled.image, scaled.image, samples=FIRST_SAMPLES)
    bright = View(scaled.image, scaled.clipped, 1.0, noise, sigma_px, sigma_px, band, narrow)
    skewness = _skewness(bright)
    if skewness > 0.0:
        return bright
    dark = bright.flipped()
    if skewness < CLEARLY_DARK:
        return dark
    return bright if _probed_width_px(bright) <= _probed_width_px(dark) else dark


def seen_again(
    scaled: Normalised, sign: float, sigma_px: float, noise: Noise, correlation: Correlation
) -> View | None:
    """Turn an image so that its columns are bright as `oriented` does, but without a search.

    Parameters
    ----------
    scaled : Normalised
        The image.
    sign : float
        As in `View`.
    sigma_px : float
        What the band is to be made for.
    noise : Noise
        As in `View`.
    correlation : Correlation
        As in `View`.

    Returns
    -------
    View
        None where the image does not clearly show this contrast.
    """
    image, clipped = scaled.image, scaled.clipped
    if sign < 0.0:
        image, clipped = -image, -clipped
    band, narrow = band_passed(clipped, sigma_px)
    view = View(image, clipped, sign, noise, sigma_px, sigma_px, band, narrow, correlation)
    least = 0.0 if sign > 0.0 else -CLEARLY_DARK
    return None if _one_sidedness(band) > FRINGES or not _skewness(view) > least else view


def guessed_again(view: View) -> Fits:
    """Guess where columns of the view's width are: `guessed`, without a search for the width.

    Parameters
    ----------
    view : View
        The image, band-passed for that width.

    Returns
    -------
    Fits
        At the first guesses.
    """
    return _begun(view, peaks(view.band, NEAREST * view.sigma_px))


def _one_sidedness(band: npt.NDArray[np.float32]) -> float:
    """Say how much the slopes of one direction prevail, 0 to 1: coherence of the structure tensor.

    See J. Bigun and G. H. Granlund, Proc. ICCV (1987) 433.
    """
    top, left = (max(0, (length - LOOKED_AT_PX) // 2) for length in band.shape)
    middle = band[top : top + LOOKED_AT_PX, left : left + LOOKED_AT_PX]
    along_y, along_x = np.gradient(middle)
    yy, xx = np.mean(along_y**2), np.mean(along_x**2)
    difference = np.hypot(yy - xx, 2 * np.mean(along_y * along_x))
    return float(difference / max(yy + xx, np.finfo(np.float32).tiny))


def _skewness(view: View) -> float:
    """Skewness of the band-passed image, with the noise's part subtracted from its variance."""
    band = view.band[::2, ::2].ravel()
    narrow, wide = (NARROW * view.sigma_px) ** 2, (WIDE * view.sigma_px) ** 2
    share = (1 / narrow + 1 / wide - 4 / (narrow + wide)) / (4 * np.pi)
    level = float(view.clipped[::4, ::4].mean())
    noise = share * max(0.0, view.noise.gain * level + view.noise.offset)
    square = band * band
    variance = float(np.mean(square))
    return float(np.mean(square * band) / max(variance - noise, 0.1 * variance) ** 1.5)


def _probed_width_px(view: View) -> float:
    return _width_px(view, guessed_again(view))


def guessed(view: View, detect: Detect | None) -> tuple[View, Fits]:
    """Find the width of the columns by fits to some, then guess where all of them are.

    Parameters
    ----------
    view : View
        The image.
    detect : callable or None
        What guesses; None: band-passed local maxima.

    Returns
    -------
    view : View
        With the columns' width.
    fits : Fits
        At the first guesses.

    Raises
    ------
    ValueError
        If `detect` returns something else than positions.
    UnusableFrameError
        If nothing can be fitted.
    """
    limits = NARROWEST * view.sigma_px, WIDEST * view.sigma_px
    fits = guessed_again(view)
    for _ in range(3):
        width = max(SMALLEST_SIGMA_PX, float(np.clip(_width_px(view, fits), *limits)))
        if abs(np.log(width / view.sigma_px)) < SAME_WIDTH:
            view = view._replace(sigma_px=width)
            break
        view = view.with_sigma(width)
        fits = guessed_again(view)
    if detect is not None:
        fits = _begun(view, _inside(detect(view.image), view.image.shape))
    return view, fits


def _begun(view: View, positions: npt.NDArray[np.float64]) -> Fits:
    """Start the fits: amplitude and background follow from a Gaussian's response to the filters."""
    y, x = np.rint(positions).astype(np.intp).T
    height = np.maximum(view.band[y, x], 0.0) / (1 / (1 + NARROW**2) - 1 / (1 + WIDE**2))
    background = view.narrow[y, x] - height / (1 + NARROW**2)
    return starting(positions, height, background, view.sigma_px)


def _inside(guesses: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    positions = as_array("detect(image)", guesses, (None, 2))
    inside = np.all((positions >= 0) & (positions <= np.array(shape) - 1.0), axis=1)
    return np.asarray(positions[inside], dtype=np.float64)


def _width_px(view: View, fits: Fits) -> float:
    """Median fitted width of some of the brighter columns, spread evenly over the image."""
    height = fits.parameters[:, AMPLITUDE]
    if len(height) == 0:
        raise UnusableFrameError("no columns stand out of the image's noise")
    high = np.flatnonzero(height >= 0.5 * quantiles(height, [0.95])[0])
    chosen = np.zeros(len(height), np.bool_)
    chosen[high[:: max(1, len(high) // PROBES)]] = True
    probes = fits.rows(chosen)
    window = view.window(PROBED_RADIUS, LOOSE_WIDTH_PRIOR)
    for _ in range(4):
        improve(view.image, None, probes, window)
    good = (probes.pixels > 0) & (probes.parameters[:, AMPLITUDE] > 0)
    if not good.any():
        raise UnusableFrameError("no columns stand out of the image's noise")
    return float(np.exp(median(probes.parameters[good, LOG_SIGMA])))
