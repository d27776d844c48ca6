"""A calibration from SrTiO3 on other samples: their displacements beside the true ones.

The polar shift of BaTiO3 and the strain step of PbTiO3 on SrTiO3, on samples without images.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from benchmarks.results import Measured
from benchmarks.samples import samples_of
from nion_distortion.distortion import places_on_sample
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.options import TERMS
from simulator.microscope import Microscope
from simulator.scan import ScanErrors, strong_flyback
from simulator.specimen import make_specimen

__all__ = ["transfer"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SCAN = ScanSettings(
    shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=60.0
)
LEARNT_FROM, POLAR_NM = 5, 0.03
STEP_PM = 0.064 * 390.5
"""By which a cell of PbTiO3 is longer than one of SrTiO3."""

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def transfer(*, quick: bool) -> Mapping[str, Measured]:
    """Learn on SrTiO3, then measure a polar shift and a strain step at other rotations.

    Parameters
    ----------
    quick : bool
        Four realisations.

    Returns
    -------
    Mapping of str to Measured
        Errors of both, corrected by D alone; not corrected beside it.
    """
    found = np.array([_errors_pm(seed) for seed in range(4 if quick else 20)])
    return _told("shift", found[:, 0]) | _told("step", found[:, 1])


def _told(name: str, errors_pm: Array) -> dict[str, Measured]:
    """Summarise errors (n, 2): corrected, and not corrected."""
    mean, sd = errors_pm.mean(axis=0), errors_pm.std(axis=0, ddof=1)
    bars = sd / np.sqrt(len(errors_pm))
    raw = f"not corrected {mean[1]:.2f} +- {bars[1]:.2f}, sd {sd[1]:.2f}"
    return {
        f"transfer {name}": Measured(
            value=abs(float(mean[0])),
            beside=f"{mean[0]:.2f} +- {bars[0]:.2f} pm, {len(errors_pm)} realisations; {raw}",
        ),
        f"transfer {name}-bias": Measured(value=abs(float(mean[0] / bars[0]))),
        f"transfer {name}-sd": Measured(value=float(sd[0])),
    }


def _errors_pm(seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the errors of shift and step, each corrected and not."""
    errors = _errors(seed)
    model = _learnt(errors, seed)
    turn = 0.3 + 0.2 * seed
    along = np.array([np.cos(turn), -np.sin(turn)])
    both = []
    for name, truth_pm in (("batio3_polar", 1e3 * POLAR_NM), ("pto_sto", STEP_PM)):
        specimen = make_specimen(name, rotation_rad=turn, seed=seed)
        machine = Microscope(specimen, errors, seed=100 + seed)
        samples, _, truth = samples_of(machine, SCAN, index=LEARNT_FROM)
        seen, columns = samples.observed_px, truth.columns
        measure = _shift_px if name == "batio3_polar" else _step_px
        off = [
            1e3 * SCAN.pixel_size_nm * float(measure(at, columns.cell, columns.sublattice) @ along)
            for at in (places_on_sample(model.distortion_px, seen), seen)
        ]
        both.append((off[0] - truth_pm, off[1] - truth_pm))
    return both[0], both[1]


def _errors(seed: int) -> ScanErrors:
    """Return the strong fly-back with the slope that it has in a frame of twice this width."""
    errors = strong_flyback(SCAN, sign=1 if seed % 2 else -1, seed=seed)
    return replace(errors, line_flyback_nm=(0.0, 0.5 * errors.line_flyback_nm[1]))


def _learnt(errors: ScanErrors, seed: int) -> DistortionModel:
    specimen = make_specimen("sto_001", rotation_rad=0.1 + 0.05 * seed, seed=seed)
    machine = Microscope(specimen, errors, seed=seed)
    frames = [samples_of(machine, SCAN, index=index)[:2] for index in range(LEARNT_FROM)]
    model = first_model(*frames[0], TERMS)
    for frame in frames[1:]:
        model = model.updated(*frame)
    return model


def _shift_px(places_px: Array, cell: Integers, sublattice: Integers) -> Array:
    """Average how far each B column stands off the centre of its four A columns."""
    is_corner = sublattice == 0
    corners = {
        (int(i), int(j)): place
        for (i, j), place in zip(cell[is_corner], places_px[is_corner], strict=True)
    }
    off = [
        place - np.mean([corners[i + di, j + dj] for di, dj in CORNERS], axis=0)
        for (i, j), place in zip(cell[~is_corner], places_px[~is_corner], strict=True)
        if all((i + di, j + dj) in corners for di, dj in CORNERS)
    ]
    return np.asarray(np.mean(off, axis=0), dtype=np.float64)


def _step_px(places_px: Array, cell: Integers, sublattice: Integers) -> Array:
    """Fit by how much cells are longer from row 0 on, beside a lattice of unknown constants."""
    chosen = sublattice == 0
    rows, columns = cell[chosen].T.astype(np.float64)
    known = np.c_[np.ones(len(rows)), rows, columns, np.maximum(rows, 0.0)]
    fitted = np.linalg.lstsq(known, places_px[chosen], rcond=None)[0]
    return np.asarray(fitted[3], dtype=np.float64)
