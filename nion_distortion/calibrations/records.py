"""What is known of a stored calibration without unpacking its model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from nion_distortion._validation import reduce_frozen, sealed
from nion_distortion._version import installed_version
from nion_distortion.diagnostics.numbers import PM_PER_NM, field_error_pm
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.gaussian_process.hyperparameters import NAMES, prior_variances
from nion_distortion.gaussian_process.terms import line_flyback

__all__ = ["Calibration", "CalibrationSummary", "FlybackPrior", "Nearest", "summarised"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationSummary:
    """A stored calibration without its model.

    Parameters
    ----------
    calibration_id : str
        Its name in the store, and in any other that it is imported to.
    settings : ScanSettings
        The scan that it holds for.
    time_s : float
        POSIX time at which it was made.
    sample : str
        What it was made on.
    note : str
        The operator's words.
    frames : int
        How many frames it rests on.
    reference : str
        What counted as undistorted.
    predicted_error_pm : float, optional
        Rms length of what is expected to be left in a frame that it corrects: its own error and
        what each frame's beam does; None where no pixel is valid.
    field_error_pm : float, optional
        The part of that which more frames would make smaller.
    tau_us : float, optional
        Time constant of the line fly-back; None without that term, or with unknown timing.
    tau_std_us : float, optional
        Its standard deviation; None where it is not known.
    amplitude_std_pm : tuple of float, optional
        Standard deviation of ``amplitude_pm``; None where it is not known.
    amplitude_pm : tuple of float, optional
        The fly-back's displacement at the line start, mean over the lines, (slow, fast).
    hyperparameters : Mapping
        Amplitudes (px) and lengths of the terms in use by name, each for (slow, fast).
    provenance : Mapping
        Focus, stage, camera and whatever else was known; never part of a match.
    software : str
        Version of the program that made it.
    """

    calibration_id: str
    settings: ScanSettings
    time_s: float
    sample: str
    note: str
    frames: int
    reference: str
    predicted_error_pm: float | None
    field_error_pm: float | None
    tau_us: float | None
    amplitude_pm: tuple[float, float] | None
    hyperparameters: Mapping[str, tuple[float, float]]
    provenance: Mapping[str, Any]
    software: str
    tau_std_us: float | None = None
    amplitude_std_pm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("hyperparameters", "provenance"):
            object.__setattr__(self, name, sealed(getattr(self, name)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.time_s).astimezone().isoformat(" ", "minutes")
        return ", ".join(part for part in (self.calibration_id, self.sample, when) if part)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """A stored calibration.

    Parameters
    ----------
    summary : CalibrationSummary
        What is known about it.
    model : DistortionModel
        Its model, with nothing of the live run that taught it.
    """

    summary: CalibrationSummary
    model: DistortionModel

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def calibration_id(self) -> str:
        """Name in the store."""
        return self.summary.calibration_id

    @property
    def settings(self) -> ScanSettings:
        """Scan that it holds for."""
        return self.summary.settings


class Nearest(NamedTuple):
    """The calibration that differs least from wanted settings, which it does not hold for."""

    summary: CalibrationSummary
    differences: tuple[str, ...]
    """Names of the settings that differ."""
    wanted: ScanSettings

    def __str__(self) -> str:
        changes = [self.change(name) for name in self.differences]
        return f"the nearest calibration ({self.summary}) differs in {', '.join(changes)}"

    def change(self, name: str) -> str:
        """Say how one setting differs.

        Parameters
        ----------
        name : str
            One of ``differences``.

        Returns
        -------
        str
            With its value in the calibration (there) and the wanted one (here).
        """
        return (
            f"{name} ({_told(self.summary.settings, name)} there, {_told(self.wanted, name)} here)"
        )

    def is_told(self, name: str) -> bool:
        """Return whether both sides report a setting that differs.

        Parameters
        ----------
        name : str
            One of ``differences``.

        Returns
        -------
        bool
            False where the two could not be compared.
        """
        both = (_value(self.summary.settings, name), _value(self.wanted, name))
        return not any(value is None or value == "" for value in both)


class FlybackPrior(NamedTuple):
    """What one calibration knows of the line fly-back of a device."""

    dwell_time_us: float
    flyback_time_us: float | None
    """None where the device did not say."""
    tau_us: float
    tau_std_us: float | None
    """None where it is not known."""
    amplitude_pm: tuple[float, float]
    """Displacement at the line start, (slow, fast)."""


def _value(settings: ScanSettings, name: str) -> object:
    known = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return (known | dict(settings.extra)).get(name)


def _told(settings: ScanSettings, name: str) -> str:
    value = _value(settings, name)
    if isinstance(value, float):
        return f"{value:.7g}"
    return "not reported" if value is None else str(value)


def summarised(
    model: DistortionModel,
    *,
    calibration_id: str,
    time_s: float,
    labels: tuple[str, str],
    provenance: Mapping[str, Any],
) -> CalibrationSummary:
    """Summarise a model, so that it need not be unpacked to be listed.

    Parameters
    ----------
    model : DistortionModel
        The model.
    calibration_id : str
        Its name.
    time_s : float
        POSIX time at which it was made.
    labels : tuple of str
        Sample and note.
    provenance : Mapping
        Whatever else is known.

    Returns
    -------
    CalibrationSummary
        With the error that its stationary field claims.
    """
    field, logs = model.stationary_field(), model.hyperparameters.logs
    slopes = prior_variances(model.basis, logs[0])[1]
    used = [bool(slope.any()) for slope in slopes]  # the others are as they began
    tau_us, tau_std_us = _tau_us(model)
    amplitude_pm, amplitude_std_pm = _amplitude_pm(model)
    return CalibrationSummary(
        calibration_id=calibration_id,
        settings=model.settings,
        time_s=float(time_s),
        sample=str(labels[0]),
        note=str(labels[1]),
        frames=model.frames,
        reference=field.reference,
        predicted_error_pm=field_error_pm(field, field.std_px, field.unremoved_std_px),
        field_error_pm=field_error_pm(field, field.std_px),
        tau_us=tau_us,
        tau_std_us=tau_std_us,
        amplitude_pm=amplitude_pm,
        amplitude_std_pm=amplitude_std_pm,
        hyperparameters={
            name: (float(slow), float(fast))
            for name, (slow, fast), is_used in zip(NAMES, np.exp(logs.T), used, strict=True)
            if is_used
        },
        provenance=provenance,
        software=installed_version(),
    )


def _amplitude_pm(
    model: DistortionModel,
) -> tuple[tuple[float, float], tuple[float, float]] | tuple[None, None]:
    """Displacement by the line fly-back at the first pixel, mean over the lines, and its error."""
    basis, weights = model.basis, model.stationary
    if "line_flyback" not in basis.terms:
        return None, None
    lines = np.arange(basis.shape_px[0], dtype=np.float64)
    functions = basis.line_functions(np.stack([lines, np.zeros_like(lines)], axis=1)).mean(axis=1)
    group = slice(basis.slices["line"].start, basis.slices["line_slope"].stop)
    variances = np.einsum("i,aij,j->a", functions, weights.covariance[:, group, group], functions)
    to_pm = model.settings.pixel_size_nm * PM_PER_NM
    slow, fast = to_pm * (weights.mean[:, group] @ functions)
    slow_std, fast_std = to_pm * np.sqrt(variances.clip(0.0))
    return (float(slow), float(fast)), (float(slow_std), float(fast_std))


def _tau_us(model: DistortionModel) -> tuple[float | None, float | None]:
    """Time constant of the line fly-back, and its standard deviation."""
    dwell_us, spread = model.settings.dwell_time_us, model.hyperparameters.decay_log_std
    seen = line_flyback(model.basis, model.stationary, spread)
    if seen is None or dwell_us is None:
        return None, None
    return seen.decay_px * dwell_us, seen.decay_std_px * dwell_us
