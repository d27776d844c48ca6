"""Sites -> distortion samples, and the field on the pixel grid of the corrected image."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import cv2
import numba
import numpy as np
import numpy.typing as npt

from nion_distortion._chunks import for_chunks
from nion_distortion._order import median
from nion_distortion._validation import as_array, check_length, frozen, owned, reduce_frozen
from nion_distortion.frame import ScanSettings
from nion_distortion.lattice import IndexedColumns

__all__ = ["DistortionField", "DistortionSamples", "FieldKind", "ScaleErrors", "sample_distortion"]

FieldKind = Literal["stationary", "frame"]

PIXELS_AT_ONCE = 2**16

SHAPES: dict[str, tuple[int | None, ...]] = {
    "crystal_sites": (None, 2),
    "sites_px": (None, 2),
    "observed_px": (None, 2),
    "covariance_px2": (None, 2, 2),
    "broadening": (None, 2),
}
"""The fields of the samples that hold one row for each column."""


AGREEMENT = 4.0
"""Two fields agree if the mean of their squared difference, over the sum of their claimed
variances, is below this."""

VAGUE = 2.0
"""A field whose claimed rms error exceeds another's by more than this factor says too little to
agree with it."""

SMALLEST_STD_PX = 0.005
"""Added in quadrature to claimed errors (0.2 pm), so that very small ones do not make two fields
disagree."""

SAME_PX, SAME_SHARE, PROBES = 1e-3, 0.2, 5
"""Columns closer than this in two frames, or closer than this share of their standard errors, along
both axes, show that both are one image: stored in between, or fitted from other beginnings. By
chance noise leaves one column in 80 as near. And how many columns are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistortionSamples:
    """The displacement of every indexed column of one frame.

    Parameters
    ----------
    crystal_sites : ndarray, shape (n, 2)
        Sites in cells: index plus place in the cell.
    sites_px : ndarray, shape (n, 2)
        The ideal sites in the frame, (y, x).
    observed_px : ndarray, shape (n, 2)
        Where the columns were seen.
    covariance_px2 : ndarray, shape (n, 2, 2)
        Covariance of ``observed_px``.
    settings : ScanSettings
        The scan that made the frame.
    frame_id : str, default: ""
        Identity of the scan.
    time_s : float, optional
        POSIX time of the end of the frame.
    sigma_px : float, default: 0
        Median sigma of the columns, over which shifts of single lines are averaged.
    broadening : ndarray, shape (n, 2), optional
        Log of each column's width over that of its sublattice, and its variance; None where
        widths carry no information on the displacements from the sites.

    Raises
    ------
    ValueError
        If the arrays do not belong together.
    """

    crystal_sites: npt.NDArray[np.float64]
    sites_px: npt.NDArray[np.float64]
    observed_px: npt.NDArray[np.float64]
    covariance_px2: npt.NDArray[np.float64]
    settings: ScanSettings
    frame_id: str = ""
    time_s: float | None = None
    sigma_px: float = 0.0
    broadening: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name, shape in SHAPES.items():
            if name == "broadening" and self.broadening is None:
                continue
            array = as_array(name, getattr(self, name), shape)
            check_length(name, array, len(self.observed_px))
            object.__setattr__(self, name, array)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    def __len__(self) -> int:
        return len(self.observed_px)

    @property
    def displacement_px(self) -> npt.NDArray[np.float64]:
        """Observed minus ideal position, shape (n, 2)."""
        return self.observed_px - self.sites_px

    @property
    def variance_px2(self) -> npt.NDArray[np.float64]:
        """Mean variance of a coordinate, shape (n,): fits of round columns are isotropic."""
        return np.asarray(0.5 * (self.covariance_px2[:, 0, 0] + self.covariance_px2[:, 1, 1]))

    def is_same_image(self, other: "DistortionSamples") -> bool:
        """Tell whether both are samples of one image: columns in the very same places.

        Parameters
        ----------
        other : DistortionSamples
            Samples of the other frame.

        Returns
        -------
        bool
            False for two frames of one scan: their noise differs.
        """
        probes = slice(len(self) // (2 * PROBES), None, max(len(self) // PROBES, 1))
        places = self.observed_px[probes]
        reach_px = np.maximum(SAME_PX, SAME_SHARE * np.sqrt(self.variance_px2[probes]))
        return bool(2 * _number_near(other.observed_px, places, reach_px) > len(places))

    def subset(self, some: npt.NDArray[np.bool_]) -> "DistortionSamples":
        """Return some of the samples.

        Parameters
        ----------
        some : ndarray of bool, shape (n,)
            Those wanted.

        Returns
        -------
        DistortionSamples
            Their rows; all else unchanged.
        """
        rows: dict[str, Any] = {name: getattr(self, name) for name in SHAPES}
        chosen = {name: row[some] for name, row in rows.items() if row is not None}
        return replace(self, **chosen)


@numba.njit(cache=True, nogil=True)
def _number_near(positions, places, reach_px):  # type: ignore[no-untyped-def]
    """Count the places that have a position within reach along both axes."""
    number = 0
    for k in range(len(places)):
        y, x = places[k]
        for n in range(len(positions)):
            if abs(positions[n, 0] - y) < reach_px[k] and abs(positions[n, 1] - x) < reach_px[k]:
                number += 1
                break
    return number


def sample_distortion(
    indexed: IndexedColumns,
    settings: ScanSettings,
    *,
    frame_id: str = "",
    time_s: float | None = None,
) -> DistortionSamples:
    """Compare the indexed columns with their ideal lattice.

    Parameters
    ----------
    indexed : IndexedColumns
        Columns with their sites.
    settings : ScanSettings
        The scan that made the frame.
    frame_id : str, default: ""
        Identity of the scan.
    time_s : float, optional
        POSIX time of the end of the frame.

    Returns
    -------
    DistortionSamples
        One sample for each indexed column.
    """
    sites = indexed.crystal_sites
    return DistortionSamples(
        crystal_sites=sites,
        sites_px=indexed.lattice.positions_px(sites),
        observed_px=indexed.columns.positions_px,
        covariance_px2=indexed.columns.covariance_px2,
        settings=settings,
        frame_id=frame_id,
        time_s=time_s,
        sigma_px=median(indexed.columns.sigma_px),
        broadening=_of_kinds(indexed),
    )


def _of_kinds(indexed: IndexedColumns) -> npt.NDArray[np.float64]:
    """Compare widths with those of the same sublattice."""
    broadening = indexed.columns.broadening.copy()
    for kind in np.unique(indexed.sublattice):
        mine = indexed.sublattice == kind
        broadening[mine, 0] -= median(broadening[mine, 0])
    return broadening


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleErrors:
    """Scale errors and skew of a scan, measured against a known crystal.

    Parameters
    ----------
    slow, fast : float
        Relative error of the scale of either axis: pixels are this share too small.
    slow_std, fast_std : float
        Their standard deviations.
    skew_rad, skew_std_rad : float
        Tilt of the slow axis towards the fast one, and its standard deviation.
    """

    slow: float
    fast: float
    slow_std: float
    fast_std: float
    skew_rad: float
    skew_std_rad: float

    def numbers(self, nominal_nm: float) -> dict[str, float]:
        """Collect them, with the pixel's side before and after the correction.

        Parameters
        ----------
        nominal_nm : float
            Nominal side of a pixel.

        Returns
        -------
        dict of str to float
            With their standard deviations.

        Notes
        -----
        The errors are those of the whole scan's mean: coils, and what fly-back and bends stretch on
        average. The corrected picture has the nominal pixel size on both axes; a pixel of the scan
        itself is larger than that where its scale error is negative, by ``1 - error``.
        """
        return {
            "nominal_pixel_size_nm": nominal_nm,
            "corrected_pixel_size_nm": nominal_nm,
            "scanned_pixel_slow_nm": nominal_nm * (1.0 - self.slow),
            "scanned_pixel_slow_std_nm": nominal_nm * self.slow_std,
            "scanned_pixel_fast_nm": nominal_nm * (1.0 - self.fast),
            "scanned_pixel_fast_std_nm": nominal_nm * self.fast_std,
            "scale_error_slow_percent": 100.0 * self.slow,
            "scale_error_slow_std_percent": 100.0 * self.slow_std,
            "scale_error_fast_percent": 100.0 * self.fast,
            "scale_error_fast_std_percent": 100.0 * self.fast_std,
            "skew_deg": float(np.degrees(self.skew_rad)),
            "skew_std_deg": float(np.degrees(self.skew_std_rad)),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistortionField:
    """Where each pixel of the corrected image is found in the scan.

    Always ``corrected[u] = raw[u + displacement_px(u)]``.

    Parameters
    ----------
    displacement_px : ndarray, shape (2, ny, nx)
        Observed minus ideal position at each ideal pixel, (y, x).
    std_px : ndarray, shape (2, ny, nx)
        Standard deviation of the place on the sample that each pixel shows, per axis, without the
        part that the reference leaves unknown (affine, similarity or rigid).
    unremoved_std_px : ndarray, shape (2, ny, nx)
        Standard deviation of what moves the beam and is not in ``displacement_px``.
    valid : ndarray of bool, shape (ny, nx)
        False where the scan turns back on itself, or did not see the place.
    kind : {"stationary", "frame"}
        Whether it holds for every frame of these settings or for one frame only.
    settings : ScanSettings
        The scan that it describes.
    reference : str
        What counted as undistorted.
    frame_id : str, default: ""
        The frame that a ``"frame"`` field belongs to.
    scale : ScaleErrors, optional
        What a known crystal measured of the scan's scale, which the field takes out; None where
        no crystal was known.
    folded : int, default: 0
        Pixels that are not valid because the scan turns back on itself.
    crossed : int, default: 0
        Pixels that are not valid because lines of the scan overtake each other; it did not see the
        others.

    Raises
    ------
    ValueError
        If the arrays do not belong together, or a frame's field does not name its frame.
    """

    displacement_px: npt.NDArray[np.float32]
    std_px: npt.NDArray[np.float32]
    unremoved_std_px: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    kind: FieldKind
    settings: ScanSettings
    reference: str
    frame_id: str = ""
    scale: ScaleErrors | None = None
    folded: int = 0
    crossed: int = 0
    whole_std_px: npt.NDArray[np.float32] = field(init=False, repr=False)
    """Both in quadrature: standard deviation of the place that a corrected image's pixel shows."""

    def __post_init__(self) -> None:
        shape = self.settings.shape_px
        for name in ("displacement_px", "std_px", "unremoved_std_px"):
            array = as_array(name, getattr(self, name), (2, *shape), np.float32)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "valid", as_array("valid", self.valid, shape, np.bool_))
        whole = _in_quadrature(self.std_px, self.unremoved_std_px)
        object.__setattr__(self, "whole_std_px", whole)
        if self.kind not in get_args(FieldKind):
            raise ValueError(f'kind must be "stationary" or "frame", not {self.kind!r}')
        if self.kind == "frame" and not self.frame_id:
            raise ValueError("frame_id must name the frame that a frame's field belongs to")

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    def agrees_with(self, other: "DistortionField") -> bool:
        """Compare the difference of two fields with their claimed errors.

        Parameters
        ----------
        other : DistortionField
            Of the same scan.

        Returns
        -------
        bool
            False also where this one is much less certain than the other: it would agree with
            anything.
        """
        seen = self.valid & other.valid
        difference = (self.displacement_px - other.displacement_px)[:, seen]
        mine, theirs = (np.square(one.std_px)[:, seen] for one in (self, other))
        mine, theirs = mine + SMALLEST_STD_PX**2, theirs + SMALLEST_STD_PX**2
        if mine.sum() > VAGUE**2 * theirs.sum():
            return False
        ratio = np.square(difference) / (mine + theirs)
        return bool(np.sum(ratio) < AGREEMENT * max(difference.size, 1))

    def resampled(self, shape_px: tuple[int, int]) -> "DistortionField":
        """Return the same field on another number of pixels over the same field of view.

        Parameters
        ----------
        shape_px : tuple of int
            The new (ny, nx).

        Returns
        -------
        DistortionField
            Displacements and deviations are in the new pixels.

        Raises
        ------
        ValueError
            If the proportions differ.
        """
        old = self.settings.shape_px
        scale = shape_px[0] / old[0]
        if abs(shape_px[1] / old[1] - scale) > 0.5 * max(scale, 1.0) / min(old):
            raise ValueError(f"shape_px must keep the proportions of {old}, not be {shape_px}")
        factor = np.float32(scale)
        return replace(
            self,
            displacement_px=_resize(self.displacement_px, shape_px) * factor,
            std_px=_resize(self.std_px, shape_px) * factor,
            unremoved_std_px=_resize(self.unremoved_std_px, shape_px) * factor,
            valid=_resize(self.valid.astype(np.float32), shape_px) > 0.99,
            settings=replace(self.settings, shape_px=shape_px),
            folded=round(scale**2 * self.folded),
            crossed=round(scale**2 * self.crossed),
        )


def _in_quadrature(
    one: npt.NDArray[np.float32], two: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    total = np.empty(one.shape, np.float32)

    def rows(start: int, stop: int) -> None:
        for axis in range(len(one)):
            part = axis, slice(start, stop)
            _quadrature_rows(one[part], two[part], total[part])

    for_chunks(rows, one.shape[1], smallest=PIXELS_AT_ONCE // one.shape[2])
    return owned(total)


def _resize(image: npt.NDArray[Any], shape_px: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize the last two axes linearly; the edges of the field of view stay where they are."""
    if image.ndim == 3:
        return frozen(np.stack([_resize(layer, shape_px) for layer in image]))
    resized = cv2.resize(
        np.ascontiguousarray(image), (shape_px[1], shape_px[0]), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(resized, dtype=np.float32)


@numba.njit(cache=True, nogil=True)
def _quadrature_rows(one, two, out):  # type: ignore[no-untyped-def]
    """Equivalent to ``np.hypot(one, two)``; rows of contiguous arrays, so that it is vectorised."""
    for i in range(len(out)):
        for j in range(out.shape[1]):
            out[i, j] = np.sqrt(one[i, j] * one[i, j] + two[i, j] * two[i, j])
