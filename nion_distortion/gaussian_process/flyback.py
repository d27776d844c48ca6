"""Fly-back of lines and frames: its functions of y, and what a device's other settings expect."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion.frame import ScanSettings
from nion_distortion.options import KnownFlyback

__all__ = ["ExpectedFlyback", "first_lines", "line_profiles"]

Array = npt.NDArray[np.float64]

LINE_MODES, SLOPE_MODES = 4, 2
LINE_CORRELATION = 0.78
"""Correlation length of the line fly-back along y, in frame heights."""

FRAME_DECAYS = (0.01, 0.03, 0.1)
"""Decay lengths of the frame fly-back (the slow coil's return), in frame heights."""


def line_profiles(height: npt.ArrayLike) -> Array:
    """Tabulate functions of y whose weights, of unit variance, give a squared exponential kernel.

    Parameters
    ----------
    height : array_like, shape (n,) or scalar
        Places in the frame, in its heights.

    Returns
    -------
    ndarray, shape (4, n)
        The widest first; covariances are within 1e-4 of the kernel's. Cosines would not do: at
        this correlation length they would be reflected at the ends of their interval.
    """
    places = np.atleast_1d(np.asarray(height, dtype=np.float64))
    profiles: Array = LINE_FUNCTIONS.T @ _squared_exponential(LINE_NODES, places)
    return profiles


def _squared_exponential(one: Array, other: Array) -> Array:
    near: Array = np.exp(-0.5 * (np.subtract.outer(one, other) / LINE_CORRELATION) ** 2)
    return near


LINE_NODES = np.polynomial.legendre.leggauss(LINE_MODES)[0] * 0.5 + 0.5


def _line_functions() -> Array:
    """Functions of unit variance at the nodes, the widest first, (nodes, functions)."""
    sizes, vectors = np.linalg.eigh(_squared_exponential(LINE_NODES, LINE_NODES))
    functions = (vectors / np.sqrt(sizes))[:, ::-1]
    return np.asarray(functions * np.sign(functions[0]))  # odd ones have no sum


LINE_FUNCTIONS = _line_functions()


class ExpectedFlyback(NamedTuple):
    """The line fly-back expected for the settings of a scan, from others of the same device."""

    decay: float
    """In line lengths."""
    decay_log_std: float
    amplitude_px: tuple[float, float] | None
    """Size at the line start (slow, fast)."""

    @classmethod
    def of_scan(
        cls, settings: ScanSettings, known: KnownFlyback | None
    ) -> "ExpectedFlyback | None":
        """Bring what is known to the settings of a scan.

        Parameters
        ----------
        settings : ScanSettings
            The scan.
        known : KnownFlyback or None
            What other settings have taught.

        Returns
        -------
        ExpectedFlyback or None
            None where nothing is known, or the scan's timing is not.
        """
        if known is None or settings.dwell_time_us is None:
            return None
        decay = known.tau_us / (settings.dwell_time_us * settings.shape_px[1])
        amplitude = None
        if known.amplitude_pm is not None and settings.flyback_time_us is not None:
            later_us = settings.flyback_time_us - known.flyback_time_us
            factor = 1e-3 * np.exp(-later_us / known.tau_us) / settings.pixel_size_nm
            slow, fast = (abs(size) * float(factor) for size in known.amplitude_pm)
            amplitude = (slow, fast)
        return cls(decay, known.tau_log_std, amplitude)


def first_lines(height: Array) -> Array:
    """Evaluate the exponential decays of the frame fly-back.

    Parameters
    ----------
    height : ndarray, shape (n,)
        Places in the frame, in its heights.

    Returns
    -------
    ndarray, shape (3, n)
        One row for each of ``FRAME_DECAYS``.
    """
    drop: Array = np.exp(-np.outer(1 / np.array(FRAME_DECAYS), np.maximum(height, 0.0)))
    return drop
