"""Columns -> indexed lattice sites: basis, motif, indices, and the ideal lattice."""

from nion_distortion.lattice.basis import basis_from_fourier, basis_from_neighbours
from nion_distortion.lattice.indexed import IndexedColumns, Lattice
from nion_distortion.lattice.indexing import index_columns
from nion_distortion.lattice.refinement import refine_lattice

__all__ = [
    "IndexedColumns",
    "Lattice",
    "basis_from_fourier",
    "basis_from_neighbours",
    "index_columns",
    "refine_lattice",
]
