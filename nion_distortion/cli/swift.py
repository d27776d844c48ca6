"""``nion-distortion swift``: Nion Swift with the simulated microscope and the workspace."""

import argparse
import importlib.util
import os
import subprocess
import sys

__all__ = ["run"]

START = "from nion.swift.command import main; main()"
"""What the host's own command does; in a process of its own, since it reads the command line."""

WANTED = {
    "NION_DISTORTION_SIMULATOR": "1",
    "NION_DISTORTION_WORKSPACE": "1",
    "NION_DISTORTION_SAMPLE": "SrTiO3 [001]",
    "LANGUAGE": "C",
}
"""Register the simulated microscope, open the workspace with the first window, take the sample at
first for what is simulated, so that one click corrects it, and look for no catalogue of words, of
which the host has none: that alone takes three quarters of its ticks."""


def run(_chosen: argparse.Namespace) -> None:
    """Start Nion Swift and wait until it is closed.

    Parameters
    ----------
    _chosen : argparse.Namespace
        Nothing is chosen.

    Raises
    ------
    ValueError
        If Nion Swift's window is not installed, or did not start.
    """
    if not _has_window():
        raise ValueError(
            "the window of Nion Swift is not installed: pip install nionswift-tool, "
            "or install this package with its extra [swift]"
        )
    ended = subprocess.run([sys.executable, "-c", START], env=os.environ | WANTED, check=False)
    if ended.returncode:
        raise ValueError(f"Nion Swift ended with exit code {ended.returncode}")


def _has_window() -> bool:
    return any(
        importlib.util.find_spec(name) is not None for name in ("nion.nionswift_tool", "PySide6")
    )
