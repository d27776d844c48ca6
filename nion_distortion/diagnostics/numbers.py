"""Results -> the numbers that people look at; each has a unit, and an uncertainty or none."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion._order import median, quantiles
from nion_distortion.atoms import AtomColumns
from nion_distortion.correction import CorrectedFrame
from nion_distortion.distortion import DistortionField
from nion_distortion.gaussian_process import FREEDOMS, DistortionModel, fitted, rms_of_terms

__all__ = [
    "PM_PER_NM",
    "Estimate",
    "effective_counts",
    "expected_error_pm",
    "field_error_pm",
    "is_worth_it",
    "off_by_pm",
    "removed_pm",
    "scale_numbers",
]

PM_PER_NM = 1e3

CLEAR_GAIN = 3.0
"""Standard deviations by which a detector's gain must differ from zero to be known."""

SAMPLED_PX = 128
"""Averages over an image take at least this many pixels along each axis."""


class Estimate(NamedTuple):
    """A number, its standard deviation, and the 95th percentile of what it averages."""

    value: float
    std: float | None
    """None where the uncertainty is not known."""
    p95: float


def off_by_pm(field: DistortionField, std_px: float) -> Estimate:
    """Say how far off the picture is before the correction.

    Parameters
    ----------
    field : DistortionField
        What the correction takes out.
    std_px : float
        Standard deviation of the rms length of its displacement, px.

    Returns
    -------
    Estimate
        Rms length of the displacement over the valid pixels without its gauge: the part that the
        reference leaves unknown (an affine map, a similarity, or a rotation and a shift), pm.
    """
    to_pm = PM_PER_NM * field.settings.pixel_size_nm
    return _estimate(np.hypot(*_without_gauge(field)) * to_pm, std_px * to_pm)


def expected_error_pm(corrected: CorrectedFrame) -> Estimate:
    """Say how far off the corrected picture still is.

    Parameters
    ----------
    corrected : CorrectedFrame
        The picture with its standard deviation.

    Returns
    -------
    Estimate
        Rms length of ``std_px`` over the valid pixels, pm; it is itself a standard deviation
        that the model predicts, and has no uncertainty of its own.
    """
    to_pm = PM_PER_NM * corrected.pixel_size_nm
    return _estimate(np.hypot(*_at(corrected.std_px, _sampled(corrected.valid))) * to_pm, None)


def field_error_pm(field: DistortionField, *stds_px: npt.NDArray[np.floating]) -> float | None:
    """Say how far off a field is.

    Parameters
    ----------
    field : DistortionField
        The field.
    *stds_px : ndarray, shape (2, ny, nx)
        Independent standard deviations that count: ``std_px``, or ``unremoved_std_px`` as well.

    Returns
    -------
    float, optional
        Rms length of all of them over the valid pixels, pm; None where no pixel is valid.
    """
    if not field.valid.any():
        return None
    valid = (np.square(std[:, field.valid], dtype=np.float64) for std in stds_px)
    squares = sum(std.sum(axis=0) for std in valid)
    return PM_PER_NM * field.settings.pixel_size_nm * float(np.sqrt(np.mean(squares)))


def is_worth_it(field: DistortionField, off_by: Estimate) -> bool:
    """Say whether correcting does more good than harm.

    Parameters
    ----------
    field : DistortionField
        What the correction takes out.
    off_by : Estimate
        Its size, of `off_by_pm`.

    Returns
    -------
    bool
        False where the rms error of what it takes out exceeds what it takes out. What is not
        taken out is there with and without the correction, and does not count.
    """
    std_px = _at(field.std_px, _sampled(field.valid))
    if not std_px.size:
        return False
    rms_px = float(np.sqrt(np.vdot(std_px, std_px) / std_px.shape[1]))
    error_pm = PM_PER_NM * field.settings.pixel_size_nm * rms_px
    return off_by.value > error_pm


def removed_pm(model: DistortionModel, field: DistortionField) -> dict[str, float]:
    """Say what each term of the model took out of the picture.

    Parameters
    ----------
    model : DistortionModel
        The model after the frame.
    field : DistortionField
        What was taken out: terms of D and W_k where it is the frame's own, of D alone otherwise.

    Returns
    -------
    dict of str to float
        Rms length over the scan of each term's part without what the reference leaves unknown,
        pm, by its public name; a term that is switched off is absent. Shifts of single lines are
        part of the term of scan time.
    """
    mean = model.stationary.mean
    if field.kind == "frame" and model.last is not None:
        mean = model.last.posterior.mean[:, : model.basis.size]
    to_pm = PM_PER_NM * field.settings.pixel_size_nm
    found = rms_of_terms(model.basis, mean, FREEDOMS[field.reference])
    if field.kind == "frame" and model.last is not None and model.last.lines is not None:
        found["scan_time"] = float(np.hypot(found["scan_time"], model.last.lines.rms_px))
    return {term: to_pm * rms for term, rms in found.items()}


def effective_counts(columns: AtomColumns, sublattice: npt.NDArray[np.integer]) -> Estimate | None:
    """Say how many electrons stand above the background at the peak of the brightest columns.

    Parameters
    ----------
    columns : AtomColumns
        Indexed columns.
    sublattice : ndarray, shape (n,)
        Sublattice of each; 0 is the brightest.

    Returns
    -------
    Estimate, optional
        Median over the brightest sublattice, electrons per pixel; None where the noise does not
        grow with the brightness, so that it does not tell what one electron adds.
    """
    share = columns.gain_std / columns.gain
    if share * CLEAR_GAIN > 1.0:
        return None
    counts = np.abs(columns.counts[sublattice == 0])
    value, p95 = quantiles(counts, [0.5, 0.95])
    scatter = 1.4826 * median(np.abs(counts - value))
    std = 1.2533 * scatter / np.sqrt(len(counts))  # of a median of a normal sample
    std = float(np.hypot(std, share * value))
    return Estimate(value, std, p95)


def scale_numbers(model: DistortionModel) -> dict[str, float] | None:
    """Collect scale errors and skew of the scan, where a known crystal gave them.

    Parameters
    ----------
    model : DistortionModel
        What is known of the scan.

    Returns
    -------
    dict of str to float, optional
        With their standard deviations, and the pixel's side before and after the correction;
        None where no crystal was known.
    """
    scale = None if model.coils is None else model.coils.as_scale()
    return None if scale is None else scale.numbers(model.settings.pixel_size_nm)


def _sampled(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Choose every few pixels of those that are valid, as flat indices.

    They are shifted from line to line: at its start a field is steep.
    """
    ny, nx = valid.shape
    step = max(1, min(ny, nx) // SAMPLED_PX)
    y = np.arange(step // 2, ny, step)[:, None]
    x = np.arange(0, nx - step + 1, step) + np.arange(len(y))[:, None] % step
    flat = (y * nx + x).ravel()
    return np.asarray(flat[valid.ravel()[flat]])


def _at(images: npt.NDArray[np.floating], flat: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Values of two images at some pixels, (2, n)."""
    return images.reshape(2, -1).take(flat, axis=1).astype(np.float64)


def _without_gauge(field: DistortionField) -> npt.NDArray[np.float64]:
    """Displacement at sampled pixels without what the reference leaves unknown, (2, n)."""
    flat = _sampled(field.valid)
    if len(flat) < 3:
        return np.zeros((2, 1))
    places = np.array(np.divmod(flat, field.valid.shape[1]), dtype=np.float64)
    displacement = _at(field.displacement_px, flat)
    part = fitted(places.T, displacement.T, np.ones(len(flat)), FREEDOMS[field.reference])
    return np.asarray(displacement - part[:, 1:] @ places - part[:, :1])


def _estimate(lengths_pm: npt.NDArray[np.floating], std_pm: float | None) -> Estimate:
    if not lengths_pm.size:
        return Estimate(0.0, None, 0.0)
    rms = float(np.sqrt(np.mean(np.square(lengths_pm, dtype=np.float64))))
    return Estimate(rms, std_pm, quantiles(lengths_pm, [0.95])[0])
