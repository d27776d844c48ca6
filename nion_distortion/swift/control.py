"""The control of a project: what the operator chose, did, and is told."""

import gettext
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from nion.instrumentation import HardwareSource, scan_base
from nion.swift import DocumentController
from nion.utils import Event, ReferenceCounting

from nion_distortion.swift.checking import SetUp
from nion_distortion.swift.choices import Choices
from nion_distortion.swift.journal import Journal
from nion_distortion.swift.live import LiveCorrection, View
from nion_distortion.swift.parts import Parts, Storage
from nion_distortion.swift.source import chosen_scan
from nion_distortion.swift.work import Work

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationStore
    from nion_distortion.live_calibration import CalibrationState
    from nion_distortion.session import LiveReport

__all__ = ["KEPT", "Control"]

_ = gettext.gettext

Window = DocumentController.DocumentController

KEPT = "nion_distortion/choices"
"""Under this name the host keeps what was chosen."""


class Control:
    """Choices, live correction and calibration of one project.

    Everything but the work of the session and of the calibration happens on the main thread.

    Parameters
    ----------
    storage : Storage
        Keeps the choices.
    parts : Parts, optional
        Makes session, calibration and store.
    first : str, default: ""
        Choices as `Choices.to_text` writes them, where none were kept.
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
        first: str = "",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.changed_event = Event.Event()
        self._storage, self._parts, self.now_s = storage, parts or Parts(), now_s
        self._choices = Choices.from_text(storage.get_persistent_string(KEPT, first))
        self._is_held = self._is_closed = False
        self._view: View = "corrected"
        self._journal = Journal()
        self._message = self._no_store = self._said = ""
        self._work = Work(
            self._parts, self._choices, changed=self._changed, say=self._say, now_s=now_s
        )
        sources = HardwareSource.HardwareSourceManager()
        removed, added = sources.hardware_source_removed_event, sources.hardware_source_added_event
        self._listeners: tuple[Any, ...] = (
            removed.listen(ReferenceCounting.weak_partial(Control._source_removed, self)),
            added.listen(ReferenceCounting.weak_partial(Control._source_added, self)),
        )

    # what a panel shows

    @property
    def choices(self) -> Choices:
        """What the operator has chosen."""
        return self._choices

    @property
    def window(self) -> Window | None:
        """Where something runs; None while nothing does."""
        return self._work.window

    @property
    def scan(self) -> scan_base.ScanHardwareSource | None:
        """The chosen scan, or where that is not there the one that the operator looks at."""
        return chosen_scan(self._choices.scan_id)

    @property
    def running(self) -> LiveCorrection | None:
        """What corrects; None while nothing does."""
        return self._work.running

    @property
    def last(self) -> "LiveReport | None":
        """The newest report of what corrects."""
        return self._work.last

    @property
    def set_up(self) -> SetUp | None:
        """How well the microscope is set up, by what has looked at it last."""
        return self._work.set_up

    @property
    def calibrating(self) -> "CalibrationState | None":
        """How far the newest calibration has come; None where there was none."""
        return self._work.calibrating.state

    @property
    def is_calibrating(self) -> bool:
        """Whether a calibration runs."""
        return self._work.calibrating.window is not None

    @property
    def is_checking(self) -> bool:
        """Whether a frame is awaited that shows how well the microscope is set up."""
        return self._work.checking.window is not None

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
        return self._journal.is_open

    @property
    def is_fed_back(self) -> bool:
        """Whether the scan's centre follows the sample's drift."""
        return self._work.is_fed_back

    @property
    def is_unsaved(self) -> bool:
        """Whether a calibration was made that could not be saved."""
        return bool(self._work.calibrating.problem)

    @property
    def is_refused(self) -> bool:
        """Whether the newest scan could not be taken at all."""
        return bool(self._work.refusal)

    @property
    def message(self) -> str:
        """What went wrong last, one sentence, or nothing."""
        lasting = self._no_store or self._journal.problem or self._work.refusal
        return self._work.calibrating.problem or self._message or lasting

    @property
    def said(self) -> str:
        """What was done last, and what is being logged."""
        return " ".join(filter(None, (self._said, self._journal.words)))

    # what the operator does

    def choose(self, **changes: Any) -> None:
        """Choose anew; what runs follows at the next frame.

        Parameters
        ----------
        **changes : object
            Fields of `Choices`. What cannot be is said in ``message`` and changes nothing.
        """
        try:
            self._choices = replace(self._choices, **changes)
        except (TypeError, ValueError) as mistake:
            self._say(str(mistake))
            return
        self._storage.set_persistent_string(KEPT, self._choices.to_text())
        self._message = self._said = ""
        self._work.follow(self._choices, is_held=self._is_held)
        self._changed()

    def choose_number(self, name: str, text: str | None, kind: Callable[[str], Any]) -> None:
        """Choose a number that was typed.

        Parameters
        ----------
        name : str
            Field of `Choices`.
        text : str or None
            What was typed.
        kind : callable
            Reads it, ``int`` or ``float``; it raises a ValueError where it cannot.
        """
        try:
            value = kind((text or "").strip())
        except ValueError:
            wanted = _("a whole number") if kind is int else _("a number")
            self._say(_("{text!r} is not {wanted}.").format(text=text, wanted=wanted))
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
        self._work.follow(self._choices, is_held=is_held)
        self._changed()

    def look(self, view: View) -> None:
        """Show the correction, the scan in its place, or one after the other.

        Parameters
        ----------
        view : {"corrected", "raw", "blink"}
            What to show.
        """
        self._view = view
        if self.running is not None:
            self.running.look(view)
        self._changed()

    def feed_back(self, is_wanted: bool) -> None:  # noqa: FBT001  # what a check box says
        """Let the scan's centre follow the sample's drift, or leave it where it is.

        Parameters
        ----------
        is_wanted : bool
            Whether to begin or to end it; it is never begun by itself.
        """
        self._work.feed_back(is_wanted=is_wanted)
        self._changed()

    def start(self, window: Window) -> None:
        """Correct live.

        Parameters
        ----------
        window : DocumentController
            Where the corrected image is shown.
        """
        if self.running is not None or not self._can_begin():
            return
        options = self._choices.live_options(is_held=self._is_held)
        session = self._parts.session(options=options, store=self.open_store())
        self._work.correct(window, session)
        self._journal.follow(session)
        self._changed()

    def stop(self) -> None:
        """End the live correction; the worker ends after the frame in hand."""
        self._work.stop()
        self._view = "corrected"
        self._changed()

    def check_set_up(self, window: Window) -> None:
        """See by the next frame whether the microscope is set up well enough to calibrate.

        Parameters
        ----------
        window : DocumentController
            The window whose main thread is told.
        """
        if self._can_begin():
            self._try(lambda: self._work.begin(window, self._work.checking.begin))

    def calibrate(self, window: Window) -> None:
        """Begin a calibration with the frames that come.

        Parameters
        ----------
        window : DocumentController
            The window whose main thread is told.
        """
        if not self.is_calibrating and self._can_begin():
            begin = partial(self._work.calibrating.begin, store=self.open_store())
            self._try(lambda: self._work.begin(window, begin))

    def cancel_calibration(self) -> None:
        """End the calibration; nothing is kept of it."""
        self._work.calibrating.cancel()

    def save_calibration(self) -> None:
        """Save a calibration that could not be saved before."""
        self._work.calibrating.save()
        self._changed()

    def record(self) -> None:
        """Keep the newest scan and its correction in the project."""
        count = 0 if self.running is None else self.running.record()
        if count:
            self.tell(_("Recorded as scanned and corrected: {n} pictures.").format(n=count))
        else:
            self._say(_("There is nothing to record: no frame has been corrected yet."))

    def log_to(self, path: str | PathLike[str]) -> None:
        """Write a row for each frame into a CSV file from now on.

        Parameters
        ----------
        path : path
            A new file, or a log to go on with.
        """
        session = None if self.running is None else self.running.session
        if not self._is_unloaded():
            self._try(lambda: self._journal.begin(path, session))

    def end_log(self) -> None:
        """Write no more; the file is complete at any time."""
        self._journal.close()
        self._changed()

    def describe(self) -> str:
        """Describe what is in the log for a methods section.

        Returns
        -------
        str
            A paragraph; nothing where there is no log, and ``message`` says why.
        """
        store, told = self.open_store(), list[str]()
        self._try(
            lambda: told.append(self._journal.described(() if store is None else store.list()))
        )
        return "".join(told)

    def stop_all(self) -> None:
        """End the live correction and the calibration, as when the window goes."""
        self._work.close()
        self._changed()

    def close(self) -> None:
        """Stop everything for good."""
        self._is_closed, self._listeners = True, ()
        self._journal.close()
        self.stop_all()

    def open_store(self) -> "CalibrationStore | None":
        """Open the calibrations; where they cannot be, ``message`` says why until they can.

        Returns
        -------
        CalibrationStore or None
            None where they cannot be.
        """
        self._no_store = ""
        try:
            return self._parts.store()
        except ValueError as damaged:  # live correction goes on without
            self._no_store = str(damaged)
            self._changed()
            return None

    def tell(self, done: str) -> None:
        """Say what was done.

        Parameters
        ----------
        done : str
            A sentence.
        """
        self._said, self._message = done, ""
        self._changed()

    # how it does it

    def _can_begin(self) -> bool:
        """Return whether anything may begin; where it may not, say why."""
        self._message = self._said = ""
        if not self._is_unloaded() and self.scan is None:
            self._say(_("There is no scan: no scan device is registered."))
        return not self._message

    def _is_unloaded(self) -> bool:
        if self._is_closed:
            self._say(_("The plug-in has been unloaded: restart Nion Swift to use it again."))
        return self._is_closed

    def _try(self, step: Callable[[], object]) -> None:
        """Do something; where it cannot be done, say why."""
        try:
            step()
        except ValueError as reason:
            self._say(str(reason))
            return
        self._changed()

    def _source_removed(self, source: HardwareSource.HardwareSource) -> None:
        """Stop where the scan is gone; the host says so on the main thread."""
        if self._work.uses(source):
            self.stop_all()
            self._say(_("The scan device is gone, so everything that used it has stopped."))
        self._changed()

    def _source_added(self, _source: HardwareSource.HardwareSource) -> None:
        self._changed()

    def _changed(self) -> None:
        self.changed_event.fire()

    def _say(self, message: str) -> None:
        self._message, self._said = message, ""
        self._changed()
