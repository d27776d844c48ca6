"""What the operator has chosen in the panel -> options; plain values, nothing of the host."""

import gettext
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from nion_distortion.options import (
    CRYSTALS,
    AnyReference,
    Free,
    KnownCrystal,
    Options,
    Similarity,
)

__all__ = ["SAMPLES", "Applied", "Choices"]

_ = gettext.gettext

Applied = Literal["own lattice", "calibration"]

SAMPLES = ("unknown", "free", "similarity", *CRYSTALS, "cell")
"""What the sample can be said to be; "cell" is a crystal whose cell is typed in."""


RANGES: Mapping[str, tuple[int, int, str]] = MappingProxyType(
    {
        "frames": (1, 200, _("a calibration has {least} to {most} frames, not {number}")),
        "stop_pm": (
            0,
            1000,
            _("the error that ends a calibration is {least} to {most} pm, not {number:g} pm"),
        ),
        "averaged": (0, 1000, _("{least} to {most} frames are averaged, not {number}")),
        "arrows": (
            0,
            1000,
            _("arrows are {least} to {most} times as long as displacements, not {number:g} times"),
        ),
    }
)
"""Of the numbers: the least, the most, and what is said of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the operator has chosen.

    Parameters
    ----------
    scan_id : str, default: ""
        The scan hardware source; empty means the one that the operator looks at.
    channel : str, default: "HAADF"
        The analysed channel.
    is_raster : bool, default: False
        Whether the beam goes line by line, whatever the device says.
    sample : str, default: "unknown"
        One of ``SAMPLES``.
    cell : tuple of float
        Edges a and b in nm and the angle in degrees, for ``"cell"``.
    applied : {"own lattice", "calibration"}
        What corrects the picture of a reference sample.
    frames : int, default: 20
        Frames of a calibration.
    stop_pm : float, default: 0
        Predicted error, pm, below which a calibration reads no more frames; 0: read them all.
    sample_name : str, default: ""
        What a calibration is said to be made on.
    averaged : int, default: 0
        Corrected frames that are averaged beside the live picture; 0: none.
    arrows : float, default: 0
        By what the overlay's arrows are longer than the displacements; 0: no overlay.

    Raises
    ------
    ValueError
        If a choice is unknown, or a number out of range.
    """

    scan_id: str = ""
    channel: str = "HAADF"
    is_raster: bool = False
    sample: str = "unknown"
    cell: tuple[float, float, float] = (0.3905, 0.3905, 90.0)
    applied: Applied = "own lattice"
    frames: int = 20
    stop_pm: float = 0.0
    sample_name: str = ""
    averaged: int = 0
    arrows: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "is_raster", self.is_raster is True
        )  # what is kept may be anything
        object.__setattr__(self, "cell", tuple(float(value) for value in self.cell))
        if self.sample not in SAMPLES:
            raise ValueError(f"the sample must be one of {', '.join(SAMPLES)}, not {self.sample!r}")
        if self.applied not in get_args(Applied):
            raise ValueError(f"applied must be one of {get_args(Applied)}, not {self.applied!r}")
        for name, (least, most, words) in RANGES.items():
            number = getattr(self, name)
            if not least <= number <= most:
                raise ValueError(words.format(least=least, most=most, number=number))
        if self.sample == "cell":
            _check_cell(self.cell)

    @property
    def is_reference(self) -> bool:
        """Whether the sample's lattice counts as undistorted."""
        return self.sample != "unknown"

    @property
    def reference(self) -> AnyReference:
        """What counts as undistorted."""
        if self.sample in CRYSTALS:
            return KnownCrystal.named(self.sample)
        if self.sample == "cell":
            a_nm, b_nm, gamma_deg = self.cell
            return KnownCrystal(a_nm=a_nm, b_nm=b_nm, gamma_deg=gamma_deg)
        return Similarity() if self.sample == "similarity" else Free()

    def live_options(self, *, is_held: bool) -> Options:
        """Return how live frames are processed.

        Parameters
        ----------
        is_held : bool
            Whether the correction is frozen: then the sample teaches nothing.

        Returns
        -------
        Options
            For an unknown sample, a held correction, or where the calibration is to be applied:
            what is known is applied and the sample's own displacements are data.
        """
        learns = self.is_reference and self.applied == "own lattice" and not is_held
        return Options(reference=self.reference, sample="reference" if learns else "unknown")

    def calibration_options(self) -> Options:
        """Return how a calibration is made.

        Returns
        -------
        Options
            Of the reference.

        Raises
        ------
        ValueError
            If the sample is unknown.
        """
        if not self.is_reference:
            raise ValueError(_("to calibrate, say first which crystal the sample is"))
        return Options(reference=self.reference)

    def to_text(self) -> str:
        """Return the choices as a text to be kept.

        Returns
        -------
        str
            JSON.
        """
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Choices":
        """Read choices that were kept; what is not understood is as at first.

        Parameters
        ----------
        text : str
            What ``to_text`` returned, perhaps another version's.

        Returns
        -------
        Choices
            The choices.
        """
        chosen = cls()
        for name, value in _read(text).items():
            try:
                chosen = cls(**(asdict(chosen) | {name: value}))
            except (TypeError, ValueError):  # a name or a value of another version
                continue
        return chosen


def _check_cell(cell: tuple[float, float, float]) -> None:
    try:
        KnownCrystal(a_nm=cell[0], b_nm=cell[1], gamma_deg=cell[2])
    except ValueError:
        raise ValueError(
            _("a cell has edges of more than 0 nm and an angle of 10 to 170 degrees")
        ) from None


def _read(text: str) -> dict[str, Any]:
    try:
        kept = json.loads(text or "{}")
    except ValueError:
        return {}
    known = [item.name for item in fields(Choices)]
    # the cell before the sample that may need it
    order = sorted(known, key=lambda name: name != "cell")
    return {name: kept[name] for name in order if name in kept} if isinstance(kept, dict) else {}
