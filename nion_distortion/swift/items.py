"""Live data items: found again by their keys, changed one in a tick, deleted at will."""

import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from nion.data import DataAndMetadata
from nion.swift import DocumentController
from nion.swift.model import DataItem, DisplayItem

from nion_distortion.swift.windows import do_soon, forget

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport

__all__ = ["InTurn", "LiveItem", "Pace", "bring_into_view", "shown_in"]

PERIOD_S, LONGEST_PERIOD_S = 2.0, 4.0
"""Between two pictures of what follows the frames slowly: four curves at 4 Hz stop the window."""

PERIOD_FRAMES = 8.0
"""In between, so many times what a frame takes: on a slow computer frames go before."""

EMPTY_PX = 64
"""Side of the picture that is shown until the first one has come."""

Configure = Callable[[DisplayItem.DisplayItem], None]

Change = TypeVar("Change")


class LiveItem:
    """A data item of the project that follows a live scan.

    Used on the main thread only. A user may delete it at any time: then nothing happens any more,
    and the next start makes it anew.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the item.
    key : str
        Finds the same item again at the next start.
    configure : callable, optional
        Sets up the display of an item that is new.
    initial : ndarray, optional
        What a new item holds.
    """

    def __init__(
        self,
        window: DocumentController.DocumentController,
        key: str,
        configure: Configure | None = None,
        initial: np.typing.NDArray[Any] | None = None,
    ) -> None:
        self._document = window.document_model
        self._reference = self._document.get_data_item_reference(key)
        if self._reference.data_item is None:
            self._make(key, initial)
            display_item = self.display_item
            if configure is not None and display_item is not None:
                configure(display_item)
        self._is_live = True
        self._reference.start()

    def _make(self, key: str, initial: np.typing.NDArray[Any] | None) -> None:
        empty = np.zeros((EMPTY_PX, EMPTY_PX), np.float32)
        data_item = DataItem.new_data_item(empty if initial is None else initial)
        data_item.category = "temporary"  # as the scan's own live items
        self._document.append_data_item(data_item)
        self._document.setup_channel(key, data_item)

    @property
    def data_item(self) -> DataItem.DataItem | None:
        """The item, or None where the user has deleted it."""
        return self._reference.data_item

    @property
    def display_item(self) -> DisplayItem.DisplayItem | None:
        """What a panel shows of it; None as `data_item`."""
        data_item = self.data_item
        if data_item is None:
            return None
        return self._document.get_display_item_for_data_item(data_item)

    def describe(
        self, title: str, caption: str, xdata: DataAndMetadata.DataAndMetadata | None = None
    ) -> None:
        """Say what is seen; with a picture in one change: the host draws after each one.

        Parameters
        ----------
        title, caption : str
            In the head of the panel, and in the inspector.
        xdata : DataAndMetadata, optional
            The picture; None: it stays.
        """
        data_item = self.data_item
        if data_item is None or not self._is_live:
            return
        with data_item.data_item_changes():
            if xdata is not None:
                data_item.set_xdata(xdata, data_modified=xdata.timestamp)
            if data_item.title != title:
                data_item.title = title
            if data_item.caption != caption:
                data_item.caption = caption

    def close(self) -> None:
        """End the live state, which writes the last picture to the project; more than once."""
        if self._is_live:
            self._is_live = False
            self._reference.stop()


class InTurn(Generic[Change]):
    """Hands changes over on the main thread, one in a tick of the window: together they would jerk.

    Made and closed on the main thread; `add` may be called on any.

    Parameters
    ----------
    window : DocumentController
        Whose ticks.
    task : str
        Name of the task, one for each of these.
    hand_over : callable
        Called with name and change; only the newest change of a name is handed over.
    """

    def __init__(
        self,
        window: DocumentController.DocumentController,
        task: str,
        hand_over: Callable[[str, Change], object],
    ) -> None:
        self._window, self._task, self._hand_over = window, task, hand_over
        self._waiting: dict[str, Change] = {}
        self._lock = Lock()
        self._is_open = True

    def add(self, changes: Mapping[str, Change]) -> None:
        """Hand these over in the next ticks.

        Parameters
        ----------
        changes : Mapping of str to object
            By name.
        """
        with self._lock:
            self._waiting.update(changes)
        if self._is_open:
            do_soon(self._window, self._task, self._tick)

    def _tick(self) -> None:
        with self._lock:
            name = next(iter(self._waiting), None)
            change = None if name is None else self._waiting.pop(name)
            is_more = bool(self._waiting)
        if not self._is_open:
            return
        if is_more:
            do_soon(self._window, self._task, self._tick)
        if name is not None and change is not None:
            self._hand_over(name, change)

    def close(self) -> None:
        """Hand nothing over any more."""
        self._is_open = False
        forget(self._window, self._task)


class Pace:
    """Says when slower pictures are due: every two seconds, and less often where frames take long.

    Used on one thread.

    Parameters
    ----------
    clock_s : callable, optional
        Seconds, from anywhere on.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._next_s = -np.inf

    def is_due(self, live: "LiveReport") -> bool:
        """Say whether it is time again; then the next time is counted from now.

        Parameters
        ----------
        live : LiveReport
            The newest.

        Returns
        -------
        bool
            Whether to draw it.
        """
        now_s = self._clock_s()
        if now_s < self._next_s:
            return False
        wanted_s = PERIOD_FRAMES * live.duration_s
        self._next_s = now_s + min(max(PERIOD_S, wanted_s), LONGEST_PERIOD_S)
        return True


def shown_in(window: DocumentController.DocumentController) -> list[DisplayItem.DisplayItem]:
    """Return what the panels of a window show.

    Parameters
    ----------
    window : DocumentController
        Any.

    Returns
    -------
    list of DisplayItem
        Empty while it has no workspace.
    """
    workspace = window.workspace
    panels = [] if workspace is None else workspace.display_panels
    return [panel.display_item for panel in panels if panel.display_item is not None]


def bring_into_view(
    window: DocumentController.DocumentController,
    display_item: DisplayItem.DisplayItem | None,
    beside: DisplayItem.DisplayItem | None = None,
) -> None:
    """Show an item where it is, in a panel for results, or in an empty one; choose it in the list.

    Where there is no such panel, the one that shows the item ``beside`` is divided. Its cross takes
    that back; the window's *Undo* does while nothing else in the project changes, as always.

    Parameters
    ----------
    window : DocumentController
        Any.
    display_item : DisplayItem or None
        None where the user has deleted it.
    beside : DisplayItem, optional
        Beside which it is shown if no panel is free.
    """
    workspace = window.workspace
    if workspace is None or display_item is None:
        return
    panels = workspace.display_panels
    if any(panel.display_item is display_item for panel in panels):
        return
    window.show_display_item(display_item)
    empty = [
        panel
        for panel in panels
        if panel.display_item is None and panel.display_panel_controller is None
    ]
    if window.next_result_display_panel() is not None:
        return
    neighbours = [panel for panel in panels if beside is not None and panel.display_item is beside]
    if empty:
        empty[0].set_display_panel_display_item(display_item)
    elif neighbours:
        row = neighbours[0].container
        divided = workspace.insert_display_panel(neighbours[0], "right", display_item)
        _make_equal(workspace, row, neighbours[0].container)
        window.push_undo_command(divided)


def _make_equal(workspace: Any, row: Any, divided: Any) -> None:
    """Give every panel of a row the same width, though two of them share one place in it.

    Half of a panel has no room for its title on a screen of 1.5 scaling.
    """
    if getattr(row, "orientation", "") == "vertical":  # the host's word for side by side
        panels = [2.0 if one is divided else 1.0 for one in row.canvas_items]
        workspace.set_splits(row, [one / sum(panels) for one in panels])
