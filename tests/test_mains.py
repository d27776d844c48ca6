"""Mains hum: found, told from D, and never seen where there is none."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from model_cases import SMALL, every_pixel, flyback, microscope, sampled, without_affine

from nion_distortion.frame import ScanSettings, UnusableFrameError
from nion_distortion.gaussian_process import DistortionModel, first_model, fitting, learning
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.calibration import CalibrationFrame, calibrated
from nion_distortion.gaussian_process.mains import MainsLine, mains_line
from nion_distortion.gaussian_process.scan_time import ScanTime
from nion_distortion.gaussian_process.terms import rms_of_terms
from nion_distortion.options import TERMS
from simulator.microscope import Truth
from simulator.scan import ScanErrors

SLOW = replace(SMALL, dwell_time_us=10.0)
"""A frame of 0.25 s, some twelve periods of the mains."""

HUM = ScanErrors(hum_nm=0.01, hum_hz=50.1, smooth_nm=0.02)

PM = 1e3 * SLOW.pixel_size_nm
EVERYTHING = frozenset(TERMS)


def learnt(
    errors: ScanErrors,
    settings: ScanSettings = SLOW,
    *,
    terms: frozenset[str] = EVERYTHING,
    frames: int = 1,
    seed: int = 0,
) -> tuple[DistortionModel, Truth]:
    machine = microscope(replace(errors, seed=seed), seed=seed)
    samples, lattice, truth = sampled(machine, settings)
    model = first_model(samples, lattice, terms)
    for index in range(1, frames):
        samples, lattice, truth = sampled(machine, settings, index=index)
        model = model.updated(samples, lattice)
    return model, truth


def off_pm(model: DistortionModel, truth: Truth, *, stationary: bool = False) -> float:
    """Rms error of D, or of D + W_k, over the scan and both axes, an affine map left free."""
    assert model.last is not None
    places, basis = every_pixel(SLOW, 4), model.basis
    mean = model.stationary.mean if stationary else model.last.posterior.mean[:, : basis.size]
    found = (mean @ basis.design(places)[: mean.shape[1]]).T
    true = truth.path.distortion_px(places)
    if not stationary:
        true = true + truth.path.wander_px(places)
    return PM * float(np.sqrt((without_affine(found - true, places) ** 2).mean()))


def line_of(model: DistortionModel) -> MainsLine:
    assert model.last is not None
    line = mains_line(model.basis, model.last.posterior)
    assert line is not None
    return line


@pytest.mark.parametrize("hum_hz", [50.1, 59.9])
def test_a_hum_of_unknown_phase_is_found_and_taken_out(hum_hz: float) -> None:
    """Columns are wrong by 2.5 pm; at 50 Hz the frame's field is wrong by 6 pm without the term."""
    errors = replace(HUM, hum_hz=hum_hz)
    model, truth = learnt(errors)
    without, _ = learnt(errors, terms=TERMS - {"mains"})
    line = line_of(model)
    assert abs(line.hz - hum_hz) < 3 * line.hz_std
    assert line.hz_std < 0.1
    assert line.amplitude_px * PM == pytest.approx(10.0, abs=1.0)
    for stationary in (False, True):
        off = off_pm(model, truth, stationary=stationary)
        assert off < 1.5
        assert off_pm(without, truth, stationary=stationary) > 2.0 * off


@pytest.mark.parametrize(("dwell_us", "hum_hz"), [(127.0, 50.1), (100.0, 59.9), (253.0, 50.05)])
def test_a_hum_of_about_whole_periods_a_line_is_taken_out(dwell_us: float, hum_hz: float) -> None:
    """From line to line it hardly changes, and along each it goes through one period or two."""
    settings = replace(SMALL, dwell_time_us=dwell_us)
    model, truth = learnt(replace(HUM, hum_hz=hum_hz), settings)
    line = line_of(model)
    assert abs(line.hz - hum_hz) < 3 * line.hz_std
    assert line.amplitude_px * PM == pytest.approx(10.0, abs=1.0)
    assert off_pm(model, truth) < 1.5


def test_whole_periods_from_line_to_line_make_no_difference_between_them() -> None:
    whole, part = (ScanTime((144, 160), 172.0, cycles) for cycles in (1.03, 0.03))
    y = np.linspace(0.0, 100.0, 57)
    starts = np.stack([y, 0.0 * y], axis=1)
    first = np.s_[:2]
    np.testing.assert_allclose(
        whole.mains_functions(starts)[first], part.mains_functions(starts)[first], atol=1e-12
    )
    rng = np.random.default_rng(0)
    places = np.stack([rng.integers(0, 144, 50), rng.uniform(0, 159, 50)], axis=1).astype(float)
    angle = 2 * np.pi * 1.03 * whole.lines(places)
    expected = np.stack([np.cos(angle), np.sin(angle)])
    np.testing.assert_allclose(whole.mains_functions(places)[first], expected, atol=1e-9)


def test_the_frequency_is_off_by_what_its_error_says() -> None:
    offs = []
    for seed in range(8):
        line = line_of(learnt(HUM, seed=seed)[0])
        offs.append((line.hz - HUM.hum_hz) / line.hz_std)
    assert 0.5 < float(np.sqrt(np.mean(np.square(offs)))) < 1.6


def test_amplitudes_that_reach_their_bound_are_learnt_again_and_then_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the mains is known, columns contradict a prediction without it."""
    model, truth = learnt(HUM, seed=3)
    assert off_pm(model, truth) < 1.5
    growths = []

    def noted(*arguments: Any) -> Any:
        growths.append(arguments[-1])
        return once(*arguments)

    once = fitting._learnt
    monkeypatch.setattr(fitting, "_learnt", noted)
    monkeypatch.setattr(learning, "LARGEST_LOGS", -2.0)  # below the smooth term of these frames
    with pytest.raises(UnusableFrameError, match="contradict each other"):
        learnt(HUM, seed=3)
    assert growths[:2] == list(fitting.GROWTHS)


def test_what_is_learnt_again_with_less_growth_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True])
    monkeypatch.setattr(fitting, "is_at_bound", lambda *_: next(answers, False))
    model, truth = learnt(HUM, seed=3)
    assert next(answers, None) is None
    assert off_pm(model, truth) < 1.5


@pytest.mark.parametrize(
    "errors",
    [
        ScanErrors(smooth_nm=0.03),
        ScanErrors(smooth_nm=0.03, walk_nm=0.01, line_jitter_nm=0.005, fast_axis_step_nm=0.01),
        replace(flyback(), walk_nm=0.005),
    ],
    ids=["calm", "restless", "fly-back"],
)
def test_no_hum_is_seen_where_there_is_none(errors: ScanErrors) -> None:
    for seed in range(10):
        assert learnt(errors, seed=seed)[0].basis.mains_hz is None, seed


def test_without_hum_the_term_changes_nothing() -> None:
    errors = ScanErrors(smooth_nm=0.03, walk_nm=0.005)
    found, plain = (learnt(errors, terms=terms)[0] for terms in (TERMS, TERMS - {"mains"}))
    np.testing.assert_array_equal(found.stationary.mean, plain.stationary.mean)
    np.testing.assert_array_equal(found.distortion_px, plain.distortion_px)


def test_a_hum_of_the_frame_is_no_part_of_d() -> None:
    """Its phase differs from frame to frame."""
    model, truth = learnt(HUM, frames=4)
    assert model.basis.slices["mains"].start == model.basis.slices["walk"].stop
    assert off_pm(model, truth) < 1.0
    assert off_pm(model, truth, stationary=True) < 1.0


def test_with_frames_that_wait_for_the_mains_the_hum_is_stationary() -> None:
    settings = replace(SLOW, frame_sync=True)
    model, truth = learnt(HUM, settings, frames=4)
    without, _ = learnt(HUM, settings, frames=4, terms=TERMS - {"mains", "frame_locked"})
    assert model.basis.slices["mains"].stop <= model.basis.stationary_size
    assert off_pm(model, truth, stationary=True) < 1.0
    assert off_pm(without, truth, stationary=True) > 4.0
    assert {"mains", "frame_locked"} <= set(
        rms_of_terms(model.basis, model.stationary.mean, "affine")
    )


def test_what_is_locked_to_the_frame_is_learnt_from_frames_without_knowing_its_shape() -> None:
    """Rough in scan time, the same in every frame: the walk cannot keep it, D's other terms
    cannot follow it."""
    settings = replace(SLOW, frame_sync=True)
    off = [
        off_pm(*learnt(HUM, settings, frames=4, terms=terms), stationary=True)
        for terms in (TERMS - {"mains"}, TERMS - {"mains", "frame_locked"})
    ]
    assert off[0] < 0.7 * off[1]


def test_with_lines_that_wait_for_the_mains_the_hum_belongs_to_the_fast_axis() -> None:
    settings = replace(SLOW, line_sync=True)
    model, truth = learnt(HUM, settings, frames=4)
    assert model.basis.mains_hz is None
    assert off_pm(model, truth, stationary=True) < 1.2


@pytest.mark.parametrize(
    "change",
    [{"line_sync": True}, {"dwell_time_us": None}, {"dwell_time_us": 1.0}],
    ids=["line sync", "unknown timing", "fewer than four periods"],
)
def test_the_term_is_off_where_it_cannot_be_told(change: dict[str, float]) -> None:
    basis = Basis.of_scan(replace(SLOW, **change), 26.0, TERMS)  # type: ignore[arg-type]
    assert basis.line_time_s is None


def test_only_frames_that_wait_have_something_locked_to_them() -> None:
    for sync, wanted in ((True, True), (False, False), (None, False)):
        basis = Basis.of_scan(replace(SLOW, frame_sync=sync), 26.0, TERMS)
        assert (basis.locked_modes > 0) is wanted


def test_a_calibration_keeps_the_hum_out_of_d() -> None:
    machine = microscope(HUM)
    some = [sampled(machine, SLOW, index=index) for index in range(5)]
    frames = [CalibrationFrame(samples, lattice) for samples, lattice, _ in some]
    model = calibrated(first_model(*frames[0], TERMS), frames)
    assert model.basis.mains_hz == pytest.approx(HUM.hum_hz, abs=0.2)
    assert off_pm(model, some[-1][2]) < 1.0
    assert off_pm(model, some[-1][2], stationary=True) < 1.0
