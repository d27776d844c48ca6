"""Argument checks: one home for the sentences that a caller's mistake is answered with."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "as_array",
    "as_finite",
    "as_positive",
    "check_finite",
    "check_length",
    "frozen",
    "owned",
    "reduce_frozen",
    "sealed",
    "thawed",
]


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make an array read-only; a writeable one is copied first, so that its owner may write on.

    Parameters
    ----------
    array : ndarray
        Any array; one that is read-only already is returned as it is.

    Returns
    -------
    ndarray
        The same values, read-only.
    """
    if not array.flags.writeable:
        return array
    result = array.copy()
    result.flags.writeable = False
    return result


def owned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make an array read-only that nobody else holds: `frozen` without the copy.

    Parameters
    ----------
    array : ndarray
        An array that the caller has just made.

    Returns
    -------
    ndarray
        The same array, read-only.
    """
    array.flags.writeable = False
    return array


def sealed(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copy a mapping so that nobody can alter it.

    Parameters
    ----------
    mapping : Mapping
        Any mapping.

    Returns
    -------
    Mapping
        The same, read-only; so are mappings and arrays in it. Other values are as they were.
    """
    return MappingProxyType({key: _sealed_value(value) for key, value in mapping.items()})


def _sealed_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return sealed(value)
    return frozen(value) if isinstance(value, np.ndarray) else value


def thawed(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a mapping that is `sealed` into dictionaries, which pickle and JSON know.

    Parameters
    ----------
    mapping : Mapping
        Any mapping.

    Returns
    -------
    dict
        The same; mappings in it are dictionaries too.
    """
    return {
        key: thawed(value) if isinstance(value, Mapping) else value
        for key, value in mapping.items()
    }


def as_array(
    name: str,
    value: npt.ArrayLike,
    shape: tuple[int | None, ...],
    dtype: npt.DTypeLike = np.float64,
) -> npt.NDArray[Any]:
    """Return a read-only array of the wanted type and shape.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : array_like
        What the caller gave.
    shape : tuple of int or None
        The expected shape; None stands for any length.
    dtype : dtype, default: float64
        The type of the result.

    Returns
    -------
    ndarray
        Read-only; a copy where the caller could still write to the original.

    Raises
    ------
    ValueError
        If the shape differs, naming argument, expectation and what came.
    """
    array = np.asarray(value, dtype=dtype)
    fits = len(shape) == array.ndim and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("n" if want is None else str(want) for want in shape) + ")"
        raise ValueError(f"{name} must have shape {wanted}, not {array.shape}")
    return frozen(array)


def check_finite(image: npt.NDArray[Any]) -> None:
    """Refuse an image with pixels that are no numbers, or none that single precision holds.

    Parameters
    ----------
    image : ndarray of float
        Any number of axes.

    Raises
    ------
    ValueError
        With the number of such pixels.
    """
    if not np.isfinite(image.sum(dtype=np.float64)):
        wrong = int(np.sum(~np.isfinite(image)))
        raise ValueError(f"image must be finite, but {wrong} of its pixels are not")


def as_finite(name: str, value: object) -> float:
    """Return a finite number.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : object
        What the caller gave.

    Returns
    -------
    float
        The number.

    Raises
    ------
    ValueError
        If it is not a finite number.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, not {value!r}") from None
    if not np.isfinite(number):
        raise ValueError(f"{name} must be finite, not {number}")
    return number


def as_positive(name: str, value: object) -> float:
    """Return a positive number.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : object
        What the caller gave.

    Returns
    -------
    float
        The number.

    Raises
    ------
    ValueError
        If it is not a finite number above zero.
    """
    number = as_finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be positive, not {number:g}")
    return number


def check_length(name: str, array: npt.NDArray[Any], length: int) -> None:
    """Refuse an array that does not have one row for each of its companions.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    array : ndarray
        The array to look at.
    length : int
        How many rows its companions have.

    Raises
    ------
    ValueError
        If its first axis has another length.
    """
    if len(array) != length:
        raise ValueError(f"{name} must have {length} rows, not {len(array)}")


def _rebuild(kind: type, values: dict[str, Any]) -> object:
    return kind(**values)


def reduce_frozen(value: Any) -> tuple[Callable[..., object], tuple[type, dict[str, Any]]]:
    """Pickle a frozen dataclass through its constructor, which makes its content read-only again.

    Parameters
    ----------
    value : dataclass instance
        Assigned as ``__reduce__`` in the class.

    Returns
    -------
    tuple
        What ``pickle`` calls, and with what.
    """
    values = {item.name: getattr(value, item.name) for item in fields(value) if item.init}
    plain = {name: thawed(one) if isinstance(one, Mapping) else one for name, one in values.items()}
    return _rebuild, (type(value), plain)
