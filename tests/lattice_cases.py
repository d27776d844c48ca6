"""Random column positions whose indices are known: crystals, scan errors, noise, vacancies."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.indexing import Verdict, judge
from nion_distortion.lattice import IndexedColumns

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crystal:
    basis_nm: Array
    motif: Array
    brightness: Array

    @property
    def nearest_nm(self) -> float:
        steps = np.mgrid[-2:3, -2:3].reshape(2, -1).T
        places = (steps[:, None] + self.motif).reshape(-1, 2) @ self.basis_nm
        lengths = np.hypot(*places.T)
        return float(lengths[lengths > 1e-6].min())


def _crystal(basis: Any, motif: Any, brightness: Any) -> Crystal:
    return Crystal(
        basis_nm=np.array(basis, float),
        motif=np.array(motif, float),
        brightness=np.array(brightness, float),
    )


CRYSTALS = {
    "STO [001]": _crystal([[0.3905, 0], [0, 0.3905]], [[0, 0], [0.5, 0.5]], [1, 0.35]),
    "BTO": _crystal([[0.403, 0], [0, 0.399]], [[0, 0], [0.535, 0.5]], [1, 0.25]),
    "STO [110]": _crystal([[0.3905, 0], [0, 0.2761]], [[0, 0], [0.5, 0]], [1, 0.4]),
    "Si [110]": _crystal([[0.1920, 0.27155], [-0.1920, 0.27155]], [[0, 0], [0.25, 0.25]], [1, 1]),
    "GaAs [110]": _crystal(
        [[0.1999, 0.28267], [-0.1999, 0.28267]], [[0, 0], [0.25, 0.25]], [1.12, 1]
    ),
    "graphene": _crystal([[0.246, 0], [-0.123, 0.21304]], [[0, 0], [1 / 3, 2 / 3]], [1, 1]),
    "MoS2": _crystal([[0.316, 0], [-0.158, 0.27366]], [[0, 0], [1 / 3, 2 / 3]], [1, 0.3]),
    "simple": _crystal([[0.30, 0], [0.06, 0.34]], [[0, 0]], [1]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeColumns:
    """As much of ``AtomColumns`` as indexing looks at."""

    positions_px: Array
    covariance_px2: Array
    amplitude: Array
    confidence: Array
    sigma_px: Array
    chi2: Array
    counts: Array

    @property
    def variance_px2(self) -> Array:
        return np.asarray(0.5 * (self.covariance_px2[:, 0, 0] + self.covariance_px2[:, 1, 1]))

    def subset(self, keep: Array) -> "FakeColumns":
        return FakeColumns(
            positions_px=self.positions_px[keep],
            covariance_px2=self.covariance_px2[keep],
            amplitude=self.amplitude[keep],
            confidence=self.confidence[keep],
            chi2=self.chi2[keep],
            counts=self.counts[keep],
            sigma_px=self.sigma_px[keep],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is seen, and what is true of it; cell and sublattice of a false peak mean nothing."""

    name: str
    columns: FakeColumns
    shape_px: tuple[int, int]
    cell: Array
    sublattice: Array
    grain: Array  # -1: a false peak
    undistorted_px: Array

    def moved(self, *, keep: Array) -> "Case":
        return replace(
            self,
            columns=self.columns.subset(keep),
            cell=self.cell[keep],
            sublattice=self.sublattice[keep],
            grain=self.grain[keep],
            undistorted_px=self.undistorted_px[keep],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the scan does; lengths in px."""

    flyback_px: float = 0.0
    decay_px: float = 15.0
    smooth_px: float = 0.0
    walk_px: float = 0.0
    jitter_px: float = 0.0
    slow_share: float = 0.0


def _smooth(rng: np.random.Generator, size: int) -> Any:
    waves = [
        [(rng.uniform(0.2, 1.6, 2), rng.uniform(0, 6.28), rng.normal() / 1.9) for _ in range(7)]
        for _ in range(2)
    ]

    def field(s: Array) -> Array:
        return np.stack(
            [sum(w * np.cos(2 * np.pi * (s / size) @ k + p) for k, p, w in axis) for axis in waves],
            -1,
        )

    return field


def scanned(place: Array, shape: tuple[int, int], scan: Scan, rng: np.random.Generator) -> Array:
    """Where columns at these places are seen: s = v + D(s) + W(s_y), solved by damped steps."""
    smooth = _smooth(rng, max(shape))
    walk = np.zeros((shape[0], 2))
    steps = rng.normal(0, 1, (shape[0], 2)) * scan.walk_px * 0.28
    for row in range(1, shape[0]):
        walk[row] = 0.96 * walk[row - 1] + steps[row]
    # a column is an average over the lines that it covers
    jitter = rng.normal(0, scan.jitter_px, (shape[0], 2))
    jitter = np.stack([np.convolve(axis, np.full(4, 0.25), "same") for axis in jitter.T], -1)
    walk += jitter
    rows = np.arange(shape[0])
    s = place.copy()
    for _ in range(80):
        lag = scan.smooth_px * smooth(s)
        early = -scan.flyback_px * np.exp(-np.maximum(s[:, 1], -10) / scan.decay_px)
        lag[:, 1] += early
        lag[:, 0] += scan.slow_share * early
        lag += np.stack([np.interp(s[:, 0], rows, axis) for axis in walk.T], -1)
        s = 0.4 * s + 0.6 * (place + lag)
    return s


def lattice_sites(
    crystal: Crystal, pixel_nm: float, turn_rad: float, origin: Array, shape: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Places in px, cells and sublattices that cover the frame and some way around it."""
    turn = np.array([[np.cos(turn_rad), np.sin(turn_rad)], [-np.sin(turn_rad), np.cos(turn_rad)]])
    basis = crystal.basis_nm @ turn / pixel_nm
    reach = int(1.2 * np.hypot(*shape) / np.sqrt(abs(np.linalg.det(basis)))) + 6
    cells = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    m = len(crystal.motif)
    cell = np.repeat(cells, m, 0)
    sublattice = np.tile(np.arange(m), len(cells))
    place = (cell + crystal.motif[sublattice]) @ basis + origin
    near = ((place > -40) & (place < np.array(shape) + 40)).all(1)
    return place[near], cell[near], sublattice[near]


def _specimen(
    crystal: Crystal,
    pixel_nm: float,
    grains: int,
    drawn: dict[str, Any],
    rng: np.random.Generator,
) -> tuple[Array, Array, Array, Array]:
    """Places, cells, sublattices and grains of all columns, those outside the frame too."""
    shape = (drawn["size"], drawn["size"])
    parts: list[Any] = []
    for grain in range(grains):
        turn = drawn["turn_rad"] + grain * rng.uniform(0.2, 0.6)
        origin = np.array(shape) / 2 + rng.uniform(-10, 10, 2)
        place, cell, sub = lattice_sites(crystal, pixel_nm, turn, origin, shape)
        parts.append((place, cell, sub, np.full(len(place), grain)))
    if grains == 2:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25) * drawn["size"]
        normal = np.array([np.cos(angle), np.sin(angle)])
        gap = 0.35 * drawn["nearest_px"]
        for grain, sign in ((0, -1), (1, 1)):
            side = sign * ((parts[grain][0] - np.array(shape) / 2) @ normal - offset) > gap
            parts[grain] = tuple(item[side] for item in parts[grain])
    place, cell, sub, grain_of = (np.concatenate(item) for item in zip(*parts, strict=True))
    if drawn["vacuum"]:
        angle = rng.uniform(0, 2 * np.pi)
        edge = (place - np.array(shape) / 2) @ [np.cos(angle), np.sin(angle)] > rng.uniform(0, 60)
        place, cell, sub, grain_of = place[~edge], cell[~edge], sub[~edge], grain_of[~edge]
    return place, cell, sub, grain_of


def _seen_things(
    brightness: Array, seen: Array, drawn: dict[str, Any], rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Brightness of the columns; places and brightness of false peaks."""
    counts = drawn["counts"] * brightness * 2 * np.pi * 1.5**2
    amplitude = drawn["counts"] * brightness
    amplitude = amplitude * (
        1 + rng.normal(0, 1, len(seen)) * np.minimum(0.5, 1.3 / np.sqrt(counts))
    )
    n_false = rng.poisson(drawn["false"] * len(seen))
    false = rng.uniform(4, drawn["size"] - 5, (n_false, 2))
    if len(seen):
        nearest = np.sqrt(((false[:, None] - seen[None]) ** 2).sum(-1).min(1))
        false = false[nearest > 2.5]
    weak = rng.uniform(0.1, 0.6, len(false)) * drawn["counts"]
    return amplitude, false, weak


def random_case(seed: int, *, name: str | None = None, grains: int = 1, **fixed: Any) -> Case:
    """One random frame; ``fixed`` overrides what is drawn: size, nearest_px, noise_px, missing,
    false, scan, vacuum, turn_rad, counts."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Any] = {
        "size": 512,
        "nearest_px": rng.uniform(4.3, 12),
        "noise_px": rng.uniform(0.02, 0.3),
        "missing": rng.uniform(0, 0.1),
        "false": rng.uniform(0.001, 0.02),
        "turn_rad": rng.uniform(-np.pi, np.pi),
        "vacuum": rng.random() < 0.1,
        "counts": np.exp(rng.uniform(np.log(3), np.log(500))),
        "scan": None,
    }
    names = sorted(CRYSTALS)
    name = name or names[int(rng.integers(len(names)))]
    drawn |= fixed
    crystal, shape = CRYSTALS[name], (drawn["size"], drawn["size"])
    pixel_nm = crystal.nearest_nm / drawn["nearest_px"]
    scan = drawn["scan"] or Scan(
        flyback_px=drawn["size"] * 0.03 * rng.choice([-0.8, 0.45]) * rng.uniform(0.1, 1),
        decay_px=drawn["size"] * 0.03 * rng.uniform(0.8, 1.5),
        smooth_px=0.04 / pixel_nm * rng.uniform(0, 1),
        walk_px=rng.uniform(0, 0.02) / pixel_nm,
        jitter_px=rng.uniform(0, 0.01) / pixel_nm,
        slow_share=rng.uniform(-0.3, 0.3),
    )
    place, cell, sub, grain_of = _specimen(crystal, pixel_nm, grains, drawn, rng)
    seen = scanned(place, shape, scan, rng)
    keep = ((seen > 3) & (seen < np.array(shape) - 4)).all(1)
    keep &= rng.random(len(seen)) >= drawn["missing"]
    place, seen, cell, sub, grain_of = (a[keep] for a in (place, seen, cell, sub, grain_of))
    seen = seen + rng.normal(0, drawn["noise_px"], seen.shape)
    amplitude, false, weak = _seen_things(crystal.brightness[sub], seen, drawn, rng)
    order = rng.permutation(len(seen) + len(false))
    positions = np.concatenate([seen, false])[order]
    n = len(positions)
    return Case(
        name=name,
        columns=FakeColumns(
            positions_px=positions,
            covariance_px2=np.broadcast_to(
                np.eye(2) * max(drawn["noise_px"], 0.02) ** 2, (n, 2, 2)
            ),
            amplitude=np.maximum(np.concatenate([amplitude, weak])[order], 1e-3),
            confidence=np.ones(n),
            chi2=np.ones(n),
            counts=np.full(n, drawn["counts"]),
            sigma_px=np.full(n, 1.5),
        ),
        shape_px=shape,
        cell=np.concatenate([cell, np.zeros((len(false), 2), int)])[order],
        sublattice=np.concatenate([sub, np.zeros(len(false), int)])[order],
        grain=np.concatenate([grain_of, np.full(len(false), -1)])[order],
        undistorted_px=np.concatenate([place, false])[order],
    )


def judged(case: Case, indexed: IndexedColumns) -> Verdict:
    """Compare with the truth after one common translation and symmetry."""
    number = {tuple(place): n for n, place in enumerate(case.columns.positions_px.tolist())}
    mine = np.array([number[tuple(place)] for place in indexed.columns.positions_px.tolist()])
    truth = (case.cell[mine], case.sublattice[mine], case.grain[mine])
    return judge(truth, CRYSTALS[case.name].motif, indexed)
