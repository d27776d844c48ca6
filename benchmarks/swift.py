"""The plug-in in the real Nion Swift: what the scan and the window feel of it, and for how long."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.nion_swift import HERE, missing, run_in_swift
from benchmarks.results import Measured

__all__ = ["soak", "swift"]

LONGEST_S = 400.0
SOAK_FRAMES = 10_000


def _measured(name: str, timeout_s: float) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        run_in_swift(
            HERE / "measure.py",
            Path(folder),
            timeout_s=timeout_s,
            settings={"NION_DISTORTION_MEASURE": name},
        )
        return json.loads((Path(folder) / "measured.json").read_text())


def swift(*, quick: bool) -> Mapping[str, Measured]:
    """Measure scan rate and ticks with everything on, beside those of the same window without us.

    Parameters
    ----------
    quick : bool
        Nothing is measured.

    Returns
    -------
    Mapping of str to Measured
        For 512 x 512 at 4 and 1024 x 1024 at 1 frame a second.
    """
    if quick:
        return {}
    found: dict[str, Measured] = {}
    for size in ("512", "1024"):
        if missing():
            names = [f"swift {size}-{what}" for what in ("rate", "ticks", "dropped")]
            found |= dict.fromkeys(names, Measured(beside=missing()))
            continue
        one = _measured(size, LONGEST_S)
        lost = 100.0 * (1.0 - one["rate"] / one["rate_alone"])
        rates = f"{one['rate']:.3f} frames/s, without us {one['rate_alone']:.3f}"
        found |= {
            f"swift {size}-rate": Measured(value=lost, beside=rates),
            f"swift {size}-ticks": Measured(
                value=one["ticks"], beside=f"without us {one['ticks_alone']:.1f}"
            ),
            f"swift {size}-dropped": Measured(
                value=one["dropped"],
                beside=f"{one['processed']} processed, {one['frame_ms']:.0f} ms each",
            ),
        }
    return found


def soak(*, quick: bool) -> Mapping[str, Measured]:
    """Process 10 000 frames in the real Nion Swift; nothing may grow.

    Parameters
    ----------
    quick : bool
        Nothing is measured.

    Returns
    -------
    Mapping of str to Measured
        Means around the 2000th frame, and over the last tenth; beside them the host's before us.
    """
    if quick:
        return {}
    if missing():
        names = ("soak memory", "soak threads", "soak listeners", "soak failed")
        return dict.fromkeys(names, Measured(beside=missing()))
    one = _measured(f"soak{SOAK_FRAMES}", SOAK_FRAMES / 3)
    first, last, alone = one["first"], one["last"], one["alone"]
    more = {name: last[name] - first[name] for name in first}
    tenths = one["tenths_mib"]
    sizes = "; ".join(
        (
            f"{_from_to(one, 'resident_mib')} MiB, tenths {min(tenths):.0f} to {max(tenths):.0f}",
            f"handed out by malloc {_from_to(one, 'in_use_mib')}",
            f"the host before us {_from_to(alone, 'resident_mib')}",
            f"{one['rate']:.1f} frames/s",
        )
    )
    threads = f"{last['threads']:.0f}, the host before us {_from_to(alone, 'threads')}"
    return {
        "soak memory": Measured(
            value=100.0 * more["resident_mib"] / first["resident_mib"], beside=sizes
        ),
        "soak threads": Measured(value=more["threads"], beside=threads),
        "soak listeners": Measured(
            value=more["listeners"], beside=f"{last['listeners']:.0f} at the end"
        ),
        "soak failed": Measured(
            value=one["failed"], beside=f"{one['processed']} of {SOAK_FRAMES} processed"
        ),
    }


def _from_to(one: Mapping[str, Any], name: str) -> str:
    return f"{one['first'][name]:.0f} -> {one['last'][name]:.0f}"
