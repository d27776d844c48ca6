"""Information from column widths about fine displacements along x, which positions average out."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import owned
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.cosines import cosines, on_interval
from nion_distortion.gaussian_process.weights import Information

__all__ = ["Widths", "information_of_widths"]

Array = npt.NDArray[np.float64]

ODD = 4.0
"""Standard deviations beyond which a width is an outlier (of its column, not of the scan)."""

MAD = 1.4826
"""Standard deviation over median absolute deviation, of normal errors."""


class Widths(NamedTuple):
    """How broad the columns of one frame are."""

    places_px: Array
    """Where the model expects them in the scan, (n, 2)."""
    broadening: Array
    """Log of the width over that of the kind, and its variance, (n, 2)."""
    robust: Array
    """Weight of each column, 0 to 1, (n,)."""


def information_of_widths(basis: Basis, mean: Array, frames: Iterable[Widths]) -> Information:
    """Gather what widths say about the functions of x alone.

    Parameters
    ----------
    basis : Basis
        The functions.
    mean : ndarray, shape (2, stationary_size)
        Present weights of D: the broadening by all its other functions is subtracted.
    frames : iterable of Widths
        The columns of each frame.

    Returns
    -------
    Information
        About all weights of D; zero except for the displacement along x by functions of x alone.

    Notes
    -----
    Displacements of a wavelength of about eight sigma are averaged away in the position of a
    column, and stretch it instead. Its width is compared with that of its kind in the same frame,
    so that no scale of the image is needed. With ``sin(a) sin(b) = (cos(a - b) - cos(a + b)) / 2``
    sums over the columns need each function once.
    """
    size, fast = basis.stationary_size, basis.slices["fast"]
    blocks, vector = np.zeros((2, size, size)), np.zeros((2, size))
    number = np.arange(1, fast.stop - fast.start + 1)
    slopes = _other_slopes(basis, mean)
    factors = -np.sqrt(2.0) * basis.broadened_along_x(number.astype(np.float64))
    known = factors * mean[1, fast]
    for frame in frames:
        u = on_interval(frame.places_px[:, 1], basis.shape_px[1], basis.margin)
        table = cosines(u, 2 * len(number) + 1)
        table[1:] /= np.sqrt(2.0)
        # sin(a) sin(m a) = (cos((m - 1) a) - cos((m + 1) a)) / 2; no place is at an end
        twice = 0.5 / np.sin(np.pi * u)
        targets = frame.broadening[:, 0] - _at(slopes, frame.places_px)
        expected = twice * (known @ (table[number - 1] - table[number + 1]))
        weights = _weights(frame, targets - expected)
        total = weights.sum()
        if not total > 0.0:
            continue
        targets -= weights @ (targets - expected) / total
        pulls = table[: len(number) + 2] @ (weights * targets * twice)
        vector[1, fast] += factors * (pulls[number - 1] - pulls[number + 1])
        sums = 0.5 * (table @ weights)
        apart = np.abs(np.subtract.outer(number, number))
        grams = sums[apart] - sums[np.add.outer(number, number)]
        blocks[1, fast, fast] += np.outer(factors, factors) * grams
    return Information(blocks=owned(blocks), vector=owned(vector))


def _other_slopes(basis: Basis, mean: Array) -> Array:
    """Broadening by all functions of D but those of x alone, at every pixel."""
    others = mean.copy()
    others[:, basis.slices["fast"]] = 0.0
    moving = basis.on_pixels(others)
    slopes = np.gradient(moving[0], axis=0) + np.gradient(moving[1], axis=1)
    return np.asarray(0.5 * slopes, dtype=np.float64)


def _at(image: Array, places_px: Array) -> Array:
    """Sample an image at the nearest pixels; it changes slowly."""
    y, x = np.rint(places_px).astype(np.intp).T
    ny, nx = image.shape
    return np.asarray(image[y.clip(0, ny - 1), x.clip(0, nx - 1)])


def _weights(frame: Widths, residual: Array) -> Array:
    """Robust inverse variances, reduced where the widths scatter by more than they claim."""
    off = np.abs(residual - np.median(residual)) / np.sqrt(frame.broadening[:, 1])
    spread = max(MAD * float(np.median(off)), 1.0)
    inside = (off < ODD * spread) & np.isfinite(off)
    return np.asarray(np.where(inside, frame.robust / spread**2, 0.0) / frame.broadening[:, 1])
