"""Dataclasses <-> JSON with arrays beside it: never pickle, which runs what it reads."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "decoded", "decoded_fields", "encoded", "encoded_fields", "has_fields"]

Arrays = dict[str, npt.NDArray[Any]]


def encoded(value: object, arrays: Arrays, name: str) -> Any:
    """Turn a value into what JSON can hold.

    Parameters
    ----------
    value : object
        A number, text, None, array, tuple, list, frozenset, mapping, or a dataclass or a named
        tuple of these.
    arrays : dict of ndarray
        Where the arrays go; the result refers to them by their names.
    name : str
        What the value is called, for its arrays' names and for messages.

    Returns
    -------
    object
        Numbers, texts, lists and dictionaries; a dictionary's one key says what it stands for.

    Raises
    ------
    ValueError
        If the value, or something in it, is of another kind.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[name] = value
        return {"array": name}
    if not isinstance(value, type) and has_fields(type(value)):
        return {type(value).__name__: encoded_fields(value, arrays, name)}
    if isinstance(value, Mapping):
        return {"mapping": {str(k): encoded(v, arrays, f"{name}.{k}") for k, v in value.items()}}
    if isinstance(value, tuple | list | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        parts = [encoded(item, arrays, f"{name}.{k}") for k, item in enumerate(items)]
        return parts if isinstance(value, list) else {_sequence(value): parts}
    raise ValueError(f"{name} is a {type(value).__name__}, which cannot be stored")


def _sequence(value: object) -> str:
    """Name the kind that a tuple of any kind, or a frozenset, comes back as."""
    return "tuple" if isinstance(value, tuple) else "frozenset"


def encoded_fields(
    value: Any, arrays: Arrays, name: str, *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Turn the fields of a dataclass or a named tuple into what JSON can hold.

    Parameters
    ----------
    value : dataclass or named tuple
        Those of its fields are stored that its constructor takes.
    arrays : dict of ndarray
        Where the arrays go.
    name : str
        What the value is called.
    without : tuple of str, default: ()
        Fields to leave out.

    Returns
    -------
    dict
        By the names of the fields.
    """
    wanted = [one for one in _fields_of(type(value)) if one not in without]
    return {one: encoded(getattr(value, one), arrays, f"{name}.{one}") for one in wanted}


def has_fields(kind: type) -> bool:
    """Tell dataclasses and named tuples from other types.

    Parameters
    ----------
    kind : type
        Any type.

    Returns
    -------
    bool
        Whether its values can be rebuilt from their fields.
    """
    return is_dataclass(kind) or hasattr(kind, "_fields")


def _fields_of(kind: type) -> tuple[str, ...]:
    """Name what the constructor of a dataclass or of a named tuple takes."""
    if is_dataclass(kind):
        return tuple(item.name for item in fields(kind) if item.init)
    return tuple(getattr(kind, "_fields", ()))


def decoded(plain: Any, arrays: Mapping[str, Any], kinds: Mapping[str, type]) -> Any:
    """Rebuild what `encoded` has turned into JSON.

    Parameters
    ----------
    plain : object
        The result of `encoded`.
    arrays : Mapping of ndarray
        The arrays that it refers to.
    kinds : Mapping
        The dataclasses and named tuples that may be built, by their names.

    Returns
    -------
    object
        The value.

    Raises
    ------
    ValueError
        If it holds a type, or a field of one, that this program does not know.
    """
    if isinstance(plain, list):
        return [decoded(item, arrays, kinds) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "array":
        return arrays[content]
    if kind == "mapping":
        return {key: decoded(item, arrays, kinds) for key, item in content.items()}
    if kind in ("tuple", "frozenset"):
        parts = decoded(content, arrays, kinds)
        return tuple(parts) if kind == "tuple" else frozenset(parts)
    if kind not in kinds:
        raise ValueError(f"this version of the program does not know {kind!r}")
    return kinds[kind](**decoded_fields(content, arrays, kinds, kinds[kind]))


def decoded_fields(
    content: Mapping[str, Any], arrays: Mapping[str, Any], kinds: Mapping[str, type], kind: type
) -> dict[str, Any]:
    """Rebuild the fields of a dataclass or a named tuple; those that it lacks get their defaults.

    Parameters
    ----------
    content : Mapping
        The result of `encoded_fields`.
    arrays : Mapping of ndarray
        The arrays that it refers to.
    kinds : Mapping
        The dataclasses and named tuples that may be built, by their names.
    kind : type
        The dataclass or named tuple.

    Returns
    -------
    dict
        Arguments of its constructor.

    Raises
    ------
    ValueError
        If it has a field that this program does not know.
    """
    unknown = sorted(set(content) - set(_fields_of(kind)))
    if unknown:
        name = f"{kind.__name__}.{unknown[0]}"
        raise ValueError(f"this version of the program does not know {name!r}")
    return {one: decoded(item, arrays, kinds) for one, item in content.items()}
