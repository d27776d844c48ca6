"""Make ``column_shapes.npz``: how wide columns look, from multislice simulations.

Run ``python simulator/column_shapes.py`` where abTEM [1]_ is installed; the simulator itself only
reads the arrays. One unit cell of each crystal is scanned with a 100 keV, 30 mrad probe through
10 nm (one layer of graphene and MoS2), with frozen phonons, onto a detector from 80 to 200 mrad.
The image is blurred by the source and written as a constant plus one radial profile for each
column of the motif, by penalised least
squares; profiles only fall. About half an hour on one core.

References
----------
.. [1] Madsen, Susi, The abTEM code: transmission electron microscopy from first principles,
   Open Research Europe, 2021.
"""

import importlib
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import curve_fit, nnls

__all__ = ["UnitCell", "column_profiles", "main", "scan_cell", "unit_cells"]

Array = npt.NDArray[np.float64]

ENERGY_EV, SEMIANGLE_MRAD, DETECTOR_MRAD = 100e3, 30.0, (80.0, 200.0)
SOURCE_NM, SMALL_SOURCE_NM = 0.0365, 0.026
"""Sigma of the source's image: as on SrTiO3, and with less current for columns close together."""

THICKNESS_NM, SIDE_NM = 10.0, 1.5
STEP_NM = 0.028
"""Below 1 / (4 semiangle / wavelength), so that the scanned image is not undersampled."""

CONFIGURATIONS = 6
RADIUS_NM = np.linspace(0.0, 0.3, 61)
KNOTS = 25
STIFFNESS, RIDGE = 1e-3, 3e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCell:
    """A rectangular cell, seen along z.

    Parameters
    ----------
    size_nm : tuple of float
        Lengths along y, x and z.
    atoms : tuple of (str, float, float, float)
        Element, and place along y, x and z in cells.
    columns : tuple of tuple of (float, float)
        For each kind of column its places (y, x) in cells.
    shake_nm : dict of str to float
        Thermal displacement of each element along one axis.
    source_nm : float
        Sigma of the source's image.
    layers : int, optional
        Cells along z; without it as many as make 10 nm.
    """

    size_nm: tuple[float, float, float]
    atoms: tuple[tuple[str, float, float, float], ...]
    columns: tuple[tuple[tuple[float, float], ...], ...]
    shake_nm: dict[str, float]
    source_nm: float = SOURCE_NM
    layers: int | None = None


def unit_cells() -> dict[str, UnitCell]:
    """Return the crystals.

    Returns
    -------
    dict of str to UnitCell
        By the specimen's name; kinds of columns in the order of its motif.
    """
    return {
        "sto_001": _perovskite("Sr", 0.3905, 0.3905, 0.0089),
        "batio3_polar": _perovskite("Ba", 0.4036, 0.3992, 0.0087),
        "sto_110": _sto_110(),
        "si_110": _dumbbells("Si", "Si", 0.5431, {"Si": 0.0077}),
        "gaas_110": _dumbbells("Ga", "As", 0.5653, {"Ga": 0.0094, "As": 0.0086}),
        "graphene": _hexagonal((("C", 0.0), ("C", 0.0)), 0.246, {"C": 0.007}, SMALL_SOURCE_NM),
        "mos2": _hexagonal(
            (("Mo", 0.0), ("S", 0.156), ("S", -0.156)), 0.316, {"Mo": 0.006, "S": 0.0075}
        ),
    }


def _perovskite(a_site: str, b_nm: float, a_nm: float, shake_nm: float) -> UnitCell:
    return UnitCell(
        size_nm=(b_nm, a_nm, a_nm),
        atoms=(
            (a_site, 0.0, 0.0, 0.0),
            ("Ti", 0.5, 0.5, 0.5),
            ("O", 0.5, 0.5, 0.0),
            ("O", 0.5, 0.0, 0.5),
            ("O", 0.0, 0.5, 0.5),
        ),
        columns=(((0.0, 0.0),), ((0.5, 0.5),)),
        shake_nm={a_site: shake_nm, "Ti": 0.0075, "O": 0.0096},
    )


def _sto_110() -> UnitCell:
    a = 0.3905
    atoms: list[tuple[str, float, float, float]] = []
    for x, z in ((0.0, 0.0), (0.5, 0.5)):  # the cell holds two layers, shifted by half its width
        atoms += [
            ("Sr", 0.0, x, z),
            ("Ti", 0.5, x, z + 0.5),
            ("O", 0.0, x, z + 0.5),
            ("O", 0.5, x + 0.25, z + 0.25),
            ("O", 0.5, x + 0.75, z + 0.25),
        ]
    return UnitCell(
        size_nm=(a, a * np.sqrt(2), a * np.sqrt(2)),
        atoms=tuple(atoms),
        columns=(((0.0, 0.0), (0.0, 0.5)), ((0.5, 0.0), (0.5, 0.5))),
        shake_nm={"Sr": 0.0089, "Ti": 0.0075, "O": 0.0096},
    )


def _dumbbells(first: str, second: str, a_nm: float, shake_nm: dict[str, float]) -> UnitCell:
    places = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    return UnitCell(
        size_nm=(a_nm, a_nm / np.sqrt(2), a_nm / np.sqrt(2)),
        atoms=tuple((first, y, x, z) for y, x, z in places)
        + tuple((second, y + 0.25, x, z + 0.5) for y, x, z in places),
        columns=(((0.0, 0.0), (0.5, 0.5)), ((0.25, 0.0), (0.75, 0.5))),
        shake_nm=shake_nm,
        source_nm=SMALL_SOURCE_NM,
    )


def _hexagonal(
    layer: tuple[tuple[str, float], ...],
    a_nm: float,
    shake_nm: dict[str, float],
    source_nm: float = SOURCE_NM,
) -> UnitCell:
    """Return one layer: the first atom at one site of the honeycomb, the others at the other."""
    depth_nm = 1.0
    sites = (((0.0, 0.0), (0.5, 0.5)), ((1 / 6, 0.5), (2 / 3, 0.0)))
    return UnitCell(
        size_nm=(a_nm * np.sqrt(3), a_nm, depth_nm),
        atoms=tuple(
            (element, y, x, 0.5 + height / depth_nm)
            for number, (element, height) in enumerate(layer)
            for y, x in sites[min(number, 1)]
        ),
        columns=sites,
        shake_nm=shake_nm,
        source_nm=source_nm,
        layers=1,
    )


def scan_cell(cell: UnitCell, *, seed: int = 1) -> Array:
    """Scan one unit cell.

    Parameters
    ----------
    cell : UnitCell
        The crystal.
    seed : int, default: 1
        Of the frozen phonons.

    Returns
    -------
    ndarray, shape (ny, nx)
        Share of the beam that reaches the detector.
    """
    abtem, ase = importlib.import_module("abtem"), importlib.import_module("ase")
    size = np.array(cell.size_nm)
    layers = cell.layers or round(THICKNESS_NM / size[2])
    places = np.array([atom[1:] for atom in cell.atoms]) % 1.0
    crystal = ase.Atoms([atom[0] for atom in cell.atoms], cell=10 * size, pbc=True)
    crystal.set_scaled_positions(places)
    crystal *= (*np.ceil(SIDE_NM / size[:2]).astype(int), layers)
    shaken = abtem.FrozenPhonons(
        crystal,
        num_configs=CONFIGURATIONS,
        sigmas={element: 10 * shake for element, shake in cell.shake_nm.items()},
        seed=seed,
    )
    potential = abtem.Potential(shaken, sampling=0.06, slice_thickness=2.0)
    probe = abtem.Probe(energy=ENERGY_EV, semiangle_cutoff=SEMIANGLE_MRAD)
    probe.grid.match(potential)
    scan = abtem.GridScan(
        start=(0, 0),
        end=tuple(10 * size[:2]),
        gpts=tuple(np.ceil(size[:2] / STEP_NM).astype(int)),
        endpoint=False,
    )
    detector = abtem.AnnularDetector(*DETECTOR_MRAD)
    return np.asarray(probe.scan(potential, scan=scan, detectors=detector).compute().array, float)


def column_profiles(cell: UnitCell, image: Array) -> tuple[Array, Array, Array]:
    """Take the columns of a scanned cell apart.

    Parameters
    ----------
    cell : UnitCell
        The crystal.
    image : ndarray, shape (ny, nx)
        Its scanned unit cell, which repeats.

    Returns
    -------
    profile : ndarray, shape (kinds, 61)
        Signal at `RADIUS_NM`, 1 at the centre.
    peak : ndarray, shape (kinds,)
        Signal at the centre, in units of the image.
    width_nm : ndarray, shape (kinds,)
        Sigma of the Gaussian that fits the centre best.
    """
    fine = _blurred(cell, image)
    kinds, scale, falling = len(cell.columns), fine.max(), np.triu(np.ones((KNOTS, KNOTS)))
    design = [_radial(cell, places, fine.shape) @ falling for places in cell.columns]
    table = np.column_stack([*design, np.ones(fine.size)])
    # smooth, and rather background than a far tail
    stiff = STIFFNESS * np.diff(falling, 2, axis=0)
    short = RIDGE * np.linspace(0, 1, KNOTS)[:, None] ** 2 * falling
    penalty = np.kron(np.eye(kinds), np.vstack([stiff, short]))
    penalty = np.sqrt(fine.size) * np.pad(penalty, ((0, 0), (0, 1)))
    wanted = np.concatenate([fine.ravel() / scale, np.zeros(len(penalty))])
    weights = nnls(np.vstack([table, penalty]), wanted)[0]
    curves = weights[:-1].reshape(kinds, KNOTS) @ (_hats(RADIUS_NM) @ falling).T
    profile = curves / curves[:, :1]
    return profile, scale * curves[:, 0], np.array([_width(line) for line in profile])


def _blurred(cell: UnitCell, image: Array, factor: int = 4) -> Array:
    """Fourier-interpolate, and convolve with the source."""
    shape = np.array(image.shape) * factor
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    low = shape // 2 - np.array(image.shape) // 2
    whole = np.zeros(shape, complex)
    high = low + image.shape
    whole[low[0] : high[0], low[1] : high[1]] = spectrum
    ky, kx = (
        np.fft.fftshift(np.fft.fftfreq(n, length / n))
        for n, length in zip(shape, cell.size_nm, strict=False)
    )
    k2 = ky[:, None] ** 2 + kx[None, :] ** 2
    whole *= np.exp(-2 * np.pi**2 * cell.source_nm**2 * k2) * factor**2
    return np.fft.ifft2(np.fft.ifftshift(whole)).real


def _hats(radius_nm: Array) -> Array:
    """Cubic B-splines of the radius: flat in the centre, zero with zero slope at the end."""
    step = RADIUS_NM[-1] / (KNOTS + 1)
    q = np.abs(radius_nm[..., None] / step - np.arange(KNOTS))
    mirrored = np.abs(radius_nm[..., None] / step + np.arange(KNOTS))
    mirrored[..., 0] = 2.0  # the spline in the centre is its own mirror image
    return _cubic(q) + _cubic(mirrored)


def _cubic(q: Array) -> Array:
    return np.where(q < 1, 2 / 3 - q**2 + q**3 / 2, np.clip(2 - q, 0, None) ** 3 / 6)


def _radial(
    cell: UnitCell, places: tuple[tuple[float, float], ...], shape: tuple[int, ...]
) -> Array:
    size = np.array(cell.size_nm[:2])
    y, x = (np.arange(n) / n for n in shape)
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    total = np.zeros((len(grid), KNOTS))
    for place in places:
        for shift in product(range(-2, 3), repeat=2):
            distance = np.linalg.norm((grid - place - shift) * size, axis=1)
            near = distance < RADIUS_NM[-1]
            total[near] += _hats(distance[near])
    return total


def _width(profile: Array) -> float:
    def gaussian(r: Array, height: float, sigma: float, level: float) -> Array:
        return level + height * np.exp(-0.5 * (r / sigma) ** 2)

    near = RADIUS_NM < 0.11
    found = curve_fit(gaussian, RADIUS_NM[near], profile[near], (1.0, 0.05, 0.0))[0]
    return float(abs(found[1]))


def main() -> None:
    """Simulate all crystals and write the arrays beside this file."""
    arrays: dict[str, npt.NDArray[np.float32]] = {"radius_nm": RADIUS_NM.astype(np.float32)}
    for name, cell in unit_cells().items():
        profile, peak, width = column_profiles(cell, scan_cell(cell))
        arrays[name] = profile.astype(np.float32)
        arrays[f"{name}_width_nm"] = width.astype(np.float32)
        sys.stderr.write(f"{name}: peaks {peak / peak.max()}, widths {width} nm\n")
    np.savez_compressed(Path(__file__).with_name("column_shapes.npz"), allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
