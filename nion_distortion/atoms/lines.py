"""How far each line of a scan is shifted: columns are rigid, so that their lines tell."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.linalg
import scipy.optimize

from nion_distortion._validation import as_array, owned, reduce_frozen
from nion_distortion.atoms.columns import AtomColumns
from nion_distortion.atoms.drawing import Floats, Image
from nion_distortion.atoms.line_sums import (
    Equations,
    Known,
    Scene,
    equations,
    noise_of_rest,
    usual_rest,
)

__all__ = ["BeamMotion", "LineShifts", "find_line_shifts"]

BETWEEN = 0.0077
"""Share of their variance by which shifts of independent lines, interpolated as a field is, miss
what an image interpolated by a spline shows between them; mean over the places there."""

SURE, DOUBT = 2.0, 0.05
"""Standard errors of a variance of the shifts that is not chance; and how well the pixels' noise is
known, as a share of its variance."""

LARGEST_PX2 = 1.0
"""Variance of shifts that is no jitter: the image does not look as its columns say."""

STEEPEST, STEEPEST_STEP = 0.75, 0.5
"""Change of the shift along y from line to line, in lines, as a field interpolates it, and the step
between two lines that comes to that: beyond, lines would overtake each other, and the corrected
picture has no place for that."""

MOST_CHANGED, MOST_ROUNDS = 0.1, 20
"""Shifts along y that would have to change by a larger share for that reason are not used at all: a
picture of such lines would be torn; and rounds of smoothing where the field is still too steep."""

WITHIN = np.linspace(0.0, 1.0, 5)
SLOPES = np.stack(
    [
        -1.5 * WITHIN**2 + 2.0 * WITHIN - 0.5,
        4.5 * WITHIN**2 - 5.0 * WITHIN,
        -4.5 * WITHIN**2 + 4.0 * WITHIN + 0.5,
        1.5 * WITHIN**2 - WITHIN,
    ]
)
"""Of a Catmull-Rom spline, which fields are interpolated by, by the four values around: (4, 5)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LineShifts:
    """What each line's beam did beside what is known of it.

    Parameters
    ----------
    shift_px : ndarray, shape (2, ny)
        Along y and x; the mean of what is possible.
    left_px2 : ndarray, shape (2,)
        Variance of what it may be beside that, mean over the lines.
    within_px2 : ndarray, shape (2,)
        Variance of what moves the beam within lines, as vibrations do: no shift of whole lines.
    """

    shift_px: Floats
    left_px2: Floats
    within_px2: Floats

    def __post_init__(self) -> None:
        for name, shape in (("shift_px", (2, None)), ("left_px2", (2,)), ("within_px2", (2,))):
            object.__setattr__(self, name, as_array(name, getattr(self, name), shape))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


class BeamMotion(NamedTuple):
    """What is known of the beam's motion in scan time."""

    at_starts_px: Floats
    """At the start of each line, and of one after the last, (2, ny + 1)."""
    period_px: float
    """Line time over dwell time."""
    slowest: float
    """Waves of fewer radians a line are known as well as they can be."""
    wave_px2: Floats
    """Variance that is expected of the waves of 0, 1, 2, ... half periods in all lines, (2, ny):
    those of independent shifts have the variance of the shifts."""


def find_line_shifts(
    image: Image, columns: AtomColumns, kind: npt.NDArray[np.integer], motion: BeamMotion
) -> LineShifts:
    """Find the shift of each line.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        The frame.
    columns : AtomColumns, n columns
        Those that stand in a lattice.
    kind : ndarray of int, shape (n,)
        Columns of one kind have one shape.
    motion : BeamMotion
        What is known beforehand.

    Returns
    -------
    LineShifts
        Zero where the lines show nothing but the noise of their pixels.

    Notes
    -----
    A column is rigid: it may stand anywhere, but where it looks different from line to line, the
    scan moved. With each column's own place, height, width and background free, nothing that the
    sample does is mistaken for the scan, not even rows that are shifted by turns. Shifts d of the
    lines change the image by ``-d dm/dx``; with the columns' numbers eliminated their normal
    equations are banded, ``M d = b``, and with independent d of variance J the covariance of b is
    ``M + J M^2``, which gives J by the method of moments, and the posterior mean ``(M + 1/J)^-1
    b``. What it leaves of the waves that were expected is read from the spectrum of the mean band.
    In the same way each column by itself gives a variance, which is larger where the beam moves
    within lines. What all columns of a kind have left at the same place in them is their shape and
    not the scan's.
    """
    scene = Scene.of(image, columns, kind)
    usual = usual_rest(scene)
    moved_px = np.ascontiguousarray(motion.at_starts_px)
    known = Known(usual, noise_of_rest(scene, usual), moved_px, motion.period_px)
    both = equations(scene, known)
    solved = [
        _solved(both.along(axis), prior, motion.slowest)
        for axis, prior in enumerate(motion.wave_px2)
    ]
    shift, left, within = (np.stack(part) for part in zip(*solved, strict=True))
    forward = _going_on(shift[0], motion.at_starts_px[0, :-1])
    left[0] += float(np.mean((shift[0] - forward) ** 2))
    shift[0] = forward
    return LineShifts(shift_px=owned(shift), left_px2=owned(left), within_px2=owned(within))


def _solved(along: Equations, prior: Floats, slowest: float) -> tuple[Floats, float, float]:
    """Solve for the shifts along one axis, with the variance that they seem to have."""
    band, right, (square, expected, information) = along
    spectrum, waves = _spectrum(band)
    squares = len(right) * float(np.mean(spectrum**2))
    if not min(squares, information) > 0.0:
        return np.zeros(len(right)), np.inf, 0.0
    variance = max((float(right @ right) - float(band[0].sum())) / squares, 0.0)
    spread = np.sum((spectrum + variance * spectrum**2) ** 2)
    chance = float(np.sqrt(2.0 * spread)) / squares
    within = float((square - expected) / information) - variance
    doubt = SURE * np.hypot(np.sqrt(2.0 / information), chance) + DOUBT * expected / information
    within = within if within > doubt else 0.0
    fast = waves > slowest
    if not SURE * chance <= variance < LARGEST_PX2:
        return np.zeros(len(right)), float(prior[fast].sum()) / len(waves), within
    whole = np.maximum(prior, variance) + variance**2 * spectrum
    left = whole / (1.0 + variance * spectrum) ** 2
    shift = _posterior_mean(band, right, variance, fast)
    return shift, float(left[fast].sum()) / len(waves) + BETWEEN * variance, within


def _posterior_mean(
    band: Floats, right: Floats, variance: float, fast: npt.NDArray[np.bool_]
) -> Floats:
    """Shifts of a variance, without their slow waves: those are known better already."""
    matrix = band.copy()
    matrix[0] += 1.0 / variance
    parts = scipy.fft.dct(scipy.linalg.solveh_banded(matrix, right, lower=True))
    parts[~fast] = 0.0
    return np.asarray(scipy.fft.idct(parts))


def _spectrum(band: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues of the mean band if it were the same everywhere, and their waves, rad a line."""
    lines = band.shape[1]
    mean = band.sum(axis=1) / lines
    waves = np.pi * np.arange(lines) / lines
    lags = np.arange(1, len(mean))
    spectrum = mean[0] + 2.0 * np.cos(np.outer(waves, lags)) @ mean[1:]
    return np.maximum(spectrum, 0.0), waves


def _going_on(shift: Floats, known: Floats) -> Floats:
    """Shorten shifts along y where lines would overtake each other: the nearest that do not."""
    least = STEEPEST_STEP * np.arange(len(shift)) - known
    forward = least - scipy.optimize.isotonic_regression(least - shift).x
    for _ in range(MOST_ROUNDS):
        whole = np.pad(forward + known, (1, 2), mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(whole, 4)
        steep = (around @ SLOPES).max(axis=1) > STEEPEST
        if not steep.any():
            break
        near = np.convolve(steep, np.ones(4))[1:-2] > 0.0  # all four of each
        smooth = np.convolve(np.pad(forward, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
        forward = np.where(near, smooth, forward)
    changed = np.square(forward - shift).mean()
    few = not steep.any() and changed <= MOST_CHANGED**2 * np.square(shift).mean()
    return np.asarray(forward if few else np.zeros(len(shift)))
