"""Values out of the trees of tags that devices and formats keep beside an image."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["number", "positive", "tag", "without_none"]


def tag(tree: Any, *path: str) -> Any:
    """Follow keys through nested mappings.

    Parameters
    ----------
    tree : object
        Where to begin; what is no mapping has no tags.
    *path : str
        The keys, one below the other.

    Returns
    -------
    object
        What stands there; None where a key is missing.
    """
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def number(value: Any, scale: float = 1.0) -> float | None:
    """Read a finite number, with or without a unit behind it.

    Parameters
    ----------
    value : object
        What a tag holds.
    scale : float, default: 1
        From the tag's unit to ours.

    Returns
    -------
    float or None
        The number in our unit; None where there is none.
    """
    try:
        found = float(value.split()[0] if isinstance(value, str) else value) * scale
    except (TypeError, ValueError, IndexError):
        return None
    return found if math.isfinite(found) else None


def positive(value: Any, scale: float = 1.0) -> float | None:
    """Read a number that means something only above zero.

    Parameters
    ----------
    value : object
        What a tag holds.
    scale : float, default: 1
        From the tag's unit to ours.

    Returns
    -------
    float or None
        The number in our unit; None where there is none, or none above zero.
    """
    found = number(value, scale)
    return found if found is not None and found > 0 else None


def without_none(**values: Any) -> dict[str, Any]:
    """Keep what is known.

    Parameters
    ----------
    **values : object
        Values by name, None for what was not told.

    Returns
    -------
    dict
        Those that were told.
    """
    return {key: value for key, value in values.items() if value is not None}
