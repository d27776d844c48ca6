"""References other than a perfect lattice: they say where each column should be."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import map_coordinates

from nion_distortion.distortion import DistortionField, DistortionSamples
from nion_distortion.frame import ScanSettings, UnusableFrameError
from nion_distortion.lattice import IndexedColumns, Lattice
from nion_distortion.options import FourierFiltered, Reference

__all__ = [
    "against_average",
    "against_field",
    "against_filtered_image",
    "check_same_geometry",
    "filtered_image",
    "whole_field",
]

Array = npt.NDArray[np.float64]

MAY_DIFFER = ("flyback_time_us", "line_time_us")
"""Settings in which a scan may differ from that of the reference field."""

HIGHEST_FREQUENCY = 0.45
"""In periods per pixel: spots beyond it are noise."""

PADDING = 4.0
"""Padding in standard deviations of the filter's real-space Gaussian: nothing wraps around."""

NEWTON_STEPS, LONGEST_STEP, SETTLED_PX = 12, 0.05, 1e-4
"""Newton steps to the peak of a column; longest step, in the cell's shorter edge; and last step
below which the peak is found."""

SHARE_OF_FRAMES = 0.5
"""Least share of the frames that have to show a site for it to have a mean."""

AVERAGING_PASSES = 20


def check_same_geometry(reference: Reference, settings: ScanSettings) -> None:
    """Refuse a field of another scan, but for its fly-back and line time.

    Parameters
    ----------
    reference : Reference
        The field that counts as undistorted.
    settings : ScanSettings
        The scan that is compared with it.

    Raises
    ------
    ValueError
        If other settings differ, naming each.
    """
    names = [n for n in reference.field.settings.differences(settings) if n not in MAY_DIFFER]
    if names:
        raise ValueError(
            f"the frame's settings differ from the reference field's in {', '.join(names)}"
        )


def against_field(
    samples: DistortionSamples, lattice: Lattice, reference: Reference
) -> DistortionSamples:
    """Move each site to where the scan that counts as undistorted shows it.

    Parameters
    ----------
    samples : DistortionSamples
        One frame's columns, their sites those of the lattice.
    lattice : Lattice
        Of the frame.
    reference : Reference
        The field that counts as undistorted.

    Returns
    -------
    DistortionSamples
        The same columns; sites in cells are no longer whole.

    Notes
    -----
    The lattice of a frame is its own gauge: it lies within about half a pixel of the field's, so
    that what is left of the gauge is half a pixel times the gradient of the field's displacement.
    """
    moved = _at_places(reference.field.displacement_px, samples.sites_px.T)
    return _at(samples, lattice, samples.sites_px + moved.T)


def whole_field(difference: DistortionField, reference: DistortionField) -> DistortionField:
    """Return the field of a scan of which the difference from another one is known.

    Parameters
    ----------
    difference : DistortionField
        Learnt where the other one counts as undistorted.
    reference : DistortionField
        The other one.

    Returns
    -------
    DistortionField
        ``d(u) = r(u) + difference(u + r(u))``; its error is that of the difference.
    """
    places = np.add(np.indices(reference.valid.shape), reference.displacement_px, dtype=np.float64)
    moved = _at_places(difference.displacement_px, places)
    seen = map_coordinates(difference.valid.astype(np.uint8), places, order=0, mode="constant")
    return replace(
        difference,
        displacement_px=(reference.displacement_px + moved).astype(np.float32),
        valid=reference.valid & (seen > 0),
    )


def _at_places(displacement_px: npt.NDArray[np.float32], places: Array) -> Array:
    """Interpolate a field's displacement at some places, (2, ...)."""
    return np.stack(
        [
            map_coordinates(axis.astype(np.float64), places, order=3, mode="nearest")
            for axis in displacement_px
        ]
    )


def against_filtered_image(
    samples: DistortionSamples,
    indexed: IndexedColumns,
    image: npt.NDArray[np.float32],
    reference: FourierFiltered,
) -> DistortionSamples:
    """Move each site to where the Fourier-filtered image shows its column.

    Parameters
    ----------
    samples : DistortionSamples
        One frame's columns, their sites those of the lattice.
    indexed : IndexedColumns
        The same columns.
    image : ndarray of float32, shape (ny, nx)
        The frame.
    reference : FourierFiltered
        How wide the masks are.

    Returns
    -------
    DistortionSamples
        Without the columns that the filtered image does not show.

    Raises
    ------
    UnusableFrameError
        If a column is half a cell or more from its site in the lattice.

    Notes
    -----
    Where sublattices overlap their peaks are not quite the columns' places: each sublattice's mean
    difference is taken out. What is smoother than the filter stays in the sites.
    """
    half = 0.5 * _cell(indexed.lattice)
    largest = float(np.linalg.norm(samples.displacement_px, axis=1).max())
    if largest >= half:
        raise UnusableFrameError(
            f"a column is displaced by {largest:.1f} px, and a Fourier-filtered image counts as "
            f"undistorted only below half a cell ({half:.1f} px)"
        )
    sign = 1.0 if indexed.columns.polarity == "bright" else -1.0
    filtered = sign * filtered_image(image, indexed.lattice, mask_radius=reference.mask_radius)
    places, found = _peaks(filtered, samples.observed_px, _cell(indexed.lattice))
    for number in np.unique(indexed.sublattice):
        mine = found & (indexed.sublattice == number)
        places[mine] += (samples.observed_px[mine] - places[mine]).mean(axis=0)
    return _at(samples, indexed.lattice, places).subset(found)


def filtered_image(
    image: npt.NDArray[np.float32], lattice: Lattice, *, mask_radius: float
) -> Array:
    """Keep only what lies near the lattice's spots in the Fourier transform of an image.

    Parameters
    ----------
    image : ndarray of float32, shape (ny, nx)
        The frame.
    lattice : Lattice
        Whose reciprocal vectors are the spots.
    mask_radius : float
        Standard deviation of the Gaussian around each spot, in shortest reciprocal vectors.

    Returns
    -------
    ndarray, shape (ny, nx)
        The filtered image.

    Notes
    -----
    Masks at all spots average the image over lattice translations, with a Gaussian of standard
    deviation ``1 / (2 pi radius)`` as weight. The frame is padded by zeros, and the same average of
    a frame of ones is divided out: at the rim the translations that stay inside count alone.
    """
    spots = np.asarray(
        np.linalg.inv(lattice.basis_px), dtype=np.float64
    )  # columns are the reciprocal vectors, periods per px
    radius = mask_radius * _shortest(spots)
    pad = int(np.ceil(PADDING / (2 * np.pi * radius)))
    shape = tuple(next_fast_len(n + pad, real=True) for n in image.shape)
    mask = _mask(shape, spots, radius)
    ny, nx = image.shape
    mean = float(image.mean())
    seen, weight = (
        irfft2(rfft2(one, s=shape) * mask, s=shape)[:ny, :nx]
        for one in (image.astype(np.float64) - mean, np.ones(image.shape))
    )
    return np.asarray(mean + seen / weight)


def against_average(frames: Sequence[DistortionSamples]) -> list[DistortionSamples]:
    """Move each site to its mean place over the frames, their drift taken out.

    Parameters
    ----------
    frames : sequence of DistortionSamples
        Frames of one stack, their sites in one cell.

    Returns
    -------
    list of DistortionSamples
        Without sites that fewer than half of the frames show. All have one origin.

    Raises
    ------
    UnusableFrameError
        If there are fewer than two frames.
    """
    if len(frames) < 2:
        raise UnusableFrameError("a stack's average needs at least two usable frames")
    sites = np.concatenate([np.round(one.crystal_sites, 6) for one in frames])
    unique, number = np.unique(sites, axis=0, return_inverse=True)
    of_frame = np.repeat(np.arange(len(frames)), [len(one) for one in frames])
    observed = np.concatenate([one.observed_px for one in frames])
    mean = _averages(observed, number.ravel(), of_frame)
    counts = np.bincount(number.ravel(), minlength=len(unique))
    often = counts >= SHARE_OF_FRAMES * len(frames)
    design = np.c_[np.ones(int(often.sum())), unique[often]]
    fitted = np.linalg.lstsq(design, mean[often], rcond=None)[0]
    cells = (mean - fitted[0]) @ np.linalg.inv(fitted[1:])
    ends = np.cumsum([len(one) for one in frames])[:-1]
    return [
        replace(one, crystal_sites=cells[mine], sites_px=mean[mine], broadening=None).subset(
            often[mine]
        )
        for one, mine in zip(frames, np.split(number.ravel(), ends), strict=True)
    ]


def _averages(observed: Array, site: npt.NDArray[np.intp], frame: npt.NDArray[np.intp]) -> Array:
    """Mean place of each site, and the frames' shifts, by alternating least squares."""
    shift = np.zeros((int(frame.max()) + 1, 2))
    mean = np.zeros((int(site.max()) + 1, 2))
    for _ in range(AVERAGING_PASSES):
        mean = _means(observed - shift[frame], site)
        shift = _means(observed - mean[site], frame)
        shift -= shift[0]
    return mean


def _means(values: Array, group: npt.NDArray[np.intp]) -> Array:
    sums = [np.bincount(group, weights=one) for one in values.T]
    return np.stack(sums, axis=1) / np.bincount(group)[:, None]


def _at(samples: DistortionSamples, lattice: Lattice, places: Array) -> DistortionSamples:
    cells = (places - lattice.origin_px) @ np.linalg.inv(lattice.basis_px)
    # these sites follow the displacements that broaden columns: widths do not tell of the rest
    return replace(samples, crystal_sites=cells, sites_px=places, broadening=None)


def _cell(lattice: Lattice) -> float:
    """Return the shortest edge of the reduced cell, px."""
    return float(np.linalg.norm(lattice.basis_px, axis=1).min())


def _shortest(spots: Array) -> float:
    return float(min(np.linalg.norm(spots @ one) for one in ([1, 0], [0, 1], [1, 1], [1, -1])))


def _mask(shape: tuple[int, ...], spots: Array, radius: float) -> Array:
    """Gaussians around all spots below the highest frequency, on the grid of `rfft2`."""
    ky, kx = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    most = int(np.ceil(HIGHEST_FREQUENCY / np.linalg.svd(spots, compute_uv=False)[-1]))
    orders = np.arange(-most, most + 1)
    numbers = np.stack(np.meshgrid(orders, orders), axis=-1).reshape(-1, 2)
    vectors = numbers @ spots.T
    vectors = vectors[np.linalg.norm(vectors, axis=1) < HIGHEST_FREQUENCY]
    in_y = np.exp(-0.5 * ((ky[:, None] - vectors[:, 0]) / radius) ** 2)
    in_x = np.exp(-0.5 * ((kx[:, None] - vectors[:, 1]) / radius) ** 2)
    return np.asarray(in_y @ in_x.T)


def _peaks(image: Array, start: Array, cell_px: float) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Climb from each place to the peak near it, (n, 2); and whether there is one."""
    ny, nx = image.shape
    spline = RectBivariateSpline(np.arange(ny), np.arange(nx), image, kx=3, ky=3)
    places, step = start.copy(), np.zeros_like(start)
    for _ in range(NEWTON_STEPS):
        step, is_peak = _newton(spline, places)
        length = np.linalg.norm(step, axis=1, keepdims=True)
        step *= np.minimum(1.0, LONGEST_STEP * cell_px / np.maximum(length, 1e-12))
        places += step
    settled = np.linalg.norm(step, axis=1) < SETTLED_PX
    near = np.linalg.norm(places - start, axis=1) < 0.5 * cell_px
    return places, settled & near & is_peak


def _newton(spline: RectBivariateSpline, places: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Step to the top of the parabola; uphill where the surface is none."""
    y, x = places.T
    slope = np.stack([spline.ev(y, x, dx=1), spline.ev(y, x, dy=1)], axis=1)
    yy, xx, yx = (spline.ev(y, x, dx=a, dy=b) for a, b in ((2, 0), (0, 2), (1, 1)))
    determinant = yy * xx - yx**2
    is_peak = (determinant > 0) & (yy < 0)
    safe = np.where(is_peak, determinant, 1.0)[:, None]
    across = np.stack(
        [yx * slope[:, 1] - xx * slope[:, 0], yx * slope[:, 0] - yy * slope[:, 1]], axis=1
    )
    uphill = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)
    return np.where(is_peak[:, None], across / safe, uphill), is_peak
