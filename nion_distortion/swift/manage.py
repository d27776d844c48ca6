"""The window in which stored calibrations are looked after."""

import gettext
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from nion.swift import DocumentController
from nion.ui import Declarative

from nion_distortion.swift.phrases import sentence
from nion_distortion.swift.widgets import UI, Description, button, row, text, typed

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationStore, CalibrationSummary

__all__ = ["manage_calibrations"]

_ = gettext.gettext

Window = DocumentController.DocumentController

FILES = _("Calibrations") + " (*.sqlite)"

WIDTH, LABEL = 620, 60

NAMES = (
    "rows", "index", "details", "sample", "note", "trouble", "is_chosen", "is_asking", "question",
    "can_undo",
)  # fmt: skip
"""What may have changed after something was done."""


class _Handler(Declarative.WindowHandler):
    """What the window shows of a store, and what its buttons do."""

    def __init__(self, window: Window, store: "CalibrationStore") -> None:
        super().__init__()
        self._ui, self._store = window.ui, store
        self._listed: tuple[CalibrationSummary, ...] = ()
        self._index = -1
        self.trouble, self.is_asking = "", False
        self._undoing: list[partial[object]] = []
        self._list()

    # what is shown

    @property
    def rows(self) -> list[str]:
        """One line for each calibration, the newest first."""
        return [_row(one) for one in self._listed]

    @property
    def index(self) -> int:
        return self._index

    @index.setter
    def index(self, index: int | None) -> None:
        chosen = -1 if index is None else index
        if chosen != self._index:
            self._index, self.is_asking = chosen, False
            self._changed("index")

    @property
    def chosen(self) -> "CalibrationSummary | None":
        """The calibration that everything is done to."""
        return self._listed[self._index] if 0 <= self._index < len(self._listed) else None

    @property
    def is_chosen(self) -> bool:
        return self.chosen is not None

    @property
    def details(self) -> str:
        return _("Choose a calibration.") if self.chosen is None else _details(self.chosen)

    @property
    def sample(self) -> str:
        return "" if self.chosen is None else self.chosen.sample

    @sample.setter
    def sample(self, text: str | None) -> None:
        chosen = self.chosen
        if chosen is not None and (text or "") != chosen.sample:
            self._write(self._store.rename, chosen.calibration_id, text or "", chosen.sample)

    @property
    def note(self) -> str:
        return "" if self.chosen is None else self.chosen.note

    @note.setter
    def note(self, text: str | None) -> None:
        chosen = self.chosen
        if chosen is not None and (text or "") != chosen.note:
            self._write(self._store.annotate, chosen.calibration_id, text or "", chosen.note)

    @property
    def can_undo(self) -> bool:
        return bool(self._undoing)

    @property
    def question(self) -> str:
        if not self.is_asking or self.chosen is None:
            return ""
        return _("Delete {row}? This cannot be undone.").format(row=_row(self.chosen))

    # what the buttons do

    def undo_clicked(self, _widget: Any) -> None:
        if not self._undoing:
            return
        if self._do(self._undoing[-1]):
            self._undoing.pop()
            self._changed()

    def delete_clicked(self, _widget: Any) -> None:
        self.is_asking = self.is_chosen
        self._changed()

    def keep_clicked(self, _widget: Any) -> None:
        self.is_asking = False
        self._changed()

    def really_delete_clicked(self, _widget: Any) -> None:
        chosen = self.chosen
        self.is_asking = False
        if chosen is not None and self._do(partial(self._store.delete, chosen.calibration_id)):
            gone = chosen.calibration_id
            self._undoing = [step for step in self._undoing if step.args[0] != gone]
            self._changed("index")

    def export_clicked(self, _widget: Any) -> None:
        chosen = self.chosen
        if chosen is None:
            return
        path, _filter, _folder = self._ui.get_save_file_path(_("Export Calibration"), "", FILES)
        if path:
            self._do(lambda: self._store.export([chosen.calibration_id], path))

    def import_clicked(self, _widget: Any) -> None:
        paths, _filter, _folder = self._ui.get_file_paths_dialog(
            _("Import Calibrations"), "", FILES
        )
        for path in paths:
            self._do(partial(self._store.import_, path))

    # how

    def _write(
        self, how: Callable[[str, str], object], calibration_id: str, text: str, before: str
    ) -> None:
        """Change a text of the chosen calibration, and remember what it was."""
        if self._do(partial(how, calibration_id, text)):
            self._undoing.append(partial(how, calibration_id, before))
            self._changed()

    def _do(self, step: Callable[[], object]) -> bool:
        """Do something to the store; where it cannot be done, say why and return False."""
        is_done, self.trouble = True, ""
        try:
            step()
        except ValueError as reason:
            is_done, self.trouble = False, sentence(str(reason))
        self._list()
        self._changed()
        return is_done

    def _list(self) -> None:
        before = self.chosen
        try:
            self._listed = self._store.list()
        except ValueError as reason:
            self._listed, self.trouble = (), sentence(str(reason))
        ids = [one.calibration_id for one in self._listed]
        stays = before is not None and before.calibration_id in ids
        self._index = ids.index(before.calibration_id) if stays and before is not None else -1

    def _changed(self, *but: str) -> None:
        for name in NAMES:
            if name not in but:
                self.notify_property_changed(name)


def _row(one: "CalibrationSummary") -> str:
    made = datetime.fromtimestamp(one.time_s).astimezone().strftime("%Y-%m-%d %H:%M")
    settings = one.settings
    scan = f"{settings.field_of_view_nm:g} nm, {settings.shape_px[1]} x {settings.shape_px[0]} px"
    if settings.dwell_time_us is not None:
        scan += f", {settings.dwell_time_us:g} \N{MICRO SIGN}s"
    error = _("no error predicted")
    if one.predicted_error_pm is not None:
        error = _("{pm:.1f} pm expected to be left (no uncertainty)").format(
            pm=one.predicted_error_pm
        )
    return f"{one.calibration_id[:6]}  {made}  {one.sample or _('unnamed')}  {scan}  {error}"


def _details(one: "CalibrationSummary") -> str:
    """Tell what the list has no room for."""
    error = _("predicted error: none")
    if one.predicted_error_pm is not None and one.field_error_pm is not None:
        error = _(
            "predicted error {own:.1f} pm, with what the beam does in each frame {left:.1f} pm (no "
            "uncertainties)"
        ).format(own=one.field_error_pm, left=one.predicted_error_pm)
    return _("{frames} frames against {reference}; {error}; device {device}").format(
        frames=one.frames,
        reference=one.reference,
        error=error,
        device=one.settings.device_id or _("not reported"),
    )


def _layout() -> Description:
    u = UI()
    listed = u.create_list_box(
        items_ref="@binding(rows)", current_index="@binding(index)", width=WIDTH, height=220
    )
    content = u.create_column(
        listed,
        text(u, "details", WIDTH, lines=2),
        _typed(u, _("Sample"), "sample", _("What it was made on")),
        _typed(u, _("Note"), "note", _("Anything worth remembering")),
        _question(u),
        text(u, "trouble", WIDTH, lines=2, color="#C00000"),
        _buttons(u),
        spacing=8,
    )
    return u.create_window(content, title=_("Distortion Calibrations"), margin=12)


def _typed(u: UI, label: str, name: str, tool_tip: str) -> Description:
    line = typed(u, name, tool_tip, width=WIDTH - LABEL - 10, enabled="is_chosen")
    return row(u, u.create_label(text=label, width=LABEL), line)


def _question(u: UI) -> Description:
    delete = button(u, _("Delete"), "really_delete_clicked", _("Delete it for good"))
    keep = button(u, _("Keep"), "keep_clicked", _("Delete nothing"))
    asked = text(u, "question", WIDTH - 160, lines=2)
    return row(u, asked, delete, keep, visible="is_asking")


def _buttons(u: UI) -> Description:
    delete, export = _("Delete the chosen one; you are asked first"), _("Write it to a file")
    undo = _("Write the sample or note that was changed last as it was before")
    import_ = _("Take the calibrations of a file over; those that are known stay as they are")
    return row(
        u,
        button(u, _("Undo"), "undo_clicked", undo, enabled="can_undo"),
        button(u, _("Delete..."), "delete_clicked", delete, enabled="is_chosen"),
        button(u, _("Export..."), "export_clicked", export, enabled="is_chosen"),
        button(u, _("Import..."), "import_clicked", import_),
        button(u, _("Close"), "close_window", _("Close this window")),
    )


def manage_calibrations(window: Window, store: "CalibrationStore") -> Declarative.WindowHandler:
    """Open the window: list, name, note, delete, export and import.

    Parameters
    ----------
    window : DocumentController
        Its parent.
    store : CalibrationStore
        What is looked after.

    Returns
    -------
    WindowHandler
        What is in the window.
    """
    handler = _Handler(window, store)
    handler.run(_layout(), parent_window=window, persistent_id="nion_distortion_calibrations")
    return handler
