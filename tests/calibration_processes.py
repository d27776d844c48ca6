"""What other processes do to a store: they import it by this name, and only what is installed.

A model comes as a pickle's path: a child that fails to start never reads what is sent through a
pipe, and its parent would wait for ever.
"""

import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nion_distortion.calibrations import CalibrationStore, database
from nion_distortion.gaussian_process import DistortionModel

NOBODY = 65534


def change_connections(change: Callable[[Any], None]) -> None:
    """Do something to every connection that is opened from now on in this process."""
    opened = database._connect

    def connect(*arguments: Any) -> Any:
        connection = opened(*arguments)
        change(connection)
        return connection

    database._connect = connect  # type: ignore[assignment]


def unpickled(path: Path) -> DistortionModel:
    model = pickle.loads(path.read_bytes())
    assert isinstance(model, DistortionModel)
    return model


def save_some(path: Path, pickled: Path, sample: str, number: int, start: Any) -> None:
    """Save one after the other, begun together with another process."""
    model, store = unpickled(pickled), CalibrationStore(path)
    start.wait()
    for k in range(number):
        store.save(model, time_s=float(k), sample=sample)


def stop_before_commit(path: Path, pickled: Path, inside: Any) -> None:
    """Save, but stand still when all is written and nothing is decided."""

    def stop(statement: str) -> None:
        if statement == "COMMIT":
            inside.set()
            time.sleep(600)

    def change(connection: Any) -> None:
        connection.execute("PRAGMA cache_size = 1")  # pages go to the file before the end
        connection.set_trace_callback(stop)

    change_connections(change)
    CalibrationStore(path).save(unpickled(pickled), time_s=0.0)


def save_on_a_full_disk(path: Path, pickled: Path, limit: int, said: Any) -> None:
    """Save where no file may grow beyond a limit."""
    import resource  # noqa: PLC0415  # Windows has none

    model = unpickled(pickled)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _tell(said, lambda: CalibrationStore(path).save(model, time_s=0.0))


def use_as_nobody(path: Path, pickled: Path, said: Any) -> None:
    """Read and save as a user who may write nowhere."""
    model = unpickled(pickled)
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
