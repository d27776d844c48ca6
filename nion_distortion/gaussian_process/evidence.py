"""The evidence: how probable samples are under given prior variances of the weights."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion.gaussian_process.factors import (
    cleared,
    divide,
    factorise,
    inverted,
    reduce,
    subtract_square,
)

__all__ = ["Frames", "Scored", "negative_log_evidence", "scored"]

Array = npt.NDArray[np.float64]


Frames = Sequence[tuple[Array, Array]]
"""Information of each frame, (m, m) and (m,), about weights that all share, then about its own."""


class Scored(NamedTuple):
    """Negative log evidence of samples, with its derivatives by logarithms of prior variances."""

    value: float
    """Negative logarithm of the evidence, up to a constant of the samples."""
    slope: Array
    """Derivative."""
    curvature: Array
    """Expected second derivative, of each logarithm by itself."""


def negative_log_evidence(frames: Frames, shared: int, variances: Array) -> float:
    """Score prior variances by the samples of one axis.

    Parameters
    ----------
    frames : sequence of (ndarray of shape (m, m), ndarray of shape (m,))
        Information of each frame about the shared weights, then about its own.
    shared : int
        How many of the first weights all frames share; of a single frame it does not matter.
    variances : ndarray, shape (m,)
        Prior variances, px^2.

    Returns
    -------
    float
        Up to a constant of the samples.
    """
    if len(frames) == 1:
        return _one(*frames[0], variances)[0]
    return _together(frames, shared, variances)[0]


def scored(frames: Frames, shared: int, variances: Array) -> Scored:
    """Score prior variances by the samples of one axis, with slopes, which take as long again.

    Parameters
    ----------
    frames : sequence of (ndarray of shape (m, m), ndarray of shape (m,))
        As of `negative_log_evidence`.
    shared : int
        How many of the first weights all frames share.
    variances : ndarray, shape (m,)
        Prior variances, px^2.

    Returns
    -------
    Scored
        Slope and curvature, (m,), with respect to the logarithm of each variance.

    Notes
    -----
    With ``B = 1 + sqrt(P) M sqrt(P)`` the value is
    ``(log det B - v sqrt(P) B^-1 sqrt(P) v) / 2``, the slope ``(1 - B^-1_ii - w_i^2 / P_i) / 2``
    with the posterior weights w, and the expected curvature ``(1 - B^-1_ii)^2 / 2``. Weights that
    frames have of their own are integrated out.
    """
    if len(frames) == 1:
        value, factor, weights = _one(*frames[0], variances)
        determined = 1.0 - _diagonal_of_inverse(factor)
        return Scored(value, 0.5 * (determined - weights**2), 0.5 * determined**2)
    value, together, weights, parts = _together(frames, shared, variances)
    slope, curvature = np.zeros((2, len(variances)))
    for part in parts:
        determined, squares = _own(*part, together, weights)
        slope[shared:] += 0.5 * (determined - squares)
        curvature[shared:] += 0.5 * determined**2
    determined = 1.0 - _diagonal_of_inverse(together)
    slope[:shared], curvature[:shared] = 0.5 * (determined - weights**2), 0.5 * determined**2
    return Scored(value, slope, curvature)


def _one(gram: Array, vector: Array, variances: Array) -> tuple[float, Array, Array]:
    """Return the value of one frame, the factor of B, and the weights over their deviations."""
    root = np.sqrt(variances)
    matrix = _scaled(gram, root, root)
    matrix.flat[:: len(matrix) + 1] += 1.0
    factor, right = factorise(matrix), root * vector
    weights = _solved(right, factor)
    return float(np.log(np.diag(factor)).sum() - 0.5 * right @ weights), factor, weights


def _together(
    frames: Frames, shared: int, variances: Array
) -> tuple[float, Array, Array, list[tuple[Array, Array, Array]]]:
    """Return the same of all frames and the shared weights, and what each frame's own need."""
    root = np.sqrt(variances)
    apart, mine = root[:shared], root[shared:]
    together, vector = np.zeros((shared, shared)), apart * sum(v[:shared] for _, v in frames)
    value, parts = 0.0, []
    for matrix, linear in frames:
        own = _scaled(matrix[shared:, shared:], mine, mine)
        own.flat[:: len(own) + 1] += 1.0
        reach = reduce(_scaled(matrix[shared:, :shared], mine, apart), factorise(own))
        mean = divide((mine * linear[shared:])[None], own)[0]
        together += matrix[:shared, :shared]
        vector -= mean @ reach
        value += np.log(np.diag(own)).sum() - 0.5 * mean @ mean
        parts.append((own, reach, mean))
    together = _scaled(together, apart, apart)
    together.flat[:: shared + 1] += 1.0
    for _, reach, _ in parts:
        subtract_square(together, reach)
    value += np.log(np.diag(factorise(together))).sum()
    weights = _solved(vector, together)
    return float(value - 0.5 * vector @ weights), together, weights, parts


def _own(
    factor: Array, reach: Array, mean: Array, together: Array, weights: Array
) -> tuple[Array, Array]:
    """Return how well one frame's own weights are determined, and the squares of their means.

    In units of their prior variances, the shared ones integrated out; the frame's arrays are
    overwritten.
    """
    mean -= reach @ weights
    posterior = divide(mean[None], factor, transposed=True)[0]
    rows = divide(reduce(reach, factor, transposed=True), together)
    spread = _diagonal_of_inverse(factor) + np.einsum("ij,ij->i", rows, rows)
    return 1.0 - spread, posterior**2


def _solved(right: Array, factor: Array) -> Array:
    """``(U^T U)^-1 right``."""
    row = right[None].copy()
    return np.asarray(divide(divide(row, factor), factor, transposed=True)[0])


def _diagonal_of_inverse(factor: Array) -> Array:
    """Diagonal of ``U^-1 U^-T``; the factor is overwritten."""
    root = cleared(inverted(factor))
    return np.asarray(np.einsum("ij,ij->i", root, root))


def _scaled(matrix: Array, rows: Array, columns: Array) -> Array:
    result: Array = matrix * columns
    result *= rows[:, None]
    return result
