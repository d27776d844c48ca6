"""Whether a calibration that still holds is believed, and one that does not is found out.

Frames are samples, without images: the columns where the simulated beam saw them, plus the error
of a fit. Every run begins as a live session does: amplitudes found again after five frames.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from benchmarks.results import Measured
from nion_distortion.diagnostics import condition_of
from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel, first_model, refit_amplitudes
from nion_distortion.gaussian_process.watch import WINDOW
from nion_distortion.lattice import Lattice
from nion_distortion.options import TERMS, AnyReference, Free, KnownCrystal
from simulator.microscope import Microscope
from simulator.scan import ScanErrors
from simulator.specimen import make_specimen

__all__ = ["stale"]

Array = npt.NDArray[np.float64]

SCAN = ScanSettings(
    shape_px=(144, 160), field_of_view_nm=5.0, dwell_time_us=1.0, flyback_time_us=120.0
)
WHOLE = ScanSettings(
    shape_px=(512, 512), field_of_view_nm=16.0, dwell_time_us=1.0, flyback_time_us=120.0
)

CRYSTAL = KnownCrystal.named("SrTiO3 [001]")
"""Reference of the unchanged scans: with it scale and skew are compared too."""

COLUMN_SD_PX, CLAIMED_SHARE = 0.08, (1.0, 0.8, 1.2)
"""Error of a column, and what its fit claims of it, in turn from run to run."""

REFIT_AFTER, CALIBRATED = 5, 20


def stale(*, quick: bool) -> Mapping[str, Measured]:
    """Follow unchanged scans, and scans that change.

    Parameters
    ----------
    quick : bool
        Two runs of 20 frames instead of 25 of 200.

    Returns
    -------
    Mapping of str to Measured
        False alarms per frame (distortion, scale, skew), changes of the distortion that were
        flagged, and the cost of a comparison.
    """
    runs, length, draws = (2, 20, 3) if quick else (25, 200, 8)
    frames = alarms = flagged = changes = 0
    for run in range(runs):
        machine = _machine(run)
        model = _calibrated(machine, run, Free())
        for weights in _three_errors(model, draws, run):
            changes += 1
            flagged += _is_flagged(model, machine, run, weights)
        model = _calibrated(machine, run, CRYSTAL)
        for index in range(CALIBRATED, CALIBRATED + length):
            model = model.updated(*_sampled(machine, index, run))
            frames += 1
            alarms += condition_of(model).state == "stale"
    return {
        "stale false-alarms": Measured(
            value=alarms / frames, beside=f"{alarms} of {frames} frames in {runs} runs"
        ),
        "stale flagged": Measured(
            value=100 * flagged / changes, beside=f"{flagged} of {changes} changes"
        ),
        "stale cost": Measured(value=1e3 * _cost_s(), beside="by the processor's clock"),
    }


def _machine(run: int) -> Microscope:
    """Return a restless scan; every second one has a strong fly-back."""
    tau_us = 0.06 * SCAN.shape_px[1]
    lag_nm = 0.125 * np.exp(120.0 / tau_us) if run % 2 else 0.0
    errors = ScanErrors(
        line_flyback_nm=(0.0, lag_nm),
        line_flyback_tau_us=tau_us,
        smooth_nm=0.04,
        fast_axis_step_nm=0.005,
        line_jitter_nm=0.004,
        walk_nm=0.008,
        drift_nm_s=(0.02, -0.01),
        seed=run,
    )
    return Microscope(make_specimen("sto_001", rotation_rad=0.1 + 0.05 * run), errors, seed=run)


def _sampled(
    machine: Microscope, index: int, run: int, settings: ScanSettings = SCAN
) -> tuple[DistortionSamples, Lattice]:
    truth = machine.exposure(settings, index).truth
    columns, motif = truth.columns, machine.specimen.motif
    crystal = columns.cell + motif[columns.sublattice]
    rng = np.random.default_rng([11, run, index])
    seen = columns.seen_px + COLUMN_SD_PX * rng.normal(size=columns.seen_px.shape)
    affine = np.c_[np.ones(len(seen)), crystal]
    fitted = np.asarray(np.linalg.lstsq(affine, seen, rcond=None)[0], dtype=np.float64)
    lattice = Lattice(origin_px=fitted[0], basis_px=fitted[1:], motif=motif)
    claimed = COLUMN_SD_PX * CLAIMED_SHARE[run % len(CLAIMED_SHARE)]
    samples = DistortionSamples(
        crystal_sites=crystal,
        sites_px=lattice.positions_px(crystal),
        observed_px=seen,
        covariance_px2=np.tile(claimed**2 * np.eye(2), (len(seen), 1, 1)),
        settings=settings,
        frame_id=f"frame {index}",
        time_s=truth.path.start_s,
    )
    return samples, lattice


def _calibrated(machine: Microscope, run: int, reference: AnyReference) -> DistortionModel:
    model = first_model(*_sampled(machine, 0, run), TERMS, reference=reference)
    for index in range(1, CALIBRATED):
        model = model.updated(*_sampled(machine, index, run))
        if index + 1 == REFIT_AFTER:
            model = refit_amplitudes(model)
    return model


def _three_errors(model: DistortionModel, draws: int, run: int) -> Iterator[Array]:
    """Draw changes of D: each three times what the model claims not to know."""
    rng = np.random.default_rng([12, run])
    roots = [np.linalg.cholesky(one) for one in model.stationary.covariance]
    for _ in range(draws):
        yield 3 * np.stack([root @ rng.normal(size=len(root)) for root in roots])


def _is_flagged(model: DistortionModel, machine: Microscope, run: int, weights: Array) -> bool:
    size = model.basis.stationary_size
    for index in range(CALIBRATED, CALIBRATED + WINDOW):
        samples, lattice = _sampled(machine, index, run)
        change = weights @ model.basis.design(samples.observed_px)[:size]
        moved = replace(samples, observed_px=samples.observed_px + change.T)
        model = model.updated(moved, lattice)
        if condition_of(model).state == "stale":
            return True
    return False


def _cost_s() -> float:
    """Time a comparison at 512 x 512, least of twenty."""
    model = first_model(*_sampled(_machine(1), 0, 1, WHOLE), TERMS)
    frame = model.known  # of one frame
    watch = model.watching(frame)
    durations = []
    for _ in range(20):
        begun_s = time.process_time()
        watch.seen(frame, model.stationary)
        durations.append(time.process_time() - begun_s)
    return min(durations)
