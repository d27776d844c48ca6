"""Spectrum images from disk: a spectrum, or a diffraction pattern, at every pixel of a scan."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rsciio import hspy

from nion_distortion._tags import tag
from nion_distortion.files.formats import OPENERS
from nion_distortion.files.recording import Recording
from nion_distortion.files.settings import check_images, scan_settings
from nion_distortion.files.vendors import known_to_vendors, provenance_of
from nion_distortion.frame import Frame, ScanSettings

__all__ = ["SpectrumImage", "open_spectrum_image"]

AXIS = ("name", "scale", "offset", "units")
"""What is kept of a trailing axis."""

READ_PX = 2**24
"""Pixels that are in memory together, 64 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumImage:
    """A spectrum image on disk; nothing of it is in memory.

    Parameters
    ----------
    array : array_like, shape (ny, nx, ...)
        Whatever reads the part that it is indexed with.
    settings : ScanSettings
        The scan.
    axes : tuple of Mapping, default: ()
        Name, scale, offset and units of the trailing axes.
    signal_type : str, default: ""
        HyperSpy's name for what was measured.
    provenance : Mapping, default: {}
        Whatever else is known.
    """

    array: Any
    settings: ScanSettings
    axes: tuple[Mapping[str, Any], ...] = ()
    signal_type: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def places(self) -> list[tuple[Any, ...]]:
        """Where the parts are that fit into the memory, a few planes each; together the whole."""
        ny, nx, *trailing = self.array.shape
        step = max(1, READ_PX // (ny * nx))
        return [
            (slice(None), slice(None), *before, slice(start, min(start + step, trailing[-1])))
            for before in np.ndindex(*trailing[:-1])
            for start in range(0, trailing[-1], step)
        ]

    def block(self, place: tuple[Any, ...]) -> npt.NDArray[Any]:
        """Read one of the blocks.

        Parameters
        ----------
        place : tuple
            One of ``places``.

        Returns
        -------
        ndarray, shape (ny, nx, k)
            Its planes.
        """
        return np.asarray(self.array[place])

    def survey(self) -> Frame:
        """Add up the whole spectrum at every pixel.

        Returns
        -------
        Frame
            An image of the sample.
        """
        total = np.zeros(self.settings.shape_px)
        for place in self.places:
            total += self.block(place).sum(axis=-1, dtype=np.float64)
        name = Path(self.provenance["file"]).name
        return Frame(
            image=total.astype(np.float32),
            settings=self.settings,
            frame_id=name,
            channel="sum of the spectrum",
            provenance=self.provenance,
        )


def open_spectrum_image(
    path: str | os.PathLike[str],
    field_of_view_nm: float | None = None,
    shape_px: tuple[int, int] | None = None,
) -> SpectrumImage | None:
    """Open a spectrum image in NPY or in the HDF5 of HyperSpy.

    Parameters
    ----------
    path : str or path
        The file.
    field_of_view_nm : float, optional
        Length of the longer side of the scan; None takes the file's own calibration.
    shape_px : tuple of int, optional
        Lines and pixels of the scan. An NPY with three axes does not say which of them is the
        spectrum's: it counts as a spectrum image where its first two are these, or those of the
        settings beside it, and its last two are not.

    Returns
    -------
    SpectrumImage or None
        None where the file is something else, an image or a stack of images for example.

    Raises
    ------
    ValueError
        If it is a spectrum image that cannot be read, is not one of real numbers, or tells no
        pixel size and none is given.
    """
    file = Path(path)
    if not file.is_file() or file.stat().st_size == 0:
        return None
    if file.suffix.lower() == ".npy":
        return _open_npy(file, field_of_view_nm, shape_px)
    if file.suffix.lower() in (".hspy", ".h5", ".hdf5"):
        return _open_hspy(file, field_of_view_nm)
    return None


def _open_npy(
    file: Path, field_of_view_nm: float | None, shape_px: tuple[int, int] | None
) -> SpectrumImage | None:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        known = OPENERS[".npy"](file).settings
    except Exception:  # whoever reads images says what is wrong with it
        return None
    scanned = tuple(known.get("shape_px") or shape_px or ())
    is_stack = array.ndim == 3 and (array.shape[:2] != scanned or array.shape[1:] == scanned)
    if array.ndim < 3 or is_stack:
        return None
    return _spectrum_image(file, array, {"settings": known}, field_of_view_nm)


def _open_hspy(file: Path, field_of_view_nm: float | None) -> SpectrumImage | None:
    try:
        signals = hspy.file_reader(str(file), lazy=True)
    except Exception:  # whoever reads images says what is wrong with it
        return None
    for signal in signals:
        axes = signal["axes"]
        moving = [bool(axis.get("navigate")) for axis in axes]
        if len(axes) > 2 and moving[:2] == [True, True] and not any(moving[2:]):
            tree, array = signal.get("original_metadata") or {}, signal["data"]
            told = {
                "settings": known_to_vendors(signal, tree, array.shape[:2]),
                "steps": tuple(
                    (float(axis.get("scale", 0)), str(axis.get("units") or "")) for axis in axes[:2]
                ),
                "provenance": provenance_of(signal, tree, array.shape[:2]),
            }
            kept = tuple({name: axis.get(name) for name in AXIS} for axis in axes[2:])
            kind = str(tag(signal, "metadata", "Signal", "signal_type") or "")
            return _spectrum_image(file, array, told, field_of_view_nm, axes=kept, signal_type=kind)
    return None


def _spectrum_image(
    file: Path, array: Any, told: Mapping[str, Any], field_of_view_nm: float | None, **more: Any
) -> SpectrumImage:
    shape = (int(array.shape[0]), int(array.shape[1]))
    recording = Recording(shape=shape, dtype=array.dtype, load=lambda _: array[..., 0], **told)
    check_images(file.name, recording)
    return SpectrumImage(
        array=array,
        settings=scan_settings(file.name, recording, field_of_view_nm),
        provenance={"file": str(file.resolve()), **recording.provenance},
        **more,
    )
