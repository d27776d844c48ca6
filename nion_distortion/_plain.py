"""Values as JSON knows them: reports and the host's metadata must not hold anything else."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["as_plain"]


def as_plain(value: Any) -> Any:
    """Turn a value into what JSON knows.

    Parameters
    ----------
    value : object
        Mappings, named tuples, sequences, sets, arrays and single values, nested as they may be.

    Returns
    -------
    object
        Dictionaries, lists, text, numbers, booleans and None, which also stands for a number
        that is not finite; of anything else its text.
    """
    if hasattr(value, "_asdict"):  # a named tuple
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return as_plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
