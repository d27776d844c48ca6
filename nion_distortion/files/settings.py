"""What a recording tells -> ScanSettings; lengths in whatever unit a format writes them."""

import math

import numpy as np

from nion_distortion._validation import as_positive
from nion_distortion.files.recording import Recording, RefusedError, Steps
from nion_distortion.frame import LARGEST_PX, SMALLEST_PX, ScanSettings

__all__ = ["SQUARE_WITHIN", "check_images", "scan_settings", "sides_nm"]

NM_PER_UNIT = {"pm": 1e-3, "a": 0.1, "ang": 0.1, "angstrom": 0.1, "angstroms": 0.1, "å": 0.1,
               "nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "um": 1e3, "micron": 1e3,
               "microns": 1e3, "µm": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9, "meter": 1e9,
               "meters": 1e9}  # fmt: skip
"""Length units as the formats write them, in lower case."""

SQUARE_WITHIN = 5e-3
"""Sides of a pixel that differ by less count as equal."""


def check_images(name: str, recording: Recording) -> None:
    """Refuse what is no image of real numbers, before a pixel is read.

    Parameters
    ----------
    name : str
        The file's name, for the message.
    recording : Recording
        What the file holds.

    Raises
    ------
    ValueError
        If it is no image or stack of images.
    """
    shape, kind = recording.shape, recording.dtype.kind
    if kind == "V" or (len(shape) == 3 and shape[-1] in (3, 4) and recording.dtype == np.uint8):
        raise ValueError(f"{name} is a colour picture; the detector's own values are needed")
    if kind == "c":
        raise ValueError(f"{name} holds complex numbers; an image of real numbers is needed")
    if kind not in "biuf":
        raise ValueError(f"{name} holds {recording.dtype}, not numbers")
    if len(shape) not in (2, 3):
        raise ValueError(f"{name} has {len(shape)} axes; an image has 2 and a stack of images 3")
    if 0 in shape:
        raise ValueError(f"{name} holds no pixels")
    if min(shape[-2:]) < SMALLEST_PX or max(shape[-2:]) > LARGEST_PX:
        spectra = len(shape) == 3 and shape[-1] < SMALLEST_PX <= min(shape[:2])
        raise RefusedError(
            f"{name} has frames of {shape[-2]} x {shape[-1]} pixels; "
            f"from {SMALLEST_PX} to {LARGEST_PX} a side can be read"
            + "; it looks like a spectrum image"
            * spectra,
            needs="calibration" if spectra else "",
        )


def scan_settings(name: str, recording: Recording, field_of_view_nm: float | None) -> ScanSettings:
    """Collect what is known of the scan.

    Parameters
    ----------
    name : str
        The file's name, for the message.
    recording : Recording
        What the file holds.
    field_of_view_nm : float or None
        The caller's word for the longer side, which counts more than the file's own.

    Returns
    -------
    ScanSettings
        Those of each frame.

    Raises
    ------
    ValueError
        If the file contradicts itself, or nothing tells the pixel size.
    """
    shape = (int(recording.shape[-2]), int(recording.shape[-1]))
    known = {key: value for key, value in recording.settings.items() if value is not None}
    told = known.pop("field_of_view_nm", None)
    if tuple(known.pop("shape_px", shape)) != shape:
        raise ValueError(f"{name} has frames of {shape} pixels, but its settings say otherwise")
    if field_of_view_nm is not None:
        told = as_positive("field_of_view_nm", field_of_view_nm)
    if told is None:
        told = _pixel_size_nm(name, recording.steps) * max(shape)
    line_us = known.get("line_time_us")
    if line_us is not None and line_us < shape[1] * known.get("dwell_time_us", 0.0) * (1 - 1e-6):
        raise ValueError(
            f"{name} contradicts itself: a line of {shape[1]} pixels of "
            f"{known['dwell_time_us']:g} us does not fit into a line time of {line_us:g} us"
        )
    return ScanSettings(shape_px=shape, field_of_view_nm=float(told), **known)


def _pixel_size_nm(name: str, steps: Steps) -> float:
    """Side of the pixel from (scale, unit) of y and x."""
    units = {_plain_unit(unit) for _, unit in steps}
    if any("1/" in unit.replace(" ", "") or "rad" in unit or "^-1" in unit for unit in units):
        raise ValueError(f"{name} is a diffraction pattern: its axes are in {units.pop()}")
    sides = sides_nm(steps)
    if len(sides) != 2 or not all(math.isfinite(side) and side > 0 for side in sides):
        reason = f"{name} has no pixel size; give the field of view"
        raise RefusedError(reason, needs="field_of_view_nm")
    if abs(sides[0] / sides[1] - 1) > SQUARE_WITHIN:
        raise ValueError(
            f"{name} has pixels of {sides[0]:.4g} nm by {sides[1]:.4g} nm; they must be square"
        )
    return float(np.mean(sides))


def sides_nm(steps: Steps) -> list[float]:
    """Return the sides of a pixel.

    Parameters
    ----------
    steps : tuple
        Scale and unit of y and of x.

    Returns
    -------
    list of float
        In nm; zero where the unit is no length.
    """
    return [abs(scale) * NM_PER_UNIT.get(_plain_unit(unit), 0.0) for scale, unit in steps]


def _plain_unit(unit: str) -> str:
    return unit.strip().lower().replace("\u03bc", "\u00b5")
