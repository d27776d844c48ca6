"""What both commands show of a run: numbers by name, pictures by caption."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nion_distortion import figures
from nion_distortion.diagnostics import scale_numbers, with_std
from nion_distortion.pipeline import FrameReport, process_frame
from nion_distortion.principal_components import LiveComponents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nion_distortion.diagnostics import Estimate
    from nion_distortion.frame import Frame
    from nion_distortion.gaussian_process import DistortionModel
    from nion_distortion.options import Options

__all__ = [
    "PREDICTED",
    "REFUSED",
    "Run",
    "drift_lines",
    "estimate_numbers",
    "expected",
    "fold_lines",
    "frame_numbers",
    "off_by",
    "processed",
    "run_numbers",
    "scale_lines",
    "span",
    "trust_lines",
    "unusable_lines",
    "with_progress",
]

PREDICTED = "predicted by the model, with no uncertainty of its own"

REFUSED = MappingProxyType(
    {
        "folded": (
            "The scan turns back on itself",
            "whose places the beam passed more than once",
        ),
        "crossed": (
            "Lines of the scan overtake each other",
            "between lines that moved past each other",
        ),
    }
)
"""What makes pixels that the scan saw not valid, by the name of their number, and why."""

LEAST_SHOWN_PM = 0.1
"""Errors below count as this much where a range has one digit behind the point."""

LEAST_FRAMES = 3
"""Under which neither drift nor components are worth a picture."""


def estimate_numbers(estimate: "Estimate | None") -> dict[str, float | None]:
    """Name the parts of an estimate.

    Parameters
    ----------
    estimate : Estimate or None
        None gives an empty mapping.

    Returns
    -------
    dict
        Value, std and p95.
    """
    return {} if estimate is None else dict(estimate._asdict())


def frame_numbers(frame: "Frame", report: FrameReport) -> dict[str, Any]:
    """Collect the numbers of one frame.

    Parameters
    ----------
    frame : Frame
        The frame.
    report : FrameReport
        What was found in it.

    Returns
    -------
    dict
        By the names of `FrameReport`.
    """
    is_first = report.model is None or report.model.frames < 2  # nothing has it drifted from
    known_nm = None if is_first else report.drift_nm
    std_nm = None if is_first else report.drift_std_nm
    return {
        "frame": frame.index,
        "time_s": frame.time_s,
        "unusable": report.unusable,
        "columns": None if report.columns is None else len(report.columns),
        "indexed": None if report.indexed is None else len(report.indexed.columns),
        "off_by_pm": estimate_numbers(report.off_by_pm),
        "corrected_pm": estimate_numbers(report.corrected_pm),
        "effective_counts": estimate_numbers(report.effective_counts),
        "drift_nm": None if known_nm is None else known_nm.tolist(),
        "drift_std_nm": None if std_nm is None else std_nm.tolist(),
        "drift_ambiguous": report.drift_ambiguous,
        "state": report.state,
        "state_reason": report.state_reason,
        "worth_it": report.worth_it,
        "folded": report.folded,
        "crossed": report.crossed,
        "removed_pm": None if report.removed_pm is None else dict(report.removed_pm),
        "advice": None if report.advice is None else asdict(report.advice),
        "hints": None if report.hints is None else asdict(report.hints),
    }


def run_numbers(file: Path, frame: "Frame", done: "Run") -> dict[str, Any]:
    """Collect the numbers of all frames of a file.

    Parameters
    ----------
    file : path
        Where they came from.
    frame : Frame
        The first of them.
    done : Run
        What was found in them.

    Returns
    -------
    dict
        The scan, and one entry for each frame.
    """
    settings = frame.settings
    return {
        "file": file.name,
        "lines": settings.shape_px[0],
        "pixels": settings.shape_px[1],
        "field_of_view_nm": settings.field_of_view_nm,
        "pixel_size_nm": settings.pixel_size_nm,
        "dwell_time_us": settings.dwell_time_us,
        "line_time_us": settings.line_time_us,
        "flyback_time_us": settings.flyback_time_us,
        "high_tension_v": settings.high_tension_v,
        "frames": done.numbers,
    }


def span(values: npt.ArrayLike) -> str:
    """Write the range of some numbers.

    Parameters
    ----------
    values : array_like
        One for each frame; what is not a number is left out.

    Returns
    -------
    str
        One number where they agree.
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"


def off_by(done: "Run") -> str:
    """Write how far off the pictures were, and the largest error of that.

    Parameters
    ----------
    done : Run
        What was found in the frames.

    Returns
    -------
    str
        In pm.
    """
    found = [one["off_by_pm"] for one in done.numbers if one["off_by_pm"]]
    if len(found) == 1:
        return with_std(found[0]["value"], found[0]["std"], "pm")
    stds = [one["std"] for one in found if one["std"] is not None]
    error = f" +- {max(*stds, LEAST_SHOWN_PM):.1f}" if stds else ""
    return f"{span(done.series('off_by_pm'))}{error} pm"


def expected(done: "Run") -> str:
    """Write how far off the corrected pictures still are.

    Parameters
    ----------
    done : Run
        What was found in the frames.

    Returns
    -------
    str
        In pm, and that it has no uncertainty.
    """
    return f"an expected {span(done.series('corrected_pm'))} pm (rms, {PREDICTED})"


def with_progress(frames: "Sequence[Frame]") -> "Iterator[Frame]":
    """Go through the frames of a stack, with a progress bar.

    Parameters
    ----------
    frames : sequence of Frame
        Read one after the other.

    Yields
    ------
    Frame
        Each of them.
    """
    for index in tqdm(range(len(frames)), unit="frame", disable=len(frames) == 1):
        yield frames[index]


def processed(
    frame: "Frame", model: "DistortionModel | None", options: "Options | None" = None
) -> FrameReport:
    """Process one frame of several: one with pixels that are no numbers costs no other frame.

    Parameters
    ----------
    frame : Frame
        The frame.
    model : DistortionModel or None
        What is known of its scan.
    options : Options, optional
        How to process it.

    Returns
    -------
    FrameReport
        That of `process_frame`, or only why there is none.
    """
    try:
        return process_frame(frame, model=model, options=options)
    except ValueError as reason:
        return FrameReport(unusable=str(reason), model=model)


def unusable_lines(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in words which frames could not be measured, and why.

    Parameters
    ----------
    frames : sequence of Mapping
        Of `frame_numbers`.

    Returns
    -------
    list of str
        One sentence for each of them.
    """
    return [
        f"Frame {one['frame']} could not be measured: {one['unusable']}."
        for one in frames
        if one["unusable"]
    ]


def drift_lines(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in words how far the sample has moved.

    Parameters
    ----------
    frames : sequence of Mapping
        Of `frame_numbers`.

    Returns
    -------
    list of str
        One sentence; empty where no frame had a drift.
    """
    moved = [one for one in frames if one["drift_nm"] is not None]
    if not moved:
        return []
    way, stds = moved[-1]["drift_nm"], moved[-1]["drift_std_nm"]
    parts = [
        f"{axis} {with_std(value, None if stds is None else stds[index], 'nm')}"
        for index, (axis, value) in enumerate(zip("yx", way, strict=True))
    ]
    known = "error not known" if stds is None else "at the nominal pixel size"
    return [f"Drift of the sample up to frame {moved[-1]['frame']}: {', '.join(parts)} ({known})."]


def fold_lines(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in words where the scan turns back on itself, and where its lines overtake each other.

    Parameters
    ----------
    frames : sequence of Mapping
        Of `frame_numbers`.

    Returns
    -------
    list of str
        One sentence for each; empty where there are none.
    """
    said = []
    for name, (what, why) in REFUSED.items():
        pixels = [one[name] for one in frames if one[name]]
        if pixels:
            where = "" if len(frames) == 1 else f" in {len(pixels)} of {len(frames)} frames"
            most = f"{'up to ' * (len(pixels) > 1)}{max(pixels)}"
            said.append(
                f"{what}{where}: {most} pixels of the corrected picture, {why}, are not valid."
            )
    return said


def trust_lines(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in words what the last corrected frame says about the calibration and the set-up.

    Parameters
    ----------
    frames : sequence of Mapping
        Of `frame_numbers`.

    Returns
    -------
    list of str
        One sentence for each line.
    """
    numbers = next((one for one in reversed(frames) if one["corrected_pm"]), frames[-1])
    lines = [f"State {numbers['state']}: {numbers['state_reason']}."]
    if numbers["worth_it"] is False:
        value, std = numbers["off_by_pm"]["value"], numbers["off_by_pm"]["std"]
        lines.append(
            f"Not worth correcting: {with_std(value, std, 'pm')} would be taken out, "
            "less than the error of each pixel's displacement."
        )
    for name, title in (("advice", "Fly-back"), ("hints", "Set-up")):
        if numbers[name] is not None:
            lines.append(f"{title}: {numbers[name]['sentence']}.")
    return lines


def scale_lines(model: "DistortionModel") -> list[str]:
    """Say in words what a known crystal says of scale and skew.

    Parameters
    ----------
    model : DistortionModel
        What is known of the scan.

    Returns
    -------
    list of str
        One sentence for each line; empty where no crystal was known.
    """
    found = scale_numbers(model)
    if found is None:
        return []
    return [
        "Scale errors of the scan (slow, fast), what its other distortion stretches on average "
        "included: "
        f"{found['scale_error_slow_percent']:+.3f} +- {found['scale_error_slow_std_percent']:.3f}"
        f" %, {found['scale_error_fast_percent']:+.3f} +- "
        f"{found['scale_error_fast_std_percent']:.3f} %; skew {found['skew_deg']:+.3f} +- "
        f"{found['skew_std_deg']:.3f} deg.",
        f"Pixel size: nominal {found['nominal_pixel_size_nm']:.6g} nm, as scanned "
        f"{_scanned(found, 'slow')} x {_scanned(found, 'fast')}; a corrected picture has "
        f"{found['corrected_pixel_size_nm']:.6g} nm on both axes, known as well as these, at the "
        "focus of the calibration.",
    ]


def _scanned(found: Mapping[str, float], axis: str) -> str:
    size_nm, std_nm = (found[f"scanned_pixel_{axis}_{what}"] for what in ("nm", "std_nm"))
    return with_std(size_nm, std_nm, "nm")


@dataclass(slots=True, kw_only=True)
class Run:
    """The frames of a run so far; of their pictures only the last is kept.

    Parameters
    ----------
    numbers : list of dict
        One entry for each frame.
    components : LiveComponents
        Coarse distortion fields of the last 100 usable frames.
    last : tuple of Frame and FrameReport, optional
        The last frame that was corrected.
    files : list of str
        Names of the pictures that were written.
    """

    numbers: list[dict[str, Any]] = field(default_factory=list)
    components: LiveComponents = field(default_factory=LiveComponents)
    last: "tuple[Frame, FrameReport] | None" = None
    files: list[str] = field(default_factory=list)

    def add(self, frame: "Frame", report: FrameReport, **more: float | list[float] | None) -> None:
        """Take one more frame.

        Parameters
        ----------
        frame : Frame
            The frame.
        report : FrameReport
            What was found in it.
        **more : float, list of float or None
            Further numbers of this frame, by name; they replace the report's own.
        """
        self.numbers.append(frame_numbers(frame, report) | more)
        if report.corrected is not None:
            self.last = (frame, report)
        # a stationary field is the same in every frame: it has neither components nor a drift
        if report.field is not None and report.field.kind == "frame":
            self.components = self.components.added(report.field.displacement_px)

    def figures(self) -> "dict[str, Figure]":
        """Draw the last frame, and the course of all where there are enough.

        Returns
        -------
        dict of str to Figure
            By caption.
        """
        if self.last is None:
            return {}
        frame, report = self.last
        if report.field is None or report.corrected is None:
            return {}
        drawn = {
            "As scanned and corrected": figures.pair_figure(frame, report.corrected),
            "Displacement taken out": figures.displacement_figure(report.field),
            "Uncertainty of the corrected picture": figures.uncertainty_figure(report.corrected),
        }
        if len(self.components) >= LEAST_FRAMES:
            drawn["Drift of the sample"] = self._drift_figure()
            drawn["Principal components of the distortion"] = figures.components_figure(
                self.components.components(), self.components.grid, frame.settings
            )
        return drawn

    def _drift_figure(self) -> "Figure":
        known = [one for one in self.numbers if one["drift_nm"] is not None]
        way = [one["drift_nm"] for one in known]
        times = [one["time_s"] for one in known]
        since_s = None if None in times else [time - times[0] for time in times]
        stds = [one["drift_std_nm"] for one in known]
        return figures.drift_figure(way, since_s, std_nm=None if None in stds else stds)

    def series(self, name: str) -> list[float]:
        """Return one number of every frame, not a number where there is none.

        Parameters
        ----------
        name : str
            A key of ``numbers``.

        Returns
        -------
        list of float
            One value for each frame.
        """
        found = (one.get(name) for one in self.numbers)
        values = (one.get("value") if isinstance(one, Mapping) else one for one in found)
        return [float("nan") if value is None else float(value) for value in values]
