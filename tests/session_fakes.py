"""A stand-in for the pipeline: what a frame's brightness says is what it "measures"."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nion_distortion.correction import correct_frame
from nion_distortion.diagnostics import Estimate
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.options import AnyReference, Free, Options

STD_PX = 0.1
CONTRADICTS = 50.0
"""A frame whose level is farther than this from what a model knows contradicts it."""
BROKEN = -2.0
UNUSABLE = -1.0
REASON = "There are too few columns: 3 were found, 50 are needed."


def settings(width_nm: float = 3.0, side: int = 64, **changes: Any) -> ScanSettings:
    return ScanSettings(
        shape_px=(side, side), field_of_view_nm=width_nm, dwell_time_us=1.0, **changes
    )


def frame(index: int, level: float = 0.0, *, channel: str = "HAADF", **changes: Any) -> Frame:
    """Make a frame whose "distortion" is level px; UNUSABLE and BROKEN do what they say."""
    scan = changes.pop("settings", settings())
    return Frame(
        image=np.full(scan.shape_px, level),
        settings=scan,
        index=index,
        frame_id=changes.pop("frame_id", f"scan {index}"),
        channel=channel,
    )


FREE = Free()


@dataclass(frozen=True)
class Model:
    """A model that knows the levels of its frames."""

    settings: ScanSettings
    levels: tuple[float, ...]
    refitted: bool = False
    reference: AnyReference = FREE
    is_contradicted: bool = False
    unsettled: str | None = None

    def after(self, level: float) -> "Model":
        """Learn from a frame, or from one that contradicts nothing."""
        if abs(level - float(np.mean(self.levels))) > CONTRADICTS:
            return replace(self, is_contradicted=True)
        return Model(self.settings, (*self.levels, level))

    def stationary_field(self) -> DistortionField:
        return field(self.settings, float(np.mean(self.levels)), kind="stationary")


def field(scan: ScanSettings, level: float, **changes: Any) -> DistortionField:
    shape = (2, *scan.shape_px)
    values: dict[str, Any] = {
        "displacement_px": np.full(shape, level),
        "std_px": np.full(shape, STD_PX),
        "unremoved_std_px": np.zeros(shape),
        "valid": np.ones(scan.shape_px, bool),
        "settings": scan,
        "reference": "free",
    }
    return DistortionField(**values | changes)


def refit(model: Any) -> Any:
    return Model(model.settings, model.levels, refitted=True)


class Process:
    """Remembers which frame met which model; waits for ``go`` where it has one."""

    def __init__(self, *, gated: bool = False) -> None:
        self.calls: list[tuple[Frame, Any]] = []
        self.options: list[Options] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.gated = gated

    def __call__(self, frame: Frame, *, model: Any, options: Options) -> Any:
        if not frame.frame_id:  # as the pipeline does
            frame = replace(frame, frame_id=f"frame {frame.index}", provenance={})
        self.calls.append((frame, model))
        self.options.append(options)
        self.begun.release()
        if self.gated:
            assert self.go.acquire(timeout=20)
        level = float(frame.image[0, 0])
        if level == BROKEN:
            raise RuntimeError("the lattice fell apart")
        if model is not None and model.settings.differences(frame.settings):
            raise ValueError("a model met other settings")
        if level == UNUSABLE:
            return report(frame, model, None, unusable=REASON)
        learnt = Model(frame.settings, (level,)) if model is None else model.after(level)
        if options.sample == "unknown":
            return report(frame, model, field(frame.settings, 0.0, kind="stationary"))
        own = field(frame.settings, level, kind="frame", frame_id=frame.frame_id)
        return report(frame, learnt, own)


@dataclass(frozen=True)
class Report:
    """What the session reads of a `FrameReport`."""

    unusable: str | None
    model: Any
    field: Any
    corrected: Any
    drift_nm: Any
    drift_std_nm: Any
    drift_ambiguous: bool
    effective_counts: Any
    off_by_pm: Estimate
    corrected_pm: Estimate
    state: str = "valid"
    state_reason: str = ""
    worth_it: bool | None = True
    folded: int | None = 0
    crossed: int | None = 0
    hints: Any = None
    advice: Any = None
    columns: Any = None
    indexed: Any = None
    samples: Any = None
    removed_pm: Any = None


def report(frame: Frame, model: Any, own: Any, *, unusable: str | None = None) -> Any:
    return Report(
        unusable=unusable,
        model=model,
        field=own,
        corrected=None if own is None else correct_frame(frame, own),
        drift_nm=np.array([0.1, 0.2]) * frame.index,
        drift_std_nm=np.array([0.001, 0.002]),
        drift_ambiguous=False,
        effective_counts=Estimate(value=50.0, std=1.0, p95=60.0),
        off_by_pm=Estimate(value=100.0, std=1.0, p95=200.0),
        corrected_pm=Estimate(value=2.0, std=0.1, p95=4.0),
    )


def with_level(frame: Frame, level: float) -> Frame:
    """Return a real frame that the stand-in takes for one of this level."""
    image = frame.image.copy()
    image[0, 0] = level
    provenance = dict(frame.provenance)
    return replace(frame, image=image, provenance=provenance)
