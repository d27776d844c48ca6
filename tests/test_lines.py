"""Shifts of single lines: found where the scan trembles, and never what the sample does."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize

from nion_distortion.atoms import AtomColumns, find_columns
from nion_distortion.diagnostics import removed_pm
from nion_distortion.frame import ALTERED, ScanSettings
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.line_shifts import BeamMotion, LineShifts, find_line_shifts
from nion_distortion.line_shifts.equations import WAVES, Known, equations, waves_along
from nion_distortion.line_shifts.scene import Scene, usual_rest
from nion_distortion.line_shifts.shifts import STEEPEST_STEP
from nion_distortion.line_shifts.within import find_within
from nion_distortion.options import TERMS
from nion_distortion.pipeline import FrameReport, process_frame
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors
from simulator.scoring import score_map
from simulator.specimen import make_specimen

Array = npt.NDArray[np.float64]

SIDE, PERIOD, SIGMA = 192, 220.0, 1.8
TURN = 0.2
"""Of the lattice: columns of one row do not share their lines."""

SLOWEST = 0.5


def lattice(*, turned: bool = True, zigzag_px: float = 0.0) -> Array:
    """Places of columns; every other row may be shifted along itself."""
    steps = np.arange(-30, 31)
    rows, across = (part.ravel() for part in np.meshgrid(steps, steps, indexing="ij"))
    places = 9.0 * np.stack([rows, across], axis=1).astype(float)
    places[:, 1] += np.where(rows % 2, zigzag_px, -zigzag_px)
    c, s = (np.cos(TURN), np.sin(TURN)) if turned else (1.0, 0.0)
    places = places @ np.array([[c, -s], [s, c]]).T + SIDE / 2 + 0.3
    inside = np.all((places > 8) & (places < SIDE - 9), axis=1)
    return np.asarray(places[inside])


def scanned(
    places: Array,
    moved: Array,
    *,
    seed: int = 0,
    electrons: float = 60.0,
    background: float = 2.0,
) -> Array:
    """Draw columns as a beam sees them that is off by ``moved``, (2, lines, pixels)."""
    y, x = np.indices((SIDE, SIDE)) - moved
    signal = np.full((SIDE, SIDE), background)
    for place in places:
        signal += electrons * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 2 / SIGMA**2)
    return np.random.default_rng(seed).poisson(signal).astype(float)


def trembling(rms_px: float, seed: int = 1) -> Array:
    return rms_px * np.random.default_rng(seed).normal(size=(2, SIDE))


def found_in(image: Array, *, prior_px: float = 0.0) -> LineShifts:
    pixels = image.astype(np.float32)
    columns = find_columns(pixels)
    return shifts_of(pixels, columns, prior_px=prior_px)


def shifts_of(
    pixels: npt.NDArray[np.float32],
    columns: AtomColumns,
    *,
    prior_px: float = 0.0,
    moved_px: Array | None = None,
    within_px: npt.NDArray[np.float32] | None = None,
) -> LineShifts:
    motion = BeamMotion(
        at_starts_px=np.zeros((2, SIDE + 1)) if moved_px is None else moved_px,
        within_px=np.zeros((2, SIDE, 1), np.float32) if within_px is None else within_px,
        period_px=PERIOD if moved_px is None else np.inf,
        slowest=SLOWEST,
        wave_px2=np.full((2, SIDE), prior_px**2),
    )
    return find_line_shifts(pixels, columns, np.zeros(len(columns), int), motion)


def fast(waves: Array) -> Array:
    """What of shifts can be found: the slow waves are the model's."""
    parts = np.fft.rfft(waves, axis=-1)
    parts[..., 2 * np.pi * np.arange(parts.shape[-1]) / SIDE <= SLOWEST] = 0.0
    return np.fft.irfft(parts, SIDE, axis=-1)


def test_shifts_of_lines_are_found_and_their_error_is_known() -> None:
    true = trembling(0.15)
    shifts = found_in(scanned(lattice(), np.repeat(true[:, :, None], SIDE, axis=2)))
    inner = slice(20, -20)
    left = (shifts.shift_px - fast(true))[:, inner]
    rms = np.sqrt((left**2).mean(axis=1))
    assert np.all(rms < 0.4 * 0.15)
    np.testing.assert_allclose(np.sqrt(shifts.left_px2), rms, rtol=0.35)
    assert np.all(shifts.within_px2 < 0.02**2)


def test_calm_scan_is_left_alone() -> None:
    shifts = found_in(scanned(lattice(), np.zeros((2, SIDE, SIDE))), prior_px=0.01)
    np.testing.assert_array_equal(shifts.shift_px, 0.0)
    np.testing.assert_array_equal(shifts.along_px, 0.0)
    np.testing.assert_array_equal(shifts.within_px2, 0.0)
    assert np.all(shifts.left_px2 < 0.01**2)


def test_rows_that_are_shifted_by_turns_are_the_samples() -> None:
    still = np.zeros((2, SIDE, SIDE))
    shifts = found_in(scanned(lattice(turned=False, zigzag_px=0.5), still, electrons=400.0))
    assert np.sqrt((shifts.shift_px**2).mean()) < 0.02


@pytest.mark.parametrize(("gain", "offset"), [(30.0, 15000.0), (0.01, -0.2)])
def test_units_of_the_detector_do_not_matter(gain: float, offset: float) -> None:
    true = np.repeat(trembling(0.15)[:, :, None], SIDE, axis=2)
    image = scanned(lattice(), true)
    plain, other = found_in(image), found_in(gain * image + offset)
    np.testing.assert_allclose(other.shift_px, plain.shift_px, atol=2e-3)
    np.testing.assert_allclose(other.left_px2, plain.left_px2, rtol=0.02)


def test_lines_of_dark_columns_are_found_too() -> None:
    true = trembling(0.15)
    moved = np.repeat(true[:, :, None], SIDE, axis=2)
    image = scanned(lattice(), moved, electrons=-60.0, background=100.0)
    shifts = found_in(image)
    for axis in (0, 1):
        inner = shifts.shift_px[axis, 20:-20], fast(true)[axis, 20:-20]
        assert np.corrcoef(*inner)[0, 1] > 0.75


def test_what_is_known_of_the_beam_is_not_found_again() -> None:
    true = trembling(0.15)
    pixels = scanned(lattice(), np.repeat(true[:, :, None], SIDE, axis=2)).astype(np.float32)
    known = np.concatenate([true, true[:, -1:]], axis=1)
    shifts = shifts_of(pixels, find_columns(pixels), moved_px=known)
    assert np.sqrt((shifts.shift_px**2).mean()) < 0.1 * 0.15


def vibrating(rms_px: float, *, cycles: float = 1.27, axis: int = 1) -> Array:
    """A wave of so many periods a line: it differs from line to line, and along each."""
    y, x = np.indices((SIDE, SIDE))
    moved = np.zeros((2, SIDE, SIDE))
    moved[axis] = np.sqrt(2.0) * rms_px * np.sin(2 * np.pi * cycles * (y + x / PERIOD))
    return moved


INSIDE = np.s_[:, 20:-20, 12:-12]


def rms_of(motion: Array) -> Array:
    return np.asarray(np.sqrt(np.square(motion[INSIDE]).mean(axis=(1, 2))))


@pytest.mark.parametrize(("cycles", "axis"), [(0.39, 1), (1.27, 1), (1.27, 0), (2.6, 1), (5.4, 1)])
def test_vibration_within_lines_is_found_and_its_error_is_claimed(cycles: float, axis: int) -> None:
    true = vibrating(0.12, cycles=cycles, axis=axis)
    shifts = found_in(scanned(lattice(), true))
    left = rms_of(shifts.on_pixels(SIDE) - true)
    assert left[axis] < 0.7 * 0.12
    assert left[1 - axis] == 0.0
    claimed = np.sqrt(shifts.left_px2 + shifts.within_px2)[axis]
    assert 0.75 * left[axis] < claimed < 1.6 * left[axis]  # waves of one phase are known better


def test_columns_stay_in_their_places_while_lines_vibrate() -> None:
    true = vibrating(0.12)
    pixels = scanned(lattice(), true, electrons=400.0)
    found = found_in(pixels).on_pixels(SIDE)[1]
    y, x = find_columns(pixels.astype(np.float32)).positions_px.T
    lines = np.exp(-0.5 * ((np.arange(SIDE) - y[:, None]) / (0.84 * SIGMA)) ** 2)
    moved = np.sum(lines * found[:, np.rint(x).astype(int)].T, axis=1) / lines.sum(axis=1)
    assert 0.0 < np.sqrt(np.mean(moved**2)) < 0.1 * 0.12


def test_waves_along_lines_are_those_of_a_dense_solution() -> None:
    pixels = scanned(lattice(), vibrating(0.2))[60:132, 60:132].astype(np.float32)
    columns = find_columns(pixels)
    scene = Scene.of(pixels, columns, np.zeros(len(columns), int))
    still = np.zeros((2, 73)), np.zeros((2, 72, 1), np.float32)
    known = Known(usual_rest(scene), (1.0, 2.0, 0.1), *still, PERIOD)
    matrix, right = np.zeros((72, WAVES, 72, WAVES)), np.zeros((72, WAVES))
    waves = waves_along(columns.positions_px[:, 1], 72, WAVES)
    for n, wave in enumerate(waves):
        one = scene._replace(shapes=scene.shapes.rows(slice(n, n + 1)))
        band, rest, _ = equations(one, known).along(1)
        own = sum(np.diag(part[: 72 - k], -k) for k, part in enumerate(band))
        own = np.tril(own, -1).T + own
        matrix += np.einsum("jk,a,b->jakb", own, wave, wave)
        right += rest[0][:, None] * wave
    squares = np.einsum("jakb,jakb->ab", matrix, matrix)
    trace = np.einsum("jaja->a", matrix)
    variance, _ = scipy.optimize.nnls(squares, (right**2).sum(axis=0) - trace)
    found = find_within(scene, known, 1, held=np.inf)
    np.testing.assert_allclose(found.variance_px2, variance, rtol=1e-6, atol=1e-12)
    is_there = np.tile(variance > 0.0, 72)
    whole = matrix.reshape(72 * WAVES, -1) + np.diag(1.0 / np.tile(variance + 1e-30, 72))
    expected = np.linalg.solve(whole[np.ix_(is_there, is_there)], right.ravel()[is_there])
    np.testing.assert_allclose(found.waves_px.T.ravel()[is_there], expected, atol=1e-6)
    assert np.abs(found.waves_px[variance == 0.0]).max(initial=0.0) < 1e-9


def test_motion_within_lines_is_no_less_than_what_is_found_and_claimed() -> None:
    shifts = found_in(scanned(lattice(), vibrating(0.28)))
    whole = np.sqrt(shifts.rms_px**2 + shifts.within_px2[1])
    assert whole == pytest.approx(0.28, rel=0.1)
    assert shifts.within_px2[0] == 0.0


def test_vibrating_rows_that_are_shifted_by_turns_are_still_the_samples() -> None:
    true = vibrating(0.12)
    images = [scanned(lattice(zigzag_px=zigzag), true, electrons=400.0) for zigzag in (0.0, 0.5)]
    plain, zigzag = (found_in(image).on_pixels(SIDE) for image in images)
    assert rms_of(zigzag - true)[1] < 1.3 * rms_of(plain - true)[1] < 0.5 * 0.12


@pytest.mark.parametrize("amount", [0.2, 0.5])
def test_lines_that_vibrate_past_each_other_along_y_are_drawn_apart(amount: float) -> None:
    true = vibrating(amount, axis=0)
    shifts = found_in(scanned(lattice(), true, electrons=300.0))
    left = rms_of(shifts.on_pixels(SIDE) - true)[0]
    claimed = np.sqrt(shifts.left_px2 + shifts.within_px2)[0]
    assert left < 0.45 * amount
    assert left < 1.1 * claimed < 2.2 * left


def test_columns_of_a_scan_that_vibrates_strongly_are_found() -> None:
    """What it leaves looks like noise without slow waves, of which no filter is found."""
    places = lattice()
    columns = find_columns(scanned(places, vibrating(0.28), electrons=400.0))
    assert len(columns) == pytest.approx(len(places), abs=3)
    assert np.isfinite(columns.covariance_px2).all()


def test_lines_never_overtake_each_other() -> None:
    true = np.repeat(trembling(0.16, seed=3)[:, :, None], SIDE, axis=2)
    shifts = found_in(scanned(lattice(), true, electrons=300.0))
    steps = np.diff(shifts.shift_px)
    assert 0.3 < steps[0].max() <= STEEPEST_STEP + 1e-9 < steps[1].max()


@pytest.mark.parametrize(("rms_px", "share"), [(0.3, 0.4), (0.45, 0.6), (0.6, 0.75)])
def test_what_lines_that_overtake_each_other_leave_is_less_and_claimed(
    rms_px: float, share: float
) -> None:
    true = trembling(rms_px, seed=3)
    shifts = found_in(
        scanned(lattice(), np.repeat(true[:, :, None], SIDE, axis=2), electrons=300.0)
    )
    left = rms_of((shifts.shift_px - fast(true))[:, :, None].repeat(SIDE, axis=2))[0]
    assert left < share * rms_px
    assert np.sqrt(shifts.left_px2)[0] == pytest.approx(left, rel=0.25)


def test_shifts_survive_pickling_and_cannot_be_changed() -> None:
    values = {
        "shift_px": np.ones((2, 4)),
        "left_px2": np.ones(2),
        "along_px": np.ones((2, 3, 4)),
        "within_px2": np.zeros(2),
    }
    shifts = LineShifts(**values)
    again = pickle.loads(pickle.dumps(shifts))
    np.testing.assert_array_equal(again.shift_px, shifts.shift_px)
    with pytest.raises(ValueError, match="read-only"):
        again.shift_px[0, 0] = 2.0
    with pytest.raises(ValueError, match="left_px2"):
        LineShifts(**values | {"left_px2": np.ones(3)})


@pytest.mark.parametrize("cycles", [0.39, 1.1])
def test_mains_that_is_known_is_not_found_again(cycles: float) -> None:
    true = vibrating(0.12, cycles=cycles)
    pixels = scanned(lattice(), true).astype(np.float32)
    columns = find_columns(pixels)
    still = np.zeros((2, SIDE + 1))
    shifts = shifts_of(pixels, columns, moved_px=still, within_px=true.astype(np.float32))
    np.testing.assert_array_equal(shifts.on_pixels(SIDE), 0.0)
    assert np.all(shifts.within_px2 < 0.02**2)


def test_motion_in_lines_is_that_of_all_functions_of_time() -> None:
    settings = ScanSettings(shape_px=(96, 96), field_of_view_nm=4.0, line_time_us=130.0)
    basis = Basis.of_scan(settings, 12.0, TERMS).with_mains(50.0)
    weights = np.random.default_rng(0).normal(size=(2, basis.size))
    weights[:, : basis.slices["walk"].start] = 0.0
    places = np.c_[np.arange(96.0), np.zeros(96)]
    expected = weights @ basis.design(places)
    starts, mains = basis.at_line_starts(weights), basis.mains_in_lines(weights)
    np.testing.assert_allclose(starts[:, :-1] + mains[:, :, 0], expected, atol=1e-6)
    of_mains = np.zeros_like(weights)
    of_mains[:, basis.slices["mains"]] = weights[:, basis.slices["mains"]]
    y, x = np.indices((96, 96)).reshape(2, -1)
    expected = (of_mains @ basis.design(np.c_[y, x].astype(float))).reshape(2, 96, 96)
    np.testing.assert_allclose(mains, expected, atol=1e-6)
    assert basis.with_mains(None).mains_in_lines(weights).shape == (2, 96, 1)


@cache
def trembling_frame() -> tuple[Shot, FrameReport]:
    settings = ScanSettings(
        shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=120.0
    )
    specimen = make_specimen("sto_001", rotation_rad=0.2)
    machine = Microscope(specimen, ScanErrors(line_jitter_nm=0.005, seed=5), seed=5)
    shot = machine.shot(settings)
    return shot, process_frame(shot.frame)


def without_lines(model: DistortionModel) -> DistortionModel:
    assert model.last is not None
    return replace(model, last=replace(model.last, lines=None))


def test_picture_of_a_trembling_scan_is_better_by_its_lines_and_says_how_good_it_is() -> None:
    shot, report = trembling_frame()
    assert report.model is not None
    assert report.field is not None
    plain = without_lines(report.model).frame_estimate().field
    scores = [
        score_map(
            field.displacement_px,
            field.valid,
            shot.truth.place_px,
            pixel_size_nm=shot.frame.settings.pixel_size_nm,
            std_px=np.hypot(field.std_px, field.unremoved_std_px),
        )
        for field in (plain, report.field)
    ]
    before, after = (np.hypot(*score.rms_pm) for score in scores)
    assert after < 0.5 * before
    assert scores[1].z == pytest.approx(1.0, abs=0.2)


def test_what_lines_did_is_counted_as_removed_by_scan_time() -> None:
    _, report = trembling_frame()
    assert report.model is not None
    assert report.field is not None
    assert report.removed_pm is not None
    plain = without_lines(report.model)
    before = removed_pm(plain, plain.frame_estimate().field)["scan_time"]
    assert report.removed_pm["scan_time"] > before + 1.0


def test_lines_of_an_altered_image_are_not_those_of_the_scan() -> None:
    shot, _ = trembling_frame()
    report = process_frame(replace(shot.frame, provenance={ALTERED: "rotated"}))
    assert report.model is not None
    assert report.model.last is not None
    assert report.model.last.lines is None
