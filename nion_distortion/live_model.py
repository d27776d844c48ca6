"""The model of one scan setting in a live run, and first frames that are not confirmed yet."""

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from nion_distortion.frame import ScanSettings
from nion_distortion.options import AnyReference, Free, KnownFlyback, Options

if TYPE_CHECKING:
    from nion_distortion.calibrations import Calibration, CalibrationSummary, Nearest
    from nion_distortion.gaussian_process import DistortionModel
    from nion_distortion.pipeline import FrameReport
    from nion_distortion.principal_components import LiveComponents

__all__ = ["Calibrations", "LiveModel"]

_log = logging.getLogger(__name__)

HELD_BACK = 2
"""First frames that are kept at most until another one agrees with one of them."""

TRAJECTORY_FRAMES = 1000


class Calibrations(Protocol):
    """Where known distortions are looked up: ``nion_distortion.CalibrationStore``."""

    def find(self, settings: ScanSettings) -> "Calibration | None":
        """Look up the newest calibration that holds for a scan.

        Parameters
        ----------
        settings : ScanSettings
            The scan.

        Returns
        -------
        Calibration or None
            None where none does.
        """
        ...

    def nearest(self, settings: ScanSettings) -> "Nearest | None":
        """Look up the calibration that differs least.

        Parameters
        ----------
        settings : ScanSettings
            The scan.

        Returns
        -------
        Nearest or None
            As text it is one sentence; None where there is no calibration.
        """
        ...

    def known_flyback(self, device_id: str) -> KnownFlyback | None:
        """Return the prior on the line fly-back from a device's other settings.

        Parameters
        ----------
        device_id : str
            The scan device.

        Returns
        -------
        KnownFlyback or None
            None where nothing is known.
        """
        ...


class LiveModel:
    """The model of one scan setting, and the first frames that have still to be confirmed.

    Used on the session's own thread only.

    Parameters
    ----------
    settings : ScanSettings
        The scan.
    reference : AnyReference
        What counts as undistorted.
    model : DistortionModel, optional
        What is known already.
    """

    def __init__(
        self,
        settings: ScanSettings,
        reference: AnyReference,
        model: "DistortionModel | None" = None,
    ) -> None:
        self.settings, self.reference, self.model = settings, reference, model
        self.is_own = model is None
        self.calibration: CalibrationSummary | None = None
        self.flyback: KnownFlyback | None = None
        self.no_match = ""
        self.accepted = 0
        self.held_back: deque[DistortionModel] = deque(maxlen=HELD_BACK)
        self.is_settling = False
        self.components: LiveComponents | None = None
        self.drift_nm: deque[npt.NDArray[np.float64]] = deque(maxlen=TRAJECTORY_FRAMES)
        self.drift_std_nm: deque[npt.NDArray[np.float64]] = deque(maxlen=TRAJECTORY_FRAMES)
        self.began_nm = np.zeros(2)

    def look_up(self, store: Calibrations, options: Options) -> None:
        """Take a stored calibration of these settings, or remember why there is none.

        Parameters
        ----------
        store : Calibrations
            Where it is looked up.
        options : Options
            How frames are processed: a reference needs one that was learnt against the same.
        """
        try:
            found = store.find(self.settings)
            nearest = None if found is not None else store.nearest(self.settings)
            self.flyback = store.known_flyback(self.settings.device_id)
        except ValueError as damaged:  # live correction goes on without
            self.no_match = str(damaged)
            _log.warning("No calibration could be looked up: %s", damaged)
            return
        self.no_match = "" if nearest is None else str(nearest)
        if found is None:
            return
        if options.sample == "reference" and options.reference not in (
            Free(),
            found.model.reference,
        ):
            self.no_match = f"calibration {found.summary} was learnt against another reference"
            _log.info("%s", self.no_match)
            return
        self.model, self.is_own, self.calibration = found.model, False, found.summary
        self.reference = found.model.reference
        _log.info("Calibration %s holds for these settings", found.summary)

    def serves(self, settings: ScanSettings, options: Options) -> bool:
        """Tell whether it can be used for a scan that is processed with these options.

        Parameters
        ----------
        settings : ScanSettings
            The scan.
        options : Options
            The way.

        Returns
        -------
        bool
            False for other settings, and for a reference other than the one it was learnt against.
        """
        if self.settings.differences(settings):
            return False
        if options.sample == "unknown" or self.reference == options.reference:
            return True
        # a model that came from elsewhere brings its own reference, which Free() leaves to it
        return not self.is_own and options.reference == Free()

    def settle(self) -> None:
        """Begin a run: its first frame is not learnt from, drift and components begin anew."""
        self.is_settling = True
        self.held_back.clear()  # first frames of two runs may share the same transient
        self._forget_drift()
        self.components = None

    def _forget_drift(self) -> None:
        self.drift_nm.clear()
        self.drift_std_nm.clear()

    def way_nm(self) -> npt.NDArray[np.float64]:
        """Return the drift since the run began; that of the model may have begun earlier.

        Returns
        -------
        ndarray, shape (n, 2)
            One row for each frame, (y, x).
        """
        rows = np.array(self.drift_nm).reshape(-1, 2)
        return rows - self.began_nm

    def way_std_nm(self) -> npt.NDArray[np.float64]:
        """Return the standard deviations of `way_nm`.

        Returns
        -------
        ndarray, shape (n, 2)
            Zero where the way begins; NaN where they are not known.
        """
        return np.array(self.drift_std_nm).reshape(-1, 2)

    def agreeing(self, model: "DistortionModel") -> "DistortionModel | None":
        """Return an earlier frame, held back so far, that agrees with this one; or hold this back.

        Parameters
        ----------
        model : DistortionModel
            Learnt from this one alone.

        Returns
        -------
        DistortionModel or None
            That of the other frame; None where none agrees.
        """
        field = model.stationary_field()
        for candidate in reversed(self.held_back):
            if candidate.stationary_field().agrees_with(field):
                self.held_back.clear()
                return candidate
        self.held_back.append(model)
        return None

    def follow(self, report: "FrameReport", empty: "type[LiveComponents]") -> None:
        """Add a frame that was measured to the drift and to the stack of distortion fields.

        Parameters
        ----------
        report : FrameReport
            The frame's.
        empty : type of LiveComponents
            Makes the stack; loaded on the session's thread.
        """
        if report.drift_nm is None or report.field is None:
            return
        if report.drift_ambiguous or self.model is None:
            self._forget_drift()
        std_nm = np.full(2, np.nan) if report.drift_std_nm is None else report.drift_std_nm
        if not self.drift_nm:
            self.began_nm, std_nm = report.drift_nm, np.zeros(2)
        self.drift_nm.append(report.drift_nm)
        # that since the model's first frame, which the same scan has measured as well as this one
        self.drift_std_nm.append(std_nm)
        self.components = (self.components or empty()).added(report.field.displacement_px)
