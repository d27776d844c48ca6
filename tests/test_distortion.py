import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nion_distortion.atoms import AtomColumns
from nion_distortion.distortion import DistortionField, sample_distortion
from nion_distortion.frame import ScanSettings
from nion_distortion.lattice import IndexedColumns, Lattice

Array = npt.NDArray[np.float64]
NY, NX = 90, 120
SETTINGS = ScanSettings(shape_px=(NY, NX), field_of_view_nm=4.0)


# samples


def indexed(rng: np.random.Generator) -> tuple[IndexedColumns, Array]:
    cells = np.array([(i, j) for i in range(4) for j in range(5)])
    n = len(cells)
    lattice = Lattice(
        origin_px=np.array([5.0, 7.0]),
        basis_px=np.array([[16.0, 1.0], [-1.0, 17.0]]),
        motif=np.array([[0.0, 0.0], [0.5, 0.5]]),
    )
    sublattice = rng.integers(0, 2, n)
    displacement = rng.normal(size=(n, 2))
    sites = lattice.positions_px(cells + lattice.motif[sublattice])
    ones = np.ones(n)
    columns = AtomColumns(
        positions_px=sites + displacement,
        covariance_px2=np.tile(0.01 * np.eye(2), (n, 1, 1)),
        amplitude=ones,
        sigma_px=ones,
        broadening=np.stack([np.arange(n) + 100.0 * sublattice, ones], axis=1),
        background=ones,
        chi2=ones,
        confidence=ones,
        counts=50 * ones,
        polarity="bright",
        finder="formula",
        gain=1.0,
    )
    return (
        IndexedColumns(
            columns=columns,
            indices=cells,
            sublattice=sublattice,
            lattice=lattice,
            propagated_px=sites,
            correction_px=displacement,
            unindexed=0,
        ),
        displacement,
    )


def test_displacement_is_observed_minus_ideal() -> None:
    columns, displacement = indexed(np.random.default_rng(0))
    samples = sample_distortion(columns, SETTINGS, frame_id="f", time_s=2.0)
    np.testing.assert_allclose(samples.displacement_px, displacement, atol=1e-12)
    np.testing.assert_allclose(samples.sites_px + displacement, samples.observed_px)
    assert (samples.frame_id, samples.time_s, len(samples)) == ("f", 2.0, 20)
    half = columns.sublattice == 1
    np.testing.assert_allclose(samples.crystal_sites[half], columns.indices[half] + 0.5)


def test_widths_are_compared_within_their_kind() -> None:
    columns, _ = indexed(np.random.default_rng(0))
    broadening = sample_distortion(columns, SETTINGS).broadening
    assert broadening is not None
    for kind in (0, 1):
        mine = columns.sublattice == kind
        assert np.median(broadening[mine, 0]) == 0.0
        np.testing.assert_allclose(np.ptp(broadening[mine, 0]), np.ptp(np.flatnonzero(mine)))
    np.testing.assert_array_equal(broadening[:, 1], 1.0)


@pytest.mark.parametrize("known", [True, False])
def test_some_of_the_samples_keep_all_that_they_said(*, known: bool) -> None:
    samples = sample_distortion(indexed(np.random.default_rng(0))[0], SETTINGS, frame_id="f")
    samples = samples if known else replace(samples, broadening=None)
    some = np.arange(20) % 3 == 0
    part = samples.subset(some)
    assert (len(part), part.frame_id) == (7, "f")
    np.testing.assert_array_equal(part.covariance_px2, samples.covariance_px2[some])
    if samples.broadening is None:
        assert part.broadening is None
    else:
        np.testing.assert_array_equal(part.broadening, samples.broadening[some])


def test_the_same_image_is_told_from_another_of_the_same_sample() -> None:
    columns, _ = indexed(np.random.default_rng(0))
    samples = sample_distortion(columns, SETTINGS)
    stored = replace(samples, observed_px=samples.observed_px.astype(np.float32).astype(float))
    error_px = np.sqrt(samples.variance_px2)[:, None]
    noise = error_px * np.random.default_rng(1).normal(size=samples.observed_px.shape)
    another = replace(samples, observed_px=samples.observed_px + noise)
    refitted = replace(samples, observed_px=samples.observed_px + 0.05 * noise)
    assert samples.is_same_image(samples)
    assert samples.is_same_image(stored)
    assert samples.is_same_image(refitted)
    assert samples.is_same_image(stored.subset(np.arange(20) != 9))  # it was not indexed there
    assert not samples.is_same_image(another)
    assert not another.is_same_image(samples)
    assert not samples.is_same_image(samples.subset(np.zeros(20, dtype=bool)))


@pytest.mark.parametrize("again", [False, True], ids=["made", "unpickled"])
def test_samples_cannot_be_altered(*, again: bool) -> None:
    samples = sample_distortion(indexed(np.random.default_rng(0))[0], SETTINGS)
    if again:
        samples = pickle.loads(pickle.dumps(samples))
    for name in ("crystal_sites", "sites_px", "observed_px", "covariance_px2", "broadening"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(samples, name)[0] = 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sites_px": np.zeros((20, 3))}, r"sites_px must have shape \(n, 2\)"),
        ({"sites_px": np.zeros((19, 2))}, "sites_px must have 20 rows, not 19"),
        ({"crystal_sites": np.zeros((21, 2))}, "crystal_sites must have 20 rows, not 21"),
        ({"covariance_px2": np.zeros((20, 2))}, r"covariance_px2 must have shape \(n, 2, 2\)"),
        ({"broadening": np.zeros((19, 2))}, "broadening must have 20 rows, not 19"),
    ],
)
def test_samples_that_do_not_belong_together_are_refused(
    change: dict[str, Any], sentence: str
) -> None:
    samples = sample_distortion(indexed(np.random.default_rng(0))[0], SETTINGS)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        replace(samples, **change)


# fields


def field_of(displacement: npt.NDArray[Any], **changes: Any) -> DistortionField:
    shape = displacement.shape
    values: dict[str, Any] = {
        "displacement_px": displacement,
        "std_px": np.full(shape, 0.03),
        "unremoved_std_px": np.full(shape, 0.05),
        "valid": np.ones(shape[1:], bool),
        "kind": "stationary",
        "settings": SETTINGS,
        "reference": "free",
    }
    return DistortionField(**values | changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"std_px": np.zeros((2, NX, NY))}, r"std_px must have shape \(2, 90, 120\)"),
        ({"unremoved_std_px": np.zeros((NY, NX))}, "unremoved_std_px must have shape"),
        ({"valid": np.ones((2, NY, NX))}, r"valid must have shape \(90, 120\)"),
        ({"kind": "moving"}, 'kind must be "stationary" or "frame", not \'moving\''),
        ({"kind": "frame"}, "frame_id must name the frame that a frame's field belongs to"),
    ],
)
def test_a_field_that_does_not_hold_together_is_refused(
    change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        field_of(np.zeros((2, NY, NX)), **change)


@pytest.mark.parametrize("again", [False, True], ids=["made", "unpickled"])
def test_a_field_cannot_be_altered(*, again: bool) -> None:
    field = field_of(np.zeros((2, NY, NX)), kind="frame", frame_id="f")
    if again:
        field = pickle.loads(pickle.dumps(field))
    assert (field.kind, field.frame_id, field.reference) == ("frame", "f", "free")
    for name in ("displacement_px", "std_px", "unremoved_std_px", "valid"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(field, name)[0] = 1


@pytest.mark.parametrize("scale", [0.5, 2, 3])
def test_a_resampled_field_is_the_same_in_nanometres(scale: float) -> None:
    y, x = np.indices((NY, NX))
    plane = np.stack([0.02 * y - 0.01 * x, 0.5 + 0.03 * x])
    field = field_of(plane.astype(np.float32))
    shape = (round(NY * scale), round(NX * scale))
    again = field.resampled(shape)
    assert again.settings.shape_px == shape
    assert again.settings.field_of_view_nm == SETTINGS.field_of_view_nm
    # the centre of new pixel k stands at (k + 1/2) / scale - 1/2 of the old ones
    new_y, new_x = ((np.arange(n) + 0.5) / scale - 0.5 for n in shape)
    new_y, new_x = np.clip(new_y, 0, NY - 1), np.clip(new_x, 0, NX - 1)
    expected = np.stack(
        [
            np.add.outer(0.02 * new_y, -0.01 * new_x),
            np.add.outer(np.zeros(shape[0]), 0.5 + 0.03 * new_x),
        ]
    )
    np.testing.assert_allclose(again.displacement_px, scale * expected, atol=1e-4)
    np.testing.assert_allclose(again.std_px, scale * 0.03, rtol=1e-5)
    np.testing.assert_allclose(again.unremoved_std_px, scale * 0.05, rtol=1e-5)
    assert again.valid.all()


def test_a_pixel_that_saw_an_invalid_one_is_not_valid() -> None:
    valid = np.ones((NY, NX), bool)
    valid[:, :10] = False
    again = field_of(np.zeros((2, NY, NX)), valid=valid).resampled((2 * NY, 2 * NX))
    assert not again.valid[:, :20].any()
    assert again.valid[:, 22:].all()


def test_resampling_keeps_the_proportions() -> None:
    with pytest.raises(ValueError, match=r"^shape_px must keep the proportions of \(90, 120\)"):
        field_of(np.zeros((2, NY, NX))).resampled((180, 200))
