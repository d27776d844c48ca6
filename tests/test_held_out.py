from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import KDTree

from benchmarks import real
from benchmarks.samples import samples_of
from benchmarks.scenes import sto
from nion_distortion import held_out
from nion_distortion.atoms import find_columns
from nion_distortion.atoms.drawing import TAIL_RADIUS
from nion_distortion.files import read_frames
from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError
from nion_distortion.held_out import (
    HeldOut,
    erase_columns,
    held_out_residual,
    some_rows,
    withheld_residual,
)
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.scan import ScanErrors, real_like, strong_flyback
from simulator.specimen import make_specimen

STO = Path(__file__).resolve().parents[2] / "shared/data/sto/16_STOimage_1.ser"
SETTINGS = ScanSettings(
    shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=30.0
)


def frame_with(errors: ScanErrors, channel: str = "HAADF") -> Frame:
    microscope = Microscope(
        make_specimen("sto_001", rotation_rad=0.05),
        errors=errors,
        detector=Detector(counts_at_peak=100.0, gain=20.0, offset=300.0),
    )
    return microscope.shot(SETTINGS, channel=channel).frame


def distances(positions: npt.NDArray[Any], to: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    found, _ = KDTree(to).query(positions)
    return np.asarray(found)


def test_erased_columns_are_gone_and_the_others_stay() -> None:
    image = frame_with(ScanErrors()).image
    columns = find_columns(image)
    keep = np.random.default_rng(0).random(len(columns)) > 0.2
    erased = erase_columns(image, columns, keep, rng=np.random.default_rng(1))
    off = distances(columns.positions_px, to=find_columns(erased).positions_px)
    assert np.mean(off[~keep] < 3) < 0.02
    assert np.mean(off[keep] < 0.5) > 0.99
    claimed = np.sqrt(np.median(columns.covariance_px2[:, 0, 0]))
    assert np.quantile(off[keep], 0.9) < 0.2 * claimed  # fits of the others are as they were
    pixels = np.moveaxis(np.indices(image.shape), 0, -1).reshape(-1, 2)
    away = distances(pixels, to=columns.positions_px[~keep]).reshape(image.shape)
    far = away > TAIL_RADIUS * columns.sigma_px[~keep].max() + 1
    assert far.any()
    np.testing.assert_array_equal(erased[far], image[far])


@pytest.mark.parametrize("channel", ["HAADF", "BF"])
def test_what_replaces_a_column_is_the_background_with_its_noise(channel: str) -> None:
    columns = find_columns(image := frame_with(ScanErrors(), channel).image)
    none = np.zeros(len(columns), dtype=bool)
    erased = erase_columns(image, columns, none, rng=np.random.default_rng(1))
    inside = erased[20:-20, 20:-20]  # columns cut by the edge are not fitted, and stay
    assert np.mean(inside) == pytest.approx(np.median(columns.background), rel=0.02)
    electrons = (inside - 300.0) / 20.0
    assert np.var(electrons) == pytest.approx(np.mean(electrons), rel=0.15)


def test_the_residual_of_erased_columns_is_what_is_left_of_the_distortion() -> None:
    squares = np.zeros((2, 2))
    for seed in (4, 5, 6):
        frame = frame_with(strong_flyback(SETTINGS, sign=1, seed=seed))
        found = held_out_residual(frame, rng=np.random.default_rng(0))
        assert found.found >= 0.9 * found.erased
        assert found.refitted <= 0.01 * found.erased
        assert min(found.raw_pm) > 10
        squares += np.square([found.corrected_pm, found.fitted_pm])
    # what is left is the error of the columns' own fits: 2 pm for Sr, 4 pm for Ti-O
    unseen, fitted = np.sqrt(squares / 3)
    assert np.all(unseen < 4)
    assert np.all((fitted > 0.5 * unseen) & (fitted < 1.1 * unseen))


@pytest.mark.parametrize("which", ["columns", "rows"])
def test_withheld_columns_are_as_far_off_as_is_claimed(which: str) -> None:
    """Pooled over 24 frames with walk, jitter, steps and fly-back."""
    parts = []
    for seed in range(24):
        errors = real_like(SETTINGS, seed=seed)
        samples, lattice, _ = samples_of(sto(errors, seed=seed), SETTINGS)
        some = np.random.default_rng(seed).random(len(samples)) < 0.2
        if which == "rows":
            some = some_rows(lattice, samples.crystal_sites, first=seed, every=5)
        parts.append(withheld_residual(samples, lattice, some).z)
    z = np.concatenate(parts)
    assert np.sqrt(np.mean(z**2, axis=0)) == pytest.approx(1.0, abs=0.1)
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.02)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("turn_rad", [0.2, 1.4])
def test_a_row_is_a_line_of_columns_along_the_fast_axis(turn_rad: float) -> None:
    machine = Microscope(make_specimen("sto_001", rotation_rad=turn_rad))
    samples, lattice, _ = samples_of(machine, SETTINGS, sd_px=0.0)
    rows = [some_rows(lattice, samples.crystal_sites, first=k, every=5) for k in range(5)]
    assert (np.sum(rows, axis=0) == 1).all()
    fast = np.array([np.sin(-turn_rad), np.cos(-turn_rad)])
    if turn_rad > np.pi / 4:
        fast = np.array([np.cos(turn_rad), np.sin(turn_rad)])
    across = samples.sites_px[rows[0]] @ np.array([fast[1], -fast[0]])
    steps = np.diff(np.unique(np.rint(across)))
    cell = np.linalg.norm(lattice.basis_px, axis=1).mean()
    assert steps[steps > 0.75 * cell] == pytest.approx(4.5 * cell, abs=1.5)


def test_a_frame_that_cannot_be_measured_says_why() -> None:
    flat = Frame(image=np.full((256, 256), 7.0, np.float32), settings=SETTINGS)
    with pytest.raises(UnusableFrameError, match="the same nearly everywhere"):
        held_out_residual(flat, rng=np.random.default_rng(0))


def test_when_no_erased_column_is_found_again_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "SAME_COLUMN", 1e-12)
    frame = frame_with(ScanErrors())
    sentence = (
        r"^0 of [1-9]\d* erased columns and 0 of the fitted ones were found again in the "
        r"corrected image: there is nothing to compare$"
    )
    with pytest.raises(UnusableFrameError, match=sentence):
        held_out_residual(frame, rng=np.random.default_rng(0))


def test_the_benchmark_counts_what_was_found_of_what_was_erased(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair = (1.0, 1.0)
    drawn = HeldOut(
        erased=100, found=85, refitted=10, raw_pm=pair, corrected_pm=pair, fitted_pm=pair
    )
    monkeypatch.setattr(real, "STO_FILE", tmp_path)
    monkeypatch.setattr(real, "read_frames", lambda _: [None])
    monkeypatch.setattr(held_out, "held_out_residual", lambda *_, **__: drawn)
    monkeypatch.setattr(real, "_whole_rows", lambda _: (1.0, 1.0))
    assert real.sto(quick=True)["sto found"].value == 85


@pytest.mark.skipif(not STO.is_file(), reason="the real micrographs are not here")
def test_columns_of_a_real_frame_that_were_never_fitted_come_to_rest() -> None:
    found = held_out_residual(read_frames(STO)[0], rng=np.random.default_rng(0))
    assert found.found >= 0.9 * found.erased
    assert found.refitted == 0
    assert found.raw_pm == pytest.approx((13.2, 8.9), abs=1.2)  # one draw of ten
    assert found.corrected_pm[0] < 5.0
    assert found.corrected_pm[1] < 3.6  # 3.4 in the mean of ten draws: see the benchmarks
