"""Ours beside the usual ways to correct a scan, by the truth, on images.

Nothing; the mean displacement of four other frames, interpolated between their columns; and a
Gaussian process of the place on the sample with one squared exponential and white noise, its
length, amplitude and noise learnt. All are given the columns found in the same frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from benchmarks.labels import labelled_corrected, off_px
from benchmarks.results import Measured
from benchmarks.scenes import sto
from benchmarks.sections import JUDGED, RIVALS, SECTIONS, Section
from nion_distortion.correction import correct_frame
from nion_distortion.distortion import DistortionField, DistortionSamples
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import refit_amplitudes
from nion_distortion.pipeline import Measured as MeasuredFrame
from nion_distortion.pipeline import measure_frame
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors, real_like, strong_flyback
from simulator.scoring import Score, score_map
from simulator.specimen import make_specimen

__all__ = ["Compared", "compare_rivals", "rivals"]

Array = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]

SCAN = ScanSettings(
    shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=60.0
)
PIXEL_PM = 1e3 * SCAN.pixel_size_nm
MOST_SITES = 600
FRAMES, SEEDS = 5, 4
OTHER_SEED = 100
"""Added for the other sample, whose scan walks and shakes in its own way."""

OURS = RIVALS[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one way leaves in one scan.

    Parameters
    ----------
    same_frame, other_frame, other_sample : Score
        By the beam's true path.
    columns_pm : tuple of float
        Columns found in the picture of the other sample: distance from their true places, rms per
        axis.
    """

    same_frame: Score
    other_frame: Score
    other_sample: Score
    columns_pm: tuple[float, float]


class _Way(NamedTuple):
    """What one way does to the frame that it learns from, and to any other."""

    own: Field
    steady: Field


def rivals(*, quick: bool) -> Mapping[str, Measured]:
    """Fill the tables of ours beside the usual ways.

    Parameters
    ----------
    quick : bool
        One scan of each kind.

    Returns
    -------
    Mapping of str to Measured
        Their cells, and what ours leaves over what the best of the others leaves.
    """
    found = compare_rivals(seeds=1 if quick else SEEDS)
    cells: dict[str, Measured] = {}
    for section, (_, ways) in zip(_sections(), found.items(), strict=True):
        for way, compared in ways.items():
            for column, text in zip(JUDGED, _texts(compared), strict=True):
                cells[section.key(way, column)] = Measured(beside=text)
    shares = [share for ways in found.values() for share in _over_best(ways)]
    each = ", ".join(f"{share:.2f}" for share in shares)
    return cells | {"rivals ours": Measured(value=max(shares), beside=f"each: {each}")}


def compare_rivals(*, seeds: int = SEEDS) -> Mapping[str, Mapping[str, list[Compared]]]:
    """Score all ways on the frame that they learnt from, another, and one of another sample.

    Parameters
    ----------
    seeds : int, default: 4
        Scans of each kind.

    Returns
    -------
    Mapping of str to Mapping of str to list of Compared
        By the scan's errors and the way; one for each seed.
    """
    return {
        "fly-back": _compared([_flyback(seed) for seed in range(seeds)]),
        "real-like": _compared([real_like(SCAN, seed=seed) for seed in range(seeds)]),
    }


def _sections() -> list[Section]:
    return [section for section in SECTIONS if section.case == "rivals"]


def _compared(scans: Sequence[ScanErrors]) -> dict[str, list[Compared]]:
    found: dict[str, list[Compared]] = {way: [] for way in RIVALS}
    for seed, errors in enumerate(scans):
        machine = sto(errors, seed=seed)
        shots = [machine.shot(SCAN, index) for index in range(FRAMES + 1)]
        specimen = make_specimen("pto_sto", rotation_rad=0.3 + 0.2 * seed, seed=seed)
        sample = Microscope(specimen, errors, seed=OTHER_SEED + seed).shot(SCAN, FRAMES)
        for name, way in zip(RIVALS, _ways(shots[:FRAMES]), strict=True):
            found[name].append(
                Compared(
                    same_frame=_score(way.own, shots[0]),
                    other_frame=_score(way.steady, shots[FRAMES]),
                    other_sample=_score(way.steady, sample),
                    columns_pm=_columns_pm(way.steady, sample),
                )
            )
    return found


def _flyback(seed: int) -> ScanErrors:
    """Return the strong fly-back with the slope that it has in a frame of twice this width."""
    errors = strong_flyback(SCAN, sign=1 if seed % 2 else -1, seed=seed)
    return replace(errors, line_flyback_nm=(0.0, 0.5 * errors.line_flyback_nm[1]))


def _ways(shots: Sequence[Shot]) -> tuple[_Way, ...]:
    """Learn in each way, in the order of the tables, from the columns of the same frames."""
    found = [measure_frame(shot.frame) for shot in shots]
    samples = [one.samples for one in found]
    nothing = np.zeros((2, *SCAN.shape_px), dtype=np.float32)
    others = np.mean([_interpolated(one) for one in samples[1:]], axis=0).astype(np.float32)
    process = _squared_exponential(samples[0])
    return (
        _Way(nothing, nothing),
        _Way(others, others),
        _Way(process, process),
        _Way(_own(found[0], shots[0]), found[0].model.stationary_field().displacement_px),
        _Way(*_ours(shots)),
    )


def _ours(shots: Sequence[Shot]) -> tuple[Field, Field]:
    """Learn from all frames as a live run does, from the judged one last."""
    found = measure_frame(shots[1].frame)
    for shot in (*shots[2:], shots[0]):
        found = measure_frame(shot.frame, model=found.model)
    steady = refit_amplitudes(found.model).stationary_field().displacement_px
    return _own(found, shots[0]), steady


def _own(found: MeasuredFrame, shot: Shot) -> Field:
    """Correct a frame as its report does: what its lines show is taken out as well."""
    model = found.model.with_lines(shot.frame.image, found.indexed)
    return model.frame_estimate().field.displacement_px


def _pixels() -> Array:
    return np.moveaxis(np.indices(SCAN.shape_px, dtype=np.float64), 0, -1).reshape(-1, 2)


def _interpolated(samples: DistortionSamples) -> Array:
    sites, off = samples.sites_px, samples.displacement_px
    inside = LinearNDInterpolator(sites, off)(_pixels())
    nearest = NearestNDInterpolator(sites, off)(_pixels())
    whole = np.where(np.isnan(inside), nearest, inside)
    return np.asarray(whole.T.reshape(2, *SCAN.shape_px))


def _squared_exponential(samples: DistortionSamples) -> Field:
    """Learn on some sites, then predict from all of them, each axis by itself."""
    some = np.random.default_rng(0).permutation(len(samples))[:MOST_SITES]
    field = np.empty((2, *SCAN.shape_px), dtype=np.float32)
    sites, off = samples.sites_px / SCAN.shape_px[0], samples.displacement_px
    for axis in range(2):
        kernel = ConstantKernel(1.0) * RBF(0.15) + WhiteKernel(0.01)
        learnt = GaussianProcessRegressor(kernel).fit(sites[some], off[some, axis]).kernel_
        process = GaussianProcessRegressor(learnt, optimizer=None).fit(sites, off[:, axis])
        field[axis] = _on_pixels(process, sites)
    return field


def _on_pixels(process: GaussianProcessRegressor, sites: Array) -> Array:
    """Equal to ``predict`` at all pixels: on a grid the squared exponential is a product."""
    amplitude, length = np.exp(process.kernel_.theta[0]), np.exp(process.kernel_.theta[1])
    rows, columns = (
        np.exp(-0.5 * ((np.arange(size)[:, None] / SCAN.shape_px[0] - along) / length) ** 2)
        for size, along in zip(SCAN.shape_px, sites.T, strict=True)
    )
    return np.asarray((amplitude * process.alpha_ * rows) @ columns.T)


def _valid(field: Field) -> npt.NDArray[np.bool_]:
    place = _pixels().T.reshape(2, *SCAN.shape_px) + field
    limits = np.array(SCAN.shape_px)[:, None, None] - 0.5
    return np.asarray(((place > -0.5) & (place < limits)).all(axis=0))


def _score(field: Field, shot: Shot) -> Score:
    place = shot.truth.place_px
    return score_map(field, _valid(field), place, pixel_size_nm=SCAN.pixel_size_nm)


def _columns_pm(field: Field, sample: Shot) -> tuple[float, float]:
    """Correct the other sample's image, and find its columns again."""
    none = np.zeros_like(field)
    whole = DistortionField(
        displacement_px=field,
        std_px=none,
        unremoved_std_px=none,
        valid=_valid(field),
        kind="stationary",
        settings=SCAN,
        reference="free",
        frame_id="",
    )
    slow, fast = off_px(labelled_corrected(sample, correct_frame(sample.frame, whole)))
    return PIXEL_PM * slow, PIXEL_PM * fast


def _texts(compared: Sequence[Compared]) -> tuple[str, str, str, str]:
    """Write the cells of one way."""
    every = ("same_frame", "other_frame", "other_sample")
    three = [_text([getattr(one, name) for one in compared]) for name in every]
    return three[0], three[1], three[2], _pair([one.columns_pm for one in compared])


def _text(scores: Sequence[Score]) -> str:
    before = np.array([np.square(score.before_pm).sum() for score in scores])
    share = 100 * before @ [score.share for score in scores] / before.sum()
    worst = np.median([score.worst_pm for score in scores])
    return f"{share:.2f} %, {_pair([score.rms_pm for score in scores])}, worst {worst:.0f}"


def _pair(both: Sequence[tuple[float, float]]) -> str:
    slow, fast = np.sqrt(np.mean(np.square(both), axis=0))
    return f"{slow:.1f}/{fast:.1f}"


def _over_best(ways: Mapping[str, Sequence[Compared]]) -> Iterator[float]:
    """Compare what ours leaves with the best of the usual ways, for each of what is judged."""
    usual = [compared for way, compared in ways.items() if not way.startswith("ours")]
    for name in ("same_frame", "other_frame", "other_sample"):
        ours, *others = (
            np.sqrt(np.mean([np.square(getattr(one, name).rms_pm).sum() for one in compared]))
            for compared in (ways[OURS], *usual)
        )
        yield float(ours / min(others))
