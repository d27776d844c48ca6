"""Posterior of the weights: information of the samples combined with a prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import as_array, owned, reduce_frozen
from nion_distortion.gaussian_process.factors import (
    cleared,
    divide,
    eliminate,
    factorise,
    invert,
    inverted,
    mirrored,
)
from nion_distortion.gaussian_process.weights import Information, padded

__all__ = ["Posterior", "combined", "marginal", "solve"]

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
_Result = TypeVar("_Result")

BOTH = (0, 1)

BLOCKS = 6
"""Blocks along each side of a triangular factor."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """Mean and covariance of the weights.

    Parameters
    ----------
    mean : ndarray, shape (2, m)
        Weights of each axis, px.
    factors : ndarray, shape (2, m, m)
        Cholesky factors U of the posterior precision of each axis, the other axis integrated out,
        in the upper triangles: ``covariance = U^-1 U^-T``. The first ``kept`` weights (those of D)
        stand last in them, so that the lower right corner is the factor of their marginal.
    kept : int
        How many of the first weights stand last.
    """

    mean: Array
    factors: Array
    kept: int

    def __post_init__(self) -> None:
        mean = as_array("mean", self.mean, (2, None))
        size = mean.shape[1]
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "factors", as_array("factors", self.factors, (2, size, size)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def covariance(self) -> Array:
        """Covariance of the weights of each axis, px^2, (2, m, m); computed at each call."""
        inverses = self.factors.copy()
        _each_axis(lambda axis: mirrored(invert(inverses[axis])))
        last = inverses.shape[1] - self.kept
        return owned(np.roll(inverses, (-last, -last), axis=(1, 2)))

    def covariance_of(self, sums: Array) -> Array:
        """Propagate the weights' covariance to weighted sums of them.

        Parameters
        ----------
        sums : ndarray, shape (2, k, m)
            Rows of factors for each axis.

        Returns
        -------
        ndarray, shape (2, k, k)
            ``sums covariance sums^T``.
        """
        return np.stack([self.covariance_along(axis, sums[axis]) for axis in BOTH])

    def covariance_along(self, axis: int, sums: Array) -> Array:
        """Propagate the covariance of one axis.

        Parameters
        ----------
        axis : int
            0 for y, 1 for x.
        sums : ndarray, shape (k, m)
            Rows of factors.

        Returns
        -------
        ndarray, shape (k, k)
            ``sums covariance sums^T``.
        """
        rows = np.ascontiguousarray(np.roll(sums, -self.kept, axis=1))
        divide(rows, self.factors[axis])
        return np.asarray(rows @ rows.T)

    def variances_of(self, functions: Single) -> Array:
        """Propagate the weights' covariance to many weighted sums, such as those at many places.

        Parameters
        ----------
        functions : ndarray of float32, shape (k, n)
            Factors of the first weights in n sums; the others have none.

        Returns
        -------
        ndarray, shape (2, n)
            Variance of each sum for both axes, px^2: that of `covariance_of` within 1e-4.

        Notes
        -----
        It is the sum of squares of ``U^-T f``. Of U only blocks on its diagonal are inverted, and
        the rest is products of matrices in float32.
        """
        kept, size = self.kept, self.mean.shape[1]
        rows = np.zeros((size, functions.shape[1]), np.float32)
        rows[: len(functions) - kept], rows[size - kept :] = functions[kept:], functions[:kept]
        edges = [size * k // BLOCKS for k in range(BLOCKS + 1)]
        blocks = [slice(*ends) for ends in pairwise(edges)]

        def _along(axis: int) -> Array:
            factor, found = self.factors[axis].astype(np.float32), np.empty_like(rows)
            for own in blocks:
                inverse = cleared(inverted(self.factors[axis, own, own].copy())).astype(np.float32)
                before = factor[: own.start, own].T @ found[: own.start]
                np.matmul(inverse.T, rows[own] - before, out=found[own])
            return np.asarray(np.einsum("kn,kn->n", found, found), dtype=np.float64)

        return np.stack(_each_axis(_along))

    def leading(self) -> "Posterior":
        """Keep the first weights, the others integrated out.

        Returns
        -------
        Posterior
            Of the first ``kept`` ones.
        """
        last = self.mean.shape[1] - self.kept
        return Posterior(
            mean=self.mean[:, : self.kept], factors=self.factors[:, last:, last:], kept=self.kept
        )


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
    return combined(given, precision, precision.shape[1])[0]


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
    size = given.vector.shape[1]
    precision = np.pad(nuisance_precision, ((0, 0), (kept, 0)))
    if given.cross is None:
        both = _each_axis(lambda axis: _System.alone(given, axis, kept).reduced(precision))
        return _of_axes(both)
    order = [(axis, slice(kept, size)) for axis in BOTH] + [(axis, slice(kept)) for axis in BOTH]
    matrix, vector = _System.of(given, order, 2 * (size - kept)).reduced(precision)
    return Information(
        blocks=np.stack([matrix[:kept, :kept], matrix[kept:, kept:]]),
        vector=vector.reshape(2, kept),
        cross=matrix[:kept, kept:],
    )


def combined(
    given: Information, precision: Array, kept: int, known: Information | None = None
) -> tuple[Posterior, Information]:
    """Combine a prior of independent weights with what a frame says and what is known already.

    Parameters
    ----------
    given : Information
        What the frame says about all weights.
    precision : ndarray, shape (2, m)
        Inverse prior variances, px^-2.
    kept : int
        How many of the first weights other frames have as well.
    known : Information, optional
        What is known about these.

    Returns
    -------
    posterior : Posterior
        Of all weights.
    said : Information
        What the frame alone says about the first weights: its `marginal`.

    Raises
    ------
    LinAlgError
        If the information is not positive.
    """
    if given.cross is not None or (known is not None and known.cross is not None):
        said = marginal(given, kept, precision[:, kept:])
        return _together(padded(given, known) if known else given, precision, kept), said
    factors = np.empty((2, precision.shape[1], precision.shape[1]))
    systems = [_System.alone(given, axis, kept, factors[axis]) for axis in BOTH]

    def _job(axis: int) -> tuple[Array, Array]:
        said = systems[axis].reduced(precision)
        systems[axis].complete(precision, known)
        return said

    said = _of_axes(_each_axis(_job))
    return _posterior([one.vector for one in systems], factors, kept), said


def _together(whole: Information, precision: Array, kept: int) -> Posterior:
    """Solve for both axes at once; each one's factor is what the other leaves."""
    size = precision.shape[1]
    order = slice(kept, size), slice(kept)

    def _job(axis: int) -> _System:
        parts = [(1 - axis, slice(size)), *((axis, one) for one in order)]
        system = _System.of(whole, parts, size)
        system.reduced(precision)
        system.complete(precision, None)
        return system

    systems = _each_axis(_job)
    factors = np.stack([one.matrix[size:, size:] for one in systems])
    return _posterior([one.vector[size:] for one in systems], factors, kept)


def _posterior(vectors: list[Array], factors: Array, kept: int) -> Posterior:
    """Bring means from the order of the factors to that of the weights."""
    mean = np.roll(np.stack(vectors), kept - factors.shape[1], axis=1)
    return Posterior(mean=owned(mean), factors=owned(factors), kept=kept)


def _of_axes(both: Sequence[tuple[Array, Array]]) -> Information:
    return Information(
        blocks=owned(np.stack([matrix for matrix, _ in both])),
        vector=owned(np.stack([vector for _, vector in both])),
    )


class _System(NamedTuple):
    """A quadratic form whose first variables are eliminated before the others; in place."""

    parts: list[tuple[int, slice, slice]]
    """Axis, weights, and where they stand."""
    front: int
    matrix: Array
    vector: Array

    @classmethod
    def of(
        cls,
        given: Information,
        order: Sequence[tuple[int, slice]],
        front: int,
        matrix: Array | None = None,
    ) -> "_System":
        """Lay information out in an order of its parts."""
        lengths = [len(range(*own.indices(given.vector.shape[1]))) for _, own in order]
        ends = np.cumsum(lengths).tolist()
        places = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        parts = [(*one, place) for one, place in zip(order, places, strict=True)]
        if matrix is None:
            matrix = np.empty((ends[-1], ends[-1]))
        system = cls(parts, front, matrix, np.empty(ends[-1]))
        for axis, own, place in parts:
            system.vector[place] = given.vector[axis, own]
            for other, also, beside in parts:
                matrix[place, beside] = _block(given, axis, other)[own, also]
        return system

    @classmethod
    def alone(
        cls, given: Information, axis: int, kept: int, matrix: Array | None = None
    ) -> "_System":
        """Lay out one axis: the first weights are what is left."""
        size = given.vector.shape[1]
        return cls.of(given, [(axis, slice(kept, size)), (axis, slice(kept))], size - kept, matrix)

    def _add(self, precision: Array, some: slice) -> None:
        line = np.concatenate([precision[axis, own] for axis, own, _ in self.parts])
        np.einsum("ii->i", self.matrix[some, some])[:] += line[some]

    def reduced(self, precision: Array) -> tuple[Array, Array]:
        """Eliminate the first variables, and return what is left."""
        front, first, last = self.front, self.vector[: self.front], self.vector[self.front :]
        self._add(precision, slice(front))
        rest = eliminate(self.matrix, front)
        divide(first[None], self.matrix)
        last -= first @ self.matrix[:front, front:]
        return mirrored(rest.copy()), last.copy()

    def complete(self, precision: Array, known: Information | None) -> None:
        """Add what else is known, and replace the vector by the mean."""
        rest, last = self.matrix[self.front :, self.front :], self.vector[self.front :]
        self._add(precision, slice(self.front, None))
        if known is not None:
            axis = self.parts[-1][0]
            rest += known.blocks[axis]
            last += known.vector[axis]
        divide(last[None], factorise(rest))
        divide(self.vector[None], self.matrix, transposed=True)


def _block(given: Information, axis: int, other: int) -> Array:
    if axis == other:
        return np.asarray(given.blocks[axis])
    if given.cross is None:
        return np.zeros(given.blocks.shape[1:])
    return given.cross if axis < other else given.cross.T
