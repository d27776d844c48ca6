"""Correction of images, stacks and spectrum images that Nion Swift has stored.

Arrays and plain mappings in and out; nothing of the host is imported.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nion_distortion._plain import as_plain
from nion_distortion._tags import tag
from nion_distortion.calibrations import CalibrationStore, applied_to, matching
from nion_distortion.correction import correct_frame
from nion_distortion.diagnostics import scale_numbers
from nion_distortion.files.nion_swift import nion_swift_recording
from nion_distortion.files.settings import check_images, scan_settings, sides_nm
from nion_distortion.frame import ALTERED, Frame, ScanSettings, UnusableFrameError
from nion_distortion.options import Options, Resample
from nion_distortion.pipeline import FrameReport, process_frame

if TYPE_CHECKING:
    from nion_distortion.calibrations import Calibration
    from nion_distortion.correction import CorrectedFrame

__all__ = ["StoredResult", "StoredScan", "by_calibration", "by_own_lattice", "stored_scan"]

GEOMETRY_KEPT = {
    "convert-to-scalar", "gaussian-blur", "invert", "median-filter", "redimension",
    "sequence-extract", "sequence-trim", "squeeze", "uniform-filter",
}  # fmt: skip
"""Computations of the host that leave every pixel where the scan had it."""

SCANNED = ("hardware_source", "instrument", "scan")
"""Metadata blocks that describe the scan; for computed items the host keeps the source's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredScan:
    """A stored scan: its pixels, and what is known of how they were scanned.

    Parameters
    ----------
    name : str
        What the operator calls it.
    array : ndarray, shape (ny, nx), (ny, nx, ...), (t, ny, nx) or (t, ny, nx, ...)
        Whatever the detector gave.
    is_stack : bool
        Whether the first axis counts scans.
    settings : ScanSettings
        Of each scan.
    axes : tuple of Mapping, default: ()
        Calibrations of y and x, as the host keeps them.
    time_s : float, optional
        POSIX time.
    channel : str, default: ""
        The detector.
    provenance : Mapping, default: {}
        Whatever else is known.
    """

    name: str
    array: npt.NDArray[Any]
    is_stack: bool
    settings: ScanSettings
    axes: tuple[Mapping[str, Any], ...] = ()
    time_s: float | None = None
    channel: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scans(self) -> Iterator[npt.NDArray[Any]]:
        """Each scan, shape (ny, nx) or (ny, nx, ...)."""
        yield from self.array if self.is_stack else [self.array]

    def frame(self, image: npt.NDArray[Any], index: int = 0) -> Frame:
        """Return a frame of this scan.

        Parameters
        ----------
        image : ndarray, shape (ny, nx)
            Its image.
        index : int, default: 0
            Its place in the stack.

        Returns
        -------
        Frame
            With an identity of its own.
        """
        return Frame(
            image=image,
            settings=self.settings,
            index=index,
            time_s=self.time_s,
            frame_id=f"{self.name}[{index}]",
            channel=self.channel,
            provenance=dict(self.provenance),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredResult:
    """A stored scan, corrected.

    Parameters
    ----------
    array : ndarray of float32, shape of the stored one
        Zero where the scan saw nothing of the place.
    axes_nm : tuple
        Offset and scale of y and of x; the middle of the scan stays where it was.
    record : dict
        All that is needed to know what was done, and the numbers, as JSON knows them.
    """

    array: npt.NDArray[np.float32]
    axes_nm: tuple[tuple[float, float], ...]
    record: dict[str, Any]


def stored_scan(
    array: npt.NDArray[Any],
    properties: Mapping[str, Any],
    *,
    is_stack: bool = False,
    time_s: float | None = None,
) -> StoredScan:
    """Read how a stored item was scanned.

    Parameters
    ----------
    array : ndarray, shape (ny, nx), (ny, nx, ...), (t, ny, nx) or (t, ny, nx, ...)
        Its data.
    properties : Mapping
        Its title, metadata and dimensional calibrations, as the host keeps them.
    is_stack : bool, default: False
        Whether the first axis counts scans.
    time_s : float, optional
        POSIX time at which it was scanned.

    Returns
    -------
    StoredScan
        ``provenance["altered"]`` says where it is not the scan as it was made.

    Raises
    ------
    ValueError
        If it is no scan in space of real numbers, is corrected already, or has no pixel size.
    UnusableFrameError
        If the beam did not scan line by line.
    """
    name, metadata = str(properties.get("title") or "The item"), _scanned_by(properties)
    if array.size == 0 or array.ndim < 2 + is_stack:
        raise ValueError(f"{name} is no picture: it has {array.ndim} axes and {array.size} pixels")
    if tag(metadata, "nion_distortion", "correction"):  # empty in a scan that was recorded as it is
        raise ValueError(f"{name} was corrected already; correct the item that it was made from")
    plane = array[0] if is_stack else array
    axes = list(properties.get("dimensional_calibrations") or [])[is_stack : is_stack + 2]
    recording = nion_swift_recording(
        plane.reshape(*plane.shape[:2], -1)[:, :, 0],
        {"title": properties.get("title"), "dimensional_calibrations": axes, "metadata": metadata},
    )
    check_images(name, recording)
    if recording.other_path:
        raise UnusableFrameError(recording.other_path)
    units = [unit for _, unit in recording.steps]
    if recording.settings.get("field_of_view_nm") is None and not any(units):
        raise ValueError(f"{name} has no pixel size: calibrate its axes in nm")
    computed = _computed(metadata)
    return StoredScan(
        name=name,
        array=array,
        is_stack=is_stack,
        settings=scan_settings(name, recording, None),
        axes=tuple(axes),
        time_s=time_s,
        channel=recording.channel,
        provenance={**recording.provenance, **({ALTERED: computed} if computed else {})},
    )


def _scanned_by(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata; of what was computed from or recorded of a scan, with the scan's own."""
    metadata = dict(properties.get("metadata") or {})
    computed, recorded = (
        metadata.get("source_metadata") or {},
        metadata.get("nion_distortion") or {},
    )
    source = {"hardware_source": recorded.get("hardware_source") or {}} | computed
    return {name: source[name] for name in SCANNED if name in source} | metadata


def _computed(metadata: Mapping[str, Any]) -> str:
    computation = metadata.get("computation")
    if not computation or computation.get("computation_id") in GEOMETRY_KEPT:
        return ""
    title = computation.get("computation_title") or computation.get("computation_id") or "a script"
    return f'it was computed from another item by "{title}"'


def by_calibration(
    scan: StoredScan,
    store: CalibrationStore,
    *,
    calibration_id: str = "",
    resample: Resample = "spline",
) -> StoredResult:
    """Correct a stored scan by a stored calibration: only what belongs to the settings.

    Parameters
    ----------
    scan : StoredScan
        Of any sample.
    store : CalibrationStore
        Where the calibration is.
    calibration_id : str, default: ""
        Which one; empty means the newest one whose settings are the scan's.
    resample : {"spline", "nearest"}
        How intensities are interpolated.

    Returns
    -------
    StoredResult
        Every scan of a stack and every plane of a spectrum image are corrected alike.

    Raises
    ------
    ValueError
        If no calibration holds, the named one cannot, or there are pixels that are not finite.
    """
    known = store.get(calibration_id) if calibration_id else _matching(scan, store)
    applied = applied_to(scan.settings, known)
    options = Options(sample="unknown", resample=resample)
    nothing = scan.frame(np.zeros(scan.settings.shape_px, np.float32))
    report = process_frame(nothing, model=applied.model, options=options)
    if report.field is None or report.corrected is None:
        raise ValueError(report.unusable or "the calibration gave no correction")
    done = np.empty(scan.array.shape, np.float32)
    for target, image in zip(_scans_of(done, scan), scan.scans, strict=True):
        whole = correct_frame(image, report.field, settings=scan.settings, resample=resample)
        target[...] = whole.image
    used = applied.record(report)
    record = _record(scan, report.corrected, [report])
    record |= {"calibration": used, "scale": used["scale"]}
    return _result(scan, done, record)


def _matching(scan: StoredScan, store: CalibrationStore) -> "Calibration":
    known = store.find(scan.settings)
    is_told = bool(scan.settings.device_id) or scan.settings.dwell_time_us is not None
    if known is None and not is_told:
        raise ValueError(
            f"{scan.name} does not say how it was scanned, so no calibration can be found for it: "
            "choose one yourself, if you know that it holds"
        )
    return known or matching(store, scan.settings)


def by_own_lattice(scan: StoredScan, options: Options) -> StoredResult:
    """Correct each picture by its own lattice, and what the pictures before it have taught.

    Parameters
    ----------
    scan : StoredScan
        Of a reference crystal.
    options : Options
        What counts as undistorted.

    Returns
    -------
    StoredResult
        A picture that cannot be measured is corrected by what the others taught.

    Raises
    ------
    ValueError
        If it has no pictures, in which alone columns can be found.
    UnusableFrameError
        If no picture could be measured.
    """
    if scan.array.ndim != 2 + scan.is_stack:
        raise ValueError(
            f"{scan.name} has a spectrum at every pixel, in which no lattice is looked for: "
            "choose a stored calibration"
        )
    done = np.empty(scan.array.shape, np.float32)
    targets = list(_scans_of(done, scan))
    reports: dict[int, FrameReport] = {}
    model, corrected = None, None
    # those before the first that can be measured come once more, when something is known
    for index, image in [*enumerate(scan.scans), *enumerate(scan.scans)]:
        if index in reports:
            continue
        report = process_frame(scan.frame(image, index), model=model, options=options)
        if report.corrected is None:
            reason = report.unusable
            continue
        model, corrected = report.model, report.corrected
        targets[index][...] = corrected.image
        reports[index] = _numbers_only(report)
    if corrected is None:
        raise UnusableFrameError(reason or "nothing could be measured")
    ordered = [reports[index] for index in sorted(reports)]
    record = _record(scan, corrected, ordered) | {
        "scale": None if model is None else scale_numbers(model)
    }
    return _result(scan, done, record)


def _scans_of(done: npt.NDArray[np.float32], scan: StoredScan) -> Iterator[npt.NDArray[np.float32]]:
    yield from done if scan.is_stack else [done]


def _numbers_only(report: FrameReport) -> FrameReport:
    """Drop what is large: a stack has many reports."""
    return dataclasses.replace(
        report, columns=None, indexed=None, samples=None, model=None, field=None, corrected=None
    )


def _result(
    scan: StoredScan, done: npt.NDArray[np.float32], record: Mapping[str, Any]
) -> StoredResult:
    return StoredResult(array=done, axes_nm=tuple(_axes_nm(scan)), record=as_plain(record))


def _axes_nm(scan: StoredScan) -> Iterator[tuple[float, float]]:
    for axis, length in zip(scan.axes, scan.settings.shape_px, strict=True):
        (nm,) = sides_nm(((1.0, str(axis.get("units") or "")),))
        middle_nm = nm * (axis.get("offset", 0.0) + axis.get("scale", 1.0) * length / 2)
        scale_nm = scan.settings.pixel_size_nm
        yield middle_nm - scale_nm * length / 2, scale_nm


def _record(
    scan: StoredScan, corrected: "CorrectedFrame", reports: list[FrameReport]
) -> dict[str, Any]:
    settings = {
        item.name: getattr(scan.settings, item.name) for item in dataclasses.fields(scan.settings)
    }
    return {
        "settings": settings | {"extra": dict(scan.settings.extra)},
        "channel": scan.channel,
        "altered": scan.provenance.get(ALTERED),
        "nominal_pixel_size_nm": scan.settings.pixel_size_nm,
        "correction": {
            name: value
            for name, value in corrected.provenance["correction"].items()
            if name != "frame_id"  # of the last one; the host's own identity is better
        },
        "time_s": scan.time_s,
        "frames": [_numbers(report) for report in reports],
    }


def _numbers(report: FrameReport) -> dict[str, Any]:
    names = (
        "unusable", "off_by_pm", "corrected_pm", "state", "state_reason", "worth_it",
        "folded", "crossed", "effective_counts", "drift_nm", "drift_std_nm",
        "drift_ambiguous",
    )  # fmt: skip
    return {name: getattr(report, name) for name in names}
