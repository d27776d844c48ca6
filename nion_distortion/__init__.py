"""Find, index, model and correct the scan distortion of atomic-resolution STEM frames."""

import importlib

_HOMES = {
    "Frame": "frame",
    "ScanSettings": "frame",
    "UnusableFrameError": "frame",
    "Free": "options",
    "Options": "options",
    "AtomColumns": "atoms",
    "IndexedColumns": "lattice",
    "Lattice": "lattice",
    "DistortionField": "distortion",
    "DistortionSamples": "distortion",
    "DistortionModel": "gaussian_process",
    "CorrectedFrame": "correction",
    "correct_frame": "correction",
    "PrincipalComponents": "principal_components",
    "Estimate": "diagnostics",
    "FrameReport": "pipeline",
    "process_frame": "pipeline",
    "read_frames": "files",
}
"""Where each public name lives; resolved at first use (PEP 562): the import costs nothing."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
