"""Calibrations as rows of a database: written, read, and verified by their checksums."""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nion_distortion.calibrations.packing import PARTS, as_json, from_json, unpack_model
from nion_distortion.calibrations.records import Calibration, CalibrationSummary

__all__ = [
    "Row",
    "all_rows",
    "damage_of",
    "insert_row",
    "row_of",
    "sound_summaries",
    "summary_of",
    "unpacked",
    "usable",
    "verified_parts",
]

_log = logging.getLogger(__name__)

COLUMNS = (
    "id",
    "sample",
    "note",
    "time_s",
    "device_id",
    "dwell_time_us",
    "flyback_time_us",
    "tau_us",
    "amplitude_slow_pm",
    "amplitude_fast_pm",
    "details",
    "sha256",
)
LABELS = ("sample", "note")
"""Columns that may be changed later, and so are not covered by the checksum."""

DETAILS = (
    "settings",
    "frames",
    "reference",
    "predicted_error_pm",
    "field_error_pm",
    "hyperparameters",
    "provenance",
    "tau_std_us",
    "amplitude_std_pm",
    "software",
)
"""Fields of a summary that have no column of their own."""

Row = dict[str, Any]


def row_of(summary: CalibrationSummary, parts: Mapping[str, bytes]) -> Row:
    """Make the row of a calibration, with its checksum.

    Parameters
    ----------
    summary : CalibrationSummary
        All but the model.
    parts : Mapping of str to bytes
        The packed model.

    Returns
    -------
    dict
        One value for each column.

    Raises
    ------
    ValueError
        If something in the summary cannot be written as JSON.
    """
    settings, (slow, fast) = summary.settings, summary.amplitude_pm or (None, None)
    details = {name: getattr(summary, name) for name in DETAILS}
    row: Row = {
        "id": summary.calibration_id,
        "sample": summary.sample,
        "note": summary.note,
        "time_s": summary.time_s,
        "device_id": settings.device_id,
        "dwell_time_us": _number(settings.dwell_time_us),
        "flyback_time_us": _number(settings.flyback_time_us),
        "tau_us": summary.tau_us,
        "amplitude_slow_pm": slow,
        "amplitude_fast_pm": fast,
        "details": as_json(details, "the calibration"),
    }
    return row | {"sha256": _row_sum(row, {name: _sum(part) for name, part in parts.items()})}


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _row_sum(row: Row, part_sums: Mapping[str, str]) -> str:
    """Checksum of all that may never change: the columns but for the labels, the model's parts."""
    columns = [row[name] for name in COLUMNS if name not in (*LABELS, "sha256")]
    plain = [value.hex() if isinstance(value, bytes) else value for value in columns]
    return _sum(json.dumps([plain, sorted(part_sums.items())]).encode())


def insert_row(connection: sqlite3.Connection, row: Row, parts: Mapping[str, bytes]) -> None:
    """Write a calibration.

    Parameters
    ----------
    connection : sqlite3.Connection
        A database that is being written to.
    row : dict
        As `row_of` makes it.
    parts : Mapping of str to bytes
        The packed model.
    """
    places = ", ".join("?" * len(COLUMNS))
    connection.execute(
        f"INSERT INTO calibrations ({', '.join(COLUMNS)}) VALUES ({places})",
        [row[name] for name in COLUMNS],
    )
    connection.executemany(
        "INSERT INTO contents (id, name, sha256, content) VALUES (?, ?, ?, ?)",
        [(row["id"], name, _sum(parts[name]), parts[name]) for name in PARTS],
    )


def all_rows(connection: sqlite3.Connection) -> list[Row]:
    """Read all that is known of the calibrations but for their models.

    Parameters
    ----------
    connection : sqlite3.Connection
        A database.

    Returns
    -------
    list of dict
        The newest first; checksums are not verified.
    """
    query = f"SELECT {', '.join(COLUMNS)} FROM calibrations ORDER BY time_s DESC, rowid DESC"
    return [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(query)]


def sound_summaries(connection: sqlite3.Connection) -> Iterator[CalibrationSummary]:
    """Read the calibrations that match their checksums; others are named in the log.

    Parameters
    ----------
    connection : sqlite3.Connection
        A database.

    Yields
    ------
    CalibrationSummary
        The newest first.
    """
    for row in all_rows(connection):
        try:
            yield summary_of(connection, row)
        except ValueError as reason:
            _log.warning("Calibration %s cannot be used: %s", row["id"], reason)


def summary_of(connection: sqlite3.Connection, row: Row) -> CalibrationSummary:
    """Verify a row's checksum and return its content.

    Parameters
    ----------
    connection : sqlite3.Connection
        The database that it was read from.
    row : dict
        The row.

    Returns
    -------
    CalibrationSummary
        All but the model.

    Raises
    ------
    ValueError
        If it does not match.
    """
    query = "SELECT name, sha256 FROM contents WHERE id = ?"
    if _row_sum(row, dict(connection.execute(query, (row["id"],)))) != row["sha256"]:
        raise ValueError("what is stored about it does not match its checksum")
    slow, fast = row["amplitude_slow_pm"], row["amplitude_fast_pm"]
    return CalibrationSummary(
        calibration_id=row["id"],
        time_s=row["time_s"],
        sample=row["sample"],
        note=row["note"],
        tau_us=row["tau_us"],
        amplitude_pm=None if slow is None else (slow, fast),
        **from_json(row["details"]),
    )


def _parts_of(connection: sqlite3.Connection, calibration_id: str) -> dict[str, bytes]:
    query = "SELECT name, sha256, content FROM contents WHERE id = ?"
    parts = {}
    for name, expected, content in connection.execute(query, (calibration_id,)):
        if not isinstance(content, bytes) or _sum(content) != expected:
            raise ValueError(f"its {name} does not match its checksum")
        parts[name] = content
    return parts


def damage_of(connection: sqlite3.Connection, row: Row, *, deep: bool = True) -> str | None:
    """Say what is damaged in a calibration.

    Parameters
    ----------
    connection : sqlite3.Connection
        The database that it was read from.
    row : dict
        Its row.
    deep : bool, default: True
        Look at the model as well.

    Returns
    -------
    str or None
        None where nothing is.
    """
    try:
        summary_of(connection, row)
        if deep:
            _parts_of(connection, row["id"])
    except ValueError as reason:
        return str(reason)
    return None


def verified_parts(connection: sqlite3.Connection, row: Row) -> dict[str, bytes]:
    """Read a packed model, and verify its checksums.

    Parameters
    ----------
    connection : sqlite3.Connection
        A database.
    row : dict
        The row of the calibration.

    Returns
    -------
    dict of str to bytes
        Its parts by their names.

    Raises
    ------
    ValueError
        If something is damaged; it names the calibration and says what to do.
    """
    with usable(row["id"]):
        summary_of(connection, row)
        return _parts_of(connection, row["id"])


def unpacked(connection: sqlite3.Connection, summary: CalibrationSummary) -> Calibration:
    """Read a calibration's model.

    Parameters
    ----------
    connection : sqlite3.Connection
        A database.
    summary : CalibrationSummary
        All but the model.

    Returns
    -------
    Calibration
        With it.

    Raises
    ------
    ValueError
        If something is damaged; it names the calibration and says what to do.
    """
    with usable(summary.calibration_id):
        parts = _parts_of(connection, summary.calibration_id)
        return Calibration(summary=summary, model=unpack_model(parts))


@contextmanager
def usable(calibration_id: str) -> Iterator[None]:
    """Name the calibration in which damage is found, and say what to do.

    Parameters
    ----------
    calibration_id : str
        The one that is read.

    Yields
    ------
    None
        While it is read.

    Raises
    ------
    ValueError
        Instead of one that names no calibration.
    """
    try:
        yield
    except ValueError as reason:
        raise ValueError(
            f"calibration {calibration_id} cannot be used: {reason}; delete it, and import it "
            "again if it was exported"
        ) from reason
