"""Results -> data items: calibrated in nm, with everything recorded that made them."""

import copy
import datetime
import gettext
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.swift import DocumentController
from nion.swift.model import DataItem, DisplayItem

from nion_distortion._plain import as_plain
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.swift.items import InTurn, LiveItem
from nion_distortion.swift.phrases import sentence

if TYPE_CHECKING:
    from nion_distortion.averaging import DriftAlignedAverage
    from nion_distortion.correction import CorrectedFrame
    from nion_distortion.pipeline import FrameReport
    from nion_distortion.session import LiveReport

__all__ = ["AverageItems", "CorrectedItem", "corrected_xdata", "scanned_xdata"]

_ = gettext.gettext

KEY = "nion_distortion_corrected"
"""Finds the same data item again at the next start; other channels' end in their names."""

AVERAGE = "nion_distortion_average"
"""Begins the keys of the average and of its scatter."""

METADATA = "nion_distortion"
"""Our own block of metadata."""

FORMAT = 1
"""Version of that block."""

WAITING = (
    "Waiting for the first frame of the scan. The first time that a frame is corrected, "
    "preparing for it takes up to a minute."
)

PERIOD_S = 1.0
"""Between two pictures of an average."""

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
    metadata = dict(copy.deepcopy(corrected.provenance.get("metadata", {})))
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
    metadata = dict(copy.deepcopy(frame.provenance.get("metadata", {})))
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
        "scale": _scale(live),
        "scale_numbers": _scale_numbers(live),
        "correction": corrected.provenance.get("correction", {}),
        "frames_in_model": live.accepted,
        "unusable": live.reason,
        "drift_nm": live.drift_nm[-1] if len(live.drift_nm) else None,
        "component_shares": _component_shares(live),
    }
    if report is not None:
        record["effective_counts"] = report.effective_counts
        record["off_by_pm"] = report.off_by_pm
        record["corrected_pm"] = report.corrected_pm
        record["state"], record["state_reason"] = report.state, report.state_reason
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


def _scale(live: "LiveReport") -> str:
    """Say whether anything has measured the scale, which only a crystal of known size does."""
    field = None if live.report is None else live.report.field
    is_known = field is not None and field.reference == KNOWN_CRYSTAL
    return KNOWN_CRYSTAL if is_known else "nominal"


def _scale_numbers(live: "LiveReport") -> dict[str, float] | None:
    """Return what a known crystal has measured; loads what the session's thread has loaded."""
    model = None if live.report is None else live.report.model
    if model is None or _scale(live) != KNOWN_CRYSTAL:
        return None
    module = importlib.import_module("nion_distortion.diagnostics.numbers")
    numbers: dict[str, float] | None = module.scale_numbers(model)
    return numbers


# words


def _how(live: "LiveReport") -> str:
    """Say by what the picture was corrected."""
    report = live.report
    if report is None or report.field is None:
        return ""
    if report.field.kind == "frame":
        return _("the sample is taken as the reference")
    if live.calibration is not None:
        known = live.calibration.calibration_id[:6]
        if not live.accepted:
            return _("by the stored calibration {id}").format(id=known)
        words = _("by the stored calibration {id} and {frames} later frames")
        return words.format(id=known, frames=live.accepted)
    return _("by what earlier frames have shown")


def _caption(live: "LiveReport", corrected: "CorrectedFrame | None") -> str:
    """Say why there is nothing new, how good the picture is, and whether its scale is known."""
    report = live.report
    said = [sentence(live.reason or "")]
    if report is not None and corrected is not None:
        said += [_residual(report), _state(report), _pixel(live, corrected)]
    return " ".join(filter(None, said))


def _residual(report: "FrameReport") -> str:
    off_by, left = report.off_by_pm, report.corrected_pm
    if off_by is None or left is None:
        return ""
    std = "" if off_by.std is None else f" ± {_small(off_by.std)}"
    said = _("Off by {off:.1f}{std} pm, corrected: {left:.1f} pm expected (rms).").format(
        off=off_by.value, std=std, left=left.value
    )
    if report.worth_it is False:
        said += " " + _("Correcting is not worth it: its error exceeds its gain.")
    return said


def _small(std: float) -> str:
    """Write an uncertainty, which is never zero."""
    return f"{std:.1f}" if std >= 0.1 else f"{std:.1g}"


def _state(report: "FrameReport") -> str:
    return sentence(f"{report.state}: {report.state_reason}" if report.state_reason else "")


def _pixel(live: "LiveReport", corrected: "CorrectedFrame") -> str:
    size_pm = 1e3 * corrected.pixel_size_nm
    if _scale(live) == KNOWN_CRYSTAL:
        said = _("A pixel is {pm:.2f} pm, by the known crystal").format(pm=size_pm)
        return said + _as_scanned(_scale_numbers(live)) + "."
    return _("A pixel is nominally {pm:.2f} pm; nothing has measured the scale.").format(pm=size_pm)


def _as_scanned(numbers: dict[str, float] | None) -> str:
    """Say how large a pixel of the scan was; nothing where that was not measured."""
    if numbers is None:
        return ""
    nominal_pm = 1e3 * numbers["nominal_pixel_size_nm"]
    said = [
        _("{axis} {pm:.3f} ± {std:.3f}").format(
            axis=axis,
            pm=1e3 * numbers[f"scanned_pixel_{name}_nm"],
            std=nominal_pm * numbers[f"scale_error_{name}_std_percent"] / 100,
        )
        for axis, name in (("y", "slow"), ("x", "fast"))
    ]
    return _(" (as scanned: {sizes} pm)").format(sizes=", ".join(said))


# items


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What an item is to show."""

    title: str
    caption: str
    xdata: DataAndMetadata.DataAndMetadata | None = None
    """None: the last picture stays."""


class CorrectedItem:
    """The data items that show the corrected live scan, one for each channel.

    Made, shown in the window and closed on the main thread; `show` and `refuse` may be called on
    any. An item of another channel is made when the channel comes for the first time.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the items.
    """

    def __init__(self, window: DocumentController.DocumentController) -> None:
        self._window = window
        self._items = {KEY: LiveItem(window, KEY)}
        self._channels = {KEY: "HAADF"}
        self._hows = {KEY: _("nothing is corrected yet")}
        self._turn = InTurn[_Shown](window, KEY, self._hand_over)
        self._items[KEY].describe(self._title(KEY, is_updated=True), _(WAITING))
        self._last: LiveReport | None = None
        self._shows_raw = False

    @property
    def data_item(self) -> DataItem.DataItem | None:
        """The item of the analysed channel, or None where the user has deleted it."""
        return self._items[KEY].data_item

    @property
    def display_items(self) -> Mapping[str, DisplayItem.DisplayItem | None]:
        """What panels show, by channel; the analysed one first."""
        return MappingProxyType(
            {self._channels[key]: item.display_item for key, item in self._items.items()}
        )

    def show(self, report: "LiveReport") -> None:
        """Show a report's pictures; without one the last picture stays, and the item says why.

        Parameters
        ----------
        report : LiveReport
            The newest.
        """
        self._last, done = report, report.report
        pictures = {} if done is None or done.corrected is None else {KEY: done.corrected}
        for other in report.others:
            pictures[f"{KEY}_{other.channel}"] = other
            self._channels[f"{KEY}_{other.channel}"] = other.channel
        self._channels[KEY] = report.scan[0].channel or self._channels[KEY]
        changes = {}
        for key in list(self._channels):
            corrected = pictures.get(key)
            if corrected is not None:
                self._hows[key] = _how(report)
            changes[key] = _Shown(
                title=self._title(key, is_updated=corrected is not None),
                caption=_caption(report, corrected),
                xdata=None if corrected is None else corrected_xdata(corrected, report=report),
            )
        if self._shows_raw:
            changes[KEY] = self._as_scanned(report)
        self._turn.add(changes)

    def show_raw(self, *, is_wanted: bool) -> None:
        """Show the analysed channel as it was scanned, in the place of its correction, or back.

        Parameters
        ----------
        is_wanted : bool
            Whether to show it; on the main thread.
        """
        self._shows_raw = is_wanted
        if self._last is not None:
            self.show(self._last)

    def _as_scanned(self, report: "LiveReport") -> _Shown:
        frame = report.scan[0]
        title = _("{channel} AS SCANNED (not corrected)").format(channel=self._channels[KEY])
        return _Shown(title=title, caption="", xdata=scanned_xdata(frame))

    def refuse(self, reason: str) -> None:
        """Say why a scan cannot be corrected; the last pictures stay.

        Parameters
        ----------
        reason : str
            One sentence.
        """
        caption = sentence(reason)
        self._turn.add(
            {
                key: _Shown(title=self._title(key, is_updated=False), caption=caption)
                for key in list(self._channels)
            }
        )

    def _title(self, key: str, *, is_updated: bool) -> str:
        how = self._hows.get(key, "")
        title = _("Corrected {channel} ({how})").format(channel=self._channels[key], how=how)
        return title if is_updated else title + _(": not updated")

    def _hand_over(self, key: str, shown: _Shown) -> None:
        if key not in self._items:
            self._items[key] = LiveItem(self._window, key)
        self._items[key].describe(shown.title, shown.caption, shown.xdata)

    def show_in_window(self) -> None:
        """Bring the item into view: where it is, in a panel for results, or in an empty one."""
        workspace, display_item = self._window.workspace, self._items[KEY].display_item
        if workspace is None or display_item is None:
            return
        panels = workspace.display_panels
        if any(panel.display_item is display_item for panel in panels):
            return
        self._window.show_display_item(display_item)
        empty = [
            panel
            for panel in panels
            if panel.display_item is None and panel.display_panel_controller is None
        ]
        if empty and self._window.next_result_display_panel() is None:
            empty[0].set_display_panel_display_item(display_item)

    def close(self) -> None:
        """End the live state, which writes the last pictures to the project."""
        self._turn.close()
        for item in self._items.values():
            item.close()


class AverageItems:
    """The average of the last corrected frames, aligned by the drift, and each pixel's scatter.

    Made and closed on the main thread; `show` may be called on any one thread.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the items.
    frames : int, default: 20
        How many are averaged at most.
    clock_s : callable, optional
        Seconds, from anywhere on.
    """

    def __init__(
        self,
        window: DocumentController.DocumentController,
        frames: int = 20,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._frames, self._clock_s = frames, clock_s
        self._average: DriftAlignedAverage | None = None
        self._items = {key: LiveItem(window, AVERAGE + key) for key in ("", "_std")}
        self._turn = InTurn[_Shown](window, AVERAGE, self._hand_over)
        self._next_s = -np.inf
        self._turn.add(_waiting())

    @property
    def display_items(self) -> Mapping[str, DisplayItem.DisplayItem | None]:
        """What panels show: ``"average"`` and ``"scatter"``."""
        names = zip(("average", "scatter"), self._items.values(), strict=True)
        return MappingProxyType({name: item.display_item for name, item in names})

    def show(self, report: "LiveReport") -> None:
        """Take a frame into the average; one whose place on the sample is unknown is left out.

        Parameters
        ----------
        report : LiveReport
            The newest.
        """
        done = report.report
        is_measured = report.reason is None and done is not None and done.drift_nm is not None
        if is_measured and done is not None and done.corrected is not None:
            average = self._average or _empty_average(self._frames)
            self._average = average.added(
                done.corrected, report.drift_nm[-1], restarted=len(report.drift_nm) == 1
            )
            draw = partial(_pictures, self._average, report, done.corrected)
        else:
            draw = partial(_left_out, report)
        now_s = self._clock_s()
        if now_s >= self._next_s:
            self._next_s = now_s + PERIOD_S
            self._turn.add(draw())

    def _hand_over(self, key: str, shown: _Shown) -> None:
        self._items[key].describe(shown.title, shown.caption, shown.xdata)

    def close(self) -> None:
        """End the live state, which writes the last pictures to the project."""
        self._turn.close()
        for item in self._items.values():
            item.close()


def _empty_average(frames: int) -> "DriftAlignedAverage":
    """Load what is heavy only here, on the session's thread, where it has been loaded already."""
    module = importlib.import_module("nion_distortion.averaging")
    average: DriftAlignedAverage = module.DriftAlignedAverage(capacity=frames)
    return average


def _pictures(
    average: "DriftAlignedAverage", report: "LiveReport", newest: "CorrectedFrame"
) -> dict[str, _Shown]:
    count, frames = average.count, average.frames
    mean = replace(newest, image=average.image, valid=count > 0)
    std = replace(newest, image=average.std, valid=count > 1)
    title = _("Average of {frames} corrected {channel} frames")
    aligned = _("Aligned by the measured drift, on the place of the newest frame. ")
    return {
        "": _Shown(
            title=title.format(frames=frames, channel=newest.channel),
            caption=aligned + _pixel(report, newest),
            xdata=corrected_xdata(mean, report=report, averaged_frames=frames),
        ),
        "_std": _Shown(
            title=_("Standard deviation of each pixel, {frames} frames").format(frames=frames),
            caption=_("Of a single frame's value; zero where fewer than two frames saw the pixel."),
            xdata=corrected_xdata(std, report=report, scatter_of_frames=frames),
        ),
    }


def _waiting() -> dict[str, _Shown]:
    caption = _("Waiting for the first frame that is measured.")
    titles = {"": _("Average of corrected frames"), "_std": _("Standard deviation of each pixel")}
    return {key: _Shown(title=title, caption=caption) for key, title in titles.items()}


def _left_out(report: "LiveReport") -> dict[str, _Shown]:
    reason = report.reason or _("the sample's drift was not measured")
    caption = _("The newest frame is not in it: {reason}.").format(reason=reason.rstrip("."))
    return {key: replace(one, caption=caption) for key, one in _waiting().items()}
