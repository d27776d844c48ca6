"""What cannot be corrected is refused, each with its sentence, and never with a wrong picture."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage

from nion_distortion.correction import correct_frame
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.options import Options
from nion_distortion.pipeline import FrameReport, process_frame
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.scan import ScanErrors, strong_flyback
from simulator.specimen import make_specimen

SETTINGS = ScanSettings(
    shape_px=(192, 192), field_of_view_nm=6.0, dwell_time_us=1.0, flyback_time_us=30.0
)
Y, X = np.mgrid[:192.0, :192.0]
Image = npt.NDArray[Any]


def simulated(*, counts: float = 100.0, errors: ScanErrors | None = None, **more: Any) -> Image:
    microscope = Microscope(
        make_specimen("sto_001", rotation_rad=0.05, **more),
        errors=errors or ScanErrors(),
        detector=Detector(counts_at_peak=counts),
    )
    return microscope.shot(SETTINGS).frame.image


@cache
def good() -> Image:
    return simulated(errors=strong_flyback(SETTINGS, sign=1, seed=2))


@cache
def good_report() -> FrameReport:
    return process_frame(frame_of(good()))


def frame_of(image: npt.ArrayLike, **settings: Any) -> Frame:
    pixels = np.asarray(image)
    known = replace(SETTINGS, shape_px=cast("tuple[int, int]", pixels.shape[:2]))
    return Frame(image=pixels, settings=replace(known, **settings), frame_id="one")


def with_one(value: float) -> Image:
    image = good().copy()
    image[5, 5] = value
    return image


def masked(*where: Any) -> Any:
    image = np.ma.masked_array(good(), mask=np.zeros(good().shape, bool))
    image[where] = np.ma.masked
    return image


def noise() -> np.random.Generator:
    return np.random.default_rng(0)


def amorphous() -> Image:
    grains = scipy.ndimage.gaussian_filter(noise().normal(size=(192, 192)), 2.0)
    return np.asarray(100 + 400 * grains + noise().normal(size=(192, 192)))


def process(image: npt.ArrayLike, **settings: Any) -> Callable[[], object]:
    return lambda: process_frame(frame_of(image, **settings))


def process_with(**how: Any) -> Callable[[], object]:
    return lambda: process_frame(frame_of(good()), options=Options(**how))


def settle(**settings: Any) -> Callable[[], object]:
    return lambda: replace(SETTINGS, **settings)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "one pixel is not a number": (
        lambda: process_frame(frame_of(with_one(np.nan))),
        "image must be finite, but 1 of its pixels are not",
    ),
    "one pixel is infinite": (
        lambda: process_frame(frame_of(with_one(-np.inf))),
        "image must be finite, but 1 of its pixels are not",
    ),
    "nothing is a number": (
        process(np.full((128, 128), np.nan)),
        "image must be finite, but 16384 of its pixels are not",
    ),
    "numbers that single precision does not hold": (
        lambda: process_frame(frame_of(1e300 * good().astype(np.float64))),
        "image must be finite, but 36864 of its pixels are not",
    ),
    "a bare array": (
        lambda: process_frame(good()),  # type: ignore[arg-type]
        "frame must be a Frame, which says what scan made it, not ndarray",
    ),
    "one pixel is masked": (
        lambda: Frame(image=masked(5, 5), settings=SETTINGS),
        "image must be whole, but 1 of its pixels are masked",
    ),
    "lines are masked": (
        lambda: Frame(image=masked(slice(20)), settings=SETTINGS),
        "image must be whole, but 3840 of its pixels are masked",
    ),
    "dates": (
        process(np.zeros((96, 96), "M8[s]")),
        "image must be real numbers, not datetime64[s]",
    ),
    "nothing": (
        lambda: Frame(image=cast("Any", None), settings=SETTINGS),
        "image must be real numbers, not object",
    ),
    "no pixels": (
        lambda: Frame(image=np.zeros((0, 0), np.float32), settings=SETTINGS),
        "image has shape (0, 0), but its settings say (192, 192)",
    ),
    "complex numbers": (
        process(np.ones((96, 96)) + 1j),
        "image must be real numbers, not complex128",
    ),
    "objects": (
        process(np.full((96, 96), None)),
        "image must be real numbers, not object",
    ),
    "text": (process(np.full((96, 96), "a")), "image must be real numbers, not <U1"),
    "one axis": (
        lambda: Frame(image=np.zeros(64, np.float32), settings=SETTINGS),
        "image must have at least two axes, not shape (64,)",
    ),
    "three axes": (
        process(np.zeros((96, 96, 3))),
        "image must be 2-D to find columns, not of shape (96, 96, 3)",
    ),
    "another shape than its settings": (
        lambda: Frame(image=np.zeros((191, 192), np.float32), settings=SETTINGS),
        "image has shape (191, 192), but its settings say (192, 192)",
    ),
    "huge": (
        settle(shape_px=(20_000, 20_000)),
        "shape_px must be two lengths from 8 to 16384, not (20000, 20000)",
    ),
    "a sliver": (
        settle(shape_px=(4, 192)),
        "shape_px must be two lengths from 8 to 16384, not (4, 192)",
    ),
    "three lengths": (
        settle(shape_px=(64, 64, 64)),
        "shape_px must be two lengths from 8 to 16384, not (64, 64, 64)",
    ),
    "field of view not a number": (
        settle(field_of_view_nm=np.nan),
        "field_of_view_nm must be finite, not nan",
    ),
    "no field of view": (
        settle(field_of_view_nm=0.0),
        "field_of_view_nm must be positive, not 0",
    ),
    "a negative field of view": (
        settle(field_of_view_nm=-1.0),
        "field_of_view_nm must be positive, not -1",
    ),
    "a field of view in words": (
        settle(field_of_view_nm="wide"),
        "field_of_view_nm must be a number, not 'wide'",
    ),
    "no dwell time": (settle(dwell_time_us=0.0), "dwell_time_us must be positive, not 0"),
    "a negative dwell time": (settle(dwell_time_us=-1.0), "dwell_time_us must be positive, not -1"),
    "a dwell time in words": (
        settle(dwell_time_us="long"),
        "dwell_time_us must be a number, not 'long'",
    ),
    "a negative high tension": (
        settle(high_tension_v=-2e5),
        "high_tension_v must be positive, not -200000",
    ),
    "a negative fly-back": (
        settle(flyback_time_us=-1.0),
        "flyback_time_us must not be negative, not -1",
    ),
    "a line shorter than its pixels": (
        settle(line_time_us=100.0),
        "line_time_us must be at least 192 dwell times, not 100",
    ),
    "an infinite rotation": (
        settle(rotation_rad=np.inf),
        "rotation_rad must be finite, not inf",
    ),
    "a model of other settings": (
        lambda: process_frame(frame_of(good(), dwell_time_us=2.0), model=good_report().model),
        "the frame's settings differ from the model's in dwell_time_us",
    ),
    "an unknown sample": (
        process_with(sample="steel"),
        'sample must be "reference" or "unknown", not \'steel\'',
    ),
    "an unknown term": (
        process_with(terms=frozenset({"magic"})),
        "terms must be among fast_axis, frame_flyback, frame_locked, line_flyback, mains, "
        "scan_time, smooth, not 'magic'",
    ),
    "an unknown interpolation": (
        process_with(resample="cubic"),
        'resample must be "spline" or "nearest", not \'cubic\'',
    ),
    "guesses with three coordinates": (
        process_with(detect=lambda _: np.zeros((5, 3))),
        "detect(image) must have shape (n, 2), not (5, 3)",
    ),
}

UNUSABLE: dict[str, tuple[Callable[[], object], str]] = {
    "constant": (
        process(np.full((128, 128), 7.0)),
        "the image is the same nearly everywhere: it shows no columns",
    ),
    "black": (
        process(np.zeros((64, 2048))),
        "the image is the same nearly everywhere: it shows no columns",
    ),
    "a dark frame": (
        lambda: process_frame(frame_of(noise().normal(100.0, 5.0, (192, 192)))),
        "no columns stand out of the image's noise",
    ),
    "vacuum": (
        lambda: process_frame(frame_of(noise().poisson(3.0, (192, 192)))),
        "no columns stand out of the image's noise",
    ),
    "fringes": (
        lambda: process_frame(frame_of(50 + 20 * np.sin(X / 3) + noise().normal(size=X.shape))),
        "the image changes in one direction only: it shows fringes, a ramp or an edge, no columns",
    ),
    "weak, turned fringes": (
        lambda: process_frame(frame_of(noise().poisson(10 + 3 * np.sin(X / 3 + Y / 5)))),
        "the image changes in one direction only: it shows fringes, a ramp or an edge, no columns",
    ),
    "a ramp": (
        lambda: process_frame(frame_of(X + noise().normal(size=X.shape))),
        "the image changes in one direction only: it shows fringes, a ramp or an edge, no columns",
    ),
    "amorphous": (
        lambda: process_frame(frame_of(amorphous())),
        "no lattice was found: 62 % of the columns have no neighbour at the most frequent distance "
        "and direction",
    ),
    "saturated": (
        lambda: process_frame(frame_of(np.minimum(good(), 10.0))),
        "the image is the same nearly everywhere: it shows no columns",
    ),
    "63 pixels": (
        lambda: process_frame(frame_of(good()[:63, :63])),
        "the image has 63 x 63 pixels: at least 64 x 64 are needed",
    ),
    "twenty lines": (
        lambda: process_frame(frame_of(good()[:20])),
        "the image has 20 x 192 pixels: at least 64 x 64 are needed",
    ),
    "a frame that was stopped": (
        lambda: process_frame(frame_of(np.where(Y < 60, good(), 0.0))),
        "the image is the same nearly everywhere: it shows no noise",
    ),
    "too few electrons": (
        lambda: process_frame(frame_of(simulated(counts=0.3))),
        "only 0 columns stand out of the image's noise: 6 are needed",
    ),
    "hardly any crystal": (
        lambda: process_frame(frame_of(simulated(vacuum_fraction=1.0))),
        "no columns stand out of the image's noise",
    ),
    "a field of view a hundred times too wide": (
        process(good(), field_of_view_nm=600.0),
        "the cell would be 38.7 x 39.1 nm, which no crystal shows: the field of view of 600 nm is "
        "wrong",
    ),
    "guesses of nothing": (
        process_with(detect=lambda _: np.zeros((0, 2))),
        "only 0 columns stand out of the image's noise: 6 are needed",
    ),
    "another sample before anything is known": (
        process_with(sample="unknown"),
        "no calibration matches the settings of this scan, so nothing is corrected",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_a_value_error_with_its_sentence(kind: str) -> None:
    attempt, sentence = MISTAKES[kind]
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        attempt()


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_frame_says_why_and_gives_no_picture(kind: str) -> None:
    attempt, sentence = UNUSABLE[kind]
    report = cast("FrameReport", attempt())
    assert report.unusable == sentence
    for part in ("samples", "model", "field", "corrected", "off_by_pm", "corrected_pm"):
        assert getattr(report, part) is None


def test_an_unusable_frame_is_still_corrected_by_what_was_known() -> None:
    model = good_report().model
    report = process_frame(frame_of(np.full((192, 192), 7.0)), model=model)
    assert report.unusable is not None
    assert report.model is model
    assert report.field is not None
    assert report.field.kind == "stationary"
    assert report.corrected is not None
    np.testing.assert_allclose(report.corrected.image[report.corrected.valid], 7.0, rtol=1e-5)


def test_a_frames_own_field_is_not_applied_to_another_frame() -> None:
    field = good_report().field
    assert field is not None
    other = replace(frame_of(good()), frame_id="two", provenance={})
    with pytest.raises(ValueError, match=r"the field belongs to frame 'one' only, not to 'two'"):
        correct_frame(other, field)
