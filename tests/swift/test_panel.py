"""The panel in a headless window: what it shows, and what its widgets do."""

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from swift_windows import Window, opened

from nion_distortion.swift.choices import SAMPLES
from nion_distortion.swift.panel import SHOWN, DistortionPanel

pytestmark = pytest.mark.gui


class Opened:
    """A window with the panel in it."""

    def __init__(self, window: Window) -> None:
        self.window, self.shown = window, []  # type: ignore[var-annotated]
        self.panel = DistortionPanel(window.window, window.control, self.shown.append)
        self.handler: Any = self.panel.handler
        self.told: list[str] = []
        self.listener: Any = self.handler.property_changed_event.listen(self.told.append)

    def close(self) -> None:
        self.listener = None
        self.panel.close()


@pytest.fixture
def panel(tmp_path: pathlib.Path) -> Iterator[Opened]:
    with opened(tmp_path) as window:
        made = Opened(window)
        yield made
        made.close()
        del made


def test_everything_shown_can_be_read_before_anything_runs(panel: Opened) -> None:
    values: dict[str, Any] = {name: getattr(panel.handler, name) for name in SHOWN}
    assert values["off_by"] == "\N{EM DASH}"
    assert values["correct_text"] == "Correct Live"
    assert values["scan_names"] == [panel.window.scan.display_name]
    assert values["sample_index"] == SAMPLES.index("free")


def test_button_starts_and_stops(panel: Opened) -> None:
    panel.handler.correct_clicked(None)
    assert panel.handler.is_correcting
    assert panel.handler.correct_text == "Stop Correcting"
    panel.handler.correct_clicked(None)
    assert panel.window.control.window is None
    assert panel.handler.correct_text == "Correct Live"


def test_numbers_appear_with_the_frames_and_only_what_changed_is_told(panel: Opened) -> None:
    panel.handler.correct_clicked(None)
    panel.told.clear()
    panel.window.frames(3)
    panel.window.tick_until(lambda: panel.handler.off_by.endswith("pm"))
    assert "off_by" in panel.told
    assert "scan_names" not in panel.told
    panel.window.tick_until(lambda: "processed" in panel.handler.counts)


def test_widgets_choose(panel: Opened) -> None:
    handler, control = panel.handler, panel.window.control
    handler.sample_index = SAMPLES.index("cell")
    handler.a_nm, handler.b_nm, handler.gamma_deg = "0.4", "0.5", "100"
    assert control.choices.cell == (0.4, 0.5, 100.0)
    assert handler.is_cell
    handler.frames, handler.stop_pm, handler.sample_name = "7", "2.5", " wedge "
    assert (control.choices.frames, control.choices.stop_pm) == (7, 2.5)
    assert control.choices.sample_name == "wedge"
    handler.applied_index = 1
    assert control.choices.applied == "calibration"
    handler.is_held = True
    assert control.is_held
    handler.scan_index = 0
    assert control.choices.scan_id == panel.window.scan.hardware_source_id
    handler.channel_index = handler.channels.index("MAADF")
    assert control.choices.channel == "MAADF"


def test_typing_mistake_is_said_and_the_old_number_stays(panel: Opened) -> None:
    panel.handler.a_nm = "wide"
    assert panel.handler.a_nm == "0.3905"
    assert "wide" in panel.handler.trouble
    panel.handler.frames = "twenty"
    assert panel.handler.frames == "20"
    assert "'twenty' is not a whole number" in panel.handler.trouble


def test_trouble_takes_room_only_where_there_is_any(panel: Opened) -> None:
    assert not panel.handler.has_trouble
    panel.handler.a_nm = "wide"
    assert panel.handler.has_trouble
    assert "has_trouble" in panel.told


def test_unknown_sample_cannot_calibrate_and_has_the_calibration_applied(panel: Opened) -> None:
    panel.handler.sample_index = SAMPLES.index("unknown")
    assert not panel.handler.can_calibrate
    assert panel.handler.applied_index == 1
    panel.handler.applied_index = 0
    assert panel.window.control.choices.applied == "own lattice"
    assert panel.handler.applied_index == 1


def test_calibration_can_be_begun_and_cancelled(panel: Opened) -> None:
    panel.handler.calibrate_clicked(None)
    assert (panel.handler.is_calibrating, panel.handler.can_calibrate) == (True, False)
    panel.handler.cancel_clicked(None)
    panel.window.tick_until(lambda: not panel.handler.is_calibrating, panel.window.parts.states)
    assert panel.handler.calibration_words == "Cancelled; nothing was kept."


def test_workspace_button_asks_for_the_workspace_of_its_window(panel: Opened) -> None:
    panel.handler.workspace_clicked(None)
    assert panel.shown == [panel.window.window]


def test_closed_panel_hears_nothing_more(panel: Opened) -> None:
    second = DistortionPanel(panel.window.window, panel.window.control, panel.shown.append)
    count = panel.window.control.changed_event.listener_count
    second.close()
    assert panel.window.control.changed_event.listener_count == count - 1


def test_log_and_methods(
    panel: Opened, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, path = panel.window.window.ui, tmp_path / "log.csv"
    copied: list[str] = []
    monkeypatch.setattr(ui, "get_save_file_path", lambda *_: (str(path), "", ""), raising=False)
    monkeypatch.setattr(ui, "clipboard_set_text", copied.append, raising=False)
    panel.handler.methods_clicked(None)
    assert copied == []
    panel.handler.log_clicked(None)
    assert panel.handler.log_text == "End Log"
    panel.handler.methods_clicked(None)
    assert "no number was measured" in copied[0]
    panel.handler.log_clicked(None)
    assert panel.handler.log_text == "Log..."


def test_drift_is_fed_back_only_when_asked_for(panel: Opened) -> None:
    assert not panel.handler.is_fed_back
    panel.handler.correct_clicked(None)
    assert not panel.handler.is_fed_back
    panel.handler.is_fed_back = True
    panel.window.frames(3)
    panel.window.tick_until(lambda: panel.window.control.last is not None)
    assert panel.handler.is_fed_back
    panel.handler.correct_clicked(None)
    assert not panel.handler.is_fed_back


def widgets(description: Any) -> Iterator[dict[str, Any]]:
    """Yield the widgets in the order in which the host makes them, which is that of the tab key."""
    if isinstance(description, dict):
        yield description
        for value in description.values():
            yield from widgets(value)
    elif isinstance(description, list):
        for value in description:
            yield from widgets(value)


USED = ("push_button", "line_edit", "combo_box", "check_box")


def reached(panel: Opened) -> list[dict[str, Any]]:
    return [one for one in widgets(panel.handler.ui_view) if one.get("type") in USED]


def name_of(widget: dict[str, Any]) -> str:
    bound = [widget.get(key) for key in ("on_clicked", "current_index", "checked", "text")]
    name = next(one for one in bound if one)
    return str(name).removeprefix("@binding(").removesuffix(")")


def test_keys_reach_the_widgets_from_top_to_bottom(panel: Opened) -> None:
    assert [name_of(one) for one in reached(panel)] == [
        "scan_index", "channel_index", "is_raster", "sample_index", "a_nm", "b_nm", "gamma_deg",
        "applied_index", "correct_clicked", "is_held", "workspace_clicked", "frames", "stop_pm",
        "sample_name", "check_clicked", "calibrate_clicked", "cancel_clicked", "manage_clicked",
        "save_clicked", "view_index", "is_overlaid", "arrows", "averaged", "record_clicked",
        "log_clicked", "methods_clicked", "is_fed_back",
    ]  # fmt: skip


def test_every_widget_that_is_used_says_what_it_does(panel: Opened) -> None:
    assert [name_of(one) for one in reached(panel) if not one.get("tool_tip")] == []


def test_everything_bound_is_told_of_and_every_button_does_something(panel: Opened) -> None:
    described = list(widgets(panel.handler.ui_view))
    values = [str(value) for one in described for value in one.values()]
    bound = {one[len("@binding(") : -1] for one in values if one.startswith("@binding(")}
    assert bound <= set(SHOWN)
    clicked = [one["on_clicked"] for one in described if "on_clicked" in one]
    assert all(callable(getattr(panel.handler, name)) for name in clicked)


def test_list_that_gets_new_lines_does_not_choose(panel: Opened) -> None:
    handler, control = panel.handler, panel.window.control
    control.choose(channel="MAADF")

    def as_the_widget(name: str) -> None:
        if name == "channels":
            handler.channel_index = 0

    listener = handler.property_changed_event.listen(as_the_widget)
    handler._told.clear()  # so that the lines count as new
    handler.tell(["channels", "channel_index"])
    assert control.choices.channel == "MAADF"
    del listener
    handler.channel_index = 0
    assert control.choices.channel == "HAADF"


def test_set_up_can_be_checked_before_anything_runs(panel: Opened) -> None:
    assert panel.handler.hint == ""
    panel.handler.check_clicked(None)
    assert "is the scan running?" in panel.handler.hint
    panel.window.frames(1)
    panel.window.tick_until(lambda: "96 x 96 px" in panel.handler.hint)


def test_what_was_done_is_said(panel: Opened, tmp_path: pathlib.Path) -> None:
    panel.handler.correct_clicked(None)
    assert "is the scan running?" in panel.handler.meaning
    panel.window.frames(3)
    panel.window.halt()
    panel.window.window.periodic()
    panel.handler.record_clicked(None)
    assert panel.handler.said == "Recorded as scanned and corrected: 2 pictures."
    panel.window.control.log_to(tmp_path / "log.csv")
    assert "Log: 0 rows in log.csv." in panel.handler.said
    panel.handler.correct_clicked(None)
    panel.handler.record_clicked(None)
    assert "nothing to record" in panel.handler.trouble
    assert "Recorded" not in panel.handler.said


def test_numbers_of_a_correction_that_has_ended_are_no_longer_shown(panel: Opened) -> None:
    panel.handler.correct_clicked(None)
    panel.window.frames(3)
    panel.window.tick_until(lambda: panel.handler.off_by.endswith("pm"))
    panel.handler.correct_clicked(None)
    assert (panel.handler.off_by, panel.handler.corrected) == ("\N{EM DASH}", "\N{EM DASH}")
