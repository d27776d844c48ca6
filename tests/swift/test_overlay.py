"""The overlay: one graphic that is right about where things are, and easily got rid of."""

import time
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import diagram_windows as windows
import numpy as np
import pytest
from nion.swift import ImageCanvasItem
from nion.swift.model import DataItem, Graphics
from nion.ui import DrawingContext
from nion.utils import Geometry
from scipy.ndimage import map_coordinates

from nion_distortion.swift.marks import ARROW, FOUND, IDEAL, Marks, drawn, marks_of
from nion_distortion.swift.overlay import GRAPHIC_ID, Overlay, OverlayGraphic, raw_display_item

pytestmark = pytest.mark.gui

SETTINGS: Any = None
"""Of the user interface; not read."""


class Samples(SimpleNamespace):
    """What is read of the samples."""

    def __len__(self) -> int:
        return len(self.sites_px)


def columns(count: int = 4) -> dict[str, Any]:
    places = np.arange(2.0 * count).reshape(-1, 2)
    samples = Samples(sites_px=places + 0.25, observed_px=places)
    samples.displacement_px = samples.observed_px - samples.sites_px
    return {"columns": SimpleNamespace(positions_px=places), "samples": samples}


@pytest.fixture
def window() -> Iterator[Any]:
    with windows.document_window() as opened:
        yield opened


class Raw:
    """The raw item of a scan with an overlay on it."""

    def __init__(self, window: Any) -> None:
        self.window = window
        self.add()
        self.overlay = Overlay(window, lambda: raw_display_item(window, "scan", "a"))

    def add(self) -> None:
        data_item = DataItem.new_data_item(np.zeros((64, 64)))
        self.window.document_model.append_data_item(data_item)
        self.window.document_model.setup_channel("scan_a", data_item)

    @property
    def item(self) -> Any:
        return raw_display_item(self.window, "scan", "a")

    def show(self, **seen: Any) -> None:
        self.overlay.show(windows.report(seen=seen or columns()))
        self.window.periodic()

    @property
    def graphics(self) -> list[Any]:
        return list(self.item.graphics)


@pytest.fixture
def raw(window: Any) -> Iterator[Raw]:
    made = Raw(window)
    yield made
    made.overlay.close()


# what is drawn


def test_marks_are_fractions_of_the_frame_from_the_edge_of_its_first_pixel() -> None:
    marks = marks_of(windows.report(seen=columns()))
    np.testing.assert_allclose(marks.found[0], [0.5 / 64, 1.5 / 64])
    np.testing.assert_allclose(marks.sites[0], [0.75 / 64, 1.75 / 64])
    np.testing.assert_allclose(marks.displacements, -0.25 / 64)


def test_without_columns_the_applied_distortion_is_drawn_on_a_grid() -> None:
    marks = marks_of(windows.report(level=2.0, kind="stationary"))
    assert len(marks.found) == 0
    assert len(marks.sites) == len(marks.displacements) == 16 * 16
    np.testing.assert_allclose(marks.displacements[:, 0], 0.0)
    place = marks.sites[:, 1] * 64 - 0.5
    np.testing.assert_allclose(marks.displacements[:, 1] * 64, place / 63 * 2 - 1, atol=1e-6)


def test_frame_that_failed_has_no_marks() -> None:
    marks = marks_of(windows.report(report=None, reason="It failed."))
    assert len(marks.found) == len(marks.sites) == 0


def test_thousands_of_columns_are_thinned_out() -> None:
    marks = marks_of(windows.report(seen=columns(4000)))
    assert len(marks.found) <= 1600
    assert len(marks.sites) == len(marks.displacements) <= 1600


# the graphic


def mapping(size: tuple[int, int] = (480, 480)) -> Any:
    bounds = Geometry.IntRect(Geometry.IntPoint(), Geometry.IntSize(*size))
    return ImageCanvasItem.ImageCanvasItemMapping((64, 64), bounds, [])


def painted(graphic: OverlayGraphic) -> Any:
    context = DrawingContext.DrawingContext()
    graphic.draw(context, SETTINGS, mapping(), is_selected=False, is_focused=False)
    return context


def test_one_graphic_shows_the_newest_frame(raw: Raw) -> None:
    raw.show()
    raw.show(columns=SimpleNamespace(positions_px=np.ones((7, 2))), samples=columns()["samples"])
    (graphic,) = raw.graphics
    assert graphic is raw.overlay.graphic
    assert len(raw.graphics[0].marks.found) == 7


def test_every_new_frame_makes_the_host_paint_anew(raw: Raw) -> None:
    raw.show()
    before = raw.graphics[0].modified_count
    raw.show()
    assert raw.graphics[0].modified_count > before


def test_project_keeps_the_graphic_as_a_plain_point(raw: Raw) -> None:
    raw.show()
    properties = raw.graphics[0].write_to_dict()
    assert properties["type"] == "point-graphic"
    kept = Graphics.factory(lambda _: properties["type"])
    kept.read_from_dict(properties)
    assert type(kept) is Graphics.PointGraphic
    kept.close()


def test_clicks_go_through_it(raw: Raw) -> None:
    raw.show()
    hit = raw.graphics[0].test(mapping(), None, Geometry.FloatPoint(0, 0), move_only=False)
    assert hit == (None, False)
    assert raw.graphics[0].is_position_locked


def test_switched_off_it_is_gone_and_switched_on_it_is_back(raw: Raw) -> None:
    raw.show()
    raw.overlay.set(is_on=False, gain=5.0)
    assert raw.graphics == []
    raw.show()
    assert raw.graphics == []
    raw.overlay.set(is_on=True, gain=9.0)
    raw.show()
    assert [graphic.gain for graphic in raw.graphics] == [9.0]


def test_closed_it_is_gone(raw: Raw) -> None:
    raw.show()
    raw.overlay.show(windows.report(seen=columns()))
    raw.overlay.close()
    raw.window.periodic()
    assert raw.graphics == []


def test_deleted_by_the_user_it_stays_away_until_it_is_switched_on(raw: Raw) -> None:
    raw.show()
    raw.item.remove_graphic(raw.graphics[0]).close()
    raw.show()
    assert raw.graphics == []
    raw.overlay.set(is_on=True, gain=5.0)
    assert len(raw.graphics) == 1


def test_it_follows_to_a_raw_item_that_was_made_anew(raw: Raw) -> None:
    raw.show()
    raw.window.document_model.remove_data_item(raw.item.data_item)
    raw.show()
    assert raw.overlay.graphic is None
    raw.add()
    raw.show()
    assert len(raw.graphics) == 1


def test_what_an_earlier_run_left_is_taken_away(raw: Raw) -> None:
    left_over = Graphics.PointGraphic()
    left_over.graphic_id = GRAPHIC_ID
    raw.item.add_graphic(left_over)
    raw.show()
    assert raw.graphics == [raw.overlay.graphic]


def test_other_graphics_of_the_user_stay(raw: Raw) -> None:
    own = Graphics.PointGraphic()
    raw.item.add_graphic(own)
    raw.show()
    raw.overlay.close()
    assert raw.graphics == [own]


def many_marks(count: int = 1600) -> Marks:
    rng = np.random.default_rng(1)
    return Marks(
        found=rng.random((count, 2)),
        sites=rng.random((count, 2)),
        displacements=rng.normal(0.0, 0.003, (count, 2)),
    )


def test_nothing_to_draw_draws_nothing() -> None:
    graphic = OverlayGraphic()
    assert not painted(graphic).images
    graphic.close()


@pytest.mark.benchmark
def test_sixteen_hundred_columns_are_painted_in_less_than_one_interpolation() -> None:
    """Twelve milliseconds where interpolating 512 x 512 pixels takes twenty."""
    graphic, image = OverlayGraphic(), np.zeros((512, 512))
    places = np.indices(image.shape) + 0.5
    best_s = job_s = np.inf
    for _ in range(20):
        graphic.marks = many_marks()
        begun_s = time.process_time()
        painted(graphic)
        painted_s = time.process_time()
        map_coordinates(image, places)
        best_s = min(best_s, painted_s - begun_s)
        job_s = min(job_s, time.process_time() - painted_s)
    graphic.close()
    assert best_s < job_s


def test_same_marks_are_drawn_once_and_then_shown() -> None:
    graphic = OverlayGraphic()
    graphic.marks = many_marks(20)
    first, second = (next(iter(painted(graphic).images.values())) for _ in range(2))
    assert first is second
    graphic.close()


def bytes_of(picture: Any) -> Any:
    """Alpha, red, green, blue."""
    return np.stack([picture >> shift & 255 for shift in (24, 16, 8, 0)], axis=-1).astype(int)


def test_marks_are_drawn_where_they_are_in_their_colours() -> None:
    marks = Marks(
        found=np.array([[0.25, 0.25]]),
        sites=np.array([[0.75, 0.5]]),
        displacements=np.array([[0.0, 0.05]]),
    )
    picture = bytes_of(drawn(marks, 4.0, (200, 100), 10))
    assert picture.shape == (220, 120, 4)
    on_cross, on_site, on_arrow = (
        picture[59:61, 34:36],
        picture[159:161, 59:61],
        picture[158:162, 70],
    )
    for part, colour in ((on_cross, FOUND), (on_site, IDEAL), (on_arrow, ARROW)):
        seen = part.reshape(-1, 4)
        assert np.abs(seen[:, 1:] / 255 - np.array(colour) / 255).max(axis=1).min() < 0.4
        assert seen[:, 0].max() > 200
    ends = np.nonzero(picture[150:170, :, 0].max(axis=0) > 200)[0]
    assert abs(ends.max() - (10 + 50 + 4.0 * 0.05 * 100)) <= 1.0
    assert picture[100, 60].tolist() == [0, 0, 0, 0]


def test_marks_outside_do_no_harm() -> None:
    marks = Marks(
        found=np.array([[-3.0, 9.0]]),
        sites=np.array([[0.5, 0.5]]),
        displacements=np.array([[0.0, 40.0]]),
    )
    seen = bytes_of(drawn(marks, 5.0, (50, 50), 4))[27:31, 40]
    assert seen[:, 0].max() > 150  # the arrow ends far outside


def most_memory(marks: Marks, size_px: tuple[int, int]) -> float:
    """What drawing takes at most, over the picture's own memory."""
    tracemalloc.start()
    try:
        picture = drawn(marks, 5.0, size_px, 24)
        return tracemalloc.get_traced_memory()[1] / picture.nbytes
    finally:
        tracemalloc.stop()


def test_drawing_takes_little_more_memory_than_its_picture() -> None:
    assert most_memory(many_marks(10), (512, 512)) < 4.0


def test_a_field_that_has_gone_wrong_does_not_fill_the_memory() -> None:
    gone = Marks(
        found=np.array([[0.5, 0.5]]),
        sites=np.array([[0.5, 0.5]]),
        displacements=np.array([[0.0, 1e5]]),
    )
    assert most_memory(gone, (512, 512)) < 4.0
    assert bytes_of(drawn(gone, 5.0, (50, 50), 4))[27:31, 40][:, 0].max() > 150
