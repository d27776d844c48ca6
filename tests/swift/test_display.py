"""Results as the host's data: calibrated, recorded, never taken for the scan's own image."""

import json
from typing import Any

import numpy as np
import pytest
import session_fakes as fakes

from nion_distortion.correction import correct_frame
from nion_distortion.frame import Frame
from nion_distortion.session import LiveReport
from nion_distortion.swift.display import corrected_xdata


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
