"""Weight space held against dense formulas, scipy, scikit-learn and brute force."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct
from strategies import few, positive_matrix, seeds

from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.calibration import _disagreement
from nion_distortion.gaussian_process.cosines import cosines
from nion_distortion.gaussian_process.evidence import (
    negative_log_evidence,
    scored,
)
from nion_distortion.gaussian_process.fast_waves import (
    FastWaves,
    find_fast_waves,
    score_fast_waves,
)
from nion_distortion.gaussian_process.flyback import line_profiles
from nion_distortion.gaussian_process.gauge import Freedom, fitted
from nion_distortion.gaussian_process.hyperparameters import (
    DECAYS,
    NAMES,
    PRIORS_LENGTH,
    Hyperparameters,
    finer_variance,
    prior_logs,
    prior_surprise,
    prior_variances,
    unresolved_variance,
    wave_variances,
)
from nion_distortion.gaussian_process.learning import (
    Evidence,
    _score_axis,
    _spread_of_decays,
    weigh_calm,
)
from nion_distortion.gaussian_process.linearisation import (
    ALIKE,
    STRONG_SLOPE,
    WEAK_COUPLING,
    _weights,
)
from nion_distortion.gaussian_process.moments import information
from nion_distortion.gaussian_process.posterior import combined, marginal, solve
from nion_distortion.gaussian_process.weights import Information, padded
from nion_distortion.options import TERMS

Array = npt.NDArray[np.float64]

SCAN = ScanSettings(
    shape_px=(70, 90), field_of_view_nm=2.8, dwell_time_us=1.0, flyback_time_us=60.0
)
BASIS = Basis.of_scan(SCAN, 26.0, TERMS)
SLOW_SCAN = replace(SCAN, dwell_time_us=20.0)
"""Several periods of the mains in a frame."""


def basis_of(
    settings: ScanSettings, rows: float, terms: frozenset[Any], *, sync: bool | None = None
) -> Basis:
    """Return the functions of a scan, those of the mains among them where they can be."""
    basis = Basis.of_scan(replace(settings, frame_sync=sync), rows, terms, sigma_px=1.5)
    return basis if basis.line_time_s is None else basis.with_mains(50.1)


def pixels_of(settings: ScanSettings) -> Array:
    ny, nx = settings.shape_px
    y, x = np.mgrid[:ny, :nx].astype(np.float64)
    return np.stack([y.ravel(), x.ravel()], axis=1)


# the basis


@few
@given(st.integers(1, 200), seeds())
def test_cosines_are_those_of_numpy(modes: int, seed: int) -> None:
    place = np.random.default_rng(seed).uniform(0, 1, 17)
    order = np.arange(modes)
    expected = np.where(order == 0, 1.0, np.sqrt(2))[:, None] * np.cos(
        np.pi * order[:, None] * place
    )
    np.testing.assert_allclose(cosines(place, modes), expected, atol=1e-10)


def test_cosines_are_orthonormal() -> None:
    place = (np.arange(400) + 0.5) / 400
    table = cosines(place, 60)
    np.testing.assert_allclose(table @ table.T / 400, np.eye(60), atol=1e-10)


@pytest.mark.parametrize("shape", [(70, 90), (90, 64)])
@pytest.mark.parametrize("left_out", [None, *sorted(TERMS)])
@pytest.mark.parametrize("sync", [True, False])
def test_pixels_sum_the_design(
    shape: tuple[int, int],
    left_out: str | None,
    sync: bool,  # noqa: FBT001
) -> None:
    settings = replace(SLOW_SCAN, shape_px=shape)
    basis = basis_of(settings, 20.0, TERMS - {left_out}, sync=sync).with_decay(0.05)
    basis = basis.with_smooth(0.15 if sync else 0.3, 13 if sync else 9)
    weights = np.random.default_rng(1).normal(size=(2, basis.size))
    plain = weights @ basis.design(pixels_of(settings))
    tolerance = 2e-5 * np.abs(plain).max()
    summed = basis.on_pixels(weights).reshape(2, -1)
    np.testing.assert_allclose(summed, plain, atol=tolerance)


def test_pixels_of_d_leave_the_walk_out() -> None:
    weights = np.random.default_rng(1).normal(size=(2, BASIS.size))
    alone = weights.copy()
    alone[:, BASIS.slices["walk"]] = 0.0
    stationary = BASIS.on_pixels(weights[:, : BASIS.stationary_size])
    np.testing.assert_allclose(stationary, BASIS.on_pixels(alone), atol=1e-5)


def test_columns_show_a_calibrations_waves_along_x_as_a_fit_averages_them() -> None:
    basis = replace(BASIS, sigma_px=2.0).refined()
    offsets = np.linspace(-12.0, 12.0, 4001)
    near = np.exp(-0.5 * (offsets / basis.height_px) ** 2)
    for number in (1, 40, 100):
        wave = np.cos(np.pi * number / (1.3 * 90) * offsets)
        slow = (near * wave).sum() / near.sum()
        fast = (near * offsets**2 * wave).sum() / (near * offsets**2).sum()
        shown = basis.seen()[:, basis.slices["fast"]][:, number - 1]
        np.testing.assert_allclose(shown, [slow, fast], atol=1e-6)
    np.testing.assert_array_equal(basis.seen()[:, : basis.slices["fast"].start], 1.0)


def test_outside_the_scan_the_nearest_edge_counts() -> None:
    outside = np.array([[-9.0, 20.0], [200.0, -3.0], [30.0, 95.0]])
    edge = np.array([[-0.5, 20.0], [69.5, -0.5], [30.0, 89.5]])
    np.testing.assert_allclose(BASIS.design(outside), BASIS.design(edge))


def test_functions_are_the_formulas_of_their_terms() -> None:
    places = np.random.default_rng(2).uniform(0, [69, 89], (40, 2))
    basis = BASIS.with_decay(0.04)
    design, where = basis.design(places), basis.slices
    y, x = places.T
    lag = np.exp(-x / (0.04 * 90))
    profiles = line_profiles(y / 70)
    np.testing.assert_allclose(design[where["line"]], lag * profiles)
    np.testing.assert_allclose(design[where["line_slope"]], lag * x / (0.04 * 90) * profiles[:2])
    iy, ix = basis.smooth_modes
    along = [
        np.where(modes[:, None] == 0, 1.0, np.sqrt(2))
        * np.cos(np.pi * modes[:, None] * (place + 0.5 + 0.15 * length) / (1.3 * length))
        for modes, place, length in ((iy, y, 70), (ix, x, 90))
    ]
    np.testing.assert_allclose(design[where["smooth"]], along[0] * along[1], atol=1e-10)
    time_lines = y + x / (90 + 60)
    np.testing.assert_allclose(design[where["frame"]][1], np.exp(-time_lines / (0.03 * 70)))
    unit = (time_lines + 0.5 + 0.15 * 70) / (1.3 * 70)
    np.testing.assert_allclose(design[where["walk"]][2], np.sqrt(2) * np.cos(3 * np.pi * unit))
    assert np.ptp(basis.design(np.c_[y, np.full(40, 33.0)])[where["fast"]], axis=1).max() == 0


def test_profiles_of_the_line_flyback_sum_to_a_squared_exponential() -> None:
    height = np.linspace(0, 1, 101)
    profiles = line_profiles(height)
    expected = np.exp(-0.5 * (np.subtract.outer(height, height) / 0.78) ** 2)
    np.testing.assert_allclose(profiles.T @ profiles, expected, atol=1e-4)


def test_slope_of_the_line_flyback_is_its_change_with_the_decay() -> None:
    places = np.random.default_rng(2).uniform(0, [69, 89], (20, 2))
    up, down = (BASIS.with_decay(0.04 * np.exp(h)).design(places) for h in (1e-5, -1e-5))
    where = BASIS.slices
    change = (up - down)[where["line"]][:2] / 2e-5
    design = BASIS.with_decay(0.04).design(places)
    np.testing.assert_allclose(change, design[where["line_slope"]], atol=1e-7)


@pytest.mark.parametrize("term", sorted(TERMS))
def test_a_term_that_is_left_out_has_no_functions(term: str) -> None:
    groups = {
        "smooth": ("smooth",),
        "line_flyback": ("line", "line_slope"),
        "frame_flyback": ("frame",),
        "fast_axis": ("fast",),
        "frame_locked": ("locked",),
        "scan_time": ("walk",),
        "mains": ("mains",),
    }
    basis = basis_of(SLOW_SCAN, 26.0, TERMS - {term}, sync=True)
    sizes = {name: part.stop - part.start for name, part in basis.slices.items()}
    assert {name for name, size in sizes.items() if not size} == set(groups[term])
    assert len(basis.design(np.zeros((1, 2)))) == basis.size


# priors


def test_prior_slopes_are_derivatives() -> None:
    rng = np.random.default_rng(3)
    logs = prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0] + 0.3 * rng.normal(size=len(NAMES))
    basis = basis_of(SLOW_SCAN, 26.0, TERMS, sync=True)
    _, slopes = prior_variances(basis, logs)
    for k in range(len(NAMES)):
        step = np.eye(len(NAMES))[k] * 1e-5
        up, down = (prior_variances(basis, logs + sign * step)[0] for sign in (1, -1))
        np.testing.assert_allclose(slopes[k], (up - down) / 2e-5, rtol=1e-6, atol=1e-12)


def prior_covariance(name: str, places: Array, basis: Basis = BASIS) -> Array:
    """Covariance that one term alone gives to some places."""
    logs = prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0]
    logs[NAMES.index("jitter")] = -20.0
    part = basis.slices[name]
    variances, design = prior_variances(basis, logs)[0][part], basis.design(places)[part]
    covariance: Array = (design.T * variances) @ design / np.exp(2 * logs[NAMES.index(name)])
    return covariance


@pytest.mark.parametrize(("name", "axis"), [("smooth", 1), ("smooth", 0), ("fast", 1)])
@pytest.mark.parametrize("basis", [BASIS, BASIS.with_smooth(0.4, 16)])
def test_priors_are_those_of_the_continuous_terms(name: str, axis: int, basis: Basis) -> None:
    """Far from the ends of the interval, without their constant; the rough one lacks 6 %."""
    places = np.tile([35.0, 45.0], (9, 1))
    places[:, axis] += 5 * (np.arange(9) - 4)
    off = np.subtract.outer(places[:, axis], places[:, axis]) / (1.3 * SCAN.shape_px[axis])
    smooth = np.exp(-0.5 * (off / PRIORS_LENGTH["smooth_length"].median) ** 2)
    expected = smooth if name == "smooth" else np.exp(-np.abs(off) / 0.05)
    found = prior_covariance(name, places, basis)
    without = np.eye(9) - 1 / 9
    np.testing.assert_allclose(without @ found @ without, without @ expected @ without, atol=0.06)


def test_the_amplitude_of_the_walk_is_rms_over_the_interval_of_the_cosines() -> None:
    """What the rows do not resolve included; over the scan alone it is a little less."""
    logs = prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0]
    logs[NAMES.index("jitter")] = -20.0
    variances = prior_variances(BASIS, logs)[0][BASIS.slices["walk"]]
    whole = np.sqrt(variances.sum() + unresolved_variance(BASIS, logs))
    assert whole == pytest.approx(np.exp(logs[NAMES.index("walk")]))
    rms = np.sqrt(np.diag(prior_covariance("walk", pixels_of(SCAN)[::7])).mean())
    assert 0.8 < rms <= 1.001


def test_every_prior_variance_is_positive() -> None:
    variances, _ = prior_variances(BASIS, prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0])
    assert (variances > 0).all()
    assert np.isfinite(1 / variances).all()


# weight space


def sample_weights(rng: np.random.Generator, count: int, *, mixed: bool) -> Array:
    """Isotropic weights; some columns have another one along x, and some mix the axes."""
    weights = np.eye(2) / rng.uniform(0.5, 2, count)[:, None, None]
    special = rng.random(count) < 0.3
    if mixed:
        root = rng.normal(size=(special.sum(), 2, 2))
        weights[special] = root @ root.swapaxes(1, 2) + 0.1 * np.eye(2)
    else:
        weights[special, 1, 1] *= 0.4
    return weights


def gathered(
    design: Array, targets: Array, weights: Array, seen: Array | None = None
) -> Information:
    """The dense formula."""
    shown = np.stack([design, design]) if seen is None else design * seen[:, :, None]
    whole = np.einsum("ain,nab,bjn->abij", shown, weights, shown, optimize=True)
    return Information(
        blocks=np.stack([whole[0, 0], whole[1, 1]]),
        vector=np.einsum("ain,nab,nb->ai", shown, weights, targets),
        cross=whole[0, 1] if whole[0, 1].any() else None,
    )


def joined(given_: Information) -> Array:
    cross = np.zeros_like(given_.blocks[0]) if given_.cross is None else given_.cross
    return np.block([[given_.blocks[0], cross], [cross.T, given_.blocks[1]]])


@few
@given(
    seeds(),
    st.booleans(),
    st.integers(1, 3000),
    st.sampled_from([TERMS, frozenset({"smooth"}), *(TERMS - {one} for one in TERMS)]),
    st.booleans(),
)
def test_information_is_the_dense_formula(
    seed: int,
    mixed: bool,  # noqa: FBT001
    count: int,
    terms: frozenset[str],
    sync: bool,  # noqa: FBT001
) -> None:
    rng = np.random.default_rng(seed)
    basis = basis_of(SLOW_SCAN, float(rng.uniform(20, 150)), terms, sync=sync)
    basis = basis.with_smooth(float(rng.choice([0.15, 0.4])), int(rng.integers(8, 21)))
    places = rng.uniform(-3, [73, 93], (count, 2))
    crystal, targets = rng.normal(size=(3, count)), rng.normal(size=(count, 2))
    weights = sample_weights(rng, count, mixed=mixed)
    seen = rng.uniform(-1, 1, (2, basis.size + 3))
    found = information(basis, places, crystal, targets, weights, seen)
    plain = gathered(np.concatenate([basis.design(places), crystal]), targets, weights, seen)
    tolerance = 1e-11 * count
    np.testing.assert_allclose(joined(found), joined(plain), rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.vector, plain.vector, rtol=0, atol=tolerance)


def test_columns_are_weighed_by_the_inverse_covariance_of_their_targets() -> None:
    rng = np.random.default_rng(0)
    jacobian = rng.normal(size=(400, 2, 2)) * np.geomspace(1e-3, 1.0, 400)[:, None, None]
    variance = rng.uniform(0.5, 2.0, 400)
    forward = np.eye(2) - jacobian
    spread = forward @ forward.swapaxes(1, 2) + 1e-4 * np.eye(2)
    dense = np.linalg.inv(spread) / variance[:, None, None]
    found, plain = _weights(variance, jacobian), np.eye(2) / variance[:, None, None]
    weak = np.abs(jacobian).max(axis=(1, 2)) <= STRONG_SLOPE
    correlation = spread[:, 0, 1] / np.sqrt(spread[:, 0, 0] * spread[:, 1, 1])
    coupled = ~weak & (np.abs(correlation) >= WEAK_COUPLING)
    apart = ~weak & ~coupled
    np.testing.assert_array_equal(found[weak], plain[weak])
    np.testing.assert_allclose(found[coupled], dense[coupled], rtol=1e-9)
    assert weak.sum() > 40
    assert apart.sum() > 20
    assert not found[apart, 0, 1].any()
    np.testing.assert_allclose(
        np.diagonal(found[apart], axis1=1, axis2=2),
        np.diagonal(dense[apart], axis1=1, axis2=2),
        rtol=ALIKE + WEAK_COUPLING**2,
    )


def test_axes_that_do_not_mix_stay_apart() -> None:
    rng = np.random.default_rng(0)
    weights = sample_weights(rng, 50, mixed=False)
    places, crystal = rng.uniform(0, 70, (50, 2)), rng.normal(size=(3, 50))
    targets, seen = rng.normal(size=(50, 2)), np.ones((2, BASIS.size + 3))
    found = information(BASIS, places, crystal, targets, weights, seen)
    assert found.cross is None


def random_information(rng: np.random.Generator, size: int, *, mixed: bool) -> Information:
    whole = positive_matrix(rng, 2 * size)
    return Information(
        blocks=np.stack([whole[:size, :size], whole[size:, size:]]),
        vector=rng.normal(size=(2, size)),
        cross=whole[:size, size:] if mixed else None,
    )


@few
@given(seeds(), st.booleans())
def test_slope_is_the_dense_product(seed: int, mixed: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(seed)
    known, weights = random_information(rng, 6, mixed=mixed), rng.normal(size=(2, 6))
    plain = known.vector.ravel() - joined(known) @ weights.ravel()
    np.testing.assert_allclose(known.slope(weights).ravel(), plain, atol=1e-12)


@few
@given(seeds(), st.booleans())
def test_an_axis_beside_the_other_is_its_part_of_the_dense_form(
    seed: int,
    mixed: bool,  # noqa: FBT001
) -> None:
    rng = np.random.default_rng(seed)
    known, (y, x) = random_information(rng, 6, mixed=mixed), rng.normal(size=(2, 6))
    slope = known.vector.ravel() - joined(known) @ np.r_[y, x]
    found = known.beside(np.stack([y, x]))
    assert found.cross is None
    np.testing.assert_allclose(found.vector[0] - found.blocks[0] @ y, slope[:6], atol=1e-12)
    np.testing.assert_allclose(found.vector[1] - found.blocks[1] @ x, slope[6:], atol=1e-12)


@few
@given(seeds(), st.booleans())
def test_a_frame_that_says_what_the_others_say_does_not_disagree(
    seed: int,
    mixed: bool,  # noqa: FBT001
) -> None:
    rng = np.random.default_rng(seed)
    others = solve(random_information(rng, 6, mixed=mixed), rng.uniform(0.1, 2, (2, 6)))
    frame = random_information(rng, 6, mixed=mixed)
    vector = (joined(frame) @ others.mean.ravel()).reshape(2, 6)
    assert _disagreement(replace(frame, vector=vector), others) < 1e-12


@few
@given(seeds(), st.booleans())
def test_solving_is_the_dense_inverse(seed: int, mixed: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(seed)
    known, precision = random_information(rng, 6, mixed=mixed), rng.uniform(0.1, 2, (2, 6))
    covariance = np.linalg.inv(joined(known) + np.diag(precision.ravel()))
    found = solve(known, precision)
    np.testing.assert_allclose(found.mean.ravel(), covariance @ known.vector.ravel(), atol=1e-10)
    np.testing.assert_allclose(found.covariance[0], covariance[:6, :6], atol=1e-10)
    np.testing.assert_allclose(found.covariance[1], covariance[6:, 6:], atol=1e-10)


@few
@given(seeds(), st.booleans())
def test_marginal_is_the_block_of_the_dense_inverse(seed: int, mixed: bool) -> None:  # noqa: FBT001
    """What is left of the information gives the same mean and covariance as all of it."""
    rng = np.random.default_rng(seed)
    known = random_information(rng, 7, mixed=mixed)
    precision = rng.uniform(0.1, 2, (2, 3))
    whole = joined(known) + np.diag(np.c_[np.zeros((2, 4)), precision].ravel())
    stays = np.r_[0:4, 7:11]
    block = np.linalg.inv(whole)[np.ix_(stays, stays)]
    mean = np.linalg.solve(whole, known.vector.ravel())[stays]
    found = marginal(known, 4, precision)
    np.testing.assert_allclose(np.linalg.inv(joined(found)), block, atol=1e-9)
    np.testing.assert_allclose(block @ found.vector.ravel(), mean, atol=1e-9)


@few
@given(seeds(), st.sampled_from([(False, False), (True, False), (False, True), (True, True)]))
def test_a_frame_and_what_is_known_are_the_dense_inverse(
    seed: int, mixed: tuple[bool, bool]
) -> None:
    rng = np.random.default_rng(seed)
    given_ = random_information(rng, 7, mixed=mixed[0])
    known = random_information(rng, 4, mixed=mixed[1])
    precision = rng.uniform(0.1, 2, (2, 7))
    whole = padded(given_, known)
    covariance = np.linalg.inv(joined(whole) + np.diag(precision.ravel()))
    found, said = combined(given_, precision, 4, known)
    np.testing.assert_allclose(found.mean.ravel(), covariance @ whole.vector.ravel(), atol=1e-9)
    blocks = np.stack([covariance[:7, :7], covariance[7:, 7:]])
    np.testing.assert_allclose(found.covariance, blocks, atol=1e-9)
    np.testing.assert_allclose(found.leading().covariance, blocks[:, :4, :4], atol=1e-9)
    np.testing.assert_array_equal(found.leading().mean, found.mean[:, :4])
    sums = rng.normal(size=(2, 3, 7))
    expected = sums @ blocks @ sums.swapaxes(1, 2)
    np.testing.assert_allclose(found.covariance_of(sums), expected, atol=1e-9)
    turned = np.asfortranarray(sums[1])
    np.testing.assert_allclose(found.covariance_along(1, turned), expected[1], atol=1e-9)
    some = rng.normal(size=(5, 3)).astype(np.float32)
    spread = np.einsum("kn,akl,ln->an", some, blocks[:, :5, :5], some)
    np.testing.assert_allclose(found.variances_of(some), spread, rtol=1e-5)
    alone = marginal(given_, 4, precision[:, 4:])
    np.testing.assert_allclose(joined(said), joined(alone), atol=1e-12)


@pytest.mark.parametrize("mixed", [(False, False), (True, False), (False, True), (True, True)])
def test_what_is_known_adds_up(mixed: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(5)
    one, two = (random_information(rng, 5, mixed=m) for m in mixed)
    np.testing.assert_allclose(joined(one + two), joined(one) + joined(two))
    first = random_information(rng, 3, mixed=mixed[1])
    found = joined(padded(one, first)) - joined(one)
    stays = np.r_[0:3, 5:8]
    np.testing.assert_allclose(found[np.ix_(stays, stays)], joined(first), atol=1e-10)
    others = np.setdiff1d(np.arange(10), stays)
    assert not found[others].any()
    np.testing.assert_allclose(padded(one, first).vector[:, :3], one.vector[:, :3] + first.vector)


def test_information_without_curvature_is_refused() -> None:
    broken = Information(blocks=-np.stack([np.eye(3)] * 2), vector=np.zeros((2, 3)))
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        solve(broken, np.full((2, 3), 0.5))
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        marginal(broken, 1, np.full((2, 2), 0.5))
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        negative_log_evidence([(-np.eye(3), np.zeros(3))], 3, np.full(3, 2.0))


# the evidence


def log_marginal_likelihood(design: Array, targets: Array, sd: Array, variances: Array) -> float:
    """Dense, in the space of the samples: ``N(targets; 0, design^T P design + sd^2)``."""
    covariance = design.T @ (variances[:, None] * design) + np.diag(sd**2)
    return float(multivariate_normal(cov=covariance).logpdf(targets))


def evidence_problem(seed: int) -> tuple[Array, Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    design, targets, sd = rng.normal(size=(6, 30)), rng.normal(size=30), rng.uniform(0.3, 1, 30)
    return design, targets, sd, (design / sd**2) @ design.T, (design / sd**2) @ targets


@few
@given(seeds())
def test_evidence_is_the_marginal_likelihood_of_the_samples(seed: int) -> None:
    design, targets, sd, gram, vector = evidence_problem(seed)
    trials = np.random.default_rng(seed + 1).uniform(0.05, 3, (3, 6))
    found = [negative_log_evidence([(gram, vector)], 6, v) for v in trials]
    plain = [-log_marginal_likelihood(design, targets, sd, v) for v in trials]
    np.testing.assert_allclose(np.diff(found), np.diff(plain), atol=1e-8)


@few
@given(seeds())
def test_slope_of_the_evidence_is_its_derivative(seed: int) -> None:
    _, _, _, gram, vector = evidence_problem(seed)
    logs = np.random.default_rng(seed).normal(size=6)
    found = scored([(gram, vector)], 6, np.exp(logs))

    def value(at: Array) -> float:
        return negative_log_evidence([(gram, vector)], 6, np.exp(at))

    assert found.value == value(logs)
    np.testing.assert_allclose(found.slope, approx_fprime(logs, value), atol=1e-4)


def test_curvature_of_the_evidence_is_what_the_prior_expects_of_it() -> None:
    variances, known = np.array([0.1, 1.0, 5.0]), np.array([20.0, 1.0, 0.01])
    # the value is linear in the squares of the vector, so their expectation gives the value's
    vector, logs = np.sqrt(known + known**2 * variances), np.log(variances)

    def value(at: Array) -> float:
        return negative_log_evidence([(np.diag(known), vector)], 3, np.exp(at))

    for index, found in enumerate(scored([(np.diag(known), vector)], 3, variances).curvature):
        step = 1e-3 * np.eye(3)[index]
        twice = value(logs + step) - 2 * value(logs) + value(logs - step)
        assert found == pytest.approx(twice / 1e-6, rel=1e-3, abs=1e-6)


def several_frames(seed: int) -> tuple[list[tuple[Array, Array]], Array, Array, Array]:
    """Three frames that share the first 4 of 7 functions; also all of them as one dense problem."""
    rng = np.random.default_rng(seed)
    frames, designs, targets, sds = [], [], [], []
    for k in range(3):
        design, seen, sd = rng.normal(size=(7, 25)), rng.normal(size=25), rng.uniform(0.3, 1, 25)
        frames.append(((design / sd**2) @ design.T, (design / sd**2) @ seen))
        own = np.zeros((9, 25))
        own[3 * k : 3 * k + 3] = design[4:]
        designs.append(np.concatenate([design[:4], own]))
        targets.append(seen)
        sds.append(sd)
    return frames, np.concatenate(designs, axis=1), np.concatenate(targets), np.concatenate(sds)


@few
@given(seeds())
def test_joint_evidence_is_the_marginal_likelihood_of_all_frames(seed: int) -> None:
    frames, design, targets, sd = several_frames(seed)
    trials = np.random.default_rng(seed + 1).uniform(0.05, 3, (3, 7))
    found = [negative_log_evidence(frames, 4, v) for v in trials]
    whole = [np.r_[v[:4], np.tile(v[4:], 3)] for v in trials]
    plain = [-log_marginal_likelihood(design, targets, sd, v) for v in whole]
    np.testing.assert_allclose(np.diff(found), np.diff(plain), atol=1e-8)


@few
@given(seeds())
def test_slope_of_the_joint_evidence_is_its_derivative(seed: int) -> None:
    frames = several_frames(seed)[0]
    logs = np.random.default_rng(seed).normal(size=7)
    found = scored(frames, 4, np.exp(logs))

    def value(at: Array) -> float:
        return negative_log_evidence(frames, 4, np.exp(at))

    assert found.value == value(logs)
    np.testing.assert_allclose(found.slope, approx_fprime(logs, value), atol=1e-4)


def test_joint_evidence_of_a_frame_and_of_nothing_is_that_of_the_frame() -> None:
    frame, nothing = several_frames(1)[0][0], (np.zeros((7, 7)), np.zeros(7))
    variances = np.linspace(0.2, 2, 7)
    alone, together = (scored(frames, 4, variances) for frames in ([frame], [frame, nothing]))
    assert together.value == pytest.approx(alone.value)
    np.testing.assert_allclose(together.slope, alone.slope)
    np.testing.assert_allclose(together.curvature, alone.curvature)


def test_decays_are_scored_by_the_evidence_of_all_functions() -> None:
    rng = np.random.default_rng(8)
    others, trials = rng.normal(size=(5, 40)), rng.normal(size=(3 * len(DECAYS), 40))
    weights, targets = rng.uniform(0.5, 2, 40), rng.normal(size=40)
    root = np.sqrt(weights)
    tried, right = trials * root, targets * root
    with_others = (others * root) @ np.c_[tried.T, right]
    found = _score_axis((others * weights) @ others.T, with_others, tried, right)
    plain = []
    for k in range(len(DECAYS)):
        design = np.concatenate([others, trials[3 * k : 3 * k + 3]])
        gram, vector = (design * weights) @ design.T, (design * weights) @ targets
        plain.append(negative_log_evidence([(gram, vector)], 8, np.ones(8)))
    np.testing.assert_allclose(np.diff(found), np.diff(plain), atol=1e-9)


# the process


def test_posterior_is_that_of_scikit_learns_gaussian_process() -> None:
    """The kernel that the basis and its priors stand for, in the space of the samples."""
    rng = np.random.default_rng(9)
    hyperparameters = Hyperparameters.typical(SCAN.pixel_size_nm, SCAN.shape_px[0])
    variances, _ = prior_variances(BASIS, hyperparameters.logs[0])
    places = rng.uniform(0, [69, 89], (60, 2))
    sd = rng.uniform(0.05, 0.15, 60)
    targets = rng.normal(size=(60, 2))
    weights = np.eye(2) / (sd**2)[:, None, None]
    found = solve(gathered(BASIS.design(places), targets, weights), np.tile(1 / variances, (2, 1)))
    new = BASIS.design(rng.uniform(-5, [75, 95], (50, 2)))
    features = np.sqrt(variances)[:, None]
    process = GaussianProcessRegressor(
        kernel=DotProduct(sigma_0=0.0, sigma_0_bounds="fixed"), alpha=sd**2, optimizer=None
    )
    process.fit((features * BASIS.design(places)).T, targets)
    mean, std = process.predict((features * new).T, return_std=True)
    np.testing.assert_allclose((found.mean @ new).T, mean, atol=1e-7)
    ours = np.stack([np.sqrt(np.einsum("in,ij,jn->n", new, c, new)) for c in found.covariance])
    np.testing.assert_allclose(ours.T, std, rtol=1e-5)


@few
@given(seeds(), st.integers(1, 80))
def test_variance_is_never_negative_and_never_above_the_prior(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    logs = prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0] + rng.normal(size=len(NAMES))
    variances, _ = prior_variances(BASIS, logs)
    weights = np.eye(2) * np.ones((count, 1, 1)) / rng.uniform(1e-3, 1) ** 2
    design = BASIS.design(rng.uniform(0, [69, 89], (count, 2)))
    found = solve(
        gathered(design, rng.normal(size=(count, 2)), weights), np.tile(1 / variances, (2, 1))
    )
    anywhere = BASIS.design(rng.uniform(-5, [75, 95], (50, 2)))
    after = np.einsum("in,aij,jn->an", anywhere, found.covariance, anywhere)
    before = variances @ anywhere**2
    assert (after >= 0).all()
    assert (after <= before * (1 + 1e-9)).all()


# what one frame's beam did, as columns show it

TALL = Basis.of_scan(SCAN, 8.0, TERMS, sigma_px=1.6)
assert_close = np.testing.assert_allclose


def test_columns_show_the_mean_of_waves_over_the_lines_that_their_fit_weighs() -> None:
    modes = np.array([3.0, 20.0, 45.0])
    height = np.linspace(-12, 12, 4001)
    wave = np.cos(np.pi / TALL.scan_time.interval_lines * np.outer(modes, height))
    along_x = np.exp(-0.5 * (height / TALL.height_px) ** 2)
    for axis, weights in enumerate((height**2 * along_x, along_x)):
        assert_close(TALL.shown(modes)[axis], wave @ weights / weights.sum(), atol=1e-6)


def drawn_waves(jitter_px: float, *, sd_px: float = 0.09, seed: int = 0) -> FastWaves:
    """Columns everywhere in a frame whose lines jitter, each the mean over its lines."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 1, (4000, 2)) * (np.array(SCAN.shape_px) - 1)
    lines = np.arange(-12, SCAN.shape_px[0] + 12)
    lag = np.subtract.outer(places[:, 0] + places[:, 1] / SCAN.line_period_px, lines)
    weights = np.exp(-0.5 * (lag / TALL.height_px) ** 2)
    seen = (weights / weights.sum(axis=1, keepdims=True)) @ rng.normal(
        0, jitter_px, (len(lines), 2)
    )
    z = seen + rng.normal(0, sd_px, (4000, 2))
    slow = cosines(TALL.scan_time.unit(places), TALL.walk_modes + 1)[1:]
    gram = slow @ slow.T + 4.0 * np.eye(len(slow))
    residual = z - slow.T @ np.linalg.solve(gram, slow @ z)
    return find_fast_waves(TALL, places, residual, np.full((4000, 2), sd_px**-2))


def jitter_logs(jitter_px: float) -> Array:
    logs = prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0]
    logs[NAMES.index("walk")], logs[NAMES.index("jitter")] = -20.0, np.log(jitter_px)
    return logs


def test_fast_waves_have_the_power_of_the_jitter_that_the_columns_show() -> None:
    ratios = []
    for seed in range(100):
        waves = drawn_waves(0.1, seed=seed)
        variances, _ = wave_variances(TALL, jitter_logs(0.1), waves.modes)
        part = TALL.shown(waves.modes)[1] ** 2 * TALL.scan_time.interval_lines / TALL.shape_px[0]
        assert waves.left.min() > 0.8  # the columns stand everywhere
        expected = waves.noise_px2[1] + waves.left**2 * part * variances
        ratios.append(waves.square_px2[1] / expected)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)


def test_waves_that_rows_of_columns_cannot_tell_from_slow_ones_are_not_used() -> None:
    rows = np.arange(2.0, SCAN.shape_px[0], 6.0)
    places = np.stack(np.meshgrid(rows, np.linspace(2, 3, 30), indexing="ij"), axis=-1)
    places = places.reshape(-1, 2)
    waves = find_fast_waves(TALL, places, np.zeros_like(places), np.ones_like(places))
    assert len(waves.modes) < 0.1 * len(drawn_waves(0.0).modes)


@pytest.mark.parametrize("jitter_px", [0.05, 0.2])
def test_fast_waves_are_most_probable_under_their_own_jitter(jitter_px: float) -> None:
    waves = [drawn_waves(jitter_px, seed=seed) for seed in range(8)]

    def surprise(trial: float) -> float:
        logs = jitter_logs(trial)
        return sum(score_fast_waves(one, TALL, 1, logs).value for one in waves)

    trials = jitter_px * np.array([0.5, 1.0, 2.0])
    assert np.argmin([surprise(trial) for trial in trials]) == 1


def first_of(function: Callable[[Array], tuple[Any, Array, Array]], x: Array) -> float:
    return float(np.sum(function(x)[0]))


def test_slope_of_the_fast_waves_is_that_of_their_value() -> None:
    waves, logs = drawn_waves(0.1), prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0]
    for axis in range(2):
        value_of = partial(score_fast_waves, waves, TALL, axis)
        expected = approx_fprime(logs, partial(first_of, value_of))
        assert_close(value_of(logs).slope, expected, atol=1e-3)


def test_a_walk_is_expected_to_be_as_long_in_lines_whatever_the_frame() -> None:
    row, lines = NAMES.index("walk_length"), np.array([128, 512, 2048])
    share = [np.exp(prior_logs(SCAN.pixel_size_nm, int(n))[0][row]) for n in lines]
    assert_close(share * lines, share[0] * lines[0], atol=1e-9)


def test_priors_are_densities_with_their_slopes() -> None:
    mean, std = prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])
    steps = np.linspace(-400, 400, 160_001)
    surprise = np.stack(
        [
            prior_surprise(mean + step * std, SCAN.pixel_size_nm, SCAN.shape_px[0])[0]
            for step in steps
        ]
    )
    assert_close(np.trapezoid(np.exp(-surprise), steps, axis=0) * std, 1.0, atol=1e-3)
    logs = mean + std * np.linspace(-3, 3, len(mean))
    value_of = partial(prior_surprise, pixel_size_nm=SCAN.pixel_size_nm, lines=SCAN.shape_px[0])
    slope = approx_fprime(logs, partial(first_of, value_of))
    _, found, curvature = prior_surprise(logs, SCAN.pixel_size_nm, SCAN.shape_px[0])
    assert_close(found, slope, atol=1e-4)
    assert_close(found, curvature * (logs - mean), atol=1e-12)
    assert (curvature > 0.0).all()


def weighed(jitter_px: float, found_px: float) -> float:
    """Jitter that is expected along x after columns showed it as ``found_px``, in px."""
    size = TALL.size
    nothing = Information(blocks=np.zeros((2, size, size)), vector=np.zeros((2, size)))
    evidence = Evidence(information=nothing, apart=nothing, waves=drawn_waves(jitter_px))
    logs = np.tile(jitter_logs(found_px), (2, 1))
    found = weigh_calm([evidence], TALL, Hyperparameters(logs=logs), SCAN.pixel_size_nm)
    return float(np.exp(found.logs[1, NAMES.index("jitter")]))


def test_jitter_that_is_seen_stays_and_jitter_that_may_not_be_shrinks() -> None:
    assert weighed(0.3, 0.3) == pytest.approx(0.3)
    assert weighed(0.0, 0.01) < 0.008


def test_waves_that_a_live_model_lacks_have_the_variance_they_would_have_in_a_calibration() -> None:
    logs = prior_logs(SCAN.pixel_size_nm, SCAN.shape_px[0])[0]
    live, refined = BASIS, BASIS.refined()
    fast = prior_variances(refined, logs)[0][refined.slices["fast"]]
    assert finer_variance(live, logs) == pytest.approx(fast[live.fast_modes - 1 :].sum())
    assert finer_variance(live, logs) > 0.0
    assert finer_variance(refined, logs) == 0.0
    assert finer_variance(replace(live, terms=live.terms - {"fast_axis"}), logs) == 0.0


def test_the_spread_of_decays_is_that_of_their_evidence() -> None:
    logs = np.log(DECAYS)
    scores = 1e6 + 0.5 * ((logs - logs[12]) / 0.3) ** 2
    assert _spread_of_decays(scores) == pytest.approx(0.3, rel=0.01)
    scores[3] = -1e6
    assert _spread_of_decays(scores) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("freedom", ["affine", "similarity", "rigid"])
def test_maps_fitted_to_vectors_are_those_of_a_dense_least_squares(freedom: Freedom) -> None:
    rng = np.random.default_rng(5)
    places = rng.uniform([100.0, 0.0], [160.0, 500.0], (200, 2))
    vectors, weights = rng.normal(size=(200, 2)), rng.uniform(0.0, 2.0, 200)
    y, x = places.T
    none, one = np.zeros(200), np.ones(200)
    along = [[one, none], [none, one], [-x, y], [y, x]]  # shifts, a turn, a scale
    if freedom == "rigid":
        along = along[:3]
    if freedom == "affine":
        along = [[k, none] for k in (one, y, x)] + [[none, k] for k in (one, y, x)]
    members = np.array(along).transpose(2, 1, 0)
    root = np.sqrt(weights)[:, None]
    design, target = (root[:, None] * members).reshape(400, -1), (root * vectors).ravel()
    expected = members @ np.linalg.lstsq(design, target, rcond=None)[0]
    found = np.c_[one, places] @ fitted(places, vectors, weights, freedom).T
    np.testing.assert_allclose(found, expected, atol=1e-9)
