"""What the host's parameters of a scan mean to the simulated beam."""

from nion.device_kit.ScanDevice import ScanFrameParameters
from nion.utils import Geometry

from nion_distortion.frame import ScanSettings

__all__ = [
    "HIGH_TENSION_V",
    "PROFILES",
    "SCAN_ID",
    "line_time_us",
    "profile_parameters",
    "scan_settings",
]

SCAN_ID = "nion_distortion_scan"

FLYBACK_US = 30.0
HIGH_TENSION_V = 200e3

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


def line_time_us(parameters: ScanFrameParameters) -> float:
    """Return the time from line start to line start.

    Parameters
    ----------
    parameters : ScanFrameParameters
        The scan.

    Returns
    -------
    float
        Microseconds, with the fly-back.
    """
    return parameters.scan_size.width * parameters.pixel_time_us + parameters.flyback_time_us


def scan_settings(
    parameters: ScanFrameParameters, *, high_tension_v: float = HIGH_TENSION_V
) -> ScanSettings:
    """Return what these parameters make the simulated beam do.

    Parameters
    ----------
    parameters : ScanFrameParameters
        The host's parameters.
    high_tension_v : float, default: 200000
        Acceleration voltage.

    Returns
    -------
    ScanSettings
        The settings of the frame, a sub-scan's own field of view among them.
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
    return ScanSettings(
        shape_px=(shape.height, shape.width),
        field_of_view_nm=fov_nm,
        dwell_time_us=parameters.pixel_time_us,
        flyback_time_us=parameters.flyback_time_us,
        line_time_us=line_time_us(parameters),
        high_tension_v=high_tension_v,
        line_sync=parameters.ac_line_sync,
        frame_sync=parameters.ac_frame_sync,
        rotation_rad=parameters.rotation_rad,
        device_id=SCAN_ID,
        subscan_px=subscan_px,
        extra=(("beam_lag_us", float(parameters.get_parameter("beam_lag_us", 0.0))),),
    )
