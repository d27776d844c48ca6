"""``nion-distortion correct FILE``: a file from disk, its sample taken as the reference or not."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nion_distortion.cli.apply import apply_calibration
from nion_distortion.cli.results import check_folder, finish, make_folder
from nion_distortion.cli.summary import (
    Run,
    drift_lines,
    expected,
    fold_lines,
    off_by,
    processed,
    run_numbers,
    trust_lines,
    unusable_lines,
    with_progress,
)
from nion_distortion.figures import residual_figure
from nion_distortion.files import read_frames, write_corrected
from nion_distortion.frame import Frame
from nion_distortion.held_out import held_out_residual

__all__ = ["run"]

REFERENCE = (
    "The sample was treated as a reference: its best affine lattice counts as undistorted, so "
    "that real displacements longer than about two cells are removed as well."
)
SEED = 0
"""Of the one draw of columns that ``--held-out`` makes."""


def run(chosen: argparse.Namespace) -> None:
    """Correct every frame of a file and write the report.

    Parameters
    ----------
    chosen : argparse.Namespace
        With ``file``, ``fov_nm``, ``out``, ``held_out``, ``calibration`` and ``store``.

    Raises
    ------
    ValueError
        If the file cannot be read or the results cannot be written, or no frame can be measured.
    """
    if chosen.calibration is not None:
        apply_calibration(chosen)
        return
    frames = read_frames(chosen.file, field_of_view_nm=chosen.fov_nm, is_raster=chosen.raster)
    paragraphs = _paragraphs(frames[0])
    folder = chosen.out or Path(f"{chosen.file.stem}_corrected")
    check_folder(folder)
    done = _corrected(frames, folder)
    if done.last is None:
        raise ValueError(f"{chosen.file.name}: {done.numbers[0]['unusable']}")
    paragraphs += fold_lines(done.numbers)
    numbers = run_numbers(chosen.file, frames[0], done)
    if chosen.held_out:
        usable = next(n for n, one in enumerate(done.numbers) if one["unusable"] is None)
        numbers["held_out"] = _held_out(frames[usable])
    drawn = done.figures()
    if len(frames) > 1:
        courses = {"as scanned": "off_by_pm", "corrected (expected)": "corrected_pm"}
        drawn["Distortion of each frame"] = residual_figure(
            {label: done.series(name) for label, name in courses.items()}
        )
    ending = finish(
        folder,
        numbers,
        drawn,
        title=f"Scan distortion of {chosen.file.name}",
        paragraphs=paragraphs,
        files=done.files,
    )
    sys.stdout.write("\n".join([*_summary(numbers, done), *paragraphs, *ending, ""]))


def _paragraphs(frame: Frame) -> list[str]:
    """Say what the correction rests on, and what it leaves out."""
    if frame.altered is None:
        return [REFERENCE]
    return [
        REFERENCE,
        f"The image is not the scan as it was made ({frame.altered}), so that no line is known to "
        "start at its left edge: the fly-back was not fitted.",
    ]


def _corrected(frames: Sequence[Frame], folder: Path) -> Run:
    done, model = Run(), None
    for frame in with_progress(frames):
        report = processed(frame, model)
        model = report.model
        done.add(frame, report)
        if report.corrected is not None:
            make_folder(folder)
            name = f"{Path(frame.provenance['file']).stem}_corrected_{frame.index:04d}.hspy"
            write_corrected(folder / name, report.corrected, overwrite=True)
            done.files.append(name)
    return done


def _held_out(frame: Frame) -> dict[str, Any]:
    found = held_out_residual(frame, rng=np.random.default_rng(SEED))
    pairs = {"raw": found.raw_pm, "corrected": found.corrected_pm, "fitted": found.fitted_pm}
    return {"erased": found.erased, "found": found.found, "seed": SEED} | {
        f"{name}_{axis}_pm": value
        for name, pair in pairs.items()
        for axis, value in zip(("slow", "fast"), pair, strict=True)
    }


def _summary(numbers: dict[str, Any], done: Run) -> list[str]:
    count = len(done.numbers)
    lines = [
        f"{numbers['file']}: {count} frame{'s' * (count > 1)}, off by {off_by(done)}, "
        f"corrected to {expected(done)}."
    ]
    lines += [*unusable_lines(numbers["frames"]), *trust_lines(numbers["frames"])]
    lines += drift_lines(numbers["frames"])
    if "held_out" in numbers:
        part = numbers["held_out"]
        lines.append(
            f"Columns erased before the fit, one draw of 20 % at random ({part['found']} of "
            f"{part['erased']} found again), slow/fast, rms: "
            f"{part['raw_slow_pm']:.1f}/{part['raw_fast_pm']:.1f} pm -> "
            f"{part['corrected_slow_pm']:.1f}/{part['corrected_fast_pm']:.1f} pm; "
            f"fitted columns: {part['fitted_slow_pm']:.1f}/{part['fitted_fast_pm']:.1f} pm. "
            "One draw has no uncertainty; another one gives somewhat other numbers."
        )
    return lines
