"""From an image to its atomic columns: guesses, fits, and the decision afterwards."""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nion_distortion.atoms.accept import (
    LEAST_SIGNAL,
    accepted,
    doubled,
    reduced_chi2,
    saturated,
    signal_of,
)
from nion_distortion.atoms.columns import AtomColumns
from nion_distortion.atoms.drawing import AMPLITUDE, BACKGROUND, LOG_SIGMA, redraw, render
from nion_distortion.atoms.fit import Fits, Window, improve
from nion_distortion.atoms.maxima import Normalised, normalised
from nion_distortion.atoms.noise import noise_of_residual
from nion_distortion.atoms.overlap import shared_covariance
from nion_distortion.atoms.view import WIDTH_PRIOR, View, guessed, oriented
from nion_distortion.frame import UnusableFrameError
from nion_distortion.options import Detect

__all__ = ["find_columns"]

SMALLEST_IMAGE_PX, FEWEST_COLUMNS = 64, 6
"""Less than this cannot be measured."""

FIRST_RADIUS, RADIUS = 2.0, 3.0
"""Window in sigma: narrow while neighbours are still in it, then all that a column tells."""

FIRST_STEPS, MOST_STEPS = 2, 12
"""Steps as if alone, and with neighbours taken out."""

PRUNED_SIGNAL = 1.0
"""Amplitude over its error below which a fit is left out before neighbours are taken out."""

FRINGES, LOOKED_AT_PX = 0.7, 256
"""How much slopes of one direction prevail: 0.01 to 0.36 in crystals, dumbbells the most, 0.86 and
more in lattice fringes; looked for in the middle of the image."""

SURE_CHI2 = 2.5
"""Standard deviations of chi^2 that count as chance."""


def find_columns(image: npt.ArrayLike, *, detect: Detect | None = None) -> AtomColumns:
    """Find the atomic columns of an image, with the covariance of each position.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Detector units of any gain and offset, columns bright or dark.
    detect : callable, optional
        First guesses from the image, brought to a scale of its own with its columns bright;
        None means `local_maxima`.

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
    view = oriented(scaled)
    if _one_sidedness(view.band) > FRINGES:
        raise UnusableFrameError(
            "the image changes in one direction only: it shows fringes or an edge, no columns"
        )
    view, begun = guessed(view, detect)
    view, fits, keep = _fitted(view, begun)
    if keep.sum() < FEWEST_COLUMNS:
        raise UnusableFrameError(_why_too_few(view, fits, int(keep.sum())))
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
        wrong = int(np.sum(~np.isfinite(values)))
        raise ValueError(f"image must be finite, but {wrong} of its pixels are not")
    if min(raw.shape) < SMALLEST_IMAGE_PX:
        raise UnusableFrameError(
            f"the image has {raw.shape[0]} x {raw.shape[1]} pixels:"
            f" at least {SMALLEST_IMAGE_PX} x {SMALLEST_IMAGE_PX} are needed"
        )
    return values


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


def _fitted(view: View, fits: Fits) -> tuple[View, Fits, npt.NDArray[np.bool_]]:
    """Fit all guesses and say which are columns; the noise is found without them."""
    start = fits.parameters[:, :2].copy()
    window = view.window(FIRST_RADIUS, WIDTH_PRIOR)
    for _ in range(FIRST_STEPS):
        improve(view.image, None, fits, window)
    plausible = _plausible(view, fits)
    fits, start = fits.rows(plausible), start[plausible]
    fits.middle[:] = np.rint(fits.parameters[:, :2])
    model = render(fits.parameters, view.image.shape)
    view = view._replace(noise=noise_of_residual(view.image - model, view.image, sign=view.sign))
    window = view.window(RADIUS, WIDTH_PRIOR)
    _settle(view, fits, model, window)
    keep = accepted(view, fits, start, model, window)
    fits.covariance[:, :2, :2] += shared_covariance(model, fits, window)
    return view, fits, keep


def _why_too_few(view: View, fits: Fits, found: int) -> str:
    cut_off = int(saturated(view.image, fits.parameters[:, :2]).sum())
    if 2 * cut_off > len(fits.chi2):
        return f"the image is saturated: {cut_off} of its columns are cut off at the highest value"
    return f"only {found} columns stand out of the image's noise: {FEWEST_COLUMNS} are needed"


def _plausible(view: View, fits: Fits) -> npt.NDArray[np.bool_]:
    """Leave out what can only spoil its neighbours: noise, run away, or found twice."""
    signal = signal_of(fits)
    keep = (fits.pixels > 0) & (signal > PRUNED_SIGNAL)
    return keep & ~doubled(fits.parameters[:, :2], signal, keep, view.sigma_px)


def _settle(view: View, fits: Fits, model: npt.NDArray[np.float32], window: Window) -> None:
    """Step until all stand still, each with what the others add taken out; the model follows."""
    fits.active[:], fits.last[:] = True, 0.0
    for _ in range(MOST_STEPS):
        moving = fits.active.copy()
        before = fits.parameters[moving]
        improve(view.image, model, fits, window)
        if 2 * len(before) > len(moving):
            model[:] = render(fits.parameters, view.image.shape)
        else:
            redraw(model, before, fits.parameters[moving])
        if not fits.active.any():
            break


def _columns(
    scaled: Normalised, view: View, fits: Fits, keep: npt.NDArray[np.bool_], told: tuple[str, int]
) -> AtomColumns:
    """Give the results in detector units, each covariance scaled by chi^2."""
    chi2, typical = reduced_chi2(fits)
    order = np.flatnonzero(keep)
    line, place = np.rint(fits.parameters[order, :2]).T
    order = order[np.lexsort((place, line))]
    parameters, signal = fits.parameters[order], signal_of(fits)[order] / np.sqrt(typical)
    amplitude = parameters[:, AMPLITUDE] * scaled.unit
    gain = view.noise.gain * view.sign * scaled.unit
    scale = typical * _scale(chi2[order] / typical, fits.pixels[order], signal)
    return AtomColumns(
        positions_px=parameters[:, :2],
        covariance_px2=fits.covariance[order, :2, :2] * scale[:, None, None],
        amplitude=amplitude,
        sigma_px=np.exp(parameters[:, LOG_SIGMA]),
        background=view.sign * parameters[:, BACKGROUND] * scaled.unit + scaled.zero,
        chi2=chi2[order],
        confidence=ndtr(signal - LEAST_SIGNAL),
        polarity="bright" if view.sign > 0 else "dark",
        finder=told[0],
        gain=gain,
        counts=amplitude / gain,
        dropped=told[1] - len(order),
    )


def _scale(
    chi2: npt.NDArray[np.float64], pixels: npt.NDArray[np.int64], signal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Find what the inverse information lacks.

    A chi^2 far above the frame's typical one speaks of one column, the rest is chance. A weak
    column's fit rides on its noise, two coordinates free: ``<A_fit^2> = A^2 + 2 var(A)``, so that
    the information, which goes with A^2, comes out too large.
    """
    chance = 1.0 + SURE_CHI2 * np.sqrt(2.0 / np.maximum(pixels - 5, 1))
    ridden = 1.0 - 2.0 / np.maximum(signal, 2.0) ** 2
    return np.asarray(np.maximum(1.0, chi2 / chance) / ridden, dtype=np.float64)
