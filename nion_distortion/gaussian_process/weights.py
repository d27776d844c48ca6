"""Weight space: information about the weights, its marginals, and the evidence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import as_array, owned, reduce_frozen
from nion_distortion.gaussian_process.factors import divide, factorise, invert

__all__ = [
    "Information",
    "Posterior",
    "joint_negative_log_evidence",
    "marginal",
    "negative_log_evidence",
    "padded",
    "scaled",
    "solve",
]

Array = npt.NDArray[np.float64]
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Information:
    """What samples say about the weights of both axes: ``exp(-w M w / 2 + v w)``.

    Parameters
    ----------
    blocks : ndarray, shape (2, m, m)
        The blocks of M for each axis.
    vector : ndarray, shape (2, m)
        The linear term v.
    cross : ndarray, shape (m, m), optional
        The block of M between y and x; None where fly-back does not mix the axes.
    """

    blocks: Array
    vector: Array
    cross: Array | None = None

    def __post_init__(self) -> None:
        vector = as_array("vector", self.vector, (2, None))
        size = vector.shape[1]
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "blocks", as_array("blocks", self.blocks, (2, size, size)))
        if self.cross is not None:
            object.__setattr__(self, "cross", as_array("cross", self.cross, (size, size)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    def __add__(self, other: "Information") -> "Information":
        crosses = [one.cross for one in (self, other) if one.cross is not None]
        return Information(
            blocks=owned(self.blocks + other.blocks),
            vector=owned(self.vector + other.vector),
            cross=owned(np.sum(crosses, axis=0)) if crosses else None,
        )


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


def _inverse(matrix: Array) -> Array:
    """Inverse of a symmetric positive matrix by its Cholesky factor; the matrix is overwritten."""
    invert(factorise(matrix))
    _mirror(matrix)
    return matrix


@numba.njit(cache=True, nogil=True)
def _mirror(matrix):  # type: ignore[no-untyped-def]
    """Copy the upper triangle to the lower one, in blocks that stay in the cache."""
    size = len(matrix)
    for top in range(0, size, 32):
        for left in range(0, top + 1, 32):
            for i in range(top, min(top + 32, size)):
                for j in range(left, min(left + 32, i)):
                    matrix[i, j] = matrix[j, i]


def _each_axis(job: Callable[[int], _Result]) -> list[_Result]:
    """``[job(0), job(1)]``, on two threads."""
    return for_chunks(lambda axis, _: job(axis), 2)


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
    blocks, vector = given.blocks.copy(), given.vector
    size = vector.shape[1]
    for block, more in zip(blocks, precision, strict=True):
        block.flat[:: size + 1] += more
    if given.cross is not None:
        whole = _inverse(_joined(blocks, given.cross))
        mean = (whole @ vector.ravel()).reshape(2, size)
        covariance = np.stack([whole[:size, :size], whole[size:, size:]])
    else:
        covariance = blocks
        _each_axis(lambda axis: _inverse(blocks[axis]))
        mean = np.matmul(covariance, vector[..., None])[..., 0]
    return Posterior(mean=owned(mean), covariance=owned(covariance))


def _joined(blocks: Array, cross: Array) -> Array:
    """Both axes as one matrix, (2 m, 2 m)."""
    return np.block([[blocks[0], cross], [cross.T, blocks[1]]])


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
    if given.cross is not None:
        return _marginal_together(given, given.cross, kept, nuisance_precision)
    parts = _each_axis(
        lambda axis: _schur(given.blocks[axis], given.vector[axis], kept, nuisance_precision[axis])
    )
    return Information(
        blocks=owned(np.stack([matrix for matrix, _ in parts])),
        vector=owned(np.stack([vector for _, vector in parts])),
    )


def _marginal_together(
    given: Information, cross: Array, kept: int, precision: Array
) -> Information:
    size = given.vector.shape[1]
    whole = np.arange(2 * size).reshape(2, size)
    order = np.r_[whole[:, :kept].ravel(), whole[:, kept:].ravel()]
    matrix, vector = _schur(
        _joined(given.blocks, cross)[np.ix_(order, order)],
        given.vector.ravel()[order],
        2 * kept,
        precision.ravel(),
    )
    return Information(
        blocks=np.stack([matrix[:kept, :kept], matrix[kept:, kept:]]),
        vector=vector.reshape(2, kept),
        cross=matrix[:kept, kept:],
    )


def _schur(matrix: Array, vector: Array, kept: int, precision: Array) -> tuple[Array, Array]:
    """Integrate all but the first weights out of ``exp(-w M w / 2 + v w)``."""
    own = matrix[kept:, kept:].copy()
    own.flat[:: len(own) + 1] += precision
    right = np.empty((kept + 1, len(own)))
    right[:kept], right[kept] = matrix[:kept, kept:], vector[kept:]
    divide(right, factorise(own))
    reach, mean = right[:-1], right[-1]
    return matrix[:kept, :kept] - reach @ reach.T, vector[:kept] - reach @ mean


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
    scaled, _ = lapack.dpotrs(factor.T, right, lower=1)
    value = np.log(np.diag(factor)).sum() - 0.5 * right @ scaled
    return float(value), 0.5 * (1.0 - np.diag(invert(factor)) - scaled**2)


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
    together, vector, value = np.zeros((shared, shared)), np.zeros(shared), 0.0
    parts = []
    for matrix, linear in frames:
        right = root * linear
        own = _scaled(matrix[shared:, shared:], root[shared:], root[shared:])
        own.flat[:: len(own) + 1] += 1.0
        reached = np.empty((shared + 1, len(own)))
        reached[:-1] = _scaled(matrix[:shared, shared:], root[:shared], root[shared:])
        reached[-1] = right[shared:]
        divide(reached, factorise(own))
        cross, mean = reached[:-1], reached[-1]
        together += _scaled(matrix[:shared, :shared], root[:shared], root[:shared])
        together -= cross @ cross.T
        vector += right[:shared] - cross @ mean
        value += np.log(np.diag(own)).sum() - 0.5 * mean @ mean
        parts.append((own, reached))
    together.flat[:: shared + 1] += 1.0
    value += np.log(np.diag(factorise(together))).sum()
    _mirror(invert(together))
    weights = together @ vector
    value -= 0.5 * vector @ weights
    slope = np.empty(len(variances))
    slope[:shared] = 0.5 * (1.0 - np.diag(together) - weights**2)
    slope[shared:] = sum(_own_slope(*part, together, weights) for part in parts)
    return float(value), slope


def _own_slope(factor: Array, reached: Array, inverse: Array, weights: Array) -> Array:
    """Differentiate by the variances of one frame's own weights, the shared ones integrated out.

    Both arrays of the frame are overwritten.
    """
    divide(reached, factor, transposed=True)
    reach, own = reached[:-1], reached[-1]
    spread = np.diag(invert(factor)) + np.einsum("ij,ij->j", inverse @ reach, reach)
    posterior = own - weights @ reach
    result: Array = 0.5 * (1.0 - spread - posterior**2)
    return result


def _scaled(matrix: Array, rows: Array, columns: Array) -> Array:
    result: Array = matrix * columns
    result *= rows[:, None]
    return result


def scaled(given: Information, factors: Array) -> Information:
    """Express information about functions in weights of others, of which these show a part.

    Parameters
    ----------
    given : Information
        About the weights of the functions.
    factors : ndarray, shape (2, m)
        How much of a unit weight each function shows.

    Returns
    -------
    Information
        About the weights before that.
    """
    cross, blocks = given.cross, given.blocks * factors[:, None]
    blocks *= factors[..., None]
    return Information(
        blocks=owned(blocks),
        vector=owned(given.vector * factors),
        cross=None if cross is None else owned(cross * np.outer(*factors)),
    )


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
    size, kept = given.vector.shape[1], known.vector.shape[1]
    blocks, vector = given.blocks.copy(), given.vector.copy()
    blocks[:, :kept, :kept] += known.blocks
    vector[:, :kept] += known.vector
    cross = given.cross
    if known.cross is not None:
        cross = np.zeros((size, size)) if cross is None else cross.copy()
        cross[:kept, :kept] += known.cross
    return Information(blocks=owned(blocks), vector=owned(vector), cross=cross)
