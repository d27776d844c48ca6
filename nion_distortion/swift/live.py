"""What runs between start and stop: a session, and the items that show what comes out of it."""

from typing import TYPE_CHECKING, Protocol

from nion.swift import DocumentController
from nion.swift.model import DisplayItem

from nion_distortion.swift.choices import Choices
from nion_distortion.swift.diagrams import Diagrams
from nion_distortion.swift.display import CorrectedItem
from nion_distortion.swift.overlay import Overlay

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport, Session

__all__ = ["LiveCorrection", "display_items"]

Window = DocumentController.DocumentController


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
        self._shown: tuple[_Shows, ...] = (self.item, self.diagrams, self.overlay)
        for one in self._shown:
            session.subscribe(one.show)
        self.follow(choices)

    def follow(self, choices: Choices) -> None:
        """Show what the operator now wants to see.

        Parameters
        ----------
        choices : Choices
            The new ones.
        """
        self.overlay.set(is_on=choices.arrows > 0, gain=choices.arrows or 1.0)

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
    document, data_item = window.document_model, item.data_item
    corrected = None if data_item is None else document.get_display_item_for_data_item(data_item)
    shown = {"corrected": corrected}
    shown |= {name: one.display_item for name, one in diagrams.items.items()}
    if running is None:
        item.close()
        diagrams.close()
    return shown
