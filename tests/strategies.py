"""Hypothesis strategies for the types that everything else is made of."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st

from nion_distortion.frame import ScanSettings

few = settings(deadline=None, derandomize=True, max_examples=25)
"""Enough to meet the corners, few enough to stay fast; the same ones at every run."""

OPTIONAL = ("dwell_time_us", "flyback_time_us", "line_time_us", "high_tension_v")

CHANGES: dict[str, Any] = {
    "shape_px": (96, 80),
    "field_of_view_nm": 8.1,
    "dwell_time_us": 2.0,
    "flyback_time_us": 121.0,
    "line_time_us": 191.0,
    "high_tension_v": 2e5,
    "line_sync": False,
    "frame_sync": True,
    "rotation_rad": 0.1,
    "device_id": "another",
    "subscan_px": (256, 256, 3, 4),
}
"""For every field of `full_settings` but ``extra`` another value."""


def full_settings(**changes: Any) -> ScanSettings:
    """Settings in which the device reported everything."""
    values: dict[str, Any] = {
        "shape_px": (80, 96),
        "field_of_view_nm": 8.0,
        "dwell_time_us": 1.0,
        "flyback_time_us": 120.0,
        "line_time_us": 216.0,
        "high_tension_v": 1e5,
        "line_sync": True,
        "frame_sync": False,
        "rotation_rad": 0.2,
        "device_id": "scan",
        "subscan_px": (256, 256, 3, 9),
        "extra": (("beam_lag_us", 1.5), ("mode", "fast")),
    }
    return ScanSettings(**values | changes)


@st.composite
def one_change(draw: st.DrawFn) -> tuple[str, ScanSettings]:
    """Name a field of `full_settings`, or a parameter, and give it any other possible value."""
    name = draw(st.sampled_from([*CHANGES, "beam_lag_us", "mode", "another_parameter"]))
    if name in CHANGES:
        return name, full_settings(**{name: draw(_others(name, getattr(full_settings(), name)))})
    extra = dict(full_settings().extra)
    extra[name] = draw(_others(name, extra.get(name, "")))
    return name, full_settings(extra=tuple(extra.items()))


def _others(name: str, value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, str):
        return st.text(max_size=9).filter(lambda new: new != value)
    if isinstance(value, float):
        # a line must hold its pixels: 96 of 1 us in 216 us
        low, high = {"line_time_us": (0.5, 1e3), "dwell_time_us": (1e-3, 2.2)}.get(name, (0.01, 99))
        factors = st.floats(low, high).filter(lambda factor: abs(factor - 1) > 1e-4)
        return factors.map(lambda factor: value * factor)
    places = st.integers(0, len(value) - 1)
    steps = st.integers(-3, 9).filter(bool)
    return st.tuples(places, steps).map(
        lambda change: tuple(
            part + change[1] * (place == change[0]) for place, part in enumerate(value)
        )
    )


def scan_settings() -> st.SearchStrategy[ScanSettings]:
    """Any settings that a device may report."""
    maybe = {name: st.none() | st.floats(0.1, 1e6) for name in OPTIONAL}
    maybe["line_time_us"] = st.none() | st.floats(2e10, 1e12)  # no shorter than any line's pixels
    syncs = {name: st.none() | st.booleans() for name in ("line_sync", "frame_sync")}
    length = st.integers(8, 16384)
    return st.builds(
        ScanSettings,
        shape_px=st.tuples(length, length),
        field_of_view_nm=st.floats(0.1, 1e4),
        rotation_rad=st.floats(-7, 7),
        device_id=st.text(max_size=5),
        subscan_px=st.none() | st.tuples(length, length, st.integers(0, 9), st.integers(0, 9)),
        extra=st.just(()) | st.tuples(st.tuples(st.just("lag_us"), st.floats(0, 9))),
        **maybe,
        **syncs,
    )


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**32 - 1)


def positive_matrix(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """A symmetric positive matrix that is neither diagonal nor badly conditioned."""
    root = rng.normal(size=(size, 2 * size))
    matrix: npt.NDArray[np.float64] = root @ root.T
    return matrix
