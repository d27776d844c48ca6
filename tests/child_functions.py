"""What tests have done in another process: functions of a module that it can import."""

import errno
import os
import signal
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import session_fakes as fakes

from nion_distortion.child_process import ask


class TwoError(Exception):
    """One that cannot be made again from what is pickled of it."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def nothing() -> None:
    """Prepare nothing."""


def refuse() -> None:
    raise ValueError("it cannot be prepared")


def doubled(values: npt.NDArray[Any], *, shift: float = 0.0) -> tuple[int, npt.NDArray[Any], bool]:
    return os.getpid(), 2 * values + shift, values.flags.writeable


def zeros(count: int) -> npt.NDArray[np.float64]:
    return np.zeros(count)


def divided(number: float) -> float:
    return 1.0 / number


def thread_lock() -> Any:
    return threading.Lock()


def sum_of_answers() -> float:
    total = index = 0
    while (answer := ask("number", index)) is not None:
        total, index = total + answer.sum(), index + 1
    return total


def without_shared_memory() -> None:
    """From now on there is none in this process."""

    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.posix_fallocate = no_room


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refitted(model: Any) -> Any:
    return fakes.refit(model)


def processed(frame: Any, *, model: Any, options: Any) -> Any:
    """Process a frame as the stand-in of the session's tests does; but for the third."""
    if frame.index == 2:
        end()
    return fakes.Process()(frame, model=model, options=options)
