"""What a device's other settings say about its fly-back: where new settings begin."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_cases import DECAY, SMALL, flyback, microscope, sampled

from nion_distortion.calibrations import CalibrationStore, FlybackPrior
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.gaussian_process.flyback import ExpectedFlyback
from nion_distortion.gaussian_process.hyperparameters import (
    DECAYS,
    NAMES,
    decay_surprise,
    flyback_surprise,
)
from nion_distortion.options import TERMS, KnownFlyback

TAU_US = DECAY * SMALL.shape_px[1]
FASTER = replace(SMALL, dwell_time_us=0.5)
KNOWN = KnownFlyback(tau_us=TAU_US, amplitude_pm=(0.0, 125.0), flyback_time_us=120.0)


def learnt(known: KnownFlyback | None, *, seed: int, columns: int) -> DistortionModel:
    """Learn from the first columns of a line only, at half the dwell time."""
    samples, lattice, _ = sampled(microscope(flyback(), seed=seed), FASTER)
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(samples))[:columns])
    few = replace(
        samples,
        crystal_sites=samples.crystal_sites[some],
        sites_px=samples.sites_px[some],
        observed_px=samples.observed_px[some],
        covariance_px2=25.0 * samples.covariance_px2[some],
    )
    return first_model(few, lattice, TERMS, flyback=known)


def test_it_is_brought_to_the_settings() -> None:
    later = replace(SMALL, dwell_time_us=2.0, flyback_time_us=120.0 + TAU_US)
    expected = ExpectedFlyback.of_scan(later, KNOWN)

    assert expected is not None
    assert expected.decay == pytest.approx(DECAY / 2)
    assert expected.amplitude_px is not None
    assert expected.amplitude_px[1] == pytest.approx(125.0 / np.e / SMALL.pixel_size_nm / 1e3)


def test_without_timing_nothing_is_expected() -> None:
    untimed = replace(SMALL, dwell_time_us=None, flyback_time_us=None)

    assert ExpectedFlyback.of_scan(untimed, KNOWN) is None
    assert not decay_surprise(None).any()
    assert flyback_surprise(None, 0, 1.0) == (0.0, 0.0, 0.0)


def test_the_surprise_is_least_at_what_is_expected() -> None:
    expected = ExpectedFlyback(0.05, 0.1, (0.5, 2.0))

    assert DECAYS[np.argmin(decay_surprise(expected))] == pytest.approx(0.05, rel=0.07)
    for step in (-0.3, 0.3):
        value, slope, curvature = flyback_surprise(expected, 1, np.log(2.0) + step)
        up, *_ = flyback_surprise(expected, 1, np.log(2.0) + step + 1e-6)
        assert value > 0
        assert slope == pytest.approx((up - value) / 1e-6, abs=1e-4)
        assert slope == pytest.approx(curvature * step)


def test_where_a_frame_says_little_the_device_s_decay_is_kept() -> None:
    decays = {
        known: [learnt(known, seed=s, columns=60).basis.decay for s in range(6)]
        for known in (None, KNOWN)
    }

    off = {known: np.abs(np.log(np.array(found) / (2 * DECAY))) for known, found in decays.items()}

    assert off[KNOWN].max() < 0.25
    assert off[None].max() > 2 * off[KNOWN].max()  # without it, 60 noisy columns do not know


def test_where_a_frame_says_much_a_wrong_expectation_does_not_matter() -> None:
    samples, lattice, _ = sampled(microscope(flyback()))
    alone = first_model(samples, lattice, TERMS)
    misled = first_model(
        samples, lattice, TERMS, flyback=replace(KNOWN, tau_us=1.5 * TAU_US, tau_log_std=0.2)
    )
    one, two = (model.stationary_field() for model in (alone, misled))
    seen = one.valid & two.valid

    difference = np.abs(one.displacement_px - two.displacement_px)[:, seen]

    assert float(np.median(difference)) < float(np.median(one.std_px[:, seen]))


def test_a_store_knows_it_from_other_settings(tmp_path: Path) -> None:
    settings = replace(SMALL, device_id="scan 1")
    samples, lattice, _ = sampled(microscope(flyback()), settings)
    model = first_model(samples, lattice, TERMS, flyback=KNOWN)
    store = CalibrationStore(tmp_path / "calibrations.sqlite")
    store.save(model, time_s=0.0)

    known = store.known_flyback("scan 1")

    assert known is not None
    assert known.tau_us == pytest.approx(TAU_US, rel=0.1)
    assert known.flyback_time_us == 120.0
    assert known.amplitude_pm is not None
    assert abs(known.amplitude_pm[1]) == pytest.approx(125.0, rel=0.25)
    assert store.known_flyback("scan 2") is None
    loaded = store.find(settings)
    assert loaded is not None
    assert loaded.model.basis == model.basis


def test_calibrations_that_know_it_well_count_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CalibrationStore(tmp_path / "calibrations.sqlite")
    both = [FlybackPrior(1.0, 120.0, *tau, (0.0, 125.0)) for tau in ((20.0, 1.0), (30.0, 15.0))]
    monkeypatch.setattr(CalibrationStore, "device_priors", lambda *_: tuple(both))

    known = store.known_flyback("scan 1")

    assert known is not None  # 0.5 against the least that a single one is believed, 0.1
    assert np.log(known.tau_us / 20.0) == pytest.approx(np.log(1.5) / 26)
    assert known.tau_log_std == pytest.approx(0.1)

    both[1] = FlybackPrior(1.0, 120.0, 30.0, 1.0, (0.0, 125.0))
    contradicted = store.known_flyback("scan 1")
    assert contradicted is not None
    assert contradicted.tau_log_std == pytest.approx(0.5 * np.log(1.5))


def test_steps_along_x_leave_its_time_constant_open(tmp_path: Path) -> None:
    """They may imitate it: what is stored says how far."""
    store = CalibrationStore(tmp_path / "calibrations.sqlite")
    for time_s, steps_nm in ((0.0, 0.0), (1.0, 0.03)):
        errors = replace(flyback(), fast_axis_step_nm=steps_nm)
        samples, lattice, _ = sampled(microscope(errors), SMALL)
        store.save(first_model(samples, lattice, TERMS), time_s=time_s)

    stepped, calm = store.list()

    assert stepped.tau_std_us is not None
    assert calm.tau_us is not None
    assert calm.tau_std_us is not None
    assert calm.tau_std_us < 0.1 * calm.tau_us
    assert stepped.tau_std_us > 2 * calm.tau_std_us


def test_the_amplitude_s_prior_is_the_fast_axis_own() -> None:
    model = learnt(KNOWN, seed=0, columns=60)
    line = np.exp(model.hyperparameters.logs[:, NAMES.index("line")]) * SMALL.pixel_size_nm * 1e3

    assert line[1] > line[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tau_us": 0.0}, "tau_us must be positive, not 0"),
        ({"tau_us": 5.0, "tau_log_std": -1.0}, "tau_log_std must be positive, not -1"),
        ({"tau_us": 5.0, "flyback_time_us": -1.0}, "flyback_time_us must not be negative, not -1"),
        ({"tau_us": 5.0, "amplitude_pm": (0.0, np.nan)}, "amplitude_pm must be finite, not nan"),
    ],
)
def test_wrong_numbers_are_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KnownFlyback(**values)  # type: ignore[arg-type]
