"""What the host's parameters of a scan mean to the simulated beam."""

import math

from nion.device_kit.ScanDevice import ScanFrameParameters
from nion.utils import Geometry

from nion_distortion.frame import ScanSettings

__all__ = [
    "HIGH_TENSION_V",
    "PROFILES",
    "SCAN_ID",
    "frame_period_s",
    "profile_parameters",
    "scan_settings",
]

SCAN_ID = "nion_distortion_scan"

FLYBACK_US = 30.0
HIGH_TENSION_V = 200e3
MAINS_HZ = 50.0

PROFILES = (
    ("Fast", (256, 256), 1.0, 8.0),
    ("Slow", (512, 512), 1.0, 16.0),
    ("Record", (1024, 1024), 2.0, 32.0),
)
"""Name, pixels, dwell time in us and field of view in nm of each profile."""


def profile_parameters(
    shape_px: tuple[int, int], dwell_time_us: float, field_of_view_nm: float
) -> ScanFrameParameters:
    """Return the host's parameters of a scan.

    Parameters
    ----------
    shape_px : tuple of int
        Lines and pixels, (ny, nx).
    dwell_time_us : float
        Time on each pixel.
    field_of_view_nm : float
        Longer side.

    Returns
    -------
    ScanFrameParameters
        With the simulated device's own fly-back time, beam lag and synchronisation.
    """
    return ScanFrameParameters(
        pixel_size=shape_px,
        pixel_time_us=dwell_time_us,
        fov_nm=field_of_view_nm,
        flyback_time_us=FLYBACK_US,
        ac_line_sync=False,
        ac_frame_sync=False,
        beam_lag_us=0.0,
    )


def frame_period_s(settings: ScanSettings, *, mains_hz: float = MAINS_HZ) -> float:
    """Return the time from the start of a frame to the start of the next.

    Parameters
    ----------
    settings : ScanSettings
        The scan.
    mains_hz : float, default: 50
        Frequency of the mains.

    Returns
    -------
    float
        Seconds; a whole number of mains periods where each frame waits for the mains.
    """
    frame_s = settings.frame_time_s or 0.0
    return _until_mains(frame_s, mains_hz) if settings.frame_sync else frame_s


def _until_mains(time_s: float, mains_hz: float) -> float:
    """Lengthen a time to whole periods of the mains; what is one within rounding stays it."""
    return math.ceil(time_s * mains_hz - 1e-9) / mains_hz


def _flyback_us(parameters: ScanFrameParameters, pixels_us: float, mains_hz: float) -> float:
    """Return the time from the end of a line to the start of the next, the wait included."""
    flyback_us = parameters.flyback_time_us
    if not parameters.ac_line_sync:
        return flyback_us
    return 1e6 * _until_mains(1e-6 * (pixels_us + flyback_us), mains_hz) - pixels_us


def scan_settings(
    parameters: ScanFrameParameters,
    *,
    high_tension_v: float = HIGH_TENSION_V,
    mains_hz: float = MAINS_HZ,
) -> ScanSettings:
    """Return what these parameters make the simulated beam do.

    Parameters
    ----------
    parameters : ScanFrameParameters
        The host's parameters.
    high_tension_v : float, default: 200000
        Acceleration voltage.
    mains_hz : float, default: 50
        Frequency of the mains.

    Returns
    -------
    ScanSettings
        The settings of the frame, a sub-scan's own field of view among them.

    Notes
    -----
    With line synchronisation the beam flies back, and then waits at the line's start for the next
    period of the mains: a line takes a whole number of periods. The wait counts as fly-back time,
    which is all the time from the end of a line to the start of the next; the beam has settled.
    """
    shape, context = parameters.scan_size, parameters.pixel_size
    fov_nm, subscan_px = parameters.fov_nm, None
    size = parameters.subscan_fractional_size
    if parameters.subscan_pixel_size and size:
        center = parameters.subscan_fractional_center or Geometry.FloatPoint(y=0.5, x=0.5)
        top = round((center.y - size.height / 2) * context.height)
        left = round((center.x - size.width / 2) * context.width)
        subscan_px = (context.height, context.width, top, left)
        pixel_nm = size.width * context.width / shape.width * fov_nm / max(context)
        fov_nm = pixel_nm * max(shape)
    pixels_us = shape.width * parameters.pixel_time_us
    flyback_us = _flyback_us(parameters, pixels_us, mains_hz)
    return ScanSettings(
        shape_px=(shape.height, shape.width),
        field_of_view_nm=fov_nm,
        dwell_time_us=parameters.pixel_time_us,
        flyback_time_us=flyback_us,
        line_time_us=pixels_us + flyback_us,
        high_tension_v=high_tension_v,
        line_sync=parameters.ac_line_sync,
        frame_sync=parameters.ac_frame_sync,
        rotation_rad=parameters.rotation_rad,
        device_id=SCAN_ID,
        subscan_px=subscan_px,
        extra=(("beam_lag_us", float(parameters.get_parameter("beam_lag_us", 0.0))),),
    )
