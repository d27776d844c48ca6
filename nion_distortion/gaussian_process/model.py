"""Samples -> distortion model -> field."""

import functools
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import frozen, reduce_frozen
from nion_distortion.atoms import ColumnShape
from nion_distortion.distortion import DistortionField, DistortionSamples
from nion_distortion.frame import ScanSettings, UnusableFrameError
from nion_distortion.gaussian_process.ageing import (
    Ageing,
    affine_variances,
    claimed_std_px,
    widened,
)
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.coils import Cell, CoilErrors, ShapeErrors
from nion_distortion.gaussian_process.drift import Drift, follow_drift
from nion_distortion.gaussian_process.fields import FieldEstimate, Subject, estimate_field
from nion_distortion.gaussian_process.fitting import (
    fit_frame,
    fit_frame_and_hyperparameters,
    frame_evidence,
    stationary_posterior,
    stationary_variances,
    walk_precision,
)
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.hyperparameters import Hyperparameters, wave_densities
from nion_distortion.gaussian_process.learning import is_at_bound, learn_amplitudes, weigh_calm
from nion_distortion.gaussian_process.origins import origin_of
from nion_distortion.gaussian_process.posterior import Posterior, marginal
from nion_distortion.gaussian_process.shapes import (
    as_distorted,
    reference_cell,
    shapes_of_frame,
)
from nion_distortion.gaussian_process.watch import ShapeWatch, Watch
from nion_distortion.gaussian_process.weights import Information, less
from nion_distortion.lattice import IndexedColumns, Lattice
from nion_distortion.line_shifts import BeamMotion, find_line_shifts
from nion_distortion.options import AnyReference, Free, KnownFlyback

__all__ = ["DistortionModel", "Flagged", "first_model", "refit_amplitudes"]

MOST_SAMPLES = 20
"""Frames whose samples a live model keeps."""

PASSES_ALONE = 5
"""How often a frame that contradicts the others is linearised: it begins with its lattice only."""

FEWEST_COLUMNS = 20

FREE = Free()
AGELESS = Ageing()

ROWS_PER_SPACING = 1.5
"""Rows of columns in one mean spacing of columns: those of a turned lattice, or of two sublattices,
are closer together."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flagged:
    """A frame that was left out of a calibration.

    Parameters
    ----------
    frame_id : str
        Identity of its scan.
    index : int
        Its place among the usable frames.
    chi2 : float
        Squared difference from the prediction of all other frames, over its expectation.
    reason : str
        One sentence.
    """

    frame_id: str
    index: int
    chi2: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistortionModel:
    """What is known about the distortion of one scan setting.

    Parameters
    ----------
    settings : ScanSettings
        The scan.
    basis : Basis
        Functions of D and W_k.
    hyperparameters : Hyperparameters
        Amplitudes, lengths and floor; frozen once found.
    known : Information
        Of all frames about the weights of D, without their prior.
    stationary : Posterior
        The weights of D, from ``known`` and their prior.
    distortion_px : ndarray of float32, shape (2, ny, nx)
        D at every pixel of the scan, in the model's own gauge.
    frames : int
        How many frames those were.
    samples : tuple of DistortionSamples
        The samples of the newest of them.
    last : FrameFit, optional
        The newest frame alone; None in a model that comes from a calibration.
    lattice : Lattice, optional
        Its lattice, in whose cell the next frame is indexed; None likewise.
    drift : Drift, optional
        Where the sample stands; None likewise.
    reference : Free, Similarity or KnownCrystal, default: Free()
        What counts as undistorted.
    zero_px : tuple of float, optional
        A place of the corrected image that is not displaced by definition.
    cell : Cell, optional
        The reference's cell; None where it is free.
    coils : CoilErrors, optional
        Scale errors and skew of the scan, measured against the cell.
    frame_shape : ShapeErrors, optional
        Those of the newest frame alone, its drift included.
    ageing : Ageing, default: Ageing()
        Age of what is known, and growth of its error.
    watch : Watch, optional
        Test of the newest frames against the model (staleness alarm); None until it can begin.
    shape_watch : ShapeWatch, optional
        The same test for scale and skew; None also where the reference's cell is free.
    flagged : tuple of Flagged, default: ()
        Frames that a calibration left out because they disagree with the others.
    unsettled : str, optional
        What is to be said where the scan had not settled when a calibration ended; None where no
        change was seen among the frames that it rests on.
    column_shape : ColumnShape, optional
        What the columns of the newest frame were like; None in a model that comes from a
        calibration.
    """

    settings: ScanSettings
    basis: Basis
    hyperparameters: Hyperparameters
    known: Information
    stationary: Posterior
    distortion_px: npt.NDArray[np.float32]
    frames: int
    samples: tuple[DistortionSamples, ...]
    last: FrameFit | None = None
    lattice: Lattice | None = None
    drift: Drift | None = None
    reference: AnyReference = FREE
    zero_px: tuple[float, float] | None = None
    cell: Cell | None = None
    coils: CoilErrors | None = None
    frame_shape: ShapeErrors | None = None
    ageing: Ageing = AGELESS
    watch: Watch | None = None
    flagged: tuple[Flagged, ...] = ()
    shape_watch: ShapeWatch | None = None
    unsettled: str | None = None
    column_shape: ColumnShape | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "distortion_px", frozen(self.distortion_px))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    def stationary_field(self) -> DistortionField:
        """Bring D to the pixels of the corrected image: what another sample may be corrected by.

        Returns
        -------
        DistortionField
            Of kind ``"stationary"``.
        """
        return self.stationary_estimate().field

    def stationary_estimate(self) -> FieldEstimate:
        """Return the stationary field with the error of its own size.

        Returns
        -------
        FieldEstimate
            The field and its rms' standard deviation.
        """
        estimate = estimate_field(
            self.basis,
            self.stationary,
            self.hyperparameters,
            self.distortion_px,
            self.settings,
            Subject(
                "stationary",
                shape=None if self.coils is None else self.coils.as_shape(),
                zero_px=self.zero_px,
                reference=self.reference,
            ),
        )
        return self._with_scale(estimate)

    def frame_estimate(self) -> FieldEstimate:
        """Return the field of the newest frame, D + W_k, with the error of its own size.

        Returns
        -------
        FieldEstimate
            The field, of kind ``"frame"``, and its rms' standard deviation.

        Raises
        ------
        ValueError
            If the model comes from a calibration, and has learnt from no frame since.
        """
        if self.last is None:
            raise ValueError(
                "this model comes from a calibration and has no frame of its own: update it with "
                "one, or use its stationary field"
            )
        posterior = self.last.posterior
        estimate = estimate_field(
            self.basis,
            posterior,
            self.hyperparameters,
            self.basis.on_pixels(posterior.mean[:, : self.basis.size]),
            self.settings,
            Subject(
                "frame",
                self.last.frame_id,
                self.frame_shape,
                self.zero_px,
                self.reference,
                self.last.lines,
            ),
        )
        return self._with_scale(estimate)

    def _with_scale(self, estimate: FieldEstimate) -> FieldEstimate:
        """Note in a field what a known crystal has measured of the scan's scale."""
        scale = None if self.coils is None else self.coils.as_scale()
        if scale is None:
            return estimate
        return estimate._replace(field=replace(estimate.field, scale=scale))

    def with_lines(
        self, image: npt.NDArray[np.float32], indexed: IndexedColumns
    ) -> "DistortionModel":
        """Measure shifts of single lines of the newest frame beside D and W_k.

        Parameters
        ----------
        image : ndarray of float32, shape (ny, nx)
            The frame.
        indexed : IndexedColumns
            Its columns.

        Returns
        -------
        DistortionModel
            Whose frame's field removes them; the same one where W_k has no functions, or no frame
            was seen.
        """
        if self.last is None or not self.basis.walk_modes:
            return self
        weights = self.last.posterior.mean[:, : self.basis.size]
        motion = BeamMotion(
            at_starts_px=self.basis.at_line_starts(weights),
            within_px=self.basis.mains_in_lines(weights),
            period_px=self.basis.period_px,
            slowest=np.pi * self.basis.walk_modes / self.basis.scan_time.interval_lines,
            wave_px2=wave_densities(self.basis, self.hyperparameters),
        )
        lines = find_line_shifts(image, indexed.columns, indexed.sublattice, motion)
        return replace(self, last=replace(self.last, lines=lines))

    def updated(self, samples: DistortionSamples, lattice: Lattice) -> "DistortionModel":
        """Learn from another frame of the same settings.

        Parameters
        ----------
        samples : DistortionSamples
            Indexed columns of the frame.
        lattice : Lattice
            Its lattice, in the same cell as before.

        Returns
        -------
        DistortionModel
            A new model; for given samples one by one equals all together. A frame that is among
            ``samples`` is fitted beside what the others said, and teaches nothing more. Nor does
            one that contradicts the others, which is fitted by itself: then `is_contradicted`.

        Raises
        ------
        ValueError
            If the settings differ, naming each that does.
        UnusableFrameError
            If there are too few columns.
        """
        names = self.settings.differences(samples.settings)
        if names:
            raise ValueError(f"the frame's settings differ from the model's in {', '.join(names)}")
        _check_enough(samples)
        before = self.aged(samples.time_s)
        fit = before.fitted(samples, before.known)
        others = tuple(one for one in self.samples if not samples.is_same_image(one))
        if len(others) < len(self.samples):
            alone = before.fitted(samples, less(before.known, fit.known))
            seen_again = replace(before, samples=(*others, samples))
            return _following(seen_again, samples, lattice, alone)
        watch = before.watching(fit.known).seen(fit.known, before.stationary)
        if watch.contradiction:
            alone = _fitted_alone(before, samples)
            return _following(replace(before, watch=watch), samples, lattice, alone)
        drift = _followed(self.drift, fit, samples)
        stationary = fit.posterior.leading()
        return replace(
            before,
            **_shapes(fit, samples, drift, before),
            known=before.known + fit.known,
            stationary=stationary,
            distortion_px=self.basis.on_pixels(stationary.mean),
            frames=self.frames + 1,
            samples=(*self.samples, samples)[-MOST_SAMPLES:],
            last=fit,
            lattice=lattice,
            drift=drift,
            ageing=before.ageing.renewed(samples.time_s, self.basis, stationary),
            watch=watch,
        )

    @property
    def is_contradicted(self) -> bool:
        """Whether the newest frame showed another distortion, and was not learnt from."""
        return self.watch is not None and self.watch.contradiction > 0.0

    def fitted(self, samples: DistortionSamples, known: Information) -> FrameFit:
        """Fit a frame, and learn nothing.

        Parameters
        ----------
        samples : DistortionSamples
            Indexed columns of the frame.
        known : Information
            What other frames said about D.

        Returns
        -------
        FrameFit
            The frame alone.
        """
        return fit_frame(
            samples, self.basis, self.hyperparameters, known=known, moving_px=self.distortion_px
        )

    def aged(self, time_s: float | None) -> "DistortionModel":
        """Bring what is known to a later time, in which D may have changed.

        Parameters
        ----------
        time_s : float or None
            POSIX time; nothing changes where it is unknown, earlier or less than a minute ahead.

        Returns
        -------
        DistortionModel
            With a wider, or the same, posterior of D.
        """
        hours = self.ageing.hours_until(time_s)
        if not hours:
            return self
        variances = stationary_variances(self.basis, self.hyperparameters)
        known = widened(self.known, self.ageing.noise(hours, variances))
        stationary = stationary_posterior(self.basis, self.hyperparameters, known)
        errors_px = (claimed_std_px(self.basis, one) for one in (self.stationary, stationary))
        return replace(
            self,
            known=known,
            stationary=stationary,
            distortion_px=self.basis.on_pixels(stationary.mean),
            coils=self._aged_coils(hours, variances),
            ageing=self.ageing.aged(time_s, *errors_px),
        )

    def _aged_coils(self, hours: float, variances: Array) -> CoilErrors | None:
        """Scale and skew change as fast as D does."""
        if self.coils is None:
            return None
        affine = affine_variances(self.basis, variances)
        return self.coils.aged(self.ageing.share(hours), affine)

    def watching(self, frame: Information) -> Watch:
        """Return the watch over the newest frames, or begin one.

        Parameters
        ----------
        frame : Information
            What a frame says about the weights of D.

        Returns
        -------
        Watch
            Without that frame.
        """
        if self.watch is not None:
            return self.watch
        return Watch.of(frame, stationary_variances(self.basis, self.hyperparameters))


def first_model(
    samples: DistortionSamples,
    lattice: Lattice,
    terms: frozenset[Any],
    *,
    reference: AnyReference = FREE,
    zero_px: tuple[float, float] | None = None,
    flyback: KnownFlyback | None = None,
) -> DistortionModel:
    """Make a model from the first frame of new settings.

    Parameters
    ----------
    samples : DistortionSamples
        Indexed columns of the frame.
    lattice : Lattice
        Its lattice.
    terms : frozenset of str
        The terms to use.
    reference : Free, Similarity or KnownCrystal, default: Free()
        What counts as undistorted.
    zero_px : tuple of float, optional
        A place of the corrected image that is not displaced by definition.
    flyback : KnownFlyback, optional
        What other settings of the device have taught.

    Returns
    -------
    DistortionModel
        Its hyperparameters are those of greatest evidence, times their priors.

    Raises
    ------
    UnusableFrameError
        If there are too few columns, if they are not those of a known crystal, or if no distortion
        of a real scan explains them.
    """
    _check_enough(samples)
    settings = samples.settings
    cell = reference_cell(reference, samples)
    rows, sigma_px = _rows_of_columns(samples), samples.sigma_px
    basis = Basis.of_scan(settings, rows, terms, sigma_px=sigma_px, flyback=flyback)
    fit = fit_frame_and_hyperparameters(samples, basis, settings.pixel_size_nm)
    _check_bounds(fit, settings.pixel_size_nm)
    stationary = fit.posterior.leading()
    drift = _followed(None, fit, samples)
    cell = None if cell is None else as_distorted(cell, fit)
    shapes = None if cell is None else shapes_of_frame(fit, samples, cell, drift, None)
    return DistortionModel(
        settings=settings,
        basis=fit.basis,
        hyperparameters=fit.hyperparameters,
        known=fit.known,
        stationary=stationary,
        distortion_px=fit.basis.on_pixels(stationary.mean),
        frames=1,
        samples=(samples,),
        last=fit,
        lattice=lattice,
        drift=drift,
        reference=reference,
        zero_px=zero_px,
        cell=cell,
        coils=None if shapes is None else shapes.coils,
        frame_shape=None if shapes is None else shapes.frame,
        ageing=Ageing(time_s=samples.time_s),
    )


def refit_amplitudes(model: DistortionModel) -> DistortionModel:
    """Find the amplitudes of D against those of W_k again, from all samples in the model.

    Parameters
    ----------
    model : DistortionModel
        One that holds the samples of all its frames.

    Returns
    -------
    DistortionModel
        With the new amplitudes and lengths, and the samples' information under them.

    Raises
    ------
    ValueError
        If some of the model's samples are no longer there.

    Notes
    -----
    One frame cannot tell what is stationary from what moved the beam in that frame only.
    """
    if model.frames != len(model.samples):
        raise ValueError(
            f"the amplitudes need the samples of all {model.frames} frames, "
            f"not of {len(model.samples)}"
        )
    basis, hyperparameters = model.basis, model.hyperparameters
    given = [
        frame_evidence(one, basis, hyperparameters, model.distortion_px) for one in model.samples
    ]
    for improve in (learn_amplitudes, weigh_calm):
        hyperparameters = improve(given, basis, hyperparameters, model.settings.pixel_size_nm)
    precision = walk_precision(basis, hyperparameters)
    parts = [marginal(one.information, basis.stationary_size, precision) for one in given]
    known = functools.reduce(operator.add, parts)
    stationary = stationary_posterior(basis, hyperparameters, known)
    return replace(
        model,
        hyperparameters=hyperparameters,
        known=known,
        stationary=stationary,
        distortion_px=basis.on_pixels(stationary.mean),
        watch=None,  # other amplitudes expect other frames
        shape_watch=None,
    )


def _following(
    model: DistortionModel, samples: DistortionSamples, lattice: Lattice, fit: FrameFit
) -> DistortionModel:
    """Go on with the lattice and drift of a frame that nothing is learnt from."""
    drift = _followed(model.drift, fit, samples)
    return replace(
        model,
        last=fit,
        lattice=lattice,
        drift=drift,
        frame_shape=_shapes(fit, samples, drift, model).get("frame_shape"),
    )


def _followed(before: Drift | None, fit: FrameFit, samples: DistortionSamples) -> Drift:
    centre = 0.5 * (np.array(samples.settings.shape_px) - 1.0)
    origin = origin_of(fit, samples, centre)
    return follow_drift(before, fit.lattice_px, centre, samples.time_s, origin)


def _fitted_alone(model: DistortionModel, samples: DistortionSamples) -> FrameFit:
    """Fit a frame as if nothing were known but the hyperparameters."""
    return fit_frame(
        samples,
        model.basis,
        model.hyperparameters,
        known=None,
        moving_px=None,
        passes=PASSES_ALONE,
    )


def _shapes(
    fit: FrameFit, samples: DistortionSamples, drift: Drift, before: DistortionModel
) -> dict[str, Any]:
    """Scale and skew as the model keeps them; nothing where the cell is free."""
    if before.cell is None:
        return {}
    shapes = shapes_of_frame(fit, samples, before.cell, drift, before.coils)
    found = {"coils": shapes.coils, "frame_shape": shapes.frame}
    if before.coils is None or not drift.is_known:
        return found
    watch = before.shape_watch or ShapeWatch.of(before.coils)
    return found | {"shape_watch": watch.seen(shapes.alone, before.coils)}


def _check_enough(samples: DistortionSamples) -> None:
    if len(samples) < FEWEST_COLUMNS:
        raise UnusableFrameError(
            f"only {len(samples)} columns were indexed; a model needs {FEWEST_COLUMNS}"
        )


def _check_bounds(fit: FrameFit, pixel_size_nm: float) -> None:
    if is_at_bound(fit.hyperparameters, pixel_size_nm, fit.basis.shape_px[0]):
        raise UnusableFrameError(
            "the indexed columns contradict each other: only a smooth distortion larger than that "
            "of any scan would explain them"
        )


def _rows_of_columns(samples: DistortionSamples) -> float:
    """Rows that the columns make in the frame, at their mean spacing."""
    span = np.ptp(samples.observed_px, axis=0)
    spacing = np.sqrt(max(span.prod(), 1.0) / len(samples))
    return ROWS_PER_SPACING * float(samples.settings.shape_px[0] / spacing)
