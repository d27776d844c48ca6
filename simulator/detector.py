"""What the detector makes of the electrons that reach it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Detector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A counting chain: electrons with Poisson noise, read out with gain and offset.

    The value of a pixel is ``gain (electrons + readout noise) + offset``.

    Parameters
    ----------
    counts_at_peak : float, default: 50
        Expected electrons of one pixel on the brightest column, above the background.
    background : float, default: 0.15
        Background as a share of that.
    gain : float, default: 1
        Detector units (ADU) for each electron.
    offset : float, default: 0
        ADU without a beam.
    readout_noise_e : float, default: 0
        Standard deviation of the noise of the read-out, in electrons.
    quantized : bool, default: False
        Whether values are rounded to whole ADU.
    noise : bool, default: True
        Without noise a pixel holds its expectation.

    Raises
    ------
    ValueError
        If counts or gain are not positive, or background or noise negative.
    """

    counts_at_peak: float = 50.0
    background: float = 0.15
    gain: float = 1.0
    offset: float = 0.0
    readout_noise_e: float = 0.0
    quantized: bool = False
    noise: bool = True

    def __post_init__(self) -> None:
        for name in ("counts_at_peak", "gain"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("background", "readout_noise_e"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")

    def read(
        self, electrons: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Return what the detector reports for an expected number of electrons.

        Parameters
        ----------
        electrons : ndarray
            Expected electrons in each pixel.
        rng : numpy.random.Generator
            Source of the noise.

        Returns
        -------
        ndarray of float32
            Values in ADU, in the shape of ``electrons``.
        """
        seen: npt.NDArray[np.float64] = electrons
        if self.noise:
            seen = rng.poisson(electrons).astype(np.float64)
            if self.readout_noise_e:
                seen = seen + self.readout_noise_e * rng.normal(size=seen.shape)
        values = self.gain * seen + self.offset
        return (np.rint(values) if self.quantized else values).astype(np.float32)
