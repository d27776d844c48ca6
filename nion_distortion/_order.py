"""Medians and quantiles of short arrays, at a fraction of NumPy's price."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["median", "quantiles"]


def median(values: npt.NDArray[np.floating | np.integer]) -> float:
    """Return the median: ``np.median``, several times faster.

    Parameters
    ----------
    values : ndarray
        At least one number, none of them NaN; of any shape.

    Returns
    -------
    float
        Mean of the two in the middle where their number is even.
    """
    return quantiles(values, (0.5,))[0]


def quantiles(
    values: npt.NDArray[np.floating | np.integer], shares: Sequence[float]
) -> list[float]:
    """Return some quantiles: ``np.quantile``, several times faster.

    Parameters
    ----------
    values : ndarray
        At least one number, none of them NaN; of any shape.
    shares : sequence of float
        From 0 to 1.

    Returns
    -------
    list of float
        Each interpolated between the two nearest values.

    Notes
    -----
    All values are sorted: with the processor's vectors that takes less time than NumPy's partition
    of them, and its checks take longer than both.
    """
    ordered = np.sort(values, axis=None)
    found = []
    for share in shares:
        below, part = divmod(share * (len(ordered) - 1), 1.0)
        low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
        found.append(float(low) + part * (float(high) - float(low)))
    return found
