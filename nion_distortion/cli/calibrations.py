"""``nion-distortion calibrations``: what the store holds, and its upkeep."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from nion_distortion._plain import as_plain
from nion_distortion.calibrations import CalibrationStore, CalibrationSummary

if TYPE_CHECKING:
    from nion_distortion.distortion import DistortionField

__all__ = ["run"]

HEADINGS = (
    "id",
    "made",
    "sample",
    "device",
    "pixels",
    "field/nm",
    "dwell/us",
    "fly-back/us",
    "frames",
    "left/pm",
    "note",
)
LEFT = "left/pm: rms over a corrected frame, predicted by the model, with no uncertainty of its own"
LONGEST_NOTE = 40
FEWEST_TO_COMPARE = 2
PREDICTED_PM = "pm (predicted, no uncertainty)"


def run(chosen: argparse.Namespace) -> None:
    """Look into the store, or change it.

    Parameters
    ----------
    chosen : argparse.Namespace
        With ``store``, ``action`` and what that takes.

    Raises
    ------
    ValueError
        If it cannot be done; nothing has changed then.
    """
    ACTIONS[chosen.action](CalibrationStore(chosen.store), chosen)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _list(store: CalibrationStore, _: argparse.Namespace) -> None:
    found, damaged = store.list(), store.damaged()
    if not found and not damaged:
        _say(f"{store.path} has no calibration yet.")
    if found:
        _say(*_table([HEADINGS, *(_cells(one) for one in found)]), LEFT)
    _say(*(f"Calibration {name} is damaged: {reason}." for name, reason in damaged.items()))


def _cells(one: CalibrationSummary) -> tuple[str, ...]:
    settings = one.settings
    note = one.note if len(one.note) <= LONGEST_NOTE else f"{one.note[:LONGEST_NOTE]}..."
    return (
        one.calibration_id,
        _when(one),
        one.sample,
        settings.device_id,
        f"{settings.shape_px[0]} x {settings.shape_px[1]}",
        _number(settings.field_of_view_nm),
        _number(settings.dwell_time_us),
        _number(settings.flyback_time_us),
        str(one.frames),
        _number(one.predicted_error_pm, 2),
        " ".join(note.split()),
    )


def _when(one: CalibrationSummary) -> str:
    return datetime.fromtimestamp(one.time_s).astimezone().strftime("%Y-%m-%d %H:%M")


def _number(value: float | None, digits: int = 5) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _show(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    known = store.get(chosen.id)
    one, model = known.summary, known.model
    facts = {
        "id": one.calibration_id,
        "made": _when(one),
        "sample": one.sample,
        "note": one.note,
        "reference": one.reference,
        "frames": one.frames,
        "samples of frames": len(model.samples),
        "left in a corrected frame": _with_unit(one.predicted_error_pm, PREDICTED_PM),
        "of that the field's own error": _with_unit(one.field_error_pm, PREDICTED_PM),
        "fly-back tau": _with_error(one.tau_us, one.tau_std_us, "us"),
        "fly-back at the line start": _pair(one.amplitude_pm, "pm (slow, fast)"),
        "its error": _pair(one.amplitude_std_pm, "pm (slow, fast)"),
        "ageing": model.ageing.told(),
        "software": one.software,
    }
    settings = {item.name: getattr(one.settings, item.name) for item in fields(one.settings)}
    extra = dict(settings.pop("extra"))
    _say(*_aligned(facts), "", "Settings", *_aligned(settings | extra))
    pairs = {name: _pair(pair, "(slow, fast)") for name, pair in one.hyperparameters.items()}
    _say(
        "",
        "Hyperparameters: amplitudes in px, lengths in intervals; no errors known",
        *_aligned(pairs),
    )
    if one.provenance:
        _say("", "Provenance", *_aligned(one.provenance))


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.4g} {unit}"


def _with_error(value: float | None, std: float | None, unit: str) -> str | None:
    if value is None:
        return None
    return f"{value:.4g} {unit} " + ("(no error known)" if std is None else f"+- {std:.2g} {unit}")


def _pair(values: tuple[float, float] | None, unit: str) -> str | None:
    return None if values is None else f"{values[0]:.4g}, {values[1]:.4g} {unit}"


def _aligned(values: Mapping[str, object]) -> list[str]:
    width = max(len(name) for name in values)
    return [f"  {name:{width}}  {_told(value)}" for name, value in values.items()]


def _told(value: object) -> str:
    if value is None:
        return "not known"
    return value if isinstance(value, str) else json.dumps(as_plain(value))


def _note(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    store.annotate(chosen.id, chosen.text)


def _rename(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    store.rename(chosen.id, chosen.sample)


def _delete(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    whole = store.whole_id(chosen.id)
    if not chosen.yes and not _agreed(f"Delete calibration {_named(store, whole)}? [y/N] "):
        _say("Nothing was deleted.")
        return
    store.delete(whole)


def _named(store: CalibrationStore, whole_id: str) -> str:
    """Say what would be deleted; of a damaged one only its id is sure."""
    known = (str(one) for one in store.list() if one.calibration_id == whole_id)
    return next(known, whole_id)


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        raise ValueError("nobody answered, so nothing was deleted; --yes asks nothing") from None


def _field(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    # writing needs HDF5 and the readers of all formats, which no other action does
    files = importlib.import_module("nion_distortion.files")
    known = store.get(chosen.id)
    about = {"calibration": known.calibration_id, "sample": known.summary.sample}
    written = files.write_field(chosen.file, known.model.stationary_field(), about=about)
    _say(f"Written to {written}.")


def _history(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    found = store.list()
    if not found:
        raise ValueError(f"{store.path} has no calibration yet")
    alike = store.alike(
        found[0].calibration_id if chosen.settings_of is None else chosen.settings_of
    )
    if len(alike) < FEWEST_TO_COMPARE:
        raise ValueError(
            f"a change needs two calibrations of the same settings and kind of reference, and "
            f"{alike[0].calibration_id} is the only one"
        )
    fields_of = [one.model.stationary_field() for one in alike]
    changes = [_change_pm(fields_of[0], field) for field in fields_of[1:]]
    hours = [(one.summary.time_s - alike[0].summary.time_s) / 3600.0 for one in alike[1:]]
    for hour, (change, std), one in zip(hours, changes, alike[1:], strict=True):
        _say(
            f"{one.calibration_id}: {hour:.2f} h after {alike[0].calibration_id}, differs by "
            f"{change:.2f} pm (rms); the errors of both explain {std:.2f} pm."
        )
    told = store.get(alike[-1].calibration_id).model.ageing.told()
    _say(f"{told[:1].upper()}{told[1:]}.")
    figures = importlib.import_module("nion_distortion.figures")
    figure = figures.history_figure(hours, *zip(*changes, strict=True))
    try:
        figure.savefig(chosen.out, format="png")
    except OSError as error:
        raise ValueError(f"{chosen.out} cannot be written: {error.strerror}") from error


def _change_pm(first: "DistortionField", later: "DistortionField") -> tuple[float, float]:
    """Rms length of the difference of two fields, and what their errors explain of it."""
    seen = first.valid & later.valid
    if not seen.any():
        raise ValueError("the calibrations have no valid pixel in common")
    difference = (first.displacement_px - later.displacement_px)[:, seen]
    variance = (np.square(first.std_px) + np.square(later.std_px))[:, seen]
    to_pm = 1e3 * first.settings.pixel_size_nm
    squares = (np.square(difference).sum(axis=0).mean(), variance.sum(axis=0).mean())
    return to_pm * float(np.sqrt(squares[0])), to_pm * float(np.sqrt(squares[1]))


def _export(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    _say(f"Written to {store.export(chosen.ids, chosen.file)}.")


def _import(store: CalibrationStore, chosen: argparse.Namespace) -> None:
    new = store.import_(chosen.file)
    _say(f"New: {', '.join(new)}." if new else "All of them were here already.")


ACTIONS: dict[str, Callable[[CalibrationStore, argparse.Namespace], None]] = {
    "list": _list,
    "show": _show,
    "note": _note,
    "rename": _rename,
    "delete": _delete,
    "field": _field,
    "history": _history,
    "export": _export,
    "import": _import,
}
