"""The control of a project: what the operator does, and what becomes of it."""

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
import session_fakes as fakes
from nion.instrumentation import HardwareSource
from swift_windows import CRYSTAL_SCAN, PATIENCE_S, Window, opened

from nion_distortion.swift.checking import SetUp
from nion_distortion.swift.choices import Choices
from nion_distortion.swift.control import KEPT, Control
from nion_distortion.swift.extension import show_workspace
from simulator.nion_device import profile_parameters

pytestmark = pytest.mark.gui


@pytest.fixture
def window(tmp_path: pathlib.Path) -> Iterator[Window]:
    with opened(tmp_path) as made:
        yield made


def changes_of(window: Window) -> tuple[list[bool], object]:
    heard: list[bool] = []
    return heard, window.control.changed_event.listen(lambda: heard.append(True))


def over(window: Window) -> bool:
    return not window.control.is_calibrating


class Storage:
    """The host's store of words; that of its test window forgets them."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def get_persistent_string(self, key: str, default_value: str | None = None) -> str:
        return self.kept.get(key, default_value or "")

    def set_persistent_string(self, key: str, value: str) -> None:
        self.kept[key] = value


def test_choices_are_kept_for_the_next_start() -> None:
    storage = Storage()
    control = Control(storage)
    control.choose(sample="Si [110]", frames=12)
    kept = Choices.from_text(storage.kept[KEPT])
    assert (kept.sample, kept.frames) == ("Si [110]", 12)
    assert Control(storage).choices == control.choices


def test_first_choices_hold_until_the_operator_has_chosen() -> None:
    storage, first = Storage(), Choices(sample="SrTiO3 [001]").to_text()
    assert Control(storage, first=first).choices.sample == "SrTiO3 [001]"
    Control(storage, first=first).choose(sample="unknown")
    assert Control(storage, first=first).choices.sample == "unknown"


def test_what_cannot_be_chosen_is_said_and_changes_nothing(window: Window) -> None:
    before = window.control.choices
    window.control.choose(frames=0)
    assert window.control.choices == before
    assert "1 to 200 frames" in window.control.message
    window.control.choose_number("frames", "many", int)
    assert "'many' is not a whole number" in window.control.message
    window.control.choose_number("frames", " 12 ", int)
    assert (window.control.choices.frames, window.control.message) == (12, "")


def test_without_a_calibration_an_unknown_sample_is_left_alone(window: Window) -> None:
    window.parts.process = window.parts.refit = None
    window.control.choose(sample="unknown")
    window.toggle()
    (report,) = window.frames(1)
    assert report.report is not None
    assert report.report.corrected is None
    assert "no calibration matches" in (report.reason or "")


def test_held_correction_learns_nothing_more(window: Window) -> None:
    window.toggle()
    window.frames(3)
    window.control.hold(is_held=True)
    window.tick_until(lambda: window.parts.process.options[-1].sample == "unknown")
    assert window.control.running is not None
    session = window.control.running.session
    held = session.model
    assert held is not None
    window.frames(3)
    assert session.model is held
    window.control.hold(is_held=False)
    window.tick_until(lambda: session.model is not held)


def test_panel_is_told_of_each_report_on_the_main_thread(window: Window) -> None:
    heard, listener = changes_of(window)
    window.toggle()
    heard.clear()
    window.frames(2)
    assert not heard
    window.window.periodic()
    assert heard
    assert window.control.last is not None
    del listener


def test_calibration_is_made_saved_and_used_for_the_next_sample(window: Window) -> None:
    window.parts.process = window.parts.refit = None
    window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
    window.control.choose(sample="SrTiO3 [001]", frames=3, sample_name="STO, wedge")
    window.control.calibrate(window.window)
    assert window.control.is_calibrating
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    window.tick_until(lambda: over(window), window.parts.states)
    assert window.control.calibrating is not None
    assert window.control.calibrating.phase == "done"
    seen = window.control.set_up
    assert seen is not None
    assert seen.hint is not None
    assert seen.hint.verdict == "usable"
    assert seen.advice is not None
    (stored,) = window.parts.store().list()
    assert (stored.sample, stored.frames) == ("STO, wedge", 3)
    assert "scan" in stored.provenance
    window.control.choose(sample="unknown")
    window.toggle()
    report = window.frames(1)[-1]
    assert report.calibration is not None
    assert report.calibration.calibration_id == stored.calibration_id
    assert report.report is not None
    assert report.report.field is not None
    assert report.report.field.kind == "stationary"


def test_set_up_is_looked_at_before_a_calibration_and_nothing_is_kept(window: Window) -> None:
    window.parts.process = window.parts.refit = None
    window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
    window.control.choose(sample="SrTiO3 [001]")
    before = window.scan.data_channel_updated_event.listener_count
    window.control.check_set_up(window.window)
    assert is_checking(window)
    assert set_up(window) is None
    window.frames(1)
    window.tick_until(lambda: not is_checking(window))
    seen = set_up(window)
    assert seen is not None
    assert seen.hint is not None
    assert (seen.hint.verdict, seen.settings.field_of_view_nm) == ("usable", 5.0)
    assert seen.advice is not None
    assert window.scan.data_channel_updated_event.listener_count == before
    assert window.parts.store().list() == ()


def is_checking(window: Window) -> bool:
    return window.control.is_checking


def set_up(window: Window) -> SetUp | None:
    return window.control.set_up


def test_frame_without_a_lattice_says_so_when_the_set_up_is_looked_at(window: Window) -> None:
    window.parts.level = fakes.UNUSABLE
    window.control.check_set_up(window.window)
    window.frames(1)
    window.tick_until(lambda: not window.control.is_checking)
    seen = window.control.set_up
    assert seen is not None
    assert (seen.hint, seen.reason) == (None, fakes.REASON)


def test_unknown_sample_is_not_looked_at_for_the_set_up(window: Window) -> None:
    window.control.choose(sample="unknown")
    window.control.check_set_up(window.window)
    assert not window.control.is_checking
    assert "say first which crystal" in window.control.message


def test_damaged_store_is_said_until_it_can_be_opened(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> None:
        raise ValueError("the calibrations are damaged")

    with monkeypatch.context() as patched:
        patched.setattr(window.parts, "store", damaged)
        window.toggle()
        window.control.choose(frames=12)
        window.frames(1)
        window.window.periodic()
        assert window.control.message == "the calibrations are damaged"
    assert window.control.open_store() is not None
    assert window.control.message == ""


def test_new_calibration_takes_the_place_of_what_the_session_knew(window: Window) -> None:
    window.parts.process = window.parts.refit = None
    window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
    window.control.choose(frames=3)
    window.toggle()
    window.frames(3)
    window.control.calibrate(window.window)
    window.tick_until(lambda: over(window), window.parts.states)
    window.tick_until(
        lambda: window.control.last is not None and window.control.last.calibration is not None
    )


def test_cancelled_calibration_leaves_nothing(window: Window) -> None:
    window.control.calibrate(window.window)
    window.control.cancel_calibration()
    window.tick_until(lambda: over(window), window.parts.states)
    assert window.control.calibrating is not None
    assert window.control.calibrating.phase == "cancelled"
    assert window.parts.store().list() == ()
    assert window.scan.data_channel_updated_event.listener_count == window_listeners(window)


def window_listeners(window: Window) -> int:
    """Return how many others listen: those that are there when nothing of ours runs."""
    window.control.stop_all()
    return int(window.scan.data_channel_updated_event.listener_count)


def test_unknown_sample_does_not_begin_a_calibration(window: Window) -> None:
    window.control.choose(sample="unknown")
    window.control.calibrate(window.window)
    assert not window.control.is_calibrating
    assert "say first which crystal" in window.control.message


def test_calibration_that_cannot_be_saved_can_be_saved_again(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.parts.calibrate = calibrated_by_one_frame

    class Full:
        known_flyback = None

        def save(self, *_: object, **__: object) -> str:
            raise ValueError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(window.parts, "store", Full)
        window.control.calibrate(window.window)
        window.scan.start_playing(sync_timeout=PATIENCE_S)
        window.tick_until(lambda: over(window), window.parts.states)
        assert window.control.message == "the disk is full"
        assert unsaved(window)
    saved: list[object] = []

    class Store:
        def save(self, model: object, **__: object) -> str:
            saved.append(model)
            return "abcd"

    monkeypatch.setattr(window.parts, "store", Store)
    window.control.save_calibration()
    assert len(saved) == 1
    assert not unsaved(window)
    assert window.control.message == ""


def unsaved(window: Window) -> bool:
    return window.control.is_unsaved


def calibrated_by_one_frame(frames: Iterator[object], **_: object) -> object:
    frame = next(iter(frames))
    return fakes.Model(frame.settings, (0.0,))  # type: ignore[attr-defined]


def test_scan_that_goes_stops_everything_and_says_so(window: Window) -> None:
    window.toggle()
    window.frames(2)
    window.halt()
    HardwareSource.HardwareSourceManager().hardware_source_removed_event.fire(window.scan)
    assert window.control.running is None
    assert "The scan device is gone" in window.control.message


def test_channel_that_is_not_there_leaves_the_first_one(window: Window) -> None:
    window.control.choose(channel="BF")
    window.toggle()
    (report,) = window.frames(1)
    assert report.scan[0].channel == "HAADF"


def test_change_of_settings_is_followed_by_the_store(window: Window) -> None:
    window.parts.process = window.parts.refit = None
    window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
    window.control.choose(frames=3)
    window.control.calibrate(window.window)
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    window.tick_until(lambda: over(window), window.parts.states)
    window.control.choose(sample="unknown")
    window.toggle()
    assert window.frames(2)[-1].calibration is not None
    window.scan.set_current_frame_parameters(profile_parameters((160, 160), 1.0, 6.0))
    window.tick_until(
        lambda: (
            window.control.last is not None
            and window.control.last.scan[0].settings.field_of_view_nm == 6.0
        )
    )
    assert window.control.last is not None
    assert window.control.last.calibration is None
    assert "differs in field_of_view_nm" in (window.control.last.reason or "")
    assert np.isfinite(window.control.last.scan[0].image).all()


def test_each_frame_is_logged_and_the_session_described(
    window: Window, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "log.csv"
    assert window.control.describe() == ""
    assert "Begin a log first" in window.control.message
    window.control.log_to(path)
    window.toggle()
    window.frames(4)
    window.halt()
    paragraph = window.control.describe()
    window.control.end_log()
    assert len(path.read_text().splitlines()) >= 4
    assert "Frames were processed live with nion_distortion" in paragraph
    window.control.log_to(tmp_path)
    assert "cannot be opened" in window.control.message
    assert not window.control.is_logging


def test_log_goes_on_when_the_correction_is_started_again(
    window: Window, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "log.csv"
    window.toggle()
    window.control.log_to(path)
    window.frames(2)
    window.toggle()
    window.toggle()
    window.frames(2)
    window.halt()
    window.toggle()
    assert len(path.read_text().splitlines()) >= 4


def titles(window: Window) -> list[str]:
    return [item.title for item in window.window.document_model.data_items]


def test_record_keeps_scan_and_correction_together_and_can_be_undone(window: Window) -> None:
    window.control.record()
    assert "nothing to record" in window.control.message
    window.toggle()
    window.frames(3)
    window.halt()
    window.tick_until(lambda: window.control.last is not None)
    window.control.record()
    kept = [item for item in window.window.document_model.data_items if "HAADF, " in item.title]
    assert [item.title.rsplit(", ")[-1] for item in kept] == ["as scanned", "corrected"]
    raw, corrected = (item.metadata["nion_distortion"] for item in kept)
    assert raw["frame_id"] == corrected["frame_id"]
    assert (raw["correction"], bool(corrected["correction"])) == ({}, True)
    assert [item.dimensional_calibrations[0].units for item in kept] == ["nm", "nm"]
    assert not any(item.is_live for item in kept)
    window.window.handle_undo()
    window.window.handle_undo()
    assert not [title for title in titles(window) if "HAADF, " in title]


def test_scan_can_be_looked_at_in_the_place_of_its_correction(window: Window) -> None:
    window.toggle()
    window.frames(3)
    window.halt()
    window.tick_until(lambda: window.item.data_shape == (96, 96))
    window.control.look("raw")
    window.window.periodic()
    assert "AS SCANNED" in window.item.title
    assert window.control.last is not None
    np.testing.assert_array_equal(window.item.data, window.control.last.scan[0].image)
    window.control.look("corrected")
    window.window.periodic()
    assert window.item.title.startswith("Corrected HAADF")
    window.control.look("blink")
    window.window.periodic()
    assert "AS SCANNED" in window.item.title
    window.toggle()
    assert window.control.view == "corrected"


def test_average_stands_beside_the_corrected_picture(window: Window) -> None:
    window.toggle()
    window.frames(2)
    (panel,) = window.window.workspace.display_panels
    assert panel.data_item is window.item
    window.control.choose(averaged=4)
    window.window.periodic()
    corrected, average = window.window.workspace.display_panels
    assert corrected.data_item is window.item
    assert average.data_item.title.startswith("Mean")
    window.control.choose(averaged=0)
    window.control.choose(averaged=4)
    window.window.periodic()
    assert len(window.window.workspace.display_panels) == 2


def test_average_that_was_chosen_before_is_in_view_and_in_the_workspace(window: Window) -> None:
    window.control.choose(averaged=4)
    window.toggle()
    window.frames(2)
    window.window.periodic()
    corrected, average = [panel.data_item for panel in window.window.workspace.display_panels]
    assert corrected is window.item
    assert average.title.startswith("Mean")
    for _ in range(2):
        show_workspace(window.window, window.control)
        window.window.periodic()
        panels = window.window.workspace.display_panels
        shown = [panel.data_item for panel in panels]
        assert len(panels) == 11
        assert shown[shown.index(window.item) + 1] is average
        divided = panels[shown.index(window.item)].container
        shares = np.outer(divided.container.splits[1:], divided.splits).ravel()
        assert [*divided.container.splits[:1], *shares] == pytest.approx([1 / 3] * 3, abs=0.01)


def test_average_and_overlay_are_switched_while_it_runs(window: Window) -> None:
    window.toggle()
    window.frames(2)
    assert not any(title.startswith("Mean") for title in titles(window))
    (panel,) = window.window.workspace.display_panels
    panel.set_display_panel_display_item(None)
    window.control.choose(averaged=4, arrows=20)
    window.window.periodic()
    assert panel.data_item.title.startswith("Mean")
    window.tick_until(lambda: any(title.startswith("Mean of") for title in titles(window)))
    window.control.choose(averaged=0, arrows=0)
    running = window.control.running
    assert running is not None
    assert running.overlay.graphic is None
    window.frames(2)
