"""What is measured: a frame, and the scan settings under which its distortion is stationary."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_finite, as_positive, frozen, reduce_frozen, sealed

__all__ = ["ALTERED", "Frame", "ScanSettings", "UnusableFrameError"]

RELATIVE_TOLERANCE = 1e-5
"""Numbers of two settings that differ by less than this describe the same scan."""

ABSOLUTE_TOLERANCE = {"rotation_rad": 1e-6}
"""Numbers that may be zero, where a relative tolerance alone means nothing."""

ALTERED = "altered"
"""Key in a frame's provenance under which files say that the image is not the scan itself."""

SMALLEST_PX, LARGEST_PX = 8, 16384


class UnusableFrameError(Exception):
    """A frame that cannot be measured; the message is the reason, one sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """What the distortion is stationary under, as the device reported it.

    ``None`` means that the device did not say.

    Parameters
    ----------
    shape_px : tuple of int
        Lines and pixels of this frame, (ny, nx).
    field_of_view_nm : float
        Length of the longer side of this frame; pixels are square.
    dwell_time_us : float, optional
        Time on each pixel.
    flyback_time_us : float, optional
        Time between the end of a line and the start of the next.
    line_time_us : float, optional
        Time from line start to line start; includes the fly-back.
    high_tension_v : float, optional
        Acceleration voltage.
    line_sync : bool, optional
        Whether each line waits for the mains.
    frame_sync : bool, optional
        Whether each frame waits for the mains.
    rotation_rad : float, default: 0
        Scan rotation.
    device_id : str, default: ""
        The scan device.
    subscan_px : tuple of int, optional
        (context ny, context nx, top, left) where only a part of a context was scanned.
    extra : tuple of (str, object), default: ()
        Other parameters that the device reported; part of the match.

    Raises
    ------
    ValueError
        If a number is not finite or has the wrong sign.
    """

    shape_px: tuple[int, int]
    field_of_view_nm: float
    dwell_time_us: float | None = None
    flyback_time_us: float | None = None
    line_time_us: float | None = None
    high_tension_v: float | None = None
    line_sync: bool | None = None
    frame_sync: bool | None = None
    rotation_rad: float = 0.0
    device_id: str = ""
    subscan_px: tuple[int, int, int, int] | None = None
    extra: tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(int(length) for length in self.shape_px)
        if len(shape) != 2 or min(shape) < SMALLEST_PX or max(shape) > LARGEST_PX:
            raise ValueError(
                f"shape_px must be two lengths from {SMALLEST_PX} to {LARGEST_PX}, "
                f"not {self.shape_px}"
            )
        object.__setattr__(self, "shape_px", shape)
        as_positive("field_of_view_nm", self.field_of_view_nm)
        as_finite("rotation_rad", self.rotation_rad)
        for name in ("dwell_time_us", "line_time_us", "high_tension_v"):
            if getattr(self, name) is not None:
                as_positive(name, getattr(self, name))
        if (
            self.flyback_time_us is not None
            and as_finite("flyback_time_us", self.flyback_time_us) < 0
        ):
            raise ValueError(f"flyback_time_us must not be negative, not {self.flyback_time_us:g}")
        if self.line_period_px < (1 - RELATIVE_TOLERANCE) * shape[1]:
            raise ValueError(
                f"line_time_us must be at least {shape[1]} dwell times, "
                f"not {self.line_period_px:.4g}"
            )

    @property
    def pixel_size_nm(self) -> float:
        """Nominal side of a pixel."""
        return self.field_of_view_nm / max(self.shape_px)

    @property
    def line_period_px(self) -> float:
        """Line time over dwell time: pixels of scan time from line start to line start.

        With unknown timing it is the number of pixels in a line.
        """
        if self.line_time_us is not None and self.dwell_time_us is not None:
            return self.line_time_us / self.dwell_time_us
        if self.flyback_time_us is not None and self.dwell_time_us is not None:
            return self.shape_px[1] + self.flyback_time_us / self.dwell_time_us
        return float(self.shape_px[1])

    @property
    def frame_time_s(self) -> float | None:
        """Time from the first pixel to the end of the last line; None with unknown timing."""
        if self.dwell_time_us is None:
            return None
        return self.shape_px[0] * self.line_period_px * self.dwell_time_us * 1e-6

    def differences(self, other: "ScanSettings") -> tuple[str, ...]:
        """Name the fields that differ; an empty tuple means the same scan.

        Parameters
        ----------
        other : ScanSettings
            The settings to compare with.

        Returns
        -------
        tuple of str
            Names of fields (for ``extra``: of its entries), in order of definition. ``None`` on
            one side only is a difference.
        """
        names = [item.name for item in fields(self) if item.name != "extra"]
        differing = [n for n in names if not _same(n, getattr(self, n), getattr(other, n))]
        mine, theirs = dict(self.extra), dict(other.extra)
        differing += [n for n in sorted(mine | theirs) if not _same(n, mine.get(n), theirs.get(n))]
        return tuple(differing)

    def unreported(self, other: "ScanSettings") -> tuple[str, ...]:
        """Name the fields that neither side knows, so that they are assumed to be unchanged.

        Parameters
        ----------
        other : ScanSettings
            The settings to compare with.

        Returns
        -------
        tuple of str
            Names of fields that are ``None`` on both sides; a whole scan has no ``subscan_px``.
        """
        return tuple(
            item.name
            for item in fields(self)
            if item.name != "subscan_px"
            and getattr(self, item.name) is None
            and getattr(other, item.name) is None
        )


def _same(name: str, one: object, two: object) -> bool:
    numbers = (int, float, np.number)
    truths = (bool, np.bool_)
    if isinstance(one, truths) or isinstance(two, truths):
        return isinstance(one, truths) and isinstance(two, truths) and bool(one) is bool(two)
    if isinstance(one, numbers) and isinstance(two, numbers):
        scale = max(abs(float(one)), abs(float(two)))
        tolerance = RELATIVE_TOLERANCE * scale + ABSOLUTE_TOLERANCE.get(name, 0.0)
        return bool(abs(float(one) - float(two)) <= tolerance)
    if isinstance(one, tuple) and isinstance(two, tuple) and len(one) == len(two):
        return all(_same(name, a, b) for a, b in zip(one, two, strict=True))
    return one == two


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One frame as the detector gave it.

    Parameters
    ----------
    image : ndarray, shape (ny, nx) or (ny, nx, ...)
        Detector units; kept as float32.
    settings : ScanSettings
        The scan that made it.
    index : int, default: 0
        Place in its stack or stream.
    time_s : float, optional
        POSIX time of the end of the frame.
    frame_id : str, default: ""
        Identity of the scan: the same for all channels of one scan.
    channel : str, default: ""
        Name of the detector.
    provenance : Mapping, default: {}
        Whatever else is known; never part of a match.

    Raises
    ------
    ValueError
        If the image is not a real numeric array of the shape that the settings name, or pixels
        of it are masked.
    """

    image: npt.NDArray[np.float32]
    settings: ScanSettings
    index: int = 0
    time_s: float | None = None
    frame_id: str = ""
    channel: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if np.ma.is_masked(self.image):
            masked = int(np.ma.getmaskarray(self.image).sum())
            raise ValueError(f"image must be whole, but {masked} of its pixels are masked")
        raw = np.asarray(self.image)
        if raw.dtype.kind not in "biuf":
            raise ValueError(f"image must be real numbers, not {raw.dtype}")
        if raw.ndim < 2:
            raise ValueError(f"image must have at least two axes, not shape {raw.shape}")
        if raw.shape[:2] != self.settings.shape_px:
            raise ValueError(
                f"image has shape {raw.shape[:2]}, but its settings say {self.settings.shape_px}"
            )
        with np.errstate(over="ignore"):  # numbers that are too large become infinite
            image = np.ascontiguousarray(raw, dtype=np.float32)
        object.__setattr__(self, "image", frozen(image))
        object.__setattr__(self, "provenance", sealed(self.provenance))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def altered(self) -> str | None:
        """Why the image is not the scan as it was made (cropped, averaged, ...); None if it is."""
        why = self.provenance.get(ALTERED)
        return None if why is None else str(why)
