"""Results as the host's data: calibrated, recorded, never taken for the scan's own image."""

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diagram_windows as windows
import numpy as np
import pytest
import session_fakes as fakes

from nion_distortion.correction import correct_frame
from nion_distortion.diagnostics import Estimate
from nion_distortion.frame import Frame
from nion_distortion.session import LiveReport
from nion_distortion.swift.display import AverageItems, CorrectedItem
from nion_distortion.swift.xdata import corrected_xdata


def shown(frame: Frame) -> Any:
    own = fakes.field(frame.settings, 0.0, kind="frame", frame_id=frame.frame_id)
    report = LiveReport(scan=(frame,), report=fakes.report(frame, None, own), accepted=7)
    return corrected_xdata(correct_frame(frame, own), report=report)


def frame(reported: dict[str, Any] | None = None, **changes: Any) -> Frame:
    metadata = {
        "hardware_source": {"hardware_source_id": "scan", "channel_id": "a"},
        "scan": {"scan_id": "one", "scan_device_properties": reported or {}},
        "instrument": {"high_tension": 200e3},
    }
    scan = fakes.settings(**changes)
    return Frame(
        image=np.arange(64.0 * 64, dtype=np.float32).reshape(64, 64),
        settings=scan,
        frame_id="one",
        channel="HAADF",
        time_s=1e9,
        provenance={"metadata": metadata, "intensity_units": "e"},
    )


def test_axes_are_in_nm_around_the_reported_centre() -> None:
    xdata = shown(frame({"center_nm": (1.0, 2.0)}))
    y, x = xdata.dimensional_calibrations
    assert (y.units, x.units) == ("nm", "nm")
    assert y.scale == x.scale == pytest.approx(3.0 / 64)
    assert (y.offset, x.offset) == (pytest.approx(-1.0 - 1.5), pytest.approx(-2.0 - 1.5))
    assert xdata.intensity_calibration.units == "e"


def test_subscan_lies_where_it_was_in_its_context() -> None:
    part = frame({"fov_nm": 6.0}, subscan_px=(128, 128, 32, 0))
    y, x = shown(part).dimensional_calibrations
    assert (y.offset, x.offset) == (pytest.approx(-1.5), pytest.approx(-3.0))


def test_settings_and_correction_are_recorded_as_plain_json() -> None:
    metadata = shown(frame()).metadata
    ours = json.loads(json.dumps(metadata))["nion_distortion"]
    assert ours["settings"]["field_of_view_nm"] == 3.0
    assert ours["correction"]["kind"] == "frame"
    assert ours["correction"]["convention"].startswith("corrected[u] = raw[u + displacement")
    assert ours["frames_in_model"] == 7
    assert ours["frame_id"] == "one"
    assert ours["nominal_pixel_size_nm"] == pytest.approx(3.0 / 64)
    assert ours["unusable"] is None
    assert ours["corrected_pm"] == {"value": 2.0, "std": 0.1, "p95": 4.0}


def test_hosts_block_is_moved_so_that_the_item_is_not_taken_for_the_scans_own() -> None:
    scanned = frame()
    metadata = shown(scanned).metadata
    assert "hardware_source" not in metadata
    assert metadata["nion_distortion"]["hardware_source"]["hardware_source_id"] == "scan"
    assert metadata["scan"]["scan_id"] == "one"
    assert "hardware_source" in scanned.provenance["metadata"]


def test_time_is_the_frames_own() -> None:
    assert shown(frame()).timestamp.isoformat() == "2001-09-09T01:46:40"


def test_scale_is_nominal_unless_a_known_crystal_has_measured_it() -> None:
    assert shown(frame()).metadata["nion_distortion"]["scale"] == "nominal"
    live = of_known_crystal()
    assert live.report is not None
    assert live.report.corrected is not None
    xdata = corrected_xdata(live.report.corrected, report=live)
    ours = xdata.metadata["nion_distortion"]
    assert ours["scale"] == "known crystal"
    assert ours["pixel_size_nm"] == xdata.dimensional_calibrations[0].scale


def of_known_crystal() -> LiveReport:
    live = windows.report()
    assert live.report is not None
    assert live.report.field is not None
    field = replace(live.report.field, reference="known crystal")
    return replace(live, report=replace(live.report, field=field))


# items in a window


@pytest.fixture
def window() -> Iterator[Any]:
    with windows.document_window() as opened:
        yield opened


@pytest.fixture
def item(window: Any) -> Iterator[CorrectedItem]:
    made = CorrectedItem(window)
    yield made
    made.close()


def show(window: Any, item: Any, live: LiveReport) -> Any:
    item.show(live)
    windows.ticks(window)
    return live


STORED: dict[str, Any] = {
    "kind": "stationary",
    "calibration": SimpleNamespace(calibration_id="ab12cd34"),
}


@pytest.mark.gui
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "The sample is taken as the reference."),
        (STORED, "Corrected by the stored calibration ab12cd."),
        (
            STORED | {"accepted": 3},
            "Corrected by the stored calibration ab12cd and 3 later frames.",
        ),
        (
            {"kind": "stationary", "accepted": 3},
            "Corrected by what earlier frames have shown.",
        ),
    ],
)
def test_caption_says_by_what_the_picture_was_corrected(
    window: Any, item: CorrectedItem, changes: dict[str, Any], said: str
) -> None:
    show(window, item, windows.report(**changes))
    assert item.data_item is not None
    assert str(item.data_item.caption).startswith(said)


@pytest.mark.gui
def test_caption_says_how_good_the_picture_is(window: Any, item: CorrectedItem) -> None:
    show(window, item, windows.report(seen={"state_reason": "no frame was compared yet"}))
    assert item.data_item is not None
    assert item.data_item.caption == (
        "The sample is taken as the reference. Off by 100.0 ± 1.0 pm, corrected: 2.0 pm expected "
        "(rms, no uncertainty). Valid: no frame was compared yet. A pixel is nominally 46.88 pm; "
        "nothing has measured the scale."
    )


@pytest.mark.gui
def test_small_uncertainty_is_not_called_zero(window: Any, item: CorrectedItem) -> None:
    off_by = Estimate(value=44.8, std=0.0213, p95=90.0)
    show(window, item, windows.report(seen={"off_by_pm": off_by}))
    assert item.data_item is not None
    assert "Off by 44.8 ± 0.02 pm, corrected: 2.0 pm" in str(item.data_item.caption)


@pytest.mark.gui
def test_caption_names_the_known_crystal(window: Any, item: CorrectedItem) -> None:
    show(window, item, of_known_crystal())
    assert item.data_item is not None
    assert str(item.data_item.caption).endswith("A pixel is 46.88 pm, by the known crystal.")


@pytest.mark.gui
def test_caption_says_how_large_a_pixel_of_the_scan_was(
    window: Any, item: CorrectedItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {
        "nominal_pixel_size_nm": 0.05,
        "scanned_pixel_slow_nm": 0.051,
        "scanned_pixel_fast_nm": 0.049,
        "scale_error_slow_std_percent": 0.1,
        "scale_error_fast_std_percent": 0.2,
    }
    monkeypatch.setattr("nion_distortion.diagnostics.numbers.scale_numbers", lambda _: measured)
    live = of_known_crystal()
    assert live.report is not None
    model: Any = SimpleNamespace()
    live = replace(live, report=replace(live.report, model=model))
    show(window, item, live)
    assert item.data_item is not None
    assert str(item.data_item.caption).endswith(
        "by the known crystal (as scanned: y 51.000 ± 0.050, x 49.000 ± 0.100 pm)."
    )
    assert item.data_item.metadata["nion_distortion"]["scale_numbers"] == measured


@pytest.mark.gui
def test_correction_that_does_more_harm_than_good_is_called_so(
    window: Any, item: CorrectedItem
) -> None:
    show(window, item, windows.report(seen={"worth_it": False}))
    assert item.data_item is not None
    assert "Correcting is not worth it" in str(item.data_item.caption)


@pytest.mark.gui
def test_caption_says_where_the_scan_turns_back(window: Any, item: CorrectedItem) -> None:
    show(window, item, windows.report(seen={"folded": 84}))
    assert item.data_item is not None
    assert "turns back on itself: 84 pixels" in str(item.data_item.caption)


@pytest.mark.gui
def test_frame_without_a_result_keeps_the_picture_and_what_corrected_it(
    window: Any, item: CorrectedItem
) -> None:
    show(window, item, windows.report())
    assert item.data_item is not None
    before = item.data_item.data_modified
    show(window, item, windows.report(1, report=None, reason="it failed"))
    assert item.data_item.caption == "It failed."
    assert item.data_item.title == "HAADF: old"
    assert item.data_item.data_modified == before


def with_channel(live: LiveReport, *channels: str) -> LiveReport:
    assert live.report is not None
    assert live.report.corrected is not None
    others = [replace(live.report.corrected, channel=channel) for channel in channels]
    return replace(live, others=tuple(others))


@pytest.mark.gui
def test_other_channels_have_items_of_their_own(window: Any, item: CorrectedItem) -> None:
    show(window, item, with_channel(windows.report(), "MAADF", "BF"))
    assert list(item.display_items) == ["HAADF", "MAADF", "BF"]
    titles = [one.displayed_title for one in item.display_items.values() if one is not None]
    assert titles[1] == "Corrected MAADF"
    count = len(window.document_model.data_items)
    show(window, item, with_channel(windows.report(1), "MAADF", "BF"))
    assert len(window.document_model.data_items) == count


@pytest.mark.gui
def test_channel_that_was_switched_off_is_not_updated(window: Any, item: CorrectedItem) -> None:
    show(window, item, with_channel(windows.report(), "MAADF"))
    show(window, item, windows.report(1))
    shown_item = item.display_items["MAADF"]
    assert shown_item is not None
    assert shown_item.displayed_title.endswith(": old")
    first = item.display_items["HAADF"]
    assert first is not None
    assert not first.displayed_title.endswith(": old")


@pytest.mark.gui
def test_deleted_channel_stays_away(window: Any, item: CorrectedItem) -> None:
    show(window, item, with_channel(windows.report(), "MAADF"))
    deleted = item.display_items["MAADF"]
    assert deleted is not None
    window.document_model.remove_data_item(deleted.data_item)
    show(window, item, with_channel(windows.report(1), "MAADF"))
    assert item.display_items["MAADF"] is None


@pytest.mark.gui
def test_all_channels_end_their_live_state(window: Any, item: CorrectedItem) -> None:
    show(window, item, with_channel(windows.report(), "MAADF"))
    item.close()
    assert not any(one.is_live for one in window.document_model.data_items)


class Averaged:
    """Average items whose clock is far enough at each report."""

    def __init__(self, window: Any, frames: int) -> None:
        self.window, self.now_s = window, 0.0
        self.items = AverageItems(window, frames, clock_s=lambda: self.now_s)

    def show(self, index: int, level: float, **changes: Any) -> None:
        live = windows.report(index, 0.0, drift_nm=np.zeros((index + 1, 2)), **changes)
        if live.report is not None and live.report.corrected is not None:
            image = np.full((64, 64), level, np.float32)
            corrected = replace(live.report.corrected, image=image)
            live = replace(live, report=replace(live.report, corrected=corrected))
        self.now_s += 2.0
        show(self.window, self.items, live)

    def item(self, name: str) -> Any:
        display_item = self.items.display_items[name]
        assert display_item is not None
        return display_item.data_item


@pytest.fixture
def averaged(window: Any) -> Iterator[Averaged]:
    made = Averaged(window, 3)
    yield made
    made.items.close()


@pytest.mark.gui
def test_average_is_that_of_the_last_frames_with_the_scatter_of_each_pixel(
    averaged: Averaged,
) -> None:
    for index, level in enumerate((9.0, 1.0, 2.0, 6.0)):
        averaged.show(index, level)
    np.testing.assert_allclose(averaged.item("average").data, 3.0, rtol=1e-5)
    np.testing.assert_allclose(averaged.item("scatter").data, np.std([1, 2, 6], ddof=1), rtol=1e-5)
    assert averaged.item("average").title == "Mean of 3 frames"
    assert averaged.item("average").metadata["nion_distortion"]["averaged_frames"] == 3
    assert averaged.item("average").dimensional_calibrations[0].units == "nm"
    assert averaged.item("scatter").title == "Std of 3 frames"


@pytest.mark.gui
def test_frame_that_was_not_measured_is_left_out_of_the_average(averaged: Averaged) -> None:
    averaged.show(0, 1.0)
    averaged.show(1, 5.0, reason="There are too few columns.")
    assert averaged.item("average").caption == (
        "The newest frame is not in it: There are too few columns."
    )
    assert averaged.item("average").title == "Mean: old"
    averaged.show(2, 3.0)
    np.testing.assert_allclose(averaged.item("average").data, 2.0, rtol=1e-5)


@pytest.mark.gui
def test_without_a_drift_there_is_no_average(averaged: Averaged) -> None:
    averaged.show(0, 1.0, seen={"drift_nm": None})
    assert averaged.item("average").title == "Mean: none yet"
    assert "the sample's drift was not measured" in averaged.item("average").caption


@pytest.mark.gui
def test_average_is_drawn_every_two_seconds(averaged: Averaged) -> None:
    averaged.show(0, 1.0)
    averaged.now_s -= 0.5
    averaged.items.show(windows.report(1, drift_nm=np.zeros((2, 2))))
    windows.ticks(averaged.window)
    assert averaged.item("average").title == "Mean of 1 frames"
