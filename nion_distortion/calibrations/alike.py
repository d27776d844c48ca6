"""Calibrations of the same settings: which there are, and how fast D changed between them."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from nion_distortion.calibrations.records import Calibration, CalibrationSummary
from nion_distortion.calibrations.rows import sound_summaries, unpacked
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.gaussian_process.change import Dated, measured_change

__all__ = ["alike", "dated"]

_log = logging.getLogger(__name__)

MOST_COMPARED = 3
"""Other calibrations that the rate of change is measured from: each takes some 0.1 s to read."""

MOST_READ = 5
"""How many are read for that, of which some may be too close or made of the same frames."""

SHORTEST_S = 600.0
"""Time between two calibrations below which their difference says nothing of a rate per hour."""


def alike(
    connection: sqlite3.Connection, wanted: CalibrationSummary
) -> tuple[CalibrationSummary, ...]:
    """List the calibrations of the same settings against the same kind of reference.

    Parameters
    ----------
    connection : sqlite3.Connection
        A database.
    wanted : CalibrationSummary
        One of them.

    Returns
    -------
    tuple of CalibrationSummary
        The newest first.
    """
    return tuple(
        one
        for one in sound_summaries(connection)
        if one.reference == wanted.reference and not one.settings.differences(wanted.settings)
    )


def dated(connection: sqlite3.Connection, known: Calibration) -> Calibration:
    """Tell a calibration how fast D changes, as others of the same settings show it.

    Parameters
    ----------
    connection : sqlite3.Connection
        The database that it was read from.
    known : Calibration
        The calibration.

    Returns
    -------
    Calibration
        The same where there is nothing to compare it with: then the rate is an assumed one.
    """
    others = _comparable(connection, known)
    if not others:
        return known
    chosen = sorted((*others, known), key=_time_s)
    times = [Dated(one.model, (_time_s(one) - _time_s(chosen[0])) / 3600.0) for one in chosen]
    measured = measured_change(times, known.model)
    ageing = replace(known.model.ageing, measured=measured)
    return replace(known, model=replace(known.model, ageing=ageing))


def _time_s(one: Calibration) -> float:
    """When D was as the calibration says: at its newest frame."""
    newest_s = one.model.ageing.time_s
    return one.summary.time_s if newest_s is None else newest_s


def _comparable(connection: sqlite3.Connection, known: Calibration) -> list[Calibration]:
    """Read the newest others of other times and frames; damaged ones are named in the log."""
    chosen: list[Calibration] = []
    own = known.calibration_id
    others = (one for one in alike(connection, known.summary) if one.calibration_id != own)
    for one in _readable(connection, islice(others, MOST_READ)):
        before = (known, *chosen)
        apart = all(abs(_time_s(one) - _time_s(other)) >= SHORTEST_S for other in before)
        if apart and not any(_share_frames(one.model, other.model) for other in before):
            chosen.append(one)
        if len(chosen) == MOST_COMPARED:
            break
    return chosen


def _readable(
    connection: sqlite3.Connection, summaries: Iterable[CalibrationSummary]
) -> Iterator[Calibration]:
    for one in summaries:
        try:
            yield unpacked(connection, one)
        except ValueError as reason:
            _log.warning("The rate of change is measured without one: %s", reason)


def _share_frames(one: DistortionModel, other: DistortionModel) -> bool:
    """Tell whether a frame at either end of one calibration is among those of the other."""
    return _has_end_of(one, other) or _has_end_of(other, one)


def _has_end_of(one: DistortionModel, other: DistortionModel) -> bool:
    ends: Sequence[int] = (0, -1) if other.samples else ()
    return any(mine.is_same_image(other.samples[end]) for end in ends for mine in one.samples)
