"""A simulated microscope for Nion Swift; registered only when it is asked for."""

from os import environ

from nion.swift.model.PlugInManager import RequirementsException

if environ.get("NION_DISTORTION_SIMULATOR") != "1":
    raise RequirementsException(
        "The simulated microscope is registered only when NION_DISTORTION_SIMULATOR=1"
    )

from simulator.nion_device import run

__all__ = ["run"]
