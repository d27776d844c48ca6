"""Stacks from disk: what can be read is checked first, and each frame read when it is asked for."""

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from nion_distortion.files.formats import OPENERS
from nion_distortion.files.recording import Recording, RefusedError
from nion_distortion.files.settings import check_images, scan_settings
from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError

__all__ = ["read_frames"]

HASHED_BYTES = 1 << 16
"""Of the head and the tail of a file, for the frames' identity."""

DECLARED = "declared a raster although"
"""In a frame's provenance, with what the file says."""

Result = TypeVar("Result")


class _StoredFrames(Sequence[Frame]):
    """The frames of one file, each read when it is asked for."""

    def __init__(self, path: Path, recording: Recording, settings: ScanSettings) -> None:
        self._path = path
        self._recording = recording
        self._settings = settings
        self._mark = _mark_of(path)
        declared = {DECLARED: recording.other_path} if recording.other_path else {}
        self._provenance = {"file": str(path.resolve()), **declared, **recording.provenance}
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
            provenance=self._provenance,
        )


def read_frames(
    path: str | os.PathLike[str],
    field_of_view_nm: float | None = None,
    *,
    is_raster: bool = False,
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
    is_raster : bool, default: False
        Whether the beam is declared to have gone line by line, whatever the file says.

    Returns
    -------
    Sequence of Frame
        One frame for an image, as many as there are for a stack (t, y, x). The settings are
        those that the file tells; ``provenance["altered"]`` says where the image is not the
        scan as it was made.

    Raises
    ------
    ValueError
        If the file cannot be read, is not a real-valued image or stack of images in space, tells
        no pixel size and none is given, or says that the beam did not go line by line.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{file} is not a file" if file.exists() else f"{file} does not exist")
    if file.stat().st_size == 0:
        raise ValueError(f"{file.name} is empty")
    recording = _open(file)
    check_images(file.name, recording)
    if recording.other_path and not is_raster:
        raise RefusedError(recording.other_path, needs="raster")
    return _StoredFrames(file, recording, scan_settings(file.name, recording, field_of_view_nm))


def _open(file: Path) -> Recording:
    opener = OPENERS.get(file.suffix.lower())
    if opener is None:
        known = ", ".join(sorted(suffix[1:].upper() for suffix in OPENERS))
        raise ValueError(f"{file.name} has no known format; known are {known}")
    return _guarded(file, lambda: opener(file))


def _guarded(file: Path, read: Callable[[], Result]) -> Result:
    """Turn whatever a reader of a foreign format stumbles over into one sentence."""
    try:
        return read()
    except RefusedError:
        raise
    except UnusableFrameError as error:
        raise RefusedError(str(error)) from None
    except Exception as error:  # damaged files raise anything, from struct.error to KeyError
        # what a library says to its programmer helps nobody here, and may be dangerous advice
        raise ValueError(f"{file.name} cannot be read, it may be damaged or cut short") from error


def _mark_of(file: Path) -> str:
    """Hash size, head and tail of a file: quick, and the same wherever it lies."""
    with file.open("rb") as stream:
        head = stream.read(HASHED_BYTES)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - HASHED_BYTES))
        return hashlib.blake2b(head + stream.read() + str(size).encode(), digest_size=4).hexdigest()
