"""Results -> data items that stay the same while their pictures change."""

import gettext
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from nion.data import DataAndMetadata
from nion.swift import DocumentController
from nion.swift.model import DataItem, DisplayItem

from nion_distortion.swift.captions import caption_of, pixel_size
from nion_distortion.swift.items import InTurn, LiveItem, Pace, bring_into_view
from nion_distortion.swift.phrases import sentence, translated
from nion_distortion.swift.xdata import corrected_xdata, scanned_xdata

if TYPE_CHECKING:
    from nion_distortion.averaging import DriftAlignedAverage
    from nion_distortion.correction import CorrectedFrame
    from nion_distortion.session import LiveReport

__all__ = ["AverageItems", "CorrectedItem"]

_ = gettext.gettext

KEY = "nion_distortion_corrected"
"""Finds the same data item again at the next start; other channels' end in their names."""

AVERAGE = "nion_distortion_average"
"""Begins the keys of the average and of its scatter."""

WAITING = _(
    "Waiting for the first frame of the scan. The first time that a frame is corrected, "
    "preparing for it takes up to a minute."
)


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
        self._shown: set[str] = set()
        self._turn = InTurn[_Shown](window, KEY, self._hand_over)
        self._items[KEY].describe(self._title(KEY, is_updated=True), WAITING)
        self._last: LiveReport | None = None
        self._shows_raw = False

    @property
    def data_item(self) -> DataItem.DataItem | None:
        """The item of the analysed channel, or None where the user has deleted it."""
        return self._items[KEY].data_item

    @property
    def display_item(self) -> DisplayItem.DisplayItem | None:
        """What shows the channel that the distortion is found on; None where it was deleted."""
        return self._items[KEY].display_item

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
                self._shown.add(key)
            changes[key] = _Shown(
                title=self._title(key, is_updated=corrected is not None),
                caption=caption_of(report, corrected),
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
        title = _("{channel} AS SCANNED").format(channel=self._channels[KEY])
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
        """Name it in a word or two: beside the average, a panel has room for no more."""
        if key not in self._shown:
            title = _("Corrected: none yet")
        else:
            title = _("Corrected {channel}") if is_updated else _("{channel}: old")
        return title.format(channel=self._channels[key])

    def _hand_over(self, key: str, shown: _Shown) -> None:
        if key not in self._items:
            self._items[key] = LiveItem(self._window, key)
        self._items[key].describe(shown.title, shown.caption, shown.xdata)

    def show_in_window(self) -> None:
        """Bring the item into view: where it is, in a panel for results, or in an empty one."""
        bring_into_view(self._window, self.display_item)

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
        self._window, self._frames, self._pace = window, frames, Pace(clock_s)
        self._average: DriftAlignedAverage | None = None
        self._items = {key: LiveItem(window, AVERAGE + key) for key in ("", "_std")}
        self._turn = InTurn[_Shown](window, AVERAGE, self._hand_over)
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
            draw = partial(_left_out, report, is_old=self._average is not None)
        if self._pace.is_due(report):
            self._turn.add(draw())

    def show_in_window(self, beside: DisplayItem.DisplayItem | None = None) -> None:
        """Bring the average into view.

        Parameters
        ----------
        beside : DisplayItem, optional
            Whose panel is divided if no other is free.
        """
        bring_into_view(self._window, self._items[""].display_item, beside)

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
    aligned = _(
        "Corrected {channel} frames, aligned by the measured drift, on the place of the newest "
        "frame. "
    ).format(channel=newest.channel)
    return {
        "": _Shown(
            title=_("Mean of {frames} frames").format(frames=frames),
            caption=aligned + pixel_size(report, newest),
            xdata=corrected_xdata(mean, report=report, averaged_frames=frames),
        ),
        "_std": _Shown(
            title=_("Std of {frames} frames").format(frames=frames),
            caption=_(
                "Standard deviation of each pixel, of a single frame's value; zero where fewer "
                "than two frames saw the pixel."
            ),
            xdata=corrected_xdata(std, report=report, scatter_of_frames=frames),
        ),
    }


def _waiting() -> dict[str, _Shown]:
    return _without(_("none yet"), _("Waiting for the first frame that is measured."))


def _left_out(report: "LiveReport", *, is_old: bool) -> dict[str, _Shown]:
    reason = translated(report.reason or "") or _("the sample's drift was not measured")
    caption = _("The newest frame is not in it: {reason}.").format(reason=reason.rstrip("."))
    return _without(_("old") if is_old else _("none yet"), caption)


def _without(state: str, caption: str) -> dict[str, _Shown]:
    """Say why there is no new picture."""
    titles = {"": _("Mean: {state}"), "_std": _("Std: {state}")}
    return {
        key: _Shown(title=title.format(state=state), caption=caption)
        for key, title in titles.items()
    }
