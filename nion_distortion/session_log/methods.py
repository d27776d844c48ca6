"""Rows of a session -> a paragraph for a methods section, with nothing that was not measured."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from nion_distortion._version import installed_version
from nion_distortion.frame import ScanSettings
from nion_distortion.options import Term
from nion_distortion.session_log.rows import TERMS, LogRow

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationSummary

__all__ = ["PAPER", "methods_paragraph"]

PAPER = (
    "K. M. Roccapriore, N. Creange, M. Ziatdinov, S. V. Kalinin, Identification and Correction of "
    "Temporal and Spatial Distortions in Scanning Transmission Electron Microscopy, "
    "Ultramicroscopy, 2021"
)

WORDS: Mapping[Term, str] = {
    "smooth": "the smooth distortion",
    "line_flyback": "the fly-back of the lines",
    "frame_flyback": "the fly-back of the frames",
    "fast_axis": "steps along the fast axis",
    "frame_locked": "errors locked to the frame",
    "scan_time": "errors of single frames in scan time",
    "mains": "mains hum",
}

REFERENCES = {
    "free": "the best lattice of each frame (an affine distortion of the scan stays unknown)",
    "similarity": "a lattice of the shape that the middle of a frame shows (the scale of the scan "
    "stays unknown, and a skew of the whole frame has no error)",
    "known crystal": "the known cell of the crystal",
    "Fourier filtered": "the Fourier-filtered image of each frame",
    "stack average": "the average of a stack",
    "another field": "another scan's distortion",
}

FEWEST_TO_SCATTER = 3
"""Frames below which their scatter says nothing of the error of their median."""

LEAST_PM = 0.05
"""What a term took out is named from here on: it is printed with one digit."""


def methods_paragraph(
    rows: Iterable[LogRow],
    *,
    calibrations: "Iterable[CalibrationSummary]" = (),
    microscope: str = "",
) -> str:
    """Describe a session for a methods section.

    Parameters
    ----------
    rows : iterable of LogRow
        Of the session, as `read_log` gives them.
    calibrations : iterable of CalibrationSummary, optional
        What is known of the calibrations that the rows name; others are named by their id.
    microscope : str, optional
        Name of the instrument; default: what the scan device calls itself.

    Returns
    -------
    str
        English sentences. Where a number was not measured they say so, or say nothing of it.

    Notes
    -----
    The uncertainty of a median is its standard error from the scatter of the frames. Errors that
    all frames share are not in it.
    """
    taken = list(rows)
    made = {one.calibration_id: one for one in calibrations}
    version = installed_version()
    software = "nion_distortion" + ("" if version == "not installed" else f" {version}")
    said = [f"Frames were processed live with {software} by the method of ref. [1]."]
    if not taken:
        said.append("No frame was processed, so no number was measured.")
    for settings, part in _by_settings(taken):
        said += _sentences(settings, part, made, microscope)
    return f"{' '.join(said)} [1] {PAPER}."


def _by_settings(rows: Sequence[LogRow]) -> list[tuple[ScanSettings, list[LogRow]]]:
    """Put rows of one scan setting together, in the order in which they came."""
    parts: list[tuple[ScanSettings, list[LogRow]]] = []
    for row in rows:
        same = [part for settings, part in parts if not settings.differences(row.settings)]
        if same:
            same[0].append(row)
        else:
            parts.append((row.settings, [row]))
    return parts


def _sentences(
    settings: ScanSettings,
    rows: Sequence[LogRow],
    made: "Mapping[str, CalibrationSummary]",
    microscope: str,
) -> list[str]:
    corrected = [row for row in rows if row.corrected_pm is not None]
    said = [_scan(settings, rows, microscope), _share(rows, corrected)]
    if not corrected:
        return [*said, "So no residual was measured."]
    said += _ways(corrected, made)
    said.append(_residuals(corrected))
    said += _removed(corrected)
    return said + _worth(corrected)


def _scan(settings: ScanSettings, rows: Sequence[LogRow], microscope: str) -> str:
    device = microscope or settings.device_id or "a scan device that does not name itself"
    ny, nx = settings.shape_px
    told = [
        f"{words} {value:g} {unit}"
        for words, value, unit in (
            ("dwell time", settings.dwell_time_us, "us"),
            ("line time", settings.line_time_us, "us"),
            ("fly-back time", settings.flyback_time_us, "us"),
            ("scan rotation", settings.rotation_rad or None, "rad"),
            ("high tension", settings.high_tension_v and settings.high_tension_v / 1e3, "kV"),
        )
        if value is not None
    ]
    return (
        f"{_frames(len(rows))} of {ny} x {nx} pixels over {settings.field_of_view_nm:g} nm "
        f"{'was' if len(rows) == 1 else 'were'} taken with {device}{_period(rows)}"
        f"{' (' + ', '.join(told) + ')' if told else ''}."
    )


def _period(rows: Sequence[LogRow]) -> str:
    times_s = [row.time_s for row in rows if row.time_s is not None]
    if not times_s:
        return ""
    first, last = (datetime.fromtimestamp(one, UTC) for one in (min(times_s), max(times_s)))
    if f"{first:%Y-%m-%d %H:%M}" == f"{last:%Y-%m-%d %H:%M}":
        return f" on {first:%Y-%m-%d} at {first:%H:%M} UTC"
    if f"{first:%Y-%m-%d}" == f"{last:%Y-%m-%d}":
        return f" on {first:%Y-%m-%d} from {first:%H:%M} to {last:%H:%M} UTC"
    return f" from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _share(rows: Sequence[LogRow], corrected: Sequence[LogRow]) -> str:
    share = f"{100 * len(corrected) / len(rows):.3g} %"
    verb = "was" if len(corrected) == 1 else "were"
    said = f"{len(corrected)} of {len(rows)} ({share}) {verb} corrected"
    reasons = Counter(row.reason for row in rows if row.reason)
    if not reasons:
        return f"{said}."
    count = sum(reasons.values())
    often, reason = "most often because", reasons.most_common(1)[0][0]
    if len(reasons) == 1:
        often = "because"
    return f"{said}; {count} gave no measurement of their own, {often}: {reason.rstrip('.')}."


def _ways(corrected: Sequence[LogRow], made: "Mapping[str, CalibrationSummary]") -> list[str]:
    """Say against what, and by which calibration, frames were corrected."""
    ways: dict[tuple[str, str, str], list[LogRow]] = {}
    for row in corrected:
        ways.setdefault((row.applied, row.reference, row.calibration_id), []).append(row)
    return [_way(*way, rows, made) for way, rows in ways.items()]


def _way(
    applied: str,
    reference: str,
    calibration_id: str,
    rows: Sequence[LogRow],
    made: "Mapping[str, CalibrationSummary]",
) -> str:
    against = REFERENCES.get(reference, reference)
    calibration = _calibration(calibration_id, rows, made)
    verb = "was" if len(rows) == 1 else "were"
    frames = f"{_frames(len(rows))} {verb} corrected by"
    if applied == "frame":
        own = "its own columns" if len(rows) == 1 else "their own columns"
        start = f", beginning with {calibration}" if calibration else ""
        return f"{frames} what {own} showed against {against}{start}."
    source = calibration or "what the session's other frames had taught"
    return f"{frames} the stationary distortion from {source}, measured against {against}."


def _calibration(
    calibration_id: str, rows: Sequence[LogRow], made: "Mapping[str, CalibrationSummary]"
) -> str:
    if not calibration_id:
        return ""
    known = made.get(calibration_id)
    if known is None:
        return f"calibration {calibration_id}, whose age is not known"
    sample = f" on {known.sample}" if known.sample else ""
    return (
        f"calibration {calibration_id} ({known.frames} frames{sample}, "
        f"{_age([row.time_s for row in rows if row.time_s is not None], known.time_s)})"
    )


def _age(times_s: Sequence[float], made_s: float) -> str:
    if not times_s or min(times_s) < made_s:
        return "of unknown age"
    old_s = min(times_s) - made_s
    for unit, length_s in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if old_s >= 2 * length_s:
            return f"{old_s / length_s:.3g} {unit} old"
    return "1 second old" if round(old_s) == 1 else f"{old_s:.0f} seconds old"


def _residuals(corrected: Sequence[LogRow]) -> str:
    off_by = [row.off_by_pm for row in corrected if row.off_by_pm is not None]
    left = [row.corrected_pm for row in corrected if row.corrected_pm is not None]
    before = f"Before the correction the images were off by {_median(off_by)}; " if off_by else ""
    return (
        f"{before}{_median(left)} are expected to be left after it (rms lengths over the image, "
        f"{_of_frames(left)}; what is left is the model's prediction)."
    )


def _median(values: Sequence[float]) -> str:
    """Write a median with its standard error, where the scatter of the values shows one."""
    median = float(np.median(values))
    scatter = 1.4826 * float(np.median(np.abs(np.asarray(values) - median)))
    std = 1.2533 * scatter / np.sqrt(len(values))  # of a median of a normal sample
    if len(values) < FEWEST_TO_SCATTER or std == 0:
        return f"{median:.3g} pm"
    digits = max(0, 1 - int(np.floor(np.log10(std))))
    return f"{median:.{digits}f} +- {std:.{digits}f} pm"


def _of_frames(values: Sequence[float]) -> str:
    if len(values) < FEWEST_TO_SCATTER:
        return f"from {_frames(len(values))}, too few for an uncertainty"
    if len(set(values)) == 1:
        return f"the same for all {len(values)} frames, so without an uncertainty from scatter"
    return f"medians of {len(values)} frames with their standard errors from the scatter"


def _removed(corrected: Sequence[LogRow]) -> list[str]:
    medians = {
        term: float(np.median(sizes))
        for term in TERMS
        if (sizes := [row.removed_pm[term] for row in corrected if term in row.removed_pm])
    }
    named = sorted(
        (term for term in medians if medians[term] >= LEAST_PM),
        key=lambda term: medians[term],
        reverse=True,
    )
    if not named:
        return []
    listed = ", ".join(f"{WORDS[term]} {medians[term]:.1f} pm" for term in named)
    what = "rms medians of terms that may overlap, without uncertainties"
    return [f"Taken out were, as {what}: {listed}."]


def _worth(corrected: Sequence[LogRow]) -> list[str]:
    count = sum(row.worth_it is False for row in corrected)
    if not count:
        return []
    verb = "frame" if count == 1 else "frames"
    return [f"In {count} {verb} the error of the correction exceeded what it took out."]


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
