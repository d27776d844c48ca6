"""How well a distortion field does, by the truth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Score", "score_map", "true_off_by_pm"]

Array = npt.NDArray[np.float64]

Freedom = Literal["affine", "similarity", "rigid"]

BAND = 1.96
"""Standard deviations that hold 95 % of normal errors."""

STEP, STEPS = 0.7, 30
"""Share of what is missing that is made up for at a time, and how often: a local magnification of
the scan from 0.55 to 1.8 is stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a field removes of the distortion, and what it leaves.

    Parameters
    ----------
    share : float
        Share of the distortion's power that is removed: ``1 - sum|e|^2 / sum|d|^2``.
    rms_pm : tuple of float
        What is left, rms for each axis (slow, fast).
    worst_pm : float
        The longest vector that is left.
    before_pm : tuple of float
        What there was, rms for each axis.
    claimed_pm : tuple of float, optional
        The field's own standard deviation, rms for each axis; None where it was not given.
    z : float, optional
        Rms of error over claimed standard deviation, both axes together.
    coverage : float, optional
        Share of the errors within 1.96 claimed standard deviations.
    """

    share: float
    rms_pm: tuple[float, float]
    worst_pm: float
    before_pm: tuple[float, float]
    claimed_pm: tuple[float, float] | None = None
    z: float | None = None
    coverage: float | None = None


def score_map(  # noqa: PLR0913 - what is judged, by what, and how closely
    displacement_px: npt.NDArray[np.floating],
    valid: npt.NDArray[np.bool_],
    place: Callable[[Array], Array],
    *,
    pixel_size_nm: float,
    std_px: npt.NDArray[np.floating] | None = None,
    step_px: int = 1,
    freedom: Freedom = "affine",
) -> Score:
    """Judge a field by the map that it implies: pixel -> place in the scan -> place on the sample.

    Parameters
    ----------
    displacement_px : ndarray, shape (2, ny, nx)
        ``corrected[u] = raw[u + displacement_px(u)]``.
    valid : ndarray of bool, shape (ny, nx)
        The pixels that the scan saw.
    place : callable
        True place on the sample of places in the scan, (n, 2) to (n, 2), px:
        ``truth.stationary_place_px`` for a stationary field, ``truth.place_px`` for a frame's.
    pixel_size_nm : float
        Side of a pixel.
    std_px : ndarray, shape (2, ny, nx), optional
        Standard deviation that the field claims.
    step_px : int, default: 1
        Judge every so many lines and pixels.
    freedom : {"affine", "similarity", "rigid"}
        The maps of which the best is taken out: what the field's reference cannot know.

    Returns
    -------
    Score
        Over the valid pixels.

    Raises
    ------
    ValueError
        If fewer than three pixels are valid.

    Notes
    -----
    The best affine map is taken out of the places before and after: it is the gauge, which no
    lattice of unknown constants can tell. A crystal of known shape leaves a similarity unknown, one
    of known constants a rotation and a shift.
    """
    y, x = np.nonzero(valid[::step_px, ::step_px])
    if len(y) < 3:
        raise ValueError(f"valid must have at least 3 pixels, not {len(y)}")
    pixels = step_px * np.stack([y, x], axis=1)
    moved = displacement_px[:, pixels[:, 0], pixels[:, 1]].T.astype(np.float64)
    error = _without_best(pixels, place(pixels + moved), freedom)
    before = _without_best(pixels, place(pixels.astype(np.float64)), freedom)
    pm = 1e3 * pixel_size_nm
    claims = {}
    if std_px is not None:
        claims = _claims(error, std_px[:, pixels[:, 0], pixels[:, 1]].T.astype(np.float64), pm)
    return Score(
        share=float(1.0 - np.sum(error**2) / np.sum(before**2)) if np.any(before) else 0.0,
        rms_pm=_rms(pm * error),
        worst_pm=float(pm * np.sqrt(np.sum(error**2, axis=1).max())),
        before_pm=_rms(pm * before),
        **claims,
    )


def true_off_by_pm(
    displacement_px: npt.NDArray[np.floating],
    valid: npt.NDArray[np.bool_],
    place: Callable[[Array], Array],
    *,
    pixel_size_nm: float,
    step_px: int = 1,
) -> float:
    """Say how far off a picture truly was as scanned, as ``FrameReport.off_by_pm`` defines it.

    Parameters
    ----------
    displacement_px : ndarray, shape (2, ny, nx)
        Of the field that corrects it: where the true one is looked for.
    valid : ndarray of bool, shape (ny, nx)
        The pixels that the scan saw.
    place : callable
        As in `score_map`.
    pixel_size_nm : float
        Side of a pixel.
    step_px : int, default: 1
        Look at about every so many lines and pixels.

    Returns
    -------
    float
        Rms length over the valid pixels of the corrected picture of the true displacement
        ``s(u) - u``, without its best affine map, pm.

    Notes
    -----
    ``Score.before_pm`` looks the other way: at the place on the sample of each pixel of the scan.
    Where columns are pulled apart a few of the picture's pixels take many of the scan's, so that
    the two differ by some percent.
    """
    y, x = np.nonzero(valid)
    pixels = np.stack([y, x], axis=1)[:: step_px**2 + 1]  # every column of pixels has its turn
    moved = displacement_px[:, pixels[:, 0], pixels[:, 1]].T
    scanned: Array = (pixels + moved).astype(np.float64)
    shown = place(scanned)
    wanted = shown - _without_best(pixels, shown, "affine")
    for _ in range(STEPS):
        scanned += STEP * (wanted - place(scanned))
    return float(1e3 * pixel_size_nm * np.hypot(*_rms(_without_best(pixels, scanned, "affine"))))


def _without_best(pixels: npt.NDArray[np.int64], places: Array, freedom: Freedom) -> Array:
    """Take the best map of a class out of the places; rotations by Kabsch's method."""
    centred = pixels - pixels.mean(axis=0)
    off = places - places.mean(axis=0)
    if freedom == "affine":
        return np.asarray(off - centred @ np.linalg.solve(centred.T @ centred, centred.T @ off))
    left, sizes, right = np.linalg.svd(centred.T @ off)
    sign = np.sign(np.linalg.det(left @ right))
    turn = left @ np.diag([1.0, sign]) @ right
    scale = (sizes @ [1.0, sign]) / np.sum(centred**2) if freedom == "similarity" else 1.0
    return np.asarray(off - scale * centred @ turn)


def _rms(error: Array) -> tuple[float, float]:
    slow, fast = np.sqrt(np.mean(error**2, axis=0))
    return float(slow), float(fast)


def _claims(error: Array, std: Array, pm: float) -> dict[str, Any]:
    z = error / std
    return {
        "claimed_pm": _rms(pm * std),
        "z": float(np.sqrt(np.mean(z**2))),
        "coverage": float(np.mean(np.abs(z) < BAND)),
    }
