"""What interpolation costs, in time and in picometres: why the correction is a cubic B-spline."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nion_distortion.correction import correct_frame
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import Frame, ScanSettings

__all__ = ["Interpolation", "apply_cached", "compare_interpolations"]

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

SIGMA_PX, SPACING_PX, HALF_PX = 1.57, 14.13, 6
FIELD_OF_VIEW_NM = {512: 16.0, 1024: 32.0, 2048: 48.0}
SEED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolation:
    """What one way of interpolating does to a frame without noise.

    Parameters
    ----------
    name : str
        The way.
    time_ms : float
        Median time of one frame.
    ratio : float
        The same over the time of one cubic `scipy.ndimage.map_coordinates` in the same run.
    rms_pm, worst_pm : float
        Error of the columns' positions per axis, at 31.25 pm a pixel.
    amplitude : float
        Mean relative error of the columns' height.
    """

    name: str
    time_ms: float
    ratio: float
    rms_pm: float
    worst_pm: float
    amplitude: float


def compare_interpolations(*, repeats: int = 7) -> tuple[Interpolation, ...]:
    """Resample one frame of 512 x 512 pixels with a strong fly-back in every way.

    Parameters
    ----------
    repeats : int, default: 7
        Times of which the median is taken; the ways take turns.

    Returns
    -------
    tuple of Interpolation
        Linear, OpenCV's cubic, ours, and SciPy's cubic spline, which is the reference.
    """
    field, raw, centres, ideal = _known_frame(512)
    places = np.indices((512, 512)).astype(np.float64) + field.displacement_px
    ways = _ways(raw, field, places)
    times = _in_turns(list(ways.values()), repeats)
    found = []
    for (name, way), time_ms in zip(ways.items(), times, strict=True):
        errors = _errors(way(), ideal, centres)
        moved_pm = errors[:, :2] * FIELD_OF_VIEW_NM[512] / 512 * 1e3
        found.append(
            Interpolation(
                name=name,
                time_ms=time_ms,
                ratio=time_ms / times[-1],
                rms_pm=float(np.sqrt(np.mean(moved_pm**2))),
                worst_pm=float(np.abs(moved_pm).max()),
                amplitude=float(errors[:, 2].mean()),
            )
        )
    return tuple(found)


def apply_cached(size_px: int, *, repeats: int = 7) -> tuple[float, float]:
    """Time `correct_frame` with a field that is known already.

    Parameters
    ----------
    size_px : int
        512, 1024 or 2048.
    repeats : int, default: 7
        Times of which the median is taken; the reference job takes turns with ours.

    Returns
    -------
    ratio : float
        Ours over one cubic `scipy.ndimage.map_coordinates` of the same image.
    time_ms : float
        Ours.
    """
    y, x = np.indices((size_px, size_px), dtype=np.float64)
    settings = _settings(size_px)
    field = _field(_moved(np.stack([y, x])), settings)
    raw = np.random.default_rng(SEED).poisson(50, (size_px, size_px)).astype(np.float32)
    frame = Frame(image=raw, settings=settings)
    places = np.stack([y, x]) + field.displacement_px
    ours, theirs = _in_turns(
        [
            lambda: correct_frame(frame, field).image,
            lambda: ndimage.map_coordinates(raw, places, order=3),
        ],
        repeats,
    )
    return ours / theirs, ours


def _ways(raw: Image, field: DistortionField, places: Array) -> dict[str, Callable[[], Image]]:
    frame = Frame(image=raw, settings=field.settings)
    y, x = places.astype(np.float32)

    def remapped(how: int) -> Image:
        return np.asarray(cv2.remap(raw, x, y, how), dtype=np.float32)

    return {
        "OpenCV linear": lambda: remapped(cv2.INTER_LINEAR),
        "OpenCV cubic": lambda: remapped(cv2.INTER_CUBIC),
        "correct_frame": lambda: correct_frame(frame, field).image,
        "SciPy map_coordinates": lambda: ndimage.map_coordinates(raw, places, order=3),
    }


def _in_turns(jobs: list[Callable[[], object]], repeats: int) -> list[float]:
    for job in jobs:
        job()
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeats):
        for job, taken in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            taken.append((time.perf_counter() - start) * 1e3)
    return [median(taken) for taken in times]


def _settings(size_px: int) -> ScanSettings:
    return ScanSettings(shape_px=(size_px, size_px), field_of_view_nm=FIELD_OF_VIEW_NM[size_px])


def _moved(scan_px: Array) -> Array:
    """D at places in the scan: a fly-back of 0.2 nm and a smooth part of some pixels."""
    y, x = scan_px
    flyback = -6.4 * np.exp(-np.maximum(x, -1.0) / 15.36)
    return np.stack([0.8 * np.sin(y / 90 + x / 200), flyback + 0.5 * np.sin(x / 70 + y / 40)])


def _field(displacement_px: Array, settings: ScanSettings) -> DistortionField:
    std_px = np.full((2, *settings.shape_px), 0.03, dtype=np.float32)
    return DistortionField(
        displacement_px=displacement_px.astype(np.float32),
        std_px=std_px,
        unremoved_std_px=std_px.copy(),
        valid=np.ones(settings.shape_px, dtype=np.bool_),
        kind="stationary",
        settings=settings,
        reference="formula",
    )


def _known_frame(size_px: int) -> tuple[DistortionField, Image, Array, Array]:
    """Field, frame as scanned, columns that the scan saw, and the frame as it should be."""
    pixels = np.indices((size_px, size_px)).astype(np.float64)
    source = pixels.copy()
    for _ in range(60):  # s = u + D(s), a contraction
        source = pixels + _moved(source)
    first = np.arange(14.3, size_px - 14.0, SPACING_PX)
    centres = np.stack(np.meshgrid(first, first, indexing="ij"), axis=-1).reshape(-1, 2)
    raw = _columns(pixels - _moved(pixels), first).astype(np.float32)
    field = _field(source - pixels, _settings(size_px))
    return field, raw, centres, _columns(pixels, first)


def _columns(places: Array, first: Array) -> Array:
    """Gaussian columns of height 1 on a square grid: a product of two rows of peaks."""
    rows = [sum(np.exp(-((axis - c) ** 2) / (2 * SIGMA_PX**2)) for c in first) for axis in places]
    return np.asarray(rows[0] * rows[1])


def _errors(image: Image, ideal: Array, centres: Array) -> Array:
    """First step of a least-squares fit from the truth: (y, x, height, background), (n, 4)."""
    errors = np.empty((len(centres), 4))
    for i, centre in enumerate(centres):
        corner = np.rint(centre).astype(int) - HALF_PX
        window = tuple(slice(a, a + 2 * HALF_PX + 1) for a in corner)
        y, x = np.indices((2 * HALF_PX + 1,) * 2) + (corner - centre)[:, None, None]
        column = np.exp(-(y**2 + x**2) / (2 * SIGMA_PX**2))
        slopes = [column * y / SIGMA_PX**2, column * x / SIGMA_PX**2, column, np.ones_like(y)]
        left = (image[window] - ideal[window]).ravel()
        errors[i] = np.linalg.lstsq(np.stack(slopes).reshape(4, -1).T, left, rcond=None)[0]
    return errors
