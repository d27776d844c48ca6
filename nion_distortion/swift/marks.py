"""Columns, ideal sites and displacements of a frame, and their picture. Knows no host."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nion_distortion.distortion import DistortionField
    from nion_distortion.session import LiveReport

__all__ = ["ARROW", "FOUND", "IDEAL", "Marks", "drawn", "marks_of"]

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

MOST_MARKS = 1600
"""More columns than this are shown in part: nobody could tell the marks apart."""

GRID = 16
"""Arrows along an axis where there are no columns."""

Colour = tuple[int, int, int]

FOUND: Colour = (60, 230, 255)
IDEAL: Colour = (255, 95, 210)
ARROW: Colour = (255, 226, 60)
"""Red, green, blue."""

HALO = 0.6
"""How dark the surrounding of a mark is: bright lines are seen on white columns by it."""

HALOS = (HALO * np.arange(256)).astype(np.uint8)
"""Of each ink."""

LONGEST_PX = 4000.0
"""Of an arrow, which ends outside by then: a field that has gone wrong must not fill the memory."""

CROSS_PX, SITE_PX, HEAD_PX, HEAD_SHARE, HEAD_WIDTH = 3.0, 0.7, 5.0, 0.45, 0.5
"""Half a cross, half a dot; an arrow's head is at most the last share of it."""

SPACING_PX, INK = 0.8, 1.1
"""Between two points of a line, and what each puts on its pixel."""


def _none() -> Array:
    return np.zeros((0, 2))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marks:
    """What is drawn, in fractions of the frame, (y, x).

    Parameters
    ----------
    found : ndarray, shape (n, 2)
        Columns.
    sites : ndarray, shape (m, 2)
        Where indexed columns should be, or places of a known distortion.
    displacements : ndarray, shape (m, 2)
        From there to where they are.
    """

    found: Array = field(default_factory=_none)
    sites: Array = field(default_factory=_none)
    displacements: Array = field(default_factory=_none)


def marks_of(live: "LiveReport") -> Marks:
    """Return what there is to draw of a report.

    Parameters
    ----------
    live : LiveReport
        Any.

    Returns
    -------
    Marks
        Columns and their sites; where none were looked for, the distortion that is applied, on a
        coarse grid; empty where there is neither.
    """
    report = live.report
    if report is None:
        return Marks()
    shape = np.array(live.scan[0].settings.shape_px, np.float64)
    columns, samples = report.columns, report.samples
    if samples is not None and len(samples):
        observed = samples.observed_px if columns is None else columns.positions_px
        return Marks(
            found=_fractions(_some(observed), shape),
            sites=_fractions(_some(samples.sites_px), shape),
            displacements=_some(samples.displacement_px) / shape,
        )
    found = _none() if columns is None else _fractions(_some(columns.positions_px), shape)
    if report.field is None:
        return Marks(found=found)
    sites, displacements = _on_grid(report.field)
    return Marks(found=found, sites=_fractions(sites, shape), displacements=displacements / shape)


def _some(rows: Array) -> Array:
    return rows[:: max(1, -(-len(rows) // MOST_MARKS))]


def _fractions(places_px: Array, shape: Array) -> Array:
    """Pixel centres are at integers, and a frame begins half a pixel before the first."""
    return (places_px + 0.5) / shape


def _on_grid(distortion: "DistortionField") -> tuple[Array, Array]:
    """Return places (n, 2) and displacements (n, 2) in px, where they are known."""
    axes = [
        ((np.arange(GRID) + 0.5) * length / GRID).astype(int)
        for length in distortion.settings.shape_px
    ]
    y, x = (one.ravel() for one in np.meshgrid(*axes, indexing="ij"))
    seen = distortion.valid[y, x]
    y, x = y[seen], x[seen]
    displacements = distortion.displacement_px[:, y, x].T.astype(np.float64)
    return np.stack([y, x], axis=1).astype(np.float64), displacements


def drawn(
    marks: Marks, gain: float, size_px: tuple[int, int], margin_px: int
) -> npt.NDArray[np.uint32]:
    """Draw the marks; as lines of the host's own they would cost its painter tens of ms.

    Little more memory is taken than the picture's own: the host paints on a dozen threads, and the
    allocator keeps for each of them what one picture has once taken.

    Parameters
    ----------
    marks : Marks
        What is drawn.
    gain : float
        How much longer arrows are than the displacement.
    size_px : tuple of int
        Of the frame on the screen, (height, width).
    margin_px : int
        Room around it, for arrows that leave the frame.

    Returns
    -------
    ndarray of uint32, shape (height + 2 margin, width + 2 margin)
        Alpha, red, green and blue from the highest byte on.
    """
    size = np.array(size_px, np.float64)
    shape = (size_px[0] + 2 * margin_px, size_px[1] + 2 * margin_px)
    ink = np.zeros(shape[0] * shape[1], np.float32)  # of one colour at a time
    dark = np.zeros(len(ink), np.uint8)
    strokes = []
    for colour, lines in _lines(marks, gain, size):
        where, part = _inked(lines - 0.5 + margin_px, shape, ink)
        dark[where] = np.maximum(dark[where], (255 * part).astype(np.uint8))
        strokes.append((colour, where, part))
    picture = np.zeros((len(ink), 4), np.uint8)  # blue, green, red, alpha: as in memory
    picture[:, 3] = HALOS[_spread(dark.reshape(shape))].ravel()
    for colour, where, part in strokes:
        under, over = picture[where], np.array((*colour[::-1], 255), np.float32)
        picture[where] = np.rint(under + part[:, None] * (over - under)).astype(np.uint8)
    packed: npt.NDArray[np.uint32] = picture.view("<u4").reshape(shape)
    return packed


def _lines(marks: Marks, gain: float, size: Array) -> Iterator[tuple[Colour, Array]]:
    """Yield crosses, arrows and dots as lines (n, 2, 2) on the screen."""
    found, sites = marks.found * size, marks.sites * size
    steps = np.array([[0.0, CROSS_PX], [CROSS_PX, 0.0]])
    yield FOUND, np.concatenate([np.stack([found - one, found + one], axis=1) for one in steps])
    yield ARROW, _arrows(sites, sites + gain * size * marks.displacements)
    sides = np.array([[-SITE_PX, 0.0], [SITE_PX, 0.0]])  # two strokes make a dot
    stroke = np.array([0.0, SITE_PX])
    dots = [np.stack([sites + one - stroke, sites + one + stroke], axis=1) for one in sides]
    yield IDEAL, np.concatenate(dots)


def _arrows(sites: Array, tips: Array) -> Array:
    """Return each arrow as three lines, (3 n, 2, 2)."""
    along = tips - sites
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along = along * np.minimum(1.0, LONGEST_PX / np.maximum(length, LONGEST_PX))
    tips = sites + along
    head = np.minimum(HEAD_PX, HEAD_SHARE * length) * along / np.maximum(length, 1e-9)
    side = HEAD_WIDTH * np.stack([-head[:, 1], head[:, 0]], axis=1)
    ends = (sites, tips - head + side, tips - head - side)
    return np.concatenate([np.stack([end, tips], axis=1) for end in ends])


def _inked(
    lines: Array, shape: tuple[int, int], ink: Single
) -> tuple[npt.NDArray[np.intp], Single]:
    """Return which pixels lines touch and how far: points along them, each shared by four pixels.

    What is passed as ``ink`` is zero before and after.
    """
    along = lines[:, 1] - lines[:, 0]
    counts = np.ceil(np.linalg.norm(along, axis=1) / SPACING_PX).astype(int) + 1
    which = np.repeat(np.arange(len(lines)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    share = (np.arange(len(which)) - first) / np.maximum(counts[which] - 1, 1)
    y, x = (lines[which, 0, axis] + share * along[which, axis] for axis in (0, 1))
    inside = (y >= 0) & (y < shape[0] - 1) & (x >= 0) & (x < shape[1] - 1)
    y, x = y[inside], x[inside]
    row, column = y.astype(int), x.astype(int)
    dy, dx = (y - row).astype(np.float32), (x - column).astype(np.float32)
    flat = row * shape[1] + column
    for step_y, share_y in ((0, 1 - dy), (1, dy)):
        for step_x, share_x in ((0, 1 - dx), (1, dx)):
            np.add.at(ink, flat + step_y * shape[1] + step_x, share_y * share_x)
    where = np.flatnonzero(ink)
    part = np.minimum(INK * ink[where], np.float32(1.0))
    ink[where] = 0.0
    return where, part


def _spread(dark: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Widen by a pixel to all sides."""
    wide = dark.copy()
    np.maximum(wide[1:], dark[:-1], out=wide[1:])
    np.maximum(wide[:-1], dark[1:], out=wide[:-1])
    wider = wide.copy()
    np.maximum(wider[:, 1:], wide[:, :-1], out=wider[:, 1:])
    np.maximum(wider[:, :-1], wide[:, 1:], out=wider[:, :-1])
    return wider
