"""Widths of columns: what they say about steps along x that positions do not show."""

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from atoms_images import gaussians, simulated, square_lattice
from scipy.spatial import cKDTree

import nion_distortion as nd
from nion_distortion.atoms import find_columns
from nion_distortion.gaussian_process import first_model
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.broadening import Widths, information_of_widths
from nion_distortion.gaussian_process.calibration import CalibrationFrame, calibrated
from nion_distortion.options import TERMS
from nion_distortion.pipeline import measure_frame
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.scan import ScanErrors
from simulator.scoring import Score, score_map
from simulator.specimen import make_specimen

Array = npt.NDArray[np.float64]

SCAN = nd.ScanSettings(
    shape_px=(70, 90), field_of_view_nm=2.8, dwell_time_us=1.0, flyback_time_us=60.0
)
BASIS = Basis.of_scan(SCAN, 26.0, TERMS, sigma_px=1.5).refined()
FAST = BASIS.slices["fast"]
NUMBERS = np.arange(1, FAST.stop - FAST.start + 1)
WAVES = np.pi / (1.3 * 90) * NUMBERS


def placed(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(0, [69, 89], (n, 2))


def broadened(places: Array) -> Array:
    """Functions of x alone as widths show them, (functions, n), from the formula."""
    u = (places[:, 1] + 0.5 + 0.15 * 90) / (1.3 * 90)
    slopes = -np.sqrt(2) * np.sin(np.pi * np.outer(NUMBERS, u))
    return np.asarray(BASIS.broadened_along_x(NUMBERS.astype(float))[:, None] * slopes)


def test_a_wave_broadens_a_column_as_a_round_fit_sees_it() -> None:
    side = np.linspace(-12.0, 12.0, 481)
    y, x = np.meshgrid(side, side, indexing="ij")
    u = BASIS.height_px
    near = np.exp(-0.5 * (y**2 + x**2) / u**2)
    wider = y**2 + x**2 - 2 * u**2  # without what the amplitude takes up
    for number in (1, 20, 60, 100):
        k = WAVES[number - 1]
        # the image is I(x - f): it changes by f x / s^2 I, and with log sigma by r^2 / s^2 I
        fitted = (near * wider * x * np.sin(k * x)).sum() / (near * wider**2).sum()
        shown = BASIS.broadened_along_x(np.array([float(number)]))[0]
        assert shown == pytest.approx(fitted, abs=1e-6 * k + 1e-9)


def test_widths_see_the_waves_that_positions_do_not() -> None:
    shown = BASIS.shown_along_x(NUMBERS.astype(float))[1]
    broadening = BASIS.broadened_along_x(NUMBERS.astype(float))
    blind = int(np.argmax(shown < 0.0))
    assert shown[blind] > -0.02
    assert broadening[blind] > 0.5 * broadening.max()


@pytest.mark.parametrize("frames", [1, 3])
def test_information_is_that_of_the_written_out_functions(frames: int) -> None:
    rng = np.random.default_rng(3)
    size = BASIS.stationary_size
    expected_matrix, expected_vector = np.zeros((len(NUMBERS),) * 2), np.zeros(len(NUMBERS))
    given = []
    for number in range(frames):
        places = placed(200, number)
        variance, robust = rng.uniform(0.01, 0.02, 200), rng.uniform(0.5, 1.0, 200)
        targets = 0.05 * rng.normal(size=200)
        weights = robust / variance
        targets -= weights @ targets / weights.sum()
        given.append(Widths(places, np.stack([targets + 0.3, variance], axis=1), robust))
        design = broadened(places)
        expected_matrix += (design * weights) @ design.T
        expected_vector += design @ (weights * targets)

    found = information_of_widths(BASIS, np.zeros((2, size)), given)

    np.testing.assert_allclose(found.blocks[1, FAST, FAST], expected_matrix, atol=1e-8)
    np.testing.assert_allclose(found.vector[1, FAST], expected_vector, atol=1e-8)
    rest = found.blocks.copy()
    rest[1, FAST, FAST] = 0.0
    assert not rest.any()
    assert not found.vector[0].any()


def test_what_other_functions_broaden_is_taken_out() -> None:
    rng = np.random.default_rng(4)
    mean = np.zeros((2, BASIS.stationary_size))
    mean[:, BASIS.slices["smooth"]] = rng.normal(size=(2, BASIS.slices["smooth"].stop))
    places = np.rint(placed(300, 5)).clip(1, [68, 88])
    moved = BASIS.on_pixels(mean)
    y, x = places.astype(int).T
    slope = 0.25 * (
        moved[0, y + 1, x] - moved[0, y - 1, x] + moved[1, y, x + 1] - moved[1, y, x - 1]
    )
    widths = Widths(places, np.stack([slope, np.full(300, 0.01)], axis=1), np.ones(300))
    alone = information_of_widths(BASIS, 0.0 * mean, [widths])

    found = information_of_widths(BASIS, mean, [widths])

    assert np.abs(found.vector).max() < 1e-3 * np.abs(alone.vector).max()


def test_a_width_far_from_all_others_counts_for_nothing() -> None:
    rng = np.random.default_rng(6)
    broadening = np.stack([0.05 * rng.normal(size=100), np.full(100, 0.0025)], axis=1)
    places, mean = placed(100, 6), np.zeros((2, BASIS.stationary_size))
    broadening[0, 0] = 3.0
    rest = Widths(places[1:], broadening[1:], np.ones(99))

    with_it = information_of_widths(BASIS, mean, [Widths(places, broadening, np.ones(100))])

    without = information_of_widths(BASIS, mean, [rest])
    np.testing.assert_allclose(with_it.blocks, without.blocks, rtol=0.1, atol=1.0)
    lost = information_of_widths(BASIS, mean, [Widths(places, broadening, np.zeros(100))])
    assert not lost.blocks.any()


# from images


def test_broadening_is_how_much_wider_columns_are_and_its_variance_holds() -> None:
    rng = np.random.default_rng(7)
    positions = square_lattice(256, 14.0)
    wider = rng.random(len(positions)) < 0.5
    heights = np.full(len(positions), 100.0)
    expected = np.full((256, 256), 15.0)
    for some, sigma in ((wider, 1.65), (~wider, 1.5)):
        expected += gaussians((256, 256), positions[some], heights[some], sigma)
    columns = find_columns(rng.poisson(expected).astype(np.float32))
    _, nearest = cKDTree(positions).query(columns.positions_px)
    value, variance = columns.broadening.T

    one, two = value[wider[nearest]], value[~wider[nearest]]

    error = np.sqrt(np.var(one) / len(one) + np.var(two) / len(two))
    assert one.mean() - two.mean() == pytest.approx(np.log(1.1), abs=4 * error)
    within = np.r_[one - one.mean(), two - two.mean()]
    assert 0.8 < np.mean(within**2) / variance.mean() < 1.25


def test_a_different_gain_leaves_broadening_alone() -> None:
    image = simulated(size=160, counts=80.0).frame.image
    one, two = (find_columns(np.float32(scale) * image) for scale in (1.0, 30.0))
    np.testing.assert_allclose(one.broadening, two.broadening, rtol=1e-3, atol=1e-4)


STEPS = ScanErrors(fast_axis_step_nm=0.01, smooth_nm=0.02, line_jitter_nm=0.001)
MACHINE = Microscope(
    make_specimen("sto_001", rotation_rad=0.1), STEPS, Detector(counts_at_peak=100.0)
)
SETTINGS = replace(SCAN, shape_px=(256, 256), field_of_view_nm=8.0)


@cache
def frames() -> tuple[nd.DistortionModel, list[CalibrationFrame]]:
    model, gathered = None, []
    for index in range(6):
        measured = measure_frame(MACHINE.shot(SETTINGS, index).frame, model=model)
        model = measured.model
        gathered.append(CalibrationFrame(measured.samples, measured.indexed.lattice))
    assert model is not None
    return model, gathered


def judged(model: nd.DistortionModel) -> Score:
    field, truth = model.stationary_field(), MACHINE.exposure(SETTINGS, 0).truth
    return score_map(
        field.displacement_px,
        field.valid,
        truth.stationary_place_px,
        pixel_size_nm=SETTINGS.pixel_size_nm,
        std_px=field.std_px,
    )


def test_a_calibration_that_knows_widths_is_better_along_x_and_claims_no_less_than_it_errs() -> (
    None
):
    model, gathered = frames()
    blind = [one._replace(samples=replace(one.samples, broadening=None)) for one in gathered]

    without, with_widths = judged(calibrated(model, blind)), judged(calibrated(model, gathered))

    assert with_widths.rms_pm[1] < 0.85 * without.rms_pm[1]
    assert with_widths.worst_pm < without.worst_pm
    assert with_widths.z is not None
    assert 0.7 < with_widths.z < 1.3


def test_widths_are_not_asked_about_functions_that_there_are_not() -> None:
    _, gathered = frames()
    some = gathered[:3]
    blind = [one._replace(samples=replace(one.samples, broadening=None)) for one in some]
    model = first_model(some[0].samples, some[0].lattice, TERMS - {"fast_axis"})
    told: dict[str, list[int]] = {"known": [], "unknown": []}

    with_widths = calibrated(model, some, told=told["known"].append)
    without = calibrated(model, blind, told=told["unknown"].append)

    assert told["known"] == told["unknown"]
    np.testing.assert_array_equal(with_widths.stationary.mean, without.stationary.mean)


def test_positions_hardly_follow_waves_that_are_narrower_than_a_column() -> None:
    narrow = Basis.of_scan(replace(SCAN, shape_px=(768, 96)), 26.0, TERMS, sigma_px=1.5)
    finest = narrow.shown_along_x(np.array([narrow.fast_modes - 1.0]))
    assert (np.abs(finest) < 0.5).all()
