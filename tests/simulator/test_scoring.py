import numpy as np
import numpy.typing as npt
import pytest

from simulator.scoring import score_map, true_off_by_pm

Array = npt.NDArray[np.float64]

SHAPE = (48, 64)
EVERYWHERE = np.ones(SHAPE, np.bool_)
NOTHING = np.zeros((2, *SHAPE))


def bent(s: Array) -> Array:
    """A scan that is off by 0.8 px of a wave along the fast axis, behind some affine map."""
    off = np.stack([np.zeros(len(s)), 0.8 * np.cos(2 * np.pi * s[:, 1] / 32)], axis=1)
    return np.asarray((s - off) @ np.array([[1.02, 0.01], [-0.03, 0.97]]) + [3.0, -7.0])


def straightened() -> Array:
    """Solve ``s - off(s) = u``."""
    x = np.indices(SHAPE, dtype=np.float64)[1]
    s = x.copy()
    for _ in range(100):
        s = x + 0.8 * np.cos(2 * np.pi * s / 32)
    return np.stack([np.zeros(SHAPE), s - x])


def test_the_right_field_leaves_nothing() -> None:
    score = score_map(straightened(), EVERYWHERE, bent, pixel_size_nm=0.05)

    assert score.share == pytest.approx(1.0, abs=1e-9)
    assert score.worst_pm < 1e-3


def test_no_field_removes_nothing() -> None:
    score = score_map(NOTHING, EVERYWHERE, bent, pixel_size_nm=0.05)

    assert score.share == 0.0
    assert score.rms_pm == score.before_pm


def test_what_is_left_is_in_pm_for_each_axis() -> None:
    wave = np.cos(2 * np.pi * np.arange(64) / 16)
    field = np.stack([np.zeros(SHAPE), np.broadcast_to(0.1 * wave, SHAPE)])

    score = score_map(field, EVERYWHERE, lambda s: s, pixel_size_nm=0.05)

    # four periods of a cosine have almost no affine part
    assert score.rms_pm == pytest.approx((0.0, 0.1 * 50 / np.sqrt(2)), rel=0.02, abs=1e-9)
    assert score.worst_pm == pytest.approx(5.0, rel=0.05)


def test_an_affine_map_is_nobodys_error() -> None:
    y, x = np.indices(SHAPE)
    field = np.stack([0.02 * x - 3.0, 0.03 * y + 0.01 * x])

    assert score_map(field, EVERYWHERE, lambda s: s, pixel_size_nm=0.05).worst_pm < 1e-9


def test_pixels_that_are_not_valid_do_not_count() -> None:
    field, valid = NOTHING.copy(), EVERYWHERE.copy()
    field[:, :, :10], valid[:, :10] = 5.0, False

    assert score_map(field, valid, lambda s: s, pixel_size_nm=0.05).worst_pm < 1e-9


def test_errors_as_large_as_claimed_have_z_of_one() -> None:
    rng = np.random.default_rng(3)
    std = np.where(np.indices(SHAPE) > 20, 0.05, 0.2)
    field = std * rng.normal(size=(2, *SHAPE))

    score = score_map(field, EVERYWHERE, lambda s: s, pixel_size_nm=0.05, std_px=std)

    assert score.z == pytest.approx(1.0, abs=0.03)
    assert score.coverage == pytest.approx(0.95, abs=0.01)
    assert score.claimed_pm == pytest.approx(score.rms_pm, rel=0.03)


def test_every_other_pixel_says_the_same() -> None:
    field = straightened() * 0.9

    all_, some = (
        score_map(field, EVERYWHERE, bent, pixel_size_nm=0.05, step_px=step) for step in (1, 2)
    )

    assert some.share == pytest.approx(all_.share, abs=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_the_true_size_of_a_distortion_is_that_of_the_right_field(share: float) -> None:
    field = straightened()
    y, x = np.indices(SHAPE)
    free = np.stack([np.ones(x.size), y.ravel(), x.ravel()], axis=1)
    fitted = free @ np.linalg.lstsq(free, field[1].ravel(), rcond=None)[0]
    size_pm = 50.0 * np.sqrt(np.mean((field[1].ravel() - fitted) ** 2))

    found = true_off_by_pm(share * field, EVERYWHERE, bent, pixel_size_nm=0.05)

    assert found == pytest.approx(size_pm, rel=0.01)
    assert np.hypot(*score_map(NOTHING, EVERYWHERE, bent, pixel_size_nm=0.05).before_pm) < (
        0.99 * size_pm
    )


def test_a_field_without_valid_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 pixels, not 0"):
        score_map(NOTHING, ~EVERYWHERE, bent, pixel_size_nm=0.05)
