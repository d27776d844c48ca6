"""The Processing menu's "Correct Distortion": a computation of the host on what was stored."""

import datetime
import functools
import gettext
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from nion.swift import Application, DocumentController, Undo
from nion.swift.model import (
    Changes,
    DataItem,
    DocumentModel,
    Notification,
    Persistence,
    Symbolic,
)
from nion.ui import Window
from nion.utils import Registry

from nion_distortion.options import CRYSTALS
from nion_distortion.swift.computation import (
    MATCHING,
    OWN_LATTICE,
    CorrectDistortion,
    OpenStore,
    open_default_store,
    why_not,
)
from nion_distortion.swift.parameters import (
    PARAMETER_COMPONENT,
    Choices,
    ParameterChoices,
    ParameterFactory,
)

if TYPE_CHECKING:
    from nion_distortion.calibrations import CalibrationSummary

__all__ = [
    "ACTION_ID",
    "COMPUTATION_ID",
    "CorrectDistortionAction",
    "InsertCorrectedCommand",
    "Processing",
    "register_processing",
]

_ = gettext.gettext

COMPUTATION_ID = "nion_distortion.correct"
"""Stored in projects with every result: it must never change."""

ACTION_ID = "processing.nion_distortion_correct"

APPLIED: Choices = [
    (MATCHING, _("calibration for its own settings")),
    (OWN_LATTICE, _("its own lattice")),
]
"""What can be applied, but for the stored calibrations by their ids."""

REFERENCES: Choices = [
    ("free", _("crystal, cell unknown")),
    ("similarity", _("crystal, cell as in the middle")),
    *((name, name) for name in CRYSTALS),
]
"""What can count as undistorted where an item's own lattice is applied."""

RESAMPLING: Choices = [("spline", _("interpolated")), ("nearest", _("whole pixels' counts"))]

SHOWN = 6
"""Letters of a calibration's id in a list that is as narrow as the host's inspector."""

PARAMETERS: Sequence[tuple[str, str, Choices]] = [
    ("applied", _("What to apply"), APPLIED),
    ("reference", _("Its own lattice is that of a"), REFERENCES),
    ("resample", _("Intensities"), RESAMPLING),
]
"""Of the computation: name, label and what it can be, the default first."""


class CorrectDistortionAction(Window.Action):
    """The menu item: a corrected item for each of those that are selected."""

    action_id = ACTION_ID
    action_name = _("Correct Distortion")

    def is_enabled(self, context: Window.ActionContext) -> bool:
        """Return whether anything is selected.

        Parameters
        ----------
        context : ActionContext
            What is selected.

        Returns
        -------
        bool
            Also where it cannot be corrected: then the operator is told why.
        """
        return bool(cast("DocumentController.DocumentController.ActionContext", context).data_items)

    def execute(self, context: Window.ActionContext) -> Window.ActionResult:
        """Make the results.

        Parameters
        ----------
        context : ActionContext
            What is selected.

        Returns
        -------
        ActionResult
            Always finished.
        """
        chosen = cast("DocumentController.DocumentController.ActionContext", context)
        window = cast("DocumentController.DocumentController", context.window)
        reasons = {data_item: why_not(data_item) for data_item in chosen.data_items}
        possible = [data_item for data_item, reason in reasons.items() if not reason]
        command = InsertCorrectedCommand(window, possible)
        command.perform()
        if command.results:
            window.push_undo_command(command)
        else:
            command.close()
        for data_item, reason in reasons.items():
            if reason:
                _notify(f"{data_item.title}: {reason}.")
        return Window.ActionResult(Window.ActionStatus.FINISHED)


def _notify(text: str) -> None:
    title = _("Correct Distortion")
    Notification.notify(
        Notification.Notification(COMPUTATION_ID, "\N{WARNING SIGN} " + title, title, text)
    )


class InsertCorrectedCommand(Undo.UndoableCommand):
    """Make corrected items, all in one step that can be undone.

    Parameters
    ----------
    window : DocumentController
        Where.
    sources : sequence of DataItem
        What is to be corrected.
    """

    def __init__(
        self, window: DocumentController.DocumentController, sources: Sequence[DataItem.DataItem]
    ) -> None:
        super().__init__(_("Correct Distortion"))
        self._window, self._sources = window, list(sources)
        self._proxies: list[Persistence.PersistentObjectProxy[DataItem.DataItem]] = []
        self._logs: list[Changes.UndeleteLog] = []
        self._layouts = (self._layout(), None)
        self.initialize()

    @property
    def results(self) -> list[DataItem.DataItem]:
        """The corrected items that there are."""
        found = (proxy.item for proxy in self._proxies)
        return [data_item for data_item in found if data_item is not None]

    def close(self) -> None:
        """Let go of everything."""
        for proxy in self._proxies:
            proxy.close()
        for log in self._logs:
            log.close()
        self._proxies, self._logs, self._sources = [], [], []
        super().close()

    def _perform(self) -> None:
        for source in self._sources:
            self._proxies.append(self._corrected(source).create_proxy())

    def _corrected(self, source: DataItem.DataItem) -> DataItem.DataItem:
        document = self._window.document_model
        result = DataItem.new_data_item()
        result.title = _("{title} (corrected)").format(title=source.title)
        result.category = source.category
        document.append_data_item(result)
        document.set_data_item_computation(result, _computation_of(document, source))
        shown = document.get_display_item_for_data_item(result)
        if shown is not None:
            self._window.show_display_item(shown)
        return result

    def _layout(self) -> Any:
        workspace = self._window.workspace_controller
        return None if workspace is None else workspace.deconstruct()

    def _arrange(self, layout: Any) -> None:
        workspace = self._window.workspace_controller
        if workspace is not None and layout is not None:
            workspace.reconstruct(layout)

    def _undo(self) -> None:
        self._layouts = (self._layouts[0], self._layout())
        document = self._window.document_model
        for data_item in reversed(self.results):
            self._logs.append(document.remove_data_item_with_log(data_item, safe=True))
        self._arrange(self._layouts[0])

    def _redo(self) -> None:
        while self._logs:
            log = self._logs.pop()
            self._window.document_model.undelete_all(log)
            log.close()
        self._arrange(self._layouts[1])

    def _get_modified_state(self) -> Any:
        return self._window.document_model.modified_state

    def _set_modified_state(self, modified_state: Any) -> None:
        self._window.document_model.modified_state = modified_state

    def _compare_modified_states(self, _state1: Any, _state2: Any) -> bool:
        return True  # the computation changes the project after this step


def _computation_of(
    document: DocumentModel.DocumentModel, source: DataItem.DataItem
) -> Symbolic.Computation:
    computation = document.create_computation()
    computation.label, computation.processing_id = _("Correct Distortion"), COMPUTATION_ID
    # the item and not one of its displays: a change of contrast is no reason to run again
    computation.create_input_item("src", Symbolic.make_item(source), label=_("Source"))
    for name, label, choices in PARAMETERS:
        default, kind = choices[0][0], Symbolic.ComputationVariableType.STRING
        computation.create_variable(name, kind, default, default, label=label)
    return computation


class Processing:
    """What was told to the host; it is taken back by ``close``.

    Parameters
    ----------
    open_store : callable
        Opens the store of calibrations.
    """

    def __init__(self, open_store: OpenStore) -> None:
        Symbolic.register_computation_type(
            COMPUTATION_ID, functools.partial(CorrectDistortion, open_store=open_store)
        )
        Window.register_action(CorrectDistortionAction())
        more = {"applied": functools.partial(_stored_choices, open_store)}
        self._parameters = ParameterFactory(
            COMPUTATION_ID,
            {
                name: ParameterChoices(choices, more.get(name))
                for name, _label, choices in PARAMETERS
            },
        )
        Registry.register_component(self._parameters, {PARAMETER_COMPONENT})
        self._application = Application.app
        if self._application is not None:
            self._application.register_menu_handler(_add_to_menu)

    def close(self) -> None:
        """Take menu item, inspector and computation back."""
        if self._application is not None:
            self._application.unregister_menu_handler(_add_to_menu)
        Registry.unregister_component(self._parameters, {PARAMETER_COMPONENT})
        cast("dict[str, Window.Action]", Window.actions).pop(ACTION_ID, None)


def register_processing(*, open_store: OpenStore = open_default_store) -> Processing:
    """Tell the host of the menu item, its computation and the computation's inspector.

    Parameters
    ----------
    open_store : callable, optional
        Opens the store of calibrations; called on a thread.

    Returns
    -------
    Processing
        To be closed with the plug-in.
    """
    return Processing(open_store)


def _add_to_menu(window: DocumentController.DocumentController) -> None:
    menu = window.get_or_create_menu("processing_menu", _("Processing"), "window_menu")
    menu.add_menu_item(
        CorrectDistortionAction.action_name,
        functools.partial(window.perform_action, ACTION_ID),
        action_id=ACTION_ID,
    )


def _stored_choices(open_store: OpenStore) -> Choices:
    """Name the stored calibrations; on a thread, as it reads a file."""
    return [(one.calibration_id, _calibration_label(one)) for one in open_store().list()]


def _calibration_label(summary: "CalibrationSummary") -> str:
    made = datetime.datetime.fromtimestamp(summary.time_s).astimezone()
    sample = summary.sample or _("unnamed")
    return f"{summary.calibration_id[:SHOWN]} {sample}, {made:%Y-%m-%d %H:%M}"
