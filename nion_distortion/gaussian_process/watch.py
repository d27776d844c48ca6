"""Whether a calibration still holds: each frame is tested against what the model expects of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh, solve_triangular
from scipy.special import chdtri

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.gaussian_process.coils import CoilErrors, ShapeErrors
from nion_distortion.gaussian_process.posterior import Posterior
from nion_distortion.gaussian_process.weights import Information

__all__ = ["CONTRADICTED", "ShapeWatch", "Watch"]

Array = npt.NDArray[np.float64]

MOST_DIRECTIONS = 48
"""Most combinations of D's weights that are tested for each axis: a frame hardly sees more."""

LEAST_SIGNAL = 0.5
"""A combination is tested where one frame's information about it exceeds this many times the prior
precision."""

WINDOW = 5
"""Newest frames over which differences are summed: a change of D is the same in all of them."""

FALSE_ALARM = 1e-7
"""False-alarm probability of the test if its assumptions held. They do not quite: at 1e-4, 12 of
5000 simulated frames of unchanged scans gave an alarm."""

UNPROVEN, PROVEN_AFTER = 1.44, 5
"""Prior on the typical mean square of the differences (claimed errors 20 % too small), and the
number of frames it counts as."""

MOST_EXCESS = 2.0
"""Cap on one frame's mean square, over the typical one, when it enters the typical one: an outlier
must not make the test blind."""

CONTRADICTED = 10.0
"""Mean square difference of a single frame, over what is typical for the run, that only another
distortion explains: the largest of 500 simulated frames of unchanged scans was 3.3."""

LASTING = 1.5
"""Multiple of the limit beyond which an alarm is latched. Amplitudes learnt from one frame are
sometimes so wrong that the score exceeds the limit for a frame; by this much it does only after a
change."""

MEASURED: Mapping[str, list[int]] = MappingProxyType({"rigid": [0, 1, 2], "similarity": [0, 2]})
"""Independent components of `ShapeErrors.values`; without a scale the errors of the two axes are
opposite."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """State and decision rule that both watches share."""

    recent: Array
    frames: int = 0
    excess: float = 0.0
    alarm: float = 0.0
    contradiction: float = 0.0

    @property
    def score(self) -> float:
        """Square of the last frames' summed difference, over what is typical for the run."""
        if not len(self.recent):
            return 0.0
        together = self.recent.sum(axis=0) ** 2 / len(self.recent)
        return float(together.mean()) / self._typical

    @property
    def worst(self) -> float:
        """The largest of the score, the latched alarm and the newest frame's contradiction."""
        return max(self.score, self.alarm, self.contradiction)

    @property
    def limit(self) -> float:
        """The score beyond which an unchanged scan is ruled out."""
        freedom = math.prod(self.recent.shape[1:])
        return float(chdtri(freedom, FALSE_ALARM)) / freedom

    @property
    def is_stale(self) -> bool:
        """Whether the scan is no longer what it was."""
        return self.worst > self.limit

    @property
    def _typical(self) -> float:
        """Mean square of the run's earlier frames: 1 where all errors are what they claim."""
        return (self.excess + UNPROVEN * PROVEN_AFTER) / (self.frames + PROVEN_AFTER)

    def _with(self, new: Array) -> Self:
        """Add a frame; the one that leaves the window enters the typical mean square."""
        longer = np.concatenate([self.recent, new[None]])
        moved = replace(self, recent=longer[-WINDOW:])
        if len(longer) > WINDOW:
            left = min(float((longer[0] ** 2).mean()), MOST_EXCESS * self._typical)
            moved = replace(moved, frames=self.frames + 1, excess=self.excess + left)
        if moved.score > max(LASTING * moved.limit, moved.alarm):
            return replace(moved, alarm=moved.score)
        return moved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watch(_Run):
    """Compares frames with the model's prediction.

    Parameters
    ----------
    directions : ndarray, shape (2, m, k)
        Combinations of D's weights that a frame can see, for each axis.
    recent : ndarray, shape (n, 2, k)
        How far the last frames differ from the prediction made before each, in standard
        deviations; at most five frames.
    frames : int, default: 0
        Frames that left ``recent`` since the run began.
    excess : float, default: 0
        Sum of their mean squares.
    alarm : float, default: 0
        The largest score beyond `LASTING` times the limit so far; 0 where there was none. It stays
        until another model takes over: this one learns from the changed frames too, and after
        some of them expects a mixture of old and new.
    contradiction : float, default: 0
        Mean square of the newest frame, over the typical one, where no noise explains it; 0 where
        some does. Nothing is to be learnt from such a frame, and the others are judged without it.

    Notes
    -----
    A frame gives the information ``M`` and ``v`` about D's weights, its own W_k and lattice
    integrated out; the model expected the mean mu with covariance S. Then ``v - M mu`` has
    covariance ``M + M S M``, and is independent between frames. Whitened and summed over five
    frames, its square, over the run's own typical square, is distributed as chi^2.

    Only what a lattice shows can be seen: an affine change of D (a scale or a skew of the scan)
    is part of every frame's lattice and never gives an alarm. Where the crystal's cell is known
    `ShapeWatch` sees it.
    """

    directions: Array

    def __post_init__(self) -> None:
        directions = as_array("directions", self.directions, (2, None, None))
        object.__setattr__(self, "directions", directions)
        recent = as_array("recent", self.recent, (None, 2, directions.shape[2]))
        object.__setattr__(self, "recent", recent)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @classmethod
    def of(cls, frame: Information, variances: Array) -> "Watch":
        """Choose what to watch by what a first frame can see.

        Parameters
        ----------
        frame : Information
            What one frame says about the weights of D.
        variances : ndarray, shape (2, m)
            Their prior variances, px^2.

        Returns
        -------
        Watch
            That has seen no frame.
        """
        roots = np.sqrt(variances)
        size = roots.shape[1]
        most = min(MOST_DIRECTIONS, size)
        found, count = [], most
        for block, root in zip(frame.blocks, roots, strict=True):
            signal, vectors = eigh(
                block * np.outer(root, root), subset_by_index=(size - most, size - 1)
            )
            found.append((root[:, None] * vectors)[:, ::-1])
            count = min(count, max(int((signal > LEAST_SIGNAL).sum()), 1))
        directions = np.stack([one[:, :count] for one in found])
        return cls(directions=directions, recent=np.zeros((0, 2, count)))

    def seen(self, frame: Information, expected: Posterior) -> "Watch":
        """Compare a frame with what was expected of it.

        Parameters
        ----------
        frame : Information
            What the frame alone says about the weights of D.
        expected : Posterior
            The weights of D before it.

        Returns
        -------
        Watch
            With this frame.
        """
        new = self._whitened(frame, expected)
        beyond = float((new**2).mean()) / self._typical
        if beyond > CONTRADICTED:
            return replace(self, contradiction=beyond)
        return replace(self._with(new), contradiction=0.0)

    def _whitened(self, frame: Information, expected: Posterior) -> Array:
        rest = frame.slope(expected.mean)

        def white(axis: int, _: int) -> Array:
            along = self.directions[axis]
            gained = frame.blocks[axis] @ along
            covariance = along.T @ gained + expected.covariance_along(axis, gained.T)
            factor = np.linalg.cholesky(covariance)
            found: Array = solve_triangular(factor, along.T @ rest[axis], lower=True)
            return found

        return np.stack(for_chunks(white, 2))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShapeWatch(_Run):
    """Compares the scale and skew that frames show of a known cell with what earlier ones said.

    Parameters
    ----------
    recent : ndarray, shape (n, k)
        How far the last frames differ from what was known before each, in standard deviations:
        three numbers of a known crystal, two (difference of the scales, skew) where only the
        cell's shape is known; at most five frames.
    frames : int, default: 0
        Frames that left ``recent`` since the run began.
    excess : float, default: 0
        Sum of their mean squares.
    alarm : float, default: 0
        The largest score beyond `LASTING` times the limit so far; 0 where there was none. It stays
        until another model takes over: this one learns from the changed frames too, and after
        some of them expects a mixture of old and new.
    contradiction : float, default: 0
        Not used here.

    Notes
    -----
    As `Watch`, of the coils instead of D's weights. The uncertainty of the cell is the same in all
    frames and does not count. A frame whose drift nobody knows is not compared: its slow axis is
    stretched by an unknown amount.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "recent", as_array("recent", self.recent, (None, None)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @classmethod
    def of(cls, coils: CoilErrors) -> "ShapeWatch":
        """Begin a watch.

        Parameters
        ----------
        coils : CoilErrors
            What the frames so far said.

        Returns
        -------
        ShapeWatch
            That has seen no frame.
        """
        return cls(recent=np.zeros((0, len(MEASURED[coils.freedom]))))

    def seen(self, frame: ShapeErrors, expected: CoilErrors) -> "ShapeWatch":
        """Compare a frame with what was expected of it.

        Parameters
        ----------
        frame : ShapeErrors
            Of the coils by this frame alone, its drift taken out.
        expected : CoilErrors
            What the frames before it said.

        Returns
        -------
        ShapeWatch
            With this frame.
        """
        some = MEASURED[expected.freedom]
        own = expected.covariance - expected.systematic
        covariance = (own + expected.scatter * frame.covariance)[np.ix_(some, some)]
        rest = (frame.values - expected.values)[some]
        new = solve_triangular(np.linalg.cholesky(covariance), rest, lower=True)
        return self._with(new)
