"""Calibrations: models that outlive their session."""

from nion_distortion.calibrations.applied import AppliedCalibration, applied_to, matching
from nion_distortion.calibrations.records import (
    Calibration,
    CalibrationSummary,
    FlybackPrior,
    Nearest,
)
from nion_distortion.calibrations.store import CalibrationStore, default_path

__all__ = [
    "AppliedCalibration",
    "Calibration",
    "CalibrationStore",
    "CalibrationSummary",
    "FlybackPrior",
    "Nearest",
    "applied_to",
    "default_path",
    "matching",
]
