"""``nion-distortion calibrations``: what it says, and what it leaves alone."""

import builtins
import re
from pathlib import Path

import pytest
from calibration_cases import model_for, tiny_model
from strategies import full_settings

from nion_distortion.calibrations import CalibrationStore
from nion_distortion.cli import main


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    """Two calibrations: an older one on STO, a newer one with a note."""
    store = CalibrationStore(tmp_path / "store.sqlite")
    store.save(tiny_model(), time_s=1e9, sample="SrTiO3", provenance={"focus_nm": -3.25})
    other = model_for(full_settings(dwell_time_us=2.0, flyback_time_us=None))
    store.save(other, time_s=1.1e9, sample="Si", note="after\nthe repair")
    return store


def ids(store: CalibrationStore) -> list[str]:
    return [one.calibration_id for one in store.list()]


def test_the_list_is_a_table_newest_first(
    store: CalibrationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrations", "list", "--store", str(store.path)]) == 0
    heading, newer, older, _ = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["id", "made", "sample"]
    assert newer.startswith(ids(store)[0])
    assert re.search(r"Si +scan +80 x 96 +8 +2 +- +1 .* after the repair$", newer)
    assert re.search(r"2001-09-0\d \d\d:46 +SrTiO3 +scan +80 x 96 +8 +1 +120 +1 ", older)


def test_an_empty_store_is_said_to_be_empty_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrations", "--store", str(tmp_path / "none"), "list"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'none'} has no calibration yet.\n"
    assert not list(tmp_path.iterdir())


def test_a_damaged_calibration_is_listed_as_such(
    store: CalibrationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    content = store.path.read_bytes()
    wanted = b'"flyback_time_us": 120.0'
    place = content.index(wanted)
    damaged = content[:place] + wanted.replace(b"120", b"130") + content[place + len(wanted) :]
    store.path.write_bytes(damaged)
    assert main(["calibrations", "list", "--store", str(store.path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert "no uncertainty" in said[2]
    assert re.search(r"^Calibration \w{12} is damaged: .* match its checksum\.$", said[3])


def test_show_tells_all_about_one(
    store: CalibrationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    name = ids(store)[1]
    assert main(["calibrations", "show", name[:5], "--store", str(store.path)]) == 0
    said = capsys.readouterr().out
    for line in (
        rf"id +{name}",
        r"left in a corrected frame +[\d.]+ pm \(predicted, no uncertainty\)",
        r"sample +SrTiO3",
        r"fly-back tau +[\d.]+ us \+- [\d.]+ us",
        r"its error +[\d.]+, [\d.]+ pm \(slow, fast\)",
        r"dwell_time_us +1\.0",
        r"beam_lag_us +1\.5",
        r"smooth +\S+, \S+ \(slow, fast\)",
        r"focus_nm +-3\.25",
    ):
        assert re.search(rf"^  {line}$", said, re.MULTILINE), line
    assert "mains" not in said  # the scan is too short to tell, so there was nothing to learn


def test_names_and_notes_are_changed(store: CalibrationStore) -> None:
    newer, older = ids(store)
    path = str(store.path)
    assert main(["calibrations", "note", older, "good", "--store", path]) == 0
    assert main(["calibrations", "--store", path, "rename", newer, "silicon"]) == 0
    assert [(one.sample, one.note) for one in store.list()] == [
        ("silicon", "after\nthe repair"),
        ("SrTiO3", "good"),
    ]


@pytest.mark.parametrize(("answer", "left"), [("y", 1), ("n", 2), ("", 2), ("YES", 1)])
def test_deleting_asks_first(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr(builtins, "input", ask)
    assert main(["calibrations", "delete", ids(store)[0], "--store", str(store.path)]) == 0
    assert re.search(r"^Delete calibration \w{12}, Si, 2004-11-", asked[0])
    assert len(asked) == 1
    assert len(ids(store)) == left


def test_deleting_without_an_answer_deletes_nothing(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(builtins, "input", nobody)
    name = ids(store)[0]
    assert main(["calibrations", "delete", name, "--store", str(store.path)]) == 2
    assert "nothing was deleted; --yes asks nothing" in capsys.readouterr().err
    assert len(ids(store)) == 2
    assert main(["calibrations", "delete", name, "--yes", "--store", str(store.path)]) == 0
    assert name not in ids(store)


def test_calibrations_go_to_another_machine(
    store: CalibrationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, there = str(tmp_path / "out"), str(tmp_path / "there")
    assert main(["calibrations", "export", *ids(store), file, "--store", str(store.path)]) == 0
    assert main(["calibrations", "import", file, "--store", there]) == 0
    assert all(name in capsys.readouterr().out for name in ids(store)[:1])
    assert ids(CalibrationStore(there)) == ids(store)
    assert main(["calibrations", "import", file, "--store", there]) == 0
    assert capsys.readouterr().out == "All of them were here already.\n"


MISTAKES = [
    (["show", "0000"], "has no calibration 0000"),
    (["delete", "zzzz", "--yes"], "has no calibration zzzz"),
    (["show", "b81"], "at least 4 letters of the id are needed, not 'b81'"),
    (["note", "b81", "good"], "at least 4 letters of the id are needed, not 'b81'"),
    (["export", "b81", "FILE"], "at least 4 letters of the id are needed, not 'b81'"),
    (["delete", "b81"], "at least 4 letters of the id are needed, not 'b81'"),
    (["delete", "zzzz"], "has no calibration zzzz"),
    (["export", "zzzz", "FILE"], "has no calibration zzzz"),
    (["export", "ID", "STORE"], "exists already and was left as it is"),
    (["import", "FILE"], "does not exist"),
    (["list", "--store", "TEXT"], "is damaged"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    store: CalibrationStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    (tmp_path / "text").write_text("no database at all\n" * 99)
    words = {
        "FILE": str(tmp_path / "file"),
        "TEXT": str(tmp_path / "text"),
        "STORE": str(store.path),
        "ID": ids(store)[0],
    }
    filled = [words.get(word, word) for word in arguments]
    assert main(["calibrations", "--store", str(store.path), *filled]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("nion-distortion: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert len(ids(store)) == 2
