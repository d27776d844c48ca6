"""The folder that a run leaves behind: its report, and nothing of the run before it."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nion_distortion.figures import write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_folder", "finish", "make_folder"]

REPORT = {"report.html", "report.json"}


def check_folder(folder: Path) -> None:
    """Refuse what can be no folder, before any work is done.

    Parameters
    ----------
    folder : path
        Need not exist yet.

    Raises
    ------
    ValueError
        If it is a file, or would have to stand in one.
    """
    for place in (folder, *folder.parents):
        if place.is_file():
            raise ValueError(f"{place} is a file, not a folder")


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those it stands in.

    Parameters
    ----------
    folder : path
        May exist already.

    Raises
    ------
    ValueError
        If it cannot be made.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to: {error.strerror}") from error


def finish(
    folder: Path,
    numbers: Mapping[str, Any],
    drawn: "Mapping[str, Figure]",
    *,
    title: str,
    paragraphs: Sequence[str] = (),
    files: Sequence[str] = (),
) -> list[str]:
    """Write the report, and remove what an earlier run has left beside it.

    Parameters
    ----------
    folder : path
        Where the results are.
    numbers : Mapping
        Every number that is shown; ``file`` is what was worked on, and stays whatever wrote it.
    drawn : Mapping of str to Figure
        Pictures by their caption.
    title : str
        Heading of the report.
    paragraphs : sequence of str, default: ()
        What is to be said above the numbers.
    files : sequence of str, default: ()
        Names of what else this run has written to the folder.

    Returns
    -------
    list of str
        One sentence for each line: that an earlier run was replaced, and where the report is.

    Raises
    ------
    ValueError
        If the folder cannot be written to.
    """
    earlier, same = _results_in(folder), _worked_on(folder) == numbers.get("file")
    page = write_report(folder, numbers, drawn, title=title, paragraphs=paragraphs, files=files)
    said = [f"Report: {page}"]
    if earlier is None:
        return said
    if not same:  # results of another file may be all that is left of it
        return [
            f"{folder} still holds pictures and files of an earlier run on another file.",
            *said,
        ]
    kept = {numbers.get("file"), *(_listed(folder) or ())}
    for file in earlier:
        if file.name not in kept:
            with contextlib.suppress(OSError):
                file.unlink()
    return [f"Replaced the results of an earlier run in {folder}.", *said]


def _results_in(folder: Path) -> list[Path] | None:
    """Find what an earlier run wrote and nobody has changed since; None where there was none."""
    names = _listed(folder)
    if names is None:
        return None
    written_ns = (folder / "report.json").stat().st_mtime_ns  # written last
    files = [folder / name for name in names if name == Path(name).name]
    plain = [file for file in files if file.is_file() and not file.is_symlink()]
    return [file for file in plain if file.stat().st_mtime_ns <= written_ns]


def _told(folder: Path) -> dict[str, Any]:
    """Read the report in a folder; empty where there is none of ours."""
    try:
        told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _worked_on(folder: Path) -> object:
    return _told(folder).get("file")


def _listed(folder: Path) -> list[str] | None:
    """Read which files a report of ours names; None where there is no such report."""
    names = _told(folder).get("files")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return names if set(names) >= REPORT else None
