"""Columns are where the truth says, as precisely as the counts allow, and the errors are honest."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from atoms_images import (
    Array,
    Match,
    bound_px,
    gaussian_sto,
    gaussians,
    inside,
    matched,
    pooled,
    precision,
    sigma_px,
    simulated,
    square_lattice,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from nion_distortion.atoms import AtomColumns, estimate_noise, find_columns, local_maxima
from nion_distortion.atoms.accept import beside, saturated
from nion_distortion.atoms.correlation import WHITE
from nion_distortion.atoms.drawing import (
    AMPLITUDE,
    LOG_SIGMA,
    Tail,
    Widths,
    redraw,
    render,
    usual_log_sigma,
)
from nion_distortion.atoms.empty import without_empty
from nion_distortion.atoms.find import _fitted
from nion_distortion.atoms.fit import Fits, Window, disc, hottest, improve, starting
from nion_distortion.atoms.learning import learnt_window
from nion_distortion.atoms.maxima import blurred, normalised, peaks
from nion_distortion.atoms.noise import Noise
from nion_distortion.atoms.overlap import close_pairs, shared_covariance
from nion_distortion.atoms.tails import _curved, learnt_tail, unseen_share
from nion_distortion.atoms.view import View, guessed, oriented
from nion_distortion.frame import UnusableFrameError
from nion_distortion.pipeline import process_frame
from simulator.scan import ScanErrors, strong_flyback

DATA = Path(__file__).resolve().parents[2] / "shared/data"
FIELDS = ("positions_px", "covariance_px2", "amplitude", "sigma_px", "background", "chi2")


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.float32]:
    return np.array(simulated(size=256).frame.image)


# Accuracy


@pytest.mark.parametrize("counts", [10.0, 50.0, 500.0])
@pytest.mark.parametrize(("gain", "zero"), [(1.0, 0.0), (27.0, 14700.0)])
def test_positions_reach_the_cramer_rao_bound_and_say_so(
    counts: float, gain: float, zero: float
) -> None:
    matches: dict[int, list[Match]] = {0: [], 1: []}
    for seed in range(3 if counts < 50 else 2):
        counted, positions, kind = gaussian_sto(counts, np.random.default_rng(seed))
        columns = find_columns(counted * gain + zero)
        for k in (0, 1):
            matches[k].append(matched(columns, positions, kind == k, size=512, sigma=1.57))
    for k, height in enumerate([counts, 0.35 * counts]):
        found = pooled(matches[k])
        assert found.rms_px <= 1.1 * bound_px(height, 1.57, 0.15 * counts)
        assert 0.9 <= found.z <= 1.1
        assert found.recall >= 0.98


def test_both_kinds_of_columns_are_found_at_five_counts() -> None:
    counted, positions, kind = gaussian_sto(5.0, np.random.default_rng(0))
    columns = find_columns(counted)
    strong, weak = (
        matched(columns, positions, kind == k, size=512, sigma=1.57).recall for k in (0, 1)
    )
    assert strong >= 0.99
    assert weak >= 0.9  # 1.75 counts high on a background of 0.75
    assert precision(columns, positions, size=512, sigma=1.57) >= 0.94


@pytest.mark.parametrize(
    ("pixel_nm", "size"), [(0.008, 512), (0.015, 512), (0.06, 256), (0.031, 128), (0.02, 64)]
)
def test_scale_is_found_from_the_image(pixel_nm: float, size: int) -> None:
    shot = simulated(pixel_nm=pixel_nm, size=size)
    columns, truth, sigma = find_columns(shot.frame.image), shot.truth.columns, sigma_px(shot)
    found = matched(columns, truth.seen_px, truth.sublattice >= 0, size=size, sigma=sigma)
    assert found.recall >= 0.97
    usual = np.mean(shot.truth.specimen.width_nm) / pixel_nm  # as many columns of either kind
    assert columns.sigma_px.mean() == pytest.approx(usual, rel=0.05)


@pytest.mark.parametrize(
    "name",
    ["sto_110", "si_110", "gaas_110", "graphene", "mos2", "batio3_polar", "pto_sto", "zigzag"],
)
def test_columns_of_every_specimen_are_found_with_honest_errors(name: str) -> None:
    shot = simulated(name, pixel_nm=0.02, size=384)
    columns, truth, sigma = find_columns(shot.frame.image), shot.truth.columns, sigma_px(shot)
    found = matched(columns, truth.seen_px, truth.sublattice >= 0, size=384, sigma=sigma)
    assert columns.polarity == "bright"
    assert found.recall >= 0.99
    assert precision(columns, truth.seen_px, size=384, sigma=sigma) >= 0.99
    assert 0.9 <= found.z <= 1.15  # shapes are not Gaussian, and dumbbells only 2.8 sigma apart


@pytest.mark.parametrize("lag_nm", [0.2, -0.15])
def test_columns_at_a_strong_flyback_are_found(lag_nm: float) -> None:
    tau_us, flyback_us = 0.03 * 512, 100.0
    lag = lag_nm * float(np.exp(flyback_us / tau_us))
    errors = ScanErrors(line_flyback_nm=(0.0, lag), line_flyback_tau_us=tau_us)
    shot = simulated(errors=errors)
    columns, truth, sigma = find_columns(shot.frame.image), shot.truth.columns, sigma_px(shot)
    near = truth.seen_px[:, 1] < 50
    assert matched(columns, truth.seen_px, near, size=512, sigma=sigma).recall >= 0.97


def test_noise_free_columns_have_no_bias() -> None:
    positions = square_lattice(160, 12.7)
    image = gaussians((160, 160), positions, np.full(len(positions), 40.0), 1.6, 10.0)
    columns = find_columns(image)
    found = matched(columns, positions, np.ones(len(positions), bool), size=160, sigma=1.6)
    assert found.recall == 1.0
    assert np.abs(found.error_px).max() < 2e-3


def test_dumbbells_at_three_and_a_half_sigma_are_not_biased() -> None:
    sigma = 2.0
    first = square_lattice(200, 22.0)
    positions = np.concatenate([first, first + 3.5 * sigma * np.array([0.6, 0.8])])
    image = gaussians((200, 200), positions, np.full(len(positions), 50.0), sigma, 15.0)
    whole = inside(first, 200, 6.0) & inside(positions[len(first) :], 200, 6.0)
    found = matched(find_columns(image), positions, np.tile(whole, 2), size=200, sigma=sigma)
    assert found.recall == 1.0
    assert np.abs(found.error_px).max() < 5e-3


# Detector units, contrast, orientation


@pytest.mark.parametrize(("scale", "zero"), [(30.0, 15000.0), (0.01, -0.2)])
def test_gain_and_offset_of_the_detector_change_nothing(
    image: npt.NDArray[np.float32], scale: float, zero: float
) -> None:
    plain, scaled = find_columns(image), find_columns(image * scale + zero)
    assert len(plain) == len(scaled)
    sd = np.sqrt(plain.covariance_px2[:, [0, 1], [0, 1]])
    assert np.max(np.abs(scaled.positions_px - plain.positions_px) / sd) < 0.02
    np.testing.assert_allclose(
        scaled.covariance_px2[:, [0, 1], [0, 1]], plain.covariance_px2[:, [0, 1], [0, 1]], rtol=0.01
    )
    np.testing.assert_allclose(scaled.counts, plain.counts, rtol=0.01)
    assert scaled.gain == pytest.approx(scale * plain.gain, rel=0.01)
    np.testing.assert_allclose(scaled.background, plain.background * scale + zero, rtol=1e-3)


def test_contrast_is_found_from_the_image() -> None:
    positions = square_lattice(160, 12.7)
    drawn = gaussians((160, 160), positions, np.full(len(positions), 40.0), 1.6, 10.0)
    bright, dark = find_columns(drawn), find_columns(100.0 - drawn)
    assert (bright.polarity, dark.polarity) == ("bright", "dark")
    np.testing.assert_allclose(dark.positions_px, bright.positions_px, atol=2e-3)
    np.testing.assert_allclose(dark.amplitude, bright.amplitude, rtol=1e-3)
    np.testing.assert_allclose(dark.background, 100.0 - bright.background, rtol=1e-3)


def test_dark_columns_of_a_bright_field_image_are_found() -> None:
    shot = simulated(channel="BF", counts=200.0, size=256)
    columns, truth, sigma = find_columns(shot.frame.image), shot.truth.columns, sigma_px(shot)
    found = matched(columns, truth.seen_px, truth.sublattice >= 0, size=256, sigma=sigma)
    assert columns.polarity == "dark"
    assert found.recall >= 0.99
    assert 0.9 <= found.z <= 1.1


@settings(deadline=None, max_examples=5, derandomize=True)
@given(st.floats(-6, 6), st.floats(-6, 6))
def test_translating_the_sample_translates_the_columns(dy: float, dx: float) -> None:
    positions = square_lattice(128, 12.7)
    heights, moved = np.full(len(positions), 40.0), positions + np.array([dy, dx])
    before = find_columns(gaussians((128, 128), positions, heights, 1.6, 10.0)).positions_px
    after = find_columns(gaussians((128, 128), moved, heights, 1.6, 10.0)).positions_px
    wanted = inside(before, 128, 20.0)
    distance, _ = cKDTree(after).query(before[wanted] + np.array([dy, dx]))
    assert np.max(distance) < 5e-3


# The fit against plain equivalents


def isolated() -> tuple[npt.NDArray[np.float32], Array, Window]:
    """Columns too far apart to disturb each other, under Poisson noise."""
    positions = square_lattice(160, 30.0)
    positions = positions[inside(positions, 160, 8.0)]
    expected = gaussians((160, 160), positions, np.full(len(positions), 60.0), 1.7, 8.0)
    counted = np.random.default_rng(4).poisson(expected).astype(np.float32)
    return counted, positions, Window(5.1, Widths(float(np.log(1.6))), 0.15**-2, 1.0, 0.0, 0.1)


def brute_force(image: Array, start: Array, window: Window) -> tuple[Array, Array]:
    """Weighted least squares by SciPy, weights renewed from the model until they stand still."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    middle = np.rint(start[:2])
    disc_of = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= window.radius_px**2
    y, x, values = y[disc_of], x[disc_of], image[disc_of]

    def model(p: Array) -> Array:
        square = (y - p[0]) ** 2 + (x - p[1]) ** 2
        return np.asarray(p[4] + p[2] * np.exp(-0.5 * square * np.exp(-2 * p[3])))

    now = start
    for _ in range(20):
        weight = 1 / np.sqrt(np.maximum(window.gain * model(now) + window.offset, window.floor))
        prior = np.sqrt(window.precision)

        def residual(p: Array, weight: Array = weight, prior: float = prior) -> Array:
            return np.append((model(p) - values) * weight, (p[3] - window.widths.log_sigma) * prior)

        solved = least_squares(residual, now, xtol=1e-12, ftol=1e-12, gtol=1e-12)
        now = solved.x
    slopes = np.asarray(solved.jac)
    return now, np.linalg.inv(slopes.T @ slopes)


def test_a_fit_that_ends_at_no_number_is_given_up_where_it_began() -> None:
    window = Window(5.1, Widths(float(np.log(1.6))), 0.15**-2, 1.0, 0.0, 0.1)
    image = np.ones((40, 60), np.float32)
    image[19:22, 21:24] = 3e38  # sums over it are infinite
    place = np.array([[20.0, 20.0]])
    fits = starting(place, np.array([10.0]), np.array([1.0]), 1.6)
    improve(image, None, fits, window)
    assert fits.pixels[0] == 0
    assert not fits.active[0]
    np.testing.assert_array_equal(fits.parameters[:, :2], place)
    assert not render(fits.parameters, image.shape).any()
    assert saturated(image, fits.parameters[:, :2]).shape == (1,)


def test_fit_agrees_with_brute_force_least_squares() -> None:
    image, positions, window = isolated()
    n = len(positions)
    fits = starting(positions, np.full(n, 50.0), np.full(n, 10.0), 1.6)
    for _ in range(15):
        improve(image, None, fits, window)
    for k in range(0, n, 3):
        start = np.append(positions[k], [50.0, np.log(1.6), 10.0])
        expected, covariance = brute_force(image.astype(np.float64), start, window)
        sd = np.sqrt(np.diag(covariance))
        assert np.max(np.abs(fits.parameters[k] - expected) / sd) < 0.02
        np.testing.assert_allclose(fits.covariance[k], covariance, rtol=0.02, atol=1e-3 * sd.max())


def settled() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Fits, Window]:
    """Overlapping columns some steps on, one of them cut by the border."""
    first = np.array([[20.3, 21.1], [40.2, 39.0], [2.1, 30.4]])
    positions = np.concatenate([first, first + np.array([1.0, 6.2])])
    heights = np.array([50.0, 30.0, 40.0, 45.0, 35.0, 25.0])
    counted = np.random.default_rng(5).poisson(gaussians((64, 64), positions, heights, 2.0, 9.0))
    image = counted.astype(np.float32)
    fits = starting(positions, heights, np.full(6, 9.0), 2.0)
    window = Window(6.0, Widths(float(np.log(2.0))), 0.15**-2, 1.1, 0.5, 0.1)
    for _ in range(3):
        improve(image, render(fits.parameters, image.shape), fits, window)
    return image, render(fits.parameters, image.shape), fits, window


def patch_of(fits: Fits, n: int, window: Window, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    y, x = np.indices(shape)
    away = (y - fits.middle[n, 0]) ** 2 + (x - fits.middle[n, 1]) ** 2
    return np.asarray(away <= window.radius_px**2)


def gradients(p: Array, y: Array, x: Array) -> Array:
    dy, dx, inverse = y - p[0], x - p[1], np.exp(-2 * p[3])
    e = np.exp(-0.5 * inverse * (dy**2 + dx**2))
    slope = p[2] * e * inverse
    return np.stack([slope * dy, slope * dx, e, slope * (dy**2 + dx**2), np.ones_like(e)])


def test_a_step_of_the_kernel_is_the_step_of_its_formula() -> None:
    image, model, fits, window = settled()
    before = fits.parameters.copy()
    fits.active[:], fits.last[:] = True, 0.0
    improve(image, model, fits, window)
    for n in range(len(before)):
        y, x = np.nonzero(patch_of(fits, n, window, image.shape))
        expected = model[y, x] + before[n, 4]
        weight = 1 / np.maximum(window.gain * expected + window.offset, window.floor)
        residual = image[y, x] - expected
        slopes = gradients(before[n], y.astype(float), x.astype(float))
        information = (slopes * weight) @ slopes.T
        right = slopes @ (weight * residual)
        information[3, 3] += window.precision
        right[3] += window.precision * (window.widths.log_sigma - before[n, 3])
        covariance = np.linalg.inv(information)
        # The kernel sums in single precision, the exponential to 3e-6; the inverse multiplies that
        # by the condition of the scaled information, 22: 5e-5 is seen, 8e-6 in variances.
        np.testing.assert_allclose(fits.covariance[n], covariance, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(fits.covariance[n].diagonal(), covariance.diagonal(), rtol=1e-5)
        np.testing.assert_allclose(fits.parameters[n] - before[n], covariance @ right, atol=5e-6)
        assert fits.chi2[n] == pytest.approx(np.sum(weight * residual**2), rel=1e-6)
        assert fits.pixels[n] == len(y)
        worst = np.max(weight * residual**2) / np.sum(weight * residual**2)
        fits_then = fits._replace(parameters=before)
        assert hottest(image, model, fits_then, window)[n] == pytest.approx(worst, rel=1e-5)


def test_rendering_is_the_sum_of_gaussians() -> None:
    _, model, fits, _ = settled()
    p = fits.parameters
    plain = sum(gaussians(model.shape, q[None, :2], q[2:3], float(np.exp(q[3]))) for q in p)
    np.testing.assert_allclose(model, plain, atol=4e-4 * p[:, 2].max())
    moved = p + np.array([0.3, -0.2, 1.0, 0.02, 0.0])
    redraw(model, p[:2], moved[:2])
    fresh = render(np.concatenate([moved[:2], p[2:]]), model.shape)
    np.testing.assert_allclose(model, fresh, atol=1e-5 * p[:, 2].max())


def test_windows_are_discs() -> None:
    y, x = np.indices((11, 11)) - 5
    np.testing.assert_array_equal(2 * disc(4.7) + 1, np.sum(y**2 + x**2 <= 4.7**2, axis=1)[1:-1])


@given(
    count=st.integers(1, 300),
    reach=st.sampled_from([0.5, 4.0, 17.0, 200.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_close_pairs_are_those_of_a_tree(count: int, reach: float, seed: int) -> None:
    positions = np.random.default_rng(seed).uniform(-5, 60, (count, 2))
    found = close_pairs(positions, reach).tolist()
    pairs = {tuple(sorted(pair)) for pair in found}
    assert pairs == set(map(tuple, cKDTree(positions).query_pairs(reach)))
    assert len(pairs) == len(found)


def test_nothing_is_close_to_nothing() -> None:
    assert close_pairs(np.empty((0, 2)), 3.0).shape == (0, 2)


def test_position_that_is_no_number_is_close_to_none() -> None:
    positions = np.array([[1.0, 1.0], [np.nan, 2.0], [2.0, 1.0], [3.0, np.nan]])
    assert sorted(close_pairs(positions, 3.0)[0]) == [0, 2]
    assert len(close_pairs(positions, 3.0)) == 1


@pytest.mark.parametrize("flat", [False, True])
def test_peaks_are_where_nothing_higher_is_near(*, flat: bool) -> None:
    image = np.random.default_rng(2).normal(size=(150, 90)).astype(np.float32)
    if flat:  # as if the detector were saturated: each pixel is as high as its neighbours
        image[:] = np.minimum(image, 0.1)
    y, x = np.indices((7, 7)) - 3
    highest = maximum_filter(image, footprint=y**2 + x**2 <= 10.0)
    expected = np.argwhere((image == highest) & (image > 0))
    inner = np.all((expected > 0) & (expected < [149, 89]), axis=1)
    found = peaks(image, np.sqrt(10.0))
    assert np.abs(found - expected[inner]).max() <= 0.5
    assert len(found) == inner.sum()


def test_shared_covariance_is_that_of_its_formula() -> None:
    image, model, fits, window = settled()
    shared = shared_covariance(model, fits, window)
    for n in range(3):
        m = n + 3
        both = patch_of(fits, n, window, image.shape) & patch_of(fits, m, window, image.shape)
        y, x = (axis.astype(float) for axis in np.nonzero(both))
        expected = model[both] + fits.parameters[n, 4]
        weight = 1 / np.maximum(window.gain * expected + window.offset, window.floor)
        mine, theirs = gradients(fits.parameters[n], y, x), gradients(fits.parameters[m], y, x)
        passed = fits.covariance[n] @ (mine * weight) @ theirs[:4].T
        added = passed @ fits.covariance[m][:4, :4] @ passed.T
        np.testing.assert_allclose(shared[n], added[:2, :2], rtol=1e-5, atol=1e-12)


# Noise beside a column


def test_a_weak_one_beside_a_better_one_is_noise() -> None:
    clear = np.mgrid[0:4, 0:4].reshape(2, -1).T * 12.0 + 20.0
    weak = np.array([[20.0, 24.0], [32.0, 26.0], [50.0, 76.0], [50.0, 79.0]])
    positions, signal = np.concatenate([clear, weak]), np.repeat([9.0, 2.5], [16, 4])
    signal[-1] = 2.0
    every = np.ones(20, np.bool_)
    marked = beside(positions, signal, every, 1.5)
    # 4.0 px are less than 2.9 sigma, 6.0 are not; of two weak ones it is the weaker
    assert np.flatnonzero(marked).tolist() == [16, 19]
    assert not beside(positions, signal, every & (np.arange(20) != 0), 1.5)[16]


def test_in_dumbbells_a_weak_one_may_stand_nearer() -> None:
    clear = np.mgrid[0:4, 0:4].reshape(2, -1).T * 24.0 + 20.0
    clear = np.concatenate([clear, clear + np.array([0.0, 6.0])])
    weak = np.array([[20.0, 30.0], [44.0, 28.5]])  # 4.0 and 2.5 px beside a clear one
    positions, signal = np.concatenate([clear, weak]), np.repeat([9.0, 2.5], [32, 2])
    marked = beside(positions, signal, np.ones(34, np.bool_), 1.5)
    assert np.flatnonzero(marked).tolist() == [33]


def test_too_few_clear_ones_do_not_tell_how_near_columns_are() -> None:
    positions = np.array([[20.0, 20.0 + 12 * k] for k in range(5)] + [[20.0, 23.0]])
    signal = np.array([9.0, 9.0, 9.0, 9.0, 9.0, 2.5])
    assert not beside(positions, signal, np.ones(6, np.bool_), 1.5).any()


# Tails, and what columns have in common


def with_tails(
    height: float, counts: float, seed: int = 3
) -> tuple[npt.NDArray[np.float32], Array]:
    """Columns of two heights in a square lattice, each with a tail that ends at five sigma."""
    strong = square_lattice(256, 12.5)
    c, s = np.cos(0.1), np.sin(0.1)
    positions = np.concatenate([strong, strong + 6.25 * np.array([c - s, s + c])])
    heights = counts * np.repeat([1.0, 0.35], len(strong))
    light = gaussians((256, 256), positions, heights, 1.57, 0.15 * counts)
    light += height * falling((256, 256), positions, heights, 7.85)
    return np.random.default_rng(seed).poisson(light).astype(np.float32), positions


def falling(shape: tuple[int, int], positions: Array, heights: Array, radius: float) -> Array:
    """Sum of tails, drawn from the formula."""
    y, x = np.indices(shape)
    light = np.zeros(shape)
    for position, height in zip(positions, heights, strict=True):
        square = (y - position[0]) ** 2 + (x - position[1]) ** 2
        light += height * np.maximum(1.0 - square / radius**2, 0.0) ** 2
    return light


def test_tails_are_drawn_and_move_with_their_columns() -> None:
    shape, heights = (100, 120), np.array([1.0, 0.4, 0.7])
    before, after = (
        starting(place, heights, np.zeros(3), 1.57).parameters
        for place in (np.array([[50.3, 60.2], [30.8, 40.5], [1.2, 118.0]]) + k for k in (0.0, 0.3))
    )
    tail = Tail(0.2, Widths(float(np.log(1.57)), 0.3, np.log(0.7), 0.4))
    image = render(before, shape, tail)
    redraw(image, before[:2], after[:2], tail)
    places = np.concatenate([after[:2], before[2:]])[:, :2]
    wanted = gaussians(shape, places, heights, 1.57)
    for place, height in zip(places, heights, strict=True):
        radius = 7.85 * np.exp(0.3 * np.clip(np.log(height / 0.7), -0.4, 0.4))
        wanted += 0.2 * falling(shape, place[None], np.array([height]), radius)
    np.testing.assert_allclose(image, wanted, atol=4e-4)


@pytest.mark.parametrize("height", [0.0, 0.06, 0.15])
def test_tails_are_learnt_from_what_fits_leave_over(height: float) -> None:
    image, positions = with_tails(height, 500.0)
    heights = 500.0 * np.repeat([1.0, 0.35], len(positions) // 2)
    fits = starting(positions, heights, np.full(len(positions), 75.0), 1.57)
    fits = fits.rows(np.all((positions > 0) & (positions < 255), axis=1))
    window = Window(4.7, Widths(float(np.log(1.57))), 0.15**-2, 1.0, 0.0, 1.0)
    cores = render(fits.parameters, image.shape)
    for _ in range(2):
        improve(image, cores, fits, window)
        cores = render(fits.parameters, image.shape)
    places = fits.parameters.copy()
    seen = learnt_tail(image, fits, window)
    learnt, background = seen.height, seen.background
    np.testing.assert_array_equal(fits.parameters, places)
    assert learnt == pytest.approx(height, abs=0.01)
    assert background == pytest.approx(-250.0 * learnt, rel=0.5)  # of 175 to 500 counts


@pytest.mark.parametrize("counts", [40.0, 100.0])
def test_noise_does_not_hide_tails(counts: float) -> None:
    """Positions that follow the noise, and backgrounds of columns that had none, made them low."""
    heights = []
    for seed in range(4):
        view, fits, window = before_tails(with_tails(0.12, counts, seed)[0])
        heights.append(learnt_tail(view.clipped, fits, window).height)
    assert np.mean(heights) == pytest.approx(0.12, abs=0.02)


def test_fits_that_follow_noise_draw_a_core_broader_by_its_curvature() -> None:
    now, rng = np.array([0.4, -0.7, 30.0, np.log(1.6)]), np.random.default_rng(2)
    root = rng.normal(size=(4, 4)) * np.array([0.02, 0.02, 0.5, 0.02])[:, None]
    covariance = root @ root.T

    def core(p: Array) -> float:
        dy, dx = 1.0 - p[0], 2.0 - p[1]
        return float(p[2] * np.exp(-0.5 * np.exp(-2.0 * p[3]) * (dy**2 + dx**2)))

    # the mean over errors that are certainly symmetric, to second order
    steps = 0.1 * root.T
    mean = sum((core(now + d) + core(now - d) - 2.0 * core(now)) / 0.02 for d in steps)
    inverse = np.exp(-2.0 * now[3])
    found = core(now) / now[2] * _curved(now[2], covariance, (1.0 - now[0], 2.0 - now[1]), inverse)
    assert found == pytest.approx(mean, rel=1e-3)


def test_stretched_scan_does_not_hide_tails() -> None:
    heights = []
    for stretch in (0.0, 0.05):
        errors = ScanErrors(coil_scale=(stretch, -stretch))
        shot = simulated("batio3_polar", size=256, counts=500.0, errors=errors)
        view, fits, window = before_tails(shot.frame.image)
        heights.append(learnt_tail(view.clipped, fits, window).height)
    assert heights[1] == pytest.approx(heights[0], abs=0.04)  # lower by 0.09 by circular columns


def before_tails(image: npt.ArrayLike) -> tuple[View, Fits, Window]:
    """Fit columns with their neighbours taken out, as far as tails are learnt from them."""
    view, fits = guessed(oriented(normalised(np.asarray(image, np.float32))), None)
    window = view.window(3.0, 0.15)
    for step in range(4):
        drawn = render(fits.parameters, view.image.shape) if step > 1 else None
        fits.active[:] = fits.pixels > 0 if step else True
        improve(view.image, drawn, fits, window)
        window = learnt_window(fits, window) if step == 2 else window
    return view, fits, window


def kinds_of_columns(slope: float, noise: float) -> Fits:
    """Fits of two kinds of columns, a third as bright as the others; errors go together."""
    rng = np.random.default_rng(5)
    brightness = np.log(np.repeat([1.0, 1 / 3], 300)) + 0.05 * rng.normal(size=600)
    errors = noise * rng.multivariate_normal([0, 0], [[1.0, -0.6], [-0.6, 1.0]], 600)
    fits = starting(np.zeros((600, 2)), np.exp(brightness + errors[:, 0]), np.zeros(600), 1.5)
    fits.parameters[:, LOG_SIGMA] += slope * brightness + errors[:, 1]
    fits.pixels[:] = 69
    heights = fits.parameters[:, AMPLITUDE]
    fits.covariance[:] = np.diag([1e-4, 1e-4, 0.0, noise**2, 1e-4])
    fits.covariance[:, 2, 2] = (noise * heights) ** 2
    fits.covariance[:, 2, 3] = fits.covariance[:, 3, 2] = -0.6 * noise**2 * heights
    return fits


@pytest.mark.parametrize(("slope", "noise"), [(0.2, 0.05), (0.0, 0.05), (0.0, 0.2)])
def test_widths_follow_brightness_beyond_the_errors_of_fits(slope: float, noise: float) -> None:
    window = Window(4.5, Widths(float(np.log(1.5))), 0.5**-2, 1.0, 0.0, 1.0)
    widths = learnt_window(kinds_of_columns(slope, noise), window).widths
    assert widths.slope == pytest.approx(slope, abs=0.03)
    ratio = usual_log_sigma(widths, 1.0) - usual_log_sigma(widths, 1 / 3)
    assert ratio == pytest.approx(widths.slope * np.log(3.0), abs=0.01)
    assert usual_log_sigma(widths, 1e9) == usual_log_sigma(widths, 1e3)  # a hot pixel


@pytest.mark.parametrize("counts", [5.0, 10.0, 30.0])
def test_noise_does_not_narrow_columns(counts: float) -> None:
    images = [gaussian_sto(counts, np.random.default_rng(seed))[0] for seed in range(3)]
    widths = [np.median(find_columns(image).sigma_px) for image in images]
    assert np.mean(widths) == pytest.approx(1.57, rel=0.01)


def test_where_amplitudes_differ_by_noise_only_there_is_one_kind() -> None:
    fits = kinds_of_columns(0.0, 0.1).rows(slice(0, 300))
    window = Window(4.5, Widths(float(np.log(1.5))), 0.5**-2, 1.0, 0.0, 1.0)
    assert abs(learnt_window(fits, window).widths.slope) < 0.05


def test_where_nothing_is_seen_there_are_no_tails() -> None:
    fits = starting(np.array([[50.0, 50.0]]), np.array([1.0]), np.zeros(1), 1.5)
    window = Window(4.5, Widths(float(np.log(1.5))), 0.15**-2, 1.0, 0.0, 1.0)
    flat = np.zeros((100, 100), np.float32)
    assert learnt_tail(flat, fits, window).height == 0.0
    fits.pixels[:] = 69
    assert learnt_tail(flat, fits, window).height == 0.0


def test_claims_know_of_tails() -> None:
    fits = starting(np.array([[50.0, 50.0]]), np.array([30.0]), np.array([5.0]), 1.5)
    window = Window(4.5, Widths(float(np.log(1.5))), 0.15**-2, 1.0, 0.0, 0.1)
    assert unseen_share(fits, window, 0.0) == 1.0
    assert 0.7 < unseen_share(fits, window, 0.2) < unseen_share(fits, window, 0.1) < 1.0


def test_light_of_tails_is_not_taken_for_background() -> None:
    image, positions = with_tails(0.12, 200.0)
    columns = find_columns(image)
    weak = np.arange(len(positions)) >= len(positions) // 2
    found = matched(columns, positions, weak, size=256, sigma=1.57)
    assert np.median(columns.background) == pytest.approx(30.0, abs=2.0)  # 40 without tails
    assert found.rms_px <= 1.05 * bound_px(70.0, 1.57, 40.0)
    assert 0.9 <= found.z <= 1.1


def test_tails_of_bright_columns_do_not_draw_a_weak_one_that_stands_off_centre() -> None:
    off_pm = []
    for seed in range(3):
        shot = simulated("batio3_polar", size=256, seed=seed)
        columns, truth = find_columns(shot.frame.image), shot.truth.columns
        distance, nearest = map(np.asarray, cKDTree(truth.seen_px).query(columns.positions_px))
        error = 31.25 * (columns.positions_px - truth.seen_px[nearest])
        weak = truth.sublattice[nearest] == 1
        seen, along = distance < 3.0, shot.truth.specimen.basis_nm[0]
        shift = error[seen & weak].mean(axis=0) - error[seen & ~weak].mean(axis=0)
        off_pm.append(shift @ along / np.linalg.norm(along))
    assert abs(np.mean(off_pm)) <= 2.0  # 30 pm off; 5 pm too far where tails are not drawn


def test_columns_at_the_border_claim_their_errors() -> None:
    claimed, squares = [], []
    for seed in range(3):
        shot = simulated(counts=500.0, seed=seed)
        columns, truth = find_columns(shot.frame.image), shot.truth.columns
        distance, nearest = map(np.asarray, cKDTree(truth.seen_px).query(columns.positions_px))
        outer = (distance < 3.0) & ~inside(columns.positions_px, 512, 9.0)
        squares.append((columns.positions_px[outer] - truth.seen_px[nearest[outer]]) ** 2)
        claimed.append(columns.covariance_px2[outer][:, [0, 1], [0, 1]])
    ratio = np.mean(np.concatenate(claimed)) / np.mean(np.concatenate(squares))
    assert 0.75 <= ratio <= 1.25  # 0.66 with tails that do not end


def test_a_wide_blur_at_half_the_size_is_that_of_the_whole() -> None:
    noise_image = np.random.default_rng(9).poisson(20.0, (129, 130)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise_image, (0, 0), 1.1)
    whole = cv2.GaussianBlur(smooth, (0, 0), 3.2, borderType=cv2.BORDER_REFLECT_101)
    half = blurred(np.asarray(smooth, np.float32), 3.2)
    assert half.shape == whole.shape
    inner = (slice(12, -12), slice(12, -12))
    assert np.std((half - whole)[inner]) < 0.05 * np.std(whole[inner])


# The noise model


def test_noise_model_is_estimated_from_the_image() -> None:
    detector = {"gain": 27.0, "offset": 14700.0, "readout_noise_e": 1.5}
    shot = simulated(detector=detector)
    gain, offset, _ = estimate_noise(shot.frame.image)
    level = 14700.0 + 27.0 * np.array([7.5, 30.0, 57.5])
    true = 27.0 * (level - 14700.0) + (27.0 * 1.5) ** 2
    assert gain == pytest.approx(27.0, rel=0.1)
    np.testing.assert_allclose(gain * level + offset, true, rtol=0.1)
    assert find_columns(shot.frame.image).gain == pytest.approx(27.0, rel=0.1)


def test_counts_do_not_depend_on_narrow_columns() -> None:
    shot = simulated(pixel_nm=0.06, counts=500.0, size=256)
    columns, truth = find_columns(shot.frame.image), shot.truth.columns
    assert estimate_noise(shot.frame.image).gain > 1.5  # the shape of a column passes the filter
    assert columns.gain == pytest.approx(1.0, rel=0.15)
    assert np.quantile(columns.counts, 0.75) == pytest.approx(truth.counts.max(), rel=0.15)


def test_hot_pixels_do_not_count_as_noise() -> None:
    expected = np.linspace(5.0, 80.0, 300) * np.ones((300, 1))
    counted = np.random.default_rng(7).poisson(expected).astype(np.float64)
    plain = estimate_noise(counted)
    counted[50:150:20, 50:150:20] = 5000.0
    assert estimate_noise(counted).gain == pytest.approx(plain.gain, rel=0.05)
    assert plain.gain == pytest.approx(1.0, rel=0.05)
    assert isinstance(plain, Noise)


@pytest.mark.parametrize("counts", [10.0, 200.0])
def test_the_gains_error_is_known(counts: float) -> None:
    """Eight images: the claim also holds the median's bias, of 2 %."""
    found = [
        find_columns(gaussian_sto(counts, np.random.default_rng(seed))[0]) for seed in range(8)
    ]
    error = np.sqrt(np.mean([(one.gain - 1.0) ** 2 for one in found]))
    claimed = np.mean([one.gain_std for one in found])
    assert 0.5 < error / claimed < 1.5


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_an_image_without_noise_has_no_noise_model(value: float) -> None:
    with pytest.raises(UnusableFrameError, match="it shows nothing"):
        estimate_noise(np.full((80, 80), value))


# Noise that neighbouring pixels share


def seen_as(counted: Array) -> View:
    view, begun = guessed(oriented(normalised(np.asarray(counted, np.float32))), None)
    return _fitted(view, begun)[0]


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_noise_of_single_pixels_is_not_shared(seed: int) -> None:
    counted = gaussian_sto(50.0, np.random.default_rng(seed))[0]
    assert seen_as(counted).correlation is WHITE


def test_noise_that_is_shared_has_the_correlation_of_its_filter() -> None:
    counted = gaussian_sto(50.0, np.random.default_rng(23))[0]
    slow = 0.75 * counted + 0.25 * np.roll(counted, 1, axis=1)
    correlation = seen_as(slow).correlation
    assert correlation.y.tolist() == [1.0]
    np.testing.assert_allclose(correlation.x[:2], [1.0, 0.1875 / 0.625], atol=0.03)


@pytest.mark.parametrize("seed", [30, 31])
@pytest.mark.parametrize("sigma", [(0.0, 0.7), (0.6, 0.6), (1.0, 1.0)])
def test_fits_in_a_filtered_image_claim_their_errors(sigma: tuple[float, float], seed: int) -> None:
    counted, positions, kind = gaussian_sto(50.0, np.random.default_rng(seed))
    columns = find_columns(gaussian_filter(counted, sigma))
    found = matched(columns, positions, kind == 0, size=512, sigma=1.9)
    assert 0.88 <= found.z <= 1.12


# What is not a column


def test_hot_pixels_are_not_columns(image: npt.NDArray[np.float32]) -> None:
    plain, spoilt = find_columns(image), image.copy()
    middles = np.rint(plain.positions_px[20:300:13] + 3.1).astype(int)
    spoilt[tuple(middles.T)] = 5000.0
    columns = find_columns(spoilt)
    assert np.min(cKDTree(columns.positions_px).query(middles)[0]) > 1.0
    assert len(columns) > len(plain) - 2.5 * len(middles)


@pytest.mark.parametrize(("counts", "value"), [(50.0, 5000.0), (10.0, 500.0)])
def test_a_single_hot_pixel_changes_no_claim(counts: float, value: float) -> None:
    """One of 262 144 used to make a gain 100 times too large, or nothing, or no column at all."""
    counted = gaussian_sto(counts, np.random.default_rng(24))[0].astype(np.float32)
    plain, rng = find_columns(counted), np.random.default_rng(0)
    for y, x in rng.integers(2, 510, (8, 2)):
        spoilt = counted.copy()
        spoilt[y, x] = value
        columns = find_columns(spoilt)
        assert columns.gain == pytest.approx(plain.gain, rel=0.05)
        distance, same = map(np.asarray, cKDTree(columns.positions_px).query(plain.positions_px))
        hit = distance < 0.3
        assert np.mean(hit) > 0.99
        ratio = columns.covariance_px2[same[hit]] / plain.covariance_px2[hit]
        assert np.median(ratio[:, 0, 0]) == pytest.approx(1.0, abs=0.05)


AREAS = {
    "lines at the top": np.s_[:40, :],
    "pixels at the left": np.s_[:, :3],
    "a corner": np.s_[200:, 250:],
    "half of it": np.s_[:, :256],
}


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("value", [0.0, 65535.0])
def test_an_area_that_shows_nothing_costs_only_its_own_columns(area: str, value: float) -> None:
    shot = simulated(detector={"gain": 27.0, "offset": 14700.0})
    whole = find_columns(shot.frame.image)
    image = shot.frame.image.copy()
    image[AREAS[area]] = value
    empty = image == value
    columns = find_columns(image)
    room = np.asarray(distance_transform_edt(~empty))
    y, x = np.rint(columns.positions_px).astype(int).T
    assert room[y, x].min() > 2 * 1.57
    y, x = np.rint(whole.positions_px).astype(int).T
    away = room[y, x] > 8
    distance, same = map(np.asarray, cKDTree(columns.positions_px).query(whole.positions_px[away]))
    assert np.mean(distance < 0.3) > 0.98
    hit = distance < 0.3
    ratio = columns.covariance_px2[same[hit]] / whole.covariance_px2[away][hit]
    assert np.median(ratio[:, 0, 0]) == pytest.approx(1.0, abs=0.1)
    assert columns.gain == pytest.approx(27.0, rel=0.15)
    assert columns.dropped > 0


def test_an_area_of_the_lowest_value_of_all_shows_nothing_either() -> None:
    image = simulated(detector={"gain": 27.0, "offset": 14700.0}).frame.image.copy()
    whole = find_columns(image)
    image[:, :60] = image.min()
    columns = find_columns(image)
    assert columns.gain == pytest.approx(whole.gain, rel=0.15)
    assert columns.positions_px[:, 1].min() > 60


def test_columns_are_found_in_a_corrected_picture_whose_rim_was_not_seen() -> None:
    scan = simulated().frame.settings
    errors = strong_flyback(scan, sign=1, seed=0)
    shot = simulated(detector={"gain": 27.0, "offset": 14700.0}, errors=errors)
    corrected = process_frame(shot.frame).corrected
    assert corrected is not None
    assert np.all(corrected.image[~corrected.valid] == 0.0)
    assert np.mean(~corrected.valid) > 0.005
    columns = find_columns(corrected.image)
    assert len(columns) > 3000
    y, x = np.rint(columns.positions_px).astype(int).T
    assert np.all(corrected.valid[y, x])


def test_single_electrons_among_zeros_are_no_empty_area() -> None:
    rng = np.random.default_rng(5)
    counted = rng.poisson(0.4, (128, 128)) * rng.normal(100.0, 5.0, (128, 128))
    image = np.asarray(counted, np.float32)
    same, empty = without_empty(image)
    assert same is image
    assert empty is None


def test_there_are_no_columns_in_the_vacuum() -> None:
    shot = simulated(vacuum_fraction=0.5)
    columns, truth, sigma = find_columns(shot.frame.image), shot.truth.columns, sigma_px(shot)
    found = matched(columns, truth.seen_px, truth.sublattice >= 0, size=512, sigma=sigma)
    assert found.recall >= 0.99
    assert precision(columns, truth.seen_px, size=512, sigma=sigma) >= 0.99


def test_columns_that_are_cut_off_are_dropped(image: npt.NDArray[np.float32]) -> None:
    truth = simulated(size=256).truth.columns
    columns = find_columns(np.minimum(image, 36.0))
    _, nearest = cKDTree(truth.seen_px).query(columns.positions_px)
    assert np.mean(truth.sublattice[nearest] == 1) > 0.95
    assert columns.dropped > 350


def test_columns_at_the_border_are_dropped(image: npt.NDArray[np.float32]) -> None:
    columns = find_columns(image)
    margin = 1.4 * float(np.median(columns.sigma_px))
    assert np.all(inside(columns.positions_px, 256, margin))
    assert columns.dropped > 0


def test_no_column_is_found_twice(image: npt.NDArray[np.float32]) -> None:
    columns = find_columns(image)
    distance, _ = cKDTree(columns.positions_px).query(columns.positions_px, k=[2])
    assert np.min(distance) > 4.0


def noise(level: float, shape: tuple[int, int] = (256, 256)) -> Array:
    return np.random.default_rng(8).poisson(level, shape).astype(np.float64)


def spotted(base: Array, value: float) -> Array:
    changed = base.copy()
    changed[50, 60] = value
    return changed


NO_COLUMNS = "no columns stand out of the image's noise"
NOTHING = "the image is the same nearly everywhere: it shows no columns"


@pytest.mark.parametrize(
    ("unusable", "reason"),
    [
        (np.full((128, 128), 3.0), NOTHING),
        (spotted(np.zeros((128, 128)), 1000.0), NOTHING),
        (spotted(noise(5.0), 1000.0), NO_COLUMNS),
        (noise(10.0), NO_COLUMNS),
        (noise(3.0, (64, 64)), NO_COLUMNS),
        (np.add.outer(np.arange(128.0), np.arange(128.0)), NO_COLUMNS),
        (
            np.repeat([0.0, 1.0], 64)[None].repeat(128, 0),
            "the image changes in one direction only: it shows fringes, a ramp or an edge, no"
            " columns",
        ),
        (np.zeros((63, 80)), "the image has 63 x 80 pixels: at least 64 x 64 are needed"),
        (np.zeros((0, 64)), "the image has 0 x 64 pixels: at least 64 x 64 are needed"),
        (
            noise(5.0)
            + gaussians((256, 256), np.array([[99.0, 90.0]]), np.array([200.0]), 2.0, 0.0),
            "only 1 columns stand out of the image's noise: 6 are needed",
        ),
    ],
)
def test_an_image_that_cannot_be_measured_gets_its_reason(unusable: Array, reason: str) -> None:
    with pytest.raises(UnusableFrameError) as raised:
        find_columns(unusable)
    assert str(raised.value) == reason


def test_an_image_of_one_bit_is_saturated(image: npt.NDArray[np.float32]) -> None:
    with pytest.raises(UnusableFrameError, match=r"the image is saturated: \d+ of its columns"):
        find_columns(image > 40)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.full((128, 128), np.inf), "image must be finite, but 16384 of its pixels are not"),
        (spotted(noise(5.0), np.nan), "image must be finite, but 1 of its pixels are not"),
        (np.full((64, 64), 1e300), "image must be finite, but 4096 of its pixels are not"),
        (np.zeros((64, 64, 3)), "image must have two axes, not shape (64, 64, 3)"),
        (np.zeros((64, 64), complex), "image must be real numbers, not complex128"),
        ("image", "image must be real numbers, not <U5"),
    ],
)
def test_a_wrong_image_is_refused(wrong: npt.ArrayLike, message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared below
        find_columns(wrong)
    assert str(raised.value) == message


# First guesses


def test_local_maxima_lie_on_the_columns(image: npt.NDArray[np.float32]) -> None:
    truth = simulated(size=256).truth.columns
    guesses = local_maxima(image)
    distance, _ = cKDTree(guesses).query(truth.seen_px[inside(truth.seen_px, 256, 5.0)])
    assert np.mean(distance < 1.5) > 0.99


def test_other_first_guesses_can_be_given(image: npt.NDArray[np.float32]) -> None:
    truth = simulated(size=256).truth.columns

    def oracle(seen: npt.NDArray[np.float32]) -> Array:
        assert seen.shape == image.shape
        return np.concatenate([truth.seen_px, [[-5.0, 3.0], [300.0, 3.0]]])

    columns = find_columns(image, detect=oracle)
    assert columns.finder == "oracle"
    assert find_columns(image).finder == "local_maxima"
    assert len(columns) >= len(find_columns(image)) - 2


def test_first_guesses_must_be_positions(image: npt.NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match=r"detect\(image\) must have shape \(n, 2\)"):
        find_columns(image, detect=lambda seen: np.zeros((3, 3)))  # noqa: ARG005


def test_a_finder_that_sees_nothing_makes_a_frame_unusable(image: npt.NDArray[np.float32]) -> None:
    with pytest.raises(UnusableFrameError, match="only 0 columns"):
        find_columns(image, detect=lambda seen: np.zeros((0, 2)))  # noqa: ARG005


# The result


def test_eight_threads_give_identical_bits(image: npt.NDArray[np.float32]) -> None:
    alone = find_columns(image)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(find_columns, [image] * 8))
    for columns in together:
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(columns, name), getattr(alone, name))


def test_the_image_is_left_alone(image: npt.NDArray[np.float32]) -> None:
    before = image.copy()
    find_columns(image)
    np.testing.assert_array_equal(image, before)


def test_columns_are_ordered_by_line(image: npt.NDArray[np.float32]) -> None:
    columns = find_columns(image)
    assert np.all(np.diff(np.rint(columns.positions_px[:, 0])) >= 0)
    assert np.all((columns.confidence > 0) & (columns.confidence <= 1))
    np.testing.assert_allclose(columns.counts, columns.amplitude / columns.gain)


def test_columns_are_read_only_also_after_pickling(image: npt.NDArray[np.float32]) -> None:
    columns = pickle.loads(pickle.dumps(find_columns(image)))
    assert isinstance(columns, AtomColumns)
    with pytest.raises(ValueError, match="read-only"):
        columns.positions_px[0] = 0.0


def test_a_subset_keeps_everything_else(image: npt.NDArray[np.float32]) -> None:
    columns = find_columns(image)
    some = columns.subset(columns.counts > 30)
    assert len(some) == int(np.sum(columns.counts > 30))
    assert (some.gain, some.polarity, some.dropped) == (
        columns.gain,
        columns.polarity,
        columns.dropped,
    )
    np.testing.assert_array_equal(columns.subset(np.array([2, 0])).chi2, columns.chi2[[2, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions_px": np.zeros((2, 3))}, "positions_px must have shape"),
        ({"chi2": np.zeros(3)}, "chi2 must have 2 rows, not 3"),
        ({"polarity": "grey"}, 'polarity must be "bright" or "dark"'),
        ({"gain": 0.0}, "gain must be positive"),
    ],
)
def test_columns_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    rows = np.ones(2)
    values: dict[str, object] = {
        "positions_px": np.zeros((2, 2)),
        "broadening": np.zeros((2, 2)),
        "covariance_px2": np.zeros((2, 2, 2)),
        **dict.fromkeys(
            ("amplitude", "sigma_px", "background", "chi2", "confidence", "counts"), rows
        ),
        "polarity": "bright",
        "finder": "hand",
        "gain": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        AtomColumns(**(values | change))  # type: ignore[arg-type]


# Real images


@pytest.mark.skipif(not DATA.exists(), reason="the real images are not beside the repository")
def test_a_real_sto_frame_gives_both_kinds_of_columns() -> None:
    from rsciio.tia import file_reader  # noqa: PLC0415 - only where the images are

    columns = find_columns(file_reader(str(DATA / "sto/16_STOimage_1.ser"))[0]["data"])
    low, high = np.quantile(columns.counts, [0.25, 0.75])
    assert columns.polarity == "bright"
    assert len(columns) >= 1180
    assert high > 1.4 * low
    assert 27 / 1.5 < columns.gain < 27 * 1.5  # 27 detector units for each electron
    assert 5.0 < np.median(columns.sigma_px) < 8.0


@pytest.mark.skipif(not DATA.exists(), reason="the real images are not beside the repository")
@pytest.mark.parametrize(("name", "polarity"), [("ADF", "bright"), ("ABF", "dark")])
def test_a_real_perovskite_shows_the_same_columns_in_both_channels(
    name: str, polarity: str
) -> None:
    import h5py  # noqa: PLC0415 - only where the images are

    with h5py.File(DATA / f"perovskite/test_{name}_cropped.hdf5") as file:
        path: list[str] = []
        file.visit(lambda key: path.append(key) if key.endswith("/data") else None)
        image = np.asarray(file[path[0]])
    columns = find_columns(image)
    assert columns.polarity == polarity
    assert 215 <= len(columns) <= 230
