"""A calibration of the running scan: begun, followed, cancelled, and saved when it is done."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from nion.swift import DocumentController

from nion_distortion.swift.choices import Choices
from nion_distortion.swift.parts import Parts
from nion_distortion.swift.windows import do_soon

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationStore
    from nion_distortion.frame import Frame
    from nion_distortion.live_calibration import CalibrationState, LiveCalibration

__all__ = ["Calibrating"]

_log = logging.getLogger(__name__)

Window = DocumentController.DocumentController

TASK = "nion_distortion.calibrating"


class Calibrating:
    """The calibrations of a project, one at a time.

    Begun, cancelled and closed on the main thread.

    Parameters
    ----------
    parts : Parts
        Makes the calibration and opens the store.
    changed : callable
        Called on the main thread when it has come further, or has ended.
    saved : callable
        Called when a calibration is in the store, on whichever thread saved it.
    now_s : callable
        POSIX time.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        changed: Callable[[], None],
        saved: Callable[[], None],
        now_s: Callable[[], float],
    ) -> None:
        self._parts, self._changed, self._saved, self._now_s = parts, changed, saved, now_s
        self._running: LiveCalibration | None = None
        self._window: Window | None = None
        self._state: CalibrationState | None = None
        self._unsaved: tuple[CalibrationState, str] | None = None
        self._problem = ""

    @property
    def state(self) -> "CalibrationState | None":
        """How far the newest one has come; None where there was none."""
        state = self._state
        if state is None or state.is_over or self._running is not None:
            return state
        return replace(state, phase="cancelled")  # it was closed, and told nobody

    @property
    def window(self) -> Window | None:
        """Where one runs; None while none does."""
        return self._window

    @property
    def problem(self) -> str:
        """Why the newest one could not be saved, one sentence; nothing where it was."""
        return self._problem

    def begin(self, window: Window, choices: Choices, *, store: "CalibrationStore | None") -> None:
        """Begin a calibration with the frames that are submitted from now on.

        Parameters
        ----------
        window : DocumentController
            The window whose main thread is told.
        choices : Choices
            The reference, how many frames, and what it is made on.
        store : CalibrationStore or None
            Knows what the device's other settings have taught.

        Raises
        ------
        ValueError
            If the sample is unknown.
        """
        options = choices.calibration_options()
        self._state = None
        self._running = self._parts.calibration(
            options=options,
            frames=choices.frames,
            stop_pm=choices.stop_pm or None,
            known_flyback=None if store is None else store.known_flyback,
            told=partial(self._told, window, choices.sample_name or choices.sample),
        )
        self._window = window

    def submit(self, scan: "tuple[Frame, ...]") -> None:
        """Hand a scan on; on any thread.

        Parameters
        ----------
        scan : tuple of Frame
            The frames of its channels, the analysed one first.
        """
        running = self._running
        if running is not None:
            running.submit(scan)

    def cancel(self) -> None:
        """End the one that runs; nothing is kept of it."""
        if self._running is not None:
            self._running.cancel()

    def close(self) -> None:
        """End the one that runs, and tell nobody."""
        running, self._running, self._window = self._running, None, None
        if running is not None:
            running.close(timeout_s=0.0)

    def save(self) -> None:
        """Save what the newest one has learnt; where that fails it may be tried again."""
        unsaved = self._unsaved
        if unsaved is None or unsaved[0].model is None or unsaved[0].first is None:
            return
        try:
            self._parts.store().save(
                unsaved[0].model,
                time_s=self._now_s(),
                sample=unsaved[1],
                provenance=unsaved[0].first.provenance.get("metadata", {}),
            )
        except ValueError as reason:
            _log.warning("The calibration could not be saved: %s", reason)
            self._problem = str(reason)
            return
        self._unsaved, self._problem = None, ""
        self._saved()

    def _told(self, window: Window, sample: str, state: "CalibrationState") -> None:
        """Take the progress, and save what was learnt; on the calibration's own thread."""
        if state.model is not None:
            self._unsaved = (state, sample)
            self.save()
        self._state = state  # only now: who sees the end finds what was saved
        do_soon(window, TASK, self._show)

    def _show(self) -> None:
        if self._state is not None and self._state.is_over:
            self.close()
        self._changed()
