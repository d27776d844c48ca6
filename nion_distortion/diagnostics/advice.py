"""What a longer fly-back would gain, and what it would cost."""

from dataclasses import dataclass

import numpy as np

from nion_distortion._uncertainty import with_std
from nion_distortion.diagnostics.numbers import PM_PER_NM
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel, LineFlyback, line_flyback

__all__ = ["FlybackAdvice", "flyback_advice"]

GOOD_ENOUGH_PM = 5.0
"""Displacement by the fly-back at the line start that is good enough."""

CLEAR = 3.0
"""Standard deviations from which a fly-back counts as seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlybackAdvice:
    """What the line fly-back does at the fly-back time of this scan, and at a longer one.

    Parameters
    ----------
    sentence : str
        The advice, or why there is none.
    line_start_pm, line_start_std_pm : float, optional
        Displacement at the first column of the lines, rms; None where no fly-back is seen.
    tau_us, tau_std_us : float, optional
        Time over which it falls to 1/e; None also where the dwell time is unknown.
    wanted_flyback_us, wanted_flyback_std_us : float, optional
        Fly-back time that would leave less than 5 pm; None also where the line's is unknown.
    frame_time_cost_percent, frame_time_cost_std_percent : float, optional
        By how much that would lengthen the frame.
    """

    sentence: str
    line_start_pm: float | None = None
    line_start_std_pm: float | None = None
    tau_us: float | None = None
    tau_std_us: float | None = None
    wanted_flyback_us: float | None = None
    wanted_flyback_std_us: float | None = None
    frame_time_cost_percent: float | None = None
    frame_time_cost_std_percent: float | None = None


def flyback_advice(model: DistortionModel, *, altered: str | None = None) -> FlybackAdvice:
    """Advise on a longer fly-back time.

    Parameters
    ----------
    model : DistortionModel
        What is known of the scan.
    altered : str, optional
        Why the image that taught it is not the scan as it was made: `Frame.altered`.

    Returns
    -------
    FlybackAdvice
        Numbers as far as the scan's timing is known, and one sentence.

    Notes
    -----
    At another fly-back time t the line start is off by ``amplitude exp(-(t - t_now) / tau)``: one
    time constant for the device, at the same field of view.
    """
    seen = line_flyback(model.basis, model.stationary, model.hyperparameters.decay_log_std)
    if seen is None:
        why = "its term is switched off"
        if altered is not None:
            why = f"it is not fitted, because the image is not the scan as it was made ({altered})"
        return FlybackAdvice(sentence=f"no advice on the fly-back: {why}")
    to_pm = PM_PER_NM * model.settings.pixel_size_nm
    start, std = seen.start_px * to_pm, seen.start_std_px * to_pm
    if start < CLEAR * std or start < 0.1 * GOOD_ENOUGH_PM:
        return FlybackAdvice(
            sentence=f"no line fly-back is certain: {with_std(start, std, 'pm')} at the line start",
            line_start_pm=start,
            line_start_std_pm=std,
        )
    return _weighed(seen, start, std, model.settings)


def _weighed(
    seen: LineFlyback, start_pm: float, std_pm: float, settings: ScanSettings
) -> FlybackAdvice:
    known = f"at this fly-back time the first columns are off by {with_std(start_pm, std_pm, 'pm')}"
    dwell_us, flyback_us = settings.dwell_time_us, _flyback_us(settings)
    if dwell_us is None:
        return FlybackAdvice(
            sentence=f"{known}; the scan's dwell time is not known, so what a longer one would "
            "leave is not known either",
            line_start_pm=start_pm,
            line_start_std_pm=std_pm,
        )
    tau_us, tau_std_us = seen.decay_px * dwell_us, seen.decay_std_px * dwell_us
    more_us = tau_us * max(float(np.log(start_pm / GOOD_ENOUGH_PM)), 0.0)
    more_std_us = float(np.hypot(more_us / tau_us * tau_std_us, tau_us * std_pm / start_pm))
    if flyback_us is None:
        return FlybackAdvice(
            sentence=f"{known}; {with_std(more_us, more_std_us, 'us')} more would leave "
            f"< {GOOD_ENOUGH_PM:.0f} pm, but "
            "the scan's fly-back time is not known",
            line_start_pm=start_pm,
            line_start_std_pm=std_pm,
            tau_us=tau_us,
            tau_std_us=tau_std_us,
        )
    percent = 100.0 / (settings.shape_px[1] * dwell_us + flyback_us)
    wanted = (
        f"{with_std(flyback_us + more_us, more_std_us, 'us')} would leave "
        f"< {GOOD_ENOUGH_PM:.0f} pm and cost "
        f"{with_std(percent * more_us, percent * more_std_us, '%')} of frame time"
    )
    return FlybackAdvice(
        sentence=f"{known}; {wanted if more_us else 'that is good enough'}",
        line_start_pm=start_pm,
        line_start_std_pm=std_pm,
        tau_us=tau_us,
        tau_std_us=tau_std_us,
        wanted_flyback_us=flyback_us + more_us,
        wanted_flyback_std_us=more_std_us if more_us else 0.0,
        frame_time_cost_percent=percent * more_us,
        frame_time_cost_std_percent=percent * more_std_us if more_us else 0.0,
    )


def _flyback_us(settings: ScanSettings) -> float | None:
    """Return the fly-back time, from the line time where only that was reported."""
    if settings.flyback_time_us is not None or settings.dwell_time_us is None:
        return settings.flyback_time_us
    if settings.line_time_us is None:
        return None
    return settings.line_time_us - settings.shape_px[1] * settings.dwell_time_us
