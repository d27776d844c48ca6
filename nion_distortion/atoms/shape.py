"""What the columns of one frame have in common with those of the next frame of the same scan."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nion_distortion._validation import frozen, reduce_frozen
from nion_distortion.atoms.correlation import WHITE, Correlation
from nion_distortion.atoms.drawing import AMPLITUDE
from nion_distortion.atoms.fit import Fits, Window
from nion_distortion.atoms.learning import mean_log_sigma, teachers
from nion_distortion.atoms.maxima import Normalised
from nion_distortion.atoms.noise import Noise
from nion_distortion.atoms.tails import TailSeen
from nion_distortion.atoms.view import Polarity

__all__ = ["ColumnShape", "Look", "look_of", "noise_of"]

FIRST_FRAMES, EVERY = 3, 8
"""All is learnt from each of the first frames of a scan, then from one of so many."""

LEAST_SHARE = 0.2
"""Weight of what the newest frame has taught of the width: a change of focus is followed."""

SAME_SIGMA, SAME_AMPLITUDE, SAME_NUMBER, SAME_CHI2 = 0.04, 0.25, 0.7, 0.05
"""Largest differences from one frame to the next (of logarithms) with which columns are the same
as before: of their mean width and amplitude, their number, and of the typical chi^2."""

SURE = 4.0
"""Standard errors of the width that are no difference."""


class Look(NamedTuple):
    """What the first fits of a frame show: columns are compared with those of the last by it.

    Attributes
    ----------
    clear : int
        Number of columns with a good signal.
    log_sigma, error : float
        Mean logarithm of their width (px), without the effect of its prior, and standard error.
    amplitude : float
        Their geometric mean.
    """

    clear: int
    log_sigma: float
    error: float
    amplitude: float

    def scaled(self, unit: float) -> "Look":
        """Return the same in other units.

        Parameters
        ----------
        unit : float
            What one of the present units is in them.

        Returns
        -------
        Look
            With another amplitude.
        """
        return self._replace(amplitude=unit * self.amplitude)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnShape:
    """What the columns of a frame are like, for the next frame of the same scan.

    Parameters
    ----------
    polarity : {"bright", "dark"}
        Contrast of the columns.
    band_sigma_px : float
        Their width as it was first guessed, by which the next ones are guessed.
    sigma_px : float
        Their width, by which windows are chosen.
    look : Look
        How they looked in the newest frame that was learnt from, detector units.
    noise : Noise
        Of a pixel, detector units.
    correlation : Correlation
        How much of their noise neighbouring pixels share.
    chi2 : float
        Typical one, per degree of freedom, with that noise.
    tail : TailSeen
        Height of the tails, by all frames that they were learnt from.
    frames : int, default: 1
        How many frames have been like this, one after the other.
    lessons : int, default: 1
        How many of them were learnt from.
    """

    polarity: Polarity
    band_sigma_px: float
    sigma_px: float
    look: Look
    noise: Noise
    correlation: Correlation
    chi2: float
    tail: TailSeen
    frames: int = 1
    lessons: int = 1

    def __post_init__(self) -> None:
        y, x = self.correlation
        # one for all where nothing is shared, also after pickling
        shared = WHITE if len(y) == len(x) == 1 else Correlation(frozen(y), frozen(x))
        object.__setattr__(self, "correlation", shared)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def sign(self) -> float:
        """1 for bright columns, -1 for dark ones."""
        return 1.0 if self.polarity == "bright" else -1.0

    @property
    def is_due(self) -> bool:
        """Whether the next frame is one to be learnt from."""
        return self.frames < FIRST_FRAMES or self.frames % EVERY == 0

    def after(self, before: "ColumnShape") -> "ColumnShape":
        """Combine what this frame alone has taught with what is known from frames before it.

        Parameters
        ----------
        before : ColumnShape
            What is known.

        Returns
        -------
        ColumnShape
            With the means of widths and of tails; this one alone where the columns have changed.
        """
        if self.polarity != before.polarity or not before.resembles(self.look):
            return self
        share = max(LEAST_SHARE, 1.0 / (before.lessons + 1))
        return replace(
            self,
            band_sigma_px=before.band_sigma_px ** (1.0 - share) * self.band_sigma_px**share,
            sigma_px=before.sigma_px ** (1.0 - share) * self.sigma_px**share,
            tail=self.tail.after(before.tail),
            frames=before.frames + 1,
            lessons=before.lessons + 1,
        )

    def resembles(self, look: Look) -> bool:
        """Tell whether the columns of another frame are the same as these.

        Parameters
        ----------
        look : Look
            Of the other frame.

        Returns
        -------
        bool
            False after a change of focus, dose, or sample.
        """
        mine = self.look
        if not look.clear or not mine.clear:
            return False
        error = SURE * float(np.hypot(look.error, mine.error))
        return (
            abs(look.log_sigma - mine.log_sigma) < max(SAME_SIGMA, error)
            and abs(np.log(look.amplitude / mine.amplitude)) < SAME_AMPLITUDE
            and abs(np.log(look.clear / mine.clear)) < SAME_NUMBER
        )

    def explains(self, chi2: float) -> bool:
        """Tell whether the noise of another frame is still that of this one.

        Parameters
        ----------
        chi2 : float
            Typical one of the other frame, with this one's noise.

        Returns
        -------
        bool
            False where variances have changed by more than a few hundredths.
        """
        return bool(abs(np.log(chi2 / self.chi2)) < SAME_CHI2)

    def noise_in(self, scaled: Normalised) -> Noise:
        """Bring the noise to the units of a normalised image, columns bright.

        Parameters
        ----------
        scaled : Normalised
            The image.

        Returns
        -------
        Noise
            Of ``sign * scaled.image``.
        """
        gain, offset, gain_std = self.noise
        unit = scaled.unit
        variance = (gain * scaled.zero + offset) / unit**2
        return Noise(self.sign * gain / unit, variance, gain_std / unit)


def noise_of(scaled: Normalised, noise: Noise, sign: float) -> Noise:
    """Bring the noise of a normalised image to detector units: the inverse of `noise_in`.

    Parameters
    ----------
    scaled : Normalised
        The image.
    noise : Noise
        Of ``sign * scaled.image``.
    sign : float
        1 for bright columns, -1 for dark ones.

    Returns
    -------
    Noise
        Of the detector.
    """
    gain, unit = noise.gain * sign * scaled.unit, scaled.unit
    return Noise(gain, noise.offset * unit**2 - gain * scaled.zero, noise.gain_std * unit)


def look_of(fits: Fits, window: Window) -> Look:
    """Say what the first fits of a frame look like.

    Parameters
    ----------
    fits : Fits
        Each as if its column were alone.
    window : Window
        What they shared.

    Returns
    -------
    Look
        By at most a thousand clear columns, but for their number: medians would jump between kinds.
    """
    chosen, clear = teachers(fits)
    if not clear:
        return Look(0, 0.0, 0.0, 0.0)
    log_sigma, error = mean_log_sigma(fits.rows(chosen), window)
    amplitude = float(np.exp(np.mean(np.log(fits.parameters[chosen, AMPLITUDE]))))
    return Look(clear, log_sigma, error, amplitude)
