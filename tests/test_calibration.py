"""Frames fitted together: against one by one, against the truth, and with frames that disagree."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from model_cases import SMALL, Array, flyback, microscope, sampled

from nion_distortion.gaussian_process import DistortionModel, calibration, first_model
from nion_distortion.gaussian_process.calibration import CalibrationFrame, calibrated
from nion_distortion.gaussian_process.hyperparameters import NAMES, Hyperparameters
from nion_distortion.gaussian_process.learning import Evidence, learn_amplitudes
from nion_distortion.gaussian_process.shape_search import exact_surprise, learn_shapes
from nion_distortion.options import TERMS, AnyReference, Free, KnownCrystal
from simulator.microscope import Microscope, Truth
from simulator.scan import ScanErrors
from simulator.scoring import Score, score_map

RESTLESS = replace(flyback(), fast_axis_step_nm=0.005, walk_nm=0.004, line_jitter_nm=0.002)
FRAMES = 6


def taken(machine: Microscope, *, frames: int = FRAMES) -> tuple[list[CalibrationFrame], Truth]:
    shots = [sampled(machine, index=index) for index in range(frames)]
    return [CalibrationFrame(samples, lattice) for samples, lattice, _ in shots], shots[-1][2]


def one_by_one(
    frames: Sequence[CalibrationFrame], reference: AnyReference | None = None
) -> DistortionModel:
    reference = Free() if reference is None else reference
    model = first_model(frames[0].samples, frames[0].lattice, TERMS, reference=reference)
    for frame in frames[1:]:
        model = model.updated(frame.samples, frame.lattice)
    return model


def judged(model: DistortionModel, truth: Truth) -> Score:
    field = model.stationary_field()
    return score_map(
        field.displacement_px,
        field.valid,
        truth.stationary_place_px,
        pixel_size_nm=SMALL.pixel_size_nm,
        std_px=field.std_px,
    )


@cache
def restless() -> tuple[list[CalibrationFrame], Truth, DistortionModel, DistortionModel]:
    frames, truth = taken(microscope(RESTLESS))
    model = one_by_one(frames)
    return frames, truth, model, calibrated(model, frames)


def test_it_holds_what_it_was_made_of() -> None:
    frames, _, _, model = restless()

    assert model.frames == FRAMES
    assert [one.frame_id for one in model.samples] == [one.samples.frame_id for one in frames]
    assert (model.flagged, model.unsettled) == ((), None)
    assert model.last is not None
    assert model.frame_estimate().field.frame_id == frames[-1].samples.frame_id


def test_together_is_no_worse_than_one_by_one_and_claims_what_it_errs() -> None:
    _, truth, before, after = restless()

    one, all_of_them = judged(before, truth), judged(after, truth)

    assert all_of_them.share > 0.995
    assert all_of_them.share > one.share - 0.0005
    assert all_of_them.z is not None
    assert 0.6 < all_of_them.z < 1.4  # one realisation


def test_calibrating_again_changes_nothing() -> None:
    frames, _, _, model = restless()
    again = calibrated(model, frames)
    one, two = model.stationary_field(), again.stationary_field()
    seen = one.valid & two.valid

    difference = np.abs(one.displacement_px - two.displacement_px)[:, seen]

    assert float(np.median(difference)) < 0.1 * float(np.median(one.std_px[:, seen]))


def test_the_order_of_the_frames_does_not_matter() -> None:
    frames, _, before, model = restless()
    other = calibrated(before, [frames[n] for n in (3, 0, 5, 1, 2, 4)])
    one, two = model.stationary_field(), other.stationary_field()
    seen = one.valid & two.valid

    difference = np.abs(one.displacement_px - two.displacement_px)[:, seen]

    assert float(np.sqrt(np.mean(difference**2))) < 0.3 * float(np.median(one.std_px[:, seen]))


def test_a_first_frame_that_had_not_settled_is_left_out_and_named() -> None:
    settling = replace(RESTLESS, startup_nm=0.1, startup_frames=0.2)
    frames, truth = taken(microscope(settling))
    model = calibrated(one_by_one(frames), frames)

    assert [(one.index, one.frame_id) for one in model.flagged] == [(0, "frame 0")]
    assert "the first frame differs from the 5 others by" in model.flagged[0].reason
    assert model.frames == FRAMES - 1
    assert frames[0].samples.frame_id not in [one.frame_id for one in model.samples]
    assert judged(model, truth).share > 0.99


def test_frames_of_a_scan_that_settles_slowly_are_left_out_and_the_claim_holds() -> None:
    """They were flagged in part, the others averaged in: twice as wrong as claimed."""
    settling = replace(flyback(), smooth_nm=0.02, startup_nm=0.03, startup_frames=3.0)
    frames, _ = taken(microscope(settling), frames=16)
    *_, settled = sampled(microscope(settling), index=400)
    model = calibrated(one_by_one(frames[8:]), frames)

    left_out = [one.index for one in model.flagged]
    assert sorted(left_out) == list(range(len(left_out)))
    assert 7 <= len(left_out) <= 12
    assert "was taken before the scan had settled (it differs from the " in model.flagged[-1].reason
    z = judged(model, settled).z
    assert z is not None
    assert z < 1.3


def test_a_change_that_goes_on_to_the_end_is_said_and_claimed() -> None:
    settling = replace(flyback(), smooth_nm=0.02, startup_nm=0.03, startup_frames=12.0)
    frames, _ = taken(microscope(settling), frames=8)
    *_, settled = sampled(microscope(settling), index=400)
    model = calibrated(one_by_one(frames), frames)

    assert model.unsettled is not None
    assert model.unsettled.startswith("the distortion still changed at the end of the calibration")
    score = judged(model, settled)
    assert score.z is not None
    assert score.z < 2.0


def test_a_frame_in_the_middle_that_is_another_scan_is_left_out() -> None:
    frames, _ = taken(microscope(RESTLESS))
    strange, _ = taken(microscope(replace(RESTLESS, seed=9)), frames=1)
    mixed = [*frames[:3], strange[0], *frames[3:]]
    model = calibrated(one_by_one(mixed), mixed)

    assert [one.index for one in model.flagged] == [3]
    assert model.flagged[0].reason.startswith("frame 4 of 7 differs from the 6 others")


def test_flyback_along_both_axes_is_as_strong_as_it_is() -> None:
    pull_nm = RESTLESS.line_flyback_nm[1]
    frames, truth = taken(microscope(replace(RESTLESS, line_flyback_nm=(pull_nm, pull_nm))))
    model = calibrated(one_by_one(frames), frames)

    strength_px = np.exp(model.hyperparameters.logs[:, NAMES.index("line")])
    assert (strength_px > 2.0).all()
    assert (strength_px < 8.0).all()  # 4 px at the start of a line
    assert judged(model, truth).share > 0.997


def test_of_two_halves_that_disagree_the_first_stays_and_the_others_are_named() -> None:
    """As where the sample is changed in the middle: no frame stands out, and all were averaged."""
    frames, truth = taken(microscope(RESTLESS), frames=3)
    others, _ = taken(microscope(replace(RESTLESS, seed=9)), frames=3)
    mixed = [*frames, *others]
    model = calibrated(one_by_one(mixed), mixed)

    assert [one.index for one in model.flagged] == [3, 4, 5]
    assert model.flagged[0].reason.startswith("frame 4 of 6 differs from 3 others that agree by ")
    assert model.frames == 3
    assert judged(model, truth).share > 0.99


def test_of_two_frames_none_is_blamed() -> None:
    settling = replace(RESTLESS, startup_nm=0.1, startup_frames=0.2)
    frames, _ = taken(microscope(settling), frames=2)

    assert calibrated(one_by_one(frames), frames).flagged == ()


def test_amplitudes_are_learnt_from_all_frames_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _, model, _ = restless()
    counts: list[int] = []

    def _count(given: Sequence[Evidence], *others: Any) -> Hyperparameters:
        counts.append(len(given))
        return learn_amplitudes(given, *others)

    monkeypatch.setattr(calibration, "LEARNT_FIRST", 2)
    monkeypatch.setattr(calibration, "learn_amplitudes", _count)
    calibrated(model, frames)
    assert counts == [2, FRAMES]


def test_what_the_listener_raises_ends_it() -> None:
    frames, _, model, _ = restless()

    def _told(passes: int) -> None:
        raise InterruptedError(f"before pass {passes}")

    with pytest.raises(InterruptedError, match="before pass 1"):
        calibrated(model, frames, told=_told)


def test_coils_are_measured_with_the_drift_of_both_neighbours_taken_out() -> None:
    errors = ScanErrors(
        coil_scale=(-0.03, 0.015), coil_skew_rad=0.02, drift_nm_s=(0.8 / 60, -0.6 / 60)
    )
    slow = replace(SMALL, dwell_time_us=4.0)
    machine = microscope(errors)
    shots = [sampled(machine, slow, index=index) for index in range(4)]
    frames = [CalibrationFrame(samples, lattice) for samples, lattice, _ in shots]
    model = calibrated(one_by_one(frames, KnownCrystal.named("SrTiO3 [001]")), frames)

    assert model.coils is not None
    off = model.coils.values - [-0.03, 0.015, 0.02]
    assert np.abs(off / np.sqrt(np.diag(model.coils.covariance))).max() < 3.0
    assert model.coils.frames == 4


def test_a_frame_that_is_missing_leaves_scale_and_skew_as_they_are() -> None:
    errors = ScanErrors(
        coil_scale=(-0.03, 0.015), coil_skew_rad=0.02, drift_nm_s=(1.2 / 60, -0.9 / 60)
    )
    slow = replace(SMALL, dwell_time_us=20.0)  # 0.3 px a frame
    machine = microscope(errors)
    shots = [sampled(machine, slow, index=index) for index in (0, 1, 3)]
    frames = [CalibrationFrame(samples, lattice) for samples, lattice, _ in shots]
    model = calibrated(one_by_one(frames, KnownCrystal.named("SrTiO3 [001]")), frames)

    assert model.coils is not None
    np.testing.assert_allclose(model.coils.values, [-0.03, 0.015, 0.02], atol=3e-4)
    assert model.coils.scatter < 2.0
    assert model.coils.scale_std.max() < 3e-4


def test_shapes_make_the_frame_more_probable_and_keep_the_decay_near_the_truth() -> None:
    frames, _, model, _ = restless()
    off = model.basis.with_decay(0.09)
    samples, moving = frames[2].samples, model.distortion_px

    basis, hyperparameters = learn_shapes(samples, off, model.hyperparameters, moving_px=moving)

    before = exact_surprise(samples, off, model.hyperparameters, moving_px=moving)
    after = exact_surprise(samples, basis, hyperparameters, moving_px=moving)
    assert after < before - 1.0
    assert 0.04 < basis.decay < 0.09
    assert hyperparameters.floor_px == model.hyperparameters.floor_px


def test_the_exact_evidence_is_that_of_the_finite_basis_up_to_a_constant() -> None:
    frames, _, model, _ = restless()
    samples, moving = frames[2].samples, model.distortion_px
    exact: list[float] = []
    for scale in (0.5, 1.0, 2.0):
        logs: Array = model.hyperparameters.logs.copy()
        logs[:, 0] += np.log(scale)  # the smooth term's amplitude
        changed = replace(model.hyperparameters, logs=logs)
        exact.append(exact_surprise(samples, model.basis, changed, moving_px=moving))

    assert exact[1] < exact[0]
    assert exact[1] < exact[2] + 3.0
