"""Normal equations of the lines' shifts: sums over the pixels of columns, line by line."""

from typing import Any, NamedTuple

import numba
import numpy as np

from nion_distortion.atoms.drawing import Floats, Image, gaussian
from nion_distortion.atoms.fit import FREE_ORDER, ONE, factorised, inverse
from nion_distortion.line_shifts.scene import BINS, RADIUS, Scene, Shapes, bin_of, window_of

__all__ = [
    "WAVES",
    "Equations",
    "Known",
    "add_pixels",
    "equations",
    "lines_of_column",
    "own_equations",
    "rooms_for",
    "waves_along",
]

FARTHEST2 = np.float32(4.0**2)
"""Squared distance in standard deviations from which a pixel says nothing."""

WAVES = 12
"""Waves of each line, of 0, 1, 2, ... half periods in it: the first is a shift of all of it."""


class Known(NamedTuple):
    """What is known beforehand."""

    usual: Floats
    """What a column of unit height has left, by its kind and the place in it, (kinds, k, k)."""
    noise: tuple[float, float, float]
    """From `noise_of_rest`."""
    moved_px: Floats
    """Motion of the beam, at the start of each line and of the one after the last, (2, ny + 1)."""
    within_px: Image
    """What adds to it in each line, at each pixel, (2, ny, nx), or (2, ny, 1): the same at all."""
    period_px: float
    """Line time over dwell time."""


class Equations(NamedTuple):
    """Normal equations of the lines' shifts along both axes, the columns' own numbers eliminated.

    For one column, with information w of each line, its coupling U to the column's place, height,
    width and background and their information G, it is ``K = diag(w) - U G^-1 U^T``.
    """

    band: Floats
    """Lower band of all K together, (2, width, ny)."""
    right: Floats
    """Of the waves along lines, (2, WAVES, ny)."""
    apart: Floats
    """Of each column by itself, added up: its expected square ``tr K`` if all is noise, ``tr K^2``,
    and the squares of its right sides, (2, 2 + WAVES)."""

    def along(self, axis: int) -> "Equations":
        """Return the equations of one axis.

        Parameters
        ----------
        axis : int
            0 for y, 1 for x.

        Returns
        -------
        Equations
            All arrays without their first axis.
        """
        return Equations(self.band[axis], self.right[axis], self.apart[axis])


def waves_along(x: Floats, width: int, count: int) -> Floats:
    """Evaluate waves of 0, 1, 2, ... half periods along a line, of unit mean square there.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Places in the line, px.
    width : int
        Pixels in a line.
    count : int
        Of the waves.

    Returns
    -------
    ndarray, shape (n, count)
        The first is 1.
    """
    waves = np.sqrt(2.0) * np.cos(np.pi / width * np.outer(x + 0.5, np.arange(count)))
    waves[:, 0] = 1.0
    return np.asarray(waves)


def lines_of_column(scene: Scene) -> int:
    """Count the lines of the largest column.

    Parameters
    ----------
    scene : Scene
        The columns.

    Returns
    -------
    int
        No column's window has more.
    """
    return 2 * int(RADIUS * float(scene.shapes.sigma.max())) + 2


def equations(scene: Scene, known: Known) -> Equations:
    """Sum up the normal equations of the lines' shifts.

    Parameters
    ----------
    scene : Scene
        The columns.
    known : Known
        What is known beforehand.

    Returns
    -------
    Equations
        Of all columns.
    """
    width, pixels = lines_of_column(scene), scene.image.shape[1]

    def _some(shapes: Shapes) -> Any:
        waves = waves_along(shapes.places[:, 1], pixels, WAVES)
        return _project(*scene[:2], shapes, known, width, waves)

    parts = zip(*scene.in_chunks(_some), strict=True)
    band, right, apart = (np.sum(part, axis=0) for part in parts)
    return Equations(band.transpose(0, 2, 1), right.transpose(0, 2, 1), apart)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project(image, drawn, shapes, known, width, waves):  # type: ignore[no-untyped-def]
    """Return `Equations` of some columns, lines first: those of one column lie side by side."""
    lines, count = image.shape[0], waves.shape[1]
    band, right = np.zeros((2, lines, width)), np.zeros((2, lines, count))
    apart, room = np.zeros((2, 2 + count)), rooms_for(width)
    # of each line: information, right side, and coupling to the column's own numbers; of these
    of_lines = np.empty((2, width)), np.empty((2, width)), np.empty((2, width, 5))
    of_column, back = (np.empty((5, 5)), np.empty(5)), np.empty((5, 5))
    own = np.empty((width, width)), np.empty(width)
    for n in range(len(shapes.height)):
        window = window_of(shapes, n, image.shape)
        add_pixels((image, drawn), shapes, n, window, known, (of_lines, of_column, room))
        if not factorised(of_column[0]):
            continue
        inverse(of_column[0], back)
        where = window[0], window[1] + 1 - window[0]
        for axis in range(2):
            part = of_lines[0][axis], of_lines[1][axis], of_lines[2][axis]
            own_equations(part, (back, of_column[1]), where[1], own)
            _add_lines(own, where, waves[n], (band[axis], right[axis], apart[axis]))
    return band, right, apart


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rooms_for(width):  # type: ignore[no-untyped-def]
    """Make room for what `add_pixels` needs on the way: new memory costs as much as a line.

    Parameters
    ----------
    width : int
        Most lines, and pixels in one, of a column.

    Returns
    -------
    tuple of ndarray
        To be used for one column after the other.
    """
    return np.empty((2, width), np.float32), np.empty((2, 5)), np.empty(5)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_pixels(images, shapes, n, window, known, into):  # type: ignore[no-untyped-def]
    """Sum over the pixels of one column products of its gradient z by what moves or was fitted.

    Parameters
    ----------
    images : tuple of ndarray
        The image, and what is drawn of it.
    shapes : Shapes
        The columns.
    n : int
        Which.
    window : tuple of int
        From `window_of`.
    known : Known
        What is known beforehand.
    into : tuple
        Written to: of each line information, right side and coupling along both axes; information
        (lower triangle) and right side of the column's own numbers; and what `rooms_for` gives.
    """
    (top, bottom, first, last), ((weights, sums, reach), (normal, totals), room) = window, into
    y, x, sigma = shapes.places[n, 0], shapes.places[n, 1], shapes.sigma[n]
    (image, drawn), height, background = images, shapes.height[n], shapes.background[n]
    usual, side, part = known.usual, known.usual.shape[1], x / known.period_px
    moved, within, slope = known.moved_px, known.within_px, height / sigma
    pixel = min(max(int(np.rint(x)), 0), within.shape[2] - 1)
    lines, product, right = room
    along_y, along_x = lines[0, : bottom - top + 1], lines[1, : last - first + 1]
    gaussian(along_y, top - y, np.log(sigma))
    gaussian(along_x, first - x, np.log(sigma))
    normal[:], totals[:] = 0.0, 0.0
    across = bin_of(first - x, side)
    for i in range(top, bottom + 1):
        place = i, first, shapes.kind[n], bin_of(i - y, side), across, first - x
        column = height, background, sigma, along_y[i - top]
        moments = _line_moments(image, drawn, usual, along_x, place, column, known.noise)
        _add_products(moments, (i - y) / sigma, normal, product, right)
        moved_y = moved[0, i] + part * (moved[0, i + 1] - moved[0, i]) + within[0, i, pixel]
        moved_x = moved[1, i] + part * (moved[1, i + 1] - moved[1, i]) + within[1, i, pixel]
        moved_y, moved_x = slope * moved_y, slope * moved_x
        for a in range(5):  # no whole arrays: each would be new memory
            right[a] -= product[0, a] * moved_y + product[1, a] * moved_x
            totals[a] += right[a]
            reach[0, i - top, a], reach[1, i - top, a] = (
                slope * product[0, a],
                slope * product[1, a],
            )
        weights[0, i - top] = slope * slope * product[0, 0]
        weights[1, i - top] = slope * slope * product[1, 1]
        sums[0, i - top], sums[1, i - top] = slope * right[0], slope * right[1]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FREE_ORDER)
def _line_moments(image, drawn, usual, along, place, column, noise):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    """Sum over one line, with weights w, rests r and heights e at distances d in sigma.

    ``w e^2 d^k`` (k = 0 to 4), ``w e d^k`` (0 to 2), ``w``, ``w e d^k r`` (0 to 2), ``w r``.
    """
    i, first, kind, row, across, nearest = place
    slope, offset, least = np.float32(noise[0]), np.float32(noise[1]), np.float32(noise[2])
    height, background, peak = np.float32(column[0]), np.float32(column[1]), column[3]
    inverse, away, none = np.float32(1.0 / column[2]), np.float32(nearest), np.float32(0.0)
    a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = c0 = r0 = r1 = r2 = q0 = none
    for j in range(len(along)):
        level = drawn[i, first + j]
        rest = image[i, first + j] - level - background
        rest -= height * np.float32(usual[kind, row, across + BINS * j])
        variance = max(slope * abs(level) + offset, least)
        w = ONE / variance if rest * rest < FARTHEST2 * variance else none
        e, d = peak * along[j], (away + np.float32(j)) * inverse
        we, wr = w * e, w * rest
        wee, wre, square = we * e, wr * e, d * d
        a0, a1, a2 = a0 + wee, a1 + wee * d, a2 + wee * square
        a3, a4 = a3 + wee * square * d, a4 + wee * square * square
        b0, b1, b2, c0 = b0 + we, b1 + we * d, b2 + we * square, c0 + w
        r0, r1, r2, q0 = r0 + wre, r1 + wre * d, r2 + wre * square, q0 + wr
    return (a0, a1, a2, a3, a4), (b0, b1, b2), c0, (r0, r1, r2), q0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_products(moments, dy, normal, product, right):  # type: ignore[no-untyped-def]
    """Add products of z with each other over one line at dy; fill in two rows of it, and the rests.

    In units of its own z is ``(e dy, e d, e, e (dy^2 + d^2), 1)``.
    """
    (a0, a1, a2, a3, a4), (b0, b1, b2), c0, (r0, r1, r2), q0 = moments
    yy, ya, yb = dy * dy, dy * a0, dy * b0
    square, cross = yy * a0 + a2, yy * a1 + a3
    product[0, 0], product[0, 1], product[0, 2] = yy * a0, dy * a1, ya
    product[0, 3], product[0, 4] = dy * square, yb
    product[1, 0], product[1, 1], product[1, 2] = dy * a1, a2, a1
    product[1, 3], product[1, 4] = cross, b1
    for a in range(5):
        normal[a, 0] += product[0, a]
    for a in range(1, 5):
        normal[a, 1] += product[1, a]
    normal[2, 2] += a0
    normal[3, 2] += square
    normal[4, 2] += b0
    normal[3, 3] += yy * (square + a2) + a4
    normal[4, 3] += yy * b0 + b2
    normal[4, 4] += c0
    right[0], right[1], right[2], right[3], right[4] = dy * r0, r1, r0, yy * r0 + r2, q0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def own_equations(of_lines, of_column, count, own):  # type: ignore[no-untyped-def]
    """Fill in the equations of one column's lines, its own numbers eliminated.

    Parameters
    ----------
    of_lines : tuple of ndarray
        Information of each line along one axis, right side, and coupling to the column's numbers.
    of_column : tuple of ndarray
        Inverse information of these, and their right side.
    count : int
        Lines of the column.
    own : tuple of ndarray, shape (width, width) and (width,)
        Written to: ``K[i, k]`` for k from i, and the right side.
    """
    (weights, sums, reach), (back, totals), (matrix, rest) = of_lines, of_column, own
    for i in range(count):
        p0 = p1 = p2 = p3 = p4 = 0.0
        for a in range(5):
            r = reach[i, a]
            p0, p1, p2 = p0 + back[0, a] * r, p1 + back[1, a] * r, p2 + back[2, a] * r
            p3, p4 = p3 + back[3, a] * r, p4 + back[4, a] * r
        eliminated = p0 * totals[0] + p1 * totals[1] + p2 * totals[2]
        eliminated += p3 * totals[3] + p4 * totals[4]
        rest[i] = sums[i] - eliminated
        for k in range(i, count):
            element = p0 * reach[k, 0] + p1 * reach[k, 1] + p2 * reach[k, 2]
            matrix[i, k] = -(element + p3 * reach[k, 3] + p4 * reach[k, 4])
        matrix[i, i] += weights[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_lines(own, where, waves, into):  # type: ignore[no-untyped-def]
    """Add the equations of one column's lines to those of all."""
    (matrix, rest), (top, count), (band, right, apart) = own, where, into
    squares = expected = information = 0.0
    for i in range(count):
        for k in range(i, count):
            element = matrix[i, k]
            band[top + i, k - i] += element
            information += 2.0 * element * element
        expected += matrix[i, i]
        information -= matrix[i, i] * matrix[i, i]
        squares += rest[i] * rest[i]
        for a in range(len(waves)):
            right[top + i, a] += waves[a] * rest[i]
    apart[0] += expected
    apart[1] += information
    for a in range(len(waves)):
        apart[2 + a] += waves[a] * waves[a] * squares
