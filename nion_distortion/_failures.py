"""Logging of exceptions without keeping the variables of their frames alive."""

import logging
import traceback

__all__ = ["log_failure"]


def log_failure(log: logging.Logger, message: str, error: BaseException) -> None:
    """Log an exception with its traceback, and release the variables in its frames.

    Nion Swift keeps every record of the log for as long as it runs. With it goes the traceback, and
    the arrays of each frame that failed: megabytes for a line of text.

    Parameters
    ----------
    log : Logger
        The caller's.
    message : str
        What failed.
    error : BaseException
        The exception that was caught; afterwards only its message is of use.
    """
    log.error(message, exc_info=error)
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)  # what still runs is left as it is
        one = one.__cause__ or one.__context__
