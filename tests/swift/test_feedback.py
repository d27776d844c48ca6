"""Drift fed back through the scan's centre, in a closed loop with the simulated scan."""

import pathlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from swift_windows import PATIENCE_S, SAMPLE, Window, opened

from nion_distortion.session import LiveReport
from nion_distortion.swift.feedback import LIMIT_NM, DriftFeedback
from simulator.microscope import Microscope
from simulator.nion_device import profile_parameters, scan_settings
from simulator.scan import ScanErrors

pytestmark = pytest.mark.gui

DRIFT_NM_PER_FRAME = (0.002, -0.003)
FRAMES = 45


@pytest.fixture
def window(tmp_path: pathlib.Path) -> Iterator[Window]:
    with opened(tmp_path) as made:
        yield made


def drifting(window: Window, rotation_rad: float) -> Any:
    """Let the sample drift, seen through a scan that is turned; return the scan's parameters."""
    parameters = profile_parameters((160, 160), 1.0, 5.0)
    parameters.rotation_rad = rotation_rad
    frame_s = scan_settings(parameters).frame_time_s
    assert frame_s is not None
    speed = tuple(step / frame_s for step in DRIFT_NM_PER_FRAME)
    window.scan.scan_device.microscope = Microscope(
        SAMPLE, errors=ScanErrors(drift_nm_s=(speed[0], speed[1]))
    )
    window.parts.process = window.parts.refit = None
    window.scan.set_current_frame_parameters(parameters)
    return parameters


@pytest.mark.parametrize("rotation_rad", [0.0, 0.6])
def test_sample_is_held_where_it_was(window: Window, rotation_rad: float) -> None:
    drifting(window, rotation_rad)
    feedback = DriftFeedback(window.scan)
    ways: list[Any] = []
    refused: list[str] = []
    enough = threading.Event()

    def follow(_: object) -> None:
        # on the scan's own thread, which so waits for each frame: none is dropped
        report = window.parts.reports.get(timeout=PATIENCE_S)
        refused.append(feedback.follow(report))
        if len(report.drift_nm):
            ways.append((report.scan[0].index, report.drift_nm[-1]))
        if len(ways) == FRAMES:
            enough.set()

    window.toggle()
    listener = window.scan.xdatas_available_event.listen(follow)
    window.scan.start_playing(sync_timeout=PATIENCE_S)
    assert enough.wait(PATIENCE_S * 2)
    del listener
    assert not any(refused)
    first, last = ways[0], ways[-1]
    drifted = np.hypot(*DRIFT_NM_PER_FRAME) * (last[0] - first[0])
    assert drifted > 0.15
    assert np.hypot(*(last[1] - first[1])) < 0.2 * drifted


def reports(window: Window, count: int) -> list[LiveReport]:
    window.toggle()
    return window.frames(count)


def test_a_step_is_never_longer_than_the_limit(window: Window) -> None:
    drifting(window, 0.0)
    feedback = DriftFeedback(window.scan)
    kept = [one for one in reports(window, 5) if len(one.drift_nm)]
    window.halt()
    far = replace(kept[-1], drift_nm=np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert feedback.follow(kept[-2]) == ""
    assert feedback.follow(far) == ""
    centre = window.scan.get_current_frame_parameters().center_nm
    was = far.scan[0].provenance["metadata"]["scan"]["scan_device_properties"]["center_nm"]
    step = np.array([centre.y, centre.x]) - was
    assert np.hypot(*step) == pytest.approx(LIMIT_NM)


def test_ambiguous_drift_ends_it_in_words(window: Window) -> None:
    drifting(window, 0.0)
    report = reports(window, 4)[-1]
    window.halt()
    assert report.report is not None
    ambiguous = replace(report, report=replace(report.report, drift_ambiguous=True))
    before = window.scan.get_current_frame_parameters().center_nm
    assert "is no longer fed back" in DriftFeedback(window.scan).follow(ambiguous)
    assert window.scan.get_current_frame_parameters().center_nm == before


def test_frame_without_drift_or_centre_moves_nothing(window: Window) -> None:
    drifting(window, 0.0)
    report = reports(window, 4)[-1]
    window.halt()
    feedback = DriftFeedback(window.scan)
    before = window.scan.get_current_frame_parameters().center_nm
    assert feedback.follow(replace(report, drift_nm=np.zeros((0, 2)))) == ""
    bare = replace(report.scan[0], provenance={})
    assert "reports no centre" in feedback.follow(replace(report, scan=(bare,)))
    assert window.scan.get_current_frame_parameters().center_nm == before
