"""How fast D changes: measured from simulated calibrations whose D ages at a known rate."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from model_cases import SMALL, Array, flyback, microscope, sampled, shifted, without_affine

from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.gaussian_process.ageing import (
    CHANGE_PER_HOUR,
    MeasuredChange,
    claimed_std_px,
    spread_places,
)
from nion_distortion.gaussian_process.change import Dated, measured_change
from nion_distortion.gaussian_process.fitting import stationary_variances
from nion_distortion.options import TERMS
from simulator.microscope import Microscope

RESTLESS = replace(
    flyback(), smooth_nm=0.04, fast_axis_step_nm=0.005, line_jitter_nm=0.004, walk_nm=0.003
)
"""The beam walks little: with 8 pm D is wrong by as much as it changes in five hours."""

FRAMES, HOURS = 6, (0.0, 5.0, 10.0)


class Aged(NamedTuple):
    """Calibrations of a scan that changes, and D when each was made."""

    calibrations: tuple[Dated, ...]
    truths: tuple[Callable[[Array], Array], ...]

    @property
    def change(self) -> MeasuredChange:
        found = measured_change(self.calibrations, self.calibrations[-1].model)
        assert found is not None
        return found


def learnt(
    machine: Microscope, first: int, change: Callable[[Array], Array] | None = None
) -> DistortionModel:
    """Learn from frames in each of which D has changed by as much."""
    model = None
    for index in range(first, first + FRAMES):
        samples, lattice, _ = sampled(machine, index=index)
        if change is not None:
            samples = shifted(samples, change(samples.observed_px))
        model = (
            first_model(samples, lattice, TERMS)
            if model is None
            else model.updated(samples, lattice)
        )
    assert model is not None
    return model


def walked(seed: int, rate: float, hours: Sequence[float]) -> Aged:
    """Let the weights of D make a random walk, in units of the prior that a first model found."""
    rng, machine = np.random.default_rng(seed), microscope(replace(RESTLESS, seed=seed), seed=seed)
    basis = (model := learnt(machine, 0)).basis
    variances = stationary_variances(basis, model.hyperparameters)
    weights, before = np.zeros_like(variances), hours[0]
    calibrations, truths = [], []
    for number, now in enumerate(hours):
        weights = weights + rate * np.sqrt((now - before) * variances) * rng.normal(
            size=variances.shape
        )

        def change(places: Array, weights: Array = weights) -> Array:
            moving: Array = (weights @ basis.design(places)[: basis.stationary_size]).T
            return moving

        index = FRAMES * (number + 1)
        _, _, truth = sampled(machine, index=index)
        calibrations.append(Dated(learnt(machine, index, change), now))
        truths.append(lambda p, c=change, t=truth: t.path.distortion_px(p) + c(p))
        before = now
    return Aged(tuple(calibrations), tuple(truths))


@cache
def scans(rate: float) -> tuple[Aged, ...]:
    return tuple(walked(seed, rate, HOURS) for seed in range(3))


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_the_rate_is_measured_from_three_calibrations(rate: float) -> None:
    found = [one.change for one in scans(rate)]
    logs = np.log([one.per_hour / rate for one in found])
    assert np.abs(logs).max() < np.log(1.5)
    assert np.abs(logs.mean()) < 0.2
    assert np.sqrt(np.mean((logs / [one.std / one.per_hour for one in found]) ** 2)) < 1.5
    assert all(0.05 < one.std / one.per_hour < 0.6 for one in found)
    assert {(one.calibrations, one.hours) for one in found} == {(3, 10.0)}


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_an_old_calibration_is_as_wrong_as_it_claims_by_the_measured_rate(rate: float) -> None:
    squares = []
    for scan in scans(rate):
        for number in range(len(HOURS) - 1):
            young = scan.calibrations[number].model
            ageing = replace(young.ageing, time_s=0.0, measured=scan.change)
            hours = HOURS[number + 1] - HOURS[number]
            old = replace(young, ageing=ageing).aged(3600 * hours)
            squares.append(surprise(old, scan.truths[number + 1]) ** 2)
    assert 0.8 < np.sqrt(np.mean(squares)) < 1.2


def surprise(model: DistortionModel, truth: Callable[[Array], Array]) -> float:
    """Rms error of D over the rms error that is claimed."""
    places = spread_places(model.basis)
    found = model.stationary.mean @ model.basis.design(places)[: model.basis.stationary_size]
    error = without_affine(truth(places) - found.T, places)
    rms = np.sqrt((error**2).sum(axis=1).mean())
    return float(rms / claimed_std_px(model.basis, model.stationary))


def test_the_functions_of_the_calibrations_may_differ() -> None:
    decays = {one.model.basis.decay for scan in scans(0.05) for one in scan.calibrations}
    assert len(decays) > 3


def test_calibrations_that_agree_leave_what_their_errors_allow() -> None:
    """Half a picometre in ten hours would not be seen: the rate stays uncertain by half."""
    for seed in range(2):
        found = walked(seed, 0.0, HOURS).change
        assert CHANGE_PER_HOUR / 4 < found.per_hour < 1.25 * CHANGE_PER_HOUR
        assert found.std > 0.4 * found.per_hour


def test_two_calibrations_within_minutes_say_little() -> None:
    found = walked(0, 0.0, (0.0, 0.2)).change
    assert CHANGE_PER_HOUR / 2 < found.per_hour < 2 * CHANGE_PER_HOUR
    assert found.std > 0.6 * found.per_hour


def test_the_simulators_own_ageing_is_seen() -> None:
    """D grows by a fifth of itself in five hours, twice; a rate counts in D's prior amplitude."""
    found = []
    for seed in range(2):
        errors = replace(RESTLESS, seed=seed, ageing_per_hour=0.04)
        machine = microscope(errors, seed=seed)
        frames = round(5 * 3600 / (SMALL.frame_time_s or 1.0))
        taken = tuple(Dated(learnt(machine, n * frames), 5.0 * n) for n in range(3))
        newest = taken[-1].model
        change = measured_change(taken, newest)
        assert change is not None
        places = spread_places(newest.basis)
        grown = 0.2 * sampled(machine)[2].path.distortion_px(places)
        found.append(change.per_hour / (share_of_prior(newest, grown, places) / np.sqrt(5.0)))
    assert np.abs(np.log(found)).max() < np.log(1.5)


def share_of_prior(model: DistortionModel, field_px: Array, places: Array) -> float:
    """Rms of a field over that of D's prior, both without their affine parts."""
    design = model.basis.design(places)[: model.basis.stationary_size].T
    rows = without_affine(design, places)
    variances = stationary_variances(model.basis, model.hyperparameters)
    expected = float((np.square(rows) @ variances.T).sum())
    return float(np.sqrt(np.square(without_affine(field_px, places)).sum() / expected))


def test_one_calibration_has_no_rate() -> None:
    one = scans(0.05)[0].calibrations[0]
    assert measured_change([one], one.model) is None
