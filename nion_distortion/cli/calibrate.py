"""``nion-distortion calibrate FILE``: what a reference crystal teaches, kept for other samples."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nion_distortion.calibrations import Calibration, CalibrationStore
from nion_distortion.cli.results import finish, make_folder
from nion_distortion.cli.summary import (
    PREDICTED,
    REFUSED,
    Run,
    estimate_numbers,
    fold_lines,
    scale_lines,
)
from nion_distortion.diagnostics import (
    field_error_pm,
    flyback_advice,
    off_by_pm,
    scale_numbers,
    with_std,
)
from nion_distortion.figures import difference_figure
from nion_distortion.files import read_frames
from nion_distortion.frame import ALTERED, Frame, UnusableFrameError
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.options import (
    AnyReference,
    FourierFiltered,
    Free,
    KnownCrystal,
    Options,
    Reference,
    Similarity,
    StackAverage,
)
from nion_distortion.pipeline import process_frame
from nion_distortion.references import whole_field
from nion_distortion.stack import CalibrationProgress, calibrate

__all__ = ["run"]


FOURIER = (
    "The Fourier-filtered image counts as undistorted: what is smoother than its filter stays in "
    "the picture."
)
AVERAGE = (
    "The average of the drift-corrected frames counts as undistorted: what all frames share stays "
    "in the picture."
)
SIMILARITY = (
    "The shape of the cell in the middle of the first frame counts as undistorted. How the "
    "distortion that was found changes it there is part of the expected error; what the coils do "
    "to the whole frame alike (scale of one axis, skew) is not seen and has no error."
)
LEARNT = (
    "The distortion, and how strong each kind of error is, are learnt from all used frames; the "
    "lengths of the errors and the decay of the fly-back from one of them"
)
DIFFERENCE = "A difference corrects no other sample, so it was not kept as a calibration."


def run(chosen: argparse.Namespace) -> None:
    """Calibrate on the frames of a file, keep the calibration and write the report.

    Parameters
    ----------
    chosen : argparse.Namespace
        With ``file``, ``fov_nm``, ``crystal``, ``similarity``, ``cell``, ``fourier``,
        ``average``, ``reference_calibration``, ``frames``, ``stop_pm``, ``sample``, ``note``,
        ``store`` and ``out``.

    Raises
    ------
    ValueError
        If the file cannot be read, the settings make no sense, it was cancelled, or the
        calibration cannot be kept; nothing is kept then.
    """
    for name in ("frames", "stop_pm"):
        value = getattr(chosen, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, not {value:g}")
    store = CalibrationStore(chosen.store)
    other = chosen.reference_calibration and store.get(chosen.reference_calibration)
    reference = Reference(other.model.stationary_field()) if other else _reference(chosen)
    frames = read_frames(chosen.file, field_of_view_nm=chosen.fov_nm, is_raster=chosen.raster)
    device_id = frames[0].settings.device_id
    known = store.known_flyback(device_id) if device_id else None  # a file may not name its device
    options = Options(reference=reference, flyback=known)
    folder = chosen.out or Path(f"{chosen.file.stem}_calibration")
    make_folder(folder)
    if other:
        said = _compared(folder, other, _learnt(frames, options, chosen), chosen)
    else:
        store.try_saving()  # said before the work, which would be lost
        said = _kept(folder, store, frames[0], _learnt(frames, options, chosen), chosen)
    sys.stdout.write("\n".join([*said, ""]))


def _kept(
    folder: Path,
    store: CalibrationStore,
    frame: Frame,
    learnt: tuple[DistortionModel, CalibrationProgress],
    chosen: argparse.Namespace,
) -> list[str]:
    """Keep a calibration, write its report, and say what came out."""
    model, told = learnt
    name = store.save(
        model,
        time_s=time.time() if model.ageing.time_s is None else model.ageing.time_s,
        sample=chosen.sample,
        note=chosen.note,
        provenance=dict(frame.provenance),
    )
    kept = store.get(name)
    shown = _shown(frame, kept.model)
    numbers = _numbers(chosen.file, kept, model, told) | {
        name: shown.numbers[0][name] for name in REFUSED
    }
    paragraphs = [*_incomplete(model.reference), *fold_lines(shown.numbers)]
    ending = finish(
        folder,
        numbers,
        shown.figures(),
        title=f"Calibration {name} on {chosen.file.name}",
        paragraphs=paragraphs,
    )
    return [*_summary(numbers, kept), *paragraphs, f"Kept in {store.path}", *ending]


def _compared(
    folder: Path,
    other: Calibration,
    learnt: tuple[DistortionModel, CalibrationProgress],
    chosen: argparse.Namespace,
) -> list[str]:
    """Write the report on how a scan differs from another one, and say what came out."""
    model, told = learnt
    found, reference = model.stationary_estimate(), other.model.stationary_field()
    size = off_by_pm(found.field, found.off_by_std_px)
    numbers = {
        "file": chosen.file.name,
        "sample": chosen.sample,
        "note": chosen.note,
        "reference": found.field.reference,
        "reference_calibration": other.calibration_id,
        "reference_settings": asdict(other.settings),
        "difference_pm": estimate_numbers(size),
        "field_error_pm": field_error_pm(found.field, found.field.std_px),
        "folded": found.field.folded,
        "crossed": found.field.crossed,
        **_of_frames(model, told),
    }
    paragraphs = [
        f"The scan of calibration {other.calibration_id} counts as undistorted: this one differs "
        f"from it by {with_std(size.value, size.std, 'pm')} (rms).",
        DIFFERENCE,
        *fold_lines([numbers]),
    ]
    names = "this scan", f"calibration {other.calibration_id[:6]}"
    drawn = difference_figure(whole_field(found.field, reference), reference, names)
    ending = finish(
        folder,
        numbers,
        {"Both scans and their difference": drawn},
        title=f"{chosen.file.name} against calibration {other.calibration_id}",
        paragraphs=paragraphs,
    )
    return [*_frame_lines(chosen.file.name, numbers), *paragraphs, *ending]


def _incomplete(reference: AnyReference) -> list[str]:
    """Say what a reference leaves in the picture beside an affine map."""
    words = {Similarity: SIMILARITY, FourierFiltered: FOURIER, StackAverage: AVERAGE}
    return [said for kind, said in words.items() if isinstance(reference, kind)]


def _reference(chosen: argparse.Namespace) -> AnyReference:
    if chosen.crystal is not None:
        return KnownCrystal.named(chosen.crystal)
    if chosen.cell is not None:
        return _cell(chosen.cell)
    if chosen.fourier:
        return FourierFiltered()
    if chosen.average:
        return StackAverage()
    return Similarity() if chosen.similarity else Free()


def _cell(text: str) -> KnownCrystal:
    """Read ``a,b,gamma`` in nm and degrees, with their standard deviations where they follow."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 6):
        raise ValueError(
            f"--cell must be a,b,gamma in nm and degrees, their three standard deviations behind "
            f"them where they are known, not {text!r}"
        )
    a_nm, b_nm, gamma_deg, *stds = numbers
    a_std_nm, b_std_nm, gamma_std_deg = stds or (0.0, 0.0, 0.0)
    return KnownCrystal(
        a_nm=a_nm,
        b_nm=b_nm,
        gamma_deg=gamma_deg,
        a_std_nm=a_std_nm,
        b_std_nm=b_std_nm,
        gamma_std_deg=gamma_std_deg,
    )


def _learnt(
    frames: Sequence[Frame], options: Options, chosen: argparse.Namespace
) -> tuple[DistortionModel, CalibrationProgress]:
    wanted = len(frames) if chosen.frames is None else min(len(frames), chosen.frames)
    with _explained(chosen.file), tqdm(total=wanted, unit="frame", disable=wanted == 1) as bar:
        told = _Bar(bar)
        model = calibrate(
            islice(iter(frames), wanted), options=options, stop_pm=chosen.stop_pm, progress=told
        )
    return model, told.last


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Name the file in what stops a calibration."""
    try:
        yield
    except KeyboardInterrupt:
        raise ValueError("the calibration was cancelled, and nothing was saved") from None
    except (ValueError, UnusableFrameError) as reason:
        raise ValueError(f"{file.name}: {reason}") from reason


class _Bar:
    """Move the bar on for each frame, and remember what was said last."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        self._bar = bar
        self.last = CalibrationProgress(frames=0)

    def __call__(self, now: CalibrationProgress) -> None:
        self._bar.update(now.frames + len(now.unusable) - self._bar.n)
        words = {} if now.error_pm is None else {"error_pm": f"{now.error_pm:.2f}"}
        if now.passes:
            words["pass"] = str(now.passes)
        self._bar.set_postfix(words)
        self.last = now


def _numbers(
    file: Path, kept: Calibration, model: DistortionModel, told: CalibrationProgress
) -> dict[str, Any]:
    one = kept.summary
    return {
        "calibration": one.calibration_id,
        "file": file.name,
        "sample": one.sample,
        "note": one.note,
        "reference": one.reference,
        "predicted_error_pm": one.predicted_error_pm,
        "field_error_pm": one.field_error_pm,
        "advice": asdict(flyback_advice(kept.model, altered=one.provenance.get(ALTERED))),
        "scale": scale_numbers(kept.model),
        "settings": asdict(one.settings),
        **_of_frames(model, told),
    }


def _of_frames(model: DistortionModel, told: CalibrationProgress) -> dict[str, Any]:
    """Say what became of the frames, and what they reached."""
    return {
        "frames_used": model.frames,
        "unsettled": model.unsettled,
        "stop_pm": told.stop_pm,
        "shortfall": told.shortfall,
        "flagged": [asdict(frame) for frame in model.flagged],
        "unusable": [{"reason": reason} for reason in told.unusable],
    }


def _shown(frame: Frame, model: DistortionModel) -> Run:
    """Show on the first frame what another sample would get."""
    shown = Run()
    shown.add(frame, process_frame(frame, model=model, options=Options(sample="unknown")))
    return shown


def _summary(numbers: dict[str, Any], kept: Calibration) -> list[str]:
    one = kept.summary
    lines = _frame_lines(f"Calibration {numbers['calibration']}", numbers)
    if one.predicted_error_pm is not None and one.field_error_pm is not None:
        lines.append(
            f"Another sample corrected by it is expected to be {one.predicted_error_pm:.2f} pm off "
            f"(rms, {PREDICTED}), {one.field_error_pm:.2f} pm of that by the calibration itself."
        )
    lines += scale_lines(kept.model)
    return [*lines, f"Fly-back: {numbers['advice']['sentence']}."]


def _frame_lines(name: str, numbers: dict[str, Any]) -> list[str]:
    used, flagged, unusable = (numbers[key] for key in ("frames_used", "flagged", "unusable"))
    lines = [
        f"{name}: {used} frame{'s' * (used != 1)} used, {len(flagged)} flagged, "
        f"{len(unusable)} unusable.",
        *([f"{LEARNT}."] if used > 1 else []),
        *(f"Flagged: {frame['reason']}." for frame in flagged),
        *(f"Unusable: {frame['reason'].rstrip('.')}." for frame in unusable),
    ]
    said = {"Not settled": numbers["unsettled"], "Not reached": numbers["shortfall"]}
    return [*lines, *(f"{name}: {missing}." for name, missing in said.items() if missing)]
