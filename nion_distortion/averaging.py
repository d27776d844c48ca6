"""Corrected frames -> their average, aligned by the drift, and how the pixels scatter about it."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, frozen, owned, reduce_frozen
from nion_distortion.correction import CorrectedFrame
from nion_distortion.frame import ScanSettings
from nion_distortion.interpolation import shifted

__all__ = ["AlignedFrame", "DriftAlignedAverage", "RunningSums"]

MARGIN_PX = 32
"""Drift (px) of the newest frame, either way, beyond which the sums are made anew around it."""

RIM_PX = 4
"""Pixels this close to one without data are left out: a spline carries its value there (farther
away, under 1 % of the step)."""

Pixels = tuple[int, int]


class AlignedFrame(NamedTuple):
    """A corrected frame, shifted by less than a pixel onto the grid of the first one."""

    image: npt.NDArray[np.float32]
    """Zero where not valid; read-only, shape (ny, nx)."""
    valid: npt.NDArray[np.bool_]
    """Read-only, shape (ny, nx)."""
    corner_px: Pixels
    """Place of its first pixel on the sample, (y, x), from that of the first frame."""


class RunningSums(NamedTuple):
    """Sums over the kept frames, on a grid somewhat larger than a frame."""

    corner_px: Pixels
    """Place of the first pixel, as that of a frame."""
    values: npt.NDArray[np.float64]
    """Sum of the values and of their squares, shape (2, ny, nx); read-only once it is complete."""
    counts: npt.NDArray[np.int32]
    """How many frames saw each pixel, shape (ny, nx)."""
    replaced: int
    """Frames subtracted since the sums were made: each leaves some rounding error."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DriftAlignedAverage:
    """The average of the last corrected frames of a live view, aligned by the measured drift.

    Parameters
    ----------
    capacity : int, default: 20
        How many frames are averaged at most; each is kept, with 5 bytes for a pixel.
    kept : tuple of AlignedFrame, default: ()
        The frames in it, oldest first.
    settings : ScanSettings, optional
        The scan that made them; None before the first one.
    pixel_size_nm : float, optional
        Side of a pixel.
    origin_nm : ndarray, shape (2,)
        Drift of the first frame, (y, x); the grid of the average is that frame's.
    sums : RunningSums, optional
        Over the kept frames.

    Raises
    ------
    ValueError
        If the capacity is not positive.

    Notes
    -----
    A value like any other: `added` returns a new one. Each frame is shifted once, by the fraction
    of a pixel that the spline of `correct_frame` has to find; whole pixels move nothing. The
    picture follows the newest frame by whole pixels, and is made of what the others saw there.

    Between pixels a spline averages: white noise of a frame that was shifted by half a pixel on
    both axes is a quarter smaller than in the scan. `std` is that of the shifted values.
    """

    capacity: int = 20
    kept: tuple[AlignedFrame, ...] = ()
    settings: ScanSettings | None = None
    pixel_size_nm: float | None = None
    origin_nm: npt.NDArray[np.float64] | None = None
    sums: RunningSums | None = None

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be positive, not {self.capacity}")
        if self.origin_nm is not None:
            object.__setattr__(self, "origin_nm", as_array("origin_nm", self.origin_nm, (2,)))
        frames = [
            AlignedFrame(frozen(one.image), frozen(one.valid), one.corner_px) for one in self.kept
        ]
        object.__setattr__(self, "kept", tuple(frames))
        if self.sums is not None:
            sums = self.sums._replace(
                values=frozen(self.sums.values), counts=frozen(self.sums.counts)
            )
            object.__setattr__(self, "sums", sums)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    def added(
        self,
        corrected: CorrectedFrame,
        drift_nm: npt.ArrayLike | None,
        *,
        restarted: bool = False,
    ) -> "DriftAlignedAverage":
        """Return the average with one more frame; the oldest goes when it is full.

        Parameters
        ----------
        corrected : CorrectedFrame, image of shape (ny, nx)
            The newest frame. One that could not be measured is better left out.
        drift_nm : array_like, shape (2,), or None
            Motion of the sample in the image, (y, x), from where it was when the trajectory began:
            the last row of ``LiveReport.drift_nm``. None where it is not known.
        restarted : bool, default: False
            Whether the trajectory begins with this frame, after an ambiguous drift for example:
            whether ``LiveReport.drift_nm`` has one row only.

        Returns
        -------
        DriftAlignedAverage
            A new value. It begins anew with a frame whose place beside the others is not known:
            with a trajectory that began anew, without a drift, and with other settings.

        Raises
        ------
        ValueError
            If the frame has trailing axes, or the drift is not two finite numbers.
        """
        if corrected.image.ndim != 2:
            raise ValueError(f"image must be 2-D, not of shape {corrected.image.shape}")
        drift = None if drift_nm is None else as_array("drift_nm", drift_nm, (2,))
        if drift is not None and not np.isfinite(drift).all():
            raise ValueError(f"drift_nm must be finite, not {drift}")
        origin = self.origin_nm
        if restarted or drift is None or origin is None or not self._continues(corrected):
            return self._begun(corrected, drift)
        newest = _aligned(corrected, (drift - origin) / corrected.pixel_size_nm)
        return self._with(newest)

    @property
    def frames(self) -> int:
        """How many frames are in it."""
        return len(self.kept)

    @property
    def image(self) -> npt.NDArray[np.float32]:
        """Mean of each pixel over the frames that saw it, shape (ny, nx); zero where none did."""
        (total, _), count = self._seen()
        return owned((total / np.maximum(count, 1)).astype(np.float32))

    @property
    def std(self) -> npt.NDArray[np.float32]:
        """Standard deviation of a pixel's single value over the frames, shape (ny, nx).

        Zero where fewer than two frames saw the pixel: see ``count``.
        """
        return owned(np.sqrt(self._variance()).astype(np.float32))

    @property
    def std_of_mean(self) -> npt.NDArray[np.float32]:
        """Standard deviation of ``image``: ``std`` over the root of ``count``; zero where that is.

        For errors of the frames that are independent: noise of the detector, not the drift's.
        """
        _, count = self._seen()
        return owned(np.sqrt(self._variance() / np.maximum(count, 1)).astype(np.float32))

    @property
    def count(self) -> npt.NDArray[np.int32]:
        """How many frames saw each pixel, shape (ny, nx)."""
        _, count = self._seen()
        return owned(count.copy())

    def _continues(self, corrected: CorrectedFrame) -> bool:
        return (
            self.settings is not None
            and not self.settings.differences(corrected.settings)
            and self.pixel_size_nm == corrected.pixel_size_nm
        )

    def _begun(
        self, corrected: CorrectedFrame, drift_nm: npt.NDArray[np.float64] | None
    ) -> "DriftAlignedAverage":
        first = DriftAlignedAverage(
            capacity=self.capacity,
            settings=corrected.settings,
            pixel_size_nm=corrected.pixel_size_nm,
            origin_nm=drift_nm,  # without one the next frame begins anew
        )
        return first._with(_aligned(corrected, np.zeros(2)))

    def _with(self, newest: AlignedFrame) -> "DriftAlignedAverage":
        gone = self.kept[: max(0, len(self.kept) + 1 - self.capacity)]
        kept = (*self.kept[len(gone) :], newest)
        sums = self.sums
        if sums is None or sums.replaced + len(gone) > self.capacity or not _holds(sums, newest):
            sums = _summed(kept, newest)
        else:
            sums = _exchanged(sums, newest, gone)
        for array in (sums.values, sums.counts):
            owned(array)
        return replace(self, kept=kept, sums=sums)

    def _seen(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
        """Cut the newest frame out of the sums."""
        if self.sums is None:
            raise ValueError("there is no average before the first frame")
        y, x = _window(self.sums, self.kept[-1])
        return self.sums.values[:, y, x], self.sums.counts[y, x]

    def _variance(self) -> npt.NDArray[np.float64]:
        (total, squares), count = self._seen()
        rest = squares - np.square(total) / np.maximum(count, 1)
        variance: npt.NDArray[np.float64] = np.maximum(rest, 0.0) / np.maximum(count - 1, 1)
        return np.where(count > 1, variance, 0.0)


def _aligned(corrected: CorrectedFrame, shift_px: npt.NDArray[np.float64]) -> AlignedFrame:
    """Shift a frame back by the fraction of a pixel, and note the whole ones."""
    whole = np.rint(shift_px)
    fraction = shift_px - whole
    corner = (-int(whole[0]), -int(whole[1]))
    if not fraction.any():
        return AlignedFrame(corrected.image, corrected.valid, corner)
    image, valid = corrected.image, corrected.valid
    if not valid.all():
        level = image.mean(where=valid) if valid.any() else np.float32(0)
        image, valid = np.where(valid, image, level), _without_rim(valid)
    moved, inside = shifted(image, (float(fraction[0]), float(fraction[1])))
    seen = valid & inside
    return AlignedFrame(owned(np.where(seen, moved, np.float32(0))), owned(seen), corner)


def _without_rim(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Leave out what is near a pixel without data; the border of the image is none."""
    kept = valid.copy()
    for axis in (0, 1):
        before = kept.copy()
        for step in range(1, RIM_PX + 1):
            later, earlier = [slice(None)] * 2, [slice(None)] * 2
            later[axis], earlier[axis] = slice(step, None), slice(None, -step)
            kept[*later] &= before[*earlier]
            kept[*earlier] &= before[*later]
    return kept


def _window(sums: RunningSums, frame: AlignedFrame) -> tuple[slice, slice]:
    """Where a frame lies in the sums, as far as it does."""
    first = [at - corner for at, corner in zip(frame.corner_px, sums.corner_px, strict=True)]
    y, x = (
        slice(max(start, 0), max(start + length, 0))
        for start, length in zip(first, frame.image.shape, strict=True)
    )
    return y, x


def _holds(sums: RunningSums, frame: AlignedFrame) -> bool:
    inner = [at - corner for at, corner in zip(frame.corner_px, sums.corner_px, strict=True)]
    return all(0 <= start <= 2 * MARGIN_PX for start in inner)


def _summed(kept: tuple[AlignedFrame, ...], newest: AlignedFrame) -> RunningSums:
    """Add up all frames, around the newest."""
    shape = tuple(length + 2 * MARGIN_PX for length in newest.image.shape)
    corner = (newest.corner_px[0] - MARGIN_PX, newest.corner_px[1] - MARGIN_PX)
    sums = RunningSums(corner, np.zeros((2, *shape)), np.zeros(shape, dtype=np.int32), 0)
    for frame in kept:
        _add(sums, frame, 1)
    return sums


def _exchanged(
    sums: RunningSums, newest: AlignedFrame, gone: tuple[AlignedFrame, ...]
) -> RunningSums:
    changed = sums._replace(
        values=sums.values.copy(), counts=sums.counts.copy(), replaced=sums.replaced + len(gone)
    )
    for frame in gone:
        _add(changed, frame, -1)
    _add(changed, newest, 1)
    return changed


def _add(sums: RunningSums, frame: AlignedFrame, sign: int) -> None:
    """Add a frame to sums that nobody else has yet, or take it out."""
    y, x = _window(sums, frame)
    values, count = sums.values[:, y, x], sums.counts[y, x]
    top = max(sums.corner_px[0] - frame.corner_px[0], 0)
    left = max(sums.corner_px[1] - frame.corner_px[1], 0)
    inner = np.s_[top : top + count.shape[0], left : left + count.shape[1]]
    change = np.add if sign > 0 else np.subtract
    change(values[0], frame.image[inner], out=values[0])
    squares = np.square(frame.image[inner], dtype=np.float64)
    change(values[1], squares, out=values[1])
    change(count, frame.valid[inner], out=count)
