"""What runs between start and stop: a session, and the items that show what comes out of it."""

import datetime
import gettext
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nion.swift import DocumentController
from nion.swift.model import DisplayItem

from nion_distortion.swift.choices import Choices
from nion_distortion.swift.diagrams import Diagrams
from nion_distortion.swift.display import AverageItems, CorrectedItem
from nion_distortion.swift.overlay import Overlay
from nion_distortion.swift.recording import record
from nion_distortion.swift.xdata import corrected_xdata, scanned_xdata

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport, Session

__all__ = ["LiveCorrection", "View", "display_items"]

_ = gettext.gettext

Window = DocumentController.DocumentController

View = Literal["corrected", "raw", "blink"]
"""What the corrected item shows: the correction, the scan, or one after the other."""

BLINK_S = 0.7
"""For how long each of the two is seen."""


class _Shows(Protocol):
    def show(self, live: "LiveReport") -> None: ...
    def close(self) -> None: ...


class LiveCorrection:
    """The live correction of a project while it runs.

    Made and closed on the main thread.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the items.
    session : Session
        What does the work; closed with it.
    choices : Choices
        What the operator wants to see.
    """

    def __init__(self, window: Window, session: "Session", choices: Choices) -> None:
        self._window, self.session = window, session
        self.item = CorrectedItem(window)
        self.diagrams = Diagrams(window)
        self.overlay = Overlay(window, self._raw_item, is_on=choices.arrows > 0)
        self._average: AverageItems | None = None
        self._end_average: Callable[[], None] | None = None
        self._averaged = 0
        self._timer: Any = None
        self._shown: tuple[_Shows, ...] = (self.item, self.diagrams, self.overlay)
        for one in self._shown:
            session.subscribe(one.show)
        self.follow(choices)

    @property
    def window(self) -> Window:
        """Where it was begun."""
        return self._window

    def follow(self, choices: Choices) -> None:
        """Show what the operator now wants to see.

        Parameters
        ----------
        choices : Choices
            The new ones.
        """
        self.overlay.set(is_on=choices.arrows > 0, gain=choices.arrows or 1.0)
        if choices.averaged != self._averaged:
            self._averaged = choices.averaged
            self._close_average()
            if choices.averaged:
                self._average = AverageItems(self._window, choices.averaged)
                self._end_average = self.session.subscribe(self._average.show)

    def show_average(self) -> None:
        """Bring the average, if there is one, into view beside the corrected picture."""
        if self._average is not None:
            self._average.show_in_window(beside=self.item.display_item)

    def _close_average(self) -> None:
        if self._end_average is not None:
            self._end_average()
        if self._average is not None:
            self._average.close()
        self._average = self._end_average = None

    def look(self, view: View) -> None:
        """Show the correction, the scan in its place, or one after the other.

        Parameters
        ----------
        view : {"corrected", "raw", "blink"}
            What to show.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.item.show_raw(is_wanted=view != "corrected")
        if view == "blink":
            self._blink(is_raw=True)

    def _blink(self, *, is_raw: bool) -> None:
        self.item.show_raw(is_wanted=is_raw)
        self._timer = self._window.event_loop.call_later(
            BLINK_S, lambda: self._blink(is_raw=not is_raw)
        )

    def record(self) -> int:
        """Keep the newest scan and its correction, every channel, as items of the project.

        Returns
        -------
        int
            How many items; none where the newest frame could not be corrected.
        """
        last = self.session.last
        if last is None or last.report is None or last.report.corrected is None:
            return 0
        when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        pictures = [
            (f"{when} {one.channel}, " + _("as scanned"), scanned_xdata(one)) for one in last.scan
        ]
        pictures += [
            (f"{when} {one.channel}, " + _("corrected"), corrected_xdata(one, report=last))
            for one in (last.report.corrected, *last.others)
        ]
        return len(record(self._window, pictures))

    def refuse(self, reason: str) -> None:
        """Say why a scan cannot be corrected; on any thread.

        Parameters
        ----------
        reason : str
            One sentence.
        """
        self.item.refuse(reason)

    def close(self) -> None:
        """End session and live state; the worker ends after the frame in hand."""
        self.session.close(timeout_s=0.0)  # the main thread must not wait for a frame
        if self._timer is not None:
            self._timer.cancel()
        self._close_average()
        for one in self._shown:
            one.close()

    def _raw_item(self) -> DisplayItem.DisplayItem | None:
        """Find what shows the analysed channel as scanned."""
        last = self.session.last
        if last is None:
            return None
        source = last.scan[0].provenance.get("metadata", {}).get("hardware_source", {})
        document = self._window.document_model
        data_item = document.get_data_item_reference(source.get("reference_key", "")).data_item
        return None if data_item is None else document.get_display_item_for_data_item(data_item)


def display_items(
    window: Window, running: LiveCorrection | None
) -> dict[str, DisplayItem.DisplayItem | None]:
    """Return what the workspace shows; made where nothing has run yet.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the items.
    running : LiveCorrection or None
        What runs in the project.

    Returns
    -------
    dict of str to DisplayItem
        ``"corrected"``, and the diagrams by name; None for what the user has deleted meanwhile.
    """
    item = CorrectedItem(window) if running is None else running.item
    diagrams = Diagrams(window) if running is None else running.diagrams
    shown = {"corrected": next(iter(item.display_items.values()))}
    shown |= {name: one.display_item for name, one in diagrams.items.items()}
    if running is None:
        item.close()
        diagrams.close()
    return shown
