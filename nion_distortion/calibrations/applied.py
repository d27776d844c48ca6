"""A stored calibration applied to a scan: which settings differ, which cannot be compared."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nion_distortion.calibrations.records import Calibration, Nearest
from nion_distortion.calibrations.store import CalibrationStore
from nion_distortion.diagnostics import scale_numbers
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel

if TYPE_CHECKING:
    from nion_distortion.pipeline import FrameReport

__all__ = ["AppliedCalibration", "applied_to", "matching"]

DECIDING = ("shape_px", "field_of_view_nm")
"""Settings that have to match, or the field's pixels would not be those of the image."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AppliedCalibration:
    """A calibration on the scan of a stored image.

    Parameters
    ----------
    known : Calibration
        As it is stored.
    model : DistortionModel
        Its model, for the settings that the image reports.
    comparison : Nearest
        How the two settings differ.
    """

    known: Calibration
    model: DistortionModel
    comparison: Nearest

    @property
    def unchecked(self) -> list[str]:
        """The settings that one side or both do not report."""
        return [
            *self.known.settings.unreported(self.model.settings),
            *(name for name in self.comparison.differences if not self.comparison.is_told(name)),
        ]

    @property
    def changes(self) -> list[str]:
        """The settings that differ, each with both values."""
        told = [name for name in self.comparison.differences if self.comparison.is_told(name)]
        return [self.comparison.change(name) for name in told]

    def record(self, report: "FrameReport") -> dict[str, Any]:
        """Collect what a corrected frame remembers of its calibration.

        Parameters
        ----------
        report : FrameReport
            Of the frame.

        Returns
        -------
        dict
            With what differs and what could not be checked.
        """
        summary, now = self.known.summary, report.corrected_pm
        return {
            "id": summary.calibration_id,
            "sample": summary.sample,
            "made_s": summary.time_s,
            "frames": summary.frames,
            "reference": summary.reference,
            "predicted_error_pm": None if now is None else now.value,
            "state": report.state,
            "state_reason": report.state_reason,
            "differs": self.changes,
            "not_checked": self.unchecked,
            "scale": scale_numbers(self.model),
        }


def matching(store: CalibrationStore, settings: ScanSettings) -> Calibration:
    """Look up the newest calibration that holds for a scan, or say which one comes nearest.

    Parameters
    ----------
    store : CalibrationStore
        Where to look.
    settings : ScanSettings
        The scan.

    Returns
    -------
    Calibration
        The calibration.

    Raises
    ------
    ValueError
        If none holds, with the nearest one and how it differs.
    """
    known = store.find(settings)
    if known is not None:
        return known
    nearest = store.nearest(settings)
    why = f"{store.path} is empty" if nearest is None else str(nearest)
    raise ValueError(f"no calibration holds for this scan, so nothing was corrected: {why}")


def applied_to(settings: ScanSettings, known: Calibration) -> AppliedCalibration:
    """Apply a calibration to a scan, even if settings other than the pixels differ.

    Parameters
    ----------
    settings : ScanSettings
        The scan.
    known : Calibration
        The calibration.

    Returns
    -------
    AppliedCalibration
        With the differences; its model has the scan's own settings.

    Raises
    ------
    ValueError
        If number of pixels or field of view differ.
    """
    differing = known.settings.differences(settings)
    comparison = Nearest(known.summary, differing, settings)
    refused = [comparison.change(name) for name in differing if name in DECIDING]
    if refused:
        raise ValueError(
            f"calibration {known.calibration_id} cannot hold for this scan, so nothing was "
            f"corrected: it differs in {', '.join(refused)}"
        )
    return AppliedCalibration(
        known=known, model=replace(known.model, settings=settings), comparison=comparison
    )
