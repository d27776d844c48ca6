import pickle
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nion_distortion.correction import correct_frame
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import Frame, ScanSettings

Array = npt.NDArray[np.floating[Any]]
few = settings(deadline=None, derandomize=True, max_examples=15)
PIXEL_PM = 31.25
TWO_THREADS = (1100, 500)
"""Large enough for every stage to share its rows with a second thread."""


def scan(shape: tuple[int, int], **known: Any) -> ScanSettings:
    return ScanSettings(shape_px=shape, field_of_view_nm=max(shape) * PIXEL_PM * 1e-3, **known)


def field_of(displacement_px: Array, **known: Any) -> DistortionField:
    shape = displacement_px.shape[1:]
    values: dict[str, Any] = {
        "std_px": np.full((2, *shape), 0.03),
        "unremoved_std_px": np.full((2, *shape), 0.04),
        "valid": np.ones(shape, dtype=bool),
        "kind": "stationary",
        "settings": scan((shape[0], shape[1])),
        "reference": "free",
        **known,
    }
    return DistortionField(displacement_px=displacement_px, **values)


def frame_of(image: npt.NDArray[Any], **known: Any) -> Frame:
    return Frame(image=image, settings=scan((image.shape[0], image.shape[1])), **known)


def pixels(shape: tuple[int, int]) -> Array:
    return np.indices(shape).astype(np.float64)


def wavy(shape: tuple[int, int], height_px: float = 2.0) -> Array:
    y, x = pixels(shape)
    waves = [np.sin(y / 9 + x / 21), np.cos(x / 13) * np.sin(y / 17 + 0.3)]
    return height_px * np.stack(waves).astype(np.float32)


def flyback(shape: tuple[int, int], height_px: float, decay_px: float) -> tuple[Array, Array]:
    """D_x = -height exp(-s_x / decay): place on the sample v(s), and d(u) = s(u) - u."""
    y, x = pixels(shape)
    places = np.stack([y, x + height_px * np.exp(-x / decay_px)])
    source = x.copy()
    for _ in range(80):  # a contraction; places before the first pixel end outside the scan
        source = np.maximum(x - height_px * np.exp(-source / decay_px), -2.0)
    return places, np.stack([np.zeros(shape), source - x])


def columns(places: Array, centres: Array, sigma_px: float) -> Array:
    """Round Gaussian columns of height 1 at given places, far from each other."""
    image = np.zeros(places.shape[1:])
    for y, x in centres:
        image += np.exp(-((places[0] - y) ** 2 + (places[1] - x) ** 2) / (2 * sigma_px**2))
    return image


def on_grid(shape: tuple[int, int], first: float, step: float) -> Array:
    y, x = (np.arange(first, length - first, step) for length in shape)
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize("shape", [(8, 8), (9, 40), (101, 75), TWO_THREADS])
def test_spline_is_that_of_scipy(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(100, 30, shape).astype(np.float32)
    displacement = wavy(shape)

    corrected = correct_frame(frame_of(image), field_of(displacement))

    places = pixels(shape) + displacement
    expected = ndimage.map_coordinates(image.astype(np.float64), places, order=3, mode="mirror")
    scale = np.abs(image).max()
    assert corrected.valid.mean() > 0.4
    assert np.abs(corrected.image - expected)[corrected.valid].max() < 2e-6 * scale


def test_nearest_is_that_of_scipy() -> None:
    counts = np.random.default_rng(2).poisson(3, (60, 90)).astype(np.float32)
    displacement = wavy((60, 90))

    corrected = correct_frame(frame_of(counts), field_of(displacement), resample="nearest")

    places = np.floor(pixels((60, 90)) + displacement.astype(np.float64) + 0.5)
    expected = ndimage.map_coordinates(counts, places, order=0, mode="nearest")
    assert np.array_equal(corrected.image[corrected.valid], expected[corrected.valid])


@few
@given(seed=st.integers(0, 99), ny=st.integers(8, 70), nx=st.integers(8, 70))
def test_zero_field_returns_identical_bits(seed: int, ny: int, nx: int) -> None:
    image = np.random.default_rng(seed).normal(0, 1e4, (ny, nx)).astype(np.float32)

    corrected = correct_frame(frame_of(image), field_of(np.zeros((2, ny, nx))))

    assert corrected.image.tobytes() == image.tobytes()
    assert corrected.valid.all()


@few
@given(
    dy=st.integers(-9, 9), dx=st.integers(-9, 9), resample=st.sampled_from(["spline", "nearest"])
)
def test_whole_pixels_of_shift_move_the_pixels_exactly(dy: int, dx: int, resample: Any) -> None:
    image = np.random.default_rng(3).normal(5, 2, (30, 41)).astype(np.float32)
    displacement = np.broadcast_to(np.array([dy, dx])[:, None, None], (2, 30, 41))

    corrected = correct_frame(frame_of(image), field_of(displacement), resample=resample)

    y, x = pixels((30, 41)).astype(int) + displacement
    inside = (y >= 0) & (y < 30) & (x >= 0) & (x < 41)
    assert np.array_equal(corrected.valid, inside)
    assert np.array_equal(corrected.image[inside], image[y[inside], x[inside]])
    assert not corrected.image[~inside].any()


@few
@given(
    waves=st.lists(
        st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0, 6)),
        min_size=1,
        max_size=4,
    ),
    height_px=st.floats(-6, 6),
)
def test_distort_then_correct_recovers_a_smooth_picture(
    waves: list[tuple[float, float, float]], height_px: float
) -> None:
    def picture(places: Array) -> Array:
        y, x = places
        return np.asarray(sum(np.cos(ky * y + kx * x + phase) for ky, kx, phase in waves))

    places, displacement = flyback((48, 80), height_px, 16.0)

    corrected = correct_frame(frame_of(picture(places)), field_of(displacement))

    inner = np.zeros((48, 80), dtype=bool)
    inner[8:-8, 16:-8] = True  # the mirror at the rim is not the picture's own continuation
    inner &= corrected.valid
    error = (corrected.image - picture(pixels((48, 80))))[inner]
    assert inner.sum() > 1500
    assert np.abs(error).max() < 4e-3 * len(waves)


@pytest.mark.parametrize("height_px", [6.4, -4.8])
def test_interpolation_moves_columns_by_less_than_a_twentieth_of_a_picometre(
    height_px: float,
) -> None:
    shape, sigma, half = (128, 160), 1.57, 6
    places, displacement = flyback(shape, height_px, 15.36)
    displacement[0] += 0.37
    places[0] -= 0.37
    centres = on_grid(shape, 14.3, 15.17)

    corrected = correct_frame(
        frame_of(columns(places, centres, sigma)), field_of(displacement)
    ).image

    errors_px = []
    for centre in centres:  # first step of a least-squares fit of height, place and background
        first = np.rint(centre).astype(int) - half
        window = tuple(slice(i, i + 2 * half + 1) for i in first)
        y, x = pixels((2 * half + 1, 2 * half + 1)) + (first - centre)[:, None, None]
        shape_here = np.exp(-(y**2 + x**2) / (2 * sigma**2))
        slopes = np.stack(
            [shape_here * y / sigma**2, shape_here * x / sigma**2, shape_here, 0 * y + 1]
        )
        residual = corrected[window] - shape_here
        step = np.linalg.lstsq(slopes.reshape(4, -1).T, residual.ravel(), rcond=None)[0]
        errors_px.append(step[:2])
    assert len(errors_px) > 60
    assert np.sqrt(np.mean(np.square(errors_px))) * PIXEL_PM < 0.05


@pytest.mark.parametrize(
    ("height_px", "magnification", "first"), [(6.4, 1.7, 12.0), (-4.8, 0.76, 6.0)]
)
def test_equal_columns_have_equal_cross_sections_only_after_correction(
    height_px: float, magnification: float, first: float
) -> None:
    shape, sigma, step, decay, peak = (201, 201), 1.2, 10, 15.36, 400.0
    rng = np.random.default_rng(4)
    places, displacement = flyback(shape, height_px, decay)
    centres = on_grid(shape, first, step)
    counts = rng.poisson(peak * columns(places, centres, sigma))
    owner = np.rint((places[1] - first) / step).astype(int)
    kept = owner >= 0
    raw = np.bincount(owner[kept], counts[kept]) / len(np.unique(centres[:, 0]))

    corrected = correct_frame(frame_of(counts), field_of(displacement))

    sums = np.array(
        [corrected.image[y - 5 : y + 5, x - 5 : x + 5].sum() for y, x in centres.astype(int)]
    )
    true = peak * 2 * np.pi * sigma**2
    of_rows = sums.reshape(-1, len(np.unique(centres[:, 1]))).mean(axis=0)
    assert 1 / (1 - height_px / decay) == pytest.approx(magnification, abs=0.02)
    assert sums.std() < 1.3 * np.sqrt(true)
    noise = 1 / np.sqrt(true * len(sums) / len(of_rows))
    assert np.abs(of_rows / true - 1).max() < 4 * noise
    assert abs(raw[0] / true - 1) > 20 * noise


def test_alternating_rows_survive_the_correction() -> None:
    shape, sigma = (120, 120), 1.57
    centres = on_grid(shape, 12.0, 12.0)
    zigzag = centres.copy()
    zigzag[:, 0] += 0.3 * (-1) ** np.rint(centres[:, 1] / 12)
    places, displacement = flyback(shape, 4.0, 20.0)

    corrected = correct_frame(frame_of(columns(places, zigzag, sigma)), field_of(displacement))

    expected = columns(pixels(shape), zigzag, sigma)
    assert np.abs(corrected.image - expected)[corrected.valid].max() < 5e-3


@pytest.mark.parametrize("resample", ["spline", "nearest"])
@pytest.mark.parametrize("trailing", [(1,), (21,), (3, 7)])
def test_every_plane_of_trailing_axes_is_corrected_alike(
    trailing: tuple[int, ...], resample: Any
) -> None:
    image = np.random.default_rng(5).poisson(4, (40, 50, *trailing)).astype(np.uint16)
    field = field_of(wavy((40, 50)))

    corrected = correct_frame(image, field, settings=scan((40, 50)), resample=resample)

    last: Any = (..., *(length - 1 for length in trailing))
    alone = correct_frame(image[last], field, settings=scan((40, 50)), resample=resample)
    assert corrected.image.shape == image.shape
    assert np.array_equal(corrected.image[last], alone.image)
    assert np.array_equal(corrected.valid, alone.valid)


def test_memory_beside_the_result_does_not_grow_with_the_trailing_axes() -> None:
    field = field_of(wavy((64, 64)))
    beside = []
    for planes in (40, 400):
        image = np.ones((64, 64, planes), dtype=np.float32)
        correct_frame(image, field, settings=scan((64, 64)))
        tracemalloc.start()
        result = correct_frame(image, field, settings=scan((64, 64))).image
        beside.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        tracemalloc.stop()

    assert beside[1] < 1.1 * beside[0] + 1e5


def test_sources_outside_the_scan_and_pixels_not_seen_are_zero_and_not_valid() -> None:
    seen = np.ones((20, 20), dtype=bool)
    seen[7, 3] = False
    displacement = np.zeros((2, 20, 20))
    displacement[1, :, -2:] = 1.5
    displacement[0, 4, 4] = np.nan
    displacement[0, 0] = -5e-4

    corrected = correct_frame(frame_of(np.ones((20, 20))), field_of(displacement, valid=seen))

    expected = seen.copy()
    expected[:, -2:] = expected[4, 4] = False
    assert np.array_equal(corrected.valid, expected)
    assert np.array_equal(corrected.image != 0, expected)


@pytest.mark.parametrize("shape", [(16, 20), TWO_THREADS])
def test_std_px_is_error_and_unremoved_in_quadrature(shape: tuple[int, int]) -> None:
    one, two = np.random.default_rng(8).uniform(0, 0.1, (2, 2, *shape)).astype(np.float32)
    field = field_of(np.zeros((2, *shape)), std_px=one, unremoved_std_px=two)

    corrected = correct_frame(frame_of(np.ones(shape)), field)

    assert np.allclose(corrected.std_px, np.hypot(one, two), rtol=1e-6, atol=0)


def test_eight_threads_at_once_get_identical_bits() -> None:
    frame = frame_of(np.random.default_rng(9).normal(size=(300, 400)))
    field = field_of(wavy((300, 400)))

    with ThreadPoolExecutor(8) as pool:
        images = [done.image for done in pool.map(lambda _: correct_frame(frame, field), range(16))]

    assert {image.tobytes() for image in images} == {correct_frame(frame, field).image.tobytes()}


def test_what_is_known_of_the_frame_is_kept_and_the_correction_recorded() -> None:
    frame = frame_of(
        np.ones((16, 16)),
        frame_id="7",
        channel="HAADF",
        index=3,
        time_s=5.0,
        provenance={"file": "a.dm3"},
    )
    field = field_of(np.zeros((2, 16, 16)), kind="frame", frame_id="7")

    corrected = correct_frame(frame, field, resample="nearest")

    kept = (corrected.frame_id, corrected.channel, corrected.index, corrected.time_s)
    record = corrected.provenance["correction"]
    assert kept == ("7", "HAADF", 3, 5.0)
    assert corrected.settings == frame.settings
    assert corrected.pixel_size_nm == pytest.approx(PIXEL_PM * 1e-3)
    assert corrected.provenance["file"] == "a.dm3"
    assert (record["kind"], record["frame_id"], record["resample"]) == ("frame", "7", "nearest")
    assert record["reference"] == "free"
    assert record["convention"].startswith("corrected[u] = raw[u + displacement_px(u)]")
    assert corrected.displacement_px is field.displacement_px


def test_corrected_frame_survives_pickling_read_only() -> None:
    corrected = correct_frame(frame_of(np.ones((16, 16))), field_of(np.zeros((2, 16, 16))))

    again = pickle.loads(pickle.dumps(corrected))

    assert np.array_equal(again.image, corrected.image)
    assert again.provenance == corrected.provenance
    for array in (again.image, again.valid, again.std_px, corrected.image, corrected.valid):
        assert not array.flags.writeable


def test_raw_data_are_not_altered() -> None:
    image = np.random.default_rng(6).normal(size=(30, 30)).astype(np.float32)
    before = image.copy()

    correct_frame(image, field_of(wavy((30, 30))), settings=scan((30, 30)))

    assert np.array_equal(image, before)


def test_foreign_scan_is_refused_by_the_name_of_what_differs() -> None:
    known = {"dwell_time_us": 2.0, "extra": (("beam lag", 3),)}
    field = field_of(np.zeros((2, 16, 16)), settings=scan((16, 16), **known))
    other = scan((16, 16), dwell_time_us=4.0, extra=(("beam lag", 5),))

    with pytest.raises(ValueError, match=r"dwell_time_us is 4\.0, the field's 2\.0; beam lag is 5"):
        correct_frame(np.ones((16, 16)), field, settings=other)


@pytest.mark.parametrize("frame_id", ["", "8"])
def test_frame_field_is_refused_on_another_frame(frame_id: str) -> None:
    field = field_of(np.zeros((2, 16, 16)), kind="frame", frame_id="7")

    with pytest.raises(ValueError, match="belongs to frame '7' only"):
        correct_frame(frame_of(np.ones((16, 16)), frame_id=frame_id), field)
    with pytest.raises(ValueError, match="belongs to frame '7' only"):
        correct_frame(np.ones((16, 16)), field, settings=scan((16, 16)), frame_id=frame_id)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("resample", ["spline", "nearest"])
def test_an_image_with_pixels_that_are_not_finite_is_refused(bad: float, resample: Any) -> None:
    image = np.ones((40, 40))
    image[17, 29] = bad
    with pytest.raises(ValueError, match=r"^frame has pixels that are not finite.*; replace them$"):
        correct_frame(frame_of(image), field_of(np.zeros((2, 40, 40))), resample=resample)


def test_along_trailing_axes_nearest_moves_what_is_not_finite() -> None:
    cube = np.ones((40, 40, 3))
    cube[17, 29, 1] = np.nan
    field = field_of(np.stack([np.full((40, 40), 2.0), np.zeros((40, 40))]))
    with pytest.raises(ValueError, match="not finite"):
        correct_frame(frame_of(cube), field)
    corrected = correct_frame(frame_of(cube), field, resample="nearest")
    assert np.argwhere(np.isnan(corrected.image)).tolist() == [[15, 29, 1]]


@pytest.mark.parametrize("resample", ["spline", "nearest"])
@pytest.mark.parametrize("trailing", [(0,), (3, 0)])
def test_trailing_axes_without_pixels_are_refused(trailing: tuple[int, ...], resample: Any) -> None:
    shape = (40, 40, *trailing)
    sentence = re.escape(f"frame of shape {shape} holds no pixels")
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        correct_frame(frame_of(np.zeros(shape)), field_of(np.zeros((2, 40, 40))), resample=resample)


def test_callers_mistakes_are_named() -> None:
    field = field_of(np.zeros((2, 16, 16)))
    frame = frame_of(np.ones((16, 16)))

    with pytest.raises(ValueError, match="needs settings="):
        correct_frame(np.ones((16, 16)), field)
    with pytest.raises(ValueError, match="belong to a bare array"):
        correct_frame(frame, field, frame_id="7")
    with pytest.raises(ValueError, match="real numbers, not complex128"):
        correct_frame(np.ones((16, 16), dtype=complex), field, settings=frame.settings)
    with pytest.raises(ValueError, match=r"shape \(16, 17\), but its settings say \(16, 16\)"):
        correct_frame(np.ones((16, 17)), field, settings=frame.settings)
    with pytest.raises(ValueError, match='"spline" or "nearest"'):
        correct_frame(frame, field, resample="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must begin with shape \(16, 16\)"):
        replace(correct_frame(frame, field), image=np.ones((4, 4), dtype=np.float32))
