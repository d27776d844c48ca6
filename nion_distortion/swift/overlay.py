"""Columns, ideal sites and displacement arrows over the raw scan: all in one graphic."""

import gettext
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from nion.swift import DocumentController
from nion.swift.model import DisplayItem, Graphics
from nion.utils import Geometry

from nion_distortion.swift.marks import ARROW, FOUND, IDEAL, Marks, drawn, marks_of
from nion_distortion.swift.windows import do_soon, forget

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport

__all__ = ["Overlay", "OverlayGraphic", "raw_display_item"]

_ = gettext.gettext

TASK = "nion_distortion.overlay"

GRAPHIC_ID = "nion_distortion.overlay"
"""By this a graphic is known that an earlier run has left behind."""

GAIN = 5.0
"""Arrows are drawn so much longer than the displacement, unless told otherwise."""

LARGEST_PX, MARGIN_PX = 1400, 24
"""Of the picture of the marks, and the room around the frame for arrows that leave it."""

KEY_PX, KEY_LINE_PX, KEY_WIDTH_PX = 8.0, 15.0, 148.0
KEY_FONT, KEY_GROUND = "normal 12px sans-serif", "rgba(0, 0, 0, 0.6)"


class OverlayGraphic(Graphics.PointGraphic):
    """All marks of a frame as one graphic; a thousand single ones would stop the window.

    The project keeps it as a plain point, so that it opens without this plug-in.
    """

    def __init__(self) -> None:
        super().__init__()
        # a change of a kept property is what makes the host paint anew
        self.define_property("epoch", 0, changed=self._property_changed, hidden=True)
        self.graphic_id = GRAPHIC_ID
        self.is_position_locked = True
        self.position = Geometry.FloatPoint(0.0, 0.0)
        self.marks, self.gain = Marks(), GAIN
        self._drawn: tuple[tuple[Any, ...], Any] = ((), None)

    def draw_marks(self, marks: Marks, gain: float) -> None:
        """Draw these from now on; on the main thread.

        Parameters
        ----------
        marks : Marks
            Not changed any more: painting happens on threads of the host's.
        gain : float
            How much longer arrows are than the displacement.
        """
        self.marks, self.gain = marks, gain
        self._set_persistent_property_value(
            "epoch", self._get_persistent_property_value("epoch") + 1
        )

    def test(self, *_args: Any, **_kwargs: Any) -> tuple[str | None, bool]:
        """Answer that it is nowhere, so that clicks go through.

        Parameters
        ----------
        *_args, **_kwargs : object
            Where was clicked.

        Returns
        -------
        tuple
            Which part was hit, and whether it may be moved: none.
        """
        return None, False

    def _draw(self, ctx: Any, _settings: Any, mapping: Any, *_state: Any) -> None:
        marks, gain = self.marks, self.gain
        if not len(marks.found) and not len(marks.sites):
            return
        origin = mapping.map_point_image_norm_to_widget(Geometry.FloatPoint(0.0, 0.0))
        end = mapping.map_point_image_norm_to_widget(Geometry.FloatPoint(1.0, 1.0))
        height, width = end.y - origin.y, end.x - origin.x
        shrunk = min(1.0, LARGEST_PX / max(height, width))  # zoomed in, marks grow with the image
        size_px = (max(1, round(height * shrunk)), max(1, round(width * shrunk)))
        state, picture = self._drawn
        if state != (marks, gain, size_px):  # the image changes many times a second, marks do not
            picture = drawn(marks, gain, size_px, MARGIN_PX)
            self._drawn = ((marks, gain, size_px), picture)
        margin = MARGIN_PX / shrunk
        ctx.draw_image(
            picture, origin.x - margin, origin.y - margin, width + 2 * margin, height + 2 * margin
        )
        _draw_key(ctx, marks, gain, (origin.y, origin.x))


def _draw_key(ctx: Any, marks: Marks, gain: float, corner: tuple[float, float]) -> None:
    """Say in the corner what the marks are."""
    key = [
        (_("+ column found"), FOUND, len(marks.found)),
        (_("• where it should be"), IDEAL, len(marks.sites) if len(marks.found) else 0),
        (_("→ displacement x {gain:g}").format(gain=gain), ARROW, len(marks.sites)),
    ]
    lines = [(text, colour) for text, colour, count in key if count]
    top, left = np.maximum(corner, 0.0) + KEY_PX
    with ctx.saver():
        ctx.font, ctx.text_baseline, ctx.text_align = KEY_FONT, "top", "left"
        if lines:
            ctx.begin_path()
            ctx.rect(left - 4, top - 4, KEY_WIDTH_PX, len(lines) * KEY_LINE_PX + 6)
            ctx.fill_style = KEY_GROUND
            ctx.fill()
        for number, (text, colour) in enumerate(lines):
            ctx.fill_style = "#{:02X}{:02X}{:02X}".format(*colour)
            ctx.fill_text(text, left, top + number * KEY_LINE_PX)


def raw_display_item(
    window: DocumentController.DocumentController, scan_id: str, channel_id: str
) -> DisplayItem.DisplayItem | None:
    """Return the host's own live view of a channel.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds it.
    scan_id, channel_id : str
        Of the scan hardware source.

    Returns
    -------
    DisplayItem or None
        None before its first frame.
    """
    document = window.document_model
    data_item = document.get_data_item_channel_reference(scan_id, channel_id).data_item
    return None if data_item is None else document.get_display_item_for_data_item(data_item)


class Overlay:
    """The graphic over the raw scan, switchable.

    Made, switched and closed on the main thread; `show` may be called on any.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the raw item.
    find : callable
        Finds the display item of the raw scan, or None.
    is_on : bool, default: True
        Whether it draws.
    gain : float, default: 5
        How much longer arrows are than the displacement.
    """

    def __init__(
        self,
        window: DocumentController.DocumentController,
        find: Callable[[], DisplayItem.DisplayItem | None],
        *,
        is_on: bool = True,
        gain: float = GAIN,
    ) -> None:
        self._window, self._find = window, find
        self._is_on, self._gain = is_on, gain
        self._marks = Marks()
        self._graphic: OverlayGraphic | None = None
        self._on: DisplayItem.DisplayItem | None = None
        self._is_open = True

    @property
    def graphic(self) -> OverlayGraphic | None:
        """What draws; None while nothing does, or where the user has deleted it."""
        graphic, display_item = self._graphic, self._on
        if graphic is None or display_item is None or display_item._closed:  # noqa: SLF001
            return None
        return graphic if graphic in display_item.graphics else None

    def show(self, live: "LiveReport") -> None:
        """Show a report's columns.

        Parameters
        ----------
        live : LiveReport
            The newest.
        """
        if self._is_open and self._is_on:
            do_soon(self._window, TASK, partial(self._apply, marks_of(live)))

    def set(self, *, is_on: bool, gain: float) -> None:
        """Switch it, and choose how long the arrows are.

        Parameters
        ----------
        is_on : bool
            Whether it draws.
        gain : float
            How much longer arrows are than the displacement.
        """
        self._is_on, self._gain = is_on, gain
        if not is_on:
            self._remove()
        elif self._is_open:
            if self.graphic is None:  # one that the user has deleted comes back by this only
                self._graphic = self._on = None
            self._apply(self._marks)

    def close(self) -> None:
        """Take the graphic away."""
        if self._is_open:
            self._is_open = False
            forget(self._window, TASK)
            self._remove()

    def _apply(self, marks: Marks) -> None:
        self._marks = marks
        display_item = self._find()
        if not (self._is_open and self._is_on) or display_item is None:
            return
        if self._on is not display_item:
            self._remove()
            self._add(display_item)
        graphic = self.graphic
        if graphic is not None:
            graphic.draw_marks(marks, self._gain)

    def _add(self, display_item: DisplayItem.DisplayItem) -> None:
        for left_over in [one for one in display_item.graphics if one.graphic_id == GRAPHIC_ID]:
            display_item.remove_graphic(left_over).close()
        self._graphic, self._on = OverlayGraphic(), display_item
        display_item.add_graphic(self._graphic)

    def _remove(self) -> None:
        graphic, display_item = self.graphic, self._on
        self._graphic = self._on = None
        if graphic is not None and display_item is not None:
            display_item.remove_graphic(graphic).close()
