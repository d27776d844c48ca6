"""Images of columns whose positions are known, and the bound that no estimate can beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nion_distortion.atoms import AtomColumns
from nion_distortion.frame import ScanSettings
from simulator.detector import Detector
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors
from simulator.specimen import make_specimen

Array = npt.NDArray[np.float64]


def gaussians(
    shape: tuple[int, int], positions: Array, heights: Array, sigma: float, background: float = 0.0
) -> Array:
    """Sum of Gaussians, drawn from the formula."""
    y, x = np.arange(shape[0]), np.arange(shape[1])
    rows = heights[:, None] * np.exp(-0.5 * ((y - positions[:, :1]) / sigma) ** 2)
    columns = np.exp(-0.5 * ((x - positions[:, 1:]) / sigma) ** 2)
    return np.asarray(background + rows.T @ columns, dtype=np.float64)


def square_lattice(n: int, spacing: float, *, turned_rad: float = 0.1) -> Array:
    """Positions of a turned square lattice that fills an image of n x n pixels and more."""
    steps = np.arange(-n, n + 1) * spacing
    keep = np.abs(steps) < 1.2 * n
    grid = np.stack(np.meshgrid(steps[keep], steps[keep], indexing="ij"), -1).reshape(-1, 2)
    c, s = np.cos(turned_rad), np.sin(turned_rad)
    positions = grid @ np.array([[c, s], [-s, c]]) + n / 2 + np.array([0.31, -0.17])
    return np.asarray(positions[np.all((positions > -9) & (positions < n + 9), axis=1)])


def gaussian_sto(
    counts: float, rng: np.random.Generator
) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Image of 512 x 512 counted electrons, positions and kinds: as wide as STO at 31 pm."""
    strong = square_lattice(512, 12.5)
    c, s = np.cos(0.1), np.sin(0.1)
    positions = np.concatenate([strong, strong + 6.25 * np.array([c - s, s + c])])
    positions = positions + rng.normal(0, 0.1, positions.shape)
    kind = np.repeat([0, 1], len(strong))
    heights = counts * np.array([1.0, 0.35])[kind]
    expected = gaussians((512, 512), positions, heights, 1.57, 0.15 * counts)
    return rng.poisson(expected).astype(np.float64), positions, kind


def bound_px(height: float, sigma: float, background: float) -> float:
    """Cramer-Rao bound of a coordinate: Gaussian + constant, five parameters, Poisson counts."""
    reach = int(5 * sigma) + 1
    side = np.arange(-reach, reach + 1.0)
    y, x = np.meshgrid(side, side, indexing="ij")
    e, square = np.exp(-0.5 * (y**2 + x**2) / sigma**2), (y**2 + x**2) / sigma**2
    gradients = np.stack(
        [height * e * y / sigma**2, height * e * x / sigma**2, e, height * e * square, y * 0 + 1]
    ).reshape(5, -1)
    information = (gradients / (height * e + background).ravel()) @ gradients.T
    return float(np.sqrt(np.linalg.inv(information)[0, 0]))


def simulated(
    name: str = "sto_001", *, size: int = 512, pixel_nm: float = 0.03125, seed: int = 0, **kind: Any
) -> Shot:
    """One frame; what is not a property of the specimen belongs to the detector."""
    channel, errors = kind.pop("channel", "HAADF"), kind.pop("errors", ScanErrors())
    counts, detector = kind.pop("counts", 50.0), kind.pop("detector", {})
    microscope = Microscope(
        specimen=make_specimen(name, rotation_rad=0.1, seed=seed, **kind),
        detector=Detector(counts_at_peak=counts, **detector),
        errors=errors,
        seed=seed,
    )
    settings = ScanSettings(
        shape_px=(size, size),
        field_of_view_nm=size * pixel_nm,
        dwell_time_us=1.0,
        flyback_time_us=100.0,
    )
    return microscope.shot(settings, channel=channel)


@dataclass(frozen=True)
class Match:
    """What was found of one kind of true column, away from the border."""

    error_px: Array
    variance_px2: Array
    recall: float

    @property
    def rms_px(self) -> float:
        return float(np.sqrt(np.mean(self.error_px**2)))

    @property
    def z(self) -> float:
        return float(np.sqrt(np.mean(self.error_px**2 / self.variance_px2)))


def matched(
    columns: AtomColumns, true_px: Array, wanted: npt.NDArray[np.bool_], *, size: int, sigma: float
) -> Match:
    """Compare the columns found with those true ones that are wanted."""
    wanted = wanted & inside(true_px, size, 3 * sigma)
    distance, nearest = map(np.asarray, cKDTree(true_px).query(columns.positions_px))
    hit = (distance < 1.5 * sigma) & wanted[nearest]
    variance = columns.covariance_px2[hit][:, [0, 1], [0, 1]]
    recall = len(np.unique(nearest[hit])) / wanted.sum()
    return Match(columns.positions_px[hit] - true_px[nearest[hit]], variance, float(recall))


def precision(columns: AtomColumns, true_px: Array, *, size: int, sigma: float) -> float:
    """Share of the columns found, away from the border, that are true."""
    counted = columns.positions_px[inside(columns.positions_px, size, 3 * sigma)]
    return float(np.mean(cKDTree(true_px).query(counted)[0] < 1.5 * sigma))


def inside(positions: Array, size: int, margin: float) -> npt.NDArray[np.bool_]:
    """Tell which positions are away from the border."""
    return np.asarray(np.all((positions > margin) & (positions < size - 1 - margin), axis=1))


def sigma_px(shot: Shot) -> float:
    """Width of the widest columns of a simulated frame."""
    return float(np.max(shot.truth.specimen.width_nm) / shot.frame.settings.pixel_size_nm)


def pooled(matches: Sequence[Match]) -> Match:
    """All matches as one."""
    return Match(
        np.concatenate([m.error_px for m in matches]),
        np.concatenate([m.variance_px2 for m in matches]),
        float(np.mean([m.recall for m in matches])),
    )
