"""From an image to its atomic columns: guesses, fits, and the decision afterwards."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nion_distortion._order import median
from nion_distortion._validation import check_finite
from nion_distortion.atoms.accept import (
    LEAST_SIGNAL,
    TWICE,
    accepted,
    beside,
    doubled,
    reduced_chi2,
    saturated,
    signal_of,
)
from nion_distortion.atoms.columns import AtomColumns
from nion_distortion.atoms.correlation import correlated_noise, lost_information
from nion_distortion.atoms.drawing import (
    AMPLITUDE,
    BACKGROUND,
    LOG_SIGMA,
    NO_TAIL,
    Tail,
    draw_anew,
    redraw,
    render,
)
from nion_distortion.atoms.empty import away_from, without_empty
from nion_distortion.atoms.fit import Fits, Window, improve
from nion_distortion.atoms.learning import broadening, learnt_window
from nion_distortion.atoms.maxima import Normalised, normalised
from nion_distortion.atoms.overlap import shared_covariance
from nion_distortion.atoms.shape import ColumnShape, Look, look_of, noise_of
from nion_distortion.atoms.tails import NOTHING_SEEN, TailSeen, learnt_tail, tail_of, unseen_share
from nion_distortion.atoms.view import (
    WIDTH_PRIOR,
    View,
    guessed,
    guessed_again,
    oriented,
    seen_again,
)
from nion_distortion.frame import UnusableFrameError
from nion_distortion.options import Detect

__all__ = ["find_columns"]

SMALLEST_IMAGE_PX, FEWEST_COLUMNS = 64, 6
"""Least side of an image, and fewest columns, that can be measured."""

FIRST_RADIUS, RADIUS = 2.0, 3.0
"""Radius of the fit window in sigma: narrow until neighbours are subtracted, then wide."""

FIRST_STEPS, LEARNING_STEPS, MOST_STEPS = 2, 2, 12
"""Iterations without neighbour subtraction; iterations with it before the tails are learnt (widths
and backgrounds are learnt after the first, tails that are known begin there); the most with it."""

PRUNED_SIGNAL = 1.0
"""Amplitude over its error below which a fit is dropped before neighbours are subtracted."""

SURE_CHI2 = 2.5
"""Excess of a fit's chi^2, in its statistical standard deviations, that still counts as chance."""


def find_columns(
    image: npt.ArrayLike, *, detect: Detect | None = None, known: ColumnShape | None = None
) -> AtomColumns:
    """Find the atomic columns of an image, with the covariance of each position.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Detector units of any gain and offset, columns bright or dark.
    detect : callable, optional
        Gives first guesses of the positions; gets the image normalised (`Normalised`) and with
        bright columns. None means `local_maxima`.
    known : ColumnShape, optional
        What the columns of the last frame of the same scan were like (`AtomColumns.shape`).

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
    finest detail of the residual. A Gaussian and a constant are fitted to each guess after
    subtraction of the other columns, including their wide tails, whose height is learnt from the
    image. Only then is it decided which fits are columns: by amplitude over error, width, chi^2,
    distance from the guess, and neighbours. An empty area (a single value far outside the range of
    the rest, or a large patch at the lowest value) is ignored for scale and noise, and columns cut
    by its rim are dropped.

    What is known from the last frame takes the place of the searches for contrast and width, and
    of what is learnt of tails and noise, for as long as the columns' number, height, width and
    chi^2 are the same; otherwise, with `detect` or an empty area, and in the frames that are
    learnt from (`ColumnShape.is_due`), all is found as if nothing were known.
    """
    values, empty = without_empty(_checked(image))
    scaled = normalised(values)
    found = None
    if known is not None and not known.is_due and detect is None and empty is None:
        found = _found_again(scaled, known)
    if found is None:
        found = _fitted(*guessed(oriented(scaled), detect))
    if empty is not None:
        found.keep[:] &= away_from(empty, found.fits.parameters[:, :2], found.view.sigma_px)
    if found.keep.sum() < FEWEST_COLUMNS:
        raise UnusableFrameError(_why_too_few(found))
    finder = "local_maxima" if detect is None else getattr(detect, "__name__", "detect")
    return _columns(scaled, found, finder, known)


class _Found(NamedTuple):
    """All guesses as they were fitted."""

    view: View
    """With the image's noise."""
    fits: Fits
    keep: npt.NDArray[np.bool_]
    """Those that are columns."""
    broader: npt.NDArray[np.float64]
    """As `AtomColumns.broadening`."""
    tail: TailSeen
    look: Look
    """By the first fits, in units of the normalised image."""
    guesses: int
    is_again: bool
    """Whether it was found by what the last frame knew."""


class _First(NamedTuple):
    """First fits that are worth going on with."""

    fits: Fits
    start_px: npt.NDArray[np.float64]
    """Where they began."""
    look: Look
    guesses: int


def _checked(image: npt.ArrayLike) -> npt.NDArray[np.float32]:
    raw = np.asarray(image)
    if raw.dtype.kind not in "biuf":
        raise ValueError(f"image must be real numbers, not {raw.dtype}")
    if raw.ndim != 2:
        raise ValueError(f"image must have two axes, not shape {raw.shape}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(raw, dtype=np.float32)
    check_finite(values)
    if min(raw.shape) < SMALLEST_IMAGE_PX:
        raise UnusableFrameError(
            f"the image has {raw.shape[0]} x {raw.shape[1]} pixels:"
            f" at least {SMALLEST_IMAGE_PX} x {SMALLEST_IMAGE_PX} are needed"
        )
    return values


def _found_again(scaled: Normalised, known: ColumnShape) -> _Found | None:
    """Find the columns with what is known from the last frame; None where they have changed."""
    noise = known.noise_in(scaled)
    view = seen_again(scaled, known.sign, known.band_sigma_px, noise, known.correlation)
    if view is None:
        return None
    begun, view = guessed_again(view), view._replace(sigma_px=known.sigma_px)
    first = _first_fits(view, begun)
    if not known.resembles(first.look.scaled(scaled.unit)):
        return None
    found = _settled(view, first, known)
    return found if known.explains(reduced_chi2(found.fits)[1]) else None


def _fitted(view: View, fits: Fits) -> _Found:
    """Fit all guesses, and learn from this image alone what they have in common."""
    return _settled(view, _first_fits(view, fits), None)


def _settled(view: View, first: _First, known: ColumnShape | None) -> _Found:
    """Fit to the end, estimate the noise from the residual, and decide which are columns."""
    fits, start, look, guesses = first
    fits.middle[:] = np.rint(fits.parameters[:, :2])
    cores = render(fits.parameters, view.image.shape)
    if known is None:
        view = _with_noise(view, fits, cores)
    window = view.window(RADIUS, WIDTH_PRIOR)
    model, window, tail = _settle(view, fits, cores, window, known)
    broader = broadening(fits, window)
    fits.covariance[:, :2, :2] *= unseen_share(fits, window, tail.height)
    fits.covariance[:, :2, :2] += shared_covariance(model, fits, window)
    _widen(view, fits, window)
    keep = accepted(view, fits, start, model, window)
    fits.parameters[:, AMPLITUDE] *= 1.0 + tail.height
    return _Found(view, fits, keep, broader, tail, look, guesses, known is not None)


def _with_noise(view: View, fits: Fits, cores: npt.NDArray[np.float32]) -> View:
    """Estimate the noise of the pixels from the residual, and its correlation between pixels."""
    background = median(fits.parameters[:, BACKGROUND]) if len(fits.chi2) else 0.0
    noise, correlation = correlated_noise(
        view.image - cores, view.image, cores, sign=view.sign, background=background
    )
    return view._replace(noise=noise, correlation=correlation)


def _widen(view: View, fits: Fits, window: Window) -> None:
    """Inflate all covariances, in place, for noise that is correlated between pixels.

    They are scaled by chi^2 later; its excess over 1 is not known to be correlated, so that the
    inflation applies to the noise's part only.
    """
    beyond = max(reduced_chi2(fits)[1] - 1.0, 0.0)
    more = np.sqrt((lost_information(fits, window, view.correlation) + beyond) / (1.0 + beyond))
    fits.covariance[:] *= np.outer(more, more)


def _first_fits(view: View, fits: Fits) -> _First:
    """Fit each guess as if it were alone; drop those too weak, or too close to a better one."""
    window = view.window(FIRST_RADIUS, WIDTH_PRIOR)
    start = _stepped_alone(view, fits, window)
    signal = signal_of(fits)
    keep = (fits.pixels > 0) & (signal > PRUNED_SIGNAL)
    keep &= ~doubled(fits.parameters[:, :2], signal, keep, TWICE * view.sigma_px)
    keep &= ~beside(fits.parameters[:, :2], signal, keep, view.sigma_px)
    kept = fits.rows(keep)
    return _First(kept, start[keep], look_of(kept, window), len(keep))


def _stepped_alone(view: View, fits: Fits, window: Window) -> npt.NDArray[np.float64]:
    """Step in place; return where the fits began."""
    start = fits.parameters[:, :2].copy()
    for _ in range(FIRST_STEPS):
        improve(view.image, None, fits, window)
    return start


def _why_too_few(found: _Found) -> str:
    cut_off = int(saturated(found.view.image, found.fits.parameters[:, :2]).sum())
    if 2 * cut_off > len(found.fits.chi2):
        return f"the image is saturated: {cut_off} of its columns are cut off at the highest value"
    few = int(found.keep.sum())
    return f"only {few} columns stand out of the image's noise: {FEWEST_COLUMNS} are needed"


def _settle(
    view: View,
    fits: Fits,
    cores: npt.NDArray[np.float32],
    window: Window,
    known: ColumnShape | None,
) -> tuple[npt.NDArray[np.float32], Window, TailSeen]:
    """Iterate to convergence with neighbours subtracted; give model, window, and tails."""
    learning = LEARNING_STEPS if known is None else 1
    fits.active[:], fits.last[:] = True, 0.0
    model, tail, seen = cores, NO_TAIL, NOTHING_SEEN
    for step in range(MOST_STEPS):
        moving = fits.active.copy()
        before = fits.parameters[moving]
        improve(view.image, model, fits, window)
        if step == 0:
            window = learnt_window(fits, window)
        if step == learning - 1:
            seen = learnt_tail(view.clipped, fits, window) if known is None else known.tail
            window, tail = _with_tail(fits, window, seen)
        if step < learning or 2 * len(before) > len(moving):
            draw_anew(model, fits.parameters, tail)
        else:
            redraw(model, before, fits.parameters[moving], tail)
        if not fits.active.any():
            break
    return model, window, seen


def _with_tail(fits: Fits, window: Window, seen: TailSeen) -> tuple[Window, Tail]:
    """Begin to draw tails, and lower cores and backgrounds to match, in place."""
    height, background = seen.height, seen.background
    fits.parameters[:, AMPLITUDE] *= 1.0 - height
    fits.parameters[:, BACKGROUND] += background
    fits.active[:], fits.last[:] = fits.pixels > 0, 0.0
    lower = window.widths.log_amplitude + float(np.log1p(-height))
    window = window._replace(
        background=window.background + background,
        widths=window.widths._replace(log_amplitude=lower),
    )
    return window, tail_of(height, fits, window)


def _columns(
    scaled: Normalised, found: _Found, finder: str, known: ColumnShape | None
) -> AtomColumns:
    """Give the results in detector units, each covariance scaled by chi^2."""
    view, fits, keep = found[:3]
    chi2, typical = reduced_chi2(fits)
    order = np.flatnonzero(keep)
    line, place = np.rint(fits.parameters[order, :2]).T
    # nearly in order already, which a stable sort of one key takes advantage of
    order = order[np.argsort(line * view.image.shape[1] + place, kind="stable")]
    parameters, signal = fits.parameters[order], signal_of(fits)[order] / np.sqrt(typical)
    amplitude = parameters[:, AMPLITUDE] * scaled.unit
    gain = view.noise.gain * view.sign * scaled.unit
    scale = typical * _scale(chi2[order] / typical, fits.pixels[order], signal)
    return AtomColumns(
        positions_px=parameters[:, :2],
        covariance_px2=fits.covariance[order][:, :2, :2] * scale[:, None, None],
        amplitude=amplitude,
        sigma_px=np.exp(parameters[:, LOG_SIGMA]),
        broadening=found.broader[order],
        background=view.sign * parameters[:, BACKGROUND] * scaled.unit + scaled.zero,
        chi2=chi2[order],
        confidence=ndtr(signal - LEAST_SIGNAL),
        polarity=view.polarity,
        finder=finder,
        gain=gain,
        gain_std=view.noise.gain_std * scaled.unit,
        counts=amplitude / gain,
        tail=found.tail.height,
        dropped=found.guesses - len(order),
        shape=_shape(scaled, found, typical, known),
    )


def _shape(
    scaled: Normalised, found: _Found, chi2: float, known: ColumnShape | None
) -> ColumnShape:
    """Note what the next frame of the scan need not learn."""
    if known is not None and found.is_again:
        return replace(known, frames=known.frames + 1)
    view = found.view
    learnt = ColumnShape(
        polarity=view.polarity,
        band_sigma_px=view.band_sigma_px,
        sigma_px=view.sigma_px,
        look=found.look.scaled(scaled.unit),
        noise=noise_of(scaled, view.noise, view.sign),
        correlation=view.correlation,
        chi2=chi2,
        tail=found.tail,
    )
    # what was not due and yet had to be learnt is of other columns
    return learnt.after(known) if known is not None and known.is_due else learnt


def _scale(
    chi2: npt.NDArray[np.float64], pixels: npt.NDArray[np.int64], signal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Find the factor by which each inverse information, scaled by typical chi^2, is too small.

    Only a chi^2 far above the frame's typical one says something of that column; smaller excesses
    are chance. A weak column's fit climbs its own noise in two coordinates:
    ``<A_fit^2> = A^2 + 2 var(A)``, so that the information, which goes with A^2, comes out too
    large; half of that is compensated by columns whose amplitude comes out too small.
    """
    chance = 1.0 + SURE_CHI2 * np.sqrt(2.0 / np.maximum(pixels - 5, 1))
    ridden = 1.0 - 1.0 / np.maximum(signal, 2.0) ** 2
    return np.asarray(np.maximum(1.0, chi2 / chance) / ridden, dtype=np.float64)
