"""The gauge of a field: the map G of the sample that the reference cannot determine.

It is affine, a similarity or rigid, by the reference, and fixed by convention: over the pixels that
the scan saw, the displacement ``s(G u) - u`` shall have no least-squares part of that class.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import owned
from nion_distortion.frame import UnusableFrameError
from nion_distortion.scan_places import scan_places

__all__ = ["FREEDOMS", "IDENTITY", "Freedom", "composed", "find_gauge", "fitted", "moved_to_zero"]

Array = npt.NDArray[np.float64]

Freedom = Literal["affine", "similarity", "rigid"]
"""What a reference leaves unknown: any affine map, a similarity, or a rotation and a shift."""

FREEDOMS: Mapping[str, Freedom] = MappingProxyType(
    {
        "free": "affine",
        "similarity": "similarity",
        "known crystal": "rigid",
        "Fourier filtered": "affine",
        "stack average": "affine",
        "another field": "affine",
    }
)
"""What each reference, by the name that fields give it, leaves unknown."""

SHAPES = 8
"""Frame shapes whose blocks are kept: all frames of a run have the same."""

IDENTITY = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
IDENTITY.flags.writeable = False

GAUGE_EDGE_PX, GAUGE_GROWTH = 16, 1.3
"""The gauge is fitted to this many single pixels at each edge, and to blocks between them that grow
by this factor towards the middle."""

LEAST_SEEN = 0.1
"""Share of the corrected picture that the scan must have seen: of less no map is known."""

GAUGE_PASSES, GAUGE_STANDS_STILL_PX = 8, 2e-3
"""Most passes, and the change that ends them; each pass leaves a fiftieth of its change, so that
the result is within 1e-4 px."""

SETTLED_PX = 0.01
"""Last Newton step of a block's place: what it leaves, its square, moves the gauge by 2e-8 px."""


def find_gauge(
    moving_px: npt.NDArray[np.float32],
    *,
    freedom: Freedom = "affine",
    start: Array = IDENTITY,
) -> Array:
    """Find the gauge: the map G of the sample for which ``s(G u) - u`` has no part of a class.

    Parameters
    ----------
    moving_px : ndarray of float32, shape (2, ny, nx)
        D, or D + W_k, at every pixel of the scan.
    freedom : {"affine", "similarity", "rigid"}
        The class: what the reference leaves unknown.
    start : ndarray, shape (2, 3)
        What the reference determines of G; does not matter where an affine map is free.

    Returns
    -------
    ndarray, shape (2, 3)
        ``G u = gauge @ [1, u_y, u_x]``; differs from ``start`` by a member of the class.

    Raises
    ------
    UnusableFrameError
        If less than a tenth of the corrected picture would show a place in the scan.
    """
    _, ny, nx = moving_px.shape
    grid = _Blocks.of(ny, nx)
    gauge, seen = start, grid.pixels
    places = _mapped(gauge, grid.pixels)
    last = np.array([ny - 1.0, nx - 1.0])
    for _ in range(GAUGE_PASSES):
        seen, _ = scan_places(moving_px, places, seen, settled_px=SETTLED_PX)
        inside = grid.weights * ((seen >= 0.0) & (seen <= last)).all(axis=1)
        if not inside.sum() > LEAST_SEEN * grid.weights.sum():
            raise UnusableFrameError(
                "the fit of the distortion ran away: hardly a pixel of the corrected picture would "
                "show a place in the scan"
            )
        member = fitted(grid.pixels, seen - grid.pixels, inside, freedom)
        gauge = composed(gauge, _without(member, freedom))
        if np.abs(member @ [1.0, ny, nx]).max() < GAUGE_STANDS_STILL_PX:
            break
        before, places = places, _mapped(gauge, grid.pixels)
        seen = seen + (places - before)
    return gauge


def fitted(places: Array, vectors: Array, weights: Array, freedom: Freedom) -> Array:
    """Fit a member of a class to vectors by least squares.

    Parameters
    ----------
    places : ndarray, shape (n, 2)
        Where the vectors are, (y, x).
    vectors : ndarray, shape (n, 2)
        The vectors.
    weights : ndarray, shape (n,)
        Of each.
    freedom : {"affine", "similarity", "rigid"}
        The class; small rotations are linear.

    Returns
    -------
    ndarray, shape (2, 3)
        ``vector = result @ [1, y, x]``.
    """
    middle = weights @ places / weights.sum()
    affine = np.ones((3, len(places)))
    affine[1:] = (places - middle).T
    weighted = affine * weights
    gram, right = weighted @ affine.T, weighted @ vectors
    if freedom == "affine":
        member = np.linalg.solve(gram, right).T
    else:  # about the middle shift, turn and scale do not depend on each other
        spread = max(float(gram[1, 1] + gram[2, 2]), np.finfo(np.float64).tiny)
        turn = (right[1, 1] - right[2, 0]) / spread
        scale = (right[1, 0] + right[2, 1]) / spread if freedom == "similarity" else 0.0
        shift = right[0] / gram[0, 0]
        member = np.array([[shift[0], scale, -turn], [shift[1], turn, scale]])
    member[:, 0] -= member[:, 1:] @ middle
    return np.asarray(member)


def composed(outer: Array, inner: Array) -> Array:
    """Apply one affine map after another.

    Parameters
    ----------
    outer, inner : ndarray, shape (2, 3)
        The maps.

    Returns
    -------
    ndarray, shape (2, 3)
        ``u -> outer(inner(u))``.
    """
    result: Array = outer[:, 1:] @ inner
    result[:, 0] += outer[:, 0]
    return result


def moved_to_zero(
    moving_px: npt.NDArray[np.float32], gauge: Array, zero_px: tuple[float, float]
) -> Array:
    """Shift a gauge so that one place is not displaced.

    Parameters
    ----------
    moving_px : ndarray of float32, shape (2, ny, nx)
        As in `find_gauge`.
    gauge : ndarray, shape (2, 3)
        The gauge.
    zero_px : tuple of float
        The place (y, x) of the corrected image.

    Returns
    -------
    ndarray, shape (2, 3)
        The gauge for which ``s(G zero) = zero``.
    """
    place = np.array([zero_px])
    for _ in range(GAUGE_PASSES):
        seen, _ = scan_places(moving_px, _mapped(gauge, place), place)
        gauge = composed(gauge, np.c_[(place - seen)[0], np.eye(2)])
        if np.abs(seen - place).max() < GAUGE_STANDS_STILL_PX:
            break
    return gauge


def _mapped(gauge: Array, pixels: Array) -> Array:
    return np.asarray(pixels @ gauge[:, 1:].T + gauge[:, 0])


def _without(member: Array, freedom: Freedom) -> Array:
    """``u -> u - member(u)``; a rotation by its exact matrix, which does not scale."""
    if freedom != "rigid":
        return np.asarray(IDENTITY - member)
    turn = -member[1, 1]
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.array([[-member[0, 0], cosine, -sine], [-member[1, 0], sine, cosine]])


class _Blocks(NamedTuple):
    """Blocks of pixels that decide the gauge."""

    pixels: Array  # (n, 2): their centres
    weights: Array  # (n,): their areas

    @classmethod
    @functools.lru_cache(maxsize=SHAPES)
    def of(cls, ny: int, nx: int) -> "_Blocks":
        (y, tall), (x, wide) = _along(ny), _along(nx)
        pixels = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
        return cls(owned(pixels), owned(np.outer(tall, wide).ravel()))


def _along(length: int) -> tuple[Array, Array]:
    """Centres and widths of blocks that cover the pixels: single ones at both edges.

    Where the scan's edge lies counts to a fraction of a pixel, and there distortion is strongest.
    """
    widths = np.ones(GAUGE_EDGE_PX).tolist()
    while sum(widths) < length / 2:
        widths.append(min(GAUGE_GROWTH * widths[-1], length / GAUGE_EDGE_PX))
    ends = np.rint(np.cumsum(widths))
    ends = ends[ends < length / 2]
    edges = np.r_[0.0, ends, length - ends[::-1], length]
    return 0.5 * (edges[1:] + edges[:-1] - 1), np.diff(edges)
