"""Calibrations: models that outlive their session."""

from nion_distortion.calibrations.records import (
    Calibration,
    CalibrationSummary,
    FlybackPrior,
    Nearest,
)
from nion_distortion.calibrations.store import CalibrationStore, default_path

__all__ = [
    "Calibration",
    "CalibrationStore",
    "CalibrationSummary",
    "FlybackPrior",
    "Nearest",
    "default_path",
]
