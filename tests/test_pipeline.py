import pickle
import threading
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nion_distortion.atoms import find_columns
from nion_distortion.calibrations.packing import pack_model, unpack_model
from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.lattice import index_columns
from nion_distortion.options import Options
from nion_distortion.pipeline import FrameReport, process_frame
from simulator.detector import Detector
from simulator.microscope import Microscope, Shot
from simulator.scan import ScanErrors
from simulator.specimen import make_specimen

Array = npt.NDArray[np.float64]

SCAN = ScanSettings(
    shape_px=(256, 256), field_of_view_nm=8.0, dwell_time_us=1.0, flyback_time_us=120.0
)
PM = 1e3 * SCAN.pixel_size_nm


def distorted() -> ScanErrors:
    """Fly-back with the slope of the project's strong one, in a frame of half its width."""
    tau_us = 0.06 * SCAN.shape_px[1]
    return ScanErrors(
        line_flyback_nm=(0.0, 0.2 * np.exp(120.0 / tau_us)),
        line_flyback_tau_us=tau_us,
        smooth_nm=0.03,
    )


def shot(
    name: str = "sto_001", errors: ScanErrors | None = None, *, index: int = 0, **known: Any
) -> Shot:
    specimen = make_specimen(name, rotation_rad=known.pop("turn_rad", 0.05), **known)
    machine = Microscope(specimen, distorted() if errors is None else errors)
    return machine.shot(SCAN, index)


@cache
def first() -> tuple[FrameReport, Shot]:
    """One good frame; made once, and nobody can alter it."""
    good = shot()
    return process_frame(good.frame), good


def field_pixels(field: Any) -> tuple[Array, Array]:
    """Valid pixels u and the places s(u) in the scan that they show, (n, 2)."""
    y, x = np.nonzero(field.valid)
    pixels = np.stack([y, x], axis=1).astype(np.float64)
    return pixels, pixels + field.displacement_px[:, y, x].T


def without_affine(values: Array, places: Array) -> Array:
    affine = np.c_[np.ones(len(places)), places]
    return np.asarray(values - affine @ np.linalg.lstsq(affine, values, rcond=None)[0])


# a good frame


def test_a_good_frame_is_reported_in_full() -> None:
    report, good = first()
    assert report.unusable is None
    for name in ("columns", "indexed", "samples", "model", "field", "corrected", "drift_nm"):
        assert getattr(report, name) is not None
    assert report.samples is not None
    assert report.indexed is not None
    assert len(report.samples) == len(report.indexed.indices)
    assert report.columns is not None
    assert len(report.columns) > 0.95 * len(good.truth.columns.seen_px)
    assert len(report.samples) > 0.99 * len(report.columns)
    assert report.field is not None
    assert (report.field.kind, report.field.frame_id) == ("frame", good.frame.frame_id)
    assert report.drift_nm is not None
    assert not report.drift_nm.any()
    assert not report.drift_ambiguous


def test_counts_are_those_that_the_detector_saw() -> None:
    report, _ = first()
    assert report.effective_counts is not None
    assert report.effective_counts.value == pytest.approx(50, rel=0.1)
    assert report.effective_counts.std is not None


def test_the_frame_is_corrected() -> None:
    report, good = first()
    assert report.field is not None
    pixels, seen = field_pixels(report.field)
    left = without_affine(good.truth.place_px(seen), pixels)
    raw = without_affine(good.truth.place_px(pixels), pixels)
    assert 1 - (left**2).sum() / (raw**2).sum() > 0.998


def test_the_raw_image_is_not_altered() -> None:
    good = shot(index=3)
    kept = good.frame.image.copy()
    process_frame(good.frame)
    np.testing.assert_array_equal(good.frame.image, kept)


def test_a_report_survives_a_pickle_bit_by_bit() -> None:
    report, _ = first()
    again = pickle.loads(pickle.dumps(report))
    np.testing.assert_array_equal(again.field.displacement_px, report.field.displacement_px)  # type: ignore[union-attr]
    np.testing.assert_array_equal(again.corrected.image, report.corrected.image)  # type: ignore[union-attr]
    assert again.off_by_pm == report.off_by_pm
    for one in (report, again):
        with pytest.raises(ValueError, match="read-only"):
            one.corrected.image[0, 0] = 1  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="read-only"):
            one.drift_nm[0] = 1  # type: ignore[index]


def test_eight_threads_give_identical_bits() -> None:
    report, good = first()
    images: dict[int, Any] = {}

    def work(number: int) -> None:
        images[number] = process_frame(good.frame)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 8
    for other in images.values():
        np.testing.assert_array_equal(other.corrected.image, report.corrected.image)  # type: ignore[union-attr]
        np.testing.assert_array_equal(other.field.std_px, report.field.std_px)  # type: ignore[union-attr]
        assert other.corrected_pm == report.corrected_pm


def test_a_frame_without_a_name_still_gets_its_own_field() -> None:
    _, good = first()
    report = process_frame(replace(good.frame, frame_id="", index=7, provenance={}))
    assert report.field is not None
    assert report.corrected is not None
    assert report.field.frame_id == "frame 7"


def test_nearest_keeps_whole_pixels() -> None:
    report, good = first()
    nearest = process_frame(good.frame, model=report.model, options=Options(resample="nearest"))
    assert nearest.corrected is not None
    inside = nearest.corrected.image[nearest.corrected.valid]
    assert np.isin(inside, good.frame.image).all()


def test_terms_that_are_not_wanted_are_not_used() -> None:
    _, good = first()
    report = process_frame(good.frame, options=Options(terms=frozenset({"smooth"})))
    assert report.model is not None
    assert report.model.basis.walk_modes == 0
    assert report.model.basis.terms == frozenset({"smooth"})


def test_guesses_of_the_columns_may_come_from_elsewhere() -> None:
    _, good = first()
    asked = []

    def detect(image: npt.NDArray[np.float32]) -> Array:
        asked.append(image.shape)
        return good.truth.columns.seen_px + 0.3

    report = process_frame(good.frame, options=Options(detect=detect))
    assert asked
    assert report.unusable is None


# frames that cannot be measured


def blank(rng: np.random.Generator) -> npt.NDArray[Any]:
    return rng.poisson(20.0, SCAN.shape_px).astype(np.float32)


def spots(rng: np.random.Generator) -> npt.NDArray[Any]:
    """Columns at random: many, but of no lattice."""
    y, x = np.indices(SCAN.shape_px)
    image = np.full(SCAN.shape_px, 8.0)
    for cy, cx in rng.uniform(0, 256, (250, 2)):
        image += 50 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.6**2))
    return rng.poisson(image)


def handful(rng: np.random.Generator) -> npt.NDArray[Any]:
    y, x = np.indices(SCAN.shape_px)
    image = np.full(SCAN.shape_px, 8.0)
    for cy in (100, 112.5, 125):
        for cx in (90, 102.5, 115):
            image += 50 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.6**2))
    return rng.poisson(image)


UNUSABLE = {"blank": blank, "without a lattice": spots, "too few columns": handful}


@pytest.mark.parametrize("what", list(UNUSABLE))
def test_a_frame_that_cannot_be_measured_says_why_and_gives_no_picture(what: str) -> None:
    image = UNUSABLE[what](np.random.default_rng(1))
    report = process_frame(Frame(image=image, settings=SCAN, frame_id="bad"))
    assert report.unusable
    assert report.field is None
    assert report.corrected is None
    assert report.model is None


@pytest.mark.parametrize("what", list(UNUSABLE))
def test_a_frame_that_cannot_be_measured_is_corrected_by_what_is_known(what: str) -> None:
    model = first()[0].model
    assert model is not None
    image = UNUSABLE[what](np.random.default_rng(2))
    report = process_frame(Frame(image=image, settings=SCAN, frame_id="bad"), model=model)
    assert report.unusable
    assert "calibration" not in report.unusable
    assert report.model is model
    assert report.samples is None
    assert report.field is not None
    assert report.field.kind == "stationary"
    np.testing.assert_array_equal(
        report.field.displacement_px, model.stationary_field().displacement_px
    )
    assert report.corrected is not None
    assert report.corrected.image.shape == SCAN.shape_px


def test_a_small_frame_is_refused_with_its_size() -> None:
    settings = ScanSettings(shape_px=(63, 80), field_of_view_nm=3.0)
    image = np.random.default_rng(0).poisson(20, (63, 80)).astype(np.float32)
    report = process_frame(Frame(image=image, settings=settings))
    assert report.unusable == "the image has 63 x 80 pixels: at least 64 x 64 are needed"


def test_a_model_of_another_scan_is_refused_by_name() -> None:
    report, good = first()
    other = replace(SCAN, dwell_time_us=2.0, rotation_rad=0.2)
    frame = replace(good.frame, settings=other, provenance={})
    with pytest.raises(ValueError, match=r"settings differ.* in dwell_time_us, rotation_rad$"):
        process_frame(frame, model=report.model)


def test_a_stack_in_one_image_is_refused() -> None:
    frame = Frame(image=np.zeros((256, 256, 3), np.float32), settings=SCAN)
    with pytest.raises(ValueError, match=r"must be 2-D to find columns, not of shape \(256, 256"):
        process_frame(frame)


# What the columns of a live scan are like


def test_the_next_frame_begins_with_what_its_columns_were_like() -> None:
    model = first()[0].model
    for index in range(1, 4):
        report = process_frame(shot(index=index).frame, model=model)
        model = report.model
        assert report.columns is not None
        assert model is not None
        assert model.column_shape is report.columns.shape
    assert report.columns is not None
    assert report.columns.shape is not None
    assert (report.columns.shape.frames, report.columns.shape.lessons) == (4, 3)
    assert model is not None
    assert unpack_model(pack_model(model)).column_shape is None  # of what sample, nobody knows


def test_a_frame_that_comes_again_teaches_nothing_though_its_fits_begin_elsewhere() -> None:
    model = first()[0].model
    for index in range(1, 3):
        model = process_frame(shot(index=index).frame, model=model).model
    anew = process_frame(shot(index=2).frame).columns
    report = process_frame(shot(index=2).frame, model=model)
    assert report.columns is not None
    assert anew is not None
    assert not np.array_equal(report.columns.positions_px, anew.positions_px)
    assert model is not None
    assert report.model is not None
    assert report.model.frames == model.frames == 3


# another sample


def test_an_unknown_sample_needs_no_lattice_and_teaches_nothing() -> None:
    model = first()[0].model
    assert model is not None
    frame = Frame(image=blank(np.random.default_rng(3)), settings=SCAN, frame_id="other")
    report = process_frame(frame, model=model, options=Options(sample="unknown"))
    assert report.unusable is None
    assert report.model is model
    for name in ("columns", "indexed", "samples"):
        assert getattr(report, name) is None
    assert report.drift_nm is None
    assert report.field is not None
    assert report.field.kind == "stationary"
    assert report.corrected is not None


def test_an_unknown_sample_without_a_calibration_is_left_alone() -> None:
    report = process_frame(first()[1].frame, options=Options(sample="unknown"))
    assert report.unusable is not None
    assert "no calibration matches" in report.unusable
    for name in ("field", "corrected", "model"):
        assert getattr(report, name) is None


def columns_at(image: npt.NDArray[Any], expected_px: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Find the column nearest to each expected place, and say which were found within 3 px."""
    found = find_columns(image).positions_px
    distance = np.linalg.norm(found[None] - expected_px[:, None], axis=2)
    nearest = distance.argmin(axis=1)
    return found[nearest] - expected_px, distance.min(axis=1) < 3.0


def test_what_was_learnt_on_one_sample_leaves_the_displacements_of_another() -> None:
    """PbTiO3/SrTiO3: the strain step and the polar shift are the user's data."""
    model = first()[0].model
    for index in (1, 2):
        model = process_frame(shot(index=index).frame, model=model).model
    other = shot("pto_sto", index=11, turn_rad=0.0)
    report = process_frame(other.frame, model=model, options=Options(sample="unknown"))
    assert report.corrected is not None
    pixels, seen = field_pixels(report.field)
    shown = other.truth.stationary_place_px(seen)
    assert np.sqrt((without_affine(shown, pixels) ** 2).sum(axis=1).mean()) * PM < 4.0
    # each column stands in the picture where it really is, up to an affine map of the frame
    to_picture = np.linalg.lstsq(np.c_[np.ones(len(seen)), shown], pixels, rcond=None)[0]
    truth = other.truth.columns
    expected = np.c_[np.ones(len(truth.place_px)), truth.place_px] @ to_picture
    inside = ((expected > 20) & (expected < 235)).all(axis=1)
    off, found = columns_at(report.corrected.image, expected[inside])
    assert found.mean() > 0.9
    real = truth.displacement_px[inside][found]
    polar = np.linalg.norm(real, axis=1) > 25 / PM
    assert 0.2 < polar.mean() < 0.8
    for part in (off[found][polar], off[found][~polar]):
        assert np.abs(np.median(part, axis=0)).max() * PM < 4.0


def test_a_zigzag_survives_the_correction_of_its_own_frame() -> None:
    amplitude_nm = 0.02
    one = shot("zigzag", amplitude_nm=amplitude_nm)
    report = process_frame(one.frame)
    assert report.unusable is None
    assert report.corrected is not None
    columns = find_columns(report.corrected.image)
    indexed = index_columns(columns, SCAN.shape_px)
    ideal = indexed.lattice.positions_px(indexed.crystal_sites)
    off = indexed.columns.positions_px - ideal
    sign = 1.0 - 2.0 * (indexed.indices.sum(axis=1) % 2)
    inner = ((indexed.columns.positions_px > 20) & (indexed.columns.positions_px < 236)).all(axis=1)
    alternating = np.abs((sign[:, None] * off)[inner].mean(axis=0))
    assert np.linalg.norm(alternating) * PM == pytest.approx(1e3 * amplitude_nm, abs=2.0)


# several frames


def test_drift_is_that_of_the_sample() -> None:
    seconds = SCAN.frame_time_s
    assert seconds is not None
    steady = replace(distorted(), drift_nm_s=(0.04 / seconds, -0.025 / seconds))
    model, offsets, truths = None, [], []
    centre = np.array([[127.5, 127.5]])
    for index in range(4):
        one = shot(errors=steady, index=index)
        report = process_frame(one.frame, model=model)
        model = report.model
        assert report.drift_nm is not None
        assert not report.drift_ambiguous
        offsets.append(report.drift_nm)
        truths.append(one.truth.drift_px(centre)[0] * SCAN.pixel_size_nm)
    moved = np.array(truths) - truths[0]
    assert np.abs(moved[-1]).max() > 0.1
    np.testing.assert_allclose(1e3 * np.array(offsets), 1e3 * moved, atol=5.0)


def test_gain_and_offset_of_the_detector_change_nothing() -> None:
    specimen = make_specimen("sto_001", rotation_rad=0.05)
    detector = Detector(gain=27.0, offset=14700.0)
    other = Microscope(specimen, distorted(), detector=detector).shot(SCAN)
    report, _ = first()
    again = process_frame(other.frame)
    assert again.field is not None
    assert report.field is not None
    both = report.field.valid & again.field.valid
    off = (again.field.displacement_px - report.field.displacement_px)[:, both]
    assert np.abs(off).max() < 0.02


def test_an_altered_image_is_not_corrected_by_a_models_flyback() -> None:
    report, good = first()
    cropped = replace(good.frame, provenance={"altered": "cropped"})
    with pytest.raises(ValueError, match=r"not the scan as it was made \(cropped\)"):
        process_frame(cropped, model=report.model)
    alone = process_frame(cropped)
    assert alone.model is not None
    assert not alone.model.basis.terms & {"line_flyback", "frame_flyback"}
    later = process_frame(cropped, model=alone.model, options=Options(sample="unknown"))
    for told in (alone, later):
        assert told.advice is not None
        assert told.advice.sentence == (
            "no advice on the fly-back: it is not fitted, because the image is not the scan as it "
            "was made (cropped)"
        )


# trust


def test_a_report_says_what_holds_and_what_to_do() -> None:
    report, _ = first()
    assert report.model is not None
    assert (report.state, report.worth_it) == ("valid", True)
    assert "compared" in report.state_reason
    assert report.removed_pm is not None
    absent = {"frame_locked", "mains"}  # frames do not wait, and there is no hum
    assert set(report.removed_pm) == report.model.basis.terms - absent
    assert report.off_by_pm is not None
    assert max(report.removed_pm.values()) < 2 * report.off_by_pm.value
    assert report.advice is not None
    assert "us would leave < 5 pm" in report.advice.sentence
    assert report.hints is not None
    assert report.hints.verdict == "usable"
    assert report.hints.effective_counts == report.effective_counts


def test_a_scan_without_errors_is_not_worth_correcting() -> None:
    """Nothing is wrong with it, so what is taken out is noise; the report says so."""
    report = process_frame(shot(errors=ScanErrors()).frame)
    assert report.worth_it is False


def test_nothing_known_is_state_none() -> None:
    report = process_frame(shot().frame, options=Options(sample="unknown"))
    assert (report.state, report.worth_it, report.advice) == ("none", None, None)
    assert "nothing is known" in report.state_reason


def test_an_unknown_sample_is_corrected_by_what_its_calibration_is_still_worth() -> None:
    """A day later the same calibration claims a larger error, and the model stays as it is."""
    before, good = first()
    assert before.model is not None
    begun_s = before.model.ageing.time_s
    assert begun_s is not None
    options = Options(sample="unknown")
    soon, late = (
        process_frame(
            replace(good.frame, time_s=begun_s + hours * 3600.0, provenance={}),
            model=before.model,
            options=options,
        )
        for hours in (0.0, 500.0)
    )
    assert soon.corrected_pm is not None
    assert late.corrected_pm is not None
    assert late.corrected_pm.value > soon.corrected_pm.value
    assert late.model is before.model


def test_a_mistilt_shows_in_the_hints() -> None:
    """The Ti-O columns moved by 20 pm against the Sr columns."""
    specimen = make_specimen("sto_001", rotation_rad=0.05)
    a_nm = float(np.linalg.norm(specimen.basis_nm[0]))
    motif = specimen.motif.copy()
    motif[1] += np.array([0.02, 0.0]) / a_nm
    tilted = Microscope(replace(specimen, motif=motif), distorted()).shot(SCAN)
    found = process_frame(tilted.frame).hints
    assert found is not None
    assert found.sublattice_offset_pm is not None
    assert found.sublattice_offset_std_pm is not None
    length = float(np.hypot(*found.sublattice_offset_pm))
    assert abs(length - 20.0) < 4 * found.sublattice_offset_std_pm + 1.0
    assert "mistilt" in found.sentence
    straight, _ = first()
    assert straight.hints is not None
    assert "mistilt" not in straight.hints.sentence


def test_a_fit_that_ran_away_says_so_and_gives_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran_away(_: DistortionModel) -> None:
        raise UnusableFrameError("the fit of the distortion ran away")

    monkeypatch.setattr(DistortionModel, "frame_estimate", ran_away)
    report = process_frame(shot("sto_001").frame)
    assert report.unusable == "the fit of the distortion ran away"
    assert report.columns is not None
    assert report.corrected is None
    assert report.model is None
