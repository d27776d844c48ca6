"""The simulated microscope behind the host's own scan hardware source."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from nion.utils import Geometry, Registry

from nion_distortion.frame import ScanSettings
from simulator.microscope import Microscope, Truth
from simulator.nion_device import (
    Host,
    SimulatedMicroscope,
    profile_parameters,
    run,
    scan_settings,
    start_host,
)
from simulator.scan import ScanErrors, strong_flyback
from simulator.specimen import make_specimen

PATIENCE_S = 20.0
SHAPE = (96, 96)


def small(**changes: Any) -> Any:
    parameters = profile_parameters(SHAPE, 1.0, 3.0)
    for name, value in changes.items():
        setattr(parameters, name, value)
    return parameters


def sto() -> Microscope:
    errors = strong_flyback(scan_settings(small()))
    return Microscope(specimen=make_specimen("sto_001"), errors=errors)


class Listener:
    """Collects what the host hands out, on the acquisition thread."""

    def __init__(self, host: Host, count: int) -> None:
        self.host, self.count = host, count
        self.seen: list[tuple[Any, Any, np.ndarray]] = []
        self.done = threading.Event()
        event = host.hardware_source.data_channel_updated_event
        self.listener = event.listen(self.updated)

    def updated(self, args: Any, xdata: Any) -> None:
        self.seen.append((args, xdata.metadata, np.array(xdata.data)))
        if len(self.of_state("complete")) >= self.count:
            self.done.set()

    def of_state(self, state: str) -> list[tuple[Any, Any, np.ndarray]]:
        return [entry for entry in self.seen if entry[0].state == state]

    def wait(self) -> None:
        assert self.done.wait(PATIENCE_S)
        self.host.hardware_source.abort_playing(sync_timeout=PATIENCE_S)
        self.listener.close()


@pytest.fixture
def host() -> Iterator[Host]:
    with start_host(sto()) as started:
        yield started


def test_streamed_frame_is_bit_for_bit_the_microscopes_own(host: Host) -> None:
    listener = Listener(host, 3)
    host.scan(small())
    listener.wait()
    for number, (_, metadata, image) in enumerate(listener.of_state("complete")[:3]):
        truth = host.truth[metadata["scan"]["scan_id"]]
        assert truth.path.index == number
        shot = sto().shot(truth.settings, number, truth.path.start_s)
        np.testing.assert_array_equal(image, shot.frame.image)


def test_lines_arrive_one_after_the_other_at_the_scans_own_pace() -> None:
    parameters = small(pixel_time_us=20.0)
    line_s = (96 * 20 + 30) * 1e-6
    with start_host(sto(), time_scale=1.0) as host:
        listener = Listener(host, 2)
        host.scan(parameters)
        listener.wait()
        rows = [m["scan"]["valid_rows"] for a, m, _ in listener.seen if a.state == "partial"]
        times_s = [host.truth[m["scan"]["scan_id"]] for _, m, _ in listener.of_state("complete")]
    assert rows
    assert min(rows) < 96
    assert times_s[1].path.start_s == pytest.approx(96 * line_s)


def test_partial_frame_equals_the_whole_ones_first_lines() -> None:
    with start_host(sto(), time_scale=1.0) as host:
        listener = Listener(host, 1)
        host.scan(small(pixel_time_us=20.0))
        listener.wait()
    whole = listener.of_state("complete")[0]
    for _, metadata, image in listener.of_state("partial"):
        if metadata["scan"]["scan_id"] == whole[1]["scan"]["scan_id"]:
            rows = metadata["scan"]["valid_rows"]
            np.testing.assert_array_equal(image[:rows], whole[2][:rows])


def test_device_reports_its_timing_and_none_of_the_truth(host: Host) -> None:
    listener = Listener(host, 1)
    host.scan(small(flyback_time_us=120.0, ac_frame_sync=True))
    listener.wait()
    metadata = listener.of_state("complete")[0][1]
    reported = metadata["scan"]["scan_device_properties"]
    assert reported["flyback_time_us"] == 120.0
    assert reported["line_time_us"] == 96.0 + 120.0
    assert reported["ac_line_sync"] is False
    assert reported["ac_frame_sync"] is True
    assert reported["beam_lag_us"] == 0.0
    assert metadata["instrument"]["high_tension"] == 200e3
    assert not {"truth", "errors", "specimen", "distortion"} & set(str(metadata).lower().split("'"))


@pytest.mark.parametrize(
    ("pixel_us", "mains_hz", "line_us"),
    [(1.0, 50.0, 2e4), (1.0, 60.0, 1e6 / 60), (208.0, 50.0, 2e4), (208.1, 50.0, 4e4)],
)
def test_lines_that_wait_for_the_mains_take_whole_periods_of_it(
    pixel_us: float, mains_hz: float, line_us: float
) -> None:
    parameters = small(pixel_time_us=pixel_us, flyback_time_us=32.0, ac_line_sync=True)
    settings = scan_settings(parameters, mains_hz=mains_hz)
    assert settings.line_time_us == pytest.approx(line_us)
    assert settings.flyback_time_us == pytest.approx(line_us - 96 * pixel_us)


def scanned(microscope: Microscope, **changes: Any) -> tuple[list[Truth], dict[str, Any]]:
    """Return the truth about two frames, and what the device reported with the last."""
    with start_host(microscope) as host:
        listener = Listener(host, 2)
        host.scan(small(**changes))
        listener.wait()
        two = [metadata["scan"] for _, metadata, _ in listener.of_state("complete")[:2]]
        return [host.truth[one["scan_id"]] for one in two], two[-1]["scan_device_properties"]


@pytest.mark.parametrize("sync", ["ac_line_sync", "ac_frame_sync", None])
def test_the_hum_waits_for_what_the_device_reports_to_wait(sync: str | None) -> None:
    humming = replace(sto(), errors=ScanErrors(hum_nm=0.03, hum_hz=60.0))
    (one, two), reported = scanned(humming, pixel_time_us=20.0, **({sync: True} if sync else {}))
    down = np.stack([np.arange(96.0), np.full(96, 40.0)], axis=1)
    stationary = one.path.distortion_px(down)
    lines = 60.0 * 1e-6 * reported["line_time_us"]
    periods = 60.0 * (two.path.start_s - one.path.start_s)
    np.testing.assert_array_equal(stationary, two.path.distortion_px(down))
    if sync is None:
        assert not stationary.any()
        assert np.abs(one.path.wander_px(down) - two.path.wander_px(down)).max() > 0.1
        return
    assert not one.path.wander_px(down).any()
    assert np.abs(stationary).max() > 0.1
    is_of_lines = sync == "ac_line_sync"
    assert (np.ptp(stationary, axis=0).max() < 1e-9) == is_of_lines
    assert (lines == pytest.approx(1.0)) == is_of_lines
    assert periods == pytest.approx(round(periods))


def test_new_settings_take_effect_with_the_next_frame_only() -> None:
    with start_host(sto(), time_scale=1.0) as host:
        started = threading.Event()
        event = host.hardware_source.data_channel_updated_event
        first = event.listen(lambda *_: started.set())
        listener = Listener(host, 3)
        host.scan(small(pixel_time_us=20.0))
        assert started.wait(PATIENCE_S)
        host.hardware_source.set_current_frame_parameters(small(pixel_time_us=20.0, fov_nm=4.0))
        listener.wait()
        first.close()
        truths = [host.truth[m["scan"]["scan_id"]] for _, m, _ in listener.of_state("complete")]
        widths = [truth.settings.field_of_view_nm for truth in truths]
        assert widths[0] == 3.0
        assert widths[-1] == 4.0
        for (_, metadata, image), truth in zip(listener.of_state("complete"), truths, strict=True):
            reported = metadata["scan"]["scan_device_properties"]["fov_nm"]
            assert reported == truth.settings.field_of_view_nm
            shot = sto().shot(truth.settings, truth.path.index, truth.path.start_s)
            np.testing.assert_array_equal(image, shot.frame.image)


def test_aborted_frame_is_never_complete() -> None:
    with start_host(sto(), time_scale=1.0) as host:
        started = threading.Event()
        listener = Listener(host, 10**6)
        event = host.hardware_source.data_channel_updated_event
        first = event.listen(lambda *_: started.set())
        host.scan(small(pixel_time_us=50.0))
        assert started.wait(PATIENCE_S)
        host.hardware_source.abort_playing(sync_timeout=PATIENCE_S)
        first.close()
        listener.listener.close()
        assert not listener.of_state("complete")
        assert not host.device.is_scanning


def test_specimen_changes_with_the_next_frame_while_the_scan_runs(host: Host) -> None:
    changed = threading.Event()

    def change(args: Any, _: Any) -> None:
        if args.state == "complete" and not changed.is_set():
            host.device.specimen = make_specimen("si_110")
            changed.set()

    change_listener = host.hardware_source.data_channel_updated_event.listen(change)
    listener = Listener(host, 2)
    host.scan(small())
    listener.wait()
    change_listener.close()
    first, second = (
        host.truth[metadata["scan"]["scan_id"]]
        for _, metadata, _ in listener.of_state("complete")[:2]
    )
    assert first.specimen.name != second.specimen.name
    assert first.path.errors == second.path.errors


def test_enabled_channels_show_the_same_scan(host: Host) -> None:
    host.hardware_source.set_channel_enabled(1, True)  # noqa: FBT003
    listener = Listener(host, 2)
    host.scan(small())
    listener.wait()
    (haadf, one, a), (maadf, two, b) = listener.of_state("complete")[:2]
    assert [haadf.name, maadf.name] == ["HAADF", "MAADF"]
    assert one["scan"]["scan_id"] == two["scan"]["scan_id"]
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.5
    assert not np.array_equal(a, b)


def test_recording_takes_one_frame(host: Host) -> None:
    (xdata,) = host.hardware_source.record_immediate(small(fov_nm=5.0), PATIENCE_S)
    assert xdata is not None
    assert xdata.data_shape == SHAPE
    assert xdata.dimensional_calibrations[0].scale == pytest.approx(5.0 / 96)


def test_stopped_scan_ends_with_a_whole_frame(host: Host) -> None:
    listener = Listener(host, 2)
    host.scan(small())
    assert listener.done.wait(PATIENCE_S)
    host.hardware_source.stop_playing(sync_timeout=PATIENCE_S)
    listener.listener.close()
    assert listener.seen[-1][0].state == "complete"
    assert not host.device.is_scanning


def test_subscan_has_its_own_field_of_view() -> None:
    parameters = small(
        subscan_pixel_size=(48, 32),
        subscan_fractional_size=(0.5, 1 / 3),
        subscan_fractional_center=(0.25, 0.5),
    )
    settings = scan_settings(parameters)
    assert settings.shape_px == (48, 32)
    assert settings.field_of_view_nm == pytest.approx(1.5)
    assert settings.subscan_px == (96, 96, 0, 32)
    assert settings.line_time_us == 32 + 30


def test_frames_follow_each_other_without_a_gap_in_simulated_time(host: Host) -> None:
    listener = Listener(host, 4)
    host.scan(small())
    listener.wait()
    starts_s = [
        host.truth[metadata["scan"]["scan_id"]].path.start_s
        for _, metadata, _ in listener.of_state("complete")
    ]
    np.testing.assert_allclose(np.diff(starts_s), 96 * 126e-6)


def test_controller_that_is_there_is_used() -> None:
    with start_host(sto()) as host:
        second = SimulatedMicroscope(sto())
        controllers = Registry.get_components_by_type("stem_controller")
        assert second.instrument is host.hardware_source.stem_controller
        assert len(controllers) == 1


def test_plug_in_registers_controller_and_scan_with_ids_of_their_own() -> None:
    registered = run()
    controller: Any = Registry.get_component("stem_controller")
    modules: Any = Registry.get_components_by_type("scan_module")
    found = [(one.device.scan_device_id, one.stem_controller_id) for one in modules]
    controller_id = controller.instrument_id
    registered.unregister()
    assert controller_id == "nion_distortion_stem"
    assert found == [("nion_distortion_scan", "nion_distortion_stem")]
    assert Registry.get_component("stem_controller") is None


def test_nothing_is_left_registered_after_the_host_is_closed() -> None:
    before = set(threading.enumerate())
    with start_host(sto()) as host:
        listener = Listener(host, 1)
        host.scan(small())
        listener.wait()
    for kind in ("stem_controller", "scan_module", "hardware_source", "drift_tracker"):
        assert not Registry.get_components_by_type(kind)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


def test_controls_of_the_simulated_instrument_can_be_set() -> None:
    with start_host(sto()) as host:
        instrument: Any = host.hardware_source.stem_controller
        assert instrument.SetVal("C10", 5e-9)
        assert instrument.GetVal("C10") == 5e-9
        instrument.SetVal2D("CSH", Geometry.FloatPoint(y=1e-9, x=2e-9))
        assert instrument.GetVal2D("CSH") == Geometry.FloatPoint(y=1e-9, x=2e-9)
        assert instrument.GetVal2D("none", Geometry.FloatPoint()) == Geometry.FloatPoint()
        with pytest.raises(KeyError):
            instrument.GetVal2D("none")


def test_settings_are_what_the_parameters_say() -> None:
    assert scan_settings(small()) == ScanSettings(
        shape_px=SHAPE,
        field_of_view_nm=3.0,
        dwell_time_us=1.0,
        flyback_time_us=30.0,
        line_time_us=126.0,
        high_tension_v=200e3,
        line_sync=False,
        frame_sync=False,
        device_id="nion_distortion_scan",
        extra=(("beam_lag_us", 0.0),),
    )
