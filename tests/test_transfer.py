"""A calibration on another sample: what the sample does is kept, and only D is applied."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from model_cases import SMALL, flyback_model

from benchmarks.strain import SeenColumns, strain_profile
from benchmarks.transfer import transfer
from nion_distortion.correction import correct_frame
from nion_distortion.frame import Frame
from nion_distortion.options import Options
from nion_distortion.pipeline import process_frame
from simulator.microscope import Microscope
from simulator.specimen import make_specimen

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def other_sample() -> Frame:
    return Microscope(make_specimen("batio3_polar", rotation_rad=0.5), seed=3).shot(SMALL).frame


@pytest.fixture(scope="module")
def measured() -> Mapping[str, float]:
    found = transfer(quick=True)
    return {name: one.value for name, one in found.items() if one.value is not None}


@pytest.mark.parametrize("way", ["raw", "corrected"])
def test_a_strain_step_is_kept(measured: Mapping[str, float], way: str) -> None:
    assert measured[f"transfer {way} step"] < 0.5  # of 25 pm


def test_a_polar_shift_is_what_a_perfect_scan_shows(measured: Mapping[str, float]) -> None:
    assert measured["transfer scan shift"] < 2.0  # of 30 pm, two frames
    assert measured["transfer left"] < 4.0


def test_columns_without_a_lattice_are_put_where_they_are(measured: Mapping[str, float]) -> None:
    assert measured["transfer no-lattice"] < 4.0


def seen(places_px: Array, cell: Integers) -> SeenColumns:
    return SeenColumns(
        places_px=places_px,
        covariance_px2=np.tile(1e-4 * np.eye(2), (len(cell), 1, 1)),
        scan_px=np.clip(places_px, 0, min(SMALL.shape_px) - 1),
        true_px=places_px,
        cell=cell,
        sublattice=np.zeros(len(cell), dtype=np.int64),
    )


def test_strain_is_that_of_the_sample_s_own_cell_whatever_the_picture_is_stretched_by() -> None:
    model = flyback_model()[0]
    cell = np.stack(np.meshgrid(np.arange(-5, 6), np.arange(10), indexing="ij"), -1).reshape(-1, 2)
    stretch = np.array([[1.02, 0.01], [-0.015, 0.97]])
    longer = cell[:, 0] + 0.064 * np.maximum(cell[:, 0], 0)

    profile = strain_profile(seen(80 + 12.5 * np.c_[longer, cell[:, 1]] @ stretch, cell), model)

    assert profile.step == pytest.approx(0.064, abs=1e-12)
    np.testing.assert_allclose(profile.strain, np.where(profile.rows < 0, 0, 0.064), atol=1e-12)
    assert (profile.std > 0).all()


def test_errors_of_a_strain_profile_are_those_of_its_columns() -> None:
    model = flyback_model()[0]
    cell = np.stack(np.meshgrid(np.arange(-5, 6), np.arange(10), indexing="ij"), -1).reshape(-1, 2)
    places = 80 + 12.5 * np.c_[cell[:, 0] + 0.064 * np.maximum(cell[:, 0], 0), cell[:, 1]]
    columns, rng = seen(places, cell), np.random.default_rng(0)
    errors = 3.0 * rng.normal(size=(400, *places.shape))  # far larger than those of D
    columns = replace(columns, covariance_px2=np.tile(9.0 * np.eye(2), (len(cell), 1, 1)))

    found = [strain_profile(replace(columns, places_px=places + one), model) for one in errors]

    z = np.array([(one.strain - np.where(one.rows < 0, 0, 0.064)) / one.std for one in found])
    assert np.mean(z**2) == pytest.approx(1.0, abs=0.15)
    steps = np.array([(one.step - 0.064) / one.step_std for one in found])
    assert np.mean(steps**2) == pytest.approx(1.0, abs=0.25)


def test_what_one_frame_did_is_refused_on_another_sample() -> None:
    field = flyback_model()[0].frame_estimate().field

    assert field.kind == "frame"
    with pytest.raises(ValueError, match="frame"):
        correct_frame(other_sample(), field)


@pytest.mark.parametrize("is_flat", [False, True])
def test_another_sample_gets_d_alone_and_teaches_nothing(is_flat: bool) -> None:  # noqa: FBT001
    model, frame = flyback_model()[0], other_sample()
    if is_flat:  # no lattice to be found
        frame = replace(frame, image=0 * frame.image + 7.0, provenance={})

    report = process_frame(frame, model=model, options=Options(sample="unknown"))

    assert report.unusable is None
    assert report.corrected is not None
    assert report.field is not None
    assert report.field.kind == "stationary"
    assert report.model is model
