import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CHANGES, OPTIONAL, few, full_settings, one_change, scan_settings

from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError

BARE = ScanSettings(shape_px=(80, 96), field_of_view_nm=8.0)


@few
@given(scan_settings())
def test_settings_match_themselves_also_after_a_pickle(settings: ScanSettings) -> None:
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert settings.differences(again) == ()


@few
@given(scan_settings(), scan_settings())
def test_differences_do_not_depend_on_the_side(one: ScanSettings, two: ScanSettings) -> None:
    assert one.differences(two) == two.differences(one)
    assert one.unreported(two) == two.unreported(one)


def test_changes_cover_every_field() -> None:
    assert set(CHANGES) | {"extra"} == {item.name for item in fields(ScanSettings)}


@pytest.mark.parametrize("name", list(CHANGES))
def test_one_changed_field_is_the_difference(name: str) -> None:
    assert full_settings().differences(full_settings(**{name: CHANGES[name]})) == (name,)


@few
@given(one_change())
def test_any_other_value_of_a_field_is_the_difference(change: tuple[str, ScanSettings]) -> None:
    name, changed = change
    assert full_settings().differences(changed) == (name,)
    assert changed.differences(full_settings()) == (name,)
    assert full_settings().unreported(changed) == ()


@few
@given(scan_settings())
def test_unknown_on_both_sides_is_named_unknown_on_one_is_a_difference(
    settings: ScanSettings,
) -> None:
    optional = [*OPTIONAL, "line_sync", "frame_sync"]
    unknown = tuple(name for name in optional if getattr(settings, name) is None)
    assert set(settings.unreported(settings)) == set(unknown)
    for name in optional:
        known: dict[str, Any] = {name: None}
        silent = replace(settings, **known)
        assert settings.differences(silent) == (() if name in unknown else (name,))


def test_truths_as_numpy_has_them_are_truths() -> None:
    assert full_settings().differences(full_settings(line_sync=np.True_)) == ()
    assert full_settings().differences(full_settings(line_sync=np.False_)) == ("line_sync",)
    assert full_settings().differences(full_settings(line_sync=1)) == ("line_sync",)


@pytest.mark.parametrize("name", [*OPTIONAL, "line_sync", "frame_sync", "subscan_px"])
def test_reported_on_one_side_only_is_a_difference(name: str) -> None:
    silent = full_settings(**{name: None})
    assert full_settings().differences(silent) == (name,)
    assert silent.differences(full_settings()) == (name,)
    assert full_settings().unreported(silent) == ()


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ((("beam_lag_us", 1.6), ("mode", "fast")), ("beam_lag_us",)),
        ((("beam_lag_us", 1.5), ("mode", "slow")), ("mode",)),
        ((("mode", "fast"),), ("beam_lag_us",)),
        ((("beam_lag_us", 1.5), ("mode", "fast"), ("offset", 0)), ("offset",)),
        ((("mode", "fast"), ("beam_lag_us", 1.5)), ()),
    ],
)
def test_other_parameters_are_part_of_the_match(
    extra: tuple[tuple[str, object], ...], named: tuple[str, ...]
) -> None:
    assert full_settings().differences(full_settings(extra=extra)) == named


@pytest.mark.parametrize("name", ["line_sync", "frame_sync"])
def test_a_parameter_that_is_false_is_not_one_that_is_unknown(name: str) -> None:
    known = full_settings(extra=((name, False),))
    assert known.differences(full_settings(extra=())) == (name,)


@few
@given(st.data())
def test_a_jitter_of_1e_6_still_matches(data: st.DataObject) -> None:
    names = ("field_of_view_nm", "rotation_rad", *OPTIONAL)
    off = {n: 1 + data.draw(st.floats(-1e-6, 1e-6), label=n) for n in names}
    settings = full_settings()
    moved = replace(settings, **{n: getattr(settings, n) * off[n] for n in names})
    assert settings.differences(moved) == ()
    lag = (("beam_lag_us", 1.5 * off["dwell_time_us"]), ("mode", "fast"))
    assert settings.differences(replace(settings, extra=lag)) == ()


@pytest.mark.parametrize("name", ["field_of_view_nm", *OPTIONAL])
def test_a_change_of_1e_4_no_longer_matches(name: str) -> None:
    settings = full_settings()
    moved = replace(settings, **{name: getattr(settings, name) * (1 + 1e-4)})
    assert settings.differences(moved) == (name,)


def test_a_rotation_of_nearly_zero_matches_zero() -> None:
    assert replace(BARE, rotation_rad=5e-7).differences(BARE) == ()
    assert replace(BARE, rotation_rad=1e-5).differences(BARE) == ("rotation_rad",)


def test_unknown_on_both_sides_matches_and_is_named() -> None:
    assert BARE.differences(BARE) == ()
    assert BARE.unreported(BARE) == (*OPTIONAL[:3], "high_tension_v", "line_sync", "frame_sync")
    assert full_settings().unreported(full_settings()) == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shape_px": (7, 96)}, r"shape_px must be two lengths from 8 to 16384, not \(7, 96\)"),
        ({"shape_px": (80, 20000)}, "shape_px must be two lengths"),
        ({"shape_px": (80,)}, "shape_px must be two lengths"),
        ({"field_of_view_nm": 0.0}, "field_of_view_nm must be positive, not 0"),
        ({"field_of_view_nm": np.nan}, "field_of_view_nm must be finite, not nan"),
        ({"field_of_view_nm": "wide"}, "field_of_view_nm must be a number, not 'wide'"),
        ({"rotation_rad": np.inf}, "rotation_rad must be finite, not inf"),
        ({"dwell_time_us": -1.0}, "dwell_time_us must be positive, not -1"),
        ({"line_time_us": 0.0}, "line_time_us must be positive, not 0"),
        ({"high_tension_v": np.nan}, "high_tension_v must be finite, not nan"),
        ({"flyback_time_us": -0.1}, "flyback_time_us must not be negative, not -0.1"),
        ({"flyback_time_us": np.inf}, "flyback_time_us must be finite, not inf"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        replace(BARE, **change)


def test_no_flyback_time_is_possible() -> None:
    assert replace(BARE, flyback_time_us=0.0, dwell_time_us=1.0).line_period_px == 96


def test_lines_follow_each_other_by_what_is_known() -> None:
    settings = replace(BARE, dwell_time_us=2.0)
    assert BARE.line_period_px == 96
    assert settings.line_period_px == 96
    assert replace(settings, flyback_time_us=10.0).line_period_px == pytest.approx(101)
    assert replace(settings, flyback_time_us=10.0, line_time_us=300.0).line_period_px == 150
    assert replace(BARE, line_time_us=300.0).line_period_px == 96


def test_frame_time_counts_the_flyback_of_every_line() -> None:
    settings = replace(BARE, dwell_time_us=2.0, flyback_time_us=10.0)
    assert settings.frame_time_s == pytest.approx(80 * (96 * 2 + 10) * 1e-6)
    assert BARE.frame_time_s is None


@pytest.mark.parametrize("shape", [(80, 96), (96, 80)])
def test_pixel_size_is_that_of_the_longer_side(shape: tuple[int, int]) -> None:
    assert replace(BARE, shape_px=shape).pixel_size_nm == pytest.approx(8 / 96)


def make_frame(**changes: Any) -> Frame:
    image = np.random.default_rng(0).normal(size=(80, 96))
    values: dict[str, Any] = {"image": image, "settings": BARE, "provenance": {"by": "me"}}
    return Frame(**values | changes)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((80, 96), complex), "image must be real numbers, not complex128"),
        (np.full((80, 96), "x", dtype="<U1"), "image must be real numbers, not <U1"),
        (np.zeros(80), r"image must have at least two axes, not shape \(80,\)"),
        (np.zeros((96, 80)), r"image has shape \(96, 80\), but its settings say \(80, 96\)"),
    ],
)
def test_an_image_that_is_none_is_refused(image: npt.NDArray[Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        make_frame(image=image)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float64, np.float32, bool])
def test_images_are_kept_as_float32(kind: type) -> None:
    image: npt.NDArray[Any] = np.arange(80 * 96).reshape(80, 96).astype(kind)
    kept = make_frame(image=image).image
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept, image.astype(np.float32))


def test_spectrum_images_keep_their_trailing_axes() -> None:
    assert make_frame(image=np.zeros((80, 96, 3, 2), np.uint16)).image.shape == (80, 96, 3, 2)


def test_the_callers_image_stays_his_own() -> None:
    image = np.zeros((80, 96), np.float32)
    frame = make_frame(image=image)
    image[0, 0] = 5
    assert frame.image[0, 0] == 0


@pytest.mark.parametrize("again", [False, True], ids=["made", "unpickled"])
def test_a_frame_cannot_be_altered(*, again: bool) -> None:
    frame = make_frame(frame_id="7", time_s=3.0, channel="HAADF", index=2)
    if again:
        frame = pickle.loads(pickle.dumps(frame))
    assert (frame.frame_id, frame.time_s, frame.channel, frame.index) == ("7", 3.0, "HAADF", 2)
    assert dict(frame.provenance) == {"by": "me"}
    np.testing.assert_array_equal(frame.image, make_frame().image)
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0, 0] = 1
    with pytest.raises(TypeError):
        frame.provenance["by"] = "you"  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        frame.index = 3  # type: ignore[misc]


def test_an_unusable_frame_is_no_callers_mistake() -> None:
    assert not issubclass(UnusableFrameError, ValueError)
    assert str(UnusableFrameError("too dark")) == "too dark"
