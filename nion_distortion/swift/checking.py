"""A look at the next frame before a calibration: whether the microscope is set up well enough."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Optional

from nion.swift import DocumentController

from nion_distortion.swift.choices import Choices
from nion_distortion.swift.parts import Parts
from nion_distortion.swift.windows import do_soon

if TYPE_CHECKING:
    from collections.abc import Callable

    from nion_distortion.diagnostics import FlybackAdvice, SetupHint
    from nion_distortion.frame import Frame, ScanSettings
    from nion_distortion.live_calibration import CalibrationState
    from nion_distortion.session import LiveReport, Session

__all__ = ["Checking", "SetUp"]

Window = DocumentController.DocumentController

TASK = "nion_distortion.checking"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What a frame has shown of how the microscope is set up.

    Parameters
    ----------
    settings : ScanSettings
        Of the frame.
    hint : SetupHint, optional
        Whether the distortion can be measured; None where the frame could not be used.
    advice : FlybackAdvice, optional
        What a longer fly-back would gain.
    reason : str, default: ""
        Why the frame could not be used.
    """

    settings: "ScanSettings"
    hint: "SetupHint | None" = None
    advice: "FlybackAdvice | None" = None
    reason: str = ""

    @classmethod
    def of_live(cls, live: "LiveReport | None") -> Optional["SetUp"]:
        """Return what a frame of the live correction has shown.

        Parameters
        ----------
        live : LiveReport or None
            The newest.

        Returns
        -------
        SetUp or None
            None where no lattice was looked for.
        """
        report = None if live is None else live.report
        if live is None or report is None or report.hints is None:
            return None
        settings = live.scan[0].settings
        return cls(settings=settings, hint=report.hints, advice=report.advice)

    @classmethod
    def of_calibration(cls, state: "CalibrationState | None") -> Optional["SetUp"]:
        """Return what the frames of a calibration have shown.

        Parameters
        ----------
        state : CalibrationState or None
            How far it has come.

        Returns
        -------
        SetUp or None
            None before its first usable frame.
        """
        if state is None or state.first is None or state.hint is None:
            return None
        return cls(settings=state.first.settings, hint=state.hint, advice=state.advice)


class Checking:
    """Look at one frame as a calibration would, and keep nothing.

    Begun and closed on the main thread.

    Parameters
    ----------
    parts : Parts
        Makes the session that looks.
    changed : callable
        Called on the main thread when it has looked.
    """

    def __init__(self, parts: Parts, *, changed: "Callable[[], object]") -> None:
        self._parts, self._changed = parts, changed
        self._session: Session | None = None
        self._window: Window | None = None
        self._found: SetUp | None = None

    @property
    def window(self) -> Window | None:
        """Where it was begun; None while nothing is looked at."""
        return self._window

    @property
    def found(self) -> SetUp | None:
        """What it has seen last."""
        return self._found

    def begin(self, window: Window, choices: Choices) -> None:
        """Look at the next frame.

        Parameters
        ----------
        window : DocumentController
            The window whose main thread is told.
        choices : Choices
            The reference.

        Raises
        ------
        ValueError
            If the sample is unknown.
        """
        options = choices.calibration_options()
        self.close()
        self._found = None
        self._session, self._window = self._parts.session(options=options, store=None), window
        self._session.subscribe(partial(self._seen, window))

    def submit(self, scan: "tuple[Frame, ...]") -> None:
        """Hand a scan on; on any thread.

        Parameters
        ----------
        scan : tuple of Frame
            The frames of its channels, the analysed one first.
        """
        session = self._session
        if session is not None and session.last is None:
            session.submit(scan)

    def close(self) -> None:
        """Look no more."""
        session, self._session, self._window = self._session, None, None
        if session is not None:
            session.close(timeout_s=0.0)

    def _seen(self, window: Window, live: "LiveReport") -> None:
        """Take what it shows; on the session's thread."""
        unusable = SetUp(settings=live.scan[0].settings, reason=live.reason or "")
        self._found = SetUp.of_live(live) or unusable
        do_soon(window, TASK, self._show)

    def _show(self) -> None:
        self.close()
        self._changed()
