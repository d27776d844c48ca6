import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA, TruncatedSVD

from nion_distortion.principal_components import (
    LiveComponents,
    PrincipalComponents,
    distortion_components,
    principal_components,
)

Array = npt.NDArray[np.floating[Any]]
few = settings(deadline=None, derandomize=True, max_examples=15)


def rebuilt(components: PrincipalComponents) -> Array:
    moving = np.einsum("kt,kcn->tcn", components.eigenmodes, components.loading_maps)
    return np.asarray(components.mean + moving)


def correlation(one: Array, two: Array) -> float:
    return float(np.corrcoef(np.ravel(one), np.ravel(two))[0, 1])


def fields_of_a_scan(
    rng: np.random.Generator, count: int, shape: tuple[int, int] = (40, 48)
) -> tuple[Array, Array]:
    """Stationary distortion (2, ny, nx) px, and fields (t, 2, ny, nx) that change around it."""
    y, x = np.indices(shape) / max(shape)
    stationary = np.stack([0.4 * np.sin(3 * y + x), 2 * np.exp(-x / 0.06) + 0.3 * np.cos(4 * y)])
    moving = 0.15 * np.stack([np.cos(5 * x), np.sin(6 * x * y)])
    course = np.sin(np.arange(count) * 0.7)
    stack = stationary + course[:, None, None, None] * moving
    return stationary, stack + rng.normal(0, 0.02, stack.shape)


def test_known_components_are_found() -> None:
    rng = np.random.default_rng(0)
    times = np.linspace(-1, 1, 50)
    maps = (
        np.linalg.qr(rng.normal(size=(60, 2)))[0].T.reshape(2, 2, 30)
        * np.array([9.0, 3.0])[:, None, None]
    )
    courses = np.stack([times, times**2 - np.mean(times**2)])
    series = 5.0 + np.einsum("kt,kcn->tcn", courses, maps)

    found = principal_components(series, centred=True)

    power = np.array([81, 9]) * (courses**2).sum(axis=1)
    assert len(found) == 2
    assert found.mean == pytest.approx(np.full((2, 30), 5.0))
    assert found.explained_variance_ratio == pytest.approx(power / power.sum())
    for k in (0, 1):
        assert correlation(found.eigenmodes[k], courses[k]) == pytest.approx(1)
        assert correlation(found.loading_maps[k], maps[k]) == pytest.approx(1)
    assert (found.eigenmodes**2).mean(axis=1) == pytest.approx(np.ones(2))


@few
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(2, 9), st.integers(1, 2), st.integers(1, 9)),
    centred=st.booleans(),
)
def test_all_components_together_rebuild_the_series(
    *, seed: int, shape: tuple[int, int, int], centred: bool
) -> None:
    series = np.random.default_rng(seed).normal(2, 1, shape)

    found = principal_components(series, centred=centred, n_components=99)

    assert rebuilt(found) == pytest.approx(series, abs=1e-9)
    assert found.explained_variance_ratio.sum() == pytest.approx(1)
    assert np.all(np.diff(found.explained_variance_ratio) <= 0)


@pytest.mark.parametrize("centred", [True, False])
def test_components_are_those_of_scikit_learn(*, centred: bool) -> None:
    series = np.random.default_rng(1).normal(0.3, 1, (40, 2, 25))
    series += np.linspace(0, 3, 40)[:, None, None] * np.linspace(-1, 1, 25)
    flat = series.reshape(40, -1)

    found = principal_components(series, centred=centred, n_components=4)

    if centred:
        theirs = PCA(4, svd_solver="full").fit(flat)
        assert found.explained_variance_ratio == pytest.approx(theirs.explained_variance_ratio_)
        assert found.mean.ravel() == pytest.approx(theirs.mean_)
    else:
        theirs = TruncatedSVD(4, algorithm="arpack").fit(flat)
        power = theirs.singular_values_**2
        assert found.explained_variance_ratio == pytest.approx(power / (flat**2).sum())
        assert not found.mean.any()
    directions = found.loading_maps.reshape(4, -1)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.abs((directions * theirs.components_).sum(axis=1)) == pytest.approx(np.ones(4))


@few
@given(seed=st.integers(0, 99), centred=st.booleans())
def test_signs_do_not_depend_on_the_order_of_the_places(*, seed: int, centred: bool) -> None:
    rng = np.random.default_rng(seed)
    series = rng.normal(0.5, 1, (12, 1, 30))
    order = rng.permutation(30)

    one = principal_components(series, centred=centred)
    two = principal_components(series[:, :, order], centred=centred)

    assert two.eigenmodes == pytest.approx(one.eigenmodes, abs=1e-8)
    assert two.loading_maps == pytest.approx(one.loading_maps[:, :, order], abs=1e-8)


def test_drift_is_the_first_component_of_trajectories() -> None:
    rng = np.random.default_rng(2)
    drift = np.linspace(0, 4, 30)[:, None] * np.array([0.6, -0.8])
    sites = rng.uniform(0, 512, (200, 2))
    trajectories = (sites + drift[:, None] + rng.normal(0, 0.1, (30, 200, 2))).transpose(0, 2, 1)

    first = principal_components(trajectories, centred=True)

    assert correlation(first.eigenmodes[0], np.arange(30.0)) > 0.999
    direction = first.loading_maps[0].mean(axis=1)
    assert direction / np.linalg.norm(direction) == pytest.approx([0.6, -0.8], abs=0.01)
    assert first.loading_maps[0].std(axis=1).max() < 0.05 * np.linalg.norm(direction)
    assert first.explained_variance_ratio[0] > 0.9


def test_stationary_distortion_is_the_first_component_with_a_flat_eigenmode() -> None:
    stationary, stack = fields_of_a_scan(np.random.default_rng(3), 20)

    found = distortion_components(stack)
    centred = distortion_components(stack, centred=True)

    for axis in (0, 1):
        first = found[axis]
        assert correlation(first.loading_maps[0], stationary[axis]) > 0.99
        assert first.eigenmodes[0] == pytest.approx(np.ones(20), abs=0.1)
        assert not first.centred
        assert centred[axis].centred
        assert abs(correlation(centred[axis].loading_maps[0], stationary[axis])) < 0.5


def test_only_the_mean_over_the_places_of_each_field_is_taken_out() -> None:
    rng = np.random.default_rng(4)
    _, stack = fields_of_a_scan(rng, 8)
    shifted = stack + rng.normal(0, 30, (8, 2, 1, 1))

    for one, two in zip(
        distortion_components(stack), distortion_components(shifted.reshape(8, 2, -1)), strict=True
    ):
        assert two.eigenmodes == pytest.approx(one.eigenmodes, abs=1e-6)
        assert two.loading_maps == pytest.approx(one.loading_maps, abs=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 40, 150])
def test_live_components_are_those_of_the_batch_in_the_buffer(frames: int) -> None:
    _, stack = fields_of_a_scan(np.random.default_rng(5), frames, (64, 96))
    live = LiveComponents()

    for field_px in stack.astype(np.float32):
        live = live.added(field_px)

    kept = stack[-100:].astype(np.float32).astype(np.float64)
    means = kept.reshape(-1, 2, 32, 2, 32, 3).mean(axis=(3, 5)).reshape(-1, 2, 1024)
    means -= means.mean(axis=2, keepdims=True)
    assert len(live) == min(frames, 100)
    assert live.fields_px == pytest.approx(means, abs=1e-6)
    for one, two in zip(live.components(), distortion_components(live.fields_px), strict=True):
        assert one.loading_maps == pytest.approx(two.loading_maps, abs=1e-6)
        assert one.eigenmodes == pytest.approx(two.eigenmodes, abs=1e-6)
        assert one.explained_variance_ratio == pytest.approx(two.explained_variance_ratio, abs=1e-6)


def test_adding_a_field_leaves_the_older_buffer_as_it_was() -> None:
    _, stack = fields_of_a_scan(np.random.default_rng(6), 6, (16, 16))
    older = LiveComponents(capacity=3, grid=(4, 4))
    for field_px in stack[:4]:
        older = older.added(field_px)
    before = older.fields_px.copy(), older.products_px2.copy()

    newer = older.added(stack[4]).added(stack[5])

    assert len(older) == len(newer) == 3
    assert np.array_equal(older.fields_px, before[0])
    assert np.array_equal(older.products_px2, before[1])
    assert np.array_equal(newer.fields_px[0], older.fields_px[2])


def test_areas_of_a_grid_that_does_not_divide_the_field_have_their_own_means() -> None:
    ramp = np.broadcast_to(np.arange(10.0), (2, 7, 10))

    live = LiveComponents(grid=(1, 3)).added(ramp)

    means = np.array([1.0, 4.0, 7.5])
    assert live.fields_px[0] == pytest.approx(np.stack([means - means.mean()] * 2))


def test_a_series_without_variance_has_no_components() -> None:
    found = principal_components(np.full((5, 1, 4), 3.0), centred=True)

    assert len(found) == 0
    assert found.explained_variance_ratio.size == 0


def test_values_survive_pickling_read_only() -> None:
    _, stack = fields_of_a_scan(np.random.default_rng(7), 3, (32, 32))
    live = LiveComponents().added(stack[0]).added(stack[1])

    again = pickle.loads(pickle.dumps(live))
    first = pickle.loads(pickle.dumps(live.components()[0]))

    assert np.array_equal(again.products_px2, live.products_px2)
    assert np.array_equal(first.loading_maps, live.components()[0].loading_maps)
    for array in (again.fields_px, live.products_px2, first.loading_maps, first.eigenmodes):
        assert not array.flags.writeable


def test_callers_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"series must have shape \(n, n, n\), not \(3, 4\)"):
        principal_components(np.ones((3, 4)), centred=True)
    with pytest.raises(ValueError, match="finite and not empty"):
        principal_components(np.full((3, 1, 4), np.nan), centred=True)
    with pytest.raises(ValueError, match="finite and not empty"):
        principal_components(np.ones((0, 1, 4)), centred=True)
    with pytest.raises(ValueError, match="n_components must be at least 1"):
        principal_components(np.ones((3, 1, 4)), centred=True, n_components=0)
    with pytest.raises(ValueError, match=r"must have shape \(t, 2, n\)"):
        distortion_components(np.ones((3, 1, 4)))
    with pytest.raises(ValueError, match="before the first field"):
        LiveComponents().components()
    with pytest.raises(ValueError, match=r"at least \(2, 32, 32\), not \(2, 31, 64\)"):
        LiveComponents().added(np.ones((2, 31, 64)))
    with pytest.raises(ValueError, match="must be finite"):
        LiveComponents().added(np.full((2, 32, 32), np.inf))
    with pytest.raises(ValueError, match="must be positive"):
        LiveComponents(capacity=0)
