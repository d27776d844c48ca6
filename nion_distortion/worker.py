"""A thread that always takes the newest item, and a limit of BLAS to one thread."""

import logging
from collections.abc import Callable
from threading import Condition, Event, Lock, Thread, current_thread
from typing import Generic, TypeVar

import threadpoolctl

from nion_distortion._failures import log_failure

__all__ = ["BlasLimit", "Worker", "blas_limit"]

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


class Worker(Generic[Item]):
    """Do one thing to the newest item, on a thread of its own.

    The mailbox has one slot: an item that arrives while another waits replaces it, and the one
    that was never looked at counts as dropped. Whoever submits never waits, unless that is asked
    for.

    Parameters
    ----------
    work : callable
        Called with each item that was taken, on the worker's thread.
    failed : callable, optional
        Told of an exception that came out of any of the others, on the same thread.
    prepare, finish : callable, optional
        Called once on the worker's thread before the first item, and when it is closed; slow
        imports, and what only the thread that took it can give back, belong here.
    name : str, default: "nion_distortion.worker"
        Name of the thread.
    takes_all : bool, default: False
        Nothing is dropped: whoever submits waits until no other item does.
    """

    def __init__(
        self,
        work: Callable[[Item], object],
        *,
        failed: Callable[[Exception], object] | None = None,
        prepare: Callable[[], object] = lambda: None,
        finish: Callable[[], object] = lambda: None,
        name: str = "nion_distortion.worker",
        takes_all: bool = False,
    ) -> None:
        self._work, self._failed, self._takes_all = work, failed, takes_all
        self._prepare, self._finish = prepare, finish
        self._changed = Condition()
        self._waiting: list[Item] = []
        self._closed = False
        self._dropped = 0
        self._failure = ""
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many items were replaced by a newer one before the worker came to them."""
        with self._changed:
            return self._dropped

    def submit(self, item: Item) -> None:
        """Leave an item for the worker; after ``close`` it is ignored.

        Parameters
        ----------
        item : object
            Replaces one that still waits, or waits for that to be taken.
        """
        with self._changed:
            if self._takes_all:
                self._changed.wait_for(lambda: not self._waiting or self._closed)
            if self._closed:
                return
            self._dropped += len(self._waiting)
            self._waiting[:] = [item]
            self._changed.notify_all()

    def close(self, timeout_s: float = 10.0) -> bool:
        """End the thread after the item in hand; one that still waits is not begun.

        Parameters
        ----------
        timeout_s : float, default: 10
            How long to wait for the item in hand.

        Returns
        -------
        bool
            Whether the thread has ended. Called from the worker itself it cannot have.
        """
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._survive(self._prepare)
        while self._wait():
            self._survive(self._take_and_work)
        self._survive(self._finish)

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return not self._closed

    def _take_and_work(self) -> None:
        with self._changed:
            if not self._waiting:  # closed in between
                return
            item = self._waiting.pop()
            self._changed.notify_all()
        self._work(item)

    def _survive(self, step: Callable[[], object]) -> None:
        """Take one step; whatever comes out of it must not end the thread."""
        try:
            step()
        except Exception as error:
            # the same failure at every frame is one line in the log, not twenty a second
            if repr(error) != self._failure:
                log_failure(_log, "An item could not be processed; the next one is awaited", error)
            self._failure = repr(error)
            self._tell(error)
        else:
            self._failure = ""

    def _tell(self, error: Exception) -> None:
        if self._failed is None:
            return
        try:
            self._failed(error)
        except Exception as another:
            log_failure(_log, "The failure of an item could not be reported", another)


class BlasLimit:
    """Hold BLAS to one thread for as long as anybody wants it.

    Notes
    -----
    The limit is the process's, and only the thread that entered it can leave it again
    (threadpoolctl 3.8): with one limit for each owner, the first to go would take the others'
    away, and the last could not give it back. So a thread of its own holds it for all.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._owners = 0
        self._left = Event()
        self._thread: Thread | None = None

    def enter(self) -> None:
        """Begin to want it, on the thread that computes."""
        with self._lock:
            if self._owners == 0:
                self._left, entered = Event(), Event()
                self._thread = Thread(
                    target=_hold,
                    args=(entered, self._left),
                    name="nion_distortion.blas",
                    daemon=True,
                )
                self._thread.start()
                entered.wait()
            self._owners += 1
        # for a BLAS with a pool for each thread; elsewhere it changes nothing
        threadpoolctl.threadpool_limits(1, user_api="blas")

    def leave(self) -> None:
        """End it; the last one waits until BLAS has its threads back."""
        with self._lock:
            self._owners -= 1
            if self._owners == 0 and self._thread is not None:
                self._left.set()
                self._thread.join()


def _hold(entered: Event, left: Event) -> None:
    try:
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            entered.set()
            left.wait()
    finally:
        entered.set()


blas_limit = BlasLimit()
"""One for the process, as BLAS itself is."""
