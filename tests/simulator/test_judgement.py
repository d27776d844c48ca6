import numpy as np
import pytest

from nion_distortion.frame import ScanSettings
from simulator.judgement import left_over_px
from simulator.microscope import Microscope, Truth
from simulator.scan import ScanErrors, strong_flyback
from simulator.specimen import make_specimen

SETTINGS = ScanSettings(
    shape_px=(96, 128), field_of_view_nm=4.0, dwell_time_us=1.0, flyback_time_us=30.0
)
EVERYWHERE = np.ones((96, 128), dtype=bool)
AS_SCANNED = np.zeros((2, 96, 128))


def truth_of(errors: ScanErrors) -> Truth:
    return Microscope(make_specimen("sto_001"), errors=errors).shot(SETTINGS).truth


def test_a_perfect_scan_leaves_nothing_over() -> None:
    left = left_over_px(truth_of(ScanErrors()), AS_SCANNED, EVERYWHERE)
    assert left.shape == (24 * 32, 2)
    assert np.abs(left).max() < 1e-9


def test_the_exact_inverse_of_the_distortion_leaves_nothing_over() -> None:
    truth = truth_of(strong_flyback(SETTINGS, sign=1, seed=1))
    u = np.moveaxis(np.mgrid[:96.0, :128.0], 0, -1).reshape(-1, 2)
    s = u.copy()
    for _ in range(60):  # s - D(s) = u
        s += 0.6 * (u - truth.place_px(s))
    displacement = (s - u).T.reshape(2, 96, 128)
    inside = ((s >= 0) & (s <= [95, 127])).all(axis=1).reshape(96, 128)
    assert np.abs(left_over_px(truth, displacement, inside)).max() < 1e-6
    assert np.abs(left_over_px(truth, AS_SCANNED, inside)).max() > 0.5


def test_an_affine_map_is_no_error_and_a_bend_is() -> None:
    truth = truth_of(ScanErrors())
    y, x = np.mgrid[:96.0, :128.0]
    affine = np.stack([0.01 * x + 2.0, -0.02 * y])
    assert np.abs(left_over_px(truth, affine, EVERYWHERE)).max() < 1e-9
    bend = np.stack([np.zeros_like(x), np.cos(np.pi * np.floor(x / 4))])
    left = left_over_px(truth, affine + bend, EVERYWHERE)
    assert np.sqrt(np.mean(left[:, 1] ** 2)) == pytest.approx(1.0, abs=0.01)


def test_only_valid_pixels_are_judged() -> None:
    valid = EVERYWHERE.copy()
    valid[:, 64:] = False
    wrong = AS_SCANNED.copy()
    wrong[1, :, 64:] = 7.0
    left = left_over_px(truth_of(ScanErrors()), wrong, valid)
    assert left.shape == (24 * 16, 2)
    assert np.abs(left).max() < 1e-9
