"""A document window of Nion Swift without a screen, and reports to show in it."""

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import session_fakes as fakes
from nion.instrumentation.test import AcquisitionTestContext
from nion.swift.test import TestContext

from nion_distortion.correction import correct_frame
from nion_distortion.principal_components import LiveComponents
from nion_distortion.session import LiveReport

SIDE = 64


@contextmanager
def document_window() -> Iterator[Any]:
    """Open a window with a project in memory; nothing of it may be left afterwards."""
    case = unittest.TestCase()
    AcquisitionTestContext.begin_leaks()
    setup = TestContext.TestSetup()
    with TestContext.create_memory_context() as context:
        window = context.create_document_controller()
        try:
            yield window
        finally:
            del window
    del setup
    AcquisitionTestContext.end_leaks(case)


def ticks(window: Any, count: int = 20) -> None:
    """Let the window do what it has to do."""
    for _ in range(count):
        window.periodic()


@dataclass(frozen=True)
class Report(fakes.Report):
    """With the columns that a frame shows."""

    columns: Any = None
    samples: Any = None
    worth_it: bool | None = True


def report(index: int = 0, level: float = 0.5, **changes: Any) -> LiveReport:
    """Make a report whose distortion rises along the fast axis, by level px in all."""
    frame = replace(fakes.frame(index), time_s=100.0 + 0.25 * index, provenance={})
    kind = changes.pop("kind", "frame")
    ramp = np.zeros((2, SIDE, SIDE), np.float32)
    ramp[1] = np.linspace(-0.5, 0.5, SIDE) * level
    field = fakes.field(
        frame.settings,
        0.0,
        displacement_px=ramp,
        kind=kind,
        frame_id=frame.frame_id if kind == "frame" else "",
    )
    plain = fakes.report(frame, None, field)
    values = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    seen = changes.pop("seen", {})
    buffer = LiveComponents(grid=(8, 8))
    for number in range(index + 1):
        buffer = buffer.added(ramp * (1.0 + 0.01 * number))
    given: dict[str, Any] = {
        "scan": (frame,),
        "report": Report(**values | {"corrected": correct_frame(frame, field)} | seen),
        "drift_nm": np.arange(2.0 * (index + 1)).reshape(-1, 2) * 0.01,
        "components": buffer,
    }
    return LiveReport(**given | changes)
