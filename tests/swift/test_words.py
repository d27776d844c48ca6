"""The panel's sentences: every number with its unit and uncertainty, or that it has none."""

from dataclasses import replace
from typing import Any

import pytest
import session_fakes as fakes

from nion_distortion.diagnostics import Estimate, FlybackAdvice, SetupHint
from nion_distortion.live_calibration import CalibrationState
from nion_distortion.options import Options
from nion_distortion.session import LiveReport, SessionCounts
from nion_distortion.swift import phrases, words
from nion_distortion.swift.checking import SetUp
from nion_distortion.swift.choices import SAMPLES, Choices


def live(level: float = 1.0, **changes: Any) -> LiveReport:
    frame = fakes.frame(0, level)
    report = fakes.Process()(frame, model=None, options=Options())
    return LiveReport(scan=(frame,), report=replace(report, **changes), accepted=3)


def test_without_a_report_there_are_dashes() -> None:
    assert words.headline(None) == ("\N{EM DASH}", "\N{EM DASH}", "")
    assert words.in_use(None, 0.0) == "\N{EM DASH}"
    assert words.counts(None) == "\N{EM DASH}"


def test_headline_has_units_and_says_what_has_no_uncertainty() -> None:
    from_session = live()
    assert from_session.report is not None
    off_by, corrected, meaning = words.headline(from_session)
    assert off_by.endswith("pm")
    assert corrected.endswith("pm")
    assert "without an uncertainty of its own" in meaning
    assert "pm" in meaning


def test_correction_that_does_harm_is_called_not_worth_it() -> None:
    assert words.headline(live(worth_it=False))[2].startswith("Correcting is not worth it")


def test_where_the_scan_turns_back_is_said_with_what_is_wrong() -> None:
    assert "turns back" not in words.trouble("", live(folded=0), Choices())
    said = words.trouble("", live(folded=84), Choices())
    assert said.startswith("The scan turns back on itself: 84 pixels")


def test_what_is_applied_is_said() -> None:
    assert "own lattice" in words.applied(live())
    assert words.applied(None) == "Nothing is applied."
    known = fakes.field(fakes.settings(), 1.0, kind="stationary")
    assert "the sample is left alone" in words.applied(live(field=known))


def test_calibration_in_use_has_its_name_its_age_and_its_state() -> None:
    class Summary:
        calibration_id, sample, time_s = "abcdef123456", "STO", 1000.0

    stored = replace(live(state="ageing", state_reason="it is old"), calibration=Summary())  # type: ignore[arg-type]
    assert words.in_use(stored, 1000.0 + 90 * 60) == (
        "abcdef, made on STO, 1.5 h ago: ageing. It is old."
    )
    own = live(state="valid", state_reason="it holds")
    assert words.in_use(own, 0.0) == "Learnt in this session from 3 frames: valid. It holds."
    assert words.in_use(live(model=None), 0.0) == "None for these scan settings."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "less than 1 min"),
        (59, "less than 1 min"),
        (120, "2 min"),
        (7200, "2.0 h"),
        (86400 * 3, "3 d"),
    ],
)
def test_age(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


def test_counts_have_the_time_of_a_frame() -> None:
    counted = SessionCounts(processed=5, dropped=2, failed=1, frame_ms=47.6)
    said = "5 processed, 2 dropped, 1 failed; "
    assert words.counts(counted) == said + "48 ms each on average"
    assert words.counts(replace(counted, frame_ms=0.3)) == said + "< 1 ms each on average"
    loaded = replace(counted, dropped_at_start=1)
    assert words.counts(loaded).startswith("5 processed, 2 dropped (1 while starting), 1 failed;")


def test_trouble_offers_to_calibrate_where_nothing_is_known() -> None:
    unknown = replace(live(model=None), reason="no calibration matches")
    assert words.trouble("", unknown, Choices()) == (
        "No calibration matches. Choose which crystal the sample is, and calibrate."
    )
    assert words.trouble("", unknown, Choices(sample="free")) == "No calibration matches."
    applies_stored = Choices(sample="free", applied="calibration")
    assert words.trouble("", unknown, applies_stored) == "No calibration matches. Calibrate."
    assert words.trouble("", None, Choices()) == ""


def test_what_went_wrong_outside_of_a_frame_does_not_hide_why_it_was_not_corrected() -> None:
    unusable = replace(live(), reason="too few columns")
    assert words.trouble("the disk is full", unusable, Choices()) == (
        "The disk is full. Too few columns."
    )
    assert words.trouble("the disk is full", None, Choices()) == "The disk is full."


def seen(**changes: Any) -> SetUp:
    return SetUp(settings=fakes.settings(8.0, side=256), **changes)


def test_set_up_is_said_with_the_scan_in_which_it_was_seen() -> None:
    hint = SetupHint(
        verdict="usable",
        sentence="usable: 12.0 px per cell, 800 columns in view, 50 +- 1.2 electrons",
        pixels_per_cell=12.0,
        columns=800,
        effective_counts=Estimate(50.0, 1.2, 60.0),
    )
    assert words.set_up(seen(hint=hint), is_checking=False) == (
        "Set-up at 8 nm, 256 x 256 px: usable: 12.0 px per cell, 800 columns in view, "
        "50 \N{PLUS-MINUS SIGN} 1.2 electrons."
    )
    unusable = words.set_up(seen(reason="There is no lattice."), is_checking=False)
    assert unusable.endswith("256 px: the frame cannot be used: There is no lattice.")
    assert words.set_up(None, is_checking=False) == ""
    assert "is the scan running?" in words.set_up(seen(hint=hint), is_checking=True)


def test_fly_back_advice_is_the_newest_frame_s_or_that_of_the_set_up() -> None:
    of_frame, of_check = FlybackAdvice(sentence="40 us more"), FlybackAdvice(sentence="5 us more")
    assert words.advice(None, None) == ""
    assert words.advice(live(), seen(advice=of_check)) == "5 \N{MICRO SIGN}s more."
    assert words.advice(live(advice=of_frame), seen(advice=of_check)) == "40 \N{MICRO SIGN}s more."


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("", ""),
        ("it is so", "It is so."),
        ("is it so?", "Is it so?"),
        ("It is so.", "It is so."),
        ("off by 3 pm +- 0.2 pm", "Off by 3 pm \N{PLUS-MINUS SIGN} 0.2 pm."),
        ("we let us see 12 us", "We let us see 12 \N{MICRO SIGN}s."),
    ],
)
def test_reasons_become_sentences(said: str, written: str) -> None:
    assert phrases.sentence(said) == written


def test_sentences_of_the_library_are_translated_whatever_numbers_they_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue = {
        "": "Project-Id-Version: 1",
        "of {0} columns, {1} fit": "{1} von {0} Säulen passen",
        "it is off by {0} pm +- {1} pm": "es liegt um {0} pm +- {1} pm daneben",
        "too dark": "zu dunkel",
    }
    monkeypatch.setattr(phrases, "_", lambda text: catalogue.get(text, text))
    assert phrases.sentence("of 1200 columns, 34.5 fit") == "34.5 von 1200 Säulen passen."
    off = "Es liegt um 1e-05 pm \N{PLUS-MINUS SIGN} 0.2 pm daneben."
    assert phrases.sentence("it is off by 1e-05 pm +- 0.2 pm") == off
    assert phrases.sentence("too dark; of 3 columns, 2 fit") == "Zu dunkel; 2 von 3 Säulen passen."
    assert phrases.sentence("a {0} b 7") == "A {0} b 7."
    assert phrases.translated("") == phrases.sentence("") == ""


@pytest.mark.parametrize(
    ("state", "text", "percent"),
    [
        (None, "", 0),
        (CalibrationState(phase="waiting", wanted=20), "Waiting for frames", 0),
        (
            CalibrationState(phase="reading", wanted=20, frames=10, error_pm=2.5),
            "10 of 20 frames, predicted error 2.5 pm (no uncertainty)",
            45,
        ),
        (CalibrationState(phase="finishing", wanted=20, frames=20), "Fitting all", 95),
        (CalibrationState(phase="done", wanted=20, frames=20), "Done: 20 of 20 frames", 100),
        (CalibrationState(phase="cancelled"), "Cancelled; nothing was kept.", 0),
        (CalibrationState(phase="failed", reason="too dark"), "Not calibrated: Too dark.", 0),
    ],
)
def test_progress_of_a_calibration(state: CalibrationState | None, text: str, percent: int) -> None:
    told, bar = words.calibration_progress(state, Choices())
    assert told.startswith(text)
    assert bar == percent


def test_unusable_frames_of_a_calibration_are_counted() -> None:
    state = CalibrationState(phase="reading", wanted=20, frames=1, unusable=("a", "b"))
    assert words.calibration_progress(state, Choices())[0].endswith("2 unusable")


def test_every_sample_has_a_name() -> None:
    named = words.sample_names(SAMPLES)
    assert len(set(named)) == len(SAMPLES)
    assert all(named)


def test_settings_that_differ_are_said_in_words_with_their_units() -> None:
    said = "it differs in field_of_view_nm (8 there, 12 here), "
    said += "line_sync (True there, not reported here)"
    assert phrases.sentence(said) == (
        "It differs in field of view (8 nm there, 12 nm here), line synchronisation (True there, "
        "not reported here)."
    )
    assert phrases.sentence("dwell_time_us (not reported there, 2 here)") == (
        "Dwell time (not reported there, 2 \N{MICRO SIGN}s here)."
    )
    shape = "shape_px ((80, 96) there, (80, 64) here)"
    assert phrases.as_written(shape) == "pixels (lines, columns) ((80, 96) there, (80, 64) here)"
