"""What can be wrong with a scan, and the sets of errors that the accuracy tables are made with."""

from dataclasses import dataclass, fields

import numpy as np

from nion_distortion.frame import ScanSettings

__all__ = ["ScanErrors", "dwell_us", "flyback_us", "real_like", "strong_flyback"]

Pair = tuple[float, float]

ZERO: Pair = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanErrors:
    """What is wrong with a scan; with all defaults, nothing.

    Pairs are (y, x). The stationary errors make up D, the others differ from frame to frame.

    Parameters
    ----------
    line_flyback_nm : tuple of float
        How far the beam lags at the line start if the fly-back took no time (overshoots where
        negative); ``D = -line_flyback_nm exp(-(t_flyback + s_x T_dwell) / tau)``. Stationary.
    line_flyback_tau_us : float
        Its time constant.
    frame_flyback_nm : tuple of float
        How far the beam lags at the frame start; ``D = -frame_flyback_nm exp(-t(s) / tau)``.
        Stationary.
    frame_flyback_tau_us : float
        Its time constant.
    coil_scale : tuple of float
        Relative error of each coil's gain: ``D = coil_scale (s - centre)``. Stationary. The coils
        do not turn with the scan rotation.
    coil_skew_rad : float
        Tilt of the slow coil's direction: ``D_x = coil_skew_rad (s_y - centre_y)``. Stationary.
    smooth_nm : float
        Rms length of a smooth random vector field. Stationary.
    fast_axis_step_nm : float
        Rms of steps along x, locked to the place on the fast axis. Stationary.
    line_jitter_nm : float
        Rms of each line's own shift, for each axis. Between lines, where no beam is, it goes as in
        an image that is interpolated by cubic splines.
    walk_nm : float
        Rms, for each axis, of a shift that wanders during the frame (Ornstein-Uhlenbeck).
    walk_correlation_lines : float
        Lines after which the wandering shift has lost 1 - 1/e of its memory.
    hum_nm : float
        Amplitude of the mains hum, in a direction drawn once. Stationary where the settings say
        that lines or frames wait for the mains; otherwise its phase differs between frames.
    hum_hz : float
        Its frequency.
    drift_nm_s : tuple of float
        Steady motion of the sample in the image.
    drift_decay_nm : tuple of float
        Way of a motion that comes to rest: ``drift_decay_nm (1 - exp(-t / drift_decay_time_s))``.
    drift_decay_time_s : float
        Its time constant.
    drift_walk_nm : float
        Rms step between one frame and the next, for each axis.
    startup_nm : float
        Rms length of a smooth field that dies out as ``exp(-index / startup_frames)``.
    startup_frames : float
        Frames after which it has fallen to 1/e.
    ageing_per_hour : float
        All stationary errors are multiplied by ``1 + ageing_per_hour hours``.
    seed : int
        Decides everything that is random.

    Raises
    ------
    ValueError
        If a number is not finite, or a time constant not positive.
    """

    line_flyback_nm: Pair = ZERO
    line_flyback_tau_us: float = 15.0
    frame_flyback_nm: Pair = ZERO
    frame_flyback_tau_us: float = 5000.0
    coil_scale: Pair = ZERO
    coil_skew_rad: float = 0.0
    smooth_nm: float = 0.0
    fast_axis_step_nm: float = 0.0
    line_jitter_nm: float = 0.0
    walk_nm: float = 0.0
    walk_correlation_lines: float = 25.0
    hum_nm: float = 0.0
    hum_hz: float = 50.0
    drift_nm_s: Pair = ZERO
    drift_decay_nm: Pair = ZERO
    drift_decay_time_s: float = 60.0
    drift_walk_nm: float = 0.0
    startup_nm: float = 0.0
    startup_frames: float = 2.0
    ageing_per_hour: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not np.all(np.isfinite(value)):
                raise ValueError(f"{item.name} must be finite, not {value}")
        for name in (
            "line_flyback_tau_us",
            "frame_flyback_tau_us",
            "walk_correlation_lines",
            "drift_decay_time_s",
            "startup_frames",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


def strong_flyback(
    settings: ScanSettings, *, sign: int = 1, smooth_nm: float = 0.04, seed: int = 0
) -> ScanErrors:
    """Return the strong fly-back of the project's accuracy tables.

    Parameters
    ----------
    settings : ScanSettings
        The scan at whose line start the amplitude is reached.
    sign : {1, -1}
        1: the beam lags by 0.2 nm (columns pulled apart); -1: it overshoots by 0.15 nm.
    smooth_nm : float, default: 0.04
        Rms length of the smooth field beside it.
    seed : int, default: 0
        Decides the smooth field.

    Returns
    -------
    ScanErrors
        ``D_x = -a exp(-s_x / (0.03 nx))`` plus the smooth field.
    """
    tau_us = 0.03 * settings.shape_px[1] * dwell_us(settings)
    amplitude_nm = 0.2 if sign > 0 else -0.15
    return ScanErrors(
        line_flyback_nm=(0.0, amplitude_nm * np.exp(flyback_us(settings) / tau_us)),
        line_flyback_tau_us=tau_us,
        smooth_nm=smooth_nm,
        seed=seed,
    )


def real_like(settings: ScanSettings, *, seed: int = 0) -> ScanErrors:
    """Return errors like those of real STO series, every kind moderate.

    Parameters
    ----------
    settings : ScanSettings
        The scan at whose line start the fly-back amplitude is reached.
    seed : int, default: 0
        Decides everything that is random.

    Returns
    -------
    ScanErrors
        Fly-back 0.1 nm over 0.05 nx, smooth field 40 pm, steps 10 pm, walk 10 pm over 25 lines,
        jitter 5 pm, drift 10 pm a frame.
    """
    tau_us = 0.05 * settings.shape_px[1] * dwell_us(settings)
    seconds = settings.shape_px[0] * settings.line_period_px * dwell_us(settings) * 1e-6
    return ScanErrors(
        line_flyback_nm=(0.0, 0.1 * np.exp(flyback_us(settings) / tau_us)),
        line_flyback_tau_us=tau_us,
        smooth_nm=0.04,
        fast_axis_step_nm=0.01,
        line_jitter_nm=0.005,
        walk_nm=0.01,
        walk_correlation_lines=25.0,
        drift_nm_s=(0.006 / seconds, 0.008 / seconds),
        seed=seed,
    )


def dwell_us(settings: ScanSettings) -> float:
    """Return the dwell time, without which nothing can be simulated.

    Parameters
    ----------
    settings : ScanSettings
        The scan.

    Returns
    -------
    float
        Microseconds for each pixel.

    Raises
    ------
    ValueError
        If the settings do not say.
    """
    if settings.dwell_time_us is None:
        raise ValueError("settings must have a dwell_time_us to be simulated")
    return settings.dwell_time_us


def flyback_us(settings: ScanSettings) -> float:
    """Return the time from the end of a line to the start of the next.

    Parameters
    ----------
    settings : ScanSettings
        The scan.

    Returns
    -------
    float
        Microseconds; from the line time where the fly-back time itself is unknown.
    """
    if settings.flyback_time_us is not None:
        return settings.flyback_time_us
    return (settings.line_period_px - settings.shape_px[1]) * dwell_us(settings)
