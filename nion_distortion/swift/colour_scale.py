"""What the colours of a map stand for, beside it or in it: the host has no scale of colours."""

import gettext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from nion.swift.model import ColorMaps, DisplayItem, Graphics
from nion.utils import Geometry

from nion_distortion.swift.maps import LOADINGS

__all__ = ["EndsGraphic", "ScaleGraphic", "show_ends", "show_scale", "take_scale_away"]

_ = gettext.gettext

Drawn = TypeVar("Drawn", bound="_Kept")

GRAPHIC_ID = "nion_distortion.scale"
"""By this the graphic is known, also as the plain point that a project keeps of it."""

GAP_PX, WIDTH_PX, TEXT_PX, LINE_PX, CHARACTER_PX = 6, 10, 4, 13, 8
FONT, TEXT, GROUND = "normal 11px sans-serif", "#FFFFFF", "rgba(0, 0, 0, 0.6)"

NEEDED_PX = GAP_PX + WIDTH_PX + TEXT_PX + 30
"""Of gap, colours and numbers; a narrow panel has less beside the map."""


class _Kept(Graphics.PointGraphic):
    """Drawn over a map, where clicks go through; kept as a plain point."""

    def __init__(self) -> None:
        super().__init__()
        # a change of a kept property is what makes the host paint anew
        self.define_property("epoch", 0, changed=self._property_changed, hidden=True)
        self.graphic_id = GRAPHIC_ID
        self.is_position_locked = True
        self.position = Geometry.FloatPoint(0.0, 1.0)

    def _paint_anew(self) -> None:
        epoch = self._get_persistent_property_value("epoch")
        self._set_persistent_property_value("epoch", epoch + 1)

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


class ScaleGraphic(_Kept):
    """The colours of a map with the numbers at their ends."""

    def __init__(self) -> None:
        super().__init__()
        self.limits, self.colours = (0.0, 1.0), ""

    def draw_limits(self, limits: tuple[float, float], colours: str) -> None:
        """Draw these from now on; on the main thread.

        Parameters
        ----------
        limits : tuple of float
            Values at the ends, in pm.
        colours : str
            Id of the host's colour map.
        """
        if (limits, colours) != (self.limits, self.colours):
            self.limits, self.colours = limits, colours
            self._paint_anew()

    def _draw(self, ctx: Any, _settings: Any, mapping: Any, *_state: Any) -> None:
        top = mapping.map_point_image_norm_to_widget(Geometry.FloatPoint(0.0, 1.0))
        bottom = mapping.map_point_image_norm_to_widget(Geometry.FloatPoint(1.0, 1.0))
        height, room = (
            bottom.y - top.y,
            mapping.map_point_image_norm_to_widget(Geometry.FloatPoint()).x,
        )
        over = max(0.0, NEEDED_PX - max(room, 0.0))  # the map is in the middle of its panel
        left = top.x + GAP_PX - over
        low, high = self.limits
        texts = [(f"{high:g}", top.y, "top"), (_("pm"), top.y + LINE_PX, "top")]
        texts += [(f"{(low + high) / 2:g}", (top.y + bottom.y) / 2, "middle")]
        texts += [(f"{low:g}", bottom.y, "bottom")]
        with ctx.saver():
            if over:
                ctx.begin_path()
                ctx.rect(left - GAP_PX, top.y, NEEDED_PX, height)
                ctx.fill_style = GROUND
                ctx.fill()
            ctx.draw_image(_colours(self.colours), left, top.y, WIDTH_PX, height)
            ctx.font, ctx.fill_style, ctx.text_align = FONT, TEXT, "left"
            for text, y, baseline in texts:
                ctx.text_baseline = baseline
                ctx.fill_text(text, left + WIDTH_PX + TEXT_PX, y)


class EndsGraphic(_Kept):
    """What the ends of the colours stand for in each column of a map of tiles."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_pm: tuple[float, ...] = ()

    def draw_ends(self, ends_pm: tuple[float, ...]) -> None:
        """Draw these from now on; on the main thread.

        Parameters
        ----------
        ends_pm : tuple of float
            Largest absolute value of each column, from the left, pm.
        """
        if ends_pm != self.ends_pm:
            self.ends_pm = ends_pm
            self._paint_anew()

    def _draw(self, ctx: Any, _settings: Any, mapping: Any, *_state: Any) -> None:
        for number, end in enumerate(self.ends_pm):
            place = Geometry.FloatPoint(0.0, number / LOADINGS)
            corner = mapping.map_point_image_norm_to_widget(place)
            lines = (f"±{end:g}", _("pm"))
            with ctx.saver():
                ctx.begin_path()
                ctx.rect(corner.x, corner.y, CHARACTER_PX * len(lines[0]), 2 * LINE_PX)
                ctx.fill_style = GROUND
                ctx.fill()
                ctx.font, ctx.fill_style = FONT, TEXT
                ctx.text_align, ctx.text_baseline = "left", "top"
                for line, text in enumerate(lines):
                    ctx.fill_text(text, corner.x + 1, corner.y + line * LINE_PX)


def _colours(colours: str) -> npt.NDArray[np.uint32]:
    """Return a column of pixels, the highest value first."""
    table = ColorMaps.get_color_map_data_by_id(colours)[::-1]  # blue, green, red: as in memory
    opaque = np.full((len(table), 1, 4), 255, np.uint8)
    opaque[:, 0, :3] = table
    packed: npt.NDArray[np.uint32] = opaque.view("<u4")[..., 0]
    return packed


def show_scale(display_item: DisplayItem.DisplayItem, limits: tuple[float, float]) -> None:
    """Show the colours of a map with the numbers at their ends.

    Parameters
    ----------
    display_item : DisplayItem
        Of the map.
    limits : tuple of float
        Values at the ends, in pm.
    """
    scale = _mine(display_item, ScaleGraphic)
    scale.draw_limits(limits, display_item.display_data_channels[0].color_map_id or "grayscale")


def show_ends(display_item: DisplayItem.DisplayItem, ends_pm: tuple[float, ...]) -> None:
    """Show in a map of tiles what the ends of the colours stand for.

    Parameters
    ----------
    display_item : DisplayItem
        Of the map.
    ends_pm : tuple of float
        Largest absolute value of each column, from the left, pm.
    """
    _mine(display_item, EndsGraphic).draw_ends(ends_pm)


def _mine(display_item: DisplayItem.DisplayItem, kind: type[Drawn]) -> Drawn:
    """Return the graphic of ours, made anew where an earlier run has left a plain point."""
    for one in display_item.graphics:
        if isinstance(one, kind):
            return one
    take_scale_away(display_item)
    made = kind()
    display_item.add_graphic(made)
    return made


def take_scale_away(display_item: DisplayItem.DisplayItem) -> None:
    """Leave nothing behind that an unplugged program would show as a point.

    Parameters
    ----------
    display_item : DisplayItem
        Of the map.
    """
    for graphic in [one for one in display_item.graphics if one.graphic_id == GRAPHIC_ID]:
        display_item.remove_graphic(graphic).close()
