import datetime
import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import start
from benchmarks.localisation import cramer_rao_px, one_to_one
from benchmarks.results import (
    README,
    RESULTS,
    UNKNOWN,
    Measured,
    measured_in,
    rows_of,
    structure,
    table,
)
from benchmarks.scenes import settings_of
from benchmarks.sections import FRAMES, SECTIONS
from benchmarks.targets import TARGETS, Target
from nion_distortion.frame import ScanSettings
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.specimen import make_specimen

DAY = datetime.date(2026, 11, 23)
README_TEXT = README.read_text(encoding="utf-8")


def results_of(measured: Mapping[str, Measured]) -> str:
    return table(measured, machine="a machine", day=DAY)


def test_results_follow_the_targets_in_code() -> None:
    assert structure(RESULTS.read_text(encoding="utf-8")) == structure(results_of({}))


def test_every_target_of_the_results_was_met_or_says_why_not() -> None:
    for row in rows_of(RESULTS.read_text(encoding="utf-8")):
        name, _, _, number, verdict, reason, beside, _ = row
        assert verdict in ("met", "**missed**", "not run"), name
        assert verdict != "not run" or (number == "-" and beside), name
        assert verdict != "**missed**" or reason not in ("", UNKNOWN), name


def test_every_cell_below_the_targets_is_filled() -> None:
    written = measured_in(RESULTS.read_text(encoding="utf-8"))

    for section in SECTIONS:
        for row in section.keys:
            assert any(written[key].beside not in ("", "-") for key in row), row


def test_names_are_unique_and_belong_to_a_case() -> None:
    cells = [key for section in SECTIONS for row in section.keys for key in row]
    names = [*(target.name for target in TARGETS), *cells]
    cases = {target.case for target in TARGETS} | {section.case for section in SECTIONS}

    assert len(set(names)) == len(names)
    assert cases == set(command.CASES)


def test_a_found_column_beside_one_that_was_found_better_is_none() -> None:
    true = np.array([[10.0, 10.0], [10.0, 30.0], [30.0, 10.0]])
    found = np.array([[10.2, 30.0], [10.0, 10.5], [10.0, 13.5], [30.0, 15.0]])

    same, row = one_to_one(found, true)

    np.testing.assert_array_equal(same, [True, True, False, False])
    np.testing.assert_array_equal(row[same], [1, 0])


def test_the_first_demo_begins_with_nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[Path] | None] = []

    def ran(**environment: str) -> tuple[float, float, str]:
        folder = environment.get("NUMBA_CACHE_DIR")
        found.append(None if folder is None else list(Path(folder).iterdir()))
        return 150.0, 160.0, "said"

    monkeypatch.setattr(start, "_demo", ran)
    assert list(start.demo(quick=True)) == ["demo time"]
    measured = start.demo(quick=False)
    assert found == [None, None, []]
    assert measured["demo first"] == Measured(value=150.0, beside="160 s of processor time")


def test_rows_and_heads_of_a_table_are_unique() -> None:
    for section in SECTIONS:
        assert len(set(section.rows)) == len(section.rows)
        assert len(set(section.head)) == len(section.head)


@pytest.mark.parametrize("case", command.CASES)
def test_every_case_is_a_function(case: str) -> None:
    module = importlib.import_module(f"benchmarks.{command.CASES[case]}")

    assert callable(getattr(module, case))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_number_on_the_wrong_side_is_missed(target: Target) -> None:
    worse = 1.0 if target.direction == "<=" else -1.0

    rows = {
        shift: next(
            row
            for row in rows_of(results_of({target.name: Measured(value=target.goal + shift)}))
            if row[0] == target.name
        )
        for shift in (worse, 0.0)
    }

    assert rows[worse][4] == "**missed**"
    assert rows[worse][5]  # the reason, or that it is not known
    assert rows[0.0][4] == "met"


def test_another_target_changes_the_structure() -> None:
    text = results_of({})
    row = next(line for line in text.splitlines() if line.startswith("| null z"))

    assert structure(text.replace(row + "\n", "")) != structure(text)
    assert structure(text.replace("<= 1.2", "<= 1.3")) != structure(text)


@pytest.mark.parametrize("part", ["title", "note", "head", "row"])
def test_another_table_changes_the_structure(part: str) -> None:
    text, section = results_of({}), SECTIONS[1]
    parts = {"head": section.head[1], "row": f"| {section.rows[2]} |"}
    before, after = text.split(section.title)  # heads and rows of other tables are like these
    old = parts[part] if part in parts else getattr(section, part)
    changed = before + (section.title + after).replace(old, "| other |", 1)

    assert changed != text
    assert structure(changed) != structure(text)


def test_results_without_day_or_machine_are_refused() -> None:
    text = results_of({})

    for word in ("Day", "Machine"):
        with pytest.raises(ValueError, match=f"do not say: {word}"):
            structure(text.replace(f"- {word}:", "-"))


def test_only_a_full_run_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    found = {target.name: Measured(value=target.goal) for target in TARGETS}
    monkeypatch.setattr(command, "_run", lambda name, *, quick: (found, True))  # noqa: ARG005
    monkeypatch.setattr(
        type(RESULTS),
        "write_text",
        lambda path, text, encoding: written.update({path.name: text}),  # noqa: ARG005
    )

    command.main(["--quick"])
    command.main(["--only", "null"])
    assert not written

    assert command.main([]) == 0
    assert structure(written["RESULTS.md"]) == structure(results_of({}))
    assert "| 99.95 | >= 99.95 % | met |" in written["README.md"]


def test_results_are_read_back_as_they_were_written() -> None:
    measured = {
        target.name: Measured(value=1.25 * (number + 1), beside=f"note {number}")
        for number, target in enumerate(TARGETS[:-1])
    }
    cells = [key for section in SECTIONS for row in section.keys for key in row]
    measured |= {key: Measured(beside=f"{number}/1 pm") for number, key in enumerate(cells[:-1])}
    text = results_of(measured)

    assert results_of(measured_in(text)) == text
    assert measured_in(text).items() >= {key: measured[key] for key in cells[:-1]}.items()


def test_a_case_that_fails_loses_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        importlib.import_module("benchmarks.accuracy"), "process_frame", _fail, raising=True
    )

    code = command.main(["--quick", "--only", "null", "--only", "start"])

    printed = capsys.readouterr().out
    assert code == 1
    assert "failed: RuntimeError: no beam" in printed
    assert "start import" in printed


def test_without_the_real_images_their_case_is_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real = importlib.import_module("benchmarks.real")
    monkeypatch.setattr(real, "STO_FILE", tmp_path / "16_STOimage_1.ser")

    assert command.main(["--only", "sto"]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[:3]] == [
        ["sto", "slow"],
        ["sto", "fast"],
        ["sto", "found"],
    ]
    assert all("not run" in line and "data missing" in line for line in printed[:3])


def test_what_is_new_says_so_and_nothing_else_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(
        type(RESULTS),
        "write_text",
        lambda path, text, encoding: written.update({path.name: text}),  # noqa: ARG005
    )
    kept, new = SECTIONS[0].keys[0][0], SECTIONS[1].keys[0][0]
    found = {target.name: Measured(value=target.goal) for target in TARGETS}
    whole = results_of(found | {kept: Measured(beside="1.0/2.0")})
    text = whole[: whole.index(f"## {SECTIONS[1].title}")]
    monkeypatch.setattr(
        type(RESULTS),
        "read_text",
        lambda path, encoding: text if path == RESULTS else README_TEXT,  # noqa: ARG005
    )

    assert command.main(["--write-again"]) == 0
    again = measured_in(written["RESULTS.md"])
    assert again[kept].beside == "1.0/2.0"
    assert again[new].beside == "new since the last full run"


def test_a_table_is_filled_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--quick", "--only", "frames"]) == 0

    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {count}" for count in FRAMES]
    for row in rows[2 : 2 + FRAMES.index(5) + 1]:
        left = [float(pm) for pm in row.split(" | ")[1].split("/")]
        assert all(0.5 < pm < 12.0 for pm in left), row


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError("no beam")


def test_cramer_rao_of_a_lone_column_is_sigma_over_root_of_its_counts() -> None:
    settings = ScanSettings(shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0)
    specimen = make_specimen("zigzag", column_shape="gaussian", amplitude_nm=0.0)
    detector = Detector(counts_at_peak=80.0, background=1e-6)
    exposure = Microscope(specimen, detector=detector).exposure(settings)

    bound = cramer_rao_px(exposure, 0)

    # sigma / sqrt(2 pi sigma^2 counts)
    assert bound == pytest.approx(1 / np.sqrt(2 * np.pi * 80.0), rel=0.01)


def test_scenes_are_those_of_the_accuracy_tables() -> None:
    assert settings_of(512).pixel_size_nm == pytest.approx(0.03125)
