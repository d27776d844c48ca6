"""Images at other places than their pixels: the cubic B-spline, or the nearest pixel."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import owned
from nion_distortion.options import Resample

__all__ = ["resampled", "shifted"]

BLOCK_ROWS = 96

POLE = np.sqrt(3.0) - 2.0
"""Pole of the cubic B-spline's prefilter."""

GAIN = 36.0
"""Gain of the prefilter, 6 for each axis."""

HORIZON = 14
"""Pixels after which powers of the pole vanish in float32; a mirrored image of 8 px (the smallest)
has this period."""

TOLERANCE_PX = 1e-3
"""A source this close outside the outermost pixel centre is rounding, and is moved onto it."""

U = np.uint64
"""Unsigned index: saves the compiled code the check for negative ones."""

FILTERED_PX, RESAMPLED_PX = 2**17, 2**15
"""Least pixels of a chunk: below, waiting for a second thread costs more than it saves."""


def resampled(
    image: npt.NDArray[Any],
    displacement_px: npt.NDArray[np.float32],
    seen: npt.NDArray[np.bool_],
    *,
    resample: Resample,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Take each pixel from its own place: ``result[u] = image[u + displacement_px(u)]``.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        The image.
    displacement_px : ndarray of float32, shape (2, ny, nx)
        How far away each pixel is taken from.
    seen : ndarray of bool, shape (ny, nx)
        Pixels that are wanted.
    resample : {"spline", "nearest"}
        How.

    Returns
    -------
    result : ndarray, shape (ny, nx)
        Zero where the pixel is not wanted or its source lies outside the image.
    inside : ndarray of bool, shape (ny, nx)
        Where it is not.

    Raises
    ------
    ValueError
        If what is to be interpolated is not finite.
    """
    plane, inside = _plane(image), np.empty(image.shape, dtype=np.bool_)
    result = np.empty_like(plane)
    coefficients = _spline_coefficients(plane) if resample == "spline" else None

    def _rows(start: int, stop: int) -> None:
        some, out = (start, stop), (result, inside)
        if coefficients is None:
            _nearest_rows(plane, displacement_px, seen, some, out)
        else:
            _spline_rows((plane, coefficients), displacement_px, seen, some, out)

    for_chunks(_rows, len(plane), smallest=RESAMPLED_PX // plane.shape[1])
    return result, inside


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
        By the spline of `resampled`; zero where the source lies outside the image.
    inside : ndarray of bool, shape (ny, nx)
        Where it does not.
    """
    displacement = np.empty((2, *image.shape), dtype=np.float32)
    displacement[0], displacement[1] = shift_px
    everywhere = owned(np.ones(image.shape, dtype=np.bool_))
    return resampled(image, owned(displacement), everywhere, resample="spline")


def _plane(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """As the kernels take it; read-only like a frame's image, so that they are compiled once."""
    plane = np.ascontiguousarray(image, dtype=np.float32).view()
    plane.flags.writeable = False
    return plane


def _spline_coefficients(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Coefficients of the interpolating cubic B-spline, shape (ny + 3, nx + 3).

    The rim, one pixel before and two after, mirrors the image about its outermost pixel centres.
    """
    ny, nx = image.shape
    padded = np.empty((ny + 3, nx + 3), dtype=np.float32)
    inner = padded[1:-2, 1:-2]

    def _rows(start: int, stop: int) -> None:
        _prefilter(image, inner, start, stop)

    for_chunks(_rows, ny, smallest=max(FILTERED_PX // nx, 4))
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
