"""The finite basis: each term of the distortion as a few functions of the place in the scan."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import owned, reduce_frozen
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process.cosines import (
    MARGIN,
    WIDE,
    cosines,
    fill_products,
    on_interval,
)
from nion_distortion.gaussian_process.flyback import (
    FRAME_DECAYS,
    LINE_MODES,
    SLOPE_MODES,
    ExpectedFlyback,
    first_lines,
    line_profiles,
)
from nion_distortion.gaussian_process.scan_time import MAINS_MODES, ScanTime, mains_line_time_s
from nion_distortion.options import KnownFlyback

__all__ = ["Basis"]

Array = npt.NDArray[np.float64]
Modes = npt.NDArray[np.intp]

SMOOTH_MODES, FAST_MODES = 13, 72
MOST_FAST_MODES = 192
"""Cosines of f(x) in a calibration: with 72, sharp steps along x left 1.7 pm after 20 frames, with
192 0.4 pm. Both numbers are for a margin of 15 %; a longer interval has more in proportion."""

MOST_WALK_MODES, FEWEST_WALK_MODES = 240, 24

PIXELS_AT_ONCE = 2**19

SEEN_HEIGHT = 0.84
"""Standard deviation along y of the lines over which a column's fit averages, in its sigmas: 1
without background, 0.71 on a high one; 0.82 to 0.90 for simulated columns of 10 to 500 counts whose
tails are modelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Functions of the place in the scan whose weighted sum is D + W_k.

    Parameters
    ----------
    shape_px : tuple of int
        Lines and pixels of the scan.
    period_px : float
        Line time over dwell time.
    walk_modes : int
        Functions of scan time for what one frame's beam did; at most one for each row of columns.
    decay : float, default: 0.03
        Length of the line fly-back, in line lengths.
    terms : frozenset of str
        The terms to use.
    sigma_px : float, default: 0
        Sigma of the columns.
    fast_modes : int, default: 72
        Cosines along x.
    expected : ExpectedFlyback, optional
        What other settings of the device say about the line fly-back.
    locked_modes : int, default: 0
        Functions of scan time that are the same in every frame.
    frame_sync : bool, default: False
        Whether the mains has the same phase in every frame, so that it belongs to D.
    line_time_s : float, optional
        Time from line start to line start; None where there can be no mains term.
    mains_hz : float, optional
        Frequency of the mains; None where none was found.
    margin : float, default: 0.15
        How far the interval of the cosines along y and x extends beyond the frame at each end, in
        lengths of the frame.
    smooth_count : int, default: 13
        Cosines of the smooth term along one axis.
    """

    shape_px: tuple[int, int]
    period_px: float
    walk_modes: int
    terms: frozenset[Any]
    decay: float = 0.03
    sigma_px: float = 0.0
    fast_modes: int = FAST_MODES
    expected: ExpectedFlyback | None = None
    locked_modes: int = 0
    frame_sync: bool = False
    line_time_s: float | None = None
    mains_hz: float | None = None
    margin: float = MARGIN
    smooth_count: int = SMOOTH_MODES
    smooth_modes: tuple[Modes, Modes] = field(init=False, repr=False, compare=False)
    """Mode numbers (y, x) of the smooth term."""
    slices: Mapping[str, slice] = field(init=False, repr=False, compare=False)
    """Rows of each group of functions: first those of D, then ``"walk"``, then ``"mains"`` unless
    its phase is the same in every frame (then it is part of D)."""

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @classmethod
    def of_scan(
        cls,
        settings: ScanSettings,
        rows: float,
        terms: frozenset[Any],
        *,
        sigma_px: float = 0.0,
        flyback: KnownFlyback | None = None,
    ) -> "Basis":
        """Choose the basis of a scan.

        Parameters
        ----------
        settings : ScanSettings
            The scan.
        rows : float
            Rows of columns in the frame, which bound the resolution in scan time.
        terms : frozenset of str
            The terms to use.
        sigma_px : float, default: 0
            Sigma of the columns.
        flyback : KnownFlyback, optional
            What is known of the device's line fly-back.

        Returns
        -------
        Basis
            With a decay still to be found.
        """
        modes = int(np.clip(rows * WIDE, FEWEST_WALK_MODES, MOST_WALK_MODES))
        return cls(
            shape_px=settings.shape_px,
            period_px=settings.line_period_px,
            walk_modes=modes if "scan_time" in terms else 0,
            terms=terms,
            sigma_px=sigma_px,
            expected=ExpectedFlyback.of_scan(settings, flyback),
            locked_modes=modes if settings.frame_sync and "frame_locked" in terms else 0,
            frame_sync=bool(settings.frame_sync),
            line_time_s=mains_line_time_s(settings) if "mains" in terms else None,
        )

    def refined(self) -> "Basis":
        """Return the same basis with the functions along x that many frames resolve.

        Returns
        -------
        Basis
            The new basis.
        """
        return replace(self, fast_modes=round(MOST_FAST_MODES * self.wide / WIDE))

    def with_decay(self, decay: float) -> "Basis":
        """Return the same basis with another line fly-back.

        Parameters
        ----------
        decay : float
            Length of the line fly-back, in line lengths.

        Returns
        -------
        Basis
            The new basis.
        """
        return replace(self, decay=decay)

    def with_smooth(self, margin: float, count: int) -> "Basis":
        """Return the same basis with other cosines, those along x alone as fine as before.

        Parameters
        ----------
        margin : float
            How far their interval extends beyond the frame at each end, in lengths of the frame.
        count : int
            How many of the smooth term along one axis.

        Returns
        -------
        Basis
            The new basis.
        """
        finest = self.fast_modes / self.wide
        fast_modes = round(finest * (1 + 2 * margin))
        return replace(self, margin=margin, smooth_count=count, fast_modes=fast_modes)

    def with_mains(self, hz: float | None) -> "Basis":
        """Return the same basis with another mains.

        Parameters
        ----------
        hz : float or None
            Its frequency; None for no such functions.

        Returns
        -------
        Basis
            The new basis.
        """
        return replace(self, mains_hz=hz)

    def core(self) -> "Basis":
        """Return the basis without the mains, and without functions that occur twice.

        Returns
        -------
        Basis
            Without what is locked to the frame: the walk has the same functions.
        """
        modes = max(self.walk_modes, self.locked_modes)
        return replace(self, locked_modes=0, walk_modes=modes, mains_hz=None)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "smooth_modes", _modes_in_disc(self.smooth_count if "smooth" in self.terms else 0)
        )
        mains = MAINS_MODES if self.mains_hz is not None else 0
        sizes = {
            "smooth": len(self.smooth_modes[0]),
            "line": LINE_MODES if "line_flyback" in self.terms else 0,
            "line_slope": SLOPE_MODES if "line_flyback" in self.terms else 0,
            "frame": len(FRAME_DECAYS) if "frame_flyback" in self.terms else 0,
            "fast": self.fast_modes - 1 if "fast_axis" in self.terms else 0,
        }
        stationary = {"locked": self.locked_modes, "mains": mains}
        own = {"walk": self.walk_modes, "mains": mains}
        sizes |= stationary | own if self.frame_sync else {"locked": self.locked_modes} | own
        ends = np.cumsum(list(sizes.values())).tolist()
        where = {
            name: slice(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        object.__setattr__(self, "slices", MappingProxyType(where))

    @property
    def is_refined(self) -> bool:
        """Whether it has the functions along x that many frames resolve."""
        return self.fast_modes / self.wide > MOST_FAST_MODES / WIDE / 2

    @property
    def wide(self) -> float:
        """Length of the interval of the cosines along y and x, in lengths of the frame."""
        return 1 + 2 * self.margin

    @property
    def scan_time(self) -> ScanTime:
        """When the beam is where, and functions of that."""
        cycles = None if self.mains_hz is None else self.mains_hz * (self.line_time_s or 0.0)
        return ScanTime(self.shape_px, self.period_px, cycles)

    @property
    def stationary_size(self) -> int:
        """How many functions D has."""
        return int(self.slices["walk"].start)

    @property
    def size(self) -> int:
        """How many functions D and W_k have together."""
        return max(int(one.stop) for one in self.slices.values())

    def seen(self) -> Array:
        """Return the response of column positions to each function (columns have an extent).

        Returns
        -------
        ndarray, shape (2, size)
            One, except for functions of scan time and of x alone, which may be narrower than a
            column.
        """
        seen = np.ones((2, self.size))
        fast = self.slices["fast"]
        seen[:, fast] = self.shown_along_x(np.arange(1.0, fast.stop - fast.start + 1))
        for group, modes in (("walk", self.walk_modes), ("locked", self.locked_modes)):
            seen[:, self.slices[group]] = self.shown(np.arange(1.0, modes + 1))
        if self.mains_hz is not None:
            seen[:, self.slices["mains"]] = self.shown(self.scan_time.mains_waves())
        return seen

    def shown(self, modes: Array) -> Array:
        """Return the response of column positions to waves of scan time.

        Parameters
        ----------
        modes : ndarray, shape (k,)
            Half periods of each in the interval of W_k.

        Returns
        -------
        ndarray, shape (2, k)
            Along y and x; 1: followed in full; negative where crests are seen as troughs.

        Notes
        -----
        The fit of a Gaussian weighs the lines at height d by ``exp(-d^2 / 2 s^2)`` for its place
        along x and by ``d^2 exp(-d^2 / 2 s^2)`` along y, so that a wave of k radians a line has
        the response ``exp(-k^2 s^2 / 2)`` and ``(1 - k^2 s^2) exp(-k^2 s^2 / 2)``. Whole periods
        from one line to the next are aliased to zero.
        """
        waves = np.pi / self.scan_time.interval_lines * modes
        return self._averaged(np.abs((waves + np.pi) % (2 * np.pi) - np.pi))

    def shown_along_x(self, modes: Array) -> Array:
        """Return the response of column positions to waves along x.

        Parameters
        ----------
        modes : ndarray, shape (k,)
            Half periods of each in the interval of the cosines.

        Returns
        -------
        ndarray, shape (2, k)
            Along y and x. The finest waves of a live model are 14 px long in a line of 512 pixels,
            but narrower than a column in one of 96.
        """
        return self._averaged(self._waves_along_x(modes))[::-1]

    def broadened_along_x(self, modes: Array) -> Array:
        """Return how waves along x broaden columns, also where positions do not respond to them.

        Parameters
        ----------
        modes : ndarray, shape (k,)
            Half periods of each in the interval of the cosines.

        Returns
        -------
        ndarray, shape (k,)
            Change of the log of a column's width for each unit of ``d cos(pi m u) / d(pi m u)``
            in its middle.

        Notes
        -----
        A Gaussian stretched along x by a slope s is ``s / 2`` broader when fitted by a round one.
        With the weights of `shown`, the waves' mean slope over the column goes with
        ``(1 - k^2 s^2 / 2) exp(-k^2 s^2 / 2)``: it vanishes elsewhere than their mean shift does.
        """
        waves = self._waves_along_x(modes)
        square = (self.height_px * waves) ** 2
        return np.asarray(0.5 * waves * (1.0 - 0.5 * square) * np.exp(-0.5 * square))

    def _waves_along_x(self, modes: Array) -> Array:
        """Radians a pixel."""
        return np.asarray(np.pi / (self.shape_px[1] * self.wide) * modes)

    def _averaged(self, waves: Array) -> Array:
        """Return the response to waves, in radians a pixel: along their direction, and across."""
        square = (self.height_px * waves) ** 2
        return np.stack([1.0 - square, np.ones_like(square)]) * np.exp(-0.5 * square)

    @property
    def height_px(self) -> float:
        """Standard deviation along y of the lines over which a column's fit averages, px."""
        return SEEN_HEIGHT * self.sigma_px

    def _exponential(self, x: Array) -> Array:
        """Line fly-back and its change with the logarithm of the decay, (2, n)."""
        along = np.maximum(x, -0.5) / (self.decay * self.shape_px[1])
        lag = np.exp(-along)
        return np.stack([lag, lag * along])

    def line_functions(self, places: Array) -> Array:
        """Evaluate the functions of the line fly-back, the only ones that the decay changes.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).

        Returns
        -------
        ndarray, shape (6, n)
            Groups ``"line"`` and ``"line_slope"``.
        """
        y, x = self.scan_time.inside(places)
        along_y = line_profiles(y / self.shape_px[0])
        lag, slope = self._exponential(x)
        functions: Array = np.concatenate([lag * along_y, slope * along_y[:SLOPE_MODES]])
        return functions

    def design(self, places: Array, *, spare: int = 0) -> Array:
        """Evaluate every function of D and W_k.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x); outside the scan the nearest edge counts.
        spare : int, default: 0
            Rows to leave at the end for the caller's own functions.

        Returns
        -------
        ndarray, shape (size + spare, n)
            One row for each function.
        """
        rows = np.empty((self.size + spare, len(places)))
        self.fill_stationary(places, self.cosines_at(places, self.smooth_count), rows)
        modes = max(self.walk_modes, self.locked_modes)
        if modes:
            table = cosines(self.scan_time.unit(places), modes + 1)[1:]
            rows[self.slices["walk"]] = table[: self.walk_modes]
            rows[self.slices["locked"]] = table[: self.locked_modes]
        rows[self.slices["mains"]] = self.scan_time.mains_functions(places)
        return rows

    def fill_stationary(self, places: Array, along: tuple[Array, Array], rows: Array) -> None:
        """Evaluate every function of D, but those that are functions of scan time alone.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).
        along : tuple of ndarray
            `cosines_at` these places, at least as many as the smooth functions need.
        rows : ndarray, shape (stationary_size or more, n)
            The first rows are filled.
        """
        where, (iy, ix), (along_y, along_x) = self.slices, self.smooth_modes, along
        fill_products(along_y, along_x, iy, ix, rows[where["smooth"]])
        rows[where["line"].start : where["frame"].stop] = self.flyback_functions(places)
        if "fast_axis" in self.terms:
            rows[where["fast"]] = along_x[1:]

    def flyback_functions(self, places: Array) -> Array:
        """Evaluate the functions of the line's and of the frame's fly-back.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).

        Returns
        -------
        ndarray, shape (9 or less, n)
            Groups ``"line"``, ``"line_slope"`` and ``"frame"``.
        """
        parts = [np.empty((0, len(places)))]
        if "line_flyback" in self.terms:
            parts.append(self.line_functions(places))
        if "frame_flyback" in self.terms:
            parts.append(first_lines(self.scan_time.lines(places) / self.shape_px[0]))
        return np.concatenate(parts)

    def on_intervals(self, places: Array) -> tuple[Array, Array]:
        """Bring places to the unit intervals of the cosines.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).

        Returns
        -------
        y, x : ndarray, shape (n,)
            Between 0 and 1.
        """
        y, x = self.scan_time.inside(places)
        ny, nx = self.shape_px
        return on_interval(y, ny, self.margin), on_interval(x, nx, self.margin)

    def cosines_at(self, places: Array, modes_y: int) -> tuple[Array, Array]:
        """Tabulate the cosines along y and along x.

        Parameters
        ----------
        places : ndarray, shape (n, 2)
            Places in the scan, px, (y, x).
        modes_y : int
            How many along y.

        Returns
        -------
        along_y : ndarray, shape (modes_y, n)
            Along y.
        along_x : ndarray, shape (fast_modes, n)
            Along x.
        """
        y, x = self.on_intervals(places)
        return cosines(y, modes_y), cosines(x, self.fast_modes)

    def on_pixels(self, weights: Array) -> npt.NDArray[np.float32]:
        """Sum the weighted functions at every pixel of the scan.

        Parameters
        ----------
        weights : ndarray, shape (2, m)
            Weights for each axis; m is ``size``, or ``stationary_size`` to leave W_k out.

        Returns
        -------
        ndarray of float32, shape (2, ny, nx)
            D + W_k or D, px. Equivalent to ``weights @ design(every pixel)``: all functions are
            products of one of y and one of x, so it is one matrix product for each axis.
        """
        ny, nx = self.shape_px
        along_y, along_x = self._factors(np.arange(float(ny)), np.arange(float(nx)), weights)
        profiles, table = along_y.astype(np.float32), along_x.astype(np.float32)
        result = np.empty((2, ny, nx), np.float32)

        def _part(start: int, stop: int) -> None:
            np.matmul(profiles[:, start:stop], table, out=result[:, start:stop])

        for_chunks(_part, ny, smallest=PIXELS_AT_ONCE // nx)
        return owned(result)

    def at_line_starts(self, weights: Array) -> Array:
        """Sum the weighted functions of scan time, but for the mains, where the lines begin.

        Parameters
        ----------
        weights : ndarray, shape (2, size)
            Weights for each axis.

        Returns
        -------
        ndarray, shape (2, ny + 1)
            For each line, and one after the last, px.
        """
        starts = np.arange(self.shape_px[0] + 1.0)
        waves = self._waves_of_time(weights)
        table = cosines(on_interval(starts, self.shape_px[0]), waves.shape[1] + 1)[1:]
        return np.asarray(waves @ table)

    def mains_in_lines(self, weights: Array) -> npt.NDArray[np.float32]:
        """Sum the weighted functions of the mains, which changes within lines.

        Parameters
        ----------
        weights : ndarray, shape (2, size)
            Weights for each axis.

        Returns
        -------
        ndarray of float32, shape (2, ny, nx), or (2, ny, 1) where there is none
            In px.
        """
        ny, nx = self.shape_px
        if self.mains_hz is None:
            return np.zeros((2, ny, 1), np.float32)
        y, x, own = np.arange(float(ny)), np.arange(float(nx)), weights[:, self.slices["mains"]]
        time = self.scan_time
        return (time.mains_at_lines(y, own) @ time.mains_within_line(x)).astype(np.float32)

    def on_grid(self, y: Array, x: Array, weights: Array) -> Array:
        """Sum the weighted functions on a rectangular grid.

        Parameters
        ----------
        y : ndarray, shape (ny,)
            Its places along y, px.
        x : ndarray, shape (nx,)
            Its places along x, px.
        weights : ndarray, shape (n, m)
            Weights for each of several sums, as in `on_pixels`.

        Returns
        -------
        ndarray, shape (n, ny, nx)
            The sums.
        """
        sums: Array = np.matmul(*self._factors(y, x, weights))
        return sums

    def _factors(self, y: Array, x: Array, weights: Array) -> tuple[Array, Array]:
        weights = np.pad(weights, ((0, 0), (0, self.size - weights.shape[1])))
        return self._profiles(y, weights), self._fast_table(x, weights)

    def _fast_table(self, x: Array, weights: Array) -> Array:
        """Functions of x for each sum: first f(x), whole, then those that y changes, (n, k, nx).

        They are the cosines of the smooth term, line fly-back (2), first lines, nodes of the walk,
        mains.
        """
        drop = np.exp(-np.outer(1 / np.array(FRAME_DECAYS), x / self.period_px / self.shape_px[0]))
        along_x = cosines(on_interval(x, self.shape_px[1], self.margin), self.fast_modes)
        rough = weights[:, self.slices["fast"]]
        changing = np.concatenate(
            [
                along_x[: self.smooth_count],
                self._exponential(x),
                drop,
                self.scan_time.node_polynomials(x),
                self.scan_time.mains_within_line(x),
            ]
        )
        same = (rough @ along_x[1 : 1 + rough.shape[1]])[:, None]
        return np.concatenate(
            [same, np.broadcast_to(changing, (len(weights), *changing.shape))], axis=1
        )

    def _profiles(self, y: Array, weights: Array) -> Array:
        """Weights summed over the functions of y: what multiplies ``_fast_table``, (n, ny, k)."""
        where, (iy, ix) = self.slices, self.smooth_modes
        count = self.smooth_count
        along_y = cosines(on_interval(y, self.shape_px[0], self.margin), count)
        cosine = np.zeros((len(weights), count, count))
        cosine[:, iy, ix] = weights[:, where["smooth"]]
        parts = [np.ones((len(weights), len(y), 1)), np.matmul(along_y.T, cosine)]
        line, slope, first = (weights[:, where[n]] for n in ("line", "line_slope", "frame"))
        along_line = line_profiles(y / self.shape_px[0])
        parts += [(line @ along_line[: line.shape[1]])[..., None]]
        parts += [(slope @ along_line[: slope.shape[1]])[..., None]]
        drop = first_lines(y / self.shape_px[0])
        parts += [np.swapaxes(first[..., None] * drop[: first.shape[1]], 1, 2)]
        parts += [np.zeros((len(weights), len(y), len(FRAME_DECAYS) - first.shape[1]))]
        parts += [self.scan_time.walk_at_nodes(y, self._waves_of_time(weights))]
        parts += [self.scan_time.mains_at_lines(y, weights[:, where["mains"]])]
        return np.concatenate(parts, axis=2)

    def _waves_of_time(self, weights: Array) -> Array:
        """Weights of cosines of scan time, of every frame and of this one together."""
        total = np.zeros((len(weights), max(self.walk_modes, self.locked_modes)))
        total[:, : self.walk_modes] += weights[:, self.slices["walk"]]
        total[:, : self.locked_modes] += weights[:, self.slices["locked"]]
        return total


def _modes_in_disc(count: int) -> tuple[Modes, Modes]:
    """Mode numbers (y, x) inside a quarter disc, without the constant."""
    squares = np.arange(count) ** 2
    radius2 = np.add.outer(squares, squares)
    iy, ix = np.nonzero((radius2 > 0) & (radius2 < count**2))
    return owned(iy), owned(ix)
