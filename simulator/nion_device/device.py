"""The scan device: the simulated microscope's pixels, line by line."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Condition
from typing import Any

import numpy as np
import numpy.typing as npt
from nion.device_kit.ScanDevice import ScanFrameParameters
from nion.instrumentation import scan_base, stem_controller
from nion.utils import Geometry

from nion_distortion.frame import ScanSettings
from simulator.microscope import Exposure, Microscope, Truth
from simulator.nion_device.parameters import (
    HIGH_TENSION_V,
    PROFILES,
    SCAN_ID,
    frame_period_s,
    profile_parameters,
    scan_settings,
)
from simulator.specimen import Specimen

__all__ = ["ScanDevice"]

LATE_S = 0.2
"""A reader that comes later than this after a frame's end has missed the start of the next."""

CHANNELS = ("HAADF", "MAADF", "BF")
"""The detectors; the first is on."""

Properties = dict[str, Any]
Partial = tuple[
    Sequence[dict[str, Any]],
    bool,
    bool,
    tuple[tuple[int, int], tuple[int, int]],
    int | None,
    int,
]


class _ScannedFrame:
    """A frame being scanned: its parameters are those of its first pixel."""

    def __init__(
        self,
        number: int,
        parameters: ScanFrameParameters,
        settings: ScanSettings,
        channels: Mapping[int, Exposure],
    ) -> None:
        self.number, self.parameters, self.settings = number, parameters, settings
        self.channels = channels
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
    An aborted frame is never handed over as complete.
    """

    scan_device_is_secondary = False

    def __init__(self, microscope: Microscope, *, time_scale: float = 1.0) -> None:
        self.scan_device_id, self.scan_device_name = SCAN_ID, "Simulated UltraSTEM"
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
    def microscope(self) -> Microscope:
        """What is scanned, and what is wrong with it; a change shows from the next frame on."""
        return self._microscope

    @microscope.setter
    def microscope(self, microscope: Microscope) -> None:
        """Scan with another one.

        Parameters
        ----------
        microscope : Microscope
            Used from the next frame on.
        """
        self._microscope = microscope

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
        settings = scan_settings(
            parameters, high_tension_v=self.high_tension_v, mains_hz=self._mains_hz
        )
        # the host's centre is along its own axes, which the scan's rotation turns in the image
        centre = parameters.center_nm.rotate(parameters.rotation_rad)
        begin = partial(
            self._microscope.exposure,
            settings,
            self._number,
            self._clock_s,
            centre_nm=(centre.y, centre.x),
        )
        exposures = {
            channel: begin(CHANNELS[channel])
            for channel, enabled in enumerate(self._enabled)
            if enabled
        }
        self._number += 1
        frame = _ScannedFrame(self._number, parameters, settings, exposures)
        if frame.begun_s - self._ended_s < LATE_S:  # the beam did not wait for the reader
            frame.begun_s = self._ended_s
        return frame

    @property
    def _mains_hz(self) -> float:
        return self._microscope.errors.hum_hz

    def _frame_in_hand(self) -> _ScannedFrame:
        if self._frame is None:
            # after a stop between two frames the host still waits for a whole one
            self._scanning = not self._cancelled
            self._frame = self._begun()
        return self._frame

    def _wait_for_rows(self, frame: _ScannedFrame) -> int:
        """Return the row up to which the beam has come: one line further, or no more to come."""
        height = frame.parameters.scan_size.height
        line_s = (frame.settings.line_time_us or 0.0) * 1e-6 * self._time_scale
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
        frame_s = frame_period_s(frame.settings, mains_hz=self._mains_hz)
        with self._changed:
            self._frame = None
            self._scanning = self._scanning and self._continuous
            self._ended_s = frame.begun_s + frame_s * self._time_scale
            self._clock_s += frame_s
            if whole:
                self._last = frame.channels

    def _properties(self, frame: _ScannedFrame, channel: int) -> Properties:
        """Return what the device says of a frame: values of its own, none of the truth."""
        parameters, settings = frame.parameters, frame.settings
        return parameters.as_dict() | {
            "channel_id": channel,
            "pixel_size": parameters.pixel_size.as_tuple(),
            "pixel_time_us": parameters.pixel_time_us,
            "fov_nm": parameters.fov_nm,
            "rotation_rad": parameters.rotation_rad,
            "center_nm": parameters.center_nm.as_tuple(),
            "flyback_time_us": settings.flyback_time_us,
            "line_time_us": settings.line_time_us,
            "ac_line_sync": parameters.ac_line_sync,
            "ac_frame_sync": parameters.ac_frame_sync,
            "beam_lag_us": float(parameters.get_parameter("beam_lag_us", 0.0)),
        }
