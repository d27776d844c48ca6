"""Reports -> what the diagrams show: arrays with their units, a title and a caption. Pure."""

import gettext
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata

from nion_distortion.swift.phrases import estimate, sentence

if TYPE_CHECKING:
    from nion_distortion.distortion import DistortionField
    from nion_distortion.principal_components import LiveComponents, PrincipalComponents
    from nion_distortion.session import LiveReport

    _Pair = tuple[PrincipalComponents, PrincipalComponents]

__all__ = ["DRAWN", "History", "Picture", "draw"]

_ = gettext.gettext

Array = npt.NDArray[np.floating[Any]]
XData = DataAndMetadata.DataAndMetadata

PM_PER_NM = 1e3

FRAMES_KEPT = 300
"""Frames whose residual is shown."""

TIMES_KEPT = 1000
"""Frames whose time is remembered, as many as a session remembers of the drift."""

LARGEST_MAP_PX = 512
"""Longer maps are shown at every few pixels: distortion is smooth, and drawing costs time."""

COMPONENTS, MODES, LOADINGS = 6, 2, 3
"""Of each axis, what is shown of the scree, the eigenmodes and the loading maps."""

GAP_PX = 2
"""Between two loading maps."""

STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
"""Ends of a scale within a decade."""

SLACK = 0.4
"""A scale stays while what it shows fills more than this share of it."""

LEGEND = 1.5
"""Height of the residual's axis in the largest value: above the curves stands their legend."""

ENOUGH_SEEN = 0.99


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """What an item shows.

    Parameters
    ----------
    title : str
        What it is, with its unit.
    caption : str
        What it is of, or why it was not measured.
    xdata : DataAndMetadata, optional
        None: the last picture stays.
    limits : tuple of float, optional
        Of the colours, or of a curve's axis; None: left to the host.
    """

    title: str
    caption: str
    xdata: XData | None = None
    limits: tuple[float, float] | None = None


class History:
    """What diagrams need of the reports that came before; fed on one thread only.

    Parameters
    ----------
    drawn : iterable of str, default: ()
        Diagrams of which an earlier picture is still seen.
    """

    def __init__(self, drawn: Iterable[str] = ()) -> None:
        self.drawn = set(drawn)
        self.last: LiveReport | None = None
        self._residuals: deque[tuple[int, float, float]] = deque(maxlen=FRAMES_KEPT)
        self._times_s: deque[float | None] = deque(maxlen=TIMES_KEPT)
        self._scales: dict[str, float] = {}
        self._found: tuple[LiveComponents, _Pair] | None = None

    def follow(self, live: "LiveReport") -> None:
        """Take a report.

        Parameters
        ----------
        live : LiveReport
            The newest.
        """
        self.last = live
        report = live.report
        off_by = None if report is None else report.off_by_pm
        left = None if report is None else report.corrected_pm
        self._residuals.append(
            (
                live.scan[0].index,
                np.nan if off_by is None else off_by.value,
                np.nan if left is None else left.value,
            )
        )
        if live.reason is None and report is not None and report.drift_nm is not None:
            if len(live.drift_nm) <= 1:
                self._times_s.clear()
            self._times_s.append(live.scan[0].time_s)

    def residuals(self) -> tuple[int, Array]:
        """Return the last frame's number, and off by and corrected (2, n) in pm, one per frame.

        Returns
        -------
        last : int
            Number of the newest frame.
        pm : ndarray, shape (2, n)
            NaN where a frame was not measured.
        """
        rows = np.array([values[1:] for values in self._residuals])
        return self._residuals[-1][0], rows.T

    def times_s(self, count: int) -> Array | None:
        """Return when the last frames of the drift ended.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        ndarray, shape (count,), or None
            From zero on; None where not all of them are known, or they do not rise.
        """
        known = [time for time in list(self._times_s)[-count:] if time is not None]
        if len(known) < count:
            return None
        times = np.array(known)
        return times - times[0] if np.all(np.diff(times) > 0) else None

    @property
    def capacity(self) -> int:
        """How many distortion fields the components come from at most."""
        live = self.last
        return 0 if live is None or live.components is None else live.components.capacity

    def components(self) -> "_Pair | None":
        """Return the newest components of both axes; three diagrams show them.

        Returns
        -------
        y, x : PrincipalComponents
            None where no distortion field was measured yet.
        """
        buffer = None if self.last is None else self.last.components
        if buffer is None or len(buffer) == 0:
            return None
        if self._found is None or self._found[0] is not buffer:
            self._found = (buffer, buffer.components())
        return self._found[1]

    def scale(self, name: str, largest: float) -> float:
        """Return the end of a scale: a round number that stays as long as it fits.

        Parameters
        ----------
        name : str
            Which scale.
        largest : float
            What it has to show.

        Returns
        -------
        float
            Not below ``largest``.
        """
        before = self._scales.get(name, 0.0)
        if not SLACK * before <= largest <= before or before == 0.0:
            self._scales[name] = _round_up(largest)
        return self._scales[name]


def _round_up(value: float) -> float:
    if not value > 0.0 or not np.isfinite(value):
        return 1.0
    decade = 10.0 ** np.floor(np.log10(value))
    return next(float(decade * step) for step in STEPS if decade * step >= value * (1 - 1e-9))


# what is known, and of what


def _why_not(live: "LiveReport") -> str:
    return live.reason or _(
        "the sample is not taken as a reference, so no column was compared with a lattice"
    )


def _unmeasured(
    name: str, live: "LiveReport", history: History | None = None, key: str = ""
) -> Picture:
    """Say why there is nothing new; above a picture of earlier frames that it is an earlier one."""
    title, caption = _("{name}: not measured"), _("Not measured: {reason}")
    if history is not None and key in history.drawn:
        title, caption = _("{name}: not updated"), _("Of earlier frames. Not updated: {reason}")
    return Picture(
        title=title.format(name=name), caption=sentence(caption.format(reason=_why_not(live)))
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


# maps


def _field(live: "LiveReport") -> "DistortionField | None":
    return None if live.report is None else live.report.field


def _record(live: "LiveReport", **values: Any) -> dict[str, Any]:
    """Return which frame it is: in a caption the number would change every second."""
    frame = live.scan[0]
    return {"nion_distortion": {"frame_id": frame.frame_id, "frame_index": frame.index, **values}}


def _map(live: "LiveReport", values_pm: Array, pixel_size_nm: float) -> XData:
    """Return a map in pm whose axes are in nm."""
    step = -(-max(values_pm.shape) // LARGEST_MAP_PX)
    part = np.ascontiguousarray(values_pm[step // 2 :: step, step // 2 :: step], np.float32)
    return DataAndMetadata.new_data_and_metadata(
        part,
        Calibration.Calibration(units="pm"),
        [Calibration.Calibration(0.0, step * pixel_size_nm, "nm")] * 2,
        _record(live),
    )


def _largest(field: "DistortionField") -> float:
    """Return the largest displacement but for the last 0.5 %, pm: one edge must not pale all."""
    step = max(1, max(field.valid.shape) // 128)
    seen = field.valid[::step, ::step]
    values = np.abs(field.displacement_px[:, ::step, ::step][:, seen])
    largest = float(np.percentile(values, 99.5)) if values.size else 0.0
    return largest * PM_PER_NM * field.settings.pixel_size_nm


def _distortion(history: History, live: "LiveReport", axis: int) -> Picture:
    name = (_("Slow axis (y), distortion"), _("Fast axis (x), distortion"))[axis]
    field = _field(live)
    if field is None:
        return _unmeasured(name, live, history, ("slow", "fast")[axis])
    size_nm = field.settings.pixel_size_nm
    limit = history.scale("distortion", _largest(field))
    caption = _("observed - ideal position, blue negative, red positive, ") + _whose(live, field)
    return Picture(
        title=_("{name}: ±{limit:g} pm").format(name=name, limit=limit),
        caption=caption + _seen(field),
        xdata=_map(live, field.displacement_px[axis] * np.float32(PM_PER_NM * size_nm), size_nm),
        limits=(-limit, limit),
    )


def _slow(history: History, live: "LiveReport") -> Picture:
    return _distortion(history, live, 0)


def _fast(history: History, live: "LiveReport") -> Picture:
    return _distortion(history, live, 1)


def _uncertainty(history: History, live: "LiveReport") -> Picture:
    name = _("Error left, std")
    corrected = None if live.report is None else live.report.corrected
    field = _field(live)
    if corrected is None or field is None:
        return _unmeasured(name, live, history, "uncertainty")
    y, x = corrected.std_px
    size_nm = corrected.pixel_size_nm
    xdata = _map(live, np.hypot(y, x) * np.float32(PM_PER_NM * size_nm), size_nm)
    high = history.scale("uncertainty", float(np.percentile(xdata.data, 99.5)))
    return Picture(
        title=_("{name}: 0 to {high:g} pm").format(name=name, high=high),
        caption=_("predicted standard deviation of each pixel's place, both axes together, ")
        + _whose(live, field),
        xdata=xdata,
        limits=(0.0, high),
    )


# curves


def _curves(live: "LiveReport", rows: Array, unit: str, x: Calibration.Calibration) -> XData:
    return DataAndMetadata.new_data_and_metadata(
        np.ascontiguousarray(rows, np.float64),
        Calibration.Calibration(units=unit),
        [Calibration.Calibration(), x],
        _record(live),
    )


def _drift(history: History, live: "LiveReport") -> Picture:
    report, way = live.report, live.drift_nm
    is_measured = live.reason is None and report is not None and report.drift_nm is not None
    if not is_measured or len(way) == 0:
        return _unmeasured(_("Drift"), live, history, "drift")
    caption = _(
        "way of the sample in the image since the scan began, or since it was last certain, "
        "without an uncertainty"
    )
    axis, rows = _against_time(way, history.times_s(len(way)))
    if axis.units == "s":
        caption += _(", interpolated to even times")
    return Picture(
        title=_("Drift of the sample (nm)"),
        caption=caption,
        xdata=_curves(live, rows, "nm", axis),
    )


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
        picture = _unmeasured(_("Off by"), live)
        title, caption = picture.title, picture.caption
    else:
        title = _("Off by {off}, corrected {left:.1f} pm").format(
            off=estimate(report.off_by_pm), left=report.corrected_pm.value
        )
        caption = _(
            "rms length over the picture; off by is what was taken out, corrected is what the "
            "model predicts to be left (without an uncertainty of its own)"
        )
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
        return _unmeasured(_("Scree"), live, history, "scree")
    rows = np.full((2, COMPONENTS), np.nan)
    for row, one in zip(rows, components, strict=True):
        share = 100.0 * one.explained_variance_ratio[:COMPONENTS]
        row[: len(share)] = share
    return Picture(
        title=_("Scree: first slow {y:.1f} %, fast {x:.1f} %").format(y=rows[0, 0], x=rows[1, 0]),
        caption=_(
            "share of each component in the power of the last distortion fields, {frames} at most; "
            "without an uncertainty"
        ).format(frames=history.capacity),
        xdata=_curves(live, rows, "%", Calibration.Calibration(0.5, 1.0, _("component"))),
    )


def _eigenmodes(history: History, live: "LiveReport") -> Picture:
    components = history.components()
    if components is None:
        return _unmeasured(_("Eigenmodes"), live, history, "eigenmodes")
    frames = components[0].eigenmodes.shape[1]
    rows = np.full((2 * MODES, frames), np.nan)
    for axis, one in enumerate(components):
        modes = one.eigenmodes[:MODES]
        rows[axis * MODES : axis * MODES + len(modes)] = modes
    limit = history.scale("eigenmodes", float(np.nanmax(np.abs(rows), initial=1.0)))
    return Picture(
        title=_("Eigenmodes of the distortion"),
        caption=_(
            "course of each component over the last frames, {frames} at most; rms 1, without an "
            "uncertainty"
        ).format(frames=history.capacity),
        xdata=_curves(live, rows, "", Calibration.Calibration(0.0, 1.0, _("frames"))),
        limits=(-limit, limit),
    )


def _loadings(history: History, live: "LiveReport") -> Picture:
    name, components = _("Loadings"), history.components()
    if components is None or live.components is None:
        return _unmeasured(name, live, history, "loadings")
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
        _record(live, scales_pm=scales_pm),
    )
    there_are = max(len(one.explained_variance_ratio) for one in components)
    ends = ", ".join(f"±{scale:g}" for scale in scales_pm[:there_are])
    return Picture(
        title=_("{name}: {ends} pm").format(name=name, ends=ends),
        caption=_(
            "above slow axis (y), below fast axis (x); from the left the strongest components of "
            "the last distortion fields, {frames} at most, each on its own scale; without an "
            "uncertainty"
        ).format(frames=history.capacity),
        xdata=xdata,
        limits=(-1.0, 1.0),
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


Draw = Callable[[History, "LiveReport"], Picture]

DRAWN: Mapping[str, Draw] = MappingProxyType(
    {
        "slow": _slow,
        "fast": _fast,
        "uncertainty": _uncertainty,
        "residual": _residual,
        "drift": _drift,
        "scree": _scree,
        "eigenmodes": _eigenmodes,
        "loadings": _loadings,
    }
)
"""How each diagram is drawn from the newest report and what came before."""


def draw(name: str, history: History, live: "LiveReport") -> Picture:
    """Draw a diagram.

    Parameters
    ----------
    name : str
        Which; one of `DRAWN`.
    history : History
        Knows the newest report, too.
    live : LiveReport
        The newest.

    Returns
    -------
    Picture
        What its item shows; it is remembered which diagrams have a picture.
    """
    picture = DRAWN[name](history, live)
    if picture.xdata is not None:
        history.drawn.add(name)
    return picture
