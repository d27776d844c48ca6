"""From an image to its atomic columns: guesses, fits, and the decision afterwards."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.special import ndtr

from nion_distortion._validation import as_array
from nion_distortion.atoms.columns import AtomColumns
from nion_distortion.atoms.fit import (
    AMPLITUDE,
    BACKGROUND,
    LOG_SIGMA,
    Fits,
    Window,
    improve,
    render,
    starting,
)
from nion_distortion.atoms.maxima import (
    NARROW,
    SMALLEST_SIGMA_PX,
    WIDE,
    Normalised,
    band_passed,
    column_sigma_px,
    normalised,
    peaks,
)
from nion_distortion.atoms.noise import Noise, noise_of_residual
from nion_distortion.atoms.overlap import shared_covariance
from nion_distortion.frame import UnusableFrameError
from nion_distortion.options import Detect

__all__ = ["find_columns"]

Mask = npt.NDArray[np.bool_]

SMALLEST_IMAGE_PX = 64
FEWEST_COLUMNS = 6

WIDTH_PRIOR, LOOSE_WIDTH_PRIOR = 0.15, 0.5
"""Standard deviation of log sigma around the frame's own, and while that is looked for."""

FIRST_RADIUS, RADIUS = 2.0, 3.0
"""Window in sigma: narrow while neighbours are still in it, then all that a column tells."""

LEAST_VARIANCE = 0.03
"""Of a pixel, as a share of the brightest ones': where nearly nothing is expected, one count is news."""

MOST_STEPS = 10

PROBES = 200
"""Columns from which the frame's own width is taken."""

LEAST_SIGNAL, STRONG_SIGNAL = 1.7, 4.0
"""Amplitude over its error: below is noise, above stands by itself; between needs neighbours."""

PRUNED_SIGNAL = 1.0
"""Below this a fit is left out before neighbours are subtracted."""

EDGE, TWICE, FARTHEST = 1.5, 1.2, 1.2
"""In sigma: nearest to the border, nearest to each other, farthest from the guess."""

WIDTH_RANGE, WORST_CHI2, HOT = 1.6, 15.0, 0.5
"""Of sigma, as a factor; of chi^2, in its spread; and the share of one hot pixel in chi^2."""

NEIGHBOURHOOD, LOWEST = 2.5, 0.15
"""A weak column has three clear ones within this many spacings, and this share of their height."""

CLEARLY_DARK = -0.9
"""Skewness below which columns are dark: the holes of a honeycomb reach -0.82."""


class _View(NamedTuple):
    """An image with its columns bright, their width, and the noise of its pixels."""

    image: npt.NDArray[np.float32]
    clipped: npt.NDArray[np.float32]
    sign: float
    sigma_px: float
    noise: Noise

    def window(self, radius: float, prior: float) -> Window:
        """Return what the fits share; no pixel's variance is less than that of nearly all."""
        gain, offset = self.noise
        levels = np.quantile(self.clipped[::7, ::7], [0.01, 0.5, 0.99])
        variances = gain * levels + offset
        least = max(float(variances.min()), LEAST_VARIANCE * float(variances.max()), 1e-12)
        log_sigma, radius_px = float(np.log(self.sigma_px)), max(radius * self.sigma_px, 2.3)
        return Window(radius_px, log_sigma, prior**-2, gain, offset, least)


def find_columns(image: npt.ArrayLike, *, detect: Detect | None = None) -> AtomColumns:
    """Find the atomic columns of an image, with the covariance of each position.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Detector units of any gain and offset, columns bright or dark.
    detect : callable, optional
        First guesses; None means `local_maxima`.

    Returns
    -------
    AtomColumns
        In order of their lines.

    Raises
    ------
    ValueError
        If the image is not a finite array of real numbers with two axes.
    UnusableFrameError
        If it is too small, or shows too few columns.

    Notes
    -----
    The width of the columns comes from the autocorrelation, then from fits; the noise from the
    finest detail of the image without its columns. A Gaussian and a constant are fitted to each
    guess, with what the other columns add taken out. Only then is it decided what is a column: by
    the amplitude over its error, the width, chi^2, the way from the guess, and the neighbours.
    """
    scaled = normalised(_checked(image))
    view, begun = _guessed(_oriented(scaled), detect)
    view, fits, start = _fitted(view, begun)
    keep = _accepted(view, fits, start)
    if keep.sum() < FEWEST_COLUMNS:
        raise UnusableFrameError(
            f"only {keep.sum()} columns stand out of the image's noise: {FEWEST_COLUMNS} are needed"
        )
    finder = "local_maxima" if detect is None else getattr(detect, "__name__", "detect")
    return _columns(scaled, view, fits, keep, (finder, len(begun.chi2)))


def _checked(image: npt.ArrayLike) -> npt.NDArray[np.float32]:
    raw = np.asarray(image)
    if raw.dtype.kind not in "biuf":
        raise ValueError(f"image must be real numbers, not {raw.dtype}")
    if raw.ndim != 2:
        raise ValueError(f"image must have two axes, not shape {raw.shape}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(raw, dtype=np.float32)
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise ValueError(
            f"image must be finite, but {np.sum(~np.isfinite(values))} of its pixels are not"
        )
    if min(raw.shape) < SMALLEST_IMAGE_PX:
        raise UnusableFrameError(
            f"the image has {raw.shape[0]} x {raw.shape[1]} pixels:"
            f" at least {SMALLEST_IMAGE_PX} x {SMALLEST_IMAGE_PX} are needed"
        )
    return values


def _oriented(scaled: Normalised) -> _View:
    """Turn the image so that columns are bright.

    Columns are small and their background is wide, so that the band-passed image is skewed
    towards them. Where it is not, as with a honeycomb whose holes are as small as its columns,
    the contrast is the one that gives the narrower Gaussians.
    """
    sigma_px = column_sigma_px(scaled.clipped)
    gain, offset = noise_of_residual(scaled.image, scaled.image)
    bright = _View(scaled.image, scaled.clipped, 1.0, sigma_px, Noise(gain, offset))
    skewness = _skewness(bright)
    if skewness > 0.0:
        return bright
    dark = _View(-scaled.image, -scaled.clipped, -1.0, sigma_px, Noise(-gain, offset))
    return dark if skewness < CLEARLY_DARK else min((bright, dark), key=_probed_width_px)


def _skewness(view: _View) -> float:
    """Skewness of the band-passed image, the noise's share taken out of its variance."""
    part = view.clipped[:1024, :1024]
    band, _ = band_passed(part, view.sigma_px)
    narrow, wide = (NARROW * view.sigma_px) ** 2, (WIDE * view.sigma_px) ** 2
    share = (1 / narrow + 1 / wide - 4 / (narrow + wide)) / (4 * np.pi)
    noise = share * max(0.0, view.noise.gain * float(part.mean()) + view.noise.offset)
    variance = float(np.mean(band**2))
    return float(np.mean(band**3)) / max(variance - noise, 0.1 * variance) ** 1.5


def _probed_width_px(view: _View) -> float:
    return _width_px(view, _probes(_begun(view, None)))


def _guessed(view: _View, detect: Detect | None) -> tuple[_View, Fits]:
    """Find the width of the columns by fits to some, then guess where all of them are."""
    fits = _begun(view, None)
    narrowest = max(SMALLEST_SIGMA_PX, 0.6 * view.sigma_px)
    widest = 2.0 * view.sigma_px
    for _ in range(3):
        width = float(np.clip(_width_px(view, _probes(fits)), narrowest, widest))
        change, view = abs(np.log(width / view.sigma_px)), view._replace(sigma_px=width)
        if change < 0.15:
            break
        fits = _begun(view, None)
    if detect is not None:
        fits = _begun(view, _inside(detect(view.image), view.image.shape))
    return view, fits


def _begun(view: _View, guesses: npt.NDArray[np.float64] | None) -> Fits:
    """Lay out the fits at the guesses, or at all local maxima."""
    band, narrow = band_passed(view.clipped, view.sigma_px)
    positions = peaks(band, view.sigma_px) if guesses is None else guesses
    y, x = np.rint(positions).astype(np.intp).T
    height = np.maximum(band[y, x], 0.0) / (1 / (1 + NARROW**2) - 1 / (1 + WIDE**2))
    return starting(positions, height, narrow[y, x] - height / (1 + NARROW**2), view.sigma_px)


def _inside(guesses: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    positions = as_array("detect(image)", guesses, (None, 2))
    edge = np.array(shape) - 1.0
    return positions[np.all((positions >= 0) & (positions <= edge), axis=1)]


def _probes(fits: Fits) -> Fits:
    """Take some of the higher ones, evenly over the image."""
    height = fits.parameters[:, AMPLITUDE]
    if len(height) == 0:
        return fits
    high = np.flatnonzero(height >= 0.5 * np.quantile(height, 0.95))
    chosen = np.zeros(len(height), np.bool_)
    chosen[high[:: max(1, len(high) // PROBES)]] = True
    return fits.kept(chosen)


def _width_px(view: _View, probes: Fits) -> float:
    window = view.window(FIRST_RADIUS, LOOSE_WIDTH_PRIOR)
    for _ in range(4):
        improve(view.image, None, probes, window)
    good = (probes.pixels > 0) & (probes.parameters[:, AMPLITUDE] > 0)
    if not good.any():
        raise UnusableFrameError("no columns stand out of the image's noise")
    return float(np.exp(np.median(probes.parameters[good, LOG_SIGMA])))


def _fitted(view: _View, fits: Fits) -> tuple[_View, Fits, npt.NDArray[np.float64]]:
    """Fit all columns: first as if alone, then with what the others add taken out."""
    start = fits.parameters[:, :2].copy()
    window = view.window(FIRST_RADIUS, WIDTH_PRIOR)
    for _ in range(2):
        improve(view.image, None, fits, window)
    keep = _plausible(view, fits, start)
    fits, start = fits.kept(keep), start[keep]
    fits.middle[:] = np.rint(fits.parameters[:, :2])
    fits.active[:], fits.last[:] = True, 0.0
    model = render(fits.parameters, view.image.shape)
    view = view._replace(noise=noise_of_residual(view.image - model, view.image, sign=view.sign))
    window = view.window(RADIUS, WIDTH_PRIOR)
    for _ in range(MOST_STEPS):
        improve(view.image, model, fits, window)
        if not fits.active.any():
            break
        model = render(fits.parameters, view.image.shape)
    fits.covariance[:, :2, :2] += shared_covariance(model, fits, window)
    return view, fits, start


def _plausible(view: _View, fits: Fits, start: npt.NDArray[np.float64]) -> Mask:
    """Leave out what can only spoil its neighbours: noise, run away, or found twice."""
    moved = np.hypot(*(fits.parameters[:, :2] - start).T)
    signal = _signal(fits)
    keep = (fits.pixels > 0) & (signal > PRUNED_SIGNAL) & (moved < FARTHEST * view.sigma_px)
    return keep & ~_doubled(fits.parameters[:, :2], signal, keep, TWICE * view.sigma_px)


def _signal(fits: Fits) -> npt.NDArray[np.float64]:
    """Amplitude over its error."""
    variance = np.maximum(fits.covariance[:, AMPLITUDE, AMPLITUDE], 1e-30)
    return np.asarray(fits.parameters[:, AMPLITUDE] / np.sqrt(variance))


def _doubled(
    positions: npt.NDArray[np.float64],
    signal: npt.NDArray[np.float64],
    among: Mask,
    nearest_px: float,
) -> Mask:
    """Mark the weaker one of each pair that is too close to be two columns."""
    rows = np.flatnonzero(among)
    pairs = rows[cKDTree(positions[rows]).query_pairs(nearest_px, output_type="ndarray")]
    doubled = np.zeros(len(positions), np.bool_)
    weaker = np.where(signal[pairs[:, 0]] < signal[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    doubled[weaker] = True
    return doubled


def _typical_chi2(fits: Fits) -> tuple[npt.NDArray[np.float64], float]:
    """Chi^2 per degree of freedom of each fit, and its median over the clear columns."""
    chi2 = fits.chi2 / np.maximum(fits.pixels - 5, 1)
    clear = _signal(fits) > STRONG_SIGNAL
    return chi2, float(np.median(chi2[clear])) if clear.any() else 1.0


def _accepted(view: _View, fits: Fits, start: npt.NDArray[np.float64]) -> Mask:
    """Decide which fits are columns."""
    chi2, typical = _typical_chi2(fits)
    signal = _signal(fits) / np.sqrt(typical)
    positions = fits.parameters[:, :2]
    width = np.abs(fits.parameters[:, LOG_SIGMA] - np.log(view.sigma_px))
    margin = EDGE * view.sigma_px
    keep = (fits.pixels > 0) & (signal > LEAST_SIGNAL) & (width < np.log(WIDTH_RANGE))
    keep &= np.hypot(*(positions - start).T) < FARTHEST * view.sigma_px
    keep &= np.all(
        (positions >= margin) & (positions <= np.array(view.image.shape) - 1 - margin), axis=1
    )
    keep &= fits.worst < HOT * fits.chi2
    keep &= chi2 < typical + WORST_CHI2 * _spread(chi2[keep], fits.pixels[keep], typical)
    keep &= ~_saturated(view.image, positions)
    keep &= ~_doubled(positions, signal, keep, TWICE * view.sigma_px)
    return _supported(fits.parameters, signal, keep)


def _spread(chi2: npt.NDArray[np.float64], pixels: npt.NDArray[np.int64], typical: float) -> float:
    """Spread of chi^2 from column to column, seen or due, whichever is larger."""
    if len(chi2) == 0:
        return 0.0
    due = typical * np.sqrt(2.0 / max(float(np.median(pixels)) - 5.0, 1.0))
    return max(1.48 * float(np.median(np.abs(chi2 - np.median(chi2)))), due)


def _saturated(image: npt.NDArray[np.float32], positions: npt.NDArray[np.float64]) -> Mask:
    """Mark columns whose top is cut off: four of the nine middle pixels at the highest value."""
    highest = image.max()
    y, x = np.clip(np.rint(positions).astype(np.intp).T, 1, np.array(image.shape)[:, None] - 2)
    around = np.arange(-1, 2)
    tops = image[y[:, None, None] + around[:, None], x[:, None, None] + around]
    return np.asarray(np.sum(tops >= highest, axis=(1, 2)) >= 4)


def _supported(
    parameters: npt.NDArray[np.float64], signal: npt.NDArray[np.float64], keep: Mask
) -> Mask:
    """Keep weak columns only between clear ones: in vacuum the highest noise stands alone."""
    clear = keep & (signal > STRONG_SIGNAL)
    if clear.sum() < FEWEST_COLUMNS:
        return clear
    weak = np.flatnonzero(keep & ~clear)
    tree = cKDTree(parameters[clear, :2])
    spacing = np.median(tree.query(parameters[clear, :2], k=2)[0][:, 1])
    third = tree.query(parameters[weak, :2], k=3)[0][:, 2]
    height = parameters[:, AMPLITUDE]
    high = height[weak] > LOWEST * np.median(height[clear])
    clear[weak[(third < NEIGHBOURHOOD * spacing) & high]] = True
    return clear


def _columns(
    scaled: Normalised, view: _View, fits: Fits, keep: Mask, told: tuple[str, int]
) -> AtomColumns:
    """Give the results in detector units, each covariance scaled by chi^2 per degree of freedom."""
    chi2, typical = _typical_chi2(fits)
    signal = _signal(fits)[keep] / np.sqrt(typical)
    kept = fits.kept(keep)
    order = np.lexsort(np.rint(kept.parameters[:, [1, 0]]).T)
    parameters, signal, chi2 = kept.parameters[order], signal[order], chi2[keep][order]
    usual = typical * (1.0 + 2.5 * np.sqrt(2.0 / np.maximum(kept.pixels[order] - 5, 1)))
    scale = typical * np.maximum(1.0, chi2 / usual) / (1.0 - 2.0 / np.maximum(signal, 2.0) ** 2)
    amplitude = parameters[:, AMPLITUDE] * scaled.unit
    gain = view.noise.gain * view.sign * scaled.unit
    return AtomColumns(
        positions_px=parameters[:, :2],
        covariance_px2=kept.covariance[order, :2, :2] * scale[:, None, None],
        amplitude=amplitude,
        sigma_px=np.exp(parameters[:, LOG_SIGMA]),
        background=view.sign * parameters[:, BACKGROUND] * scaled.unit + scaled.zero,
        chi2=chi2,
        confidence=ndtr(signal - LEAST_SIGNAL),
        polarity="bright" if view.sign > 0 else "dark",
        finder=told[0],
        gain=gain,
        counts=amplitude / gain,
        dropped=told[1] - int(keep.sum()),
    )
