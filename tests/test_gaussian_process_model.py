"""Models and fields held against the truth, dense algebra and brute force."""

import pickle
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_cases import (
    DECAY,
    SMALL,
    every_pixel,
    flyback,
    flyback_model,
    microscope,
    model_of,
    sampled,
    without_affine,
)
from strategies import few, seeds

from nion_distortion.frame import UnusableFrameError
from nion_distortion.gaussian_process import Drift, first_model, learning, refit_amplitudes
from nion_distortion.gaussian_process.drift import between, follow_drift
from nion_distortion.gaussian_process.fields import FieldEstimate, _Nodes
from nion_distortion.gaussian_process.fitting import (
    fit_frame,
    frame_evidence,
    stationary_posterior,
    walk_precision,
)
from nion_distortion.gaussian_process.gauge import find_gauge
from nion_distortion.gaussian_process.hyperparameters import NAMES, prior_variances
from nion_distortion.gaussian_process.weights import Information
from nion_distortion.options import TERMS
from nion_distortion.scan_places import scan_places_of_pixels
from simulator.microscope import Microscope
from simulator.scan import ScanErrors

Array = npt.NDArray[np.float64]


# one frame


def test_a_frame_that_comes_again_is_fitted_and_teaches_nothing() -> None:
    machine = microscope(ScanErrors(smooth_nm=0.03, walk_nm=0.005))
    model, _ = model_of(machine, frames=2)
    samples, lattice, _ = sampled(machine)
    again = model.updated(replace(samples, frame_id="again"), lattice)
    assert [one.frame_id for one in again.samples] == ["frame 1", "again"]
    assert again.frame_estimate().field.frame_id == "again"
    assert again.frames == model.frames == len(again.samples)
    np.testing.assert_array_equal(again.known.blocks, model.known.blocks)
    np.testing.assert_array_equal(again.distortion_px, model.distortion_px)
    assert again.last is not None
    assert model.last is not None
    assert len(again.last.predicted_px) == len(samples)
    walks = (one.posterior.mean[:, one.basis.slices["walk"]] for one in (model.last, again.last))
    assert np.abs(np.subtract(*walks)).max() > 0.0  # it is that frame's own
    first = model_of(machine)[0]
    twice = first.updated(first.samples[0], lattice)
    once = first.frame_estimate().field.std_px.mean()
    assert twice.frame_estimate().field.std_px.mean() == pytest.approx(once, rel=0.02)


def test_the_decay_of_the_flyback_is_found() -> None:
    model, _ = flyback_model()
    assert model.basis.decay == pytest.approx(DECAY, rel=0.15)


@pytest.mark.parametrize("sign", [1, -1])
def test_strong_flyback_is_removed_from_a_small_frame(sign: int) -> None:
    model, truth = model_of(microscope(flyback(sign=sign), seed=3))
    field = model.stationary_field()
    pixels, seen = every_pixel(SMALL), field.valid.ravel()
    shown = pixels + field.displacement_px.reshape(2, -1).T
    left = without_affine(truth.stationary_place_px(shown[seen]), pixels[seen])
    raw = without_affine(truth.stationary_place_px(pixels[seen]), pixels[seen])
    assert 1 - (left**2).sum() / (raw**2).sum() > 0.995


def restless() -> tuple[Microscope, int]:
    """Return a scan, and the number of a frame, whose amplitudes grow from pass to pass."""
    errors = replace(
        flyback(),
        smooth_nm=0.04,
        fast_axis_step_nm=0.005,
        line_jitter_nm=0.004,
        walk_nm=0.008,
        drift_nm_s=(0.02, -0.01),
        seed=19,
    )
    return microscope(errors, turn_rad=1.05, seed=19), 1


def test_a_first_fit_does_not_run_away() -> None:
    machine, index = restless()
    samples, lattice, truth = sampled(machine, index=index)
    field = first_model(samples, lattice, TERMS).stationary_field()
    pixels, seen = every_pixel(SMALL), field.valid.ravel()
    shown = pixels + field.displacement_px.reshape(2, -1).T
    left = without_affine(truth.stationary_place_px(shown[seen]), pixels[seen])
    raw = without_affine(truth.stationary_place_px(pixels[seen]), pixels[seen])
    assert 1 - (left**2).sum() / (raw**2).sum() > 0.9


def test_columns_far_off_do_not_bend_a_frame_that_has_a_model() -> None:
    machine = microscope(flyback())
    model = model_of(machine)[0]
    samples, lattice, _ = sampled(machine, index=1)
    seen = samples.observed_px.copy()
    seen[::150] += [3.0, 0.0]
    clean = model.updated(samples, lattice)
    spoilt = model.updated(replace(samples, observed_px=seen), lattice)
    change = spoilt.stationary_field().displacement_px - clean.stationary_field().displacement_px
    assert np.sqrt(np.mean(change**2)) < 0.02
    assert spoilt.last is not None
    assert clean.last is not None
    assert not spoilt.last.robust[::150].any()
    assert np.mean(clean.last.robust) > 0.99


def test_too_few_columns_are_refused() -> None:
    samples, lattice, _ = sampled(microscope(ScanErrors()))
    few_of_them = {
        name: getattr(samples, name)[:19]
        for name in ("crystal_sites", "sites_px", "observed_px", "covariance_px2")
    }
    few_samples = replace(samples, **few_of_them)
    with pytest.raises(UnusableFrameError, match="only 19 columns were indexed; a model needs 20"):
        first_model(few_samples, lattice, TERMS)
    model, _ = flyback_model()
    with pytest.raises(UnusableFrameError, match="only 19 columns"):
        model.updated(few_samples, lattice)


def test_samples_of_another_scan_are_refused_by_name() -> None:
    other = replace(SMALL, dwell_time_us=2.0, rotation_rad=0.3)
    samples, lattice, _ = sampled(microscope(ScanErrors()), other)
    with pytest.raises(ValueError, match="dwell_time_us, rotation_rad"):
        flyback_model()[0].updated(samples, lattice)


def test_a_model_is_the_same_after_a_pickle() -> None:
    model, _ = flyback_model()
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.stationary_field().displacement_px, model.stationary_field().displacement_px
    )
    arrays = (again.known.blocks, again.stationary.covariance, again.hyperparameters.logs)
    for array in (*arrays, again.distortion_px):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_frame_alone_gets_its_own_field() -> None:
    model, _ = flyback_model()
    field = model.frame_estimate().field
    assert (field.kind, field.frame_id) == ("frame", "frame 0")
    assert model.stationary_field().kind == "stationary"


# several frames


def joined(known: Information) -> Array:
    cross = np.zeros_like(known.blocks[0]) if known.cross is None else known.cross
    return np.block([[known.blocks[0], cross], [cross.T, known.blocks[1]]])


def test_one_by_one_equals_together() -> None:
    """Three frames, each with its own W_k: summed information against one dense solution."""
    model, _ = flyback_model()
    machine = microscope(flyback())
    frames = [sampled(machine, index=k)[0] for k in range(3)]
    basis, given_ = model.basis, model.hyperparameters
    kept, size = basis.stationary_size, basis.size
    parts = [frame_evidence(one, basis, given_, model.distortion_px).information for one in frames]
    fits = []
    known = Information(blocks=np.zeros((2, kept, kept)), vector=np.zeros((2, kept)))
    for one in frames:
        fits.append(fit_frame(one, basis, given_, known=known, moving_px=model.distortion_px))
        known = known + fits[-1].known
    found = stationary_posterior(basis, given_, known)

    own, total = size - kept, kept + 3 * (size - kept)
    walk = walk_precision(basis, given_)
    precision = np.stack([1 / prior_variances(basis, logs)[0] for logs in given_.logs])[:, :kept]
    matrix = np.diag(np.c_[precision, np.tile(walk, 3)].ravel())
    vector = np.zeros(2 * total)
    for k, part in enumerate(parts):
        mine = np.r_[0:kept, kept + own * k : kept + own * (k + 1)]
        rows = np.r_[mine, total + mine]
        matrix[np.ix_(rows, rows)] += joined(part)
        vector[rows] += part.vector.ravel()
    covariance = np.linalg.inv(matrix)
    mean = covariance @ vector
    both = np.r_[0:kept, total : total + kept]
    np.testing.assert_allclose(found.mean.ravel(), mean[both], atol=1e-8)
    for axis, start in enumerate((0, total)):
        block = covariance[start : start + kept, start : start + kept]
        np.testing.assert_allclose(found.covariance[axis], block, atol=1e-8)
    last = fits[-1].posterior.mean[:, :kept]  # the last frame's fit knows all three
    np.testing.assert_allclose(last.ravel(), mean[both], atol=1e-6)


def test_a_model_counts_its_frames_and_keeps_their_samples() -> None:
    model, _ = model_of(microscope(flyback()), frames=3)
    assert model.frames == len(model.samples) == 3
    assert [one.frame_id for one in model.samples] == ["frame 0", "frame 1", "frame 2"]
    assert model.frame_estimate().field.frame_id == "frame 2"


def test_chi2_is_one_however_much_earlier_frames_have_determined() -> None:
    """What they determined is no freedom that this frame has lost."""
    machine = microscope(flyback(), seed=2)
    model, _ = model_of(machine, frames=8)
    chi2 = []
    for index in range(8, 16):
        samples, lattice, _ = sampled(machine, index=index)
        last = model.updated(samples, lattice).last
        assert last is not None
        chi2.append(last.chi2)
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.06)


def test_more_frames_make_d_surer() -> None:
    machine = microscope(flyback())
    one, three = (model_of(machine, frames=n)[0].stationary_field().std_px.mean() for n in (1, 3))
    assert three < 0.8 * one


def test_amplitudes_found_again_tell_a_walk_from_a_distortion() -> None:
    """A frame that only walks: one frame cannot know, five can."""
    walk, smooth = NAMES.index("walk"), NAMES.index("smooth")
    sizes, walks = [], []
    for seed in range(3):
        errors = ScanErrors(walk_nm=0.03, walk_correlation_lines=25.0, seed=seed)
        model, _ = model_of(microscope(errors), frames=5)
        again = refit_amplitudes(model)
        before, after = np.exp(model.hyperparameters.logs), np.exp(again.hyperparameters.logs)
        assert (after[:, smooth] < before[:, smooth]).all()
        fields = [m.stationary_field().displacement_px for m in (again, model)]
        sizes.append([np.square(one).mean() for one in fields])
        walks.append([after[:, walk], before[:, walk]])
        assert again.frames == model.frames
    after_px, before_px = np.mean(walks, axis=(0, 2))
    assert before_px < after_px
    assert after_px == pytest.approx(0.03 / SMALL.pixel_size_nm, rel=0.3)
    after_px2, before_px2 = np.mean(sizes, axis=0)
    assert after_px2 < 0.5 * before_px2


def test_errors_that_may_not_be_there_shrink_and_a_walk_that_is_seen_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = [microscope(ScanErrors(walk_nm=walk_nm, seed=3), seed=3) for walk_nm in (0.0, 0.03)]
    weighed = [model_of(machine)[0].hyperparameters.logs for machine in machines]
    monkeypatch.setattr(learning, "PERHAPS_ABSENT", ("jitter",))
    most_probable = [model_of(machine)[0].hyperparameters.logs for machine in machines]
    for name in ("walk", "frame", "fast"):
        where = NAMES.index(name)
        assert (weighed[0][:, where] < most_probable[0][:, where] - 0.1).all()
    walk = NAMES.index("walk")
    np.testing.assert_allclose(weighed[1][:, walk], most_probable[1][:, walk], atol=1e-6)


def test_amplitudes_are_not_found_again_without_all_samples() -> None:
    model, _ = flyback_model()
    with pytest.raises(ValueError, match="need the samples of all 2 frames, not of 1"):
        refit_amplitudes(replace(model, frames=2))


# drift


CENTRE = np.array([71.5, 79.5])
CELL = np.array([[12.4, -1.1], [0.9, 12.6]])


def lattice_at(shift: Array, cells: Array | None = None) -> Array:
    """A_k of a crystal that moved, its origin in any cell."""
    origin = np.array([5.0, 6.0]) + shift + CELL @ (np.zeros(2) if cells is None else cells)
    return np.asarray(np.c_[origin, CELL])


@few
@given(seeds(), st.floats(0, 2 * np.pi))
def test_drift_is_followed_over_many_cells(seed: int, angle: float) -> None:
    rng = np.random.default_rng(seed)
    step = 0.2 * 12 * np.array([np.sin(angle), np.cos(angle)])
    drift = follow_drift(None, lattice_at(np.zeros(2)), CENTRE, 0.0)
    for k in range(1, 31):
        moved = lattice_at(k * step, rng.integers(-9, 9, 2).astype(float))
        drift = follow_drift(drift, moved, CENTRE, float(k))
        assert not drift.ambiguous
        np.testing.assert_allclose(drift.offset_px, k * step, atol=1e-8)
        np.testing.assert_allclose(drift.step_px, step, atol=1e-8)


def test_the_first_frame_has_not_moved() -> None:
    drift = follow_drift(None, lattice_at(np.ones(2)), CENTRE, None)
    assert not drift.offset_px.any()
    assert not drift.ambiguous


@pytest.mark.parametrize("cells", [(0.5, 0.0), (0.0, -0.45), (0.4, 0.4)])
def test_a_jump_of_about_half_a_cell_starts_the_trajectory_anew(
    cells: tuple[float, float],
) -> None:
    drift = follow_drift(None, lattice_at(np.zeros(2)), CENTRE, 0.0)
    drift = follow_drift(drift, lattice_at(np.ones(2)), CENTRE, 1.0)
    jump = follow_drift(drift, lattice_at(np.ones(2) + CELL @ cells), CENTRE, 2.0)
    assert jump.ambiguous
    assert not jump.offset_px.any()
    after = follow_drift(jump, lattice_at(np.ones(2) + CELL @ cells + 0.5), CENTRE, 3.0)
    assert not after.ambiguous
    np.testing.assert_allclose(after.offset_px, 0.5)


def test_a_longer_pause_expects_a_longer_step() -> None:
    drift = follow_drift(None, lattice_at(np.zeros(2)), CENTRE, 0.0)
    drift = follow_drift(drift, lattice_at(np.array([1.5, 0.0])), CENTRE, 1.0)
    drift = follow_drift(drift, lattice_at(np.array([4.5, 0.0])), CENTRE, 3.0)
    np.testing.assert_allclose(drift.step_px, [3.0, 0.0], atol=1e-9)
    assert not drift.ambiguous
    without_times = follow_drift(drift, lattice_at(np.array([7.5, 0.0])), CENTRE, None)
    np.testing.assert_allclose(without_times.offset_px, [7.5, 0.0], atol=1e-9)


def test_a_frame_beside_a_missing_one_drifts_as_fast_as_the_others() -> None:
    drifts: list[Drift] = []
    for time_s in (0.0, 1.0, 3.0, 4.0):
        moved = lattice_at(time_s * np.array([0.3, -0.2]))
        drifts.append(follow_drift(drifts[-1] if drifts else None, moved, CENTRE, time_s))
    for before, after in pairwise([*drifts, None]):
        assert before is not None
        drift = between(before, after)
        assert drift.interval_s == 1.0
        np.testing.assert_allclose(drift.step_px, [0.3, -0.2], atol=1e-9)


@pytest.mark.parametrize("times_s", [(0.0, 1.0, 3.0, 4.0), (0.0, 2.0, 3.0, 4.0)])
def test_a_drift_that_changes_steadily_is_told_at_the_frame(times_s: tuple[float, ...]) -> None:
    rate, change = np.array([0.3, 0.2]), np.array([0.05, -0.1])
    first, second, third, _ = (lattice_at(rate * t + 0.5 * change * t**2) for t in times_s)
    drift = follow_drift(None, first, CENTRE, times_s[0])
    drift = follow_drift(drift, second, CENTRE, times_s[1])
    drift = between(drift, follow_drift(drift, third, CENTRE, times_s[2]))
    assert drift.interval_s == 1.0
    np.testing.assert_allclose(drift.step_px, rate + change * times_s[1], atol=1e-9)


def test_steps_without_times_count_alike() -> None:
    drift = follow_drift(None, lattice_at(np.zeros(2)), CENTRE, None)
    drift = follow_drift(drift, lattice_at(np.array([1.0, 0.0])), CENTRE, None)
    drift = between(drift, follow_drift(drift, lattice_at(np.array([3.0, 0.0])), CENTRE, None))
    assert drift.interval_s is None
    np.testing.assert_allclose(drift.step_px, [1.5, 0.0], atol=1e-9)


def test_a_lattice_that_grows_about_the_centre_does_not_drift() -> None:
    drift = follow_drift(None, lattice_at(np.zeros(2)), CENTRE, 0.0)
    grown = np.c_[CENTRE + 1.01 * (np.array([5.0, 6.0]) - CENTRE), 1.01 * CELL]
    np.testing.assert_allclose(follow_drift(drift, grown, CENTRE, 1.0).offset_px, 0, atol=1e-9)


def test_a_change_of_drift_is_told_by_the_lattice_of_one_frame() -> None:
    lines, step = 2 * CENTRE[0] + 1, np.array([1.0, 9.6])  # 0.8 of a cell, along x
    drift = follow_drift(None, lattice_at(np.zeros(2)), CENTRE, 0.0)
    sheared = lattice_at(step)
    shear = np.eye(2) + np.outer(step / lines, [1.0, 0.0])
    sheared[:, 1:] = shear @ sheared[:, 1:]
    sheared[:, 0] = CENTRE + step + shear @ (sheared[:, 0] - CENTRE - step)
    drift = follow_drift(drift, sheared, CENTRE, 1.0)
    np.testing.assert_allclose(drift.step_px + drift.offset_px, 0, atol=1e-9)
    assert drift.ambiguous  # more than 0.35 of a cell, so said rather than told short by a cell


def test_drift_cannot_be_altered() -> None:
    drift: Drift = pickle.loads(pickle.dumps(follow_drift(None, lattice_at(CENTRE), CENTRE, 0.0)))
    with pytest.raises(ValueError, match="read-only"):
        drift.offset_px[0] = 1


# the gauge


def affine_part(field: Any) -> Array:
    pixels, seen = every_pixel(field.settings), field.valid.ravel()
    design = np.c_[np.ones(len(pixels)), pixels][seen]
    displacement = field.displacement_px.reshape(2, -1).T[seen]
    part = np.linalg.lstsq(design, displacement, rcond=None)[0]
    ny, nx = field.settings.shape_px
    corners = np.array([[1, 0, 0], [1, ny, 0], [1, 0, nx], [1, ny, nx]])
    return np.asarray(corners @ part)


@pytest.mark.parametrize("kind", ["stationary", "frame"])
def test_a_field_has_no_affine_part_over_what_the_scan_saw(kind: str) -> None:
    model, _ = flyback_model()
    estimate = model.stationary_estimate() if kind == "stationary" else model.frame_estimate()
    assert np.abs(affine_part(estimate.field)).max() < 1e-2


@few
@given(seeds())
def test_the_gauge_does_not_depend_on_affine_motion(seed: int) -> None:
    """An affine motion of the beam is the gauge's, not the field's: nothing is left of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:72, :80] / 80.0
    plane = rng.normal(size=(2, 3))
    moving = plane[:, 0, None, None] + plane[:, 1, None, None] * y + plane[:, 2, None, None] * x
    moving = np.ascontiguousarray(moving, dtype=np.float32)
    displacement, valid, _ = scan_places_of_pixels(moving, find_gauge(moving))
    assert valid.mean() > 0.9
    assert np.abs(displacement[:, valid]).max() < 2e-2


# standard deviations


def drawn_std(field: Any, draw: Any, count: int) -> Array:
    """Rms over draws of the place errors at pixels without their affine part, (2, n)."""
    pixels, seen = every_pixel(SMALL, 3), field.valid[::3, ::3].ravel()
    shown = pixels + field.displacement_px[:, ::3, ::3].reshape(2, -1).T
    errors = draw(shown, count)  # (2, n, count)
    affine = np.c_[np.ones(len(pixels)), pixels]
    fit = np.linalg.pinv(affine[seen])
    rest = errors - affine @ (fit @ errors[:, seen])
    return np.asarray(np.sqrt((rest**2).mean(axis=2)))


def claimed(values: npt.NDArray[np.float32]) -> Array:
    return values[:, ::3, ::3].reshape(2, -1).astype(np.float64)


@pytest.mark.parametrize("kind", ["stationary", "frame"])
def test_std_is_that_of_fields_drawn_from_the_posterior(kind: str) -> None:
    model, _ = flyback_model()
    estimate: FieldEstimate = (
        model.stationary_estimate() if kind == "stationary" else model.frame_estimate()
    )
    assert model.last is not None
    posterior = model.stationary if kind == "stationary" else model.last.posterior
    size = model.basis.stationary_size if kind == "stationary" else model.basis.size
    rng = np.random.default_rng(0)

    def draw(shown: Array, count: int) -> Array:
        design = model.basis.design(shown)[:size]
        roots = np.linalg.cholesky(posterior.covariance[:, :size, :size])
        return np.asarray(
            np.einsum("mn,amk->ank", design, roots @ rng.normal(size=(2, size, count)))
        )

    brute = drawn_std(estimate.field, draw, 1500)
    seen = estimate.field.valid[::3, ::3].ravel()
    ratio = (claimed(estimate.field.std_px) / brute)[:, seen]
    off = np.abs(ratio - 1)
    assert np.quantile(off, 0.995) < 0.1  # the others stand at the very edge of what was seen
    assert off.max() < 0.35
    rms = [
        np.sqrt(np.mean(part**2))
        for part in (claimed(estimate.field.std_px)[:, seen], brute[:, seen])
    ]
    assert rms[0] == pytest.approx(rms[1], rel=0.03)


@pytest.mark.parametrize("kind", ["stationary", "frame"])
def test_variances_at_many_places_are_those_of_the_covariance(kind: str) -> None:
    """Also where weights hang on each other, as those of the lattice, the walk and D do."""
    model, _ = flyback_model()
    assert model.last is not None
    posterior = model.stationary if kind == "stationary" else model.last.posterior
    size = model.basis.stationary_size if kind == "stationary" else model.basis.size
    places = np.random.default_rng(0).uniform(0, SMALL.shape_px, (400, 2))
    functions = model.basis.design(places)[:size]
    covariance = posterior.covariance[:, :size, :size]
    exact = np.einsum("kn,akl,ln->an", functions, covariance, functions)
    found = posterior.variances_of(functions.astype(np.float32))
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_a_standard_deviation_that_rises_steeply_is_nowhere_zero() -> None:
    """A spline through a few such nodes swings below all of them."""
    shape = (144, 160)
    nodes = _Nodes.of(np.zeros((2, *shape), np.float32), np.ones(shape, dtype=bool))
    values = np.full((2, len(nodes.y) * len(nodes.x)), 0.02)
    values.reshape(2, len(nodes.y), len(nodes.x))[:, :, :2] = 1.0
    (spread,) = nodes.spread(values)
    assert spread.min() == pytest.approx(0.02)
    at_nodes = spread[:, nodes.y[:, None], nodes.x]
    np.testing.assert_allclose(at_nodes.reshape(2, -1), values, rtol=1e-4)


def test_unremoved_std_is_that_of_walks_drawn_from_their_prior() -> None:
    """An exponentially correlated walk and white jitter of lines, drawn line by line."""
    model, _ = flyback_model()
    field = model.stationary_field()
    logs = model.hyperparameters.logs
    lines = np.arange(SMALL.shape_px[0] + 1)
    rng = np.random.default_rng(0)

    def draw(shown: Array, count: int) -> Array:
        both = []
        time = shown[:, 0] + shown[:, 1] / SMALL.line_period_px
        for log in logs:
            value = dict(zip(NAMES, np.exp(log), strict=True))
            length = value["walk_length"] * model.basis.scan_time.interval_lines
            lag = np.abs(np.subtract.outer(lines, lines))
            root = np.linalg.cholesky(value["walk"] ** 2 * np.exp(-lag / length))
            walk = root @ rng.normal(size=(len(lines), count))
            first = np.clip(time.astype(int), 0, len(lines) - 2)
            part = np.clip(time - first, 0, 1)[:, None]
            jitter = value["jitter"] * rng.normal(size=(len(lines), count))
            row = np.clip(np.rint(shown[:, 0]).astype(int), 0, len(lines) - 1)
            both.append((1 - part) * walk[first] + part * walk[first + 1] + jitter[row])
        return np.stack(both)

    ratio = claimed(field.unremoved_std_px) / drawn_std(field, draw, 600)
    seen = field.valid[::3, ::3].ravel()
    rms = np.sqrt((ratio[:, seen] ** 2).mean(axis=1))
    np.testing.assert_allclose(rms, 1.0, atol=0.1)
    assert ratio[:, seen].min() > 0.8
    assert ratio[:, seen].max() < 1.2


def test_a_fit_that_ran_away_is_no_picture() -> None:
    with pytest.raises(UnusableFrameError, match=r"^the fit of the distortion ran away"):
        find_gauge(np.full((2, 96, 128), 1e4, np.float32))
