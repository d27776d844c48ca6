"""Memory that a process keeps for its next frame instead of giving it back."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Parameters of mallopt, by their numbers in malloc.h."""

KEPT_BYTES, LARGEST_BYTES = 2**29, 2**26
"""Free memory that is kept, and the largest array that it is used for."""


def keep_freed_memory() -> None:
    """Let this process keep freed memory; for processes that are ours from beginning to end.

    Notes
    -----
    A frame needs the same large arrays as the one before. Where freed memory is given back, as by
    default, the system clears every page of them anew: at 2048 x 2048 a tenth to a third of the
    frame's time. Does nothing where the C library is not glibc, whose mallopt(3) this is. One
    arena for all threads keeps one thread's free memory available to the others.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return
    mallopt(MMAP_THRESHOLD, LARGEST_BYTES)
    mallopt(TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(ARENA_MAX, 1)
