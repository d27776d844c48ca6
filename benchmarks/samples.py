"""Samples of simulated frames without any image: columns where the truth sees them, plus noise."""

import numpy as np

from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import ScanSettings
from nion_distortion.lattice import Lattice
from simulator.microscope import Microscope, Truth

__all__ = ["COLUMN_SD_PX", "samples_of"]

COLUMN_SD_PX = 0.08
"""Per axis, as fits of 50 counts give them: 2.5 pm."""


def samples_of(
    machine: Microscope, settings: ScanSettings, *, index: int = 0, sd_px: float = COLUMN_SD_PX
) -> tuple[DistortionSamples, Lattice, Truth]:
    """Return one frame's columns with errors as fits give them.

    Parameters
    ----------
    machine : Microscope
        The simulated microscope.
    settings : ScanSettings
        The scan.
    index : int, default: 0
        Number of the frame.
    sd_px : float, default: 0.08
        Standard deviation of each column, per axis.

    Returns
    -------
    samples : DistortionSamples
        Indexed without a mistake.
    lattice : Lattice
        Fitted to them.
    truth : Truth
        Of the frame.
    """
    truth = machine.exposure(settings, index).truth
    columns, motif = truth.columns, machine.specimen.motif
    crystal = columns.cell + motif[columns.sublattice]
    rng = np.random.default_rng([7, machine.seed, index])
    seen = columns.seen_px + sd_px * rng.normal(size=columns.seen_px.shape)
    affine = np.c_[np.ones(len(seen)), crystal]
    fitted = np.asarray(np.linalg.lstsq(affine, seen, rcond=None)[0], dtype=np.float64)
    lattice = Lattice(origin_px=fitted[0], basis_px=fitted[1:], motif=motif)
    samples = DistortionSamples(
        crystal_sites=crystal,
        sites_px=lattice.positions_px(crystal),
        observed_px=seen,
        covariance_px2=np.tile(sd_px**2 * np.eye(2), (len(seen), 1, 1)),
        settings=settings,
        frame_id=f"frame {index}",
        time_s=truth.path.start_s,
    )
    return samples, lattice, truth
