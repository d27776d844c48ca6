"""A live session without Nion Swift, in a process of its own: its memory, and its main thread."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from benchmarks.results import Measured
from benchmarks.scenes import flyback_microscope, settings_of
from nion_distortion.frame import Frame
from nion_distortion.session import LiveReport, Session

__all__ = ["main", "memory", "ticks"]

DUE_S, FRAME_EVERY_S = 0.025, 0.25
WARM_FRAMES = 6
"""Frames before the measurement: the amplitudes have been found again by then."""

SCENES = 3
"""Different frames, shown in turn."""


def memory(*, quick: bool) -> Mapping[str, Measured]:
    """Measure the largest resident size of a process with a session.

    Parameters
    ----------
    quick : bool
        Nothing is measured.

    Returns
    -------
    Mapping of str to Measured
        Frames of 2048 x 2048.
    """
    if quick:
        return {}
    found = _in_a_process("memory", size=2048, frames=WARM_FRAMES + 4)
    before, after = found["before_gib"], found["after_gib"]
    beside = f"before the first frame {before:.2f}, at the end {after:.2f} GiB"
    return {"memory 2048": Measured(value=found["largest_gib"], beside=beside)}


def ticks(*, quick: bool) -> Mapping[str, Measured]:
    """Measure how a main thread runs beside a session.

    Parameters
    ----------
    quick : bool
        Two seconds.

    Returns
    -------
    Mapping of str to Measured
        Frames of 512 x 512.
    """
    found = _in_a_process("ticks", size=512, frames=8 if quick else 80)
    beside = (
        f"{found['processed']:.0f} of {found['frames']:.0f} frames processed,"
        f" {found['frame_ms']:.0f} ms each"
    )
    return {
        "ticks rate": Measured(value=found["rate"], beside=beside),
        "ticks gap": Measured(value=found["gap_ms"], beside=f"95 % below {found['p95_ms']:.0f} ms"),
    }


def _in_a_process(what: str, *, size: int, frames: int) -> dict[str, float]:
    """Run one of the two below where nothing else is loaded, on frames made here."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(size)
        microscope = flyback_microscope(settings, sign=1, seed=0)
        for index in range(SCENES):
            np.save(Path(folder) / f"{index}.npy", microscope.shot(settings, index).frame.image)
        arguments = ["--size", str(size), "--frames", str(frames), "--folder", folder]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.live", what, *arguments],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


class _Stream:
    """A session with scans that come from disk, and a queue of its reports."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._settings = folder, settings_of(size)
        self.reports: SimpleQueue[LiveReport] = SimpleQueue()
        self.sent = 0
        self.session = Session()
        self.session.subscribe(self.reports.put)

    def send(self) -> None:
        """Submit the next scan."""
        image = np.load(self._folder / f"{self.sent % SCENES}.npy")
        frame = Frame(
            image=image,
            settings=self._settings,
            index=self.sent,
            time_s=self.sent * FRAME_EVERY_S,
            frame_id=f"frame {self.sent}",
        )
        self.sent += 1
        self.session.submit((frame,))

    def send_and_wait(self) -> None:
        """Submit the next scan and wait for its report."""
        self.send()
        report = self.reports.get(timeout=300)
        if report.reason is not None and report.accepted:
            raise RuntimeError(f"frame {self.sent - 1}: {report.reason}")

    def received(self) -> Iterator[LiveReport]:
        """Give the reports that have come since the last one that was taken."""
        while not self.reports.empty():
            yield self.reports.get()


def _memory(stream: _Stream, frames: int) -> dict[str, float]:
    before = _resident_gib("VmRSS")
    for _ in range(frames):
        stream.send_and_wait()
    return {
        "before_gib": before,
        "after_gib": _resident_gib("VmRSS"),
        "largest_gib": _resident_gib("VmHWM"),
    }


def _resident_gib(key: str) -> float:
    """Read this process's resident size, or its largest so far, from Linux."""
    for row in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if row.startswith(key + ":"):
            return float(row.split()[1]) / 2**20
    raise RuntimeError(f"{key} is not known here")


def _ticks(stream: _Stream, frames: int) -> dict[str, float]:
    for _ in range(WARM_FRAMES):
        stream.send_and_wait()
    begun_s = time.perf_counter()
    end_s = begun_s + frames * FRAME_EVERY_S
    due_s, seen_s, sent = begun_s, [begun_s], 0
    while seen_s[-1] < end_s:
        due_s = max(due_s + DUE_S, seen_s[-1])  # one that is late by more is lost
        time.sleep(max(due_s - time.perf_counter(), 0.0))
        seen_s.append(time.perf_counter())
        if seen_s[-1] - begun_s >= sent * FRAME_EVERY_S and sent < frames:
            stream.send()
            sent += 1
    durations_ms = [1e3 * report.duration_s for report in stream.received()]
    gaps_ms = 1e3 * np.diff(seen_s)
    return {
        "rate": (len(seen_s) - 1) / (seen_s[-1] - begun_s),
        "gap_ms": float(gaps_ms.max()),
        "p95_ms": float(np.percentile(gaps_ms, 95)),
        "frames": float(sent),
        "processed": float(len(durations_ms)),
        "frame_ms": float(np.median(durations_ms)),
    }


RUNS: dict[str, Callable[[_Stream, int], dict[str, float]]] = {"memory": _memory, "ticks": _ticks}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement in this process and print it as JSON.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line where not given.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live")
    parser.add_argument("what", choices=tuple(RUNS))
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    stream = _Stream(chosen.folder, chosen.size)
    try:
        print(json.dumps(RUNS[chosen.what](stream, chosen.frames)))
    finally:
        stream.session.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
