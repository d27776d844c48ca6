"""How probable samples are under prior variances of the weights."""

from collections.abc import Sequence

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

__all__ = ["joint_negative_log_evidence", "negative_log_evidence"]

Array = npt.NDArray[np.float64]


def negative_log_evidence(gram: Array, vector: Array, variances: Array) -> tuple[float, Array]:
    """Score prior variances by the samples of one axis.

    Parameters
    ----------
    gram : ndarray, shape (m, m)
        Information matrix of one axis.
    vector : ndarray, shape (m,)
        Its linear term.
    variances : ndarray, shape (m,)
        Prior variances, px^2.

    Returns
    -------
    value : float
        Up to a constant of the samples.
    slope : ndarray, shape (m,)
        Derivative with respect to the logarithm of each variance.

    Notes
    -----
    With ``B = 1 + sqrt(P) M sqrt(P)``: ``(log det B - v sqrt(P) B^-1 sqrt(P) v) / 2``; the slope
    is ``(1 - B^-1_ii - w_i^2 / P_i) / 2`` with the posterior weights w.
    """
    root = np.sqrt(variances)
    matrix = _scaled(gram, root, root)
    matrix.flat[:: len(matrix) + 1] += 1.0
    factor, right = factorise(matrix), root * vector
    weights = _solved(right, factor)
    value = np.log(np.diag(factor)).sum() - 0.5 * right @ weights
    return float(value), 0.5 * (1.0 - _diagonal_of_inverse(factor) - weights**2)


def joint_negative_log_evidence(
    frames: Sequence[tuple[Array, Array]], shared: int, variances: Array
) -> tuple[float, Array]:
    """Score prior variances by the samples of several frames, of one axis.

    Parameters
    ----------
    frames : sequence of (ndarray of shape (m, m), ndarray of shape (m,))
        Information of each frame about the shared weights, then about its own.
    shared : int
        How many of the first weights all frames share.
    variances : ndarray, shape (m,)
        Prior variances, px^2.

    Returns
    -------
    value : float
        Up to a constant of the samples.
    slope : ndarray, shape (m,)
        Derivative with respect to the logarithm of each variance.

    Notes
    -----
    For one frame it equals `negative_log_evidence`; each frame's own weights are integrated out.
    """
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
    value -= 0.5 * vector @ weights
    slope = np.empty(len(variances))
    slope[shared:] = sum(_own_slope(*part, together, weights) for part in parts)
    slope[:shared] = 0.5 * (1.0 - _diagonal_of_inverse(together) - weights**2)
    return float(value), slope


def _own_slope(factor: Array, reach: Array, mean: Array, together: Array, weights: Array) -> Array:
    """Differentiate by the variances of one frame's own weights, the shared ones integrated out.

    The arrays of the frame are overwritten.
    """
    mean -= reach @ weights
    posterior = divide(mean[None], factor, transposed=True)[0]
    rows = divide(reduce(reach, factor, transposed=True), together)
    spread = _diagonal_of_inverse(factor) + np.einsum("ij,ij->i", rows, rows)
    result: Array = 0.5 * (1.0 - spread - posterior**2)
    return result


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
