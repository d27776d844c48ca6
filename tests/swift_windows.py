"""A headless document window of Nion Swift with the simulated scan and the plug-in's control."""

import gc
import logging
import pathlib
import queue
import re
import threading
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import session_fakes as fakes
from nion.instrumentation import stem_controller
from nion.instrumentation.test import AcquisitionTestContext
from nion.swift.test import TestContext

from nion_distortion.calibrations import CalibrationStore
from nion_distortion.live_calibration import CalibrationState, LiveCalibration
from nion_distortion.session import LiveReport, Session
from nion_distortion.swift.control import Control
from nion_distortion.swift.display import KEY
from nion_distortion.swift.extension import Controls
from simulator.microscope import Microscope
from simulator.nion_device import SimulatedMicroscope, profile_parameters, scan_settings
from simulator.scan import strong_flyback
from simulator.specimen import make_specimen

PATIENCE_S = 120.0
"""Only what hangs waits so long: a machine that has much else to do must not fail a test."""

COLLECTIONS = 3
"""What a calibration has queued when its project closes holds that until the window runs it, and
what one collection finalises goes with the next."""

HOST_RACE = re.compile(
    r"(Event Fire )?Traceback(?:(?!nion_distortion/\w+\.py|nion_distortion/swift/)(?s:.))*?"
    r"DataPanel\.py(?:(?!nion_distortion/\w+\.py|nion_distortion/swift/)(?s:.))*?"
    r"ValueError: GridFlow(?s:.)*?is not in list"
)
"""The host's own: a thumbnail is ready when its place in the data panel is just going."""

SAMPLE = make_specimen("sto_001", rotation_rad=0.07)
CRYSTAL_SCAN = profile_parameters((160, 160), 1.0, 5.0)
"""Wide enough that the real processing finds a lattice."""
THREADS = ("nion_distortion.session", "nion_distortion.reports", "nion_distortion.calibration")


class Configuration:
    """What the test context asks of a microscope; cameras that do not exist are fine."""

    def __init__(self, folder: pathlib.Path) -> None:
        strong = strong_flyback(scan_settings(CRYSTAL_SCAN))
        slow, fast = strong.line_flyback_nm  # on so few nm the beam would turn back
        errors = replace(strong, line_flyback_nm=(0.5 * slow, 0.5 * fast))
        simulated = SimulatedMicroscope(Microscope(SAMPLE, errors=errors), time_scale=0.0)
        self.configuration_location = folder
        self.instrument, self.scan_module = simulated.instrument, simulated.scan_module
        self.instrument_id = self.instrument.instrument_id
        self.ronchigram_camera_device_id = self.eels_camera_device_id = "none"
        self.run, self.stop = simulated.register, simulated.unregister


class Parts:
    """Sessions with a stand-in for the pipeline, and a store in a folder of the test."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "calibrations.sqlite"
        self.process: Any = fakes.Process()
        self.refit: Any = fakes.refit
        self.calibrate: Any = None
        self.level = 0.0
        self.reports: queue.Queue[LiveReport] = queue.Queue()
        self.states: queue.Queue[CalibrationState] = queue.Queue()

    def session(self, **arguments: Any) -> Session:
        process = None if self.process is None else self.measure
        session = Session(process=process, refit=self.refit, **arguments)
        session.subscribe(self.reports.put)
        return session

    def measure(self, frame: Any, *, model: Any, options: Any) -> Any:
        # our own subscriber is the first: the item is shown just after a report was put here
        return self.process(fakes.with_level(frame, self.level), model=model, options=options)

    def calibration(self, **arguments: Any) -> LiveCalibration:
        told = arguments.pop("told")

        def tell(state: CalibrationState) -> None:
            told(state)
            self.states.put(state)

        return LiveCalibration(told=tell, calibrate=self.calibrate, **arguments)

    def store(self) -> CalibrationStore:
        return CalibrationStore(self.path)


class Window:
    """A document window with the scan and the control of its project."""

    def __init__(self, context: Any, folder: pathlib.Path) -> None:
        self.context, self.window = context, context.document_controller
        self.scan: Any = context.scan_hardware_source
        self.parts = Parts(folder)
        self.controls = Controls(self.parts)  # type: ignore[arg-type]  # as far as it is used
        self.scan.set_current_frame_parameters(profile_parameters((96, 96), 1.0, 3.0))
        self.control.choose(sample="free")

    @property
    def control(self) -> Control:
        return self.controls.of(self.window)

    def toggle(self) -> None:
        if self.control.running is None:
            self.control.start(self.window)
        else:
            self.control.stop()

    def frames(self, count: int) -> list[LiveReport]:
        self.scan.start_playing(sync_timeout=PATIENCE_S)
        return [self.parts.reports.get(timeout=PATIENCE_S) for _ in range(count)]

    def tick_until(self, condition: Callable[[], bool], waits_for: Any = None) -> None:
        """Let the window have its ticks, as its own loop would, until something has come true."""
        for _ in range(200):
            self.window.periodic()
            if condition():
                return
            (waits_for or self.parts.reports).get(timeout=PATIENCE_S)
        raise AssertionError("it did not come true")

    @property
    def item(self) -> Any:
        return self.window.document_model.get_data_item_reference(KEY).data_item

    def reopen(self) -> None:
        """Close the project's window, and open the project in another one."""
        self.window.about_to_close("", "")
        stem_controller.unregister_event_loop()
        self.window = self.context.create_document_controller(auto_close=False)
        self.context.document_controller = self.window
        stem_controller.register_event_loop(self.window.event_loop)

    def scan_once(self) -> None:
        """Scan one frame, so that the scan's own items are in the project."""
        self.scan.start_playing(sync_timeout=PATIENCE_S)
        self.scan.get_next_xdatas_to_finish(PATIENCE_S)
        self.halt()
        self.window.periodic()
        assert self.window.document_model.data_items

    def join_threads(self) -> None:
        """Wait for our threads, which end after the frame in hand."""
        for thread in [one for one in threading.enumerate() if one.name in THREADS]:
            thread.join(PATIENCE_S)

    def halt(self) -> None:
        """Abort the scan; a start before the host has cleared up is the host's own KeyError."""
        if not self.scan.is_playing:
            return
        ended = threading.Event()
        listener = self.scan.acquisition_state_changed_event.listen(
            lambda is_begun: None if is_begun else ended.set()
        )
        self.scan.abort_playing(sync_timeout=PATIENCE_S)
        assert ended.wait(PATIENCE_S)
        del listener


@contextmanager
def opened(folder: pathlib.Path) -> Iterator[Window]:
    """Open a window, and see afterwards that nothing is left of it: no thread, no listener."""
    case = unittest.TestCase()
    AcquisitionTestContext.begin_leaks()
    setup = TestContext.TestSetup()
    with AcquisitionTestContext.test_context(Configuration(folder)) as context:  # type: ignore[arg-type]
        window = Window(context, folder)
        yield window
        window.halt()
        window.controls.close()
        window.join_threads()
        del window
    del setup
    AcquisitionTestContext.end_leaks(case)


@contextmanager
def quiet(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[Window]:
    """Open a window, and see afterwards that nothing was said to have gone wrong."""
    with opened(folder) as made:
        before = made.scan.data_channel_updated_event.listener_count
        yield made
        made.halt()
        made.control.stop_all()
        made.join_threads()
        for _ in range(COLLECTIONS):
            made.window.periodic()
            gc.collect()  # a closed project's document model is a cycle, and listens until it goes
        count = made.scan.data_channel_updated_event.listener_count
        assert count == before, (count, before)
    told = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
    errors = [one for one in told if HOST_RACE.sub("", one) == one]
    assert errors == []
    said = HOST_RACE.sub("", "".join(capfd.readouterr()))
    assert "Traceback" not in said, said
