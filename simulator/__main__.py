"""Write a simulated stack to disk: ``python -m simulator --frames 20 --out stack.npy``."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nion_distortion.frame import ScanSettings
from simulator.detector import Detector
from simulator.microscope import CHANNELS, Microscope, Shot
from simulator.scan import ScanErrors, real_like, strong_flyback
from simulator.specimen import SPECIMENS, make_specimen

__all__ = ["main"]

ERRORS: dict[str, Callable[[ScanSettings, int], ScanErrors]] = {
    "none": lambda _settings, seed: ScanErrors(seed=seed),
    "strong": lambda settings, seed: strong_flyback(settings, sign=1, seed=seed),
    "strong-overshoot": lambda settings, seed: strong_flyback(settings, sign=-1, seed=seed),
    "real-like": lambda settings, seed: real_like(settings, seed=seed),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate a stack and write it.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line where not given.

    Returns
    -------
    int
        Exit code.
    """
    chosen = _parser().parse_args(arguments)
    try:
        settings, microscope = _settings(chosen), _microscope(chosen)
        shots = [
            microscope.shot(settings, index, channel=chosen.channel)
            for index in range(chosen.frames)
        ]
    except ValueError as mistake:
        sys.stderr.write(f"simulator: {mistake}\n")
        return 2
    _write(chosen.out, shots)
    if chosen.truth is not None:
        _write_truth(chosen.truth, shots)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator",
        description="Simulate a stack of frames, and write it as .npy with its settings as .json.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the .npy file; the .json goes beside it")
    add("--truth", type=Path, help="an .npz file for the true distortion and columns")
    add("--specimen", choices=SPECIMENS, default="sto_001", help="what lies under the beam")
    add("--errors", choices=tuple(ERRORS), default="real-like", help="what is wrong with the scan")
    add("--channel", choices=tuple(CHANNELS), default="HAADF", help="the detector")
    add("--frames", type=_count, default=20, help="frames in the stack")
    add("--pixels", type=int, default=512, help="lines, and pixels of a line")
    add("--fov-nm", type=float, default=16.0, help="field of view")
    add("--dwell-us", type=float, default=1.0, help="time on each pixel")
    add("--flyback-us", type=float, default=30.0, help="time between two lines")
    add("--rotation-deg", type=float, default=4.0, help="how far the crystal is turned")
    add("--vacancies", type=float, default=0.0, help="share of columns that are missing")
    add("--vacuum", type=float, default=0.0, help="share of a 16 nm field without specimen")
    add("--grains", type=_count, default=1, help="grains in a 16 nm field")
    add("--contamination", type=float, default=0.0, help="rms signal of an amorphous layer")
    add("--counts", type=float, default=50.0, help="electrons at the peak of a bright column")
    add("--gain", type=float, default=1.0, help="detector units for each electron")
    add("--offset", type=float, default=0.0, help="detector units without a beam")
    add("--seed", type=int, default=0, help="decides everything that is random")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _settings(chosen: argparse.Namespace) -> ScanSettings:
    return ScanSettings(
        shape_px=(chosen.pixels, chosen.pixels),
        field_of_view_nm=chosen.fov_nm,
        dwell_time_us=chosen.dwell_us,
        flyback_time_us=chosen.flyback_us,
        line_time_us=chosen.pixels * chosen.dwell_us + chosen.flyback_us,
        device_id="simulator",
    )


def _microscope(chosen: argparse.Namespace) -> Microscope:
    return Microscope(
        make_specimen(
            chosen.specimen,
            rotation_rad=np.deg2rad(chosen.rotation_deg),
            vacancy_fraction=chosen.vacancies,
            vacuum_fraction=chosen.vacuum,
            grains=chosen.grains,
            contamination=chosen.contamination,
            seed=chosen.seed,
        ),
        errors=ERRORS[chosen.errors](_settings(chosen), chosen.seed),
        detector=Detector(counts_at_peak=chosen.counts, gain=chosen.gain, offset=chosen.offset),
        seed=chosen.seed,
    )


def _write(path: Path, shots: Sequence[Shot]) -> None:
    np.save(path, np.stack([shot.frame.image for shot in shots]))
    settings = dataclasses.asdict(shots[0].frame.settings)
    path.with_suffix(".json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _write_truth(path: Path, shots: Sequence[Shot]) -> None:
    ny, nx = shots[0].frame.settings.shape_px
    y, x = np.meshgrid(np.arange(ny), np.arange(nx), indexing="ij")
    distortion = shots[0].truth.distortion_px(np.stack([y.ravel(), x.ravel()], axis=1))
    columns = [shot.truth.columns.seen_px for shot in shots]
    np.savez_compressed(
        path,
        distortion_px=distortion.T.reshape(2, ny, nx).astype(np.float32),
        columns_px=np.concatenate(columns),
        columns_frame=np.repeat(np.arange(len(shots)), [len(seen) for seen in columns]),
    )


if __name__ == "__main__":
    raise SystemExit(main())
