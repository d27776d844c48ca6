"""Samples of simulated frames without any image: columns where the truth sees them, plus noise."""

from functools import cache

import numpy as np
import numpy.typing as npt

from benchmarks.samples import samples_of
from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.lattice import Lattice
from nion_distortion.options import TERMS
from simulator.microscope import Microscope, Truth
from simulator.scan import ScanErrors
from simulator.specimen import make_specimen

Array = npt.NDArray[np.float64]

SMALL = ScanSettings(
    shape_px=(144, 160), field_of_view_nm=5.0, dwell_time_us=1.0, flyback_time_us=120.0
)
"""31 pm pixels, about 340 columns."""

DECAY = 0.06
"""Of the line fly-back, in line lengths: as many pixels as hold 0.03 of a wide frame's."""


def flyback(*, sign: int = 1) -> ScanErrors:
    """Pull columns apart by 1.7, or push them together by 0.76, at the line start."""
    tau_us = DECAY * SMALL.shape_px[1]
    amplitude_nm = 0.125 if sign > 0 else -0.094
    return ScanErrors(
        line_flyback_nm=(0.0, amplitude_nm * np.exp(120.0 / tau_us)),
        line_flyback_tau_us=tau_us,
        smooth_nm=0.03,
    )


def microscope(errors: ScanErrors, *, turn_rad: float = 0.1, seed: int = 0) -> Microscope:
    return Microscope(make_specimen("sto_001", rotation_rad=turn_rad), errors, seed=seed)


def sampled(
    machine: Microscope, settings: ScanSettings = SMALL, *, index: int = 0
) -> tuple[DistortionSamples, Lattice, Truth]:
    """Return one frame's columns with an error of ``COLUMN_SD_PX`` per axis, as fits give them."""
    return samples_of(machine, settings, index=index)


def model_of(
    machine: Microscope, settings: ScanSettings = SMALL, *, frames: int = 1
) -> tuple[DistortionModel, Truth]:
    """Learn from some frames, one by one; the truth is that of the last."""
    samples, lattice, truth = sampled(machine, settings)
    model = first_model(samples, lattice, TERMS)
    for index in range(1, frames):
        samples, lattice, truth = sampled(machine, settings, index=index)
        model = model.updated(samples, lattice)
    return model, truth


@cache
def flyback_model() -> tuple[DistortionModel, Truth]:
    """One small frame with strong fly-back; made once, and nobody can alter it."""
    return model_of(microscope(flyback()))


def every_pixel(settings: ScanSettings, step: int = 1) -> Array:
    ny, nx = settings.shape_px
    y, x = np.meshgrid(np.arange(0.0, ny, step), np.arange(0.0, nx, step), indexing="ij")
    return np.stack([y.ravel(), x.ravel()], axis=1)


def without_affine(values: Array, places: Array) -> Array:
    """Values (n, k) without their least-squares affine part as a function of place (n, 2)."""
    affine = np.c_[np.ones(len(places)), places]
    rest: Array = values - affine @ np.linalg.lstsq(affine, values, rcond=None)[0]
    return rest


def shifted(samples: DistortionSamples, displacement_px: Array) -> DistortionSamples:
    """Move columns by a displacement, (n, 2)."""
    return DistortionSamples(
        crystal_sites=samples.crystal_sites,
        sites_px=samples.sites_px,
        observed_px=samples.observed_px + displacement_px,
        covariance_px2=samples.covariance_px2,
        settings=samples.settings,
        frame_id=samples.frame_id,
        time_s=samples.time_s,
    )
