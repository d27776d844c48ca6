"""Calibrations from images: what is read, what is told, when it ends."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from model_cases import flyback

import nion_distortion as nd
from nion_distortion import stack
from nion_distortion.stack import predicted_error_pm
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.scoring import score_map
from simulator.specimen import make_specimen

SETTINGS = nd.ScanSettings(
    shape_px=(160, 160), field_of_view_nm=5.0, dwell_time_us=1.0, flyback_time_us=120.0
)
MACHINE = Microscope(
    make_specimen("sto_001", rotation_rad=0.1), flyback(), Detector(counts_at_peak=100.0)
)


@cache
def shot(index: int) -> nd.Frame:
    return MACHINE.shot(SETTINGS, index).frame


def stream(count: int, read: list[int] | None = None) -> Iterator[nd.Frame]:
    for index in range(count):
        if read is not None:
            read.append(index)
        yield shot(index)


def test_a_scan_that_settles_over_several_frames_ends_no_calibration() -> None:
    """It began with the first frame, took half of each other, and ended in a singular matrix."""
    errors = replace(flyback(), startup_nm=0.06, startup_frames=1.0)
    machine = replace(MACHINE, errors=errors)
    told: list[nd.CalibrationProgress] = []
    frames = (machine.shot(SETTINGS, index).frame for index in range(8))
    model = nd.calibrate(frames, progress=told.append)
    assert not told[-1].unusable
    assert {0, 1, 2} <= {one.index for one in model.flagged}
    field, truth = model.stationary_field(), machine.shot(SETTINGS, 99).truth
    score = score_map(
        field.displacement_px,
        field.valid,
        truth.stationary_place_px,
        pixel_size_nm=SETTINGS.pixel_size_nm,
    )
    assert score.share > 0.99


def test_a_calibration_takes_the_distortion_out() -> None:
    told: list[nd.CalibrationProgress] = []
    model = nd.calibrate(stream(4), progress=told.append)
    field = model.stationary_field()
    truth = MACHINE.shot(SETTINGS, 3).truth

    score = score_map(
        field.displacement_px,
        field.valid,
        truth.stationary_place_px,
        pixel_size_nm=SETTINGS.pixel_size_nm,
    )

    assert model.frames == 4
    assert score.share > 0.99
    assert [one.frames for one in told if not one.passes] == [1, 2, 3, 4]
    errors = [one.error_pm for one in told if not one.passes]
    assert errors[-1] is not None
    assert errors[0] is not None
    assert errors[-1] < errors[0]
    assert [one.passes for one in told if one.passes][:3] == [1, 2, 3]


def test_it_stops_reading_once_the_error_is_small_enough() -> None:
    read: list[int] = []
    model = nd.calibrate(stream(6, read), stop_pm=50.0)

    assert read == [0, 1, 2]  # of two nobody knows which one is wrong
    assert predicted_error_pm(model) < 50.0


class Fits:
    """Stand in for the fit of all frames together, which predicts 1.2 times the frames' error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of_frames: list[int] = []
        monkeypatch.setattr(stack, "calibrated", self.fit)
        monkeypatch.setattr(stack, "predicted_error_pm", self.error_pm)
        self._fitted: object = None

    def fit(self, model: nd.DistortionModel, frames: list[object], **_: object) -> object:
        self.of_frames.append(len(frames))
        self._fitted = replace(model)
        return self._fitted

    def error_pm(self, model: nd.DistortionModel) -> float:
        return (12.0 if model is self._fitted else 10.0) / model.frames


def test_it_reads_on_until_the_result_itself_is_good_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[nd.CalibrationProgress] = []
    read: list[int] = []
    fits = Fits(monkeypatch)

    nd.calibrate(stream(9, read), stop_pm=3.0, progress=told.append)

    assert fits.of_frames == [4, 5]  # 10 / 4 pm one by one, but 12 / 4 pm together
    assert read == [0, 1, 2, 3, 4]
    assert (told[-1].stop_pm, told[-1].error_pm, told[-1].shortfall) == (3.0, 2.4, None)


def test_an_error_that_was_not_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[nd.CalibrationProgress] = []
    fits = Fits(monkeypatch)

    nd.calibrate(stream(4), stop_pm=2.9, progress=told.append)

    assert fits.of_frames == [4]  # no more frames, nothing to fit again
    assert told[-1].shortfall == (
        "a predicted error below 2.9 pm was asked for, and 3.00 pm is reached with 4 frames"
    )


def test_it_can_be_cancelled() -> None:
    with pytest.raises(CancelledError, match="the calibration was cancelled"):
        nd.calibrate(stream(4), progress=lambda now: now.frames < 2)


def test_why_the_flyback_of_an_altered_image_is_not_fitted_is_told() -> None:
    told: list[nd.CalibrationProgress] = []
    cropped = replace(shot(0), provenance={"altered": "cropped"})

    def stop(now: nd.CalibrationProgress) -> bool:
        told.append(now)
        return False

    with pytest.raises(CancelledError):
        nd.calibrate([cropped], progress=stop)
    assert told[0].advice is not None
    assert "not fitted, because the image is not the scan as it was made (cropped)" in (
        told[0].advice.sentence
    )


def test_frames_that_cannot_be_used_are_told_and_left_out() -> None:
    told: list[nd.CalibrationProgress] = []
    noise = np.random.default_rng(1).poisson(20.0, SETTINGS.shape_px).astype(np.float32)
    frames = [shot(0), nd.Frame(image=noise, settings=SETTINGS), shot(1)]

    model = nd.calibrate(frames, progress=told.append)

    assert model.frames == 2
    assert len(told[-1].unusable) == 1
    assert told[-1].unusable[0].startswith("frame 2: ")


def test_an_image_that_comes_again_is_told_and_counted_once() -> None:
    told: list[nd.CalibrationProgress] = []
    again = nd.Frame(image=shot(0).image.copy(), settings=SETTINGS)

    model = nd.calibrate([shot(0), shot(1), again], progress=told.append)

    assert model.frames == 2
    (reason,) = told[-1].unusable
    assert reason == "frame 3: it is the image of frame 1 once more"


def test_where_no_frame_can_be_used_the_first_reason_is_given() -> None:
    flat = nd.Frame(image=np.ones(SETTINGS.shape_px, np.float32), settings=SETTINGS)

    with pytest.raises(nd.UnusableFrameError, match="none of the 2 frames could be used; frame 1"):
        nd.calibrate([flat, flat])


def test_no_frame_no_calibration() -> None:
    with pytest.raises(ValueError, match="a calibration needs at least one frame"):
        nd.calibrate([])


def test_an_unknown_sample_calibrates_nothing() -> None:
    with pytest.raises(ValueError, match="a calibration needs a reference crystal"):
        nd.calibrate(stream(1), options=nd.Options(sample="unknown"))


def test_frames_of_other_settings_are_named() -> None:
    other = replace(shot(1).settings, flyback_time_us=60.0)
    frames = [shot(0), nd.Frame(image=shot(1).image, settings=other)]

    with pytest.raises(ValueError, match="differ from the model's in flyback_time_us"):
        nd.calibrate(frames)
