"""The second process: same values, errors with their place, no end that nobody notices."""

import errno
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory

import child_functions as there
import numpy as np
import pytest

from nion_distortion.child_process import ChildEndedError, ChildProcess

PATIENCE_MS = 60_000


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    made = ChildProcess(there.nothing)
    yield made
    made.close()


def theirs(child: ChildProcess) -> str:
    """Return the name of the memory that answers come through."""
    assert child._child is not None
    assert child._child.inbox._block is not None
    return child._child.inbox._block.name


@pytest.mark.parametrize("count", [3, 200_000])
def test_function_is_called_in_another_process_with_the_same_values(
    child: ChildProcess, count: int
) -> None:
    values = np.arange(count, dtype=np.float32)
    pid, result, was_writeable = child.call(there.doubled, values, shift=1.0)
    assert pid == child.pid != os.getpid()
    np.testing.assert_array_equal(result, 2 * values + 1)
    assert result.dtype == np.float32
    assert values.flags.writeable
    assert was_writeable == (count == 3)  # only what is large is not copied once more


def test_answers_may_grow_and_shrink_and_stay_what_they_were(child: ChildProcess) -> None:
    results = [child.call(there.zeros, count) for count in (1000, 500_000, 2000, 900_000)]
    assert [len(one) for one in results] == [1000, 500_000, 2000, 900_000]
    assert not any(one.any() for one in results)


def test_what_a_function_raises_comes_back_with_its_place(child: ChildProcess) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        child.call(there.divided, 0.0)
    assert "in divided" in raised.value.__notes__[0]
    assert child.call(there.divided, 4.0) == 0.25


def test_answer_that_cannot_be_sent_is_an_error_and_the_process_goes_on(
    child: ChildProcess,
) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        child.call(there.thread_lock)
    pid = child.pid
    assert child.call(there.divided, 4.0) == 0.25
    assert child.pid == pid


def no_room(*_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="only some systems promise memory")
def test_where_memory_cannot_be_shared_values_go_through_the_pipe(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    child.call(there.without_shared_memory)
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", no_room)
        values = np.arange(800_000.0)
        _, result, _ = child.call(there.doubled, values)
    np.testing.assert_array_equal(result, 2 * values)
    assert "no 8 MB of shared memory (No space left on device): it takes longer" in caplog.text
    assert child._child is not None
    assert child._child.inbox._block is child._child.outbox._block is None
    assert child.call(there.doubled, 2 * values)[1][-1] == 4 * values[-1]
    assert caplog.text.count("it takes longer") == 1


def test_function_may_ask_who_called_it(child: ChildProcess) -> None:
    asked = []

    def number(index: int) -> object:
        asked.append(index)
        return np.full(10_000, index) if index < 3 else None

    assert child.call(there.sum_of_answers, answers={"number": number}) == 30_000
    assert asked == [0, 1, 2, 3]
    assert child.call(there.divided, 4.0) == 0.25


def test_what_an_answer_raises_ends_the_call_and_is_raised_itself(child: ChildProcess) -> None:
    error = there.TwoError(1, 2)

    def fails(_index: int) -> object:
        raise error

    with pytest.raises(there.TwoError) as raised:
        child.call(there.sum_of_answers, answers={"number": fails})
    assert raised.value is error
    with pytest.raises(TypeError, match="pickle"):
        child.call(there.sum_of_answers, answers={"number": lambda _: (one for one in "ab")})
    with pytest.raises(KeyError):
        child.call(there.sum_of_answers)
    assert child.call(there.divided, 4.0) == 0.25


def test_nobody_can_be_asked_by_a_function_that_was_not_called_there() -> None:
    with pytest.raises(RuntimeError, match="only a function that another process has called"):
        there.sum_of_answers()


def test_process_that_ends_is_said_and_replaced(child: ChildProcess) -> None:
    child.call(there.zeros, 100_000)
    first, block = child.pid, theirs(child)
    with pytest.raises(ChildEndedError, match="has ended \\(exit code -9\\)"):
        child.call(there.end)
    assert child.call(there.divided, 2.0) == 0.5
    assert child.pid != first
    with pytest.raises(FileNotFoundError):
        SharedMemory(block)


def test_what_cannot_be_prepared_is_said() -> None:
    child = ChildProcess(there.refuse)
    with pytest.raises(ValueError, match="it cannot be prepared"):
        child.wait()
    with pytest.raises(ValueError, match="it cannot be prepared"):
        child.wait()  # by another one
    child.close()


def test_program_without_a_python_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/swift/NionSwiftLauncher")
    with pytest.raises(ChildEndedError, match="only 'NionSwiftLauncher'"):
        ChildProcess(there.nothing).call(there.divided, 1.0)


def test_close_ends_the_process_and_gives_its_memory_back(child: ChildProcess) -> None:
    child.call(there.doubled, np.zeros(100_000))
    assert child._child is not None
    process, block = child._child.process, child._child.outbox._block
    assert block is not None
    names = (block.name, theirs(child))
    child.close()
    child.close()
    assert process.exitcode == 0
    for name in names:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of others' ends")
def test_process_ends_with_its_parent_however_that_ends() -> None:
    script = (
        "import child_functions as there; from nion_distortion.child_process import ChildProcess\n"
        "if __name__ == '__main__':\n"
        "    child = ChildProcess(there.nothing); child.wait(); print(child.pid, flush=True)\n"
        "    input()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        told = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        waiting = select.poll()
        waiting.register(told, select.POLLIN)  # readable once the process has ended
        assert waiting.poll(PATIENCE_MS)
        os.close(told)
