"""Results -> the host's kind of image, with everything recorded that made it."""

import copy
import datetime
import importlib
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nion.data import Calibration, DataAndMetadata

from nion_distortion._plain import as_plain
from nion_distortion._validation import thawed
from nion_distortion.frame import Frame, ScanSettings

if TYPE_CHECKING:
    from nion_distortion.correction import CorrectedFrame
    from nion_distortion.session import LiveReport

__all__ = ["KNOWN_CRYSTAL", "corrected_xdata", "measured_scale", "scale_numbers", "scanned_xdata"]

METADATA = "nion_distortion"
"""Our own block of metadata."""

FORMAT = 1
"""Version of that block."""

KNOWN_CRYSTAL = "known crystal"
"""The reference that measures the scale of the scan."""


def corrected_xdata(
    corrected: "CorrectedFrame", *, report: "LiveReport", **also: Any
) -> DataAndMetadata.DataAndMetadata:
    """Return a corrected frame as the host's kind of image.

    Parameters
    ----------
    corrected : CorrectedFrame
        The analysed channel of the report, or another one.
    report : LiveReport
        What it belongs to.
    **also : object
        What else is recorded.

    Returns
    -------
    DataAndMetadata
        In nm, with the scan's metadata. The host's ``hardware_source`` block is moved under our
        own key: left where it was, the host would take the item for the scan's own live view.
    """
    metadata = copy.deepcopy(thawed(corrected.provenance.get("metadata", {})))
    metadata[METADATA] = (
        _record(corrected, report) | also | {"hardware_source": metadata.pop("hardware_source", {})}
    )
    return DataAndMetadata.new_data_and_metadata(
        corrected.image,
        Calibration.Calibration(units=str(corrected.provenance.get("intensity_units", ""))),
        _calibrations(corrected.settings, corrected.pixel_size_nm, metadata),
        metadata,
        _timestamp(corrected.time_s),
    )


def scanned_xdata(frame: Frame) -> DataAndMetadata.DataAndMetadata:
    """Return a frame as it was scanned as the host's kind of image.

    Parameters
    ----------
    frame : Frame
        One channel of a scan.

    Returns
    -------
    DataAndMetadata
        In nm, with the scan's metadata, the ``hardware_source`` block under our own key.
    """
    metadata = copy.deepcopy(thawed(frame.provenance.get("metadata", {})))
    metadata[METADATA] = {
        "format": FORMAT,
        "frame_id": frame.frame_id,
        "channel": frame.channel,
        "correction": {},
        "hardware_source": metadata.pop("hardware_source", {}),
    }
    return DataAndMetadata.new_data_and_metadata(
        frame.image,
        Calibration.Calibration(units=str(frame.provenance.get("intensity_units", ""))),
        _calibrations(frame.settings, frame.settings.pixel_size_nm, metadata),
        metadata,
        _timestamp(frame.time_s),
    )


def _timestamp(time_s: float | None) -> datetime.datetime | None:
    """Return a POSIX time as the host keeps it: UTC, but without saying so."""
    if time_s is None:
        return None
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).replace(tzinfo=None)


def _calibrations(
    settings: ScanSettings, scale_nm: float, metadata: Mapping[str, Any]
) -> list[Calibration.Calibration]:
    """Return the axes in nm around the scan's centre, from what the device reported."""
    reported = metadata.get("scan", {}).get("scan_device_properties", {})
    center_nm = reported.get("center_nm") or [
        reported.get("center_y_nm", 0.0),
        reported.get("center_x_nm", 0.0),
    ]
    nominal_nm = settings.pixel_size_nm
    middle_px = [length / 2 for length in settings.shape_px]
    if settings.subscan_px is not None:
        *context, top, left = settings.subscan_px
        context_nm = reported["fov_nm"] / max(context)
        first_px = (top, left)
        middle_px = [
            (context[axis] / 2 - first_px[axis]) * context_nm / nominal_nm for axis in range(2)
        ]
    return [
        Calibration.Calibration(-center - middle * scale_nm, scale_nm, "nm")
        for center, middle in zip(center_nm, middle_px, strict=True)
    ]


def _record(corrected: "CorrectedFrame", live: "LiveReport") -> dict[str, Any]:
    """Return all that is needed to know, and to undo, what was done to the frame."""
    report = live.report
    record: dict[str, Any] = {
        "format": FORMAT,
        "frame_id": corrected.frame_id,
        "channel": corrected.channel,
        "frame_index": corrected.index,
        "settings": _settings_record(corrected.settings),
        "nominal_pixel_size_nm": corrected.settings.pixel_size_nm,
        "pixel_size_nm": corrected.pixel_size_nm,
        "scale": measured_scale(live),
        "scale_numbers": scale_numbers(live),
        "correction": corrected.provenance.get("correction", {}),
        "frames_in_model": live.accepted,
        "unusable": live.reason,
        "drift_nm": live.drift_nm[-1] if len(live.drift_nm) else None,
        "drift_std_nm": live.drift_std_nm[-1] if len(live.drift_std_nm) else None,
        "component_shares": _component_shares(live),
    }
    if report is not None:
        record["effective_counts"] = report.effective_counts
        record["off_by_pm"] = report.off_by_pm
        record["corrected_pm"] = report.corrected_pm
        record["state"], record["state_reason"] = report.state, report.state_reason
        record["folded"], record["crossed"] = report.folded, report.crossed
        record["drift_ambiguous"] = report.drift_ambiguous
    plain: dict[str, Any] = as_plain(record)
    return plain


def _component_shares(live: "LiveReport") -> dict[str, Any]:
    """Return each axis' share of the first components, strongest first; costs up to 3 ms."""
    if live.components is None:
        return {}
    axes = zip("yx", live.components.components(), strict=True)
    return {axis: components.explained_variance_ratio for axis, components in axes}


def _settings_record(settings: ScanSettings) -> dict[str, Any]:
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return values | {"extra": dict(settings.extra)}


def measured_scale(live: "LiveReport") -> str:
    """Say whether anything has measured the scale, which only a crystal of known size does.

    Parameters
    ----------
    live : LiveReport
        The newest.

    Returns
    -------
    str
        ``"known crystal"`` or ``"nominal"``.
    """
    field = None if live.report is None else live.report.field
    is_known = field is not None and field.reference == KNOWN_CRYSTAL
    return KNOWN_CRYSTAL if is_known else "nominal"


def scale_numbers(live: "LiveReport") -> dict[str, float] | None:
    """Return what a known crystal has measured; loads what the session's thread has loaded.

    Parameters
    ----------
    live : LiveReport
        The newest.

    Returns
    -------
    dict of str to float, optional
        Of `nion_distortion.diagnostics.scale_numbers`; None where no crystal was known.
    """
    model = None if live.report is None else live.report.model
    if model is None or measured_scale(live) != KNOWN_CRYSTAL:
        return None
    module = importlib.import_module("nion_distortion.diagnostics.numbers")
    numbers: dict[str, float] | None = module.scale_numbers(model)
    return numbers
