"""Reports -> what each diagram shows, by its name. Pure."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from nion_distortion.swift.curves import CURVES
from nion_distortion.swift.history import History, Picture
from nion_distortion.swift.maps import MAPS

if TYPE_CHECKING:
    from nion_distortion.session import LiveReport

__all__ = ["DRAWN", "draw"]

DRAWN: Mapping[str, Callable[[History, "LiveReport"], Picture]] = MappingProxyType(
    {**MAPS, **CURVES}
)
"""How each diagram is drawn from the newest report and what came before."""


def draw(name: str, history: History, live: "LiveReport") -> Picture:
    """Draw a diagram.

    Parameters
    ----------
    name : str
        Which; one of `DRAWN`.
    history : History
        Knows the newest report, too.
    live : LiveReport
        The newest.

    Returns
    -------
    Picture
        What its item shows; it is remembered which diagrams have a picture.
    """
    picture = DRAWN[name](history, live)
    if picture.xdata is not None:
        history.drawn.add(name)
    return picture
