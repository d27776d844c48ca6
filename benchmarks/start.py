"""What importing costs: the package by itself, and the two plug-ins in a Nion Swift that starts."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from statistics import median

from benchmarks.results import Measured

__all__ = ["demo", "start"]

DEMO = "import sys; from nion_distortion.cli import main; sys.exit(main(sys.argv[1:]))"

PACKAGE = """
import json, sys, time
begun_s = time.perf_counter()
import nion_distortion
print(json.dumps([time.perf_counter() - begun_s, len(sys.modules)]))
"""

PLUG_INS = """
import json, os, sys, time
# what Nion Swift and its instrumentation kit have imported when they come to the plug-ins
from nion.instrumentation import HardwareSource, scan_base, stem_controller
from nion.swift import DocumentController, Facade
from nion.swift.model import PlugInManager
from nion.swift.model.PlugInManager import RequirementsException
os.environ.pop("NION_DISTORTION_SIMULATOR", None)
begun_s = time.perf_counter()
import nionswift_plugin.nion_distortion
try:
    import nionswift_plugin.nion_distortion_simulator
except RequirementsException:
    pass
spent_s = time.perf_counter() - begun_s
heavy = [name for name in ("torch", "gpytorch", "sklearn", "numba", "cv2", "matplotlib", "rsciio")
         if name in sys.modules]
print(json.dumps([spent_s, heavy]))
"""


def start(*, quick: bool) -> Mapping[str, Measured]:
    """Time imports in fresh processes, after one that fills the disk's cache.

    Parameters
    ----------
    quick : bool
        One process each.

    Returns
    -------
    Mapping of str to Measured
        Median over the processes.
    """
    repeats = 1 if quick else 5
    package = [_run(PACKAGE) for _ in range(1 + repeats)][1:]
    plug_ins = [_run(PLUG_INS) for _ in range(1 + repeats)][1:]
    heavy = ", ".join(plug_ins[0][1]) or "none"
    return {
        "start import": Measured(value=median(run[0] for run in package)),
        "start swift": Measured(
            value=median(run[0] for run in plug_ins), beside=f"heavy libraries loaded: {heavy}"
        ),
    }


def demo(*, quick: bool) -> Mapping[str, Measured]:
    """Time the demo as a newcomer runs it for the first and for the second time.

    Parameters
    ----------
    quick : bool
        Only the second time, which compiles nothing.

    Returns
    -------
    Mapping of str to Measured
        Wall-clock seconds.
    """
    again_s, _, said = _demo()
    again = Measured(value=again_s, beside="" if quick else " ".join(said.split()[:24]))
    if quick:
        return {"demo time": again}
    with tempfile.TemporaryDirectory() as empty:
        first_s, busy_s, _ = _demo(NUMBA_CACHE_DIR=empty)
    first = Measured(value=first_s, beside=f"{busy_s:.0f} s of processor time")
    return {"demo time": again, "demo first": first}


def _demo(**environment: str) -> tuple[float, float, str]:
    """Return the demo's wall-clock and processor time in a fresh process, and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        begun_s, before = time.perf_counter(), os.times()
        done = subprocess.run(
            [sys.executable, "-c", DEMO, "demo", "--out", folder],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | environment,
        )
        spent_s, after = time.perf_counter() - begun_s, os.times()
    busy_s = sum(after[2:4]) - sum(before[2:4])
    return spent_s, busy_s, done.stdout


def _run(script: str) -> tuple[float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    spent_s, beside = json.loads(done.stdout.splitlines()[-1])
    return spent_s, beside
