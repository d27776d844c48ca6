"""The lattice of a frame, and the columns that have a place in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, check_length, reduce_frozen

if TYPE_CHECKING:
    from nion_distortion.atoms import AtomColumns

__all__ = ["IndexedColumns", "Lattice"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lattice:
    """A crystal as the frame shows it: two vectors and a motif.

    Parameters
    ----------
    origin_px : ndarray, shape (2,)
        Place of site (0, 0) of the first sublattice.
    basis_px : ndarray, shape (2, 2)
        Rows are the basis vectors, (y, x): reduced (60 to 120 degrees), with positive
        determinant, that is, turned from the first to the second as from +y to +x.
    motif : ndarray, shape (m, 2)
        Each sublattice's place in the cell, in fractions of the basis vectors; the first is
        (0, 0) and the brightest.

    Raises
    ------
    ValueError
        If a shape is wrong, the motif does not start at (0, 0) or the cell has no area.
    """

    origin_px: npt.NDArray[np.float64]
    basis_px: npt.NDArray[np.float64]
    motif: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin_px", as_array("origin_px", self.origin_px, (2,)))
        object.__setattr__(self, "basis_px", as_array("basis_px", self.basis_px, (2, 2)))
        object.__setattr__(self, "motif", as_array("motif", self.motif, (None, 2)))
        if not len(self.motif) or self.motif[0].any():
            raise ValueError("motif must start with (0, 0)")
        if not abs(np.linalg.det(self.basis_px)) > 0:
            raise ValueError("basis_px must span an area")

    __reduce__ = reduce_frozen

    def positions_px(self, crystal_sites: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Place crystal sites in the frame.

        Parameters
        ----------
        crystal_sites : ndarray, shape (n, 2)
            Index plus motif, in cells.

        Returns
        -------
        ndarray, shape (n, 2)
            Origin + sites @ basis, in px.
        """
        return np.asarray(self.origin_px + np.asarray(crystal_sites) @ self.basis_px)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexedColumns:
    """The columns that have a place in the lattice, and how each was reached.

    Parameters
    ----------
    columns : AtomColumns, n columns
        Only those that got an index.
    indices : ndarray, shape (n, 2)
        The cell of each, (i, j) along the first and the second basis vector.
    sublattice : ndarray, shape (n,)
        Row of the motif.
    lattice : Lattice
        Fitted to these columns, outliers discounted.
    propagated_px : ndarray, shape (n, 2)
        Where the running lattice vectors of the neighbours proposed the column.
    correction_px : ndarray, shape (n, 2)
        Seen minus proposed; the paper's correction vector.
    unindexed : int
        Columns that got no index.

    Raises
    ------
    ValueError
        If the arrays do not have one row for each column.
    """

    columns: "AtomColumns"
    indices: npt.NDArray[np.int64]
    sublattice: npt.NDArray[np.int64]
    lattice: Lattice
    propagated_px: npt.NDArray[np.float64]
    correction_px: npt.NDArray[np.float64]
    unindexed: int

    def __post_init__(self) -> None:
        shapes: dict[str, tuple[tuple[int | None, ...], npt.DTypeLike]] = {
            "indices": ((None, 2), np.int64),
            "sublattice": ((None,), np.int64),
            "propagated_px": ((None, 2), np.float64),
            "correction_px": ((None, 2), np.float64),
        }
        for name, (shape, dtype) in shapes.items():
            object.__setattr__(self, name, as_array(name, getattr(self, name), shape, dtype))
            check_length(name, getattr(self, name), len(self.columns.positions_px))

    __reduce__ = reduce_frozen

    @property
    def crystal_sites(self) -> npt.NDArray[np.float64]:
        """Index plus motif of each column, in cells; shape (n, 2)."""
        return np.asarray(self.indices + self.lattice.motif[self.sublattice])
