"""The simulated frames that several cases share."""

import numpy as np

from nion_distortion.frame import ScanSettings
from simulator.detector import Detector
from simulator.microscope import Microscope
from simulator.scan import ScanErrors, strong_flyback
from simulator.specimen import make_specimen

__all__ = ["FIELD_OF_VIEW_NM", "flyback_microscope", "settings_of", "sto"]

FIELD_OF_VIEW_NM = {512: 16.0, 1024: 32.0, 2048: 48.0}
TURN_RAD = 0.07


def settings_of(size_px: int) -> ScanSettings:
    """Return the scan of the project's accuracy tables.

    Parameters
    ----------
    size_px : int
        512, 1024 or 2048 lines and pixels.

    Returns
    -------
    ScanSettings
        At 1 us dwell time.
    """
    return ScanSettings(
        shape_px=(size_px, size_px),
        field_of_view_nm=FIELD_OF_VIEW_NM[size_px],
        dwell_time_us=1.0,
        flyback_time_us=120.0,
        device_id="benchmark",
    )


def sto(errors: ScanErrors, *, seed: int = 0, counts: float = 50.0) -> Microscope:
    """Put SrTiO3 [001] under a scan.

    Parameters
    ----------
    errors : ScanErrors
        What is wrong with the scan.
    seed : int, default: 0
        Of the specimen's place and turn, and of the noise.
    counts : float, default: 50
        Electrons at the peak of a strontium column.

    Returns
    -------
    Microscope
        Its crystal turned a little more for each seed.
    """
    rotation = np.pi / 2 * ((TURN_RAD * (seed + 1)) % 1.0)
    specimen = make_specimen("sto_001", rotation_rad=rotation, seed=seed)
    return Microscope(specimen, errors, Detector(counts_at_peak=counts), seed=seed)


def flyback_microscope(settings: ScanSettings, *, sign: int, seed: int) -> Microscope:
    """Put SrTiO3 [001] under a scan with a strong fly-back.

    Parameters
    ----------
    settings : ScanSettings
        The scan.
    sign : {1, -1}
        1: the beam lags; -1: it overshoots.
    seed : int
        Of everything.

    Returns
    -------
    Microscope
        At 50 counts.
    """
    return sto(strong_flyback(settings, sign=sign, seed=seed), seed=seed)
