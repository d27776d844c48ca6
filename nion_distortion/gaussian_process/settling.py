"""Whether the distortion still changed while the first frames of a calibration were taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import owned
from nion_distortion.gaussian_process.posterior import Posterior, marginal
from nion_distortion.gaussian_process.watch import Watch
from nion_distortion.gaussian_process.weights import Information

__all__ = ["FEWEST", "Settling", "clock_of", "find_settling", "settled_information"]

Array = npt.NDArray[np.float64]

FEWEST = 4
"""Frames for which a change is looked for: two for D and its change, two for the scatter."""

DECAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Frames within which the change falls to 1/e, tried one after the other. Longer ones look like a
straight line in as many frames as a calibration usually has."""

SIZES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Standard deviations of the change at the first frame over that of D: a few pm to a few dozen."""

FALSE_ALARM = 1e-4
"""Probability that a calibration of an unchanged scan is said to change."""

LIKELY = 0.05
"""The same where frames before these disagreed with them: then more of the change is likely."""

LEAST_QUOTIENT = 1.05
"""Of squares over their expectation: below, nothing is seen and the saddle point
is nearly 0 / 0."""


class _Seen(NamedTuple):
    """What frames say about the combinations of D's weights that one of them can see.

    The weights are in units of their prior deviations.
    """

    vectors: Array  # (n, 2, d), without what all frames together expect
    blocks: Array  # (n, 2, d, d)
    squares: Array  # (n,), of the vectors over what their noise expects
    clock: Array  # (n,)

    def since(self, first: int) -> "_Seen":
        return _Seen(*(one[first:] for one in self))


class _Contrast(NamedTuple):
    """The change of one decay in some frames."""

    squares: Array  # (2d,), over what noise expects
    signal: Array  # (2d,), information about a change in units of D's prior deviations
    rest: float  # squares that neither D nor the change explains
    freedom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """A change of D that dies out from frame to frame.

    Parameters
    ----------
    left_out : int
        How many first frames have to be left out: what is seen less clearly among the others is
        integrated out, which costs less than leaving out more.
    decay : float
        Frames within which it falls to 1/e.
    size : float
        Standard deviation of what is left in the first of the others, over that of D.
    goes_on : bool
        Whether no frames are left among which it cannot be seen.
    """

    left_out: int
    decay: float
    size: float
    goes_on: bool


def clock_of(times_s: Sequence[float | None]) -> Array:
    """Count frames by time where it is known, else by their order.

    Parameters
    ----------
    times_s : sequence of float or None
        POSIX times of the frames, oldest first.

    Returns
    -------
    ndarray, shape (n,)
        In units of the usual time between two frames; 0 at the first.
    """
    order = np.arange(float(len(times_s)))
    known = [one for one in times_s if one is not None]
    if len(known) < len(times_s) or any(later <= earlier for earlier, later in pairwise(known)):
        return order
    steps = np.diff(known)
    return np.r_[0.0, np.cumsum(steps)] / float(np.median(steps)) if len(steps) else order


def find_settling(
    parts: Sequence[Information],
    stationary: Posterior,
    variances: Array,
    clock: Array,
    *,
    suspected: bool = False,
) -> Settling | None:
    """Look for a change that dies out, and for the frames among which it is not seen any more.

    Parameters
    ----------
    parts : sequence of Information
        What each frame says about the weights of D, oldest first.
    stationary : Posterior
        What all of them say together.
    variances : ndarray, shape (2, m)
        Prior variances of the weights, px^2.
    clock : ndarray, shape (n,)
        When each was taken, in frames.
    suspected : bool, default: False
        Whether frames before these disagreed with them already.

    Returns
    -------
    Settling or None
        None where nothing is seen.

    Notes
    -----
    In ``D + T exp(-k / decay)`` frame k gives ``y_k = M_k (D + c_k T)`` with the covariance
    ``M_k``. The contrast ``g = sum c_k (y_k - M_k D^)`` about the most probable D has the
    covariance ``C = sum c_k^2 M_k - M_c M^-1 M_c``, so its parts along the eigenvectors of C,
    squared over their eigenvalues, are distributed as chi^2. They are weighed by how much of a
    change as smooth as D each would show, against the residuals of the same frames: where all
    claims are wrong by one factor, the distribution of the quotient stays what it is.
    """
    if len(parts) < FEWEST:
        return None
    seen = _reduced(parts, stationary, variances, clock)
    left_out, most, chance = 0, len(parts) - FEWEST, _probability(seen)
    if chance > (LIKELY if suspected else FALSE_ALARM):
        return None
    while chance < FALSE_ALARM and left_out < most:
        left_out += 1
        chance = _probability(seen.since(left_out))
    decay, size = _expected(seen, left_out)
    return Settling(left_out=left_out, decay=decay, size=size, goes_on=chance < FALSE_ALARM)


def settled_information(
    parts: Sequence[Information], clock: Array, settling: Settling, variances: Array
) -> Information:
    """Add up what frames say about D at rest, whatever is left of the change.

    Parameters
    ----------
    parts : sequence of Information
        What each frame says about the weights of D, oldest first.
    clock : ndarray, shape (n,)
        When each was taken, in frames.
    settling : Settling
        Its size is that in the first of them.
    variances : ndarray, shape (2, m)
        Prior variances of D's weights, px^2.

    Returns
    -------
    Information
        About D, the change integrated out.
    """
    change = np.exp(-(clock - clock[0]) / settling.decay)
    size = variances.shape[1]
    blocks, vector = np.zeros((2, 2 * size, 2 * size)), np.zeros((2, 2 * size))
    is_mixed = any(one.cross is not None for one in parts)
    cross = np.zeros((2 * size, 2 * size)) if is_mixed else None
    for one, factor in zip(parts, change, strict=True):
        for (i, a), (j, b) in product(enumerate((1.0, float(factor))), repeat=2):
            rows, columns = slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size)
            blocks[:, rows, columns] += a * b * one.blocks
            if cross is not None and one.cross is not None:
                cross[rows, columns] += a * b * one.cross
        vector += np.concatenate([one.vector, factor * one.vector], axis=1)
    both = Information(
        blocks=owned(blocks), vector=owned(vector), cross=None if cross is None else owned(cross)
    )
    return marginal(both, size, 1.0 / (settling.size**2 * variances))


def _reduced(
    parts: Sequence[Information], stationary: Posterior, variances: Array, clock: Array
) -> _Seen:
    """Keep what a frame can see."""
    total = sum(one.blocks for one in parts[1:]) + parts[0].blocks
    typical = Information(blocks=owned(total / len(parts)), vector=stationary.mean)
    along = Watch.of(typical, variances).directions

    def _some(start: int, stop: int) -> list[tuple[Array, Array]]:
        return [_of_one(one) for one in parts[start:stop]]

    def _of_one(one: Information) -> tuple[Array, Array]:
        rest = one.slope(stationary.mean)
        blocks = [rows.T @ block @ rows for rows, block in zip(along, one.blocks, strict=True)]
        return np.einsum("amd,am->ad", along, rest), np.stack(blocks)

    both = for_chunks(_some, len(parts))
    found = [pair for some in both for pair in some]
    vectors, blocks = (np.stack(one) for one in zip(*found, strict=True))
    whitened = np.linalg.solve(blocks, vectors[..., None])[..., 0]
    return _Seen(vectors, blocks, np.einsum("nad,nad->n", vectors, whitened), clock - clock[0])


def _contrast(seen: _Seen, decay: float) -> _Contrast:
    """Separate the change from D and from the scatter of the frames."""
    change = np.exp(-(seen.clock - seen.clock[0]) / decay)
    plain, once, twice = (
        np.einsum("n,nade->ade", change**power, seen.blocks) for power in range(3)
    )
    said, changed = (np.einsum("n,nad->ad", change**power, seen.vectors) for power in range(2))
    share = np.linalg.solve(plain, once)
    mean = np.linalg.solve(plain, said[..., None])[..., 0]
    signal, turn = np.linalg.eigh(twice - once @ share)
    along = np.einsum("aij,ai->aj", turn, changed - np.einsum("aij,aj->ai", once, mean))
    squares = along**2 / np.maximum(signal, np.finfo(float).eps * twice.max())
    rest = float(seen.squares.sum() - np.vdot(said, mean) - squares.sum())
    freedom = (len(seen.clock) - 2) * squares.size
    return _Contrast(squares.ravel(), np.maximum(signal, 0.0).ravel(), rest, freedom)


def _probability(seen: _Seen) -> float:
    """Probability that an unchanged scan shows as much, whatever the decay and the size.

    Tests of one decay are nearly the same for all sizes, those of different decays count as
    independent: the smallest of all is that of some five independent ones.
    """
    contrasts = [_contrast(seen, decay) for decay in DECAYS]
    return len(DECAYS) * min(_tail(one, size) for one in contrasts for size in SIZES)


def _tail(one: _Contrast, size: float) -> float:
    """Probability that weighted squares exceed what is seen, over the residuals' mean square.

    Lugannani and Rice's saddle point [1]_ of ``sum weights z^2 - quotient chi^2 / freedom`` at 0.

    References
    ----------
    .. [1] R. Lugannani, S. Rice, Saddle point approximation for the distribution of the sum of
       independent random variables, Advances in Applied Probability 12 (1980) 475.
    """
    weights = size**2 * one.signal / (1.0 + size**2 * one.signal)
    quotient = float(weights @ one.squares) * one.freedom / one.rest
    if quotient <= LEAST_QUOTIENT * weights.sum():
        return 1.0
    both = np.r_[weights, -quotient / one.freedom]
    counts = np.r_[np.ones(len(weights)), one.freedom]

    def _slope(place: float) -> float:
        return float(counts @ (both / (1.0 - 2.0 * place * both)))

    end = 0.5 / float(weights.max())
    place = brentq(_slope, 0.0, end * (1.0 - 1e-9))
    left = 1.0 - 2.0 * place * both
    root = np.sqrt(float(counts @ np.log(left)))
    step = place * np.sqrt(2.0 * float(counts @ np.square(both / left)))
    return float(ndtr(-(root + np.log(step / root) / root)))


def _expected(seen: _Seen, left_out: int) -> tuple[float, float]:
    """Average decay and size over all, by their evidence in all frames."""
    logs = np.array([[_gain(_contrast(seen, decay), size) for size in SIZES] for decay in DECAYS])
    probable = np.exp(logs - logs.max())
    probable /= probable.sum()
    decays = np.array(DECAYS)
    decay = float(np.exp(probable.sum(axis=1) @ np.log(decays)))
    left = np.exp(-seen.clock[left_out] / decays)[:, None] * np.array(SIZES)
    return decay, float(np.sqrt(np.sum(probable * left**2)))


def _gain(one: _Contrast, size: float) -> float:
    """Log evidence for a change of a size."""
    expected = size**2 * one.signal
    typical = max(one.rest / one.freedom, 1.0)  # smaller ones would make it too sure
    gained = expected / (1.0 + expected) @ one.squares / typical - np.log1p(expected).sum()
    return 0.5 * float(gained)
