"""Samples -> distortion model -> field, by a Gaussian process in a finite basis."""

from nion_distortion.gaussian_process.coils import CoilErrors
from nion_distortion.gaussian_process.drift import Drift
from nion_distortion.gaussian_process.fields import FieldEstimate
from nion_distortion.gaussian_process.gauge import FREEDOMS, fitted
from nion_distortion.gaussian_process.model import DistortionModel, first_model, refit_amplitudes
from nion_distortion.gaussian_process.terms import LineFlyback, line_flyback, rms_of_terms

__all__ = [
    "FREEDOMS",
    "CoilErrors",
    "DistortionModel",
    "Drift",
    "FieldEstimate",
    "LineFlyback",
    "first_model",
    "fitted",
    "line_flyback",
    "refit_amplitudes",
    "rms_of_terms",
]
