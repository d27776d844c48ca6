"""A distortion model <-> bytes that any machine and any later version can read."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion import options
from nion_distortion.calibrations.encoding import (
    Arrays,
    decoded,
    decoded_fields,
    encoded,
    encoded_fields,
    has_fields,
)
from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel, ageing, basis, coils, model, weights
from nion_distortion.gaussian_process.fitting import stationary_posterior
from nion_distortion.gaussian_process.hyperparameters import NAMES, Hyperparameters

__all__ = ["MOST_STORED", "PARTS", "as_json", "from_json", "pack_model", "unpack_model"]

MOST_STORED = 200
"""Frames whose samples a calibration keeps, the newest."""

PARTS = ("model", "arrays", "samples")
"""What a packed model consists of."""

LIVE = ("last", "lattice", "drift", "frame_shape", "column_shape")
"""What belongs to a live run, and is None in a calibration."""

DERIVED = ("stationary", "distortion_px")
"""Fields that are computed from the rest; earlier versions stored the first of them as well."""

SAME_PLACE_PX = 1e-7
"""Ideal sites this near to an affine map of their crystal sites are stored as that map."""

SAME_D_PX = 1e-3
"""Tolerance within which D has to be reproduced from its weights; else this version's functions are
not those that it was stored with."""

PROBES = 9

KINDS: dict[str, type] = {
    name: kind
    for home in (options, basis, weights, coils, ageing, model)
    for name, kind in vars(home).items()
    if isinstance(kind, type) and has_fields(kind) and not name.startswith("_")
}
"""Types, by name, that a model may consist of."""

Array = npt.NDArray[np.float64]


def as_json(value: object, name: str) -> bytes:
    """Write settings, a mapping, or another small value without arrays as JSON.

    Parameters
    ----------
    value : object
        What to write.
    name : str
        What it is called, for messages.

    Returns
    -------
    bytes
        JSON; every number comes back as exactly what it was.

    Raises
    ------
    ValueError
        If something in it cannot be stored.
    """
    arrays: Arrays = {}
    plain = encoded(value, arrays, name)
    if arrays:
        raise ValueError(f"{next(iter(arrays))} is an array, which cannot be stored here")
    return json.dumps(plain).encode()


def from_json(content: bytes) -> Any:
    """Read what `as_json` has written.

    Parameters
    ----------
    content : bytes
        JSON.

    Returns
    -------
    object
        The value.
    """
    return decoded(json.loads(content), {}, KINDS)


def pack_model(known: DistortionModel) -> dict[str, bytes]:
    """Pack a model, without what belongs to its live run.

    Parameters
    ----------
    known : DistortionModel
        The model.

    Returns
    -------
    dict of bytes
        ``"model"`` is JSON, ``"arrays"`` and ``"samples"`` are NumPy archives without objects:
        weights and information in float64, of each column its index, position and variance.

    Raises
    ------
    ValueError
        If something in the model cannot be stored.
    """
    if isinstance(known.reference, options.Reference):
        raise ValueError(  # noqa: TRY004 - what is asked for, not its type, is wrong
            "a model measured against another field cannot be stored: store both calibrations, "
            "each against its crystal"
        )
    arrays: Arrays = {}
    without = (*LIVE, "samples", "hyperparameters", *DERIVED)
    content: dict[str, Any] = {
        "fields": encoded_fields(known, arrays, "model", without=without),
        "hyperparameters": _packed_hyperparameters(known.hyperparameters, arrays),
    }
    arrays["probes"] = _probes(known.distortion_px)
    packed: Arrays = {}
    stored = known.samples[-MOST_STORED:]
    content["samples"] = [_pack_samples(one, packed, str(k)) for k, one in enumerate(stored)]
    return {
        "model": json.dumps(content).encode(),
        "arrays": _archive(arrays),
        "samples": _archive(packed),
    }


def unpack_model(parts: Mapping[str, bytes]) -> DistortionModel:
    """Rebuild a model.

    Parameters
    ----------
    parts : Mapping of bytes
        The result of `pack_model`.

    Returns
    -------
    DistortionModel
        Its live fields are None; the information about D is bit by bit what was stored.

    Raises
    ------
    ValueError
        If it cannot be read, or this version's functions of D are not those of the one that
        stored it.
    """
    try:
        content = json.loads(parts["model"])
        arrays, packed = _unarchive(parts["arrays"]), _unarchive(parts["samples"])
        fields = {name: one for name, one in content["fields"].items() if name not in DERIVED}
        values = decoded_fields(fields, arrays, KINDS, DistortionModel)
        functions = values["basis"]
        given = _unpacked_hyperparameters(
            content["hyperparameters"],
            arrays,
            values["settings"].pixel_size_nm,
            functions.shape_px[0],
        )
        stationary = stationary_posterior(functions, given, values["known"])
        distortion = functions.on_pixels(stationary.mean)
        result = DistortionModel(
            **values,
            hyperparameters=given,
            stationary=stationary,
            distortion_px=distortion,
            samples=_unpack_samples(content["samples"], packed, values["settings"]),
        )
    except (KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if np.abs(_probes(distortion) - arrays["probes"]).max() > SAME_D_PX:
        raise ValueError("its functions of the place in the scan are not those of this version")
    return result


def _probes(distortion_px: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pick D at some pixels, among them the corners."""
    rows, columns = (np.linspace(0, n - 1, PROBES).astype(int) for n in distortion_px.shape[1:])
    return distortion_px[:, rows[:, None], columns]


def _packed_hyperparameters(given: Hyperparameters, arrays: Arrays) -> dict[str, Any]:
    """Store the logarithms by name, so that a later version may have more of them."""
    logs = dict(zip(NAMES, given.logs.T.tolist(), strict=True))
    rest = encoded_fields(given, arrays, "hyperparameters", without=("logs",))
    return {"logs": logs, "fields": rest}


def _unpacked_hyperparameters(
    content: Mapping[str, Any], arrays: Arrays, pixel_size_nm: float, lines: int
) -> Hyperparameters:
    """Terms that the stored model did not have yet get the medians of their priors."""
    unknown = sorted(set(content["logs"]) - set(NAMES))
    if unknown:
        raise ValueError(f"this version of the program does not know the term {unknown[0]!r}")
    logs = Hyperparameters.typical(pixel_size_nm, lines).logs.copy()
    for name, both_axes in content["logs"].items():
        logs[:, NAMES.index(name)] = both_axes
    rest = decoded_fields(content["fields"], arrays, KINDS, Hyperparameters)
    return Hyperparameters(logs=logs, **rest)


MEASURED = ("crystal_sites", "sites_px", "observed_px", "covariance_px2")
"""Fields of the samples that are packed column by column."""

SAID = ("broadening",)
"""Fields of the samples that are not stored: they are used only while a calibration is made."""


def _pack_samples(samples: DistortionSamples, packed: Arrays, name: str) -> dict[str, Any]:
    """Pack one frame's samples, about 19 bytes for each column."""
    packed |= {
        f"{name}.observed_px": samples.observed_px.astype(np.float32),
        f"{name}.variance_px2": samples.variance_px2.astype(np.float32),
    }
    packed |= {f"{name}.{key}": array for key, array in _pack_crystal(samples).items()}
    packed |= {f"{name}.{key}": array for key, array in _pack_sites(samples).items()}
    return encoded_fields(samples, packed, name, without=(*MEASURED, *SAID, "settings"))


def _pack_crystal(samples: DistortionSamples) -> Arrays:
    """Split crystal sites into cells and the few places in a cell; leave them where it fails."""
    cells = np.floor(samples.crystal_sites + SAME_PLACE_PX)
    places = samples.crystal_sites - cells
    motif, place = np.unique(np.round(places, 9), axis=0, return_inverse=True)
    if len(motif) > 255 or np.abs(cells).max(initial=0.0) > np.iinfo(np.int16).max:
        return {"crystal_sites": samples.crystal_sites}
    place = place.ravel()
    number = np.bincount(place, minlength=len(motif))
    exact = [np.bincount(place, places[:, axis]) / number for axis in range(2)]
    return {
        "cells": cells.astype(np.int16),
        "place": place.astype(np.uint8),
        "motif": np.stack(exact, axis=1),
    }


def _pack_sites(samples: DistortionSamples) -> Arrays:
    """Store ideal sites as a lattice where they are one, otherwise as they are."""
    crystal = np.c_[np.ones(len(samples)), samples.crystal_sites]
    lattice = np.asarray(np.linalg.lstsq(crystal, samples.sites_px, rcond=None)[0])
    off = np.abs(crystal @ lattice - samples.sites_px).max(initial=0.0)
    if off > SAME_PLACE_PX:
        return {"sites_px": samples.sites_px}
    return {"lattice_px": lattice}


def _unpack_samples(
    contents: Sequence[Mapping[str, Any]], packed: Arrays, settings: ScanSettings
) -> tuple[DistortionSamples, ...]:
    frames: list[Arrays] = [{} for _ in contents]
    for key, array in packed.items():
        number, _, name = key.partition(".")
        frames[int(number)][name] = array
    return tuple(
        _unpack_frame(content, frame, packed, settings)
        for content, frame in zip(contents, frames, strict=True)
    )


def _unpack_frame(
    content: Mapping[str, Any], frame: Arrays, packed: Arrays, settings: ScanSettings
) -> DistortionSamples:
    if "cells" in frame:
        crystal = frame["cells"] + frame["motif"][frame["place"]]
    else:
        crystal = frame["crystal_sites"]
    sites = frame.get("sites_px")
    if sites is None:
        sites = np.c_[np.ones(len(crystal)), crystal] @ frame["lattice_px"]
    return DistortionSamples(
        crystal_sites=crystal,
        sites_px=sites,
        observed_px=frame["observed_px"],
        covariance_px2=frame["variance_px2"][:, None, None] * np.eye(2),
        settings=settings,
        **decoded_fields(content, packed, KINDS, DistortionSamples),
    )


def _archive(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unarchive(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
