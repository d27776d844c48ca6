"""Results to disk, as HyperSpy reads them."""

import contextlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nion_distortion.correction import SIGN_CONVENTION, CorrectedFrame
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import ScanSettings

__all__ = ["write_corrected", "write_corrected_blocks", "write_field"]

FIELD_MAPS = ("displacement_px", "std_px", "unremoved_std_px")

CHUNK_PX = 64
"""Side of the part of a spectrum image that HDF5 compresses together."""


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
    _check_target(file, corrected, overwrite=overwrite)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as store:
        group = _store_signal(store, corrected, _axes_of(corrected))
        group.create_dataset("data", data=corrected.image, compression="gzip", compression_opts=1)
    _replace(file, buffer.getbuffer())
    return file


def write_corrected_blocks(
    path: str | os.PathLike[str],
    blocks: Iterator[tuple[tuple[Any, ...], CorrectedFrame]],
    shape: tuple[int, ...],
    *,
    axes: Sequence[Mapping[str, Any]] = (),
    signal_type: str = "",
    overwrite: bool = False,
) -> Path:
    """Write a corrected spectrum image block by block, as `write_corrected` does a frame.

    Parameters
    ----------
    path : str or path
        The file to write; its folder must exist.
    blocks : iterator of (tuple, CorrectedFrame)
        Where each block stands in the whole, and its planes, shape (ny, nx, k). All have one
        field, and what is written beside the data is that of the first.
    shape : tuple of int
        Of the whole, (ny, nx, ...).
    axes : sequence of Mapping, default: ()
        Name, scale, offset and units of the trailing axes, as far as they are known.
    signal_type : str, default: ""
        HyperSpy's name for what was measured, for example ``"EELS"``.
    overwrite : bool, default: False
        Whether an earlier file of that name may be replaced; the image's own file never is.

    Returns
    -------
    path
        The file; HyperSpy reads it as a spectrum image.

    Raises
    ------
    ValueError
        If the file exists, is the one that the image came from, or cannot be written. What was
        there before is then left as it was.
    """
    file = Path(path)
    where, first = next(blocks)
    _check_target(file, first, overwrite=overwrite)
    chunks = (*(min(CHUNK_PX, side) for side in shape[:2]), *[1] * (len(shape) - 3))
    part = _beside(file)
    try:
        with h5py.File(part, "w") as store:
            group = _store_signal(store, first, _axes_of(first, shape, axes), signal_type)
            data = group.create_dataset(
                "data",
                shape,
                np.float32,
                chunks=(*chunks, first.image.shape[2]),
                compression="gzip",
                compression_opts=1,
            )
            data[where] = first.image
            for place, block in blocks:
                data[place] = block.image
        part.replace(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return file


def write_field(
    path: str | os.PathLike[str], field: DistortionField, *, about: Mapping[str, Any] | None = None
) -> Path:
    """Write a distortion field for other programs, as HDF5 or as a table.

    Parameters
    ----------
    path : str or path
        The new file, ``.h5`` or ``.csv``. The table has one row for each pixel, its header in
        lines that begin with ``#``.
    field : DistortionField, shape (2, ny, nx)
        What to write: displacement, its standard deviation, what it leaves in single frames, and
        the mask, with units, settings and sign convention.
    about : Mapping, optional
        Whatever else is to stand in it, for example the calibration's id.

    Returns
    -------
    path
        The file.

    Raises
    ------
    ValueError
        If it exists, has another suffix, or cannot be written.
    """
    file = Path(path)
    writers = {".h5": _field_as_hdf5, ".hdf5": _field_as_hdf5, ".csv": _field_as_csv}
    if file.suffix.lower() not in writers:
        raise ValueError(f"{file.name} must end in .h5 or .csv")
    if file.exists():
        raise ValueError(f"{file} exists already")
    facts = {
        "sign_convention": SIGN_CONVENTION,
        "units": "px; standard deviations are of the place on the sample that a pixel shows",
        "pixel_size_nm": field.settings.pixel_size_nm,
        "kind": field.kind,
        "reference": field.reference,
        "settings": json.dumps(_plain_settings(field.settings), default=str),
        **(about or {}),
    }
    _replace(file, memoryview(writers[file.suffix.lower()](field, facts)))
    return file


def _field_as_hdf5(field: DistortionField, facts: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as store:
        _store(store, {**facts, "valid": field.valid})
        for name in FIELD_MAPS:
            values = getattr(field, name)
            one = store.create_dataset(name, data=values, compression="gzip", compression_opts=1)
            one.attrs["units"], one.attrs["axes"] = "px", "component (y, x), line, pixel"
    return buffer.getvalue()


def _field_as_csv(field: DistortionField, facts: Mapping[str, Any]) -> bytes:
    y, x = np.indices(field.valid.shape).reshape(2, -1)
    maps = [part.ravel() for name in FIELD_MAPS for part in getattr(field, name)]
    names = [f"{name.removesuffix('_px')}_{axis}_px" for name in FIELD_MAPS for axis in "yx"]
    table = np.column_stack([y, x, *maps, field.valid.ravel()])
    buffer = io.StringIO()
    buffer.writelines(f"# {name}: {value}\n" for name, value in facts.items())
    buffer.write(",".join(["y_px", "x_px", *names, "valid"]) + "\n")
    np.savetxt(buffer, table, fmt=["%d", "%d", *["%.6g"] * len(maps), "%d"], delimiter=",")
    return buffer.getvalue().encode()


def _plain_settings(settings: ScanSettings) -> dict[str, Any]:
    return {item.name: getattr(settings, item.name) for item in fields(ScanSettings)}


def _check_target(file: Path, corrected: CorrectedFrame, *, overwrite: bool) -> None:
    origin = corrected.provenance.get("file")
    if origin is not None and file.resolve() == Path(origin).resolve():
        raise ValueError(f"{file} is the file that the frame came from; it is never overwritten")
    if file.exists() and not overwrite:
        raise ValueError(f"{file} exists already")


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.part")


def _replace(file: Path, content: memoryview) -> None:
    """Write beside the target, then rename: the target is whole at any time."""
    part = _beside(file)
    try:
        with part.open("wb") as stream:
            stream.write(content)
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise ValueError(f"{file} cannot be written: {error.strerror}") from error


def _axes_of(
    corrected: CorrectedFrame,
    shape: tuple[int, ...] | None = None,
    trailing: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Describe the axes as HyperSpy does; in a spectrum image one moves from place to place."""
    lengths = corrected.image.shape if shape is None else shape
    axes = []
    for place, length in enumerate(lengths):
        in_space = place < 2
        axis = {
            "_type": "UniformDataAxis",
            "name": "yx"[place] if in_space else f"axis {place}",
            "scale": corrected.pixel_size_nm if in_space else 1.0,
            "offset": 0.0,
            "size": length,
            "units": "nm" if in_space else None,
            "navigate": in_space and shape is not None,
            "is_binned": False,
        }
        axes.append(axis if in_space or not trailing else axis | dict(trailing[place - 2]))
    return axes


def _store_signal(
    store: h5py.File,
    corrected: CorrectedFrame,
    axes: Sequence[Mapping[str, Any]],
    signal_type: str = "",
) -> h5py.Group:
    """Write all but the data."""
    store.attrs["file_format"], store.attrs["file_format_version"] = "HyperSpy", "3.1"
    title = f"corrected {corrected.frame_id}".strip()
    group = store.create_group(f"Experiments/{title.replace('/', '-')}")
    group.attrs["package"], group.attrs["package_version"] = "nion_distortion", ""
    for place, axis in enumerate(axes):
        _store(group.create_group(f"axis-{place}"), axis)
    metadata = _metadata(title, corrected)
    metadata["Signal"] = {"signal_type": signal_type}
    _store(group.create_group("metadata"), metadata)
    for name in ("original_metadata", "learning_results", "attributes"):
        group.create_group(name)
    return group


def _metadata(title: str, corrected: CorrectedFrame) -> dict[str, Any]:
    return {
        "General": {"title": title},
        "_HyperSpy": {"Folding": {"unfolded": False, "signal_unfolded": False}},
        "nion_distortion": {
            "sign_convention": SIGN_CONVENTION,
            "frame_id": corrected.frame_id,
            "channel": corrected.channel,
            "pixel_size_nm": corrected.pixel_size_nm,
            "settings": json.dumps(_plain_settings(corrected.settings), default=str),
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
