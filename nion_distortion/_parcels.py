"""Transfer of values between two processes through shared memory, announced by a pipe."""

import logging
import os
import pickle
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

__all__ = ["Inbox", "Outbox"]

_log = logging.getLogger(__name__)

SMALLEST = 4096
"""Bytes; shorter arrays are pickled with the rest."""

ROOM = 1.25
"""Factor by which a block is larger than its first content, because a model grows."""


class _Parcel(NamedTuple):
    """What goes through the pipe."""

    block: str
    """Name of the shared memory; empty where there was too little, and all follows in the pipe."""
    sizes: tuple[int, ...]
    """Bytes of the arrays, one behind the other; at last of everything else, pickled."""


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
        self._has_room = True

    def send(self, value: object) -> None:
        """Send a value.

        Parameters
        ----------
        value : object
            One that can be pickled.

        Raises
        ------
        OSError
            If the other end is gone.
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
        for one in () if block else parts:
            self._connection.send_bytes(one)

    def _filled(self, parts: list[memoryview]) -> str:
        size = sum(one.nbytes for one in parts)
        if self._has_room and (self._block is None or self._block.size < size):
            self.close()
            self._block = _new_block(int(ROOM * size))
            self._has_room = self._block is not None
        if self._block is None:
            return ""
        room, start = memoryview(self._block.buf or b""), 0
        for one in parts:
            room[start : start + one.nbytes] = one
            start += one.nbytes
        room.release()  # or the block could not be closed
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
        if not block:
            self.close()
            *arrays, rest = [self._connection.recv_bytes() for _ in sizes]
            return pickle.loads(rest, buffers=arrays)
        if self._block is None or self._block.name != block:
            self.close()
            self._block = SharedMemory(block)
        content, parts, start = memoryview(self._block.buf or b""), [], 0
        for size in sizes:
            # each in memory of its own, so that one that is kept does not hold on to all; a copy of
            # NumPy's would let go of Python's lock each time, and wait for it
            parts.append(bytes(content[start : start + size]))
            start += size
        content.release()  # or the block could not be closed
        *arrays, rest = parts
        return pickle.loads(rest, buffers=arrays)

    def close(self, *, is_orphaned: bool = False) -> None:
        """Let go of the shared memory; more than once does no harm.

        Parameters
        ----------
        is_orphaned : bool, default: False
            Give it back as well: who owned it cannot any more.
        """
        if self._block is not None:
            self._block.close()
            if is_orphaned:
                with suppress(FileNotFoundError):  # it could after all
                    self._block.unlink()
            self._block = None


def _new_block(size: int) -> SharedMemory | None:
    """Ask for shared memory; None where there is too little."""
    block: SharedMemory | None = None
    try:
        block = SharedMemory(create=True, size=size)
        if hasattr(os, "posix_fallocate"):
            # otherwise the system may overcommit, and kill the process that writes to it
            os.posix_fallocate(block._fd, 0, size)  # type: ignore[attr-defined]  # noqa: SLF001
    except OSError as error:
        if block is not None:
            block.close()
            block.unlink()
        _log.warning(
            "There are no %.0f MB of shared memory (%s): it takes longer to hand values over",
            size / 1e6,
            error.strerror,
        )
        return None
    return block
