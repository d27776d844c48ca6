"""Device and controller made known to the host."""

from dataclasses import replace
from typing import Any

from nion.device_kit.ScanDevice import ScanFrameParameters
from nion.instrumentation import scan_base
from nion.utils import Registry

from simulator.microscope import Microscope
from simulator.nion_device.controller import make_controller
from simulator.nion_device.device import ScanDevice
from simulator.nion_device.parameters import PROFILES, profile_parameters, scan_settings
from simulator.scan import strong_flyback
from simulator.specimen import make_specimen

__all__ = ["SimulatedMicroscope", "run"]


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
        self.instrument: Any = present or make_controller()
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
