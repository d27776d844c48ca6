"""Newest report -> maps over the picture: arrays in pm over nm, a title and a caption. Pure."""

import gettext
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata

from nion_distortion.swift.history import History, Picture, frame_record, unmeasured

if TYPE_CHECKING:
    from nion_distortion.distortion import DistortionField
    from nion_distortion.principal_components import PrincipalComponents
    from nion_distortion.session import LiveReport

__all__ = ["MAPS"]

_ = gettext.gettext

Array = npt.NDArray[np.floating[Any]]

PM_PER_NM = 1e3

LARGEST_MAP_PX = 512
"""Longer maps are shown at every few pixels: distortion is smooth, and drawing costs time."""

LOADINGS = 3
"""Of each axis, loading maps that are shown."""

GAP_PX = 2
"""Between two loading maps."""

ENOUGH_SEEN = 0.99


def _field(live: "LiveReport") -> "DistortionField | None":
    return None if live.report is None else live.report.field


def _map(
    live: "LiveReport", values_pm: Array, pixel_size_nm: float
) -> DataAndMetadata.DataAndMetadata:
    """Return a map in pm whose axes are in nm."""
    step = -(-max(values_pm.shape) // LARGEST_MAP_PX)
    part = np.ascontiguousarray(values_pm[step // 2 :: step, step // 2 :: step], np.float32)
    return DataAndMetadata.new_data_and_metadata(
        part,
        Calibration.Calibration(units="pm"),
        [Calibration.Calibration(0.0, step * pixel_size_nm, "nm")] * 2,
        frame_record(live),
    )


def _largest(field: "DistortionField") -> float:
    """Return the largest displacement but for the last 0.5 %, pm: one edge must not pale all."""
    step = max(1, max(field.valid.shape) // 128)
    seen = field.valid[::step, ::step]
    values = np.abs(field.displacement_px[:, ::step, ::step][:, seen])
    largest = float(np.percentile(values, 99.5)) if values.size else 0.0
    return largest * PM_PER_NM * field.settings.pixel_size_nm


def _distortion(history: History, live: "LiveReport", axis: int) -> Picture:
    field = _field(live)
    if field is None:
        name = (_("DF slow"), _("DF fast"))[axis]
        return unmeasured(name, live, history, ("slow", "fast")[axis])
    size_nm = field.settings.pixel_size_nm
    limit = history.scale("distortion", _largest(field))
    caption = _("distortion: observed - ideal position, blue negative, red positive, ")
    caption += _whose(live, field)
    return Picture(
        title=(_("DF slow (y)"), _("DF fast (x)"))[axis],
        caption=caption + _seen(field) + _(", colours ±{limit:g} pm").format(limit=limit),
        xdata=_map(live, field.displacement_px[axis] * np.float32(PM_PER_NM * size_nm), size_nm),
        limits=(-limit, limit),
    )


def _slow(history: History, live: "LiveReport") -> Picture:
    return _distortion(history, live, 0)


def _fast(history: History, live: "LiveReport") -> Picture:
    return _distortion(history, live, 1)


def _uncertainty(history: History, live: "LiveReport") -> Picture:
    corrected = None if live.report is None else live.report.corrected
    field = _field(live)
    if corrected is None or field is None:
        return unmeasured(_("Error"), live, history, "uncertainty")
    y, x = corrected.std_px
    size_nm = corrected.pixel_size_nm
    xdata = _map(live, np.hypot(y, x) * np.float32(PM_PER_NM * size_nm), size_nm)
    high = history.scale("uncertainty", float(np.percentile(xdata.data, 99.5)))
    return Picture(
        title=_("Error left"),
        caption=_("predicted standard deviation of each pixel's place, both axes together, ")
        + _whose(live, field)
        + _(", colours 0 to {high:g} pm").format(high=high),
        xdata=xdata,
        limits=(0.0, high),
    )


def _whose(live: "LiveReport", field: "DistortionField") -> str:
    """Say of what a field is; the frame's number, which changes, is in the metadata."""
    if field.kind == "frame":
        return _("of the newest frame, from its own lattice")
    if live.calibration is not None and not live.accepted:
        known = live.calibration.calibration_id[:6]
        return _("of the stored calibration {id}").format(id=known)
    return _("of the stationary distortion that earlier frames showed")


def _seen(field: "DistortionField") -> str:
    share = float(np.mean(field.valid))
    if share > ENOUGH_SEEN:
        return ""
    return _("; the scan saw {percent:.0f} % of these places").format(percent=100 * share)


def _loadings(history: History, live: "LiveReport") -> Picture:
    components = history.components()
    if components is None or live.components is None:
        return unmeasured(_("Loadings"), live, history, "loadings")
    settings, grid = live.scan[0].settings, live.components.grid
    to_pm = PM_PER_NM * settings.pixel_size_nm
    maps_pm = to_pm * np.stack([_maps(one, grid) for one in components])
    scales_pm = [
        history.scale(f"loading {number}", float(np.percentile(np.abs(one), 99.5)))
        for number, one in enumerate(maps_pm.swapaxes(0, 1))
    ]
    sides_nm = [length * settings.pixel_size_nm for length in settings.shape_px]
    xdata = DataAndMetadata.new_data_and_metadata(
        _tiled(maps_pm / np.array(scales_pm)[:, None, None]).astype(np.float32),
        Calibration.Calibration(units=_("of its scale")),
        [
            Calibration.Calibration(0.0, side / parts, "nm")
            for side, parts in zip(sides_nm, grid, strict=True)
        ],
        frame_record(live, scales_pm=scales_pm),
    )
    there_are = max(len(one.explained_variance_ratio) for one in components)
    ends_pm = tuple(scales_pm[:there_are])
    return Picture(
        title=_("Loadings"),
        caption=_(
            "above slow axis (y), below fast axis (x); from the left the strongest components of "
            "the last distortion fields, {frames} at most; colours {ends} pm, without an "
            "uncertainty"
        ).format(frames=history.capacity, ends=", ".join(f"±{end:g}" for end in ends_pm)),
        xdata=xdata,
        limits=(-1.0, 1.0),
        ends_pm=ends_pm,
    )


def _maps(components: "PrincipalComponents", grid: tuple[int, int]) -> Array:
    """Return the first maps, (k, ny, nx); where there are fewer, zero."""
    maps = np.zeros((LOADINGS, *grid))
    loadings = components.loading_maps[:LOADINGS, 0]
    maps[: len(loadings)] = loadings.reshape(-1, *grid)
    return maps


def _tiled(maps: Array) -> Array:
    """Return maps (rows, columns, ny, nx) as one picture, with gaps of zero."""
    pad = [(0, 0), (0, 0), (0, GAP_PX), (0, GAP_PX)]
    rows, columns, ny, nx = (padded := np.pad(maps, pad)).shape
    picture = padded.swapaxes(1, 2).reshape(rows * ny, columns * nx)
    return picture[:-GAP_PX, :-GAP_PX]


MAPS: Mapping[str, Callable[[History, "LiveReport"], Picture]] = MappingProxyType(
    {
        "slow": _slow,
        "fast": _fast,
        "uncertainty": _uncertainty,
        "loadings": _loadings,
    }
)
"""How each map is drawn from the newest report and what came before."""
