"""Items that Nion Swift saved."""

from collections.abc import Mapping
from typing import Any

from nion_distortion._tags import tag, without_none
from nion_distortion.files.recording import Recording, Steps, one_of
from nion_distortion.files.settings import SQUARE_WITHIN, sides_nm
from nion_distortion.files.vendors import alteration
from nion_distortion.frame import ALTERED
from nion_distortion.nion_metadata import OtherPathError, reported_settings, scanned_px

__all__ = ["nion_swift_recording"]


def nion_swift_recording(array: Any, properties: Mapping[str, Any]) -> Recording:
    """Read what Nion Swift keeps beside the data of an item.

    Parameters
    ----------
    array : array_like, shape (ny, nx) or (t, ny, nx)
        The data.
    properties : Mapping
        The item's properties.

    Returns
    -------
    Recording
        With the item's own calibration where it differs from the scan's.
    """
    inner = properties.get("data_source") or properties
    axes = inner.get("dimensional_calibrations") or inner.get("spatial_calibrations") or []
    metadata = inner.get("metadata") or properties.get("metadata") or {}
    title = str(properties.get("title") or inner.get("title") or "")
    shape = (int(array.shape[-2]), int(array.shape[-1])) if len(array.shape) > 1 else (0, 0)
    steps = tuple((float(axis.get("scale", 1.0)), str(axis.get("units") or "")) for axis in axes)
    known, other_path = _settings(metadata, shape)
    if _recalibrated(steps[-2:], known.get("field_of_view_nm"), shape):
        del known["field_of_view_nm"]  # the operator's word, or no length at all
    altered = alteration(title, {}, shape) or _cropped(metadata, shape)
    return Recording(
        shape=tuple(array.shape),
        dtype=array.dtype,
        load=one_of(array),
        steps=steps[-2:],
        settings=known,
        other_path=other_path,
        channel=str(tag(metadata, "hardware_source", "channel_name") or ""),
        provenance=without_none(title=title or None) | ({ALTERED: altered} if altered else {}),
    )


def _settings(metadata: Mapping[str, Any], shape: tuple[int, int]) -> tuple[dict[str, Any], str]:
    """Read the settings, and why they do not hold, if the beam did not go line by line."""
    try:
        return reported_settings(metadata, shape), ""
    except OtherPathError as reason:
        return reported_settings(metadata, shape, is_raster=True), str(reason)


def _cropped(metadata: Mapping[str, Any], shape: tuple[int, int]) -> str:
    scanned = scanned_px(metadata, shape)
    if scanned == shape:
        return ""
    return f"it was cropped or binned: the scan had {scanned[0]} x {scanned[1]} pixels"


def _recalibrated(steps: Steps, field_of_view_nm: float | None, shape: tuple[int, int]) -> bool:
    """Whether an item's own calibration says something else than the scan did."""
    if field_of_view_nm is None or not any(unit for _, unit in steps):
        return False
    sides = sides_nm(steps)
    return any(abs(side * max(shape) / field_of_view_nm - 1) > SQUARE_WITHIN for side in sides)
