from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_cases import (
    SMALL,
    every_pixel,
    flyback_model,
    microscope,
    model_of,
    sampled,
    without_affine,
)
from strategies import few, seeds

from nion_distortion._uncertainty import with_std
from nion_distortion.atoms import AtomColumns
from nion_distortion.correction import correct_frame
from nion_distortion.diagnostics import (
    Estimate,
    effective_counts,
    expected_error_pm,
    flyback_advice,
    is_worth_it,
    off_by_pm,
    removed_pm,
    setup_hint,
)
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.gaussian_process.terms import GROUPS
from nion_distortion.lattice import IndexedColumns, Lattice
from nion_distortion.options import TERMS
from simulator.scan import ScanErrors

Array = npt.NDArray[np.float64]

SETTINGS = ScanSettings(shape_px=(96, 128), field_of_view_nm=4.0)
PM = 1e3 * SETTINGS.pixel_size_nm
Y, X = np.meshgrid(np.arange(96.0), np.arange(128.0), indexing="ij")


def field_of(
    displacement: Array, *, std_px: float = 0.03, unremoved_px: float = 0.04, wrong: int = 0
) -> DistortionField:
    """A field whose first columns of pixels (``wrong``) were not seen."""
    valid = np.ones(SETTINGS.shape_px, bool)
    valid[:, :wrong] = False
    shape = (2, *SETTINGS.shape_px)
    return DistortionField(
        displacement_px=displacement.astype(np.float32),
        std_px=np.full(shape, std_px, np.float32),
        unremoved_std_px=np.full(shape, unremoved_px, np.float32),
        valid=valid,
        kind="stationary",
        settings=SETTINGS,
        reference="free",
    )


def waves(rng: np.random.Generator) -> Array:
    parts = [rng.normal() * np.sin(X / 7 + k) * np.cos(Y / 9 - k) for k in range(2)]
    return np.stack(parts)


def test_a_steep_line_start_counts_as_on_all_pixels() -> None:
    settings = ScanSettings(shape_px=(512, 512), field_of_view_nm=16.0)
    x = np.arange(512.0)
    steep = np.where(x < 6, -5.0, -5.0 * np.exp(-x / 8.0)) * np.ones((512, 1))
    displacement = np.stack([np.zeros_like(steep), steep]).astype(np.float32)
    std = np.ones_like(displacement)
    field = DistortionField(
        displacement_px=displacement,
        std_px=std,
        unremoved_std_px=std,
        valid=np.ones(settings.shape_px, bool),
        kind="stationary",
        settings=settings,
        reference="free",
    )
    free = np.stack([np.ones(512), x], axis=1)
    left = steep[0] - free @ np.linalg.lstsq(free, steep[0], rcond=None)[0]
    whole_pm = 31.25 * np.sqrt(np.mean(left**2))
    assert off_by_pm(field, 0.0).value == pytest.approx(whole_pm, rel=0.005)


@few
@given(seeds())
def test_off_by_does_not_count_an_affine_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own, plane = waves(rng), rng.normal(size=(2, 3))
    affine = plane[:, 0, None, None] + plane[:, 1, None, None] * Y / 96
    affine = affine + plane[:, 2, None, None] * X / 128
    one, two = off_by_pm(field_of(own), 0.0), off_by_pm(field_of(own + affine), 0.0)
    assert one.value == pytest.approx(two.value, rel=1e-3, abs=1e-3)
    assert one.p95 == pytest.approx(two.p95, rel=1e-3, abs=1e-3)


def test_off_by_is_the_rms_length_in_picometres() -> None:
    """Waves along both axes, of many periods, have no affine part to speak of."""
    displacement = np.stack([0.3 * np.sin(X * 0.7), 0.4 * np.sin(Y * 0.9)])
    found = off_by_pm(field_of(displacement), 0.02)
    assert found.value == pytest.approx(np.hypot(0.3, 0.4) / np.sqrt(2) * PM, rel=0.03)
    assert found.std == pytest.approx(0.02 * PM)
    assert found.value < found.p95 < 0.5 * PM


def test_pixels_that_were_not_seen_do_not_count() -> None:
    displacement = waves(np.random.default_rng(0))
    spoilt = displacement.copy()
    spoilt[:, :, :20] += 50.0
    assert off_by_pm(field_of(spoilt, wrong=20), 0.0) == off_by_pm(
        field_of(displacement, wrong=20), 0.0
    )


def test_nothing_seen_is_nothing_said() -> None:
    assert off_by_pm(field_of(np.ones((2, 96, 128)), wrong=128), 0.1).value == 0.0


@few
@given(st.floats(0, 0.3), st.floats(0, 0.3))
def test_expected_error_is_all_of_the_std_in_quadrature(std: float, unremoved: float) -> None:
    field = field_of(np.zeros((2, 96, 128)), std_px=std, unremoved_px=unremoved)
    frame = Frame(image=np.zeros((96, 128), np.float32), settings=SETTINGS)
    found = expected_error_pm(correct_frame(frame, field))
    expected = np.sqrt(2) * np.hypot(std, unremoved) * PM
    assert found.value == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found.p95 == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found.std is None


def test_counts_are_those_of_the_brightest_sublattice() -> None:
    rng = np.random.default_rng(0)
    counts = np.r_[rng.normal(50, 5, 400), rng.normal(10, 2, 400)]
    ones = np.ones(800)
    columns = AtomColumns(
        positions_px=np.zeros((800, 2)),
        covariance_px2=np.tile(np.eye(2), (800, 1, 1)),
        amplitude=ones,
        sigma_px=ones,
        broadening=np.ones((800, 2)),
        background=ones,
        chi2=ones,
        confidence=ones,
        counts=counts,
        polarity="bright",
        finder="formula",
        gain=1.0,
    )
    found = effective_counts(columns, np.repeat([0, 1], 400))
    assert found is not None
    assert found.value == pytest.approx(50, abs=1)
    assert found.std == pytest.approx(1.2533 * 5 / 20, rel=0.15)
    assert found.p95 == pytest.approx(50 + 1.645 * 5, rel=0.03)
    guessed = effective_counts(replace(columns, gain_std=0.1), np.repeat([0, 1], 400))
    assert guessed is not None
    assert guessed.std == pytest.approx(0.1 * guessed.value, rel=0.01)
    assert effective_counts(replace(columns, gain_std=0.5), np.repeat([0, 1], 400)) is None


def test_an_estimate_is_a_plain_tuple() -> None:
    assert Estimate(1.0, None, 2.0) == (1.0, None, 2.0)


# worth it


def worth(field: DistortionField) -> bool:
    return is_worth_it(field, off_by_pm(field, 0.0))


def test_correcting_less_than_its_own_error_is_not_worth_it() -> None:
    """1.1 pm taken out with an error of 2.8 pm does harm; the other way round it does good."""
    waves_px = np.stack([np.sin(X * 0.7), np.sin(Y * 0.9)])  # rms length 1
    small, large = 1.1 / PM, 2.8 / PM
    assert not worth(field_of(small * waves_px, std_px=large / np.sqrt(2)))
    assert worth(field_of(large * waves_px, std_px=small / np.sqrt(2)))


def test_what_is_left_either_way_does_not_make_it_worthless() -> None:
    waves_px = np.stack([np.sin(X * 0.7), np.sin(Y * 0.9)])
    assert worth(field_of(0.1 * waves_px, std_px=0.03, unremoved_px=3.0))


def test_nothing_seen_is_not_worth_it() -> None:
    assert not worth(field_of(np.ones((2, 96, 128)), wrong=128))


# what each term took out


def test_every_group_of_functions_belongs_to_one_term() -> None:
    model, _ = flyback_model()
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(model.basis.slices)
    assert set(GROUPS) == set(TERMS)


def test_the_terms_of_a_strong_flyback_are_told_apart() -> None:
    """Against the truth's own parts: the exponential, and the smooth field."""
    model, truth = flyback_model()
    places = every_pixel(SMALL)
    to_pm = 1e3 * SMALL.pixel_size_nm
    amplitude, tau_px = 0.125, truth.path.errors.line_flyback_tau_us
    lag = np.zeros_like(places)
    lag[:, 1] = -amplitude / SMALL.pixel_size_nm * np.exp(-places[:, 1] / tau_px)
    smooth = truth.distortion_px(places) - lag
    found = removed_pm(model, model.frame_estimate().field)
    assert set(found) == set(TERMS) - {"frame_locked", "mains"}  # no sync, and no hum
    for term, part in (("line_flyback", lag), ("smooth", smooth)):
        rest = without_affine(part, places)
        expected = to_pm * np.sqrt((rest**2).sum(axis=1).mean())
        assert found[term] == pytest.approx(expected, rel=0.2), term
    assert found["fast_axis"] < 0.2 * found["line_flyback"]
    assert found["scan_time"] < 0.2 * found["line_flyback"]


def test_a_term_that_is_off_took_nothing_out() -> None:
    model, _ = flyback_model()
    stationary = removed_pm(model, model.stationary_field())
    assert set(stationary) == set(TERMS) - {"frame_locked", "mains", "scan_time"}
    samples, lattice, _ = sampled(microscope(ScanErrors(smooth_nm=0.04)))
    smooth = first_model(samples, lattice, frozenset({"smooth"}))
    assert set(removed_pm(smooth, smooth.frame_estimate().field)) == {"smooth"}


# fly-back

TAU_US, LAG_NM, FLYBACK_US = 12.0, 0.12, 30.0


def lagging(dwell_us: float) -> tuple[DistortionModel, float]:
    """A model of one device at some dwell time, and the true lag at its line start, pm."""
    settings = replace(SMALL, dwell_time_us=dwell_us, flyback_time_us=FLYBACK_US)
    errors = ScanErrors(
        line_flyback_nm=(0.0, LAG_NM * np.exp(FLYBACK_US / TAU_US)),
        line_flyback_tau_us=TAU_US,
        smooth_nm=0.02,
    )
    return model_of(microscope(errors), settings, frames=4)[0], 1e3 * LAG_NM


@pytest.mark.parametrize("dwell_us", [1.0, 2.0, 4.0])
def test_advice_knows_tau_and_what_is_left_at_the_line_start(dwell_us: float) -> None:
    model, lag_pm = lagging(dwell_us)
    found = flyback_advice(model)
    assert found.line_start_pm is not None
    assert found.line_start_std_pm is not None
    assert found.tau_us is not None
    assert found.tau_std_us is not None
    assert found.wanted_flyback_us is not None
    assert found.wanted_flyback_std_us is not None
    assert found.frame_time_cost_percent is not None
    assert abs(found.line_start_pm - lag_pm) < 3 * found.line_start_std_pm
    assert found.line_start_std_pm < 0.25 * lag_pm
    assert abs(found.tau_us - TAU_US) < 3 * found.tau_std_us
    assert found.tau_std_us < 0.25 * TAU_US
    wanted_us = FLYBACK_US + TAU_US * np.log(lag_pm / 5.0)
    assert abs(found.wanted_flyback_us - wanted_us) < 3 * found.wanted_flyback_std_us
    line_us = SMALL.shape_px[1] * dwell_us + FLYBACK_US
    cost = 100 * (found.wanted_flyback_us - FLYBACK_US) / line_us
    assert found.frame_time_cost_percent == pytest.approx(cost)
    assert "would leave < 5 pm and cost" in found.sentence


def test_without_a_flyback_there_is_no_advice() -> None:
    model, _ = model_of(microscope(ScanErrors(smooth_nm=0.01)), frames=2)
    found = flyback_advice(model)
    assert found.line_start_pm is not None
    assert found.line_start_std_pm is not None
    assert found.line_start_pm < 3 * found.line_start_std_pm
    assert found.tau_us is None
    assert "no line fly-back is certain" in found.sentence


@pytest.mark.parametrize(
    ("value", "std", "words"),
    [
        (36.31, 12.94, "36 +- 13 pm"),
        (36.31, 1.234, "36.3 +- 1.2 pm"),
        (243.2, 0.494, "243.20 +- 0.49 pm"),
        (11.24, 250.0, "11 +- 250 pm"),
        (36.31, None, "36.3 pm"),
        (36.31, 0.0, "36.3 pm"),
    ],
)
def test_a_number_has_the_digits_of_its_deviation(
    value: float, std: float | None, words: str
) -> None:
    assert with_std(value, std, "pm") == words


def test_unknown_timing_is_said_and_not_guessed() -> None:
    model, _ = flyback_model()
    unknown = replace(SMALL, dwell_time_us=None, flyback_time_us=None)
    found = flyback_advice(replace(model, settings=unknown))
    assert found.line_start_pm is not None
    assert (found.tau_us, found.wanted_flyback_us) == (None, None)
    assert "dwell time is not known" in found.sentence
    found = flyback_advice(replace(model, settings=replace(SMALL, flyback_time_us=None)))
    assert found.tau_us is not None
    assert found.wanted_flyback_us is None
    assert "fly-back time is not known" in found.sentence
    line_us = SMALL.shape_px[1] + 120.0
    told = replace(SMALL, flyback_time_us=None, line_time_us=line_us)
    by_line = flyback_advice(replace(model, settings=told))
    assert by_line.wanted_flyback_us == flyback_advice(model).wanted_flyback_us


def test_a_term_that_is_off_gives_no_advice() -> None:
    samples, lattice, _ = sampled(microscope(ScanErrors(smooth_nm=0.04)))
    model = first_model(samples, lattice, frozenset({"smooth"}))
    assert "switched off" in flyback_advice(model).sentence


# set-up


def two_sublattices(
    *, shift_px: float = 0.0, sigma_px: float = 2.0, counts: float = 50.0, side: float = 12.0
) -> IndexedColumns:
    """A square cell with a column at its centre, which a mistilt moves along y."""
    rng = np.random.default_rng(2)
    cells = np.stack(np.meshgrid(np.arange(20), np.arange(20), indexing="ij"), -1).reshape(-1, 2)
    indices, sublattice = np.tile(cells, (2, 1)), np.repeat([0, 1], len(cells))
    n, std = len(indices), 0.08
    motif = np.array([[0.0, 0.0], [0.5, 0.5]])
    places = side * (indices + motif[sublattice]) + std * rng.normal(size=(n, 2))
    places[sublattice == 1, 0] += shift_px
    one, two = (places[sublattice == k] - side * indices[sublattice == k] for k in (0, 1))
    columns = AtomColumns(
        positions_px=places,
        covariance_px2=np.tile(std**2 * np.eye(2), (n, 1, 1)),
        amplitude=np.ones(n),
        sigma_px=np.full(n, sigma_px),
        broadening=np.ones((n, 2)),
        background=np.ones(n),
        chi2=np.ones(n),
        confidence=np.ones(n),
        counts=np.full(n, counts),
        polarity="bright",
        finder="formula",
        gain=1.0,
    )
    seen = np.stack([np.zeros(2), (two.mean(axis=0) - one.mean(axis=0)) / side])
    lattice = Lattice(origin_px=one.mean(axis=0), basis_px=side * np.eye(2), motif=seen)
    return IndexedColumns(
        columns=columns,
        indices=indices,
        sublattice=sublattice,
        lattice=lattice,
        propagated_px=places,
        correction_px=np.zeros((n, 2)),
        unindexed=0,
    )


def test_a_good_set_up_is_usable() -> None:
    found = setup_hint(two_sublattices(), 0.031)
    assert (found.verdict, found.columns) == ("usable", 800)
    assert found.pixels_per_cell == pytest.approx(12.0)
    assert found.effective_counts is not None
    assert found.effective_counts.value == pytest.approx(50.0)
    assert found.sublattice_offset_std_pm == pytest.approx(31 * 0.08 * np.sqrt(2 / 400))
    assert "12.0 px per cell" in found.sentence
    assert "mistilt" not in found.sentence


def test_noise_that_does_not_tell_electrons_is_said() -> None:
    indexed = two_sublattices()
    blurred = replace(indexed, columns=replace(indexed.columns, gain_std=1.0))
    found = setup_hint(blurred, 0.031)
    assert found.verdict == "usable"
    assert found.effective_counts is None
    assert "electrons at their peaks not known" in found.sentence


@pytest.mark.parametrize(("unindexed", "is_said"), [(100, False), (700, True)])
def test_columns_of_another_grain_are_said(unindexed: int, *, is_said: bool) -> None:
    found = setup_hint(replace(two_sublattices(), unindexed=unindexed), 0.031)
    assert (f"; {unindexed} of {800 + unindexed} columns are not of" in found.sentence) == is_said


def test_a_mistilt_moves_the_sublattices_apart() -> None:
    found = setup_hint(two_sublattices(shift_px=0.4), 0.031)
    assert found.sublattice_offset_pm is not None
    assert found.sublattice_offset_std_pm is not None
    assert found.sublattice_offset_pm[0] == pytest.approx(
        31 * 0.4, abs=4 * found.sublattice_offset_std_pm
    )
    assert found.verdict == "usable"
    assert "mistilt" in found.sentence


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [({"sigma_px": 0.6}, "too coarse"), ({"counts": 3.0}, "too few counts")],
)
def test_a_bad_set_up_is_named(changed: dict[str, float], verdict: str) -> None:
    found = setup_hint(two_sublattices(**changed), 0.031)
    assert found.verdict == verdict
    assert found.sentence.startswith(verdict)


def test_a_crystal_without_a_column_at_the_centre_says_nothing_of_mistilt() -> None:
    """As in a dumbbell of GaAs."""
    found = setup_hint(two_sublattices(shift_px=4.0), 0.031)
    assert (found.sublattice_offset_pm, found.sublattice_offset_std_pm) == (None, None)
