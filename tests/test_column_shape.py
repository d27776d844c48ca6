"""What one frame knows of its columns saves the next one work, and never misleads it."""

import pickle
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from atoms_images import Array, gaussian_sto, gaussians, simulated, square_lattice
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from nion_distortion.atoms import AtomColumns, ColumnShape, find_columns
from nion_distortion.atoms.correlation import WHITE
from nion_distortion.atoms.maxima import Normalised
from nion_distortion.atoms.noise import Noise
from nion_distortion.atoms.shape import Look, noise_of
from nion_distortion.atoms.tails import NOTHING_SEEN, TailSeen
from nion_distortion.frame import UnusableFrameError

SIGMA_PX, SIZE = 1.57, 256
FIELDS = ("positions_px", "covariance_px2", "amplitude", "sigma_px", "background", "chi2")

Image = npt.NDArray[np.generic]


def expected(*, sigma_px: float = SIGMA_PX) -> Array:
    """Electrons in each pixel of a crystal of two kinds of columns."""
    strong = square_lattice(SIZE, 12.5)
    c, s = np.cos(0.1), np.sin(0.1)
    positions = np.concatenate([strong, strong + 6.25 * np.array([c - s, s + c])])
    heights = np.repeat([50.0, 17.5], len(strong))
    return gaussians((SIZE, SIZE), positions, heights, sigma_px, 7.5)


def counted(light: Array, seed: int) -> Array:
    return np.random.default_rng(seed).poisson(light).astype(np.float64)


@pytest.fixture(scope="module")
def known() -> ColumnShape:
    """Of three frames, after which neither tails nor noise are learnt from the next one."""
    shape = None
    for seed in range(3):
        shape = find_columns(counted(expected(), seed), known=shape).shape
    assert shape is not None
    return shape


def off_and_worst(one: AtomColumns, two: AtomColumns) -> tuple[float, float]:
    """Difference of the positions of the same columns, in their standard errors."""
    distance, row = map(np.asarray, cKDTree(two.positions_px).query(one.positions_px))
    same = distance < SIGMA_PX
    assert np.mean(same) > 0.995
    error_px = np.sqrt(one.variance_px2[same])[:, None]
    off = (two.positions_px[row[same]] - one.positions_px[same]) / error_px
    return float(np.sqrt(np.mean(off**2))), float(np.abs(off).max())


def rms_error_px(columns: AtomColumns, true_px: Array) -> float:
    distance = np.asarray(cKDTree(true_px).query(columns.positions_px)[0])
    return float(np.sqrt(np.mean(distance[distance < 1.0] ** 2)))


def identical(one: AtomColumns, two: AtomColumns) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in FIELDS)


def frames_of(columns: AtomColumns) -> int:
    """How many frames have been alike, the columns' own among them."""
    assert columns.shape is not None
    return columns.shape.frames


# Where nothing has changed


@pytest.mark.parametrize("counts", [10.0, 50.0, 500.0])
def test_columns_are_where_they_would_be_found_anew(counts: float) -> None:
    """Fits that begin from other guesses end within a few hundredths of their errors as well."""
    shape = None
    for seed in range(3):
        shape = find_columns(
            gaussian_sto(counts, np.random.default_rng(seed))[0], known=shape
        ).shape
    image, places, _ = gaussian_sto(counts, np.random.default_rng(3))
    anew, again = find_columns(image), find_columns(image, known=shape)
    assert frames_of(again) == 4
    off, worst = off_and_worst(anew, again)
    assert off < (0.08 if counts < 50 else 0.04)
    assert worst < (1.5 if counts < 50 else 0.8)
    rms_px = [rms_error_px(one, places) for one in (anew, again)]
    assert rms_px[1] < 1.01 * rms_px[0]
    claims = [np.mean(np.log(one.variance_px2)) for one in (anew, again)]
    assert claims[1] == pytest.approx(claims[0], abs=0.04)


@pytest.mark.parametrize("name", ["graphene", "si_110", "batio3_polar"])
def test_crowded_columns_are_found_again(name: str) -> None:
    shape = None
    for seed in range(3):
        shape = find_columns(simulated(name, size=SIZE, seed=seed).frame.image, known=shape).shape
    shot = simulated(name, size=SIZE, seed=3)
    anew, again = find_columns(shot.frame.image), find_columns(shot.frame.image, known=shape)
    assert len(again) == pytest.approx(len(anew), rel=0.01)
    rms_px = [rms_error_px(one, shot.truth.columns.seen_px) for one in (anew, again)]
    assert rms_px[1] < 1.02 * rms_px[0]


def test_dark_columns_are_found_again() -> None:
    shape = None
    for seed in range(4):
        columns = find_columns(200.0 - counted(expected(), seed), known=shape)
        shape = columns.shape
    assert frames_of(columns) == 4
    assert columns.polarity == "dark"
    off, _ = off_and_worst(find_columns(200.0 - counted(expected(), 3)), columns)
    assert off < 0.04


def test_what_is_known_survives_a_pickle(known: ColumnShape) -> None:
    image, copied = counted(expected(), 3), pickle.loads(pickle.dumps(known))
    assert copied.correlation is WHITE
    assert identical(find_columns(image, known=known), find_columns(image, known=copied))


# Where something has


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(counted(expected(sigma_px=1.3 * SIGMA_PX), 3), id="refocused"),
        pytest.param(counted(expected(sigma_px=1.08 * SIGMA_PX), 3), id="a little"),
        pytest.param(counted(expected(sigma_px=0.9 * SIGMA_PX), 3), id="sharper"),
        pytest.param(200.0 - counted(expected(), 3), id="inverted"),
        pytest.param(counted(0.5 * expected(), 3), id="half the dose"),
        pytest.param(2.0 * counted(expected(), 3), id="twice the gain"),
        pytest.param(gaussian_filter(counted(expected(), 3), 0.4), id="smoothed"),
        pytest.param(
            counted(np.where(np.arange(SIZE) < 70, expected(), 7.5), 3), id="mostly vacuum"
        ),
        pytest.param(counted(expected(), 3) + 40.0, id="another dark level"),
        pytest.param(np.where(np.arange(SIZE) < 150, counted(expected(), 3), 0.0), id="half empty"),
        pytest.param(simulated("graphene", size=SIZE).frame.image, id="graphene"),
        pytest.param(simulated("sto_110", size=SIZE).frame.image, id="another zone axis"),
    ],
)
def test_what_has_changed_is_learnt_anew(image: Image, known: ColumnShape) -> None:
    again, anew = find_columns(image, known=known), find_columns(image)
    assert identical(again, anew)
    assert again.gain == anew.gain
    assert (frames_of(again), again.tail) == (1, anew.tail)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_frame_without_columns_is_refused_as_ever(seed: int, known: ColumnShape) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIZE, SIZE))
    for image in (
        rng.poisson(0.5, (SIZE, SIZE)),
        rng.normal(10.0, 1.0, (SIZE, SIZE)),
        rng.poisson(50.0 + 20.0 * np.sin(x / 2.0)),
        rng.poisson(y + 1.0),
    ):
        with pytest.raises(UnusableFrameError) as anew:
            find_columns(image)
        with pytest.raises(UnusableFrameError) as again:
            find_columns(image, known=known)
        assert str(again.value) == str(anew.value)


# What is learnt


def test_few_frames_are_learnt_from(known: ColumnShape) -> None:
    learning = [replace(known, frames=frames).is_due for frames in range(1, 20)]
    assert [1 + k for k in np.flatnonzero(learning)] == [1, 2, 8, 16]
    image = counted(expected(), 3)
    seventh, eighth = (find_columns(image, known=replace(known, frames=n)) for n in (7, 8))
    assert seventh.shape is not None
    assert (seventh.shape.frames, seventh.shape.lessons) == (8, 3)
    assert seventh.shape.tail == known.tail
    assert identical(eighth, find_columns(image))
    assert eighth.shape is not None
    assert (eighth.shape.frames, eighth.shape.lessons) == (9, 4)


def test_what_is_learnt_is_combined(known: ColumnShape) -> None:
    now = find_columns(counted(expected(), 3)).shape
    assert now is not None
    both = now.after(known)
    assert both.sigma_px == pytest.approx(known.sigma_px**0.75 * now.sigma_px**0.25)
    assert both.tail == now.tail.after(known.tail)
    assert (both.noise, both.look) == (now.noise, now.look)
    other = replace(now, look=now.look._replace(log_sigma=now.look.log_sigma + 0.1))
    assert other.after(known) is other


def test_heights_of_tails_are_weighed_by_their_errors() -> None:
    now, before = TailSeen(0.06, 4e-4, 1e-6, -0.03), TailSeen(0.03, 1e-4, 2e-6, -0.02)
    both = now.after(before)
    weights = 1 / 4e-4, 1 / 1.25e-4
    assert both.seen == pytest.approx(np.average([0.06, 0.03], weights=weights))
    assert both.variance == pytest.approx(1 / np.sum(weights))
    assert both.doubt == now.doubt
    assert 0.03 < both.height < 0.06


def test_tails_that_changed_are_believed() -> None:
    now, before = TailSeen(0.10, 1e-4, 0.0, -0.03), TailSeen(0.02, 1e-4, 0.0, -0.02)
    assert now.after(before) == now
    assert NOTHING_SEEN.after(before) == before
    assert now.after(NOTHING_SEEN) == now


@given(
    st.floats(-1e4, 1e4), st.floats(0.1, 1e4), st.sampled_from([1.0, -1.0]), st.floats(1e-3, 0.1)
)
def test_noise_survives_a_change_of_units(
    zero: float, unit: float, sign: float, gain: float
) -> None:
    image = np.zeros((4, 4), np.float32)
    scaled, noise = Normalised(image, image, zero, unit), Noise(sign * gain, 0.01, 1e-3)
    shape = ColumnShape(
        polarity="bright" if sign > 0 else "dark",
        band_sigma_px=1.4,
        sigma_px=1.5,
        look=Look(100, 0.4, 0.01, 20.0),
        noise=noise_of(scaled, noise, sign),
        correlation=WHITE,
        chi2=1.0,
        tail=NOTHING_SEEN,
        frames=1,
    )
    assert shape.noise_in(scaled) == pytest.approx(noise, rel=1e-6, abs=1e-6)
