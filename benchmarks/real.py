"""A real SrTiO3 micrograph: how far off are columns that the fit has not seen."""

import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.results import Measured
from nion_distortion.files import read_frames
from nion_distortion.frame import Frame
from nion_distortion.held_out import some_rows, withheld_residual
from nion_distortion.pipeline import process_frame

__all__ = ["STO_FILE", "sto"]

STO_FILE = Path(__file__).resolve().parents[2] / "shared/data/sto/16_STOimage_1.ser"


def sto(*, quick: bool) -> Mapping[str, Measured]:
    """Erase a fifth of the columns, fit, and measure them in the corrected original.

    Parameters
    ----------
    quick : bool
        One draw.

    Returns
    -------
    Mapping of str to Measured
        Mean residual of each axis, and how many were found again.
    """
    if not STO_FILE.exists():
        missing = Measured(beside="data missing: 16_STOimage_1.ser")
        return dict.fromkeys(("sto slow", "sto fast", "sto found"), missing)
    held_out_residual = importlib.import_module("nion_distortion.held_out").held_out_residual
    frame = read_frames(STO_FILE)[0]
    draws = [
        held_out_residual(frame, rng=np.random.default_rng(seed))
        for seed in range(1 if quick else 10)
    ]
    raw, left, fitted = (
        np.mean([getattr(draw, name) for draw in draws], axis=0)
        for name in ("raw_pm", "corrected_pm", "fitted_pm")
    )
    slow_fast = _whole_rows(frame)
    again = [100 * draw.found / draw.erased for draw in draws]
    return {
        f"sto {axis}": Measured(
            value=float(left[number]),
            beside=f"raw {raw[number]:.1f}, fitted columns {fitted[number]:.1f};"
            f" whole rows withheld {slow_fast[number]:.1f}",
        )
        for number, axis in enumerate(("slow", "fast"))
    } | {"sto found": Measured(value=min(again))}


def _whole_rows(frame: Frame) -> npt.NDArray[np.float64]:
    """Withhold every fifth row in turn: what its columns are off by, their own fits included."""
    report = process_frame(frame)
    if report.samples is None or report.indexed is None:
        raise RuntimeError(f"the frame could not be used: {report.unusable}")
    lattice, sites = report.indexed.lattice, report.samples.crystal_sites
    off = [
        withheld_residual(
            report.samples, lattice, some_rows(lattice, sites, first=k, every=5)
        ).residual_px
        for k in range(5)
    ]
    rms = np.sqrt(np.mean(np.concatenate(off) ** 2, axis=0))
    return np.asarray(1e3 * frame.settings.pixel_size_nm * rms)
