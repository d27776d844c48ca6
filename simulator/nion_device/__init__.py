"""The simulated microscope as a Nion scan device and STEM controller; opt-in."""

from simulator.nion_device.device import ScanDevice
from simulator.nion_device.host import Host, TruthLog, start_host
from simulator.nion_device.parameters import profile_parameters, scan_settings
from simulator.nion_device.registration import SimulatedMicroscope, run

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
