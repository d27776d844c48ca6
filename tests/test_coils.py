"""Scale and skew against a reference cell: formulas, and samples of simulated frames."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_cases import SMALL, Array, flyback, microscope, sampled

from nion_distortion.correction import correct_frame
from nion_distortion.diagnostics import scale_numbers
from nion_distortion.frame import UnusableFrameError
from nion_distortion.gaussian_process import CoilErrors, DistortionModel, first_model
from nion_distortion.gaussian_process.coils import (
    Cell,
    ShapeErrors,
    cell_of,
    freedom_of,
    measure_shape,
    scan_matrix,
    without_drift,
)
from nion_distortion.options import TERMS, AnyReference, Free, KnownCrystal, Similarity
from simulator.microscope import Microscope, Truth
from simulator.scan import ScanErrors
from simulator.scoring import score_map

STO = KnownCrystal.named("SrTiO3 [001]")
COILS = ScanErrors(coil_scale=(-0.03, 0.015), coil_skew_rad=0.02)
SLOW = replace(SMALL, dwell_time_us=4.0)
DRIFTING = replace(COILS, drift_nm_s=(0.8 / 60, -0.6 / 60))
"""One nanometre a minute."""

errors = st.floats(-0.05, 0.05)
angles = st.floats(-np.pi, np.pi)


def turned(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def model_against(
    reference: AnyReference, machine: Microscope, *, frames: int
) -> tuple[DistortionModel, Truth]:
    samples, lattice, truth = sampled(machine, SLOW)
    model = first_model(samples, lattice, TERMS, reference=reference)
    for index in range(1, frames):
        samples, lattice, truth = sampled(machine, SLOW, index=index)
        model = model.updated(samples, lattice)
    return model, truth


@given(slow=errors, fast=errors, skew=errors, angle=angles)
def test_shape_errors_are_those_that_the_cell_was_given(
    slow: float, fast: float, skew: float, angle: float
) -> None:
    cell = cell_of(KnownCrystal(a_nm=0.39, b_nm=0.55, gamma_deg=80.0), 0.03)
    shown = np.linalg.inv(scan_matrix(np.array([slow, fast, skew]))) @ turned(angle) @ cell.basis

    measured = measure_shape(shown, np.zeros((4, 4)), cell)

    assert measured.values == pytest.approx([slow, fast, skew], abs=1e-9)


@given(slow=errors, fast=errors, skew=errors)
def test_without_a_scale_only_its_difference_and_the_skew_are_measured(
    slow: float, fast: float, skew: float
) -> None:
    cell = Cell(basis=np.diag([12.0, 17.0]), covariance=np.zeros((4, 4)), has_scale=False)
    shown = np.linalg.inv(scan_matrix(np.array([slow, fast, skew]))) @ cell.basis

    measured = measure_shape(shown, np.zeros((4, 4)), cell).values

    mean = 1.0 - 0.5 * (slow + fast)
    expected = [0.5 * (slow - fast) / mean, 0.5 * (fast - slow) / mean, skew / mean]
    assert measured == pytest.approx(expected, abs=1e-9)


def test_any_basis_of_the_crystal_is_known_also_a_centred_one() -> None:
    silicon = cell_of(KnownCrystal.named("Si [110]"), 0.02)
    primitive = silicon.basis @ np.array([[0.5, 0.5], [0.5, -0.5]])
    sheared = silicon.basis @ np.array([[1.0, 1.0], [0.0, 1.0]])

    for shown in (primitive, sheared):
        measured = measure_shape(shown, np.zeros((4, 4)), silicon)
        assert measured.values == pytest.approx(np.zeros(3), abs=1e-9)


def test_a_crystal_that_is_not_in_the_list_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of SrTiO3 \[001\], .* not 'unobtainium'"):
        KnownCrystal.named("unobtainium")


def test_another_crystal_is_refused() -> None:
    cell = cell_of(STO, 0.03)

    with pytest.raises(UnusableFrameError, match="differs by more than 10 %"):
        measure_shape(1.2 * cell.basis, np.zeros((4, 4)), cell)


def test_an_uncertain_cell_makes_an_uncertain_scale() -> None:
    uncertain = cell_of(KnownCrystal(a_nm=0.4, b_nm=0.5, a_std_nm=0.004, gamma_std_deg=1.0), 0.03)

    measured = measure_shape(uncertain.basis, np.zeros((4, 4)), uncertain)

    assert np.sqrt(measured.systematic[0, 0]) == pytest.approx(0.01, rel=1e-3)
    assert measured.systematic[1, 1] == pytest.approx(0.0, abs=1e-12)
    assert np.sqrt(measured.systematic[2, 2]) == pytest.approx(np.radians(1.0), rel=1e-2)


def test_the_covariance_is_that_of_repeated_measurements() -> None:
    rng = np.random.default_rng(5)
    cell = cell_of(STO, 0.03)
    root = np.tril(rng.normal(0.0, 1e-3, (4, 4)))
    draws = [
        measure_shape(
            (np.eye(2) + (root @ rng.normal(size=4)).reshape(2, 2)) @ cell.basis,
            np.zeros((4, 4)),
            cell,
        ).values
        for _ in range(2000)
    ]

    claimed = measure_shape(cell.basis, root @ root.T, cell).covariance

    assert np.diag(claimed) == pytest.approx(np.var(draws, axis=0), rel=0.12)


def test_drift_is_taken_out_of_the_slow_scale_and_the_skew() -> None:
    zero = np.zeros((3, 3))
    shape = ShapeErrors(values=np.zeros(3), covariance=zero, systematic=zero, freedom="rigid")

    rest = without_drift(shape, np.array([1.0, -2.0]), np.array([0.04, 0.09]), 100)

    assert rest.values == pytest.approx([-0.01, 0.0, 0.02])
    assert np.sqrt(np.diag(rest.covariance)) == pytest.approx([0.002, 0.0, 0.003])


def test_coils_and_drift_are_told_apart() -> None:
    surprises = []
    for seed in range(4):
        machine = microscope(DRIFTING, turn_rad=0.1 + 0.3 * seed, seed=seed)
        model, _ = model_against(STO, machine, frames=6)
        coils = model.coils
        assert coils is not None
        off = coils.values - [-0.03, 0.015, 0.02]
        assert np.abs(off[:2]).max() < 0.0012  # of 5 nm, with a tenth of a wide frame's columns
        surprises.append(off / np.sqrt(np.diag(coils.covariance)))
    assert np.sqrt(np.mean(np.square(surprises))) < 1.5


def test_a_known_crystal_takes_scale_and_skew_out() -> None:
    machine = microscope(replace(flyback(), coil_scale=(-0.03, 0.015), coil_skew_rad=0.02))
    model, truth = model_against(STO, machine, frames=4)
    field = model.stationary_field()

    score = score_map(
        field.displacement_px,
        field.valid,
        truth.stationary_place_px,
        pixel_size_nm=SLOW.pixel_size_nm,
        std_px=field.std_px,
        freedom="rigid",
    )

    assert field.reference == "known crystal"
    assert score.share > 0.998
    assert score.z is not None
    assert score.z < 1.3


def test_a_corrected_image_carries_the_pixel_size_that_a_known_crystal_measured() -> None:
    model, _ = model_against(STO, microscope(COILS), frames=2)
    image = np.zeros((*SLOW.shape_px, 2))  # a spectrum image, say
    for field, whose in (
        (model.stationary_field(), ""),
        (model.frame_estimate().field, model.samples[-1].frame_id),
    ):
        corrected = correct_frame(image, field, settings=SLOW, frame_id=whose)
        told = corrected.provenance["correction"]["scale"]
        assert told == scale_numbers(model)
        assert told["nominal_pixel_size_nm"] == SLOW.pixel_size_nm
        assert told["corrected_pixel_size_nm"] == corrected.pixel_size_nm
        for axis, error in (("slow", -0.03), ("fast", 0.015)):
            seen, std = (told[f"scanned_pixel_{axis}_{what}"] for what in ("nm", "std_nm"))
            assert abs(seen - SLOW.pixel_size_nm * (1.0 - error)) < 4.0 * std
            assert 0.0 < std < 1e-3 * SLOW.pixel_size_nm
            assert told[f"scale_error_{axis}_percent"] == pytest.approx(100.0 * error, abs=0.12)
        assert told["skew_deg"] == pytest.approx(np.degrees(0.02), abs=0.1)
        assert told["skew_std_deg"] > 0.0


def test_without_a_known_crystal_nothing_is_said_of_the_pixel_size() -> None:
    for reference in (Free(), Similarity()):
        model, _ = model_against(reference, microscope(flyback()), frames=1)
        assert model.stationary_field().scale is None
        assert scale_numbers(model) is None


def test_free_and_known_crystal_agree_on_what_is_not_affine() -> None:
    machine = microscope(replace(flyback(), coil_scale=(-0.03, 0.015), coil_skew_rad=0.02))
    scores = []
    for reference in (Free(), Similarity(), STO):
        model, truth = model_against(reference, machine, frames=1)
        field = model.stationary_field()
        scores.append(
            score_map(
                field.displacement_px,
                field.valid,
                truth.stationary_place_px,
                pixel_size_nm=SLOW.pixel_size_nm,
            )
        )
    assert [score.share for score in scores[1:]] == pytest.approx([scores[0].share] * 2, abs=3e-4)


def test_a_chosen_place_is_not_displaced() -> None:
    samples, lattice, _ = sampled(microscope(flyback()))
    model = first_model(samples, lattice, TERMS, zero_px=(40.0, 90.0))

    for field in (model.stationary_field(), model.frame_estimate().field):
        assert field.displacement_px[:, 40, 90] == pytest.approx([0.0, 0.0], abs=1e-3)


def test_frames_that_differ_by_more_than_they_claim_widen_the_error() -> None:
    def _shape(scale: float) -> ShapeErrors:
        return ShapeErrors(
            values=np.array([scale, 0.0, 0.0]),
            covariance=1e-8 * np.eye(3),
            systematic=np.zeros((3, 3)),
            freedom="rigid",
        )

    calm, restless = (CoilErrors.of(_shape(-size), _shape(size)) for size in (1e-5, 1e-2))

    assert calm.scale_std[0] == pytest.approx(1e-4 / np.sqrt(2))
    assert restless.scale_std[0] > 30 * calm.scale_std[0]


def test_one_by_one_equals_together() -> None:
    shapes = []
    for seed in range(3):
        model, _ = model_against(STO, microscope(DRIFTING, seed=seed), frames=1)
        assert model.frame_shape is not None
        shapes.append(model.frame_shape)
    step = CoilErrors.of(
        shapes[2], before=CoilErrors.of(shapes[1], before=CoilErrors.of(shapes[0]))
    )

    together = CoilErrors.of(*shapes)

    assert step.values == pytest.approx(together.values, abs=1e-12)
    scale = np.sqrt(np.outer(np.diag(together.covariance), np.diag(together.covariance)))
    assert np.abs(step.covariance - together.covariance).max() < 1e-8 * scale.max()


# ageing


def test_what_is_known_of_the_coils_ages_as_a_random_walk() -> None:
    young, _ = model_against(STO, microscope(COILS), frames=2)
    assert young.coils is not None
    affine = np.array([1e-6, 2e-6, 3e-6])

    old = young.coils.aged(0.01, affine)
    steps = young.coils.aged(0.004, affine).aged(0.006, affine)

    added = 0.01 * (np.square(young.coils.values).mean() + affine)
    assert old.values == pytest.approx(young.coils.values, abs=1e-12)
    assert old.scatter == pytest.approx(young.coils.scatter)
    assert old.covariance - young.coils.covariance == pytest.approx(np.diag(added), rel=1e-6)
    assert steps.covariance == pytest.approx(old.covariance, rel=1e-9)


def test_a_scale_that_is_not_measured_stays_unknown_with_age() -> None:
    young, _ = model_against(Similarity(), microscope(COILS), frames=1)
    assert young.coils is not None
    old = young.coils.aged(0.01, np.full(3, 1e-6))
    mean = np.array([1.0, 1.0, 0.0])
    assert old.values == pytest.approx(young.coils.values, abs=1e-12)
    assert mean @ old.information @ mean == pytest.approx(0.0, abs=1e-6)
    assert np.trace(old.information) < 0.7 * np.trace(young.coils.information)


def test_a_scan_that_has_aged_is_as_wrong_as_its_old_calibration_claims() -> None:
    """25 h, in which D and the coils grow by a fifth: 0.04 of them times the root of the hours."""
    hours, squares, surprises = 25.0, [], []
    ageing = replace(
        flyback(), coil_scale=(-0.03, 0.015), coil_skew_rad=0.02, ageing_per_hour=0.2 / hours
    )
    for seed in range(4):
        machine = microscope(replace(ageing, seed=seed), seed=seed)
        model, _ = model_against(STO, machine, frames=4)
        model = replace(model, ageing=replace(model.ageing, change_per_hour=0.2 / np.sqrt(hours)))
        begun_s = model.ageing.time_s or 0.0
        old, later = model.aged(begun_s + 3600 * hours), truth_at(machine, begun_s + 3600 * hours)
        assert old.coils is not None
        grown = 1 + 0.2 / hours * later.path.start_s / 3600
        off = old.coils.values - grown * np.array([-0.03, 0.015, 0.02])
        surprises.append(off / np.sqrt(np.diag(old.coils.covariance)))
        field = old.stationary_field()
        score = score_map(
            field.displacement_px,
            field.valid,
            later.stationary_place_px,
            pixel_size_nm=SLOW.pixel_size_nm,
            std_px=field.std_px,
            freedom="rigid",
        )
        assert score.z is not None
        squares.append(score.z**2)
    assert 0.8 < np.sqrt(np.mean(squares)) < 1.2
    assert 0.8 < np.sqrt(np.mean(np.square(surprises))) < 1.2


def truth_at(machine: Microscope, time_s: float) -> Truth:
    return machine.exposure(SLOW, 99, time_s).truth


def test_what_each_reference_leaves_unknown() -> None:
    assert [freedom_of(one) for one in (Free(), Similarity(), STO)] == [
        "affine",
        "similarity",
        "rigid",
    ]


def test_coil_errors_survive_pickling() -> None:
    model, _ = model_against(STO, microscope(COILS), frames=1)
    copy = pickle.loads(pickle.dumps(model))

    assert model.coils is not None
    assert copy.coils.values == pytest.approx(model.coils.values)
    assert not copy.coils.values.flags.writeable


def test_a_cell_from_the_middle_is_known_as_well_as_the_distortion_there() -> None:
    """D's own gradient there is taken for the crystal's shape: the rest of the frame is wrong."""
    left, claimed = [], []
    for seed in range(6):
        machine = microscope(replace(flyback(), seed=seed), seed=seed)
        model, truth = model_against(Similarity(), machine, frames=1)
        field = model.stationary_field()
        score = score_map(
            field.displacement_px,
            field.valid,
            truth.stationary_place_px,
            pixel_size_nm=SLOW.pixel_size_nm,
            std_px=field.std_px,
            step_px=4,
            freedom="similarity",
        )
        assert score.claimed_pm is not None
        left.append(score.rms_pm)
        claimed.append(score.claimed_pm)
    ratio = np.sqrt(np.mean(np.square(left)) / np.mean(np.square(claimed)))
    assert 0.5 < ratio < 1.5  # six gradients of random size
    assert np.min(left) > 5.0  # many times what the columns' own errors make of it
