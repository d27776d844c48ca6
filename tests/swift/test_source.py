"""The frame tap: what the device reported, every whole frame once, nothing else."""

import gc
import logging
import pickle
import queue
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import session_fakes as fakes
from nion.utils import Geometry

from nion_distortion.frame import Frame, UnusableFrameError
from nion_distortion.session import LiveReport, Session
from nion_distortion.swift.source import FrameTap, scan_settings
from simulator.microscope import Microscope, Truth
from simulator.nion_device import Host, profile_parameters, start_host
from simulator.nion_device import scan_settings as device_settings
from simulator.scan import ScanErrors, strong_flyback
from simulator.scoring import score_map
from simulator.specimen import make_specimen

PATIENCE_S = 30.0
SHAPE = (96, 96)

REPORTED: dict[str, Any] = {
    "pixel_size": (96, 128),
    "fov_nm": 4.0,
    "pixel_time_us": 2.0,
    "flyback_time_us": 30.0,
    "line_time_us": 290.0,
    "rotation_rad": 0.25,
    "center_nm": (1.0, 2.0),
    "ac_line_sync": True,
    "ac_frame_sync": False,
    "beam_lag_us": 0.4,
    "channel_id": 0,
}


def metadata(drop: tuple[str, ...] = (), /, **changes: Any) -> dict[str, Any]:
    reported = {name: value for name, value in REPORTED.items() if name not in drop} | changes
    return {
        "scan": {
            "hardware_source_id": "scan",
            "scan_id": "one",
            "scan_device_properties": reported,
            "scan_device_parameters": {"fov_nm": 99.0, "pixel_size": (8, 8), "pixel_time_us": 7.0},
        },
        "hardware_source": {"exposure": 1.0},
        "instrument": {"high_tension": 200e3, "defocus": 1e-9},
    }


def test_settings_are_what_the_device_reported_in_our_words() -> None:
    found = scan_settings(metadata(), (96, 128))
    assert found.shape_px == (96, 128)
    assert found.field_of_view_nm == 4.0
    assert found.dwell_time_us == 2.0
    assert found.flyback_time_us == 30.0
    assert found.line_time_us == 290.0
    assert found.high_tension_v == 200e3
    assert found.rotation_rad == 0.25
    assert (found.line_sync, found.frame_sync) == (True, False)
    assert found.device_id == "scan"
    assert found.subscan_px is None
    assert found.extra == (("beam_lag_us", 0.4),)


@pytest.mark.parametrize(
    ("drop", "changes", "line_us", "flyback_us"),
    [
        ((), {}, 290.0, 30.0),
        (("line_time_us",), {}, 286.0, 30.0),
        (("line_time_us",), {"flyback_pixels": 20}, 296.0, 30.0),
        (("line_time_us", "flyback_time_us"), {"flyback_pixels": 20}, 296.0, 40.0),
        (("line_time_us", "flyback_time_us"), {}, None, None),
        (("line_time_us", "pixel_time_us"), {}, None, 30.0),
    ],
)
def test_line_time_includes_the_fly_back_or_is_not_known(
    drop: tuple[str, ...],
    changes: dict[str, Any],
    line_us: float | None,
    flyback_us: float | None,
) -> None:
    found = scan_settings(metadata(drop, **changes), (96, 128))
    assert found.line_time_us == line_us
    assert found.flyback_time_us == flyback_us


def test_rotation_may_be_reported_in_degrees() -> None:
    found = scan_settings(metadata(("rotation_rad",), rotation_deg=90.0), (96, 128))
    assert found.rotation_rad == pytest.approx(np.pi / 2)


def test_what_was_not_reported_stays_unknown() -> None:
    bare = {"scan": {"scan_device_properties": {"fov_nm": 4.0}}}
    found = scan_settings(bare, (96, 128))
    unknown = (found.dwell_time_us, found.line_time_us, found.high_tension_v, found.line_sync)
    assert unknown == (None, None, None, None)


@pytest.mark.parametrize("name", ["center_nm", "channel_id", "valid_rows", "frame_number"])
def test_provenance_is_no_part_of_the_match(name: str) -> None:
    one = scan_settings(metadata(**{name: 1}), (96, 128))
    two = scan_settings(metadata(**{name: 2}), (96, 128))
    assert one.differences(two) == ()


@pytest.mark.parametrize("value", [0.5, [1, 2], {"a": [1]}, "fast"])
def test_every_other_reported_parameter_is_part_of_the_match(value: Any) -> None:
    one = scan_settings(metadata(magic=value), (96, 128))
    two = scan_settings(metadata(magic=0.25), (96, 128))
    assert one.differences(two) == ("magic",)
    assert hash(one) != hash(two)


def test_subscan_has_its_own_field_of_view_and_place() -> None:
    part = metadata(
        subscan_pixel_size=(48, 32),
        subscan_fractional_size=(0.5, 0.25),
        subscan_fractional_center=(0.25, 0.5),
    )
    found = scan_settings(part, (48, 32))
    assert found.field_of_view_nm == pytest.approx(48 * 4.0 / 128)
    assert found.subscan_px == (96, 128, 0, 48)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"external_scan_mode": 1}, "external_scan_mode is 1"),
        ({"serpentine": True}, "did not scan line by line"),
        ({"pixel_size": (96, 96)}, "96 x 128 pixels, but the device scanned 96 x 96"),
        ({"calibration_style": "time"}, "in time, not in space"),
        ({"fov_nm": None}, "no field of view"),
        (
            {
                "subscan_pixel_size": (96, 128),
                "subscan_fractional_size": (0.5, 1.0),
            },
            "15.6 pm high and 31.2 pm wide",
        ),
    ],
)
def test_scan_that_cannot_be_used_is_refused_with_a_reason(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnusableFrameError, match=reason):
        scan_settings(metadata(**changes), (96, 128))


def test_scan_that_is_declared_a_raster_is_used() -> None:
    told = metadata(serpentine=True)
    found = scan_settings(told, (96, 128), is_raster=True)
    assert ("serpentine", True) in found.extra  # another scan than one that reports nothing
    with pytest.raises(UnusableFrameError, match="in time, not in space"):
        scan_settings(metadata(calibration_style="time"), (96, 128), is_raster=True)


# through the real scan hardware source


def parameters(width_nm: float = 3.0, dwell_us: float = 1.0, **changes: Any) -> Any:
    made = profile_parameters(changes.pop("shape", SHAPE), dwell_us, width_nm)
    for name, value in changes.items():
        made.set_parameter(name, value)
    return made


def microscope() -> Microscope:
    errors = ScanErrors(line_flyback_nm=(0.0, 0.1), drift_nm_s=(0.01, 0.02))
    return Microscope(specimen=make_specimen("sto_001"), errors=errors)


@pytest.fixture
def host() -> Iterator[Host]:
    with start_host(microscope()) as started:
        yield started


class Tapped:
    """A tap whose scans and refusals are waited for."""

    def __init__(self, host: Host, **options: Any) -> None:
        self.host = host
        self.scans: queue.Queue[tuple[Frame, ...]] = queue.Queue()
        self.refused: queue.Queue[str] = queue.Queue()
        self.tap = FrameTap(
            host.hardware_source, self.scans.put, refuse=self.refused.put, **options
        )

    def scan(self) -> tuple[Frame, ...]:
        return self.scans.get(timeout=PATIENCE_S)

    def assert_real(self, frame: Frame) -> None:
        """The pixels are those of the beam under the settings that the frame claims."""
        truth = self.host.truth[frame.frame_id]
        made = microscope().shot(
            truth.settings, truth.path.index, truth.path.start_s, frame.channel.split()[0]
        )
        np.testing.assert_array_equal(frame.image, made.frame.image)
        claimed = replace(frame.settings, extra=truth.settings.extra)
        assert truth.settings.differences(claimed) == ()


def test_frame_is_the_real_one_with_its_identity(host: Host) -> None:
    tapped = Tapped(host)
    before_s = time.time()
    host.scan(parameters())
    for index in range(3):
        (frame,) = tapped.scan()
        tapped.assert_real(frame)
        assert frame.index == index
        assert frame.channel == "HAADF"
        assert frame.time_s is not None
        assert before_s - 1 < frame.time_s < time.time() + 1
        assert frame.provenance["metadata"]["hardware_source"]["channel_id"] == "a"
        assert not frame.image.flags.writeable
    assert frame.settings.extra[0] == ("beam_lag_us", 0.0)


def test_all_channels_of_a_scan_come_together_the_analysed_one_first(host: Host) -> None:
    host.hardware_source.set_channel_enabled(1, True)  # noqa: FBT003
    tapped = Tapped(host, channel="MAADF")
    host.scan(parameters())
    for _ in range(3):
        scan = tapped.scan()
        assert [frame.channel for frame in scan] == ["MAADF", "HAADF"]
        assert len({frame.frame_id for frame in scan}) == 1
        assert len({frame.settings for frame in scan}) == 1


def test_recording_is_left_out_and_the_view_goes_on(host: Host) -> None:
    tapped = Tapped(host)
    host.scan(parameters())
    tapped.scan()
    host.hardware_source.record_immediate(parameters(5.0), PATIENCE_S)
    widths = {tapped.scan()[0].settings.field_of_view_nm for _ in range(3)}
    assert widths == {3.0}


def test_subscan_is_a_scan_like_any_other(host: Host) -> None:
    tapped = Tapped(host)
    host.hardware_source.subscan_region = Geometry.FloatRect.from_tlhw(1 / 6, 1 / 6, 2 / 3, 2 / 3)
    host.hardware_source.subscan_enabled = True
    host.scan(parameters())
    (frame,) = tapped.scan()
    assert frame.settings.shape_px == (64, 64)
    assert frame.settings.subscan_px == (96, 96, 16, 16)
    assert frame.settings.field_of_view_nm == pytest.approx(2.0)
    tapped.assert_real(frame)


def test_custom_scan_is_refused_with_a_reason_on_every_frame(host: Host) -> None:
    tapped = Tapped(host)
    host.scan(parameters(external_scan_mode=2))
    reasons = [tapped.refused.get(timeout=PATIENCE_S) for _ in range(2)]
    assert all("external_scan_mode is 2" in reason for reason in reasons)
    assert tapped.scans.empty()


def test_exception_in_the_owner_is_logged_and_later_listeners_are_still_called(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the owner fails")

    tap = FrameTap(host.hardware_source, fail, refuse=fail)
    later = Tapped(host)
    with caplog.at_level(logging.ERROR):
        host.scan(parameters())
        later.scan()
        later.scan()
    assert "the owner fails" in caplog.text
    tap.close()


def test_frame_that_cannot_be_read_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("pixel_size")

    monkeypatch.setattr("nion_distortion.swift.source.scan_settings", broken)
    tapped = Tapped(host)
    host.scan(parameters())
    assert "could not be read" in tapped.refused.get(timeout=PATIENCE_S)


def test_closed_tap_leaves_no_listener(host: Host) -> None:
    source = host.hardware_source
    events = (source.data_channel_updated_event, source.xdatas_available_event)
    before = [event.listener_count for event in events]
    tapped = Tapped(host)
    assert [event.listener_count for event in events] == [count + 1 for count in before]
    tapped.tap.close()
    assert [event.listener_count for event in events] == before


def test_tap_is_freed_without_being_closed(host: Host) -> None:
    source = host.hardware_source
    before = source.data_channel_updated_event.listener_count
    gc.disable()
    tap = FrameTap(source, lambda _: None)
    del tap
    gc.enable()
    assert source.data_channel_updated_event.listener_count == before


class Consumer(fakes.Process):
    """Slow for some frames, failing at others; checks that model and frame belong together."""

    taken = 0

    def __init__(self) -> None:
        super().__init__()
        self.come = threading.Semaphore(0)  # released for each scan that comes

    def be_outpaced(self) -> None:
        while self.come.acquire(blocking=False):
            pass
        for _ in range(2):
            self.come.acquire(timeout=1.0)  # none comes while the scan is stopped

    def __call__(self, frame: Frame, *, model: Any, options: Any) -> Any:
        self.calls.clear()
        self.taken += 1
        if 30 <= self.taken % 60 < 40:
            self.be_outpaced()
        if self.taken % 60 == 0:
            raise RuntimeError("this frame is too much")
        flat = replace(frame, image=np.zeros_like(frame.image), provenance={})
        return super().__call__(flat, model=model, options=options)


def act(host: Host, number: int) -> None:
    """What the operator does after so many frames."""
    if number in (20, 90, 200):
        host.hardware_source.set_current_frame_parameters(parameters(3.5))
    if number in (35, 100, 215):
        host.hardware_source.set_current_frame_parameters(parameters(3.0, shape=(64, 96)))
    if number in (50, 110, 225):
        host.hardware_source.set_current_frame_parameters(parameters(3.0, flyback_time_us=60.0))
    if number in (70, 75, 180, 240, 245):
        host.hardware_source.abort_playing(sync_timeout=PATIENCE_S)
        host.hardware_source.start_playing(sync_timeout=PATIENCE_S)
    if number in (80, 250):
        host.hardware_source.stop_playing(sync_timeout=PATIENCE_S)
        host.hardware_source.start_playing(sync_timeout=PATIENCE_S)


class Stream:
    """Three hundred frames through tap and session, each looked at as it comes."""

    def __init__(self, host: Host) -> None:
        self.host, self.tapped = host, Tapped(host)
        self.tapped.tap.close()
        self.looked_at: queue.Queue[str] = queue.Queue()
        self.reports: queue.SimpleQueue[LiveReport] = queue.SimpleQueue()
        self.consumer = Consumer()
        self.session = Session(process=self.consumer, refit=fakes.refit)
        self.session.subscribe(self.reports.put)
        self.tap = FrameTap(host.hardware_source, self.submit)
        self.seen: set[str] = set()

    def submit(self, scan: tuple[Frame, ...]) -> None:
        self.session.submit(scan)
        self.consumer.come.release()
        try:  # at once, on the acquisition thread: frames that wait would count as memory
            self.tapped.assert_real(scan[0])
        except (AssertionError, KeyError) as error:
            self.looked_at.put(f"frame {scan[0].index}: {error!r}")
        else:
            self.looked_at.put(scan[0].frame_id)

    def take(self, first: int, last: int) -> None:
        for number in range(first, last):
            frame_id = self.looked_at.get(timeout=PATIENCE_S)
            assert not frame_id.startswith("frame"), frame_id
            assert frame_id not in self.seen
            self.seen.add(frame_id)
            self.look_at_reports()
            act(self.host, number)

    def look_at_reports(self) -> None:
        while not self.reports.empty():
            done = self.reports.get()
            model = None if done.report is None else done.report.model
            assert model is None or not model.settings.differences(done.scan[0].settings)

    def size(self, first: int, last: int) -> int:
        """Take some more frames; their least memory counts, not what is on its way for a moment."""
        sizes = []
        for number in range(first, last):
            self.take(number, number + 1)
            gc.collect()
            self.look_at_reports()
            sizes.append(tracemalloc.get_traced_memory()[0])
        return min(sizes)

    def alive(self) -> tuple[int, ...]:
        """Count threads and listeners."""
        source = self.host.hardware_source
        events = (source.data_channel_updated_event, source.xdatas_available_event)
        return threading.active_count(), *(event.listener_count for event in events)


@pytest.mark.gui
def test_three_hundred_frames_mix_no_settings_and_leave_nothing_behind(host: Host) -> None:
    host.truth.kept = 20  # or the test's own memory would grow
    tracemalloc.start()
    host.scan(parameters())
    threads = set(threading.enumerate())
    stream = Stream(host)
    stream.take(1, 151)
    size, alive = stream.size(151, 171), stream.alive()
    stream.take(171, 301)
    size_after, alive_after = stream.size(301, 321), stream.alive()
    stream.tap.close()
    stream.session.close()
    assert set(threading.enumerate()) <= threads
    host.hardware_source.abort_playing(sync_timeout=PATIENCE_S)
    tracemalloc.stop()  # while a thread allocates it may crash Python (before 3.12.9 and 3.13.2)
    assert alive_after == alive
    assert size_after - size < 1_000_000
    counts = stream.session.counts
    assert counts.failed >= 2
    assert counts.dropped >= 5
    assert counts.processed + counts.failed + counts.dropped >= 298


FULL, STREAMED = 150, 300
"""Frames after which all that the session keeps of the last 100 is full, and frames in all."""


class Corrected:
    """A live scan that is really processed, each report judged by the truth as it comes."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.session = Session()
        self.session.subscribe(self.judge)
        self.tap = FrameTap(host.hardware_source, self.submit)
        self.truths: dict[str, Truth] = {}
        self.shares: list[float] = []
        self.sizes: list[int] = []
        self.mistakes: list[str] = []
        self.enough = threading.Event()

    def submit(self, scan: tuple[Frame, ...]) -> None:
        self.truths[scan[0].frame_id] = self.host.truth[scan[0].frame_id]
        self.session.submit(scan)

    def truth_of(self, frame: Frame) -> Truth:
        """Return the truth about a frame; those before it were dropped."""
        while next(iter(self.truths)) != frame.frame_id:
            del self.truths[next(iter(self.truths))]
        return self.truths[frame.frame_id]

    def judge(self, live: LiveReport) -> None:
        """Keep numbers only; on the worker's thread, where no frame is in hand."""
        try:
            frame, report = live.scan[0], live.report
            assert report is not None
            assert report.field is not None, live.reason
            assert report.model is not None
            assert not report.model.settings.differences(frame.settings)
            score = score_map(
                report.field.displacement_px,
                report.field.valid,
                self.truth_of(frame).place_px,
                pixel_size_nm=frame.settings.pixel_size_nm,
                step_px=4,
            )
        except (AssertionError, KeyError) as error:
            self.mistakes.append(repr(error))
            self.enough.set()
            return
        self.shares.append(score.share)
        if len(self.shares) in (FULL, STREAMED - 10):
            gc.collect()
        # the more frames a busy machine drops, the more truths wait here for the next report
        waiting = len(pickle.dumps(list(self.truths.values())))
        self.sizes.append(tracemalloc.get_traced_memory()[0] - waiting)
        if len(self.sizes) == STREAMED:
            self.enough.set()


@pytest.mark.gui
def test_real_processing_corrects_every_frame_of_a_stream_and_its_memory_does_not_grow() -> None:
    scanned = parameters(4.0, shape=(128, 128))
    strong = strong_flyback(device_settings(scanned))
    slow, fast = strong.line_flyback_nm  # on so few nm the beam would turn back
    errors = replace(
        strong,
        line_flyback_nm=(0.5 * slow, 0.5 * fast),
        drift_nm_s=(0.01, 0.02),
        line_jitter_nm=0.002,
    )
    sto = make_specimen("sto_001", rotation_rad=0.07)
    with start_host(Microscope(specimen=sto, errors=errors)) as host:
        host.truth.kept = 20
        tracemalloc.start()
        live = Corrected(host)
        host.scan(scanned)
        ended = live.enough.wait(10 * PATIENCE_S)
        live.tap.close()
        live.session.close()
        host.hardware_source.abort_playing(sync_timeout=PATIENCE_S)
        tracemalloc.stop()  # while a thread allocates it may crash Python
    assert live.mistakes == []
    assert ended
    assert min(live.shares[5:]) > 0.99
    # the acquisition thread may be at work: of ten frames the least size counts; one image kept of
    # each frame were 10 MB
    assert min(live.sizes[-10:]) - min(live.sizes[FULL : FULL + 10]) < 1_000_000


def rate_hz(host: Host, frames: int) -> float:
    """Frames a second as the host hands them out."""
    times_s: list[float] = []
    done = threading.Event()

    def updated(args: Any, _: object) -> None:
        if args.state == "complete":
            times_s.append(time.perf_counter())
            if len(times_s) > frames:
                done.set()

    listener = host.hardware_source.data_channel_updated_event.listen(updated)
    assert done.wait(PATIENCE_S)
    del listener
    return frames / (times_s[frames] - times_s[0])


@pytest.mark.benchmark
def test_scan_rate_with_the_tap_is_within_two_percent_of_that_without() -> None:
    with start_host(microscope(), time_scale=1.0) as host:
        host.scan(parameters(16.0, shape=(512, 512)))
        without = rate_hz(host, 25)
        session = Session(process=fakes.Process(), refit=fakes.refit)
        tap = FrameTap(host.hardware_source, session.submit)
        with_tap = rate_hz(host, 25)
        tap.close()
        session.close()
    assert with_tap > 0.98 * without
