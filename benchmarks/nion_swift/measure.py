"""What is measured inside the real Nion Swift; `benchmarks.swift` starts it and reads the numbers.

Runs as the script of application.py; writes ``measured.json`` into the folder
NION_DISTORTION_SEEN.
"""

import asyncio
import ctypes
import json
import multiprocessing
import os
import pathlib
import threading
import time
from statistics import fmean
from types import SimpleNamespace
from typing import Any

from nion.instrumentation import HardwareSource
from nion.swift import ImageCanvasItem, MetadataPanel, Thumbnails
from nion.swift.model import DisplayItem, PlugInManager
from nion.ui import CanvasItem

from nion_distortion.swift import extension
from simulator.nion_device import profile_parameters, scan_settings

TASK = "nion_distortion.measure"
EXTENSION_ID = "nion_distortion.extension"
LONGEST_S = 300.0
REHEARSED = 4
CASES = {"512": ((512, 512), 0.9, 16.0, 100.0), "1024": ((1024, 1024), 0.92, 32.0, 25.0)}
"""Shape, dwell time (us) and width (nm): 4 and 1 frames a second; and for how long (s)."""

SOAK = ((128, 128), 0.5, 4.0)
"""Shorter than the host's 50 ms between two reads: 20 frames a second."""

SOAK_REHEARSED = 128
"""With four, whose noise comes again and again, the model learns the noise: its own gauge runs away
until, after some 3000 frames, nothing can be solved. No microscope repeats its noise."""

ALONE = 2000
"""Frames of the host without us, before."""

EARLY, LATE = (0.15, 0.25), (0.9, 1.0)
"""Shares of the frames between which a session is looked at; a single look is 8 MiB uncertain."""

LOOK_S = 0.5

POOLS = (
    CanvasItem.LayerCanvasItem,
    DisplayItem.DisplayDataChannel,
    ImageCanvasItem.ImageCanvasItem,
    MetadataPanel.ThreadedCanvasItem,
    Thumbnails.ThumbnailSource,
)
"""Who of the host has a pool of threads, which grows to its limit at its own time."""


class Rehearsed:
    """Frames that were rendered beforehand, in turn: a real beam costs the computer nothing."""

    def __init__(self, microscope: Any, settings: Any, count: int) -> None:
        self.specimen = microscope.specimen
        exposures = (microscope.exposure(settings, index) for index in range(count))
        self._whole = [
            SimpleNamespace(truth=one.truth, rows=_rows_of(one.rows(0, settings.shape_px[0])))
            for one in exposures
        ]

    def exposure(self, _settings: Any, index: int, *_: Any, **__: Any) -> Any:
        """Return the next one."""
        return self._whole[index % len(self._whole)]


def _rows_of(image: Any) -> Any:
    return lambda first, last: image[first:last]


class Counter:
    """Frames of the scan, and ticks of the window."""

    def __init__(self, scan: Any, window: Any) -> None:
        self.ticks = 0
        self._frames_s: list[float] = []
        self._window = window
        self._listener = scan.xdatas_available_event.listen(self._frame)
        self._tick()

    @property
    def frames(self) -> int:
        """How many have come."""
        return len(self._frames_s)

    def _frame(self, _: object) -> None:
        self._frames_s.append(time.perf_counter())

    def _tick(self) -> None:
        self.ticks += 1
        self._window.add_task(TASK, self._tick)  # for the window's next tick

    async def over(self, seconds: float) -> dict[str, float]:
        """Count for a time; frames from one to another, as one more or less is a per cent."""
        frames, ticks, begun_s = self.frames, self.ticks, time.perf_counter()
        await asyncio.sleep(seconds)
        took_s = time.perf_counter() - begun_s
        came_s = self._frames_s[frames:]
        rate = (len(came_s) - 1) / (came_s[-1] - came_s[0])
        return {"rate": rate, "ticks": (self.ticks - ticks) / took_s}

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


def prepare(scan: Any, parameters: Any, count: int = REHEARSED) -> None:
    """Set the scan, and render what it will show."""
    device = scan.scan_device
    device.microscope = Rehearsed(device.microscope, scan_settings(parameters), count)
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
    """Return the resident size of this process and of those that it has started."""
    processes = ["self", *(str(one.pid) for one in multiprocessing.active_children())]
    return sum(_resident_mib(one) for one in processes)


def _resident_mib(process: str) -> float:
    status = pathlib.Path("/proc", process, "status").read_text()
    (line,) = [one for one in status.splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


class _Mallinfo2(ctypes.Structure):
    """What glibc's allocator tells of itself: ten sizes in bytes, or counts."""

    _fields_ = (("told", ctypes.c_size_t * 10),)


BLOCKS_OF_THEIR_OWN, HANDED_OUT = 4, 7


def in_use_mib() -> float:
    """Return what malloc has handed out; the rest of what it holds is free."""
    tell = ctypes.CDLL(None).mallinfo2
    tell.restype = _Mallinfo2
    told = tell().told
    return float(told[BLOCKS_OF_THEIR_OWN] + told[HANDED_OUT]) / 2**20


def state(scan: Any) -> dict[str, float]:
    """Return what must not grow."""
    return {
        "resident_mib": resident_mib(),
        "in_use_mib": in_use_mib(),
        "threads": threading.active_count(),
        "listeners": scan.data_channel_updated_event.listener_count
        + scan.xdatas_available_event.listener_count,
    }


def fill_pools() -> None:
    """Start all threads that the host may start for drawing, so that none is taken for a leak."""
    for owner in POOLS:
        pool = owner._executor  # noqa: SLF001
        all_there = threading.Barrier(pool._max_workers + 1)  # noqa: SLF001
        for _ in range(all_there.parties - 1):
            pool.submit(all_there.wait)
        all_there.wait()


async def watched(scan: Any, counter: Counter, frames: int) -> dict[str, Any]:
    """Look at what must not grow while so many frames come."""
    begun, begun_s = counter.frames, time.perf_counter()
    looks: list[tuple[float, dict[str, float]]] = []
    async with asyncio.timeout(frames / 5):
        while counter.frames < begun + frames:
            await asyncio.sleep(LOOK_S)
            share = min((counter.frames - begun) / frames, 1.0)
            looks.append((share, state(scan)))
    tenths = [_mean(looks, (k / 10, (k + 1) / 10)) for k in range(10)]
    return {
        "first": _mean(looks, EARLY),
        "last": _mean(looks, LATE),
        "tenths_mib": [one["resident_mib"] for one in tenths],
        "rate": frames / (time.perf_counter() - begun_s),
    }


def _mean(
    looks: list[tuple[float, dict[str, float]]], between: tuple[float, float]
) -> dict[str, float]:
    low, high = between
    states = [one for share, one in looks if low < share <= high]
    return {name: fmean(one[name] for one in states) for name in states[0]}


async def soak(scan: Any, control: Any, window: Any, frames: int) -> dict[str, Any]:
    """Process frames for minutes, after the host has shown some without us."""
    prepare(scan, profile_parameters(*SOAK), SOAK_REHEARSED)
    fill_pools()
    control.choose(sample="free", arrows=10, averaged=8)
    extension.show_workspace(window, control)
    scan.start_playing()
    counter = Counter(scan, window)
    await until(lambda: counter.frames >= 3)
    alone = await watched(scan, counter, ALONE)
    control.start(window)
    await until(lambda: counts(control).processed >= 8)
    ours = await watched(scan, counter, frames)
    found = counts(control)
    control.stop()
    scan.abort_playing(sync_timeout=10.0)
    counter.close()
    return ours | {"alone": alone, "processed": found.processed, "failed": found.failed}


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
