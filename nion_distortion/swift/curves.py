"""Reports -> curves: rows with their units, a title and a caption. Pure."""

import gettext
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata

from nion_distortion._uncertainty import with_std
from nion_distortion.swift.history import History, Picture, frame_record, unmeasured
from nion_distortion.swift.phrases import as_written, estimate

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport

__all__ = ["CURVES"]

_ = gettext.gettext

Array = npt.NDArray[np.floating[Any]]

COMPONENTS, MODES = 6, 2
"""Of each axis, what is shown of the scree and of the eigenmodes."""

LEGEND = 1.5
"""Height of an axis in that of its curves: above them stands their legend."""


def _curves(
    live: "LiveReport", rows: Array, unit: str, x: Calibration.Calibration
) -> DataAndMetadata.DataAndMetadata:
    return DataAndMetadata.new_data_and_metadata(
        np.ascontiguousarray(rows, np.float64),
        Calibration.Calibration(units=unit),
        [Calibration.Calibration(), x],
        frame_record(live),
    )


def _drift(history: History, live: "LiveReport") -> Picture:
    report, way = live.report, live.drift_nm
    is_measured = live.reason is None and report is not None and report.drift_nm is not None
    if not is_measured or len(way) == 0:
        return unmeasured(_("Drift"), live, history, "drift")
    caption = _(
        "way of the sample in the image since the scan began, or since it was last certain; "
        "now {now}"
    ).format(now=_newest(way, live.drift_std_nm))
    axis, rows = _against_time(way, history.times_s(len(way)))
    if axis.units == "s":
        caption += _(", interpolated to even times")
    return Picture(
        title=_("Drift"),
        caption=caption,
        xdata=_curves(live, rows, "nm", axis),
        limits=_with_legend(history, rows),
    )


def _newest(way: Array, stds: Array) -> str:
    """Write the newest place of the sample, with its standard deviation where it is known."""
    std = stds[-1] if len(stds) == len(way) else np.full(2, np.nan)
    told = []
    for axis, value, error in zip("yx", way[-1], std, strict=True):
        known = as_written(with_std(value, error if np.isfinite(error) else None, "nm"))
        told.append(f"{axis} {known}")
    if not np.isfinite(std).all():
        told.append(_("error not known"))
    return ", ".join(told)


def _with_legend(history: History, rows: Array) -> tuple[float, float]:
    """Return ends of an axis around zero on which curves leave room for a legend above them."""
    low, high = min(0.0, float(rows.min())), max(0.0, float(rows.max()))
    below = history.scale("drift down", -low) if low < 0.0 else 0.0
    above = history.scale("drift up", high + (LEGEND - 1.0) * (high - low))
    return -below, above


def _against_time(way: Array, times_s: Array | None) -> tuple[Calibration.Calibration, Array]:
    """Return the axis and rows (2, n): a curve of the host has an even axis."""
    if times_s is None or len(way) < 2:
        return Calibration.Calibration(units="frames"), way.T
    even = np.linspace(0.0, times_s[-1], len(way))
    rows = np.array([np.interp(even, times_s, column) for column in way.T])
    return Calibration.Calibration(0.0, float(even[1]), "s"), rows


def _residual(history: History, live: "LiveReport") -> Picture:
    last, rows_pm = history.residuals()
    report = live.report
    if report is None or report.off_by_pm is None or report.corrected_pm is None:
        picture = unmeasured(_("Residual"), live)
        title, caption = picture.title, picture.caption
    else:
        title = _("Residual")
        caption = _(
            "Off by {off}, corrected {left:.1f} pm: rms length over the picture; off by is what "
            "was taken out, corrected is what the model predicts to be left (without an "
            "uncertainty of its own)"
        ).format(off=estimate(report.off_by_pm), left=report.corrected_pm.value)
    if not np.isfinite(rows_pm).any():
        return Picture(title=title, caption=caption)
    count = rows_pm.shape[1]
    axis = Calibration.Calibration(last - count + 1, 1.0, _("frame"))
    high = history.scale("residual", LEGEND * float(np.nanmax(rows_pm)))
    xdata = _curves(live, rows_pm, "pm", axis)
    return Picture(title=title, caption=caption, xdata=xdata, limits=(0.0, high))


def _scree(history: History, live: "LiveReport") -> Picture:
    components = history.components()
    if components is None:
        return unmeasured(_("Scree"), live, history, "scree")
    rows = np.full((2, COMPONENTS), np.nan)
    for row, one in zip(rows, components, strict=True):
        share = 100.0 * one.explained_variance_ratio[:COMPONENTS]
        row[: len(share)] = share
    return Picture(
        title=_("Scree"),
        caption=_(
            "share of each component in the power of the last distortion fields, {frames} at most; "
            "first slow {y:.1f} %, fast {x:.1f} %; without an uncertainty"
        ).format(frames=history.capacity, y=rows[0, 0], x=rows[1, 0]),
        xdata=_curves(live, rows, "%", Calibration.Calibration(0.5, 1.0, _("component"))),
    )


def _eigenmodes(history: History, live: "LiveReport") -> Picture:
    components = history.components()
    if components is None:
        return unmeasured(_("Modes"), live, history, "eigenmodes")
    frames = components[0].eigenmodes.shape[1]
    rows = np.full((2 * MODES, frames), np.nan)
    for axis, one in enumerate(components):
        modes = one.eigenmodes[:MODES]
        rows[axis * MODES : axis * MODES + len(modes)] = modes
    limit = history.scale("eigenmodes", float(np.nanmax(np.abs(rows), initial=1.0)))
    return Picture(
        title=_("Modes"),
        caption=_(
            "first eigenmodes of the distortion: course of each component over the last frames, "
            "{frames} at most, slow axis (y) and fast axis (x); rms 1, without an uncertainty"
        ).format(frames=history.capacity),
        xdata=_curves(live, rows, "", Calibration.Calibration(0.0, 1.0, _("frames"))),
        limits=(-limit, limit),
    )


CURVES: Mapping[str, Callable[[History, "LiveReport"], Picture]] = MappingProxyType(
    {
        "residual": _residual,
        "drift": _drift,
        "scree": _scree,
        "eigenmodes": _eigenmodes,
    }
)
"""How each curve is drawn from the newest report and what came before."""
