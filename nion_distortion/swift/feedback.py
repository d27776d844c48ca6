"""Drift of the sample, measured in the corrected frames -> the scan's centre follows it."""

import gettext
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nion.instrumentation import scan_base
from nion.utils import Geometry

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport

__all__ = ["LIMIT_NM", "DriftFeedback"]

_ = gettext.gettext

LIMIT_NM = 0.05
"""Largest step of the scan's centre from frame to frame: an eighth of SrTiO3's cell, so that a
step cannot be mistaken for another lattice vector."""

Vector = npt.NDArray[np.float64]


class DriftFeedback:
    """Move the scan's centre with the sample.

    Parameters
    ----------
    scan : ScanHardwareSource
        What is moved; on the main thread.
    limit_nm : float, default: 0.05
        Largest step of the centre for one frame, nm.

    Notes
    -----
    The centre that a frame was scanned with is the one that the device reported with it, so what
    is measured and what was fed back are never counted twice: the sample's own way is the drift
    seen in the image plus the way of the centre. In the host's axes, which a scan's rotation
    turns in the image.
    """

    def __init__(self, scan: scan_base.ScanHardwareSource, *, limit_nm: float = LIMIT_NM) -> None:
        self._scan, self._limit_nm = scan, limit_nm
        self._target_nm: Vector | None = None
        self._frame_id = ""

    def follow(self, live: "LiveReport") -> str:
        """Take a report's drift, and move the centre for the next frames.

        Parameters
        ----------
        live : LiveReport
            The newest; what has no drift moves nothing.

        Returns
        -------
        str
            Why it must not go on, one sentence; nothing where it may.
        """
        report, frame = live.report, live.scan[0]
        if report is None or not len(live.drift_nm) or frame.frame_id == self._frame_id:
            return ""
        self._frame_id = frame.frame_id
        if report.drift_ambiguous:
            return _(
                "The drift is ambiguous: the sample may have moved by another lattice vector, so "
                "it is no longer fed back to the scan."
            )
        centre = _centre_nm(frame.provenance.get("metadata", {}))
        if centre is None:
            return _("The scan device reports no centre, so drift cannot be fed back to it.")
        place = centre + _turned(live.drift_nm[-1], -frame.settings.rotation_rad)
        if self._target_nm is None or len(live.drift_nm) == 1:
            # the sample's place at which it is held: where it was when this began
            self._target_nm = place - centre
        self._move(centre, place - self._target_nm)
        return ""

    def _move(self, centre_nm: Vector, wanted_nm: Vector) -> None:
        step = wanted_nm - centre_nm
        length = float(np.hypot(*step))
        if length > self._limit_nm:
            wanted_nm = centre_nm + step * (self._limit_nm / length)
        parameters = self._scan.get_current_frame_parameters()
        parameters.center_nm = Geometry.FloatPoint(y=float(wanted_nm[0]), x=float(wanted_nm[1]))
        self._scan.set_current_frame_parameters(parameters)


def _centre_nm(metadata: Any) -> Vector | None:
    """Read the centre that the device reported with a frame, (y, x)."""
    reported = metadata.get("scan", {}).get("scan_device_properties", {})
    if "center_nm" in reported:
        return np.array(reported["center_nm"], dtype=np.float64)
    if "center_y_nm" in reported:
        return np.array([reported["center_y_nm"], reported["center_x_nm"]], dtype=np.float64)
    return None


def _turned(vector_nm: Vector, angle_rad: float) -> Vector:
    turned = Geometry.FloatPoint(y=float(vector_nm[0]), x=float(vector_nm[1])).rotate(angle_rad)
    return np.array([turned.y, turned.x])
