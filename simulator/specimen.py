"""What lies under the beam: columns of atoms, where they really are."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, map_coordinates

from simulator.crystals import CRYSTALS, Change, make_crystal

__all__ = ["SPECIMENS", "Sites", "Specimen", "make_specimen"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

REACH_NM = 0.3
PROFILE_NM2 = np.linspace(0.0, REACH_NM**2, 4097)
"""Squares of the distances from a column at which its profile is kept; it ends at the last."""

SHAPES_FILE = Path(__file__).with_name("column_shapes.npz")
"""Profiles from multislice simulations, made by ``column_shapes.py``."""

EXTENT_NM = 16.0
"""Side of the field for which the shares of grains and vacuum are meant."""

BOUNDARY_NM = 0.1
"""Columns keep this far off a grain boundary, so that those of two grains never coincide."""

LAYER_POINTS, LAYER_STEP_NM, LAYER_CLUMP_NM = 512, 0.05, 0.1
"""The amorphous layer: points to its period of 25.6 nm, their distance, sigma of its clumps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sites:
    """The columns of a region.

    Parameters
    ----------
    position_nm : ndarray, shape (n, 2)
        Where each column really is (y, x).
    displacement_nm : ndarray, shape (n, 2)
        Its real displacement from the perfect lattice.
    cell : ndarray of int, shape (n, 2)
        Cell in steps of the specimen's basis vectors (of its grain).
    sublattice : ndarray of int, shape (n,)
        Row of the motif.
    grain : ndarray of int, shape (n,)
        Number of the grain.
    brightness : ndarray, shape (n,)
        Peak relative to the brightest kind of column, in HAADF.
    width_nm : ndarray, shape (n,)
        Sigma of the Gaussian nearest to the column's shape.
    """

    position_nm: Array
    displacement_nm: Array
    cell: Integers
    sublattice: Integers
    grain: Integers
    brightness: Array
    width_nm: Array

    def __post_init__(self) -> None:
        for item in fields(self):
            _read_only(self, item.name)

    def __reduce__(self) -> Any:
        return _rebuild_sites, ({item.name: getattr(self, item.name) for item in fields(self)},)

    def where(self, chosen: npt.NDArray[Any]) -> "Sites":
        """Return some of the columns.

        Parameters
        ----------
        chosen : ndarray
            Mask or row numbers.

        Returns
        -------
        Sites
            Those columns.
        """
        return Sites(**{item.name: getattr(self, item.name)[chosen] for item in fields(self)})


def _rebuild_sites(values: dict[str, Any]) -> Sites:
    return Sites(**values)


def _read_only(owner: object, name: str) -> None:
    array = np.array(getattr(owner, name))
    array.flags.writeable = False
    object.__setattr__(owner, name, array)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Specimen:
    """A crystal with its real displacements and defects; it has no edge but the vacuum's.

    Parameters
    ----------
    name : str
        One of `SPECIMENS`.
    basis_nm : ndarray, shape (2, 2)
        Rows are the basis vectors (y, x), turned as the crystal is.
    motif : ndarray, shape (m, 2)
        Columns of a cell, in cells.
    brightness : ndarray, shape (m,)
        Peak of each column of the motif, relative to the brightest.
    width_nm : ndarray, shape (m,)
        Sigma of the Gaussian nearest to each column.
    profile : ndarray, shape (m, 4097)
        Signal of each column at `PROFILE_NM2`, 1 at its centre.
    origin_nm : ndarray, shape (2,)
        Where cell (0, 0) of grain 0 begins.
    change : callable, optional
        From cells (n, 2) and sublattices (n,) to displacements (n, 2) in nm, before turning, and
        to factors (n,) of the brightness.
    rotation_rad : float
        How far the crystal is turned.
    grain_seeds_nm : ndarray, shape (grains, 2)
        A place belongs to the grain of the nearest seed.
    grain_rotation_rad : ndarray, shape (grains,)
        How far each grain is turned further.
    vacancy_fraction : float
        Share of columns that are missing.
    vacuum_fraction : float
        Share of a field of 16 nm without specimen.
    contamination : float
        Rms of an amorphous layer's signal, relative to the brightest column's peak.
    seed : int
        Decides everything that is random.
    """

    name: str
    basis_nm: Array
    motif: Array
    brightness: Array
    width_nm: Array
    profile: Array
    origin_nm: Array
    change: Change | None = None
    rotation_rad: float = 0.0
    grain_seeds_nm: Array = field(default_factory=lambda: np.zeros((1, 2)))
    grain_rotation_rad: Array = field(default_factory=lambda: np.zeros(1))
    vacancy_fraction: float = 0.0
    vacuum_fraction: float = 0.0
    contamination: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            if isinstance(getattr(self, item.name), np.ndarray):
                _read_only(self, item.name)

    def __reduce__(self) -> Any:
        return _rebuild_specimen, ({item.name: getattr(self, item.name) for item in fields(self)},)

    def sites(self, centre_nm: npt.ArrayLike, size_nm: npt.ArrayLike) -> Sites:
        """Return all columns of a region.

        Parameters
        ----------
        centre_nm : array_like, shape (2,)
            Centre of the region (y, x).
        size_nm : array_like, shape (2,)
            Its height and width.

        Returns
        -------
        Sites
            The columns in it, those of grain 0 first, in order of their cells.
        """
        centre, size = np.asarray(centre_nm, float), np.asarray(size_nm, float)
        grains = [self._grain(number, centre, size) for number in range(len(self.grain_seeds_nm))]
        return Sites(
            **{
                item.name: np.concatenate([getattr(grain, item.name) for grain in grains])
                for item in fields(Sites)
            }
        )

    def in_vacuum(self, position_nm: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Say where the specimen has ended.

        Parameters
        ----------
        position_nm : array_like, shape (..., 2)
            Places on the sample (y, x).

        Returns
        -------
        ndarray of bool, shape (...)
            True in the vacuum, which lies at large y.
        """
        edge_nm = (0.5 - self.vacuum_fraction) * EXTENT_NM
        y = np.asarray(position_nm, float)[..., 0]
        return np.asarray((y > edge_nm) if self.vacuum_fraction else np.zeros(y.shape, bool))

    def layer(self, position_nm: npt.ArrayLike) -> Array:
        """Return the signal of the amorphous contamination.

        Parameters
        ----------
        position_nm : array_like, shape (..., 2)
            Places on the sample (y, x).

        Returns
        -------
        ndarray, shape (...)
            Signal relative to the brightest kind of column; never negative, none in the vacuum.
        """
        position = np.asarray(position_nm, float)
        if not self.contamination:
            return np.zeros(position.shape[:-1])
        noise = np.random.default_rng([19, self.seed]).normal(size=(LAYER_POINTS, LAYER_POINTS))
        clumps = gaussian_filter(noise, LAYER_CLUMP_NM / LAYER_STEP_NM, mode="wrap")
        signal = self.contamination * np.maximum(2 + clumps / clumps.std(), 0)
        points = np.moveaxis(position, -1, 0) / LAYER_STEP_NM
        layer: Array = map_coordinates(signal, points, order=1, mode="grid-wrap")
        return np.where(self.in_vacuum(position), 0.0, layer)

    def _grain(self, number: int, centre: Array, size: Array) -> Sites:
        turn = _rotation(self.grain_rotation_rad[number])
        basis = self.basis_nm @ turn.T
        cell, sublattice = self._cells(basis, centre, size)
        ideal = self.origin_nm @ turn.T + (cell + self.motif[sublattice]) @ basis
        moved, factor = np.zeros_like(ideal), np.ones(len(ideal))
        if self.change is not None:
            moved, factor = self.change(cell, sublattice)
            moved = moved @ _rotation(self.rotation_rad + self.grain_rotation_rad[number]).T
        sites = Sites(
            position_nm=ideal + moved,
            displacement_nm=moved,
            cell=cell,
            sublattice=sublattice,
            grain=np.full(len(cell), number),
            brightness=self.brightness[sublattice] * factor,
            width_nm=self.width_nm[sublattice],
        )
        inside = (np.abs(sites.position_nm - centre) <= size / 2).all(1)
        return sites.where(inside & self._kept(sites))

    def _cells(self, basis: Array, centre: Array, size: Array) -> tuple[Integers, Integers]:
        # room for real displacements, of which a strain step's grow with the way from the centre
        half = 0.5 * size + 1.0 + 0.15 * np.abs(np.abs(centre) + size).max()
        corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * half + centre - self.origin_nm
        in_cells = corners @ np.linalg.inv(basis)
        low = np.floor(in_cells.min(0)).astype(np.int64) - 1
        high = np.ceil(in_cells.max(0)).astype(np.int64) + 1
        i, j, m = np.meshgrid(
            *(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)),
            np.arange(len(self.motif)),
            indexing="ij",
        )
        return np.stack([i.ravel(), j.ravel()], 1), m.ravel()

    def _kept(self, sites: Sites) -> npt.NDArray[np.bool_]:
        kept = ~self.in_vacuum(sites.position_nm)
        if self.vacancy_fraction:
            kept &= _chance(sites, self.seed) >= self.vacancy_fraction
        if len(self.grain_seeds_nm) > 1:
            kept &= self._in_own_grain(sites)
        return kept

    def _in_own_grain(self, sites: Sites) -> npt.NDArray[np.bool_]:
        # half the difference of squares over the seeds' distance = way to the boundary between
        own = self.grain_seeds_nm[sites.grain]
        kept = np.ones(len(own), bool)
        for number, rival in enumerate(self.grain_seeds_nm):
            far = ((sites.position_nm - rival) ** 2).sum(1)
            near = ((sites.position_nm - own) ** 2).sum(1)
            apart = np.sqrt(((rival - own) ** 2).sum(1))
            kept &= (sites.grain == number) | (far - near > 2 * apart * BOUNDARY_NM)
        return kept


def _rebuild_specimen(values: dict[str, Any]) -> Specimen:
    return Specimen(**values)


def _rotation(angle_rad: float) -> Array:
    """Return the matrix that turns (y, x) from x towards y by an angle."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, s], [-s, c]])


def _chance(sites: Sites, seed: int) -> Array:
    """Return a number in [0, 1) for each column, the same whatever region is asked for."""
    keys = np.stack([*sites.cell.T, sites.sublattice, sites.grain]).astype(np.uint64)
    mixed = np.full(len(sites.grain), seed, dtype=np.uint64)
    for key in keys:  # splitmix64, one round for each number
        mixed = (mixed ^ key) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


SPECIMENS: tuple[str, ...] = tuple(CRYSTALS)
"""Names that `make_specimen` knows."""


def make_specimen(  # noqa: PLR0913 - one knob for each kind of defect
    name: str,
    *,
    vacancy_fraction: float = 0.0,
    grains: int = 1,
    vacuum_fraction: float = 0.0,
    contamination: float = 0.0,
    rotation_rad: float = 0.0,
    column_shape: str = "multislice",
    seed: int = 0,
    **parameters: float,
) -> Specimen:
    """Return a specimen by name.

    Parameters
    ----------
    name : str
        One of `SPECIMENS`.
    vacancy_fraction : float, default: 0
        Share of columns that are missing, drawn one by one.
    grains : int, default: 1
        Grains within a field of 16 nm; each further one is turned by 10 to 25 degrees.
    vacuum_fraction : float, default: 0
        Share of that field without specimen, at large y.
    contamination : float, default: 0
        Rms of an amorphous layer's signal, relative to the brightest column's peak.
    rotation_rad : float, default: 0
        How far the crystal is turned, from x towards y.
    column_shape : {"multislice", "gaussian"}
        How columns look: simulated profiles with their tails, or Gaussians of the same width. The
        profiles are those of SrTiO3 also for pto_sto and zigzag.
    seed : int, default: 0
        Decides everything that is random, the origin of the lattice among it.
    **parameters : float
        ``polar_nm`` (batio3_polar, pto_sto), ``strain`` and ``interface_cell`` (pto_sto),
        ``amplitude_nm`` (zigzag).

    Returns
    -------
    Specimen
        The specimen.

    Raises
    ------
    ValueError
        If the name or a parameter is not known, or a share is outside 0 to 1.
    """
    if name not in CRYSTALS:
        raise ValueError(f"name must be one of {', '.join(SPECIMENS)}, not {name!r}")
    shares = {"vacancy_fraction": vacancy_fraction, "vacuum_fraction": vacuum_fraction}
    for argument, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{argument} must be from 0 to 1, not {share}")
    if grains < 1 or contamination < 0:
        raise ValueError("grains must be at least 1 and contamination not negative")
    if column_shape not in ("multislice", "gaussian"):
        raise ValueError(f"column_shape must be multislice or gaussian, not {column_shape!r}")
    rng = np.random.default_rng([17, seed])
    crystal = make_crystal(name, parameters)
    basis = np.asarray(crystal.basis_nm, float) @ _rotation(rotation_rad).T
    motif = np.asarray(crystal.motif, float)
    profile, width = _multislice(crystal.shapes, len(motif))
    return Specimen(
        name=name,
        basis_nm=basis,
        motif=motif,
        brightness=np.asarray(crystal.brightness, float),
        width_nm=width,
        profile=_gaussians(width) if column_shape == "gaussian" else profile,
        origin_nm=rng.uniform(-0.5, 0.5, 2) @ basis,
        change=crystal.change,
        rotation_rad=rotation_rad,
        grain_seeds_nm=_draw_seeds(rng, grains),
        grain_rotation_rad=_draw_turns(rng, grains),
        vacancy_fraction=vacancy_fraction,
        vacuum_fraction=vacuum_fraction,
        contamination=contamination,
        seed=seed,
    )


def _multislice(shapes: str, kinds: int) -> tuple[Array, Array]:
    """Return the profiles (kinds, 4097) and widths (kinds,) of a simulated crystal's columns."""
    with np.load(SHAPES_FILE) as arrays:
        curves, widths = arrays[shapes][:kinds], arrays[f"{shapes}_width_nm"][:kinds]
        spline = CubicSpline(arrays["radius_nm"], curves, axis=1, bc_type="clamped")
    return spline(np.sqrt(PROFILE_NM2)), widths.astype(np.float64)


def _gaussians(width_nm: Array) -> Array:
    profile: Array = np.exp(-0.5 * PROFILE_NM2 / width_nm[:, None] ** 2)
    return profile


def _draw_seeds(rng: np.random.Generator, grains: int) -> Array:
    """Places of the grains: opposite each other, so that a boundary crosses the field."""
    start = rng.uniform(0, 2 * np.pi)
    angle = start + 2 * np.pi * np.arange(grains) / grains
    radius = EXTENT_NM / 4 if grains > 1 else 0.0
    return radius * np.stack([np.sin(angle), np.cos(angle)], 1) + rng.uniform(-1, 1, 2)


def _draw_turns(rng: np.random.Generator, grains: int) -> Array:
    turns = np.deg2rad(rng.uniform(10, 25, grains)) * np.where(np.arange(grains) % 2, 1, -1)
    turns[0] = 0.0
    return turns
