"""The calibrations of a microscope, in one file."""

import math
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Any

import platformdirs

from nion_distortion._plain import as_plain
from nion_distortion.calibrations.alike import alike, dated
from nion_distortion.calibrations.database import (
    explained,
    new_file,
    reading,
    reading_export,
    try_writing,
    writing,
)
from nion_distortion.calibrations.packing import from_json, pack_model
from nion_distortion.calibrations.records import (
    Calibration,
    CalibrationSummary,
    FlybackPrior,
    Nearest,
    summarised,
)
from nion_distortion.calibrations.rows import (
    Row,
    all_rows,
    damage_of,
    insert_row,
    row_of,
    sound_summaries,
    summary_of,
    unpacked,
    usable,
    verified_parts,
)
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.options import KnownFlyback

__all__ = ["CalibrationStore", "default_path"]

LEAST_TAU_LOG_STD = 0.1
"""Least standard deviation of the logarithm of a time constant, however well calibrations agree."""

SHORTEST_ID = 4
"""Fewest letters to which an id may be abbreviated, if they are unique."""


def default_path() -> Path:
    """Return where calibrations are kept when no other place was named.

    Returns
    -------
    path
        A file in the user's data folder.
    """
    return platformdirs.user_data_path("nion_distortion", appauthor=False) / "calibrations.sqlite"


class CalibrationStore:
    """Keep distortion models from one session to the next.

    Parameters
    ----------
    path : str or path, optional
        The file; made at the first save. Default: `default_path`. Not for network drives, where
        SQLite cannot keep two programs apart.

    Raises
    ------
    ValueError
        If the file is damaged, is something else, or cannot be read. This and every other mistake
        is told in one sentence, and the file is then as it was before.

    Notes
    -----
    Nothing but the path is kept between two calls, so that a store may be used from any thread,
    and by many programs at once.
    """

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self.path = default_path() if path is None else Path(path)
        with reading(self.path):
            pass

    def save(
        self,
        model: DistortionModel,
        *,
        time_s: float,
        sample: str = "",
        note: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> str:
        """Add a calibration; never in the place of another one.

        Parameters
        ----------
        model : DistortionModel
            What was learnt; what belongs to its live run is left out, and of the samples all but
            those of the newest 200 frames.
        time_s : float
            POSIX time at which it was made.
        sample : str, default: ""
            What it was made on.
        note : str, default: ""
            The operator's words.
        provenance : Mapping, optional
            Focus, stage, camera and whatever else is known; what is neither a number, a text nor
            a collection of these is kept as text.

        Returns
        -------
        str
            The calibration's id.

        Raises
        ------
        ValueError
            If something in it cannot be stored, or the file cannot be written.
        """
        summary = summarised(
            model,
            calibration_id=uuid.uuid4().hex[:12],
            time_s=time_s,
            labels=(sample, note),
            provenance=as_plain(provenance or {}),
        )
        parts = pack_model(model)
        row = row_of(summary, parts)
        with writing(self.path) as connection:
            insert_row(connection, row, parts)
        return summary.calibration_id

    def try_saving(self) -> None:
        """Test whether a calibration could be saved, before one is made; nothing is changed.

        Raises
        ------
        ValueError
            If the file cannot be written, or its disk is full.
        """
        try_writing(self.path)

    def find(self, settings: ScanSettings) -> Calibration | None:
        """Look up the newest calibration that holds for a scan.

        Parameters
        ----------
        settings : ScanSettings
            The scan.

        Returns
        -------
        Calibration or None
            With the rate of change that others of the same settings show; None where no
            calibration's settings match.

        Raises
        ------
        ValueError
            If that calibration is damaged; an older one is not taken in its place unnoticed.
        """
        with reading(self.path) as connection:
            for summary in sound_summaries(connection):
                if not summary.settings.differences(settings):
                    return dated(connection, unpacked(connection, summary))
        return None

    def nearest(self, settings: ScanSettings) -> Nearest | None:
        """Look up the calibration that differs from a scan in the fewest settings.

        Parameters
        ----------
        settings : ScanSettings
            The scan.

        Returns
        -------
        Nearest or None
            With the names of the settings that differ, none where it matches; written as text it
            is one sentence. None where the store is empty. Of two that are as near the newer one.
        """
        with reading(self.path) as connection:
            found = [
                Nearest(summary, summary.settings.differences(settings), settings)
                for summary in sound_summaries(connection)
            ]
        return min(found, key=lambda one: len(one.differences), default=None)

    def list(self) -> tuple[CalibrationSummary, ...]:
        """List the calibrations.

        Returns
        -------
        tuple of CalibrationSummary
            The newest first; without those that are damaged, see `damaged`.
        """
        with reading(self.path) as connection:
            return tuple(sound_summaries(connection))

    def damaged(self) -> dict[str, str]:
        """Verify the checksums of every calibration.

        Returns
        -------
        dict
            From the ids of those that cannot be used to the reason.
        """
        with reading(self.path) as connection:
            reasons = {str(row["id"]): damage_of(connection, row) for row in all_rows(connection)}
        return {one: reason for one, reason in reasons.items() if reason is not None}

    def get(self, calibration_id: str) -> Calibration:
        """Return a calibration by its id.

        Parameters
        ----------
        calibration_id : str
            Its id, or its first four letters or more where no other begins so.

        Returns
        -------
        Calibration
            With its model, and the rate of change that others of the same settings show.

        Raises
        ------
        ValueError
            If there is none, or it is damaged.
        """
        with reading(self.path) as connection:
            summary = self._summary(connection, calibration_id)
            return dated(connection, unpacked(connection, summary))

    def alike(self, calibration_id: str) -> tuple[Calibration, ...]:
        """Read all calibrations of the same settings against the same kind of reference.

        Parameters
        ----------
        calibration_id : str
            One of them.

        Returns
        -------
        tuple of Calibration
            That one among them, the oldest first, without a rate of change.

        Raises
        ------
        ValueError
            If there is none, or one is damaged.
        """
        with reading(self.path) as connection:
            found = alike(connection, self._summary(connection, calibration_id))
            return tuple(unpacked(connection, one) for one in reversed(found))

    def _summary(self, connection: sqlite3.Connection, calibration_id: str) -> CalibrationSummary:
        row = self._row(connection, calibration_id)
        with usable(row["id"]):
            return summary_of(connection, row)

    def whole_id(self, calibration_id: str) -> str:
        """Resolve an abbreviated id, also that of a damaged calibration.

        Parameters
        ----------
        calibration_id : str
            Its id, or its first four letters or more where no other begins so.

        Returns
        -------
        str
            Its id.

        Raises
        ------
        ValueError
            If there is none, or more than one.
        """
        with reading(self.path) as connection:
            return str(self._row(connection, calibration_id)["id"])

    def rename(self, calibration_id: str, sample: str) -> None:
        """Change the name of the sample that a calibration was made on.

        Parameters
        ----------
        calibration_id : str
            Its id.
        sample : str
            The sample.

        Raises
        ------
        ValueError
            If there is none, or the file cannot be written.
        """
        self._label("sample", calibration_id, sample)

    def annotate(self, calibration_id: str, note: str) -> None:
        """Give a calibration another note.

        Parameters
        ----------
        calibration_id : str
            Its id.
        note : str
            The operator's words.

        Raises
        ------
        ValueError
            If there is none, or the file cannot be written.
        """
        self._label("note", calibration_id, note)

    def _label(self, column: str, calibration_id: str, text: str) -> None:
        with writing(self.path) as connection:
            whole = self._row(connection, calibration_id)["id"]
            connection.execute(f"UPDATE calibrations SET {column} = ? WHERE id = ?", (text, whole))

    def delete(self, calibration_id: str) -> None:
        """Remove a calibration.

        Parameters
        ----------
        calibration_id : str
            Its id.

        Raises
        ------
        ValueError
            If there is none, or the file cannot be written.
        """
        with writing(self.path) as connection:
            whole = self._row(connection, calibration_id)["id"]
            connection.execute("DELETE FROM calibrations WHERE id = ?", (whole,))

    def export(self, calibration_ids: Sequence[str], path: str | PathLike[str]) -> Path:
        """Copy calibrations to one file for another machine.

        Parameters
        ----------
        calibration_ids : sequence of str
            Which ones.
        path : str or path
            The new file, itself a store.

        Returns
        -------
        path
            The file.

        Raises
        ------
        ValueError
            If the file exists or cannot be written, or a calibration is not there or damaged.
        """
        file = Path(path)
        with reading(self.path) as connection:
            rows = [self._row(connection, one) for one in calibration_ids]
            each = {row["id"]: row for row in rows}
            chosen = [(row, verified_parts(connection, row)) for row in each.values()]
        try:
            with explained(file), new_file(file) as copy:
                for row, parts in chosen:
                    insert_row(copy, row, parts)
        except FileExistsError:
            raise ValueError(f"{file} exists already and was left as it is") from None
        return file

    def import_(self, path: str | PathLike[str]) -> tuple[str, ...]:
        """Add the calibrations of an exported file, or of another store.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        tuple of str
            The ids of those that were not there yet. Of those that were, sample and note stay as
            they are here.

        Raises
        ------
        ValueError
            If the file cannot be read, something in it is damaged, or a calibration is there
            under the same id with another content; then nothing is imported.
        """
        with reading_export(Path(path)) as source:
            given = [(row, verified_parts(source, row)) for row in reversed(all_rows(source))]
        with writing(self.path) as connection:
            new = [(row, parts) for row, parts in given if not self._has(connection, row)]
            for row, parts in new:
                insert_row(connection, row, parts)
        return tuple(row["id"] for row, _ in new)

    def device_priors(self, device_id: str) -> tuple[FlybackPrior, ...]:
        """Collect what calibrations of a scan device, under any settings, know of its fly-back.

        Parameters
        ----------
        device_id : str
            The device.

        Returns
        -------
        tuple of FlybackPrior
            One for each calibration that knows it, the newest first: the time constant belongs to
            the device, and the amplitude falls with the fly-back time as ``exp(-t / tau)``.
        """
        with reading(self.path) as connection:
            rows = [
                row
                for row in all_rows(connection)
                if row["device_id"] == device_id and damage_of(connection, row, deep=False) is None
            ]
        return tuple(
            FlybackPrior(
                row["dwell_time_us"],
                row["flyback_time_us"],
                row["tau_us"],
                from_json(row["details"]).get("tau_std_us"),
                (row["amplitude_slow_pm"], row["amplitude_fast_pm"]),
            )
            for row in rows
            if row["tau_us"] is not None
        )

    def known_flyback(self, device_id: str) -> KnownFlyback | None:
        """Return the prior on the line fly-back for new settings of a scan device.

        Parameters
        ----------
        device_id : str
            The device.

        Returns
        -------
        KnownFlyback or None
            Mean time constant of all its calibrations, weighted by their errors, with their
            scatter, and the newest amplitude; None where none of them has a time constant.
        """
        known = self.device_priors(device_id)
        if not known:
            return None
        logs = [math.log(one.tau_us) for one in known]
        stds = [max((one.tau_std_us or 0.0) / one.tau_us, LEAST_TAU_LOG_STD) for one in known]
        weights = [std**-2 for std in stds]
        newest, middle = known[0], fmean(logs, weights)
        scatter = math.sqrt(fmean([(log - middle) ** 2 for log in logs], weights))
        return KnownFlyback(
            tau_us=math.exp(middle),
            tau_log_std=max(scatter, min(stds)),
            amplitude_pm=None if newest.flyback_time_us is None else newest.amplitude_pm,
            flyback_time_us=newest.flyback_time_us or 0.0,
        )

    def _row(self, connection: sqlite3.Connection, calibration_id: str) -> Row:
        """Return the row of an id, or of its first letters."""
        rows = all_rows(connection)
        exact = [row for row in rows if row["id"] == calibration_id]
        if exact:
            return exact[0]
        if len(calibration_id) < SHORTEST_ID:
            raise ValueError(
                f"at least {SHORTEST_ID} letters of the id are needed, not {calibration_id!r}"
            )
        alike = [row for row in rows if row["id"].startswith(calibration_id)]
        if len(alike) > 1:
            names = " or ".join(sorted(row["id"] for row in alike))
            raise ValueError(f"calibration {calibration_id} could be {names}")
        if not alike:
            raise ValueError(f"{self.path} has no calibration {calibration_id}")
        return alike[0]

    def _has(self, connection: sqlite3.Connection, row: Row) -> bool:
        query = "SELECT sha256 FROM calibrations WHERE id = ?"
        there = connection.execute(query, (row["id"],)).fetchone()
        if there is not None and there[0] != row["sha256"]:
            raise ValueError(
                f"calibration {row['id']} is in {self.path} already with another content, so "
                "nothing was imported: delete one of the two"
            )
        return there is not None
