"""Lattice sites and columns -> the ideal lattice, in closed form."""

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._order import median

__all__ = ["fit_motif", "refine_lattice"]

Array = npt.NDArray[np.float64]

TUKEY = 4.685
"""Cut of Tukey's biweight in standard deviations: 95 % efficient where there are no outliers."""

PASSES = 4
"""Reweightings; after four the weights stand still to 1 %."""

MEDIAN_LENGTH = 1.1774
"""Median length of a normal vector in the plane, in standard deviations."""


def refine_lattice(sites: Array, positions_px: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Fit origin and basis to columns: minimise Z = sum w |x - (o + X B)|^2, outliers discounted.

    Parameters
    ----------
    sites : ndarray, shape (n, 2)
        Crystal site X of each column, in cells.
    positions_px : ndarray, shape (n, 2)
        Where each was seen.
    weights : ndarray, shape (n,)
        Inverse variances, up to a common factor.

    Returns
    -------
    origin_px : ndarray, shape (2,)
        The fitted o.
    basis_px : ndarray, shape (2, 2)
        The fitted B; rows are the basis vectors.
    robust : ndarray, shape (n,)
        Tukey weight of each column, 0 (outlier) to 1, to multiply ``weights`` with.

    Raises
    ------
    ValueError
        If fewer than three sites are given or they lie on one line.

    Notes
    -----
    The paper turns and scales the lattice with Nelder-Mead on Z [1]_; Z is quadratic in o and B,
    so its minimum is a linear least squares, here repeated with Tukey's biweight [2]_.

    References
    ----------
    .. [1] K. M. Roccapriore et al., Identification and Correction of Temporal and Spatial
       Distortions in Scanning Transmission Electron Microscopy, Ultramicroscopy, 2021, Eq. (3).
    .. [2] P. J. Huber, E. M. Ronchetti, Robust Statistics, Wiley, 2009.
    """
    design = np.column_stack([np.ones(len(sites)), sites])
    if len(design) < 3 or np.linalg.matrix_rank(design - [0, *sites.mean(0)]) < 3:
        raise ValueError("sites must be at least three that are not on one line")
    solution, robust = _robust_solution(design, positions_px, weights)
    return solution[0], solution[1:], robust


def fit_motif(
    indices: npt.NDArray[np.int64],
    sublattice: npt.NDArray[np.int64],
    positions_px: Array,
    weights: Array,
) -> tuple[Array, Array, Array, Array]:
    """Fit basis and the place of each sublattice together, outliers discounted.

    Parameters
    ----------
    indices : ndarray, shape (n, 2)
        Cell of each column.
    sublattice : ndarray, shape (n,)
        Row of the motif; every row occurs.
    positions_px : ndarray, shape (n, 2)
        Where each was seen.
    weights : ndarray, shape (n,)
        Inverse variances, up to a common factor.

    Returns
    -------
    origin_px : ndarray, shape (2,)
        Place of site (0, 0) of the first sublattice.
    basis_px : ndarray, shape (2, 2)
        Rows are the basis vectors.
    motif : ndarray, shape (m, 2)
        Fractional place of each sublattice; the first is (0, 0).
    robust : ndarray, shape (n,)
        Tukey weight of each column.
    """
    count = int(sublattice.max()) + 1
    centre = positions_px.mean(0)
    design = indices.astype(float)
    places, weights = positions_px - centre, np.array(weights)
    robust = np.ones(len(places))
    for _ in range(PASSES):
        normal, right = _normal_equations(design, sublattice, places, weights * robust, count)
        solution = np.linalg.solve(normal, right)
        square = _squares(design, sublattice, places, solution)
        robust = _tukey(square * weights, weights)
    origins, basis = solution[:count] + centre, solution[count:]
    return origins[0], basis, (origins - origins[0]) @ np.linalg.inv(basis), robust


@numba.njit(cache=True, nogil=True)
def _normal_equations(cells, sublattice, places, weights, count):  # type: ignore[no-untyped-def]
    """Sum the products of the design: one constant for each sublattice, then i and j."""
    normal, right = np.zeros((count + 2, count + 2)), np.zeros((count + 2, 2))
    for n in range(len(cells)):
        s, w, i, j = sublattice[n], weights[n], cells[n, 0], cells[n, 1]
        normal[s, s] += w
        normal[s, count] += w * i
        normal[s, count + 1] += w * j
        normal[count, count] += w * i * i
        normal[count, count + 1] += w * i * j
        normal[count + 1, count + 1] += w * j * j
        for axis in range(2):
            right[s, axis] += w * places[n, axis]
            right[count, axis] += w * i * places[n, axis]
            right[count + 1, axis] += w * j * places[n, axis]
    for a in range(count + 2):
        for b in range(a):
            normal[a, b] = normal[b, a]
    return normal, right


@numba.njit(cache=True, nogil=True)
def _squares(cells, sublattice, places, solution):  # type: ignore[no-untyped-def]
    """Squared distance of each place from its site."""
    count = len(solution) - 2
    squares = np.empty(len(cells))
    for n in range(len(cells)):
        i, j, s = cells[n, 0], cells[n, 1], sublattice[n]
        dy = places[n, 0] - solution[s, 0] - i * solution[count, 0] - j * solution[count + 1, 0]
        dx = places[n, 1] - solution[s, 1] - i * solution[count, 1] - j * solution[count + 1, 1]
        squares[n] = dy * dy + dx * dx
    return squares


def _robust_solution(design: Array, positions: Array, weights: Array) -> tuple[Array, Array]:
    """Solve by normal equations: three unknowns, scaled."""
    scale = np.maximum(np.abs(design).max(0), 1.0)
    design = design / scale
    robust = np.ones(len(design))
    for _ in range(PASSES):
        weighted = design * (weights * robust)[:, None]
        solution = np.linalg.solve(design.T @ weighted, weighted.T @ positions)
        robust = _tukey(((positions - design @ solution) ** 2).sum(1) * weights, weights)
    return solution / scale[:, None], robust


def _tukey(squares: Array, weights: Array) -> Array:
    """Biweight of squared, weighted distances."""
    # a floor for exact data
    spread = np.sqrt(median(squares)) / MEDIAN_LENGTH + 1e-9 * np.sqrt(weights.max())
    return np.asarray(np.maximum(1 - squares / (TUKEY * spread) ** 2, 0.0) ** 2)
