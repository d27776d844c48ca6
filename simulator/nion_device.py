"""The simulated microscope as a Nion scan device and STEM controller; opt-in."""

import asyncio
import math
import pathlib
import tempfile
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Condition
from types import TracebackType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from nion.device_kit import InstrumentDevice
from nion.device_kit.ScanDevice import ScanFrameParameters
from nion.instrumentation import DriftTracker, HardwareSource, scan_base, stem_controller
from nion.utils import Geometry, ReferenceCounting, Registry

from nion_distortion.frame import ScanSettings
from simulator.microscope import Exposure, Microscope, Truth
from simulator.scan import strong_flyback
from simulator.specimen import Specimen, make_specimen

__all__ = [
    "Host",
    "ScanDevice",
    "SimulatedMicroscope",
    "TruthLog",
    "profile_parameters",
    "run",
    "scan_settings",
    "start_host",
]

INSTRUMENT_ID = "nion_distortion_stem"
SCAN_ID = "nion_distortion_scan"

FLYBACK_US = 30.0
HIGH_TENSION_V = 200e3

PROFILES = (
    ("Fast", (256, 256), 1.0, 8.0),
    ("Slow", (512, 512), 1.0, 16.0),
    ("Record", (1024, 1024), 2.0, 32.0),
)
"""Name, pixels, dwell time in us and field of view in nm of each profile."""

LATE_S = 0.2
"""A reader that comes later than this after a frame's end has missed the start of the next."""

CHANNELS = ("HAADF", "MAADF", "BF")
"""The detectors; the first is on."""

TRUTHS_KEPT = 1000
"""Frames whose truth can still be asked for."""

Properties = dict[str, Any]
Partial = tuple[
    Sequence[dict[str, Any]],
    bool,
    bool,
    tuple[tuple[int, int], tuple[int, int]],
    int | None,
    int,
]


def profile_parameters(
    shape_px: tuple[int, int], dwell_time_us: float, field_of_view_nm: float
) -> ScanFrameParameters:
    """Return the host's parameters of a scan.

    Parameters
    ----------
    shape_px : tuple of int
        Lines and pixels, (ny, nx).
    dwell_time_us : float
        Time on each pixel.
    field_of_view_nm : float
        Longer side.

    Returns
    -------
    ScanFrameParameters
        With the simulated device's own fly-back time, beam lag and synchronisation.
    """
    return ScanFrameParameters(
        pixel_size=shape_px,
        pixel_time_us=dwell_time_us,
        fov_nm=field_of_view_nm,
        flyback_time_us=FLYBACK_US,
        ac_line_sync=False,
        ac_frame_sync=False,
        beam_lag_us=0.0,
    )


def line_time_us(parameters: ScanFrameParameters) -> float:
    """Return the time from line start to line start.

    Parameters
    ----------
    parameters : ScanFrameParameters
        The scan.

    Returns
    -------
    float
        Microseconds, with the fly-back.
    """
    return parameters.scan_size.width * parameters.pixel_time_us + parameters.flyback_time_us


def scan_settings(
    parameters: ScanFrameParameters, *, high_tension_v: float = HIGH_TENSION_V
) -> ScanSettings:
    """Return what these parameters make the simulated beam do.

    Parameters
    ----------
    parameters : ScanFrameParameters
        The host's parameters.
    high_tension_v : float, default: 200000
        Acceleration voltage.

    Returns
    -------
    ScanSettings
        The settings of the frame, a sub-scan's own field of view among them.
    """
    shape, context = parameters.scan_size, parameters.pixel_size
    fov_nm, subscan_px = parameters.fov_nm, None
    size = parameters.subscan_fractional_size
    if parameters.subscan_pixel_size and size:
        center = parameters.subscan_fractional_center or Geometry.FloatPoint(y=0.5, x=0.5)
        top = round((center.y - size.height / 2) * context.height)
        left = round((center.x - size.width / 2) * context.width)
        subscan_px = (context.height, context.width, top, left)
        pixel_nm = size.width * context.width / shape.width * fov_nm / max(context)
        fov_nm = pixel_nm * max(shape)
    return ScanSettings(
        shape_px=(shape.height, shape.width),
        field_of_view_nm=fov_nm,
        dwell_time_us=parameters.pixel_time_us,
        flyback_time_us=parameters.flyback_time_us,
        line_time_us=line_time_us(parameters),
        high_tension_v=high_tension_v,
        line_sync=parameters.ac_line_sync,
        frame_sync=parameters.ac_frame_sync,
        rotation_rad=parameters.rotation_rad,
        device_id=SCAN_ID,
        subscan_px=subscan_px,
        extra=(("beam_lag_us", float(parameters.get_parameter("beam_lag_us", 0.0))),),
    )


class _Values(InstrumentDevice.ValueManagerLike):
    """A dictionary of controls; "NAME.x" and "NAME.y" together are one 2-D control."""

    def __init__(self) -> None:
        pairs = ("CSH", "stage_position_m", "beam_shift_m")
        self._values = {f"{name}.{axis}": 0.0 for name in pairs for axis in "xy"}
        self._values |= {"EHT": HIGH_TENSION_V, "C10": 0.0, "BeamCurrent": 30e-12}
        self._values |= {"ConvergenceAngle": 0.03, "ZLPoffset": 0.0}

    def get_value(self, name: str) -> float | None:
        return self._values.get(name)

    def set_value(self, name: str, value: float) -> bool:
        known = name in self._values
        self._values[name] = value
        return known

    def inform_value(self, name: str, value: float) -> bool:
        return self.set_value(name, value)

    def get_value_2d(
        self,
        s: str,
        default_value: Geometry.FloatPoint | None = None,
        *,
        axis: stem_controller.AxisType | None = None,  # noqa: ARG002  # one pair of axes only
    ) -> Geometry.FloatPoint:
        if f"{s}.x" in self._values:
            return Geometry.FloatPoint(y=self._values[f"{s}.y"], x=self._values[f"{s}.x"])
        if default_value is None:
            raise KeyError(s)
        return default_value

    def set_value_2d(
        self,
        s: str,
        value: Geometry.FloatPoint,
        *,
        axis: stem_controller.AxisType | None = None,  # noqa: ARG002  # one pair of axes only
    ) -> bool:
        self._values[f"{s}.y"], self._values[f"{s}.x"] = value.y, value.x
        return True

    def inform_control_2d(
        self, s: str, value: Geometry.FloatPoint, *, axis: stem_controller.AxisType
    ) -> bool:
        return self.set_value_2d(s, value, axis=axis)

    def get_reference_setting_index(self, settings_control: str) -> int:  # noqa: ARG002
        return 0


class _Axes(InstrumentDevice.AxisManagerLike):
    @property
    def supported_axis_descriptions(self) -> Sequence[stem_controller.AxisDescription]:
        return []

    def axis_transform_point(
        self,
        point: Geometry.FloatPoint,
        from_axis: stem_controller.AxisDescription,  # noqa: ARG002
        to_axis: stem_controller.AxisDescription,  # noqa: ARG002
    ) -> Geometry.FloatPoint:
        return point


class _ScannedFrame:
    """A frame being scanned: its parameters are those of its first pixel."""

    def __init__(
        self, number: int, parameters: ScanFrameParameters, channels: Mapping[int, Exposure]
    ) -> None:
        self.number, self.parameters, self.channels = number, parameters, channels
        size = parameters.scan_size
        self.images: dict[int, npt.NDArray[np.float32]] = {
            channel: np.zeros((size.height, size.width), np.float32) for channel in channels
        }
        self.rows = 0
        self.begun_s = time.perf_counter()

    def scan_to(self, row: int) -> None:
        if row == self.rows:  # aborted before the next line was done
            return
        for channel, exposure in self.channels.items():
            self.images[channel][self.rows : row] = exposure.rows(self.rows, row)
        self.rows = row


class ScanDevice(scan_base.ScanDevice):
    """Stream the simulated microscope's pixels line by line.

    Parameters
    ----------
    microscope : Microscope
        What is scanned, and what is wrong with it.
    time_scale : float, default: 1
        Seconds of waiting for each simulated second; 0 is as fast as possible.

    Notes
    -----
    An aborted frame is never handed over as complete. The scan centre is reported but has no
    effect on the image.
    """

    scan_device_is_secondary = False

    def __init__(self, microscope: Microscope, *, time_scale: float = 1.0) -> None:
        self.scan_device_id, self.scan_device_name = SCAN_ID, "Simulated Scan"
        self.on_device_state_changed = None
        self.high_tension_v = HIGH_TENSION_V
        self._microscope = microscope
        self._time_scale = time_scale
        self._enabled = [number == 0 for number in range(len(CHANNELS))]
        self._parameters = profile_parameters(*PROFILES[0][1:])
        self._changed = Condition()
        self._frame: _ScannedFrame | None = None
        self._number = 0
        self._continuous = self._scanning = self._cancelled = False
        self._ended_s = -math.inf
        self._clock_s = 0.0
        self._last: Mapping[int, Exposure] = {}

    # the simulation's own face

    @property
    def specimen(self) -> Specimen:
        """What lies under the beam; a change shows from the next frame on."""
        return self._microscope.specimen

    @specimen.setter
    def specimen(self, specimen: Specimen) -> None:
        """Put something else under the beam.

        Parameters
        ----------
        specimen : Specimen
            Seen from the next frame on.
        """
        self._microscope = replace(self._microscope, specimen=specimen)

    @property
    def last_truth(self) -> Truth:
        """The truth about the last finished frame; for tests, never in metadata."""
        return next(iter(self._last.values())).truth

    # the host's face (scan_base.ScanDevice)

    @property
    def channel_count(self) -> int:
        """How many detectors there are."""
        return len(CHANNELS)

    @property
    def channels_enabled(self) -> tuple[bool, ...]:
        """Which of them are read."""
        return tuple(self._enabled)

    @property
    def is_scanning(self) -> bool:
        """Whether the beam moves."""
        return self._scanning

    @property
    def current_frame_parameters(self) -> scan_base.ScanFrameParameters:
        """The parameters of the next frame."""
        return self._parameters

    def close(self) -> None:
        """Stop the beam."""
        self.cancel()

    def get_channel_name(self, channel_index: int) -> str:
        """Return a detector's name.

        Parameters
        ----------
        channel_index : int
            Its number.

        Returns
        -------
        str
            Its name.
        """
        return CHANNELS[channel_index]

    def set_channel_enabled(self, channel_index: int, enabled: bool) -> bool:  # noqa: FBT001
        """Switch a detector on or off, from the next frame on.

        Parameters
        ----------
        channel_index : int
            Its number.
        enabled : bool
            Whether it is read.

        Returns
        -------
        bool
            Whether that was a change.
        """
        changed = self._enabled[channel_index] != enabled
        self._enabled[channel_index] = enabled
        return changed

    def set_frame_parameters(self, frame_parameters: scan_base.ScanFrameParameters) -> None:
        """Take parameters for the next frame; the one in hand keeps its own.

        Parameters
        ----------
        frame_parameters : ScanFrameParameters
            Copied.
        """
        self._parameters = ScanFrameParameters(frame_parameters.as_dict())

    def start_frame(self, is_continuous: bool) -> int:  # noqa: FBT001
        """Begin a frame now.

        Parameters
        ----------
        is_continuous : bool
            Whether another follows each frame.

        Returns
        -------
        int
            The frame's number.
        """
        with self._changed:
            self._continuous, self._scanning, self._cancelled = is_continuous, True, False
            self._ended_s = -math.inf
        self._frame = self._begun()
        return self._frame.number

    def cancel(self) -> None:
        """End the frame in hand at once."""
        with self._changed:
            self._scanning, self._cancelled = False, True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let the frame in hand be the last."""
        with self._changed:
            self._continuous = False
            if self._frame is None:
                self._scanning = False

    def read_partial(
        self,
        frame_number: int | None,  # noqa: ARG002
        pixels_to_skip: int,  # noqa: ARG002
    ) -> Partial:
        """Wait for the next lines.

        Parameters
        ----------
        frame_number : int or None
            The frame in hand, which the device knows.
        pixels_to_skip : int
            What was read of it, which the device knows.

        Returns
        -------
        tuple
            All channels as far as they were scanned, whether that is the whole frame, whether
            the frame was aborted, what is new, the frame's number, and its pixels so far.
        """
        frame = self._frame_in_hand()
        top, row = frame.rows, self._wait_for_rows(frame)
        frame.scan_to(row)
        height, width = frame.parameters.scan_size.as_tuple()
        complete, aborted = row == height, row < height and not self._scanning
        elements = [
            {"data": image, "properties": self._properties(frame, channel)}
            for channel, image in frame.images.items()
        ]
        if complete or aborted:
            self._end(frame, whole=complete)
        area = ((0, 0), (height, width)) if complete else ((top, 0), (row - top, width))
        return elements, complete, aborted, area, frame.number, 0 if complete else row * width

    def calculate_flyback_pixels(self, frame_parameters: scan_base.ScanFrameParameters) -> int:
        """Return the fly-back time in dwell times.

        Parameters
        ----------
        frame_parameters : ScanFrameParameters
            The scan.

        Returns
        -------
        int
            Rounded up.
        """
        flyback_us = ScanFrameParameters(frame_parameters.as_dict()).flyback_time_us
        return math.ceil(flyback_us / frame_parameters.pixel_time_us)

    def calculate_max_field_of_view(
        self,
        frame_parameters: scan_base.ScanFrameParameters,  # noqa: ARG002
    ) -> float:
        """Return the largest field of view.

        Parameters
        ----------
        frame_parameters : ScanFrameParameters
            The scan.

        Returns
        -------
        float
            In nm.
        """
        return 1000.0

    def save_frame_parameters(self) -> None:
        """Keep nothing: every start is with the same profiles."""

    def get_buffer_data(
        self,
        start: int,  # noqa: ARG002
        count: int,  # noqa: ARG002
    ) -> list[list[dict[str, Any]]]:
        """Return nothing: no past frames are kept.

        Parameters
        ----------
        start, count : int
            Which frames.

        Returns
        -------
        list
            Empty.
        """
        return []

    def set_scan_context_probe_position(
        self,
        scan_context: stem_controller.ScanContext,
        probe_position: Geometry.FloatPoint | None,
    ) -> None:
        """Ignore the probe's place between frames.

        Parameters
        ----------
        scan_context : ScanContext
            The scan.
        probe_position : FloatPoint or None
            The place.
        """

    def set_idle_position_by_percentage(self, x: float, y: float) -> None:
        """Ignore the probe's place between frames.

        Parameters
        ----------
        x, y : float
            The place.
        """

    def prepare_synchronized_scan(
        self,
        scan_frame_parameters: scan_base.ScanFrameParameters,
        *,
        camera_exposure_ms: float,
        **kwargs: Any,
    ) -> None:
        """Prepare nothing: there is no camera.

        Parameters
        ----------
        scan_frame_parameters : ScanFrameParameters
            The scan.
        camera_exposure_ms : float
            Time for each pixel.
        **kwargs : object
            Whatever else the host says.
        """

    # how it is done

    def _begun(self) -> _ScannedFrame:
        """Begin a frame with the parameters of now."""
        parameters = ScanFrameParameters(self._parameters.as_dict())
        settings = scan_settings(parameters, high_tension_v=self.high_tension_v)
        microscope = self._microscope
        exposures = {
            channel: microscope.exposure(settings, self._number, self._clock_s, CHANNELS[channel])
            for channel, enabled in enumerate(self._enabled)
            if enabled
        }
        self._number += 1
        frame = _ScannedFrame(self._number, parameters, exposures)
        if frame.begun_s - self._ended_s < LATE_S:  # the beam did not wait for the reader
            frame.begun_s = self._ended_s
        return frame

    def _frame_in_hand(self) -> _ScannedFrame:
        if self._frame is None:
            # after a stop between two frames the host still waits for a whole one
            self._scanning = not self._cancelled
            self._frame = self._begun()
        return self._frame

    def _wait_for_rows(self, frame: _ScannedFrame) -> int:
        """Return the row up to which the beam has come: one line further, or no more to come."""
        height = frame.parameters.scan_size.height
        line_s = line_time_us(frame.parameters) * 1e-6 * self._time_scale
        with self._changed:
            while True:
                passed_s = time.perf_counter() - frame.begun_s
                row = height if line_s == 0 else min(height, int(passed_s / line_s))
                if not self._scanning:
                    return frame.rows
                if row > frame.rows:
                    return row
                self._changed.wait((frame.rows + 1) * line_s - passed_s)

    def _end(self, frame: _ScannedFrame, *, whole: bool) -> None:
        frame_s = frame.parameters.scan_size.height * line_time_us(frame.parameters) * 1e-6
        with self._changed:
            self._frame = None
            self._scanning = self._scanning and self._continuous
            self._ended_s = frame.begun_s + frame_s * self._time_scale
            self._clock_s += frame_s
            if whole:
                self._last = frame.channels

    def _properties(self, frame: _ScannedFrame, channel: int) -> Properties:
        """Return what the device says of a frame: values of its own, none of the truth."""
        parameters = frame.parameters
        return parameters.as_dict() | {
            "channel_id": channel,
            "pixel_size": parameters.pixel_size.as_tuple(),
            "pixel_time_us": parameters.pixel_time_us,
            "fov_nm": parameters.fov_nm,
            "rotation_rad": parameters.rotation_rad,
            "center_nm": parameters.center_nm.as_tuple(),
            "flyback_time_us": parameters.flyback_time_us,
            "line_time_us": line_time_us(parameters),
            "ac_line_sync": parameters.ac_line_sync,
            "ac_frame_sync": parameters.ac_frame_sync,
            "beam_lag_us": float(parameters.get_parameter("beam_lag_us", 0.0)),
        }


class _ScanModule(scan_base.ScanModule):
    def __init__(self, device: ScanDevice, instrument_id: str) -> None:
        self.stem_controller_id = instrument_id
        self.device = device
        self.priority = 20
        modes = [
            scan_base.ScanSettingsMode(row[0], row[0].lower(), profile_parameters(*row[1:]))
            for row in PROFILES
        ]
        self.settings = scan_base.ScanSettings(
            device.scan_device_id, modes, ScanFrameParameters, 0, 2
        )


class SimulatedMicroscope:
    """A scan device and, where none is there yet, a STEM controller, ready to be registered.

    Parameters
    ----------
    microscope : Microscope
        What is scanned, and what is wrong with it.
    time_scale : float, default: 1
        Seconds of waiting for each simulated second; 0 is as fast as possible.
    """

    def __init__(self, microscope: Microscope, *, time_scale: float = 1.0) -> None:
        present = Registry.get_component("stem_controller")
        self._owns_instrument = present is None
        self.instrument: Any = present or InstrumentDevice.Instrument(
            INSTRUMENT_ID, _Values(), _Axes()
        )
        self.device = ScanDevice(microscope, time_scale=time_scale)
        self.scan_module = _ScanModule(self.device, self.instrument.instrument_id)

    def register(self) -> None:
        """Make host and instrument known to one another."""
        if self._owns_instrument:
            Registry.register_component(
                self.instrument, {"instrument_controller", "stem_controller"}
            )
        Registry.register_component(self.scan_module, {"scan_module"})

    def unregister(self) -> None:
        """Take back what ``register`` did."""
        Registry.unregister_component(self.scan_module, {"scan_module"})
        if self._owns_instrument:
            Registry.unregister_component(
                self.instrument, {"instrument_controller", "stem_controller"}
            )


class TruthLog:
    """Remember what each scan really was, so that tests can compare; never the live path.

    Parameters
    ----------
    hardware_source : ScanHardwareSource
        The host's side of the device.
    device : ScanDevice
        The simulated device.

    Attributes
    ----------
    kept : int
        How many of the newest scans are remembered.
    """

    def __init__(self, hardware_source: scan_base.ScanHardwareSource, device: ScanDevice) -> None:
        self._device = device
        self.kept = TRUTHS_KEPT
        self._truths: OrderedDict[str, Truth] = OrderedDict()
        self._listener = hardware_source.data_channel_updated_event.listen(
            ReferenceCounting.weak_partial(TruthLog._updated, self)
        )

    def __getitem__(self, scan_id: str) -> Truth:
        """Return the truth about a scan, by its ``Frame.frame_id``."""
        return self._truths[scan_id]

    def close(self) -> None:
        """Stop listening."""
        del self._listener

    def _updated(self, args: HardwareSource.DataChannelEventArgs, xdata: Any) -> None:
        # on the acquisition thread, before the device can begin another frame
        if args.state == "complete":
            self._truths[xdata.metadata["scan"]["scan_id"]] = self._device.last_truth
            while len(self._truths) > self.kept:
                self._truths.popitem(last=False)


class Host:
    """The instrumentation kit without a window, with the simulated microscope in it.

    Parameters
    ----------
    microscope : Microscope
        What is scanned, and what is wrong with it.
    time_scale : float, default: 0
        Seconds of waiting for each simulated second; 0 is as fast as possible.
    """

    def __init__(self, microscope: Microscope, *, time_scale: float = 0.0) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)  # the hardware source asks for it when it is made
        HardwareSource.run()
        DriftTracker.run()
        scan_base.run(pathlib.Path(self._folder.name))
        self._simulated = SimulatedMicroscope(microscope, time_scale=time_scale)
        self._simulated.register()
        self.device = self._simulated.device
        manager = HardwareSource.HardwareSourceManager()
        self.hardware_source = cast(
            "scan_base.ScanHardwareSource",
            manager.get_hardware_source_for_hardware_source_id(self.device.scan_device_id),
        )
        self.truth = TruthLog(self.hardware_source, self.device)

    def __enter__(self) -> "Host":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def scan(self, parameters: ScanFrameParameters) -> None:
        """Start the live scan, or change its settings while it runs.

        Parameters
        ----------
        parameters : ScanFrameParameters
            Take effect with the next frame.
        """
        self.hardware_source.set_current_frame_parameters(parameters)
        self.hardware_source.start_playing(sync_timeout=5.0)

    def close(self) -> None:
        """Stop the scan and take everything out of the host again."""
        if self.hardware_source.is_playing:
            self.hardware_source.abort_playing(sync_timeout=10.0)
        self.truth.close()
        self._simulated.unregister()
        scan_base.stop()
        for component in list(Registry.get_components_by_type("drift_tracker")):
            Registry.unregister_component(component, {"drift_tracker"})
        HardwareSource.stop()
        asyncio.set_event_loop(None)
        self._loop.close()
        self._folder.cleanup()


def start_host(microscope: Microscope, *, time_scale: float = 0.0) -> Host:
    """Start the instrumentation kit without a window, with the simulated microscope in it.

    Parameters
    ----------
    microscope : Microscope
        What is scanned, and what is wrong with it.
    time_scale : float, default: 0
        Seconds of waiting for each simulated second; 0 is as fast as possible.

    Returns
    -------
    Host
        To be closed, or used in a ``with`` statement.
    """
    return Host(microscope, time_scale=time_scale)


def run() -> SimulatedMicroscope:
    """Register a microscope with strong fly-back and drift over SrTiO3: the host's plug-in call.

    Returns
    -------
    SimulatedMicroscope
        What was registered.
    """
    errors = strong_flyback(scan_settings(profile_parameters(*PROFILES[1][1:])))
    errors = replace(errors, walk_nm=0.01, line_jitter_nm=0.005, drift_nm_s=(0.01, 0.02))
    microscope = Microscope(specimen=make_specimen("sto_001"), errors=errors)
    simulated = SimulatedMicroscope(microscope)
    simulated.register()
    return simulated
