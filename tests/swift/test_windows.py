"""Windows and projects: each window stops what was begun in it, a project opens as it was left."""

import gc
import pathlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from swift_windows import CRYSTAL_SCAN, Window, quiet

from nion_distortion.live_calibration import CalibrationState
from nion_distortion.swift import windows
from nion_distortion.swift.extension import show_workspace
from nion_distortion.swift.panel import DistortionPanel

pytestmark = pytest.mark.gui


@pytest.fixture
def window(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[Window]:
    with quiet(tmp_path, caplog, capfd) as made:
        yield made


class Second:
    """A second window of the project, with a panel of its own."""

    window: Any
    panel: Any

    def __init__(self, first: Window) -> None:
        first.scan_once()  # a closed window of the host's cannot bear the scan's own new items
        document = first.window.document_model
        make = first.context.create_secondary_document_controller
        self.window = make(document, auto_close=False)
        self.shown: list[Any] = []
        self.panel = DistortionPanel(self.window, first.controls.of(self.window), self.shown.append)
        self.is_open = True

    @property
    def handler(self) -> Any:
        return self.panel.handler

    def close(self) -> None:
        """Close it as its own button does."""
        if self.is_open:
            self.panel.close()
            closed, self.window, self.panel, self.is_open = self.window, None, None, False
            closed.about_to_close("", "")
            del closed
            gc.collect()  # a closed window of the host's hears of new items as long as it is there


@contextmanager
def second_window(first: Window) -> Iterator[Second]:
    second = Second(first)
    yield second
    second.close()


def shows_the_whole_frame(window: Window) -> Any:
    return lambda: window.item.data_shape == (96, 96)


def test_both_panels_show_what_one_of_them_began(window: Window) -> None:
    with second_window(window) as second:
        assert window.controls.of(second.window) is window.control
        window.toggle()
        assert second.handler.correct_text == "Stop Correcting"
        window.frames(3)
        window.tick_until(lambda: second.handler.off_by.endswith("pm"))
        second.handler.correct_clicked(None)
        assert window.control.running is None
        assert not window.item.is_live


def test_first_window_goes_on_correcting_when_the_second_closes(window: Window) -> None:
    with second_window(window) as second:
        window.toggle()
        window.frames(2)
        second.close()
        assert window.control.running is not None
        window.frames(2)
        window.tick_until(shows_the_whole_frame(window))
        assert window.item.is_live


def test_window_that_corrects_takes_only_its_correction_along(window: Window) -> None:
    with second_window(window) as second:
        second.handler.correct_clicked(None)
        window.frames(2)
        window.control.calibrate(window.window)
        second.close()
        assert window.control.running is None
        assert window.control.is_calibrating
        assert window.control.window is window.window
        assert not window.item.is_live


def test_window_that_calibrates_takes_only_its_calibration_along(window: Window) -> None:
    with second_window(window) as second:
        second.handler.calibrate_clicked(None)
        window.toggle()
        window.frames(2)
        second.close()
        assert not window.control.is_calibrating
        assert window.control.calibrating is not None
        assert window.control.calibrating.phase == "cancelled"
        window.frames(2)
        window.tick_until(shows_the_whole_frame(window))


def test_correction_begins_in_the_other_window_when_its_own_has_closed(window: Window) -> None:
    with second_window(window) as second:
        second.handler.correct_clicked(None)
        window.frames(2)
        item = window.item
        second.close()
        window.toggle()
        assert window.item is item
        window.frames(2)
        window.tick_until(shows_the_whole_frame(window))


def test_both_windows_show_the_workspace(window: Window) -> None:
    with second_window(window) as second:
        window.toggle()
        window.frames(2)
        for one in (window.window, second.window):
            show_workspace(one, window.control)
            shown = [panel.display_item for panel in one.workspace.display_panels]
            assert window.window.document_model.get_display_item_for_data_item(window.item) in shown


def test_nothing_holds_on_to_a_closed_window(window: Window) -> None:
    with second_window(window) as second:
        second.handler.correct_clicked(None)
        second.handler.calibrate_clicked(None)
        second.handler.check_clicked(None)
        window.frames(2)
        closed = weakref.ref(second.window)
    window.join_threads()
    gc.collect()
    assert closed() is None


def test_closed_window_is_asked_for_nothing(window: Window) -> None:
    done: list[str] = []
    with second_window(window) as second:
        closed = second.window
    windows.do_soon(closed, "task", lambda: done.append("closed"))
    windows.forget(closed, "task")
    windows.do_soon(window.window, "task", lambda: done.append("open"))
    window.window.periodic()
    assert done == ["open"]
    assert (windows.is_closed(closed), windows.is_closed(window.window)) == (True, False)


ODD: Any = SimpleNamespace(event_loop=object())
"""No window, but nothing says that it is closed."""


@pytest.mark.parametrize(
    "ask", [partial(windows.do_soon, ODD, "task", list), partial(windows.forget, ODD, "task")]
)
def test_mistake_of_ours_is_not_taken_for_a_closed_window(ask: Callable[[], object]) -> None:
    with pytest.raises(AttributeError):
        ask()


def test_report_that_comes_just_after_the_window_closed_does_no_harm(window: Window) -> None:
    with second_window(window) as second:
        second.handler.correct_clicked(None)
        window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
        running = window.control.running
        assert running is not None
        report = window.frames(1)[0]
        window.halt()
        window.window.periodic()
        closed = second.window
        second.close()
        # as a thread does that was on its way here when the window closed
        work = window.control._work
        work._arrived(closed, report)
        work.calibrating._told(closed, "", CalibrationState(phase="reading"))
        work.checking._seen(closed, report)
        for shown in (running.item, running.diagrams, running.overlay):
            shown.show(report)
        running.refuse("too late")


def ours(window: Window) -> set[Any]:
    items = window.window.document_model.data_items
    return {one.uuid for one in items if not one.title.startswith("Simulated UltraSTEM")}


def test_project_that_is_opened_again_has_nothing_live_and_is_corrected_again(
    window: Window, tmp_path: pathlib.Path
) -> None:
    window.control.choose(averaged=2, arrows=20)
    window.control.log_to(tmp_path / "log.csv")
    window.toggle()
    window.frames(3)
    window.tick_until(shows_the_whole_frame(window))
    show_workspace(window.window, window.control)
    window.halt()
    before = ours(window)
    old = window.control
    window.reopen()
    assert window.control is not old
    assert old.running is None
    assert not old.is_logging
    document = window.window.document_model
    assert ours(window) == before
    assert not [one.title for one in document.data_items if one.is_live]
    window.control.choose(sample="free", averaged=2, arrows=20)
    window.toggle()
    window.frames(3)
    window.tick_until(shows_the_whole_frame(window))
    show_workspace(window.window, window.control)
    assert ours(window) == before
    window.toggle()
    assert not window.item.is_live


def test_project_closes_while_it_is_corrected_and_calibrated(window: Window) -> None:
    window.scan.set_current_frame_parameters(CRYSTAL_SCAN)
    window.control.calibrate(window.window)
    window.toggle()
    window.frames(2)
    old = window.control
    window.reopen()
    assert old.window is None
    assert not window.item.is_live
    window.frames(0)
    window.window.periodic()
