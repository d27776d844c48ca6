"""``nion-distortion demo``: a live scan of the simulated microscope, learnt and corrected."""

import argparse
import dataclasses
import importlib
import math
import queue
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from nion_distortion.cli.results import finish, make_folder
from nion_distortion.cli.summary import Run
from nion_distortion.diagnostics import with_std
from nion_distortion.figures import (
    displacement_figure,
    pair_figure,
    residual_figure,
    uncertainty_figure,
)
from nion_distortion.files import write_corrected
from nion_distortion.options import Options
from nion_distortion.pipeline import process_frame
from nion_distortion.session import LiveReport, Session

if TYPE_CHECKING:
    from nion_distortion.frame import ScanSettings
    from nion_distortion.gaussian_process import DistortionModel
    from simulator.microscope import Microscope, Truth
    from simulator.nion_device import Host

__all__ = ["run"]

FRAMES = 20
SHAPE_PX, DWELL_US, FIELD_NM = (512, 512), 1.0, 16.0
ROTATION_RAD, SEED = 0.07, 3
DRIFT_NM_S, WALK_NM, JITTER_NM = (0.012, 0.018), 0.004, 0.002
WARM_UP_PX = 192
TIME_SCALE = 1.0
"""The simulated beam takes its real time."""

JUDGED_PX = 4
"""Every fourth line and pixel is compared with the truth."""

PATIENCE_S = 60.0
"""A report that takes longer than this is not coming."""

Receive = Callable[[], LiveReport]


def run(chosen: argparse.Namespace) -> None:
    """Scan, learn, correct, change the sample, correct by what was learnt; write the report.

    Parameters
    ----------
    chosen : argparse.Namespace
        With ``out``.

    Raises
    ------
    ValueError
        If the results cannot be written, or the simulated microscope gives no frames.
    """
    folder = chosen.out
    make_folder(folder)
    nion_device = importlib.import_module("simulator.nion_device")
    specimen = importlib.import_module("simulator.specimen").make_specimen
    parameters = nion_device.profile_parameters(SHAPE_PX, DWELL_US, FIELD_NM)
    settings = nion_device.scan_settings(parameters)
    microscope = _microscope(specimen, settings)
    _warm_up(microscope, settings)
    with nion_device.start_host(microscope, time_scale=TIME_SCALE) as host:
        host.scan(parameters)
        live, model = _learn(host, folder)
        host.device.specimen = specimen("pto_sto", rotation_rad=ROTATION_RAD, seed=SEED)
        other = _apply(host, model, folder)
    numbers = _numbers(live, other)
    ending = finish(
        folder,
        numbers,
        live.figures() | _course(live) | _figures_of_other(other),
        title="A live scan of the simulated microscope",
        paragraphs=PARAGRAPHS,
        files=[*live.files, *other.files],
    )
    sys.stdout.write("\n".join([*_summary(numbers), *ending, ""]))


PARAGRAPHS = (
    "The microscope is simulated, so that its true distortion is known: true numbers come from it, "
    "and are exact. Nothing of the truth reaches the correction.",
    "Off by, true or measured, is the rms length, over the corrected picture, of the displacement "
    "from each pixel to where the scan shows it. Corrected is the rms distance between the place "
    "that a pixel shows and the one that it should. Both leave out the best affine map of the "
    "frame. The expected error is the model's own prediction and has no uncertainty.",
    "SrTiO3 was scanned live, and treated as a reference: its best affine lattice counts as "
    "undistorted, so that real displacements longer than about two cells would be removed as "
    "well. Each frame was corrected by its own distortion; the first frames were held back until "
    "they agreed.",
    "Then the sample was changed to PbTiO3/SrTiO3 under the same scan settings. Only the "
    "stationary distortion that SrTiO3 had taught was taken out: what this sample does itself "
    "stays in the picture.",
)


def _microscope(specimen: Any, settings: "ScanSettings") -> "Microscope":
    """SrTiO3 under a beam with strong fly-back, drift, and a little that no frame repeats."""
    scan = importlib.import_module("simulator.scan")
    errors = dataclasses.replace(
        scan.strong_flyback(settings, sign=1, seed=SEED),
        drift_nm_s=DRIFT_NM_S,
        walk_nm=WALK_NM,
        line_jitter_nm=JITTER_NM,
    )
    sto = specimen("sto_001", rotation_rad=ROTATION_RAD, seed=SEED)
    make: type[Microscope] = importlib.import_module("simulator.microscope").Microscope
    return make(sto, errors=errors, seed=SEED)


def _warm_up(microscope: "Microscope", settings: "ScanSettings") -> None:
    """Compile before the scan begins: at a first start that takes longer than all frames."""
    sys.stdout.write("Getting ready; the first start compiles for a minute and a half ...\n")
    sys.stdout.flush()
    scale = max(settings.shape_px) / min(WARM_UP_PX, *settings.shape_px)
    small = dataclasses.replace(
        settings,
        shape_px=(WARM_UP_PX, WARM_UP_PX),
        field_of_view_nm=settings.field_of_view_nm / scale,
        line_time_us=None,
    )
    model = None
    for index in range(2):
        model = process_frame(microscope.shot(small, index).frame, model=model).model


@contextmanager
def _reports(host: "Host", session: Session) -> Iterator[Receive]:
    """Run a session on the live scan, and hand out its reports one after the other."""
    source = importlib.import_module("nion_distortion.swift.source")
    waiting: queue.SimpleQueue[LiveReport] = queue.SimpleQueue()
    session.subscribe(waiting.put)
    tap = source.FrameTap(host.hardware_source, session.submit)

    def receive() -> LiveReport:
        try:
            live = waiting.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise ValueError("the simulated microscope gave no frame that was processed") from None
        if live.report is None:
            raise ValueError(live.reason)
        return live

    try:
        yield receive
    finally:
        tap.close()
        session.close()


def _learn(host: "Host", folder: Path) -> "tuple[Run, DistortionModel]":
    live, session = Run(), Session()
    with _reports(host, session) as receive:
        began: Truth | None = None
        for number in tqdm(range(FRAMES), unit="frame", desc="SrTiO3, live"):
            report = receive()
            began = _began(began, report, host)
            if _add(live, report, host.truth[report.scan[0].frame_id], number, began):
                _write(folder, f"sto_live_{number:04d}", live)
        model = session.model
    if live.last is None:
        raise ValueError("no frame of the simulated microscope could be corrected")
    if model is None:
        raise ValueError("no two frames of the simulated microscope agreed")
    return live, model


def _apply(host: "Host", model: "DistortionModel", folder: Path) -> Run:
    """Correct the first frame that shows the other sample, by what was learnt."""
    other = Run()
    session = Session(options=Options(sample="unknown"), model=model)
    with _reports(host, session) as receive:
        while other.last is None:
            report = receive()
            truth = host.truth[report.scan[0].frame_id]
            if truth.specimen.name == "pto_sto" and not _add(other, report, truth, 0):
                raise ValueError("what SrTiO3 taught does not correct the other sample")
    _write(folder, "pto_sto", other)
    return other


def _began(before: "Truth | None", live: LiveReport, host: "Host") -> "Truth | None":
    """Return the truth about the frame from which the drift is counted, once there is one."""
    report = live.report
    if report is None or report.model is None or not live.accepted:
        return None  # held back: there is nothing yet from which the sample could have moved
    if report.drift_ambiguous:
        return host.truth[live.scan[0].frame_id]
    return before or host.truth[report.model.samples[0].frame_id]


def _true_drift_nm(truth: "Truth", began: "Truth") -> list[float]:
    """Say how far the sample has moved at the scan's centre."""
    settings = truth.settings
    centre = [[0.5 * (length - 1) for length in settings.shape_px]]
    moved_px = truth.drift_px(centre) - began.drift_px(centre)
    way_nm: list[float] = (settings.pixel_size_nm * moved_px[0]).tolist()
    return way_nm


def _add(
    run_so_far: Run,
    live: LiveReport,
    truth: "Truth",
    number: int,
    began: "Truth | None" = None,
) -> bool:
    """Note what a corrected frame's report says, and what it should have said."""
    frame, report = live.scan[0], live.report
    if report is None or report.field is None or report.corrected is None:
        return False
    scoring, field = importlib.import_module("simulator.scoring"), report.field
    judged = (field.displacement_px, field.valid, truth.place_px)
    how = {"pixel_size_nm": frame.settings.pixel_size_nm, "step_px": JUDGED_PX}
    score = scoring.score_map(*judged, **how)
    drift: dict[str, list[float] | None] = {"drift_nm": None, "drift_std_nm": None}
    if began is not None:
        drift = {"true_drift_nm": _true_drift_nm(truth, began)}
    run_so_far.add(
        dataclasses.replace(frame, index=number),
        report,
        accepted=live.accepted,
        true_off_by_pm=scoring.true_off_by_pm(*judged, **how),
        true_corrected_pm=math.hypot(*score.rms_pm),
        true_share_removed_percent=100.0 * score.share,
        **drift,
    )
    return True


def _write(folder: Path, name: str, done: Run) -> None:
    if done.last is not None and done.last[1].corrected is not None:
        file = folder / f"{name}_corrected.hspy"
        write_corrected(file, done.last[1].corrected, overwrite=True)
        done.files.append(file.name)


def _numbers(live: Run, other: Run) -> dict[str, Any]:
    frames = live.numbers
    return {
        "simulated": True,
        "lines": SHAPE_PX[0],
        "pixels": SHAPE_PX[1],
        "field_of_view_nm": FIELD_NM,
        "dwell_time_us": DWELL_US,
        "sto_live": {
            "frames": len(frames),
            "last_true_off_by_pm": frames[-1]["true_off_by_pm"],
            "last_true_corrected_pm": frames[-1]["true_corrected_pm"],
            "last_true_share_removed_percent": frames[-1]["true_share_removed_percent"],
            "last_off_by_pm": frames[-1]["off_by_pm"],
            "last_corrected_pm": frames[-1]["corrected_pm"],
        },
        "pto_sto": other.numbers[-1],
        "frames": frames,
    }


def _course(live: Run) -> dict[str, Any]:
    names = {
        "as scanned (true)": "true_off_by_pm",
        "corrected (true)": "true_corrected_pm",
        "as scanned (measured)": "off_by_pm",
        "corrected (expected)": "corrected_pm",
    }
    courses = {label: live.series(name) for label, name in names.items()}
    return {"Distortion of each frame against the truth": residual_figure(courses)}


def _figures_of_other(other: Run) -> dict[str, Any]:
    if other.last is None:
        return {}
    frame, report = other.last
    if report.field is None or report.corrected is None:
        return {}
    return {
        "Another sample: as scanned and corrected": pair_figure(frame, report.corrected),
        "Another sample: what was taken out": displacement_figure(report.field),
        "Another sample: uncertainty": uncertainty_figure(report.corrected),
    }


def _summary(numbers: dict[str, Any]) -> list[str]:
    live, other = numbers["frames"][-1], numbers["pto_sto"]
    return [
        f"SrTiO3, frame {len(numbers['frames'])} of the live scan: {_course_of(live)}.",
        f"PbTiO3/SrTiO3, same settings, corrected with what SrTiO3 taught: {_course_of(other)}.",
        "True numbers come from the simulation and are exact; an expected error is the model's "
        "own prediction and has no uncertainty.",
    ]


def _course_of(one: dict[str, Any]) -> str:
    measured = one["off_by_pm"]
    return (
        f"off by {one['true_off_by_pm']:.1f} pm as scanned "
        f"(measured {with_std(measured['value'], measured['std'], 'pm')}), "
        f"{one['true_corrected_pm']:.1f} pm after correction "
        f"(expected {one['corrected_pm']['value']:.1f} pm)"
    )
