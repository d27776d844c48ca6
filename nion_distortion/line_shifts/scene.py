"""An image, the columns drawn in it, and what is left of it: their usual shape, and the noise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion.atoms.columns import AtomColumns
from nion_distortion.atoms.drawing import Floats, Image, Places, render

__all__ = [
    "BINS",
    "RADIUS",
    "Scene",
    "Shapes",
    "bin_of",
    "noise_of_rest",
    "usual_rest",
    "window_of",
]

RADIUS = 2.5
"""Of the window that is looked at, in sigma of the column."""

TEACHERS, PROBED = 4000, 1000
"""Columns whose mean is their kinds' shape, and whose pixels tell the noise within 0.5 %."""

BINS, FEWEST = 2, 8
"""Of a column's usual shape, for each pixel; and the values that make a mean of one of them."""

FITTED = 5
"""Numbers that each column's fit has taken from its pixels."""

LEAST_VARIANCE = 0.1
"""Least variance of a pixel, as a share of their mean."""

SMALLEST_CHUNK = 256
"""Fewer columns need no second thread."""


class Shapes(NamedTuple):
    """Columns as they were fitted, in the units of the image."""

    places: Floats
    """(n, 2)"""
    height: Floats
    """Negative for dark columns."""
    sigma: Floats
    background: Floats
    kind: Places

    def rows(self, some: slice) -> "Shapes":
        """Return some of the columns.

        Parameters
        ----------
        some : slice
            Which.

        Returns
        -------
        Shapes
            Theirs.
        """
        places, height, sigma, background, kind = self
        return Shapes(places[some], height[some], sigma[some], background[some], kind[some])


class Scene(NamedTuple):
    """An image and the columns in it."""

    image: Image
    drawn: Image
    """All columns, without their backgrounds."""
    shapes: Shapes

    @classmethod
    def of(cls, image: Image, columns: AtomColumns, kind: npt.NDArray[np.integer]) -> "Scene":
        """Draw the columns.

        Parameters
        ----------
        image : ndarray, shape (ny, nx)
            The image.
        columns : AtomColumns, n columns
            As they were fitted.
        kind : ndarray of int, shape (n,)
            Columns of one kind have one shape.

        Returns
        -------
        Scene
            Of both.
        """
        height = (1.0 if columns.polarity == "bright" else -1.0) * columns.amplitude
        shapes = Shapes(
            np.array(columns.positions_px),
            height,
            np.array(columns.sigma_px),
            np.array(columns.background),
            np.asarray(kind, dtype=np.int64),
        )
        parameters = [shapes.places, height, np.log(shapes.sigma), shapes.background]
        ny, nx = image.shape
        drawn = render(np.column_stack(parameters), (ny, nx))
        return cls(np.ascontiguousarray(image), drawn, shapes)

    def some(self, most: int) -> "Scene":
        """Keep some of the columns, evenly over the image.

        Parameters
        ----------
        most : int
            About how many.

        Returns
        -------
        Scene
            The same picture, with all columns drawn.
        """
        every = slice(None, None, max(1, len(self.shapes.height) // most))
        return self._replace(shapes=self.shapes.rows(every))

    def in_chunks(self, function: Callable[[Shapes], Any]) -> list[Any]:
        """Call a function for some columns after the others, on two threads.

        Parameters
        ----------
        function : callable
            Of some of the columns.

        Returns
        -------
        list
            What it returned.
        """

        def _chunk(start: int, stop: int) -> Any:
            return function(self.shapes.rows(slice(start, stop)))

        return for_chunks(_chunk, len(self.shapes.height), smallest=SMALLEST_CHUNK)


def usual_rest(scene: Scene) -> Floats:
    """Average what the columns of each kind have left.

    Parameters
    ----------
    scene : Scene
        The columns.

    Returns
    -------
    ndarray, shape (kinds, k, k)
        In units of their height, by the place in the column, half a pixel apart.
    """
    scene, shapes = scene.some(TEACHERS), scene.shapes
    side = 2 * int(np.ceil(BINS * (RADIUS * shapes.sigma.max() + 1.0))) + 1
    size = (2, int(shapes.kind.max()) + 1, side, side)
    count, total = sum(scene.in_chunks(lambda some: _average(*scene[:2], some, size)))
    return np.asarray(np.where(count >= FEWEST, total / np.maximum(count, 1.0), 0.0))


def noise_of_rest(scene: Scene, usual: Floats) -> tuple[float, float, float]:
    """Lay a line through the squares of what is left, over the brightness of the drawn columns.

    Parameters
    ----------
    scene : Scene
        The columns.
    usual : ndarray, shape (kinds, k, k)
        From `usual_rest`.

    Returns
    -------
    slope, offset, least : float
        Variance of a pixel: ``slope |m| + offset``, and no less than the last.
    """
    scene = scene.some(PROBED)
    parts = scene.in_chunks(lambda some: _moments(*scene[:2], some, usual))
    count, level, square, left, both = np.sum(parts, axis=0)
    spread = square - level**2 / count
    slope = (both - level * left / count) / spread if spread > 0.0 else 0.0
    offset, least = (left - slope * level) / count, LEAST_VARIANCE * left / count
    free = count / max(count - FITTED * len(scene.shapes.height), 1.0)
    return float(free * slope), float(free * offset), float(free * least)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def window_of(shapes, n, shape):  # type: ignore[no-untyped-def]
    """Find a column's window in the image.

    Parameters
    ----------
    shapes : Shapes
        The columns.
    n : int
        Which.
    shape : tuple of int
        Of the image.

    Returns
    -------
    top, bottom, left, right : int
        First and last line and pixel.
    """
    y, x, reach = shapes.places[n, 0], shapes.places[n, 1], RADIUS * shapes.sigma[n]
    top, bottom = max(0, int(np.ceil(y - reach))), min(shape[0] - 1, int(np.floor(y + reach)))
    left, right = max(0, int(np.ceil(x - reach))), min(shape[1] - 1, int(np.floor(x + reach)))
    return top, bottom, left, right


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bin_of(away, side):  # type: ignore[no-untyped-def]
    """Find the bin of a column's usual shape.

    Parameters
    ----------
    away : float
        Of a pixel, from the middle of the column, px.
    side : int
        Bins along the axis.

    Returns
    -------
    int
        Which.
    """
    return int(np.rint(BINS * away)) + side // 2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _average(image, drawn, shapes, size):  # type: ignore[no-untyped-def]
    """Count the pixels, and sum what is left over the height, by kind and place in the column."""
    sums = np.zeros(size)
    for n in range(len(shapes.height)):
        top, bottom, left, right = window_of(shapes, n, image.shape)
        kind, part = shapes.kind[n], 1.0 / shapes.height[n]
        for i in range(top, bottom + 1):
            row = bin_of(i - shapes.places[n, 0], size[2])
            for j in range(left, right + 1):
                column = bin_of(j - shapes.places[n, 1], size[3])
                rest = image[i, j] - drawn[i, j] - shapes.background[n]
                sums[0, kind, row, column] += 1.0
                sums[1, kind, row, column] += rest * part
    return sums


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _moments(image, drawn, shapes, usual):  # type: ignore[no-untyped-def]
    """Sum 1, m, m^2, r^2 and m r^2 over the pixels: r what is left, m what is drawn."""
    sums, side = np.zeros(5), usual.shape[1]
    for n in range(len(shapes.height)):
        top, bottom, left, right = window_of(shapes, n, image.shape)
        kind, height = shapes.kind[n], shapes.height[n]
        for i in range(top, bottom + 1):
            row = bin_of(i - shapes.places[n, 0], side)
            for j in range(left, right + 1):
                rest = image[i, j] - drawn[i, j] - shapes.background[n]
                rest -= height * usual[kind, row, bin_of(j - shapes.places[n, 1], side)]
                level, square = abs(drawn[i, j]), rest * rest
                sums[0] += 1.0
                sums[1] += level
                sums[2] += level * level
                sums[3] += square
                sums[4] += level * square
    return sums
