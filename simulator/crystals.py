"""The crystals: unit cells in projection, and what is displaced in them."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CRYSTALS", "Change", "Crystal", "make_crystal"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Change = Callable[[Integers, Integers], tuple[Array, Array]]
"""From cells (n, 2) and sublattices (n,) to displacements in nm and factors of the brightness."""

STO_NM = 0.3905


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crystal:
    """A unit cell in projection.

    Parameters
    ----------
    basis_nm : sequence, shape (2, 2)
        Rows are the basis vectors (y, x).
    motif : sequence, shape (m, 2)
        Columns of the cell, in cells.
    brightness : sequence, length m
        Peak of each column, relative to the brightest.
    shapes : str
        Whose simulated profiles the columns have.
    change : callable, optional
        From cells (n, 2) and sublattices (n,) to displacements (n, 2) in nm and to factors (n,)
        of the brightness.
    """

    basis_nm: Sequence[Sequence[float]]
    motif: Sequence[Sequence[float]]
    brightness: Sequence[float]
    shapes: str
    change: Change | None = None


def _strontium_titanate(*, dark: float = 0.35, change: Change | None = None) -> Crystal:
    return Crystal(
        basis_nm=[[STO_NM, 0], [0, STO_NM]],
        motif=[[0, 0], [0.5, 0.5]],
        brightness=[1.0, dark],
        shapes="sto_001",
        change=change,
    )


def _sto_001() -> Crystal:
    return _strontium_titanate()


def _sto_110() -> Crystal:
    return Crystal(
        basis_nm=[[STO_NM, 0], [0, STO_NM / np.sqrt(2)]],
        motif=[[0, 0], [0.5, 0]],
        brightness=[1.0, 0.3],
        shapes="sto_110",
    )


def _dumbbells(a_nm: float, second: float, shapes: str) -> Crystal:
    return Crystal(
        basis_nm=[[a_nm / 2, a_nm / np.sqrt(8)], [0, a_nm / np.sqrt(2)]],
        motif=[[0, 0], [0.5, -0.25]],  # a quarter of the cube's edge apart, along y
        brightness=[1.0, second],
        shapes=shapes,
    )


def _si_110() -> Crystal:
    return _dumbbells(0.5431, 1.0, "si_110")


def _gaas_110() -> Crystal:
    return _dumbbells(0.5653, (31 / 33) ** 1.7, "gaas_110")


def _hexagonal(a_nm: float, second: float, shapes: str) -> Crystal:
    return Crystal(
        basis_nm=[[0, a_nm], [a_nm * np.sqrt(3) / 2, -a_nm / 2]],
        motif=[[0, 0], [2 / 3, 1 / 3]],
        brightness=[1.0, second],
        shapes=shapes,
    )


def _graphene() -> Crystal:
    return _hexagonal(0.246, 1.0, "graphene")


def _mos2() -> Crystal:
    return _hexagonal(0.316, 2 * (16 / 42) ** 1.7, "mos2")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Polar:
    """The B column moves along +y in every cell."""

    polar_nm: float

    def __call__(self, cell: Integers, sublattice: Integers) -> tuple[Array, Array]:
        moved = np.where(sublattice[:, None] == 1, [self.polar_nm, 0.0], 0.0)
        return moved, np.ones(len(cell))


def _batio3_polar(*, polar_nm: float = 0.03) -> Crystal:
    return Crystal(
        basis_nm=[[0.4036, 0], [0, 0.3992]],
        motif=[[0, 0], [0.5, 0.5]],
        brightness=[1.0, 0.25],
        shapes="batio3_polar",
        change=_Polar(polar_nm=polar_nm),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _StrainStep:
    """SrTiO3 is the lattice that counts; from a row of cells on stands PbTiO3, longer along y."""

    strain: float
    polar_nm: float
    interface_cell: int

    def __call__(self, cell: Integers, sublattice: Integers) -> tuple[Array, Array]:
        below = cell[:, 0] - self.interface_cell
        rows = below + np.where(sublattice == 1, 0.5, 0.0)
        stretched = self.strain * STO_NM * np.maximum(rows, 0)
        polar = np.where((sublattice == 1) & (below >= 0), self.polar_nm, 0.0)
        strontium = (sublattice == 0) & (below < 0)
        moved = np.stack([stretched + polar, np.zeros(len(cell))], 1)
        return moved, np.where(strontium, 0.4, 1.0)


def _pto_sto(*, strain: float = 0.064, polar_nm: float = 0.03, interface_cell: int = 0) -> Crystal:
    step = _StrainStep(strain=strain, polar_nm=polar_nm, interface_cell=interface_cell)
    return _strontium_titanate(dark=0.15, change=step)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Zigzag:
    """Neighbouring columns move along x by turns."""

    amplitude_nm: float

    def __call__(self, cell: Integers, sublattice: Integers) -> tuple[Array, Array]:
        sign = 1.0 - 2.0 * (cell.sum(1) % 2)
        moved = np.stack([np.zeros(len(cell)), self.amplitude_nm * sign], 1)
        return moved, np.ones(len(sublattice))


def _zigzag(*, amplitude_nm: float = 0.02) -> Crystal:
    return Crystal(
        basis_nm=[[STO_NM, 0], [0, STO_NM]],
        motif=[[0, 0]],
        brightness=[1.0],
        shapes="sto_001",
        change=_Zigzag(amplitude_nm=amplitude_nm),
    )


CRYSTALS: dict[str, Callable[..., Crystal]] = {
    "sto_001": _sto_001,
    "sto_110": _sto_110,
    "si_110": _si_110,
    "gaas_110": _gaas_110,
    "graphene": _graphene,
    "mos2": _mos2,
    "batio3_polar": _batio3_polar,
    "pto_sto": _pto_sto,
    "zigzag": _zigzag,
}
"""What makes each crystal, by name."""


def make_crystal(name: str, parameters: dict[str, float]) -> Crystal:
    """Return a crystal by name.

    Parameters
    ----------
    name : str
        One of `CRYSTALS`.
    parameters : dict
        What can be chosen of it.

    Returns
    -------
    Crystal
        Its unit cell.

    Raises
    ------
    ValueError
        If it has no such parameter.
    """
    make = CRYSTALS[name]
    known = tuple(inspect.signature(make).parameters)
    for parameter in parameters:
        if parameter not in known:
            accepts = ", ".join(known) or "none"
            raise ValueError(f"{name} has no parameter {parameter!r}; it has: {accepts}")
    return make(**parameters)
