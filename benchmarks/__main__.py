"""Measure, print each number beside its target, and write the tables of results.

``python -m benchmarks`` measures everything and writes ``RESULTS.md``, and the rows of it that the
README shows; with ``--only`` or ``--quick`` it only prints, with ``--only`` and ``--write`` it
writes what it measured among the numbers of the last run on the same machine.
"""

import argparse
import datetime
import importlib
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

import threadpoolctl

from benchmarks.results import (
    README,
    RESULTS,
    Measured,
    head_of,
    in_readme,
    line,
    machine,
    measured_in,
    section_lines,
    table,
)
from benchmarks.sections import SECTIONS
from benchmarks.targets import TARGETS
from nion_distortion._memory import keep_freed_memory

__all__ = ["CASES", "main"]

CASES = {
    "frame": "speed",
    "first": "speed",
    "apply": "speed",
    "interpolation": "speed",
    "ticks": "live",
    "memory": "live",
    "swift": "swift",
    "soak": "swift",
    "start": "start",
    "demo": "start",
    "flyback": "accuracy",
    "null": "accuracy",
    "claims": "claims",
    "calibrated": "calibrated",
    "coils": "calibrated",
    "transfer": "transfer",
    "localisation": "localisation",
    "sto": "real",
    "exact": "cross_check",
    "withheld": "held_out",
    "indices": "indices",
    "stale": "trust",
    "frames": "tables",
    "dose": "tables",
    "view": "tables",
    "strength": "tables",
    "sampling": "tables",
    "rivals": "rivals",
}
"""The cases in order, each a function of the same name in its module: timings come first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line where not given.

    Returns
    -------
    int
        Exit code: 0, or 1 where a case failed. A missed target is a result, not a failure.
    """
    chosen = _parser().parse_args(arguments)
    if chosen.write_again:
        _write_again()
        return 0
    keep_freed_memory()  # as the processes that compute do
    where = machine()
    measured: dict[str, Measured] = {}
    failed = False
    for name in chosen.only or CASES:
        begun_s = time.perf_counter()
        found, is_right = _run(name, quick=chosen.quick)
        failed |= not is_right
        measured |= found
        _print(name, found, time.perf_counter() - begun_s)
    if chosen.only and chosen.write:
        _write_among(measured)
    elif not (chosen.only or chosen.quick):
        _write(table(measured, machine=where, day=datetime.date.today()))
    return int(failed)


def _write(results: str) -> None:
    readme = README.read_text(encoding="utf-8")
    RESULTS.write_text(results, encoding="utf-8")
    README.write_text(in_readme(readme, results), encoding="utf-8")
    print(f"written: {RESULTS.name}, and its rows in {README.name}")


def _write_again() -> None:
    """Write the table from its own numbers: a reason in the targets has changed."""
    _write_among({})


def _write_among(measured: Mapping[str, Measured]) -> None:
    """Write some numbers anew, and the others as they are."""
    text = RESULTS.read_text(encoding="utf-8")
    day, where = head_of(text)
    new = dict.fromkeys(_names(), Measured(beside="new since the last full run"))
    targets = {target.name for target in TARGETS}
    known = {
        name: one
        for name, one in measured_in(text).items()
        if one.value is not None or name not in targets
    }
    _write(table(new | known | dict(measured), machine=where, day=day))


def _names(case: str | None = None) -> list[str]:
    """Return the names of all targets and cells, or of those of one case."""
    targets = [one.name for one in TARGETS if case in (None, one.case)]
    rows = [row for one in SECTIONS if case in (None, one.case) for row in one.keys]
    return [*targets, *(key for row in rows for key in row)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=tuple(CASES), help="measure this case (repeatable)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few repeats and small frames, to try the benchmarks"
    )
    parser.add_argument("--write", action="store_true", help="with --only: write what was measured")
    parser.add_argument(
        "--write-again",
        action="store_true",
        help="measure nothing; write the table again with its own numbers",
    )
    return parser


def _run(name: str, *, quick: bool) -> tuple[Mapping[str, Measured], bool]:
    """Run one case; whatever comes out of it must not lose the others."""
    module = importlib.import_module(f"benchmarks.{CASES[name]}")
    case: Callable[..., Mapping[str, Measured]] = getattr(module, name)
    try:
        # only libraries that are loaded by now are limited
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            return case(quick=quick), True
    except Exception as error:
        traceback.print_exc()
        reason = f"failed: {type(error).__name__}: {error}"
        return dict.fromkeys(_names(name), Measured(beside=reason)), False


def _print(name: str, found: Mapping[str, Measured], duration_s: float) -> None:
    for target in TARGETS:
        if target.case == name:
            missing = Measured(beside="not measured in a quick run")
            print(line(target, found.get(target.name, missing)), flush=True)
    for section in SECTIONS:
        if section.case == name:
            print("\n".join([section.title, *section_lines(section, found)]), flush=True)
    print(f"({name}: {duration_s:.0f} s)", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
