"""Lattice sites and columns -> the ideal lattice, in closed form."""

import numpy as np
import numpy.typing as npt

__all__ = ["fit_motif", "refine_lattice"]

Array = npt.NDArray[np.float64]

TUKEY = 4.685
"""Cut of Tukey's biweight in standard deviations: 95 % efficient where there are no outliers."""

PASSES = 5
"""Reweightings; the weights stand still to 1 % after four."""


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
    member = (sublattice[:, None] == np.arange(count)).astype(float)
    solution, robust = _robust_solution(np.column_stack([member, indices]), positions_px, weights)
    origins, basis = solution[:count], solution[count:]
    return origins[0], basis, (origins - origins[0]) @ np.linalg.inv(basis), robust


def _robust_solution(design: Array, positions: Array, weights: Array) -> tuple[Array, Array]:
    """Solve by normal equations: a handful of unknowns, well scaled by the centred columns."""
    scale = np.maximum(np.abs(design).max(0), 1.0)
    design = design / scale
    robust = np.ones(len(design))
    for _ in range(PASSES):
        weighted = design * (weights * robust)[:, None]
        solution = np.linalg.solve(design.T @ weighted, weighted.T @ positions)
        robust = _tukey(positions - design @ solution, weights)
    return solution / scale[:, None], robust


def _tukey(error: Array, weights: Array) -> Array:
    size = np.sqrt((error**2).sum(1) * weights)
    # the median length of a 2-D normal vector is 1.1774 standard deviations; a floor for exact data
    spread = max(float(np.median(size)) / 1.1774, 1e-9 * float(np.sqrt(weights.max())))
    return np.asarray(np.maximum(1 - (size / (TUKEY * spread)) ** 2, 0.0) ** 2)
