"""What the library says -> sentences as people write them."""

import re

__all__ = ["as_written", "sentence"]

SIGNS = (
    (re.compile(r"\+-"), "\N{PLUS-MINUS SIGN}"),
    (re.compile(r"(?<=\d) us\b"), " \N{MICRO SIGN}s"),
)
"""What the library, which also speaks in terminals, has no signs for."""


def as_written(text: str) -> str:
    """Write a text with the signs that a terminal may lack.

    Parameters
    ----------
    text : str
        What the library says.

    Returns
    -------
    str
        With signs for plus-minus and micro.
    """
    for plain, sign in SIGNS:
        text = plain.sub(sign, text)
    return text


def sentence(reason: str) -> str:
    """Make a reason a sentence.

    Parameters
    ----------
    reason : str
        Perhaps without capital and full stop.

    Returns
    -------
    str
        With both, as `as_written`; nothing stays nothing.
    """
    if not reason:
        return ""
    said = as_written(reason)
    end = "" if said.endswith((".", "?", "!")) else "."
    return said[:1].upper() + said[1:] + end
