"""Rows -> a CSV file that survives a full disk and a crash, and back."""

import csv
import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nion_distortion.session_log.rows import NAMES, LogRow, as_cells, from_cells, log_row

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport

__all__ = ["SessionLog", "read_log"]

_log = logging.getLogger(__name__)


class SessionLog:
    """Append each scan of a live session to a CSV file.

    Parameters
    ----------
    path : path
        The file; it is begun, or gone on with where it is a session log already.

    Raises
    ------
    ValueError
        If the file is something else, or cannot be opened.

    Notes
    -----
    Each row goes to the file at once and whole: of one that does not fit on the disk nothing
    stays, and the next one is tried again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._written = self._missing = 0
        self._problem = ""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b", buffering=0)
        except OSError as reason:
            raise ValueError(
                f"the session log {self._path} cannot be opened: {_why(reason)}"
            ) from reason
        self._start = _line(NAMES)
        try:
            self._check()
        except ValueError:
            self._file.close()
            raise

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def written(self) -> int:
        """How many rows were added to it."""
        return self._written

    @property
    def problem(self) -> str:
        """Why rows are missing, one sentence; nothing where all could be written."""
        if not self._missing:
            return ""
        rows = "row is" if self._missing == 1 else "rows are"
        return f"{self._missing} {rows} missing in the session log {self._path}: {self._problem}"

    def add(self, live: "LiveReport") -> None:
        """Append a scan; a disk that is full is said in ``problem``.

        Parameters
        ----------
        live : LiveReport
            What came out of it.
        """
        try:
            self._append(self._start + _line(as_cells(log_row(live))))
        except (OSError, ValueError) as reason:  # the latter of a file that is closed
            self._missing += 1
            if _why(reason) != self._problem:  # one line in the log, not twenty a second
                self._problem = _why(reason)
                _log.warning("%s", self.problem)
            return
        self._start = b""
        self._written += 1

    def close(self) -> None:
        """Close the file; later rows count as missing."""
        self._file.close()

    def _check(self) -> None:
        """Find out what the first row has to begin with: the header, or the end of a line."""
        self._file.seek(0)
        first = self._file.readline(len(self._start) + 1)  # others may have no end
        if not first:
            return
        if first.rstrip(b"\r\n") != self._start.rstrip(b"\n"):
            raise ValueError(
                f"{self._path} is no session log of this version: its first line names other "
                "columns; choose another file"
            )
        self._file.seek(-1, os.SEEK_END)
        self._start = b"" if self._file.read(1) == b"\n" else b"\n"

    def _append(self, line: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            done = 0
            while done < len(line):  # a disk that fills up takes a part
                done += self._file.write(line[done:]) or 0
        except OSError:
            self._file.truncate(end)
            raise


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _why(reason: Exception) -> str:
    words = getattr(reason, "strerror", None) or str(reason)
    return words[:1].lower() + words[1:]


def read_log(path: str | os.PathLike[str]) -> list[LogRow]:
    """Read a session log.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    list of LogRow
        In order; none of a log that was only begun. A line that is no whole row, as after a crash,
        is left out.

    Raises
    ------
    ValueError
        If it cannot be read or is no session log.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as reason:
        raise ValueError(f"the session log {path} cannot be read: {_why(reason)}") from reason
    rows = list(csv.reader(io.StringIO(text.replace("\0", ""))))  # a crash may leave such blocks
    if rows and tuple(rows[0]) != NAMES:
        raise ValueError(f"{path} is no session log of this version")
    found = (from_cells(cells) for cells in rows[1:])
    return [row for row in found if row is not None]
