"""The diagrams: what they show, how often, and that nobody is harmed by what a user does."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diagram_windows as windows
import numpy as np
import pytest
import session_fakes as fakes
from nion.swift import ImageCanvasItem
from nion.swift.model import ColorMaps, Graphics
from nion.ui import DrawingContext
from nion.utils import Geometry

from nion_distortion.swift import diagrams
from nion_distortion.swift.colour_scale import GRAPHIC_ID, EndsGraphic, ScaleGraphic
from nion_distortion.swift.diagrams import DIAGRAMS, DIVERGING, Diagrams, register_colours
from nion_distortion.swift.history import History
from nion_distortion.swift.items import shown_in
from nion_distortion.swift.pictures import DRAWN

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def colours() -> Iterator[None]:
    withdraw = register_colours()
    yield
    withdraw()


@pytest.fixture
def window() -> Iterator[Any]:
    with windows.document_window() as opened:
        yield opened


class Shown:
    """Diagrams with a clock that is set by hand."""

    def __init__(self, window: Any) -> None:
        self.window, self.now_s = window, 0.0
        self.diagrams = Diagrams(window, clock_s=lambda: self.now_s)

    def report(self, *arguments: Any, **changes: Any) -> None:
        self.now_s += 2.0
        self.diagrams.show(windows.report(*arguments, **changes))
        windows.ticks(self.window)

    def item(self, name: str) -> Any:
        return self.diagrams.items[name].data_item


@pytest.fixture
def shown(window: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    monkeypatch.setattr(diagrams, "shown_in", lambda window: window.document_model.display_items)
    made = Shown(window)
    yield made
    made.diagrams.close()


def test_every_diagram_has_one_drawing() -> None:
    assert set(DIAGRAMS) == set(DRAWN)


def test_distortion_is_shown_in_pm_over_nm_with_zero_in_the_middle(shown: Shown) -> None:
    shown.report(level=2.0)
    fast = shown.item("fast")
    pixel_pm = 1e3 * 3.0 / 64
    np.testing.assert_allclose(fast.data[0], np.linspace(-1, 1, 64) * pixel_pm, rtol=1e-5)
    assert fast.intensity_calibration.units == "pm"
    assert [axis.units for axis in fast.dimensional_calibrations] == ["nm", "nm"]
    assert fast.dimensional_calibrations[1].scale == pytest.approx(3.0 / 64)
    display_item = shown.diagrams.items["fast"].display_item
    assert display_item is not None
    low, high = np.array(display_item.display_data_channels[0].display_limits, float)
    assert low == -high
    assert pixel_pm * 0.98 <= high <= 2 * pixel_pm
    assert fast.title == "DF fast (x)"
    assert fast.caption.endswith(f"colours ±{high:g} pm")
    assert "of the newest frame" in fast.caption
    assert fast.metadata["nion_distortion"]["frame_id"] == "scan 0"


def test_both_axes_have_one_scale(shown: Shown) -> None:
    shown.report(level=2.0)
    slow, fast = (scales(shown, name)[0].limits for name in ("slow", "fast"))
    assert slow == fast


def test_stored_calibration_is_named(shown: Shown) -> None:
    shown.report(kind="stationary", calibration=SimpleNamespace(calibration_id="ab12cd34ef"))
    assert "of the stored calibration ab12cd," in shown.item("fast").caption


def test_distortion_learnt_in_this_session_is_not_called_a_calibration(shown: Shown) -> None:
    shown.report(kind="stationary")
    said = "of the stationary distortion that earlier frames showed,"
    assert said in shown.item("fast").caption


def test_uncertainty_is_that_of_both_axes_together(shown: Shown) -> None:
    shown.report()
    expected = np.hypot(fakes.STD_PX, fakes.STD_PX) * 1e3 * 3.0 / 64
    np.testing.assert_allclose(shown.item("uncertainty").data, expected, rtol=1e-5)


def test_drift_is_shown_against_time(shown: Shown) -> None:
    for index in range(3):
        shown.report(index)
    drift = shown.item("drift")
    np.testing.assert_allclose(drift.data, [[0.0, 0.02, 0.04], [0.01, 0.03, 0.05]])
    assert drift.intensity_calibration.units == "nm"
    assert drift.dimensional_calibrations[-1].units == "s"
    assert drift.dimensional_calibrations[-1].scale == pytest.approx(0.25)


def test_drift_says_its_newest_place_with_its_error() -> None:
    history = History()
    stds = np.array([[0.0, 0.0], [0.0012, 0.034]])
    for known, said in (
        (stds, "y 0.0200 ± 0.0012 nm, x 0.030 ± 0.034 nm"),
        (stds[:0], "not known"),
    ):
        live = replace(windows.report(1), drift_std_nm=known)
        history.follow(live)
        assert said in DRAWN["drift"](history, live).caption


def test_uneven_times_of_frames_are_interpolated() -> None:
    history = History()
    for index, time_s in enumerate((0.0, 1.0, 4.0)):
        live = windows.report(index)
        scan = (replace(live.scan[0], time_s=time_s, provenance={}),)
        live = replace(live, scan=scan, drift_nm=np.array([[0, 0], [1, 1], [4, 4]])[: index + 1])
        history.follow(live)
    drawn = DRAWN["drift"](history, live)
    assert drawn.xdata is not None
    np.testing.assert_allclose(drawn.xdata.data[0], [0.0, 2.0, 4.0])
    assert drawn.xdata.dimensional_calibrations[-1].scale == pytest.approx(2.0)


def test_frames_without_a_time_are_counted(shown: Shown) -> None:
    live = windows.report(1)
    shown.report(1, scan=(replace(live.scan[0], time_s=None, provenance={}),))
    assert shown.item("drift").dimensional_calibrations[-1].units == "frames"


def test_residual_shows_both_numbers_of_every_frame(shown: Shown) -> None:
    shown.now_s = 10.0
    for index in range(4, 7):  # all but the first come too soon to be drawn
        shown.diagrams.show(windows.report(index))
    shown.report(7)
    residual = shown.item("residual")
    np.testing.assert_allclose(residual.data, [[100.0] * 4, [2.0] * 4])
    assert residual.title == "Residual"
    assert residual.caption.startswith("Off by 100.0 ± 1.0 pm, corrected 2.0 pm: ")
    assert residual.dimensional_calibrations[-1].offset == 4
    assert residual.intensity_calibration.units == "pm"


@pytest.mark.parametrize(("name", "above"), [("residual", 100.0), ("drift", 0.07)])
def test_legend_stands_above_the_curves(shown: Shown, name: str, above: float) -> None:
    shown.report(3)
    display_item = shown.diagrams.items[name].display_item
    assert display_item is not None
    assert np.max(shown.item(name).data) == pytest.approx(above)
    assert display_item.get_display_property("legend_position") == "top-right"
    assert display_item.get_display_property("y_max") >= 1.5 * above


def test_way_that_leads_down_leaves_room_for_its_legend(shown: Shown) -> None:
    shown.report(1, drift_nm=np.array([[0.0, 0.0], [-0.3, -0.1]]))
    display_item = shown.diagrams.items["drift"].display_item
    assert display_item is not None
    low, high = (display_item.get_display_property(name) for name in ("y_min", "y_max"))
    assert low <= -0.3
    assert high >= 0.15


def test_every_title_is_short_enough_for_a_narrow_panel(shown: Shown) -> None:
    for report in (None, windows.report(0).report):
        shown.report(0, report=report, reason=None if report else "there are too few columns")
        assert max(len(shown.item(name).title) for name in DIAGRAMS) <= 14
    shown.report(1, report=None, reason="there are too few columns")
    assert max(len(shown.item(name).title) for name in DIAGRAMS) <= 14


def test_frame_that_was_not_measured_leaves_a_gap_and_says_why(shown: Shown) -> None:
    shown.report(0)
    shown.report(1, report=None, reason="There are too few columns.")
    np.testing.assert_allclose(shown.item("residual").data[0], [100.0, np.nan])
    assert shown.item("residual").title == "Residual: n/a"
    assert shown.item("residual").caption == "Not measured: There are too few columns."
    for name in ("slow", "fast", "uncertainty", "drift"):
        assert shown.item(name).title.endswith(": old")
        assert shown.item(name).caption == (
            "Of earlier frames. Not updated: There are too few columns."
        )
    assert shown.item("fast").data.any()


def test_without_an_earlier_picture_nothing_is_called_old(shown: Shown) -> None:
    shown.report(0, report=None, reason="there are too few columns")
    for name in ("slow", "fast", "uncertainty", "residual", "drift"):
        assert shown.item(name).title.endswith(": n/a")
        assert shown.item(name).caption == "Not measured: there are too few columns."


def test_picture_that_an_earlier_run_left_is_not_called_the_newest(shown: Shown) -> None:
    shown.report(0)
    shown.diagrams.close()
    again = Shown(shown.window)
    again.report(0, report=None, reason="there are too few columns")
    assert again.item("fast").title == "DF fast: old"
    again.diagrams.close()


def test_components_are_shares_in_percent_and_courses_of_rms_one(shown: Shown) -> None:
    shown.report(5)
    scree, modes = shown.item("scree"), shown.item("eigenmodes")
    assert scree.data[1, 0] == pytest.approx(100.0)
    assert scree.intensity_calibration.units == "%"
    assert modes.data.shape == (4, 6)
    assert np.sqrt(np.mean(modes.data[2] ** 2)) == pytest.approx(1.0)


def test_loading_maps_are_tiles_on_their_scales(shown: Shown) -> None:
    shown.report(3, level=2.0)
    loadings = shown.item("loadings")
    (scale, *_) = loadings.metadata["nion_distortion"]["scales_pm"]
    assert loadings.data.shape == (8 + 2 + 8, 3 * 8 + 2 * 2)
    fast = loadings.data[10:, :8] * scale
    area_pm = np.linspace(-1, 1, 64).reshape(8, 8).mean(axis=1) * 1e3 * 3.0 / 64
    np.testing.assert_allclose(fast[0], area_pm * 1.015, rtol=1e-2)
    assert scales(shown, "loadings")[0].ends_pm == (scale,)  # all frames alike: one component
    assert loadings.dimensional_calibrations[0].scale == pytest.approx(3.0 / 8)


def test_scale_stays_while_what_it_shows_fits() -> None:
    history = History()
    assert history.scale("one", 41.0) == 50.0
    assert history.scale("one", 30.0) == 50.0
    assert history.scale("one", 55.0) == 70.0
    assert history.scale("one", 5.0) == 5.0
    assert history.scale("two", 0.0) == 1.0


def test_diagrams_are_drawn_every_two_seconds_one_in_a_tick(shown: Shown) -> None:
    shown.diagrams.show(windows.report(0))
    drawn = []
    for _ in range(len(DIAGRAMS)):
        shown.window.periodic()
        drawn.append(sum("nion_distortion" in shown.item(name).metadata for name in DIAGRAMS))
    assert drawn == list(range(1, len(DIAGRAMS) + 1))
    before = shown.item("residual").data_modified
    shown.now_s = 1.9
    shown.diagrams.show(windows.report(1))
    windows.ticks(shown.window)
    assert shown.item("residual").data_modified == before
    shown.now_s = 2.1
    shown.diagrams.show(windows.report(2))
    windows.ticks(shown.window)
    assert shown.item("residual").data.shape == (2, 3)


@pytest.mark.parametrize(("frame_s", "period_s"), [(0.1, 2.0), (0.4, 3.2), (30.0, 4.0)])
def test_diagrams_give_way_to_frames_that_take_long(
    shown: Shown, frame_s: float, period_s: float
) -> None:
    for index, now_s in enumerate((0.0, 0.99 * period_s, period_s)):
        shown.now_s = now_s
        shown.diagrams.show(windows.report(index, duration_s=frame_s))
        windows.ticks(shown.window)
        # of the second one nothing is seen before the third
        assert shown.item("residual").data.shape == (2, (1, 1, 3)[index])


def test_what_no_panel_shows_is_drawn_less_often(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagrams, "shown_in", shown_in)
    display_item = shown.diagrams.items["fast"].display_item
    (panel,) = shown.window.workspace.display_panels
    panel.set_display_panel_display_item(display_item)
    frames = {}
    for index in range(11):
        shown.report(index)
        frames[index] = [
            shown.item(name).metadata["nion_distortion"]["frame_index"] for name in ("fast", "slow")
        ]
    assert [frames[index][0] for index in range(11)] == list(range(11))
    assert [frames[index][1] for index in range(11)] == [0] * 10 + [10]
    panel.set_display_panel_display_item(None)


def test_same_items_are_found_again(shown: Shown) -> None:
    before = {name: shown.item(name) for name in DIAGRAMS}
    shown.diagrams.close()
    again = Diagrams(shown.window)
    assert {name: again.items[name].data_item for name in DIAGRAMS} == before
    assert all(item.is_live for item in before.values())
    again.close()
    assert not any(item.is_live for item in before.values())


def test_items_are_not_taken_for_the_scans_own(shown: Shown) -> None:
    shown.report()
    for name in DIAGRAMS:
        assert shown.item(name).category == "temporary"
        assert "hardware_source" not in shown.item(name).metadata


def test_deleted_items_stay_away_until_the_next_start(shown: Shown) -> None:
    shown.report(0)
    for name, (deleted, _) in zip(DIAGRAMS, itertools.cycle([(True, 0), (False, 0)]), strict=False):
        if deleted:
            shown.window.document_model.remove_data_item(shown.item(name))
    shown.report(1)
    assert [shown.item(name) is None for name in DIAGRAMS] == [True, False] * 4
    shown.diagrams.close()
    again = Diagrams(shown.window)
    assert all(item.data_item is not None for item in again.items.values())
    again.close()


def test_items_deleted_between_two_ticks_do_no_harm(shown: Shown) -> None:
    shown.diagrams.show(windows.report(0))
    shown.window.periodic()
    for name in DIAGRAMS:
        shown.window.document_model.remove_data_item(shown.item(name))
    windows.ticks(shown.window)
    assert [shown.item(name) for name in DIAGRAMS] == [None] * len(DIAGRAMS)


def test_closed_diagrams_show_nothing_more(shown: Shown) -> None:
    shown.report(0)
    shown.diagrams.show(windows.report(1))
    shown.diagrams.close()
    windows.ticks(shown.window)
    shown.report(2)
    assert shown.item("residual").data.shape == (2, 1)


def test_new_items_say_what_will_be_seen(shown: Shown) -> None:
    assert [shown.item(name).title for name in DIAGRAMS] == [one.title for one in DIAGRAMS.values()]
    assert np.isnan(shown.item("drift").data).all()


def test_colours_are_blue_white_red() -> None:
    blue, white, red = ColorMaps.get_color_map_data_by_id(DIVERGING)[[0, 127, 255]]
    assert blue[0] > blue[2]
    assert min(white) > 240
    assert red[2] > red[0]


def scales(shown: Shown, name: str) -> list[Any]:
    display_item = shown.diagrams.items[name].display_item
    assert display_item is not None
    return list(display_item.graphics)


def painted(graphic: Any, width: int = 200) -> Any:
    context, settings = DrawingContext.DrawingContext(), None
    bounds = Geometry.IntRect(Geometry.IntPoint(), Geometry.IntSize(200, width))
    mapping = ImageCanvasItem.ImageCanvasItemMapping((64, 64), bounds, [])
    graphic.draw(context, settings, mapping, is_selected=False, is_focused=False)
    return context


def test_maps_have_a_scale_with_the_numbers_at_its_ends(shown: Shown) -> None:
    shown.report(level=2.0)
    shown.report(1, level=2.0)
    (scale,) = scales(shown, "fast")
    low, high = scale.limits
    context = painted(scale)
    texts = [command[1] for command in context.commands if command[0] == "fillText"]
    assert texts == [f"{high:g}", "pm", "0", f"{low:g}"]
    (bar,) = context.images.values()
    assert [f"{bar[end, 0]:08X}" for end in (0, -1)] == ["FF67001F", "FF053061"]
    assert scale.test() == (None, False)
    assert scale.write_to_dict()["type"] == "point-graphic"
    assert scales(shown, "drift") == []


def test_loading_maps_have_the_ends_of_their_colours_in_them(shown: Shown) -> None:
    shown.report(level=2.0)
    shown.report(1, level=2.0)
    (graphic,) = scales(shown, "loadings")
    assert isinstance(graphic, EndsGraphic)
    texts = [command[1] for command in painted(graphic).commands if command[0] == "fillText"]
    assert texts == [f"±{graphic.ends_pm[0]:g}", "pm"]
    graphic.draw_ends((300.0, 20.0, 1.5))
    placed = [command[1:4] for command in painted(graphic).commands if command[0] == "fillText"]
    assert [text for text, *_ in placed] == ["±300", "pm", "±20", "pm", "±1.5", "pm"]
    lefts = [left for _, left, _ in placed[::2]]
    assert np.diff(lefts) == pytest.approx([200 / 3] * 2, abs=1.0)


@pytest.mark.parametrize(("width", "is_inside"), [(240, True), (320, False)])
def test_scale_stays_in_a_panel_that_has_no_room_beside_the_map(
    shown: Shown, width: int, *, is_inside: bool
) -> None:
    shown.report(level=2.0)
    context = painted(scales(shown, "fast")[0], width)
    lefts = [command[2] for command in context.commands if command[0] == "fillText"]
    assert max(lefts) <= width - 30
    assert (min(lefts) < (width + 200) / 2) == is_inside
    assert any(command[0] == "rect" for command in context.commands) == is_inside


def test_closed_diagrams_leave_no_scale_behind(shown: Shown) -> None:
    shown.report()
    shown.diagrams.close()
    assert scales(shown, "fast") == scales(shown, "loadings") == []


def test_scale_that_an_earlier_run_left_is_replaced(shown: Shown) -> None:
    left_over = Graphics.PointGraphic()
    left_over.graphic_id = GRAPHIC_ID
    display_item = shown.diagrams.items["fast"].display_item
    assert display_item is not None
    display_item.add_graphic(left_over)
    shown.report()
    (scale,) = scales(shown, "fast")
    assert isinstance(scale, ScaleGraphic)


def test_curves_have_a_legend_and_a_colour_each(shown: Shown) -> None:
    for name, kind in DIAGRAMS.items():
        display_item = shown.diagrams.items[name].display_item
        assert display_item is not None
        labels = [layer.label for layer in display_item.display_layers]
        assert (display_item.display_type == "line_plot") == bool(kind.curves)
        if kind.curves:
            assert labels == [label for label, _ in kind.curves]
            assert len({layer.stroke_color for layer in display_item.display_layers}) == len(labels)
