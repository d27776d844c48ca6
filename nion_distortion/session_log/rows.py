"""A live report -> a row of text, and back."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from nion_distortion._validation import reduce_frozen, sealed
from nion_distortion.frame import ScanSettings
from nion_distortion.options import Term

if TYPE_CHECKING:
    from nion_distortion.diagnostics import Estimate
    from nion_distortion.session import LiveReport

__all__ = ["NAMES", "TERMS", "LogRow", "as_cells", "from_cells", "log_row"]

TERMS: tuple[Term, ...] = get_args(Term)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """What is kept of one scan of a live session.

    Parameters
    ----------
    settings : ScanSettings
        The scan.
    frame : int
        Its place in the stream.
    frame_id : str, default: ""
        Its identity.
    channel : str, default: ""
        The detector that was analysed.
    time_s : float, optional
        POSIX time of the end of the frame.
    sample : str, default: ""
        What the sample was taken for: "reference" or "unknown".
    applied : str, default: ""
        What was taken out: the frame's own field ("frame"), the "stationary" one, or nothing.
    reference : str, default: ""
        What that counts as undistorted.
    calibration_id : str, default: ""
        The stored calibration that the model of these settings began with.
    state : str, default: "none"
        Whether what was known still held.
    off_by_pm, off_by_std_pm : float, optional
        How far off the picture was, and the standard deviation of that.
    corrected_pm, corrected_std_pm : float, optional
        How far off the corrected picture still is, and the standard deviation where it has one.
    drift_nm : tuple of float, optional
        Motion of the sample in the image since the run began, (y, x); None where this frame did
        not say.
    drift_std_nm : tuple of float, optional
        Its standard deviation; None where it is not known.
    drift_ambiguous : bool, default: False
        Whether the drift began anew with this frame.
    effective_counts : float, optional
        Electrons at the peak of the brightest columns.
    effective_counts_std : float, optional
        Its standard deviation.
    worth_it : bool, optional
        False where the correction's own error exceeded what it took out.
    removed_pm : Mapping, default: {}
        What each term of the model took out, rms, by its name.
    processing_ms : float, default: 0
        Time that the scan took to process.
    reason : str, default: ""
        Why it gave nothing new, or nothing where it did.
    """

    settings: ScanSettings
    frame: int
    frame_id: str = ""
    channel: str = ""
    time_s: float | None = None
    sample: str = ""
    applied: str = ""
    reference: str = ""
    calibration_id: str = ""
    state: str = "none"
    off_by_pm: float | None = None
    off_by_std_pm: float | None = None
    corrected_pm: float | None = None
    corrected_std_pm: float | None = None
    drift_nm: tuple[float, float] | None = None
    drift_std_nm: tuple[float, float] | None = None
    drift_ambiguous: bool = False
    effective_counts: float | None = None
    effective_counts_std: float | None = None
    worth_it: bool | None = None
    removed_pm: Mapping[str, float] = field(default_factory=dict)
    processing_ms: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "removed_pm", sealed(self.removed_pm))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


def log_row(live: "LiveReport") -> LogRow:
    """Take from a live report what is kept of it.

    Parameters
    ----------
    live : LiveReport
        What came out of one scan.

    Returns
    -------
    LogRow
        Without any image.
    """
    frame, report = live.scan[0], live.report
    row = LogRow(
        settings=frame.settings,
        frame=frame.index,
        frame_id=frame.frame_id,
        channel=frame.channel,
        time_s=frame.time_s,
        sample=live.options.sample,
        processing_ms=1e3 * live.duration_s,
        reason=live.reason or "",
    )
    if report is None:
        return row
    way = live.drift_nm if report.drift_nm is not None else live.drift_nm[:0]
    row = replace(row, **_applied(live), state=report.state, worth_it=report.worth_it)
    return replace(
        row,
        off_by_pm=_value(report.off_by_pm),
        off_by_std_pm=_std(report.off_by_pm),
        corrected_pm=_value(report.corrected_pm),
        corrected_std_pm=_std(report.corrected_pm),
        drift_nm=(float(way[-1, 0]), float(way[-1, 1])) if len(way) else None,
        drift_std_nm=_last_std(live) if len(way) else None,
        drift_ambiguous=report.drift_ambiguous,
        effective_counts=_value(report.effective_counts),
        effective_counts_std=_std(report.effective_counts),
        removed_pm=report.removed_pm or {},
    )


def _applied(live: "LiveReport") -> dict[str, Any]:
    """Say what was taken out, if anything was."""
    field = None if live.report is None else live.report.field
    if field is None:
        return {}
    used = "" if live.calibration is None else live.calibration.calibration_id
    return {"applied": field.kind, "reference": field.reference, "calibration_id": used}


def _last_std(live: "LiveReport") -> tuple[float, float] | None:
    stds = live.drift_std_nm
    if not len(stds) or not np.isfinite(stds[-1]).all():
        return None
    return float(stds[-1, 0]), float(stds[-1, 1])


def _value(estimate: "Estimate | None") -> float | None:
    return None if estimate is None else estimate.value


def _std(estimate: "Estimate | None") -> float | None:
    return None if estimate is None else estimate.std


class _Column(NamedTuple):
    """A column of the file: how a row says it, and how it is read again."""

    name: str
    said: Callable[[LogRow], Any]
    read: Callable[[str], Any]


def _number(text: str) -> float | None:
    return float(text) if text else None


def _flag(text: str) -> bool | None:
    return text == "true" if text else None


def _numbers(text: str) -> tuple[int, ...] | None:
    return tuple(int(part) for part in text.split()) if text else None


def _moment(text: str) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _when(time_s: float | None) -> str | None:
    if time_s is None:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")


def _of_row(name: str, read: Callable[[str], Any] = str) -> _Column:
    return _Column(name, lambda row: getattr(row, name), read)


def _of_settings(name: str, read: Callable[[str], Any] = _number) -> _Column:
    return _Column(name, lambda row: getattr(row.settings, name), read)


def _extra(text: str) -> tuple[tuple[str, object], ...]:
    return tuple((name, _hashable(value)) for name, value in json.loads(text or "[]"))


def _hashable(value: object) -> object:
    return tuple(_hashable(one) for one in value) if isinstance(value, list) else value


SETTINGS_COLUMNS = (
    _Column("shape_y_px", lambda row: row.settings.shape_px[0], int),
    _Column("shape_x_px", lambda row: row.settings.shape_px[1], int),
    _of_settings("field_of_view_nm"),
    _of_settings("dwell_time_us"),
    _of_settings("flyback_time_us"),
    _of_settings("line_time_us"),
    _of_settings("high_tension_v"),
    _of_settings("line_sync", _flag),
    _of_settings("frame_sync", _flag),
    _of_settings("rotation_rad"),
    _of_settings("device_id", str),
    _of_settings("subscan_px", _numbers),
    _Column("extra", lambda row: json.dumps(row.settings.extra, default=str), _extra),
)

RESULT_COLUMNS = (
    _of_row("sample"),
    _of_row("applied"),
    _of_row("reference"),
    _of_row("calibration_id"),
    _of_row("state"),
    *(
        _of_row(name, _number)
        for name in ("off_by_pm", "off_by_std_pm", "corrected_pm", "corrected_std_pm")
    ),
    _Column("drift_y_nm", lambda row: row.drift_nm and row.drift_nm[0], _number),
    _Column("drift_x_nm", lambda row: row.drift_nm and row.drift_nm[1], _number),
    _Column("drift_y_std_nm", lambda row: row.drift_std_nm and row.drift_std_nm[0], _number),
    _Column("drift_x_std_nm", lambda row: row.drift_std_nm and row.drift_std_nm[1], _number),
    _of_row("drift_ambiguous", _flag),
    _of_row("effective_counts", _number),
    _of_row("effective_counts_std", _number),
    _of_row("worth_it", _flag),
)


def _removed(term: str) -> _Column:
    return _Column(f"removed_{term}_pm", lambda row: row.removed_pm.get(term), _number)


COLUMNS = (
    _Column("time", lambda row: _when(row.time_s), _moment),
    _of_row("frame", int),
    _of_row("frame_id"),
    _of_row("channel"),
    *SETTINGS_COLUMNS,
    *RESULT_COLUMNS,
    *(_removed(term) for term in TERMS),
    _of_row("processing_ms", _number),
    _of_row("reason"),
)
"""In their order; a unit ends a name, and what is not known is empty."""

NAMES = tuple(column.name for column in COLUMNS)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return " ".join(str(one) for one in value)
    return " ".join(str(value).split())


def as_cells(row: LogRow) -> list[str]:
    """Write a row.

    Parameters
    ----------
    row : LogRow
        The row.

    Returns
    -------
    list of str
        One for each of ``NAMES``.
    """
    return [_text(column.said(row)) for column in COLUMNS]


def from_cells(cells: Sequence[str]) -> LogRow | None:
    """Read a row again.

    Parameters
    ----------
    cells : sequence of str
        One for each of ``NAMES``.

    Returns
    -------
    LogRow or None
        None where it is no whole row.
    """
    if len(cells) != len(COLUMNS):
        return None
    texts = zip(COLUMNS, cells, strict=True)
    try:
        known = {column.name: column.read(text) for column, text in texts}
        settings = {column.name: known.pop(column.name) for column in SETTINGS_COLUMNS}
        shape_px = settings.pop("shape_y_px"), settings.pop("shape_x_px")
        drift = known.pop("drift_y_nm"), known.pop("drift_x_nm")
        drift_std = known.pop("drift_y_std_nm"), known.pop("drift_x_std_nm")
        removed = {term: known.pop(f"removed_{term}_pm") for term in TERMS}
        return LogRow(
            settings=ScanSettings(shape_px=shape_px, **settings),
            time_s=known.pop("time"),
            drift_nm=None if None in drift else drift,
            drift_std_nm=None if None in drift_std else drift_std,
            removed_pm={term: size for term, size in removed.items() if size is not None},
            **known,
        )
    except ValueError:  # half a number
        return None
