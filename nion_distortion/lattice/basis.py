"""Column positions -> basis vectors and motif, in two independent ways."""

import cv2
import numba
import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter

from nion_distortion.lattice.neighbours import column_spacing_px, vectors_within

__all__ = [
    "basis_from_fourier",
    "basis_from_neighbours",
    "fold_motif",
    "primitive",
    "reduced",
    "same_lattice",
]

Array = npt.NDArray[np.float64]

PATCH = (100, 420)
"""Columns of the neighbourhood that the basis is taken from: a quarter of all, within these
limits."""

REACH = 3.0
"""Greatest length of neighbour vectors, in column spacings: all crystals here repeat within two."""

BIN, BLUR, CATCH = 0.06, 0.09, 0.25
"""Bin and smoothing (sigma) of the histogram of neighbour vectors, and radius of a cluster; in
column spacings."""

LEAST_SHARE, RELATIVE_SHARE = 0.55, 0.78
"""A lattice vector leads to another column from at least the first share of all columns, and from
at least the second share of as many as the best vector does; a vector between two sublattices does
so from half of the columns."""

LEAST_OCCUPANCY = 0.25
"""A sublattice has at least this share of the fullest one's columns."""


REPEATED = 0.3
"""Tolerance, in column spacings, within which a translation has to map the motif onto itself for
the cell to be reduced: columns that zigzag by a tenth still become one sublattice."""


def reduced(basis_px: Array) -> Array:
    """Shorten two vectors to the shortest that span the same lattice (Lagrange and Gauss).

    Parameters
    ----------
    basis_px : ndarray, shape (2, 2)
        Rows are the vectors.

    Returns
    -------
    ndarray, shape (2, 2)
        The shorter first, angle 60 to 120 degrees.
    """
    short, long = sorted(np.array(basis_px, float), key=lambda v: float(v @ v))
    while True:
        long = long - np.rint(long @ short / (short @ short)) * short
        if long @ long >= short @ short * (1 - 1e-12):
            return np.array([short, long])
        short, long = long, short


def same_lattice(one_px: Array, two_px: Array, tolerance: float = 0.1) -> bool:
    """Whether two bases span the same lattice.

    Parameters
    ----------
    one_px, two_px : ndarray, shape (2, 2)
        Rows are the vectors.
    tolerance : float, default: 0.1
        Largest departure from whole numbers.

    Returns
    -------
    bool
        True if each is a whole-numbered combination of the other.
    """
    step = one_px @ np.linalg.inv(two_px)
    whole = np.rint(step)
    return bool(np.abs(step - whole).max() < tolerance and abs(round(np.linalg.det(whole))) == 1)


def basis_from_neighbours(positions_px: Array, centre_px: Array) -> tuple[Array | None, float]:
    """Find the basis by clustering the vectors from columns to their neighbours.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        The columns.
    centre_px : ndarray, shape (2,)
        Middle of the neighbourhood.

    Returns
    -------
    basis_px : ndarray, shape (2, 2), or None
        The shortest two vectors at which most columns have another one; None without such.
    share : float
        Share of the columns that have a neighbour at the best vector.

    Notes
    -----
    As in the paper's supplement [1]_, but all neighbours within three column spacings are
    clustered by angle and length at once (as points of a plane), so that any cell is found, and a
    cluster counts only if most columns contribute to it: vectors from one sublattice to
    another start at half of the columns.

    References
    ----------
    .. [1] K. M. Roccapriore et al., Ultramicroscopy, 2021, supplement, "Atomic indexing
       procedure".
    """
    patch, radius = _patch(positions_px, centre_px)
    if len(patch) < 10:
        return None, 0.0
    spacing = column_spacing_px(patch)
    reach = min(REACH * spacing, 0.5 * radius)
    starts, steps = _neighbour_vectors(patch, centre_px, radius - reach, reach)
    peaks = _vector_clusters(steps, reach, spacing)
    if len(peaks) < 2:
        return None, 0.0
    count = int(starts.max()) + 1
    vectors, share = _shares(starts, steps, peaks, CATCH * spacing, count)
    good = share >= max(LEAST_SHARE, RELATIVE_SHARE * float(share.max()))
    return _span(vectors[good]), float(share.max())


def _patch(positions: Array, centre: Array) -> tuple[Array, float]:
    distance = np.hypot(*(positions - centre).T)
    count = int(np.clip(len(positions) // 4, *PATCH))
    if len(positions) > count:
        nearest = np.argpartition(distance, count)[:count]
        return positions[nearest], float(distance[nearest].max())
    return positions, float(distance.max())


def _neighbour_vectors(
    patch: Array, centre: Array, inner: float, reach: float
) -> tuple[npt.NDArray[np.int64], Array]:
    """From columns whose whole surroundings are in the patch: (their number, the vector)."""
    starts = patch[np.hypot(*(patch - centre).T) <= inner]
    return vectors_within(starts, patch, reach)


def _vector_clusters(steps: Array, reach: float, spacing: float) -> Array:
    """Maxima of the smoothed density of vectors, one of each pair v and -v; shape (k, 2)."""
    half = int(np.ceil(reach / (BIN * spacing))) + 2
    size = 2 * half + 1
    bins = np.rint(steps / (BIN * spacing)).astype(int) + half
    counts = np.bincount(bins[:, 0] * size + bins[:, 1], minlength=size * size)
    both = (counts + counts[::-1]).reshape(size, size).astype(np.float32)
    density = np.asarray(cv2.GaussianBlur(both, (0, 0), BLUR / BIN))
    highest = density >= cv2.dilate(density, np.ones((5, 5), np.uint8))
    highest &= density > 0.2 * density.max()
    highest[half + 1 :] = False
    highest[half, half:] = False
    return np.asarray((np.argwhere(highest) - half) * (BIN * spacing))


def _shares(
    starts: npt.NDArray[np.int64], steps: Array, peaks: Array, catch: float, count: int
) -> tuple[Array, Array]:
    """Mean vector of each cluster, and the share of columns with a neighbour in it."""
    for _ in range(2):
        peaks, hits = _cluster_means(starts, steps, peaks, catch)
    return peaks, hits / count


@numba.njit(cache=True, nogil=True)
def _cluster_means(starts, steps, peaks, catch):  # type: ignore[no-untyped-def]
    """Both v and -v are clusters of the same vector; a column counts once for each of them."""
    sums = np.zeros((len(peaks), 2))
    members = np.zeros(len(peaks))
    hits = np.zeros(len(peaks))
    for k in range(len(peaks)):
        for sign in (1.0, -1.0):
            last = -1
            for p in range(len(steps)):
                dy = sign * steps[p, 0] - peaks[k, 0]
                dx = sign * steps[p, 1] - peaks[k, 1]
                if dy * dy + dx * dx < catch * catch:
                    sums[k, 0] += dy
                    sums[k, 1] += dx
                    members[k] += 1
                    if starts[p] != last:
                        hits[k] += 0.5
                        last = starts[p]
    means = peaks.copy()
    for k in range(len(peaks)):
        if members[k] > 0:
            means[k] += sums[k] / members[k]
    return means, hits


def _span(vectors: Array) -> Array | None:
    """Reduced basis of the lattice that these vectors belong to, averaged over all of them."""
    if len(vectors) < 2:
        return None
    vectors = vectors[np.argsort((vectors**2).sum(1))]
    cross = vectors[0, 0] * vectors[:, 1] - vectors[0, 1] * vectors[:, 0]
    apart = np.flatnonzero(np.abs(cross) > 0.3 * (vectors[0] ** 2).sum())
    if not len(apart):
        return None
    basis = reduced(vectors[[0, apart[0]]])
    steps = vectors @ np.linalg.inv(basis)
    whole = np.rint(steps)
    near = np.abs(steps - whole).max(1) < 0.25
    return reduced(np.linalg.lstsq(whole[near], vectors[near], rcond=None)[0])


FOURIER_SIZE, FOURIER_PIXEL = 256, 0.1
"""Side of the grid for the structure factor, and its pixel in column spacings."""

PASSBAND = 64
"""Spatial frequencies, in reciprocal pixels, up to which peaks are looked for: half of Nyquist's.
Points have no band limit, so spots beyond Nyquist's frequency fold back. Those that fold back to
here come from beyond 1.5 times it, where sharing among four pixels leaves 1 % of their power."""

MARGIN = 2
"""Columns on the other side of the axis that a maximum at the axis is compared with."""

FOURIER_PEAKS, WEAKEST = 24, 0.1
"""Most peaks that the reciprocal basis has to explain, and the weakest against the strongest."""


def basis_from_fourier(positions_px: Array, centre_px: Array) -> Array | None:
    """Find the basis from the peaks of the structure factor |sum_n exp(2 pi i k x_n)|^2.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        The columns.
    centre_px : ndarray, shape (2,)
        Middle of the neighbourhood that is transformed.

    Returns
    -------
    ndarray, shape (2, 2), or None
        Basis of the lattice whose reciprocal lattice holds the strongest peaks; None where they
        belong to no lattice.
    """
    patch, radius = _patch(positions_px, centre_px)
    if len(patch) < 10:
        return None
    spacing = column_spacing_px(patch)
    pixel = FOURIER_PIXEL * spacing
    power = _structure_factor((patch - centre_px) / pixel, radius / pixel)
    peaks = _reciprocal_peaks(power)
    reciprocal = _reciprocal_basis(peaks)
    if reciprocal is None:
        return None
    return reduced(np.asarray(np.linalg.inv(reciprocal).T * (FOURIER_SIZE * pixel)))


def _structure_factor(places: Array, radius: float) -> npt.NDArray[np.float32]:
    """Power on half of the passband; Hann window, points spread bilinearly on the grid."""
    window = np.cos(0.5 * np.pi * np.minimum(np.hypot(*places.T) / (radius + 1e-9), 1)) ** 2
    corner = np.floor(places).astype(int)
    part = places - corner
    image = np.zeros(FOURIER_SIZE * FOURIER_SIZE)
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cell = (corner + step) % FOURIER_SIZE
        share = np.abs(1 - np.array(step) - part).prod(1) * window
        image += np.bincount(
            cell[:, 0] * FOURIER_SIZE + cell[:, 1], share, FOURIER_SIZE * FOURIER_SIZE
        )
    spectrum = scipy.fft.rfft2(image.reshape(FOURIER_SIZE, FOURIER_SIZE).astype(np.float32))
    rows = np.arange(-PASSBAND - 1, PASSBAND + 2)
    right = np.abs(spectrum[rows, : PASSBAND + 2]) ** 2
    # the power at -k is that at k; peaks near the axis need what is left of it
    return np.concatenate([right[::-1, MARGIN:0:-1], right], axis=1)


def _reciprocal_peaks(power: npt.NDArray[np.float32]) -> Array:
    """Strongest maxima, one of each pair k and -k, to a fraction of a pixel; shape (k, 2)."""
    half = len(power) // 2
    rows, columns = np.ogrid[-half : half + 1, -MARGIN : PASSBAND + 2]
    # without the window's own peak
    searched = np.where(rows**2 + columns**2 < 36, np.float32(0), power)
    highest = searched >= cv2.dilate(searched, np.ones((5, 5), np.uint8))
    highest &= searched > WEAKEST * searched.max()
    highest &= (columns > 0) | ((columns == 0) & (rows > 0))
    highest[0], highest[-1], highest[:, -1] = False, False, False
    places = np.argwhere(highest)
    order = np.argsort(-searched[highest], kind="stable")[:FOURIER_PEAKS]
    row, column = places[order].T
    above, here, below = power[row - 1, column], power[row, column], power[row + 1, column]
    left, right = power[row, column - 1], power[row, column + 1]
    # a Gaussian through three points
    return np.column_stack(
        [row - half + _summit(above, here, below), column - MARGIN + _summit(left, here, right)]
    )


def _summit(
    before: npt.NDArray[np.float32], here: npt.NDArray[np.float32], after: npt.NDArray[np.float32]
) -> Array:
    logs = np.log(np.stack([before, here, after]).astype(float) + 1e-30)
    bend = 2 * logs[1] - logs[0] - logs[2]
    return np.asarray(np.clip(0.5 * (logs[2] - logs[0]) / np.maximum(bend, 1e-9), -0.5, 0.5))


def _reciprocal_basis(peaks: Array) -> Array | None:
    """Find the coarsest basis of which at least four in five strong peaks are whole multiples."""
    if len(peaks) < 2:
        return None
    short = peaks[np.argsort((peaks**2).sum(1), kind="stable")][:8]
    first, second = np.triu_indices(len(short), 1)
    pairs = np.stack([short[first], short[second]], 1)
    area = np.abs(np.linalg.det(pairs))
    pairs = pairs[area > 0.3 * (pairs**2).sum(2).max(1)]
    if not len(pairs):
        return None
    step = peaks @ np.linalg.inv(pairs)
    fits = np.abs(step - np.rint(step)).max(2) < 0.15
    share = fits.mean(1)
    score = np.where(share >= 0.8, share * np.abs(np.linalg.det(pairs)) ** 0.05, 0)
    best = int(score.argmax())
    if score[best] == 0:
        return None
    whole = np.rint(step[best][fits[best]])
    basis, _, rank, _ = np.linalg.lstsq(whole, peaks[fits[best]], rcond=None)
    return np.asarray(basis) if rank == 2 else None


def fold_motif(positions_px: Array, centre_px: Array, basis_px: Array) -> tuple[Array, Array]:
    """Find the columns' places in the cell by folding the neighbourhood into one cell.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        The columns.
    centre_px : ndarray, shape (2,)
        Middle of the neighbourhood; the cell's corner.
    basis_px : ndarray, shape (2, 2)
        Rows are the basis vectors.

    Returns
    -------
    motif : ndarray, shape (m, 2)
        Fractional place of each cluster, relative to ``centre_px``; the fullest first.
    occupancy : ndarray, shape (m,)
        Columns in each, as a share of the fullest.
    """
    patch, _ = _patch(positions_px, centre_px)
    inner = np.argsort(np.hypot(*(patch - centre_px).T), kind="stable")[: PATCH[1] // 2]
    places = ((patch[inner] - centre_px) @ np.linalg.inv(basis_px)) % 1.0
    lengths = np.hypot(*basis_px.T)
    spacing = column_spacing_px(patch)
    size = np.maximum(8, np.rint(lengths / (BIN * spacing))).astype(int)
    bins = np.minimum((places * size).astype(int), size - 1)
    density = np.bincount(bins[:, 0] * size[1] + bins[:, 1], minlength=int(size.prod()))
    density = gaussian_filter(density.reshape(size).astype(float), BLUR / BIN, mode="wrap")
    wrapped = np.pad(density, 2, mode="wrap").astype(np.float32)
    highest = (wrapped >= cv2.dilate(wrapped, np.ones((5, 5), np.uint8)))[2:-2, 2:-2]
    peaks = (np.argwhere(highest & (density > 0.1 * density.max())) + 0.5) / size
    return _folded_clusters(places, peaks, basis_px, CATCH * spacing)


def primitive(basis_px: Array, motif: Array) -> tuple[Array, Array]:
    """Reduce a cell whose motif repeats within it to the primitive one.

    Parameters
    ----------
    basis_px : ndarray, shape (2, 2)
        Rows are the basis vectors.
    motif : ndarray, shape (m, 2)
        Fractional places of the sublattices.

    Returns
    -------
    basis_px : ndarray, shape (2, 2)
        Reduced basis of all translations that map the motif onto itself.
    motif : ndarray, shape (k, 2)
        Those sublattices that are not repetitions of earlier ones.
    """
    limit = REPEATED * np.sqrt(abs(np.linalg.det(basis_px)) / len(motif))
    steps = [t for t in motif[1:] - motif[0] if _farthest(motif + t, motif, basis_px) < limit]
    if not steps:
        return basis_px, motif
    whole = np.mgrid[-1:2, -1:2].reshape(2, -1).T[:, None]
    vectors = (np.array([np.zeros(2), *steps]) + whole).reshape(-1, 2) @ basis_px
    vectors = vectors[np.argsort((vectors**2).sum(1), kind="stable")][1:]
    cross = vectors[0, 0] * vectors[:, 1] - vectors[0, 1] * vectors[:, 0]
    smaller = reduced(vectors[[0, np.flatnonzero(np.abs(cross) > limit**2)[0]]])
    places = motif @ basis_px @ np.linalg.inv(smaller)
    kept: list[int] = []
    for k in range(len(places)):
        if not kept or _farthest(places[[k]], places[kept], smaller) > limit:
            kept.append(k)
    return smaller, places[kept] % 1.0


def _farthest(places: Array, others: Array, basis: Array) -> float:
    """Largest distance from one of the places to the nearest of the others, whole cells apart."""
    step = places[:, None] - others
    off = ((step - np.rint(step)) @ basis) ** 2
    return float(np.sqrt(off.sum(2).min(1).max()))


def _folded_clusters(
    places: Array, peaks: Array, basis: Array, catch: float
) -> tuple[Array, Array]:
    count = np.zeros(len(peaks))
    for _ in range(2):
        step = places[None] - peaks[:, None]
        step -= np.rint(step)
        near = ((step @ basis) ** 2).sum(-1) < catch**2
        count = near.sum(1)
        peaks = peaks + (step * near[..., None]).sum(1) / np.maximum(count, 1)[:, None]
    order = np.argsort(-count, kind="stable")
    kept: list[int] = []
    for k in order:
        step = peaks[kept] - peaks[k]
        step -= np.rint(step)
        apart = not kept or ((step @ basis) ** 2).sum(1).min() > catch**2
        if apart and count[k] >= LEAST_OCCUPANCY * count[order[0]]:
            kept.append(int(k))
    return peaks[kept], count[kept] / max(count[order[0]], 1)
