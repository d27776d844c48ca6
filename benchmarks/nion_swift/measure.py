"""What is measured inside the real Nion Swift; `benchmarks.swift` starts it and reads the numbers.

Runs as the script of application.py; writes ``measured.json`` into the folder
NION_DISTORTION_SEEN.
"""

import asyncio
import json
import os
import pathlib
import threading
import time
from types import SimpleNamespace
from typing import Any

from nion.instrumentation import HardwareSource
from nion.swift.model import PlugInManager

from nion_distortion.swift import extension
from simulator.nion_device import profile_parameters, scan_settings

TASK = "nion_distortion.measure"
EXTENSION_ID = "nion_distortion.extension"
LONGEST_S = 300.0
REHEARSED = 4
CASES = {"512": ((512, 512), 0.9, 16.0, 25.0), "1024": ((1024, 1024), 0.92, 32.0, 25.0)}
"""Shape, dwell time (us) and width (nm): 4 and 1 frames a second; and for how long (s)."""

SOAK = ((128, 128), 0.5, 4.0)
"""Shorter than the host's 50 ms between two reads: 20 frames a second."""


class Rehearsed:
    """Frames that were rendered beforehand, in turn: a real beam costs the computer nothing."""

    def __init__(self, microscope: Any, settings: Any) -> None:
        self.specimen = microscope.specimen
        exposures = [microscope.exposure(settings, index) for index in range(REHEARSED)]
        self._whole = [
            SimpleNamespace(truth=one.truth, rows=_rows_of(one.rows(0, settings.shape_px[0])))
            for one in exposures
        ]

    def exposure(self, _settings: Any, index: int, *_: Any, **__: Any) -> Any:
        """Return the next one."""
        return self._whole[index % REHEARSED]


def _rows_of(image: Any) -> Any:
    return lambda first, last: image[first:last]


class Counter:
    """Frames of the scan, and ticks of the window."""

    def __init__(self, scan: Any, window: Any) -> None:
        self.frames = self.ticks = 0
        self._window = window
        self._listener = scan.xdatas_available_event.listen(self._frame)
        self._tick()

    def _frame(self, _: object) -> None:
        self.frames += 1

    def _tick(self) -> None:
        self.ticks += 1
        self._window.add_task(TASK, self._tick)  # for the window's next tick

    async def over(self, seconds: float) -> dict[str, float]:
        """Count for a time."""
        frames, ticks, begun_s = self.frames, self.ticks, time.perf_counter()
        await asyncio.sleep(seconds)
        took_s = time.perf_counter() - begun_s
        return {"rate": (self.frames - frames) / took_s, "ticks": (self.ticks - ticks) / took_s}

    def close(self) -> None:
        """Count no more."""
        self._listener = None
        self._window.clear_task(TASK)


async def until(condition: Any) -> None:
    """Wait for something to come true, a look every tick."""
    async with asyncio.timeout(LONGEST_S):
        while not condition():
            await asyncio.sleep(0)


def counts(control: Any) -> Any:
    """Return what became of the frames."""
    return control.running.session.counts


def prepare(scan: Any, parameters: Any) -> None:
    """Set the scan, and render what it will show."""
    device = scan.scan_device
    device.microscope = Rehearsed(device.microscope, scan_settings(parameters))
    scan.set_current_frame_parameters(parameters)


async def beside(scan: Any, control: Any, window: Any, case: Any) -> dict[str, float]:
    """Measure the scan's rate and the window's ticks without us, and with everything on."""
    *scan_of, seconds = case
    prepare(scan, profile_parameters(*scan_of))
    scan.start_playing()
    counter = Counter(scan, window)
    await until(lambda: counter.frames >= 3)
    alone = await counter.over(seconds)
    control.choose(sample="free", arrows=10, averaged=8)
    control.start(window)
    extension.show_workspace(window, control)
    await until(lambda: counts(control).processed >= 8)
    before = counts(control)
    together = await counter.over(seconds)
    after = counts(control)
    control.stop()
    scan.abort_playing(sync_timeout=10.0)
    counter.close()
    return {
        "rate_alone": alone["rate"],
        "ticks_alone": alone["ticks"],
        "rate": together["rate"],
        "ticks": together["ticks"],
        "dropped": after.dropped - before.dropped,
        "processed": after.processed - before.processed,
        "frame_ms": after.frame_ms,
    }


def resident_mib() -> float:
    """Return the resident size of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [one for one in status.splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def state(scan: Any) -> dict[str, float]:
    """Return what must not grow."""
    return {
        "resident_mib": resident_mib(),
        "threads": threading.active_count(),
        "listeners": scan.data_channel_updated_event.listener_count
        + scan.xdatas_available_event.listener_count,
    }


async def soak(scan: Any, control: Any, window: Any, frames: int) -> dict[str, Any]:
    """Process frames for minutes; look at memory after a fifth of them and at the end."""
    prepare(scan, profile_parameters(*SOAK))
    control.choose(sample="free", arrows=10, averaged=8)
    extension.show_workspace(window, control)
    control.start(window)
    scan.start_playing()
    counter = Counter(scan, window)
    begun_s = time.perf_counter()
    async with asyncio.timeout(frames / 5):
        while counter.frames < frames // 5:
            await asyncio.sleep(0.5)
        first = state(scan)
        while counter.frames < frames:
            await asyncio.sleep(0.5)
    last, took_s = state(scan), time.perf_counter() - begun_s
    found = counts(control)
    control.stop()
    scan.abort_playing(sync_timeout=10.0)
    counter.close()
    return {
        "first": first,
        "last": last,
        "rate": frames / took_s,
        "processed": found.processed,
        "failed": found.failed,
    }


async def script(_application: Any, window: Any) -> None:
    """Measure what NION_DISTORTION_MEASURE names."""
    (ours,) = [one for one in PlugInManager.extensions if one.extension_id == EXTENSION_ID]
    (scan,) = HardwareSource.HardwareSourceManager().hardware_sources
    control, name = ours.controls.of(window), os.environ["NION_DISTORTION_MEASURE"]
    if name.startswith("soak"):
        measured = await soak(scan, control, window, int(name.removeprefix("soak")))
    else:
        measured = await beside(scan, control, window, CASES[name])
    folder = pathlib.Path(os.environ["NION_DISTORTION_SEEN"])
    (folder / "measured.json").write_text(json.dumps(measured))
