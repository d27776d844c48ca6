"""Results -> data items: calibrated in nm, with everything recorded that made them."""

import copy
import dataclasses
import datetime
import gettext
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.swift import DocumentController
from nion.swift.model import DataItem

from nion_distortion._plain import as_plain
from nion_distortion.frame import ScanSettings

if TYPE_CHECKING:
    from nion_distortion.correction import CorrectedFrame
    from nion_distortion.session import LiveReport

__all__ = ["CorrectedItem", "corrected_xdata"]

_ = gettext.gettext

KEY = "nion_distortion_corrected"
"""Finds the same data item again at the next start."""

METADATA = "nion_distortion"
"""Our own block of metadata."""

FORMAT = 1
"""Version of that block."""

WAITING = (
    "Waiting for the first frame of the scan. The first time that a frame is corrected, "
    "preparing for it takes up to a minute."
)

EMPTY_PX = 64
"""Side of the picture that is shown until the first frame has come."""


def corrected_xdata(
    corrected: "CorrectedFrame", *, report: "LiveReport"
) -> DataAndMetadata.DataAndMetadata:
    """Return a corrected frame as the host's kind of image.

    Parameters
    ----------
    corrected : CorrectedFrame
        The analysed channel of the report, or another one.
    report : LiveReport
        What it belongs to.

    Returns
    -------
    DataAndMetadata
        In nm, with the scan's metadata. The host's ``hardware_source`` block is moved under our
        own key: left where it was, the host would take the item for the scan's own live view.
    """
    metadata = dict(copy.deepcopy(corrected.provenance.get("metadata", {})))
    metadata[METADATA] = _record(corrected, report) | {
        "hardware_source": metadata.pop("hardware_source", {})
    }
    return DataAndMetadata.new_data_and_metadata(
        corrected.image,
        Calibration.Calibration(units=str(corrected.provenance.get("intensity_units", ""))),
        _calibrations(corrected, metadata),
        metadata,
        _timestamp(corrected.time_s),
    )


def _timestamp(time_s: float | None) -> datetime.datetime | None:
    """Return a POSIX time as the host keeps it: UTC, but without saying so."""
    if time_s is None:
        return None
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).replace(tzinfo=None)


def _calibrations(
    corrected: "CorrectedFrame", metadata: Mapping[str, Any]
) -> list[Calibration.Calibration]:
    """Return the axes in nm around the scan's centre, from what the device reported."""
    reported = metadata.get("scan", {}).get("scan_device_properties", {})
    center_nm = reported.get("center_nm") or [
        reported.get("center_y_nm", 0.0),
        reported.get("center_x_nm", 0.0),
    ]
    shape, nominal_nm = corrected.settings.shape_px, corrected.settings.pixel_size_nm
    middle_px = [length / 2 for length in shape]
    if corrected.settings.subscan_px is not None:
        *context, top, left = corrected.settings.subscan_px
        context_nm = reported["fov_nm"] / max(context)
        first_px = (top, left)
        middle_px = [
            (context[axis] / 2 - first_px[axis]) * context_nm / nominal_nm for axis in range(2)
        ]
    scale_nm = corrected.pixel_size_nm
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
    values = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    return values | {"extra": dict(settings.extra)}


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:].rstrip(".") + "." if reason else ""


class CorrectedItem:
    """The data item that shows the corrected live scan; found again by its key.

    Made, started, stopped and described on the main thread; `show` may be called on any.

    Parameters
    ----------
    window : DocumentController
        The window whose project holds the item.
    """

    def __init__(self, window: DocumentController.DocumentController) -> None:
        self._window, self._document = window, window.document_model
        self._reference = self._document.get_data_item_reference(KEY)
        self._state: tuple[str, str, bool] = ("", "", False)
        if self._reference.data_item is None:
            self._make()
        self._is_live = True
        self._reference.start()
        self._describe("HAADF", _(WAITING), updated=True)

    @property
    def data_item(self) -> DataItem.DataItem | None:
        """The item, or None where the user has deleted it."""
        return self._reference.data_item

    def show(self, report: "LiveReport") -> None:
        """Show a report's picture; without one the last picture stays, and the item says why.

        Parameters
        ----------
        report : LiveReport
            The newest.
        """
        data_item = self._reference.data_item
        if not self._is_live or data_item is None:
            return
        corrected = None if report.report is None else report.report.corrected
        if corrected is not None:
            xdata = corrected_xdata(corrected, report=report)
            # thread-safe, the newest wins, applied in the next tick of the window; it is what
            # the host uses for its own live items
            self._document._queue_data_item_update(data_item, xdata)  # noqa: SLF001
        reason = _sentence(report.reason or "")
        self._say(report.scan[0].channel, reason, updated=corrected is not None)

    def refuse(self, reason: str) -> None:
        """Say why a scan cannot be corrected; the last picture stays.

        Parameters
        ----------
        reason : str
            One sentence.
        """
        self._say("", _sentence(reason), updated=False)

    def _say(self, channel: str, reason: str, *, updated: bool) -> None:
        """Describe the item on the main thread, where something has changed."""
        state = (channel or self._state[0], reason, updated)
        if self._is_live and state != self._state:
            self._state = state
            describe = partial(self._describe, state[0], reason, updated=updated)
            self._window.add_task(KEY, describe)

    def show_in_window(self) -> None:
        """Bring the item into view: where it is, in a panel for results, or in an empty one."""
        workspace, data_item = self._window.workspace, self._reference.data_item
        if workspace is None or data_item is None:
            return
        panels = workspace.display_panels
        display_item = self._document.get_display_item_for_data_item(data_item)
        if display_item is None or any(panel.display_item is display_item for panel in panels):
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
        """End the live state, which writes the last picture to the project."""
        if self._is_live:
            self._is_live = False
            self._window.clear_task(KEY)
            self._describe(self._state[0] or "HAADF", "", updated=True)
            self._reference.stop()

    def _make(self) -> None:
        data_item = DataItem.new_data_item(np.zeros((EMPTY_PX, EMPTY_PX), np.float32))
        data_item.category = "temporary"  # as the scan's own live items
        self._document.append_data_item(data_item)
        self._document.setup_channel(KEY, data_item)

    def _describe(self, channel: str, reason: str, *, updated: bool) -> None:
        data_item = self._reference.data_item
        if data_item is None:
            return
        title = _("Corrected {channel} (the sample is taken as the reference)")
        stands_still = "" if updated else _(": not updated")
        data_item.title = title.format(channel=channel) + stands_still
        data_item.caption = reason
