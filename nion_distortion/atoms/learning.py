"""Priors on widths and backgrounds, learnt from the columns with the best signal."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._order import median, quantiles
from nion_distortion.atoms.drawing import (
    AMPLITUDE,
    BACKGROUND,
    LOG_SIGMA,
    Floats,
    Widths,
    usual_log_sigma,
)
from nion_distortion.atoms.fit import Fits, Window

__all__ = ["FEWEST_TEACHERS", "broadening", "learnt_window", "mean_log_sigma", "teachers"]

TAUGHT, FEWEST_TEACHERS = 1000, 12
"""Number of columns, about, that are learnt from; and the fewest with which anything is."""

LEAST_SIGNAL = 4.0
"""Least amplitude over its error of a column that is learnt from."""

LEAST_WIDTH_SPREAD, LEAST_BACKGROUND_SPREAD = 0.03, 0.05
"""Least standard deviations of the priors: of log sigma, and of the background in units of the
median amplitude."""

KINDS, LEAST_KINDS, CLEARER = (0.05, 0.95), 0.1, 10.0
"""Quantiles of log amplitude between which the width follows it. The slope is halved where the true
spread of log amplitude is the second (standard deviation), or the third times its errors
(variances)."""

NARROWED = 2.0
"""How much narrower than its column a fit is, in variances of its log sigma: it climbs its noise.
Measured: with this the usual widths of bright columns of eight crystals at 7 to 50 electrons are
within 0.03 of those at 1000, without it up to 0.09 too small."""

LEAST_OWN = 0.05
"""Floor of the weight that a fitted width gives to the data rather than to its prior."""

WIDEST = 3.0
"""Robust standard deviations beyond which a width is left out of the fit of the slope."""


def learnt_window(fits: Fits, window: Window) -> Window:
    """Learn how much widths and backgrounds differ from column to column.

    Parameters
    ----------
    fits : Fits
        Their present state.
    window : Window
        What they have shared so far.

    Returns
    -------
    Window
        With normal priors on both; unchanged where too few columns are clear.
    """
    chosen, _ = teachers(fits)
    if np.count_nonzero(chosen) < FEWEST_TEACHERS:
        return window
    taught = fits.rows(chosen)
    height = median(taught.parameters[:, AMPLITUDE])
    background, spread = _spread(
        taught.parameters[:, BACKGROUND], taught.covariance[:, BACKGROUND, BACKGROUND]
    )
    return _with_widths(window, taught)._replace(
        background=background,
        background_precision=max(spread, LEAST_BACKGROUND_SPREAD * height) ** -2,
    )


def broadening(fits: Fits, window: Window) -> Floats:
    """Say how much wider each column is than is usual at its brightness.

    Parameters
    ----------
    fits : Fits
        After convergence.
    window : Window
        What they share.

    Returns
    -------
    ndarray, shape (n, 2)
        Log of the width over the usual one, with the effects of the prior and of the noise
        removed, and its variance by the fit alone: true differences between columns come on top.
    """
    beyond, own = _apart(fits, window)
    variance = fits.covariance[:, LOG_SIGMA, LOG_SIGMA] / own
    return np.stack([beyond, variance], axis=1)


def _apart(fits: Fits, window: Window) -> tuple[Floats, Floats]:
    """Undo what prior and noise do to log sigma; give the deviations and the data's weights."""
    variance = fits.covariance[:, LOG_SIGMA, LOG_SIGMA]
    own = _own_share(fits, window)
    usual = _usual(window.widths, fits.parameters[:, AMPLITUDE])
    return (fits.parameters[:, LOG_SIGMA] - usual + NARROWED * variance) / own, own


def _own_share(fits: Fits, window: Window) -> Floats:
    """Weights that fitted widths give to the data; the rest is their prior's."""
    variance = fits.covariance[:, LOG_SIGMA, LOG_SIGMA]
    return np.asarray(np.maximum(1.0 - window.precision * variance, LEAST_OWN))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _usual(widths: Widths, amplitudes: Floats) -> Floats:
    """``usual_log_sigma`` of many columns."""
    usual = np.empty(len(amplitudes))
    for n in range(len(amplitudes)):
        usual[n] = usual_log_sigma(widths, amplitudes[n])
    return usual


def _with_widths(window: Window, fits: Fits) -> Window:
    """Learn how widths follow amplitudes, and their spread around that."""
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
    reach = float(np.max(np.abs(np.array(quantiles(brightness, KINDS)) - middle)))
    return window._replace(
        widths=Widths(typical, slope, middle, reach),
        precision=max(spread, LEAST_WIDTH_SPREAD) ** -2,
    )


def _slope(brightness: Floats, log_sigma: Floats, errors: Floats) -> float:
    """Regress log sigma on log amplitude, corrected for the correlated errors of the fits.

    A fit that is too wide is too low. The slope is shrunk where the true spread of amplitudes is
    small, or hardly larger than their errors.
    """
    off = np.abs(log_sigma - median(log_sigma))
    usual = off <= WIDEST * 1.4826 * median(off)
    seen = np.cov(brightness[usual], log_sigma[usual])
    of_fits = [median(one) for one in errors[:, usual]]
    kinds = max(float(seen[0, 0] - of_fits[0]), 0.0)
    doubt = (CLEARER * of_fits[0]) ** 2 + LEAST_KINDS**4
    return float((seen[0, 1] - of_fits[1]) * kinds / (kinds**2 + doubt))


def _spread(values: Floats, variance: Floats) -> tuple[float, float]:
    """Median, and robust standard deviation with the median error variance subtracted."""
    centre = median(values)
    seen = (1.4826 * median(np.abs(values - centre))) ** 2
    return centre, float(np.sqrt(max(seen - median(variance), 0.0)))


def mean_log_sigma(fits: Fits, window: Window) -> tuple[float, float]:
    """Return the mean logarithm of the widths, with the effect of their prior removed.

    Parameters
    ----------
    fits : Fits
        Of clear columns.
    window : Window
        What they share.

    Returns
    -------
    mean : float
        Of log sigma (px), as narrow as noise makes it: frames are compared by it. The median
        would jump between kinds of different width.
    error : float
        Its standard error, true differences between columns included.
    """
    usual = _usual(window.widths, fits.parameters[:, AMPLITUDE])
    log_sigma = usual + (fits.parameters[:, LOG_SIGMA] - usual) / _own_share(fits, window)
    return float(np.mean(log_sigma)), float(np.std(log_sigma) / np.sqrt(len(log_sigma)))


def teachers(fits: Fits) -> tuple[npt.NDArray[np.bool_], int]:
    """Choose the columns to learn from: clear ones, spread evenly over the image.

    Parameters
    ----------
    fits : Fits
        Their present state.

    Returns
    -------
    chosen : ndarray of bool, shape (n,)
        About `TAUGHT` of them, at most.
    clear : int
        How many there are to choose from.
    """
    variance = np.maximum(fits.covariance[:, AMPLITUDE, AMPLITUDE], 1e-30)
    chosen = fits.parameters[:, AMPLITUDE] > LEAST_SIGNAL * np.sqrt(variance)
    chosen &= fits.pixels == fits.pixels.max(initial=0)
    rows = np.flatnonzero(chosen)
    taught = np.zeros(len(chosen), np.bool_)
    taught[rows[:: max(1, len(rows) // TAUGHT)]] = True
    return taught, len(rows)
