"""The terms of the model apart: what each does to the picture, and what the fly-back does."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.gauge import Freedom, fitted
from nion_distortion.gaussian_process.posterior import Posterior
from nion_distortion.options import Term

__all__ = ["GROUPS", "LineFlyback", "line_flyback", "rms_of_terms"]

Array = npt.NDArray[np.float64]

GROUPS: Mapping[Term, tuple[str, ...]] = MappingProxyType(
    {
        "smooth": ("smooth",),
        "line_flyback": ("line", "line_slope"),
        "frame_flyback": ("frame",),
        "fast_axis": ("fast",),
        "frame_locked": ("locked",),
        "scan_time": ("walk",),
        "mains": ("mains",),
    }
)
"""The groups of functions that make up each term."""

NODES = 16, 128
"""Places (y, x) over which a term is averaged: a fly-back falls within a few pixels along x."""


class LineFlyback(NamedTuple):
    """What is left of the line fly-back when the first pixel of a line is seen."""

    decay_px: float
    """Length over which it falls to 1/e."""
    decay_std_px: float
    start_px: float
    """Rms length of its displacement at the line start, over the lines."""
    start_std_px: float


def rms_of_terms(basis: Basis, mean: Array, freedom: Freedom) -> dict[Term, float]:
    """Say what each term of D, or of D + W_k, does to the picture.

    Parameters
    ----------
    basis : Basis
        The functions.
    mean : ndarray, shape (2, m)
        Weights of D (``stationary_size``), or of D and W_k (``size``), first.
    freedom : {"affine", "similarity", "rigid"}
        What the reference leaves unknown; it is taken out of each term.

    Returns
    -------
    dict of str to float
        Rms length over the scan, px, of every term that is switched on and has functions here.

    Notes
    -----
    Terms may work against each other, so their squares do not add up to that of the field.
    """
    y, x = (_centres(*one) for one in zip(basis.shape_px, NODES, strict=True))
    parts = {
        term: slice(basis.slices[names[0]].start, basis.slices[names[-1]].stop)
        for term, names in GROUPS.items()
    }
    parts = {term: one for term, one in parts.items() if one.start < one.stop <= mean.shape[1]}
    weights = np.zeros((len(parts), 2, mean.shape[1]))
    for own, part in zip(weights, parts.values(), strict=True):
        own[:, part] = mean[:, part]
    sums = basis.on_grid(y, x, weights.reshape(-1, mean.shape[1]))
    vectors = sums.reshape(len(parts), 2, -1).swapaxes(1, 2)
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    rms = (_rms_without_gauge(places, one, freedom) for one in vectors)
    return dict(zip(parts, rms, strict=True))


def _centres(length: int, count: int) -> Array:
    return (np.arange(count) + 0.5) * length / count - 0.5


def _rms_without_gauge(places: Array, vectors: Array, freedom: Freedom) -> float:
    member = fitted(places, vectors, np.ones(len(places)), freedom)
    rest = vectors - places @ member[:, 1:].T - member[:, 0]
    return float(np.sqrt(np.vdot(rest, rest) / len(places)))


def line_flyback(basis: Basis, stationary: Posterior, decay_log_std: float) -> LineFlyback | None:
    """Read decay and amplitude of the line fly-back off the weights of D.

    Parameters
    ----------
    basis : Basis
        The functions.
    stationary : Posterior
        Weights of D.
    decay_log_std : float
        Spread of the logarithm of the decay over those that the evidence leaves possible.

    Returns
    -------
    LineFlyback or None
        None where the term is switched off.

    Notes
    -----
    The slope of the exponential with respect to the logarithm of its decay is a function of its
    own: its weight over that of the exponential is the correction to the decay, whose prior the
    weights already carry. Errors are propagated to first order; they are those beside this decay
    alone, so the spread over other decays, which steps along x may imitate, is added.
    """
    line, slope = basis.slices["line"], basis.slices["line_slope"]
    if line.stop == line.start:
        return None
    start_px, start_std = _start(basis, stationary, line)
    both = slope.stop - slope.start
    shared = slice(line.start, line.start + both)
    weights, slopes = stationary.mean[:, shared], stationary.mean[:, slope]
    square = max(float((weights**2).sum()), 1e-24)
    change = float((weights * slopes).sum()) / square
    along_slope = weights / square
    along_line = (slopes - 2 * change * weights) / square
    gradient = np.zeros_like(stationary.mean)
    gradient[:, slope], gradient[:, shared] = along_slope, along_line
    decay = basis.decay * basis.shape_px[1] * float(np.exp(np.clip(change, -1.0, 1.0)))
    log_std = float(np.hypot(_std(gradient, stationary), decay_log_std))
    return LineFlyback(decay, decay * log_std, start_px, start_std)


def _start(basis: Basis, stationary: Posterior, line: slice) -> tuple[float, float]:
    """Rms length of the fly-back's displacement at the first pixel of the lines."""
    y = _centres(basis.shape_px[0], NODES[0])
    functions = basis.line_functions(np.stack([y, np.zeros_like(y)], axis=1))
    functions = functions[: line.stop - line.start]
    vectors = stationary.mean[:, line] @ functions
    rms = float(np.sqrt((vectors**2).sum(axis=0).mean()))
    gradient = np.zeros_like(stationary.mean)
    gradient[:, line] = vectors @ functions.T / (NODES[0] * max(rms, 1e-12))
    return rms, _std(gradient, stationary)


def _std(gradient: Array, posterior: Posterior) -> float:
    return float(np.sqrt(posterior.covariance_of(gradient[:, None]).sum()))
