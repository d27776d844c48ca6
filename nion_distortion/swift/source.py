"""Live scan data -> frames: what the device reported, renamed once to our words and units."""

import datetime
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from nion.data import DataAndMetadata
from nion.instrumentation import HardwareSource, scan_base
from nion.utils import ReferenceCounting

from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError

__all__ = ["FrameTap", "scan_settings"]

_log = logging.getLogger(__name__)

RENAMED = {
    "pixel_size",
    "fov_nm",
    "fov_size_nm",
    "pixel_time_us",
    "line_time_us",
    "flyback_time_us",
    "flyback_pixels",
    "rotation_rad",
    "rotation_deg",
    "ac_line_sync",
    "ac_frame_sync",
    "subscan_pixel_size",
    "subscan_fractional_size",
    "subscan_fractional_center",
}
"""Reported parameters that have a field of their own in ``ScanSettings``."""

PROVENANCE = {
    "center_nm",
    "center_x_nm",
    "center_y_nm",
    "channel_id",
    "channel_index",
    "channel_modifier",
    "channel_name",
    "channel_override",
    "channel_variant",
    "enabled_channel_indexes",
    "defocus",
    "defocus_nm",
    "stage_position_m",
    "valid_rows",
    "data_valid",
    "frame_index",
    "frame_number",
    "frame_start_s",
    "frame_time_s",
    "scan_id",
    "view_id",
    "timestamp",
    "time_stamp",
}
"""Reported with a frame, but no part of what its distortion is stationary under."""

OTHER_PATHS = ("external_scan_mode", "serpentine", "interlaced", "snake_scan")
"""Parameters that say, when they are set, that the beam did not go line by line."""

VARIANTS = ("", "subscan")
"""Variants of a data channel that the operator looks at; drift scans are not among them."""


def scan_settings(metadata: Mapping[str, Any], shape: tuple[int, int]) -> ScanSettings:
    """Read the scan's settings from what the device reported with the frame.

    The host's own block (``scan_device_parameters``) is never used: it can name the settings of
    the next frame.

    Parameters
    ----------
    metadata : Mapping
        Metadata of the frame, as the host gives it.
    shape : tuple of int
        Shape of the image, (ny, nx).

    Returns
    -------
    ScanSettings
        The settings; None where the device said nothing.

    Raises
    ------
    UnusableFrameError
        If the scan is not a raster that covers the image, or too little was reported.
    """
    scan = metadata.get("scan", {})
    reported = dict(scan.get("scan_device_properties", {}))
    _refuse_other_paths(reported)
    context = _pair(reported.get("pixel_size"), shape)
    width_nm, subscan_px = _extent(reported, context, shape)
    return ScanSettings(
        shape_px=shape,
        field_of_view_nm=width_nm,
        **_timing(reported, shape[1]),
        rotation_rad=_rotation_rad(reported),
        line_sync=_flag(reported.get("ac_line_sync")),
        frame_sync=_flag(reported.get("ac_frame_sync")),
        high_tension_v=_positive(metadata.get("instrument", {}).get("high_tension")),
        device_id=str(scan.get("hardware_source_id", "")),
        subscan_px=subscan_px,
        extra=_extra(reported),
    )


def _refuse_other_paths(reported: Mapping[str, Any]) -> None:
    for name in OTHER_PATHS:
        if reported.get(name):
            raise UnusableFrameError(
                f"The beam did not scan line by line ({name} is {reported[name]}), "
                "so the time of each pixel is not known and nothing can be corrected."
            )
    if reported.get("calibration_style") == "time":
        raise UnusableFrameError("The scan was made in time, not in space; it shows no crystal.")


def _extent(
    reported: Mapping[str, Any], context: tuple[int, int], shape: tuple[int, int]
) -> tuple[float, tuple[int, int, int, int] | None]:
    """Return the longer side of this frame in nm, and where it lies in its context."""
    fov_nm = _positive(reported.get("fov_nm"))
    if fov_nm is None:
        raise UnusableFrameError("The scan device reported no field of view.")
    scanned = _pair(reported.get("subscan_pixel_size"), context)
    if scanned != shape:
        raise UnusableFrameError(
            f"The image has {shape[0]} x {shape[1]} pixels, but the device scanned "
            f"{scanned[0]} x {scanned[1]}: a cropped or assembled image has no known line start."
        )
    context_pixel_nm = fov_nm / max(context)
    if not reported.get("subscan_pixel_size"):
        return fov_nm, None
    size = reported.get("subscan_fractional_size") or (1.0, 1.0)
    center = reported.get("subscan_fractional_center") or (0.5, 0.5)
    pixel_nm = [size[i] * context[i] * context_pixel_nm / shape[i] for i in range(2)]
    if not math.isclose(pixel_nm[0], pixel_nm[1], rel_tol=2 / min(shape)):
        raise UnusableFrameError(
            f"The pixels of the sub-scan are {1e3 * pixel_nm[0]:.1f} pm high and "
            f"{1e3 * pixel_nm[1]:.1f} pm wide; only square pixels can be corrected."
        )
    top, left = (round((center[i] - size[i] / 2) * context[i]) for i in range(2))
    return pixel_nm[1] * max(shape), (*context, top, left)


def _timing(reported: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Dwell, fly-back and line time; the line time includes the fly-back."""
    dwell = _positive(reported.get("pixel_time_us"))
    flyback, line = reported.get("flyback_time_us"), _positive(reported.get("line_time_us"))
    pixels = reported.get("flyback_pixels")
    if flyback is None and pixels is not None and dwell is not None:
        flyback = pixels * dwell
    if line is None and dwell is not None and flyback is not None:
        line = width * dwell + (flyback if pixels is None else pixels * dwell)
    return {"dwell_time_us": dwell, "flyback_time_us": flyback, "line_time_us": line}


def _rotation_rad(reported: Mapping[str, Any]) -> float:
    if reported.get("rotation_rad") is not None:
        return float(reported["rotation_rad"])
    return math.radians(float(reported.get("rotation_deg") or 0.0))


def _extra(reported: Mapping[str, Any]) -> tuple[tuple[str, object], ...]:
    names = sorted(set(reported) - RENAMED - PROVENANCE)
    return tuple((name, _hashable(reported[name])) for name in names)


def _hashable(value: Any) -> object:
    if isinstance(value, Mapping):
        return tuple((str(key), _hashable(value[key])) for key in sorted(value, key=str))
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _pair(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if value else (int(default[0]), int(default[1]))


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _positive(value: Any) -> float | None:
    return float(value) if value is not None and float(value) > 0 else None


class FrameTap:
    """Hand on the frames of each finished scan of a scan hardware source.

    The host calls back on its acquisition thread and waits, and re-uses its arrays: here is only
    filtered, copied and renamed. Partial and aborted frames, recordings and drift scans are left
    out.

    Parameters
    ----------
    hardware_source : ScanHardwareSource
        The scan to listen to.
    submit : callable
        Called once for each scan with the frames of its channels, the analysed one first.
    refuse : callable, optional
        Called with the reason, one sentence, for a scan that cannot be used.
    channel : str, default: "HAADF"
        The analysed channel; where no enabled channel has that name, the first one.

    Notes
    -----
    The two events are private to the instrumentation kit, but nothing else of it delivers every
    frame. A scan's channels arrive one by one, then ``xdatas_available_event`` says that these
    were all. A frame's index is the host's, which begins at 0 whenever the scan is started.
    """

    def __init__(
        self,
        hardware_source: scan_base.ScanHardwareSource,
        submit: Callable[[tuple[Frame, ...]], object],
        *,
        refuse: Callable[[str], object] | None = None,
        channel: str = "HAADF",
    ) -> None:
        self._hardware_source, self._submit, self._refuse = hardware_source, submit, refuse
        self._channel = channel
        self._frames: list[Frame] = []
        listen = hardware_source.data_channel_updated_event.listen
        available = hardware_source.xdatas_available_event.listen
        self._listeners: tuple[Any, ...] = (
            listen(ReferenceCounting.weak_partial(FrameTap._updated, self)),
            available(ReferenceCounting.weak_partial(FrameTap._available, self)),
        )

    def close(self) -> None:
        """Stop listening; a callback that has begun on the acquisition thread still ends."""
        self._listeners = ()  # who drops his listener is no longer called

    def _updated(
        self, args: HardwareSource.DataChannelEventArgs, xdata: DataAndMetadata.DataAndMetadata
    ) -> None:
        """Keep a copy of one channel; an exception here would cut off the listeners after us."""
        try:
            if args.state == "complete" and self._is_wanted(args):
                self._keep(xdata)
        except UnusableFrameError as error:
            self._say(str(error))
        except Exception as error:
            _log.exception("A frame of the scan could not be read")
            self._say(f"A frame of the scan could not be read: {error}")

    def _is_wanted(self, args: HardwareSource.DataChannelEventArgs) -> bool:
        variant = (args.data_channel_id or "").removeprefix(args.channel_id or "").lstrip("_")
        return variant in VARIANTS and not self._hardware_source.is_aborted

    def _keep(self, xdata: DataAndMetadata.DataAndMetadata) -> None:
        metadata = xdata.metadata
        source = metadata.get("hardware_source", {})
        if source.get("view_id"):  # a recording, with settings of its own
            return
        image = np.array(xdata.data, dtype=np.float32)
        image.flags.writeable = False
        if image.ndim != 2:
            raise UnusableFrameError(f"The scan gave {image.ndim} axes instead of an image.")
        frame = Frame(
            image=image,
            settings=scan_settings(metadata, cast("tuple[int, int]", image.shape)),
            index=int(source.get("frame_index") or 0),
            time_s=xdata.timestamp.replace(tzinfo=datetime.UTC).timestamp(),
            frame_id=str(metadata.get("scan", {}).get("scan_id", "")),
            channel=str(source.get("channel_name", "")),
            provenance={
                "metadata": metadata,
                "intensity_units": xdata.intensity_calibration.units,
            },
        )
        self._frames = [kept for kept in self._frames if kept.frame_id == frame.frame_id]
        self._frames.append(frame)

    def _available(self, _: object) -> None:
        try:
            frames, self._frames = self._frames, []
            if frames and not self._hardware_source.is_aborted:
                self._submit(self._analysed_first(frames))
        except Exception:
            _log.exception("A scan could not be handed on")

    def _analysed_first(self, frames: list[Frame]) -> tuple[Frame, ...]:
        # the host calls the channel of a sub-scan "HAADF Subscan"
        return tuple(sorted(frames, key=lambda one: not one.channel.startswith(self._channel)))

    def _say(self, reason: str) -> None:
        self._frames = []
        if self._refuse is not None:
            self._refuse(reason)
