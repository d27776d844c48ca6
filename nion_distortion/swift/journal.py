"""The log of a session: begun and ended by the operator, it goes on from run to run."""

import gettext
from collections.abc import Callable, Iterable
from os import PathLike
from typing import TYPE_CHECKING

from nion_distortion.session_log import SessionLog, methods_paragraph, read_log

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationSummary
    from nion_distortion.session import Session

__all__ = ["Journal"]

_ = gettext.gettext


class Journal:
    """A row for each frame in a CSV file, while that is wanted.

    Used on the main thread.
    """

    def __init__(self) -> None:
        self._log: SessionLog | None = None
        self._end: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether each frame is written into a log."""
        return self._log is not None

    @property
    def problem(self) -> str:
        """Why rows are missing, one sentence; nothing where all could be written."""
        return "" if self._log is None else self._log.problem

    @property
    def words(self) -> str:
        """Where the rows go, and how many there are; nothing while there is no log."""
        if self._log is None:
            return ""
        return _("Log: {rows} rows in {path}.").format(
            rows=self._log.written, path=self._log.path.name
        )

    def begin(self, path: str | PathLike[str], session: "Session | None") -> None:
        """Write a row for each frame from now on.

        Parameters
        ----------
        path : path
            A new file, or a log to go on with.
        session : Session or None
            What runs.

        Raises
        ------
        ValueError
            If the file is something else, or cannot be opened.
        """
        self.close()
        self._log = SessionLog(path)
        self.follow(session)

    def follow(self, session: "Session | None") -> None:
        """Write down what comes out of a session.

        Parameters
        ----------
        session : Session or None
            None: nothing runs.
        """
        if self._log is not None and session is not None:
            self._end = session.subscribe(self._log.add)

    def close(self) -> None:
        """Write no more; the file is complete at any time."""
        if self._end is not None:
            self._end()
        if self._log is not None:
            self._log.close()
        self._log = self._end = None

    def described(self, calibrations: "Iterable[CalibrationSummary]") -> str:
        """Describe what is in the log for a methods section.

        Parameters
        ----------
        calibrations : iterable of CalibrationSummary
            What is known of those that the rows name.

        Returns
        -------
        str
            A paragraph.

        Raises
        ------
        ValueError
            If there is no log, or it cannot be read.
        """
        if self._log is None:
            raise ValueError(
                _("Begin a log first: the paragraph has the numbers of what was logged.")
            )
        return methods_paragraph(read_log(self._log.path), calibrations=calibrations)
