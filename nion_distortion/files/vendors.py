"""What each maker's tags say of a scan, and of an image that is not the scan as it was made."""

import json
import math
from collections.abc import Mapping
from typing import Any

from nion_distortion._tags import number, positive, tag, without_none
from nion_distortion.files.recording import stored_settings
from nion_distortion.frame import ALTERED

__all__ = ["alteration", "known_to_vendors", "provenance_of", "title_of"]

ALTERED_WORDS = ("align", "average", "binned", "crop", "fft", "filter", "rotated", "wiener")
"""Words in a title that tell that an image was computed from scans."""


def provenance_of(
    signal: Mapping[str, Any], tree: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Collect what is worth keeping and no part of a match.

    Parameters
    ----------
    signal : Mapping
        As RosettaSciIO gives it.
    tree : Mapping
        The format's own tags.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    dict
        What the file tells, by name.
    """
    instrument = tag(signal, "metadata", "Acquisition_instrument", "TEM") or {}
    told = {
        "title": title_of(signal),
        "date": tag(signal, "metadata", "General", "date"),
        "microscope": instrument.get("microscope")
        or tag(tree, "ObjectInfo", "ExperimentalDescription", "Microscope"),
        "magnification": instrument.get("magnification")
        or tag(tree, "ObjectInfo", "AcquireInfo", "Magnification"),
        ALTERED: _corrected(signal) or alteration(title_of(signal), tree, shape),
    }
    return {key: value for key, value in told.items() if value}


def _corrected(signal: Mapping[str, Any]) -> str:
    mine = tag(signal, "metadata", "nion_distortion", "sign_convention")
    return "" if mine is None else "its distortion was taken out already"


def alteration(title: str, tree: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    """Say why an image is not the scan as it was made.

    Parameters
    ----------
    title : str
        The image's title.
    tree : Mapping
        The format's own tags.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    str
        The reason; empty where nothing tells.
    """
    words = [word for word in ALTERED_WORDS if word in title.lower()]
    if words:
        return f'its title says "{words[0]}"'
    if tag(tree, "ImageList", "TagGroup0", "ImageTags", "Filters"):
        return "it was filtered"
    scanned = [number(tag(tree, "Scan", "ScanSize", side)) for side in ("height", "width")]
    if None not in scanned and tuple(scanned) != tuple(shape[-2:]):
        return f"the scan had {scanned[0]:g} x {scanned[1]:g} pixels"
    origins = tag(tree, "ImageList", "TagGroup0", "ImageData", "Calibrations", "Dimension") or {}
    if any(number(tag(one, "Origin")) for one in origins.values()):
        return "it was cut out of a larger image"
    return ""


def title_of(signal: Mapping[str, Any]) -> str:
    """Return an image's title.

    Parameters
    ----------
    signal : Mapping
        As RosettaSciIO gives it.

    Returns
    -------
    str
        Title, or name of the file it came from; empty where it has none.
    """
    general = tag(signal, "metadata", "General") or {}
    return str(general.get("title") or general.get("original_filename") or "")


def known_to_vendors(
    signal: Mapping[str, Any], tree: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Collect what the tags say of the scan, whoever wrote them.

    Parameters
    ----------
    signal : Mapping
        As RosettaSciIO gives it.
    tree : Mapping
        The format's own tags.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    dict
        Arguments of `ScanSettings`.
    """
    known = _known_to_hyperspy(signal["metadata"]) | _known_to_digiscan(tree)
    return known | _known_to_tia(tree, shape) | _known_to_velox(tree)


def _known_to_hyperspy(metadata: Mapping[str, Any]) -> dict[str, Any]:
    mine = tag(metadata, "nion_distortion", "settings")
    if isinstance(mine, str):
        return stored_settings("the file", json.loads(mine))
    energy_kv = tag(metadata, "Acquisition_instrument", "TEM", "beam_energy")
    return without_none(high_tension_v=positive(energy_kv, 1e3))


def _known_to_digiscan(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Gatan's tags: dwell and fly-back in microseconds, rotation in degrees."""
    tags = tag(tree, "ImageList", "TagGroup0", "ImageTags")
    return without_none(
        dwell_time_us=positive(tag(tags, "DigiScan", "Sample Time")),
        flyback_time_us=positive(tag(tags, "DigiScan", "Flyback")),
        line_sync=_flag(tag(tags, "DigiScan", "Synchronize Lines")),
        rotation_rad=number(tag(tags, "DigiScan", "Rotation"), math.pi / 180),
        high_tension_v=positive(tag(tags, "Microscope Info", "Voltage")),
    )


def _known_to_tia(tree: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """FEI's description of a series: times in seconds, the whole frame's among them."""
    info = tag(tree, "ObjectInfo")
    volts = tag(info, "ExperimentalConditions", "MicroscopeConditions", "AcceleratingVoltage")
    return without_none(
        dwell_time_us=positive(tag(info, "AcquireInfo", "DwellTimePath"), 1e6),
        line_time_us=positive(tag(info, "AcquireInfo", "FrameTime"), 1e6 / shape[-2]),
        high_tension_v=positive(volts),
    )


def _known_to_velox(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Thermo Fisher's tags: numbers as text, times in seconds, rotation in radians."""
    return without_none(
        dwell_time_us=positive(tag(tree, "Scan", "DwellTime"), 1e6),
        line_time_us=positive(tag(tree, "Scan", "LineTime"), 1e6),
        line_sync=_flag(tag(tree, "Scan", "MainsLockOn")),
        rotation_rad=number(tag(tree, "Scan", "ScanRotation")),
        high_tension_v=positive(tag(tree, "Optics", "AccelerationVoltage")),
    )


def _flag(value: Any) -> bool | None:
    if value is None:
        return None
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")
