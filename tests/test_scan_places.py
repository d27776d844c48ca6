import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy.interpolate import CubicHermiteSpline, RegularGridInterpolator
from strategies import few, seeds

from nion_distortion.frame import ScanSettings
from nion_distortion.scan_places import places_on_sample, scan_places, scan_places_of_pixels

Array = npt.NDArray[np.float64]
NY, NX = 90, 120
IDENTITY = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
SETTINGS = ScanSettings(shape_px=(NY, NX), field_of_view_nm=4.0)


def motion(s: Array, *, lag_px: float = 6.0, smooth_px: float = 1.0) -> Array:
    """E(s): fly-back of both axes, decay 8 px, and waves; the nearest edge outside."""
    y, x = np.clip(s, 0.0, [NY - 1.0, NX - 1.0]).T
    lag = np.exp(-x / 8.0)
    waves_y = np.sin(y / 15 + 0.3) * np.cos(x / 22)
    waves_x = np.cos(y / 19) * np.sin(x / 25 - 0.4)
    return np.stack([0.2 * lag_px * lag + smooth_px * waves_y, -lag_px * lag + waves_x], axis=1)


def pixels() -> Array:
    y, x = np.meshgrid(np.arange(float(NY)), np.arange(float(NX)), indexing="ij")
    return np.stack([y.ravel(), x.ravel()], axis=1)


def on_pixels(e: Array) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(e.T.reshape(2, NY, NX), dtype=np.float32)


def random_places(count: int, seed: int, margin: float = 2.0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.uniform(margin, [NY - 1 - margin, NX - 1 - margin], (count, 2))


def seen_from(place: Array, start: Array) -> Array:
    """Where a place on the sample is seen, by scipy on the formula."""

    def off(s: Array) -> Array:
        return np.asarray(s - motion(s[None])[0] - place)

    found = optimize.root(off, start, tol=1e-12)
    assert found.success
    return np.asarray(found.x)


# the interpolation of E


def test_places_on_sample_are_exact_on_the_pixels() -> None:
    moving = on_pixels(motion(pixels()))
    expected = pixels() - moving.reshape(2, -1).T
    np.testing.assert_allclose(places_on_sample(moving, pixels()), expected, atol=1e-6)


def test_places_on_sample_follow_the_formula_between_the_pixels() -> None:
    scan = random_places(500, seed=1)
    places = places_on_sample(on_pixels(motion(pixels())), scan)
    np.testing.assert_allclose(places, scan - motion(scan), atol=2e-3)


def test_places_on_sample_do_not_touch_the_callers_array() -> None:
    scan = random_places(5, seed=1)
    kept = scan.copy()
    places_on_sample(on_pixels(motion(pixels())), scan)
    np.testing.assert_array_equal(scan, kept)


@few
@given(seeds(), st.floats(-30, 150), st.floats(-30, 150))
def test_outside_the_scan_the_nearest_edge_counts(seed: int, y: float, x: float) -> None:
    moving = np.random.default_rng(seed).normal(size=(2, NY, NX)).astype(np.float32)
    place = np.array([[y, x]])
    edge = np.clip(place, 0.0, [NY - 1.0, NX - 1.0])
    moved = place - places_on_sample(moving, place)
    np.testing.assert_allclose(moved, edge - places_on_sample(moving, edge), atol=1e-6)


def hermite(line: Array, place: float, slope: int) -> Array:
    """Cubic through values with central differences as slopes, or its derivative."""
    return np.asarray(
        CubicHermiteSpline(np.arange(len(line)), line, np.gradient(line))(place, slope)
    )


def catmull_rom(moving: npt.NDArray[np.float32], s: Array) -> tuple[Array, Array]:
    """Value and slopes (y, x) of both axes at one place, by scipy."""
    top = int(s[0]) - 1

    def mixed(plane: Array, way_y: int, way_x: int) -> float:
        four = np.array([hermite(row, s[1], way_x) for row in plane[top : top + 4]])
        return float(hermite(four, s[0] - top, way_y))

    planes = moving.astype(np.float64)
    value = [mixed(plane, 0, 0) for plane in planes]
    return np.array(value), np.array([[mixed(p, 1, 0), mixed(p, 0, 1)] for p in planes])


def test_kernels_equal_scipys_hermite_splines() -> None:
    moving = np.random.default_rng(3).normal(scale=0.1, size=(2, NY, NX)).astype(np.float32)
    scan = random_places(25, seed=2, margin=3.0)
    plain = [catmull_rom(moving, s) for s in scan]
    places = places_on_sample(moving, scan)
    np.testing.assert_allclose(scan - places, [value for value, _ in plain], atol=1e-6)
    _, jacobian = scan_places(moving, places, scan)
    np.testing.assert_allclose(jacobian, [slopes for _, slopes in plain], atol=1e-5)


def test_at_the_rim_the_interpolation_is_scipys_linear_one() -> None:
    moving = np.random.default_rng(3).normal(scale=0.1, size=(2, NY, NX)).astype(np.float32)
    rng = np.random.default_rng(4)
    along = rng.uniform(0, 80, (4, 20))
    rim = np.concatenate(
        [
            np.c_[rng.uniform(0, 1, 20), along[0]],
            np.c_[along[1], rng.uniform(0, 1, 20)],
            np.c_[rng.uniform(NY - 2, NY - 1, 20), along[2]],
            np.c_[along[3], rng.uniform(NX - 2, NX - 1, 20)],
        ]
    )
    axes = (np.arange(NY), np.arange(NX))
    plain = RegularGridInterpolator(axes, np.moveaxis(moving, 0, -1).astype(np.float64))
    np.testing.assert_allclose(rim - places_on_sample(moving, rim), plain(rim), atol=1e-6)


# where a place is seen


def test_scan_places_are_those_of_scipys_root() -> None:
    truth = random_places(40, seed=4, margin=4.0)
    places = truth - motion(truth)
    found, jacobian = scan_places(on_pixels(motion(pixels())), places, places)
    scipys = np.array([seen_from(p, t + 0.3) for p, t in zip(places, truth, strict=True)])
    np.testing.assert_allclose(scipys, truth, atol=1e-8)
    np.testing.assert_allclose(found, scipys, atol=4e-3)
    step = 1e-5
    slopes = [(motion(truth + d) - motion(truth - d)) / (2 * step) for d in np.eye(2) * step]
    np.testing.assert_allclose(jacobian, np.stack(slopes, axis=-1), atol=1e-2)


@few
@given(seeds())
def test_scan_places_undo_places_on_sample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    moving = on_pixels(motion(pixels(), lag_px=rng.uniform(-5, 6), smooth_px=rng.uniform(0, 2)))
    scan = random_places(60, seed)
    found, _ = scan_places(moving, places_on_sample(moving, scan), scan + rng.normal(size=(60, 2)))
    np.testing.assert_allclose(found, scan, atol=1e-4)


def test_many_places_equal_each_alone() -> None:
    moving = on_pixels(motion(pixels()))
    places = random_places(5000, seed=5)
    together = scan_places(moving, places, places)
    some = np.arange(0, 5000, 611)
    for one in some:
        alone = scan_places(moving, places[one : one + 1], places[one : one + 1])
        np.testing.assert_array_equal(together[0][one], alone[0][0])
        np.testing.assert_array_equal(together[1][one], alone[1][0])


def test_pixels_are_seen_where_scan_places_puts_them() -> None:
    moving = on_pixels(motion(pixels()))
    turn = np.array([[0.4, 1.002, 0.01], [-0.7, -0.008, 0.997]])
    for gauge in (IDENTITY, turn):
        displacement, valid, _ = scan_places_of_pixels(moving, gauge)
        targets = np.c_[np.ones(NY * NX), pixels()] @ gauge.T
        start = pixels() + displacement.reshape(2, -1).T.astype(np.float64)
        exact, _ = scan_places(moving, targets, start)
        off = np.abs(exact - start)[valid.ravel()]
        assert valid.mean() > 0.85
        assert off.max() < 1e-3  # where E is taken as straight: 0.03 pm at 31 pm pixels
        assert np.sqrt(np.mean(off**2)) < 2e-4


def test_straight_runs_of_pixels_equal_pixels_solved_singly() -> None:
    """A gentle motion is taken several pixels at a time; here with rows between which it jumps."""
    y, x = np.mgrid[:64, :400].astype(np.float64)
    slow = 3.0 * np.cos(0.004 * x + 0.01 * y)
    jumps = 0.04 * (np.arange(64) > 40)[:, None]
    moving = np.stack([slow + jumps, 2.0 - slow]).astype(np.float32)
    turn = np.array([[0.4, 1.002, 0.01], [-0.7, -0.008, 0.997]])
    displacement, valid, _ = scan_places_of_pixels(moving, turn)
    grid = np.stack([y.ravel(), x.ravel()], axis=1)
    start = grid + displacement.reshape(2, -1).T.astype(np.float64)
    exact, _ = scan_places(moving, np.c_[np.ones(len(grid)), grid] @ turn.T, grid)
    seen = ((exact >= 0) & (exact <= [63, 399])).all(axis=1)
    assert 0.8 < seen.mean() < 0.99
    assert np.mean(seen == valid.ravel()) > 0.999
    np.testing.assert_allclose(start[seen], exact[seen], atol=6e-4)


def test_pixels_between_which_nothing_moves_stay() -> None:
    displacement, valid, _ = scan_places_of_pixels(np.zeros((2, NY, NX), np.float32), IDENTITY)
    assert valid.all()
    np.testing.assert_allclose(displacement, 0, atol=1e-6)


def test_a_shift_moves_every_pixel_and_leaves_the_scan_at_the_far_edge() -> None:
    moving = np.zeros((2, NY, NX), np.float32)
    moving[0], moving[1] = 2.5, -3.5
    displacement, valid, refused = scan_places_of_pixels(moving, IDENTITY)
    assert refused == (0, 0)
    np.testing.assert_allclose(displacement[0], 2.5, atol=1e-5)
    np.testing.assert_allclose(displacement[1], -3.5, atol=1e-5)
    expected = np.zeros((NY, NX), bool)
    expected[: NY - 3, 4:] = True
    np.testing.assert_array_equal(valid, expected)


def test_where_the_scan_turns_back_nothing_is_valid() -> None:
    """Where the beam passes a place three times no pixel may claim to know what it shows."""
    line = np.arange(0.0, NX - 1, 0.01)
    fold = 8.0 / (1 + np.exp(-(pixels()[:, 1] - 60.0)))  # E_x rises by 2 per px at x = 60
    place = line - 8.0 / (1 + np.exp(-(line - 60.0)))
    turning = place[1:-1][np.diff(np.sign(np.diff(place))) != 0]
    low, high = turning.min(), turning.max()
    moving = on_pixels(np.stack([np.zeros_like(fold), fold], axis=1))
    displacement, valid, refused = scan_places_of_pixels(moving, IDENTITY)
    columns = np.arange(NX)
    assert not valid[:, (columns > low) & (columns < high)].any()
    assert valid[:, (columns < low - 2) | ((columns > high + 2) & (columns < NX - 9))].all()
    assert refused.crossed == 0
    assert refused.folded == np.count_nonzero(
        ~valid[:, : NX - 9]
    )  # beyond, it did not reach the place
    shown = places_on_sample(moving, pixels() + displacement.reshape(2, -1).T)
    np.testing.assert_allclose(shown[valid.ravel()], pixels()[valid.ravel()], atol=1e-3)


def test_where_lines_overtake_each_other_is_not_a_scan_that_turns_back() -> None:
    moving = np.zeros((2, NY, NX), np.float32)
    moving[0, 30:] = 2.0  # line 30 is scanned where line 28 was meant to be
    _, valid, refused = scan_places_of_pixels(moving, IDENTITY)
    np.testing.assert_array_equal(np.flatnonzero(~valid[: NY - 2].all(axis=1)), [29])
    assert refused == (0, NX)


def test_places_are_found_where_lines_nearly_overtake_each_other() -> None:
    """Whole Newton steps swing there between two lines, and end nowhere."""
    rng = np.random.default_rng(4)
    lines = np.cumsum(np.where(rng.random(NY) < 0.5, 0.5, -0.5))  # as steep as shifts may be
    moving = np.zeros((2, NY, NX), np.float32)
    moving[0] = (lines - lines.mean())[:, None]
    displacement, valid, _ = scan_places_of_pixels(moving, IDENTITY)
    inner = slice(12, -12)
    assert valid[inner, inner].all()
    seen: Array = np.add(np.indices((NY, NX)), displacement, dtype=np.float64)
    back = places_on_sample(moving, seen.reshape(2, -1).T).T.reshape(2, NY, NX)
    np.testing.assert_allclose(
        back[:, inner, inner], np.indices((NY, NX))[:, inner, inner], atol=0.02
    )
