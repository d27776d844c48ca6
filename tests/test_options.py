import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from nion_distortion.options import TERMS, Free, Options


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sample": "mine"}, 'sample must be "reference" or "unknown", not \'mine\''),
        ({"resample": "cubic"}, 'resample must be "spline" or "nearest", not \'cubic\''),
        (
            {"terms": {"smooth", "magic"}},
            "terms must be among fast_axis, frame_flyback, frame_locked, line_flyback, mains, "
            "scan_time, smooth, not 'magic'",
        ),
    ],
)
def test_unknown_names_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Options(**change)


def test_options_say_reference_and_every_term() -> None:
    options = Options()
    assert (options.sample, options.resample, options.detect) == ("reference", "spline", None)
    assert options.reference == Free()
    assert options.terms == TERMS


def test_terms_may_come_in_any_collection() -> None:
    terms: Any = ["smooth", "line_flyback", "smooth"]
    assert Options(terms=terms).terms == frozenset({"smooth", "line_flyback"})
    assert Options(terms=frozenset()).terms == frozenset()


def test_options_are_frozen_and_picklable() -> None:
    options = Options(sample="unknown", resample="nearest", terms=frozenset({"smooth"}))
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(FrozenInstanceError):
        options.sample = "reference"  # type: ignore[misc]
