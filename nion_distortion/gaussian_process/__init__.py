"""Samples -> distortion model -> field, by a Gaussian process in a finite basis."""

from nion_distortion.gaussian_process.coils import CoilErrors
from nion_distortion.gaussian_process.drift import Drift
from nion_distortion.gaussian_process.fields import FieldEstimate
from nion_distortion.gaussian_process.gauge import FREEDOMS, fitted
from nion_distortion.gaussian_process.model import DistortionModel, first_model, refit_amplitudes

__all__ = [
    "FREEDOMS",
    "CoilErrors",
    "DistortionModel",
    "Drift",
    "FieldEstimate",
    "first_model",
    "fitted",
    "refit_amplitudes",
]
