import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

from nion_distortion.frame import ScanSettings
from simulator.scan import ScanErrors, ScanPath, real_like, strong_flyback

SMALL = ScanSettings(
    shape_px=(96, 128),
    field_of_view_nm=4.0,
    dwell_time_us=1.0,
    flyback_time_us=30.0,
    line_time_us=158.0,
)
PX_NM = 4.0 / 128
RNG = np.random.default_rng(5)
PLACES = RNG.uniform([0, 0], [95, 127], (200, 2))


def path(
    errors: ScanErrors | None = None, settings: ScanSettings = SMALL, **options: Any
) -> ScanPath:
    return ScanPath(errors=errors or ScanErrors(), settings=settings, **options)


def test_a_perfect_scan_sees_each_place_where_it_is() -> None:
    np.testing.assert_array_equal(path().place_px(PLACES), PLACES)


def test_scan_time_counts_lines_and_dwells() -> None:
    np.testing.assert_allclose(path().time_us([[2.0, 5.0]]), [2 * 158 + 5])


@pytest.mark.parametrize("amplitude_nm", [0.2, -0.15])
def test_line_flyback_is_an_exponential_in_time_since_the_line_ended(amplitude_nm: float) -> None:
    errors = ScanErrors(line_flyback_nm=(0.01, amplitude_nm), line_flyback_tau_us=12.0)
    decay = np.exp(-(30.0 + PLACES[:, 1]) / 12.0)
    expected = -decay[:, None] * [0.01, amplitude_nm] / PX_NM
    np.testing.assert_allclose(path(errors).distortion_px(PLACES), expected, atol=1e-12)


def test_frame_flyback_is_an_exponential_in_frame_time() -> None:
    errors = ScanErrors(frame_flyback_nm=(0.3, -0.1), frame_flyback_tau_us=2000.0)
    decay = np.exp(-(PLACES[:, 0] * 158 + PLACES[:, 1]) / 2000.0)
    expected = -decay[:, None] * [0.3, -0.1] / PX_NM
    np.testing.assert_allclose(path(errors).distortion_px(PLACES), expected, atol=1e-12)


@pytest.mark.parametrize("dwell_us", [1.0, 2.0, 4.0])
def test_the_same_errors_decay_in_the_same_microseconds_at_any_dwell(dwell_us: float) -> None:
    errors = ScanErrors(line_flyback_nm=(0.0, 2.0), line_flyback_tau_us=12.0)
    settings = dataclasses.replace(
        SMALL, dwell_time_us=dwell_us, line_time_us=128 * dwell_us + 30.0
    )
    after_us = np.array([0.0, 8.0, 20.0, 40.0])
    s = np.stack([np.full(4, 40.0), after_us / dwell_us], axis=1)
    lag_nm = -path(errors, settings).distortion_px(s)[:, 1] * PX_NM
    np.testing.assert_allclose(lag_nm, 2.0 * np.exp(-(30.0 + after_us) / 12.0), rtol=1e-12)


@pytest.mark.parametrize("dwell_us", [1.0, 2.0, 4.0])
def test_the_same_frame_flyback_and_hum_at_any_dwell(dwell_us: float) -> None:
    errors = ScanErrors(frame_flyback_nm=(0.3, 0.0), hum_nm=0.02, seed=4)
    settings = dataclasses.replace(
        SMALL,
        frame_sync=True,
        dwell_time_us=dwell_us,
        line_time_us=160 * dwell_us,
        flyback_time_us=None,
    )
    s = np.array([[16.0 / dwell_us, 0.0], [32.0 / dwell_us, 0.0]])
    reference = dataclasses.replace(settings, dwell_time_us=1.0, line_time_us=160.0)
    np.testing.assert_allclose(
        path(errors, settings).distortion_px(s),
        path(errors, reference).distortion_px(s * dwell_us),
        rtol=1e-10,
    )


@pytest.mark.parametrize(("sign", "amplitude_nm"), [(1, 0.2), (-1, -0.15)])
@pytest.mark.parametrize("flyback_us", [0.0, 30.0, 120.0])
def test_strong_flyback_has_its_stated_amplitude_at_this_settings_line_start(
    sign: int, amplitude_nm: float, flyback_us: float
) -> None:
    settings = dataclasses.replace(
        SMALL, flyback_time_us=flyback_us, line_time_us=128.0 + flyback_us
    )
    errors = strong_flyback(settings, sign=sign, smooth_nm=0.0)
    expected = -amplitude_nm * np.exp(-PLACES[:, 1] / (0.03 * 128)) / PX_NM
    found = path(errors, settings).distortion_px(PLACES)
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-10)
    np.testing.assert_array_equal(found[:, 0], 0)


@pytest.mark.parametrize(("sign", "magnification"), [(1, 1.7), (-1, 0.76)])
def test_strong_flyback_magnifies_the_line_start_as_the_design_says(
    sign: int, magnification: float
) -> None:
    settings = ScanSettings(shape_px=(512, 512), field_of_view_nm=16.0, dwell_time_us=1.0)
    scan = path(strong_flyback(settings, sign=sign, smooth_nm=0.0), settings)
    near = scan.place_px([[100.0, 0.0], [100.0, 0.01]])
    assert 0.01 / (near[1, 1] - near[0, 1]) == pytest.approx(magnification, rel=0.01)


def test_coil_errors_scale_and_skew_about_the_centre() -> None:
    errors = ScanErrors(coil_scale=(0.01, -0.02), coil_skew_rad=0.005)
    away = PLACES - [47.5, 63.5]
    expected = away * [0.01, -0.02]
    expected[:, 1] += 0.005 * away[:, 0]
    np.testing.assert_allclose(path(errors).distortion_px(PLACES), expected, atol=1e-12)


def test_a_quarter_turn_of_the_scan_swaps_the_coils() -> None:
    errors = ScanErrors(coil_scale=(0.01, -0.02))
    turned = dataclasses.replace(SMALL, rotation_rad=np.pi / 2)
    expected = (PLACES - [47.5, 63.5]) * [-0.02, 0.01]
    np.testing.assert_allclose(path(errors, turned).distortion_px(PLACES), expected, atol=1e-12)


def test_smooth_field_has_its_rms_and_no_short_waves() -> None:
    errors = ScanErrors(smooth_nm=0.04, seed=8)
    d = path(errors).grid_px() - path().grid_px()
    rms_nm = np.sqrt(d.var(axis=(1, 2)).sum()) * PX_NM
    assert rms_nm == pytest.approx(0.04, rel=0.05)
    assert np.abs(np.diff(d, axis=2)).max() < 0.2


def test_fast_axis_steps_depend_on_x_alone_and_have_their_rms() -> None:
    d = path(ScanErrors(fast_axis_step_nm=0.01, seed=3)).distortion_px(
        np.stack([RNG.uniform(0, 95, 128), np.arange(128)], axis=1)
    )
    assert d[:, 1].std() * PX_NM == pytest.approx(0.01, rel=1e-9)
    flat = np.mean(np.abs(np.diff(d[:, 1])) < 1e-12)
    assert flat > 0.3
    np.testing.assert_array_equal(d[:, 0], 0)


def test_jitter_belongs_to_lines_and_frames() -> None:
    errors = ScanErrors(line_jitter_nm=0.005)
    s = np.stack([np.repeat(np.arange(96), 2), np.tile([3, 90], 96)], axis=1)
    w = path(errors, index=1).wander_px(s).reshape(96, 2, 2)
    np.testing.assert_array_equal(w[:, 0], w[:, 1])
    np.testing.assert_allclose(w.std(axis=(0, 1)) * PX_NM, 0.005, rtol=0.25)
    assert not np.array_equal(w[:, 0], path(errors, index=2).wander_px(s[::2]))


def test_walk_has_its_rms_and_memory() -> None:
    errors = ScanErrors(walk_nm=0.01, walk_correlation_lines=25.0)
    settings = dataclasses.replace(SMALL, shape_px=(1024, 128), field_of_view_nm=32.0)
    lines = np.stack([np.arange(1024), np.zeros(1024)], axis=1)
    walks = [path(errors, settings, index=k).wander_px(lines) for k in range(20)]
    w = np.stack(walks) * PX_NM
    assert w.std() == pytest.approx(0.01, rel=0.1)
    memory = np.mean(w[:, 25:] * w[:, :-25]) / np.mean(w**2)
    assert memory == pytest.approx(np.exp(-1), abs=0.1)


def test_walk_goes_on_within_a_line() -> None:
    w = path(ScanErrors(walk_nm=0.01))
    full_line = w.wander_px([[10.0, 127.0], [11.0, 127.0 - 158.0 + 32.0]])
    start, end = w.wander_px([[10.0, 0.0], [11.0, 0.0]])
    share = 127.0 / 158.0
    np.testing.assert_allclose(full_line[0], (1 - share) * start + share * end, atol=1e-12)


def test_hum_without_synchronisation_is_a_sine_in_scan_time_with_a_new_phase_each_frame() -> None:
    errors = ScanErrors(hum_nm=0.03, hum_hz=60.0)
    phases = []
    for index in range(2):
        scan = path(errors, index=index)
        t = 2e-6 * np.pi * 60.0 * scan.time_us(PLACES)
        table = np.stack([np.cos(t), np.sin(t)], axis=1)
        w = scan.wander_px(PLACES) * PX_NM
        weights, rest, *_ = np.linalg.lstsq(table, w, rcond=None)
        assert rest.max() < 1e-20
        assert np.sqrt((weights**2).sum()) == pytest.approx(0.03)
        phases.append(weights)
        np.testing.assert_array_equal(scan.distortion_px(PLACES), 0)
    assert not np.allclose(phases[0], phases[1])


@pytest.mark.parametrize("sync", ["line_sync", "frame_sync"])
def test_hum_of_a_scan_that_reports_to_wait_for_the_mains_is_stationary(sync: str) -> None:
    lines = sync == "line_sync"
    settings = dataclasses.replace(SMALL, line_sync=lines, frame_sync=not lines)
    one, two = (path(ScanErrors(hum_nm=0.03), settings, index=k) for k in (0, 7))
    np.testing.assert_array_equal(one.wander_px(PLACES), 0)
    np.testing.assert_array_equal(one.distortion_px(PLACES), two.distortion_px(PLACES))
    assert np.abs(one.distortion_px(PLACES)).max() > 0.1
    moved = one.distortion_px(PLACES + np.array([0.3, 0.0]))
    assert np.allclose(moved, one.distortion_px(PLACES)) == lines


def test_drift_is_linear_and_comes_to_rest_and_evolves_in_the_frame() -> None:
    errors = ScanErrors(drift_nm_s=(0.5, -1.0), drift_decay_nm=(2.0, 1.0), drift_decay_time_s=0.01)
    scan = path(errors, start_s=0.02)
    t = 0.02 + 1e-6 * scan.time_us(PLACES)[:, None]
    expected = (t * [0.5, -1.0] + (1 - np.exp(-t / 0.01)) * [2.0, 1.0]) / PX_NM
    np.testing.assert_allclose(scan.drift_px(PLACES), expected, rtol=1e-12)


def test_drift_walk_makes_one_step_from_frame_to_frame() -> None:
    errors = ScanErrors(drift_walk_nm=0.02)
    origins = np.array([path(errors, index=k).drift_px([[5.0, 5.0]])[0] for k in range(200)])
    np.testing.assert_array_equal(origins[0], 0)
    assert np.diff(origins, axis=0).std() * PX_NM == pytest.approx(0.02, rel=0.15)
    alone = path(errors, index=150).drift_px([[80.0, 3.0]])[0]
    np.testing.assert_allclose(alone, origins[150], rtol=1e-12)


def test_startup_dies_out() -> None:
    errors = ScanErrors(startup_nm=0.05, startup_frames=2.0)
    first, third = (path(errors, index=k).wander_px(PLACES) for k in (0, 2))
    np.testing.assert_allclose(third, first * np.exp(-1), rtol=1e-12)
    assert np.abs(first).max() * PX_NM > 0.02


def test_ageing_multiplies_the_stationary_errors() -> None:
    errors = dataclasses.replace(real_like(SMALL), ageing_per_hour=0.1)
    young, old = (path(errors, start_s=t).distortion_px(PLACES) for t in (0.0, 7200.0))
    np.testing.assert_allclose(old, 1.2 * young, rtol=1e-12)


def test_the_place_takes_every_error_off() -> None:
    errors = dataclasses.replace(
        real_like(SMALL), hum_nm=0.01, drift_walk_nm=0.01, startup_nm=0.01, seed=9
    )
    scan = path(errors, index=3, start_s=0.1, seed=2)
    total = sum(part(PLACES) for part in (scan.distortion_px, scan.wander_px, scan.drift_px))
    np.testing.assert_allclose(scan.place_px(PLACES), PLACES - total, atol=1e-12)


def test_the_grid_is_the_place_of_every_pixel() -> None:
    errors = dataclasses.replace(real_like(SMALL), hum_nm=0.01, frame_flyback_nm=(0.1, 0.0))
    scan = path(errors, index=2, start_s=0.1)
    pixels = np.stack(np.meshgrid(np.arange(96), np.arange(128), indexing="ij"), axis=-1)
    expected = scan.place_px(pixels.reshape(-1, 2)).T.reshape(2, 96, 128)
    np.testing.assert_allclose(scan.grid_px(), expected, atol=1e-10)


def test_outside_the_scan_errors_keep_their_value_at_the_edge() -> None:
    scan = path(strong_flyback(SMALL))
    np.testing.assert_array_equal(
        scan.distortion_px([[50.0, -20.0], [200.0, 60.0]]),
        scan.distortion_px([[50.0, -0.5], [95.5, 60.0]]),
    )


def test_a_path_is_the_same_after_pickling() -> None:
    scan = path(real_like(SMALL), index=2, start_s=1.0, seed=3)
    copy = pickle.loads(pickle.dumps(scan))
    np.testing.assert_array_equal(copy.place_px(PLACES), scan.place_px(PLACES))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"line_flyback_tau_us": 0.0}, "line_flyback_tau_us must be positive, not 0.0"),
        ({"walk_nm": np.nan}, "walk_nm must be finite, not nan"),
    ],
)
def test_impossible_errors_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ScanErrors(**values)


def test_a_scan_without_a_dwell_time_cannot_be_simulated() -> None:
    settings = ScanSettings(shape_px=(64, 64), field_of_view_nm=2.0)
    with pytest.raises(ValueError, match="dwell_time_us"):
        path(settings=settings).grid_px()
