"""One workspace in which the scan, its correction and the diagrams are seen together."""

import gettext
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from nion.swift import DocumentController, Workspace
from nion.swift.model import DisplayItem, Persistence

__all__ = ["layout", "show_workspace"]

_ = gettext.gettext

WORKSPACE_ID = "nion_distortion.workspace.1"
"""Ends in the version of the layout: the one that a project has kept wins over this module's."""

PANEL = "nion_distortion."
"""Begins the names of the panels."""

MAPS = ("slow", "fast", "uncertainty", "loadings")
CURVES = ("residual", "drift", "scree", "eigenmodes")

PICTURES, ROW = 0.52, 0.24
"""Shares of the height: pictures above, two rows of diagrams below."""

Items = Mapping[str, DisplayItem.DisplayItem | None]


def layout(scan_id: str, channel_id: str, items: Items) -> dict[str, Any]:
    """Describe the workspace as the host keeps it.

    Parameters
    ----------
    scan_id, channel_id : str
        The scan hardware source and the channel that is seen as scanned.
    items : Mapping of str to DisplayItem
        ``"corrected"`` and the diagrams by name; what is missing is an empty panel.

    Returns
    -------
    dict
        Splitters and panels.
    """
    raw = _panel("raw") | {
        "controller_type": "scan-live",
        "hardware_source_id": scan_id,
        "channel_id": channel_id,
    }
    above = _side_by_side([raw, _panel("corrected", items) | {"selected": True}])
    maps, curves = (
        _side_by_side([_panel(name, items) for name in names]) for names in (MAPS, CURVES)
    )
    return dict(
        Workspace.create_splitter_desc("horizontal", [PICTURES, ROW, ROW], [above, maps, curves])
    )


def _panel(name: str, items: Items | None = None) -> dict[str, Any]:
    described = {"type": "image", "identifier": PANEL + name, "uuid": str(uuid.uuid4())}
    display_item = None if items is None else items.get(name)
    if display_item is None:
        return described
    specifier = Persistence.write_persistent_specifier(display_item.uuid)
    return described | {"display_item_specifier": specifier}


def _side_by_side(panels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shares = [1.0 / len(panels)] * len(panels)
    return dict(Workspace.create_splitter_desc("vertical", shares, [dict(one) for one in panels]))


def show_workspace(
    window: DocumentController.DocumentController, scan_id: str, channel_id: str, items: Items
) -> None:
    """Change to the workspace; it is made where there is none yet.

    Parameters
    ----------
    window : DocumentController
        The window.
    scan_id, channel_id : str
        The scan hardware source and the channel that is seen as scanned.
    items : Mapping of str to DisplayItem
        ``"corrected"`` and the diagrams by name.
    """
    controller = window.workspace_controller
    if controller is None:
        return
    described = layout(scan_id, channel_id, items)
    controller.ensure_workspace(_("Distortion"), described, WORKSPACE_ID)
    _fill(controller.display_panels, items)


def _fill(panels: Sequence[Any], items: Items) -> None:
    """Put items back that were deleted and made anew after the workspace was kept."""
    for panel in panels:
        display_item = items.get(panel.identifier.removeprefix(PANEL))
        is_empty = panel.display_item is None and panel.display_panel_controller is None
        if display_item is not None and is_empty:
            panel.set_display_panel_display_item(display_item)
