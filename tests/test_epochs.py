"""Calibrations that take hours: what old frames say is brought to the time of the newest one."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from model_cases import Array, flyback, microscope, sampled
from strategies import few, positive_matrix, seeds

from nion_distortion.distortion import DistortionSamples
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.gaussian_process.ageing import Ageing, claimed_std_px, widened
from nion_distortion.gaussian_process.calibration import CalibrationFrame, calibrated
from nion_distortion.gaussian_process.epochs import (
    LONGEST_S,
    ages_of,
    brought_forward,
    known_at_each,
)
from nion_distortion.gaussian_process.fitting import stationary_posterior
from nion_distortion.gaussian_process.weights import Information
from nion_distortion.options import TERMS, KnownCrystal

RESTLESS = replace(flyback(), fast_axis_step_nm=0.005, walk_nm=0.004, line_jitter_nm=0.002)
HOUR_S = 3600.0
SIZE = 4


def some_information(rng: np.random.Generator) -> Information:
    blocks = np.stack([positive_matrix(rng, SIZE), positive_matrix(rng, SIZE)])
    return Information(blocks=blocks, vector=rng.normal(size=(2, SIZE)))


def widen(known: Information, hours: float) -> Information:
    return widened(known, np.full((2, SIZE), 0.3 * hours))


def smoothed(own: dict[float, Information]) -> dict[float, tuple[Array, Array]]:
    """Solve for one axis' weights of all ages together: mean and covariance of each."""
    ages = sorted(own, reverse=True)
    whole = np.zeros((len(ages) * SIZE, len(ages) * SIZE))
    vector = np.concatenate([own[age].vector[0] for age in ages])
    at = [slice(n * SIZE, (n + 1) * SIZE) for n in range(len(ages))]
    for n, age in enumerate(ages):
        whole[at[n], at[n]] += own[age].blocks[0]
    for n in range(len(ages) - 1):
        tie = np.eye(SIZE) / (0.3 * (ages[n] - ages[n + 1]))
        for i, j, sign in ((n, n, 1), (n + 1, n + 1, 1), (n, n + 1, -1), (n + 1, n, -1)):
            whole[at[i], at[j]] += sign * tie
    covariance: Array = np.asarray(np.linalg.inv(whole), np.float64)
    mean = covariance @ vector
    return {age: (mean[at[n]], covariance[at[n], at[n]]) for n, age in enumerate(ages)}


@few
@given(seeds())
def test_every_epoch_is_told_what_a_random_walk_lets_the_others_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = {age: some_information(rng) for age in (7.0, 4.0, 0.5, 0.0)}
    found, truth = known_at_each(own, widen), smoothed(own)
    for age, (mean, covariance) in truth.items():
        assert np.allclose(np.linalg.inv(found[age].blocks[0]), covariance)
        assert np.allclose(np.linalg.solve(found[age].blocks[0], found[age].vector[0]), mean)
    newest = brought_forward(own, widen)
    assert np.allclose(newest.blocks, found[0.0].blocks)
    assert np.allclose(newest.vector, found[0.0].vector)


@pytest.mark.parametrize("times", [(), (5.0,), (0.0, 60.0, LONGEST_S), (0.0, None, 9e9)])
def test_frames_within_minutes_or_of_unknown_time_are_of_one_epoch(
    times: Sequence[float | None],
) -> None:
    assert ages_of(times) == (0.0,) * len(times)


def test_an_epoch_lasts_ten_minutes() -> None:
    times = [HOUR_S, 0.0, 500.0, HOUR_S + 590.0, 700.0, 2 * HOUR_S]
    assert ages_of(times) == pytest.approx([1.0, 2.0, 2.0, 1.0, 2.0 - 700 / 3600, 0.0])


# calibrations


def at_time(samples: DistortionSamples, time_s: float) -> DistortionSamples:
    return DistortionSamples(
        crystal_sites=samples.crystal_sites,
        sites_px=samples.sites_px,
        observed_px=samples.observed_px,
        covariance_px2=samples.covariance_px2,
        settings=samples.settings,
        frame_id=samples.frame_id,
        time_s=time_s,
    )


def taken(apart_h: float, *, frames: int = 10) -> list[CalibrationFrame]:
    shots = [sampled(microscope(RESTLESS), index=index)[:2] for index in range(frames)]
    return [
        CalibrationFrame(at_time(samples, HOUR_S * apart_h * number), lattice)
        for number, (samples, lattice) in enumerate(shots)
    ]


def one_by_one(start: DistortionModel, frames: Sequence[CalibrationFrame]) -> DistortionModel:
    return reduce(lambda model, frame: model.updated(*frame), frames, start)


def ignorant(model: DistortionModel, time_s: float) -> DistortionModel:
    """Return the same functions and amplitudes as before any frame was seen."""
    size = model.basis.stationary_size
    nothing = Information(blocks=np.zeros((2, size, size)), vector=np.zeros((2, size)))
    return replace(
        model,
        known=nothing,
        stationary=stationary_posterior(model.basis, model.hyperparameters, nothing),
        samples=(),
        frames=0,
        drift=None,
        coils=None,
        watch=None,
        ageing=Ageing(time_s=time_s),
    )


def test_frames_hours_apart_claim_what_one_by_one_does() -> None:
    frames = taken(5.0)
    first = first_model(*frames[0], TERMS, reference=KnownCrystal.named("SrTiO3 [001]"))
    model = calibrated(one_by_one(first, frames[1:]), frames)
    slow = one_by_one(ignorant(model, 0.0), frames)

    claimed = [claimed_std_px(one.basis, one.stationary) for one in (model, slow)]
    assert claimed[0] == pytest.approx(claimed[1], rel=0.15)
    assert model.coils is not None
    assert slow.coils is not None
    assert model.coils.scale_std == pytest.approx(slow.coils.scale_std, rel=0.3)
    assert model.ageing == Ageing(time_s=9 * 5 * HOUR_S)

    at_once = one_by_one(ignorant(model, 0.0), taken(0.0))
    assert claimed[0] > 1.2 * claimed_std_px(at_once.basis, at_once.stationary)


def test_frames_within_minutes_are_added_up() -> None:
    frames = taken(0.015, frames=4)
    first = first_model(*frames[0], TERMS)
    aged = replace(first.ageing, calibrated_px=0.01, now_px=0.02)
    together = [
        calibrated(replace(first, ageing=one), some)
        for one, some in ((first.ageing, taken(0.0, frames=4)), (aged, frames))
    ]
    assert np.array_equal(together[0].known.blocks, together[1].known.blocks)
    assert np.array_equal(together[0].known.vector, together[1].known.vector)
    assert together[1].ageing == Ageing(time_s=0.015 * 3 * HOUR_S)
