"""Drift from frame to frame: the origin of the lattice, known modulo a lattice vector."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process.origins import Origin

__all__ = ["Drift", "between", "follow_drift"]

Array = npt.NDArray[np.float64]

MOST_SURPRISE, MOST_STEP = 0.3, 0.35
"""In cells: beyond these a lattice looks the same after another step, so drift is ambiguous."""


DRIFT_PRIOR_NM_S, UNKNOWN_FRAME_S = 0.5 / 60, 1.0
"""Standard deviation of an unknown drift, and how long a frame is taken to last if nobody knows."""

ORIGIN_STD_PX = 0.02
"""Standard deviation of a step: origins of two lattices of a thousand columns, and the walk."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drift:
    """Where the sample stands, relative to the first frame of the trajectory.

    Parameters
    ----------
    offset_px : ndarray, shape (2,)
        Motion of the sample in the image since the trajectory began, (y, x).
    step_px : ndarray, shape (2,)
        Motion since the frame before.
    surprise_px : ndarray, shape (2,), optional
        By how much the step differs from the one before, scaled to the same interval; None where
        there is none to compare with.
    lattice_px : ndarray, shape (2, 3)
        A_k of the frame: ``place = lattice_px @ [1, X]``.
    interval_s : float, optional
        Time since the frame before.
    time_s : float, optional
        POSIX time of the frame.
    ambiguous : bool, default: False
        The step could have been another one; the trajectory starts anew here.
    origin : Origin, optional
        The place of the sample in this frame, and how well it is known.
    first : Origin, optional
        That in the first frame of the trajectory.
    std_px : ndarray, shape (2,), optional
        Standard deviation of ``offset_px``; zero in the first frame, from which the drift counts,
        and None where no fit gave it. The error of the pixel size, which scales the way, is not in
        it.
    """

    offset_px: Array
    step_px: Array
    lattice_px: Array
    surprise_px: Array | None = None
    interval_s: float | None = None
    time_s: float | None = None
    ambiguous: bool = False
    origin: Origin | None = None
    first: Origin | None = None
    std_px: Array | None = None

    def __post_init__(self) -> None:
        for name, shape in (("offset_px", (2,)), ("step_px", (2,)), ("lattice_px", (2, 3))):
            object.__setattr__(self, name, as_array(name, getattr(self, name), shape))
        if self.surprise_px is not None:
            surprise = as_array("surprise_px", self.surprise_px, (2,))
            object.__setattr__(self, "surprise_px", surprise)
        if self.std_px is not None:
            object.__setattr__(self, "std_px", as_array("std_px", self.std_px, (2,)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def is_known(self) -> bool:
        """Whether the sample's motion during the frame follows from its steps."""
        return self.surprise_px is not None

    def in_frame_px(self, settings: ScanSettings) -> tuple[Array, Array]:
        """Estimate the sample's motion during the frame from its motion between frames.

        Parameters
        ----------
        settings : ScanSettings
            The scan.

        Returns
        -------
        motion, variance : ndarray, shape (2,)
            Px and px^2, (y, x). Where no step is known the motion is zero, with the variance of
            half a nanometre a minute.
        """
        frame_s = settings.frame_time_s
        if self.surprise_px is None:
            unknown = DRIFT_PRIOR_NM_S * (frame_s or UNKNOWN_FRAME_S) / settings.pixel_size_nm
            return np.zeros(2), np.full(2, unknown**2)
        share = frame_s / self.interval_s if frame_s and self.interval_s else 1.0
        variance = 0.5 * self.surprise_px**2 + ORIGIN_STD_PX**2
        return share * self.step_px, share**2 * variance


def follow_drift(
    previous: Drift | None,
    lattice_px: Array,
    centre_px: Array,
    time_s: float | None,
    origin: Origin | None = None,
) -> Drift:
    """Continue the trajectory by the lattice of the next frame.

    Parameters
    ----------
    previous : Drift or None
        The frame before.
    lattice_px : ndarray, shape (2, 3)
        A_k of the new frame, in the same cell as the one before.
    centre_px : ndarray, shape (2,)
        Where the motion is measured; the centre of the frame.
    time_s : float or None
        POSIX time of the new frame.
    origin : Origin, optional
        Of the new frame: with it the frames before are compared under what is known of D now.

    Returns
    -------
    Drift
        With the step, modulo a lattice vector, that is nearest to the expected one.

    Notes
    -----
    A drift that changes also shears the lattice along the slow axis, so the change of A_k from
    frame to frame predicts the change of the step. A drift that was there from the first frame on
    cannot be told from the lattice itself while that is free: of it only the part within half a
    cell a frame is seen.
    """
    if previous is None:
        zero = np.zeros(2)
        return Drift(
            offset_px=zero,
            step_px=zero,
            lattice_px=lattice_px,
            time_s=time_s,
            **_known_place(origin, None),
        )
    interval = None
    if time_s is not None and previous.time_s is not None:
        interval = time_s - previous.time_s
    previous = _renewed(previous, origin)
    as_before = _expected_step(previous, interval)
    expected = as_before + _change_in_frame(previous.lattice_px, lattice_px, 2 * centre_px[0] + 1)
    step = _motion(previous.lattice_px, lattice_px, centre_px)
    cells = np.linalg.inv(lattice_px[:, 1:])
    step = step - lattice_px[:, 1:] @ np.rint(cells @ (step - expected))
    ambiguous = bool(
        np.abs(cells @ (step - expected)).max() > MOST_SURPRISE
        or np.abs(cells @ step).max() > MOST_STEP
    )
    return Drift(
        offset_px=np.zeros(2) if ambiguous else previous.offset_px + step,
        step_px=np.zeros(2) if ambiguous else step,
        surprise_px=None if ambiguous else step - as_before,
        lattice_px=lattice_px,
        interval_s=interval,
        time_s=time_s,
        ambiguous=ambiguous,
        **_known_place(origin, None if ambiguous else previous),
    )


def between(before: Drift, after: Drift | None) -> Drift:
    """Give a frame the mean rate of the steps that led to it and away from it.

    Parameters
    ----------
    before : Drift
        The frame's own, with the step that led to it.
    after : Drift or None
        That of the next frame.

    Returns
    -------
    Drift
        What is known better of the sample's motion during the frame; ``before`` where there is no
        next frame or its step is ambiguous.

    Notes
    -----
    Where the intervals are known the rate is that of the parabola through the three places, so the
    shorter one counts more; the step is told for the shorter one. Otherwise they count as equal.
    """
    if after is None or after.surprise_px is None or after.ambiguous:
        return before
    if before.surprise_px is None:
        return replace(
            before,
            step_px=after.step_px,
            surprise_px=after.surprise_px,
            interval_s=after.interval_s,
        )
    if not before.interval_s or not after.interval_s:
        mean = 0.5 * (before.step_px + after.step_px)
        return replace(before, step_px=mean, surprise_px=0.5 * after.surprise_px)
    intervals = np.array([before.interval_s, after.interval_s])
    rates = np.stack([before.step_px, after.step_px]) / intervals[:, None]
    rate = np.average(rates, axis=0, weights=np.abs(intervals[::-1]))
    shorter = float(np.abs(intervals).min())
    return replace(
        before,
        step_px=rate * shorter,
        surprise_px=0.5 * after.surprise_px * (shorter / after.interval_s),
        interval_s=shorter,
    )


def _known_place(origin: Origin | None, before: Drift | None) -> dict[str, Any]:
    """Return what is kept of a frame's place, and how well the motion to it is known."""
    if origin is None:
        return {}
    own = origin.to_keep()
    if before is None:
        return {"origin": own, "first": own, "std_px": np.zeros(2)}
    first = before.first
    if first is None:  # the way since the trajectory began stays without an error
        return {"origin": own}
    return {"origin": own, "first": first, "std_px": np.sqrt(origin.variance_since(first))}


def _renewed(previous: Drift, origin: Origin | None) -> Drift:
    """Move the places of earlier frames to where they are under what a new frame knows of D."""
    before, first = previous.origin, previous.first
    if origin is None or before is None or first is None:
        return previous
    moved = before.moved_px(origin, before)
    lattice = previous.lattice_px.copy()
    lattice[:, 0] += moved
    offset = previous.offset_px + moved - first.moved_px(origin, before)
    return replace(previous, lattice_px=lattice, offset_px=offset)


def _motion(before: Array, after: Array, centre_px: Array) -> Array:
    """Motion of the crystal point that stood at the centre."""
    point = np.linalg.solve(before[:, 1:], centre_px - before[:, 0])
    result: Array = after @ np.r_[1.0, point] - centre_px
    return result


def _change_in_frame(before: Array, after: Array, lines: float) -> Array:
    """Change of the sample's motion during a frame, from what it does to the slow axis."""
    change = after[:, 1:] @ np.linalg.inv(before[:, 1:]) - np.eye(2)
    result: Array = change[:, 0] * lines
    return result


def _expected_step(previous: Drift, interval: float | None) -> Array:
    """Scale the last step to the new interval where both are known."""
    if interval and previous.interval_s:
        return previous.step_px * (interval / previous.interval_s)
    return previous.step_px
