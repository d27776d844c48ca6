"""The result of one frame's fit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.hyperparameters import Hyperparameters
from nion_distortion.gaussian_process.posterior import Posterior
from nion_distortion.gaussian_process.weights import Information
from nion_distortion.line_shifts import LineShifts

__all__ = ["FrameFit"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameFit:
    """The result of one frame's fit.

    Parameters
    ----------
    basis : Basis
        The functions.
    hyperparameters : Hyperparameters
        Those that were used.
    posterior : Posterior
        Weights of D, W_k and of the change of the lattice.
    known : Information
        Of this frame alone about the weights of D.
    lattice_px : ndarray, shape (2, 3)
        A_k: ``place = lattice_px @ [1, X]``.
    predicted_px : ndarray, shape (n, 2)
        Where the model expects each column in the scan.
    robust : ndarray, shape (n,)
        Weight of each column, 0 to 1.
    squares : float
        Weighted squared residual.
    observations : int
        Number of coordinates with a weight above zero.
    precision : ndarray, shape (2, m)
        Inverse prior variances of all weights.
    before : Information, optional
        About the weights of D, from earlier frames.
    lines : LineShifts, optional
        Shifts of its lines beside D + W_k, if they were measured.
    frame_id : str, default: ""
        Identity of its scan.
    """

    basis: Basis
    hyperparameters: Hyperparameters
    posterior: Posterior
    known: Information
    lattice_px: Array
    predicted_px: Array
    robust: Array
    squares: float
    observations: int
    precision: Array
    before: Information | None = None
    lines: LineShifts | None = None
    frame_id: str = ""

    def __post_init__(self) -> None:
        shapes: dict[str, tuple[int | None, ...]] = {
            "lattice_px": (2, 3),
            "predicted_px": (None, 2),
            "robust": (None,),
            "precision": (2, None),
        }
        for name, shape in shapes.items():
            object.__setattr__(self, name, as_array(name, getattr(self, name), shape))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def chi2(self) -> float:
        """Squared residual over its expectation; computed at each call.

        That is the number of observations less the number of weights that they determined: the
        trace of the weights' covariance C times this frame's information, or ``trace(C C^-1)``
        less the parts of the prior and of earlier frames. Of the latter the coupling of the axes
        is left out: 0.1 % under the strongest fly-back of both.
        """
        covariance = self.posterior.covariance
        diagonal = np.stack([np.diag(block) for block in covariance])
        determined = float((1.0 - self.precision * diagonal).clip(0.0, 1.0).sum())
        if self.before is not None:
            kept = self.before.vector.shape[1]
            determined -= float(np.vdot(covariance[:, :kept, :kept], self.before.blocks))
        return self.squares / max(self.observations - determined, 1.0)
