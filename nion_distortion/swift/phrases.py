"""What the library says -> numbers and sentences as people write them."""

import gettext
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nion_distortion.diagnostics import Estimate

__all__ = [
    "NOTHING",
    "as_written",
    "estimate",
    "folds",
    "sentence",
    "small",
    "state_name",
    "translated",
]

_ = gettext.gettext

NOTHING = "\N{EM DASH}"
"""In the place of a number that was not measured."""

SIGNS = (
    (re.compile(r"\+-"), "\N{PLUS-MINUS SIGN}"),
    (re.compile(r"(?<=\d) us\b"), " \N{MICRO SIGN}s"),
)
"""What the library, which also speaks in terminals, has no signs for."""

SETTINGS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "shape_px": (_("pixels (lines, columns)"), ""),
        "field_of_view_nm": (_("field of view"), " nm"),
        "dwell_time_us": (_("dwell time"), " \N{MICRO SIGN}s"),
        "flyback_time_us": (_("fly-back time"), " \N{MICRO SIGN}s"),
        "line_time_us": (_("line time"), " \N{MICRO SIGN}s"),
        "high_tension_v": (_("high tension"), " V"),
        "line_sync": (_("line synchronisation"), ""),
        "frame_sync": (_("frame synchronisation"), ""),
        "rotation_rad": (_("scan rotation"), " rad"),
        "device_id": (_("scan device"), ""),
        "subscan_px": (_("sub-scan"), ""),
    }
)
"""The operator's words and the unit for each of the scan's settings."""

DIFFERS = re.compile(rf"\b({'|'.join(SETTINGS)}) \((.+?) there, (.+?) here\)")
NUMBER = re.compile(r"-?\d[\d.e+-]*")
COUNTED = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
"""Digits in a sentence, without the full stop behind them."""


def estimate(number: "Estimate | None") -> str:
    """Write a number of picometres with its uncertainty.

    Parameters
    ----------
    number : Estimate or None
        The number.

    Returns
    -------
    str
        A dash where there is none.
    """
    if number is None:
        return NOTHING
    if number.std is None:
        return f"{number.value:.1f} pm"
    return f"{number.value:.1f} \N{PLUS-MINUS SIGN} {small(number.std)} pm"


def folds(folded: int | None, crossed: int | None) -> str:
    """Say that the scan turns back on itself, or that its lines overtake each other.

    Parameters
    ----------
    folded, crossed : int or None
        Pixels of the corrected picture that are not valid for that.

    Returns
    -------
    str
        One sentence for each; nothing where there are none.
    """
    said = []
    if folded:
        said.append(
            _(
                "The scan turns back on itself: {count} pixels, whose places the beam passed more "
                "than once, are not valid."
            ).format(count=folded)
        )
    if crossed:
        said.append(
            _(
                "Lines of the scan overtake each other: {count} pixels, between lines that moved "
                "past each other, are not valid."
            ).format(count=crossed)
        )
    return " ".join(said)


def small(std: float) -> str:
    """Write an uncertainty, which is never zero.

    Parameters
    ----------
    std : float
        In any unit.

    Returns
    -------
    str
        With one digit behind the point, or with one that says something.
    """
    return f"{std:.1f}" if std >= 0.1 else f"{std:.1g}"


def _difference(found: "re.Match[str]") -> str:
    """Write how a setting differs in the operator's words."""
    name, unit = SETTINGS[found[1]]
    there, here = (
        value + unit if NUMBER.fullmatch(value) else value for value in (found[2], found[3])
    )
    return _("{name} ({there} there, {here} here)").format(name=name, there=there, here=here)


def translated(text: str) -> str:
    """Say in the operator's language what the library says in English.

    Parameters
    ----------
    text : str
        One sentence, or several with semicolons between them.

    Returns
    -------
    str
        The same where there is no translation.

    Notes
    -----
    The library knows no language, and its sentences hold numbers. A catalogue has ``{0}``, ``{1}``
    and so on in their places: ``of {0} columns, {1} are in the lattice``.
    """
    if not text:
        return ""  # a catalogue keeps a page about itself there
    said = _translated(text)
    return "; ".join(map(_translated, text.split("; "))) if said == text else said


def _translated(text: str) -> str:
    numbers: list[str] = []

    def place(found: "re.Match[str]") -> str:
        numbers.append(found[0])
        return f"{{{len(numbers) - 1}}}"

    said = _(COUNTED.sub(place, text))
    for index, number in enumerate(numbers):
        said = said.replace(f"{{{index}}}", number)
    return said


def state_name(state: str) -> str:
    """Name the state of a calibration.

    Parameters
    ----------
    state : {"valid", "ageing", "stale", "none"}
        The library's word.

    Returns
    -------
    str
        The operator's.
    """
    names = {"valid": _("valid"), "ageing": _("ageing"), "stale": _("stale"), "none": _("none")}
    return names[state]


def as_written(text: str) -> str:
    """Write a text with the signs that a terminal may lack, and the settings in words.

    Parameters
    ----------
    text : str
        What the library says.

    Returns
    -------
    str
        In the operator's language, with signs for plus-minus and micro, and units behind settings.
    """
    text = translated(text)
    for plain, sign in SIGNS:
        text = plain.sub(sign, text)
    return DIFFERS.sub(_difference, text)


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
