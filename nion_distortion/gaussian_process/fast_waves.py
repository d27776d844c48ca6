"""Waves of scan time that are too fast for the basis: what a fit's residual says about them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import cosines
from nion_distortion.gaussian_process.evidence import Scored
from nion_distortion.gaussian_process.hyperparameters import wave_variances

__all__ = ["FastWaves", "alias_variances", "find_fast_waves", "score_fast_waves"]

Array = npt.NDArray[np.float64]

MOST_WAVES = 200
LEAST_SEEN = 0.05
LEAST_LEFT = 0.5
"""Floor of the columns' squared response to W_k's functions; and least share of a fast wave that
these functions cannot fit for it to be used (where rows of columns lie along the lines, fast waves
look like slow ones: aliasing)."""

RIDGE = 1.5e-3
"""Ridge on W_k's functions when they are fitted to fast waves, relative to the columns' total
weight."""

FASTEST = 1.9
"""Phase (rad) of the fastest wave over a column's effective height (`Basis.height_px`): positions
along x hardly respond to faster ones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FastWaves:
    """Power of fast waves in the residual of one frame.

    Parameters
    ----------
    modes : ndarray, shape (k,)
        Half periods of each in the interval of W_k.
    square_px2 : ndarray, shape (2, k)
        Square of each wave's amplitude, (y, x).
    noise_px2 : ndarray, shape (2, k)
        Its expectation if the columns' own errors are all there is.
    left : ndarray, shape (k,)
        Share of each wave, at these columns, that W_k's functions together cannot fit.
    every : ndarray, shape (j,)
        As ``modes``, of all fast waves, including those left out as W_k's functions can fit them.
    taken_up : ndarray, shape (walk_modes, j)
        Squared weight that each of W_k's functions gets when it alone is fitted to each of
        ``every`` with unit amplitude: aliasing, where rows of columns lie along the lines.
    """

    modes: Array
    square_px2: Array
    noise_px2: Array
    left: Array
    every: Array
    taken_up: Array

    def __post_init__(self) -> None:
        for name in ("modes", "left", "every"):
            object.__setattr__(self, name, as_array(name, getattr(self, name), (None,)))
        for name in ("square_px2", "noise_px2"):
            object.__setattr__(self, name, as_array(name, getattr(self, name), (2, None)))
        object.__setattr__(self, "taken_up", as_array("taken_up", self.taken_up, (None, None)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


def find_fast_waves(basis: Basis, places: Array, residual: Array, weights: Array) -> FastWaves:
    """Look for waves of scan time that the basis does not hold.

    Parameters
    ----------
    basis : Basis
        The functions of the fit.
    places : ndarray, shape (n, 2)
        Places in the scan, px.
    residual : ndarray, shape (n, 2)
        What the fit has left, px.
    weights : ndarray, shape (n, 2)
        Inverse variances, px^-2.

    Returns
    -------
    FastWaves
        Each wave as if it were alone: over the frame they are nearly orthogonal.
    """
    lines, stretch = basis.shape_px[0], basis.scan_time.interval_lines / basis.shape_px[0]
    first = int(basis.walk_modes / stretch) + 2
    last = min(first + MOST_WAVES, lines)
    if basis.height_px > 0:
        last = min(last, int(FASTEST / basis.height_px * lines / np.pi))
    last = max(last, first) if basis.walk_modes else first
    time = (places[:, 0] + places[:, 1] / basis.period_px + 0.5) / lines
    waves = cosines(time, last)[first:]
    slow = cosines(basis.scan_time.unit(places), basis.walk_modes + 1)[1:]
    left, taken_up = _projected(waves, slow, weights[:, 0])
    used = left > LEAST_LEFT
    waves, left = waves[used], left[used]
    noise = 1.0 / np.maximum(weights.T @ (waves**2).T, np.finfo(float).tiny)
    amplitudes = (weights * residual).T @ waves.T * noise
    return FastWaves(
        modes=stretch * np.arange(first, last, dtype=np.float64)[used],
        square_px2=amplitudes**2,
        noise_px2=noise * left,
        left=left,
        every=stretch * np.arange(first, last, dtype=np.float64),
        taken_up=taken_up,
    )


def alias_variances(waves: FastWaves, basis: Basis, axis: int, logs: Array) -> tuple[Array, Array]:
    """Variance that aliased fast waves add to the weights of W_k along one axis, and its slopes.

    Parameters
    ----------
    waves : FastWaves
        Those of a frame.
    basis : Basis
        The functions.
    axis : {0, 1}
        0: y; 1: x.
    logs : ndarray, shape (10,)
        That axis of ``Hyperparameters.logs``.

    Returns
    -------
    variances : ndarray, shape (walk_modes,)
        In px^2.
    slopes : ndarray, shape (10, walk_modes)
        Derivatives of ``variances`` with respect to ``logs``.
    """
    variances, slopes = wave_variances(basis, logs, waves.every)
    part = basis.shown(waves.every)[axis] ** 2 * basis.scan_time.interval_lines / basis.shape_px[0]
    seen = basis.seen()[axis, basis.slices["walk"]] ** 2
    taken_up = waves.taken_up * part / np.maximum(seen, LEAST_SEEN)[:, None]
    return taken_up @ variances, slopes @ taken_up.T


def _projected(waves: Array, slow: Array, weights: Array) -> tuple[Array, Array]:
    """Fit the slow functions to each wave: the share that is left, and the squared weights.

    The share is for all functions fitted together, the weights for each alone: weights of a joint
    fit are large and cancel each other, which their squares would not show.
    """
    if not len(waves):
        return np.zeros(0), np.zeros((len(slow), 0))
    root = np.sqrt(weights)
    waves, slow = waves * root, slow * root
    gram, reach = slow @ slow.T, slow @ waves.T
    gram.flat[:: len(gram) + 1] += RIDGE * weights.sum()
    found = np.linalg.solve(gram, reach)
    whole = np.maximum((waves**2).sum(axis=1), np.finfo(float).tiny)
    left: Array = 1.0 - (reach * found).sum(axis=0) / whole
    taken_up: Array = np.square(reach / np.diag(gram)[:, None])
    return left, taken_up


def score_fast_waves(waves: FastWaves, basis: Basis, axis: int, logs: Array) -> Scored:
    """Score hyperparameters by the fast waves along one axis.

    Parameters
    ----------
    waves : FastWaves
        Those of one frame.
    basis : Basis
        The functions.
    axis : {0, 1}
        0: y; 1: x.
    logs : ndarray, shape (10,)
        That axis of ``Hyperparameters.logs``.

    Returns
    -------
    Scored
        Slope and curvature, (10,), with respect to ``logs``.

    Notes
    -----
    Amplitudes of independent waves are normal about zero [1]_. W_k's functions alone cannot tell
    jitter from the fast part of a walk; these can, and they show where there is neither.

    References
    ----------
    .. [1] P. Whittle, Estimation and information in stationary time series, Arkiv foer Matematik 2,
       423 (1953).
    """
    variances, slopes = wave_variances(basis, logs, waves.modes)
    part = (waves.left * basis.shown(waves.modes)[axis]) ** 2
    part *= basis.scan_time.interval_lines / basis.shape_px[0]
    square, expected = waves.square_px2[axis], waves.noise_px2[axis] + part * variances
    value = 0.5 * float((np.log(expected) + square / expected).sum())
    relative = slopes * (part / expected)
    return Scored(
        value, 0.5 * relative @ (1.0 - square / expected), 0.5 * (relative**2).sum(axis=1)
    )
