"""What the diagrams know of the reports that came before, and what each of them shows."""

import gettext
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nion.data import DataAndMetadata

from nion_distortion.swift.phrases import sentence, translated

if TYPE_CHECKING:
    from nion_distortion.principal_components import LiveComponents, PrincipalComponents
    from nion_distortion.session import LiveReport

    _Pair = tuple[PrincipalComponents, PrincipalComponents]

__all__ = ["History", "Picture", "frame_record", "unmeasured"]

_ = gettext.gettext

Array = npt.NDArray[np.floating[Any]]

FRAMES_KEPT = 300
"""Frames whose residual is shown."""

TIMES_KEPT = 1000
"""Frames whose time is remembered, as many as a session remembers of the drift."""

STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
"""Ends of a scale within a decade."""

SLACK = 0.4
"""A scale stays while what it shows fills more than this share of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """What an item shows.

    Parameters
    ----------
    title : str
        What it is: a dozen letters, or a narrow panel cuts them.
    caption : str
        What it is of, or why it was not measured.
    xdata : DataAndMetadata, optional
        None: the last picture stays.
    limits : tuple of float, optional
        Of the colours, or of a curve's axis; None: left to the host.
    ends_pm : tuple of float, default: ()
        What the ends of the colours stand for in each column of a map of tiles.
    """

    title: str
    caption: str
    xdata: DataAndMetadata.DataAndMetadata | None = None
    limits: tuple[float, float] | None = None
    ends_pm: tuple[float, ...] = ()


class History:
    """What diagrams need of the reports that came before; fed on one thread only.

    Parameters
    ----------
    drawn : iterable of str, default: ()
        Diagrams of which an earlier picture is still seen.
    """

    def __init__(self, drawn: Iterable[str] = ()) -> None:
        self.drawn = set(drawn)
        self.last: LiveReport | None = None
        self._residuals: deque[tuple[int, float, float]] = deque(maxlen=FRAMES_KEPT)
        self._times_s: deque[float | None] = deque(maxlen=TIMES_KEPT)
        self._scales: dict[str, float] = {}
        self._found: tuple[LiveComponents, _Pair] | None = None

    def follow(self, live: "LiveReport") -> None:
        """Take a report.

        Parameters
        ----------
        live : LiveReport
            The newest.
        """
        self.last = live
        report = live.report
        off_by = None if report is None else report.off_by_pm
        left = None if report is None else report.corrected_pm
        self._residuals.append(
            (
                live.scan[0].index,
                np.nan if off_by is None else off_by.value,
                np.nan if left is None else left.value,
            )
        )
        if live.reason is None and report is not None and report.drift_nm is not None:
            if len(live.drift_nm) <= 1:
                self._times_s.clear()
            self._times_s.append(live.scan[0].time_s)

    def residuals(self) -> tuple[int, Array]:
        """Return the last frame's number, and off by and corrected (2, n) in pm, one per frame.

        Returns
        -------
        last : int
            Number of the newest frame.
        pm : ndarray, shape (2, n)
            NaN where a frame was not measured.
        """
        rows = np.array([values[1:] for values in self._residuals])
        return self._residuals[-1][0], rows.T

    def times_s(self, count: int) -> Array | None:
        """Return when the last frames of the drift ended.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        ndarray, shape (count,), or None
            From zero on; None where not all of them are known, or they do not rise.
        """
        known = [time for time in list(self._times_s)[-count:] if time is not None]
        if len(known) < count:
            return None
        times = np.array(known)
        return times - times[0] if np.all(np.diff(times) > 0) else None

    @property
    def capacity(self) -> int:
        """How many distortion fields the components come from at most."""
        live = self.last
        return 0 if live is None or live.components is None else live.components.capacity

    def components(self) -> "_Pair | None":
        """Return the newest components of both axes; three diagrams show them.

        Returns
        -------
        y, x : PrincipalComponents
            None where no distortion field was measured yet.
        """
        buffer = None if self.last is None else self.last.components
        if buffer is None or len(buffer) == 0:
            return None
        if self._found is None or self._found[0] is not buffer:
            self._found = (buffer, buffer.components())
        return self._found[1]

    def scale(self, name: str, largest: float) -> float:
        """Return the end of a scale: a round number that stays as long as it fits.

        Parameters
        ----------
        name : str
            Which scale.
        largest : float
            What it has to show.

        Returns
        -------
        float
            Not below ``largest``.
        """
        before = self._scales.get(name, 0.0)
        if not SLACK * before <= largest <= before or before == 0.0:
            self._scales[name] = _round_up(largest)
        return self._scales[name]


def _round_up(value: float) -> float:
    if not value > 0.0 or not np.isfinite(value):
        return 1.0
    decade = 10.0 ** np.floor(np.log10(value))
    return next(float(decade * step) for step in STEPS if decade * step >= value * (1 - 1e-9))


def _why_not(live: "LiveReport") -> str:
    return live.reason or _(
        "the sample is not taken as a reference, so no column was compared with a lattice"
    )


def unmeasured(
    name: str, live: "LiveReport", history: History | None = None, key: str = ""
) -> Picture:
    """Say why there is nothing new; above a picture of earlier frames that it is an earlier one.

    Parameters
    ----------
    name : str
        What would be seen.
    live : LiveReport
        The newest.
    history : History, optional
        Knows whether an earlier picture is seen.
    key : str, default: ""
        The diagram.

    Returns
    -------
    Picture
        Title and caption only.
    """
    title, caption = _("{name}: n/a"), _("Not measured: {reason}")
    if history is not None and key in history.drawn:
        title, caption = _("{name}: old"), _("Of earlier frames. Not updated: {reason}")
    return Picture(
        title=title.format(name=name),
        caption=sentence(caption.format(reason=translated(_why_not(live)))),
    )


def frame_record(live: "LiveReport", **values: Any) -> dict[str, Any]:
    """Return which frame it is, for the metadata: in a caption the number would always change.

    Parameters
    ----------
    live : LiveReport
        The newest.
    **values : object
        What else to note.

    Returns
    -------
    dict
        Under the package's name.
    """
    frame = live.scan[0]
    return {"nion_distortion": {"frame_id": frame.frame_id, "frame_index": frame.index, **values}}
