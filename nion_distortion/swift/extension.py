"""Wires panel, menu items, live correction and session together: what the host starts."""

import gettext
import json
from collections.abc import Callable
from functools import partial
from os import environ
from typing import Any
from weakref import WeakKeyDictionary

from nion.swift import DocumentController, Panel, Workspace
from nion.swift.model import DocumentModel

from nion_distortion.swift import workspace
from nion_distortion.swift.control import Control
from nion_distortion.swift.diagrams import register_colours
from nion_distortion.swift.live import display_items
from nion_distortion.swift.panel import PANEL_ID, DistortionPanel
from nion_distortion.swift.parts import Parts
from nion_distortion.swift.processing import register_processing
from nion_distortion.swift.source import channel_id

__all__ = [
    "AcquisitionMenuItem",
    "Controls",
    "DistortionExtension",
    "menu_items",
    "register_panel",
    "show_panel",
    "show_workspace",
]

_ = gettext.gettext

SEEN = "nion_distortion/seen"
"""Under this name the host keeps that the panel has been shown once."""

Project = DocumentModel.DocumentModel
Window = DocumentController.DocumentController


class Controls:
    """The control of each project; its windows share one.

    Parameters
    ----------
    parts : Parts, optional
        Makes sessions, calibrations and the store.
    """

    def __init__(self, parts: Parts | None = None) -> None:
        self._parts = parts
        self._controls: WeakKeyDictionary[Project, Control] = WeakKeyDictionary()
        self._listeners: WeakKeyDictionary[Project, Any] = WeakKeyDictionary()

    def of(self, window: Window) -> Control:
        """Return the control of a window's project; made where there was none.

        Parameters
        ----------
        window : DocumentController
            The window.

        Returns
        -------
        Control
            It stops when the window in which it was started closes.
        """
        project = window.document_model
        control = self._controls.get(project)
        if control is None:
            # of a simulated microscope it is known what it looks at; otherwise it is unknown
            first = json.dumps({"sample": environ.get("NION_DISTORTION_SAMPLE", "unknown")})
            control = Control(window.ui, parts=self._parts, first=first)
            self._controls[project] = control
            self._listeners[project] = project.about_to_close_event.listen(control.close)
        return control

    def close(self) -> None:
        """Stop everywhere."""
        for project in list(self._controls):
            self._listeners.pop(project, None)
            self._controls.pop(project).close()


class AcquisitionMenuItem:
    """An item of the Acquisition menu.

    Parameters
    ----------
    name : str
        What it does, in words.
    execute : callable
        Does it in a window.
    """

    menu_id = "acquisition_menu"
    menu_name = _("Acquisition")
    menu_before_id = "window_menu"

    def __init__(self, name: str, execute: Callable[[Window], object]) -> None:
        self.menu_item_name, self._execute = name, execute

    def menu_item_execute(self, window: Any) -> None:
        """Do it.

        Parameters
        ----------
        window : DocumentWindow
            The host's facade of the window.
        """
        self._execute(window._document_controller)  # noqa: SLF001  # it has no live items


def menu_items(controls: Controls) -> tuple[AcquisitionMenuItem, ...]:
    """Make what stands in the Acquisition menu.

    Parameters
    ----------
    controls : Controls
        Of the projects.

    Returns
    -------
    tuple of AcquisitionMenuItem
        From the top.
    """
    return (
        AcquisitionMenuItem(_("Correct Live Scan"), partial(_start_or_stop, controls)),
        AcquisitionMenuItem(_("Distortion Workspace"), partial(_show_workspace, controls)),
    )


def _start_or_stop(controls: Controls, window: Window) -> None:
    control = controls.of(window)
    if control.running is not None:
        control.stop()
    else:
        control.start(window)
        show_panel(window)


def _show_workspace(controls: Controls, window: Window) -> None:
    show_workspace(window, controls.of(window))


class DistortionExtension:
    """What Nion Swift makes once at its start.

    Parameters
    ----------
    api_broker : object
        Gives the host's facade.

    Attributes
    ----------
    controls : Controls
        Of the projects.
    """

    extension_id = "nion_distortion.extension"

    def __init__(self, api_broker: Any) -> None:
        api = api_broker.get_api(version="~1.0", ui_version="~1.0")
        self.controls = Controls()
        self._menu_items = [api.create_menu_item(one) for one in menu_items(self.controls)]
        register_panel(self.controls)
        self._processing = register_processing()
        self._unregister_colours = register_colours()

    def close(self) -> None:
        """Take panel and menu items back, which stops every correction."""
        self.controls.close()
        self._processing.close()
        Workspace.WorkspaceManager().unregister_panel(PANEL_ID)
        self._unregister_colours()
        for item in self._menu_items:
            item.close()


def register_panel(controls: Controls) -> None:
    """Tell the host how the panel is made; it makes one in each window.

    Parameters
    ----------
    controls : Controls
        Of the projects.
    """

    def _create(window: Window, _panel_id: str, _properties: object) -> Panel.Panel:
        """Make the panel of a window; its id and its properties are known."""
        control = controls.of(window)
        _come_into_view(window, control)
        return DistortionPanel(window, control, partial(show_workspace, control=control))

    create_panel: Callable[..., Panel.Panel] = _create
    Workspace.WorkspaceManager().register_panel(
        create_panel,  # type: ignore[arg-type]  # it is called, nothing more
        PANEL_ID,
        _("Distortion Correction"),
        ["left", "right"],
        "left",
        {},
    )


def _come_into_view(window: Window, control: Control) -> None:
    """Show what is new in a window that is just being made: in one of its first ticks."""
    if environ.get("NION_DISTORTION_WORKSPACE") == "1":
        window.queue_task(partial(show_workspace, window, control))
    elif not window.ui.get_persistent_string(SEEN, ""):
        window.queue_task(partial(show_panel, window))
    window.ui.set_persistent_string(SEEN, "1")


def show_panel(window: Window) -> None:
    """Bring the panel into view: the host hides a new one in a layout that was saved before.

    Parameters
    ----------
    window : DocumentController
        Its window.
    """
    controller = window.workspace_controller
    if controller is not None:
        panel = controller._find_dock_panel(PANEL_ID)  # noqa: SLF001  # there is no public way
        if panel is not None:
            panel.show()


def show_workspace(window: Window, control: Control) -> None:
    """Show panel, scan, correction and diagrams side by side.

    Parameters
    ----------
    window : DocumentController
        The window.
    control : Control
        Of its project.
    """
    show_panel(window)
    scan = control.scan
    if scan is not None:
        seen = channel_id(scan, control.choices.channel)
        items = display_items(window, control.running)
        workspace.show_workspace(window, scan.hardware_source_id, seen, items)
        if control.running is not None and control.running.window is window:
            control.running.show_average()
