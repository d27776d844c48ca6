"""Find, index, model and correct the scan distortion of atomic-resolution STEM frames."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nion_distortion.atoms import AtomColumns as AtomColumns
    from nion_distortion.calibrations import Calibration as Calibration
    from nion_distortion.calibrations import CalibrationStore as CalibrationStore
    from nion_distortion.correction import CorrectedFrame as CorrectedFrame
    from nion_distortion.correction import correct_frame as correct_frame
    from nion_distortion.diagnostics import Estimate as Estimate
    from nion_distortion.distortion import DistortionField as DistortionField
    from nion_distortion.distortion import DistortionSamples as DistortionSamples
    from nion_distortion.files import read_frames as read_frames
    from nion_distortion.frame import Frame as Frame
    from nion_distortion.frame import ScanSettings as ScanSettings
    from nion_distortion.frame import UnusableFrameError as UnusableFrameError
    from nion_distortion.gaussian_process import CoilErrors as CoilErrors
    from nion_distortion.gaussian_process import DistortionModel as DistortionModel
    from nion_distortion.lattice import IndexedColumns as IndexedColumns
    from nion_distortion.lattice import Lattice as Lattice
    from nion_distortion.options import FourierFiltered as FourierFiltered
    from nion_distortion.options import Free as Free
    from nion_distortion.options import KnownCrystal as KnownCrystal
    from nion_distortion.options import KnownFlyback as KnownFlyback
    from nion_distortion.options import Options as Options
    from nion_distortion.options import Reference as Reference
    from nion_distortion.options import Similarity as Similarity
    from nion_distortion.options import StackAverage as StackAverage
    from nion_distortion.pipeline import FrameReport as FrameReport
    from nion_distortion.pipeline import process_frame as process_frame
    from nion_distortion.principal_components import PrincipalComponents as PrincipalComponents
    from nion_distortion.stack import CalibrationProgress as CalibrationProgress
    from nion_distortion.stack import calibrate as calibrate

_HOMES = {
    "Frame": "frame",
    "ScanSettings": "frame",
    "UnusableFrameError": "frame",
    "FourierFiltered": "options",
    "Free": "options",
    "KnownCrystal": "options",
    "KnownFlyback": "options",
    "Options": "options",
    "Reference": "options",
    "Similarity": "options",
    "StackAverage": "options",
    "AtomColumns": "atoms",
    "IndexedColumns": "lattice",
    "Lattice": "lattice",
    "DistortionField": "distortion",
    "DistortionSamples": "distortion",
    "CoilErrors": "gaussian_process",
    "DistortionModel": "gaussian_process",
    "CorrectedFrame": "correction",
    "correct_frame": "correction",
    "PrincipalComponents": "principal_components",
    "Estimate": "diagnostics",
    "FrameReport": "pipeline",
    "process_frame": "pipeline",
    "CalibrationProgress": "stack",
    "calibrate": "stack",
    "read_frames": "files",
    "Calibration": "calibrations",
    "CalibrationStore": "calibrations",
}
"""Where each public name lives; resolved at first use (PEP 562): the import costs nothing."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
