"""Nion Swift finds the plug-in here."""

from nion_distortion.swift.extension import DistortionExtension

__all__ = ["DistortionExtension"]
