"""The window of the stored calibrations: what its buttons do to the store."""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import calibration_cases as cases
import pytest
from swift_windows import Window, opened

from nion_distortion.calibrations import CalibrationStore
from nion_distortion.swift.manage import NAMES, manage_calibrations

pytestmark = pytest.mark.gui


class Opened:
    """The window over a store with two calibrations, the newer one first in its list."""

    def __init__(self, window: Window) -> None:
        self.window, self.store = window, window.parts.store()
        model = cases.tiny_model()
        self.old = self.store.save(model, time_s=1000.0, sample="STO")
        self.new = self.store.save(model, time_s=2000.0, sample="Si", note="thin")
        self.handler: Any = manage_calibrations(window.window, self.store)

    def answer(self, monkeypatch: pytest.MonkeyPatch, path: pathlib.Path | str) -> None:
        ui = self.window.window.ui
        monkeypatch.setattr(ui, "get_save_file_path", lambda *_: (str(path), "", ""), raising=False)
        chosen = ([str(path)] if path else [], "", "")
        monkeypatch.setattr(ui, "get_file_paths_dialog", lambda *_: chosen, raising=False)


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> Iterator[Opened]:
    with opened(tmp_path) as window:
        made = Opened(window)
        yield made
        made.handler.close_window()
        window.window.periodic()
        del made


def ids(store: CalibrationStore) -> list[str]:
    return [one.calibration_id for one in store.list()]


def test_list_and_details_tell_what_there_is(manager: Opened) -> None:
    assert [row[:6] for row in manager.handler.rows] == [manager.new[:6], manager.old[:6]]
    assert " nm, " in manager.handler.rows[0]
    assert manager.handler.details == "Choose a calibration."
    manager.handler.index = 0
    details, one = manager.handler.details, manager.store.list()[0]
    assert "frames against" in details
    assert f"predicted error {one.field_error_pm:.1f} pm, with what the beam does" in details
    assert f" {one.predicted_error_pm:.1f} pm (no uncertainties)" in details
    assert (manager.handler.sample, manager.handler.note) == ("Si", "thin")


def test_changed_names_and_notes_are_taken_back_one_by_one(manager: Opened) -> None:
    assert not manager.handler.can_undo
    manager.handler.index = 0
    manager.handler.sample, manager.handler.note = "STO, wedge", "aligned"
    manager.handler.index = 1
    manager.handler.undo_clicked(None)
    manager.handler.undo_clicked(None)
    kept = manager.store.list()[0]
    assert (kept.sample, kept.note) == ("Si", "thin")
    assert not manager.handler.can_undo


def test_what_cannot_be_taken_back_now_can_be_later(manager: Opened) -> None:
    def refused(*_: object) -> None:
        raise ValueError("the disk is full")

    manager.handler.index = 0
    manager.handler.note = "thick"
    step = manager.handler._undoing[0]
    manager.handler._undoing[0] = functools.partial(refused, *step.args)
    manager.handler.undo_clicked(None)
    assert manager.handler.trouble == "The disk is full."
    assert manager.handler.can_undo
    manager.handler._undoing[0] = step
    manager.handler.undo_clicked(None)
    assert manager.handler.note == "thin"


def test_what_was_done_can_be_taken_back_although_the_list_could_not_be_read_then(
    manager: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> object:
        raise ValueError("the store is locked")

    manager.handler.index = 1
    manager.handler.note = "old and thick"
    manager.handler.index = 0
    with monkeypatch.context() as patched:
        patched.setattr(manager.handler._store, "list", unreadable)
        manager.handler.note = "thick"
        assert manager.handler.trouble == "The store is locked."
    manager.handler.undo_clicked(None)
    assert not manager.handler.trouble
    assert manager.store.list()[0].note == "thin"
    manager.handler.index = 0
    manager.handler.delete_clicked(None)
    with monkeypatch.context() as patched:
        patched.setattr(manager.handler._store, "list", unreadable)
        manager.handler.really_delete_clicked(None)
    assert manager.handler.can_undo  # what was changed in the other one


def test_nothing_of_a_deleted_calibration_is_taken_back(manager: Opened) -> None:
    manager.handler.index = 0
    manager.handler.note = "thick"
    manager.handler.delete_clicked(None)
    manager.handler.really_delete_clicked(None)
    assert ids(manager.store) == [manager.old]
    assert not manager.handler.can_undo


def test_name_and_note_are_changed(manager: Opened) -> None:
    manager.handler.index = 1
    manager.handler.sample, manager.handler.note = "STO, wedge", "aligned"
    changed = manager.store.get(manager.old).summary
    assert (changed.sample, changed.note) == ("STO, wedge", "aligned")
    assert manager.handler.index == 1


def test_nothing_is_deleted_before_it_was_asked_for_twice(manager: Opened) -> None:
    handler = manager.handler
    handler.delete_clicked(None)
    assert not handler.is_asking
    handler.index = 0
    handler.delete_clicked(None)
    assert "cannot be undone" in handler.question
    handler.keep_clicked(None)
    assert ids(manager.store) == [manager.new, manager.old]
    handler.delete_clicked(None)
    handler.really_delete_clicked(None)
    assert ids(manager.store) == [manager.old]
    assert handler.question == ""


def test_another_choice_takes_the_question_back(manager: Opened) -> None:
    manager.handler.index = 0
    manager.handler.delete_clicked(None)
    manager.handler.index = 1
    assert not manager.handler.is_asking


def test_what_is_exported_can_be_imported_again(
    manager: Opened, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.answer(monkeypatch, tmp_path / "one.sqlite")
    manager.handler.index = 0
    manager.handler.export_clicked(None)
    manager.store.delete(manager.new)
    manager.handler.import_clicked(None)
    assert manager.handler.trouble == ""
    assert ids(manager.store) == [manager.new, manager.old]


def test_dialog_that_is_cancelled_does_nothing(
    manager: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.answer(monkeypatch, "")
    manager.handler.index = 0
    manager.handler.export_clicked(None)
    manager.handler.import_clicked(None)
    assert ids(manager.store) == [manager.new, manager.old]
    assert manager.handler.trouble == ""


def test_what_cannot_be_done_is_said(
    manager: Opened, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.sqlite").write_text("something else")
    manager.answer(monkeypatch, tmp_path / "mine.sqlite")
    manager.handler.index = 0
    manager.handler.export_clicked(None)
    assert "exists already" in manager.handler.trouble
    manager.handler.import_clicked(None)
    assert manager.handler.trouble
    assert (tmp_path / "mine.sqlite").read_text() == "something else"


def test_calibration_that_another_program_deleted_is_gone_without_harm(manager: Opened) -> None:
    manager.handler.index = 0
    manager.store.delete(manager.new)
    manager.handler.note = "late"
    assert manager.handler.trouble
    assert len(manager.handler.rows) == 1


def test_everything_that_is_shown_can_be_read(manager: Opened) -> None:
    assert all(hasattr(manager.handler, name) for name in NAMES)
