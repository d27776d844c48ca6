"""What is claimed of the drift, beside the truth of the simulator."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from model_cases import flyback, microscope, model_of, sampled

from nion_distortion.gaussian_process import first_model, refit_amplitudes
from nion_distortion.gaussian_process.drift import Drift
from nion_distortion.options import TERMS
from simulator.scan import ScanErrors

Array = npt.NDArray[np.float64]

SEEDS, FRAMES = 20, 3
CENTRE = [[71.5, 79.5]]
DRIFTING = replace(flyback(), drift_nm_s=(0.2, -0.1))
WALKING = replace(DRIFTING, walk_nm=0.004, walk_correlation_lines=25.0)
"""Its length is the one that the prior expects; it moves the mean of a frame by 0.07 px."""


def errors_px(errors: ScanErrors, seed: int) -> tuple[Array, Array]:
    """Error of the drift of each frame but the first, and what is claimed, (FRAMES - 1, 2)."""
    machine = microscope(replace(errors, seed=seed), turn_rad=0.1 + 0.37 * seed, seed=seed)
    samples, lattice, began = sampled(machine)
    model = first_model(samples, lattice, TERMS)
    found = []
    for index in range(1, FRAMES):
        samples, lattice, truth = sampled(machine, index=index)
        model = model.updated(samples, lattice)
        assert model.drift is not None
        way = truth.drift_px(CENTRE)[0] - began.drift_px(CENTRE)[0]
        found.append((model.drift.offset_px - way, model.drift.std_px))
    off, claimed = zip(*found, strict=True)
    return np.array(off), np.array(claimed)


@pytest.mark.parametrize(("errors", "most_px"), [(DRIFTING, 0.01), (WALKING, 0.1)])
def test_the_drift_is_off_by_what_is_claimed(errors: ScanErrors, most_px: float) -> None:
    """Also small: what is learnt of D between the frames does not count as drift (0.05 px)."""
    off, claimed = (np.array(one) for one in zip(*map(_of(errors), range(SEEDS)), strict=True))
    assert np.sqrt(np.mean(off**2)) < most_px
    # the frames of one seed share their first one, so that z is known to 12 % only
    assert 0.8 < np.sqrt(np.mean((off / claimed) ** 2)) < 1.25
    assert (np.abs(off) < 2.0 * claimed).mean() > 0.88


def _of(errors: ScanErrors) -> Callable[[int], tuple[Array, Array]]:
    return lambda seed: errors_px(errors, seed)


def test_the_first_frame_is_where_drift_counts_from() -> None:
    model, _ = model_of(microscope(DRIFTING))
    assert model.drift is not None
    assert model.drift.std_px is not None
    assert not model.drift.std_px.any()


def test_without_a_fit_the_error_is_not_known() -> None:
    zero = np.zeros(2)
    lattice = np.array([[0.0, 12.0, 0.0], [0.0, 0.0, 12.0]])
    assert Drift(offset_px=zero, step_px=zero, lattice_px=lattice).std_px is None


def test_amplitudes_that_are_found_again_do_not_move_the_sample() -> None:
    machine = microscope(WALKING)
    model, _ = model_of(machine, frames=5)
    samples, lattice, _ = sampled(machine, index=5)
    before, after = (
        one.updated(samples, lattice).drift for one in (model, refit_amplitudes(model))
    )
    assert before is not None
    assert after is not None
    assert after.std_px is not None
    assert (np.abs(after.offset_px - before.offset_px) < after.std_px).all()


def test_the_error_survives_pickling() -> None:
    model, _ = model_of(microscope(WALKING), frames=2)
    again = pickle.loads(pickle.dumps(model)).drift
    assert model.drift is not None
    np.testing.assert_array_equal(again.std_px, model.drift.std_px)
