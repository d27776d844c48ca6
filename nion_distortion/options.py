"""What is wanted: how a frame is to be processed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_finite, as_positive

__all__ = [
    "CRYSTALS",
    "TERMS",
    "AnyReference",
    "Detect",
    "FourierFiltered",
    "Free",
    "KnownCrystal",
    "KnownFlyback",
    "Options",
    "Reference",
    "Resample",
    "Sample",
    "Similarity",
    "StackAverage",
    "Term",
]

Sample = Literal["reference", "unknown"]
Resample = Literal["spline", "nearest"]
Term = Literal[
    "smooth", "line_flyback", "frame_flyback", "fast_axis", "frame_locked", "scan_time", "mains"
]
Detect = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]
"""From an image (ny, nx), columns bright, to first guesses (n, 2) in px."""

TERMS: frozenset[Term] = frozenset(get_args(Term))
"""Every term of the model."""


@dataclass(frozen=True, slots=True)
class Free:
    """The reference is the best affine lattice of each frame: scale and skew stay unknown."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """The cell has the shape that the middle of the first frame shows; its scale stays unknown.

    This is the paper's reference: what the lattice does elsewhere is measured against the
    neighbourhood of the central column.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCrystal:
    """The projected cell is known: scale and skew of the scan are measured against it.

    Parameters
    ----------
    a_nm : float
        First edge of the cell.
    b_nm : float
        Second edge.
    gamma_deg : float, default: 90
        Angle between them.
    a_std_nm : float, default: 0
        Standard deviation of the first edge.
    b_std_nm : float, default: 0
        Standard deviation of the second edge.
    gamma_std_deg : float, default: 0
        Standard deviation of the angle.

    Raises
    ------
    ValueError
        If an edge is not positive, the angle not between 10 and 170 degrees, or a standard
        deviation negative.
    """

    a_nm: float
    b_nm: float
    gamma_deg: float = 90.0
    a_std_nm: float = 0.0
    b_std_nm: float = 0.0
    gamma_std_deg: float = 0.0

    def __post_init__(self) -> None:
        as_positive("a_nm", self.a_nm)
        as_positive("b_nm", self.b_nm)
        if not 10.0 <= as_finite("gamma_deg", self.gamma_deg) <= 170.0:
            raise ValueError(f"gamma_deg must be between 10 and 170, not {self.gamma_deg:g}")
        for name in ("a_std_nm", "b_std_nm", "gamma_std_deg"):
            if as_finite(name, getattr(self, name)) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name):g}")

    @classmethod
    def named(cls, name: str) -> "KnownCrystal":
        """Return a crystal from the list ``CRYSTALS``.

        Parameters
        ----------
        name : str
            For example ``"SrTiO3 [001]"``.

        Returns
        -------
        KnownCrystal
            Its projected cell.

        Raises
        ------
        ValueError
            If it is not in the list, which the message has.
        """
        if name not in CRYSTALS:
            raise ValueError(f"the crystal must be one of {', '.join(CRYSTALS)}, not {name!r}")
        return CRYSTALS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class FourierFiltered:
    """The columns' places in the Fourier-filtered image count as undistorted.

    Only what changes faster than the filter averages is measured and corrected: jitter, steps, the
    steep part of a fly-back. What is smoother stays in the reference, and so in the picture. It
    holds only while no column is displaced by half a cell; beyond that a frame is refused.

    Parameters
    ----------
    mask_radius : float, default: 0.05
        Standard deviation of the mask around each spot of the lattice, in lengths of its shortest
        reciprocal vector: 0.05 averages over a standard deviation of 3.2 cells.

    Raises
    ------
    ValueError
        If the radius is not above 0 and at most 0.25, where masks meet.

    Notes
    -----
    In simulated frames of 13 x 13 cells the reference keeps, of the amplitude, 25 % of a smooth
    field (up to 1.6 periods in the frame), 23 % of a strong fly-back, 2 % of steps along the line
    and 1 % of jitter; with 0.1 it keeps 68, 62, 12 and 6 %. In one of
    41 x 41 cells, where the same waves are longer in cells, 0.05 keeps 84 % of a smooth
    field, 26 % of steps and 2 % of jitter.
    """

    mask_radius: float = 0.05

    def __post_init__(self) -> None:
        if as_positive("mask_radius", self.mask_radius) > 0.25:
            raise ValueError(f"mask_radius must be at most 0.25, not {self.mask_radius:g}")


@dataclass(frozen=True, slots=True)
class StackAverage:
    """The mean of each site over the drift-corrected frames of a stack counts as undistorted.

    For `calibrate` only: what differs between the frames is measured, what is stationary stays.
    """


class FieldLike(Protocol):
    """What a reference's field must have; `DistortionField` does."""

    @property
    def displacement_px(self) -> npt.NDArray[np.float32]:
        """Observed minus ideal position, shape (2, ny, nx)."""

    @property
    def std_px(self) -> npt.NDArray[np.float32]:
        """Standard deviation of that, shape (2, ny, nx)."""

    @property
    def kind(self) -> Literal["stationary", "frame"]:
        """Whether it holds for every frame of its settings."""

    @property
    def settings(self) -> Any:
        """The scan that it describes."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The scan of another calibration counts as undistorted, for example one at long fly-back.

    The result is the difference of the two distortions. Settings may differ in fly-back and line
    time only.

    Parameters
    ----------
    field : DistortionField
        The stationary field of that calibration.

    Raises
    ------
    ValueError
        If it is one frame's own field.
    """

    field: FieldLike = field(repr=False)

    def __post_init__(self) -> None:
        if self.field.kind != "stationary":
            raise ValueError('field must be "stationary", not that of one frame')


AnyReference = Free | Similarity | KnownCrystal | FourierFiltered | StackAverage | Reference


def _cubic(a_nm: float, b_nm: float, relative_std: float) -> KnownCrystal:
    """Cell with a right angle whose edges have one relative uncertainty."""
    return KnownCrystal(
        a_nm=a_nm, b_nm=b_nm, a_std_nm=relative_std * a_nm, b_std_nm=relative_std * b_nm
    )


CRYSTALS: Mapping[str, KnownCrystal] = MappingProxyType(
    {
        "SrTiO3 [001]": _cubic(0.3905, 0.3905, 1e-4),
        "Si [110]": _cubic(0.54310, 0.54310 / math.sqrt(2), 1e-5),
        "GaAs [110]": _cubic(0.56533, 0.56533 / math.sqrt(2), 5e-5),
        "Au [110]": _cubic(0.40782, 0.40782 / math.sqrt(2), 1e-4),
        "Au [001]": _cubic(0.20391, 0.20391, 1e-4),
        "graphene": KnownCrystal(
            a_nm=0.2461, b_nm=0.2461, gamma_deg=120.0, a_std_nm=2e-4, b_std_nm=2e-4
        ),
        "MoS2": KnownCrystal(
            a_nm=0.3161, b_nm=0.3161, gamma_deg=120.0, a_std_nm=3e-4, b_std_nm=3e-4
        ),
    }
)
"""Projected cells at room temperature, with their scatter between samples; those that are centred
may be given by their conventional edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFlyback:
    """What other settings of a scan device have taught about its line fly-back.

    Parameters
    ----------
    tau_us : float
        Time constant; it belongs to the device.
    tau_log_std : float, default: 0.1
        Standard deviation of its natural logarithm.
    amplitude_pm : tuple of float, optional
        Size of the displacement at the line start (slow, fast), of either sign.
    flyback_time_us : float, default: 0
        Fly-back time that the amplitude belongs to; it falls with longer times as
        ``exp(-t / tau)``.

    Raises
    ------
    ValueError
        If a number is not finite or has the wrong sign.
    """

    tau_us: float
    tau_log_std: float = 0.1
    amplitude_pm: tuple[float, float] | None = None
    flyback_time_us: float = 0.0

    def __post_init__(self) -> None:
        as_positive("tau_us", self.tau_us)
        as_positive("tau_log_std", self.tau_log_std)
        if as_finite("flyback_time_us", self.flyback_time_us) < 0:
            raise ValueError(f"flyback_time_us must not be negative, not {self.flyback_time_us:g}")
        for size in self.amplitude_pm or ():
            as_finite("amplitude_pm", size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a frame is to be processed.

    Parameters
    ----------
    reference : Free, Similarity, KnownCrystal, FourierFiltered, StackAverage or Reference
        What counts as undistorted.
    zero_px : tuple of float, optional
        A place (y, x) in the corrected image whose displacement is zero by definition, for example
        a column's; default: displacements are zero on average.
    sample : {"reference", "unknown"}
        ``"unknown"`` applies a known distortion only: the sample's own displacements are data.
    detect : callable, optional
        First guesses of the columns' positions; None means band-passed local maxima.
    terms : frozenset of str
        The model's terms to use; default: all of them.
    flyback : KnownFlyback, optional
        Prior on the line fly-back from other settings of the device, used by the first model of
        new settings.
    resample : {"spline", "nearest"}
        How intensities are interpolated; ``"nearest"`` keeps whole pixels' counts.

    Raises
    ------
    ValueError
        If a name is unknown.
    """

    reference: AnyReference = Free()
    zero_px: tuple[float, float] | None = None
    sample: Sample = "reference"
    detect: Detect | None = None
    terms: frozenset[Term] = TERMS
    flyback: KnownFlyback | None = None
    resample: Resample = "spline"

    def __post_init__(self) -> None:
        if self.zero_px is not None:
            y, x = self.zero_px
            object.__setattr__(self, "zero_px", (as_finite("zero_px", y), as_finite("zero_px", x)))
        if self.sample not in get_args(Sample):
            raise ValueError(f'sample must be "reference" or "unknown", not {self.sample!r}')
        if self.resample not in get_args(Resample):
            raise ValueError(f'resample must be "spline" or "nearest", not {self.resample!r}')
        object.__setattr__(self, "terms", frozenset(self.terms))
        unknown = sorted(self.terms - TERMS)
        if unknown:
            raise ValueError(f"terms must be among {', '.join(sorted(TERMS))}, not {unknown[0]!r}")
