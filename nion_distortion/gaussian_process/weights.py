"""Information about the weights of the functions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, owned, reduce_frozen

__all__ = ["Information", "less", "padded"]

Array = npt.NDArray[np.float64]


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

    def slope(self, weights: Array) -> Array:
        """Compare what the samples say with given weights: 0 at the most probable ones.

        Parameters
        ----------
        weights : ndarray, shape (2, m)
            Of both axes, px.

        Returns
        -------
        ndarray, shape (2, m)
            ``v - M w``.
        """
        alone = np.matmul(self.blocks, weights[..., None])[..., 0]
        return np.asarray(self.beside(weights).vector - alone)

    def beside(self, weights: Array) -> "Information":
        """Say what is left for each axis where the weights of the other are given.

        Parameters
        ----------
        weights : ndarray, shape (2, m)
            Of both axes, px.

        Returns
        -------
        Information
            Without a block between the axes.
        """
        if self.cross is None:
            return self
        coupled = np.stack([self.cross @ weights[1], weights[0] @ self.cross])
        return Information(blocks=self.blocks, vector=owned(self.vector - coupled))


def less(known: Information, part: Information) -> Information:
    """Subtract a part, such as one frame's, from what is known.

    Parameters
    ----------
    known : Information
        What is known, with that part.
    part : Information
        What one frame said.

    Returns
    -------
    Information
        What the others say.
    """
    minus = Information(
        blocks=owned(-part.blocks),
        vector=owned(-part.vector),
        cross=None if part.cross is None else owned(-part.cross),
    )
    return known + minus


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
