"""Which fits are columns: decided after convergence, from all results of the fit."""

import numba
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nion_distortion._order import median, quantiles
from nion_distortion.atoms.drawing import AMPLITUDE, LOG_SIGMA
from nion_distortion.atoms.fit import Fits, Window, hottest
from nion_distortion.atoms.overlap import close_pairs
from nion_distortion.atoms.view import View

__all__ = [
    "LEAST_SIGNAL",
    "TWICE",
    "accepted",
    "beside",
    "doubled",
    "reduced_chi2",
    "saturated",
    "signal_of",
]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_CLEAR = 6
"""Fewest clear columns (`CLEAR_SIGNAL`) with which weak ones can be told from noise."""

LEAST_SIGNAL, CLEAR_SIGNAL = 1.7, 4.0
"""Amplitude over its error: below the first, noise; above the second, a clear column; between, a
weak one, which needs clear neighbours."""

LEAST_CLEAR, SURE_SIGNAL = 0.1, 5.5
"""Least share of clear columns (pure noise gives a few in a hundred); where there are fewer, the
amplitude over its error above which a fit is kept."""

NEIGHBOURHOOD, LOWEST = 2.5, 0.15
"""A weak column needs three clear ones within this many spacings, and this share of their median
height."""

BRIGHT_SIGNAL, HALO = 7.0, 3.6
"""Amplitude over its error of a bright column, and distance in sigma within which a weak fit is
taken for the residual of its imperfect subtraction."""

EDGE, TWICE, FARTHEST = 1.5, 1.2, 1.2
"""In sigma: least distance to the border, least distance of two columns, greatest distance of a
fit from its first guess."""

BESIDE, CROWDED, NEAR_SHARE = 2.9, 0.5, 0.2
"""Least distance of a weak column from a stronger one: in sigma, or, where that is less
(dumbbells), as a share of the spacing of clear ones; and the quantile of their nearest distances
that is the spacing."""

WIDTH_RANGE, WORST_CHI2, HOT = 1.6, 15.0, 0.5
"""Greatest ratio of a width to the typical one, or its inverse; greatest excess of chi^2, in its
spreads; and share of chi^2 from a single pixel beyond which that pixel is hot."""

SUSPICIOUS, CUT_OFF = 2.0, 4
"""Excess of chi^2, in its statistical standard deviations, beyond which a hot pixel is looked for;
and how many of the nine central pixels at the image's maximum mark a column as saturated."""

PROBED = 500
"""Number of clear columns, about, from whose nearest neighbours the spacing is taken."""


def signal_of(fits: Fits) -> Floats:
    """Return the amplitude over its error.

    Parameters
    ----------
    fits : Fits
        Any.

    Returns
    -------
    ndarray, shape (n,)
        With the noise model's own errors.
    """
    variance = np.maximum(fits.covariance[:, AMPLITUDE, AMPLITUDE], 1e-30)
    return np.asarray(fits.parameters[:, AMPLITUDE] / np.sqrt(variance), dtype=np.float64)


def reduced_chi2(fits: Fits) -> tuple[Floats, float]:
    """Return chi^2 per degree of freedom.

    Parameters
    ----------
    fits : Fits
        Any.

    Returns
    -------
    chi2 : ndarray, shape (n,)
        Of each fit.
    typical : float
        Median over the clear columns: 1 where noise model and shape are right.
    """
    chi2 = fits.chi2 / np.maximum(fits.pixels - 5, 1)
    clear = signal_of(fits) > CLEAR_SIGNAL
    return chi2, median(chi2[clear]) if clear.any() else 1.0


def doubled(positions_px: Floats, signal: Floats, among: Mask, reach_px: float) -> Mask:
    """Mark the weaker one of each pair that is too close to be two columns.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        Of all fits.
    signal : ndarray, shape (n,)
        Amplitude over its error.
    among : ndarray of bool, shape (n,)
        Those that count.
    reach_px : float
        How close that is.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for those to leave out.
    """
    rows = np.flatnonzero(among)
    pairs = rows[close_pairs(positions_px[rows], reach_px)]
    marked = np.zeros(len(positions_px), np.bool_)
    marked[_weaker(signal, pairs)] = True
    return marked


def _weaker(signal: Floats, pairs: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    first, second = pairs.T
    return np.asarray(np.where(signal[first] < signal[second], first, second))


def beside(positions_px: Floats, signal: Floats, among: Mask, sigma_px: float) -> Mask:
    """Mark weak fits so close to a stronger column that they fit noise on its flank.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        Of all fits.
    signal : ndarray, shape (n,)
        Amplitude over its error.
    among : ndarray of bool, shape (n,)
        Those that count.
    sigma_px : float
        Of a column.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for those to leave out; none where too few clear columns give the spacing.
    """
    clear, marked = among & (signal > CLEAR_SIGNAL), np.zeros(len(among), np.bool_)
    if clear.sum() < FEWEST_CLEAR:
        return marked
    rows, farthest = np.flatnonzero(among), BESIDE * sigma_px
    pairs = rows[close_pairs(positions_px[rows], farthest / CROWDED)]
    nearest = np.full(len(among), farthest / CROWDED)
    distance = _distances(positions_px, clear, pairs, nearest)
    (spacing,) = quantiles(nearest[clear], [NEAR_SHARE])
    near = pairs[distance < min(farthest, CROWDED * spacing)]
    marked[_weaker(signal, near)] = True
    return marked & ~clear


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _distances(
    positions_px: Floats, clear: Mask, pairs: npt.NDArray[np.int64], nearest: Floats
) -> Floats:
    """Return the distance of each pair; lower those of clear columns to the nearest clear one."""
    distance = np.empty(len(pairs))
    for k in range(len(pairs)):
        i, j = pairs[k]
        y, x = positions_px[i, 0] - positions_px[j, 0], positions_px[i, 1] - positions_px[j, 1]
        distance[k] = np.sqrt(y * y + x * x)
        if clear[i] and clear[j]:
            nearest[i] = min(nearest[i], distance[k])
            nearest[j] = min(nearest[j], distance[k])
    return distance


def accepted(
    view: View, fits: Fits, start_px: Floats, model: npt.NDArray[np.float32], window: Window
) -> Mask:
    """Decide which fits are columns.

    Parameters
    ----------
    view : View
        The image.
    fits : Fits
        After convergence.
    start_px : ndarray, shape (n, 2)
        First guesses of their positions.
    model : ndarray, shape (ny, nx)
        All columns drawn.
    window : Window
        What the fits share.

    Returns
    -------
    ndarray of bool, shape (n,)
        Those that are.
    """
    chi2, typical = reduced_chi2(fits)
    signal = signal_of(fits) / np.sqrt(typical)
    positions = fits.parameters[:, :2]
    keep = (fits.pixels > 0) & (signal > LEAST_SIGNAL)
    keep &= np.abs(fits.parameters[:, LOG_SIGMA] - window.widths.log_sigma) < np.log(WIDTH_RANGE)
    keep &= np.hypot(*(positions - start_px).T) < FARTHEST * view.sigma_px
    keep &= _away_from_edge(positions, EDGE * view.sigma_px, view.image.shape)
    usual = max(typical, 1.0)
    keep &= chi2 < usual + WORST_CHI2 * _spread(chi2[keep], fits.pixels[keep], usual)
    keep &= ~_hot(view, fits, model, window)
    keep &= ~saturated(view.image, positions)
    keep &= ~doubled(positions, signal, keep, TWICE * view.sigma_px)
    keep &= ~_halos(positions, signal, keep, view.sigma_px)
    return _supported(fits.parameters, signal, keep)


def _hot(view: View, fits: Fits, model: npt.NDArray[np.float32], window: Window) -> Mask:
    """Mark fits whose large chi^2 comes mostly from one pixel."""
    chi2, typical = reduced_chi2(fits)
    marked = chi2 > typical * (1.0 + SUSPICIOUS * np.sqrt(2.0 / np.maximum(fits.pixels - 5, 1)))
    marked[marked] = hottest(view.image, model, fits.rows(marked), window) > HOT
    return marked


def _halos(positions: Floats, signal: Floats, among: Mask, sigma_px: float) -> Mask:
    """Mark weak fits on the flank of a stronger column, or in the residual of a bright one."""
    weak, bright = among & (signal < CLEAR_SIGNAL), among & (signal > BRIGHT_SIGNAL)
    if not weak.any():
        return weak
    marked = beside(positions, signal, among, sigma_px)
    if bright.any():
        distance, _ = cKDTree(positions[bright]).query(positions[weak])
        marked[weak] |= distance < HALO * sigma_px
    return marked


def _away_from_edge(positions: Floats, margin: float, shape: tuple[int, ...]) -> Mask:
    farthest = np.array(shape) - 1.0 - margin
    return np.asarray(np.all((positions >= margin) & (positions <= farthest), axis=1))


def _spread(chi2: Floats, pixels: npt.NDArray[np.int64], typical: float) -> float:
    """Spread of chi^2 between columns: observed or statistically expected, whichever is larger."""
    if len(chi2) == 0:
        return 0.0
    due = typical * np.sqrt(2.0 / max(median(pixels) - 5.0, 1.0))
    return float(max(1.48 * median(np.abs(chi2 - median(chi2))), due))


def saturated(image: npt.NDArray[np.float32], positions: Floats) -> Mask:
    """Mark columns whose top is cut off.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Columns bright.
    positions : ndarray, shape (n, 2)
        Where they are.

    Returns
    -------
    ndarray of bool, shape (n,)
        Where four of the nine middle pixels have the image's highest value.
    """
    highest = image.max()
    if np.count_nonzero(image == highest) < CUT_OFF:
        return np.zeros(len(positions), np.bool_)
    y, x = np.clip(np.rint(positions).astype(np.intp).T, 1, np.array(image.shape)[:, None] - 2)
    around = np.arange(-1, 2)
    tops = image[y[:, None, None] + around[:, None], x[:, None, None] + around]
    return np.asarray(np.sum(tops >= highest, axis=(1, 2)) >= CUT_OFF)


def _supported(parameters: Floats, signal: Floats, keep: Mask) -> Mask:
    """Keep weak columns only between clear ones: in vacuum the highest noise stands alone."""
    clear = keep & (signal > CLEAR_SIGNAL)
    weak = np.flatnonzero(keep & ~clear)
    if clear.sum() < LEAST_CLEAR * keep.sum():
        return keep & (signal > SURE_SIGNAL)
    if clear.sum() < FEWEST_CLEAR or len(weak) == 0:
        return clear
    positions, height = parameters[clear, :2], parameters[:, AMPLITUDE]
    tree = cKDTree(positions)
    spacing = _spacing(tree)
    third, _ = tree.query(parameters[weak, :2], k=[3])
    high = height[weak] > LOWEST * median(height[clear])
    clear[weak[(np.ravel(third) < NEIGHBOURHOOD * spacing) & high]] = True
    return clear


def _spacing(tree: cKDTree) -> float:
    """Typical distance to the nearest neighbour."""
    nearest, _ = tree.query(tree.data[:: 1 + tree.n // PROBED], k=[2])
    return median(np.asarray(nearest))
