"""A function over chunks of rows on two threads: the caller's own and one helper."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
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
    Two plain threads gained more than ``numba.prange`` or a BLAS pool; three gained nothing.
    """
    count = max(1, min(CHUNKS, length // max(smallest, 1)))
    edges = [length * i // count for i in range(count + 1)]
    if count < 2:
        return [function(0, length)]
    results: list[Any] = [None] * count
    waiting, lock = iter(range(count)), Lock()

    def _work() -> None:
        while True:
            with lock:
                chunk = next(waiting, None)
            if chunk is None:
                return
            results[chunk] = function(edges[chunk], edges[chunk + 1])

    failed: Future[None] = Future()

    def _helper() -> None:
        try:
            _work()
        except BaseException as error:
            failed.set_exception(error)
        else:
            failed.set_result(None)

    thread = Thread(target=_helper, name="nion_distortion.chunks", daemon=True)
    thread.start()
    try:
        _work()
    finally:
        thread.join()
    failed.result()
    return results
