"""Wires source, session and display together behind one menu item."""

import gettext
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nion.instrumentation import HardwareSource, scan_base
from nion.swift import DocumentController
from nion.swift.model import DocumentModel, Notification
from nion.utils import Registry

from nion_distortion.swift.display import CorrectedItem
from nion_distortion.swift.source import FrameTap

if TYPE_CHECKING:
    from nion_distortion.session import Session

__all__ = ["CorrectLiveScanMenuItem", "DistortionExtension", "LiveCorrection"]

_ = gettext.gettext

Project = DocumentModel.DocumentModel
Window = DocumentController.DocumentController


def _make_session() -> "Session":
    session: Session = importlib.import_module("nion_distortion.session").Session()
    return session


def current_scan() -> scan_base.ScanHardwareSource | None:
    """Return the scan that the operator looks at.

    Returns
    -------
    ScanHardwareSource or None
        The one that is running, or that of the STEM controller, or any; None without a scan.
    """
    sources = HardwareSource.HardwareSourceManager().hardware_sources
    scans = [one for one in sources if isinstance(one, scan_base.ScanHardwareSource)]
    controller: Any = Registry.get_component("stem_controller")
    chosen = controller.scan_controller if controller else None
    playing = [scan for scan in scans if scan.is_playing]
    return next(iter([*playing, *([chosen] if chosen else []), *scans]), None)


def _notify(text: str) -> None:
    title = _("Correct Live Scan")
    Notification.notify(
        Notification.Notification("nion_distortion", "\N{WARNING SIGN} " + title, title, text)
    )


class LiveCorrection:
    """The live correction of one project: frame tap, session and data item.

    Everything but the session's own work happens on the main thread.

    Parameters
    ----------
    window : DocumentController
        Where the corrected image is shown.
    scan : ScanHardwareSource
        What is corrected.
    make_session : callable, optional
        Makes the session.
    """

    def __init__(
        self,
        window: Window,
        scan: scan_base.ScanHardwareSource,
        *,
        make_session: "Callable[[], Session]" = _make_session,
    ) -> None:
        self._window = window
        self._item = CorrectedItem(window)
        self._session = make_session()
        self._session.subscribe(self._item.show)
        self._tap = FrameTap(scan, self._session.submit, refuse=self._item.refuse)
        self._item.show_in_window()

    @property
    def window(self) -> Window:
        """Where it was started."""
        return self._window

    @property
    def item(self) -> CorrectedItem:
        """What shows the result."""
        return self._item

    @property
    def session(self) -> "Session":
        """What does the work."""
        return self._session

    def close(self) -> None:
        """Stop listening and end the live state; the worker ends after the frame in hand."""
        self._tap.close()
        self._session.close(timeout_s=0.0)  # the main thread must not wait for a frame
        self._item.close()


class CorrectLiveScanMenuItem:
    """The menu item that starts the correction in a project, and stops it again.

    The corrected item is one for each project, whose windows so share one correction.

    Parameters
    ----------
    make_session : callable, optional
        Makes the session.
    """

    menu_id = "acquisition_menu"
    menu_name = _("Acquisition")
    menu_before_id = "window_menu"
    menu_item_name = _("Correct Live Scan")

    def __init__(self, make_session: "Callable[[], Session]" = _make_session) -> None:
        self._make_session = make_session
        self._running: WeakKeyDictionary[Project, LiveCorrection] = WeakKeyDictionary()
        self._chained: WeakKeyDictionary[Window, bool] = WeakKeyDictionary()

    def menu_item_execute(self, window: Any) -> None:
        """Start or stop.

        Parameters
        ----------
        window : DocumentWindow
            The host's facade of the window.
        """
        self.toggle(window._document_controller)  # noqa: SLF001  # the facade has no live items

    def toggle(self, window: Window) -> None:
        """Start the correction in a window's project, or stop it.

        Parameters
        ----------
        window : DocumentController
            The window.
        """
        running = self._running.pop(window.document_model, None)
        if running is not None:
            running.close()
            return
        scan = current_scan()
        if scan is None:
            _notify(_("There is no scan to correct: no scan device is registered."))
            return
        started = LiveCorrection(window, scan, make_session=self._make_session)
        self._running[window.document_model] = started
        self._stop_with(window)

    def running(self, window: Window) -> LiveCorrection | None:
        """Return what runs in a window's project.

        Parameters
        ----------
        window : DocumentController
            The window.

        Returns
        -------
        LiveCorrection or None
            None where nothing does.
        """
        return self._running.get(window.document_model)

    def close(self) -> None:
        """Stop everywhere."""
        for project in list(self._running):
            self._running.pop(project).close()

    def _stop(self, window: Window) -> None:
        running = self.running(window)
        if running is not None and running.window is window:
            del self._running[window.document_model]
            running.close()

    def _stop_with(self, window: Window) -> None:
        """Stop before the window takes itself apart: later, its thumbnail lists fail."""
        if window in self._chained:
            return
        self._chained[window] = True
        before = window.on_close

        def on_close() -> None:
            self._stop(window)
            if callable(before):
                before()

        window.on_close = on_close


class DistortionExtension:
    """What Nion Swift makes once at its start.

    Parameters
    ----------
    api_broker : object
        Gives the host's facade.
    """

    extension_id = "nion_distortion.extension"

    def __init__(self, api_broker: Any) -> None:
        api = api_broker.get_api(version="~1.0", ui_version="~1.0")
        self._menu_item = api.create_menu_item(CorrectLiveScanMenuItem())

    def close(self) -> None:
        """Take the menu item back, which stops every correction."""
        self._menu_item.close()
