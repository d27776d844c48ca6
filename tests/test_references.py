"""Other things than a lattice that count as undistorted, against the simulator's truth."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from model_cases import SMALL, microscope, sampled, without_affine

import nion_distortion as nd
from nion_distortion.atoms import find_columns
from nion_distortion.calibrations.packing import pack_model, unpack_model
from nion_distortion.distortion import sample_distortion
from nion_distortion.gaussian_process import first_model
from nion_distortion.lattice import index_columns
from nion_distortion.options import TERMS
from nion_distortion.references import (
    against_average,
    against_field,
    against_filtered_image,
    whole_field,
)
from simulator.detector import Detector
from simulator.microscope import Microscope, Truth
from simulator.scan import ScanErrors
from simulator.scoring import Score, score_map
from simulator.specimen import make_specimen

Array = npt.NDArray[np.float64]

SETTINGS = nd.ScanSettings(
    shape_px=(160, 160), field_of_view_nm=5.0, dwell_time_us=1.0, flyback_time_us=120.0
)
SHORT, LONG = replace(SMALL, flyback_time_us=10.0), SMALL
TAU_US = 60.0


def machine(errors: ScanErrors) -> Microscope:
    specimen = make_specimen("sto_001", rotation_rad=0.1)
    return Microscope(specimen, errors, Detector(counts_at_peak=100.0))


def score(field: nd.DistortionField, place: Callable[[Array], Array]) -> Score:
    return score_map(
        field.displacement_px,
        field.valid,
        place,
        pixel_size_nm=field.settings.pixel_size_nm,
        std_px=np.maximum(field.std_px, 1e-6),  # splines of a standard deviation may touch zero
    )


def kept_by_filter(errors: ScanErrors, mask_radius: float) -> tuple[float, float, float]:
    """Share of the distortion's amplitude that stays in the reference; rms there and in all, px."""
    shot = machine(errors).shot(SETTINGS, 0)
    indexed = index_columns(find_columns(shot.frame.image), SETTINGS.shape_px)
    plain = sample_distortion(indexed, SETTINGS)
    reference = nd.FourierFiltered(mask_radius=mask_radius)
    found = against_filtered_image(plain, indexed, shot.frame.image, reference)
    assert len(found) >= 0.98 * len(plain)
    places = found.observed_px
    true = shot.truth.distortion_px(places) + shot.truth.wander_px(places)
    true = without_affine(true, places)
    pairs = zip(plain.observed_px, plain.crystal_sites, strict=True)
    rows = {tuple(seen): site for seen, site in pairs}
    sites = np.array([rows[tuple(seen)] for seen in places])
    kept = without_affine(found.sites_px, sites)
    share = float((kept * true).sum() / max((true**2).sum(), 1e-12))
    return share, float(np.std(kept)), float(np.std(true))


def test_what_a_filter_keeps_of_smooth_and_of_rough_distortion() -> None:
    """Measured on 13 cells: 25 % of what is smooth, 2 % of steps, 1 % of jitter."""
    smooth, _, _ = kept_by_filter(ScanErrors(smooth_nm=0.03), 0.05)
    steps, _, _ = kept_by_filter(ScanErrors(fast_axis_step_nm=0.01), 0.05)
    jitter, _, _ = kept_by_filter(ScanErrors(line_jitter_nm=0.01), 0.05)

    assert 0.15 < smooth < 0.35
    assert abs(steps) < 0.05
    assert abs(jitter) < 0.05


def test_a_wider_mask_keeps_more() -> None:
    shares = [kept_by_filter(ScanErrors(smooth_nm=0.03), radius)[0] for radius in (0.05, 0.1, 0.2)]

    assert shares == sorted(shares)
    assert shares[-1] > 0.85


def test_without_distortion_the_filtered_image_is_the_lattice() -> None:
    """Noise that it averages is left: a tenth of a single column's 0.1 px, or less, is wrong."""
    _, kept, _ = kept_by_filter(ScanErrors(), 0.05)

    assert kept < 0.04


def test_a_frame_against_its_filtered_image_loses_its_steps() -> None:
    shot = machine(ScanErrors(fast_axis_step_nm=0.02)).shot(SETTINGS, 0)
    report = nd.process_frame(shot.frame, options=nd.Options(reference=nd.FourierFiltered()))

    assert report.unusable is None
    assert report.field is not None
    assert report.field.reference == "Fourier filtered"
    assert score(report.field, shot.truth.place_px).share > 0.7
    assert report.model is not None
    again = nd.process_frame(shot.frame, model=report.model)  # goes on with the model's own
    assert again.samples is not None
    assert report.samples is not None
    whole = np.round(again.samples.crystal_sites * 2) / 2
    assert np.abs(again.samples.crystal_sites - whole).max() > 1e-4


def test_more_than_half_a_cell_is_refused() -> None:
    strong = ScanErrors(line_flyback_nm=(0.0, 0.4 * np.exp(4.0)), line_flyback_tau_us=30.0)
    shot = machine(strong).shot(SETTINGS, 0)
    options = nd.Options(reference=nd.FourierFiltered())

    assert nd.process_frame(shot.frame).unusable is None
    report = nd.process_frame(shot.frame, options=options)

    assert report.unusable is not None
    assert "only below half a cell" in report.unusable
    assert report.corrected is None


@pytest.mark.parametrize("radius", [0.0, -0.1, 0.3, np.nan])
def test_a_mask_that_makes_no_sense_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="mask_radius must be"):
        nd.FourierFiltered(mask_radius=radius)


def test_an_average_leaves_what_differs_between_frames() -> None:
    errors = ScanErrors(smooth_nm=0.03, walk_nm=0.02, drift_walk_nm=0.01)
    shots = [sampled(microscope(errors), index=k) for k in range(8)]
    after = against_average([samples for samples, _, _ in shots])

    before_px, left_px = walks_left(after, [truth for _, _, truth in shots])

    # 0.08 px of noise in a column, in the mean of eight frames as well
    assert left_px < 0.1
    assert before_px > 3 * left_px
    assert all(
        len(one) > 0.9 * len(samples) for one, (samples, _, _) in zip(after, shots, strict=True)
    )


def walks_left(
    frames: Sequence[nd.DistortionSamples], truths: Sequence[Truth]
) -> tuple[float, float]:
    """Rms of the stationary distortion in what was seen, and how far the rest is off the walk."""
    walks = [t.wander_px(f.observed_px) for f, t in zip(frames, truths, strict=True)]
    still = [t.distortion_px(f.observed_px) for f, t in zip(frames, truths, strict=True)]
    mean_walk: dict[tuple[float, ...], list[Array]] = {}
    for frame, walk in zip(frames, walks, strict=True):
        for site, one in zip(np.round(frame.crystal_sites, 6), walk, strict=True):
            mean_walk.setdefault(tuple(site), []).append(one)
    left = [
        without_affine(
            frame.displacement_px
            - walk
            + [np.mean(mean_walk[tuple(s)], axis=0) for s in np.round(frame.crystal_sites, 6)],
            frame.observed_px,
        )
        for frame, walk in zip(frames, walks, strict=True)
    ]
    whole = [without_affine(d, f.observed_px) for d, f in zip(still, frames, strict=True)]
    return float(np.std(np.concatenate(whole))), float(np.std(np.concatenate(left)))


@cache
def average_calibration() -> tuple[nd.DistortionModel, tuple[nd.Frame, ...]]:
    scope = machine(ScanErrors(smooth_nm=0.03, walk_nm=0.01))
    frames = tuple(scope.shot(SETTINGS, k).frame for k in range(4))
    return nd.calibrate(frames, options=nd.Options(reference=nd.StackAverage())), frames


def test_a_calibration_against_the_average_finds_nothing_stationary() -> None:
    model, _ = average_calibration()
    field = model.stationary_field()
    pm = 1e3 * SETTINGS.pixel_size_nm * field.displacement_px[:, field.valid]

    assert field.reference == "stack average"
    assert np.sqrt(np.mean(pm**2)) < 3.0  # of 21 pm for each axis


def test_one_frame_has_no_average() -> None:
    model, frames = average_calibration()
    options = nd.Options(reference=nd.StackAverage())

    for chosen, known in ((options, None), (nd.Options(), model)):
        with pytest.raises(ValueError, match="average is known to calibrate only"):
            nd.process_frame(frames[0], model=known, options=chosen)
    known_only = nd.process_frame(frames[0], model=model, options=nd.Options(sample="unknown"))
    assert known_only.corrected is not None
    with pytest.raises(nd.UnusableFrameError, match="needs at least two usable frames"):
        nd.calibrate(frames[:1], options=options)


def lagging() -> Microscope:
    return microscope(
        ScanErrors(line_flyback_nm=(0.0, 0.12), line_flyback_tau_us=TAU_US, smooth_nm=0.03)
    )


@cache
def long_flyback_field() -> tuple[nd.DistortionField, Truth]:
    samples, lattice, truth = sampled(lagging(), LONG)
    return first_model(samples, lattice, TERMS).stationary_field(), truth


@cache
def difference_model() -> tuple[nd.DistortionModel, Truth]:
    field, _ = long_flyback_field()
    reference = nd.Reference(field)
    samples, lattice, truth = sampled(lagging(), SHORT, index=1)  # other noise
    moved = against_field(samples, lattice, reference)
    return first_model(moved, lattice, TERMS, reference=reference), truth


def seen_at_long_flyback(scan_px: Array) -> Array:
    """Where the scan with long fly-back shows what the other shows at some places."""
    _, long = long_flyback_field()
    _, short = difference_model()
    places = short.stationary_place_px(scan_px)
    seen = places
    for _ in range(60):
        seen = places + long.distortion_px(seen)
    return seen


def test_a_reference_field_gives_the_difference_of_the_two_distortions() -> None:
    """Single frames claim too much: z is 0.53 to 0.79 over five seeds, the share 0.959 to 0.984."""
    model, _ = difference_model()
    field = model.stationary_field()
    judged = score(field, seen_at_long_flyback)

    assert field.reference == "another field"
    assert judged.share > 0.95
    assert judged.z is not None
    assert 0.4 < judged.z < 1.1


def test_reference_and_difference_make_the_whole_field() -> None:
    model, truth = difference_model()
    known, _ = long_flyback_field()
    whole = whole_field(model.stationary_field(), known)

    assert score(whole, truth.stationary_place_px).share > 0.95
    assert 0.9 < whole.valid.mean() < 1.0


def test_the_error_of_the_reference_is_in_the_difference() -> None:
    model, _ = difference_model()
    known, _ = long_flyback_field()

    alone = replace(model, reference=nd.Free()).stationary_field().std_px
    together = model.stationary_field().std_px
    np.testing.assert_allclose(together, np.hypot(alone, known.std_px), rtol=1e-5)


def test_images_are_compared_with_a_field_too() -> None:
    """Over four frames: one alone leaves 2 to 25 % of so small a difference (6 pm)."""
    known, _ = long_flyback_field()
    scores = []
    for index in range(4):
        frame = lagging().shot(SHORT, index).frame
        report = nd.process_frame(frame, options=nd.Options(reference=nd.Reference(known)))
        assert report.unusable is None
        assert report.field is not None
        scores.append(score(report.field, seen_at_long_flyback))
    assert np.mean([one.share for one in scores]) > 0.9
    assert all(one.z is not None and one.z < 1.0 for one in scores)


def test_a_field_of_another_scan_is_refused_by_name() -> None:
    known, _ = long_flyback_field()
    frame = lagging().shot(replace(SHORT, dwell_time_us=2.0), 0).frame
    options = nd.Options(reference=nd.Reference(known))

    with pytest.raises(ValueError, match=r"the reference field's in dwell_time_us$"):
        nd.process_frame(frame, options=options)
    with pytest.raises(ValueError, match='field must be "stationary"'):
        nd.Reference(replace(known, kind="frame", frame_id="one"))


def test_a_store_keeps_the_new_references_but_for_another_field() -> None:
    model, _ = difference_model()
    for reference in (nd.FourierFiltered(mask_radius=0.1), nd.StackAverage()):
        again = unpack_model(pack_model(replace(model, reference=reference)))
        assert again.reference == reference
        assert (
            again.stationary_field().reference
            == replace(model, reference=reference).stationary_field().reference
        )
    with pytest.raises(ValueError, match="against another field cannot be stored"):
        pack_model(model)
