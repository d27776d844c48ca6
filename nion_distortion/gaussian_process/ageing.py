"""Ageing of a calibration: D changes slowly, so that its uncertainty grows with time."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack, solve_triangular

from nion_distortion._validation import as_finite, owned
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.posterior import Posterior
from nion_distortion.gaussian_process.weights import Information

__all__ = [
    "CHANGE_PER_HOUR",
    "Ageing",
    "MeasuredChange",
    "affine_variances",
    "claimed_std_px",
    "spread_places",
    "widened",
]

Array = npt.NDArray[np.float64]

CHANGE_PER_HOUR = 0.02
"""Standard deviation of D's change in one hour, relative to its prior amplitude; a random walk, so
that it grows with the square root of time.

Used until two calibrations of the same settings are stored (`MeasuredChange`); not measured on any
microscope yet: 0.8 pm of 40 pm, so that a calibration of some twenty frames,
good to 1.2 pm, counts as `AGED` after about three hours and not within a session of minutes.
"""

SHORTEST_S = 60.0
"""The uncertainty is widened only when this much time has passed, not for every frame of a live
scan: until then D changes by 0.003 of its amplitude, and frames learnt one by one give exactly the
same as all together."""

AGED = 1.5
"""Growth of the predicted error from which a model counts as ageing."""

NODES = 16
"""Places along each axis over which the claimed error is averaged."""

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredChange:
    """How fast D changes, measured from stored calibrations.

    Parameters
    ----------
    per_hour : float
        Standard deviation of D's change in one hour, over its prior standard deviation.
    std : float
        Standard deviation of that number.
    calibrations : int
        How many were compared.
    hours : float
        Time from the first to the last of them.
    """

    per_hour: float
    std: float
    calibrations: int
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """The age of a calibration, and how its claimed error has grown.

    Parameters
    ----------
    time_s : float, optional
        POSIX time until which the change of D has been accounted for; None where no frame told
        its time, so that nothing is known of its age.
    change_per_hour : float, default: `CHANGE_PER_HOUR`
        Standard deviation of D's change in one hour, over its prior standard deviation, where it
        was not measured.
    calibrated_px : float, optional
        Smallest rms error of D claimed so far; None until the model has aged.
    now_px : float, optional
        Rms error of D claimed now.
    measured : MeasuredChange, optional
        The change, as stored calibrations of these settings show it.

    Raises
    ------
    ValueError
        If the change is negative or not finite.
    """

    time_s: float | None = None
    change_per_hour: float = CHANGE_PER_HOUR
    calibrated_px: float | None = None
    now_px: float | None = None
    measured: MeasuredChange | None = None

    def __post_init__(self) -> None:
        if as_finite("change_per_hour", self.change_per_hour) < 0:
            raise ValueError(f"change_per_hour must not be negative, not {self.change_per_hour:g}")

    @property
    def rate(self) -> float:
        """Change of D in one hour over its prior standard deviation: measured, or assumed."""
        return self.change_per_hour if self.measured is None else self.measured.per_hour

    @property
    def growth(self) -> float:
        """The error claimed now over the least that was claimed."""
        if self.calibrated_px is None or self.now_px is None:
            return 1.0
        return self.now_px / max(self.calibrated_px, 1e-12)

    @property
    def is_aged(self) -> bool:
        """Whether the error has grown so much that the calibration should be renewed."""
        return self.growth > AGED

    def told(self) -> str:
        """Say how fast D changes, and how that is known.

        Returns
        -------
        str
            A clause.
        """
        if self.measured is None:
            return (
                f"the rate of change is assumed: {100 * self.rate:.2g} % of the distortion's "
                "amplitude in one hour"
            )
        return (
            f"the rate of change was measured from {self.measured.calibrations} calibrations over "
            f"{self.measured.hours:.1f} h: {100 * self.rate:.2g} +- {100 * self.measured.std:.1g} "
            "% of the distortion's amplitude in one hour"
        )

    def hours_until(self, time_s: float | None) -> float:
        """Return the time that has still to be accounted for.

        Parameters
        ----------
        time_s : float or None
            POSIX time of what comes next.

        Returns
        -------
        float
            Hours; zero where a time is unknown, lies in the past or less than a minute ahead.
        """
        if time_s is None or self.time_s is None or time_s - self.time_s < SHORTEST_S:
            return 0.0
        return (time_s - self.time_s) / SECONDS_PER_HOUR

    def noise(self, hours: float, variances: Array) -> Array:
        """Return by how much D's weights may have changed.

        Parameters
        ----------
        hours : float
            Time that passed.
        variances : ndarray, shape (2, m)
            Their prior variances, px^2.

        Returns
        -------
        ndarray, shape (2, m)
            Variances of the change, px^2.
        """
        return np.asarray(self.share(hours) * variances)

    def share(self, hours: float) -> float:
        """Return the variance of the change as a share of the prior variance.

        Parameters
        ----------
        hours : float
            Time that passed.

        Returns
        -------
        float
            It grows in proportion to time.
        """
        return self.rate**2 * hours

    def aged(self, time_s: float | None, before_px: float, after_px: float) -> "Ageing":
        """Record that the uncertainty was widened.

        Parameters
        ----------
        time_s : float or None
            POSIX time until which it was.
        before_px, after_px : float
            Claimed error before and after.

        Returns
        -------
        Ageing
            From then on.
        """
        least = before_px if self.calibrated_px is None else min(self.calibrated_px, before_px)
        return replace(self, time_s=time_s, calibrated_px=least, now_px=after_px)

    def renewed(self, time_s: float | None, basis: Basis, stationary: Posterior) -> "Ageing":
        """Record that a frame was added; where the model had aged, its error is computed anew.

        Parameters
        ----------
        time_s : float or None
            POSIX time of the frame.
        basis : Basis
            The functions.
        stationary : Posterior
            Weights of D with the frame.

        Returns
        -------
        Ageing
            With the frame.
        """
        renewed = self if self.time_s is not None else replace(self, time_s=time_s)
        if not self.is_aged:
            return renewed
        return replace(renewed, now_px=claimed_std_px(basis, stationary))


def widened(known: Information, noise: Array) -> Information:
    """Widen information for random changes of the weights since they were measured.

    Parameters
    ----------
    known : Information
        What samples said about them.
    noise : ndarray, shape (2, m)
        Variances of independent changes of the weights since, px^2.

    Returns
    -------
    Information
        What the samples say about the weights as they are now.

    Notes
    -----
    ``M' = M - M (M + Q^-1)^-1 M`` and ``v' = v - M (M + Q^-1)^-1 v``: the exact marginal over the
    weights as they were. With ``R = sqrt(Q)`` it is computed as ``M - (R M)^T (1 + R M R)^-1 R M``,
    so that weights that do not change need no inverse.
    """
    if known.cross is not None:
        size = noise.shape[1]
        both = np.block([[known.blocks[0], known.cross], [known.cross.T, known.blocks[1]]])
        matrix, vector = _widen(both, known.vector, noise)
        return Information(
            blocks=owned(np.stack([matrix[:size, :size], matrix[size:, size:]])),
            vector=owned(vector.reshape(2, size)),
            cross=owned(matrix[:size, size:].copy()),
        )
    parts = [_widen(*one) for one in zip(known.blocks, known.vector, noise, strict=True)]
    return Information(
        blocks=owned(np.stack([matrix for matrix, _ in parts])),
        vector=owned(np.stack([vector for _, vector in parts])),
    )


def _widen(matrix: Array, vector: Array, noise: Array) -> tuple[Array, Array]:
    root = np.sqrt(noise.ravel())
    reach = root[:, None] * matrix
    whole = reach * root
    whole.flat[:: len(whole) + 1] += 1.0
    factor, failed = lapack.dpotrf(whole, lower=1)
    if failed:
        raise np.linalg.LinAlgError("the information of the weights is not positive")
    lost = solve_triangular(factor, np.c_[reach, root * vector.ravel()], lower=True)
    return matrix - lost[:, :-1].T @ lost[:, :-1], vector.ravel() - lost[:, :-1].T @ lost[:, -1]


def claimed_std_px(basis: Basis, stationary: Posterior) -> float:
    """Average the claimed error of D over the scan, without its affine part.

    Parameters
    ----------
    basis : Basis
        The functions.
    stationary : Posterior
        Weights of D.

    Returns
    -------
    float
        Rms length, px.
    """
    places = spread_places(basis)
    design = basis.design(places)[: basis.stationary_size]
    affine, _ = np.linalg.qr(np.c_[np.ones(len(places)), places])
    design = design - (design @ affine) @ affine.T
    variance = sum(float(np.vdot(spread @ design, design)) for spread in stationary.covariance)
    return float(np.sqrt(max(variance, 0.0) / len(places)))


def spread_places(basis: Basis) -> Array:
    """Spread places over the scan, its edges included.

    Parameters
    ----------
    basis : Basis
        The functions.

    Returns
    -------
    ndarray, shape (NODES^2, 2)
        Places (y, x), px.
    """
    y, x = (np.linspace(0.0, n - 1.0, NODES) for n in basis.shape_px)
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def affine_variances(basis: Basis, variances: Array) -> Array:
    """Return how much scale and skew the prior of D expects.

    Parameters
    ----------
    basis : Basis
        The functions.
    variances : ndarray, shape (2, m)
        Prior variances of the weights of D, px^2.

    Returns
    -------
    ndarray, shape (3,)
        Variances of the scale along y, of that along x, and of the skew, as in `CoilErrors`.
    """
    places = spread_places(basis)
    functions = basis.design(places)[: basis.stationary_size]
    slopes = np.linalg.pinv(np.c_[np.ones(len(places)), places])[1:] @ functions.T
    along_y, along_x = np.square(slopes) @ variances.T
    return np.array([along_y[0], along_x[1], along_y[1] + along_x[0]])  # the fast axis is fixed
