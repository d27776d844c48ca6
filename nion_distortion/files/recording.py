"""What every format gives: images on demand, and what it knows of the scan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion.frame import ScanSettings

__all__ = ["Recording", "RefusedError", "Steps", "one_of", "stored_settings"]

Steps = tuple[tuple[float, str], ...]
"""Scale and unit of y and of x, as a format writes them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """What a format gives: images on demand, the pixel's sides, and what else it knows.

    Parameters
    ----------
    shape : tuple of int
        Of the whole array, (ny, nx) or (t, ny, nx).
    dtype : dtype
        Of its pixels.
    load : callable
        From the number of a frame to its image.
    steps : tuple
        Scale and unit of y and of x, as the format writes them.
    settings : Mapping
        Arguments of `ScanSettings`, those that the format tells.
    other_path : str
        Why nothing can be corrected, where the beam did not go line by line.
    channel : str
        The detector.
    provenance : Mapping
        What is worth keeping and no part of a match.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[int], npt.NDArray[Any]]
    steps: Steps = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    other_path: str = ""
    channel: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


class RefusedError(ValueError):
    """A reason of ours that needs no further words.

    Parameters
    ----------
    reason : str
        One sentence.
    needs : {"", "calibration", "field_of_view_nm", "raster"}, default: ""
        What would help; whoever asked for the file knows how it is given.
    """

    def __init__(self, reason: str, needs: str = "") -> None:
        super().__init__(reason)
        self.needs = needs


def one_of(array: Any) -> Callable[[int], npt.NDArray[Any]]:
    """Return what loads one frame of an array that is or is not in memory.

    Parameters
    ----------
    array : array_like, shape (ny, nx) or (t, ny, nx)
        Whatever can be indexed.

    Returns
    -------
    callable
        From the number of a frame to its image.
    """
    return lambda index: np.asarray(array[index] if len(array.shape) == 3 else array[()])


def stored_settings(name: str, told: Any) -> dict[str, Any]:
    """Read settings as ``dataclasses.asdict`` gives them, through JSON.

    Parameters
    ----------
    name : str
        Where they stand, for the message.
    told : object
        What was read there.

    Returns
    -------
    dict
        Arguments of `ScanSettings`.

    Raises
    ------
    RefusedError
        If it is no mapping, or names something else.
    """
    if not isinstance(told, Mapping):
        raise RefusedError(f"{name} must hold the scan settings by name")
    unknown = sorted(set(told) - {item.name for item in fields(ScanSettings)})
    if unknown:
        raise RefusedError(f"{name} names {unknown[0]!r}, which is no scan setting")
    return {key: _as_tuple(value) for key, value in told.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
