"""How fast D changes: measured from calibrations of the same settings at different times."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import gamma

from nion_distortion.gaussian_process.ageing import (
    CHANGE_PER_HOUR,
    MeasuredChange,
    spread_places,
)
from nion_distortion.gaussian_process.fitting import stationary_variances
from nion_distortion.gaussian_process.model import DistortionModel

__all__ = ["Dated", "measured_change"]

Array = npt.NDArray[np.float64]

BOTH = (0, 1)

RATES = np.geomspace(1e-4, 2.0, 120)
"""Changes in one hour over D's prior amplitude that are weighed against each other."""

RATE_LOG_STD = 1.0
"""Standard deviation of the logarithm of the rate where nothing is measured: a factor 2.7 about the
rate that is assumed."""

ERROR_SCALES, ERROR_LOG_STD = np.exp(np.linspace(-0.8, 0.8, 9)), 0.4
"""Variances of differences over those that are claimed, and the standard deviation of their
logarithm: claims may be wrong by a fifth, which is no change of D."""

WELL_KNOWN = 0.1
"""Share of the prior variance that a calibration may leave of what is compared; beyond, its mean
is drawn to zero and shows less than the change."""

SMALLEST = 1e-9
"""Prior variance, over the greatest one, of what is compared."""


class Dated(NamedTuple):
    """A calibration and when it was made."""

    model: DistortionModel
    hours: float


class _Field(NamedTuple):
    """D at some places, without what an affine map explains; for both axes."""

    mean: Array  # (2, k)
    covariance: Array  # (2, k, k)
    prior: Array  # (2, k, k)


class _Difference(NamedTuple):
    """Mean square that two calibrations differ by along one axis, and what is expected of it."""

    square: float
    hours: float
    errors: float
    """Expected of it by the claimed errors of both."""
    change: float
    """Expected of it by a change as large as D's prior amplitude."""
    scatter: tuple[float, float, float]
    """Half the variance of the square by errors, by both together, and by the change."""


def measured_change(dated: Sequence[Dated], newest: DistortionModel) -> MeasuredChange | None:
    """Measure how fast D changes.

    Parameters
    ----------
    dated : sequence of Dated
        Calibrations of the same settings from different frames, oldest first; their functions of D
        may differ.
    newest : DistortionModel
        The one whose prior amplitude the change is relative to.

    Returns
    -------
    MeasuredChange or None
        None where fewer than two calibrations, or none of them well enough, know D.

    Notes
    -----
    D is compared at 256 places, as a field without its affine part, where both calibrations know
    it well: generalised eigenvectors of the claimed covariance E of the difference and the prior
    covariance K tell where. There the sum of squares of the difference is compared with ``tr V``,
    ``V = s E + rate^2 hours K``, as gamma distributed with the variance ``2 tr V^2``: so the rms
    change of the field is met whatever part of D it is that changes. The likelihood is multiplied
    by log-normal priors of the rate and of the scale s of the errors, and integrated on a grid.
    Each calibration is compared with the next, as if errors of two comparisons were independent.
    """
    places = spread_places(newest.basis)
    affine, _ = np.linalg.qr(np.c_[np.ones(len(places)), places], mode="complete")
    contrasts = affine[:, 3:].T
    own = _field(newest, places, contrasts)
    waves = [_waves(prior) for prior in own.prior]
    fields = [own if one.model is newest else _field(one.model, places, contrasts) for one in dated]
    hours = [one.hours for one in dated]
    found = [
        _difference(pair, later - earlier, axis, waves[axis])
        for pair, (earlier, later) in zip(pairwise(fields), pairwise(hours), strict=True)
        for axis in BOTH
    ]
    seen = [one for one in found if one.change > 0.0]
    if not seen:
        return None
    middle, spread = _weighed(seen)
    return MeasuredChange(
        per_hour=float(np.exp(middle)),
        std=float(np.exp(middle) * spread),
        calibrations=len(dated),
        hours=hours[-1] - hours[0],
    )


def _field(model: DistortionModel, places: Array, contrasts: Array) -> _Field:
    basis = model.basis
    rows = contrasts @ basis.design(places)[: basis.stationary_size].T
    variances = stationary_variances(basis, model.hyperparameters)
    return _Field(
        mean=model.stationary.mean @ rows.T,
        covariance=model.stationary.covariance_of(np.stack([rows, rows])),
        prior=np.stack([(rows * one) @ rows.T for one in variances]),
    )


def _waves(prior: Array) -> tuple[Array, Array]:
    """Independent parts of the field in its prior: variances (k,) and directions (n, k)."""
    values, vectors = np.linalg.eigh(prior)
    kept = values > SMALLEST * values.max()
    return values[kept], vectors[:, kept]


def _difference(
    pair: tuple[_Field, _Field], hours: float, axis: int, waves: tuple[Array, Array]
) -> _Difference:
    """Compare two fields where both know them well."""
    values, vectors = waves
    root = vectors / np.sqrt(values)
    claimed = root.T @ (pair[0].covariance[axis] + pair[1].covariance[axis]) @ root
    errors, turn = np.linalg.eigh(claimed)
    sums = root @ turn  # of unit prior variance, and independent in both
    left = [
        _variance(one.covariance[axis], sums) / _variance(one.prior[axis], sums) for one in pair
    ]
    clear = np.maximum(*left) < WELL_KNOWN
    parts = (np.sqrt(values)[:, None] * turn)[:, clear]  # what each contributes to the field
    size, errors = parts.T @ parts, errors[clear]
    apart = (pair[1].mean[axis] - pair[0].mean[axis]) @ sums[:, clear]
    mixed = size**2 @ errors
    return _Difference(
        square=max(float(apart @ size @ apart), SMALLEST * float(np.trace(size))),
        hours=hours,
        errors=float(np.diag(size) @ errors),
        change=float(np.trace(size)),
        scatter=(float(errors @ mixed), float(2.0 * mixed.sum()), float((size**2).sum())),
    )


def _variance(covariance: Array, sums: Array) -> Array:
    return np.asarray(np.einsum("ki,ki->i", sums, covariance @ sums))


def _weighed(given: Sequence[_Difference]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of the rate."""
    off = np.log(RATES / CHANGE_PER_HOUR)[:, None] / RATE_LOG_STD
    logs = -0.5 * (off**2 + (np.log(ERROR_SCALES) / ERROR_LOG_STD) ** 2)
    for one in given:
        share = RATES[:, None] ** 2 * one.hours
        mean = ERROR_SCALES * one.errors + share * one.change
        by_errors, by_both, by_change = one.scatter
        variance = ERROR_SCALES**2 * by_errors + ERROR_SCALES * share * by_both
        variance += share**2 * by_change
        shape = 0.5 * mean**2 / variance
        logs += gamma.logpdf(one.square, shape, scale=mean / shape)
    weights = np.exp(logs - logs.max()).sum(axis=1)
    weights /= weights.sum()
    middle = float(weights @ np.log(RATES))
    return middle, float(np.sqrt(weights @ (np.log(RATES) - middle) ** 2))
