"""Nion Swift's metadata of a scanned image -> our names and units; live and stored alike.

It takes plain mappings and imports nothing of Nion Swift, so that stored items can be read without.
"""

import math
from collections.abc import Mapping
from typing import Any

from nion_distortion._tags import number, positive, tag, without_none
from nion_distortion.frame import UnusableFrameError

__all__ = ["OtherPathError", "reported_settings", "scanned_px"]

OTHER_PATHS = ("external_scan_mode", "serpentine", "interlaced", "snake_scan")
"""Parameters that say, when they are set, that the beam did not go line by line."""

RENAMED = {
    "pixel_size", "fov_nm", "fov_size_nm", "pixel_time_us", "line_time_us", "flyback_time_us",
    "flyback_pixels", "rotation_rad", "rotation_deg", "ac_line_sync", "ac_frame_sync",
    "subscan_pixel_size", "subscan_fractional_size", "subscan_fractional_center",
}  # fmt: skip
"""Reported parameters that have a field of their own in ``ScanSettings``."""

PROVENANCE = {
    "center_nm", "center_x_nm", "center_y_nm", "channel_id", "channel_index", "channel_modifier",
    "channel_name", "channel_override", "channel_variant", "enabled_channel_indexes", "defocus",
    "defocus_nm", "stage_position_m", "valid_rows", "data_valid", "frame_index", "frame_number",
    "frame_start_s", "frame_time_s", "scan_id", "view_id", "timestamp", "time_stamp",
}  # fmt: skip
"""Reported with a frame, but no part of what its distortion is stationary under."""


class OtherPathError(UnusableFrameError):
    """The scan device says that the beam did not go line by line; who knows better may say so."""


def reported_settings(
    metadata: Mapping[str, Any], shape: tuple[int, int], *, is_raster: bool = False
) -> dict[str, Any]:
    """Translate what the scan device reported of an image.

    The host's own block (``scan_device_parameters``) is never used: it can name the settings of
    the next frame.

    Parameters
    ----------
    metadata : Mapping
        Metadata of the image, as the host gives and keeps it.
    shape : tuple of int
        Shape of the image, (ny, nx).
    is_raster : bool, default: False
        Whether the user declares that the beam went line by line, whatever the device says.

    Returns
    -------
    dict
        Arguments of `ScanSettings`, those that the device reported; the field of view and the
        place of a sub-scan only where the image is the whole scan.

    Raises
    ------
    OtherPathError
        If the device says that the beam did not go line by line.
    UnusableFrameError
        If the scan was not made in space, or its pixels are not square.
    """
    reported = _reported(metadata)
    if not is_raster:
        _refuse_other_paths(reported)
    if reported.get("calibration_style") == "time":
        raise UnusableFrameError("the scan was made in time, not in space; it shows no crystal")
    scanned = _scanned_px(reported, shape)
    names = sorted(set(reported) - RENAMED - PROVENANCE)
    return without_none(
        **_timing(reported, scanned[1], shape[1]),
        **(_extent(reported, shape) if scanned == shape else {}),
        rotation_rad=_rotation_rad(reported),
        line_sync=_flag(reported.get("ac_line_sync")),
        frame_sync=_flag(reported.get("ac_frame_sync")),
        high_tension_v=positive(tag(metadata, "instrument", "high_tension")),
        device_id=tag(metadata, "scan", "hardware_source_id"),
        extra=tuple((name, _hashable(reported[name])) for name in names),
    )


def scanned_px(metadata: Mapping[str, Any], shape: tuple[int, int]) -> tuple[int, int]:
    """Return how many lines and pixels were scanned; an image of others is not the scan itself.

    Parameters
    ----------
    metadata : Mapping
        Metadata of the image.
    shape : tuple of int
        Shape of the image, (ny, nx): the answer where the device did not say.

    Returns
    -------
    tuple of int
        Lines and pixels.
    """
    return _scanned_px(_reported(metadata), shape)


def _reported(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the scan device said; of old items, what the host kept of it."""
    device = tag(metadata, "scan", "scan_device_properties")
    if device:
        return dict(device)
    return without_none(
        pixel_time_us=tag(metadata, "hardware_source", "pixel_time_us"),
        rotation_rad=tag(metadata, "scan", "rotation"),
    )


def _scanned_px(reported: Mapping[str, Any], shape: tuple[int, int]) -> tuple[int, int]:
    said = reported.get("subscan_pixel_size") or reported.get("pixel_size") or shape
    return int(said[0]), int(said[1])


def _refuse_other_paths(reported: Mapping[str, Any]) -> None:
    for name in OTHER_PATHS:
        if reported.get(name):
            raise OtherPathError(
                f"the beam did not scan line by line ({name} is {reported[name]}), "
                "so the time of each pixel is not known and nothing can be corrected"
            )


def _extent(reported: Mapping[str, Any], shape: tuple[int, int]) -> dict[str, Any]:
    """Return the longer side of the image in nm, and where it lies in its context."""
    fov_nm = positive(reported.get("fov_nm"))
    if fov_nm is None or not reported.get("subscan_pixel_size"):
        return {"field_of_view_nm": fov_nm}
    context = tuple(int(length) for length in reported.get("pixel_size") or shape)
    size = reported.get("subscan_fractional_size") or (1.0, 1.0)
    center = reported.get("subscan_fractional_center") or (0.5, 0.5)
    pixel_nm = [size[i] * context[i] * fov_nm / max(context) / shape[i] for i in range(2)]
    if not math.isclose(pixel_nm[0], pixel_nm[1], rel_tol=2 / min(shape)):
        raise UnusableFrameError(
            f"the pixels of the sub-scan are {1e3 * pixel_nm[0]:.1f} pm high and "
            f"{1e3 * pixel_nm[1]:.1f} pm wide; only square pixels can be corrected"
        )
    top, left = (round((center[i] - size[i] / 2) * context[i]) for i in range(2))
    return {"field_of_view_nm": pixel_nm[1] * max(shape), "subscan_px": (*context, top, left)}


def _timing(reported: Mapping[str, Any], scanned: int, width: int) -> dict[str, Any]:
    """Dwell, fly-back and line time; the line time includes the fly-back."""
    if width > scanned:  # interpolated: its pixels have no time of their own
        return {}
    dwell = positive(reported.get("pixel_time_us"))
    flyback, line = reported.get("flyback_time_us"), positive(reported.get("line_time_us"))
    pixels = reported.get("flyback_pixels")
    if flyback is None and pixels is not None and dwell is not None:
        flyback = pixels * dwell
    if line is None and dwell is not None and flyback is not None:
        line = scanned * dwell + (flyback if pixels is None else pixels * dwell)
    return {"dwell_time_us": dwell, "flyback_time_us": flyback, "line_time_us": line}


def _rotation_rad(reported: Mapping[str, Any]) -> float:
    in_radians = number(reported.get("rotation_rad"))
    if in_radians is not None:
        return in_radians
    return number(reported.get("rotation_deg"), math.pi / 180) or 0.0


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _hashable(value: Any) -> object:
    if isinstance(value, Mapping):
        return tuple((str(key), _hashable(value[key])) for key in sorted(value, key=str))
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
