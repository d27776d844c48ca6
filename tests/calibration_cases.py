"""Models to store."""

from dataclasses import replace
from functools import cache

from model_cases import SMALL, flyback, microscope, model_of
from strategies import full_settings

from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel


@cache
def tiny_model() -> DistortionModel:
    """A model of the shape of `full_settings`; nothing of it depends on the other settings."""
    full = full_settings()
    plain = replace(SMALL, shape_px=full.shape_px, field_of_view_nm=3.0)
    return replace(model_of(microscope(flyback()), plain)[0], settings=full)


def model_for(settings: ScanSettings) -> DistortionModel:
    return replace(tiny_model(), settings=settings)
