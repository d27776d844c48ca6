"""One table of simulated conditions, each judged by the truth; frames of 512 x 512, 16 nm wide."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import pytest

import nion_distortion as nd
from nion_distortion.gaussian_process import DistortionModel, refit_amplitudes
from nion_distortion.gaussian_process.flyback import line_profiles
from nion_distortion.pipeline import FrameReport, process_frame
from simulator.detector import Detector
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors, real_like, strong_flyback
from simulator.scoring import Score, score_map
from simulator.specimen import make_specimen

SCAN = nd.ScanSettings(
    shape_px=(512, 512), field_of_view_nm=16.0, dwell_time_us=1.0, flyback_time_us=120.0
)
STEP_PX = 3
"""Every third line and pixel is judged."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A microscope, and what must be left of its distortion after one frame."""

    errors: ScanErrors
    seed: int = 0
    counts: float = 50.0
    share: float = 0.999
    worst_pm: float = 15.0

    def shot(self, index: int = 0) -> Shot:
        specimen = make_specimen("sto_001", rotation_rad=0.07 * self.seed, seed=self.seed)
        detector = Detector(counts_at_peak=self.counts)
        machine = Microscope(specimen, self.errors, detector=detector, seed=self.seed)
        return machine.shot(SCAN, index)


def flyback(sign: int, seed: int) -> ScanErrors:
    return strong_flyback(SCAN, sign=sign, seed=seed)


SECONDS = SCAN.frame_time_s or 0.0
DRIFTING = replace(flyback(1, 2), drift_nm_s=(0.02 / SECONDS, -0.03 / SECONDS))

CONDITIONS = {
    "pulled apart": Condition(errors=flyback(1, 0)),
    "pulled apart, turned": Condition(errors=flyback(1, 3), seed=3),
    "pushed together": Condition(errors=flyback(-1, 0)),
    "pushed together, turned": Condition(errors=flyback(-1, 3), seed=3),
    "drifting": Condition(errors=DRIFTING, seed=2),
    "10 counts": Condition(errors=flyback(1, 1), seed=1, counts=10.0, share=0.998, worst_pm=30.0),
    "real-like 0": Condition(errors=real_like(SCAN, seed=0), share=0.95, worst_pm=40.0),
    "real-like 1": Condition(errors=real_like(SCAN, seed=1), seed=1, share=0.95, worst_pm=40.0),
    "real-like 2": Condition(errors=real_like(SCAN, seed=2), seed=2, share=0.95, worst_pm=40.0),
}
"""D of one real-like frame alone cannot be told from what the beam did in that frame."""

REAL_LIKE = [name for name in CONDITIONS if name.startswith("real-like")]
CALM = [name for name in CONDITIONS if name not in REAL_LIKE]
NULL = {f"nothing wrong {k}": Condition(errors=ScanErrors(), seed=k) for k in range(3)}


@cache
def processed(name: str) -> tuple[FrameReport, Shot]:
    shot = (CONDITIONS | NULL)[name].shot()
    return process_frame(shot.frame), shot


def stationary_score(model: DistortionModel, shot: Shot) -> Score:
    field = model.stationary_field()
    return score_map(
        field.displacement_px,
        field.valid,
        shot.truth.stationary_place_px,
        pixel_size_nm=shot.frame.settings.pixel_size_nm,
        std_px=field.std_px,
        step_px=STEP_PX,
    )


def frame_score(report: FrameReport, shot: Shot, *, std: Literal["own", "all"] = "all") -> Score:
    field = report.field
    assert field is not None
    every = field.std_px if std == "own" else np.hypot(field.std_px, field.unremoved_std_px)
    return score_map(
        field.displacement_px,
        field.valid,
        shot.truth.place_px,
        pixel_size_nm=SCAN.pixel_size_nm,
        std_px=every,
        step_px=STEP_PX,
    )


def length(axes: tuple[float, float]) -> float:
    return float(np.hypot(*axes))


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_the_stationary_field_of_one_frame_removes_the_distortion(name: str) -> None:
    report, shot = processed(name)
    assert report.model is not None
    score = stationary_score(report.model, shot)
    assert score.share >= CONDITIONS[name].share
    assert score.worst_pm <= CONDITIONS[name].worst_pm


@pytest.mark.parametrize("index", [0, 1, 4])
def test_columns_that_are_lost_where_the_beam_turns_back_spoil_nothing(index: int) -> None:
    """In frame 0 the first columns' predictions leave the scan; 1 and 4 have one never reached."""
    scan = replace(SCAN, shape_px=(160, 160), field_of_view_nm=5.0, flyback_time_us=30.0)
    errors = replace(strong_flyback(scan), drift_nm_s=(0.01, 0.02), line_jitter_nm=0.002)
    specimen = make_specimen("sto_001", rotation_rad=0.07)
    shot = Microscope(specimen, errors).shot(scan, index)
    report = process_frame(shot.frame)
    assert report.model is not None
    score = stationary_score(report.model, shot)
    assert score.share >= 0.99
    assert score.worst_pm <= 45.0  # at the line start, where the beam turns
    assert score.z is not None
    assert score.z <= 1.2
    assert report.corrected_pm is not None
    assert report.corrected_pm.value <= 4.0


@pytest.mark.parametrize("name", CALM)
def test_amplitude_and_time_constant_of_the_flyback_are_found(name: str) -> None:
    """The trial decays are 13 % apart; the slope beside each fills in."""
    report, _ = processed(name)
    assert report.model is not None
    basis, weights = report.model.basis, report.model.stationary.mean[1]
    line, slope = (weights[basis.slices[part]] for part in ("line", "line_slope"))
    middle = line_profiles(0.5)[:, 0]
    amplitude, change = line @ middle, slope @ middle[: len(slope)]
    assert basis.decay * (1 + change / amplitude) == pytest.approx(0.03, rel=0.1)
    true_nm = -0.15 if "pushed" in name else 0.2
    assert -amplitude * SCAN.pixel_size_nm == pytest.approx(true_nm, rel=0.05)


@pytest.mark.parametrize("name", list(NULL))
def test_where_nothing_is_wrong_next_to_nothing_is_corrected(name: str) -> None:
    score = frame_score(*processed(name), std="own")
    assert max(score.rms_pm) <= 1.5
    assert score.claimed_pm is not None
    assert max(score.claimed_pm) <= 2.5
    assert score.z is not None
    assert score.z <= 1.2


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_off_by_is_the_true_size_of_the_distortion(name: str) -> None:
    report, shot = processed(name)
    assert report.off_by_pm is not None
    true_pm = length(frame_score(report, shot).before_pm)
    assert report.off_by_pm.value == pytest.approx(true_pm, rel=0.2)


@pytest.mark.parametrize("name", CALM)
def test_a_calm_frame_claims_what_its_error_is(name: str) -> None:
    """That a beam neither walks nor jitters is a possibility: nothing is added for it.

    Where rows of columns lie along the lines, what lines do one by one looks like something slow:
    then the evidence ends at a larger jitter, and the claim is the larger of the two.
    """
    report, shot = processed(name)
    assert report.model is not None
    assert report.corrected_pm is not None
    score = frame_score(report, shot)
    ratio = report.corrected_pm.value / length(score.rms_pm)
    assert 0.8 < ratio < (1.3 if CONDITIONS[name].seed else 1.9)
    stationary = stationary_score(report.model, shot)
    assert stationary.coverage is not None
    assert stationary.coverage > 0.93


def test_errors_of_restless_frames_are_of_the_size_that_is_claimed() -> None:
    claims, errors, stationary = [], [], []
    for name in REAL_LIKE:
        report, shot = processed(name)
        assert report.corrected_pm is not None
        assert report.model is not None
        claims.append(report.corrected_pm.value)
        errors.append(length(frame_score(report, shot).rms_pm))
        stationary.append(stationary_score(report.model, shot).z or np.inf)
    pooled = np.sqrt(np.mean(np.square(claims)) / np.mean(np.square(errors)))
    assert pooled == pytest.approx(1.0, abs=0.25)
    assert np.sqrt(np.mean(np.square(stationary))) < 1.2


def test_more_frames_tell_the_stationary_part_from_the_rest() -> None:
    condition = CONDITIONS["real-like 1"]
    report, shot = processed("real-like 1")
    assert report.model is not None
    first, model = stationary_score(report.model, shot), report.model
    for index in range(1, 6):
        shot = condition.shot(index)
        later = process_frame(shot.frame, model=model)
        assert later.model is not None
        model = refit_amplitudes(later.model) if index == 4 else later.model
    score = stationary_score(model, shot)
    assert 1 - score.share < 0.5 * (1 - first.share)
    assert score.share > 0.99


@pytest.mark.parametrize("shape_px", [(768, 96), (128, 512)], ids=["narrow", "flat"])
def test_claims_hold_whatever_the_shape_of_the_frame(shape_px: tuple[int, int]) -> None:
    scan = replace(SCAN, shape_px=shape_px, field_of_view_nm=max(shape_px) / 32.0)
    squares = np.zeros((2, 2))  # claimed and true, of the picture and of the stationary field
    for seed in range(4):
        specimen = make_specimen("sto_001", rotation_rad=0.1 * (seed + 1), seed=seed)
        shot = Microscope(specimen, real_like(scan, seed=seed), seed=seed).shot(scan)
        report = process_frame(shot.frame)
        assert report.field is not None
        assert report.model is not None
        fields = (report.field, report.model.stationary_field())
        places = (shot.truth.place_px, shot.truth.stationary_place_px)
        for row, (field, place) in enumerate(zip(fields, places, strict=True)):
            left_px = field.unremoved_std_px if row == 0 else 0.0
            score = score_map(
                field.displacement_px,
                field.valid,
                place,
                pixel_size_nm=scan.pixel_size_nm,
                std_px=np.hypot(field.std_px, left_px),
                step_px=STEP_PX,
            )
            assert score.claimed_pm is not None
            squares[row] += np.square(score.claimed_pm).sum(), np.square(score.rms_pm).sum()
    ratio = np.sqrt(squares[:, 0] / squares[:, 1])
    assert (ratio > 0.85).all()
    assert (ratio < 1.25).all()
