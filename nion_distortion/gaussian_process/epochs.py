"""Frames of a calibration that takes hours: what those of one time say about D at another."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from nion_distortion.gaussian_process.weights import Information

__all__ = ["LONGEST_S", "ages_of", "brought_forward", "known_at_each"]

LONGEST_S = 600.0
"""Time within which D counts as unchanged between the frames of one calibration: by less than a
hundredth of its amplitude."""

Widen = Callable[[Information, float], Information]


def ages_of(times_s: Sequence[float | None]) -> tuple[float, ...]:
    """Divide frames into epochs of ten minutes at most.

    Parameters
    ----------
    times_s : sequence of float or None
        POSIX times of the frames.

    Returns
    -------
    tuple of float
        Of each frame the hours from the first frame of its epoch to that of the newest epoch: all
        zero where the frames span no more than ten minutes, or the time of one is unknown.
    """
    known = sorted(one for one in times_s if one is not None)
    if len(known) < len(times_s) or not known or known[-1] - known[0] <= LONGEST_S:
        return (0.0,) * len(times_s)
    starts, start_of = [known[0]], {}
    for one in known:
        if one - starts[-1] > LONGEST_S:
            starts.append(one)
        start_of[one] = starts[-1]
    return tuple((starts[-1] - start_of[one]) / 3600.0 for one in times_s if one is not None)


def brought_forward(own: Mapping[float, Information], widen: Widen) -> Information:
    """Combine what epochs say about D at the time of the last of them.

    Parameters
    ----------
    own : Mapping of Information
        What the frames of each epoch say, by its age, in the order of time.
    widen : callable
        Widens information for the hours that pass.

    Returns
    -------
    Information
        Of one epoch what it says itself.
    """
    ages = list(own)
    known = own[ages[0]]
    for age, then in pairwise(ages):
        known = widen(known, age - then) + own[then]
    return known


def known_at_each(own: Mapping[float, Information], widen: Widen) -> dict[float, Information]:
    """Combine what all epochs say about D at the time of each.

    Parameters
    ----------
    own : Mapping of Information
        What the frames of each epoch say, by its age.
    widen : callable
        Widens information for the hours that pass.

    Returns
    -------
    dict of Information
        For each epoch: of the earlier ones, of itself, and of the later ones.
    """
    ages = sorted(own, reverse=True)
    known = dict(own)
    for order in (ages, ages[::-1]):
        before = own[order[0]]
        for age, then in pairwise(order):
            widened = widen(before, abs(age - then))
            known[then] = known[then] + widened
            before = widened + own[then]
    return known
