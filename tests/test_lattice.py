"""Indexing: right or not at all, whatever the crystal and the scan."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice_cases import CRYSTALS, Case, FakeColumns, Scan, judged, random_case
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from benchmarks.indexing import wrong_indices
from nion_distortion.frame import UnusableFrameError
from nion_distortion.lattice import (
    IndexedColumns,
    Lattice,
    basis_from_fourier,
    basis_from_neighbours,
    index_columns,
    refine_lattice,
)
from nion_distortion.lattice.basis import primitive, reduced, same_lattice
from nion_distortion.lattice.cells import canonical_cell, like_neighbours, site_table
from nion_distortion.lattice.certainty import held, majority
from nion_distortion.lattice.growth import grow, joined
from nion_distortion.lattice.neighbours import column_spacing_px, count_within, vectors_within
from nion_distortion.lattice.refinement import fit_motif
from nion_distortion.lattice.rounding import _rounded

few = settings(max_examples=12, deadline=None, derandomize=True)
CALM = Scan()


def index(case: Case, **known: Any) -> IndexedColumns:
    return index_columns(case.columns, case.shape_px, **known)  # type: ignore[arg-type]


def sites_of(case: Case, indexed: IndexedColumns) -> dict[int, tuple[int, int, int]]:
    """Site by the number of the column in the case."""
    number = {tuple(place): n for n, place in enumerate(case.columns.positions_px.tolist())}
    seen = [number[tuple(place)] for place in indexed.columns.positions_px.tolist()]
    found = np.column_stack([indexed.indices, indexed.sublattice]).tolist()
    return {n: tuple(site) for n, site in zip(seen, found, strict=True)}


def test_no_column_of_100_random_frames_has_a_wrong_index() -> None:
    false = indexed = 0
    for seed in range(100):
        case = random_case(seed, size=384)
        verdict = judged(case, index(case))
        assert verdict.cell_found, case.name
        assert verdict.wrong == 0, case.name
        false += verdict.false
        indexed += verdict.indexed
    assert false <= 1e-4 * indexed


@pytest.mark.parametrize("name", sorted(CRYSTALS))
@pytest.mark.parametrize("steepest", [-0.8, 0.45])
def test_flyback_of_either_sign_is_followed_to_the_first_column(name: str, steepest: float) -> None:
    scan = Scan(flyback_px=steepest * 15, decay_px=15, smooth_px=0.3)
    for turn in (0.0, 0.3, 0.7):
        case = random_case(
            5, name=name, scan=scan, turn_rad=turn, noise_px=0.05, missing=0.0, false=0.0,
            vacuum=False, nearest_px=6.0, counts=100.0,
        )  # fmt: skip
        indexed = index(case)
        verdict = judged(case, indexed)
        assert verdict.wrong == 0
        assert verdict.right >= 0.98 * len(case.grain)


def test_a_missing_row_is_jumped_over() -> None:
    case = random_case(3, name="simple", scan=CALM, missing=0, false=0, vacuum=False, nearest_px=9)
    case = case.moved(keep=case.cell[:, 0] != 0)
    verdict = judged(case, index(case))
    assert verdict.wrong == 0
    assert verdict.right >= len(case.grain) - 3  # a corner may have too few neighbours


def test_cell_of_strontium_titanate_is_told_by_brightness() -> None:
    case = random_case(1, name="STO [001]", nearest_px=8.0, noise_px=0.1, vacuum=False, counts=50.0)
    indexed = index(case)
    lengths = np.sqrt((indexed.lattice.basis_px**2).sum(1))
    np.testing.assert_allclose(lengths, 8.0 * 2**0.5, rtol=0.03)
    np.testing.assert_allclose(indexed.lattice.motif, np.array([[0.0, 0.0], [0.5, 0.5]]), atol=0.02)
    bright = [float(np.median(indexed.columns.amplitude[indexed.sublattice == s])) for s in (0, 1)]
    assert bright[0] > 2 * bright[1]


def test_largest_grain_alone_is_indexed() -> None:
    wrong = indexed = 0
    for seed in range(20):
        case = random_case(seed, grains=2, vacuum=False, size=384, false=0.002, nearest_px=7.0)
        verdict = judged(case, index(case))
        assert verdict.cell_found, case.name
        wrong += verdict.wrong
        indexed += verdict.indexed
    # two columns of different grains can stand as near to a site as noise allows
    assert wrong <= 3e-4 * indexed


@pytest.mark.parametrize("seed", range(5))
def test_random_points_are_refused_with_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 512, (2000, 2))
    with pytest.raises(UnusableFrameError, match=r"no lattice was found: .*\d"):
        index_columns(fake(places), (512, 512))  # type: ignore[arg-type]


def test_points_that_keep_their_distance_are_refused() -> None:
    rng = np.random.default_rng(0)
    places: list[Any] = []
    for place in rng.uniform(0, 300, (6000, 2)):
        if not places or np.hypot(*(np.array(places) - place).T).min() > 7:
            places.append(place)
    with pytest.raises(UnusableFrameError, match="no lattice was found"):
        index_columns(fake(np.array(places)), (300, 300))  # type: ignore[arg-type]


def test_few_columns_are_refused() -> None:
    with pytest.raises(UnusableFrameError, match="only 9 columns, and 25 are needed"):
        index_columns(fake(np.mgrid[0:3, 0:3].reshape(2, -1).T * 10.0), (64, 64))  # type: ignore[arg-type]


def fake(places: Any) -> FakeColumns:
    n = len(places)
    return FakeColumns(
        positions_px=np.asarray(places, float),
        covariance_px2=np.broadcast_to(0.01 * np.eye(2), (n, 2, 2)),
        amplitude=np.ones(n),
        confidence=np.ones(n),
        chi2=np.ones(n),
        counts=np.full(n, 100.0),
        sigma_px=np.full(n, 1.5),
    )


@few
@given(st.integers(0, 1000), st.floats(-40, 40), st.floats(-40, 40))
def test_translating_columns_translates_the_lattice(seed: int, dy: float, dx: float) -> None:
    case = random_case(seed, size=256, vacuum=False)
    move = np.array([dy, dx])
    one = index(case)
    places = case.columns.positions_px + move
    two = index(replace(case, columns=replace(case.columns, positions_px=places)))
    np.testing.assert_allclose(two.lattice.basis_px, one.lattice.basis_px, atol=0.1)
    step = (two.lattice.origin_px - one.lattice.origin_px - move) @ np.linalg.inv(
        one.lattice.basis_px
    )
    np.testing.assert_allclose(step, np.rint(step), atol=0.1)


@few
@given(st.integers(0, 1000), st.floats(-3, 3))
def test_rotating_columns_rotates_the_basis(seed: int, turn: float) -> None:
    known: dict[str, Any] = {"scan": CALM, "vacuum": False, "size": 256, "nearest_px": 7.0}
    one = index(random_case(seed, **known, turn_rad=0.4))
    two = index(random_case(seed, **known, turn_rad=0.4 + turn))
    c, s = np.cos(turn), np.sin(turn)
    turned = one.lattice.basis_px @ np.array([[c, s], [-s, c]])
    assert same_lattice(two.lattice.basis_px, turned, tolerance=0.05)


@few
@given(st.integers(0, 1000))
def test_removing_columns_never_changes_the_others_indices(seed: int) -> None:
    case = random_case(seed, size=256, vacuum=False)
    fewer = np.random.default_rng(seed).random(len(case.grain)) > 0.05
    one = sites_of(case, index(case))
    less = case.moved(keep=fewer)
    names = np.flatnonzero(fewer)
    two = {int(names[n]): site for n, site in sites_of(less, index(less)).items()}
    common = sorted(one.keys() & two.keys())
    steps = np.array([one[n] for n in common]) - np.array([two[n] for n in common])
    assert len(common) > 0.8 * len(two)
    assert (steps == steps[0]).all()


def test_the_same_columns_give_the_same_bits() -> None:
    case = random_case(7)
    one, two = index(case), index(case)
    assert np.array_equal(one.indices, two.indices)
    assert np.array_equal(one.propagated_px, two.propagated_px)
    assert np.array_equal(one.lattice.basis_px, two.lattice.basis_px)


@pytest.mark.parametrize("name", sorted(CRYSTALS))
def test_the_next_frame_keeps_cell_and_labels(name: str) -> None:
    case = random_case(11, name=name, vacuum=False, size=384)
    first = index(case)
    rng = np.random.default_rng(0)
    for _ in range(3):
        places = case.columns.positions_px + rng.uniform(-20, 20, 2)
        moved = replace(case, columns=replace(case.columns, positions_px=places))
        moved = moved.moved(keep=rng.random(len(places)) > 0.05)
        later = index(moved, previous=first.lattice)
        np.testing.assert_allclose(later.lattice.basis_px, first.lattice.basis_px, atol=0.2)
        np.testing.assert_allclose(later.lattice.motif, first.lattice.motif, atol=0.05)
        verdict = judged(moved, later)
        assert verdict.cell_found
        assert verdict.wrong == 0


@pytest.mark.parametrize("seed", range(12))
def test_a_known_distortion_and_lattice_give_the_same_indices(seed: int) -> None:
    case = random_case(seed, vacuum=False, size=384)
    first = index(case, undistorted_px=case.undistorted_px)
    again = index(case, undistorted_px=case.undistorted_px, previous=first.lattice)
    one, two = sites_of(case, first), sites_of(case, again)
    common = sorted(one.keys() & two.keys())
    assert len(common) > 0.97 * len(one)
    assert all(one[n] == two[n] for n in common)
    assert judged(case, again).wrong == 0


def test_a_lattice_that_does_not_fit_is_not_forced_on_columns() -> None:
    silicon = random_case(2, name="Si [110]", vacuum=False, size=384)
    carbon = random_case(2, name="graphene", vacuum=False, size=384)
    known = index(silicon).lattice
    indexed = index(carbon, undistorted_px=carbon.undistorted_px, previous=known)
    verdict = judged(carbon, indexed)
    assert verdict.cell_found
    assert verdict.wrong == 0


def test_correction_is_seen_minus_proposed() -> None:
    case = random_case(4)
    indexed = index(case)
    np.testing.assert_allclose(
        indexed.correction_px, indexed.columns.positions_px - indexed.propagated_px, atol=1e-9
    )
    assert np.hypot(*indexed.correction_px.T).max() < 12
    assert indexed.unindexed == len(case.grain) - len(indexed.indices)


def test_origin_is_the_column_of_the_first_sublattice_nearest_the_centre() -> None:
    case = random_case(6, name="MoS2", vacuum=False)
    indexed = index(case)
    first = indexed.sublattice == 0
    away = np.hypot(*(indexed.columns.positions_px[first] - (np.array(case.shape_px) - 1) / 2).T)
    assert indexed.indices[first][away.argmin()].tolist() == [0, 0]


def test_results_survive_pickling_read_only() -> None:
    lattice = Lattice(
        origin_px=np.zeros(2), basis_px=np.eye(2), motif=np.array([[0, 0], [0.5, 0.5]])
    )
    again = pickle.loads(pickle.dumps(lattice))
    assert np.array_equal(again.motif, lattice.motif)
    assert not again.basis_px.flags.writeable
    np.testing.assert_allclose(lattice.positions_px(np.array([[1, 2.5]])), [[1, 2.5]])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"origin_px": np.zeros(3)}, "origin_px must have shape"),
        ({"motif": np.array([[0.1, 0]])}, "motif must start with"),
        ({"basis_px": np.ones((2, 2))}, "basis_px must span an area"),
    ],
)
def test_impossible_lattices_are_refused(wrong: dict[str, Any], message: str) -> None:
    right = {"origin_px": np.zeros(2), "basis_px": np.eye(2), "motif": np.zeros((1, 2))}
    with pytest.raises(ValueError, match=message):
        Lattice(**right | wrong)


def test_refinement_is_the_minimum_that_nelder_mead_looks_for() -> None:
    rng = np.random.default_rng(0)
    sites = rng.integers(-8, 9, (200, 2)).astype(float)
    basis = np.array([[10.0, 1.0], [-0.5, 11.0]])
    seen = np.array([100.0, 90.0]) + sites @ basis + rng.normal(0, 0.1, (200, 2))
    origin, fitted, robust = refine_lattice(sites, seen, np.ones(200))

    def total(p: Any) -> float:
        return float((robust * ((seen - p[:2] - sites @ p[2:].reshape(2, 2)) ** 2).sum(1)).sum())

    start = np.concatenate([[100.0, 90.0], basis.ravel()])
    searched = minimize(total, start, method="Nelder-Mead", options={"maxfev": 6000, "xatol": 1e-7})
    np.testing.assert_allclose(np.concatenate([origin, fitted.ravel()]), searched.x, atol=2e-3)


def test_refinement_is_not_pulled_by_outliers() -> None:
    rng = np.random.default_rng(1)
    sites = rng.integers(-8, 9, (200, 2)).astype(float)
    seen = sites * 10 + rng.normal(0, 0.05, (200, 2))
    seen[:10] += 4
    origin, basis, robust = refine_lattice(sites, seen, np.ones(200))
    np.testing.assert_allclose(origin, 0, atol=0.02)
    np.testing.assert_allclose(basis, 10 * np.eye(2), atol=0.005)
    assert robust[:10].max() == 0


def test_sites_on_a_line_are_refused() -> None:
    sites = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    with pytest.raises(ValueError, match="not on one line"):
        refine_lattice(sites, sites, np.ones(4))


@pytest.mark.parametrize("name", sorted(CRYSTALS))
def test_two_independent_ways_find_the_same_basis(name: str) -> None:
    case = random_case(
        3, name=name, scan=CALM, missing=0.02, false=0.005, noise_px=0.1, vacuum=False,
        nearest_px=6.0, turn_rad=0.2,
    )  # fmt: skip
    centre = np.array([256.0, 256.0])
    near, share = basis_from_neighbours(case.columns.positions_px, centre)
    far = basis_from_fourier(case.columns.positions_px, centre)
    assert near is not None
    assert far is not None
    assert share > 0.9
    assert same_lattice(near, far)


PLAIN_CELLS = {
    "square": np.array([[10.0, 0.0], [0.0, 10.0]]),
    "rectangular": np.array([[10.0, 0.0], [0.0, 13.0]]),
    "hexagonal": np.array([[10.0, 0.0], [5.0, np.sqrt(75.0)]]),
}


@pytest.mark.parametrize("turn_deg", [0.0, 0.3, 0.7, 1.1, 3.0, 7.0, 15.0, 22.0, 30.0, 38.0, 45.0])
@pytest.mark.parametrize("name", PLAIN_CELLS)
def test_fourier_finds_the_basis_at_any_angle_to_the_axes(name: str, turn_deg: float) -> None:
    turn = np.radians(turn_deg)
    true = PLAIN_CELLS[name] @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    places = np.mgrid[-60:61, -60:61].reshape(2, -1).T @ true + 256.3
    places = places[((places > 3) & (places < 509)).all(1)]
    places += np.random.default_rng(0).normal(0, 0.03, places.shape)
    found = basis_from_fourier(places, np.array([256.0, 256.0]))
    assert found is not None
    assert same_lattice(found, true)
    nearest = np.rint(found @ np.linalg.inv(true)) @ true
    assert np.linalg.norm(found - nearest, axis=1).max() < 0.002 * 10.0


@few
@given(st.integers(0, 10_000))
def test_canonical_cell_does_not_depend_on_the_given_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    basis = reduced(rng.normal(0, 10, (2, 2)) + 1e-3)
    a, b = rng.integers(-3, 4, 2)
    other = np.array([[1, a], [0, 1]]) @ np.array([[1, 0], [b, -1]]) @ basis
    one, two = canonical_cell(basis) @ basis, canonical_cell(other) @ other
    np.testing.assert_allclose(one, two, atol=1e-9 * np.abs(other).max() + 1e-9)
    angle = np.degrees(np.arccos(one[0] @ one[1] / np.prod(np.hypot(*one.T))))
    assert np.linalg.det(one) > 0
    assert 58 < angle < 122


def test_a_cell_that_repeats_within_itself_is_made_smaller() -> None:
    basis, motif = primitive(np.diag([20.0, 10.0]), np.array([[0.1, 0.2], [0.6, 0.2]]))
    assert same_lattice(basis, 10 * np.eye(2))
    assert len(motif) == 1


def test_growing_agrees_with_plain_rounding_where_nothing_is_distorted() -> None:
    case = random_case(
        8, name="MoS2", scan=CALM, missing=0.05, false=0.0, noise_px=0.1, vacuum=False
    )
    lattice = index(case).lattice
    seed = int(np.hypot(*(case.columns.positions_px - lattice.origin_px).T).argmin())
    growth = grow(case.columns.positions_px, (seed, 0), lattice.basis_px, lattice.motif)
    cells = (case.columns.positions_px - lattice.origin_px) @ np.linalg.inv(lattice.basis_px)
    step = cells[:, None] - lattice.motif
    nearest = (((step - np.rint(step)) @ lattice.basis_px) ** 2).sum(2).argmin(1)
    whole = np.rint(cells - lattice.motif[nearest]).astype(int)
    np.testing.assert_array_equal(growth.sites[:, 2], nearest)
    np.testing.assert_array_equal(growth.sites[:, :2], whole)


def test_neighbour_kernels_agree_with_a_k_d_tree() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 200, (600, 2))
    chosen, counted = rng.random(600) < 0.5, rng.random(600) < 0.7
    tree = cKDTree(places[counted])
    expected = tree.query_ball_point(places, 17.0, return_length=True) - counted
    np.testing.assert_array_equal(
        count_within(places, chosen, counted, 17.0), np.where(chosen, expected, 0)
    )
    start, step = vectors_within(places[:40], places, 12.0)
    length = np.hypot(*(places[:40, None] - places).T).T
    pairs = np.argwhere((length <= 12.0) & (length > 0))
    np.testing.assert_array_equal(start, pairs[:, 0])
    np.testing.assert_array_equal(step, places[pairs[:, 1]] - places[pairs[:, 0]])
    eighth = np.asarray(cKDTree(places).query(places[::10], 9)[0])[:, 8]
    spacing = np.sqrt(float(np.median(eighth**2)) * np.pi / 8.5)
    assert column_spacing_px(places) == pytest.approx(spacing)


def test_motif_fit_agrees_with_least_squares() -> None:
    rng = np.random.default_rng(2)
    cells, sublattice = rng.integers(-9, 10, (400, 2)), rng.integers(0, 3, 400)
    basis, motif = np.array([[9.0, 1.0], [-2.0, 10.0]]), np.array([[0, 0], [0.3, 0.4], [0.5, 0.9]])
    seen = 70 + (cells + motif[sublattice]) @ basis + rng.normal(0, 0.1, (400, 2))
    seen[:9] += 3
    weights = rng.uniform(0.5, 2, 400)
    origin, fitted, places, robust = fit_motif(cells, sublattice, seen, weights)
    assert robust[:9].max() == 0
    design = np.column_stack([sublattice[:, None] == np.arange(3), cells]).astype(float)
    root = np.sqrt(weights * robust)[:, None]
    plain = np.linalg.lstsq(design * root, seen * root, rcond=None)[0]
    np.testing.assert_allclose(np.vstack([origin, fitted]), plain[[0, 3, 4]], atol=1e-3)
    np.testing.assert_allclose(origin + places @ fitted, plain[:3], atol=2e-3)


def test_dim_and_broad_columns_are_told_from_their_neighbours() -> None:
    rng = np.random.default_rng(3)
    cells = np.mgrid[0:20, 0:20].reshape(2, -1).T
    sites = np.column_stack([cells, np.zeros(400, int)])
    size = rng.normal(10, 0.3, 400)
    size[[45, 210, 333]] = 3.0
    size[[60, 250]] = 30.0
    unlike = np.flatnonzero(~like_neighbours(site_table(sites), size))
    assert unlike.tolist() == [45, 60, 210, 250, 333]
    step = np.where(cells[:, 0] < 10, 4.0, 10.0) * rng.normal(1, 0.02, 400)
    assert like_neighbours(site_table(sites), step).all()


def test_rounding_kernel_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    places, basis = rng.uniform(0, 200, (300, 2)), np.array([[9.0, 1.0], [-2.0, 10.0]])
    motif, origin = np.array([[0, 0], [0.3, 0.4]]), np.array([50.0, 60.0])
    sites, off = _rounded(places, origin, np.linalg.inv(basis), basis, motif)
    cells = (places - origin) @ np.linalg.inv(basis)
    step = cells[:, None] - motif
    step = (step - np.rint(step)) @ basis
    nearest = (step**2).sum(2).argmin(1)
    np.testing.assert_array_equal(sites[:, 2], nearest)
    np.testing.assert_allclose(off, step[np.arange(300), nearest], atol=1e-9)
    np.testing.assert_array_equal(sites[:, :2], np.rint(cells - motif[nearest]))


def test_no_wrong_index_in_30_simulated_images() -> None:
    result = wrong_indices(30, seed=0)
    assert result["wrong"] == 0
    assert result["wrong_cells"] == 0
    assert result["false"] == 0
    assert result["refused_bright"] == 0


def test_two_columns_fitted_as_one_take_no_index() -> None:
    places = np.mgrid[0:12, 0:12].reshape(2, -1).T * 12.0 + 20.0
    columns = fake(places)
    chi2 = np.random.default_rng(3).normal(1.0, 0.05, len(places))
    chi2[77] = 3.0
    indexed = index_columns(replace(columns, chi2=chi2), (172, 172))  # type: ignore[arg-type]
    assert indexed.unindexed == 1
    gaps = np.abs(indexed.columns.positions_px - places[77]).max(axis=1)
    assert gaps.min() > 10


def dumbbells() -> tuple[Any, FakeColumns]:
    """Pairs 5 px apart, 2.9 sigma; the second column of one pair in twenty is missing."""
    rng = np.random.default_rng(0)
    cells = np.mgrid[0:12, 0:16].reshape(2, -1).T * [20.0, 14.0] + 20.0
    places = np.concatenate([cells, cells + np.array([0.0, 5.0])])
    missing = np.zeros(len(places), bool)
    missing[len(cells) :: 20] = True
    columns = fake(places + rng.normal(0, 0.1, places.shape))
    n = len(places)
    columns = replace(
        columns,
        sigma_px=1.7 * np.exp(rng.normal(0, 0.05, n)),
        chi2=rng.normal(1.0, 0.1, n),
    )
    return missing, columns


def test_a_single_column_beside_a_vacancy_keeps_its_index() -> None:
    missing, columns = dumbbells()
    columns = columns.subset(~missing)
    indexed = index_columns(columns, (280, 260))  # type: ignore[arg-type]
    assert len(indexed.lattice.motif) == 2
    assert indexed.unindexed <= 3


def test_a_broad_column_drawn_towards_an_empty_site_is_two_and_takes_no_index() -> None:
    missing, columns = dumbbells()
    lone = np.flatnonzero(missing) - len(missing) // 2
    places, sigma = columns.positions_px.copy(), columns.sigma_px.copy()
    places[lone] += [0.0, 0.6]
    sigma[lone] = 1.7 * 1.15
    columns = replace(columns, positions_px=places, sigma_px=sigma).subset(~missing)
    indexed = index_columns(columns, (280, 260))  # type: ignore[arg-type]
    away = cKDTree(indexed.columns.positions_px).query(places[lone])[0]
    assert np.asarray(away).min() > 3
    assert indexed.unindexed <= len(lone) + 3


def test_the_weaker_a_peak_the_nearer_it_must_be_to_its_site() -> None:
    rng = np.random.default_rng(1)
    places = np.mgrid[0:12, 0:12].reshape(2, -1).T * 12.0 + 20.0
    places = places + rng.normal(0, 0.2, places.shape)
    confidence = np.ones(len(places))
    weak = [40, 65, 90]
    confidence[weak] = 0.92
    there = replace(fake(places), positions_px=places, confidence=confidence)
    places = places.copy()
    places[weak] = np.rint((places[weak] - 20) / 12) * 12 + 20 + [0.0, 0.75]
    off = replace(there, positions_px=places)
    sure = replace(off, confidence=np.ones(len(places)))
    gaps = [
        len(places) - len(index_columns(c, (172, 172)).indices)  # type: ignore[arg-type]
        for c in (there, sure, off)
    ]
    assert gaps == [0, 0, 3]


def test_columns_among_strangers_and_small_islands_take_no_index() -> None:
    places = np.mgrid[0:10, 0:10].reshape(2, -1).T * 10.0
    keep = places[:, 1] < 50
    outpost = (places == [40, 70]).all(1)
    left = majority(places, keep | outpost, ~(keep | outpost), 15.0)
    assert np.array_equal(left, keep)
    sites = np.column_stack([np.mgrid[0:6, 0:6].reshape(2, -1).T, np.zeros(36, int)])
    island = sites[:9] * [1, 1, 1] + [20, 20, 0]
    lonely = np.array([[6, 6, 0]])
    table = site_table(np.concatenate([sites, island, lonely]))
    mask = held(table, np.ones(46, bool))
    assert mask[:36].all()
    assert not mask[36:].any()


@pytest.mark.parametrize(("sublattices", "least"), [(1, 3), (2, 5)])
def test_a_column_is_held_by_more_others_where_cells_have_several(
    sublattices: int, least: int
) -> None:
    cells = np.mgrid[0:6, 0:6].reshape(2, -1).T
    sites = np.array([[*cell, s] for cell in cells for s in range(sublattices)])
    outpost = np.array([[6, 2, 0]])  # beside cells (5, 1), (5, 2) and (5, 3)
    around = (sites[:, 0] == 5) & (np.abs(sites[:, 1] - 2) <= 1)
    table = site_table(np.concatenate([sites, outpost]))
    for count in (least - 1, least):
        there = np.ones(len(sites) + 1, bool)
        there[np.flatnonzero(around)[count:]] = False
        kept = held(table, there)
        assert kept[-1] == (count >= least)
        assert np.array_equal(kept[:-1], there[:-1])


def test_nothing_leads_over_another_grain_to_an_island() -> None:
    places = np.mgrid[0:14, 0:14].reshape(2, -1).T * 10.0
    growth = grow(places, (0, 0), 10 * np.eye(2), np.zeros((1, 2)))
    between = (places[:, 1] > 60) & (places[:, 1] < 80)
    crowded = (places[:, 1] > 50) & (places[:, 1] < 90)
    over_empty = joined(growth, ~between, 0, np.zeros(len(places), bool))
    over_strangers = joined(growth, ~between, 0, crowded)
    assert np.array_equal(over_empty, ~between)
    assert np.array_equal(over_strangers, ~between & (places[:, 1] < 80))


def test_a_lattice_of_pairs_that_are_not_resolved_is_refused() -> None:
    columns = fake(np.mgrid[0:12, 0:12].reshape(2, -1).T * 12.0 + 20.0)
    pairs = replace(columns, chi2=np.full(144, 6.0))
    with pytest.raises(UnusableFrameError, match=r"chi\^2 6.0 at 100 counts"):
        index_columns(pairs, (172, 172))  # type: ignore[arg-type]
    singles = replace(columns, chi2=np.full(144, 3.0))
    assert len(index_columns(singles, (172, 172)).indices) == 144  # type: ignore[arg-type]
