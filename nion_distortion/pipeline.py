"""The stages in order, for one frame: pure, without thread or clock."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, reduce_frozen, sealed
from nion_distortion.atoms import AtomColumns, find_columns
from nion_distortion.correction import CorrectedFrame, correct_frame
from nion_distortion.diagnostics import (
    Estimate,
    FlybackAdvice,
    SetupHint,
    State,
    condition_of,
    expected_error_pm,
    flyback_advice,
    is_worth_it,
    off_by_pm,
    removed_pm,
    setup_hint,
)
from nion_distortion.distortion import DistortionField, DistortionSamples, sample_distortion
from nion_distortion.frame import Frame, UnusableFrameError
from nion_distortion.gaussian_process import DistortionModel, FieldEstimate, first_model
from nion_distortion.lattice import IndexedColumns, index_columns
from nion_distortion.options import (
    AnyReference,
    FourierFiltered,
    Free,
    Options,
    Reference,
    StackAverage,
    Term,
)
from nion_distortion.references import (
    against_field,
    against_filtered_image,
    check_same_geometry,
)
from nion_distortion.scan_places import places_on_sample

__all__ = ["FrameReport", "Measured", "measure_frame", "process_frame"]

SMALLEST_CELL_NM, LARGEST_CELL_NM = 0.1, 5.0
"""Edges of a projected cell that a STEM resolves."""

NOTHING_KNOWN = condition_of(None).reason

FLYBACK: frozenset[Term] = frozenset({"line_flyback", "frame_flyback"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameReport:
    """What was found in a frame, what was done about it, and how good that is.

    Parameters
    ----------
    unusable : str, optional
        Why this frame gave no samples; None when it did, or was not asked to.
    columns : AtomColumns, optional
        All columns that were found.
    indexed : IndexedColumns, optional
        Those with a place in the lattice.
    samples : DistortionSamples, optional
        Their displacements.
    model : DistortionModel, optional
        The model after this frame: pass it on as ``model=``.
    field : DistortionField, optional
        What was applied to this frame.
    folded : int, optional
        Pixels of the corrected picture that are not valid because the scan turns back on itself,
        so that the beam passed their places more than once; None where nothing was applied.
    crossed : int, optional
        The same for lines of the scan that overtake each other.
    corrected : CorrectedFrame, optional
        The result.
    drift_nm : ndarray, shape (2,), optional
        Motion of the sample in the image since the trajectory began, (y, x).
    drift_std_nm : ndarray, shape (2,), optional
        Its standard deviation; zero in the first frame of the trajectory. What the beam did on
        average during a frame is in it, the error of the pixel size is not.
    drift_ambiguous : bool, default: False
        The trajectory began anew: the step could have been another lattice vector.
    effective_counts : Estimate, optional
        Electrons at the peak of the brightest columns.
    off_by_pm : Estimate, optional
        How far off the picture was.
    corrected_pm : Estimate, optional
        How far off the corrected picture still is.
    state : {"valid", "ageing", "stale", "none"}
        Whether what was known of this scan still holds.
    state_reason : str
        One sentence, with the number that decides it.
    worth_it : bool, optional
        False where the correction's own error exceeds what it takes out.
    removed_pm : Mapping of str to float, optional
        What each term of the model took out, rms; a term that is switched off is absent.
    advice : FlybackAdvice, optional
        What a longer fly-back would gain and cost, or why it was not fitted.
    hints : SetupHint, optional
        Whether the microscope is set up well enough.
    """

    unusable: str | None = None
    columns: AtomColumns | None = None
    indexed: IndexedColumns | None = None
    samples: DistortionSamples | None = None
    model: DistortionModel | None = None
    field: DistortionField | None = None
    folded: int | None = None
    crossed: int | None = None
    corrected: CorrectedFrame | None = None
    drift_nm: npt.NDArray[np.float64] | None = None
    drift_std_nm: npt.NDArray[np.float64] | None = None
    drift_ambiguous: bool = False
    effective_counts: Estimate | None = None
    off_by_pm: Estimate | None = None
    corrected_pm: Estimate | None = None
    state: State = "none"
    state_reason: str = NOTHING_KNOWN
    worth_it: bool | None = None
    removed_pm: Mapping[str, float] | None = None
    advice: FlybackAdvice | None = None
    hints: SetupHint | None = None

    def __post_init__(self) -> None:
        for name in ("drift_nm", "drift_std_nm"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_array(name, getattr(self, name), (2,)))
        if self.removed_pm is not None:
            object.__setattr__(self, "removed_pm", sealed(self.removed_pm))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


class Measured(NamedTuple):
    """What a usable frame gave."""

    indexed: IndexedColumns
    samples: DistortionSamples
    model: DistortionModel
    """After this frame."""


def process_frame(
    frame: Frame, *, model: DistortionModel | None = None, options: Options | None = None
) -> FrameReport:
    """Find, index, model and correct one frame.

    Parameters
    ----------
    frame : Frame, image of shape (ny, nx)
        The frame as scanned; never altered.
    model : DistortionModel, optional
        What earlier frames of the same settings taught.
    options : Options, optional
        How to process it; default ``Options()``.

    Returns
    -------
    FrameReport
        A frame that cannot be measured says why in ``unusable``; with a model it is corrected by
        the model's stationary field all the same.

    Raises
    ------
    ValueError
        If the image is not a finite 2-D image, or the model's settings differ from the frame's or
        its reference from the wanted one; ``Free()``, the default, goes on with the model's own.

    Notes
    -----
    With ``sample="unknown"`` the sample's displacements are data: only a stationary field is
    applied, and the model stays as it is.
    """
    options = Options() if options is None else options
    _check(frame, model, options)
    if options.sample == "unknown":
        return _applied(frame, model, options)
    try:
        columns = _found(frame, model, options)
    except UnusableFrameError as reason:
        return _applied(frame, model, options, str(reason))
    try:
        measured = _measured(frame, columns, model, options)
        if frame.altered is None:  # its lines are those of the scan
            learnt = measured.model.with_lines(frame.image, measured.indexed)
            measured = measured._replace(model=learnt)
        estimate = measured.model.frame_estimate()
    except UnusableFrameError as reason:
        return replace(_applied(frame, model, options, str(reason)), columns=columns)
    model, indexed = measured.model, measured.indexed
    report, drift = _corrected(frame, model, estimate, options), model.drift
    std_px = None if drift is None else drift.std_px
    hints = setup_hint(indexed, frame.settings.pixel_size_nm)
    return replace(
        report,
        columns=columns,
        indexed=indexed,
        samples=measured.samples,
        drift_nm=None if drift is None else drift.offset_px * frame.settings.pixel_size_nm,
        drift_std_nm=None if std_px is None else std_px * frame.settings.pixel_size_nm,
        drift_ambiguous=drift is not None and drift.ambiguous,
        effective_counts=hints.effective_counts,
        hints=hints,
    )


def measure_frame(
    frame: Frame, *, model: DistortionModel | None = None, options: Options | None = None
) -> Measured:
    """Find, index and model one frame, and correct nothing: what a calibration is made of.

    Parameters
    ----------
    frame : Frame, image of shape (ny, nx)
        A frame of a reference crystal.
    model : DistortionModel, optional
        What earlier frames of the same settings taught.
    options : Options, optional
        How to process it; default ``Options()``.

    Returns
    -------
    Measured
        Its columns in the lattice, their samples, and the model with them.

    Raises
    ------
    ValueError
        As `process_frame`.
    UnusableFrameError
        If the frame cannot be measured.
    """
    options = Options() if options is None else options
    _check(frame, model, options)
    columns = _found(frame, model, options)
    return _measured(frame, columns, model, options)


def _found(frame: Frame, model: DistortionModel | None, options: Options) -> AtomColumns:
    known = None if model is None else model.column_shape
    return find_columns(frame.image, detect=options.detect, known=known)


def _measured(
    frame: Frame, columns: AtomColumns, model: DistortionModel | None, options: Options
) -> Measured:
    indexed = _indexed(columns, frame, model)
    reference = options.reference if model is None else model.reference
    samples = sample_distortion(
        indexed, frame.settings, frame_id=_identity(frame), time_s=frame.time_s
    )
    if isinstance(reference, FourierFiltered):
        samples = against_filtered_image(samples, indexed, frame.image, reference)
    elif isinstance(reference, Reference):
        samples = against_field(samples, indexed.lattice, reference)
    try:
        learnt = _learnt(frame, indexed, samples, model, options)
    except np.linalg.LinAlgError as error:
        raise UnusableFrameError(
            f"the columns do not determine a distortion: its equations have no solution ({error})"
        ) from error
    return Measured(indexed, samples, replace(learnt, column_shape=columns.shape))


def _learnt(
    frame: Frame,
    indexed: IndexedColumns,
    samples: DistortionSamples,
    model: DistortionModel | None,
    options: Options,
) -> DistortionModel:
    if model is not None:
        return model.updated(samples, indexed.lattice)
    return first_model(
        samples,
        indexed.lattice,
        _terms(frame, options),
        reference=options.reference,
        zero_px=options.zero_px,
        flyback=options.flyback,
    )


def _check(frame: Frame, model: DistortionModel | None, options: Options) -> None:
    if not hasattr(frame, "settings"):  # a bare array, from who does not look at types
        kind = type(frame).__name__
        raise ValueError(f"frame must be a Frame, which says what scan made it, not {kind}")
    if frame.image.ndim != 2:
        raise ValueError(f"image must be 2-D to find columns, not of shape {frame.image.shape}")
    if options.sample == "reference":
        _check_reference(frame, options.reference if model is None else model.reference)
    if model is None:
        return
    names = model.settings.differences(frame.settings)
    if names:
        raise ValueError(f"the frame's settings differ from the model's in {', '.join(names)}")
    if options.sample == "reference" and options.reference not in (Free(), model.reference):
        raise ValueError(
            f"the model was learnt against {model.reference}, not against {options.reference}"
        )
    if frame.altered is not None and model.basis.terms & FLYBACK:
        raise ValueError(
            f"the image is not the scan as it was made ({frame.altered}), so the model's fly-back "
            "does not hold for it"
        )


def _check_reference(frame: Frame, reference: AnyReference) -> None:
    if isinstance(reference, StackAverage):
        raise ValueError(  # noqa: TRY004 - the type is right, the place is wrong
            "a stack's average is known to calibrate only: one frame has none, so use another "
            'reference, or sample="unknown" with the calibration\'s model'
        )
    if isinstance(reference, Reference):
        check_same_geometry(reference, frame.settings)


def _identity(frame: Frame) -> str:
    """Name a frame, also where nobody else did: its own field must say whose it is."""
    return frame.frame_id or f"frame {frame.index}"


def _terms(frame: Frame, options: Options) -> frozenset[Term]:
    """Leave out what begins with a line or a frame where the image is not the scan itself."""
    return options.terms if frame.altered is None else options.terms - FLYBACK


def _indexed(columns: AtomColumns, frame: Frame, model: DistortionModel | None) -> IndexedColumns:
    indexed = _in_lattice(columns, frame, model)
    cell_nm = np.linalg.norm(indexed.lattice.basis_px, axis=1) * frame.settings.pixel_size_nm
    if cell_nm.min() < SMALLEST_CELL_NM or cell_nm.max() > LARGEST_CELL_NM:
        raise UnusableFrameError(
            f"the cell would be {cell_nm[0]:.3g} x {cell_nm[1]:.3g} nm, which no crystal shows: "
            f"the field of view of {frame.settings.field_of_view_nm:g} nm is wrong"
        )
    return indexed


def _in_lattice(
    columns: AtomColumns, frame: Frame, model: DistortionModel | None
) -> IndexedColumns:
    if model is None:
        return index_columns(columns, frame.settings.shape_px)
    undistorted = places_on_sample(model.distortion_px, columns.positions_px)
    return index_columns(
        columns, frame.settings.shape_px, undistorted_px=undistorted, previous=model.lattice
    )


def _applied(
    frame: Frame, model: DistortionModel | None, options: Options, unusable: str | None = None
) -> FrameReport:
    """Correct by what is known already, if anything is."""
    if model is None:
        nothing = "no calibration matches the settings of this scan, so nothing is corrected"
        return FrameReport(unusable=unusable or nothing)
    now = model.aged(frame.time_s)
    try:
        report = _corrected(frame, now, now.stationary_estimate(), options)
    except UnusableFrameError as reason:  # what is known does not make a picture
        return FrameReport(unusable=unusable or str(reason), model=model)
    return replace(report, model=model, unusable=unusable)


def _corrected(
    frame: Frame, model: DistortionModel, estimate: FieldEstimate, options: Options
) -> FrameReport:
    field = estimate.field
    if field.kind == "frame" and not frame.frame_id:
        frame = replace(frame, frame_id=field.frame_id, provenance=dict(frame.provenance))
    corrected = correct_frame(frame, field, resample=options.resample)
    condition = condition_of(model)
    off_by = off_by_pm(field, estimate.off_by_std_px)
    return FrameReport(
        model=model,
        field=field,
        folded=field.folded,
        crossed=field.crossed,
        corrected=corrected,
        off_by_pm=off_by,
        corrected_pm=expected_error_pm(corrected),
        state=condition.state,
        state_reason=condition.reason,
        worth_it=is_worth_it(field, off_by),
        removed_pm=removed_pm(model, field),
        advice=flyback_advice(model, altered=frame.altered),
    )
