"""What the columns of an image have in common, learnt from those that are seen well."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion.atoms.drawing import (
    AMPLITUDE,
    BACKGROUND,
    LOG_SIGMA,
    Floats,
    Widths,
    usual_log_sigma,
)
from nion_distortion.atoms.fit import Fits, Window

__all__ = ["FEWEST_TEACHERS", "broadening", "learnt_window"]

TAUGHT, FEWEST_TEACHERS = 1000, 12
"""Columns from which is learnt, about, and with fewer of which nothing is."""

LEAST_SIGNAL = 4.0
"""Amplitude over its error of a column from which something is learnt."""

LEAST_WIDTH_SPREAD, LEAST_BACKGROUND_SPREAD = 0.03, 0.05
"""Of log sigma, and of the background in the typical column's height: none are more alike."""

KINDS, LEAST_KINDS, CLEARER = (0.05, 0.95), 0.1, 10.0
"""Shares of the columns between which kinds lie; by how much their log amplitudes differ, as a
standard deviation, where half of a slope is believed; and so many of their errors, as variances."""

LEAST_OWN = 0.05
"""Least share of a width that counts as the fit's own, and not its prior's."""

WIDEST = 3.0
"""Robust deviations beyond which a width tells nothing of its kind."""


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
    taught = fits.rows(chosen)
    height = float(np.median(taught.parameters[:, AMPLITUDE]))
    background, spread = _spread(
        taught.parameters[:, BACKGROUND], taught.covariance[:, BACKGROUND, BACKGROUND]
    )
    return _with_widths(window, taught)._replace(
        background=background,
        background_precision=max(spread, LEAST_BACKGROUND_SPREAD * height) ** -2,
    )


def broadening(fits: Fits, window: Window) -> Floats:
    """Say how much wider each column is than those as bright as it.

    Parameters
    ----------
    fits : Fits
        When they stand still.
    window : Window
        What they share.

    Returns
    -------
    ndarray, shape (n, 2)
        Log of the width over the usual one, without the pull of the prior, and the variance of the
        fit; columns that differ by themselves differ by more.
    """
    beyond, own = _apart(fits, window)
    variance = fits.covariance[:, LOG_SIGMA, LOG_SIGMA] / own
    return np.stack([beyond, variance], axis=1)


def _apart(fits: Fits, window: Window) -> tuple[Floats, Floats]:
    """Pull apart again what the prior on widths has pulled together, and say how weak it was."""
    own = 1.0 - window.precision * fits.covariance[:, LOG_SIGMA, LOG_SIGMA]
    own = np.maximum(own, LEAST_OWN)
    usual = _usual(window.widths, fits.parameters[:, AMPLITUDE])
    return (fits.parameters[:, LOG_SIGMA] - usual) / own, own


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _usual(widths: Widths, amplitudes: Floats) -> Floats:
    """``usual_log_sigma`` of many columns."""
    usual = np.empty(len(amplitudes))
    for n in range(len(amplitudes)):
        usual[n] = usual_log_sigma(widths, amplitudes[n])
    return usual


def _with_widths(window: Window, fits: Fits) -> Window:
    """Learn how widths follow amplitudes, and how far they differ from that."""
    amplitude, variance = fits.parameters[:, AMPLITUDE], fits.covariance[:, LOG_SIGMA, LOG_SIGMA]
    beyond, own = _apart(fits, window)
    log_sigma = window.widths.log_sigma + beyond
    brightness = np.log(amplitude)
    errors = np.array(
        [
            fits.covariance[:, AMPLITUDE, AMPLITUDE] / amplitude**2,
            fits.covariance[:, AMPLITUDE, LOG_SIGMA] / (own * amplitude),
            variance / own,
        ]
    )
    middle, slope = float(np.mean(brightness)), _slope(brightness, log_sigma, errors)
    left = errors[2] - 2.0 * slope * errors[1] + slope**2 * errors[0]
    typical, spread = _spread(log_sigma - slope * (brightness - middle), left)
    reach = float(np.max(np.abs(np.quantile(brightness, KINDS) - middle)))
    return window._replace(
        widths=Widths(typical, slope, middle, reach),
        precision=max(spread, LEAST_WIDTH_SPREAD) ** -2,
    )


def _slope(brightness: Floats, log_sigma: Floats, errors: Floats) -> float:
    """Find how widths follow the brightness, beyond what errors of the same fits make them.

    Errors of both go together: a fit that is too wide is too low. Where amplitudes hardly differ
    by more than a few times their errors, or at all, the slope is believed less.
    """
    off = np.abs(log_sigma - np.median(log_sigma))
    usual = off <= WIDEST * 1.4826 * np.median(off)
    seen = np.cov(brightness[usual], log_sigma[usual])
    of_fits = np.median(errors[:, usual], axis=1)
    kinds = max(float(seen[0, 0] - of_fits[0]), 0.0)
    doubt = (CLEARER * of_fits[0]) ** 2 + LEAST_KINDS**4
    return float((seen[0, 1] - of_fits[1]) * kinds / (kinds**2 + doubt))


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
