"""What looks at the frames of a scan: live correction, calibration, a look at the set-up."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from nion.swift import DocumentController

from nion_distortion.swift.calibrating import Calibrating
from nion_distortion.swift.checking import Checking, SetUp
from nion_distortion.swift.choices import Choices
from nion_distortion.swift.feedback import DriftFeedback
from nion_distortion.swift.live import LiveCorrection
from nion_distortion.swift.parts import Parts
from nion_distortion.swift.source import FrameTap, chosen_scan
from nion_distortion.swift.windows import Leaving, do_soon, forget

if TYPE_CHECKING:
    from nion.instrumentation import HardwareSource

    from nion_distortion.frame import Frame
    from nion_distortion.session import LiveReport, Session

__all__ = ["Work"]

Window = DocumentController.DocumentController

TASK = "nion_distortion.work"


class Work:
    """What runs in a project, each in the window in which it was begun, and the scan it looks at.

    Used on the main thread, where those that it tells are called.

    Parameters
    ----------
    parts : Parts
        Makes session and calibration.
    choices : Choices
        Which scan.
    changed : callable
        Called when anything has changed.
    say : callable
        Called with a sentence when something has ended by itself.
    now_s : callable, optional
        POSIX time.
    """

    def __init__(
        self,
        parts: Parts,
        choices: Choices,
        *,
        changed: Callable[[], None],
        say: Callable[[str], None],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._choices, self._changed, self._say = choices, changed, say
        self._leaving = Leaving(self._leave)
        self._tap: FrameTap | None = None
        self._running: LiveCorrection | None = None
        self._feedback: DriftFeedback | None = None
        self._refusal = ""
        self.checking = Checking(parts, changed=self._listen_and_tell)
        self.calibrating = Calibrating(
            parts, changed=self._listen_and_tell, saved=self._look_up_again, now_s=now_s
        )

    @property
    def running(self) -> LiveCorrection | None:
        """What corrects; None while nothing does."""
        return self._running

    @property
    def window(self) -> Window | None:
        """Where something runs; None while nothing does."""
        corrects_in = None if self._running is None else self._running.window
        return corrects_in or self.calibrating.window or self.checking.window

    @property
    def last(self) -> "LiveReport | None":
        """The newest report of the live correction."""
        return None if self._running is None else self._running.session.last

    @property
    def set_up(self) -> SetUp | None:
        """How well the microscope is set up, by what has looked at it last."""
        calibrated = SetUp.of_calibration(self.calibrating.state)
        live = SetUp.of_live(self.last)
        if self.calibrating.window is not None:
            live = calibrated or live
        return live or self.checking.found or calibrated

    @property
    def refusal(self) -> str:
        """Why the newest scan could not be taken at all, or nothing."""
        return self._refusal

    @property
    def is_fed_back(self) -> bool:
        """Whether the scan's centre follows the sample's drift."""
        return self._feedback is not None

    def correct(self, window: Window, session: "Session") -> None:
        """Begin the live correction.

        Parameters
        ----------
        window : DocumentController
            Where the corrected image is shown.
        session : Session
            What does the work; closed with it.
        """
        self._leaving.tell_of(window)
        self._running = LiveCorrection(window, session, self._choices)
        session.subscribe(partial(self._arrived, window))
        self._listen()
        self._running.item.show_in_window()
        self._show_average(self._running)

    def stop(self) -> None:
        """End the live correction; the worker ends after the frame in hand."""
        running, self._running, self._feedback = self._running, None, None
        self._refusal = ""
        self._listen()
        if running is not None:
            running.close()
            forget(running.window, TASK)
            forget(running.window, TASK + ".average")

    def begin(self, window: Window, begin: Callable[[Window, Choices], object]) -> None:
        """Begin what looks at frames beside the live correction.

        Parameters
        ----------
        window : DocumentController
            The window whose main thread is told.
        begin : callable
            Begins it, or raises an error, and then nothing has happened.
        """
        begin(window, self._choices)
        self._leaving.tell_of(window)
        self._listen()

    def feed_back(self, *, is_wanted: bool) -> None:
        """Let the scan's centre follow the sample's drift, or leave it where it is.

        Parameters
        ----------
        is_wanted : bool
            Whether to begin or to end it; without a live correction it does not begin.
        """
        is_possible = is_wanted and self._running is not None
        scan = chosen_scan(self._choices.scan_id) if is_possible else None
        self._feedback = None if scan is None else DriftFeedback(scan)

    def follow(self, choices: Choices, *, is_held: bool) -> None:
        """Go on with other choices, at the next frame.

        Parameters
        ----------
        choices : Choices
            The new ones.
        is_held : bool
            Whether the correction is frozen.
        """
        before, self._choices = self._choices, choices
        if _listened_to(choices) != _listened_to(before):
            self._feedback = None  # it was of another scan
            self._listen()
        if self._running is not None:
            self._running.session.set_options(choices.live_options(is_held=is_held))
            self._running.follow(choices)
            if choices.averaged and not before.averaged:
                self._show_average(self._running)

    def _show_average(self, running: LiveCorrection) -> None:
        # the host's list has what is new only in its next tick
        do_soon(running.window, TASK + ".average", running.show_average)

    def uses(self, source: "HardwareSource.HardwareSource") -> bool:
        """Return whether frames of a scan are looked at.

        Parameters
        ----------
        source : HardwareSource
            The scan.

        Returns
        -------
        bool
            Whether they are.
        """
        return self._tap is not None and self._tap.hardware_source is source

    def close(self) -> None:
        """End everything, and tell nobody."""
        self.calibrating.close()
        self.checking.close()
        self.stop()

    def _leave(self, window: Window) -> None:
        """End what was begun in a window that closes; what another one has begun goes on."""
        for one in (self.calibrating, self.checking):
            if one.window is window:
                one.close()
        if self._running is not None and self._running.window is window:
            self.stop()
        self._listen_and_tell()

    def _listen(self) -> None:
        """Listen to the chosen scan while there is anybody to hand its frames to."""
        if self._tap is not None:
            self._tap.close()
            self._tap = None
        receivers = [] if self._running is None else [self._running.session.submit]
        beside = (self.calibrating, self.checking)
        receivers += [one.submit for one in beside if one.window is not None]
        scan = chosen_scan(self._choices.scan_id) if receivers else None
        if scan is not None:
            self._tap = FrameTap(
                scan,
                partial(_hand_on, tuple(receivers)),
                refuse=self._refused,
                channel=self._choices.channel,
                is_raster=self._choices.is_raster,
            )

    def _listen_and_tell(self) -> None:
        self._listen()
        self._changed()

    def _look_up_again(self) -> None:
        """Use the calibration that was just saved; on whichever thread saved it."""
        running = self._running
        if running is not None:
            running.session.look_up_again()

    def _refused(self, reason: str) -> None:
        """Pass on why a scan cannot be used; on the acquisition thread."""
        window, running = self.window, self._running
        if running is not None:
            running.refuse(reason)
        if window is not None and reason != self._refusal:
            self._refusal = reason
            do_soon(window, TASK, self._changed)

    def _arrived(self, window: Window, _report: "LiveReport") -> None:
        """Have the newest report followed; on the session's thread."""
        self._refusal = ""
        do_soon(window, TASK, self._follow_report)

    def _follow_report(self) -> None:
        if self._feedback is not None and self.last is not None:
            why_not = self._feedback.follow(self.last)
            if why_not:
                self._feedback = None
                self._say(why_not)
        self._changed()


def _listened_to(choices: Choices) -> tuple[str, str, bool]:
    """Return what, when it changes, makes them listen anew."""
    return choices.scan_id, choices.channel, choices.is_raster


def _hand_on(
    receivers: "tuple[Callable[[tuple[Frame, ...]], object], ...]", scan: "tuple[Frame, ...]"
) -> None:
    for receiver in receivers:
        receiver(scan)
