"""Stacks from disk, results to disk: RosettaSciIO for the field's formats, h5py for ours."""

import contextlib
import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, overload

import h5py
import numpy as np
import numpy.typing as npt
from rsciio import digitalmicrograph, emd, hspy, tia, tiff

from nion_distortion._tags import number, positive, tag, without_none
from nion_distortion._validation import as_positive
from nion_distortion.correction import SIGN_CONVENTION, CorrectedFrame
from nion_distortion.frame import (
    ALTERED,
    LARGEST_PX,
    SMALLEST_PX,
    Frame,
    ScanSettings,
    UnusableFrameError,
)
from nion_distortion.nion_metadata import reported_settings, scanned_px

__all__ = ["read_frames", "write_corrected"]

NM_PER_UNIT = {"pm": 1e-3, "a": 0.1, "ang": 0.1, "angstrom": 0.1, "angstroms": 0.1, "å": 0.1,
               "nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "um": 1e3, "micron": 1e3,
               "microns": 1e3, "µm": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9, "meter": 1e9,
               "meters": 1e9}  # fmt: skip
"""Length units as the formats write them, in lower case."""

ALTERED_WORDS = ("align", "average", "binned", "crop", "fft", "filter", "rotated", "wiener")
"""Words in a title that tell that an image was computed from scans."""

SQUARE_WITHIN = 5e-3
"""Sides of a pixel that differ by less count as equal."""

HASHED_BYTES = 1 << 16
"""Of the head and the tail of a file, for the frames' identity."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Recording:
    """What a format gives: images on demand, the pixel's sides, and what else it knows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[int], npt.NDArray[Any]]
    steps: tuple[tuple[float, str], ...] = ()  # (scale, unit) of y and x
    settings: Mapping[str, Any] = field(default_factory=dict)
    channel: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


class _StoredFrames(Sequence[Frame]):
    """The frames of one file, each read when it is asked for."""

    def __init__(self, path: Path, recording: _Recording, settings: ScanSettings) -> None:
        self._path = path
        self._recording = recording
        self._settings = settings
        self._mark = _mark_of(path)
        self._length = 1 if len(recording.shape) == 2 else recording.shape[0]

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"{self._path.name} has {self._length} frames, no frame {index}")
        place = index % self._length
        image = _guarded(self._path, lambda: np.asarray(self._recording.load(place)))
        if image.shape != self._settings.shape_px:
            raise ValueError(f"{self._path.name} cannot be read: frame {place} is not complete")
        return Frame(
            image=image,
            settings=self._settings,
            index=place,
            frame_id=f"{self._path.name}[{place}]#{self._mark}",
            channel=self._recording.channel,
            provenance={"file": str(self._path.resolve()), **self._recording.provenance},
        )


def read_frames(
    path: str | os.PathLike[str], field_of_view_nm: float | None = None
) -> Sequence[Frame]:
    """Open a file of scanned images; each frame is read when it is asked for.

    Formats: DM3 and DM4, SER (with the EMI beside it), EMD, HSPY and HDF5 of HyperSpy, TIFF, NPY
    (with the settings in a JSON file beside it), NDATA and H5 of Nion Swift.

    Parameters
    ----------
    path : str or path
        The file.
    field_of_view_nm : float, optional
        Length of the longer side of a frame; None takes the file's own calibration.

    Returns
    -------
    Sequence of Frame
        One frame for an image, as many as there are for a stack (t, y, x). The settings are
        those that the file tells; ``provenance["altered"]`` says where the image is not the
        scan as it was made.

    Raises
    ------
    ValueError
        If the file cannot be read, is not a real-valued image or stack of images in space, or
        tells no pixel size and none is given.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{file} is not a file" if file.exists() else f"{file} does not exist")
    if file.stat().st_size == 0:
        raise ValueError(f"{file.name} is empty")
    recording = _open(file)
    _check_images(file.name, recording)
    return _StoredFrames(file, recording, _settings(file.name, recording, field_of_view_nm))


def _open(file: Path) -> _Recording:
    suffix = file.suffix.lower()
    openers: dict[str, Callable[[Path], _Recording]] = {
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
    if suffix not in openers:
        known = ", ".join(sorted(name[1:].upper() for name in openers))
        raise ValueError(f"{file.name} has no known format; known are {known}")
    return _guarded(file, lambda: openers[suffix](file))


class _RefusedError(ValueError):
    """A reason of ours that needs no further words."""


def _guarded(file: Path, read: Callable[[], Result]) -> Result:
    """Turn whatever a reader of a foreign format stumbles over into one sentence."""
    try:
        return read()
    except _RefusedError:
        raise
    except UnusableFrameError as error:
        raise _RefusedError(str(error)) from None
    except Exception as error:  # damaged files raise anything, from struct.error to KeyError
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{file.name} cannot be read, it may be damaged or cut short ({reason[:120]})"
        ) from error


def _check_images(name: str, recording: _Recording) -> None:
    """Refuse what is no image of real numbers, before a pixel is read."""
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
        raise ValueError(
            f"{name} has frames of {shape[-2]} x {shape[-1]} pixels; "
            f"from {SMALLEST_PX} to {LARGEST_PX} a side can be read"
        )


def _settings(name: str, recording: _Recording, field_of_view_nm: float | None) -> ScanSettings:
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


def _pixel_size_nm(name: str, steps: tuple[tuple[float, str], ...]) -> float:
    """Side of the pixel from (scale, unit) of y and x."""
    units = {_plain_unit(unit) for _, unit in steps}
    if any("1/" in unit.replace(" ", "") or "rad" in unit or "^-1" in unit for unit in units):
        raise ValueError(f"{name} is a diffraction pattern: its axes are in {units.pop()}")
    sides = _sides_nm(steps)
    if len(sides) != 2 or not all(math.isfinite(side) and side > 0 for side in sides):
        raise ValueError(f"{name} has no pixel size; give the field of view (--fov-nm)")
    if abs(sides[0] / sides[1] - 1) > SQUARE_WITHIN:
        raise ValueError(
            f"{name} has pixels of {sides[0]:.4g} nm by {sides[1]:.4g} nm; they must be square"
        )
    return float(np.mean(sides))


def _sides_nm(steps: tuple[tuple[float, str], ...]) -> list[float]:
    """Sides of a pixel; zero where the unit is no length."""
    return [abs(scale) * NM_PER_UNIT.get(_plain_unit(unit), 0.0) for scale, unit in steps]


def _plain_unit(unit: str) -> str:
    return unit.strip().lower().replace("\u03bc", "\u00b5")


def _mark_of(file: Path) -> str:
    """Hash size, head and tail of a file: quick, and the same wherever it lies."""
    with file.open("rb") as stream:
        head = stream.read(HASHED_BYTES)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - HASHED_BYTES))
        return hashlib.blake2b(head + stream.read() + str(size).encode(), digest_size=4).hexdigest()


# The formats, each an opener and what it knows about the scan.


def _open_npy(file: Path) -> _Recording:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    beside = file.with_suffix(".json")
    told = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return _Recording(
        shape=array.shape,
        dtype=array.dtype,
        load=_one_of(array),
        settings=_stored_settings(beside.name, told.get("settings", told)),
    )


def _one_of(array: Any) -> Callable[[int], npt.NDArray[Any]]:
    return lambda index: np.asarray(array[index] if len(array.shape) == 3 else array[()])


def _stored_settings(name: str, told: Any) -> dict[str, Any]:
    """Read settings as ``dataclasses.asdict`` gives them, through JSON."""
    if not isinstance(told, Mapping):
        raise _RefusedError(f"{name} must hold the scan settings by name")
    unknown = sorted(set(told) - {item.name for item in fields(ScanSettings)})
    if unknown:
        raise _RefusedError(f"{name} names {unknown[0]!r}, which is no scan setting")
    return {key: _as_tuple(value) for key, value in told.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def _open_ndata(file: Path) -> _Recording:
    with zipfile.ZipFile(file) as archive:
        array = np.load(io.BytesIO(archive.read("data.npy")), allow_pickle=False)
        properties = json.loads(archive.read("metadata.json"))
    return _swift_recording(array, properties)


def _open_hdf5(file: Path) -> _Recording:
    with h5py.File(file, "r") as store:
        by_swift = "data" in store and "properties" in store["data"].attrs
        by_hyperspy = "Experiments" in store
        properties = json.loads(store["data"].attrs["properties"]) if by_swift else {}
    if by_swift:
        return _swift_recording(h5py.File(file, "r")["data"], properties)
    if by_hyperspy:
        return _through_rosettasciio(hspy.file_reader(str(file), lazy=True))
    raise _RefusedError(f"{file.name} is neither of HyperSpy nor of Nion Swift")


def _open_digitalmicrograph(file: Path) -> _Recording:
    return _through_rosettasciio(digitalmicrograph.file_reader(str(file), lazy=True))


def _open_emd(file: Path) -> _Recording:
    return _through_rosettasciio(emd.file_reader(str(file), lazy=True))


def _open_tiff(file: Path) -> _Recording:
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


def _open_ser(file: Path) -> _Recording:
    """Read a series, with the description that lies beside it where there is one."""
    beside = file.with_name(file.stem.rpartition("_")[0] + ".emi")
    described = file if file.suffix.lower() == ".emi" else beside
    if described.is_file():
        signals = tia.file_reader(str(described))
        mine = [one for one in signals if _title(one) == file.name] or signals
    else:
        mine = tia.file_reader(str(file))
    return _through_rosettasciio(mine)


def _title(signal: Mapping[str, Any]) -> str:
    general = tag(signal, "metadata", "General") or {}
    return str(general.get("title") or general.get("original_filename") or "")


def _through_rosettasciio(signals: Sequence[Mapping[str, Any]]) -> _Recording:
    images = [one for one in signals if len(one["axes"]) in (2, 3)] or list(signals)
    if not images:
        raise _RefusedError("the file holds no image")
    signal = next((one for one in images if "ADF" in _title(one).upper()), images[0])
    array, axes = signal["data"], signal["axes"]
    if len(axes) == 3 and sum(bool(axis.get("navigate")) for axis in axes) == 2:
        raise _RefusedError(f"{_title(signal)} is a spectrum image; its survey image is needed")
    tree = signal.get("original_metadata") or {}
    known = _known_to_hyperspy(signal["metadata"]) | _known_to_digiscan(tree)
    known |= _known_to_tia(tree, array.shape) | _known_to_velox(tree)
    return _Recording(
        shape=tuple(int(length) for length in array.shape),
        dtype=array.dtype,
        load=_one_of(array),
        steps=tuple(
            (float(axis.get("scale", 0)), str(axis.get("units") or "")) for axis in axes[-2:]
        ),
        settings=known,
        channel=str(tag(tree, "BinaryResult", "Detector") or ""),
        provenance=_told_by(signal, tree, array.shape),
    )


def _told_by(
    signal: Mapping[str, Any], tree: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Collect what is worth keeping and no part of a match."""
    instrument = tag(signal, "metadata", "Acquisition_instrument", "TEM") or {}
    told = {
        "title": _title(signal),
        "date": tag(signal, "metadata", "General", "date"),
        "microscope": instrument.get("microscope")
        or tag(tree, "ObjectInfo", "ExperimentalDescription", "Microscope"),
        "magnification": instrument.get("magnification")
        or tag(tree, "ObjectInfo", "AcquireInfo", "Magnification"),
        ALTERED: _alteration(_title(signal), tree, shape),
    }
    return {key: value for key, value in told.items() if value}


def _alteration(title: str, tree: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    """Say why an image is not the scan as it was made; empty where nothing tells."""
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


def _flag(value: Any) -> bool | None:
    if value is None:
        return None
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")


def _known_to_hyperspy(metadata: Mapping[str, Any]) -> dict[str, Any]:
    mine = tag(metadata, "nion_distortion", "settings")
    if isinstance(mine, str):
        return _stored_settings("the file", json.loads(mine))
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


def _swift_recording(array: Any, properties: Mapping[str, Any]) -> _Recording:
    """Read what Nion Swift keeps beside the data of an item."""
    inner = properties.get("data_source") or properties
    axes = inner.get("dimensional_calibrations") or inner.get("spatial_calibrations") or []
    metadata = inner.get("metadata") or properties.get("metadata") or {}
    title = str(properties.get("title") or inner.get("title") or "")
    shape = (int(array.shape[-2]), int(array.shape[-1])) if len(array.shape) > 1 else (0, 0)
    steps = tuple((float(axis.get("scale", 1.0)), str(axis.get("units") or "")) for axis in axes)
    known = reported_settings(metadata, shape)
    if _recalibrated(steps[-2:], known.get("field_of_view_nm"), shape):
        del known["field_of_view_nm"]  # the operator's word, or no length at all
    altered = _alteration(title, {}, shape) or _cropped(metadata, shape)
    return _Recording(
        shape=tuple(array.shape),
        dtype=array.dtype,
        load=_one_of(array),
        steps=steps[-2:],
        settings=known,
        channel=str(tag(metadata, "hardware_source", "channel_name") or ""),
        provenance=without_none(title=title or None) | ({ALTERED: altered} if altered else {}),
    )


def _cropped(metadata: Mapping[str, Any], shape: tuple[int, int]) -> str:
    scanned = scanned_px(metadata, shape)
    if scanned == shape:
        return ""
    return f"it was cropped or binned: the scan had {scanned[0]} x {scanned[1]} pixels"


def _recalibrated(
    steps: tuple[tuple[float, str], ...], field_of_view_nm: float | None, shape: tuple[int, int]
) -> bool:
    """Whether an item's own calibration says something else than the scan did."""
    if field_of_view_nm is None or not any(unit for _, unit in steps):
        return False
    sides = _sides_nm(steps)
    return any(abs(side * max(shape) / field_of_view_nm - 1) > SQUARE_WITHIN for side in sides)


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
