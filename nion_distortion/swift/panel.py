"""The dock panel: a view of a project's control, and its buttons."""

import gettext
from collections.abc import Callable
from typing import Any

from nion.swift import DocumentController, Panel
from nion.ui import Declarative
from nion.utils import ReferenceCounting

from nion_distortion.swift import words
from nion_distortion.swift.control import Control
from nion_distortion.swift.fields import FIELDS, FieldsHandler
from nion_distortion.swift.live import View
from nion_distortion.swift.manage import manage_calibrations
from nion_distortion.swift.panel_layout import layout

__all__ = ["PANEL_ID", "DistortionPanel"]

_ = gettext.gettext

PANEL_ID = "nion-distortion-panel"

Window = DocumentController.DocumentController
VIEWS: tuple[View, ...] = ("corrected", "raw", "blink")

SHOWN = (
    *FIELDS,
    "view_index", "off_by", "corrected", "meaning", "applied", "in_use", "counts", "trouble",
    "calibration_words", "calibration_percent", "hint", "advice", "is_correcting", "is_held",
    "is_fed_back", "is_logging", "log_text", "is_calibrating", "can_calibrate", "is_unsaved",
    "correct_text", "said", "has_hint", "has_advice", "has_progress", "has_said",
    "has_trouble",
)  # fmt: skip
"""What may have changed when the control says so."""


def _says(name: str) -> property:
    """Return whether there is a text; without one its place is left to what is below."""
    return property(lambda self: bool(getattr(self, name)))


class _Handler(FieldsHandler):
    """What the panel shows of a control, and what its widgets do: names for the layout."""

    def __init__(
        self, window: Window, control: Control, show_workspace: Callable[[Window], object]
    ) -> None:
        super().__init__(control)
        self._window, self._show_workspace = window, show_workspace
        self._listener: Any = control.changed_event.listen(
            ReferenceCounting.weak_partial(_Handler._changed, self)
        )
        self.ui_view = layout()

    def close(self) -> None:
        """Stop listening."""
        self._listener = None
        super().close()

    def _changed(self) -> None:
        """Tell the widgets of what is new; called at each frame."""
        self.tell(SHOWN)

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
        """Whether the scan's centre follows the sample's drift."""
        return self._control.is_fed_back

    @is_fed_back.setter
    def is_fed_back(self, is_wanted: bool) -> None:
        self._control.feed_back(is_wanted)

    @property
    def view_index(self) -> int:
        """What the corrected item shows."""
        return VIEWS.index(self._control.view)

    @view_index.setter
    def view_index(self, index: int | None) -> None:
        if index is not None and VIEWS[index] != self._control.view:
            self._control.look(VIEWS[index])

    @property
    def is_logging(self) -> bool:
        """Whether each frame is written into a log."""
        return self._control.is_logging

    @property
    def log_text(self) -> str:
        """Words on the button."""
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
        """What these numbers are, or why there are none yet."""
        if self.is_correcting and self._control.last is None:
            return words.waiting()
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
        """What is wrong, and what helps."""
        control = self._control
        last = None if control.is_refused else control.last  # a newer scan than its was refused
        return words.trouble(control.message, last, control.choices)

    @property
    def said(self) -> str:
        """What was done last, and what is being logged."""
        return self._control.said

    # calibration

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
        return words.set_up(self._control.set_up, is_checking=self._control.is_checking)

    @property
    def advice(self) -> str:
        """What a longer fly-back would gain."""
        return words.advice(self._control.last, self._control.set_up)

    has_hint, has_advice, has_said = (_says(name) for name in ("hint", "advice", "said"))
    has_progress, has_trouble = _says("calibration_words"), _says("trouble")

    # buttons

    def correct_clicked(self, _widget: Any) -> None:
        """Start or stop the live correction."""
        if self.is_correcting:
            self._control.stop()
        else:
            self._control.start(self._window)

    def check_clicked(self, _widget: Any) -> None:
        """Look at the set-up."""
        self._control.check_set_up(self._window)

    def calibrate_clicked(self, _widget: Any) -> None:
        """Begin a calibration."""
        self._control.calibrate(self._window)

    def cancel_clicked(self, _widget: Any) -> None:
        """Cancel the calibration."""
        self._control.cancel_calibration()

    def save_clicked(self, _widget: Any) -> None:
        """Try once more to save the calibration."""
        self._control.save_calibration()

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
            self._control.tell(_("A paragraph for a methods section is in the clipboard."))

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
