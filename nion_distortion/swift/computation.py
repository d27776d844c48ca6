"""Correct Distortion, a computation of the host on what was stored: what it does and says."""

import copy
import datetime
import functools
import gettext
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.swift.model import DataItem, DocumentModel, Symbolic

from nion_distortion.frame import UnusableFrameError
from nion_distortion.options import AnyReference, Free, KnownCrystal, Options, Similarity
from nion_distortion.swift.phrases import as_written, folds, sentence, small, translated
from nion_distortion.worker import blas_limit

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationStore
    from nion_distortion.stored import StoredResult, StoredScan

__all__ = [
    "MATCHING",
    "METADATA",
    "OWN_LATTICE",
    "CorrectDistortion",
    "OpenStore",
    "RefusedError",
    "caption_of",
    "open_default_store",
    "why_not",
]

_ = gettext.gettext

METADATA = "nion_distortion"
"""Our own block of metadata, as live results have it."""

FORMAT = 1
"""Version of that block."""

MATCHING, OWN_LATTICE = "auto", "lattice"
"""What can be applied, beside a calibration by its id."""

OpenStore = Callable[[], "CalibrationStore"]


class RefusedError(Exception):
    """What cannot be corrected; the message is one sentence for the operator."""


def open_default_store() -> "CalibrationStore":
    """Open the calibrations that command and live view use.

    Returns
    -------
    CalibrationStore
        That of the user.
    """
    store: CalibrationStore = importlib.import_module(
        "nion_distortion.calibrations"
    ).CalibrationStore()
    return store


def _counts_scans(described: DataAndMetadata.DataMetadata) -> bool:
    """Return whether the first axis counts scans; refuse what is no scan at all."""
    if described.is_data_rgb_type:
        raise RefusedError(_("it is a colour picture; the detector's own values are needed"))
    if described.is_data_complex_type:
        raise RefusedError(_("it holds complex numbers; an image of real numbers is needed"))
    axes = described.data_descriptor
    before = axes.is_sequence + axes.collection_dimension_count
    if axes.collection_dimension_count == 2:
        return bool(axes.is_sequence)
    if axes.datum_dimension_count != 2 or before > 1:
        raise RefusedError(_("it is neither an image, nor a stack of them, nor a spectrum image"))
    return before == 1


def why_not(data_item: DataItem.DataItem) -> str:
    """Say why an item cannot be corrected, as far as that is seen without its data.

    Parameters
    ----------
    data_item : DataItem
        The item.

    Returns
    -------
    str
        The reason; empty where nothing speaks against it.
    """
    described = data_item.data_metadata
    if described is None:
        return _("it has no data")
    if data_item.is_live:
        return _("it is being acquired: correct the live scan, or take a snapshot")
    try:
        _counts_scans(described)
    except RefusedError as reason:
        return str(reason)
    return ""


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    blas_limit.enter()
    try:
        yield
    finally:
        blas_limit.leave()


class CorrectDistortion:
    """The computation, as the host makes it anew for each run.

    Parameters
    ----------
    computation : Computation
        The host's facade of it.
    open_store : callable, optional
        Opens the store of calibrations.
    """

    label = _("Correct Distortion")

    def __init__(self, computation: Any, *, open_store: OpenStore = open_default_store) -> None:
        self._computation, self._open_store = computation, open_store
        self._done: DataAndMetadata.DataAndMetadata | None = None

    def execute(self, **inputs: Any) -> None:
        """Correct the source; on a thread of the host's.

        Parameters
        ----------
        **inputs : object
            The host's facade of the source, ``src``; what is ``applied``: ``"auto"``,
            ``"lattice"`` or the id of a calibration; the ``reference``: ``"free"``,
            ``"similarity"`` or the name of a crystal; ``resample``: ``"spline"`` or ``"nearest"``.

        Raises
        ------
        RefusedError
            If it cannot be corrected, with the reason; the host shows it with the computation.
        """
        xdata, wanted = inputs["src"].xdata, {**inputs}
        del wanted["src"]
        try:
            if not self._is_partial(xdata):
                with _one_blas_thread():
                    self._done = self._corrected(xdata, **wanted)
        except (RefusedError, UnusableFrameError, ValueError) as reason:
            refused = sentence(str(reason))
            self._tell(refused)
            raise RefusedError(refused) from None

    def commit(self) -> None:
        """Show the result, on the main thread."""
        if self._done is None:
            return
        self._computation.set_referenced_xdata("target", self._done)
        data_item = self._target
        if data_item is not None:
            data_item.caption = caption_of(self._done.metadata[METADATA])

    @property
    def _target(self) -> DataItem.DataItem | None:
        target: DataItem.DataItem | None = self._inner.get_output("target")
        return target

    @property
    def _inner(self) -> Symbolic.Computation:
        inner: Symbolic.Computation = self._computation._computation  # noqa: SLF001
        return inner

    def _is_partial(self, xdata: DataAndMetadata.DataAndMetadata) -> bool:
        """Return whether a scan has just begun and the last result is better; refuse it if not."""
        rows = xdata.metadata.get("hardware_source", {}).get("valid_rows")
        lines = xdata.data_shape[0]
        if rows is None or len(xdata.data_shape) != 2 or rows >= lines:
            return False
        target = self._target
        if target is not None and target.has_data:
            return True
        raise RefusedError(_("only {rows} of {lines} lines were scanned").format(**locals()))

    def _corrected(
        self, xdata: DataAndMetadata.DataAndMetadata, applied: str, reference: str, resample: Any
    ) -> DataAndMetadata.DataAndMetadata:
        stored = importlib.import_module("nion_distortion.stored")
        scan: StoredScan = stored.stored_scan(
            np.asarray(xdata.data),  # which may be a dataset of an HDF5 file
            self._properties(xdata),
            is_stack=_counts_scans(xdata.data_metadata),
            time_s=_time_s(xdata),
        )
        if applied == OWN_LATTICE:
            options = Options(reference=_reference(reference), resample=resample)
            return _result(xdata, stored.by_own_lattice(scan, options))
        done = stored.by_calibration(
            scan,
            self._open_store(),
            calibration_id="" if applied == MATCHING else applied,
            resample=resample,
        )
        return _result(xdata, done)

    def _properties(self, xdata: DataAndMetadata.DataAndMetadata) -> dict[str, Any]:
        source = self._inner.get_input_data_item("src")
        return {
            "title": _("The item") if source is None else source.title,
            "metadata": xdata.metadata,
            "dimensional_calibrations": [
                {"offset": axis.offset, "scale": axis.scale, "units": axis.units}
                for axis in xdata.dimensional_calibrations
            ],
        }

    def _tell(self, refused: str) -> None:
        """Say in the result's caption why there is none; the inspector of an item shows it."""
        data_item = self._target
        document = None if data_item is None else data_item._document_model  # noqa: SLF001
        if data_item is None or document is None:
            return
        document._call_soon(  # noqa: SLF001  # the way from a thread of the host to its main one
            functools.partial(_caption_refused, document, data_item, refused)
        )


def _caption_refused(
    document: DocumentModel.DocumentModel, data_item: DataItem.DataItem, refused: str
) -> None:
    if data_item in document.data_items:
        before = _("Not updated: ") if data_item.has_data else _("Not corrected: ")
        data_item.caption = before + refused


def _time_s(xdata: DataAndMetadata.DataAndMetadata) -> float | None:
    """Return when it was scanned; of what did not come from a scan here nobody knows."""
    if not xdata.metadata.get("scan", {}).get("scan_device_properties"):
        return None
    return xdata.timestamp.replace(tzinfo=datetime.UTC).timestamp()


def _reference(name: str) -> AnyReference:
    if name == "similarity":
        return Similarity()
    return Free() if name == "free" else KnownCrystal.named(name)


def _result(
    xdata: DataAndMetadata.DataAndMetadata, done: "StoredResult"
) -> DataAndMetadata.DataAndMetadata:
    """Return a result as the host's kind of data, calibrated in nm, with the scan's metadata."""
    metadata = copy.deepcopy(dict(xdata.metadata))
    # left where it was, the host would take the result for a live view of the scan
    record = {"format": FORMAT, "hardware_source": metadata.pop("hardware_source", {})}
    metadata[METADATA] = done.record | record
    axes = list(copy.deepcopy(xdata.dimensional_calibrations))
    first = int(_counts_scans(xdata.data_metadata))
    axes[first : first + 2] = [
        Calibration.Calibration(offset, scale, "nm") for offset, scale in done.axes_nm
    ]
    return DataAndMetadata.new_data_and_metadata(
        done.array,
        copy.deepcopy(xdata.intensity_calibration),
        axes,
        metadata,
        xdata.timestamp,
        xdata.data_descriptor,
    )


def caption_of(record: Mapping[str, Any]) -> str:
    """Say what was done to an item and how good that is.

    Parameters
    ----------
    record : Mapping
        Our block of the result's metadata.

    Returns
    -------
    str
        Some sentences.
    """
    frames = record["frames"]
    off_by, corrected = (_span(frames, name) for name in ("off_by_pm", "corrected_pm"))
    said = [
        _(
            "Off by {off_by} pm, corrected to an expected {corrected} pm (rms, without an "
            "uncertainty)."
        ).format(off_by=off_by, corrected=corrected)
    ]
    if any(frame["worth_it"] is False for frame in frames):
        said.append(_("Correcting is not worth it: its own error is larger than its gain."))
    most = (max(frame.get(name) or 0 for frame in frames) for name in ("folded", "crossed"))
    said.append(folds(*most))
    if record["scale"] is not None:
        said.append(
            _(
                "Pixels of {corrected:.5g} pm on both axes by a known crystal at the same focus, "
                "as scanned {slow} x {fast} pm; the former are known as well as the latter."
            ).format(**_pixels_pm(record["scale"]))
        )
    used = record.get("calibration")
    said += _own_lattice_words(record) if used is None else _calibration_words(used)
    return " ".join(filter(None, said))


def _span(frames: Sequence[Mapping[str, Any]], name: str) -> str:
    values = sorted({f"{frame[name]['value']:.1f}" for frame in frames}, key=float)
    span = values[0] if len(values) == 1 else f"{values[0]} \N{EN DASH} {values[-1]}"
    stds = [frame[name]["std"] for frame in frames if frame[name]["std"] is not None]
    return f"{span} \N{PLUS-MINUS SIGN} {small(max(stds))}" if stds else span


def _pixels_pm(scale: Mapping[str, float]) -> dict[str, Any]:
    """Return the side of a corrected pixel, and write both sides as scanned, pm."""
    std_pm = 10 * scale["nominal_pixel_size_nm"]  # of one percent
    return {"corrected": 1e3 * scale["corrected_pixel_size_nm"]} | {
        axis: f"{1e3 * scale[f'scanned_pixel_{axis}_nm']:.3f} \N{PLUS-MINUS SIGN} "
        f"{std_pm * scale[f'scale_error_{axis}_std_percent']:.3f}"
        for axis in ("slow", "fast")
    }


def _own_lattice_words(record: Mapping[str, Any]) -> list[str]:
    said = [
        _(
            "By its own lattice ({reference}): real displacements longer than about two cells "
            "are removed as well."
        ).format(reference=record["correction"]["reference"])
    ]
    if record["altered"]:
        said.append(_("The fly-back was not fitted, as {why}.").format(why=record["altered"]))
    unusable = [
        (number, frame["unusable"])
        for number, frame in enumerate(record["frames"], start=1)
        if frame["unusable"]
    ]
    if unusable:
        numbers = ", ".join(str(number) for number, _reason in unusable)
        said.append(
            _("Corrected by what the other frames taught: {numbers} ({reason}).").format(
                numbers=numbers, reason=translated(unusable[0][1])
            )
        )
    return said


def _calibration_words(used: Mapping[str, Any]) -> list[str]:
    made = datetime.datetime.fromtimestamp(used["made_s"]).astimezone().isoformat(" ", "minutes")
    named = ", ".join(part for part in (used["id"], used["sample"], made) if part)
    said = [_("By calibration {named}; {state}.").format(named=named, state=used["state"])]
    if used["state"] != "valid":
        said.append(sentence(used["state_reason"]))
    if used["differs"]:
        said.append(
            _("It was named in spite of differences, for which no error allows: {names}.").format(
                names=as_written(", ".join(used["differs"]))
            )
        )
    if used["not_checked"]:
        said.append(
            _("Not reported, taken to be the same: {names}.").format(
                names=", ".join(used["not_checked"])
            )
        )
    return said
