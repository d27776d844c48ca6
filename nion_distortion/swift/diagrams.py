"""The live diagrams: a data item each, drawn every two seconds, one in a tick of the window."""

import gettext
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from nion.swift import DocumentController
from nion.swift.model import DisplayItem
from nion.utils import Registry

from nion_distortion.swift.colour_scale import show_ends, show_scale, take_scale_away
from nion_distortion.swift.history import History, Picture
from nion_distortion.swift.items import InTurn, LiveItem, Pace, shown_in
from nion_distortion.swift.pictures import draw
from nion_distortion.swift.windows import do_soon, forget

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport

__all__ = ["DIAGRAMS", "Diagrams", "register_colours"]

_ = gettext.gettext

TASK = "nion_distortion.diagrams"

KEY = "nion_distortion_diagram_"
"""Begins the key under which each item is found again."""

UNSEEN = 10
"""What no panel shows is drawn every so many times: its thumbnail costs time too."""

DIVERGING = "nion_distortion_diverging"
"""Id of our colours with white in the middle; the host has none such."""

LENGTHS = "ice"

SCALED = frozenset({"slow", "fast", "uncertainty"})
"""Maps with a scale beside them; the loading maps have one each."""

LINE = 2

SLOW, FAST, FAINT_SLOW, FAINT_FAST = "#009E73", "#CC3377", "#7FD4BC", "#E9A3C4"
RAW, CORRECTED = "#D55E00", "#0072B2"


@dataclass(frozen=True)
class _Kind:
    """How an item is displayed."""

    title: str
    """Until the first picture has come."""
    colours: str = ""
    curves: Sequence[tuple[str, str]] = ()
    style: str = "linear"
    legend: str = "outer-right"
    """Inside where curves leave room for it: in a narrow panel there is none beside them."""


DIAGRAMS: Mapping[str, _Kind] = MappingProxyType(
    {
        "slow": _Kind(_("DF slow (y)"), DIVERGING),
        "fast": _Kind(_("DF fast (x)"), DIVERGING),
        "uncertainty": _Kind(_("Error left"), LENGTHS),
        "loadings": _Kind(_("Loadings"), DIVERGING),
        "residual": _Kind(
            _("Residual"),
            curves=((_("off by"), RAW), (_("corrected"), CORRECTED)),
            legend="top-right",
        ),
        "drift": _Kind(
            _("Drift"),
            curves=((_("slow"), SLOW), (_("fast"), FAST)),
            legend="top-right",
        ),
        "scree": _Kind(
            _("Scree"),
            curves=((_("slow"), SLOW), (_("fast"), FAST)),
            style="log",
            legend="top-right",
        ),
        "eigenmodes": _Kind(
            _("Modes"),
            curves=(
                (_("y 1"), SLOW),
                (_("y 2"), FAINT_SLOW),
                (_("x 1"), FAST),
                (_("x 2"), FAINT_FAST),
            ),
        ),
    }
)
"""The diagrams by name, and how each is displayed."""


@dataclass(frozen=True)
class _Colours:
    """What the host's registry asks of a colour map."""

    color_map_id: str
    name: str
    json_str: str


def register_colours() -> Callable[[], None]:
    """Tell the host our diverging colours: blue below zero, white, red above.

    Returns
    -------
    callable
        Takes them back.
    """
    blue, white, red = ((5, 48, 97), (67, 147, 195)), (247, 247, 247), ((214, 96, 77), (103, 0, 31))
    name = _("Blue White Red")
    described = {
        "id": DIVERGING,
        "name": name,
        "points": [
            {"x": number / 4, "rgb": colour} for number, colour in enumerate((*blue, white, *red))
        ],
    }
    colours = _Colours(DIVERGING, name, json.dumps(described))
    Registry.register_component(colours, {"color-map-description"})
    return partial(Registry.unregister_component, colours)


class Diagrams:
    """The data items that show where the distortion comes from and how it goes.

    Made and closed on the main thread; `show` may be called on any one thread.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the items.
    clock_s : callable, optional
        Seconds, from anywhere on.
    """

    def __init__(
        self,
        window: DocumentController.DocumentController,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window, self._pace = window, Pace(clock_s)
        self._items = {name: _make_item(window, name) for name in DIAGRAMS}
        self._history = History(name for name, item in self._items.items() if _has_picture(item))
        self._rounds = 0
        self._shown = frozenset(DIAGRAMS)
        self._turn = InTurn[Picture](window, TASK, self._hand_over)
        self._is_open = True

    @property
    def items(self) -> Mapping[str, LiveItem]:
        """Each diagram's item."""
        return MappingProxyType(self._items)

    def show(self, live: "LiveReport") -> None:
        """Take a report, and draw the diagrams when it is time again.

        Parameters
        ----------
        live : LiveReport
            The newest.
        """
        self._history.follow(live)
        if not self._is_open or not self._pace.is_due(live):
            return
        wanted = DIAGRAMS if self._rounds % UNSEEN == 0 else self._shown
        self._rounds += 1
        drawn = {name: draw(name, self._history, live) for name in DIAGRAMS if name in wanted}
        self._turn.add(drawn)
        do_soon(self._window, TASK + ".shown", self._look)

    def _look(self) -> None:
        """See what is shown, for the next round; on the main thread."""
        shown = shown_in(self._window)
        seen = [name for name, item in self._items.items() if item.display_item in shown]
        self._shown = frozenset(seen)

    def _hand_over(self, name: str, picture: Picture) -> None:
        item = self._items[name]
        display_item = item.display_item
        if display_item is None:  # deleted
            return
        if picture.xdata is not None:
            _set_limits(display_item, picture.limits)
            if name in SCALED and picture.limits is not None:
                show_scale(display_item, picture.limits)
            elif picture.ends_pm:
                show_ends(display_item, picture.ends_pm)
        item.describe(picture.title, picture.caption, picture.xdata)

    def close(self) -> None:
        """End the live state of all items; their last pictures stay."""
        if self._is_open:
            self._is_open = False
            self._turn.close()
            forget(self._window, TASK + ".shown")
            for item in self._items.values():
                if item.display_item is not None:
                    take_scale_away(item.display_item)
                item.close()


def _make_item(window: DocumentController.DocumentController, name: str) -> LiveItem:
    kind = DIAGRAMS[name]
    initial = np.full((len(kind.curves), 2), np.nan) if kind.curves else None
    return LiveItem(window, KEY + name, partial(_configure, kind), initial)


def _has_picture(item: LiveItem) -> bool:
    """Return whether an item shows what an earlier run has left."""
    data_item = item.data_item
    return data_item is not None and "nion_distortion" in data_item.metadata


def _configure(kind: _Kind, display_item: DisplayItem.DisplayItem) -> None:
    """Set up the display of a new item."""
    channel = display_item.display_data_channels[0]
    if channel.data_item is not None:
        channel.data_item.title = kind.title
    if not kind.curves:
        channel.color_map_id = kind.colours
        return
    display_item.display_type = "line_plot"
    while len(display_item.display_layers) < len(kind.curves):
        display_item.add_display_layer_for_display_data_channel(channel)
    for row, (label, colour) in enumerate(kind.curves):
        display_item._set_display_layer_properties(  # noqa: SLF001
            row,
            label=label,
            stroke_color=colour,
            stroke_width=LINE,
            fill_color=None,
            data_row=row,
        )
    display_item.set_display_property("legend_position", kind.legend)
    display_item.set_display_property("y_style", kind.style)


def _set_limits(display_item: DisplayItem.DisplayItem, limits: tuple[float, float] | None) -> None:
    if limits is None:
        return
    if display_item.display_type == "line_plot":
        for name, value in zip(("y_min", "y_max"), limits, strict=True):
            if display_item.get_display_property(name) != value:
                display_item.set_display_property(name, value)
        return
    channel: Any = display_item.display_data_channels[0]
    if channel.display_limits != limits:
        channel.display_limits = limits
