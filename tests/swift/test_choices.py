"""What the operator chooses: options from it, and what is kept from one start to the next."""

import json

import pytest

from nion_distortion.options import Free, KnownCrystal, Similarity
from nion_distortion.swift.choices import SAMPLES, Choices


def test_at_first_the_sample_is_unknown_and_only_what_is_stored_is_applied() -> None:
    options = Choices().live_options(is_held=False)
    assert options.sample == "unknown"


def test_a_reference_is_learnt_from_unless_it_is_held_or_the_calibration_is_applied() -> None:
    chosen = Choices(sample="free")
    assert chosen.live_options(is_held=False).sample == "reference"
    assert chosen.live_options(is_held=True).sample == "unknown"
    stored = Choices(sample="free", applied="calibration")
    assert stored.live_options(is_held=False).sample == "unknown"


@pytest.mark.parametrize(
    ("sample", "reference"),
    [
        ("free", Free()),
        ("similarity", Similarity()),
        ("Si [110]", KnownCrystal.named("Si [110]")),
        ("cell", KnownCrystal(a_nm=0.4, b_nm=0.5, gamma_deg=100.0)),
    ],
)
def test_reference_is_what_the_sample_is_said_to_be(sample: str, reference: object) -> None:
    chosen = Choices(sample=sample, cell=(0.4, 0.5, 100.0))
    assert chosen.calibration_options().reference == reference
    assert chosen.live_options(is_held=False).reference == reference


def test_an_unknown_sample_cannot_calibrate() -> None:
    with pytest.raises(ValueError, match="say first which crystal"):
        Choices().calibration_options()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample": "cheese"}, "the sample must be one of"),
        ({"applied": "nothing"}, "applied must be one of"),
        ({"frames": 0}, "1 to 200 frames"),
        ({"stop_pm": -1.0}, "0 to 1000 pm, not -1 pm"),
        ({"averaged": -1}, "0 to 1000 frames are averaged, not -1"),
        ({"arrows": float("nan")}, "arrows are 0 to 1000 times"),
        ({"sample": "cell", "cell": (0.4, 0.4, 5.0)}, "an angle of 10 to 170 degrees"),
        ({"sample": "cell", "cell": (0.0, 0.4, 90.0)}, "edges of more than 0 nm"),
    ],
)
def test_what_cannot_be_is_said_in_words(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Choices(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("sample", SAMPLES)
def test_choices_are_found_again(sample: str) -> None:
    chosen = Choices(sample=sample, cell=(0.4, 0.5, 100.0), frames=7, scan_id="mine", arrows=20)
    assert Choices.from_text(chosen.to_text()) == chosen


@pytest.mark.parametrize(
    "text", ["", "no json", "[1]", '{"sample": "cheese"}', '{"new": 1}', '{"is_raster": "yes"}']
)
def test_what_is_not_understood_is_as_at_first(text: str) -> None:
    assert Choices.from_text(text) == Choices()


def test_one_damaged_choice_does_not_lose_the_others() -> None:
    kept = json.loads(Choices(sample="free", frames=9).to_text()) | {"stop_pm": "cold"}
    assert Choices.from_text(json.dumps(kept)) == Choices(sample="free", frames=9)
