"""Raw and corrected picture of one scan, kept together in the project."""

from collections.abc import Sequence
from functools import partial

from nion.data import DataAndMetadata
from nion.swift import DocumentController
from nion.swift.model import DataItem

__all__ = ["record"]

Window = DocumentController.DocumentController


def record(
    window: Window, pictures: Sequence[tuple[str, DataAndMetadata.DataAndMetadata]]
) -> tuple[DataItem.DataItem, ...]:
    """Keep pictures as data items of their own; each can be undone.

    Parameters
    ----------
    window : DocumentController
        In whose project; called on its main thread.
    pictures : sequence of (str, DataAndMetadata)
        Titles and pictures.

    Returns
    -------
    tuple of DataItem
        In the same order.
    """
    made: list[DataItem.DataItem] = []
    for title, xdata in pictures:
        command = window.InsertDataItemCommand(window, partial(_added, window, title, xdata, made))
        command.perform()
        window.push_undo_command(command)
    return tuple(made)


def _added(
    window: Window,
    title: str,
    xdata: DataAndMetadata.DataAndMetadata,
    made: list[DataItem.DataItem],
) -> DataItem.DataItem:
    item = DataItem.new_data_item(xdata)
    item.title = title
    window.document_model.append_data_item(item)
    made.append(item)
    return item
