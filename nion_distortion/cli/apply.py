"""``nion-distortion correct FILE --calibration ID``: what a crystal taught, on any sample."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nion_distortion.calibrations import (
    AppliedCalibration,
    CalibrationStore,
    applied_to,
    matching,
)
from nion_distortion.cli.results import check_folder, finish, make_folder
from nion_distortion.cli.summary import (
    Run,
    expected,
    fold_lines,
    off_by,
    processed,
    run_numbers,
    scale_lines,
    trust_lines,
    unusable_lines,
    with_progress,
)
from nion_distortion.correction import CorrectedFrame, correct_frame, noted
from nion_distortion.distortion import DistortionField
from nion_distortion.files import (
    SpectrumImage,
    open_spectrum_image,
    read_frames,
    write_corrected,
    write_corrected_blocks,
)
from nion_distortion.frame import Frame
from nion_distortion.options import Options

__all__ = ["apply_calibration"]

AUTO = "auto"

STATIONARY = (
    "Only what belongs to the scan settings was taken out: what the sample does itself, and what "
    "the beam did in one frame only, is still in the picture. No lattice was looked for."
)
NO_TIME = "The file does not say when it was scanned: the age of the calibration does not count."


def apply_calibration(chosen: argparse.Namespace) -> None:
    """Correct a file by a stored calibration and write the report.

    Parameters
    ----------
    chosen : argparse.Namespace
        With ``file``, ``fov_nm``, ``out``, ``held_out``, ``calibration`` and ``store``.

    Raises
    ------
    ValueError
        If there is no such calibration, it does not hold for the file, or the file cannot be read
        or the results written.
    """
    if chosen.held_out:
        raise ValueError("--held-out needs a fit to the sample, which --calibration does not make")
    store = CalibrationStore(chosen.store)
    named = None if chosen.calibration == AUTO else store.get(chosen.calibration)
    shape = None if named is None else named.settings.shape_px
    spectra = open_spectrum_image(chosen.file, chosen.fov_nm, shape)
    frames: Sequence[Frame] = (
        read_frames(chosen.file, chosen.fov_nm, is_raster=chosen.raster)
        if spectra is None
        else [spectra.survey()]
    )
    settings = frames[0].settings
    applied = applied_to(settings, named or matching(store, settings))
    folder = chosen.out or Path(f"{chosen.file.stem}_corrected")
    check_folder(folder)
    done = _corrected(frames, spectra, applied, folder)
    if done.last is None:
        raise ValueError(f"{chosen.file.name}: {done.numbers[0]['unusable']}")
    numbers = run_numbers(chosen.file, frames[0], done)
    numbers["calibration"] = applied.record(done.last[1])
    paragraphs = _paragraphs(applied, frames[0]) + fold_lines(done.numbers)
    ending = finish(
        folder,
        numbers,
        done.figures(),
        title=f"Scan distortion of {chosen.file.name}",
        paragraphs=paragraphs,
        files=done.files,
    )
    sys.stdout.write("\n".join([*_summary(numbers, done), *paragraphs, *ending, ""]))


def _corrected(
    frames: Sequence[Frame],
    spectra: SpectrumImage | None,
    applied: AppliedCalibration,
    folder: Path,
) -> Run:
    done = Run()
    options = Options(sample="unknown")
    for frame in with_progress(frames):
        report = processed(frame, applied.model, options)
        if report.corrected is None or report.field is None:
            done.add(frame, report)
            continue
        make_folder(folder)
        record = applied.record(report)
        done.add(frame, replace(report, corrected=noted(report.corrected, record)))
        stem = Path(frame.provenance["file"]).stem
        if spectra is not None:
            name = f"{stem}_corrected.hspy"
            write_corrected_blocks(
                folder / name,
                _blocks(spectra, report.field, record),
                tuple(spectra.array.shape),
                axes=spectra.axes,
                signal_type=spectra.signal_type,
                overwrite=True,
            )
        else:
            name = f"{stem}_corrected_{frame.index:04d}.hspy"
            write_corrected(folder / name, noted(report.corrected, record), overwrite=True)
        done.files.append(name)
    return done


def _blocks(
    spectra: SpectrumImage, field: DistortionField, record: dict[str, Any]
) -> Iterator[tuple[tuple[Any, ...], CorrectedFrame]]:
    """Correct a spectrum image block by block."""
    name = Path(spectra.provenance["file"]).name
    for place in spectra.places:
        block = correct_frame(spectra.block(place), field, settings=spectra.settings, frame_id=name)
        whole = {**spectra.provenance, **block.provenance}
        yield place, noted(replace(block, provenance=whole), record)


def _paragraphs(applied: AppliedCalibration, frame: Frame) -> list[str]:
    """Say what the correction rests on, and what nobody has checked."""
    lines = [STATIONARY]
    if applied.changes:
        lines.append(
            "The calibration was used because it was named, although the scan differs in "
            f"{', '.join(applied.changes)}: the expected error does not allow for that."
        )
    if applied.unchecked:
        lines.append(
            "Not reported by the file or by the calibration, and taken to be the same: "
            f"{', '.join(applied.unchecked)}."
        )
    return lines if frame.time_s is not None else [*lines, NO_TIME]


def _summary(numbers: dict[str, Any], done: Run) -> list[str]:
    count = len(done.numbers)
    scaled = (
        [] if done.last is None or done.last[1].model is None else scale_lines(done.last[1].model)
    )
    return [
        f"{numbers['file']}: {count} frame{'s' * (count > 1)}, off by "
        f"{off_by(done)}, corrected by calibration "
        f"{numbers['calibration']['id']} to {expected(done)}.",
        *unusable_lines(numbers["frames"]),
        *trust_lines(numbers["frames"]),
        *scaled,
    ]
