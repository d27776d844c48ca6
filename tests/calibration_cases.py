"""Models to store, and what other processes do to a store: they import it by this name."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from model_cases import SMALL, flyback, microscope, model_of
from strategies import full_settings

from nion_distortion.calibrations import CalibrationStore, database
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel

NOBODY = 65534


@cache
def tiny_model() -> DistortionModel:
    """A model of the shape of `full_settings`; nothing of it depends on the other settings."""
    full = full_settings()
    plain = replace(SMALL, shape_px=full.shape_px, field_of_view_nm=3.0)
    return replace(model_of(microscope(flyback()), plain)[0], settings=full)


def model_for(settings: ScanSettings) -> DistortionModel:
    return replace(tiny_model(), settings=settings)


def change_connections(change: Callable[[Any], None]) -> None:
    """Do something to every connection that is opened from now on in this process."""
    opened = database._connect

    def connect(*arguments: Any) -> Any:
        connection = opened(*arguments)
        change(connection)
        return connection

    database._connect = connect  # type: ignore[assignment]


def save_some(path: Path, model: DistortionModel, sample: str, number: int, start: Any) -> None:
    """Save one after the other, begun together with another process."""
    start.wait()
    store = CalibrationStore(path)
    for k in range(number):
        store.save(model, time_s=float(k), sample=sample)


def stop_before_commit(path: Path, model: DistortionModel, inside: Any) -> None:
    """Save, but stand still when all is written and nothing is decided."""

    def stop(statement: str) -> None:
        if statement == "COMMIT":
            inside.set()
            time.sleep(600)

    def change(connection: Any) -> None:
        connection.execute("PRAGMA cache_size = 1")  # pages go to the file before the end
        connection.set_trace_callback(stop)

    change_connections(change)
    CalibrationStore(path).save(model, time_s=0.0)


def save_on_a_full_disk(path: Path, model: DistortionModel, limit: int, said: Any) -> None:
    """Save where no file may grow beyond a limit."""
    import resource  # noqa: PLC0415  # Windows has none

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _tell(said, lambda: CalibrationStore(path).save(model, time_s=0.0))


def use_as_nobody(path: Path, model: DistortionModel, said: Any) -> None:
    """Read and save as a user who may write nowhere."""
    with tempfile.TemporaryDirectory() as folder:  # loads what nobody may not read
        warm = CalibrationStore(Path(folder) / "store.sqlite")
        warm.get(warm.save(model, time_s=0.0))
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    _tell(said, lambda: [one.sample for one in CalibrationStore(path).list()])
    _tell(said, lambda: CalibrationStore(path).find(model.settings) is not None)
    _tell(said, lambda: CalibrationStore(path).save(model, time_s=0.0))


def _tell(said: Any, what: Callable[[], object]) -> None:
    try:
        said.put(what())
    except ValueError as sentence:
        said.put(str(sentence))
