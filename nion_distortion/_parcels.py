"""Values on their way between two processes: in shared memory, which a pipe only tells of."""

import pickle
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Inbox", "Outbox"]

SMALLEST = 4096
"""Bytes; shorter arrays are pickled with the rest."""

ROOM = 1.25
"""A block is made so much larger than its first content, because a model grows."""


class _Parcel(NamedTuple):
    """What goes through the pipe."""

    block: str
    """Name of the shared memory."""
    sizes: tuple[int, ...]
    """Bytes of the arrays in it, one behind the other; at last of everything else, pickled."""


class Outbox:
    """Sends values, and owns the shared memory that they go through.

    Parameters
    ----------
    connection : Connection
        This end of the pipe.

    Notes
    -----
    A pipe hands over 64 kB at a time, and after each piece the thread waits for Python's lock: in a
    window that draws, the 20 MB of a report would take a second. One block does for all values,
    because the other end has copied one, and answered, before the next is sent.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._block: SharedMemory | None = None

    def send(self, value: object) -> None:
        """Send a value.

        Parameters
        ----------
        value : object
            One that can be pickled.

        Raises
        ------
        OSError
            If the other end is gone, or there is no room for it.
        """
        parts: list[memoryview] = []

        def _stays(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= SMALLEST:
                parts.append(raw)
            return raw.nbytes < SMALLEST

        rest = pickle.dumps(value, protocol=5, buffer_callback=_stays)
        parts.append(memoryview(rest))
        block = self._filled(parts)
        self._connection.send(_Parcel(block, tuple(one.nbytes for one in parts)))

    def _filled(self, parts: list[memoryview]) -> str:
        size = sum(one.nbytes for one in parts)
        if self._block is None or self._block.size < size:
            self.close()
            self._block = SharedMemory(create=True, size=int(ROOM * size))
        room, start = memoryview(self._block.buf or b""), 0
        for one in parts:
            room[start : start + one.nbytes] = one
            start += one.nbytes
        room.release()  # the block could not be closed
        return self._block.name

    def close(self) -> None:
        """Give the shared memory back; more than once does no harm."""
        if self._block is not None:
            self._block.close()
            self._block.unlink()
            self._block = None


class Inbox:
    """Receives what the `Outbox` at the other end sends.

    Parameters
    ----------
    connection : Connection
        This end of the pipe.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._block: SharedMemory | None = None

    def receive(self) -> Any:
        """Wait for a value.

        Returns
        -------
        object
            A copy, whose large arrays are read-only.

        Raises
        ------
        EOFError, OSError
            If the other end is gone.
        """
        block, sizes = self._connection.recv()
        if self._block is None or self._block.name != block:
            self.close()
            self._block = SharedMemory(block)
        # one copy for all: it lets go of Python's lock, for which it then has to wait
        content = np.empty(sum(sizes), np.uint8)
        content[:] = np.ndarray(len(content), np.uint8, self._block.buf)
        content.flags.writeable = False
        ends = np.cumsum(sizes)
        *arrays, rest = (content[end - size : end] for size, end in zip(sizes, ends, strict=True))
        return pickle.loads(rest.tobytes(), buffers=arrays)

    def close(self) -> None:
        """Let go of the shared memory; more than once does no harm."""
        if self._block is not None:
            self._block.close()
            self._block = None
