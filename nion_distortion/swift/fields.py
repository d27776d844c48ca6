"""Fields of the panel: what the operator chooses, and types in."""

import gettext
from collections.abc import Callable, Iterable
from typing import Any

from nion.ui import Declarative

from nion_distortion.swift.choices import SAMPLES
from nion_distortion.swift.control import Control
from nion_distortion.swift.source import channel_names, scan_sources

__all__ = ["FIELDS", "FieldsHandler"]

_ = gettext.gettext

ARROWS = 10.0
"""How much longer the overlay's arrows are than the displacements, at first."""

APPLIED = ("own lattice", "calibration")

FIELDS = (
    "scan_names", "scan_index", "channels", "channel_index", "is_raster", "sample_index",
    "is_reference", "is_cell", "a_nm", "b_nm", "gamma_deg", "applied_index", "is_overlaid",
    "arrows", "averaged", "frames", "stop_pm", "sample_name",
)  # fmt: skip
"""Names for the layout."""


def _number(name: str, kind: Callable[[str], float]) -> property:
    """Return a number that is typed."""

    def read(self: "FieldsHandler") -> str:
        return f"{getattr(self._control.choices, name):g}"

    def choose(self: "FieldsHandler", text: str | None) -> None:
        self._control.choose_number(name, text, kind)

    return property(read, choose)


def _of_cell(index: int) -> property:
    """Return an edge of the cell, or its angle."""

    def read(self: "FieldsHandler") -> str:
        return f"{self._control.choices.cell[index]:g}"

    def choose(self: "FieldsHandler", text: str | None) -> None:
        cell = list(self._control.choices.cell)

        def with_it(typed: str) -> tuple[float, ...]:
            cell[index] = float(typed)
            return tuple(cell)

        self._control.choose_number("cell", text, with_it)

    return property(read, choose)


class FieldsHandler(Declarative.Handler):
    """What is chosen, as widgets show it, and the choice that they make.

    Parameters
    ----------
    control : Control
        Keeps what is chosen.
    """

    def __init__(self, control: Control) -> None:
        super().__init__()
        self._control = control
        self._told: dict[str, Any] = {}
        self._is_telling = False

    def tell(self, names: Iterable[str]) -> None:
        """Tell the widgets of what may have changed; what they answer is no choice.

        Parameters
        ----------
        names : iterable of str
            Which properties; of those that are as they were nobody is told.
        """
        self._is_telling = True  # a list that gets new items chooses one by itself for a moment
        try:
            for name in names:
                value = getattr(self, name)
                if name not in self._told or self._told[name] != value:
                    self._told[name] = value
                    self.notify_property_changed(name)
        finally:
            self._is_telling = False

    def _choose(self, name: str, values: "tuple[Any, ...] | list[Any]", index: int | None) -> None:
        """Choose the value of a list's line that the operator, and not the list, has chosen."""
        if not self._is_telling and index is not None and 0 <= index < len(values):
            self._control.choose(**{name: values[index]})

    # scan

    @property
    def scan_names(self) -> list[str]:
        """The scans to choose from, by their names."""
        return [one.display_name for one in scan_sources()] or [_("no scan device")]

    def _scan_index(self) -> int:
        scans, scan = scan_sources(), self._control.scan
        return scans.index(scan) if scan in scans else 0

    def _choose_scan(self, index: int | None) -> None:
        self._choose("scan_id", [one.hardware_source_id for one in scan_sources()], index)

    @property
    def channels(self) -> list[str]:
        """The scan's channels to choose from, by their names."""
        scan = self._control.scan
        return [self._control.choices.channel] if scan is None else channel_names(scan)

    def _channel_index(self) -> int:
        names, chosen = self.channels, self._control.choices.channel
        return names.index(chosen) if chosen in names else 0

    def _choose_channel(self, index: int | None) -> None:
        self._choose("channel", self.channels, index)

    def _is_raster(self) -> bool:
        return self._control.choices.is_raster

    def _choose_raster(self, is_declared: bool) -> None:  # noqa: FBT001  # what a check box says
        self._control.choose(is_raster=is_declared)

    is_raster = property(_is_raster, _choose_raster)
    scan_index = property(_scan_index, _choose_scan)
    channel_index = property(_channel_index, _choose_channel)

    # sample

    @property
    def is_reference(self) -> bool:
        """Whether the sample is a reference."""
        return self._control.choices.is_reference

    @property
    def is_cell(self) -> bool:
        """Whether the cell is typed in."""
        return self._control.choices.sample == "cell"

    def _sample_index(self) -> int:
        return SAMPLES.index(self._control.choices.sample)

    def _choose_sample(self, index: int | None) -> None:
        self._choose("sample", SAMPLES, index)

    def _applied_index(self) -> int:
        choices = self._control.choices
        return APPLIED.index(choices.applied if choices.is_reference else "calibration")

    def _choose_applied(self, index: int | None) -> None:
        if self.is_reference:
            self._choose("applied", APPLIED, index)

    sample_index = property(_sample_index, _choose_sample)
    applied_index = property(_applied_index, _choose_applied)
    a_nm, b_nm, gamma_deg = (_of_cell(index) for index in range(3))

    # what is seen beside the corrected picture

    def _is_overlaid(self) -> bool:
        return self._control.choices.arrows > 0

    def _choose_overlay(self, is_wanted: bool) -> None:  # noqa: FBT001  # what a check box says
        self._control.choose(arrows=ARROWS if is_wanted else 0.0)

    is_overlaid = property(_is_overlaid, _choose_overlay)
    arrows, averaged = _number("arrows", float), _number("averaged", int)

    # calibration

    def _stop_pm(self) -> str:
        value = self._control.choices.stop_pm
        return f"{value:g}" if value else ""

    def _choose_stop(self, text: str | None) -> None:
        self._control.choose_number("stop_pm", text or "0", float)

    def _sample_name(self) -> str:
        return self._control.choices.sample_name

    def _choose_name(self, text: str | None) -> None:
        self._control.choose(sample_name=(text or "").strip())

    frames = _number("frames", int)
    stop_pm = property(_stop_pm, _choose_stop)
    sample_name = property(_sample_name, _choose_name)
