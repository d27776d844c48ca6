"""Columns and whole rows that the fit was not given: does it know how far off it is."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from benchmarks.results import Measured
from benchmarks.samples import samples_of
from benchmarks.scenes import sto
from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import ScanSettings
from nion_distortion.held_out import some_rows, withheld_residual
from nion_distortion.lattice import Lattice
from simulator.scan import ScanErrors, real_like, strong_flyback

__all__ = ["withheld"]

SCAN = ScanSettings(
    shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=60.0
)
"""31 pm pixels, about 830 columns."""

BAND = 1.96
EVERY = 5


def withheld(*, quick: bool) -> Mapping[str, Measured]:
    """Pool the residuals of withheld columns over frames with real-like errors or fly-back.

    Parameters
    ----------
    quick : bool
        Four frames instead of 48.

    Returns
    -------
    Mapping of str to Measured
        For columns and rows: how far z is from 1, and the coverage of the 95 % band from 95 %.
    """
    pooled: dict[str, list[npt.NDArray[np.float64]]] = {"columns": [], "rows": []}
    for seed, samples, lattice in _frames(2 if quick else 24):
        rng = np.random.default_rng(seed)
        chosen = {
            "columns": rng.random(len(samples)) < 1 / EVERY,
            "rows": some_rows(lattice, samples.crystal_sites, first=seed, every=EVERY),
        }
        for name, some in chosen.items():
            pooled[name].append(withheld_residual(samples, lattice, some).z)
    found: dict[str, Measured] = {}
    for name, parts in pooled.items():
        z, each = np.concatenate(parts), [float(np.sqrt(np.mean(part**2))) for part in parts]
        slow, fast = np.sqrt(np.mean(z**2, axis=0))
        whole = float(np.sqrt(np.mean(z**2)))
        covered, near = (100 * float(np.mean(np.abs(z) < band)) for band in (BAND, 1.0))
        found |= {
            f"withheld {name} z": Measured(
                value=abs(whole - 1),
                beside=f"z {whole:.3f}, slow {slow:.3f}, fast {fast:.3f};"
                f" frames {min(each):.2f} to {max(each):.2f}; {len(z)} columns",
            ),
            f"withheld {name} coverage": Measured(
                value=abs(covered - 95),
                beside=f"95 % band covers {covered:.1f} %, 68 % band {near:.1f} %",
            ),
        }
    return found


def _frames(seeds: int) -> Iterator[tuple[int, DistortionSamples, Lattice]]:
    for seed in range(seeds):
        for errors in (real_like(SCAN, seed=seed), _flyback(seed)):
            samples, lattice, _ = samples_of(sto(errors, seed=seed), SCAN)
            yield seed, samples, lattice


def _flyback(seed: int) -> ScanErrors:
    """Return the strong fly-back with the slope that it has in a frame of twice this width."""
    errors = strong_flyback(SCAN, sign=1 if seed % 2 else -1, seed=seed)
    return replace(errors, line_flyback_nm=(0.0, 0.5 * errors.line_flyback_nm[1]))
