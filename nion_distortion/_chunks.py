"""A function over chunks of rows on two threads: the caller's own and one helper."""

import _thread
import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock
from typing import Any

__all__ = ["for_chunks"]

CHUNKS = 8
"""Chunks for each call: small enough that both threads end together."""


def for_chunks(function: Callable[[int, int], Any], length: int, *, smallest: int = 1) -> list[Any]:
    """Call ``function(start, stop)`` over all of ``range(length)``, on two threads.

    Parameters
    ----------
    function : callable
        Must release the GIL in its heavy part (NumPy, OpenCV, ``nogil`` kernels) and write only
        to its own rows.
    length : int
        How many rows there are.
    smallest : int, default: 1
        Least rows of a chunk; where fewer than two chunks result, the caller's thread does all.

    Returns
    -------
    list
        What each chunk returned, in order of its rows; equivalent to one call over all rows.

    Notes
    -----
    Two plain threads gained more than ``numba.prange`` or a BLAS pool; three gained nothing. The
    helper is one thread for all calls: to start one for each costs as much as a small chunk. While
    it helps one caller, others work alone.
    """
    count = max(1, min(CHUNKS, length // max(smallest, 1)))
    edges = [length * i // count for i in range(count + 1)]
    if count < 2:
        return [function(0, length)]
    shared = _Shared(function, edges)
    _helper.call(shared)
    try:
        shared.work()
    finally:
        shared.wait()
    if shared.failure is not None:
        raise shared.failure
    return shared.results


class _Shared:
    """State that both threads of a call share: chunks still to do, and results."""

    def __init__(self, function: Callable[[int, int], Any], edges: list[int]) -> None:
        self._function, self._edges = function, edges
        self.results: list[Any] = [None] * (len(edges) - 1)
        self.failure: BaseException | None = None
        self._next, self._is_helped = 0, False
        self._lock, self._helper = Lock(), Lock()

    def _take(self, *, is_helper: bool = False) -> int | None:
        with self._lock:
            if self._next == len(self.results):
                return None
            if is_helper and not self._is_helped:
                self._is_helped = self._helper.acquire()
            self._next += 1
            return self._next - 1

    def work(self, *, is_helper: bool = False) -> None:
        """Work on chunk after chunk until none waits."""
        while (chunk := self._take(is_helper=is_helper)) is not None:
            self.results[chunk] = self._function(self._edges[chunk], self._edges[chunk + 1])

    def help(self) -> None:
        """Do the same on the helper's thread."""
        try:
            self.work(is_helper=True)
        except BaseException as error:
            self.failure = error
        finally:
            if self._is_helped:
                self._helper.release()

    def wait(self) -> None:
        """Wait for the helper's chunk, if it has begun one."""
        with self._lock:
            self._next = len(self.results)  # after a failure nobody begins another
            is_helped = self._is_helped
        if is_helped:
            self._helper.acquire()


class _Helper:
    """A thread that waits for calls to help with, from its first one on."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Shared] = SimpleQueue()
        self._starting, self._is_running = Lock(), False

    def call(self, shared: _Shared) -> None:
        """Ask for help; where none comes in time the caller does all."""
        self._calls.put(shared)
        with self._starting:
            if not self._is_running:
                # not threading.Thread, whose start waits until the new thread has run: beside
                # other Python threads that alone takes milliseconds
                _thread.start_new_thread(self._work, ())
                self._is_running = True

    def _work(self) -> None:
        while True:
            self._calls.get().help()


def _begin_anew() -> None:
    """Forget the helper: a forked process has none of its parent's threads."""
    global _helper  # noqa: PLW0603 - one for the whole process
    _helper = _Helper()


_helper = _Helper()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_anew)
