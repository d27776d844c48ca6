"""One workspace with everything in it."""

from collections.abc import Iterator
from typing import Any

import diagram_windows as windows
import pytest

from nion_distortion.swift.diagrams import DIAGRAMS, Diagrams
from nion_distortion.swift.workspace import (
    CURVES,
    MAPS,
    PANEL,
    WORKSPACE_ID,
    layout,
    show_workspace,
)

pytestmark = pytest.mark.gui


@pytest.fixture
def window() -> Iterator[Any]:
    with windows.document_window() as opened:
        yield opened


def items_of(diagrams: Diagrams) -> dict[str, Any]:
    return {name: item.display_item for name, item in diagrams.items.items()}


def shown(window: Any) -> dict[str, Any]:
    panels = window.workspace.display_panels
    return {panel.identifier.removeprefix(PANEL): panel.display_item for panel in panels}


def test_every_diagram_has_its_place() -> None:
    assert sorted((*MAPS, *CURVES)) == sorted(DIAGRAMS)


def test_raw_scan_comes_with_its_own_controls() -> None:
    above = layout("my scan", "b", {})["children"][0]
    raw, corrected = above["children"]
    assert (raw["controller_type"], raw["hardware_source_id"]) == ("scan-live", "my scan")
    assert raw["channel_id"] == "b"
    assert corrected["identifier"] == "nion_distortion.corrected"


def test_workspace_shows_each_diagram_in_its_panel(window: Any) -> None:
    diagrams = Diagrams(window)
    items = items_of(diagrams)
    show_workspace(window, "scan", "a", items)
    now = shown(window)
    assert {name: now[name] for name in DIAGRAMS} == items
    assert set(now) == {"raw", "corrected", *DIAGRAMS}
    diagrams.close()


def test_workspace_is_made_once_and_what_the_user_changed_stays(window: Any) -> None:
    diagrams = Diagrams(window)
    items = items_of(diagrams)
    show_workspace(window, "scan", "a", items)
    panel = window.workspace.display_panels[-1]
    panel.set_display_panel_display_item(items["slow"])
    show_workspace(window, "scan", "a", items)
    kept = [one.workspace_id for one in window.project.workspaces]
    assert kept.count(WORKSPACE_ID) == 1
    assert window.workspace.display_panels[-1].display_item is items["slow"]
    diagrams.close()


def test_item_that_was_deleted_and_made_anew_comes_back_to_its_panel(window: Any) -> None:
    diagrams = Diagrams(window)
    show_workspace(window, "scan", "a", items_of(diagrams))
    window.document_model.remove_data_item(diagrams.items["drift"].data_item)
    diagrams.close()
    assert shown(window)["drift"] is None
    again = Diagrams(window)
    show_workspace(window, "scan", "a", items_of(again))
    assert shown(window)["drift"] is again.items["drift"].display_item
    again.close()


def test_window_without_a_workspace_is_left_alone() -> None:
    class Bare:
        workspace_controller = None

    show_workspace(Bare(), "scan", "a", {})  # type: ignore[arg-type]
