"""The finite basis: each term of the distortion as a few functions of the place in the scan."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._validation import owned, reduce_frozen
from nion_distortion.frame import ScanSettings
from nion_distortion.options import KnownFlyback

__all__ = ["Basis", "ExpectedFlyback", "cosines", "line_profiles"]

Array = npt.NDArray[np.float64]
Modes = npt.NDArray[np.intp]

MARGIN = 0.15
"""Cosines have zero slope at the ends of their interval: it is this much longer at each end."""

SMOOTH_MODES, FAST_MODES, LINE_MODES, SLOPE_MODES = 13, 72, 4, 2
MOST_FAST_MODES = 192
"""Of a calibration: with 72, sharp steps along x left 1.7 pm after 20 frames, with 192 0.4 pm."""

MOST_WALK_MODES, FEWEST_WALK_MODES = 240, 24
LINE_CORRELATION = 0.78
"""Of the line fly-back along y, in frame heights."""

FRAME_DECAYS = (0.01, 0.03, 0.1)
"""Decay of the first lines after the slow coil's return, in frame heights."""

HARMONICS = (1.0, 2.0, 3.0)
"""Of the mains, in its frequencies."""

MAINS_MODES = 2 * len(HARMONICS) + 2
"""Cosine and sine of each, and the change of the first two with the frequency."""

FEWEST_PERIODS = 4.0
"""Of the mains in a frame: of fewer, the smooth term tells nothing apart."""

PIXELS_AT_ONCE = 2**17

SEEN_HEIGHT = 0.77
"""Of the lines that a column's fit averages, in its sigmas: 1 on no background, 0.71 on a high one;
seen on simulated columns of 10 to 500 counts: 0.73 to 0.81."""

TIME_NODES = 5
"""Places in a line between which the walk is interpolated by a polynomial; exact to 1e-6."""


def cosines(place: npt.ArrayLike, modes: int) -> Array:
    """Tabulate orthonormal cosines on the unit interval by their recurrence.

    Parameters
    ----------
    place : array_like, shape (n,)
        Places in the unit interval.
    modes : int
        How many functions; the first is constant.

    Returns
    -------
    ndarray, shape (modes, n)
        ``1, sqrt(2) cos(pi x), sqrt(2) cos(2 pi x), ...``; equal to ``np.cos`` of the same
        arguments, at a tenth of its cost.
    """
    table = np.empty((modes, np.size(place)))
    table[:1] = 1.0
    _fill_cosines(np.asarray(place, dtype=np.float64), table[1:])
    return table


def line_profiles(height: npt.ArrayLike) -> Array:
    """Tabulate functions of y that with unit weights sum to a squared exponential.

    Parameters
    ----------
    height : array_like, shape (n,) or scalar
        Places in the frame, in its heights.

    Returns
    -------
    ndarray, shape (4, n)
        The widest first; within 1e-4 of the squared exponential's covariance, which has no
        room to be reflected at any end.
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


@numba.njit(cache=True, nogil=True)
def _fill_cosines(place, rows):  # type: ignore[no-untyped-def]
    """``rows[k - 1] = sqrt(2) cos(pi k place)``, one row from the two before."""
    modes, n = rows.shape
    root = np.sqrt(2.0)
    twice = np.empty(n)
    for i in range(n):
        twice[i] = 2.0 * np.cos(np.pi * place[i])
    for k in range(modes):
        for i in range(n):
            last = rows[k - 1, i] if k > 0 else root
            before = rows[k - 2, i] if k > 1 else root
            rows[k, i] = twice[i] * last - before if k > 0 else 0.5 * twice[i] * root


@numba.njit(cache=True, nogil=True)
def _fill_products(along_y, along_x, iy, ix, rows):  # type: ignore[no-untyped-def]
    """``rows[j] = along_y[iy[j]] * along_x[ix[j]]``."""
    for j in range(len(iy)):
        for i in range(rows.shape[1]):
            rows[j, i] = along_y[iy[j], i] * along_x[ix[j], i]


class ExpectedFlyback(NamedTuple):
    """A device's line fly-back, expected under the settings of a scan."""

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
    smooth_modes: tuple[Modes, Modes] = field(init=False, repr=False, compare=False)
    """Mode numbers (y, x) of the smooth term."""
    slices: dict[str, slice] = field(init=False, repr=False, compare=False)
    """Where each group of functions stands; ``"walk"`` follows those of D, and the mains it if its
    phase differs between frames."""

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
        modes = int(np.clip(rows * (1 + 2 * MARGIN), FEWEST_WALK_MODES, MOST_WALK_MODES))
        return cls(
            shape_px=settings.shape_px,
            period_px=settings.line_period_px,
            walk_modes=modes if "scan_time" in terms else 0,
            terms=terms,
            sigma_px=sigma_px,
            expected=ExpectedFlyback.of_scan(settings, flyback),
            locked_modes=modes if settings.frame_sync and "frame_locked" in terms else 0,
            frame_sync=bool(settings.frame_sync),
            line_time_s=_line_time_s(settings) if "mains" in terms else None,
        )

    def refined(self) -> "Basis":
        """Return the same basis with the functions along x that many frames resolve.

        Returns
        -------
        Basis
            The new basis.
        """
        return replace(self, fast_modes=MOST_FAST_MODES)

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
        """Return the basis whose functions all others repeat, but those of the mains.

        Returns
        -------
        Basis
            Without what is locked to the frame: the walk has the same functions.
        """
        modes = max(self.walk_modes, self.locked_modes)
        return replace(self, locked_modes=0, walk_modes=modes, mains_hz=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "smooth_modes", _modes_in_disc("smooth" in self.terms))
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
        object.__setattr__(self, "slices", where)

    @property
    def stationary_size(self) -> int:
        """How many functions D has."""
        return int(self.slices["walk"].start)

    @property
    def size(self) -> int:
        """How many functions D and W_k have together."""
        return max(int(one.stop) for one in self.slices.values())

    def seen(self) -> Array:
        """Say how much of each function the columns show: they average over their own extent.

        Returns
        -------
        ndarray, shape (2, size)
            One but for functions of scan time, and a calibration's along x: those of a live model
            are hardly narrower than a column.
        """
        seen = np.ones((2, self.size))
        if self.fast_modes > FAST_MODES:
            waves = np.arange(1.0, self.slices["fast"].stop - self.slices["fast"].start + 1)
            waves *= np.pi / (self.shape_px[1] * (1 + 2 * MARGIN))
            seen[::-1, self.slices["fast"]] = self._averaged(waves)
        for group, modes in (("walk", self.walk_modes), ("locked", self.locked_modes)):
            seen[:, self.slices[group]] = self.shown(np.arange(1.0, modes + 1))
        if self.mains_hz is not None:
            seen[:, self.slices["mains"]] = self.shown(self.mains_waves())
        return seen

    def mains_waves(self) -> Array:
        """Say how fast the functions of the mains are.

        Returns
        -------
        ndarray, shape (8,)
            Half periods of each in the interval of W_k.
        """
        modes = 2.0 * self._mains_cycles() * self.interval_lines
        return np.asarray(modes * np.r_[np.repeat(HARMONICS, 2), 1.0, 1.0])

    def _mains_cycles(self) -> float:
        """Periods of the mains in a line's time."""
        if self.mains_hz is None or self.line_time_s is None:
            return 0.0
        return self.mains_hz * self.line_time_s

    def shown(self, modes: Array) -> Array:
        """Say how much of waves of scan time the columns show.

        Parameters
        ----------
        modes : ndarray, shape (k,)
            Half periods of each in the interval of W_k.

        Returns
        -------
        ndarray, shape (2, k)
            Along y and x; negative where crests come out as troughs.

        Notes
        -----
        The fit of a Gaussian weighs the lines at height d by ``exp(-d^2 / 2 s^2)`` for its place
        along x and by ``d^2 exp(-d^2 / 2 s^2)`` along y, so a wave of k radians a line comes
        through as ``exp(-k^2 s^2 / 2)`` and ``(1 - k^2 s^2) exp(-k^2 s^2 / 2)``.
        """
        return self._averaged(np.pi / self.interval_lines * modes)

    def _averaged(self, waves: Array) -> Array:
        """Say how much is shown of waves, in radians a pixel: along their direction, and across."""
        square = (self.height_px * waves) ** 2
        return np.stack([1.0 - square, np.ones_like(square)]) * np.exp(-0.5 * square)

    @property
    def height_px(self) -> float:
        """Height of the lines that a column's fit averages, a standard deviation."""
        return SEEN_HEIGHT * self.sigma_px

    @property
    def interval_lines(self) -> float:
        """Length of the interval of the walk's functions, in lines."""
        return self.shape_px[0] * (1 + 2 * MARGIN)

    def _unit_y(self, y: Array) -> Array:
        ny = self.shape_px[0]
        return (y + 0.5 + MARGIN * ny) / (ny * (1 + 2 * MARGIN))

    def _unit_x(self, x: Array) -> Array:
        nx = self.shape_px[1]
        return (x + 0.5 + MARGIN * nx) / (nx * (1 + 2 * MARGIN))

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
        y, x = self._inside(places)
        along_y = line_profiles(y / self.shape_px[0])
        lag, slope = self._exponential(x)
        functions: Array = np.concatenate([lag * along_y, slope * along_y[:SLOPE_MODES]])
        return functions

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
            frame, in frame times. None where there is no mains.
        """
        if self.mains_hz is None:
            return np.empty((0, len(places)))
        time = self._time(places)
        angle = 2 * np.pi * self._mains_cycles() * np.outer(HARMONICS, time)
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(-1, len(time))
        return np.concatenate([waves, waves[:2] * (time / self.shape_px[0] - 0.5)])

    def _inside(self, places: Array) -> tuple[Array, Array]:
        ny, nx = self.shape_px
        return np.clip(places[:, 0], -0.5, ny - 0.5), np.clip(places[:, 1], -0.5, nx - 0.5)

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
        self.fill_stationary(places, self.cosines_at(places, SMOOTH_MODES), rows)
        modes = max(self.walk_modes, self.locked_modes)
        if modes:
            table = cosines(self.unit_time(places), modes + 1)[1:]
            rows[self.slices["walk"]] = table[: self.walk_modes]
            rows[self.slices["locked"]] = table[: self.locked_modes]
        rows[self.slices["mains"]] = self.mains_functions(places)
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
        _fill_products(along_y, along_x, iy, ix, rows[where["smooth"]])
        if "line_flyback" in self.terms:
            rows[where["line"].start : where["line_slope"].stop] = self.line_functions(places)
        if "frame_flyback" in self.terms:
            rows[where["frame"]] = _first_lines(self._time(places) / self.shape_px[0])
        if "fast_axis" in self.terms:
            rows[where["fast"]] = along_x[1:]

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
        y, x = self._inside(places)
        return cosines(self._unit_y(y), modes_y), cosines(self._unit_x(x), self.fast_modes)

    def unit_time(self, places: Array) -> Array:
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
        return self._unit_y(self._time(places))

    def _time(self, places: Array) -> Array:
        """Scan time in lines."""
        y, x = self._inside(places)
        return y + x / self.period_px

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
        weights = np.pad(weights, ((0, 0), (0, self.size - weights.shape[1])))
        y, x = np.arange(ny, dtype=np.float64), np.arange(nx, dtype=np.float64)
        profiles = self._profiles(y, weights).astype(np.float32)
        table = self._fast_table(x).astype(np.float32)
        result = np.empty((2, ny, nx), np.float32)

        def _part(start: int, stop: int) -> None:
            np.matmul(profiles[:, start:stop], table, out=result[:, start:stop])

        for_chunks(_part, ny, smallest=PIXELS_AT_ONCE // nx)
        return owned(result)

    def _fast_table(self, x: Array) -> Array:
        """Functions of x: cosines, line fly-back (2), first lines, nodes of the walk, mains."""
        nodes = np.linspace(0.0, self.shape_px[1] - 1.0, TIME_NODES)
        drop = np.exp(-np.outer(1 / np.array(FRAME_DECAYS), x / self.period_px / self.shape_px[0]))
        return np.concatenate(
            [
                cosines(self._unit_x(x), self.fast_modes),
                self._exponential(x),
                drop,
                _lagrange(nodes, x),
                self._mains_table(x),
            ]
        )

    def _mains_table(self, x: Array) -> Array:
        """Cosine and sine of each harmonic within a line, then the first two times x."""
        if self.mains_hz is None:
            return np.empty((0, len(x)))
        place = np.stack([0.0 * x, x], axis=1)
        waves = self.mains_functions(place)[:-2]
        return np.concatenate([waves, waves[:2] * x])

    def _mains_profiles(self, y: Array, weights: Array) -> Array:
        """Weights summed over the functions of y: what multiplies ``_mains_table``.

        With z = c - i s a wave is the real part of ``z exp(i a y) exp(i b x)``.
        """
        if self.mains_hz is None:
            return np.zeros((2, len(y), 0))
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
        return np.swapaxes(parts.reshape(2, -1, len(y)), 1, 2)

    def _profiles(self, y: Array, weights: Array) -> Array:
        """Weights summed over the functions of y: what multiplies ``_fast_table``, (2, ny, k)."""
        where, (iy, ix) = self.slices, self.smooth_modes
        along_y = cosines(self._unit_y(y), SMOOTH_MODES)
        cosine = np.zeros((2, SMOOTH_MODES, self.fast_modes))
        cosine[:, iy, ix] = weights[:, where["smooth"]]
        if "fast_axis" in self.terms:
            cosine[:, 0, 1:] += weights[:, where["fast"]]
        parts = [np.matmul(along_y.T, cosine)]
        line, slope, first = (weights[:, where[n]] for n in ("line", "line_slope", "frame"))
        along_line = line_profiles(y / self.shape_px[0])
        parts += [(line @ along_line[: line.shape[1]])[..., None]]
        parts += [(slope @ along_line[: slope.shape[1]])[..., None]]
        drop = _first_lines(y / self.shape_px[0])
        parts += [np.swapaxes(first[..., None] * drop[: first.shape[1]], 1, 2)]
        parts += [np.zeros((2, len(y), len(FRAME_DECAYS) - first.shape[1]))]
        parts += [self._walk_at_nodes(y, self._waves_of_time(weights))]
        parts += [self._mains_profiles(y, weights[:, where["mains"]])]
        return np.concatenate(parts, axis=2)

    def _waves_of_time(self, weights: Array) -> Array:
        """Weights of cosines of scan time, of every frame and of this one together."""
        total = np.zeros((2, max(self.walk_modes, self.locked_modes)))
        total[:, : self.walk_modes] += weights[:, self.slices["walk"]]
        total[:, : self.locked_modes] += weights[:, self.slices["locked"]]
        return total

    def _walk_at_nodes(self, y: Array, weights: Array) -> Array:
        if not weights.shape[1]:
            return np.zeros((2, len(y), TIME_NODES))
        nodes = np.linspace(0.0, self.shape_px[1] - 1.0, TIME_NODES) / self.period_px
        time = np.add.outer(y, nodes).ravel()
        table = cosines(self._unit_y(time), weights.shape[1] + 1)[1:]
        return (weights @ table).reshape(2, len(y), TIME_NODES)


def _line_time_s(settings: ScanSettings) -> float | None:
    """Time of a line; None where the mains cannot be told from other terms, or is one of them."""
    duration = settings.frame_time_s
    if duration is None or settings.line_sync or 50.0 * duration < FEWEST_PERIODS:
        return None
    return duration / settings.shape_px[0]


def _modes_in_disc(wanted: bool) -> tuple[Modes, Modes]:  # noqa: FBT001
    """Mode numbers (y, x) inside a quarter disc, without the constant."""
    squares = np.arange(SMOOTH_MODES if wanted else 0) ** 2
    radius2 = np.add.outer(squares, squares)
    iy, ix = np.nonzero((radius2 > 0) & (radius2 < SMOOTH_MODES**2))
    return iy, ix


def _first_lines(height: Array) -> Array:
    drop: Array = np.exp(-np.outer(1 / np.array(FRAME_DECAYS), np.maximum(height, 0.0)))
    return drop


def _lagrange(nodes: Array, x: Array) -> Array:
    """Lagrange polynomials through the nodes, (nodes, n)."""
    table = np.ones((len(nodes), len(x)))
    for i, node in enumerate(nodes):
        for other in np.delete(nodes, i):
            table[i] *= (x - other) / (node - other)
    return table
