"""What the host stored, as plain mappings: how it was scanned, and the same corrected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from calibration_cases import model_for

from nion_distortion.calibrations import CalibrationStore
from nion_distortion.correction import correct_frame
from nion_distortion.frame import ScanSettings, UnusableFrameError
from nion_distortion.options import Options
from nion_distortion.stored import StoredScan, by_calibration, by_own_lattice, stored_scan

SETTINGS = ScanSettings(
    shape_px=(80, 96), field_of_view_nm=3.0, dwell_time_us=1.0, device_id="scan"
)


def pixels(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(1.0, 2.0, shape).astype(np.float32)


def properties(axes: int = 2, **changes: Any) -> dict[str, Any]:
    """Return the host's description of a scan; axes that are not the scan's come last."""
    scale = {"offset": 0.0, "scale": 3.0 / 96, "units": "nm"}
    other = {"offset": 5.0, "scale": 2.0, "units": "eV"}
    device = {"pixel_size": (80, 96), "fov_nm": 3.0, "pixel_time_us": 1.0}
    return {
        "title": "HAADF",
        "dimensional_calibrations": [scale, scale, *[other] * (axes - 2)],
        "metadata": {"scan": {"hardware_source_id": "scan", "scan_device_properties": device}},
    } | changes


@pytest.mark.parametrize("trailing", [(), (5,), (4, 3)])
def test_the_scan_of_an_item_is_read_whatever_it_has_at_each_pixel(
    trailing: tuple[int, ...],
) -> None:
    scan = stored_scan(pixels(80, 96, *trailing), properties(2 + len(trailing)), time_s=3.0)
    assert scan.settings == SETTINGS
    assert (scan.name, scan.time_s, scan.is_stack) == ("HAADF", 3.0, False)


def test_scan_that_was_recorded_as_it_is_keeps_its_channel() -> None:
    told = properties()
    ours = {"correction": {}, "hardware_source": {"channel_name": "MAADF"}}
    told["metadata"] = told["metadata"] | {"nion_distortion": ours}
    scan = stored_scan(pixels(80, 96), told)
    assert (scan.settings, scan.channel) == (SETTINGS, "MAADF")


def test_axis_that_counts_scans_is_none_of_the_scan() -> None:
    told = properties(2)
    told["dimensional_calibrations"] = [{"scale": 1.0}, *told["dimensional_calibrations"]]
    scan = stored_scan(pixels(2, 80, 96), told, is_stack=True)
    assert scan.settings == SETTINGS
    assert [image.shape for image in scan.scans] == [(80, 96)] * 2


@pytest.mark.parametrize(
    ("array", "told", "reason"),
    [
        (pixels(80), {}, "HAADF is no picture: it has 1 axes and 80 pixels"),
        (pixels(80, 96, 0), {}, "HAADF is no picture: it has 3 axes and 0 pixels"),
        (
            pixels(80, 96),
            {"metadata": {"nion_distortion": {"correction": {"kind": "frame"}}}},
            "HAADF was corrected already; correct the item that it was made from",
        ),
        (
            pixels(80, 96),
            {"metadata": {}, "dimensional_calibrations": []},
            "HAADF has no pixel size: calibrate its axes in nm",
        ),
        (
            pixels(80, 96),
            {"metadata": {}, "dimensional_calibrations": [{"scale": 1.0, "units": "1/nm"}] * 2},
            "HAADF is a diffraction pattern: its axes are in 1/nm",
        ),
    ],
)
def test_what_is_no_scan_is_refused(
    array: npt.NDArray[Any], told: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        stored_scan(array, properties(**told))


def test_beam_that_did_not_go_line_by_line_is_refused() -> None:
    told = properties()
    told["metadata"]["scan"]["scan_device_properties"]["serpentine"] = True
    with pytest.raises(UnusableFrameError, match="did not scan line by line"):
        stored_scan(pixels(80, 96), told)


@pytest.mark.parametrize(
    ("computation_id", "altered"),
    [
        ("transpose-flip", 'it was computed from another item by "Some"'),
        ("gaussian-blur", None),
        ("sequence-extract", None),
    ],
)
def test_what_was_computed_from_a_scan_has_its_settings(
    computation_id: str, altered: str | None
) -> None:
    metadata = {
        "source_metadata": properties()["metadata"],
        "computation": {"computation_id": computation_id, "computation_title": "Some"},
    }
    scan = stored_scan(pixels(80, 96), properties(metadata=metadata))
    assert scan.settings == SETTINGS
    assert scan.provenance.get("altered") == altered


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    store = CalibrationStore(tmp_path / "store.sqlite")
    store.save(model_for(SETTINGS), time_s=1e9, sample="SrTiO3")
    return store


def read(array: npt.NDArray[Any], *, is_stack: bool = False) -> StoredScan:
    return replace(
        stored_scan(array[0] if is_stack else array, properties()), array=array, is_stack=is_stack
    )


def test_calibration_is_applied_to_every_scan_and_nothing_is_looked_for(
    store: CalibrationStore,
) -> None:
    stack = pixels(2, 80, 96)
    result = by_calibration(read(stack, is_stack=True), store)
    field = model_for(SETTINGS).stationary_field()
    for image, corrected in zip(stack, result.array, strict=True):
        expected = correct_frame(image, field, settings=SETTINGS).image
        np.testing.assert_allclose(corrected, expected, rtol=1e-5)
    assert result.record["calibration"]["sample"] == "SrTiO3"
    assert "flyback_time_us" in result.record["calibration"]["not_checked"]


def test_middle_of_the_scan_stays_where_it_was(store: CalibrationStore) -> None:
    told = properties()
    # in micrometres, and half a per cent off what the device said: the device counts
    axis = {"offset": 1e-3, "scale": 3.0e-3 / 96 * 1.004, "units": "um"}
    told["dimensional_calibrations"] = [axis, axis]
    result = by_calibration(stored_scan(pixels(80, 96), told), store)
    for (offset_nm, scale_nm), length in zip(result.axes_nm, (80, 96), strict=True):
        assert scale_nm == 3.0 / 96
        middle_nm = 1.0 + 3.0 / 96 * 1.004 * length / 2
        assert offset_nm + scale_nm * length / 2 == pytest.approx(middle_nm)


def test_pixels_that_are_not_finite_are_refused(store: CalibrationStore) -> None:
    image = pixels(80, 96)
    image[3, 4] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        by_calibration(read(image), store)


def test_without_any_lattice_the_first_reason_is_told() -> None:
    flat = np.full((2, 80, 96), 7.0, np.float32)
    with pytest.raises(UnusableFrameError):
        by_own_lattice(read(flat, is_stack=True), Options())
