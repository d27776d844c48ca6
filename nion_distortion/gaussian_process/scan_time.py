"""Functions of scan time: what the beam does from line to line, and the mains."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process.cosines import WIDE, cosines, on_interval

__all__ = ["HARMONICS", "MAINS_MODES", "ScanTime", "mains_line_time_s"]

Array = npt.NDArray[np.float64]

HARMONICS = (1.0, 2.0, 3.0)
"""Harmonics of the mains, as multiples of its frequency."""

MAINS_MODES = 2 * len(HARMONICS) + 2
"""Functions of the mains: cosine and sine of each harmonic, and the derivatives of the first two
with respect to the frequency."""

FEWEST_PERIODS = 4.0
"""Fewest periods of the mains in a frame: fewer cannot be told from the smooth term."""

TIME_NODES = 5
"""Nodes in a line through which the walk is interpolated by a polynomial; exact to 1e-6."""


class ScanTime(NamedTuple):
    """When the beam is where, and functions of that."""

    shape_px: tuple[int, int]
    period_px: float
    """Line time over dwell time."""
    mains_cycles: float | None
    """Periods of the mains in a line's time; None where none was found."""

    @property
    def interval_lines(self) -> float:
        """Length of the interval of the walk's functions, in lines."""
        return self.shape_px[0] * WIDE

    def lines(self, places: Array) -> Array:
        """Return the scan time in lines.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x); outside the scan the nearest edge counts.

        Returns
        -------
        ndarray, shape (n,)
            From the middle of the first pixel.
        """
        y, x = self.inside(places)
        return y + x / self.period_px

    def inside(self, places: Array) -> tuple[Array, Array]:
        """Move places outside the scan to its nearest edge.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).

        Returns
        -------
        y, x : ndarray, shape (n,)
            Inside it, px.
        """
        ny, nx = self.shape_px
        return np.clip(places[:, 0], -0.5, ny - 0.5), np.clip(places[:, 1], -0.5, nx - 0.5)

    def unit(self, places: Array) -> Array:
        """Return the scan time on the interval of the walk's functions.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).

        Returns
        -------
        ndarray, shape (n,)
            Between 0 and 1.
        """
        return on_interval(self.lines(places), self.shape_px[0])

    def walk_at_nodes(self, y: Array, weights: Array) -> Array:
        """Sum weighted cosines of scan time at some places of each line.

        Parameters
        ----------
        y : ndarray, shape (ny,)
            The lines.
        weights : ndarray, shape (n, k)
            Of the cosines but the constant, for each of several sums.

        Returns
        -------
        ndarray, shape (n, ny, 5)
            What multiplies `node_polynomials`.
        """
        if not weights.any():
            return np.zeros((len(weights), len(y), TIME_NODES))
        time = np.add.outer(y, self._nodes_px() / self.period_px).ravel()
        table = cosines(on_interval(time, self.shape_px[0]), weights.shape[1] + 1)[1:]
        return (weights @ table).reshape(len(weights), len(y), TIME_NODES)

    def node_polynomials(self, x: Array) -> Array:
        """Evaluate the polynomials that are 1 at one of the places in a line, 0 at the others.

        Parameters
        ----------
        x : ndarray, shape (n,)
            Places in a line, px.

        Returns
        -------
        ndarray, shape (5, n)
            Lagrange's.
        """
        nodes = self._nodes_px()
        table = np.ones((len(nodes), len(x)))
        for i, node in enumerate(nodes):
            for other in np.delete(nodes, i):
                table[i] *= (x - other) / (node - other)
        return table

    def _nodes_px(self) -> Array:
        return np.linspace(0.0, self.shape_px[1] - 1.0, TIME_NODES)

    def mains_waves(self) -> Array:
        """Say how fast the functions of the mains are.

        Returns
        -------
        ndarray, shape (8,)
            Half periods of each in the interval of W_k.
        """
        modes = 2.0 * (self.mains_cycles or 0.0) * self.interval_lines
        return np.asarray(modes * np.r_[np.repeat(HARMONICS, 2), 1.0, 1.0])

    def mains_functions(self, places: Array) -> Array:
        """Evaluate the functions of the mains.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).

        Returns
        -------
        ndarray, shape (8, n)
            Cosine and sine of each harmonic; the first two times the time from the middle of the
            frame, in frame times. No rows where there is no mains.
        """
        if self.mains_cycles is None:
            return np.empty((0, len(places)))
        (y, x), time = self.inside(places), self.lines(places)
        cycles = self.mains_cycles * np.array(HARMONICS)
        # whole periods from line to line are dropped: between lines nothing was scanned
        angle = np.outer(cycles - np.rint(cycles), y) + np.outer(cycles, x / self.period_px)
        angle *= 2 * np.pi
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(-1, len(time))
        return np.concatenate([waves, waves[:2] * (time / self.shape_px[0] - 0.5)])

    def mains_within_line(self, x: Array) -> Array:
        """Evaluate cosine and sine of each harmonic within a line, then the first two times x.

        Parameters
        ----------
        x : ndarray, shape (n,)
            Places in a line, px.

        Returns
        -------
        ndarray, shape (8, n)
            No rows where there is no mains.
        """
        if self.mains_cycles is None:
            return np.empty((0, len(x)))
        place = np.stack([0.0 * x, x], axis=1)
        waves = self.mains_functions(place)[:-2]
        return np.concatenate([waves, waves[:2] * x])

    def mains_at_lines(self, y: Array, weights: Array) -> Array:
        """Sum the weighted functions of the mains for each line.

        Parameters
        ----------
        y : ndarray, shape (ny,)
            The lines.
        weights : ndarray, shape (n, 8)
            For each of several sums.

        Returns
        -------
        ndarray, shape (n, ny, 8)
            What multiplies `mains_within_line`.

        Notes
        -----
        With z = c - i s a wave is the real part of ``z exp(i a y) exp(i b x)``.
        """
        if self.mains_cycles is None:
            return np.zeros((len(weights), len(y), 0))
        place = np.stack([y, 0.0 * y], axis=1)
        waves = self.mains_functions(place)[:-2]
        turn = waves[0::2] + 1j * waves[1::2]
        factors = (weights[:, 0::2] - 1j * weights[:, 1::2])[..., None]
        z = factors[:, :-1] * turn
        slope = factors[:, -1] * turn[0]
        z[:, 0] += slope * (y / self.shape_px[0] - 0.5)
        along_x = slope[:, None] / (self.period_px * self.shape_px[0])
        both = np.concatenate([z, along_x], axis=1)
        parts = np.stack([both.real, -both.imag], axis=2)
        return np.swapaxes(parts.reshape(len(weights), -1, len(y)), 1, 2)


def mains_line_time_s(settings: ScanSettings) -> float | None:
    """Return the line time if the mains may be looked for.

    Parameters
    ----------
    settings : ScanSettings
        The scan.

    Returns
    -------
    float or None
        None where the mains cannot be told from other terms, or is part of f(x) (line sync).
    """
    duration = settings.frame_time_s
    if duration is None or settings.line_sync or 50.0 * duration < FEWEST_PERIODS:
        return None
    return duration / settings.shape_px[0]
