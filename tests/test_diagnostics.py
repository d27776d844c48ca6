import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, seeds

from nion_distortion.atoms import AtomColumns
from nion_distortion.correction import correct_frame
from nion_distortion.diagnostics import Estimate, effective_counts, expected_error_pm, off_by_pm
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import Frame, ScanSettings

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
        background=ones,
        chi2=ones,
        confidence=ones,
        counts=counts,
        polarity="bright",
        finder="formula",
        gain=1.0,
    )
    found = effective_counts(columns, np.repeat([0, 1], 400))
    assert found.value == pytest.approx(50, abs=1)
    assert found.std == pytest.approx(1.2533 * 5 / 20, rel=0.15)
    assert found.p95 == pytest.approx(50 + 1.645 * 5, rel=0.03)


def test_an_estimate_is_a_plain_tuple() -> None:
    assert Estimate(1.0, None, 2.0) == (1.0, None, 2.0)
