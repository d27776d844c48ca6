"""How far each line of a scan is shifted, and bent: columns are rigid, so that their lines tell."""

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
from nion_distortion.line_shifts.equations import (
    WAVES,
    Equations,
    Known,
    equations,
    lines_of_column,
    waves_along,
)
from nion_distortion.line_shifts.scene import Scene, noise_of_rest, usual_rest
from nion_distortion.line_shifts.within import find_within

__all__ = ["BeamMotion", "LineShifts", "find_line_shifts"]

BETWEEN = 0.0077
"""Share of their variance by which shifts of independent lines, interpolated as a field is, miss
what an image interpolated by a spline shows between them; mean over the places there."""

SURE, DOUBT = 3.0, 0.05
"""Standard errors of a variance of the motion that is not chance; and how well the pixels' noise is
known, as a share of its variance."""

SEEN = 3.5
"""Standard errors of one of eleven waves along lines that are not chance."""

LEAKING = 0.05
"""Share of the variance of whole lines' shifts that columns unevenly spread show as waves."""

MOST_ELEMENTS = 4e7
"""Of the equations of waves along lines; more would take 0.3 GB, and seconds."""

LARGEST_PX2 = 1.0
"""Variance of shifts that is no jitter: the image does not look as its columns say."""

STEEPEST, STEEPEST_STEP = 0.75, 0.5
"""Change of the shift along y from line to line, in lines, as a field interpolates it, and the step
between two lines that comes to that: beyond, lines would overtake each other, and the corrected
picture has no place for that."""

MOST_ROUNDS = 20
"""Of smoothing where the field is still too steep."""

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
    along_px : ndarray, shape (2, k, ny)
        Motion within each line, as vibrations make it: waves of 1, 2, ... half periods along it;
        none where nothing moves within lines.
    within_px2 : ndarray, shape (2,)
        Variance of what may move the beam within lines beside that.
    """

    shift_px: Floats
    left_px2: Floats
    along_px: Floats
    within_px2: Floats

    def __post_init__(self) -> None:
        shapes = {"shift_px": (2, None), "left_px2": (2,), "within_px2": (2,)}
        for name, shape in (shapes | {"along_px": (2, None, None)}).items():
            object.__setattr__(self, name, as_array(name, getattr(self, name), shape))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def rms_px(self) -> float:
        """Root mean square length of the motion over the scan."""
        squares = np.square(self.shift_px).sum(axis=0) + np.square(self.along_px).sum(axis=(0, 1))
        return float(np.sqrt(squares.mean()))

    def on_pixels(self, width: int) -> Image:
        """Evaluate the motion in the scan.

        Parameters
        ----------
        width : int
            Pixels in a line.

        Returns
        -------
        ndarray of float32, shape (2, ny, width), or (2, ny, 1) where lines are shifted only
            In px.
        """
        whole = self.shift_px[:, :, None].astype(np.float32)
        if not self.along_px.any():
            return whole
        waves = waves_along(np.arange(float(width)), width, 1 + self.along_px.shape[1])[:, 1:]
        within = self.along_px.swapaxes(1, 2).astype(np.float32) @ waves.T.astype(np.float32)
        return np.asarray(whole + within)


class BeamMotion(NamedTuple):
    """What is known of the beam's motion in scan time."""

    at_starts_px: Floats
    """At the start of each line, and of one after the last, (2, ny + 1)."""
    within_px: Image
    """What the mains adds in each line, at each pixel, (2, ny, nx), or (2, ny, 1): the same."""
    period_px: float
    """Line time over dwell time."""
    slowest: float
    """Waves of fewer radians a line are known as well as they can be."""
    wave_px2: Floats
    """Variance that is expected of the waves of 0, 1, 2, ... half periods in all lines, (2, ny):
    those of independent shifts have the variance of the shifts."""

    def along_y(self, x: Floats) -> Floats:
        """Evaluate the motion along y at some places in each line.

        Parameters
        ----------
        x : ndarray, shape (n,)
            The places, px.

        Returns
        -------
        ndarray, shape (n, ny)
            In px.
        """
        starts, within = self.at_starts_px[0], self.within_px[0]
        pixel = np.rint(x).astype(int).clip(0, within.shape[1] - 1)
        going_on = np.outer(x / self.period_px, np.diff(starts))
        return np.asarray(starts[:-1] + going_on + within[:, pixel].T)


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
    within lines; there, and where different columns show the same waves along lines, these are
    solved for as well. What all columns of a kind have left at the same place in them is their
    shape and not the scan's.
    """
    scene = Scene.of(image, columns, kind)
    usual = usual_rest(scene)
    moved_px = np.ascontiguousarray(motion.at_starts_px), np.ascontiguousarray(motion.within_px)
    known = Known(usual, noise_of_rest(scene, usual), *moved_px, motion.period_px)
    both = equations(scene, known)
    solved = [
        _solved(both.along(axis), prior, motion.slowest)
        for axis, prior in enumerate(motion.wave_px2)
    ]
    shift, left, within, is_moving = (np.stack(part) for part in zip(*solved, strict=True))
    forward = _going_on(shift[0], motion.along_y(np.zeros(1))[0])
    left[0] += float(np.mean((shift[0] - forward) ** 2))
    shift[0] = forward
    along_px = np.zeros((2, WAVES - 1 if is_moving.any() else 0, len(forward)))
    for axis in np.flatnonzero(is_moving).tolist():
        found = _waves(scene, known, axis, motion)
        beside = max(within[axis] - found.variance_px2, 0.0)
        within[axis] = found.within_px2 + beside
        if found.waves_px.any():
            shift[axis], along_px[axis] = found.waves_px[0], found.waves_px[1:]
            left[axis] = max(found.left_px2, 0.0 if shift[axis].any() else left[axis])
    return LineShifts(
        shift_px=owned(shift),
        left_px2=owned(left),
        along_px=owned(along_px),
        within_px2=owned(within),
    )


def _shared(along: Equations, spectrum: Floats) -> tuple[Floats, float]:
    """Variance of shifts and waves that different columns show, and by how many squares.

    Products of a column with itself are left out, so that it does not matter how large the noise
    of the pixels is.
    """
    _, information, *own = along.apart
    squares = float(np.square(spectrum).sum()) - float(information)
    if not squares > 0.0:
        return np.zeros(len(own)), 0.0
    return (np.square(along.right).sum(axis=1) - own) / squares, squares


class _Waves(NamedTuple):
    """Motion within lines, fit for a field."""

    waves_px: Floats
    """Of each line, (WAVES, ny); zero if they are not."""
    variance_px2: float
    """That all but the first seem to have."""
    left_px2: float
    """What the first, which shifts whole lines, may be beside its mean."""
    within_px2: float
    """What all others may be beside theirs."""


def _waves(scene: Scene, known: Known, axis: int, motion: BeamMotion) -> _Waves:
    """Find what moved the beam within lines, and make it fit for a field, if it can be.

    Whole lines' slow waves are known better already; and lines must not overtake each other.
    """
    lines, width = scene.image.shape
    if lines * lines_of_column(scene) * WAVES**2 > MOST_ELEMENTS:
        return _Waves(np.zeros((WAVES, lines)), 0.0, 0.0, 0.0)
    found = find_within(scene, known, axis)
    whole, within = float(found.variance_px2[0]), float(found.variance_px2[1:].sum())
    unused = _Waves(np.zeros_like(found.waves_px), within, whole, within)
    if not whole + within < LARGEST_PX2:
        return unused
    waves, number = found.waves_px.copy(), np.arange(found.waves_px.shape[1])
    fast = np.pi * number / len(number) > motion.slowest
    shifts = scipy.fft.dct(waves[0])
    shifts[~fast] = 0.0
    waves[0] = scipy.fft.idct(shifts)
    left = float(found.left_px2[0, fast].sum()) / len(number) + BETWEEN * whole
    remains = float(found.left_px2[1:].mean(axis=1).sum()) + BETWEEN * within
    if axis == 1:
        return _Waves(waves, within, left, remains)
    x = (np.arange(WAVES) + 0.5) * width / WAVES - 0.5  # there the waves are orthogonal
    to_places = waves_along(x, width, WAVES)
    wanted = to_places @ waves
    there = zip(wanted, motion.along_y(x), strict=True)
    forward = np.stack([_going_on(one, moved) for one, moved in there])
    if not forward.any(axis=1).all():
        return unused
    remains += float(np.square(wanted - forward).mean())
    return _Waves(to_places.T @ forward / WAVES, within, left, remains)


def _solved(along: Equations, prior: Floats, slowest: float) -> tuple[Floats, float, float, bool]:
    """Solve for the shifts along one axis, with the variance that they seem to have.

    Returned beside them and what they leave: variance of what moves within lines, and whether
    anything does.
    """
    band, (right, *_), (expected, information, square, *_) = along
    spectrum, waves = _spectrum(band)
    (variance, *others), squares = _shared(along, spectrum)
    if not min(squares, information) > 0.0:
        return np.zeros(len(right)), np.inf, 0.0, False
    noise = float(np.sqrt(2.0 * np.square(spectrum).sum())) / squares
    variance = max(float(variance), 0.0)
    spread = np.sum((spectrum + variance * spectrum**2) ** 2)
    chance = float(np.sqrt(2.0 * spread)) / squares
    within = float((square - expected) / information) - variance
    doubt = SURE * np.hypot(np.sqrt(2.0 / information), chance) + DOUBT * expected / information
    within = within if within > doubt else 0.0
    is_moving = within > 0.0 or max(others) > SEEN * noise + LEAKING * variance
    fast = waves > slowest
    if not SURE * chance <= variance < LARGEST_PX2:
        return np.zeros(len(right)), float(prior[fast].sum()) / len(waves), within, is_moving
    whole = np.maximum(prior, variance) + variance**2 * spectrum
    left = whole / (1.0 + variance * spectrum) ** 2
    shift = _posterior_mean(band, right, variance, fast)
    remains = float(left[fast].sum()) / len(waves) + BETWEEN * variance
    return shift, remains, within, is_moving


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
    return np.asarray(np.zeros(len(shift)) if steep.any() else forward)
