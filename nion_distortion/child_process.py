"""A second process for computations, so that they do not hold Python's lock against the window."""

import multiprocessing
import pathlib
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from nion_distortion._memory import keep_freed_memory
from nion_distortion._parcels import Inbox, Outbox

__all__ = ["Answers", "ChildEndedError", "ChildProcess", "ask"]

Answers = Mapping[str, Callable[..., object]]
"""Callbacks, by name, that a function in the other process may `ask`."""

ENDING_S = 2.0
"""Time that the process is given to end by itself."""


class ChildEndedError(RuntimeError):
    """The process ended, or could not be started, before it answered."""


class _Question(NamedTuple):
    """A call of one of the `Answers`, sent by the function that runs."""

    name: str
    arguments: tuple[object, ...]


class _Child(NamedTuple):
    """A process that runs, and both ways to it."""

    process: Any
    connection: Connection
    outbox: Outbox
    inbox: Inbox


class ChildProcess:
    """Calls functions in a process of its own, one at a time.

    Used on one thread. The process ends with its parent, however that ends; should it end before,
    the next call starts another.

    Parameters
    ----------
    prepare : callable
        A function of a module; called there before all others.
    """

    def __init__(self, prepare: Callable[[], object]) -> None:
        self._prepare = prepare
        self._child: _Child | None = None
        self._is_prepared = False

    @property
    def pid(self) -> int | None:
        """The system's number of the process; None while there is none."""
        return None if self._child is None else self._child.process.pid

    def start(self) -> None:
        """Start the process, if there is none, and return before it is prepared.

        Raises
        ------
        ChildEndedError
            If this program knows no Python that could be started.
        """
        if self._child is not None:
            return
        python = pathlib.Path(sys.executable or "")
        if not python.stem.lower().startswith("python"):  # it would start this program again
            raise ChildEndedError(f"no Python is known that could be started, only {python.name!r}")
        context = multiprocessing.get_context("spawn")  # a fork of many threads may hang
        here, there = context.Pipe()
        process = context.Process(
            target=_serve, args=(there, self._prepare), name="nion_distortion", daemon=True
        )
        process.start()
        there.close()  # or its end would go unnoticed
        self._child, self._is_prepared = _Child(process, here, Outbox(here), Inbox(here)), False

    def wait(self) -> None:
        """Wait until the process is prepared; start it if there is none.

        Raises
        ------
        ChildEndedError
            If it ends instead.
        Exception
            What ``prepare`` raised.
        """
        self.start()
        if not self._is_prepared:
            try:
                self._answer()
            except Exception:
                self.close()  # it waits for calls now, and another wait would be for ever
                raise
            self._is_prepared = True

    def call(
        self,
        function: Callable[..., Any],
        *arguments: object,
        answers: Answers | None = None,
        **named: object,
    ) -> Any:
        """Call a function there.

        Parameters
        ----------
        function : callable
            A function of a module.
        *arguments : object
            Its arguments, which can be pickled.
        answers : Mapping of str to callable, optional
            What it may `ask` meanwhile; called here. After an exception in one of them
            the function cannot go on, and the exception is raised.
        **named : object
            More arguments.

        Returns
        -------
        object
            What it returns, a copy.

        Raises
        ------
        ChildEndedError
            If the process ends before it has answered.
        Exception
            What the function raised, with a note of where, or what one of the answers did.
        """
        self.wait()
        return self._answer((function, arguments, named), answers or {})

    def _answer(self, called: object = None, answers: Answers | None = None) -> Any:
        """Receive the next answer, after a call or to that of `_serve` by itself."""
        child = self._child
        if child is None:
            raise ChildEndedError("the process that computes has not been started")
        failures: list[Exception] = []
        try:
            if called is not None:
                child.outbox.send(called)
            while isinstance(received := child.inbox.receive(), _Question):
                reply = _tried(_reply, (answers or {}, received), {})
                failures += filter(None, reply[1:])
                _send(child.outbox, reply)
            answer, error = received
        except (EOFError, OSError) as gone:
            self.close()
            code = child.process.exitcode
            raise ChildEndedError(
                f"the process that computes has ended (exit code {code}); the next time another "
                "is started"
            ) from gone
        if failures:  # which ended the function there
            raise failures[0]
        if error is not None:
            raise error
        return answer

    def close(self) -> None:
        """End the process; more than once does no harm."""
        child, self._child = self._child, None
        if child is None:
            return
        child.connection.close()  # which is what it ends by
        child.process.join(ENDING_S)
        if child.process.exitcode is None:
            child.process.kill()
            child.process.join()
        child.outbox.close()
        child.inbox.close(is_orphaned=child.process.exitcode != 0)


_ends: tuple[Inbox, Outbox] | None = None
"""In the child process: both channels to its parent."""


def ask(name: str, *arguments: object) -> Any:
    """Call one of the caller's callbacks from the function that runs in the child.

    Parameters
    ----------
    name : str
        Which of the call's ``answers``.
    *arguments : object
        For it; they can be pickled.

    Returns
    -------
    object
        The answer, a copy.

    Raises
    ------
    RuntimeError
        If nobody called: only a function that a `ChildProcess` calls can ask.
    Exception
        What the answer raised; it ends the call.
    """
    if _ends is None:
        raise RuntimeError("only a function that another process has called can ask it")
    inbox, outbox = _ends
    outbox.send(_Question(name, arguments))
    answer, error = inbox.receive()
    if error is not None:
        raise error
    return answer


def _serve(connection: Connection, prepare: Callable[[], object]) -> None:
    """Answer calls until the other end is closed."""
    global _ends  # noqa: PLW0603  # a process has one parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, the parent decides what it means
    keep_freed_memory()
    inbox, outbox = _ends = Inbox(connection), Outbox(connection)
    try:
        _send(outbox, _noted(_tried(prepare, (), {})))
        while True:
            _send(outbox, _noted(_tried(*inbox.receive())))
    except (EOFError, OSError):  # the parent is gone, or wants no more
        pass
    finally:
        inbox.close()
        outbox.close()


_Answer = tuple[Any, Exception | None]


def _reply(answers: Answers, asked: _Question) -> object:
    return answers[asked.name](*asked.arguments)


def _tried(
    function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> _Answer:
    try:
        return function(*arguments, **named), None
    except Exception as error:
        return None, error


def _noted(answer: _Answer) -> _Answer:
    """Note in an exception where it came from: its traceback stays behind."""
    error = answer[1]
    if error is not None:
        where = "".join(traceback.format_exception(error))
        error.add_note(f"In the process that computes:\n{where}")
    return answer


def _send(outbox: Outbox, answer: _Answer) -> None:
    """Send an answer, or why it cannot be sent."""
    try:
        outbox.send(answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        outbox.send((None, error))
