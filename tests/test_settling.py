"""A distortion that dies out: seen where it is, not where it is not, and integrated out."""

import numpy as np
import pytest
from model_cases import Array

from nion_distortion.gaussian_process.posterior import Posterior, solve
from nion_distortion.gaussian_process.settling import (
    FEWEST,
    Settling,
    clock_of,
    find_settling,
    settled_information,
)
from nion_distortion.gaussian_process.weights import Information

SIZE = 6
VARIANCES = np.tile(np.geomspace(4.0, 0.1, SIZE), (2, 1))


def seen(
    seed: int, *, frames: int = 10, size: float = 0.0, decay: float = 2.0, noise: float = 1.0
) -> tuple[list[Information], Posterior]:
    """Frames that see all weights of D, each with its own accuracy, beside a dying change."""
    rng = np.random.default_rng(seed)
    settled, change = np.sqrt(VARIANCES) * rng.normal(size=(2, 2, SIZE))
    parts: list[Information] = []
    for number in range(frames):
        mixing = rng.normal(size=(2, 4 * SIZE, SIZE)) * rng.uniform(3.0, 6.0)
        blocks = np.swapaxes(mixing, 1, 2) @ mixing
        weights = settled + size * np.exp(-number / decay) * change
        errors = np.einsum("ars,ar->as", mixing, noise * rng.normal(size=(2, 4 * SIZE)))
        vector = np.einsum("ast,at->as", blocks, weights) + errors
        parts.append(Information(blocks=blocks, vector=vector))
    return parts, solve(total(parts), 1.0 / VARIANCES)


def total(parts: list[Information]) -> Information:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def found(seed: int, *, suspected: bool = False, **changes: float) -> Settling | None:
    parts, together = seen(seed, **changes)  # type: ignore[arg-type]
    clock = np.arange(float(len(parts)))
    return find_settling(parts, together, VARIANCES, clock, suspected=suspected)


@pytest.mark.parametrize("noise", [0.7, 1.0, 1.5])
def test_frames_of_an_unchanged_scan_show_nothing(noise: float) -> None:
    """Also where all errors are claimed wrong by one factor."""
    assert all(found(seed, noise=noise) is None for seed in range(60))
    suspicions = [found(seed, noise=noise, suspected=True) for seed in range(60)]
    assert sum(one is not None for one in suspicions) <= 9  # 3 +- 1.7 are expected


def test_a_change_that_dies_out_is_seen_and_its_frames_are_left_out() -> None:
    for seed in range(5):
        settling = found(seed, frames=14, size=0.3, decay=2.0)
        assert settling is not None
        assert 2 <= settling.left_out <= 9
        assert not settling.goes_on
        assert 1.0 < settling.decay < 4.0
        left = 0.3 * np.exp(-settling.left_out / 2.0)
        assert 0.3 * left < settling.size < 3.0 * left


def test_a_change_that_goes_on_to_the_last_frame_is_said_to() -> None:
    settling = found(0, frames=8, size=1.0, decay=8.0)
    assert settling is not None
    assert settling.goes_on
    assert settling.left_out == 8 - FEWEST


def test_too_few_frames_show_nothing() -> None:
    assert found(0, frames=FEWEST - 1, size=1.0) is None


def test_what_frames_say_beside_a_change_is_what_both_together_say() -> None:
    parts, _ = seen(3, frames=5, size=0.4)
    rng = np.random.default_rng(1)
    mixed = [
        Information(blocks=one.blocks, vector=one.vector, cross=rng.normal(size=(SIZE, SIZE)))
        for one in parts
    ]
    settling = Settling(left_out=0, decay=1.5, size=0.4, goes_on=False)
    clock = np.array([0.0, 1.0, 2.0, 4.0, 5.0])
    known = settled_information(mixed, clock, settling, VARIANCES)

    expected = solve(known, 1.0 / VARIANCES)
    mean, covariance = together(mixed, np.exp(-clock / 1.5), 0.4**2)

    np.testing.assert_allclose(expected.mean.ravel(), mean, rtol=1e-6)
    for axis, block in enumerate(expected.covariance):
        own = slice(axis * SIZE, (axis + 1) * SIZE)
        np.testing.assert_allclose(block, covariance[own, own], rtol=1e-6, atol=1e-12)


def together(parts: list[Information], change: Array, share: float) -> tuple[Array, Array]:
    """Solve for D and the change at once, D's two axes first."""
    prior = VARIANCES.ravel()
    whole, right = np.diag(np.r_[1.0 / prior, 1.0 / (share * prior)]), np.zeros(4 * SIZE)
    for part, factor in zip(parts, change, strict=True):
        assert part.cross is not None
        one = np.block([[part.blocks[0], part.cross], [part.cross.T, part.blocks[1]]])
        whole += np.kron(np.outer([1.0, factor], [1.0, factor]), one)
        right += np.kron([1.0, factor], part.vector.ravel())
    covariance = np.linalg.inv(whole)
    return (covariance @ right)[: 2 * SIZE], covariance[: 2 * SIZE, : 2 * SIZE]


def test_errors_are_what_is_claimed_beside_a_change() -> None:
    settling = Settling(left_out=0, decay=2.0, size=0.3, goes_on=False)
    clock, squares, before = np.arange(5.0), [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        parts, plain = seen(seed, frames=5, size=0.3)
        truth = np.sqrt(VARIANCES) * rng.normal(size=(2, 2, SIZE))[0]
        posterior = solve(settled_information(parts, clock, settling, VARIANCES), 1.0 / VARIANCES)
        squares.append(mean_square(posterior, truth))
        before.append(mean_square(plain, truth))

    assert np.sqrt(np.mean(squares)) == pytest.approx(1.0, abs=0.07)
    assert np.sqrt(np.mean(before)) > 1.5


def mean_square(posterior: Posterior, truth: Array) -> float:
    variances = np.stack([np.diag(block) for block in posterior.covariance])
    return float(np.mean((posterior.mean - truth) ** 2 / variances))


def test_frames_are_counted_by_their_times_or_else_by_their_order() -> None:
    np.testing.assert_allclose(clock_of([5.0, 5.5, 6.0, 7.5]), [0.0, 1.0, 2.0, 5.0])
    np.testing.assert_array_equal(clock_of([5.0, None, 6.0]), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(clock_of([5.0, 4.0, 6.0]), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(clock_of([None]), [0.0])
