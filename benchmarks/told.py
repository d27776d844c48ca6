"""What an estimator reaches that is given every true hyperparameter."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.gaussian_process.hyperparameters import NAMES, Hyperparameters
from nion_distortion.gaussian_process.weights import Information

__all__ = ["TrueNumbers", "told"]

ABSENT_PM = 1e-2

SMOOTH_LENGTH = 0.161
"""In frame heights, of the squared exponential with the mean square wave number of the simulator's
waves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueNumbers:
    """Amplitudes and lengths of a simulated scan.

    Parameters
    ----------
    decay : float
        Of the line fly-back, in line lengths.
    amplitudes_pm : Mapping of str to tuple of float
        By name, (slow, fast); terms that are not named are absent.
    walk_lines : float, default: 25
        Correlation length of the walk, in lines.
    """

    decay: float
    amplitudes_pm: Mapping[str, tuple[float, float]]
    walk_lines: float = 25.0


def told(model: DistortionModel, true: TrueNumbers) -> DistortionModel:
    """Fit the frames of a model again with the true amplitudes and lengths.

    Parameters
    ----------
    model : DistortionModel
        What was learnt without them; its samples and its floor are used.
    true : TrueNumbers
        The truth.

    Returns
    -------
    DistortionModel
        Learnt from the same samples.
    """
    basis, lattice = model.basis.with_decay(true.decay), model.lattice
    if lattice is None:
        raise RuntimeError("a model came back without a lattice")
    to_px = 1e-3 / model.settings.pixel_size_nm
    height = basis.scan_time.interval_lines
    values = {name: to_px * np.array(both) for name, both in true.amplitudes_pm.items()}
    values["smooth_length"] = np.full(2, SMOOTH_LENGTH * basis.shape_px[0] / height)
    values["walk_length"] = np.full(2, true.walk_lines / height)
    absent = np.full(2, to_px * ABSENT_PM)
    logs = np.log(np.stack([np.maximum(values.get(n, absent), absent) for n in NAMES], axis=1))
    size = basis.stationary_size
    result = replace(
        model,
        basis=basis,
        hyperparameters=Hyperparameters(logs=logs, floor_px=model.hyperparameters.floor_px),
        known=Information(blocks=np.zeros((2, size, size)), vector=np.zeros((2, size))),
        frames=0,
        samples=(),  # or it would know them already
        watch=None,
    )
    for samples in model.samples:
        result = result.updated(samples, lattice)
    return result
