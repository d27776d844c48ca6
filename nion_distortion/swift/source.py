"""Live scan data -> frames with the settings that the device reported."""

import datetime
import gettext
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from nion.data import DataAndMetadata
from nion.instrumentation import HardwareSource, scan_base
from nion.utils import ReferenceCounting, Registry

from nion_distortion._failures import log_failure
from nion_distortion.frame import Frame, ScanSettings, UnusableFrameError
from nion_distortion.nion_metadata import OtherPathError, reported_settings, scanned_px

__all__ = [
    "FrameTap",
    "channel_id",
    "channel_names",
    "chosen_scan",
    "current_scan",
    "scan_settings",
    "scan_sources",
]

_ = gettext.gettext

_log = logging.getLogger(__name__)

VARIANTS = ("", "subscan")
"""Variants of a data channel that the operator looks at; drift scans are not among them."""


def scan_settings(
    metadata: Mapping[str, Any], shape: tuple[int, int], *, is_raster: bool = False
) -> ScanSettings:
    """Read the scan's settings from what the device reported with the frame.

    Parameters
    ----------
    metadata : Mapping
        Metadata of the frame, as the host gives it.
    shape : tuple of int
        Shape of the image, (ny, nx).
    is_raster : bool, default: False
        Whether the operator declares that the beam goes line by line, whatever the device says.

    Returns
    -------
    ScanSettings
        The settings; None where the device said nothing.

    Raises
    ------
    UnusableFrameError
        If the scan is not a raster that covers the image, or too little was reported.
    """
    known = reported_settings(metadata, shape, is_raster=is_raster)
    scanned = scanned_px(metadata, shape)
    if scanned != shape:
        raise UnusableFrameError(
            _(
                "the image has {ny} x {nx} pixels, but the device scanned {lines} x {pixels}: a "
                "cropped or assembled image has no known line start"
            ).format(ny=shape[0], nx=shape[1], lines=scanned[0], pixels=scanned[1])
        )
    if "field_of_view_nm" not in known:
        raise UnusableFrameError(_("the scan device reported no field of view"))
    return ScanSettings(shape_px=shape, **known)


def scan_sources() -> list[scan_base.ScanHardwareSource]:
    """Return the scans that there are.

    Returns
    -------
    list of ScanHardwareSource
        As the host lists them.
    """
    sources = HardwareSource.HardwareSourceManager().hardware_sources
    return [one for one in sources if isinstance(one, scan_base.ScanHardwareSource)]


def current_scan() -> scan_base.ScanHardwareSource | None:
    """Return the scan that the operator looks at.

    Returns
    -------
    ScanHardwareSource or None
        The one that is running, or that of the STEM controller, or any; None without a scan.
    """
    scans = scan_sources()
    controller: Any = Registry.get_component("stem_controller")
    chosen = controller.scan_controller if controller else None
    playing = [scan for scan in scans if scan.is_playing]
    return next(iter([*playing, *([chosen] if chosen else []), *scans]), None)


def chosen_scan(scan_id: str) -> scan_base.ScanHardwareSource | None:
    """Return a scan by its id.

    Parameters
    ----------
    scan_id : str
        Of the scan hardware source.

    Returns
    -------
    ScanHardwareSource or None
        Where that is not there the one that the operator looks at; None without a scan.
    """
    chosen = [one for one in scan_sources() if one.hardware_source_id == scan_id]
    return chosen[0] if chosen else current_scan()


def channel_names(scan: scan_base.ScanHardwareSource) -> list[str]:
    """Return the names of a scan's channels.

    Parameters
    ----------
    scan : ScanHardwareSource
        The scan.

    Returns
    -------
    list of str
        In its order, those too that are switched off.
    """
    return [scan.get_channel_state(index).name for index in range(scan.channel_count)]


def channel_id(scan: scan_base.ScanHardwareSource, channel: str) -> str:
    """Return the host's id of a channel.

    Parameters
    ----------
    scan : ScanHardwareSource
        The scan.
    channel : str
        Its name.

    Returns
    -------
    str
        That of the first channel where none has this name.
    """
    names = channel_names(scan)
    index = names.index(channel) if channel in names else 0
    return scan.get_channel_state(index).channel_id or "a"


class FrameTap:
    """Hand on the frames of each finished scan of a scan hardware source.

    The host calls back on its acquisition thread and waits, and re-uses its arrays: here is only
    filtered, copied and renamed. Partial and aborted frames, recordings and drift scans are left
    out.

    Parameters
    ----------
    hardware_source : ScanHardwareSource
        The scan to listen to.
    submit : callable
        Called once for each scan with the frames of its channels, the analysed one first.
    refuse : callable, optional
        Called with the reason, one sentence, for a scan that cannot be used.
    channel : str, default: "HAADF"
        The analysed channel; where no enabled channel has that name, the first one.
    is_raster : bool, default: False
        As in `scan_settings`.

    Notes
    -----
    The two events are private to the instrumentation kit, but nothing else of it delivers every
    frame. A scan's channels arrive one by one, then ``xdatas_available_event`` says that these
    were all. A frame's index is the host's, which begins at 0 whenever the scan is started.
    """

    def __init__(
        self,
        hardware_source: scan_base.ScanHardwareSource,
        submit: Callable[[tuple[Frame, ...]], object],
        *,
        refuse: Callable[[str], object] | None = None,
        channel: str = "HAADF",
        is_raster: bool = False,
    ) -> None:
        self._hardware_source, self._submit, self._refuse = hardware_source, submit, refuse
        self._channel, self._is_raster = channel, is_raster
        self._frames: list[Frame] = []
        listen = hardware_source.data_channel_updated_event.listen
        available = hardware_source.xdatas_available_event.listen
        self._listeners: tuple[Any, ...] = (
            listen(ReferenceCounting.weak_partial(FrameTap._updated, self)),
            available(ReferenceCounting.weak_partial(FrameTap._available, self)),
        )

    @property
    def hardware_source(self) -> scan_base.ScanHardwareSource:
        """What it listens to."""
        return self._hardware_source

    def close(self) -> None:
        """Stop listening; a callback that has begun on the acquisition thread still ends."""
        self._listeners = ()  # who drops his listener is no longer called

    def _updated(
        self, args: HardwareSource.DataChannelEventArgs, xdata: DataAndMetadata.DataAndMetadata
    ) -> None:
        """Keep a copy of one channel; an exception here would cut off the listeners after us."""
        try:
            if args.state == "complete" and self._is_wanted(args):
                self._keep(xdata)
        except OtherPathError as error:
            self._say(_("{reason}; if it did, say so in the panel").format(reason=error))
        except UnusableFrameError as error:
            self._say(str(error))
        except Exception as error:
            log_failure(_log, "A frame of the scan could not be read", error)
            self._say(_("a frame of the scan could not be read: {error}").format(error=error))

    def _is_wanted(self, args: HardwareSource.DataChannelEventArgs) -> bool:
        variant = (args.data_channel_id or "").removeprefix(args.channel_id or "").lstrip("_")
        return variant in VARIANTS and not self._hardware_source.is_aborted

    def _keep(self, xdata: DataAndMetadata.DataAndMetadata) -> None:
        metadata = xdata.metadata
        source = metadata.get("hardware_source", {})
        if source.get("view_id"):  # a recording, with settings of its own
            return
        image = np.array(xdata.data, dtype=np.float32)
        image.flags.writeable = False
        if image.ndim != 2:
            said = _("the scan gave {axes} axes instead of an image")
            raise UnusableFrameError(said.format(axes=image.ndim))
        frame = Frame(
            image=image,
            settings=scan_settings(
                metadata, cast("tuple[int, int]", image.shape), is_raster=self._is_raster
            ),
            index=int(source.get("frame_index") or 0),
            time_s=xdata.timestamp.replace(tzinfo=datetime.UTC).timestamp(),
            frame_id=str(metadata.get("scan", {}).get("scan_id", "")),
            channel=str(source.get("channel_name", "")),
            provenance={
                "metadata": metadata,
                "intensity_units": xdata.intensity_calibration.units,
            },
        )
        # a view that goes on after a recording may use the interrupted frame's id again
        self._frames = [
            kept
            for kept in self._frames
            if kept.frame_id == frame.frame_id and kept.channel != frame.channel
        ]
        self._frames.append(frame)

    def _available(self, _promises: object) -> None:
        try:
            frames, self._frames = self._frames, []
            if frames and not self._hardware_source.is_aborted:
                self._submit(self._analysed_first(frames))
        except Exception as error:
            log_failure(_log, "A scan could not be handed on", error)

    def _analysed_first(self, frames: list[Frame]) -> tuple[Frame, ...]:
        # the host calls the channel of a sub-scan "HAADF Subscan"
        return tuple(sorted(frames, key=lambda one: not one.channel.startswith(self._channel)))

    def _say(self, reason: str) -> None:
        self._frames = []
        if self._refuse is not None:
            self._refuse(reason)
