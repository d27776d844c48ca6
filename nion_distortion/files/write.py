"""Results to disk, as HyperSpy reads them."""

import contextlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nion_distortion.correction import SIGN_CONVENTION, CorrectedFrame
from nion_distortion.frame import ScanSettings

__all__ = ["write_corrected"]


def write_corrected(
    path: str | os.PathLike[str], corrected: CorrectedFrame, *, overwrite: bool = False
) -> Path:
    """Write a corrected frame as HDF5 that HyperSpy and RosettaSciIO read.

    Parameters
    ----------
    path : str or path
        The file to write; its folder must exist. HyperSpy knows it by the suffix ``.hspy``.
    corrected : CorrectedFrame, image of shape (ny, nx) or (ny, nx, ...)
        What to write. Mask, standard deviation and displacement (px), settings, calibration,
        sign convention and provenance stand in the metadata under ``nion_distortion``.
    overwrite : bool, default: False
        Whether an earlier file of that name may be replaced; the frame's own file never is.

    Returns
    -------
    path
        The file.

    Raises
    ------
    ValueError
        If the file exists, is the one that the frame came from, or cannot be written. What was
        there before is then left as it was.
    """
    file = Path(path)
    origin = corrected.provenance.get("file")
    if origin is not None and file.resolve() == Path(origin).resolve():
        raise ValueError(f"{file} is the file that the frame came from; it is never overwritten")
    if file.exists() and not overwrite:
        raise ValueError(f"{file} exists already")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as store:
        _store_signal(store, corrected)
    _replace(file, buffer.getbuffer())
    return file


def _replace(file: Path, content: memoryview) -> None:
    """Write beside the target, then rename: the target is whole at any time."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise ValueError(f"{file} cannot be written: {error.strerror}") from error


def _store_signal(store: h5py.File, corrected: CorrectedFrame) -> None:
    store.attrs["file_format"], store.attrs["file_format_version"] = "HyperSpy", "3.1"
    title = f"corrected {corrected.frame_id}".strip()
    group = store.create_group(f"Experiments/{title.replace('/', '-')}")
    group.attrs["package"], group.attrs["package_version"] = "nion_distortion", ""
    group.create_dataset("data", data=corrected.image, compression="gzip", compression_opts=1)
    for place, length in enumerate(corrected.image.shape):
        in_space = place < 2
        _store(
            group.create_group(f"axis-{place}"),
            {
                "_type": "UniformDataAxis",
                "name": "yx"[place] if in_space else f"axis {place}",
                "scale": corrected.pixel_size_nm if in_space else 1.0,
                "offset": 0.0,
                "size": length,
                "units": "nm" if in_space else None,
                "navigate": False,
                "is_binned": False,
            },
        )
    _store(group.create_group("metadata"), _metadata(title, corrected))
    for name in ("original_metadata", "learning_results", "attributes"):
        group.create_group(name)


def _metadata(title: str, corrected: CorrectedFrame) -> dict[str, Any]:
    settings = {item.name: getattr(corrected.settings, item.name) for item in fields(ScanSettings)}
    return {
        "General": {"title": title},
        "Signal": {"signal_type": ""},
        "_HyperSpy": {"Folding": {"unfolded": False, "signal_unfolded": False}},
        "nion_distortion": {
            "sign_convention": SIGN_CONVENTION,
            "frame_id": corrected.frame_id,
            "channel": corrected.channel,
            "pixel_size_nm": corrected.pixel_size_nm,
            "settings": json.dumps(settings, default=str),
            "valid": corrected.valid,
            "std_px": corrected.std_px,
            "displacement_px": corrected.displacement_px,
            "provenance": dict(corrected.provenance),
        },
    }


def _store(group: h5py.Group, values: Mapping[str, Any]) -> None:
    """Write a tree: arrays as datasets, the rest as attributes, None as HyperSpy writes it."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            _store(group.create_group(str(key)), value)
        elif isinstance(value, np.ndarray) and value.ndim:
            group.create_dataset(str(key), data=value, compression="gzip", compression_opts=1)
        elif isinstance(value, (bool, int, float, str, np.generic)):
            group.attrs[str(key)] = value
        else:
            group.attrs[str(key)] = "_None_" if value is None else _as_text(value)


def _as_text(value: object) -> str:
    return json.dumps(value, default=str) if isinstance(value, Iterable) else str(value)
