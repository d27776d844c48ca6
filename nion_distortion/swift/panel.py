"""The dock panel: a view of a project's control, and its buttons."""

import gettext
from collections.abc import Callable
from typing import Any

from nion.swift import DocumentController, Panel
from nion.ui import Declarative
from nion.utils import ReferenceCounting

from nion_distortion.swift import words
from nion_distortion.swift.choices import SAMPLES
from nion_distortion.swift.control import Control
from nion_distortion.swift.live import View
from nion_distortion.swift.manage import manage_calibrations
from nion_distortion.swift.panel_layout import layout
from nion_distortion.swift.source import scan_sources

__all__ = ["PANEL_ID", "DistortionPanel"]

_ = gettext.gettext

PANEL_ID = "nion-distortion-panel"

Window = DocumentController.DocumentController
CHANNELS = ("HAADF", "MAADF", "BF", "ABF")

VIEWS: tuple[View, ...] = ("corrected", "raw", "blink")

ARROWS = 10.0
"""How much longer the overlay's arrows are than the displacements, at first."""

SHOWN = (
    "view_index", "is_overlaid", "arrows", "averaged",
    "off_by", "corrected", "meaning", "applied", "in_use", "counts", "trouble",
    "calibration_words", "calibration_percent", "hint", "advice", "is_correcting", "is_held",
    "is_fed_back", "is_logging", "log_text", "is_idle", "is_calibrating", "can_calibrate",
    "is_unsaved", "is_reference", "is_cell", "correct_text", "sample_index", "applied_index",
    "scan_names", "scan_index", "channel", "frames", "stop_pm", "sample_name", "a_nm", "b_nm",
    "gamma_deg",
)  # fmt: skip
"""What may have changed when the control says so."""


class _Handler(Declarative.Handler):
    """What the panel shows of a control, and what its widgets do: names for the layout."""

    def __init__(
        self, window: Window, control: Control, show_workspace: Callable[[Window], object]
    ) -> None:
        super().__init__()
        self._window, self._control = window, control
        self._show_workspace = show_workspace
        self._shown: dict[str, Any] = {}
        self._listener: Any = control.changed_event.listen(
            ReferenceCounting.weak_partial(_Handler._changed, self)
        )
        self.ui_view = layout()

    def close(self) -> None:
        """Stop listening."""
        self._listener = None
        super().close()

    def _changed(self) -> None:
        """Tell the widgets of what is new; called at each frame, so of nothing else."""
        for name in SHOWN:
            value = getattr(self, name)
            if name not in self._shown or self._shown[name] != value:
                self._shown[name] = value
                self.notify_property_changed(name)

    # scan

    @property
    def scan_names(self) -> list[str]:
        """Names of the scans to choose from."""
        return [one.display_name for one in scan_sources()] or [_("no scan device")]

    @property
    def scan_index(self) -> int:
        """Which of them is chosen."""
        scan = self._control.scan
        ids = [one.hardware_source_id for one in scan_sources()]
        return ids.index(scan.hardware_source_id) if scan is not None else 0

    @scan_index.setter
    def scan_index(self, index: int | None) -> None:
        ids = [one.hardware_source_id for one in scan_sources()]
        if index is not None and index < len(ids):
            self._control.choose(scan_id=ids[index])

    @property
    def channel(self) -> str:
        """Name of the analysed channel."""
        return self._control.choices.channel

    @channel.setter
    def channel(self, name: str | None) -> None:
        if name:
            self._control.choose(channel=name.strip())

    # sample

    @property
    def sample_index(self) -> int:
        """Which kind of sample is chosen."""
        return SAMPLES.index(self._control.choices.sample)

    @sample_index.setter
    def sample_index(self, index: int | None) -> None:
        if index is not None:
            self._control.choose(sample=SAMPLES[index])

    @property
    def is_reference(self) -> bool:
        """Whether the sample is a reference."""
        return self._control.choices.is_reference

    @property
    def is_cell(self) -> bool:
        """Whether the cell is typed in."""
        return self._control.choices.sample == "cell"

    @property
    def a_nm(self) -> str:
        """First edge of the cell."""
        return f"{self._control.choices.cell[0]:g}"

    @a_nm.setter
    def a_nm(self, text: str | None) -> None:
        self._choose_cell(0, text)

    @property
    def b_nm(self) -> str:
        """Second edge of the cell."""
        return f"{self._control.choices.cell[1]:g}"

    @b_nm.setter
    def b_nm(self, text: str | None) -> None:
        self._choose_cell(1, text)

    @property
    def gamma_deg(self) -> str:
        """Angle of the cell."""
        return f"{self._control.choices.cell[2]:g}"

    @gamma_deg.setter
    def gamma_deg(self, text: str | None) -> None:
        self._choose_cell(2, text)

    def _choose_cell(self, index: int, text: str | None) -> None:
        cell: list[Any] = list(self._control.choices.cell)
        cell[index] = text
        self._control.choose(cell=tuple(cell))

    @property
    def applied_index(self) -> int:
        """What is applied: 0 the frame's own lattice, 1 the stored calibration."""
        choices = self._control.choices
        return int(choices.applied == "calibration" or not choices.is_reference)

    @applied_index.setter
    def applied_index(self, index: int | None) -> None:
        if index is not None and self.is_reference:
            self._control.choose(applied=("own lattice", "calibration")[index])

    # live correction

    @property
    def is_correcting(self) -> bool:
        """Whether live frames are corrected."""
        return self._control.running is not None

    @property
    def correct_text(self) -> str:
        """Words on the button."""
        return _("Stop Correcting") if self.is_correcting else _("Correct Live")

    @property
    def is_held(self) -> bool:
        """Whether the correction is frozen."""
        return self._control.is_held

    @is_held.setter
    def is_held(self, is_held: bool) -> None:
        self._control.hold(is_held)

    @property
    def is_fed_back(self) -> bool:
        return self._control.is_fed_back

    @is_fed_back.setter
    def is_fed_back(self, is_wanted: bool) -> None:
        self._control.feed_back(is_wanted)

    @property
    def view_index(self) -> int:
        return VIEWS.index(self._control.view)

    @view_index.setter
    def view_index(self, index: int | None) -> None:
        if index is not None and VIEWS[index] != self._control.view:
            self._control.look(VIEWS[index])

    @property
    def is_overlaid(self) -> bool:
        return self._control.choices.arrows > 0

    @is_overlaid.setter
    def is_overlaid(self, is_wanted: bool) -> None:
        self._control.choose(arrows=ARROWS if is_wanted else 0.0)

    @property
    def arrows(self) -> str:
        return f"{self._control.choices.arrows:g}"

    @arrows.setter
    def arrows(self, text: str | None) -> None:
        self._control.choose_number("arrows", text, float)

    @property
    def averaged(self) -> str:
        return str(self._control.choices.averaged)

    @averaged.setter
    def averaged(self, text: str | None) -> None:
        self._control.choose_number("averaged", text, int)

    @property
    def is_logging(self) -> bool:
        return self._control.is_logging

    @property
    def log_text(self) -> str:
        return _("End Log") if self.is_logging else _("Log...")

    @property
    def off_by(self) -> str:
        """How far off the picture is."""
        return words.headline(self._control.last)[0]

    @property
    def corrected(self) -> str:
        """How far off it is when corrected."""
        return words.headline(self._control.last)[1]

    @property
    def meaning(self) -> str:
        """What these numbers are."""
        return words.headline(self._control.last)[2]

    @property
    def applied(self) -> str:
        """What corrects the picture."""
        return words.applied(self._control.last)

    @property
    def in_use(self) -> str:
        """The calibration in use."""
        return words.in_use(self._control.last, self._control.now_s())

    @property
    def counts(self) -> str:
        """What became of the frames."""
        running = self._control.running
        return words.counts(None if running is None else running.session.counts)

    @property
    def trouble(self) -> str:
        """What is wrong."""
        control = self._control
        return words.trouble(control.message, control.last, control.choices)

    # calibration

    @property
    def is_idle(self) -> bool:
        """Whether no calibration runs."""
        return not self.is_calibrating

    @property
    def is_calibrating(self) -> bool:
        """Whether a calibration runs."""
        return self._control.is_calibrating

    @property
    def can_calibrate(self) -> bool:
        """Whether one may be begun."""
        return self.is_reference and not self.is_calibrating

    @property
    def is_unsaved(self) -> bool:
        """Whether a calibration was made that could not be saved."""
        return self._control.is_unsaved

    @property
    def frames(self) -> str:
        """Frames of a calibration."""
        return str(self._control.choices.frames)

    @frames.setter
    def frames(self, text: str | None) -> None:
        self._control.choose_number("frames", text, int)

    @property
    def stop_pm(self) -> str:
        """Predicted error that is good enough, pm."""
        value = self._control.choices.stop_pm
        return f"{value:g}" if value else ""

    @stop_pm.setter
    def stop_pm(self, text: str | None) -> None:
        self._control.choose_number("stop_pm", text or "0", float)

    @property
    def sample_name(self) -> str:
        """What a calibration is said to be made on."""
        return self._control.choices.sample_name

    @sample_name.setter
    def sample_name(self, text: str | None) -> None:
        self._control.choose(sample_name=(text or "").strip())

    @property
    def calibration_words(self) -> str:
        """How far the calibration has come."""
        return words.calibration_progress(self._control.calibrating, self._control.choices)[0]

    @property
    def calibration_percent(self) -> int:
        """The same for the bar."""
        return words.calibration_progress(self._control.calibrating, self._control.choices)[1]

    @property
    def hint(self) -> str:
        """Whether the microscope is set up well enough."""
        report = None if self._control.last is None else self._control.last.report
        return (
            "" if report is None or report.hints is None else words.sentence(report.hints.sentence)
        )

    @property
    def advice(self) -> str:
        """What a longer fly-back would gain."""
        report = None if self._control.last is None else self._control.last.report
        if report is None or report.advice is None:
            return ""
        return words.sentence(report.advice.sentence)

    # buttons

    def correct_clicked(self, _widget: Any) -> None:
        """Start or stop the live correction."""
        if self.is_correcting:
            self._control.stop()
        else:
            self._control.start(self._window)

    def calibrate_clicked(self, _widget: Any) -> None:
        """Begin a calibration."""
        self._control.calibrate(self._window)

    def cancel_clicked(self, _widget: Any) -> None:
        """Cancel the calibration."""
        self._control.cancel_calibration()

    def save_clicked(self, _widget: Any) -> None:
        """Try once more to save the calibration."""
        self._control.save_calibration()
        self._changed()

    def record_clicked(self, _widget: Any) -> None:
        """Keep scan and correction."""
        self._control.record()

    def log_clicked(self, _widget: Any) -> None:
        """Begin a log, or end it."""
        if self.is_logging:
            self._control.end_log()
            return
        path, _filter, _folder = self._window.ui.get_save_file_path(
            _("Log of This Session"), "", "CSV (*.csv)"
        )
        if path:
            self._control.log_to(path)

    def methods_clicked(self, _widget: Any) -> None:
        """Put a paragraph for a methods section into the clipboard."""
        paragraph = self._control.describe()
        if paragraph:
            self._window.ui.clipboard_set_text(paragraph)

    def manage_clicked(self, _widget: Any) -> None:
        """Open the window in which calibrations are looked after."""
        store = self._control.open_store()
        if store is not None:
            manage_calibrations(self._window, store)

    def workspace_clicked(self, _widget: Any) -> None:
        """Open the workspace."""
        self._show_workspace(self._window)


class DistortionPanel(Panel.Panel):
    """The panel as the host makes it.

    Parameters
    ----------
    window : DocumentController
        Its window.
    control : Control
        Of the window's project.
    show_workspace : callable
        Opens the workspace in a window.
    """

    def __init__(
        self, window: Window, control: Control, show_workspace: Callable[[Window], object]
    ) -> None:
        super().__init__(window, PANEL_ID, _("Distortion Correction"))
        self.handler = _Handler(window, control, show_workspace)
        self.widget = Declarative.DeclarativeWidget(window.ui, window.event_loop, self.handler)
