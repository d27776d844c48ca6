"""Motion of the beam within lines, as vibrations make it: waves along each line."""

from typing import NamedTuple

import numba
import numpy as np
import scipy.linalg
import scipy.optimize

from nion_distortion.atoms.drawing import Floats
from nion_distortion.atoms.fit import factorised, inverse
from nion_distortion.line_shifts.equations import (
    WAVES,
    Known,
    add_pixels,
    lines_of_column,
    own_equations,
    rooms_for,
    waves_along,
)
from nion_distortion.line_shifts.scene import Scene, Shapes, window_of

__all__ = ["Within", "find_within"]

NONE = 1e9
"""Precision of waves that do not occur, in largest elements of the equations."""

HELD = 0.3
"""Variance of the mean motion over a column's lines, over that of independent lines: what it is for
vibrations that keep their phase for some periods."""

TINY = 1e-300


class Within(NamedTuple):
    """What moved the beam along one axis in each line."""

    waves_px: Floats
    """Of each line, (WAVES, ny): the mean of what is possible."""
    variance_px2: Floats
    """That they seem to have, (WAVES,)."""
    left_px2: Floats
    """Variance of what they may be beside their mean, by the wave over the lines, (WAVES, ny)."""


def find_within(scene: Scene, known: Known, axis: int, *, held: float = HELD) -> Within:
    """Find the waves of each line.

    Parameters
    ----------
    scene : Scene
        The image and its columns.
    known : Known
        What is known beforehand.
    axis : int
        Along which the beam moves: 0 is y, 1 is x.
    held : float, default: 0.3
        Variance of the mean motion over a column's lines, as a share of that of independent lines.

    Returns
    -------
    Within
        Zero for waves that do not occur.

    Notes
    -----
    The equations are those of `lines.find_line_shifts`, for each line's waves at the place of each
    column. Waves of different lines and numbers are independent; the variance of each number comes
    from the method of moments. But a vibration goes on from line to line, and its mean over the
    lines of a column is much smaller than that of independent ones, which says more of it than
    the lines do, and keeps columns in their places.
    """
    band, right = _gathered(scene, known, axis, 0.0)
    blocks, rest = _Blocks.of(band), right.reshape(-1, WAVES)
    variance, _ = scipy.optimize.nnls(blocks.squares, (rest**2).sum(axis=0) - blocks.trace)
    if variance[1:].any():
        band, _ = _gathered(scene, known, axis, 1.0 / (held * float(variance[1:].sum())))
    none = np.full(WAVES, NONE * max(float(band[:, 0].max()), TINY))
    precision = np.divide(1.0, variance, out=none, where=variance > 0.0)
    band[:, 0] += np.tile(precision, len(rest))
    waves = scipy.linalg.solveh_banded(band.T, right, lower=True, overwrite_ab=True)
    waves = np.where(variance > 0.0, waves.reshape(-1, WAVES), 0.0)
    return Within(waves.T, variance, blocks.left_px2(variance))


def _gathered(scene: Scene, known: Known, axis: int, held: float) -> tuple[Floats, Floats]:
    """Lower band by columns, (ny WAVES, width WAVES), and right side, lines before waves.

    ``held`` is the information that the mean over the lines of each column, of unit variance if
    theirs is independent and one, is zero.
    """
    ny, nx = scene.image.shape
    width = lines_of_column(scene)
    band, right = np.zeros((ny * WAVES, width * WAVES)), np.zeros(ny * WAVES)

    def _some(shapes: Shapes) -> tuple[int, Floats, Floats]:
        waves = waves_along(shapes.places[:, 1], nx, WAVES)
        so = axis, held
        found: tuple[int, Floats, Floats] = _project(*scene[:2], shapes, known, width, waves, so)
        return found

    for first, some, rest in scene.in_chunks(_some):
        rows = slice(first * WAVES, first * WAVES + len(rest))
        band[rows] += some
        right[rows] += rest
    return band, right


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project(image, drawn, shapes, known, width, waves, so):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    """Sum up the equations of some columns: their first line, band and right side."""
    count, lines, (axis, held) = waves.shape[1], image.shape[0], so
    first, last = lines, -1
    for n in range(len(shapes.height)):
        window = window_of(shapes, n, image.shape)
        first, last = min(first, window[0]), max(last, window[1])
    band = np.zeros(((last + 1 - first) * count, width * count))
    right = np.zeros((last + 1 - first) * count)
    of_lines = np.empty((2, width)), np.empty((2, width)), np.empty((2, width, 5))
    of_column, back = (np.empty((5, 5)), np.empty(5)), np.empty((5, 5))
    own, mean, room = (np.empty((width, width)), np.empty(width)), np.empty(width), rooms_for(width)
    for n in range(len(shapes.height)):
        window = window_of(shapes, n, image.shape)
        add_pixels((image, drawn), shapes, n, window, known, (of_lines, of_column, room))
        if not factorised(of_column[0]):
            continue
        inverse(of_column[0], back)
        part = of_lines[0][axis], of_lines[1][axis], of_lines[2][axis]
        own_lines = window[1] + 1 - window[0]
        own_equations(part, (back, of_column[1]), own_lines, own)
        mean[:own_lines] = of_lines[0][1, :own_lines]
        mean[:own_lines] /= np.sqrt((mean[:own_lines] ** 2).sum())
        where = window[0] - first, own_lines
        _add_waves(own, where, waves[n], (held, mean), (band, right))
    return first, band, right


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_waves(own, where, waves, hold, into):  # type: ignore[no-untyped-def]
    """Add the equations of one column's lines for each pair of waves at its place."""
    (matrix, rest), (top, lines), (held, mean), (band, right) = own, where, hold, into
    count = len(waves)
    for i in range(lines):
        for a in range(count):
            row = (top + i) * count + a
            right[row] += rest[i] * waves[a]
            part = held * mean[i] if a > 0 else 0.0
            for k in range(i, lines):
                begun = (k - i) * count - a
                for b in range(a if k == i else 0, count):
                    element = matrix[i, k] + (part * mean[k] if b > 0 else 0.0)
                    band[row, begun + b] += element * waves[a] * waves[b]


class _Blocks(NamedTuple):
    """What the equations are on average: pairs of waves, by the distance of their lines."""

    mean: Floats
    """(width, WAVES, WAVES)"""
    squares: Floats
    """Sum of squares of all elements for each pair of waves, (WAVES, WAVES)."""
    trace: Floats
    """(WAVES,)"""
    lines: int

    @classmethod
    def of(cls, band: Floats) -> "_Blocks":
        lines, width = len(band) // WAVES, band.shape[1] // WAVES
        each = band.reshape(lines, WAVES, -1)
        apart, first, second = np.indices((width, WAVES, WAVES))
        is_swapped = (apart == 0) & (second < first)  # only half of each line's own block is there
        row = np.where(is_swapped, second, first)
        place = apart * WAVES + np.where(is_swapped, first - second, second - first)
        mean = each.mean(axis=0)[row, place]
        square = np.einsum("lap,lap->ap", each, each)[row, place]
        both = square[0] + square[1:].sum(axis=0) + square[1:].sum(axis=0).T
        return cls(mean, both, lines * np.diagonal(mean[0]).copy(), lines)

    def left_px2(self, variance: Floats) -> Floats:
        """Variance that stays, if all lines were alike, (WAVES, ny)."""
        waves = np.pi * np.arange(self.lines) / self.lines
        factor = 2.0 * np.cos(np.outer(waves, np.arange(len(self.mean))))
        factor[:, 0] = 1.0
        root = np.sqrt(variance)
        shown = np.einsum("kw,wab->kab", factor, self.mean) * np.outer(root, root)
        left = np.linalg.inv(np.eye(WAVES) + shown)
        return np.asarray(np.diagonal(left, axis1=1, axis2=2).T * variance[:, None])
