"""Nion Swift finds the plug-in here; where it cannot work it says why in one line."""

from importlib.metadata import version
from importlib.util import find_spec

from nion.swift.model.PlugInManager import RequirementsException

if missing := [name for name in ("torch", "gpytorch") if find_spec(name) is None]:
    raise RequirementsException(
        f"Distortion correction needs {' and '.join(missing)}, which this environment lacks"
    )
if version("nionswift").split(".")[0] not in ("16", "17"):
    raise RequirementsException(
        f"Distortion correction needs nionswift 16 or 17, not {version('nionswift')}"
    )

from nion_distortion.swift.extension import DistortionExtension

__all__ = ["DistortionExtension"]
