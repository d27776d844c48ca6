import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree

from simulator.specimen import PROFILE_NM2, SHAPES_FILE, SPECIMENS, Sites, make_specimen

FIELD = ((0.0, 0.0), (16.0, 16.0))


def sites(name: str = "sto_001", **options: Any) -> Sites:
    return make_specimen(name, **options).sites(*FIELD)


def nearest(position_nm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cKDTree(position_nm).query(position_nm, k=2)[0])[:, 1]


@pytest.mark.parametrize("name", SPECIMENS)
def test_columns_are_lattice_plus_displacement(name: str) -> None:
    specimen = make_specimen(name, rotation_rad=0.3, seed=4)
    found = specimen.sites(*FIELD)
    ideal = specimen.origin_nm + (found.cell + specimen.motif[found.sublattice]) @ specimen.basis_nm
    np.testing.assert_allclose(found.position_nm, ideal + found.displacement_nm, atol=1e-12)
    assert np.abs(found.position_nm).max() <= 8.0


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_region_is_filled_with_columns_at_the_crystals_density(name: str) -> None:
    specimen = make_specimen(name, rotation_rad=0.3, seed=4)
    density = len(specimen.motif) / abs(np.linalg.det(specimen.basis_nm))
    expected = density * (1.0 if name != "pto_sto" else 0.5 + 0.5 / 1.064)
    assert len(specimen.sites(*FIELD).cell) == pytest.approx(256 * expected, rel=0.03)


@pytest.mark.parametrize(
    ("name", "nearest_nm"),
    [
        ("sto_001", 0.3905 / np.sqrt(2)),
        ("sto_110", 0.3905 / 2),
        ("si_110", 0.5431 / 4),
        ("gaas_110", 0.5653 / 4),
        ("graphene", 0.246 / np.sqrt(3)),
        ("mos2", 0.316 / np.sqrt(3)),
    ],
)
def test_neighbours_have_the_crystals_distance(name: str, nearest_nm: float) -> None:
    position = sites(name, rotation_rad=0.2).position_nm
    inside = np.abs(position).max(axis=1) < 7.0
    distance = nearest(position)[inside]
    np.testing.assert_allclose(distance, nearest_nm, atol=1e-9)


@pytest.mark.parametrize(
    "options", [{"vacancy_fraction": 0.2}, {"grains": 3}, {"vacuum_fraction": 0.4}]
)
def test_a_column_is_there_whatever_region_is_asked_for(options: dict[str, Any]) -> None:
    specimen = make_specimen("pto_sto", rotation_rad=0.1, seed=2, **options)
    whole, part = specimen.sites(*FIELD), specimen.sites((1.0, -2.0), (5.0, 4.0))
    within = (np.abs(whole.position_nm - [1.0, -2.0]) <= [2.5, 2.0]).all(axis=1)
    np.testing.assert_allclose(part.position_nm, whole.position_nm[within], atol=1e-12)
    np.testing.assert_array_equal(part.cell, whole.cell[within])


def test_polar_displacement_moves_the_b_columns_alone_and_turns_with_the_crystal() -> None:
    found = sites("batio3_polar", polar_nm=0.03, rotation_rad=np.pi / 2)
    b = found.sublattice == 1
    np.testing.assert_array_equal(found.displacement_nm[~b], 0)
    np.testing.assert_allclose(np.linalg.norm(found.displacement_nm[b], axis=1), 0.03)
    np.testing.assert_allclose(found.displacement_nm[b][:, 0], 0, atol=1e-12)


def test_strain_step_stretches_one_side_by_its_strain() -> None:
    found = sites("pto_sto", strain=0.05, polar_nm=0.0)
    a = found.sublattice == 0
    line = a & (found.cell[:, 1] == 0)
    step = np.diff(found.position_nm[line, 0])
    below = found.cell[line, 0][:-1] >= 0
    np.testing.assert_allclose(step[below], 1.05 * 0.3905)
    np.testing.assert_allclose(step[~below], 0.3905)


def test_zigzag_alternates_between_all_neighbours() -> None:
    found = sites("zigzag", amplitude_nm=0.02)
    moved = found.displacement_nm[:, 1]
    np.testing.assert_allclose(np.abs(moved), 0.02)
    pairs = cKDTree(found.cell).query_pairs(1.1, output_type="ndarray")
    np.testing.assert_allclose(moved[pairs[:, 0]], -moved[pairs[:, 1]])


def test_vacancies_are_the_wanted_share_and_differ_with_the_seed() -> None:
    whole = len(sites().cell)
    one, two = (sites(vacancy_fraction=0.1, seed=seed) for seed in (0, 1))
    assert len(one.cell) == pytest.approx(0.9 * whole, rel=0.02)
    kept = ({tuple(row) for row in np.column_stack([s.cell, s.sublattice])} for s in (one, two))
    assert len(set.symmetric_difference(*kept)) > 0.1 * whole


def test_grains_are_turned_and_keep_apart() -> None:
    found = sites(grains=2, seed=3)
    assert set(found.grain) == {0, 1}
    assert np.bincount(found.grain).min() > 0.2 * len(found.grain)
    assert nearest(found.position_nm).min() > 0.199


def test_vacuum_takes_its_share_of_the_field() -> None:
    specimen = make_specimen("sto_001", vacuum_fraction=0.5, contamination=0.2)
    found = specimen.sites(*FIELD)
    assert len(found.cell) == pytest.approx(0.5 * len(sites().cell), rel=0.05)
    assert not specimen.in_vacuum(found.position_nm).any()
    assert specimen.in_vacuum([[7.0, 0.0]]).all()
    np.testing.assert_array_equal(specimen.layer([[7.0, 0.0], [3.0, 1.0]]), 0)


def test_contamination_has_its_rms_and_is_never_negative() -> None:
    specimen = make_specimen("sto_001", contamination=0.1)
    places = np.stack(np.meshgrid(*[np.linspace(-8, 8, 400)] * 2), axis=-1)
    layer = specimen.layer(places)
    assert layer.std() == pytest.approx(0.1, rel=0.15)
    assert layer.min() >= 0
    np.testing.assert_allclose(specimen.layer(places + 25.6), layer, atol=1e-9)


def test_the_brightest_kind_of_column_has_brightness_one() -> None:
    assert {sites(name).brightness.max() for name in SPECIMENS} == {1.0}


@pytest.mark.parametrize("name", SPECIMENS)
def test_profiles_fall_from_one_to_nothing_and_have_their_width(name: str) -> None:
    specimen = make_specimen(name)
    radius = np.sqrt(PROFILE_NM2)
    core = radius < 0.06
    for profile, width in zip(specimen.profile, specimen.width_nm, strict=True):
        assert profile[0] == pytest.approx(1)
        assert profile[-1] == pytest.approx(0, abs=1e-6)
        assert np.diff(profile).max() < 1e-6
        np.testing.assert_allclose(
            profile[core], np.exp(-0.5 * (radius[core] / width) ** 2), atol=0.07
        )


def test_strontium_is_as_wide_as_the_designs_columns() -> None:
    assert make_specimen("sto_001").width_nm[0] / 0.03125 == pytest.approx(1.57, abs=0.02)


def test_the_shapes_are_small() -> None:
    assert SHAPES_FILE.stat().st_size < 200_000


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimens_survive_pickling(name: str) -> None:
    specimen = make_specimen(name, vacancy_fraction=0.1, seed=5)
    copy = pickle.loads(pickle.dumps(specimen))
    np.testing.assert_array_equal(
        copy.sites(*FIELD).position_nm, specimen.sites(*FIELD).position_nm
    )
    assert not copy.basis_nm.flags.writeable


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("salt", {}, "name must be one of sto_001"),
        ("sto_001", {"vacancy_fraction": 1.2}, "vacancy_fraction must be from 0 to 1, not 1.2"),
        ("sto_001", {"polar_nm": 0.1}, "sto_001 has no parameter 'polar_nm'; it has: none"),
        ("zigzag", {"polar_nm": 0.1}, "it has: amplitude_nm"),
        ("sto_001", {"grains": 0}, "grains must be at least 1"),
        ("sto_001", {"column_shape": "round"}, "column_shape must be multislice or gaussian"),
    ],
)
def test_unknown_specimens_are_refused(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_specimen(name, **options)
