"""What a correction has left over, by the truth."""

import numpy as np
import numpy.typing as npt

from simulator.microscope import Truth

__all__ = ["left_over_px"]

STEP_PX = 4
"""Every fourth line and pixel is judged."""


def left_over_px(
    truth: Truth,
    displacement_px: npt.NDArray[np.floating],
    valid: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Compare the places that a picture shows with the places it should show.

    Parameters
    ----------
    truth : Truth
        What really happened in the frame.
    displacement_px : ndarray, shape (2, ny, nx)
        Where each pixel of the picture was taken from, ``raw[u + displacement_px(u)]``; zeros
        for the frame as scanned.
    valid : ndarray of bool, shape (ny, nx)
        The pixels that count.

    Returns
    -------
    ndarray, shape (n, 2)
        True place minus the best affine map of the pixel, at every fourth valid pixel of every
        fourth line, px.

    Notes
    -----
    Judged is the map from picture to sample that the correction implies: an affine map is the
    gauge that no lattice of unknown constants can tell.
    """
    y, x = np.nonzero(valid[::STEP_PX, ::STEP_PX])
    pixels = STEP_PX * np.stack([y, x], axis=1)
    places = truth.place_px(pixels + displacement_px[:, pixels[:, 0], pixels[:, 1]].T)
    affine = np.column_stack([np.ones(len(pixels)), pixels])
    best, *_ = np.linalg.lstsq(affine, places, rcond=None)
    return np.asarray(places - affine @ best)
