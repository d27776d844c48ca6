"""Wrong indices: simulated frames of every specimen, indexed, and compared with the truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nion_distortion.atoms import find_columns
from nion_distortion.frame import ScanSettings, UnusableFrameError
from nion_distortion.lattice import IndexedColumns, index_columns
from simulator.detector import Detector
from simulator.microscope import Microscope, Shot, Truth
from simulator.scan import ScanErrors
from simulator.specimen import SPECIMENS, Specimen, make_specimen

__all__ = ["Verdict", "compare", "judge", "random_shot", "wrong_indices"]

Array = npt.NDArray[Any]

WIDEST_NM = {"graphene": 11.0, "si_110": 13.0, "gaas_110": 13.0, "sto_110": 14.0}
"""Field of 512 px at which neighbouring columns are still resolved; 16 nm for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the columns of one frame.

    ``cell_found``: the cell is the true one up to a symmetry; ``wrong``: true columns whose index
    is not theirs; ``right``: those whose index is; ``false``: indexed columns that are none.
    """

    cell_found: bool
    wrong: int
    false: int
    right: int
    indexed: int


def wrong_indices(n_frames: int, seed: int = 0) -> dict[str, Any]:
    """Count wrong, false and refused over random frames of every specimen.

    Counts at a peak from 3 to 500, up to 10 % vacancies, fly-back of either sign; every tenth frame
    is half vacuum, every tenth has two grains.
    """
    total = {"frames": n_frames, "indexed": 0, "wrong": 0, "false": 0, "wrong_cells": 0}
    total |= {"bright_frames": 0, "refused_bright": 0, "refused": 0}
    reasons = []
    for number in range(n_frames):
        shot, counts = random_shot(seed + number)
        total["bright_frames"] += counts > 10
        try:
            verdict = verdict_of(shot)
        except UnusableFrameError as error:
            total["refused"] += 1
            total["refused_bright"] += counts > 10
            reasons.append(str(error))
            continue
        total["indexed"] += verdict.indexed
        total["wrong"] += verdict.wrong
        total["false"] += verdict.false
        total["wrong_cells"] += not verdict.cell_found
    return {
        **total,
        "false_share": total["false"] / max(total["indexed"], 1),
        "refused_bright_share": total["refused_bright"] / max(total["bright_frames"], 1),
        "reasons": reasons,
    }


def random_shot(seed: int) -> tuple[Shot, float]:
    """Take a frame in which everything is drawn; also its counts at a peak."""
    rng = np.random.default_rng([41, seed])
    counts = float(np.exp(rng.uniform(np.log(3), np.log(500))))
    specimen = _specimen(SPECIMENS[seed % len(SPECIMENS)], rng)
    size = int(rng.choice([256, 384, 512]))
    widest = WIDEST_NM.get(specimen.name, 16.0) * size / 512
    settings = ScanSettings(
        shape_px=(size, size),
        field_of_view_nm=widest * rng.uniform(0.6, 1.0),
        dwell_time_us=2.0,
        flyback_time_us=50.0,
    )
    microscope = Microscope(
        specimen=specimen,
        errors=_errors(settings, rng),
        detector=Detector(counts_at_peak=counts),
        seed=seed,
    )
    return microscope.shot(settings), counts


def _specimen(name: str, rng: np.random.Generator) -> Specimen:
    kind = rng.integers(10)
    return make_specimen(
        name,
        vacancy_fraction=rng.uniform(0, 0.1),
        grains=2 if kind == 0 else 1,
        vacuum_fraction=0.5 if kind == 1 else 0.0,
        rotation_rad=rng.uniform(-np.pi, np.pi),
        seed=int(rng.integers(1 << 30)),
    )


def _errors(settings: ScanSettings, rng: np.random.Generator) -> ScanErrors:
    decay_px = rng.uniform(0.02, 0.05) * settings.shape_px[1]
    tau_us = decay_px * 2.0
    steepest = rng.choice([-0.75, 0.42]) * rng.uniform(0.2, 1)
    lag_nm = steepest * decay_px * settings.pixel_size_nm
    grown = np.exp(50.0 / tau_us)
    return ScanErrors(
        line_flyback_nm=(rng.uniform(-0.3, 0.3) * lag_nm * grown, lag_nm * grown),
        line_flyback_tau_us=tau_us,
        coil_scale=(rng.normal(0, 0.02), rng.normal(0, 0.02)),
        coil_skew_rad=rng.normal(0, 0.015),
        smooth_nm=rng.uniform(0, 0.04),
        fast_axis_step_nm=rng.uniform(0, 0.01),
        line_jitter_nm=rng.uniform(0, 0.01),
        walk_nm=rng.uniform(0, 0.015),
        drift_nm_s=tuple(rng.normal(0, 0.03, 2)),
        seed=int(rng.integers(1 << 30)),
    )


def verdict_of(shot: Shot) -> Verdict:
    """Find and index the columns of a frame, and compare."""
    columns = find_columns(shot.frame.image)
    indexed = index_columns(columns, shot.frame.settings.shape_px)
    return compare(indexed, shot.truth)


def compare(indexed: IndexedColumns, truth: Truth) -> Verdict:
    """Compare with the truth after one common translation and symmetry.

    A found column is the one that lies where the beam really stood: the truth's own list leaves out
    columns that lie just where one line's jitter jumps over them.
    """
    found = truth.place_px(indexed.columns.positions_px)
    pixel_nm = truth.settings.pixel_size_nm
    extent_nm = 2 * float(np.abs(found).max()) * pixel_nm
    sites = truth.specimen.sites((0.0, 0.0), (extent_nm, extent_nm))
    place = sites.position_nm / pixel_nm + (np.array(truth.settings.shape_px) - 1) / 2
    tree = cKDTree(place)
    limit = 0.4 * float(np.median(np.asarray(tree.query(place, 2)[0])[:, 1]))
    distance, column = map(np.asarray, tree.query(found, distance_upper_bound=limit))
    order = np.lexsort((distance, column))
    again = np.zeros(len(found), bool)
    again[order[1:]] = column[order[1:]] == column[order[:-1]]
    real = np.isfinite(distance) & ~again
    cell, sublattice, grain = (
        values[np.where(real, column, 0)] for values in (sites.cell, sites.sublattice, sites.grain)
    )
    return judge((cell, sublattice, np.where(real, grain, -1)), truth.specimen.motif, indexed)


def judge(truth: tuple[Array, Array, Array], motif: Array, indexed: IndexedColumns) -> Verdict:
    """Count, given each indexed column's true cell, sublattice and grain (-1: no column).

    One whole-numbered map from true to found cells, and for each sublattice one name and offset,
    are those that most columns agree on; a column of another grain is wrong with any index.
    """
    cell, sublattice, grain = truth
    real = grain >= 0
    false, count = int((~real).sum()), len(grain)
    main = np.bincount(grain[real], minlength=1).argmax()
    mine = grain == main
    turn = _whole_map(cell[mine] + motif[sublattice[mine]], indexed.crystal_sites[mine])
    offsets = np.zeros((count, 3), int)
    if turn is not None:
        offsets = np.column_stack([indexed.sublattice, indexed.indices - cell @ turn])
    right, names = 0, []
    for s in np.unique(sublattice[mine]):
        values, counts = np.unique(offsets[mine & (sublattice == s)], axis=0, return_counts=True)
        right += int(counts.max())
        names.append(int(values[counts.argmax(), 0]))
    too_many = len(indexed.lattice.motif) > len(motif)
    if turn is None or too_many or len(set(names)) < len(names):
        right = 0
    return Verdict(
        cell_found=right > 0,
        wrong=int(real.sum()) - right,
        false=false,
        right=right,
        indexed=count,
    )


def _whole_map(exact: Array, found: Array) -> Array | None:
    """Unimodular whole-numbered map from true to found cells; None where there is none."""
    design = np.column_stack([exact, np.ones(len(exact))])
    keep = np.ones(len(exact), bool)
    for _ in range(8):
        solution = np.linalg.lstsq(design[keep], found[keep], rcond=None)[0]
        error = np.abs(found - design @ solution).max(1)
        keep = error <= max(0.3, 1.5 * float(np.median(error)))
    turn = np.rint(solution[:2])
    whole = np.abs(turn - solution[:2]).max() < 0.05
    return turn.astype(int) if whole and abs(round(np.linalg.det(turn))) == 1 else None
