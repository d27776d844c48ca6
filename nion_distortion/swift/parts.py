"""What the control of a project is given: where it keeps words, and what makes its parts."""

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationStore
    from nion_distortion.live_calibration import LiveCalibration
    from nion_distortion.session import Session

__all__ = ["Parts", "Storage"]


class Storage(Protocol):
    """Where the host keeps words from one start to the next: its user interface."""

    def get_persistent_string(self, key: str, default_value: str | None = None) -> str:
        """Return what was kept.

        Parameters
        ----------
        key : str
            Its name.
        default_value : str, optional
            What else.

        Returns
        -------
        str
            The text.
        """
        ...

    def set_persistent_string(self, key: str, value: str) -> None:
        """Keep a text.

        Parameters
        ----------
        key : str
            Its name.
        value : str
            The text.
        """
        ...


class Parts:
    """Makes what a live correction consists of; heavy libraries are loaded when it is used."""

    def session(self, **arguments: Any) -> "Session":
        """Make a session; frames are processed in another process, beside a window that draws.

        Parameters
        ----------
        **arguments : object
            Of `Session`.

        Returns
        -------
        Session
            It runs.
        """
        module = importlib.import_module("nion_distortion.session")
        session: Session = module.Session(in_child=True, **arguments)
        return session

    def calibration(self, **arguments: Any) -> "LiveCalibration":
        """Make a calibration; it learns in another process, beside a window that draws.

        Parameters
        ----------
        **arguments : object
            Of `LiveCalibration`.

        Returns
        -------
        LiveCalibration
            It waits for frames.
        """
        module = importlib.import_module("nion_distortion.live_calibration")
        calibrate = importlib.import_module("nion_distortion.stages").calibrate_in_child
        calibration: LiveCalibration = module.LiveCalibration(calibrate=calibrate, **arguments)
        return calibration

    def store(self) -> "CalibrationStore":
        """Open the user's calibrations.

        Returns
        -------
        CalibrationStore
            The store.
        """
        module = importlib.import_module("nion_distortion.calibrations")
        store: CalibrationStore = module.CalibrationStore()
        return store
