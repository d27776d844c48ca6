"""Nothing that is handed out can be altered, nor what comes out of a pickle of it."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from types import MappingProxyType

import numpy as np
import pytest
from model_cases import flyback

import nion_distortion as nd
from nion_distortion.averaging import DriftAlignedAverage
from nion_distortion.principal_components import LiveComponents
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.specimen import make_specimen

SETTINGS = nd.ScanSettings(
    shape_px=(160, 160), field_of_view_nm=5.0, dwell_time_us=1.0, flyback_time_us=120.0
)
MACHINE = Microscope(
    make_specimen("sto_001", rotation_rad=0.1), flyback(), Detector(counts_at_peak=100.0)
)
KNOWN = nd.Options(reference=nd.KnownCrystal(a_nm=0.3905, b_nm=0.3905))


@cache
def frame(index: int = 0) -> nd.Frame:
    """One whose device told of itself in nested mappings, an array among them."""
    told = {"device": {"name": "scan", "probe": np.zeros(3)}}
    return replace(MACHINE.shot(SETTINGS, index).frame, provenance=told)


@cache
def report() -> nd.FrameReport:
    """Of a second frame, so that the drift, the watches and the coils are there too."""
    first = nd.process_frame(frame(), options=KNOWN)
    return nd.process_frame(frame(1), model=first.model, options=KNOWN)


@cache
def calibrated() -> nd.DistortionModel:
    return nd.calibrate([frame(0), frame(1)], options=KNOWN)


def of_an_own_cell() -> nd.FrameReport:
    return nd.process_frame(frame(), options=nd.Options(reference=nd.Similarity()))


def field() -> nd.DistortionField:
    return calibrated().stationary_field()


def of_a_field() -> nd.FrameReport:
    return nd.process_frame(frame(1), options=nd.Options(reference=nd.Reference(field())))


def corrected() -> nd.CorrectedFrame:
    return nd.correct_frame(frame(), field())


def stored(folder: str) -> nd.Calibration:
    store = nd.CalibrationStore(f"{folder}/calibrations.sqlite")
    return store.get(store.save(calibrated(), time_s=0.0, provenance=frame().provenance))


def components() -> LiveComponents:
    return LiveComponents().added(field().displacement_px)


def average() -> DriftAlignedAverage:
    one, two = corrected(), nd.correct_frame(frame(1), field())
    return DriftAlignedAverage().added(one, (0.0, 0.0)).added(two, (0.01, 0.0))


def parts_of(value: object) -> Iterator[tuple[str, object]]:
    """What a value holds, by name."""
    if is_dataclass(value):
        yield from ((f".{one.name}", getattr(value, one.name)) for one in fields(value))
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", one) for key, one in value.items())
    elif isinstance(value, tuple | list):
        yield from ((f"[{place}]", one) for place, one in enumerate(value))


def alterable(value: object, name: str = "") -> list[str]:
    """Name the arrays and mappings that somebody could alter in a value, however deep in it."""
    is_open = isinstance(value, np.ndarray) and value.flags.writeable
    is_open |= isinstance(value, Mapping) and not isinstance(value, MappingProxyType)
    inside = [open_ for part, one in parts_of(value) for open_ in alterable(one, name + part)]
    return [f"{name}: {type(value).__name__}", *inside] if is_open else inside


def test_what_could_be_altered_is_found_however_deep_it_is() -> None:
    average_ = DriftAlignedAverage()
    object.__setattr__(average_, "origin_nm", ({"a": [np.zeros(2)]},))
    named = [".origin_nm[0]: dict", ".origin_nm[0]['a'][0]: ndarray"]
    assert alterable(average_) == named


@pytest.mark.parametrize(
    "make",
    [frame, report, of_an_own_cell, calibrated, field, of_a_field, corrected, components, average],
)
def test_nothing_can_be_altered_neither_fresh_nor_unpickled(make: Callable[[], object]) -> None:
    made = make()
    assert alterable(made) == []
    assert alterable(pickle.loads(pickle.dumps(made))) == []


def test_a_stored_calibration_cannot_be_altered(tmp_path: object) -> None:
    known = stored(str(tmp_path))
    assert alterable(known) == []
    assert alterable(pickle.loads(pickle.dumps(known))) == []


def test_what_was_given_stays_its_owners() -> None:
    told = {"device": {"probe": np.zeros(3)}}
    kept = replace(frame(), provenance=told)
    told["device"]["probe"][0] = 1.0
    told["device"]["new"] = np.ones(1)
    assert list(kept.provenance["device"]) == ["probe"]
    assert not kept.provenance["device"]["probe"].any()
