"""The result type: atomic columns and what their fits say about them."""

from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, as_positive, check_length, reduce_frozen
from nion_distortion.atoms.shape import ColumnShape
from nion_distortion.atoms.view import Polarity

__all__ = ["AtomColumns"]

SHAPES: dict[str, tuple[int | None, ...]] = {
    "positions_px": (None, 2),
    "covariance_px2": (None, 2, 2),
    "amplitude": (None,),
    "sigma_px": (None,),
    "broadening": (None, 2),
    "background": (None,),
    "chi2": (None,),
    "confidence": (None,),
    "counts": (None,),
}
"""The fields that hold one row for each column."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AtomColumns:
    """Atomic columns of one image, in order of their lines.

    Parameters
    ----------
    positions_px : ndarray, shape (n, 2)
        Where each column was seen, (y, x).
    covariance_px2 : ndarray, shape (n, 2, 2)
        Covariance of the position.
    amplitude : ndarray, shape (n,)
        Height over the local background, detector units; positive for either polarity.
    sigma_px : ndarray, shape (n,)
        Width of the Gaussian.
    broadening : ndarray, shape (n, 2)
        Logarithm of the width relative to columns of the same brightness, with the effects of the
        prior and of the noise removed, and its variance.
    background : ndarray, shape (n,)
        Local background, detector units.
    chi2 : ndarray, shape (n,)
        Per degree of freedom, with the image's own noise model.
    confidence : ndarray, shape (n,)
        How certain it is that this is a column, 0 to 1: the normal distribution function at
        z - 1.7, where z is the amplitude over its error.
    polarity : {"bright", "dark"}
        Whether columns stand above or below the background.
    finder : str
        What gave the first guesses.
    gain : float
        Detector units for each electron, estimated from the image.
    counts : ndarray, shape (n,)
        Electrons at the peak above the local background: amplitude / gain.
    gain_std : float, default: 0
        Its standard deviation.
    tail : float, default: 0
        Height of the tails relative to the Gaussian cores; `amplitude` is the sum of both.
    dropped : int, default: 0
        First guesses whose fits were thrown away.
    shape : ColumnShape, optional
        What all of the image's columns are like, for the next frame of the same scan.

    Raises
    ------
    ValueError
        If a shape does not fit, or polarity or gain make no sense.
    """

    positions_px: npt.NDArray[np.float64]
    covariance_px2: npt.NDArray[np.float64]
    amplitude: npt.NDArray[np.float64]
    sigma_px: npt.NDArray[np.float64]
    broadening: npt.NDArray[np.float64]
    background: npt.NDArray[np.float64]
    chi2: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    polarity: Polarity
    finder: str
    gain: float
    counts: npt.NDArray[np.float64]
    gain_std: float = 0.0
    tail: float = 0.0
    dropped: int = 0
    shape: ColumnShape | None = None

    def __post_init__(self) -> None:
        for name, shape in SHAPES.items():
            array = as_array(name, getattr(self, name), shape)
            object.__setattr__(self, name, array)
            check_length(name, array, len(self.positions_px))
        if self.polarity not in get_args(Polarity):
            raise ValueError(f'polarity must be "bright" or "dark", not {self.polarity!r}')
        object.__setattr__(self, "gain", as_positive("gain", self.gain))

    def __len__(self) -> int:
        return len(self.positions_px)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def variance_px2(self) -> npt.NDArray[np.float64]:
        """Mean variance of a coordinate, shape (n,): fits of round columns are isotropic."""
        return np.asarray(0.5 * (self.covariance_px2[:, 0, 0] + self.covariance_px2[:, 1, 1]))

    def subset(self, keep: npt.NDArray[Any]) -> "AtomColumns":
        """Return some of the columns.

        Parameters
        ----------
        keep : ndarray, shape (n,) of bool, or of int
            A mask, or the indices wanted.

        Returns
        -------
        AtomColumns
            The chosen rows; all else unchanged.
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return AtomColumns(**(values | {name: values[name][keep] for name in SHAPES}))
