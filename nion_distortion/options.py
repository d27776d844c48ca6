"""What is wanted: how a frame is to be processed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

__all__ = ["TERMS", "Detect", "Free", "Options", "Resample", "Sample", "Term"]

Sample = Literal["reference", "unknown"]
Resample = Literal["spline", "nearest"]
Term = Literal["smooth", "line_flyback", "frame_flyback", "fast_axis", "scan_time"]
Detect = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]
"""From an image (ny, nx), columns bright, to first guesses (n, 2) in px."""

TERMS: frozenset[Term] = frozenset(get_args(Term))
"""Every term of the model."""


@dataclass(frozen=True, slots=True)
class Free:
    """The reference is the best affine lattice of each frame: scale and skew stay unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a frame is to be processed.

    Parameters
    ----------
    reference : Free
        What counts as undistorted.
    sample : {"reference", "unknown"}
        ``"unknown"`` applies a known distortion only: the sample's own displacements are data.
    detect : callable, optional
        First guesses of the columns' positions; None means band-passed local maxima.
    terms : frozenset of str
        The model's terms to use; default: all of them.
    resample : {"spline", "nearest"}
        How intensities are interpolated; ``"nearest"`` keeps whole pixels' counts.

    Raises
    ------
    ValueError
        If a name is unknown.
    """

    reference: Free = Free()
    sample: Sample = "reference"
    detect: Detect | None = None
    terms: frozenset[Term] = TERMS
    resample: Resample = "spline"

    def __post_init__(self) -> None:
        if self.sample not in get_args(Sample):
            raise ValueError(f'sample must be "reference" or "unknown", not {self.sample!r}')
        if self.resample not in get_args(Resample):
            raise ValueError(f'resample must be "spline" or "nearest", not {self.resample!r}')
        object.__setattr__(self, "terms", frozenset(self.terms))
        unknown = sorted(self.terms - TERMS)
        if unknown:
            raise ValueError(f"terms must be among {', '.join(sorted(TERMS))}, not {unknown[0]!r}")
