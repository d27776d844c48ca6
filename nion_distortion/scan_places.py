"""Scan position s at which a place on the sample is seen, and the inverse: ``s - E(s) = place``."""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks

__all__ = ["Refused", "places_on_sample", "scan_places", "scan_places_of_pixels"]

EXACT_PX = 1e-5
"""Last Newton step (px) to a single place: what it leaves is about its square."""

MOST_STEPS, SETTLED_PX = 30, 0.02
"""Most Newton steps for a pixel, and the step (px) below which it has settled, then right within
1e-4 px: most pixels need one step."""

WHOLE_STEPS, PART = 5, 0.4
"""Full Newton steps, after which steps are damped by this factor: where lines jitter, full steps
may oscillate between two lines."""

FEW, FAR_PX = 16, 1.0
"""A row takes two vectorised steps if more than 1 / FEW of its pixels have not settled after one;
the first of the two may then be up to FAR_PX long."""

POINTS_AT_ONCE = 1024

VECTOR = 16
"""Pixels that compiled loops take at once: runs are made as long as a multiple of this where there
is room, because single pixels cost as much each."""

LEAST_MAGNIFICATION = 0.05
"""Where the place on the sample advances by less than this, in px per px, the scan turns back."""

U = np.uint64
"""Unsigned index: saves the compiled code the check for negative ones."""


class Refused(NamedTuple):
    """Pixels whose place the scan saw, but not once and in order: they are not valid."""

    folded: int
    """How many the beam passed more than once because it turned back along its line."""
    crossed: int
    """How many lie where lines overtake each other, or nearly so: no line is the one that saw
    them."""


def places_on_sample(
    moving_px: npt.NDArray[np.float32], scan_px: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Take a known motion of the beam out of places in the scan: ``v = s - E(s)``.

    Parameters
    ----------
    moving_px : ndarray of float32, shape (2, ny, nx)
        E(s), what moves the beam, at every pixel of the scan.
    scan_px : ndarray, shape (n, 2)
        Places in the scan.

    Returns
    -------
    ndarray, shape (n, 2)
        Places on the sample, in the frame's nominal grid.
    """
    places = np.array(scan_px, dtype=np.float64)
    for_chunks(
        lambda start, stop: _subtract(moving_px, places[start:stop]),
        len(places),
        smallest=POINTS_AT_ONCE,
    )
    return places


def scan_places(
    moving_px: npt.NDArray[np.float32],
    places_px: npt.NDArray[np.float64],
    start_px: npt.NDArray[np.float64],
    *,
    settled_px: float = EXACT_PX,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Find where in the scan given places on the sample are seen: ``s - E(s) = place``.

    Parameters
    ----------
    moving_px : ndarray of float32, shape (2, ny, nx)
        E(s), what moves the beam, at every pixel of the scan; outside, the nearest edge counts.
    places_px : ndarray, shape (n, 2)
        Places on the sample, in the frame's nominal grid.
    start_px : ndarray, shape (n, 2)
        First guesses of s.
    settled_px : float, default: 1e-5
        A Newton step shorter than this is the last one.

    Returns
    -------
    places : ndarray, shape (n, 2)
        The solutions s, px.
    jacobian : ndarray, shape (n, 2, 2)
        ``dE_i / ds_j`` there.

    Notes
    -----
    Newton steps of at most 3 px on a Catmull-Rom interpolation of E.
    """
    solution = np.array(start_px, dtype=np.float64)
    jacobian = np.empty((len(solution), 2, 2))
    targets = np.ascontiguousarray(places_px, dtype=np.float64)

    def _part(start: int, stop: int) -> None:
        rows = slice(start, stop)
        _solve_points(moving_px, targets[rows], solution[rows], jacobian[rows], settled_px)

    for_chunks(_part, len(solution), smallest=POINTS_AT_ONCE)
    return solution, jacobian


def scan_places_of_pixels(
    moving_px: npt.NDArray[np.float32], gauge_px: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Refused]:
    """Find where in the scan each pixel of the corrected image is seen: s(G u) - u.

    Parameters
    ----------
    moving_px : ndarray of float32, shape (2, ny, nx)
        E(s), what moves the beam, at every pixel of the scan.
    gauge_px : ndarray, shape (2, 3)
        G, an affine map of places: ``G u = gauge @ [1, u_y, u_x]``.

    Returns
    -------
    displacement : ndarray of float32, shape (2, ny, nx)
        ``s(G u) - u``, px.
    valid : ndarray of bool, shape (ny, nx)
        Whether s lies inside the scan, and the scan neither turns back there nor do its lines
        overtake each other.
    refused : Refused
        How many pixels are not valid although s lies inside.

    Notes
    -----
    Equal to `scan_places` at every pixel. Each pixel starts where the two solutions above it
    put it, so that one Newton step is enough nearly everywhere, and a second where the lines
    jitter: these are taken several pixels at a time.
    """
    _, ny, nx = moving_px.shape
    displacement = np.empty((2, ny, nx), np.float32)
    valid = np.empty((ny, nx), np.bool_)
    gauge = np.ascontiguousarray(gauge_px, dtype=np.float64)

    def _part(start: int, stop: int) -> tuple[int, int, bool]:
        counts = _solve_rows(moving_px, gauge, (start, stop), (displacement, valid))
        return *counts, bool(_folds(moving_px, start, stop))

    folded, crossed, folds = map(sum, zip(*for_chunks(_part, ny, smallest=16), strict=True))
    if folds:
        folded += _refuse_folds(moving_px, gauge, valid)
    return displacement, valid, Refused(folded, crossed)


def _refuse_folds(
    moving_px: npt.NDArray[np.float32],
    gauge: npt.NDArray[np.float64],
    valid: npt.NDArray[np.bool_],
) -> int:
    """Mark pixels whose place the beam passed more than once, forwards and backwards.

    The result says how many of them had counted as valid.
    """
    before = np.count_nonzero(valid)
    advance = moving_px[1, :, 1:] - moving_px[1, :, :-1]
    y, x = np.nonzero(advance > 1 - LEAST_MAGNIFICATION)
    ends = np.stack([np.stack([y, x]), np.stack([y, x + 1])], axis=-1)  # (2, steps, 2)
    places = ends - moving_px[:, ends[0], ends[1]] - gauge[:, :1, None]
    pixels = np.einsum("ab,bnk->ank", np.linalg.inv(gauge[:, 1:]), places)
    rows = np.rint(pixels[0].mean(axis=1)).clip(0, valid.shape[0] - 1).astype(int)
    first = np.floor(pixels[1].min(axis=1)).clip(0).astype(int)
    last = np.ceil(pixels[1].max(axis=1)).clip(0).astype(int)
    for row, start, stop in zip(rows, first, last, strict=True):  # rare, and of different lengths
        valid[row, start : stop + 1] = False
    return int(before - np.count_nonzero(valid))


@numba.njit(cache=True, nogil=True, inline="always")
def _linear(moving, y, x):  # type: ignore[no-untyped-def]
    """Value and slopes of E by linear interpolation; the nearest edge outside."""
    ny, nx = moving.shape[1], moving.shape[2]
    cy, cx = min(max(y, 0.0), ny - 1.0), min(max(x, 0.0), nx - 1.0)
    iy, ix = min(int(cy), ny - 2), min(int(cx), nx - 2)
    fy, fx = cy - iy, cx - ix
    in_y, in_x = 1.0 if cy == y else 0.0, 1.0 if cx == x else 0.0
    a, b = moving[0, iy, ix], moving[0, iy, ix + 1]
    c, d = moving[0, iy + 1, ix], moving[0, iy + 1, ix + 1]
    top, low = a + fx * (b - a), c + fx * (d - c)
    ey, eyy, eyx = top + fy * (low - top), in_y * (low - top), in_x * (b - a + fy * (d - c - b + a))
    a, b = moving[1, iy, ix], moving[1, iy, ix + 1]
    c, d = moving[1, iy + 1, ix], moving[1, iy + 1, ix + 1]
    top, low = a + fx * (b - a), c + fx * (d - c)
    ex, exy, exx = top + fy * (low - top), in_y * (low - top), in_x * (b - a + fy * (d - c - b + a))
    return ey, ex, eyy, eyx, exy, exx


@numba.njit(cache=True, nogil=True, inline="always")
def _catmull_rom(f):  # type: ignore[no-untyped-def]
    """Weights of four neighbours for the value, and for the slope."""
    f2, f3 = f * f, f * f * f
    value = (
        -0.5 * f3 + f2 - 0.5 * f,
        1.5 * f3 - 2.5 * f2 + 1,
        -1.5 * f3 + 2 * f2 + 0.5 * f,
        0.5 * (f3 - f2),
    )
    slope = (-1.5 * f2 + 2 * f - 0.5, 4.5 * f2 - 5 * f, -4.5 * f2 + 4 * f + 0.5, 1.5 * f2 - f)
    return value, slope


@numba.njit(cache=True, nogil=True, inline="always")
def _line(moving, plane, k, s, along):  # type: ignore[no-untyped-def]
    """Value and slope along one line of pixels."""
    (v0, v1, v2, v3), (s0, s1, s2, s3) = along
    e0, e1 = moving[plane, k, s - U(1)], moving[plane, k, s]
    e2, e3 = moving[plane, k, s + U(1)], moving[plane, k, s + U(2)]
    return v0 * e0 + v1 * e1 + v2 * e2 + v3 * e3, s0 * e0 + s1 * e1 + s2 * e2 + s3 * e3


@numba.njit(cache=True, nogil=True, inline="always")
def _four_lines(moving, plane, at, across, along):  # type: ignore[no-untyped-def]
    """Value and slopes (y, x) of one plane from its 16 pixels around a place."""
    (k, s), ((v0, v1, v2, v3), (s0, s1, s2, s3)) = at, across
    a0, d0 = _line(moving, plane, k - U(1), s, along)
    a1, d1 = _line(moving, plane, k, s, along)
    a2, d2 = _line(moving, plane, k + U(1), s, along)
    a3, d3 = _line(moving, plane, k + U(2), s, along)
    value = v0 * a0 + v1 * a1 + v2 * a2 + v3 * a3
    slope_y = s0 * a0 + s1 * a1 + s2 * a2 + s3 * a3
    return value, slope_y, v0 * d0 + v1 * d1 + v2 * d2 + v3 * d3


@numba.njit(cache=True, nogil=True)
def _cubic(moving, y, x):  # type: ignore[no-untyped-def]
    """Value and slopes of E by Catmull-Rom interpolation; linear at the rim."""
    ny, nx = moving.shape[1], moving.shape[2]
    iy, ix = int(np.floor(y)), int(np.floor(x))
    if iy < 1 or ix < 1 or iy > ny - 3 or ix > nx - 3:
        return _linear(moving, y, x)
    at, across, along = (U(iy), U(ix)), _catmull_rom(y - iy), _catmull_rom(x - ix)
    ey, eyy, eyx = _four_lines(moving, U(0), at, across, along)
    ex, exy, exx = _four_lines(moving, U(1), at, across, along)
    return ey, ex, eyy, eyx, exy, exx


@numba.njit(cache=True, nogil=True, inline="always")
def _step(py, px, y, x, e):  # type: ignore[no-untyped-def]
    """One Newton step of s - E(s) = p, of at most 3 px in each direction."""
    ey, ex, eyy, eyx, exy, exx = e
    ry, rx = py + ey - y, px + ex - x
    determinant = (1 - eyy) * (1 - exx) - eyx * exy
    if determinant < 0.05:
        dy, dx = ry, rx
    else:
        dy = ((1 - exx) * ry + eyx * rx) / determinant
        dx = ((1 - eyy) * rx + exy * ry) / determinant
    return y + min(max(dy, -3.0), 3.0), x + min(max(dx, -3.0), 3.0)


@numba.njit(cache=True, nogil=True)
def _subtract(moving, places):  # type: ignore[no-untyped-def]
    for n in range(len(places)):
        e = _cubic(moving, places[n, 0], places[n, 1])
        places[n, 0] -= e[0]
        places[n, 1] -= e[1]


@numba.njit(cache=True, nogil=True)
def _solve_points(moving, places, solution, jacobian, settled):  # type: ignore[no-untyped-def]
    for n in range(len(places)):
        y, x = solution[n]
        for _ in range(MOST_STEPS):
            e = _cubic(moving, y, x)
            new_y, new_x = _step(places[n, 0], places[n, 1], y, x, e)
            moved = abs(new_y - y) + abs(new_x - x)
            y, x = new_y, new_x
            if moved < settled:
                break
        solution[n, 0], solution[n, 1] = y, x
        jacobian[n, 0, 0], jacobian[n, 0, 1] = e[2], e[3]  # before the last step
        jacobian[n, 1, 0], jacobian[n, 1, 1] = e[4], e[5]


@numba.njit(cache=True, nogil=True)
def _solve_pixel(moving, gauge, pixel, start):  # type: ignore[no-untyped-def]
    """Newton steps from a guessed displacement.

    Results: where they end, whether it holds, whether the beam goes forwards along its line there.
    """
    row, column = pixel
    py = gauge[0, 0] + gauge[0, 1] * row + gauge[0, 2] * column
    px = gauge[1, 0] + gauge[1, 1] * row + gauge[1, 2] * column
    y, x = row + np.float64(start[0]), column + np.float64(start[1])
    for k in range(MOST_STEPS):
        e = _cubic(moving, y, x)
        new_y, new_x = _step(py, px, y, x, e)
        moved, share = abs(new_y - y) + abs(new_x - x), 1.0 if k < WHOLE_STEPS else PART
        y, x = y + share * (new_y - y), x + share * (new_x - x)
        if moved < SETTLED_PX:
            break
    forward = (1 - e[2]) * (1 - e[5]) - e[3] * e[4]
    forwards = 1 - e[5] > LEAST_MAGNIFICATION
    holds = forwards and forward > LEAST_MAGNIFICATION and moved < SETTLED_PX
    return (y - row, x - column), holds, forwards


@numba.njit(cache=True, nogil=True)
def _solve_rows(moving, gauge, rows, results):  # type: ignore[no-untyped-def]
    """Each row from those above it: first all inner pixels at once, then the others singly.

    The result counts those inside the scan where no step holds, as `Refused`.
    """
    folded, crossed = 0, 0
    displacement, valid = results
    nx = moving.shape[2]
    guess, good = np.zeros((2, nx), np.float32), np.zeros(nx, np.bool_)
    whole, fraction = np.empty((2, nx), np.int32), np.empty((2, nx), np.float32)
    scratch = whole, fraction, np.empty(2 * nx, np.float32)
    for row in range(rows[0], rows[1]):
        here, there = (displacement[0, row], displacement[1, row]), (guess[0], guess[1])
        _step_row(moving, gauge, (row, there), SETTLED_PX, here, scratch)
        if _left(here[0]) > nx // FEW:
            _step_row(moving, gauge, (row, there), FAR_PX, here, scratch)
            _step_row(moving, gauge, (row, here), SETTLED_PX, here, scratch)
        back, over = _finish_row(moving, gauge, (row, guess), here, good)
        folded, crossed = folded + back, crossed + over
        _mark_valid(here, moving.shape, row, good, valid[row])
        above = max(row - 1, rows[0])
        _extrapolate(here[0], displacement[0, above], guess[0])
        _extrapolate(here[1], displacement[1, above], guess[1])
    return folded, crossed


@numba.njit(cache=True, nogil=True)
def _left(down):  # type: ignore[no-untyped-def]
    """Count the pixels of a row that have no number yet."""
    count = 0
    for j in range(len(down)):
        count += down[j] != down[j]
    return count


@numba.njit(cache=True, nogil=True)
def _extrapolate(here, above, guess):  # type: ignore[no-untyped-def]
    for j in range(len(guess)):
        guess[j] = here[j] + (here[j] - above[j])


@numba.njit(cache=True, nogil=True)
def _split(guess, place, whole, fraction):  # type: ignore[no-untyped-def]
    """Split one axis' guesses in a row into whole pixels and fractions; not a number outside.

    ``place`` is the row's first pixel on this axis, the step from pixel to pixel, and the length
    of the axis. The next pixel exists too: on the last one the fraction is 1.
    """
    first, step, last = np.float32(place[0]), np.float32(place[1]), np.float32(place[2] - 1)
    for j in range(len(guess)):
        low = -first - step * np.float32(np.int32(j))
        high = low + last
        kept = guess[j] if guess[j] > low else low  # not a number: low
        kept = kept if kept < high else high
        shift = np.floor(kept)
        shift = shift if shift < high else high - np.float32(1.0)
        whole[j] = np.int32(shift)
        fraction[j] = kept - shift if kept == guess[j] else np.float32(np.nan)


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def _step_row(moving, gauge, guess, most, here, scratch):  # type: ignore[no-untyped-def]
    """One Newton step of a row, in runs of pixels whose guesses are as many whole pixels away.

    Where it is no shorter than ``most`` the result is not a number.
    """
    row, guessed = guess
    whole, fraction, pairs = scratch
    down, right, nx = whole[0], whole[1], len(here[0])
    _split(guessed[0], (row, 0, moving.shape[1]), down, fraction[0])
    _split(guessed[1], (0, 1, nx), right, fraction[1])
    here[0][:] = np.float32(np.nan)
    start = 0
    while start < nx:
        stop = start + 1
        while stop < nx and down[stop] == down[start] and right[stop] == right[start]:
            stop += 1
        run = row, start, stop, row + down[start], start + right[start]
        if 1 <= run[3] < moving.shape[1] - 2:  # the rim has no cubic
            _step_run(moving, gauge, run, (fraction, np.float32(most)), here, pairs)
        start = stop


@numba.njit(cache=True, nogil=True, inline="always")
def _cubic_weights(f):  # type: ignore[no-untyped-def]
    """`_catmull_rom` in float32."""
    half, one, two, three = np.float32(0.5), np.float32(1.0), np.float32(2.0), np.float32(3.0)
    half_f = half * f
    square = half_f * f
    v0, v3 = -half_f * (one - f) * (one - f), square * (f - one)
    v1 = one + square * (three * f - two - three)
    v2 = one - v0 - v1 - v3
    s0, s3 = two * f - three * square - half, three * square - f
    s1 = three * three * square - (two + three) * f
    return (v0, v1, v2, v3), (s0, s1, -s0 - s1 - s3, s3)


@numba.njit(cache=True, nogil=True, inline="always")
def _inner_step(moving, at, fraction, rest):  # type: ignore[no-untyped-def]
    """One Newton step inside the scan, (y, x), and its length; infinite if the scan turns back."""
    one = np.float32(1.0)
    across, along = _cubic_weights(fraction[0]), _cubic_weights(fraction[1])
    ey, eyy, eyx = _four_lines(moving, U(0), at, across, along)
    ex, exy, exx = _four_lines(moving, U(1), at, across, along)
    ry, rx = rest[0] + ey, rest[1] + ex
    forward = (one - eyy) * (one - exx) - eyx * exy
    by = ((one - exx) * ry + eyx * rx) / forward
    bx = ((one - eyy) * rx + exy * ry) / forward
    least = np.float32(LEAST_MAGNIFICATION)
    holds = (forward > least) & (one - exx > least)
    return by, bx, abs(by) + abs(bx) if holds else np.float32(np.inf)


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy", inline="always")
def _step_run(moving, gauge, run, split, here, pairs):  # type: ignore[no-untyped-def]
    """Equal to the first step of `_solve_pixel` where it is short.

    Whole arrays, unsigned indices, no check for division by zero and one array written in the
    loop, a pair for each pixel, let the compiler take several pixels at a time.
    """
    first = run[1] + max(1 - run[4], 0)  # the rim has no cubic
    last = min(run[2], run[1] + moving.shape[2] - 2 - run[4])
    if last <= first:
        return
    longer = first + (last - first + VECTOR - 1) // VECTOR * VECTOR
    if longer > min(len(here[0]), run[1] + moving.shape[2] - 2 - run[4]):
        longer = last
    a, b, k, m = U(first), U(last), U(run[3]), U(run[4] + first - run[1])
    fraction, most = split
    fraction_y, fraction_x, down, right = fraction[0], fraction[1], here[0], here[1]
    shift_y, shift_x = np.float32(run[3] - run[0]), np.float32(run[4] - run[1])
    along_y, along_x = np.float32(gauge[0, 2]), np.float32(gauge[1, 2] - 1.0)
    begin_y = np.float32(gauge[0, 0] + (gauge[0, 1] - 1.0) * run[0] + gauge[0, 2] * first)
    begin_x = np.float32(gauge[1, 0] + gauge[1, 1] * run[0] + (gauge[1, 2] - 1.0) * first)
    begin_y, begin_x = begin_y - shift_y, begin_x - shift_x
    for j in range(U(longer) - a):
        f = fraction_y[a + j], fraction_x[a + j]
        step = np.float32(np.int32(j))
        rest = begin_y + along_y * step - f[0], begin_x + along_x * step - f[1]
        by, bx, length = _inner_step(moving, (k, m + j), f, rest)
        pairs[U(2) * j] = shift_y + f[0] + by if length < most else np.float32(np.nan)
        pairs[U(2) * j + U(1)] = shift_x + f[1] + bx
    for j in range(b - a):
        down[a + j] = pairs[U(2) * j]
    for j in range(b - a):
        right[a + j] = pairs[U(2) * j + U(1)]


@numba.njit(cache=True, nogil=True)
def _finish_row(moving, gauge, guess, here, good):  # type: ignore[no-untyped-def]
    """Solve what is left of a row pixel by pixel.

    ``good`` tells whether the pixel above was solved, then whether this one is; where not, the
    search begins at the neighbour before. The result counts those inside the scan that are not,
    as `Refused`.
    """
    row, guess = guess
    folded, crossed = 0, 0
    for column in range(len(good)):
        if here[0][column] == here[0][column]:
            good[column] = True
            continue
        start = guess[0, column], guess[1, column]
        if column and not good[column]:
            start = here[0][column - 1], here[1][column - 1]
        found, good[column], forwards = _solve_pixel(moving, gauge, (row, column), start)
        here[0][column], here[1][column] = found
        if not good[column]:
            y, x = row + found[0], column + found[1]
            inside = 0 <= y <= moving.shape[1] - 1 and 0 <= x <= moving.shape[2] - 1
            folded, crossed = folded + (inside and not forwards), crossed + (inside and forwards)
    return folded, crossed


@numba.njit(cache=True, nogil=True)
def _mark_valid(here, shape, row, good, valid):  # type: ignore[no-untyped-def]
    """Whether the place of each solved pixel lies inside the scan."""
    down, right, last = here[0], here[1], np.float32(shape[2] - 1)
    top, bottom = -np.float32(row), np.float32(shape[1] - 1 - row)
    for j in range(len(valid)):
        left = -np.float32(np.int32(j))
        inside = (down[j] >= top) & (down[j] <= bottom)
        valid[j] = good[j] & inside & (right[j] >= left) & (right[j] <= left + last)


@numba.njit(cache=True, nogil=True)
def _folds(moving, start, stop):  # type: ignore[no-untyped-def]
    """Whether the beam turns back anywhere in some rows of the scan."""
    most = np.float32(0.0)
    for row in range(start, stop):
        along = moving[1, row]
        for j in range(len(along) - 1):
            advance = along[j + 1] - along[j]
            most = advance if advance > most else most
    return most > np.float32(1 - LEAST_MAGNIFICATION)
