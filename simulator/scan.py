"""Where the beam goes: every error of a scan, each as a formula in the place of the scan."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from nion_distortion.frame import ScanSettings
from simulator.scan_errors import ScanErrors, dwell_us, flyback_us, real_like, strong_flyback

__all__ = ["ScanErrors", "ScanPath", "real_like", "strong_flyback"]

Array = npt.NDArray[np.float64]

WAVES = 7
"""Waves for each axis of a smooth field, of 0.2 to 1.6 periods over the frame."""

STEPS_PER_LINE = 20
STEP_RISE_PX = 4
"""Plateaus of the fast-axis steps in a line, and the pixels from one to the next."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Smooth:
    """Sum of waves: a smooth random vector field over the frame, in nm."""

    waves_rad: Array  # (2 axes, waves, 2), radians over the frame, (y, x)
    phase_rad: Array  # (2, waves)
    amplitude_nm: Array  # (2, waves)

    def __call__(self, y: Array, x: Array) -> tuple[Array, Array]:
        both = []
        for waves, phases, amplitudes in zip(
            self.waves_rad, self.phase_rad, self.amplitude_nm, strict=True
        ):
            # cos(a + b) as a product, so that a whole grid costs two short tables
            total: Any = 0.0
            for (ky, kx), phase, amplitude in zip(waves, phases, amplitudes, strict=True):
                a, b = ky * y + phase, kx * x
                total = total + (amplitude * np.cos(a)) * np.cos(b)
                total -= (amplitude * np.sin(a)) * np.sin(b)
            both.append(total)
        return both[0], both[1]


def _draw_smooth(rng: np.random.Generator, rms_nm: float) -> _Smooth:
    field_ = _Smooth(
        waves_rad=2 * np.pi * rng.uniform(0.2, 1.6, (2, WAVES, 2)),
        phase_rad=rng.uniform(0, 2 * np.pi, (2, WAVES)),
        amplitude_nm=rng.normal(size=(2, WAVES)),
    )
    line = np.linspace(0, 1, 33)
    parts = field_(line[:, None], line[None, :])
    power = sum(float(np.var(part)) for part in parts)
    return _Smooth(
        waves_rad=field_.waves_rad,
        phase_rad=field_.phase_rad,
        amplitude_nm=field_.amplitude_nm * rms_nm / np.sqrt(power),
    )


def _draw_steps(rng: np.random.Generator, length: int, rms_nm: float) -> Array:
    edges = np.sort(rng.uniform(0, length, STEPS_PER_LINE - 1))
    plateaus = rng.normal(size=STEPS_PER_LINE)[np.searchsorted(edges, np.arange(length))]
    padded = np.pad(plateaus, (STEP_RISE_PX // 2, STEP_RISE_PX // 2 - 1), mode="edge")
    smoothed = np.convolve(padded, np.full(STEP_RISE_PX, 1 / STEP_RISE_PX), mode="valid")
    smoothed -= smoothed.mean()
    steps: Array = smoothed * rms_nm / smoothed.std()
    return steps


def _draw_walk(rng: np.random.Generator, lines: int, correlation_lines: float) -> Array:
    """Ornstein-Uhlenbeck steps of unit variance, shape (2, lines)."""
    memory = np.exp(-1 / correlation_lines)
    walk = rng.normal(size=(2, lines))
    for line in range(1, lines):  # each needs the one before
        walk[:, line] = memory * walk[:, line - 1] + np.sqrt(1 - memory**2) * walk[:, line]
    return walk


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanPath:
    """Where the beam is at each place of one frame's scan.

    With ``s`` the place in the scan (y, x) in px, pixel centres at integers, and scan time
    ``t(s) = s_y T_line + s_x T_dwell``, the beam stands on the sample, in the frame's nominal
    grid, at ``s - D(s) - W(s) - drift(s)``: a column drifts towards larger coordinates where
    ``drift`` grows. Outside the scan every term keeps its value at the nearest edge.

    Parameters
    ----------
    errors : ScanErrors
        What is wrong with the scan.
    settings : ScanSettings
        The scan.
    index : int, default: 0
        Number of the frame since the scan was started.
    start_s : float, default: 0
        Time of the first pixel, counted from the first pixel of frame 0.
    seed : int, default: 0
        Decides, with the errors' own seed, what differs from frame to frame.
    centre_nm : tuple of float, default: (0, 0)
        By how much the scan's centre was moved over the sample, along the image's axes (y, x):
        the sample moves the other way in the image, as if it had drifted.
    """

    errors: ScanErrors
    settings: ScanSettings
    index: int = 0
    start_s: float = 0.0
    seed: int = 0
    centre_nm: tuple[float, float] = (0.0, 0.0)
    _smooth: _Smooth = field(init=False)
    _startup: _Smooth = field(init=False)
    _steps_nm: Array = field(init=False)
    _jitter: CubicSpline = field(init=False)
    _walk: Array = field(init=False)
    _stage_nm: Array = field(init=False)
    _hum: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        ny, nx = self.settings.shape_px
        errors, always = self.errors, self._rng(0, every_frame=True)
        values = {
            "_smooth": _draw_smooth(always, errors.smooth_nm),
            "_startup": _draw_smooth(always, errors.startup_nm),
            "_steps_nm": _draw_steps(always, nx, errors.fast_axis_step_nm),
            "_jitter": CubicSpline(np.arange(ny), self._rng(1).normal(size=(2, ny)), axis=1),
            "_walk": _draw_walk(self._rng(2), ny + 2, errors.walk_correlation_lines),
            "_stage_nm": self._stage(),
            "_hum": self._draw_hum(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> Any:
        names = ("errors", "settings", "index", "start_s", "seed", "centre_nm")
        return _rebuild_path, ({name: getattr(self, name) for name in names},)

    def _rng(self, tag: int, *, every_frame: bool = False) -> np.random.Generator:
        frame = [] if every_frame else [self.seed, self.index]
        return np.random.default_rng([tag, self.errors.seed, *frame])

    def _stage(self) -> Array:
        # the steps of all frames so far, so that frame n needs no memory of frame n - 1
        if self.errors.drift_walk_nm == 0:
            return np.zeros(2)
        rng = np.random.default_rng([3, self.errors.seed, self.seed])
        steps = rng.normal(size=(self.index + 1, 2))
        stage: Array = self.errors.drift_walk_nm * steps[1:].sum(0)
        return stage

    def _draw_hum(self) -> tuple[float, float]:
        direction_rad, phase_rad = self._rng(4, every_frame=True).uniform(0, 2 * np.pi, 2)
        if not self._waits_for_mains:
            phase_rad = self._rng(5).uniform(0, 2 * np.pi)
        return float(direction_rad), float(phase_rad)

    @property
    def _waits_for_mains(self) -> bool:
        """Whether lines or frames do, as the settings say, so that the hum belongs to D."""
        return bool(self.settings.line_sync or self.settings.frame_sync)

    def time_us(self, s: npt.ArrayLike) -> Array:
        """Return the scan time of places in the scan.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n,)
            Time since the first pixel of the frame, us.
        """
        return self._time_us(*self._inside(s))

    def distortion_px(self, s: npt.ArrayLike) -> Array:
        """Return the stationary distortion D.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            D(s), px.
        """
        return self._stack(self._distortion_nm(*self._inside(s)))

    def wander_px(self, s: npt.ArrayLike) -> Array:
        """Return what the beam did in this frame only: walk, jitter, hum, start-up.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            W(s), px.
        """
        return self._stack(self._wander_nm(*self._inside(s)))

    def drift_px(self, s: npt.ArrayLike) -> Array:
        """Return how far the sample has moved in the image since the first pixel of frame 0.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            Drift at the scan time of s, px.
        """
        return self._stack(self._drift_nm(*self._inside(s)))

    def place_px(self, s: npt.ArrayLike) -> Array:
        """Return the place on the sample.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            ``s - D(s) - W(s) - drift(s)``, in the nominal grid of frame 0, px.
        """
        s = np.asarray(s, dtype=np.float64)
        return s - self.distortion_px(s) - self.wander_px(s) - self.drift_px(s)

    def grid_px(self) -> Array:
        """Return the place on the sample of every pixel.

        Returns
        -------
        ndarray, shape (2, ny, nx)
            ``place_px`` at the pixel centres.
        """
        ny, nx = self.settings.shape_px
        y, x = np.arange(ny, dtype=np.float64)[:, None], np.arange(nx, dtype=np.float64)[None, :]
        terms = (self._distortion_nm(y, x), self._wander_nm(y, x), self._drift_nm(y, x))
        grid = np.empty((2, ny, nx))
        for axis, start in enumerate((y, x)):
            total_nm = terms[0][axis] + terms[1][axis] + terms[2][axis]
            grid[axis] = start - total_nm / self.settings.pixel_size_nm
        return grid

    def _inside(self, s: npt.ArrayLike) -> tuple[Array, Array]:
        limit = np.array(self.settings.shape_px) - 0.5
        y, x = np.clip(np.asarray(s, dtype=np.float64), -0.5, limit).T
        return y, x

    def _stack(self, parts_nm: tuple[Array, Array]) -> Array:
        return np.stack(parts_nm, axis=-1) / self.settings.pixel_size_nm

    def _time_us(self, y: Array, x: Array) -> Array:
        return (y * self.settings.line_period_px + x) * dwell_us(self.settings)

    def _distortion_nm(self, y: Array, x: Array) -> tuple[Array, Array]:
        ny, nx = self.settings.shape_px
        dy, dx = self._lag_nm(y, x)
        if self.errors.smooth_nm:
            smooth = self._smooth(y / ny, x / nx)
            dy, dx = dy + smooth[0], dx + smooth[1]
        dx = dx + np.interp(x, np.arange(nx), self._steps_nm)
        coils = self._coils_nm(y, x)
        dy, dx = dy + coils[0], dx + coils[1]
        if self.errors.hum_nm and self._waits_for_mains:
            hum = self._hum_nm(y, x)
            dy, dx = dy + hum[0], dx + hum[1]
        age = 1 + self.errors.ageing_per_hour * self.start_s / 3600
        return dy * age, dx * age

    def _lag_nm(self, y: Array, x: Array) -> tuple[Array, Array]:
        errors, dwell = self.errors, dwell_us(self.settings)
        line = np.exp(-(flyback_us(self.settings) + x * dwell) / errors.line_flyback_tau_us)
        slow = np.exp(-y * self.settings.line_period_px * dwell / errors.frame_flyback_tau_us)
        frame = slow * np.exp(-x * dwell / errors.frame_flyback_tau_us)
        both = [
            -errors.line_flyback_nm[axis] * line - errors.frame_flyback_nm[axis] * frame
            for axis in range(2)
        ]
        return both[0], both[1]

    def _coils_nm(self, y: Array, x: Array) -> tuple[Array, Array]:
        (ny, nx), angle = self.settings.shape_px, self.settings.rotation_rad
        scale_y, scale_x = self.errors.coil_scale
        coils = np.array([[scale_y, 0.0], [self.errors.coil_skew_rad, scale_x]])
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = turn.T @ coils @ turn * self.settings.pixel_size_nm
        y, x = y - (ny - 1) / 2, x - (nx - 1) / 2
        return matrix[0, 0] * y + matrix[0, 1] * x, matrix[1, 0] * y + matrix[1, 1] * x

    def _hum_nm(self, y: Array, x: Array) -> tuple[Array, Array]:
        direction, phase = self._hum
        if self.settings.line_sync:
            time_us = x * dwell_us(self.settings)  # each line begins at the same phase
        else:
            # nothing is scanned between two lines: whole periods from one to the next are none
            period_us = 1e6 / self.errors.hum_hz
            line_us = self.settings.line_period_px * dwell_us(self.settings)
            time_us = self._time_us(y, x) - y * np.rint(line_us / period_us) * period_us
        hum = self.errors.hum_nm * np.cos(2e-6 * np.pi * self.errors.hum_hz * time_us + phase)
        return np.sin(direction) * hum, np.cos(direction) * hum

    def _wander_nm(self, y: Array, x: Array) -> tuple[Array, Array]:
        errors, (ny, nx) = self.errors, self.settings.shape_px
        both: Sequence[Array] = self._shaken_nm(y, x)
        if errors.hum_nm and not self._waits_for_mains:
            both = [a + b for a, b in zip(both, self._hum_nm(y, x), strict=True)]
        if errors.startup_nm:
            left = np.exp(-self.index / errors.startup_frames)
            startup = self._startup(y / ny, x / nx)
            both = [a + left * b for a, b in zip(both, startup, strict=True)]
        return both[0], both[1]

    def _shaken_nm(self, y: Array, x: Array) -> list[Array]:
        errors, ny = self.errors, self.settings.shape_px[0]
        both = [np.zeros(np.broadcast_shapes(y.shape, x.shape)) for _ in range(2)]
        if errors.walk_nm:
            lines, knots = y + x / self.settings.line_period_px, np.arange(ny + 2) - 1.0
            walk = [np.interp(lines, knots, knot_values) for knot_values in self._walk]
            both = [a + errors.walk_nm * b for a, b in zip(both, walk, strict=True)]
        if errors.line_jitter_nm:
            jitter = self._jitter(np.clip(y, 0, ny - 1))
            both = [a + errors.line_jitter_nm * b for a, b in zip(both, jitter, strict=True)]
        return both

    def _drift_nm(self, y: Array, x: Array) -> tuple[Array, Array]:
        errors = self.errors
        time_s = self.start_s + self._time_us(y, x) * 1e-6
        settled = (
            1 - np.exp(-time_s / errors.drift_decay_time_s) if any(errors.drift_decay_nm) else 0
        )
        both = [
            errors.drift_nm_s[axis] * time_s
            + errors.drift_decay_nm[axis] * settled
            + self._stage_nm[axis]
            - self.centre_nm[axis]
            for axis in range(2)
        ]
        return both[0], both[1]


def _rebuild_path(values: dict[str, Any]) -> ScanPath:
    return ScanPath(**values)
