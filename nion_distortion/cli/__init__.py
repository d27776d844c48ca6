"""The command ``nion-distortion``: parse, call, say what came out."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import threadpoolctl

from nion_distortion._memory import keep_freed_memory
from nion_distortion._version import installed_version

__all__ = ["main"]

MISTAKE = 2
"""Exit code of everything that one sentence explains."""

GIVEN_BY = {
    "field_of_view_nm": " (--fov-nm)",
    "raster": " (--raster if it did)",
    "calibration": ", which needs --calibration (with auto also its settings in a JSON beside it)",
}
"""How the command is given what a file lacks."""


RASTER = "the beam went line by line, whatever the file says"


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
    try:
        command = importlib.import_module(f"nion_distortion.cli.{chosen.command}")
    except KeyboardInterrupt:
        return _explain("stopped")
    frame = importlib.import_module("nion_distortion.frame")
    keep_freed_memory()
    try:
        # NumPy's and SciPy's thread pools together would make a frame several times slower.
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            command.run(chosen)
    except KeyboardInterrupt:
        return _explain("stopped")
    except (ValueError, frame.UnusableFrameError) as mistake:
        if chosen.debug:
            raise
        return _explain(f"{mistake}{GIVEN_BY.get(getattr(mistake, 'needs', ''), '')}")
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
    swift = commands.add_parser("swift", help="open Nion Swift with a simulated microscope")
    looked_after = _calibrations(commands)
    for command in (demo, _correct(commands), _calibrate(commands), *looked_after, swift):
        # also behind the command; there without a default, which would undo the one before it
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser


def _correct(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> argparse.ArgumentParser:
    correct = commands.add_parser(
        "correct", help="correct a file, by its own sample or by a stored calibration"
    )
    add = correct.add_argument
    add(
        "file",
        type=Path,
        help="an image, a stack of images, or with --calibration a spectrum image",
    )
    add("--fov-nm", type=float, help="field of view: longer side of a frame")
    add("--raster", action="store_true", help=RASTER)
    add("--out", type=Path, help="folder for the report; default: FILE_corrected")
    add("--held-out", action="store_true", help="measure on columns that the fit has not seen")
    add(
        "--calibration",
        metavar="ID",
        help="correct by this stored calibration, whatever the sample is; "
        "auto: by the one for the file's own settings",
    )
    add("--store", type=Path, help="file that holds the calibrations; default: the user's")
    return correct


def _calibrate(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> argparse.ArgumentParser:
    calibrate = commands.add_parser(
        "calibrate", help="learn from a reference crystal, and keep it for other samples"
    )
    add = calibrate.add_argument
    add("file", type=Path, help="a stack of images of a crystal")
    add("--fov-nm", type=float, help="field of view: longer side of a frame")
    add("--raster", action="store_true", help=RASTER)
    reference = calibrate.add_mutually_exclusive_group()
    reference.add_argument("--crystal", help='a known crystal by name, for example "SrTiO3 [001]"')
    reference.add_argument(
        "--similarity", action="store_true", help="the cell keeps the shape it has in the middle"
    )
    reference.add_argument(
        "--cell", metavar="A,B,GAMMA[,STDS]", help="a known projected cell, nm and degrees"
    )
    reference.add_argument(
        "--fourier",
        action="store_true",
        help="the Fourier-filtered image counts as undistorted, below half a cell of displacement",
    )
    reference.add_argument(
        "--average",
        action="store_true",
        help="the average of the drift-corrected frames counts as undistorted",
    )
    reference.add_argument(
        "--reference-calibration",
        metavar="ID",
        help="the scan of this stored calibration, for example one at long fly-back, counts as "
        "undistorted: show the difference, and keep nothing",
    )
    add("--frames", type=int, help="read this many frames at most")
    add("--stop-pm", type=float, help="read no more once the predicted error is below this")
    add("--sample", default="", help="what it is made on")
    add("--note", default="", help="a note to keep with it")
    add("--store", type=Path, help="file that holds the calibrations; default: the user's")
    add("--out", type=Path, help="folder for the report; default: FILE_calibration")
    return calibrate


def _calibrations(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> list[argparse.ArgumentParser]:
    """Add the commands that look after the stored calibrations."""
    command = commands.add_parser("calibrations", help="list and look after stored calibrations")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="what there is")
    show = actions.add_parser("show", help="all about one")
    note = actions.add_parser("note", help="give one another note")
    rename = actions.add_parser("rename", help="say anew what one was made on")
    delete = actions.add_parser("delete", help="remove one")
    field = actions.add_parser("field", help="write what one takes out, for other programs")
    for action in (show, note, rename, delete, field):
        action.add_argument("id", help="its id, or its first four letters or more")
    note.add_argument("text", help="the new note")
    rename.add_argument("sample", help="the new name of its sample")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    history = actions.add_parser("history", help="draw how the distortion changed with time")
    history.add_argument("--settings-of", metavar="ID", help="of which; default: the newest one's")
    history.add_argument("--out", type=Path, required=True, help="the picture, a PNG")
    export = actions.add_parser("export", help="copy some to a file for another machine")
    export.add_argument(
        "ids", nargs="+", metavar="id", help="which ones, by id or its first four letters"
    )
    taken = actions.add_parser("import", help="add those of an exported file")
    for action in (export, taken):
        action.add_argument("file", type=Path, help="the exported file")
    field.add_argument("file", type=Path, help="the new file, .h5 or .csv")
    each = [listed, field, history, show, note, rename, delete, export, taken]
    command.add_argument("--store", type=Path, help="file that holds them; default: the user's")
    for action in each:
        action.add_argument("--store", type=Path, default=argparse.SUPPRESS, help="see above")
    return [command, *each]
