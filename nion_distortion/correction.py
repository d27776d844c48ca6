"""Field -> corrected frame: one backward resample, and the mask of the pixels with data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, as_positive, frozen, reduce_frozen, sealed
from nion_distortion._version import installed_version
from nion_distortion.distortion import DistortionField
from nion_distortion.frame import Frame, ScanSettings
from nion_distortion.interpolation import resampled
from nion_distortion.options import Resample

__all__ = ["SIGN_CONVENTION", "CorrectedFrame", "correct_frame", "noted"]

SIGN_CONVENTION = (
    "corrected[u] = raw[u + displacement_px(u)]; displacement = observed - ideal; "
    "vectors and positions are (y, x), pixel centres at integers"
)
"""Written into every result."""

PLANES, BLOCK_PX = 16, 2**22
"""Detector pixels of a spectrum image that are corrected together, at most: a cache line of them,
and so many pixels in all that the extra memory stays under 64 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorrectedFrame:
    """A frame on the undistorted grid.

    Parameters
    ----------
    image : ndarray, shape (ny, nx) or (ny, nx, ...)
        The detector's units, interpolated; zero where not valid.
    valid : ndarray of bool, shape (ny, nx)
        Whether the scan saw the place that the pixel shows.
    std_px : ndarray, shape (2, ny, nx)
        Standard deviation of the place on the sample that the pixel shows, (y, x): error of the
        correction and what was not removed, in quadrature.
    displacement_px : ndarray, shape (2, ny, nx)
        What was taken out: ``image[u] = raw[u + displacement_px(u)]``. With it a position in
        ``image`` is brought back to the scan.
    pixel_size_nm : float
        Side of a pixel.
    settings : ScanSettings
        The scan that made the frame.
    frame_id : str, default: ""
        Identity of the scan.
    channel : str, default: ""
        Name of the detector.
    index : int, default: 0
        Place in its stack or stream.
    time_s : float, optional
        POSIX time of the end of the frame.
    provenance : Mapping, default: {}
        The frame's own, and under ``"correction"`` how it was corrected; its ``"scale"`` has the
        pixel size, nominal and as scanned, where a known crystal measured it.

    Raises
    ------
    ValueError
        If the arrays do not belong together.
    """

    image: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    std_px: npt.NDArray[np.float32]
    displacement_px: npt.NDArray[np.float32]
    pixel_size_nm: float
    settings: ScanSettings
    frame_id: str = ""
    channel: str = ""
    index: int = 0
    time_s: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.settings.shape_px
        image = np.asarray(self.image, dtype=np.float32)
        if image.shape[:2] != shape:
            raise ValueError(f"image must begin with shape {shape}, not be {image.shape}")
        object.__setattr__(self, "image", frozen(image))
        object.__setattr__(self, "valid", as_array("valid", self.valid, shape, np.bool_))
        for name in ("std_px", "displacement_px"):
            array = as_array(name, getattr(self, name), (2, *shape), np.float32)
            object.__setattr__(self, name, array)
        as_positive("pixel_size_nm", self.pixel_size_nm)
        object.__setattr__(self, "provenance", sealed(self.provenance))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


def correct_frame(
    frame: Frame | npt.NDArray[Any],
    field: DistortionField,
    *,
    settings: ScanSettings | None = None,
    frame_id: str = "",
    resample: Resample = "spline",
) -> CorrectedFrame:
    """Resample a frame onto the undistorted grid: ``corrected[u] = raw[u + d(u)]``.

    Parameters
    ----------
    frame : Frame or ndarray, shape (ny, nx) or (ny, nx, ...)
        The frame as scanned; every detector pixel of a spectrum image is corrected alike. A bare
        array may be a memory map: it is read in blocks.
    field : DistortionField, shape (2, ny, nx)
        Observed minus ideal position at each ideal pixel, in px.
    settings : ScanSettings, optional
        The scan that made a bare array; a `Frame` has its own.
    frame_id : str, default: ""
        Identity of the scan that made a bare array; needed for a frame's own field.
    resample : {"spline", "nearest"}
        Cubic B-spline, or whole pixels' counts. With ``"nearest"``, pixels along trailing axes
        that are not finite move like all others; those of an image are refused.

    Returns
    -------
    CorrectedFrame
        Pixels whose source lies outside the scan are zero and not valid.

    Raises
    ------
    ValueError
        If settings differ (each named), a frame's own field meets another scan, the array holds
        no pixels or is not one of real numbers, or what is to be interpolated, or an image, is
        not finite.

    Notes
    -----
    Each pixel is one dwell, so intensities are interpolated without a Jacobian: the integrated
    intensities of equal columns agree in the corrected frame, while their raw sums do not where
    the scan is stretched.

    Between the outermost pixel centres the spline is that of `scipy.ndimage.map_coordinates`
    with ``order=3, mode="mirror"``. A spline rings by some per cent beside a single hot pixel;
    ``"nearest"`` does not, and is half a pixel wrong.
    """
    if isinstance(frame, Frame):
        if settings is not None or frame_id:
            raise ValueError("settings and frame_id belong to a bare array; a Frame has its own")
        taken = {name: getattr(frame, name) for name in ("channel", "index", "time_s")}
        image, settings, frame_id = frame.image, frame.settings, frame.frame_id
        provenance = dict(frame.provenance)
    else:
        image, taken, provenance = np.asanyarray(frame), {}, {}
    known = _check(image, field, settings, frame_id, resample)
    corrected, valid = _resampled(image, field, resample)
    return CorrectedFrame(
        image=corrected,
        valid=valid,
        std_px=field.whole_std_px,
        displacement_px=field.displacement_px,
        pixel_size_nm=known.pixel_size_nm,
        settings=known,
        frame_id=frame_id,
        provenance={**provenance, "correction": _record(field, resample)},
        **taken,
    )


def noted(corrected: CorrectedFrame, calibration: Mapping[str, Any]) -> CorrectedFrame:
    """Note in a corrected frame which stored calibration it was corrected by.

    Parameters
    ----------
    corrected : CorrectedFrame
        The frame.
    calibration : Mapping
        Its id and what is to be remembered of it.

    Returns
    -------
    CorrectedFrame
        With ``provenance["correction"]["calibration"]``.
    """
    record = {**corrected.provenance.get("correction", {}), "calibration": dict(calibration)}
    return replace(corrected, provenance={**corrected.provenance, "correction": record})


def _check(
    image: npt.NDArray[Any],
    field: DistortionField,
    settings: ScanSettings | None,
    frame_id: str,
    resample: Resample,
) -> ScanSettings:
    if resample not in get_args(Resample):
        raise ValueError(f'resample must be "spline" or "nearest", not {resample!r}')
    if settings is None:
        raise ValueError("a bare array needs settings=, the scan that made it")
    if image.dtype.kind not in "biuf":
        raise ValueError(f"frame must be real numbers, not {image.dtype}")
    if image.shape[:2] != settings.shape_px:
        raise ValueError(
            f"frame has shape {image.shape[:2]}, but its settings say {settings.shape_px}"
        )
    if image.size == 0:
        raise ValueError(f"frame of shape {image.shape} holds no pixels")
    # `valid` speaks for whole pixels: of an image a wrong one could not be told from a good one
    if resample == "nearest" and image.ndim == 2 and not np.isfinite(image).all():
        raise ValueError("frame has pixels that are not finite; replace them")
    _check_match(field, settings, frame_id)
    return settings


def _check_match(field: DistortionField, settings: ScanSettings, frame_id: str) -> None:
    differing = settings.differences(field.settings)
    if differing:
        named = "; ".join(
            f"{name} is {_value(settings, name)}, the field's {_value(field.settings, name)}"
            for name in differing
        )
        raise ValueError(f"the field belongs to another scan: {named}")
    if field.kind == "frame" and field.frame_id != frame_id:
        raise ValueError(
            f"the field belongs to frame {field.frame_id!r} only, not to {frame_id!r}; "
            "for other frames take the stationary field"
        )


def _value(settings: ScanSettings, name: str) -> object:
    return getattr(settings, name, dict(settings.extra).get(name))


def _record(field: DistortionField, resample: Resample) -> dict[str, object]:
    scale = field.scale
    return {
        "kind": field.kind,
        "reference": field.reference,
        "scale": None if scale is None else scale.numbers(field.settings.pixel_size_nm),
        "frame_id": field.frame_id,
        "resample": resample,
        "convention": SIGN_CONVENTION,
        "versions": {"nion_distortion": installed_version(), "numpy": np.__version__},
    }


def _resampled(
    image: npt.NDArray[Any], field: DistortionField, resample: Resample
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Every plane of trailing axes in turn, a few at a time: the extra memory is constant."""
    one = partial(resampled, displacement_px=field.displacement_px, seen=field.valid)
    if image.ndim == 2:
        corrected, valid = one(image, resample=resample)
    else:
        corrected = np.empty(image.shape, dtype=np.float32)
        source = image.reshape(*image.shape[:2], -1)
        target = corrected.reshape(source.shape)
        step = max(1, min(PLANES, BLOCK_PX // field.valid.size))
        for start in range(0, source.shape[2], step):
            block = source[:, :, start : start + step]
            planes = np.ascontiguousarray(np.moveaxis(block, 2, 0), dtype=np.float32)
            done = [one(plane, resample=resample) for plane in planes]
            target[:, :, start : start + step] = np.stack(
                [one_plane for one_plane, _ in done], axis=2
            )
            valid = done[-1][1]
    corrected.flags.writeable = valid.flags.writeable = False
    return corrected, valid
