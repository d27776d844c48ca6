"""The instrumentation kit without a window, and the truth about what it scanned."""

import asyncio
import pathlib
import tempfile
from collections import OrderedDict
from types import TracebackType
from typing import Any, cast

from nion.device_kit.ScanDevice import ScanFrameParameters
from nion.instrumentation import DriftTracker, HardwareSource, scan_base
from nion.utils import ReferenceCounting, Registry

from simulator.microscope import Microscope, Truth
from simulator.nion_device.device import ScanDevice
from simulator.nion_device.registration import SimulatedMicroscope

__all__ = ["Host", "TruthLog", "start_host"]

TRUTHS_KEPT = 1000
"""Frames whose truth can still be asked for."""


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
