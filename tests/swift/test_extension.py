"""The menu item in Nion Swift's headless test window, with the simulated scan."""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import session_fakes as fakes
from nion.swift import Panel
from nion.swift.model.PlugInManager import RequirementsException
from scipy.spatial import cKDTree
from swift_windows import CRYSTAL_SCAN, PATIENCE_S, SAMPLE, Window, opened

from nion_distortion.atoms import find_columns
from nion_distortion.frame import ScanSettings
from nion_distortion.swift import extension, source
from nion_distortion.swift.panel import PANEL_ID
from nion_distortion.swift.source import current_scan
from simulator.microscope import Microscope
from simulator.nion_device import profile_parameters

pytestmark = pytest.mark.gui

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def window(tmp_path: pathlib.Path) -> Iterator[Window]:
    with opened(tmp_path) as made:
        yield made


def shows_a_frame(window: Window) -> Callable[[], bool]:
    return lambda: window.item.data_shape == (96, 96)


def test_menu_item_shows_the_corrected_scan_in_one_live_item(window: Window) -> None:
    window.toggle()
    assert window.item.title == "Corrected: none yet"
    assert window.item.is_live
    window.frames(2)
    window.tick_until(shows_a_frame(window))
    window.tick_until(
        lambda: window.item.caption.startswith("The sample is taken as the reference. Off by 100.0")
    )
    assert window.item.title == "Corrected HAADF"
    assert [one.units for one in window.item.dimensional_calibrations] == ["nm", "nm"]
    assert window.item.dimensional_calibrations[0].scale == pytest.approx(3.0 / 96)
    assert "hardware_source" not in window.item.metadata
    assert window.item.metadata["nion_distortion"]["settings"]["field_of_view_nm"] == 3.0


def test_corrected_item_comes_into_view_once(window: Window) -> None:
    panels = window.window.workspace.display_panels
    assert [panel.data_item for panel in panels] == [None]
    window.toggle()
    window.toggle()
    window.toggle()
    assert [panel.data_item for panel in panels] == [window.item]


def test_second_time_the_menu_item_stops_and_the_item_is_no_longer_live(window: Window) -> None:
    before = window.scan.data_channel_updated_event.listener_count
    window.toggle()
    window.frames(2)
    window.toggle()
    assert not window.item.is_live
    assert window.control.running is None
    assert window.scan.data_channel_updated_event.listener_count == before


def test_the_same_item_is_found_again(window: Window) -> None:
    window.toggle()
    first = window.item
    window.toggle()
    window.toggle()
    assert window.item is first
    items = window.window.document_model.data_items
    assert len([item for item in items if item.title.startswith("Corrected")]) == 1


def test_deleted_item_does_no_harm_and_comes_back_at_the_next_start(window: Window) -> None:
    window.toggle()
    window.frames(2)
    window.window.document_model.remove_data_item(window.item)
    window.frames(3)
    window.window.periodic()
    assert not window.item
    window.toggle()
    window.toggle()
    assert window.item.is_live


def test_unusable_frame_keeps_the_last_picture_and_the_item_says_why(window: Window) -> None:
    window.toggle()
    window.frames(2)
    window.tick_until(shows_a_frame(window))
    window.parts.level = fakes.UNUSABLE
    window.tick_until(lambda: window.item.caption == fakes.REASON)
    assert window.item.title.endswith(": old")
    assert window.item.data_shape == (96, 96)
    window.parts.level = 0.0
    window.tick_until(lambda: "Off by" in window.item.caption)
    assert not window.item.title.endswith(": old")


def test_refused_scan_is_told(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = profile_parameters((96, 96), 1.0, 3.0)
    parameters.external_scan_mode = 1
    window.scan.set_current_frame_parameters(parameters)
    refused = threading.Event()
    window.toggle()
    assert window.control.running is not None
    refuse = window.control.running.item.refuse

    def told(reason: str) -> None:
        refuse(reason)
        refused.set()

    monkeypatch.setattr(window.control.running, "refuse", told)
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    assert refused.wait(PATIENCE_S)
    window.window.periodic()
    assert window.item.caption == (
        "The beam did not scan line by line (external_scan_mode is 1), so the time of each pixel "
        "is not known and nothing can be corrected; if it did, say so in the panel."
    )
    window.control.choose(is_raster=True)
    window.tick_until(lambda: "Off by" in window.item.caption)


def test_change_of_settings_is_followed(window: Window) -> None:
    window.toggle()
    window.frames(3)
    window.scan.set_current_frame_parameters(profile_parameters((64, 96), 1.0, 4.0))
    window.tick_until(lambda: window.item.data_shape == (64, 96))
    assert window.item.dimensional_calibrations[1].scale == pytest.approx(4.0 / 96)


def test_failed_frame_is_told_and_the_next_one_is_shown(window: Window) -> None:
    window.toggle()
    window.frames(2)
    window.parts.level = fakes.BROKEN
    window.tick_until(lambda: "the lattice fell apart" in window.item.caption)
    window.parts.level = 0.0
    window.tick_until(lambda: "Off by" in window.item.caption)


def test_windows_own_on_close_is_still_called_after_ours(window: Window) -> None:
    order: list[str] = []
    item_was_live: list[bool] = []

    def before() -> None:
        order.append("theirs")
        item_was_live.append(window.item.is_live)

    window.window.on_close = before
    window.toggle()
    window.toggle()
    window.toggle()
    window.window.on_close()
    assert order == ["theirs"]
    assert item_was_live == [False]


def test_running_scan_is_the_current_one(window: Window) -> None:
    stopped = current_scan()
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    assert [stopped, current_scan()] == [window.scan, window.scan]


def test_without_a_scan_the_user_is_told(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "current_scan", lambda: None)
    monkeypatch.setattr(source, "scan_sources", list)
    window.toggle()
    assert window.control.message == "There is no scan: no scan device is registered."
    assert window.item is None


def off_by_pm(image: npt.NDArray[Any], settings: ScanSettings) -> float:
    """Rms way of the columns from where an undistorted scan shows them, but for an affine map.

    Columns that the border cuts, or the rim that the distorted scan did not see, are left out:
    how many there are differs from frame to frame, and each is wrong by 150 pm.
    """
    found = find_columns(image).positions_px
    columns = found[np.all((found > 10) & (found < np.array(image.shape) - 11), axis=1)]
    true_px = Microscope(SAMPLE).shot(settings).truth.columns.seen_px
    way = columns - true_px[cKDTree(true_px).query(columns)[1]]
    design = np.column_stack([np.ones(len(columns)), columns])
    left = way - design @ np.linalg.lstsq(design, way)[0]
    return float(1e3 * settings.pixel_size_nm * np.sqrt(np.mean(np.sum(left**2, axis=1))))


def test_picture_that_the_menu_item_shows_is_truly_corrected(window: Window) -> None:
    window.parts.process = window.parts.refit = None  # those that its users get
    window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
    window.toggle()
    frame = window.frames(1)[0].scan[0]
    window.tick_until(
        lambda: window.item.metadata.get("nion_distortion", {}).get("frames_in_model", 0) >= 3
    )
    window.halt()
    before_pm = off_by_pm(frame.image, frame.settings)
    assert before_pm > 30
    assert off_by_pm(window.item.data, frame.settings) < 0.25 * before_pm


class Broker:
    """Nion's api broker, as far as an extension needs it."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def get_api(self, **_: Any) -> "Broker":
        return self

    def create_menu_item(self, item: Any) -> Any:
        self.items.append(item)
        return SimpleNamespace(close=lambda: self.items.remove(item))


def test_menu_items_start_the_correction_and_show_the_workspace(window: Window) -> None:
    facade = SimpleNamespace(_document_controller=window.window)
    correct, show = extension.menu_items(window.controls)
    correct.menu_item_execute(facade)
    assert window.control.running is not None
    show.menu_item_execute(facade)
    shown = [panel.display_item for panel in window.window.workspace.display_panels]
    assert window.control.running.item.display_items["HAADF"] in shown
    correct.menu_item_execute(facade)
    assert window.control.window is None


def test_extension_makes_one_menu_item_and_takes_it_back() -> None:
    broker = Broker()
    made = extension.DistortionExtension(broker)
    names = [item.menu_item_name for item in broker.items]
    assert names == ["Correct Live Scan", "Distortion Workspace"]
    assert PANEL_ID in Panel.PanelManager().panel_ids
    made.close()
    assert not broker.items
    assert PANEL_ID not in Panel.PanelManager().panel_ids


LOAD = """
import sys, time
from nion.swift import Facade
from nion.swift.model import PlugInManager
from nion.swift.test import TestContext
from scipy.spatial import cKDTree

Facade.initialize()
setup = TestContext.TestSetup(set_global=True)
PlugInManager.load_plug_ins(None, None, None)
ours = [one for one in PlugInManager.extensions if "distortion" in one.extension_id]
heavy = {"torch", "sklearn", "numba", "cv2", "nion_distortion.pipeline", "simulator"}
print(len(ours), sorted(heavy & set(sys.modules)))
PlugInManager.unload_plug_ins()
"""


def test_host_loads_the_plug_in_exactly_once_and_nothing_heavy_with_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOAD],
        capture_output=True,
        check=True,
        env=os.environ | {"NION_DISTORTION_SIMULATOR": ""},
        text=True,
    )
    assert ended.stdout.splitlines()[-1] == "1 []"


@pytest.mark.parametrize("name", ["nion_distortion", "nion_distortion_simulator"])
def test_manifest_waits_for_the_instrumentation_kit(name: str) -> None:
    path = REPOSITORY / "nionswift_plugin" / name / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["identifier"] == name
    assert manifest["requires"] == ["nion.instrumentation-kit ~= 0.1"]


def test_simulated_microscope_is_not_registered_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NION_DISTORTION_SIMULATOR", raising=False)
    with pytest.raises(RequirementsException, match="only when NION_DISTORTION_SIMULATOR=1"):
        importlib.import_module("nionswift_plugin.nion_distortion_simulator")


DECLINE = """
import importlib.metadata, importlib.util, sys
find, version = importlib.util.find_spec, importlib.metadata.version
importlib.util.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more)
importlib.metadata.version = lambda name: {version!r} if name == "nionswift" else version(name)
from nion.swift import Facade
from nion.swift.model import PlugInManager
from nion.swift.test import TestContext

Facade.initialize()
setup = TestContext.TestSetup(set_global=True)
PlugInManager.load_plug_ins(None, None, None)
print([one for one in PlugInManager.extensions if "distortion" in one.extension_id])
PlugInManager.unload_plug_ins()
"""


@pytest.mark.parametrize(
    ("missing", "version", "words"),
    [
        ("gpytorch", "16.16.2", "needs gpytorch, which this environment lacks"),
        ("", "15.0.1", "needs nionswift 16 or 17, not 15.0.1"),
    ],
)
def test_plug_in_declines_in_one_line(missing: str, version: str, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DECLINE.format(missing=missing, version=version)],
        capture_output=True,
        check=True,
        env=os.environ | {"NION_DISTORTION_SIMULATOR": ""},
        text=True,
    )
    assert ended.stdout.splitlines()[-1] == "[]"
    said = [line for line in (ended.stdout + ended.stderr).splitlines() if words in line]
    assert len(said) == 1
    assert "Traceback" not in ended.stderr
