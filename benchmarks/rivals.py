"""Ours beside the usual ways to correct a scan, by the truth: ``python -m benchmarks.rivals``.

Nothing; the mean displacement of four other frames, interpolated between their columns; and a
Gaussian process of the place on the sample with one squared exponential and white noise, its
length, amplitude and noise learnt. All are given the same columns, without images; what is left
holds what the beam did in the judged frame only.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import threadpoolctl
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from benchmarks.samples import samples_of
from benchmarks.scenes import sto
from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.options import TERMS
from simulator.microscope import Microscope, Truth
from simulator.scan import ScanErrors, real_like, strong_flyback
from simulator.scoring import Score, score_map
from simulator.specimen import make_specimen

__all__ = ["compare_rivals"]

Array = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]

SCAN = ScanSettings(
    shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=60.0
)
MOST_SITES = 600
FRAMES = 5

JUDGED = ("same frame", "other frame", "other sample")


def compare_rivals(*, seeds: int = 4) -> Mapping[tuple[str, str, str], list[Score]]:
    """Score all ways on the frame that they learnt from, another, and one of another sample.

    Parameters
    ----------
    seeds : int, default: 4
        Scans of each kind.

    Returns
    -------
    Mapping of (str, str, str) to list of Score
        By the scan's errors, the way, and what was judged; one for each seed.
    """
    found: dict[tuple[str, str, str], list[Score]] = {}
    for seed in range(seeds):
        for kind, errors in (
            ("fly-back", _flyback(seed)),
            ("real-like", real_like(SCAN, seed=seed)),
        ):
            machine = sto(errors, seed=seed)
            truths = _truths(machine, errors, seed)
            for way, (own, steady) in _fields(machine).items():
                for judged, field in zip(JUDGED, (own, steady, steady), strict=True):
                    score = _score(field, truths[judged])
                    found.setdefault((kind, way, judged), []).append(score)
    return found


def _flyback(seed: int) -> ScanErrors:
    """Return the strong fly-back with the slope that it has in a frame of twice this width."""
    errors = strong_flyback(SCAN, sign=1 if seed % 2 else -1, seed=seed)
    return replace(errors, line_flyback_nm=(0.0, 0.5 * errors.line_flyback_nm[1]))


def _truths(machine: Microscope, errors: ScanErrors, seed: int) -> dict[str, Truth]:
    other = Microscope(make_specimen("pto_sto"), errors, seed=seed)
    shown = (machine, 0), (machine, FRAMES), (other, FRAMES + 1)
    return {
        name: one.exposure(SCAN, index).truth
        for name, (one, index) in zip(JUDGED, shown, strict=True)
    }


def _fields(machine: Microscope) -> dict[str, tuple[Field, Field]]:
    """Return what each way does to the frame it learns from, and to any other."""
    frames = [samples_of(machine, SCAN, index=index) for index in range(FRAMES)]
    samples, lattice, _ = frames[0]
    nothing = np.zeros((2, *SCAN.shape_px), dtype=np.float32)
    others = np.stack([_interpolated(one) for one, _, _ in frames[1:]])
    mean = np.asarray(others.mean(axis=0), dtype=np.float32)
    process = _squared_exponential(samples)
    model = one_frame = first_model(samples, lattice, TERMS)
    for one, its_lattice, _ in frames[1:]:
        model = model.updated(one, its_lattice)
    return {
        "nothing": (nothing, nothing),
        "mean of 4 other frames": (mean, mean),
        "one squared exponential": (process, process),
        "ours, one frame": (_own(one_frame), one_frame.stationary_field().displacement_px),
        "ours, 5 frames": (_own(one_frame), model.stationary_field().displacement_px),
    }


def _own(model: DistortionModel) -> Field:
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
        field[axis] = process.predict(_pixels() / SCAN.shape_px[0]).reshape(SCAN.shape_px)
    return field


def _score(field: Field, truth: Truth) -> Score:
    place = _pixels().T.reshape(2, *SCAN.shape_px) + field
    limits = np.array(SCAN.shape_px)[:, None, None] - 0.5
    valid = np.asarray(((place > -0.5) & (place < limits)).all(axis=0))
    return score_map(field, valid, truth.place_px, pixel_size_nm=SCAN.pixel_size_nm)


def main() -> None:
    """Print the table."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        found = compare_rivals()
    print("| scan | corrected by | judged on | removed % | left pm, slow/fast | worst pm |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (kind, way, judged), scores in sorted(found.items(), key=lambda item: item[0][0]):
        share = 100 * np.mean([score.share for score in scores])
        slow, fast = np.sqrt(np.mean([np.square(score.rms_pm) for score in scores], axis=0))
        worst = np.median([score.worst_pm for score in scores])
        print(f"| {kind} | {way} | {judged} | {share:.2f} | {slow:.1f}/{fast:.1f} | {worst:.0f} |")


if __name__ == "__main__":
    main()
