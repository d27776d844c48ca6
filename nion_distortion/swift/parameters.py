"""Parameters of a computation in the host's inspector: lists to choose from."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nion.swift import DocumentController, Inspector
from nion.swift.model import Symbolic
from nion.ui import Declarative
from nion.utils import ReferenceCounting

__all__ = ["PARAMETER_COMPONENT", "Choices", "ParameterChoices", "ParameterFactory"]

_log = logging.getLogger(__name__)

PARAMETER_COMPONENT = "variable-handler-component-factory"
"""The host's name for what draws a parameter."""

WIDTH_PX = 250
"""Of a list; the host's inspector is a little wider."""

Choices = Sequence[tuple[str, str]]
"""Values of a parameter, and what the operator reads."""


@dataclass(frozen=True, slots=True)
class ParameterChoices:
    """What a parameter can be.

    Parameters
    ----------
    known : sequence of (str, str)
        Values and labels.
    more : callable, optional
        Returns more of them; called on a thread, as it may take its time.
    """

    known: Choices
    more: Callable[[], Choices] | None = None


class ParameterFactory:
    """Draws the parameters of one kind of computation.

    Parameters
    ----------
    computation_id : str
        The kind.
    choices : Mapping
        From the parameters' names to what they can be.
    """

    def __init__(self, computation_id: str, choices: Mapping[str, ParameterChoices]) -> None:
        self._computation_id, self._choices = computation_id, dict(choices)

    def make_variable_handler(
        self,
        window: DocumentController.DocumentController,
        computation: Symbolic.Computation,
        variable: Symbolic.ComputationVariable,
        value_model: Inspector.VariableValueModel,
    ) -> Declarative.HandlerLike | None:
        """Draw a parameter; the host asks for every parameter of every computation.

        Parameters
        ----------
        window : DocumentController
            Where the inspector is.
        computation : Computation
            Whose parameter it is.
        variable : ComputationVariable
            The parameter.
        value_model : VariableValueModel
            Changes it, so that it can be undone.

        Returns
        -------
        HandlerLike or None
            None where it is not ours.
        """
        choices = self._choices.get(variable.name)
        if computation.processing_id != self._computation_id or choices is None:
            return None
        return ChoiceHandler(window, variable, value_model, choices)


class ChoiceHandler(Declarative.Handler):
    """One parameter: its label above a list.

    Parameters
    ----------
    window : DocumentController
        Where the inspector is.
    variable : ComputationVariable
        The parameter.
    value_model : VariableValueModel
        Changes it.
    choices : ParameterChoices
        What it can be; a value that is not among them is shown as it is.
    """

    def __init__(
        self,
        window: DocumentController.DocumentController,
        variable: Symbolic.ComputationVariable,
        value_model: Inspector.VariableValueModel,
        choices: ParameterChoices,
    ) -> None:
        super().__init__()
        self._value_model, self._choices = value_model, list(choices.known)
        self._is_relabelled = False
        self._listener: Any = value_model.property_changed_event.listen(
            ReferenceCounting.weak_partial(ChoiceHandler._changed, self)
        )
        ui = Declarative.DeclarativeUI()
        self.ui_view = ui.create_column(
            ui.create_label(text=variable.display_label),
            ui.create_combo_box(
                items_ref="@binding(labels)",
                current_index="@binding(index)",
                name="combo_box",
                width=WIDTH_PX,
            ),
            spacing=4,
        )
        load = choices.more
        self._task = None if load is None else window.event_loop.create_task(self._load(load))

    def close(self) -> None:
        """Stop listening, and wait no longer for more choices."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._listener = None
        super().close()

    @property
    def labels(self) -> list[str]:
        """What there is to choose from."""
        return [label for _value, label in self._all]

    @property
    def index(self) -> int:
        """The number of the one that is chosen."""
        return [value for value, _label in self._all].index(str(self._value_model.value))

    @index.setter
    def index(self, index: int | None) -> None:
        """Choose another one.

        Parameters
        ----------
        index : int or None
            Its number; None chooses nothing.
        """
        # a list that gets new items has none chosen for a moment, which is not the operator's word
        if not self._is_relabelled and index is not None:
            self._value_model.value = self._all[index][0]

    @property
    def _all(self) -> list[tuple[str, str]]:
        chosen = str(self._value_model.value)
        if any(value == chosen for value, _label in self._choices):
            return self._choices
        return [*self._choices, (chosen, chosen)]

    def _changed(self, _name: str) -> None:
        self._is_relabelled = True
        try:
            self.notify_property_changed("labels")
            self.notify_property_changed("index")
        finally:
            self._is_relabelled = False

    async def _load(self, load: Callable[[], Choices]) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, load)
        except Exception:  # the list is then shorter, and whoever uses the store says why
            _log.exception("What there is to choose from could not be read")
            return
        self._choices += found
        self._changed("value")
