"""The command ``nion-distortion``: parse, call, say what came out."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import threadpoolctl

from nion_distortion._version import installed_version

__all__ = ["main"]

MISTAKE = 2
"""Exit code of everything that one sentence explains."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line where not given.

    Returns
    -------
    int
        Exit code: 0, or 2 with one sentence on the standard error.
    """
    chosen = _parser().parse_args(arguments)
    # Heavy libraries are loaded here, so that --help and a typing mistake answer at once.
    command = importlib.import_module(f"nion_distortion.cli.{chosen.command}")
    frame = importlib.import_module("nion_distortion.frame")
    try:
        # NumPy's and SciPy's thread pools together would make a frame several times slower.
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            command.run(chosen)
    except KeyboardInterrupt:
        return _explain("stopped")
    except (ValueError, frame.UnusableFrameError) as mistake:
        if chosen.debug:
            raise
        return _explain(str(mistake))
    except Exception as error:
        if chosen.debug:
            raise
        words = " ".join(str(error).split())
        return _explain(f"{type(error).__name__}: {words} (--debug shows where)")
    return 0


def _explain(sentence: str) -> int:
    sys.stderr.write(f"nion-distortion: {sentence}\n")
    return MISTAKE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nion-distortion",
        description="Take the scan distortion out of atomically resolved STEM images.",
    )
    parser.add_argument(
        "--version", action="version", version=f"nion-distortion {installed_version()}"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="correct a live scan of a simulated microscope")
    demo.add_argument(
        "--out", type=Path, default=Path("nion_distortion_demo"), help="folder for the report"
    )
    correct = commands.add_parser("correct", help="correct a file, its sample as the reference")
    correct.add_argument("file", type=Path, help="an image or a stack of images")
    correct.add_argument("--fov-nm", type=float, help="field of view: longer side of a frame")
    correct.add_argument("--out", type=Path, help="folder for the report; default: FILE_corrected")
    correct.add_argument(
        "--held-out", action="store_true", help="measure on columns that the fit has not seen"
    )
    for command in (demo, correct):
        # also behind the command; there without a default, which would undo the one before it
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser
