"""What is asked of a window: that something be done in its next tick, or before it closes."""

from collections.abc import Callable
from functools import partial
from weakref import WeakSet, ref

from nion.swift import DocumentController

__all__ = ["Leaving", "do_soon", "forget"]

Window = DocumentController.DocumentController


def do_soon(window: Window, task: str, what: Callable[[], object]) -> None:
    """Do something on the main thread, in the window's next tick; on any thread.

    Parameters
    ----------
    window : DocumentController
        Perhaps closed meanwhile: then nothing is done.
    task : str
        Its name; of tasks with one name only the newest is done.
    what : callable
        What is done.
    """
    try:
        window.add_task(task, what)  # type: ignore[arg-type]  # what it returns is dropped
    except AttributeError:  # it has let go of its tasks; a look beforehand would be too early
        if not is_closed(window):
            raise


def forget(window: Window, task: str) -> None:
    """Do not do it any more.

    Parameters
    ----------
    window : DocumentController
        Perhaps closed meanwhile.
    task : str
        Its name.
    """
    try:
        window.clear_task(task)
    except AttributeError:
        if not is_closed(window):
            raise


def is_closed(window: Window) -> bool:
    """Return whether a window is closed: then the host has taken its parts away.

    Parameters
    ----------
    window : DocumentController
        Any.

    Returns
    -------
    bool
        Whether it is.
    """
    loop: object = window.event_loop
    return loop is None


class Leaving:
    """Call somebody before a window takes itself apart: later, its thumbnail lists fail.

    Parameters
    ----------
    leave : callable
        Called with the window, once for each that is to be told.
    """

    def __init__(self, leave: Callable[[Window], object]) -> None:
        self._leave = leave
        self._chained: WeakSet[Window] = WeakSet()

    def tell_of(self, window: Window) -> None:
        """Be called when this window closes; its own ``on_close`` is called after.

        Parameters
        ----------
        window : DocumentController
            Any; more than once does no harm.
        """
        if window in self._chained:
            return
        self._chained.add(window)
        window.on_close = partial(self._closing, ref(window), window.on_close)

    def _closing(self, window: "ref[Window]", before: Callable[[], object] | None) -> None:
        closing = window()
        if closing is not None:
            self._leave(closing)
        if callable(before):
            before()
