"""The control of a project: what the operator chose, what runs, and what went wrong last."""

import gettext
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from nion.instrumentation import HardwareSource, scan_base
from nion.swift import DocumentController
from nion.utils import Event, ReferenceCounting

from nion_distortion.session_log import SessionLog, methods_paragraph, read_log
from nion_distortion.swift.calibrating import Calibrating
from nion_distortion.swift.choices import Choices
from nion_distortion.swift.feedback import DriftFeedback
from nion_distortion.swift.live import LiveCorrection, View
from nion_distortion.swift.parts import Parts, Storage
from nion_distortion.swift.source import FrameTap, current_scan, scan_sources

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationStore
    from nion_distortion.frame import Frame
    from nion_distortion.live_calibration import CalibrationState
    from nion_distortion.session import LiveReport

__all__ = ["KEPT", "Control"]

_ = gettext.gettext

Window = DocumentController.DocumentController

KEPT = "nion_distortion/choices"
"""Under this name the host keeps what was chosen."""

TASK = "nion_distortion.control"


class Control:
    """Choices, live correction and calibration of one project.

    Everything but the work of the session and of the calibration happens on the main thread.

    Parameters
    ----------
    storage : Storage
        Keeps the choices.
    parts : Parts, optional
        Makes session, calibration and store.
    now_s : callable, optional
        POSIX time.

    Attributes
    ----------
    changed_event : Event
        Fired on the main thread when anything has changed that a panel shows.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        parts: Parts | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.changed_event = Event.Event()
        self._storage, self._parts, self.now_s = storage, parts or Parts(), now_s
        self._choices = Choices.from_text(storage.get_persistent_string(KEPT, ""))
        self._is_held = False
        self._view: View = "corrected"
        self._chained: WeakSet[Window] = WeakSet()
        self._window: Window | None = None
        self._calibrates_in: Window | None = None
        self._tap: FrameTap | None = None
        self._running: LiveCorrection | None = None
        self._feedback: DriftFeedback | None = None
        self._log: SessionLog | None = None
        self._end_log: Callable[[], None] | None = None
        self._calibrating = Calibrating(
            self._parts,
            changed=self._calibration_changed,
            saved=self._calibration_saved,
            now_s=now_s,
        )
        self._last: LiveReport | None = None
        self._message = self._refusal = ""
        removed = HardwareSource.HardwareSourceManager().hardware_source_removed_event
        self._listener: Any = removed.listen(
            ReferenceCounting.weak_partial(Control._source_removed, self)
        )

    # what a panel shows

    @property
    def choices(self) -> Choices:
        """What the operator has chosen."""
        return self._choices

    @property
    def window(self) -> Window | None:
        """Where it runs; None while it does not."""
        return self._window

    @property
    def scan(self) -> scan_base.ScanHardwareSource | None:
        """The chosen scan, or where that is not there the one that the operator looks at."""
        chosen = [one for one in scan_sources() if one.hardware_source_id == self._choices.scan_id]
        return chosen[0] if chosen else current_scan()

    def channel_id(self, scan: scan_base.ScanHardwareSource) -> str:
        """Return the host's id of the analysed channel.

        Parameters
        ----------
        scan : ScanHardwareSource
            The scan.

        Returns
        -------
        str
            That of the first channel where none has the chosen name.
        """
        states = [scan.get_channel_state(index) for index in range(scan.channel_count)]
        named = [one for one in states if one.name == self._choices.channel]
        return (named or states)[0].channel_id or "a"

    @property
    def running(self) -> LiveCorrection | None:
        """What corrects; None while nothing does."""
        return self._running

    @property
    def last(self) -> "LiveReport | None":
        """The newest report."""
        return self._last

    @property
    def calibrating(self) -> "CalibrationState | None":
        """How far the newest calibration has come; None where there was none."""
        return self._calibrating.state

    @property
    def is_calibrating(self) -> bool:
        """Whether a calibration runs."""
        return self._calibrating.is_running

    @property
    def is_held(self) -> bool:
        """Whether the correction is frozen."""
        return self._is_held

    @property
    def view(self) -> View:
        """What the corrected item shows."""
        return self._view

    @property
    def is_logging(self) -> bool:
        """Whether each frame is written into a log."""
        return self._log is not None

    @property
    def is_fed_back(self) -> bool:
        """Whether the scan's centre follows the sample's drift."""
        return self._feedback is not None

    @property
    def is_unsaved(self) -> bool:
        """Whether a calibration was made that could not be saved."""
        return bool(self._calibrating.problem)

    @property
    def message(self) -> str:
        """What went wrong last, one sentence, or nothing."""
        not_logged = "" if self._log is None else self._log.problem
        return self._calibrating.problem or self._message or not_logged or self._refusal

    # what the operator does

    def choose(self, **changes: Any) -> None:
        """Choose anew; what runs follows at the next frame.

        Parameters
        ----------
        **changes : object
            Fields of `Choices`. What cannot be is said in ``message`` and changes nothing.
        """
        try:
            chosen = replace(self._choices, **changes)
        except (TypeError, ValueError) as mistake:
            self._say(str(mistake))
            return
        before, self._choices = self._choices, chosen
        self._storage.set_persistent_string(KEPT, chosen.to_text())
        self._message = ""
        if (chosen.scan_id, chosen.channel) != (before.scan_id, before.channel):
            self._feedback = None  # it was of another scan
            self._listen()
        self._pass_options_on()
        if self._running is not None:
            self._running.follow(chosen)
        self.changed_event.fire()

    def choose_number(self, name: str, text: str | None, kind: Callable[[str], float]) -> None:
        """Choose a number that was typed.

        Parameters
        ----------
        name : str
            Field of `Choices`.
        text : str or None
            What was typed.
        kind : callable
            Reads it: ``int`` or ``float``.
        """
        try:
            value = kind((text or "").strip())
        except ValueError:
            self._say(_("{text!r} is not a number.").format(text=text))
            return
        self.choose(**{name: value})

    def hold(self, is_held: bool) -> None:  # noqa: FBT001  # what a check box says
        """Freeze the correction as it is, or let it follow the frames again.

        Parameters
        ----------
        is_held : bool
            Whether to freeze it.
        """
        self._is_held = is_held
        self._pass_options_on()
        self.changed_event.fire()

    def look(self, view: View) -> None:
        """Show the correction, the scan in its place, or one after the other.

        Parameters
        ----------
        view : {"corrected", "raw", "blink"}
            What to show.
        """
        self._view = view
        if self._running is not None:
            self._running.look(view)
        self.changed_event.fire()

    def record(self) -> None:
        """Keep the newest scan and its correction in the project."""
        if self._running is None or not self._running.record():
            self._say(_("There is nothing to record: no frame has been corrected yet."))

    def feed_back(self, is_wanted: bool) -> None:  # noqa: FBT001  # what a check box says
        """Let the scan's centre follow the sample's drift, or leave it where it is.

        Parameters
        ----------
        is_wanted : bool
            Whether to begin or to end it; it is never begun by itself.
        """
        scan = self.scan if is_wanted and self._running is not None else None
        self._feedback = None if scan is None else DriftFeedback(scan)
        self.changed_event.fire()

    def log_to(self, path: str | PathLike[str]) -> None:
        """Write a row for each frame into a CSV file from now on.

        Parameters
        ----------
        path : path
            A new file, or a log to go on with.
        """
        self.end_log()
        try:
            self._log = SessionLog(path)
        except ValueError as reason:
            self._say(str(reason))
            return
        self._follow_with_log()
        self.changed_event.fire()

    def end_log(self) -> None:
        """Write no more; the file is complete at any time."""
        if self._end_log is not None:
            self._end_log()
        if self._log is not None:
            self._log.close()
        self._log = self._end_log = None
        self.changed_event.fire()

    def describe(self) -> str:
        """Describe what is in the log for a methods section.

        Returns
        -------
        str
            A paragraph; nothing where there is no log, and ``message`` says why.
        """
        if self._log is None:
            self._say(_("Begin a log first: the paragraph has the numbers of what was logged."))
            return ""
        store = self.open_store()
        try:
            known = () if store is None else store.list()
            return methods_paragraph(read_log(self._log.path), calibrations=known)
        except ValueError as reason:
            self._say(str(reason))
            return ""

    def start(self, window: Window) -> None:
        """Correct live.

        Parameters
        ----------
        window : DocumentController
            Where the corrected image is shown.
        """
        if self._running is not None:
            return
        if self.scan is None:
            self._say(_("There is no scan to correct: no scan device is registered."))
            return
        self._stop_with(window)
        self._window, self._message = window, ""
        options = self._choices.live_options(is_held=self._is_held)
        session = self._parts.session(options=options, store=self.open_store())
        self._running = LiveCorrection(window, session, self._choices)
        session.subscribe(partial(self._arrived, window))
        self._follow_with_log()
        self._listen()
        self._running.item.show_in_window()
        self.changed_event.fire()

    def stop(self) -> None:
        """End the live correction; the worker ends after the frame in hand."""
        running, window = self._running, self._window
        self._running = self._feedback = None
        self._view = "corrected"
        self._listen()
        if running is not None:
            running.close()
        if window is not None:
            window.clear_task(TASK)
        self._window = self._calibrates_in if self.is_calibrating else None
        self.changed_event.fire()

    def calibrate(self, window: Window) -> None:
        """Begin a calibration with the frames that come.

        Parameters
        ----------
        window : DocumentController
            The window whose main thread is told.
        """
        if self.is_calibrating:
            return
        if self.scan is None:
            self._say(_("There is no scan to calibrate: no scan device is registered."))
            return
        self._message = ""
        try:
            self._calibrating.begin(window, self._choices, self.open_store())
        except ValueError as reason:
            self._say(str(reason))
            return
        self._stop_with(window)
        self._calibrates_in = window
        self._window = self._window or window  # a correction stays where its items are
        self._listen()
        self.changed_event.fire()

    def cancel_calibration(self) -> None:
        """End the calibration; nothing is kept of it."""
        self._calibrating.cancel()

    def save_calibration(self) -> None:
        """Save a calibration that could not be saved before."""
        self._calibrating.save()
        self.changed_event.fire()

    def stop_all(self) -> None:
        """End the live correction and the calibration, as when the window goes."""
        self._calibrating.close()
        self.stop()

    def close(self) -> None:
        """Stop everything for good."""
        self.stop_all()
        self.end_log()
        self._listener = None

    def open_store(self) -> "CalibrationStore | None":
        """Open the calibrations; where they cannot be opened, ``message`` says why.

        Returns
        -------
        CalibrationStore or None
            None where they cannot be.
        """
        try:
            return self._parts.store()
        except ValueError as damaged:  # live correction goes on without
            self._say(str(damaged))
            return None

    # how it does it

    def _stop_with(self, window: Window) -> None:
        """Stop before a window takes itself apart: later, its thumbnail lists fail."""
        if window in self._chained:
            return
        self._chained.add(window)
        before = window.on_close

        def on_close() -> None:
            self._leave(window)
            if callable(before):
                before()

        window.on_close = on_close

    def _leave(self, window: Window) -> None:
        """Stop what was begun in a window; what another one has begun goes on."""
        if self._calibrates_in is window:
            self._calibrating.close()
            self._calibrates_in = None
        if self._window is window:
            self.stop()
        else:
            self._listen()

    def _follow_with_log(self) -> None:
        if self._log is not None and self._running is not None:
            self._end_log = self._running.session.subscribe(self._log.add)

    def _listen(self) -> None:
        """Listen to the chosen scan while there is anybody to hand its frames to."""
        if self._tap is not None:
            self._tap.close()
            self._tap = None
        receivers = [] if self._running is None else [self._running.session.submit]
        if self.is_calibrating:
            receivers.append(self._calibrating.submit)
        scan = self.scan if receivers else None
        if scan is None:
            return
        self._tap = FrameTap(
            scan,
            partial(_hand_on, tuple(receivers)),
            refuse=self._refused,
            channel=self._choices.channel,
        )

    def _pass_options_on(self) -> None:
        if self._running is not None:
            options = self._choices.live_options(is_held=self._is_held)
            self._running.session.set_options(options)

    def _refused(self, reason: str) -> None:
        """Pass on why a scan cannot be used; on the acquisition thread."""
        window, running = self._window, self._running
        if running is not None:
            running.refuse(reason)
        if window is not None and reason != self._refusal:
            self._refusal = reason
            window.add_task(TASK, self.changed_event.fire)

    def _arrived(self, window: Window, report: "LiveReport") -> None:
        """Take a report; on the session's thread."""
        self._last, self._refusal = report, ""
        window.add_task(TASK, self._show)

    def _show(self) -> None:
        """Follow the newest report; on the main thread."""
        if self._feedback is not None and self._last is not None:
            self._message = self._feedback.follow(self._last)
            if self._message:
                self._feedback = None
        self.changed_event.fire()

    def _calibration_changed(self) -> None:
        if not self.is_calibrating:
            self._listen()
        self.changed_event.fire()

    def _calibration_saved(self) -> None:
        if self._running is not None:
            self._running.session.look_up_again()

    def _source_removed(self, source: HardwareSource.HardwareSource) -> None:
        """Stop where the scan is gone; the host says so on the main thread."""
        if self._tap is not None and self._tap.hardware_source is source:
            self.cancel_calibration()
            self.stop()
            self._say(_("The scan device is gone, so the live correction has stopped."))

    def _say(self, message: str) -> None:
        self._message = message
        self.changed_event.fire()


def _hand_on(
    receivers: "tuple[Callable[[tuple[Frame, ...]], object], ...]", scan: "tuple[Frame, ...]"
) -> None:
    for receiver in receivers:
        receiver(scan)
