"""Frames, with the truth about each of them."""

from dataclasses import dataclass, field, fields
from functools import cached_property

import numba
import numpy as np
import numpy.typing as npt

from nion_distortion.frame import Frame, ScanSettings
from simulator.detector import Detector
from simulator.scan import ScanErrors, ScanPath
from simulator.specimen import REACH_NM, Sites, Specimen

__all__ = ["Exposure", "Microscope", "Shot", "TrueColumns", "Truth"]

Array = npt.NDArray[np.float64]

SOLVED_PX = 1e-7
"""Step below which the place where a column is seen counts as found."""

EDGE_NM = 0.5
"""Room around the scanned region for columns that reach into it."""

CHANNELS = {"HAADF": (1.0, 1.0), "MAADF": (0.7, 1.0), "BF": (0.5, -0.6)}
"""For each detector the power of the HAADF brightness, and the sign and strength of contrast."""

VACUUM_LOSS = 0.8
"""Share of the background that comes from the specimen, so that the vacuum has none of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrueColumns:
    """The columns that a frame shows.

    One that is seen nowhere is left out; where the beam turned back and saw one twice, it is
    listed once.

    Parameters
    ----------
    seen_px : ndarray, shape (n, 2)
        Where in the scan each column is seen, within 1e-6 px.
    place_px : ndarray, shape (n, 2)
        Where it is, in the nominal grid of frame 0.
    cell : ndarray of int, shape (n, 2)
        Its cell, in steps of the specimen's basis vectors.
    sublattice, grain : ndarray of int, shape (n,)
        Its row of the motif, and its grain.
    counts : ndarray, shape (n,)
        Expected electrons at its peak above (bright field: below) the background.
    displacement_px : ndarray, shape (n, 2)
        Its real displacement from the perfect lattice.
    """

    seen_px: Array
    place_px: Array
    cell: npt.NDArray[np.int64]
    sublattice: npt.NDArray[np.int64]
    grain: npt.NDArray[np.int64]
    counts: Array
    displacement_px: Array

    def __post_init__(self) -> None:
        for item in fields(self):
            array = np.array(getattr(self, item.name))
            array.flags.writeable = False
            object.__setattr__(self, item.name, array)


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What really happened in one frame; for tests and reports, never for the live path.

    Parameters
    ----------
    path : ScanPath
        Where the beam was.
    specimen : Specimen
        What lay under it.
    counts_at_peak : float
        Expected electrons at the peak of the brightest kind of column.
    channel : str
        The detector.
    """

    path: ScanPath
    specimen: Specimen
    counts_at_peak: float
    channel: str = "HAADF"

    @property
    def settings(self) -> ScanSettings:
        """The scan."""
        return self.path.settings

    def distortion_px(self, s: npt.ArrayLike) -> Array:
        """Return the stationary distortion D.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            D(s), px.
        """
        return self.path.distortion_px(s)

    def wander_px(self, s: npt.ArrayLike) -> Array:
        """Return what the beam did in this frame only.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            W(s), px.
        """
        return self.path.wander_px(s)

    def drift_px(self, s: npt.ArrayLike) -> Array:
        """Return how far the sample has moved in the image since frame 0 began.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            Drift at the scan time of s, px.
        """
        return self.path.drift_px(s)

    def place_px(self, s: npt.ArrayLike) -> Array:
        """Return the place on the sample.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            ``s - D(s) - W(s) - drift(s)``, px of the nominal grid of frame 0.
        """
        return self.path.place_px(s)

    def stationary_place_px(self, s: npt.ArrayLike) -> Array:
        """Return the place on the sample if D were all.

        Parameters
        ----------
        s : array_like, shape (n, 2)
            Places in the scan (y, x), px.

        Returns
        -------
        ndarray, shape (n, 2)
            ``s - D(s)``, px.
        """
        s = np.asarray(s, dtype=np.float64)
        return s - self.path.distortion_px(s)

    @cached_property
    def columns(self) -> TrueColumns:
        """The columns inside the scan."""
        ny, nx = self.settings.shape_px
        rim = np.concatenate(
            [
                np.stack(np.meshgrid([0.0, ny - 1.0], np.arange(float(nx))), -1).reshape(-1, 2),
                np.stack(np.meshgrid(np.arange(float(ny)), [0.0, nx - 1.0]), -1).reshape(-1, 2),
            ]
        )
        sites, place = _sites_under(self.specimen, self.settings, self.place_px(rim))
        seen, solved = _solve(self.path, place)
        inside = ((seen >= -0.5) & (seen <= np.array([ny, nx]) - 0.5)).all(1) & solved
        power, contrast = CHANNELS[self.channel]
        return TrueColumns(
            seen_px=seen[inside],
            place_px=place[inside],
            cell=sites.cell[inside],
            sublattice=sites.sublattice[inside],
            grain=sites.grain[inside],
            counts=abs(contrast) * self.counts_at_peak * sites.brightness[inside] ** power,
            displacement_px=_turned(sites.displacement_nm[inside], self.settings),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """A frame and the truth about it.

    Parameters
    ----------
    frame : Frame
        What the product may see.
    truth : Truth
        What it may not.
    """

    frame: Frame
    truth: Truth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exposure:
    """A frame in the making: its rows can be had one after the other.

    Parameters
    ----------
    truth : Truth
        What happens in this frame.
    detector : Detector
        What records it.
    seed : tuple of int
        Decides the noise.
    """

    truth: Truth
    detector: Detector
    seed: tuple[int, ...]
    _grid_px: Array = field(init=False)
    _columns: "_Boxed" = field(init=False)

    def __post_init__(self) -> None:
        truth, grid = self.truth, self.truth.path.grid_px()
        corners = np.stack([grid.min((1, 2)), grid.max((1, 2))])
        sites, place = _sites_under(truth.specimen, truth.settings, corners)
        peak = sites.brightness ** CHANNELS[truth.channel][0]
        reach_px = REACH_NM / truth.settings.pixel_size_nm
        object.__setattr__(self, "_grid_px", grid)
        object.__setattr__(self, "_columns", _boxed(place, peak, sites.sublattice, reach_px))

    def expected(self, first: int, last: int) -> Array:
        """Return the expected electrons of some rows.

        Parameters
        ----------
        first, last : int
            The first row, and the one after the last.

        Returns
        -------
        ndarray, shape (last - first, nx)
            Expected electrons in each pixel.
        """
        contrast, specimen = CHANNELS[self.truth.channel][1], self.truth.specimen
        rows = self._grid_px[:, first:last]
        signal = _render(rows, self._columns, specimen.profile)
        if specimen.contamination or specimen.vacuum_fraction:
            position_nm = _position_nm(rows, self.truth.settings)
            vacuum = specimen.in_vacuum(position_nm)
            signal += specimen.layer(position_nm) - VACUUM_LOSS * self.detector.background * vacuum
        base = self.detector.background + (1.0 if contrast < 0 else 0.0)
        return np.maximum(self.detector.counts_at_peak * (base + contrast * signal), 0.0)

    def rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Return some rows as the detector reports them.

        Parameters
        ----------
        first, last : int
            The first row, and the one after the last.

        Returns
        -------
        ndarray of float32, shape (last - first, nx)
            The same values as in the whole frame.
        """
        expected = self.expected(first, last)
        # one stream of noise for each row, so that rows do not depend on how they are asked for
        read = [
            self.detector.read(line, np.random.default_rng([*self.seed, first + number]))
            for number, line in enumerate(expected)
        ]
        return np.stack(read)


@dataclass(frozen=True, slots=True, eq=False)
class Microscope:
    """A microscope whose distortion is known.

    Parameters
    ----------
    specimen : Specimen
        What lies under the beam.
    errors : ScanErrors, default: none
        What is wrong with the scan.
    detector : Detector, default: 50 counts at a peak
        What records it.
    seed : int, default: 0
        Decides, with the frame's index, everything that differs from frame to frame.
    """

    specimen: Specimen
    errors: ScanErrors = field(default_factory=ScanErrors)
    detector: Detector = field(default_factory=Detector)
    seed: int = 0

    def exposure(
        self,
        settings: ScanSettings,
        index: int = 0,
        start_s: float | None = None,
        channel: str = "HAADF",
        *,
        centre_nm: tuple[float, float] = (0.0, 0.0),
    ) -> Exposure:
        """Start a frame.

        Parameters
        ----------
        settings : ScanSettings
            The scan; its dwell time must be known.
        index : int, default: 0
            Number of the frame since the scan was started.
        start_s : float, optional
            Time of its first pixel, counted from the first pixel of frame 0; without it frames
            follow each other at once.
        channel : {"HAADF", "MAADF", "BF"}
            The detector.
        centre_nm : tuple of float, default: (0, 0)
            Where the scan's centre was moved to, along the image's axes (y, x).

        Returns
        -------
        Exposure
            Gives rows.

        Raises
        ------
        ValueError
            If the channel is not known, the index negative, or the dwell time unknown.
        """
        if channel not in CHANNELS:
            raise ValueError(f"channel must be one of {', '.join(CHANNELS)}, not {channel!r}")
        if index < 0:
            raise ValueError(f"index must not be negative, not {index}")
        start = index * (settings.frame_time_s or 0.0) if start_s is None else start_s
        path = ScanPath(
            errors=self.errors,
            settings=settings,
            index=index,
            start_s=start,
            seed=self.seed,
            centre_nm=centre_nm,
        )
        truth = Truth(
            path=path,
            specimen=self.specimen,
            counts_at_peak=self.detector.counts_at_peak,
            channel=channel,
        )
        seed = (list(CHANNELS).index(channel), self.seed, index)
        return Exposure(truth=truth, detector=self.detector, seed=seed)

    def shot(
        self,
        settings: ScanSettings,
        index: int = 0,
        start_s: float | None = None,
        channel: str = "HAADF",
    ) -> Shot:
        """Take a whole frame.

        Parameters
        ----------
        settings : ScanSettings
            The scan; its dwell time must be known.
        index : int, default: 0
            Number of the frame since the scan was started.
        start_s : float, optional
            Time of its first pixel, counted from the first pixel of frame 0; without it frames
            follow each other at once.
        channel : {"HAADF", "MAADF", "BF"}
            The detector.

        Returns
        -------
        Shot
            The frame with its truth; the same for the same seed and index, always.
        """
        exposure = self.exposure(settings, index, start_s, channel)
        frame = Frame(
            image=exposure.rows(0, settings.shape_px[0]),
            settings=settings,
            index=index,
            time_s=exposure.truth.path.start_s + (settings.frame_time_s or 0.0),
            frame_id=f"simulated-{self.seed}-{index}",
            channel=channel,
        )
        return Shot(frame=frame, truth=exposure.truth)


def _centre_px(settings: ScanSettings) -> Array:
    """Return the place of the sample's origin in the frame's grid: the centre of the context."""
    if settings.subscan_px is None:
        return (np.array(settings.shape_px) - 1) / 2
    ny, nx, top, left = settings.subscan_px
    centre: Array = (np.array([ny, nx]) - 1) / 2 - np.array([top, left])
    return centre


def _scan_rotation(settings: ScanSettings) -> Array:
    c, s = np.cos(settings.rotation_rad), np.sin(settings.rotation_rad)
    return np.array([[c, s], [-s, c]])


def _turned(vector_nm: Array, settings: ScanSettings) -> Array:
    """Turn vectors on the sample into the frame's grid."""
    turned: Array = vector_nm @ _scan_rotation(settings) / settings.pixel_size_nm
    return turned


def _position_nm(grid_px: Array, settings: ScanSettings) -> Array:
    """Return positions on the sample, shape (ny, nx, 2), of places in the frame's grid."""
    c, s = np.cos(settings.rotation_rad), np.sin(settings.rotation_rad)
    y, x = (settings.pixel_size_nm * (grid_px[a] - _centre_px(settings)[a]) for a in range(2))
    return np.stack([c * y + s * x, c * x - s * y], axis=-1)


def _sites_under(
    specimen: Specimen, settings: ScanSettings, place_px: Array
) -> tuple[Sites, Array]:
    """Return the columns in and around a region of places, and their places in the frame's grid."""
    low, high = place_px.min(0), place_px.max(0)
    corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], low[1]], [high[0], high[1]]])
    position = (
        settings.pixel_size_nm * (corners - _centre_px(settings)) @ _scan_rotation(settings).T
    )
    size = np.ptp(position, axis=0) + 2 * EDGE_NM
    sites = specimen.sites((position.min(0) + position.max(0)) / 2, size)
    return sites, _turned(sites.position_nm, settings) + _centre_px(settings)


def _solve(path: ScanPath, place_px: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Find where in the scan each place is seen, and say which were found."""
    seen = place_px.copy()
    for _ in range(10):  # damped substitution comes near whatever the start
        seen += 0.7 * (place_px - path.place_px(seen))
    step = np.full(len(seen), np.inf)
    for _ in range(20):
        todo = np.flatnonzero(step >= SOLVED_PX)
        if not len(todo):
            break
        now = seen[todo]
        miss = place_px[todo] - path.place_px(now)
        move = np.linalg.solve(_slope(path, now), miss[..., None])[..., 0]
        seen[todo] += np.clip(move, -1, 1)
        step[todo] = np.abs(move).max(1)
    return seen, step < SOLVED_PX


def _slope(path: ScanPath, s: Array, h: float = 1e-4) -> Array:
    steps = np.eye(2) * h
    sides = [(path.place_px(s + step) - path.place_px(s - step)) / (2 * h) for step in steps]
    return np.stack(sides, axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Boxed:
    """Columns sorted into square boxes as wide as a column reaches."""

    columns: Array  # (n, 3): y, x, peak
    kinds: npt.NDArray[np.int64]  # (n,)
    starts: npt.NDArray[np.int64]  # (boxes + 1,), first column of each box
    corner_px: tuple[float, float]
    reach_px: float
    shape: tuple[int, int]


def _boxed(place_px: Array, peak: Array, kinds: npt.NDArray[np.int64], reach_px: float) -> _Boxed:
    low = place_px.min(0) if len(place_px) else np.zeros(2)
    boxes = np.floor((place_px - low) / reach_px).astype(np.int64)
    ny, nx = boxes.max(0, initial=0) + 1
    number = boxes[:, 0] * nx + boxes[:, 1]
    order = np.argsort(number, kind="stable")
    return _Boxed(
        columns=np.column_stack([place_px, peak])[order],
        kinds=kinds[order],
        starts=np.searchsorted(number[order], np.arange(ny * nx + 1)),
        corner_px=(float(low[0]), float(low[1])),
        reach_px=reach_px,
        shape=(int(ny), int(nx)),
    )


def _render(grid_px: Array, boxed: _Boxed, profile: Array) -> Array:
    """Sum the columns at every pixel's place; equals every profile evaluated everywhere."""
    signal = np.empty(grid_px.shape[1:])
    boxes = (*boxed.corner_px, boxed.reach_px, *boxed.shape)
    _gather(grid_px, (boxed.columns, boxed.kinds, boxed.starts), boxes, profile, signal)
    return signal


@numba.njit(cache=True, nogil=True)
def _gather(grid, sorted_columns, boxes, profile, signal):  # type: ignore[no-untyped-def]
    columns, kinds, starts = sorted_columns
    low_y, low_x, reach, ny, nx = boxes
    per_px2 = (profile.shape[1] - 1) / reach**2
    for row in range(signal.shape[0]):
        for column in range(signal.shape[1]):
            y, x = grid[0, row, column], grid[1, row, column]
            by, bx = int(np.floor((y - low_y) / reach)), int(np.floor((x - low_x) / reach))
            left, right = max(bx - 1, 0), min(bx + 2, nx)
            total = 0.0
            for i in range(max(by - 1, 0), min(by + 2, ny) if left < right else 0):
                for n in range(starts[i * nx + left], starts[i * nx + right]):
                    at = ((y - columns[n, 0]) ** 2 + (x - columns[n, 1]) ** 2) * per_px2
                    k = int(at)
                    if k < profile.shape[1] - 1:
                        line = profile[kinds[n]]
                        total += columns[n, 2] * (line[k] + (at - k) * (line[k + 1] - line[k]))
            signal[row, column] = total
