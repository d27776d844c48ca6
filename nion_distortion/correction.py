"""Field -> corrected frame: one backward resample, and the mask of the pixels with data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, get_args

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import as_array, as_positive, frozen, owned
from nion_distortion._version import installed_version
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.options import Resample

__all__ = ["SIGN_CONVENTION", "CorrectedFrame", "correct_frame", "noted", "shifted"]

SIGN_CONVENTION = (
    "corrected[u] = raw[u + displacement_px(u)]; displacement = observed - ideal; "
    "vectors and positions are (y, x), pixel centres at integers"
)
"""Written into every result."""

BLOCK_ROWS = 96

POLE = np.sqrt(3.0) - 2.0
"""Pole of the cubic B-spline's prefilter."""

GAIN = 36.0
"""Gain of the prefilter, 6 for each axis."""

HORIZON = 14
"""Pixels after which the pole's powers are lost in float32; one period of the mirror at 8 px."""

TOLERANCE_PX = 1e-3
"""A source this close outside the outermost pixel centre is rounding, and is moved onto it."""

PLANES, BLOCK_PX = 16, 2**22
"""Detector pixels of a spectrum image that are corrected together, at most: a cache line of them,
and so many pixels in all that the extra memory stays under 64 MiB."""

U = np.uint64
"""An index that cannot be negative: the compiler need not look."""

FILTERED_PX, RESAMPLED_PX = 2**17, 2**15
"""Least pixels of a chunk: below, waiting for a second thread costs more than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorrectedFrame:
    """A frame on the undistorted grid.

    Parameters
    ----------
    image : ndarray, shape (ny, nx) or (ny, nx, ...)
        The detector's units, interpolated; zero where not valid.
    valid : ndarray of bool, shape (ny, nx)
        Whether the scan saw the place that the pixel shows.
    std_px : ndarray, shape (2, ny, nx)
        Standard deviation of the place on the sample that the pixel shows, (y, x): error of the
        correction and what was not removed, in quadrature.
    displacement_px : ndarray, shape (2, ny, nx)
        What was taken out: ``image[u] = raw[u + displacement_px(u)]``. With it a position in
        ``image`` is brought back to the scan.
    pixel_size_nm : float
        Side of a pixel.
    settings : ScanSettings
        The scan that made the frame.
    frame_id : str, default: ""
        Identity of the scan.
    channel : str, default: ""
        Name of the detector.
    index : int, default: 0
        Place in its stack or stream.
    time_s : float, optional
        POSIX time of the end of the frame.
    provenance : Mapping, default: {}
        The frame's own, and under ``"correction"`` how it was corrected.

    Raises
    ------
    ValueError
        If the arrays do not belong together.
    """

    image: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    std_px: npt.NDArray[np.float32]
    displacement_px: npt.NDArray[np.float32]
    pixel_size_nm: float
    settings: ScanSettings
    frame_id: str = ""
    channel: str = ""
    index: int = 0
    time_s: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.settings.shape_px
        image = np.asarray(self.image, dtype=np.float32)
        if image.shape[:2] != shape:
            raise ValueError(f"image must begin with shape {shape}, not be {image.shape}")
        object.__setattr__(self, "image", frozen(image))
        object.__setattr__(self, "valid", as_array("valid", self.valid, shape, np.bool_))
        for name in ("std_px", "displacement_px"):
            array = as_array(name, getattr(self, name), (2, *shape), np.float32)
            object.__setattr__(self, name, array)
        as_positive("pixel_size_nm", self.pixel_size_nm)
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __reduce__(self) -> Any:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["provenance"] = dict(self.provenance)
        return _rebuild_corrected, (values,)


def _rebuild_corrected(values: dict[str, Any]) -> CorrectedFrame:
    return CorrectedFrame(**values)


def correct_frame(
    frame: Frame | npt.NDArray[Any],
    field: DistortionField,
    *,
    settings: ScanSettings | None = None,
    frame_id: str = "",
    resample: Resample = "spline",
) -> CorrectedFrame:
    """Resample a frame onto the undistorted grid: ``corrected[u] = raw[u + d(u)]``.

    Parameters
    ----------
    frame : Frame or ndarray, shape (ny, nx) or (ny, nx, ...)
        The frame as scanned; every detector pixel of a spectrum image is corrected alike. A bare
        array may be a memory map: it is read in blocks.
    field : DistortionField, shape (2, ny, nx)
        Observed minus ideal position at each ideal pixel, in px.
    settings : ScanSettings, optional
        The scan that made a bare array; a `Frame` has its own.
    frame_id : str, default: ""
        Identity of the scan that made a bare array; needed for a frame's own field.
    resample : {"spline", "nearest"}
        Cubic B-spline, or whole pixels' counts. With ``"nearest"``, pixels along trailing axes
        that are not finite move like all others; those of an image are refused.

    Returns
    -------
    CorrectedFrame
        Pixels whose source lies outside the scan are zero and not valid.

    Raises
    ------
    ValueError
        If settings differ (each named), a frame's own field meets another scan, the array holds
        no pixels or is not one of real numbers, or what is to be interpolated, or an image, is
        not finite.

    Notes
    -----
    Each pixel is one dwell, so intensities are interpolated without a Jacobian: the integrated
    intensities of equal columns agree in the corrected frame, while their raw sums do not where
    the scan is stretched.

    Between the outermost pixel centres the spline is that of `scipy.ndimage.map_coordinates`
    with ``order=3, mode="mirror"``. A spline rings by some per cent beside a single hot pixel;
    ``"nearest"`` does not, and is half a pixel wrong.
    """
    if isinstance(frame, Frame):
        if settings is not None or frame_id:
            raise ValueError("settings and frame_id belong to a bare array; a Frame has its own")
        taken = {name: getattr(frame, name) for name in ("channel", "index", "time_s")}
        image, settings, frame_id = frame.image, frame.settings, frame.frame_id
        provenance = dict(frame.provenance)
    else:
        image, taken, provenance = np.asanyarray(frame), {}, {}
    known = _check(image, field, settings, frame_id, resample)
    corrected, valid = _resampled(image, field, resample)
    return CorrectedFrame(
        image=corrected,
        valid=valid,
        std_px=field.whole_std_px,
        displacement_px=field.displacement_px,
        pixel_size_nm=known.pixel_size_nm,
        settings=known,
        frame_id=frame_id,
        provenance={**provenance, "correction": _record(field, resample)},
        **taken,
    )


def noted(corrected: CorrectedFrame, calibration: Mapping[str, Any]) -> CorrectedFrame:
    """Note in a corrected frame which stored calibration it was corrected by.

    Parameters
    ----------
    corrected : CorrectedFrame
        The frame.
    calibration : Mapping
        Its id and what is to be remembered of it.

    Returns
    -------
    CorrectedFrame
        With ``provenance["correction"]["calibration"]``.
    """
    record = {**corrected.provenance.get("correction", {}), "calibration": dict(calibration)}
    return replace(corrected, provenance={**corrected.provenance, "correction": record})


def shifted(
    image: npt.NDArray[np.float32], shift_px: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Resample an image at one distance: ``result[u] = image[u + shift_px]``.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        The image; finite.
    shift_px : tuple of float
        How far away each pixel is taken from, (y, x).

    Returns
    -------
    result : ndarray, shape (ny, nx)
        By the spline of `correct_frame`; zero where the source lies outside the image.
    inside : ndarray of bool, shape (ny, nx)
        Where it does not.
    """
    displacement = np.empty((2, *image.shape), dtype=np.float32)
    displacement[0], displacement[1] = shift_px
    inside = np.empty(image.shape, dtype=np.bool_)
    everywhere = owned(np.ones(image.shape, dtype=np.bool_))
    return _interpolated(_plane(image), owned(displacement), everywhere, inside), inside


def _check(
    image: npt.NDArray[Any],
    field: DistortionField,
    settings: ScanSettings | None,
    frame_id: str,
    resample: Resample,
) -> ScanSettings:
    if resample not in get_args(Resample):
        raise ValueError(f'resample must be "spline" or "nearest", not {resample!r}')
    if settings is None:
        raise ValueError("a bare array needs settings=, the scan that made it")
    if image.dtype.kind not in "biuf":
        raise ValueError(f"frame must be real numbers, not {image.dtype}")
    if image.shape[:2] != settings.shape_px:
        raise ValueError(
            f"frame has shape {image.shape[:2]}, but its settings say {settings.shape_px}"
        )
    if image.size == 0:
        raise ValueError(f"frame of shape {image.shape} holds no pixels")
    # `valid` speaks for whole pixels: of an image a wrong one could not be told from a good one
    if resample == "nearest" and image.ndim == 2 and not np.isfinite(image).all():
        raise ValueError("frame has pixels that are not finite; replace them")
    _check_match(field, settings, frame_id)
    return settings


def _check_match(field: DistortionField, settings: ScanSettings, frame_id: str) -> None:
    differing = settings.differences(field.settings)
    if differing:
        named = "; ".join(
            f"{name} is {_value(settings, name)}, the field's {_value(field.settings, name)}"
            for name in differing
        )
        raise ValueError(f"the field belongs to another scan: {named}")
    if field.kind == "frame" and field.frame_id != frame_id:
        raise ValueError(
            f"the field belongs to frame {field.frame_id!r} only, not to {frame_id!r}; "
            "for other frames take the stationary field"
        )


def _value(settings: ScanSettings, name: str) -> object:
    return getattr(settings, name, dict(settings.extra).get(name))


def _record(field: DistortionField, resample: Resample) -> dict[str, object]:
    return {
        "kind": field.kind,
        "reference": field.reference,
        "frame_id": field.frame_id,
        "resample": resample,
        "convention": SIGN_CONVENTION,
        "versions": {"nion_distortion": installed_version(), "numpy": np.__version__},
    }


def _resampled(
    image: npt.NDArray[Any], field: DistortionField, resample: Resample
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Every plane of trailing axes in turn, a few at a time: the extra memory is constant."""
    valid = np.empty(image.shape[:2], dtype=np.bool_)
    one = _spline if resample == "spline" else _nearest
    if image.ndim == 2:
        corrected = one(_plane(image), field, valid)
    else:
        corrected = np.empty(image.shape, dtype=np.float32)
        source = image.reshape(*image.shape[:2], -1)
        target = corrected.reshape(source.shape)
        step = max(1, min(PLANES, BLOCK_PX // valid.size))
        for start in range(0, source.shape[2], step):
            block = source[:, :, start : start + step]
            planes = _plane(np.moveaxis(block, 2, 0))
            done = np.stack([one(plane, field, valid) for plane in planes], axis=2)
            target[:, :, start : start + step] = done
    corrected.flags.writeable = valid.flags.writeable = False
    return corrected, valid


def _plane(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """As the kernels take it; read-only like a frame's image, so that they are compiled once."""
    plane = np.ascontiguousarray(image, dtype=np.float32).view()
    plane.flags.writeable = False
    return plane


def _nearest(
    image: npt.NDArray[np.float32], field: DistortionField, valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    corrected = np.empty_like(image)

    def rows(start: int, stop: int) -> None:
        _nearest_rows(image, field.displacement_px, field.valid, (start, stop), (corrected, valid))

    for_chunks(rows, len(image), smallest=RESAMPLED_PX // image.shape[1])
    return corrected


def _spline(
    image: npt.NDArray[np.float32], field: DistortionField, valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    return _interpolated(image, field.displacement_px, field.valid, valid)


def _interpolated(
    image: npt.NDArray[np.float32],
    displacement_px: npt.NDArray[np.float32],
    seen: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    coefficients = _spline_coefficients(image)
    corrected = np.empty_like(image)

    def rows(start: int, stop: int) -> None:
        _spline_rows(
            (image, coefficients), displacement_px, seen, (start, stop), (corrected, valid)
        )

    for_chunks(rows, len(image), smallest=RESAMPLED_PX // image.shape[1])
    return corrected


def _spline_coefficients(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Coefficients of the interpolating cubic B-spline, shape (ny + 3, nx + 3).

    The rim, one pixel before and two after, mirrors the image about its outermost pixel centres.
    """
    ny, nx = image.shape
    padded = np.empty((ny + 3, nx + 3), dtype=np.float32)
    inner = padded[1:-2, 1:-2]

    def rows(start: int, stop: int) -> None:
        _prefilter(image, inner, start, stop)

    for_chunks(rows, ny, smallest=max(FILTERED_PX // nx, 4))
    if not np.isfinite(inner[:, 0]).all():  # the filter carries it there from anywhere in a row
        raise ValueError(
            "frame has pixels that are not finite, which a spline would spread over their rows; "
            "replace them"
        )
    padded[1:-2, 0], padded[1:-2, -2:] = padded[1:-2, 2], padded[1:-2, -4:-6:-1]
    padded[0], padded[-2:] = padded[2], padded[-4:-6:-1]
    return padded


@numba.njit(cache=True, nogil=True)
def _prefilter(
    image: npt.NDArray[np.float32], out: npt.NDArray[np.float32], start: int, stop: int
) -> None:  # pragma: no cover
    """Fill some rows of coefficients, in blocks that stay in the cache.

    Rows beyond a block's ends are filtered with it: from there on their own start is forgotten.
    """
    ny, nx = image.shape
    for first in range(start, stop, BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, stop)
        top, bottom = max(first - HORIZON, 0), min(last + HORIZON, ny)
        block = np.empty((bottom - top, nx), np.float32)
        _prefilter_rows(image[top:bottom], block)
        _prefilter_columns(block)
        out[first:last] = block[first - top : last - top]


@numba.njit(cache=True, nogil=True)
def _prefilter_rows(
    image: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
) -> None:  # pragma: no cover
    """Filter along the rows, four at once so that no row waits for its own last pixel.

    Equivalent to `scipy.ndimage.spline_filter1d` with ``mode="mirror"``, times 6 for the columns.

    References
    ----------
    .. [1] M. Unser, Splines: a perfect fit for signal and image processing, IEEE Signal
       Processing Magazine 16 (6), 22 (1999), box 2.
    """
    for start in range(0, len(image), 4):
        i = min(start, len(image) - 4)  # the last four may be filtered twice: the same numbers
        _prefilter_four(
            (image[i], image[i + 1], image[i + 2], image[i + 3]),
            (out[i], out[i + 1], out[i + 2], out[i + 3]),
        )


@numba.njit(cache=True, nogil=True)
def _prefilter_four(
    rows: tuple[npt.NDArray[np.float32], ...], out: tuple[npt.NDArray[np.float32], ...]
) -> None:  # pragma: no cover
    """Causal, then anticausal filter; the running values stay in registers."""
    (r0, r1, r2, r3), (c0, c1, c2, c3) = rows, out
    pole, gain, last = np.float32(POLE), np.float32(GAIN), len(r0) - 1
    v0, v1 = gain * _before_first(r0), gain * _before_first(r1)
    v2, v3 = gain * _before_first(r2), gain * _before_first(r3)
    c0[0], c1[0], c2[0], c3[0] = v0, v1, v2, v3
    for j in range(1, last + 1):
        v0, v1 = gain * r0[j] + pole * v0, gain * r1[j] + pole * v1
        v2, v3 = gain * r2[j] + pole * v2, gain * r3[j] + pole * v3
        c0[j], c1[j], c2[j], c3[j] = v0, v1, v2, v3
    v0, v1 = _after_last(c0[last - 1], v0), _after_last(c1[last - 1], v1)
    v2, v3 = _after_last(c2[last - 1], v2), _after_last(c3[last - 1], v3)
    c0[last], c1[last], c2[last], c3[last] = v0, v1, v2, v3
    for j in range(last - 1, -1, -1):
        v0, v1 = pole * (v0 - c0[j]), pole * (v1 - c1[j])
        v2, v3 = pole * (v2 - c2[j]), pole * (v3 - c3[j])
        c0[j], c1[j], c2[j], c3[j] = v0, v1, v2, v3


@numba.njit(cache=True, nogil=True)
def _before_first(values: npt.NDArray[np.float32]) -> np.float32:  # pragma: no cover
    """First value of the causal filter on a mirrored signal."""
    total, power = np.float32(0.0), np.float32(1.0)
    for k in range(HORIZON):
        total += power * values[k if k < len(values) else 2 * len(values) - 2 - k]
        power *= np.float32(POLE)
    return total


@numba.njit(cache=True, nogil=True)
def _after_last(before: np.float32, last: np.float32) -> np.float32:  # pragma: no cover
    """Last value of the anticausal filter on a mirrored signal."""
    pole = np.float32(POLE)
    return pole / (pole * pole - np.float32(1.0)) * (last + pole * before)


@numba.njit(cache=True, nogil=True)
def _prefilter_columns(out: npt.NDArray[np.float32]) -> None:  # pragma: no cover
    """Filter along the columns in place, mirrored at both ends; see `_prefilter_rows`."""
    ny, nx = out.shape
    pole = np.float32(POLE)
    for j in range(nx):
        out[0, j] = _before_first(out[:, j])
    for i in range(1, ny):
        above, here = out[i - 1], out[i]
        for j in range(nx):
            here[j] += pole * above[j]
    for j in range(nx):
        out[ny - 1, j] = _after_last(out[ny - 2, j], out[ny - 1, j])
    for i in range(ny - 2, -1, -1):
        below, here = out[i + 1], out[i]
        for j in range(nx):
            here[j] = pole * (below[j] - here[j])


@numba.njit(cache=True, nogil=True)
def _split(
    wanted: npt.NDArray[np.float32],
    place: tuple[int, int, int],
    whole: npt.NDArray[np.int32],
    fraction: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
) -> None:  # pragma: no cover
    """Split one axis' displacements in a row into whole pixels and fractions.

    ``place`` is the row's first pixel on this axis, the step from pixel to pixel, and the length
    of the axis. A source outside the outermost pixel centres is moved onto them, and ``inside``
    cleared where that is more than rounding.
    """
    first, step, last = np.float32(place[0]), np.float32(place[1]), np.float32(place[2] - 1)
    for j in range(len(wanted)):
        low = -first - step * np.float32(np.int32(j))
        high = low + last
        kept = wanted[j] if wanted[j] > low else low  # not a number: low
        kept = kept if kept < high else high
        shift = np.floor(kept)
        whole[j] = np.int32(shift)
        fraction[j] = kept - shift
        inside[j] &= abs(kept - wanted[j]) <= np.float32(TOLERANCE_PX)


@numba.njit(cache=True, nogil=True)
def _nearest_rows(
    image: npt.NDArray[np.float32],
    displacement_px: npt.NDArray[np.float32],
    seen: npt.NDArray[np.bool_],
    rows: tuple[int, int],
    out: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]],
) -> None:  # pragma: no cover
    """Equivalent to `scipy.ndimage.map_coordinates` with ``order=0``."""
    corrected, valid = out
    ny, nx = image.shape
    whole, fraction = np.empty((2, nx), np.int32), np.empty((2, nx), np.float32)
    for i in range(rows[0], rows[1]):
        valid[i] = seen[i]
        _split(displacement_px[0, i], (i, 0, ny), whole[0], fraction[0], valid[i])
        _split(displacement_px[1, i], (0, 1, nx), whole[1], fraction[1], valid[i])
        for j in range(nx):
            y = i + whole[0, j] + (fraction[0, j] >= 0.5)
            x = j + whole[1, j] + (fraction[1, j] >= 0.5)
            corrected[i, j] = image[y, x] if valid[i, j] else np.float32(0.0)


@numba.njit(cache=True, nogil=True)
def _spline_rows(
    images: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    displacement_px: npt.NDArray[np.float32],
    seen: npt.NDArray[np.bool_],
    rows: tuple[int, int],
    out: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]],
) -> None:  # pragma: no cover
    """Equivalent to `scipy.ndimage.map_coordinates` with ``order=3, mode="mirror"``.

    A field is smooth: along a row the source's whole pixels advance one by one for long runs.
    Within a run all memory is read in order, and the compiler computes several pixels at a time.
    """
    image, c = images
    corrected, valid = out
    ny, nx = image.shape
    whole, fraction = np.empty((2, nx), np.int32), np.empty((2, nx), np.float32)
    steady = np.zeros(nx + 1, np.bool_)
    for i in range(rows[0], rows[1]):
        valid[i] = seen[i]
        _split(displacement_px[0, i], (i, 0, ny), whole[0], fraction[0], valid[i])
        _split(displacement_px[1, i], (0, 1, nx), whole[1], fraction[1], valid[i])
        _mark_steady(whole[0], whole[1], steady)
        a = 0
        while a < nx:
            b = a + 1
            while steady[b]:
                b += 1
            run = (i, a, b, i + whole[0, a], a + whole[1, a])
            _spline_run(image, c, fraction, run, valid, corrected)
            a = b


@numba.njit(cache=True, nogil=True)
def _mark_steady(
    down: npt.NDArray[np.int32], right: npt.NDArray[np.int32], steady: npt.NDArray[np.bool_]
) -> None:  # pragma: no cover
    """Mark pixels whose source is as many whole pixels away as that of the pixel before."""
    for j in range(1, len(down)):
        steady[j] = (down[j] == down[j - 1]) & (right[j] == right[j - 1])


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _weights(
    f: np.float32,
) -> tuple[np.float32, np.float32, np.float32, np.float32]:  # pragma: no cover
    """Values of the cubic B-spline at 1 + f, f, 1 - f, 2 - f."""
    sixth, half = np.float32(1 / 6), np.float32(0.5)
    g = np.float32(1.0) - f
    w1 = sixth * np.float32(4.0) - f * f * (np.float32(1.0) - half * f)
    w2 = sixth * np.float32(4.0) - g * g * (np.float32(1.0) - half * g)
    return sixth * g * g * g, w1, w2, sixth * f * f * f


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _spline_run(
    image: npt.NDArray[np.float32],
    c: npt.NDArray[np.float32],
    fraction: npt.NDArray[np.float32],
    run: tuple[int, int, int, int, int],
    valid: npt.NDArray[np.bool_],
    corrected: npt.NDArray[np.float32],
) -> None:  # pragma: no cover
    """Spline at sources one pixel apart; on a pixel centre the image itself, without rounding.

    ``run`` is the row, its first pixel and the one after its last, and the source of the first.
    Whole arrays and unsigned indices: slices would cost more than a short run itself.
    """
    i, a, b, k, m = U(run[0]), U(run[1]), U(run[2]), U(run[3]), U(run[4])
    k1, k2, k3 = k + U(1), k + U(2), k + U(3)
    for j in range(b - a):
        fy, fx = fraction[U(0), a + j], fraction[U(1), a + j]
        w0, w1, w2, w3 = _weights(fy)
        v0, v1, v2, v3 = _weights(fx)
        s, s1, s2, s3 = m + j, m + j + U(1), m + j + U(2), m + j + U(3)
        total = v0 * (w0 * c[k, s] + w1 * c[k1, s] + w2 * c[k2, s] + w3 * c[k3, s])
        total += v1 * (w0 * c[k, s1] + w1 * c[k1, s1] + w2 * c[k2, s1] + w3 * c[k3, s1])
        total += v2 * (w0 * c[k, s2] + w1 * c[k1, s2] + w2 * c[k2, s2] + w3 * c[k3, s2])
        total += v3 * (w0 * c[k, s3] + w1 * c[k1, s3] + w2 * c[k2, s3] + w3 * c[k3, s3])
        kept = image[k, s] if fy == 0 and fx == 0 else total
        corrected[i, a + j] = kept if valid[i, a + j] else np.float32(0.0)
