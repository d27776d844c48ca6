"""The formats, each with its opener: RosettaSciIO for the field's, h5py and NumPy for the rest."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rsciio import digitalmicrograph, emd, hspy, tia, tiff

from nion_distortion._tags import tag
from nion_distortion.files.nion_swift import nion_swift_recording
from nion_distortion.files.recording import Recording, RefusedError, one_of, stored_settings
from nion_distortion.files.vendors import known_to_vendors, provenance_of, title_of

__all__ = ["OPENERS"]


def _open_npy(file: Path) -> Recording:
    if _holds_objects(file):
        raise RefusedError(
            f"{file.name} holds Python objects: its frames differ in size, or are no numbers"
        )
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    beside = file.with_suffix(".json")
    told = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return Recording(
        shape=array.shape,
        dtype=array.dtype,
        load=one_of(array),
        settings=stored_settings(beside.name, told.get("settings", told)),
    )


def _holds_objects(file: Path) -> bool:
    with file.open("rb") as stream:
        is_first = np.lib.format.read_magic(stream) == (1, 0)
        read = (
            np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        )
        return bool(read(stream)[2].hasobject)


def _open_ndata(file: Path) -> Recording:
    with zipfile.ZipFile(file) as archive:
        array = np.load(io.BytesIO(archive.read("data.npy")), allow_pickle=False)
        properties = json.loads(archive.read("metadata.json"))
    return nion_swift_recording(array, properties)


def _open_hdf5(file: Path) -> Recording:
    with h5py.File(file, "r") as store:
        by_swift = "data" in store and "properties" in store["data"].attrs
        by_hyperspy = "Experiments" in store
        properties = json.loads(store["data"].attrs["properties"]) if by_swift else {}
    if by_swift:
        return nion_swift_recording(h5py.File(file, "r")["data"], properties)
    if by_hyperspy:
        return _through_rosettasciio(hspy.file_reader(str(file), lazy=True))
    raise RefusedError(f"{file.name} is neither of HyperSpy nor of Nion Swift")


def _open_digitalmicrograph(file: Path) -> Recording:
    return _through_rosettasciio(digitalmicrograph.file_reader(str(file), lazy=True))


def _open_emd(file: Path) -> Recording:
    return _through_rosettasciio(emd.file_reader(str(file), lazy=True))


def _open_tiff(file: Path) -> Recording:
    # Read at once: the lazy reader would leave the file open.
    signals = tiff.file_reader(str(file))
    for signal in signals:
        # ImageJ writes one unit for all axes, and RosettaSciIO knows that of microns only.
        unit = _imagej_unit(str(tag(signal, "original_metadata", "ImageDescription") or ""))
        for axis in signal["axes"]:
            axis["units"] = axis.get("units") or unit
    return _through_rosettasciio(signals)


def _imagej_unit(description: str) -> str:
    lines = [line.partition("=") for line in description.splitlines()]
    unit = next((value for key, _, value in lines if key == "unit"), "")
    return unit.replace("\\u00B5", "\u00b5") if description.startswith("ImageJ") else ""


def _open_ser(file: Path) -> Recording:
    """Read a series, with the description that lies beside it where there is one."""
    beside = file.with_name(file.stem.rpartition("_")[0] + ".emi")
    described = file if file.suffix.lower() == ".emi" else beside
    if described.is_file():
        signals = tia.file_reader(str(described))
        mine = [one for one in signals if title_of(one) == file.name] or signals
    else:
        mine = tia.file_reader(str(file))
    return _through_rosettasciio(mine)


def _through_rosettasciio(signals: Sequence[Mapping[str, Any]]) -> Recording:
    images = [one for one in signals if len(one["axes"]) in (2, 3)] or list(signals)
    if not images:
        raise RefusedError("the file holds no image")
    signal = next((one for one in images if "ADF" in title_of(one).upper()), images[0])
    array, axes = signal["data"], signal["axes"]
    if len(axes) == 3 and sum(bool(axis.get("navigate")) for axis in axes) == 2:
        raise RefusedError(f"{title_of(signal)} is a spectrum image; its survey image is needed")
    tree = signal.get("original_metadata") or {}
    return Recording(
        shape=tuple(int(length) for length in array.shape),
        dtype=array.dtype,
        load=one_of(array),
        steps=tuple(
            (float(axis.get("scale", 0)), str(axis.get("units") or "")) for axis in axes[-2:]
        ),
        settings=known_to_vendors(signal, tree, array.shape),
        channel=str(tag(tree, "BinaryResult", "Detector") or ""),
        provenance=provenance_of(signal, tree, array.shape),
    )


OPENERS: Mapping[str, Callable[[Path], Recording]] = {
    ".npy": _open_npy,
    ".ndata": _open_ndata,
    ".ndata1": _open_ndata,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
    ".hspy": _open_hdf5,
    ".dm3": _open_digitalmicrograph,
    ".dm4": _open_digitalmicrograph,
    ".ser": _open_ser,
    ".emi": _open_ser,
    ".emd": _open_emd,
    ".tif": _open_tiff,
    ".tiff": _open_tiff,
}
"""What opens a file, by its suffix."""
