import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nion_distortion.correction import CorrectedFrame, correct_frame
from nion_distortion.distortion import DistortionField
from nion_distortion.figures import (
    components_figure,
    difference_figure,
    displacement_figure,
    drift_figure,
    pair_figure,
    residual_figure,
    uncertainty_figure,
    write_report,
)
from nion_distortion.figures.page import html_page
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.principal_components import PrincipalComponents, distortion_components

SETTINGS = ScanSettings(shape_px=(48, 64), field_of_view_nm=3.2)  # 50 pm per pixel


def drawn_in(axis: Axes) -> Any:
    """Return the masked array that the only image of some axes shows."""
    (image,) = axis.images
    return image.get_array()


@pytest.fixture
def field() -> DistortionField:
    y, x = np.mgrid[:48.0, :64.0]
    valid = np.ones((48, 64), dtype=bool)
    valid[:, :4] = False
    return DistortionField(
        displacement_px=np.stack([np.sin(y / 9), -4 * np.exp(-x / 6)]),
        std_px=np.full((2, 48, 64), 0.02, dtype=np.float32),
        unremoved_std_px=np.zeros((2, 48, 64), dtype=np.float32),
        valid=valid,
        kind="stationary",
        settings=SETTINGS,
        reference="free",
    )


@pytest.fixture
def frame() -> Frame:
    y, x = np.mgrid[:48.0, :64.0]
    return Frame(image=10 + np.sin(x) * np.sin(y), settings=SETTINGS, frame_id="one")


@pytest.fixture
def corrected(frame: Frame, field: DistortionField) -> CorrectedFrame:
    return correct_frame(frame, field)


@pytest.fixture
def components() -> tuple[PrincipalComponents, PrincipalComponents]:
    rng = np.random.default_rng(0)
    return distortion_components(1 + 0.1 * rng.normal(size=(7, 2, 12)))


@pytest.fixture
def every_figure(
    frame: Frame,
    field: DistortionField,
    corrected: CorrectedFrame,
    components: tuple[PrincipalComponents, PrincipalComponents],
) -> dict[str, Figure]:
    return {
        "As scanned & corrected": pair_figure(frame, corrected),
        "Displacement": displacement_figure(field),
        "Difference": difference_figure(field, field),
        "Uncertainty": uncertainty_figure(corrected),
        "Drift": drift_figure(np.cumsum(np.ones((5, 2)), axis=0)),
        "Components": components_figure(components, (3, 4), SETTINGS),
        "Residual": residual_figure({"as scanned": [100.0, 90.0], "corrected": [3.0, np.nan]}),
    }


def test_displacements_are_drawn_in_picometres_about_zero(field: DistortionField) -> None:
    slow, fast, bar = displacement_figure(field).axes
    for axis, component in zip((slow, fast), field.displacement_px, strict=True):
        (image,) = axis.images
        shown = drawn_in(axis)
        np.testing.assert_allclose(shown[~shown.mask], 50 * component[field.valid], rtol=1e-6)
        np.testing.assert_array_equal(shown.mask, ~field.valid)
        low, high = image.get_clim()
        assert low == -np.float64(high or 0)
        assert image.get_extent() == pytest.approx((0, 3.2, 2.4, 0))
        assert axis.get_xlabel() == "x (nm)"
    assert bar.get_ylabel() == "observed - ideal (pm)"


def test_two_fields_and_their_difference_share_one_scale(field: DistortionField) -> None:
    other = replace(field, displacement_px=0.5 * field.displacement_px)
    *axes, bar = difference_figure(field, other, ("10 us", "120 us")).axes

    assert len({axis.images[0].get_clim() for axis in axes}) == 1
    assert axes[0].images[0].get_cmap().name == "RdBu_r"
    maps = [field.displacement_px, other.displacement_px, 0.5 * field.displacement_px]
    titles = ["10 us", "120 us", "10 us - 120 us"]
    for row, name in enumerate(("slow scan axis (y)", "fast scan axis (x)")):
        for column, (one, title) in enumerate(zip(maps, titles, strict=True)):
            axis = axes[3 * row + column]
            shown = drawn_in(axis)
            assert shown.shape == SETTINGS.shape_px
            assert axis.get_title() == f"{title}, {name}"
            np.testing.assert_allclose(shown.compressed(), 50 * one[row][field.valid], rtol=1e-5)
            np.testing.assert_array_equal(shown.mask, ~field.valid)
            assert axis.images[0].get_extent() == pytest.approx((0, 3.2, 2.4, 0))
    assert bar.get_ylabel() == "observed - ideal (pm)"


def test_fields_that_cannot_be_compared_are_refused(field: DistortionField) -> None:
    wider = replace(field, settings=replace(SETTINGS, field_of_view_nm=6.4))
    own = replace(field, kind="frame", frame_id="one")

    with pytest.raises(ValueError, match="the fields differ in field_of_view_nm"):
        difference_figure(field, wider)
    with pytest.raises(ValueError, match='both fields must be "stationary"'):
        difference_figure(field, own)


def test_raw_and_corrected_share_one_grey_scale(frame: Frame, corrected: CorrectedFrame) -> None:
    axes = pair_figure(frame, corrected).axes
    assert len({axis.images[0].get_clim() for axis in axes}) == 1
    np.testing.assert_array_equal(drawn_in(axes[0]), frame.image)
    np.testing.assert_array_equal(drawn_in(axes[1]).mask, ~corrected.valid)
    assert axes[2].images[0].get_extent() == pytest.approx((0, 0.6, 1.5, 0.9))


def test_uncertainty_is_drawn_in_picometres(corrected: CorrectedFrame) -> None:
    axis = uncertainty_figure(corrected).axes[0]
    assert drawn_in(axis).compressed() == pytest.approx(1.0)  # 0.02 px of 50 pm
    low, high = axis.images[0].get_clim()
    assert (low, high) == pytest.approx((0.7, 1.0))  # an even map is drawn even


def test_drift_path_has_y_downwards_as_the_image_has() -> None:
    path, course, _ = drift_figure([[0.0, 0.0], [0.2, 0.5]], times_s=[0.0, 2.0]).axes
    line = path.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [0.0, 0.5])
    np.testing.assert_array_equal(line.get_ydata(), [0.0, 0.2])
    assert path.yaxis_inverted()
    assert course.get_xlabel() == "time (s)"
    with pytest.raises(ValueError, match="times_s must have shape"):
        drift_figure([[0.0, 0.0]], times_s=[0.0, 2.0])


def test_loading_maps_are_drawn_in_picometres(
    components: tuple[PrincipalComponents, PrincipalComponents],
) -> None:
    figure = components_figure(components, (3, 4), SETTINGS, shown=2)
    drawn = [drawn_in(axis) for axis in figure.axes if axis.images]
    loadings = [one.loading_maps[k, 0].reshape(3, 4) for one in components for k in (0, 1)]
    maps = [one for one in drawn if one.shape == (3, 4)]
    assert len(maps) == 4
    for one, loading in zip(maps, loadings, strict=True):
        np.testing.assert_allclose(one, 50 * loading)


def test_no_label_is_cut_off(every_figure: dict[str, Figure]) -> None:
    for name, figure in every_figure.items():
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        inked, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert inked.x0 >= 0, name
        assert inked.y0 >= 0, name
        assert inked.x1 <= width, name
        assert inked.y1 <= height, name


def test_a_report_needs_nothing_beside_it(tmp_path: Path, every_figure: dict[str, Figure]) -> None:
    page = write_report(
        tmp_path / "new" / "report",
        {"off_by_pm": 190.25},
        every_figure,
        title="A <b>title</b>",
        paragraphs=["5 < 6"],
    ).read_text(encoding="utf-8")
    assert "A &lt;b&gt;title&lt;/b&gt;" in page
    assert "5 &lt; 6" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == len(every_figure)
    for source in sources:
        kind, content = source.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content).startswith(b"\x89PNG")
    assert (tmp_path / "new/report/as_scanned_corrected.png").is_file()


def test_every_number_that_a_report_shows_is_in_its_json(tmp_path: Path) -> None:
    numbers = {
        "off_by_pm": 190.25,
        "frames": 20,
        "simulated": True,
        "corrected": {"value_pm": np.float32(3.5), "std_pm": None, "p95_pm": np.nan},
        "off_pm": {"p95": 7.5},
        "frames_one_by_one": [{"frame": 0, "left_pm": 2.5}, {"frame": 1, "reason": "dark"}],
        "residual_pm": np.array([3.0, 4.0]),
    }
    page = write_report(tmp_path, numbers, {}, title="t").read_text(encoding="utf-8")
    stored = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert stored.pop("files") == ["report.html", "report.json"]
    assert stored == {
        "off_by_pm": 190.25,
        "frames": 20,
        "simulated": True,
        "corrected": {"value_pm": 3.5, "std_pm": None, "p95_pm": None},
        "off_pm": {"p95": 7.5},
        "frames_one_by_one": [{"frame": 0, "left_pm": 2.5}, {"frame": 1, "reason": "dark"}],
        "residual_pm": [3.0, 4.0],
    }
    rows = re.findall(r"<tr><td>(.*?)</td><td.*?>(.*?)</td><td>(.*?)</td></tr>", page)
    assert ("off by", "190.2", "pm") in rows
    assert ("frames", "20", "") in rows
    assert ("simulated", "yes", "") in rows
    assert ("corrected: value", "3.5", "pm") in rows
    assert ("corrected: p95", "not known", "") in rows
    assert ("off: p95", "7.5", "pm") in rows
    assert re.findall("<th>(.*?)</th>", page) == ["frame", "left (pm)", "reason"]
    assert '<td class="number">2.5</td>' in page
    assert "<td>dark</td>" in page


def listed(page: str) -> list[tuple[str, str, str]]:
    return re.findall(r"<tr><td>(.*?)</td><td.*?>(.*?)</td><td>(.*?)</td></tr>", page)


def test_numbers_stand_with_their_deviation_and_a_unit_of_their_size(tmp_path: Path) -> None:
    numbers = {
        "off_by_pm": {"value": 15.781, "std": 0.199, "p95": 26.8},
        "tau_us": 16.197,
        "tau_std_us": 0.72,
        "high_tension_v": 80000.0,
        "line_time_us": 35640.0,
        "flyback_time_us": None,
        "unusable": None,
        "time_s": 0.25,
    }
    page = write_report(tmp_path, numbers, {}, title="t").read_text(encoding="utf-8")
    assert listed(page) == [
        ("off by", "15.78 +- 0.20", "pm"),
        ("off by, 95th percentile", "26.8", "pm"),
        ("tau", "16.20 +- 0.72", "\u00b5s"),
        ("high tension", "80", "kV"),
        ("line time", "35.64", "ms"),
        ("flyback time", "not known", ""),
        ("unusable", "no", ""),
        ("time", "1970-01-01 00:00:00.250 UTC", ""),
    ]
    assert "For numbers without it none is given" in page


def test_one_frame_is_a_list_and_several_are_a_table_that_can_be_read(tmp_path: Path) -> None:
    frames = [
        {
            "frame": n,
            "unusable": None,
            "off_by_pm": {"value": 15.0 + n, "std": 0.5, "p95": 20.0},
            "removed_pm": {"smooth": 4.0, "scan_time": 11.0},
        }
        for n in range(2)
    ]
    one = write_report(tmp_path, {"frames": frames[:1]}, {}, title="t").read_text(encoding="utf-8")
    assert "<th>" not in one
    assert ("removed: scan time", "11", "pm") in listed(one)
    two = write_report(tmp_path, {"frames": frames}, {}, title="t").read_text(encoding="utf-8")
    assert re.findall("<th>(.*?)</th>", two) == ["frame", "off by (pm)"]
    assert '<tr><td class="number">1</td><td class="number">16.00 +- 0.50</td></tr>' in two
    last = two.split("<h2>frames: the last one</h2>")[1]
    assert ("off by", "16.00 +- 0.50", "pm") in listed(last)
    assert ("removed: smooth", "4", "pm") in listed(last)


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file in the way")
    with pytest.raises(ValueError, match=r"cannot be written to: File exists$"):
        write_report(tmp_path / "report", {}, {}, title="t")


def test_pictures_leave_no_state_behind() -> None:
    code = "import nion_distortion.figures, sys; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_drift_has_bars_only_where_its_error_is_known() -> None:
    way = [[0.0, 0.0], [0.2, 0.5]]
    plain, known = (
        drift_figure(way, std_nm=std).axes[1] for std in (None, [[0.0, 0.0], [0.01, 0.02]])
    )
    assert "error not known" in plain.get_title()
    assert "one standard deviation" in known.get_title()
    assert len(known.collections) == 2  # the bars of both axes
    assert not plain.collections
    with pytest.raises(ValueError, match="std_nm must have shape"):
        drift_figure(way, std_nm=[[0.0, 0.0]])


def test_each_part_of_a_vector_stands_beside_its_own_deviation() -> None:
    values = {"frames": [{"drift_nm": [0.1, -0.2], "drift_std_nm": [0.012, 0.0034]}]}
    page = html_page("A run", [], values, {})
    assert "0.100 +- 0.012" in page
    assert "-0.2000 +- 0.0034" in page
    assert "drift std" not in page
