"""The store: what it keeps, what it finds, and what no accident may do to it."""

import json
import multiprocessing
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from calibration_cases import model_for, tiny_model
from calibration_processes import (
    change_connections,
    save_on_a_full_disk,
    save_some,
    stop_before_commit,
    use_as_nobody,
)
from hypothesis import given
from hypothesis import strategies as st
from model_cases import DECAY, SMALL, flyback, flyback_model, microscope, model_of, sampled
from strategies import OPTIONAL, few, full_settings, one_change, scan_settings

from nion_distortion.calibrations import CalibrationStore, database, default_path, packing
from nion_distortion.calibrations import store as store_module
from nion_distortion.calibrations.encoding import decoded, encoded
from nion_distortion.calibrations.packing import pack_model, unpack_model
from nion_distortion.diagnostics import condition_of
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import DistortionModel, first_model
from nion_distortion.gaussian_process.ageing import MeasuredChange
from nion_distortion.gaussian_process.hyperparameters import NAMES, Hyperparameters
from nion_distortion.options import TERMS, AnyReference, Free, KnownCrystal, Options, Similarity
from nion_distortion.pipeline import process_frame
from simulator.microscope import Microscope
from simulator.specimen import make_specimen

SPAWN = multiprocessing.get_context("spawn")
LONGEST_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    return CalibrationStore(tmp_path / "calibrations.sqlite")


def one_sentence(text: str) -> bool:
    return "\n" not in text and not text.endswith(".")


def same(one: bytes, two: bytes) -> bool:
    """Compare files: pytest would spend minutes on explaining a difference."""
    return one == two


# what a calibration keeps


def test_a_loaded_model_has_the_same_field_and_learns_the_same(store: CalibrationStore) -> None:
    errors = flyback()
    lag_nm = errors.line_flyback_nm[1]
    machine = microscope(replace(errors, line_flyback_nm=(0.5 * lag_nm, lag_nm)))  # mixes the axes
    model, _ = model_of(machine, frames=3)
    again = store.get(store.save(model, time_s=5.0)).model
    before, after = model.stationary_field(), again.stationary_field()
    for name in ("displacement_px", "std_px", "unremoved_std_px"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-6)
    samples, lattice, _ = sampled(machine, index=3)
    one, two = model.updated(samples, lattice), again.updated(samples, lattice)
    np.testing.assert_allclose(two.stationary.mean, one.stationary.mean, atol=1e-8, rtol=0)
    np.testing.assert_allclose(two.stationary.covariance, one.stationary.covariance, atol=1e-8)
    largest = np.abs(one.known.blocks).max()  # the rest are sums in which much cancels
    np.testing.assert_allclose(two.known.blocks, one.known.blocks, rtol=0, atol=1e-11 * largest)
    assert again.known.cross is not None
    assert two.frames == one.frames == 4


@pytest.mark.parametrize(
    "reference",
    [Similarity(), KnownCrystal(a_nm=0.3905, b_nm=0.3905, a_std_nm=1e-4, b_std_nm=1e-4)],
)
def test_a_loaded_model_keeps_its_reference_and_what_it_measured(
    store: CalibrationStore, reference: AnyReference
) -> None:
    machine = microscope(flyback())
    model = model_against(machine, reference)
    known = store.get(store.save(model, time_s=5.0))
    again = known.model
    assert again.reference == reference
    assert again.coils is not None
    assert model.coils is not None
    np.testing.assert_array_equal(again.coils.values, model.coils.values)
    np.testing.assert_array_equal(again.coils.covariance, model.coils.covariance)
    before, after = model.stationary_field(), again.stationary_field()
    np.testing.assert_allclose(after.displacement_px, before.displacement_px, atol=1e-6)
    assert known.summary.reference == before.reference
    samples, lattice, _ = sampled(machine, index=1)
    one, two = model.updated(samples, lattice), again.updated(samples, lattice)
    np.testing.assert_allclose(two.stationary.mean, one.stationary.mean, atol=1e-8, rtol=0)
    assert two.frame_estimate().field.frame_id == "frame 1"


def model_against(machine: Microscope, reference: AnyReference) -> DistortionModel:
    samples, lattice, _ = sampled(machine)
    return first_model(samples, lattice, TERMS, reference=reference)


def test_a_loaded_model_has_nothing_of_the_live_run() -> None:
    model, _ = flyback_model()
    again = unpack_model(pack_model(model))
    assert (again.last, again.lattice, again.drift) == (None, None, None)
    assert again.frames == model.frames
    with pytest.raises(ValueError, match=r"^this model comes from a calibration and has no frame "):
        again.frame_estimate()
    samples, lattice, _ = sampled(microscope(flyback()), index=1)
    learnt = again.updated(samples, lattice)
    assert learnt.frame_estimate().field.frame_id == "frame 1"
    assert learnt.drift is not None
    assert not learnt.drift.offset_px.any()


def test_samples_come_back_as_exactly_as_columns_can_be_seen() -> None:
    model, _ = model_of(microscope(flyback()), frames=2)
    for before, after in zip(model.samples, unpack_model(pack_model(model)).samples, strict=True):
        assert (after.frame_id, after.time_s) == (before.frame_id, before.time_s)
        np.testing.assert_allclose(after.crystal_sites, before.crystal_sites, atol=1e-8)
        np.testing.assert_allclose(after.sites_px, before.sites_px, atol=1e-7)
        np.testing.assert_allclose(after.observed_px, before.observed_px, atol=1e-4)
        np.testing.assert_allclose(after.covariance_px2, before.covariance_px2, rtol=1e-6)


def test_a_frame_of_3300_columns_takes_64_kilobytes() -> None:
    model, _ = flyback_model()
    one, rng = model.samples[0], np.random.default_rng(0)
    many = np.resize(np.arange(len(one)), 3300)
    wide = replace(
        one,
        crystal_sites=one.crystal_sites[many],
        sites_px=one.sites_px[many],
        observed_px=rng.uniform(0, 512, (3300, 2)),  # nothing that could be compressed
        covariance_px2=rng.uniform(0, 1, (3300, 1, 1)) * np.eye(2),
    )
    packed = pack_model(replace(model, samples=(wide,)))["samples"]
    assert len(packed) <= 64_000


def test_samples_of_at_most_200_frames_are_kept_the_newest() -> None:
    model, _ = flyback_model()
    few_columns = {n: getattr(model.samples[0], n)[:20] for n in packing.MEASURED}
    short = replace(model.samples[0], **few_columns)
    many = tuple(replace(short, frame_id=str(k)) for k in range(203))
    again = unpack_model(pack_model(replace(model, samples=many, frames=203)))
    assert again.frames == 203
    assert [one.frame_id for one in again.samples] == [str(k) for k in range(3, 203)]


@pytest.mark.parametrize("far", [False, True])
def test_samples_without_a_lattice_come_back_too(*, far: bool) -> None:
    model, _ = flyback_model()
    one, rng = model.samples[0], np.random.default_rng(0)
    sites = rng.uniform(-9, 9, one.crystal_sites.shape) + 1e5 * far
    odd = replace(one, crystal_sites=sites, sites_px=rng.uniform(0, 99, sites.shape))
    (again,) = unpack_model(pack_model(replace(model, samples=(odd,)))).samples
    np.testing.assert_array_equal(again.crystal_sites, odd.crystal_sites)
    np.testing.assert_array_equal(again.sites_px, odd.sites_px)


def test_hyperparameters_are_kept_by_name(store: CalibrationStore) -> None:
    model, _ = flyback_model()
    known = store.get(store.save(model, time_s=0.0))
    np.testing.assert_array_equal(known.model.hyperparameters.logs, model.hyperparameters.logs)
    assert known.model.hyperparameters.floor_px == model.hyperparameters.floor_px
    given = known.summary.hyperparameters["walk"]
    assert given == pytest.approx(np.exp(model.hyperparameters.logs[:, NAMES.index("walk")]))


def altered(model_json: bytes, *path: str, **changes: Any) -> bytes:
    """Alter a part of a packed model; None takes a name away."""
    content = json.loads(model_json)
    part = content
    for step in path:
        part = part[step]
    for name, value in changes.items():
        part[name] = value
        if value is None:
            del part[name]
    return json.dumps(content).encode()


def test_a_term_that_an_older_version_did_not_have_gets_its_prior() -> None:
    model, _ = flyback_model()
    parts = pack_model(model)
    older = altered(parts["model"], "hyperparameters", "logs", walk_length=None)
    logs = unpack_model(parts | {"model": older}).hyperparameters.logs
    row = NAMES.index("walk_length")
    lines = model.settings.shape_px[0]
    typical = Hyperparameters.typical(model.settings.pixel_size_nm, lines).logs
    np.testing.assert_array_equal(logs[:, row], typical[:, row])
    others = np.delete(np.arange(len(NAMES)), row)
    np.testing.assert_array_equal(logs[:, others], model.hyperparameters.logs[:, others])


def with_posterior(model: DistortionModel) -> dict[str, bytes]:
    """Pack a model as versions did that stored the posterior of D beside what it follows from."""
    parts = pack_model(model)
    arrays = packing._unarchive(parts["arrays"])
    for name in ("mean", "covariance"):
        arrays[f"model.stationary.{name}"] = np.full_like(getattr(model.stationary, name), 7.0)
    named = {name: {"array": f"model.stationary.{name}"} for name in ("mean", "covariance")}
    older = altered(parts["model"], "fields", stationary={"Posterior": named})
    return parts | {"model": older, "arrays": packing._archive(arrays)}


def test_a_row_with_its_posterior_is_read_and_the_posterior_is_made_anew(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the stored one says: this one is wrong on purpose."""
    model, _ = flyback_model()
    monkeypatch.setattr(store_module, "pack_model", with_posterior)
    name = store.save(model, time_s=0.0)
    monkeypatch.undo()
    assert store.damaged() == {}
    known = store.get(name).model
    np.testing.assert_allclose(known.stationary.mean, model.stationary.mean, atol=1e-10)
    field, wanted = known.stationary_field(), model.stationary_field()
    np.testing.assert_allclose(field.displacement_px, wanted.displacement_px, atol=1e-6)
    np.testing.assert_allclose(field.std_px, wanted.std_px, rtol=1e-4)
    again = json.loads(pack_model(known)["model"])
    assert "stationary" not in again["fields"]


@pytest.mark.parametrize(
    ("path", "changes", "sentence"),
    [
        (("hyperparameters", "logs"), {"hum": [0.0, 0.0]}, "does not know the term 'hum'"),
        (("fields",), {"mood": 1}, "does not know 'DistortionModel.mood'"),
        (("fields", "basis", "Basis"), {"hum_hz": 50.0}, "does not know 'Basis.hum_hz'"),
        (("fields",), {"basis": {"Wavelets": {}}}, "does not know 'Wavelets'"),
        (("fields", "basis", "Basis"), {"decay": 0.1}, "functions of the place in the scan are"),
        (("fields",), {"known": None}, "KeyError: 'known'"),
    ],
)
def test_what_a_later_version_has_stored_is_refused_by_name(
    path: tuple[str, ...], changes: dict[str, Any], sentence: str
) -> None:
    parts = pack_model(flyback_model()[0])
    newer = altered(parts["model"], *path, **changes)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        unpack_model(parts | {"model": newer})


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        1 / 3,
        "two",
        (1, ("a", 2.5), [3, (4,)]),
        frozenset({"b", "a"}),
        {"a": (1, {"b": None})},
        Free(),
        Options(terms=frozenset({"smooth"})),
        full_settings(extra=(("lag_us", 0.1), ("path", ((0, 1), "raster")))),
    ],
)
def test_plain_values_and_options_come_back_as_they_were(value: object) -> None:
    plain = json.loads(json.dumps(encoded(value, {}, "value")))
    again = decoded(plain, {}, packing.KINDS)
    assert again == value
    assert type(again) is type(value)


def test_what_cannot_be_stored_is_named(store: CalibrationStore) -> None:
    with pytest.raises(
        ValueError, match=r"settings.extra.0.1 is a object, which cannot be stored$"
    ):
        store.save(model_for(full_settings(extra=(("odd", object()),))), time_s=0.0)
    assert store.list() == ()


def test_what_is_known_of_a_calibration_is_told(store: CalibrationStore) -> None:
    model, _ = flyback_model()
    seen = {
        "focus_nm": np.float32(3.5),
        "stage_nm": np.arange(2),
        "file": Path("a"),
        "on": {"b": 1},
    }
    name = store.save(model, time_s=7.5, sample="STO", note="after tuning", provenance=seen)
    (found,) = store.list()
    assert (found.calibration_id, found.sample, found.note) == (name, "STO", "after tuning")
    assert (found.time_s, found.frames, found.reference) == (7.5, 1, "free")
    assert found.settings == model.settings
    expected = {"focus_nm": 3.5, "stage_nm": [0, 1], "file": "a", "on": {"b": 1}}
    assert dict(found.provenance) == expected
    assert found.software
    again = pickle.loads(pickle.dumps(store.get(name)))
    assert again.summary.provenance == found.provenance
    assert (again.calibration_id, again.settings) == (name, model.settings)


def test_the_predicted_error_is_that_of_a_frame_that_it_corrects(store: CalibrationStore) -> None:
    model, _ = flyback_model()
    store.save(model, time_s=0.0)
    (found,) = store.list()
    frame = microscope(flyback()).shot(SMALL).frame
    report = process_frame(frame, model=model, options=Options(sample="unknown"))
    assert report.corrected_pm is not None
    assert found.predicted_error_pm == pytest.approx(report.corrected_pm.value, rel=0.02)
    assert found.field_error_pm is not None
    assert 0 < found.field_error_pm < report.corrected_pm.value


# what it finds


def test_the_newest_that_matches_is_found(store: CalibrationStore) -> None:
    full = full_settings()
    ids = [store.save(model_for(full), time_s=time_s) for time_s in (1.0, 3.0, 2.0)]
    store.save(model_for(full_settings(dwell_time_us=2.0)), time_s=9.0)
    found = store.find(full)
    assert found is not None
    assert found.calibration_id == ids[1]
    assert [one.time_s for one in store.list()] == [9.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize("empty", [True, False])
def test_without_a_match_nothing_is_found(store: CalibrationStore, *, empty: bool) -> None:
    if not empty:
        store.save(tiny_model(), time_s=0.0)
    other = full_settings(dwell_time_us=2.0, line_sync=None, extra=(("mode", "slow"),))
    assert store.find(other) is None
    nearest = store.nearest(other)
    assert (nearest is None) is empty
    if nearest is not None:
        names = ("dwell_time_us", "line_sync", "beam_lag_us", "mode")
        assert nearest.differences == names
        assert one_sentence(str(nearest))
        for part in (
            "dwell_time_us (1 there, 2 here)",
            "line_sync (True there, not reported here)",
            "beam_lag_us (1.5 there, not reported here)",
            "mode (fast there, slow here)",
        ):
            assert part in str(nearest)


def test_the_nearest_differs_least_and_is_the_newest_of_those(store: CalibrationStore) -> None:
    wanted = full_settings()
    two = {"dwell_time_us": 2.0, "rotation_rad": 0.1}
    store.save(model_for(full_settings(**two)), time_s=3.0)
    store.save(model_for(full_settings(rotation_rad=0.1)), time_s=1.0)
    newer = store.save(model_for(full_settings(dwell_time_us=2.0)), time_s=2.0)
    nearest = store.nearest(wanted)
    assert nearest is not None
    assert nearest.summary.calibration_id == newer
    assert nearest.differences == ("dwell_time_us",)


@pytest.fixture(scope="module")
def two_rows(tmp_path_factory: pytest.TempPathFactory) -> CalibrationStore:
    """A store with a calibration of a device that reports everything, and one of a silent one."""
    store = CalibrationStore(tmp_path_factory.mktemp("rows") / "calibrations.sqlite")
    store.save(model_for(full_settings()), time_s=1.0, sample="full")
    silent = dict.fromkeys((*OPTIONAL, "line_sync", "frame_sync", "subscan_px"))
    store.save(model_for(full_settings(**silent, extra=())), time_s=0.0, sample="silent")
    return store


def found_by(store: CalibrationStore, settings: ScanSettings) -> str | None:
    found = store.find(settings)
    return None if found is None else found.summary.sample


@few
@given(change=one_change())
def test_any_changed_field_is_no_match_and_is_named(
    two_rows: CalibrationStore, change: tuple[str, ScanSettings]
) -> None:
    name, changed = change
    assert two_rows.find(changed) is None
    nearest = two_rows.nearest(changed)
    assert nearest is not None
    assert nearest.summary.sample == "full"
    assert nearest.differences == (name,)
    assert f" differs in {name} (" in str(nearest)


@few
@given(data=st.data())
def test_a_jitter_of_1e_6_is_still_found(two_rows: CalibrationStore, data: st.DataObject) -> None:
    names = ("field_of_view_nm", "rotation_rad", *OPTIONAL)
    off = {n: 1 + data.draw(st.floats(-1e-6, 1e-6), label=n) for n in (*names, "lag")}
    full = full_settings()
    moved = replace(full, **{n: getattr(full, n) * off[n] for n in names})
    moved = replace(moved, extra=(("beam_lag_us", 1.5 * off["lag"]), ("mode", "fast")))
    assert found_by(two_rows, moved) == "full"
    nearest = two_rows.nearest(moved)
    assert nearest is not None
    assert nearest.differences == ()


@pytest.mark.parametrize("name", [*OPTIONAL, "line_sync", "frame_sync", "subscan_px"])
def test_unknown_on_one_side_is_not_found_on_both_it_is(
    two_rows: CalibrationStore, name: str
) -> None:
    (silent,) = (one.settings for one in two_rows.list() if one.sample == "silent")
    assert two_rows.find(full_settings(**{name: None})) is None
    assert two_rows.find(replace(silent, **{name: getattr(full_settings(), name)})) is None
    assert found_by(two_rows, silent) == "silent"
    found = two_rows.find(silent)
    assert found is not None
    assert (name in found.settings.unreported(silent)) == (name != "subscan_px")


@few
@given(settings=scan_settings())
def test_found_is_what_does_not_differ(two_rows: CalibrationStore, settings: ScanSettings) -> None:
    matches = [one for one in two_rows.list() if not one.settings.differences(settings)]
    assert (two_rows.find(settings) is not None) is bool(matches)
    nearest = two_rows.nearest(settings)
    assert nearest is not None
    fewest = min(len(one.settings.differences(settings)) for one in two_rows.list())
    assert len(nearest.differences) == fewest


@cache
def of_other_frames(seed: int) -> DistortionModel:
    """A calibration of one scan, each seed by other frames."""
    return model_of(microscope(flyback(), seed=seed), frames=3)[0]


def save_at(store: CalibrationStore, model: DistortionModel, hours: float) -> str:
    time_s = 1e9 + 3600 * hours
    aged = replace(model.ageing, time_s=time_s)
    return store.save(replace(model, ageing=aged), time_s=time_s + 60)


def found_change(store: CalibrationStore) -> MeasuredChange | None:
    known = store.find(SMALL)
    assert known is not None
    return known.model.ageing.measured


def test_the_rate_of_change_is_assumed_until_two_calibrations_are_known(
    store: CalibrationStore,
) -> None:
    save_at(store, of_other_frames(0), 0.0)
    assert found_change(store) is None
    save_at(store, model_for(full_settings()), 1.0)
    assert found_change(store) is None
    first = save_at(store, of_other_frames(1), 8.0)
    change = found_change(store)
    assert change is not None
    assert change.calibrations == 2
    assert change.hours == pytest.approx(8.0)
    assert 0 < change.per_hour < 0.05
    assert store.get(first).model.ageing.measured == change
    later = store.get(first).model.aged(1e9 + 3600 * 200)
    assert "measured from 2 calibrations over 8.0 h" in condition_of(later).reason


def test_a_model_keeps_the_rate_that_was_measured(store: CalibrationStore) -> None:
    change = MeasuredChange(per_hour=0.03, std=0.004, calibrations=3, hours=26.0)
    model = of_other_frames(0)
    name = store.save(replace(model, ageing=replace(model.ageing, measured=change)), time_s=1.0)
    assert store.get(name).model.ageing.measured == change


@pytest.mark.parametrize(("seed", "hours"), [(0, 8.0), (1, 0.1)])
def test_the_same_frames_or_minutes_say_nothing_of_a_rate(
    store: CalibrationStore, seed: int, hours: float
) -> None:
    save_at(store, of_other_frames(0), 0.0)
    save_at(store, of_other_frames(seed), hours)
    assert found_change(store) is None


def test_a_damaged_calibration_is_not_compared(
    store: CalibrationStore, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = save_at(store, of_other_frames(0), 0.0)
    save_at(store, of_other_frames(1), 8.0)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE contents SET content = X'00' WHERE id = ?", (damaged,))
    assert found_change(store) is None
    assert damaged in caplog.text


def test_device_priors_are_those_of_one_device_newest_first(store: CalibrationStore) -> None:
    model, _ = flyback_model()
    for dwell_us, device in ((1.0, "A"), (2.0, "A"), (4.0, "B"), (None, "A")):
        settings = replace(model.settings, dwell_time_us=dwell_us, device_id=device)
        store.save(replace(model, settings=settings), time_s=dwell_us or 9.0)
    found = store.device_priors("A")
    assert [one.dwell_time_us for one in found] == [2.0, 1.0]
    true_us = DECAY * SMALL.shape_px[1]
    assert [one.tau_us / one.dwell_time_us for one in found] == pytest.approx(
        [true_us] * 2, rel=0.15
    )
    slow, fast = found[0].amplitude_pm
    assert fast == pytest.approx(-125.0, rel=0.1)  # the beam lags by 0.125 nm
    assert abs(slow) < 10
    assert store.device_priors("C") == ()


def test_a_model_without_the_term_tells_nothing_of_the_flyback(store: CalibrationStore) -> None:
    samples, lattice, _ = sampled(microscope(flyback()))
    store.save(first_model(samples, lattice, TERMS - {"line_flyback"}), time_s=0.0)
    (found,) = store.list()
    assert (found.tau_us, found.amplitude_pm) == (None, None)
    assert store.device_priors("") == ()


# upkeep


def test_calibrations_can_be_named_annotated_and_deleted(store: CalibrationStore) -> None:
    name = store.save(tiny_model(), time_s=0.0)
    other = store.save(tiny_model(), time_s=1.0)
    store.rename(name, "SrTiO3")
    store.annotate(name[:6], "good")
    assert [(one.sample, one.note) for one in store.list()] == [("", ""), ("SrTiO3", "good")]
    assert store.damaged() == {}
    store.delete(other)
    assert [one.calibration_id for one in store.list()] == [name]
    for call in (store.get, store.delete, lambda one: store.rename(one, "x")):
        with pytest.raises(ValueError, match=rf"has no calibration {other}$"):
            call(other)


def test_the_first_letters_of_an_id_are_enough_where_they_are_one(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("abcd11", "abcd22", "abcd"):
        drawn = SimpleNamespace(hex=name)
        monkeypatch.setattr(store_module, "uuid", SimpleNamespace(uuid4=lambda it=drawn: it))
        store.save(tiny_model(), time_s=0.0)
    assert store.get("abcd1").calibration_id == "abcd11"
    assert store.get("abcd").calibration_id == "abcd"
    store.delete("abcd")
    with pytest.raises(ValueError, match=r"^calibration abcd could be abcd11 or abcd22$"):
        store.get("abcd")
    for call in (store.delete, store.whole_id):
        with pytest.raises(
            ValueError, match=r"^at least 4 letters of the id are needed, not 'abc'$"
        ):
            call("abc")
    assert store.whole_id("abcd2") == "abcd22"


def test_an_export_is_one_file_that_another_store_takes(
    store: CalibrationStore, tmp_path: Path
) -> None:
    names = [store.save(tiny_model(), time_s=float(k), sample=str(k)) for k in range(3)]
    file = store.export([names[2], names[0], names[2]], tmp_path / "for_you.sqlite")
    assert sorted(one.name for one in tmp_path.iterdir()) == [store.path.name, file.name]
    before = file.read_bytes()
    elsewhere = CalibrationStore(tmp_path / "new" / "folder" / "store.sqlite")
    assert set(elsewhere.import_(file)) == {names[0], names[2]}
    assert [one.sample for one in elsewhere.list()] == ["2", "0"]
    one, two = store.get(names[2]).model, elsewhere.get(names[2]).model
    np.testing.assert_array_equal(two.known.blocks, one.known.blocks)
    elsewhere.rename(names[0], "mine")
    assert elsewhere.import_(file) == ()
    assert [one.sample for one in elsewhere.list()] == ["2", "mine"]
    assert same(file.read_bytes(), before)
    assert sorted(one.name for one in tmp_path.iterdir()) == [store.path.name, file.name, "new"]


def test_an_export_replaces_no_file(store: CalibrationStore, tmp_path: Path) -> None:
    name = store.save(tiny_model(), time_s=0.0)
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(ValueError, match=r"there exists already and was left as it is$"):
        store.export([name], there)
    assert there.read_text() == "mine"
    with pytest.raises(ValueError, match=r"has no calibration nothing$"):
        store.export([name, "nothing"], tmp_path / "other")
    assert sorted(one.name for one in tmp_path.iterdir()) == [store.path.name, "there"]


def test_an_export_works_where_files_cannot_be_linked(
    store: CalibrationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", link)
    name = store.save(tiny_model(), time_s=0.0)
    file = store.export([name], tmp_path / "out")
    with pytest.raises(ValueError, match="out exists already"):
        store.export([name], file)
    assert [one.calibration_id for one in CalibrationStore(file).list()] == [name]
    assert len(list(tmp_path.iterdir())) == 2


def test_another_content_under_the_same_id_is_not_imported(
    store: CalibrationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CalibrationStore(tmp_path / "other.sqlite")
    other.save(tiny_model(), time_s=3.0)
    same = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="same"))
    monkeypatch.setattr(store_module, "uuid", same)
    store.save(tiny_model(), time_s=0.0)
    other.save(replace(tiny_model(), frames=2), time_s=0.0)
    sentence = "^calibration same is in .* already with another content, so nothing was imported"
    with pytest.raises(ValueError, match=sentence):
        store.import_(other.path)
    (kept,) = store.list()
    assert kept.frames == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "gone does not exist"),
        (b"", "is not a store of calibrations and was left as it is"),
        (b"no database " * 999, r"is damaged \(file is not a database\)"),
    ],
)
def test_only_a_sound_file_is_imported(
    store: CalibrationStore, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "gone"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        store.import_(file)
    assert not store.path.exists()


def test_looking_makes_no_file(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path / "folder" / "store.sqlite")
    assert store.list() == ()
    assert store.find(full_settings()) is None
    assert store.damaged() == {}
    assert not list(tmp_path.iterdir())


def test_the_default_place_is_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: tmp_path)
    assert CalibrationStore().path == default_path() == tmp_path / "calibrations.sqlite"


# what no accident may do


def filled(store: CalibrationStore, number: int = 2) -> list[str]:
    return [store.save(tiny_model(), time_s=float(k), sample=str(k)) for k in range(number)]


def ids(store: CalibrationStore) -> list[str]:
    """Ids of all that is there, oldest first, and every one of them sound."""
    assert store.damaged() == {}
    return [one.calibration_id for one in reversed(store.list())]


@cache
def pickled() -> Path:
    path = Path(tempfile.mkdtemp()) / "model.pickle"
    path.write_bytes(pickle.dumps(tiny_model()))
    return path


def run(target: Any, path: Path, *arguments: Any) -> Any:
    process = SPAWN.Process(target=target, args=(path, pickled(), *arguments))
    process.start()
    return process


def test_two_processes_save_at_once(store: CalibrationStore) -> None:
    start = SPAWN.Barrier(2)
    each = 6
    savers = [run(save_some, store.path, name, each, start) for name in "ab"]
    for saver in savers:
        saver.join(LONGEST_S)
        assert saver.exitcode == 0
    assert len(ids(store)) == 2 * each
    samples = [one.sample for one in store.list()]
    assert (samples.count("a"), samples.count("b")) == (each, each)
    assert list(store.path.parent.iterdir()) == [store.path]


def test_a_process_killed_while_it_saves_leaves_all_that_was_there(
    store: CalibrationStore,
) -> None:
    there = filled(store)
    inside = SPAWN.Event()
    saver = run(stop_before_commit, store.path, inside)
    assert inside.wait(LONGEST_S)
    log = store.path.with_name(f"{store.path.name}-wal")
    assert log.stat().st_size > 100_000  # the new calibration is on the disk, undecided
    assert ids(store) == there  # nobody sees it, and looking does not wait
    saver.kill()
    saver.join(LONGEST_S)
    again = CalibrationStore(store.path)
    assert ids(again) == there
    name = again.save(tiny_model(), time_s=9.0)
    assert ids(again) == [*there, name]


def test_a_save_waits_for_another_one_and_then_says_so(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = filled(store)
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ValueError, match=r"kept busy by another program for 0\.1 s") as raised:
            store.delete(there[0])
        assert one_sentence(str(raised.value))
    assert ids(store) == there


def test_a_full_disk_loses_nothing(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = filled(store)
    monkeypatch.setattr(database, "_connect", database._connect)  # undone at the end
    change_connections(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
    for call in (
        lambda: store.save(tiny_model(), time_s=0.0),
        lambda: store.export(there, store.path.with_name("out")),
    ):
        with pytest.raises(ValueError, match="is full and nothing was changed: free") as raised:
            call()
        assert one_sentence(str(raised.value))
    monkeypatch.undo()
    assert ids(store) == there
    assert list(store.path.parent.iterdir()) == [store.path]
    ids_after = [*there, store.save(tiny_model(), time_s=9.0)]
    assert ids(store) == ids_after


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_file_that_may_not_grow_loses_nothing(store: CalibrationStore) -> None:
    there, said = filled(store), SPAWN.Queue()
    size = store.path.stat().st_size
    saver = run(save_on_a_full_disk, store.path, size // 4, said)
    sentence = said.get(timeout=LONGEST_S)
    saver.join(LONGEST_S)
    assert re.search(r"cannot be read or written \(.*\) and was not changed: see whether", sentence)
    assert str(store.path) in sentence
    assert one_sentence(sentence)
    assert ids(store) == there
    assert list(store.path.parent.iterdir()) == [store.path]


def test_an_export_to_a_full_disk_leaves_nothing_in_its_folder(
    store: CalibrationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")  # Windows has none
    there, folder = filled(store), tmp_path / "stick"
    folder.mkdir()
    monkeypatch.setattr(database, "_connect", database._connect)  # undone at the end
    change_connections(lambda connection: connection.execute("PRAGMA cache_size = 1"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ValueError, match=r"e\.bin cannot be read or written"):
            store.export(there, folder / "e.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("is_there", [True, False])
def test_a_try_of_a_store_changes_nothing_and_finds_a_full_disk(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    there = filled(store) if is_there else []
    store.try_saving()
    assert ids(store) == there
    monkeypatch.setattr(database, "_connect", database._connect)  # undone at the end
    change_connections(lambda connection: connection.execute("PRAGMA max_page_count = 1000"))
    with pytest.raises(ValueError, match="is full and nothing was changed: free") as raised:
        store.try_saving()
    assert one_sentence(str(raised.value))
    monkeypatch.undo()
    assert ids(store) == there
    assert list(store.path.parent.iterdir()) == [store.path] * is_there


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda content: content[: len(content) // 2],
    "cut in its first page": lambda content: content[:1000],
    "short of a page": lambda content: content[:-4096],
    "overwritten": lambda content: b"\xa5" * len(content),
    "without a beginning": lambda content: bytes(100) + content[100:],
    "emptied": lambda _: b"",
    "a text": lambda _: b"calibrations, I think\n" * 50,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_and_left_as_it_is(store: CalibrationStore, kind: str) -> None:
    filled(store)
    damaged = DAMAGE[kind](store.path.read_bytes())
    store.path.write_bytes(damaged)
    for call in (
        lambda: CalibrationStore(store.path),
        lambda: store.save(tiny_model(), time_s=0.0),
        lambda: store.find(full_settings()),
        store.list,
    ):
        with pytest.raises(ValueError, match="was left as it is: move it away") as raised:
            call()
        assert str(store.path) in str(raised.value)
        assert one_sentence(str(raised.value))
    assert same(store.path.read_bytes(), damaged)
    assert list(store.path.parent.iterdir()) == [store.path]


def test_a_file_of_another_program_is_left_as_it_is(store: CalibrationStore) -> None:
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("CREATE TABLE calibrations (mine TEXT)")
    before = store.path.read_bytes()
    with pytest.raises(ValueError, match="is not a store of calibrations"):
        CalibrationStore(store.path)
    with pytest.raises(ValueError, match="is not a store of calibrations"):
        store.save(tiny_model(), time_s=0.0)
    assert same(store.path.read_bytes(), before)


def hurt(path: Path, table: str, column: str, where: str) -> None:
    """Flip one bit in the file, where a value of one row begins."""
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT {column} FROM {table} WHERE {where}"
        (value,) = connection.execute(query).fetchone()
    content = path.read_bytes()
    wanted = value.encode() if isinstance(value, str) else value
    times = content.count(wanted[:200])
    assert times == 1
    place = content.index(wanted[:200]) + min(len(wanted), 200) // 2
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize("part", packing.PARTS)
def test_one_calibration_with_a_damaged_model_is_reported_the_others_work(
    store: CalibrationStore, part: str
) -> None:
    other = store.save(replace(tiny_model(), frames=3), time_s=0.0)
    name = store.save(flyback_model()[0], time_s=1.0)
    hurt(store.path, "contents", "content", f"id = '{name}' AND name = '{part}'")
    assert store.damaged() == {name: f"its {part} does not match its checksum"}
    assert len(store.list()) == 2  # what is known about it is sound
    for call in (store.get, lambda one: store.export([one, other], store.path.with_name("out"))):
        with pytest.raises(ValueError, match=rf"^calibration {name} cannot be used: its") as raised:
            call(name)
        assert "delete it, and import it again" in str(raised.value)
    with pytest.raises(ValueError, match=rf"^calibration {name} cannot be used"):
        store.find(SMALL)
    found = store.find(full_settings())
    assert found is not None
    assert found.calibration_id == other
    with pytest.raises(ValueError, match=rf"^calibration {name} cannot be used"):
        CalibrationStore(store.path.with_name("third")).import_(store.path)
    store.delete(name)
    assert ids(store) == [other]


@pytest.mark.parametrize("column", ["details", "sha256"])
def test_one_calibration_with_damaged_facts_is_reported_the_others_work(
    store: CalibrationStore, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    (other,) = filled(store, 1)
    name = store.save(model_for(full_settings(dwell_time_us=0.5)), time_s=1.0)
    hurt(store.path, "calibrations", column, f"id = '{name}'")
    assert [one.calibration_id for one in store.list()] == [other]
    assert f"Calibration {name} cannot be used: what is stored about it does not" in caplog.text
    assert list(store.damaged()) == [name]
    found = store.find(full_settings())
    assert found is not None
    assert found.calibration_id == other
    with pytest.raises(ValueError, match=rf"^calibration {name} cannot be used"):
        store.get(name)
    assert len(store.device_priors("scan")) == 1


NEXT_SCHEMA = (("ALTER TABLE calibrations ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'",),)


def schema_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("first", ["reading", "saving"])
def test_an_older_store_is_brought_up_to_date_after_a_copy(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    there = filled(store)
    store.path.with_name(f"{store.path.name}.schema-1").write_text("an earlier copy")
    monkeypatch.setattr(database, "MIGRATIONS", NEXT_SCHEMA)
    if first == "saving":
        there.append(store.save(tiny_model(), time_s=9.0))
    assert ids(store) == there
    assert schema_of(store.path) == 2
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("SELECT DISTINCT mood FROM calibrations").fetchall() == [
            ("calm",)
        ]
    names = sorted(one.name.removeprefix(store.path.name) for one in store.path.parent.iterdir())
    assert names == ["", ".schema-1", ".schema-1.1"]
    monkeypatch.undo()
    copy = CalibrationStore(store.path.with_name(f"{store.path.name}.schema-1.1"))
    assert ids(copy) == there[:2]
    assert schema_of(copy.path) == 1


def test_an_export_of_an_older_version_is_imported_and_left_as_it_is(
    store: CalibrationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = filled(store)
    file = store.export(there, tmp_path / "out")
    before = file.read_bytes()
    monkeypatch.setattr(database, "MIGRATIONS", NEXT_SCHEMA)
    other = CalibrationStore(tmp_path / "other")
    assert list(other.import_(file)) == there
    assert same(file.read_bytes(), before)


def test_an_update_that_fails_changes_nothing(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = filled(store)
    broken = ((*NEXT_SCHEMA[0], "ALTER TABLE absent ADD COLUMN mood TEXT"),)
    monkeypatch.setattr(database, "MIGRATIONS", broken)
    with pytest.raises(ValueError, match="no such table: absent") as raised:
        CalibrationStore(store.path)
    assert "was not changed" in str(raised.value)
    monkeypatch.undo()
    assert schema_of(store.path) == 1
    assert ids(store) == there


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(
    store: CalibrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "MIGRATIONS", NEXT_SCHEMA)
    filled(store)
    monkeypatch.undo()
    before = store.path.read_bytes()
    for call in (
        lambda: CalibrationStore(store.path),
        lambda: store.save(tiny_model(), time_s=0.0),
        lambda: store.import_(store.path),
    ):
        sentence = r"newer version of this program \(schema 2; this one knows 1\)"
        with pytest.raises(ValueError, match=sentence) as raised:
            call()
        assert one_sentence(str(raised.value))
    assert same(store.path.read_bytes(), before)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that other users reach, and nobody but root may write to once it is filled."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permission there")
@pytest.mark.parametrize("is_file_writable", [True, False])
def test_a_read_only_folder_is_read_and_refuses_a_save(
    read_only: Path, *, is_file_writable: bool
) -> None:
    store, said = CalibrationStore(read_only / "calibrations.sqlite"), SPAWN.Queue()
    there = filled(store)
    store.path.chmod(0o666 if is_file_writable else 0o444)
    read_only.chmod(0o555)
    saver = run(use_as_nobody, store.path, said)
    assert said.get(timeout=LONGEST_S) == ["1", "0"]
    assert said.get(timeout=LONGEST_S) is True
    sentence = said.get(timeout=LONGEST_S)
    saver.join(LONGEST_S)
    assert re.search(r"cannot be written \(.*\) and was not changed: allow writing", sentence)
    assert one_sentence(sentence)
    read_only.chmod(0o755)
    assert ids(store) == there
    assert list(read_only.iterdir()) == [store.path]


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permission there")
def test_no_store_is_made_in_a_read_only_folder(read_only: Path) -> None:
    path, said = read_only / "calibrations.sqlite", SPAWN.Queue()
    read_only.chmod(0o555)
    saver = run(use_as_nobody, path, said)
    assert said.get(timeout=LONGEST_S) == []
    assert said.get(timeout=LONGEST_S) is False
    sentence = said.get(timeout=LONGEST_S)
    saver.join(LONGEST_S)
    assert "cannot be" in sentence
    assert one_sentence(sentence)
    assert not list(read_only.iterdir())


def test_the_store_needs_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, nion_distortion\n"
        "nion_distortion.CalibrationStore\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nion_distortion" in done.stdout.split()
    assert not {"torch", "gpytorch", "sklearn", "matplotlib"} & set(done.stdout.split())


# a frame with a loaded model


def test_a_frame_is_corrected_by_a_loaded_model_as_by_a_live_one(store: CalibrationStore) -> None:
    machine = Microscope(make_specimen("sto_001", rotation_rad=0.1), flyback())
    frames = [machine.shot(SMALL, index).frame for index in range(3)]
    model = process_frame(frames[1], model=process_frame(frames[0]).model).model
    assert model is not None
    loaded = store.get(store.save(model, time_s=0.0)).model
    live, again = (process_frame(frames[2], model=one) for one in (model, loaded))
    assert again.unusable is None
    assert again.field is not None
    assert live.field is not None
    change = again.field.displacement_px - live.field.displacement_px
    assert np.sqrt(np.mean(change[:, live.field.valid] ** 2)) < 0.02  # 0.6 pm
    assert again.drift_nm is not None
    assert not again.drift_nm.any()
    assert again.model is not None
    assert again.model.frames == 3
