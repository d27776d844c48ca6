"""Reports -> the sentences of the panel: numbers with units and uncertainties, or why none."""

import gettext
from typing import TYPE_CHECKING

from nion_distortion.swift.choices import Choices
from nion_distortion.swift.phrases import NOTHING, estimate, folds, sentence, state_name, translated

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationSummary
    from nion_distortion.live_calibration import CalibrationState
    from nion_distortion.session import LiveReport, SessionCounts
    from nion_distortion.swift.checking import SetUp

__all__ = [
    "advice",
    "age",
    "applied",
    "calibration_progress",
    "counts",
    "headline",
    "in_use",
    "sample_names",
    "set_up",
    "trouble",
    "waiting",
]

_ = gettext.gettext

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


def sample_names(samples: tuple[str, ...]) -> list[str]:
    """Name what the sample can be.

    Parameters
    ----------
    samples : tuple of str
        As in ``choices.SAMPLES``.

    Returns
    -------
    list of str
        In the same order, for a list to choose from.
    """
    own = {
        "unknown": _("unknown"),
        "free": _("a crystal, cell unknown"),
        "similarity": _("a crystal, similarity"),
        "cell": _("a crystal, cell below"),
    }
    return [own.get(one, one) for one in samples]


def headline(live: "LiveReport | None") -> tuple[str, str, str]:
    """Say how far off the picture is, how far off it is when corrected, and what that means.

    Parameters
    ----------
    live : LiveReport or None
        The newest.

    Returns
    -------
    off_by, corrected, meaning : str
        For three labels.
    """
    report = None if live is None else live.report
    if report is None or report.corrected_pm is None:
        return NOTHING, NOTHING, ""
    meaning = _(
        "The corrected value is the expected error, rms over the picture, without an uncertainty "
        "of its own; 95 % of the picture is within {p95:.1f} pm."
    ).format(p95=report.corrected_pm.p95)
    if report.worth_it is False:
        meaning = _("Correcting is not worth it: its error exceeds its gain. ") + meaning
    return estimate(report.off_by_pm), estimate(report.corrected_pm), meaning


def waiting() -> str:
    """Say what is waited for.

    Returns
    -------
    str
        A sentence.
    """
    return _("Waiting for a frame: is the scan running?")


def set_up(seen: "SetUp | None", *, is_checking: bool) -> str:
    """Say how well the microscope is set up.

    Parameters
    ----------
    seen : SetUp or None
        What a frame has shown.
    is_checking : bool
        Whether a frame is awaited.

    Returns
    -------
    str
        A sentence, with the scan that it was seen in.
    """
    if is_checking:
        return waiting()
    if seen is None:
        return ""
    found = _("the frame cannot be used: {reason}").format(reason=translated(seen.reason))
    if seen.hint is not None:
        found = translated(seen.hint.sentence)
    ny, nx = seen.settings.shape_px
    said = _("Set-up at {fov:g} nm, {nx} x {ny} px: {found}")
    return sentence(said.format(fov=seen.settings.field_of_view_nm, nx=nx, ny=ny, found=found))


def advice(live: "LiveReport | None", seen: "SetUp | None") -> str:
    """Say what a longer fly-back would gain.

    Parameters
    ----------
    live : LiveReport or None
        The newest report.
    seen : SetUp or None
        What the set-up was seen by, for while nothing is corrected.

    Returns
    -------
    str
        A sentence.
    """
    report = None if live is None else live.report
    known = None if report is None else report.advice
    if known is None and seen is not None:
        known = seen.advice
    return "" if known is None else sentence(known.sentence)


def applied(live: "LiveReport | None") -> str:
    """Say what corrects the picture.

    Parameters
    ----------
    live : LiveReport or None
        The newest report.

    Returns
    -------
    str
        A sentence.
    """
    report = None if live is None else live.report
    if report is None or report.field is None:
        return _("Nothing is applied.")
    if report.field.kind == "frame":
        return _(
            "Applied: this frame's own lattice. Real displacements longer than about two cells "
            "are removed as well."
        )
    return _("Applied: the known distortion of these scan settings; the sample is left alone.")


def in_use(live: "LiveReport | None", now_s: float) -> str:
    """Say which calibration is in use, how old it is, and whether it still holds.

    Parameters
    ----------
    live : LiveReport or None
        The newest report.
    now_s : float
        POSIX time.

    Returns
    -------
    str
        One or two sentences.
    """
    report = None if live is None else live.report
    if live is None or report is None:
        return NOTHING
    if report.model is None:
        return _("None for these scan settings.")
    state = state_name(report.state)
    state = state.upper() if report.state == "stale" else state
    return f"{_source(live, live.calibration, now_s)}: {state}. {sentence(report.state_reason)}"


def _source(live: "LiveReport", calibration: "CalibrationSummary | None", now_s: float) -> str:
    if calibration is None:
        return _("Learnt in this session from {frames} frames").format(frames=live.accepted)
    return _("{id}, made on {sample}, {age} ago").format(
        id=calibration.calibration_id[:6],
        sample=calibration.sample or _("an unnamed sample"),
        age=age(now_s - calibration.time_s),
    )


def age(seconds: float) -> str:
    """Write an age.

    Parameters
    ----------
    seconds : float
        The age.

    Returns
    -------
    str
        In minutes, hours or days.
    """
    if seconds < MINUTE_S:
        return _("less than 1 min")
    if seconds < HOUR_S:
        return _("{number:.0f} min").format(number=seconds / MINUTE_S)
    if seconds < 2 * DAY_S:
        return _("{number:.1f} h").format(number=seconds / HOUR_S)
    return _("{number:.0f} d").format(number=seconds / DAY_S)


def counts(counted: "SessionCounts | None") -> str:
    """Say what became of the frames.

    Parameters
    ----------
    counted : SessionCounts or None
        None while nothing runs.

    Returns
    -------
    str
        One line.
    """
    if counted is None:
        return NOTHING
    dropped = _("{dropped} dropped").format(dropped=counted.dropped)
    if counted.dropped_at_start:
        dropped += _(" ({count} while starting)").format(count=counted.dropped_at_start)
    told = _("{processed} processed, {dropped}, {failed} failed; {ms} ms each on average")
    return told.format(
        processed=counted.processed,
        dropped=dropped,
        failed=counted.failed,
        ms=f"{counted.frame_ms:.0f}" if counted.frame_ms >= 1.0 else "< 1",
    )


def trouble(message: str, live: "LiveReport | None", choices: Choices) -> str:
    """Say what is wrong, and what helps.

    Parameters
    ----------
    message : str
        What went wrong outside of a frame.
    live : LiveReport or None
        The newest report.
    choices : Choices
        What the operator has chosen.

    Returns
    -------
    str
        Sentences; nothing where nothing is wrong.
    """
    said = [sentence(message)]
    if live is not None:
        said.append(sentence(live.reason or ""))
        if live.report is not None:
            said.append(folds(live.report.folded, live.report.crossed))
            if live.report.model is None:
                said.append(_to_know(choices))
    return " ".join(filter(None, said))


def _to_know(choices: Choices) -> str:
    """Say what helps where nothing is known of the scan settings."""
    if not choices.is_reference:
        return _("Choose which crystal the sample is, and calibrate.")
    return _("Calibrate.") if choices.applied == "calibration" else ""


def calibration_progress(state: "CalibrationState | None", choices: Choices) -> tuple[str, int]:
    """Say how far a calibration has come.

    Parameters
    ----------
    state : CalibrationState or None
        None where there was none.
    choices : Choices
        What was asked for.

    Returns
    -------
    words : str
        One line.
    percent : int
        For a progress bar.
    """
    if state is None:
        return "", 0
    error = "" if state.error_pm is None else _(", predicted error {pm:.1f} pm (no uncertainty)")
    wanted = state.wanted or choices.frames
    read = _("{frames} of {wanted} frames").format(frames=state.frames, wanted=wanted)
    read += error.format(pm=state.error_pm)
    if state.unusable:
        read += _(", {count} unusable").format(count=len(state.unusable))
    share = min(state.frames / wanted, 1.0)
    told = {
        "waiting": (_("Waiting for frames: is the scan running?"), 0),
        "reading": (read, round(90 * share)),
        "finishing": (_("Fitting all frames together: ") + read, 95),
        "done": (_("Done: ") + read + ". " + sentence(state.reason or ""), 100),
        "cancelled": (_("Cancelled; nothing was kept."), 0),
        "failed": (_("Not calibrated: ") + sentence(state.reason or ""), 0),
    }
    return told[state.phase]
