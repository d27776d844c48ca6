"""The table of results: written by a full run, its structure held against the targets."""

import datetime
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.sections import SECTIONS, Section
from benchmarks.targets import TARGETS, Target

__all__ = [
    "README",
    "RESULTS",
    "Measured",
    "head_of",
    "in_readme",
    "line",
    "machine",
    "measured_in",
    "rows_of",
    "section_lines",
    "structure",
    "table",
]

RESULTS = Path(__file__).with_name("RESULTS.md")
README = RESULTS.parents[1] / "README.md"

HEAD = ("name", "what", "target", "measured", "", "why it is missed", "beside it", "source")

SECTION = "## "

UNKNOWN = "not known"
NOT_RUN = "-"

IN_README = (
    "flyback lag mean",
    "flyback overshoot mean",
    "flyback lag worst",
    "flyback overshoot worst",
    "null false",
    "sto slow",
    "sto fast",
    "indices wrong",
    "frame 512",
    "ticks gap",
)
"""The rows that the README shows as well, between its two markers."""

MARKERS = ("<!-- from benchmarks/RESULTS.md -->", "<!-- end -->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out for one target, or for one cell of a table below them.

    Parameters
    ----------
    value : float, optional
        None where it was not run, and in a cell.
    beside : str, default: ""
        What helps to read it; where it was not run, why; what stands in the cell.
    """

    value: float | None = None
    beside: str = ""


def goal_of(target: Target) -> str:
    """Write a goal.

    Parameters
    ----------
    target : Target
        Any.

    Returns
    -------
    str
        Direction, number and unit.
    """
    return f"{target.direction} {target.goal:g} {target.unit}".rstrip()


def cells(target: Target, measured: Measured) -> tuple[str, ...]:
    """Write one row.

    Parameters
    ----------
    target : Target
        What was asked.
    measured : Measured
        What came out.

    Returns
    -------
    tuple of str
        One for each column of the table.
    """
    number, verdict, reason = NOT_RUN, "not run", ""
    if measured.value is not None:
        number, verdict = f"{measured.value:.{5 if target.unit == '%' else 3}g}", "met"
        if not target.is_met(measured.value):
            verdict, reason = "**missed**", target.shortfall or UNKNOWN
    return (
        target.name,
        target.what,
        goal_of(target),
        number,
        verdict,
        reason,
        measured.beside,
        target.source,
    )


def line(target: Target, measured: Measured) -> str:
    """Write one number beside its target, for the terminal.

    Parameters
    ----------
    target : Target
        What was asked.
    measured : Measured
        What came out.

    Returns
    -------
    str
        One line.
    """
    name, _, goal, number, verdict, _, beside, _ = cells(target, measured)
    return f"{name:30} {number:>10}  {goal:38} {verdict.strip('*'):8} {beside}".rstrip()


def table(measured: Mapping[str, Measured], *, machine: str, day: datetime.date) -> str:
    """Write the whole table.

    Parameters
    ----------
    measured : Mapping of str to Measured
        By the targets' names; those that are missing were not run.
    machine : str
        Where it was measured.
    day : date
        When.

    Returns
    -------
    str
        Markdown.
    """
    rows = [cells(target, measured.get(target.name, Measured())) for target in TARGETS]
    verdicts = [row[4].strip("*") for row in rows]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("met", "missed", "not run"))
    head = [
        "# Results",
        "",
        "Written by `python -m benchmarks`, never by hand. Goals are in `benchmarks/targets.py`.",
        "",
        f"- Day: {day.isoformat()}",
        f"- Machine: {machine}",
        f"- Targets: {counts}",
        "",
    ]
    lines = [_row(HEAD), _row(["---"] * len(HEAD)), *(_row(row) for row in rows)]
    for section in SECTIONS:
        lines += ["", SECTION + section.title, "", section.note, ""]
        lines += section_lines(section, measured)
    return "\n".join([*head, *lines]) + "\n"


def section_lines(section: Section, measured: Mapping[str, Measured]) -> list[str]:
    """Write one of the tables below the targets.

    Parameters
    ----------
    section : Section
        Its heads and rows.
    measured : Mapping of str to Measured
        By the cells' names.

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    rows = [
        (row, *(measured.get(key, Measured()).beside or NOT_RUN for key in keys))
        for row, keys in zip(section.rows, section.keys, strict=True)
    ]
    return [_row(section.head), _row(["---"] * len(section.head)), *map(_row, rows)]


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "/") for value in values) + " |"


def rows_of(text: str) -> tuple[tuple[str, ...], ...]:
    """Read the rows of the targets' table back.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    tuple of tuple of str
        Cells of each row, without the head.
    """
    return _cells(text.split("\n" + SECTION, maxsplit=1)[0])[2:]


def measured_in(text: str) -> dict[str, Measured]:
    """Read numbers and cells of all tables back, so that they can be written again.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    dict of str to Measured
        By name.
    """
    found = {
        row[0]: Measured(value=None if row[3] == NOT_RUN else float(row[3]), beside=row[6])
        for row in rows_of(text)
    }
    for section in _sections_of(text):
        rows = _cells(section)
        known = _as_written(section, rows)
        for row, keys in zip(rows[2:], known.keys, strict=True):
            found |= {key: Measured(beside=cell) for key, cell in zip(keys, row[1:], strict=True)}
    return found


def _cells(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(cell.strip() for cell in row.strip().strip("|").split("|"))
        for row in text.splitlines()
        if row.startswith("|")
    )


def _sections_of(text: str) -> list[str]:
    return text.split("\n" + SECTION)[1:]


def _as_written(section: str, rows: Sequence[Sequence[str]]) -> Section:
    """Read back what a table says of itself."""
    title, note = section.split("\n\n")[:2]
    names = tuple(row[0] for row in rows[2:])
    return Section(case="", title=title, note=note, head=tuple(rows[0]), rows=names)


def in_readme(readme: str, results: str) -> str:
    """Put some of the results into the README.

    Parameters
    ----------
    readme : str
        Its text, with the two markers.
    results : str
        The table of results.

    Returns
    -------
    str
        The README with what stood between the markers replaced.
    """
    rows = {row[0]: row for row in rows_of(results)}
    wanted = [[rows[name][column] for column in (1, 3, 2, 4)] for name in IN_README]
    head = _row(("what", "measured", "target", ""))
    lines = [head, _row(["---"] * 4), *map(_row, wanted)]
    before, rest = readme.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    return "\n".join([before + MARKERS[0], *lines, MARKERS[1]]) + after


def head_of(text: str) -> tuple[datetime.date, str]:
    """Read back when and where a table was measured.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    day : date
        When.
    machine : str
        Where.

    Raises
    ------
    ValueError
        If it does not say.
    """
    said = []
    for word in ("Day", "Machine"):
        found = re.search(rf"^- {word}: (\S.*)$", text, re.MULTILINE)
        if found is None:
            raise ValueError(f"the results do not say: {word}")
        said.append(found.group(1))
    return datetime.date.fromisoformat(said[0]), said[1]


def structure(text: str) -> tuple[tuple[str, ...], ...]:
    """Return what a table of results has to share with the targets in code.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    tuple of tuple of str
        Name, what, and goal of each target; title, note, heads and rows of the other tables.

    Raises
    ------
    ValueError
        If it does not say when and where it was measured.
    """
    head_of(text)
    below = [_as_written(section, _cells(section)) for section in _sections_of(text)]
    return (
        *((row[0], row[1], row[2]) for row in rows_of(text)),
        *((one.title, one.note, *one.head, *one.rows) for one in below),
    )


def machine() -> str:
    """Describe this machine, how busy it is just now, and the versions that matter.

    Returns
    -------
    str
        One line.
    """
    cpuinfo = Path("/proc/cpuinfo")
    found = None
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    processor = found.group(1) if found else platform.processor() or platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "numba"))
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    cores = f"{os.cpu_count()} cores"
    if hasattr(os, "getloadavg"):  # not on Windows
        cores += f" (load average {os.getloadavg()[0]:.1f} at the start)"
    return f"{processor}, {cores}, {system}, {packages}"
