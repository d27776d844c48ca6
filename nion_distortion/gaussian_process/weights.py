"""Weight space: information from samples, its marginals, and the evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack, solve_triangular

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import as_array, reduce_frozen

__all__ = [
    "Information",
    "Posterior",
    "information",
    "joint_negative_log_evidence",
    "marginal",
    "negative_log_evidence",
    "padded",
    "solve",
]

Array = npt.NDArray[np.float64]

COLUMNS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Information:
    """What samples say about the weights of both axes: ``exp(-w M w / 2 + v w)``.

    Parameters
    ----------
    matrix : ndarray, shape (2, 2, m, m)
        M, in blocks of axes; the blocks off the diagonal are zero unless fly-back mixes the axes.
    vector : ndarray, shape (2, m)
        The linear term v.
    """

    matrix: Array
    vector: Array

    def __post_init__(self) -> None:
        vector = as_array("vector", self.vector, (2, None))
        size = vector.shape[1]
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "matrix", as_array("matrix", self.matrix, (2, 2, size, size)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def coupled(self) -> bool:
        """Whether the two axes have to be solved together."""
        return bool(np.any(self.matrix[0, 1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """Mean and covariance of the weights.

    Parameters
    ----------
    mean : ndarray, shape (2, m)
        Weights of each axis, px.
    covariance : ndarray, shape (2, m, m)
        Covariance of the weights of each axis, px^2.
    """

    mean: Array
    covariance: Array

    def __post_init__(self) -> None:
        mean = as_array("mean", self.mean, (2, None))
        size = mean.shape[1]
        object.__setattr__(self, "mean", mean)
        covariance = as_array("covariance", self.covariance, (2, size, size))
        object.__setattr__(self, "covariance", covariance)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


def information(design: Array, targets: Array, weights: Array) -> Information:
    """Gather what the samples say.

    Parameters
    ----------
    design : ndarray, shape (m, n)
        Functions at the samples.
    targets : ndarray, shape (n, 2)
        Linearised observations, px.
    weights : ndarray, shape (n, 2, 2)
        Inverse covariance of the targets, px^-2.

    Returns
    -------
    Information
        ``M_ab = design W_ab design^T``, ``v_a = sum_b design W_ab target_b``.

    Notes
    -----
    Fits of round columns have isotropic covariances, so one Gram matrix serves both axes; only
    samples where the distortion changes fast add what is particular to an axis.
    """
    common = 0.5 * (weights[:, 0, 0] + weights[:, 1, 1])
    split = np.abs(weights[:, 0, 0] - weights[:, 1, 1]) + 2 * np.abs(weights[:, 0, 1])
    special = np.flatnonzero(split > 1e-3 * common)
    common[special] = 0.0
    gram = _gram(design, common)
    matrix = np.zeros((2, 2, *gram.shape))
    matrix[0, 0] = matrix[1, 1] = gram
    part = design[:, special]
    for a, b in ((0, 0), (1, 1), (0, 1)):
        weight = weights[special, a, b]
        if np.any(weight):
            matrix[a, b] += (part * weight) @ part.T
    matrix[1, 0] = matrix[0, 1].T
    weights = np.where((common > 0)[:, None, None], common[:, None, None] * np.eye(2), weights)
    vector = np.einsum("nab,nb->an", weights, targets) @ design.T
    return Information(matrix=matrix, vector=vector)


def _gram(design: Array, weights: Array) -> Array:
    """``design * weights @ design.T``, over chunks of samples on two threads."""

    def part(start: int, stop: int) -> Array:
        total = np.zeros((len(design), len(design)))
        for at in range(start, stop, COLUMNS_AT_ONCE):
            block = slice(at, min(at + COLUMNS_AT_ONCE, stop))
            scaled = design[:, block] * np.sqrt(weights[block])
            total += scaled @ scaled.T
        return total

    gram: Array = sum(for_chunks(part, design.shape[1], smallest=512))
    return gram


def _inverse(matrix: Array) -> Array:
    """Inverse of a symmetric positive matrix by its Cholesky factor."""
    factor, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=0)
    inverse, failed_too = lapack.dpotri(factor, lower=1)
    if failed or failed_too:
        raise np.linalg.LinAlgError("the information of the weights is not positive")
    lower = np.tril(inverse)
    result: Array = lower + np.tril(lower, -1).T
    return result


def solve(given: Information, precision: Array) -> Posterior:
    """Combine information with a prior of independent weights.

    Parameters
    ----------
    given : Information
        What is known.
    precision : ndarray, shape (2, m)
        Inverse prior variances, px^-2.

    Returns
    -------
    Posterior
        Of all weights.

    Raises
    ------
    LinAlgError
        If the information is not positive.
    """
    matrix, vector = given.matrix.copy(), given.vector
    for axis in range(2):
        matrix[axis, axis].flat[:: matrix.shape[2] + 1] += precision[axis]
    if given.coupled:
        return _solve_together(matrix, vector)
    covariance = np.stack([_inverse(matrix[axis, axis]) for axis in range(2)])
    return Posterior(mean=np.einsum("aij,aj->ai", covariance, vector), covariance=covariance)


def _solve_together(matrix: Array, vector: Array) -> Posterior:
    size = matrix.shape[2]
    whole = _inverse(_flat(matrix))
    mean = (whole @ vector.ravel()).reshape(2, size)
    return Posterior(mean=mean, covariance=np.stack([whole[:size, :size], whole[size:, size:]]))


def marginal(given: Information, kept: int, nuisance_precision: Array) -> Information:
    """Integrate the last weights out (Schur complement).

    Parameters
    ----------
    given : Information
        What the samples say about all weights.
    kept : int
        How many of the first weights stay.
    nuisance_precision : ndarray, shape (2, m - kept)
        Inverse prior variances of the others.

    Returns
    -------
    Information
        What the samples say about the first weights alone.
    """
    matrix, size = given.matrix, given.vector.shape[1]
    joint = matrix[:, :, kept:, kept:].copy()
    for axis in range(2):
        joint[axis, axis].flat[:: size - kept + 1] += nuisance_precision[axis]
    cross, vector = matrix[:, :, :kept, kept:], given.vector
    if given.coupled:
        joint, cross = _flat(joint), _flat(cross)
        reached = _solved(joint, np.c_[cross.T, vector[:, kept:].ravel()])
        lost = (cross @ reached).reshape(2, kept, -1)
        new = matrix[:, :, :kept, :kept] - lost[:, :, :-1].reshape(2, kept, 2, kept).swapaxes(1, 2)
        return Information(matrix=new, vector=vector[:, :kept] - lost[:, :, -1])
    new = np.zeros((2, 2, kept, kept))
    new_vector = np.empty((2, kept))
    for axis in range(2):
        block = cross[axis, axis]
        reached = _solved(joint[axis, axis], np.c_[block.T, vector[axis, kept:]])
        lost = block @ reached
        new[axis, axis] = matrix[axis, axis, :kept, :kept] - lost[:, :-1]
        new_vector[axis] = vector[axis, :kept] - lost[:, -1]
    return Information(matrix=new, vector=new_vector)


def _flat(blocks: Array) -> Array:
    """Blocks of axes (2, 2, i, j) as one matrix (2 i, 2 j)."""
    _, _, rows, columns = blocks.shape
    return blocks.transpose(0, 2, 1, 3).reshape(2 * rows, 2 * columns)


def _solved(matrix: Array, right: Array) -> Array:
    _, solution, failed = lapack.dposv(matrix, right, lower=1)
    if failed:
        raise np.linalg.LinAlgError("the information of the weights is not positive")
    result: Array = solution
    return result


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
    matrix = gram * np.outer(root, root)
    matrix.flat[:: len(matrix) + 1] += 1.0
    factor, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
    if failed:
        raise np.linalg.LinAlgError("the information of the weights is not positive")
    right = root * vector
    scaled, _ = lapack.dpotrs(factor, right, lower=1)
    value = np.log(np.diag(factor)).sum() - 0.5 * right @ scaled
    inverse, _ = lapack.dpotri(factor, lower=1)
    return float(value), 0.5 * (1.0 - np.diag(inverse) - scaled**2)


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
    together, vector, value = np.eye(shared), np.zeros(shared), 0.0
    parts = []
    for matrix, linear in frames:
        scaled, right = matrix * np.outer(root, root), root * linear
        own = scaled[shared:, shared:].copy()
        own.flat[:: len(own) + 1] += 1.0
        factor = np.linalg.cholesky(own)
        reached = solve_triangular(
            factor, np.c_[scaled[shared:, :shared], right[shared:]], lower=True
        )
        cross, mean = reached[:, :-1], reached[:, -1]
        together += scaled[:shared, :shared] - cross.T @ cross
        vector += right[:shared] - cross.T @ mean
        value += np.log(np.diag(factor)).sum() - 0.5 * mean @ mean
        parts.append((factor, cross, mean))
    inverse = _inverse(together)
    weights = inverse @ vector
    value += np.log(np.diag(np.linalg.cholesky(together))).sum() - 0.5 * vector @ weights
    slope = np.empty(len(variances))
    slope[:shared] = 0.5 * (1.0 - np.diag(inverse) - weights**2)
    slope[shared:] = sum(_own_slope(*part, inverse, weights) for part in parts)
    return float(value), slope


def _own_slope(factor: Array, cross: Array, mean: Array, inverse: Array, weights: Array) -> Array:
    """Differentiate by the variances of one frame's own weights, the shared ones integrated out."""
    back = solve_triangular(factor, np.c_[np.eye(len(factor)), cross, mean], lower=True, trans=1)
    unit, reach, own = np.split(back, [len(factor), back.shape[1] - 1], axis=1)
    spread = (unit**2).sum(axis=1) + np.einsum("ij,jk,ik->i", reach, inverse, reach, optimize=True)
    posterior = own[:, 0] - reach @ weights
    result: Array = 0.5 * (1.0 - spread - posterior**2)
    return result


def padded(given: Information, known: Information) -> Information:
    """Add what is known about the first weights to information about all of them.

    Parameters
    ----------
    given : Information
        About all weights.
    known : Information
        About the first ones.

    Returns
    -------
    Information
        The sum.
    """
    matrix, vector = given.matrix.copy(), given.vector.copy()
    kept = known.vector.shape[1]
    matrix[:, :, :kept, :kept] += known.matrix
    vector[:, :kept] += known.vector
    return Information(matrix=matrix, vector=vector)
