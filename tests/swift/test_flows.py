"""What happens during a session: nothing of it leaves a traceback, a thread or a live state."""

import logging
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import session_fakes as fakes
from nion.instrumentation import HardwareSource
from nion.swift import Workspace
from nion.utils import Geometry
from swift_windows import CRYSTAL_SCAN, PATIENCE_S, Window, quiet

from nion_distortion.frame import Frame
from nion_distortion.live_calibration import CalibrationState
from nion_distortion.session import LiveReport
from nion_distortion.stack import CalibrationProgress
from nion_distortion.swift.extension import show_workspace
from nion_distortion.swift.words import calibration_progress
from nion_distortion.swift.workspace import WORKSPACE_ID
from simulator.nion_device import profile_parameters

pytestmark = pytest.mark.gui


@pytest.fixture
def window(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[Window]:
    with quiet(tmp_path, caplog, capfd) as made:
        yield made


def until(window: Window, condition: object) -> LiveReport:
    for _ in range(100):
        report = window.parts.reports.get(timeout=PATIENCE_S)
        if condition(report):  # type: ignore[operator]
            return report
    raise AssertionError("no such report came")


def never_mixed(window: Window) -> None:
    for frame, model in window.parts.process.calls:
        assert model is None or not model.settings.differences(frame.settings)
        assert frame.image.shape == frame.settings.shape_px


def test_recording_is_no_frame_of_the_view_which_is_corrected_again_after_it(
    window: Window,
) -> None:
    window.toggle()
    window.frames(2)
    window.scan.record_immediate(profile_parameters((64, 64), 1.0, 5.0), PATIENCE_S)
    window.frames(2)
    window.halt()
    fields = {frame.settings.field_of_view_nm for frame, _ in window.parts.process.calls}
    assert fields == {3.0}
    assert window.item.is_live
    never_mixed(window)


def test_sub_scan_is_corrected_by_itself_and_then_the_whole_again(window: Window) -> None:
    window.toggle()
    window.frames(3)
    window.scan.subscan_region = Geometry.FloatRect.from_tlhw(1 / 6, 1 / 6, 2 / 3, 2 / 3)
    window.scan.subscan_enabled = True
    part = until(window, lambda live: live.scan[0].settings.subscan_px is not None)
    assert part.scan[0].settings.shape_px == (64, 64)
    assert part.accepted == 0
    window.scan.subscan_enabled = False
    whole = until(window, lambda live: live.scan[0].settings.subscan_px is None)
    assert whole.scan[0].settings.shape_px == (96, 96)
    assert whole.accepted > 0
    never_mixed(window)


def channels(live: LiveReport) -> list[str]:
    return [frame.channel for frame in live.scan]


def test_channels_are_switched_off_and_on_the_analysed_one_too(window: Window) -> None:
    window.scan.set_channel_enabled(1, enabled=True)
    window.toggle()
    everything = channels(window.frames(1)[0])
    assert everything[0] == "HAADF"
    assert len(everything) > 1
    window.scan.set_channel_enabled(1, enabled=False)
    until(window, lambda live: len(live.scan) < len(everything))
    window.scan.set_channel_enabled(1, enabled=True)
    window.scan.set_channel_enabled(0, enabled=False)
    other = until(window, lambda live: "HAADF" not in channels(live))
    assert other.report is not None
    window.scan.set_channel_enabled(0, enabled=True)
    until(window, lambda live: channels(live) == everything)
    window.window.periodic()


def test_settings_changed_again_and_again_never_mix(window: Window) -> None:
    window.toggle()
    window.frames(2)
    for side, width in ((64, 3.0), (96, 4.0), (64, 5.0), (96, 3.0)):
        window.scan.set_current_frame_parameters(profile_parameters((side, side), 1.0, width))
        wanted = (side, width)
        until(
            window,
            lambda live, wanted=wanted: (
                (live.scan[0].settings.shape_px[0], live.scan[0].settings.field_of_view_nm)
                == wanted
            ),
        )
        window.window.periodic()
    never_mixed(window)


def test_aborted_frame_is_not_corrected_and_the_next_start_is(window: Window) -> None:
    window.toggle()
    for _ in range(4):
        window.frames(1)
        window.halt()
    window.frames(2)
    assert all((frame.image[-1] != 0).any() for frame, _ in window.parts.process.calls)
    never_mixed(window)


def test_workspace_is_deleted_while_it_is_seen(window: Window) -> None:
    controller = window.window.workspace_controller
    assert controller is not None
    window.toggle()
    window.frames(2)
    show_workspace(window.window, window.control)
    window.window.periodic()
    command = Workspace.RemoveWorkspaceCommand(controller)  # what the host's menu item performs
    command.perform()
    window.window.push_undo_command(command)
    assert workspaces(window).count(WORKSPACE_ID) == 0
    window.frames(2)
    window.tick_until(lambda: window.item.data_shape == (96, 96))
    show_workspace(window.window, window.control)
    assert workspaces(window).count(WORKSPACE_ID) == 1
    shown = [panel.data_item for panel in window.window.workspace.display_panels]
    assert window.item in shown


def workspaces(window: Window) -> list[str]:
    return [one.workspace_id for one in window.window.project.workspaces]


def reads_all(frames: Iterable[Frame], *, progress: Any, **_: Any) -> Any:
    """Stand in for `stack.calibrate`, which takes seconds."""
    read: list[Frame] = []
    for frame in frames:
        read.append(frame)
        progress(CalibrationProgress(frames=len(read), error_pm=1.0))
    return fakes.Model(read[0].settings, (0.0,))


def calibrated_to(window: Window, condition: Any) -> CalibrationState:
    for _ in range(100):
        state = window.parts.states.get(timeout=PATIENCE_S)
        if condition(state):
            return state
    raise AssertionError("the calibration did not come so far")


def test_settings_changed_in_mid_calibration_end_it_with_words(window: Window) -> None:
    window.parts.calibrate = reads_all
    window.control.calibrate(window.window)
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    calibrated_to(window, lambda state: state.frames == 4)
    window.scan.set_current_frame_parameters(profile_parameters((96, 96), 1.0, 4.0))
    ended = calibrated_to(window, lambda state: state.is_over)
    assert (ended.phase, ended.model) == ("failed", None)
    window.tick_until(lambda: not window.control.is_calibrating, window.parts.states)
    words = calibration_progress(window.control.calibrating, window.control.choices)[0]
    assert words.startswith("Not calibrated: ")
    assert "field of view 3 -> 4 nm" in words
    window.control.calibrate(window.window)
    calibrated_to(window, lambda state: state.frames == 2)
    assert window.control.is_calibrating


def test_source_is_removed_in_mid_calibration(window: Window) -> None:
    window.parts.calibrate = reads_all
    window.control.calibrate(window.window)
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    calibrated_to(window, lambda state: state.frames == 2)
    window.halt()
    HardwareSource.HardwareSourceManager().hardware_source_removed_event.fire(window.scan)
    assert not window.control.is_calibrating
    assert window.control.calibrating is not None
    assert window.control.calibrating.phase == "cancelled"
    assert "The scan device is gone" in window.control.message


def test_source_that_comes_later_is_told_to_the_panel(window: Window) -> None:
    heard: list[bool] = []
    listener = window.control.changed_event.listen(lambda: heard.append(True))
    HardwareSource.HardwareSourceManager().hardware_source_added_event.fire(window.scan)
    assert heard
    del listener


def test_everything_of_ours_is_deleted_while_it_runs(window: Window) -> None:
    window.control.choose(averaged=2, arrows=20)
    window.toggle()
    window.frames(3)
    document = window.window.document_model
    window.tick_until(lambda: any(one.title.startswith("Mean of") for one in document.data_items))
    for data_item in list(document.data_items):
        if data_item in document.data_items:
            document.remove_data_item(data_item)
    window.frames(3)
    for _ in range(10):
        window.window.periodic()
    window.control.choose(averaged=0, arrows=0)
    window.toggle()
    assert not [one for one in document.data_items if one.is_live and "Corrected" in one.title]
    window.toggle()
    window.frames(2)
    window.tick_until(lambda: window.item.data_shape == (96, 96))


@pytest.mark.parametrize("is_calibrating", [False, True])
def test_plug_in_is_unloaded_while_it_works(window: Window, *, is_calibrating: bool) -> None:
    control = window.control
    if is_calibrating:
        window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
        control.calibrate(window.window)
    window.toggle()
    window.frames(2)
    window.controls.close()
    assert control.running is None
    assert not control.is_calibrating
    assert not window.item.is_live
    window.window.periodic()


def test_plug_in_is_unloaded_in_the_middle_of_a_frame_and_then_refuses_in_words(
    window: Window, tmp_path: pathlib.Path
) -> None:
    process = window.parts.process = fakes.Process(gated=True)
    control = window.control
    window.toggle()
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    assert process.begun.acquire(timeout=PATIENCE_S)
    window.controls.close()
    assert control.window is None
    process.go.release(100)
    window.join_threads()
    window.window.periodic()
    assert window.parts.reports.empty()
    for begin in (control.start, control.calibrate, control.check_set_up):
        begin(window.window)
        assert control.window is None
        assert "unloaded" in control.message
        control.choose()  # which takes the message away
    control.log_to(tmp_path / "log.csv")
    assert "unloaded" in control.message
    assert not control.is_logging


def test_everything_is_toggled_in_quick_succession(window: Window, tmp_path: pathlib.Path) -> None:
    window.toggle()
    window.frames(1)
    for turn in range(12):
        is_even = turn % 2 == 0
        window.control.choose(
            averaged=3 * is_even, arrows=20 * is_even, sample="unknown" if is_even else "free"
        )
        window.control.hold(is_even)
        window.control.look(("raw", "blink", "corrected")[turn % 3])
        if is_even:
            window.control.log_to(tmp_path / "log.csv")
        else:
            window.control.end_log()
        if turn % 4 == 3:
            window.toggle()
            window.toggle()
        window.parts.reports.get(timeout=PATIENCE_S)
        window.window.periodic()
    assert window.control.message == ""
    never_mixed(window)


def test_exception_is_shown_and_logged_once_and_the_next_frame_is_taken(
    window: Window, caplog: pytest.LogCaptureFixture
) -> None:
    window.toggle()
    window.frames(1)
    window.parts.level = fakes.BROKEN
    broken = until(window, lambda live: live.report is None)
    assert "the lattice fell apart" in (broken.reason or "")
    window.tick_until(lambda: "the lattice fell apart" in window.item.caption)
    window.parts.level = 0.0
    until(window, lambda live: live.report is not None and live.reason is None)
    window.halt()
    said = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert said
    caplog.clear()
