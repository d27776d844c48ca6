"""Scale and skew of the scan: what a crystal's measured cell says about the coils."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from nion_distortion._validation import as_array, reduce_frozen
from nion_distortion.distortion import ScaleErrors
from nion_distortion.frame import UnusableFrameError
from nion_distortion.gaussian_process.gauge import FREEDOMS, Freedom
from nion_distortion.options import (
    AnyReference,
    FourierFiltered,
    Free,
    KnownCrystal,
    Reference,
    Similarity,
    StackAverage,
)

__all__ = [
    "Cell",
    "CoilErrors",
    "ShapeErrors",
    "cell_at_centre",
    "cell_of",
    "freedom_of",
    "measure_shape",
    "name_of",
    "near_centre",
    "scan_matrix",
    "without_drift",
]

Array = npt.NDArray[np.float64]

LARGEST_STRAIN = 0.1
"""A cell that differs from the reference's by more than this is another crystal."""

NAMES: Mapping[type, str] = MappingProxyType(
    {
        Free: "free",
        Similarity: "similarity",
        KnownCrystal: "known crystal",
        FourierFiltered: "Fourier filtered",
        StackAverage: "stack average",
        Reference: "another field",
    }
)

STEPS = (-2, -1, 0, 1, 2)
NEAR_CENTRE = 0.15
"""Radius of the central neighbourhood, in lengths of the frame's shorter side."""

FEWEST_NEAR_CENTRE = 12

STEP = 1e-6
"""Step of numerical derivatives, for numbers near 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """The projected cell as it should be.

    Parameters
    ----------
    basis : ndarray, shape (2, 2)
        Columns are the vectors (y, x) in any orientation: px, or any unit where the scale is
        unknown.
    covariance : ndarray, shape (4, 4)
        Of ``basis.ravel()``; of a cell that a frame shows, also by what distorts it there.
    has_scale : bool
        Whether the scale is known.
    """

    basis: Array
    covariance: Array
    has_scale: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "basis", as_array("basis", self.basis, (2, 2)))
        object.__setattr__(self, "covariance", as_array("covariance", self.covariance, (4, 4)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShapeErrors:
    """Scale errors and skew that one frame shows, its drift included or taken out.

    Parameters
    ----------
    values : ndarray, shape (3,)
        Relative errors of the slow and of the fast scale, and the tilt of the slow axis, rad:
        ``D = [values[0] y, values[1] x + values[2] y]`` about the centre.
    covariance : ndarray, shape (3, 3)
        Of the values, without the cell's own.
    systematic : ndarray, shape (3, 3)
        Their covariance by the uncertainty of the cell, which all frames share.
    freedom : {"similarity", "rigid"}
        What the reference leaves unknown.
    """

    values: Array
    covariance: Array
    systematic: Array
    freedom: Freedom

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_array("values", self.values, (3,)))
        for name in ("covariance", "systematic"):
            object.__setattr__(self, name, as_array(name, getattr(self, name), (3, 3)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def whole_covariance(self) -> Array:
        """Covariance of the values, the cell's uncertainty included, shape (3, 3)."""
        return np.asarray(self.covariance + self.systematic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoilErrors:
    """Scale errors and skew of the scan, from all frames.

    Parameters
    ----------
    information : ndarray, shape (3, 3)
        Sum of the frames' inverse covariances.
    vector : ndarray, shape (3,)
        Sum of inverse covariance times value.
    squares : float
        Sum of ``values @ inverse covariance @ values``.
    systematic : ndarray, shape (3, 3)
        Covariance by the uncertainty of the cell.
    freedom : {"similarity", "rigid"}
        What the reference leaves unknown.
    frames : int
        How many frames there were.
    """

    information: Array
    vector: Array
    squares: float
    systematic: Array
    freedom: Freedom
    frames: int
    values: Array = field(init=False)
    """As in `ShapeErrors`."""
    covariance: Array = field(init=False)
    """Of the values, scaled up by `scatter`; the cell's own uncertainty included."""
    scatter: float = field(init=False)
    """Variance of the frames' values over what they claim; not below 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", as_array("vector", self.vector, (3,)))
        for name in ("information", "systematic"):
            object.__setattr__(self, name, as_array(name, getattr(self, name), (3, 3)))
        inverse = np.linalg.pinv(self.information, hermitian=True)
        values = inverse @ self.vector
        freedom = max(1, self._unknowns * (self.frames - 1))
        scatter = max(1.0, float(self.squares - self.vector @ values) / freedom)
        object.__setattr__(self, "values", as_array("values", values, (3,)))
        covariance = scatter * inverse + self.systematic
        object.__setattr__(self, "covariance", as_array("covariance", covariance, (3, 3)))
        object.__setattr__(self, "scatter", scatter)

    def __reduce__(self) -> Any:
        return reduce_frozen(self)

    @property
    def _unknowns(self) -> int:
        return 3 if self.freedom == "rigid" else 2

    @property
    def scale(self) -> Array:
        """Relative error of the slow and fast scale: pixels are this share below nominal size."""
        return np.asarray(self.values[:2])

    @property
    def scale_std(self) -> Array:
        """Standard deviation of the scale errors, shape (2,)."""
        return np.asarray(np.sqrt(np.diag(self.covariance)[:2]))

    @property
    def skew_rad(self) -> float:
        """Tilt of the slow axis towards the fast one."""
        return float(self.values[2])

    @property
    def skew_std_rad(self) -> float:
        """Standard deviation of the skew."""
        return float(np.sqrt(self.covariance[2, 2]))

    def as_scale(self) -> ScaleErrors | None:
        """Return what they say of the scale, as a field keeps it.

        Returns
        -------
        ScaleErrors or None
            None where the cell's size was not known.
        """
        if self.freedom != "rigid":
            return None
        (slow, fast), (slow_std, fast_std) = self.scale.tolist(), self.scale_std.tolist()
        return ScaleErrors(
            slow=slow,
            fast=fast,
            slow_std=slow_std,
            fast_std=fast_std,
            skew_rad=self.skew_rad,
            skew_std_rad=self.skew_std_rad,
        )

    def as_shape(self) -> ShapeErrors:
        """Return what all frames say in the form of one frame.

        Returns
        -------
        ShapeErrors
            The same values.
        """
        return ShapeErrors(
            values=self.values,
            covariance=self.covariance - self.systematic,
            systematic=self.systematic,
            freedom=self.freedom,
        )

    def aged(self, share: float, affine: Array) -> "CoilErrors":
        """Widen what is known for a random change since.

        Parameters
        ----------
        share : float
            Variance of the change, as a share of that of the errors themselves.
        affine : ndarray, shape (3,)
            Variances of the same numbers in the prior of D, whose affine part is theirs.

        Returns
        -------
        CoilErrors
            The same values with wider errors.

        Notes
        -----
        The variance of the errors themselves is the mean square of the three numbers, and what D's
        prior expects of them: the coils may happen to be well adjusted when they are measured.
        Numbers that the reference does not show stay unknown.
        """
        inverse = np.linalg.pinv(self.information, hermitian=True)
        seen = inverse @ self.information
        noise = share * (np.mean(np.square(self.values)) + affine) / self.scatter
        covariance = inverse + seen @ np.diag(noise) @ seen.T
        information: Array = np.asarray(np.linalg.pinv(covariance, hermitian=True), np.float64)
        vector = information @ self.values
        return replace(
            self,
            information=information,
            vector=vector,
            squares=self.squares - float((self.vector - vector) @ self.values),
        )

    @classmethod
    def of(cls, *shapes: ShapeErrors, before: "CoilErrors | None" = None) -> "CoilErrors":
        """Combine frames, their drift taken out.

        Parameters
        ----------
        *shapes : ShapeErrors
            One for each frame.
        before : CoilErrors, optional
            What earlier frames said.

        Returns
        -------
        CoilErrors
            Of all of them.
        """
        inverses = [np.linalg.pinv(one.covariance, hermitian=True) for one in shapes]
        vectors = [inverse @ one.values for inverse, one in zip(inverses, shapes, strict=True)]
        squares = [v @ one.values for v, one in zip(vectors, shapes, strict=True)]
        information, vector = np.sum(inverses, axis=0), np.sum(vectors, axis=0)
        return cls(
            information=information + (0.0 if before is None else before.information),
            vector=vector + (0.0 if before is None else before.vector),
            squares=float(np.sum(squares)) + (0.0 if before is None else before.squares),
            systematic=(before or shapes[0]).systematic,
            freedom=shapes[0].freedom,
            frames=len(shapes) + (0 if before is None else before.frames),
        )


def freedom_of(reference: AnyReference) -> Freedom:
    """Say what a reference leaves unknown.

    Parameters
    ----------
    reference : Free, Similarity or KnownCrystal
        What counts as undistorted.

    Returns
    -------
    {"affine", "similarity", "rigid"}
        The class of maps that is neither measured nor corrected.
    """
    return FREEDOMS[name_of(reference)]


def name_of(reference: AnyReference) -> str:
    """Name a reference as fields do.

    Parameters
    ----------
    reference : Free, Similarity, KnownCrystal, FourierFiltered, StackAverage or Reference
        What counts as undistorted.

    Returns
    -------
    str
        A key of `FREEDOMS`.
    """
    return NAMES[type(reference)]


def cell_of(reference: KnownCrystal, pixel_size_nm: float) -> Cell:
    """Bring a known crystal's cell to pixels.

    Parameters
    ----------
    reference : KnownCrystal
        Edges and angle with their uncertainty.
    pixel_size_nm : float
        Nominal side of a pixel.

    Returns
    -------
    Cell
        In px.
    """
    numbers = np.array([reference.a_nm, reference.b_nm, np.radians(reference.gamma_deg)])
    stds = [reference.a_std_nm, reference.b_std_nm, np.radians(reference.gamma_std_deg)]
    slopes = _slopes(lambda p: _vectors(p).ravel(), numbers)
    covariance = slopes @ np.diag(np.square(stds)) @ slopes.T
    return Cell(
        basis=_vectors(numbers) / pixel_size_nm,
        covariance=covariance / pixel_size_nm**2,
        has_scale=True,
    )


def cell_at_centre(
    crystal_sites: Array, observed_px: Array, variance_px2: Array, shape_px: tuple[int, int]
) -> Cell:
    """Take the cell from the central neighbourhood of a frame.

    Parameters
    ----------
    crystal_sites : ndarray, shape (n, 2)
        Sites of the columns, in cells.
    observed_px : ndarray, shape (n, 2)
        Where they were seen.
    variance_px2 : ndarray, shape (n,)
        Variance of a coordinate of that.
    shape_px : tuple of int
        Lines and pixels.

    Returns
    -------
    Cell
        Of unknown scale, with the covariance of the fit.

    Raises
    ------
    UnusableFrameError
        If there are too few columns near the centre.
    """
    near = near_centre(observed_px, shape_px)
    count = int(near.sum())
    if count < FEWEST_NEAR_CENTRE:
        raise UnusableFrameError(
            f"only {count} columns are near the centre, where the cell of the reference is taken"
        )
    design = np.c_[np.ones(count), crystal_sites[near]]
    weights = 1.0 / variance_px2[near]
    inverse = np.linalg.inv((design * weights[:, None]).T @ design)
    fit = inverse @ (design * weights[:, None]).T @ observed_px[near]
    rest = observed_px[near] - design @ fit
    chi2 = float((weights[:, None] * rest**2).sum()) / (2.0 * (count - 3))
    covariance = np.zeros((4, 4))
    covariance[:2, :2] = covariance[2:, 2:] = max(chi2, 1.0) * inverse[1:, 1:]
    return Cell(basis=fit[1:].T, covariance=covariance, has_scale=False)


def near_centre(places_px: Array, shape_px: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Mark places in the central neighbourhood of a frame.

    Parameters
    ----------
    places_px : ndarray, shape (n, 2)
        Places in the scan, (y, x).
    shape_px : tuple of int
        Lines and pixels.

    Returns
    -------
    ndarray of bool, shape (n,)
        True within 15 % of the shorter side.
    """
    centre = 0.5 * (np.array(shape_px) - 1.0)
    return np.asarray(
        np.linalg.norm(places_px - centre, axis=1) < NEAR_CENTRE * min(shape_px), dtype=np.bool_
    )


def measure_shape(
    shown: Array, covariance: Array, cell: Cell, expected: ShapeErrors | None = None
) -> ShapeErrors:
    """Compare the cell that a frame shows with the one that it should show.

    Parameters
    ----------
    shown : ndarray, shape (2, 2)
        Columns are the basis vectors that the frame shows, the distortion beyond an affine map
        taken out, px.
    covariance : ndarray, shape (4, 4)
        Of the gradient (row-major) by which ``shown`` may be wrong: ``(1 + gradient) @ shown``.
    cell : Cell
        The reference.
    expected : ShapeErrors, optional
        What earlier frames said; decides which vectors of the crystal the basis is.

    Returns
    -------
    ShapeErrors
        With the drift of the frame in them.

    Raises
    ------
    UnusableFrameError
        If no basis of the reference is within 10 % of what is shown.
    """
    true = np.eye(2) if expected is None else scan_matrix(expected.values)
    basis, choice = _matched(true @ shown, cell)

    def _seen(gradient: Array, corners: Array) -> Array:
        seen = (np.eye(2) + gradient.reshape(2, 2)) @ shown
        return _errors(seen, corners.reshape(2, 2) @ choice, has_scale=cell.has_scale)

    none = np.zeros(4)
    by_gradient = _slopes(lambda g: _seen(g, cell.basis), none)
    by_cell = _slopes(lambda c: _seen(none, c), cell.basis.ravel())
    return ShapeErrors(
        values=_errors(shown, basis, has_scale=cell.has_scale),
        covariance=by_gradient @ covariance @ by_gradient.T,
        systematic=by_cell @ cell.covariance @ by_cell.T,
        freedom="rigid" if cell.has_scale else "similarity",
    )


def scan_matrix(values: Array) -> Array:
    """Return the map from the scan to the sample that scale errors and skew make.

    Parameters
    ----------
    values : ndarray, shape (3,)
        As in `ShapeErrors`.

    Returns
    -------
    ndarray, shape (2, 2)
        ``place = matrix @ (s - centre)``.
    """
    return np.array([[1.0 - values[0], 0.0], [-values[2], 1.0 - values[1]]])


def without_drift(
    shape: ShapeErrors, drift_px: Array, variance_px2: Array, lines: int
) -> ShapeErrors:
    """Take the sample's motion during the frame out of what it shows.

    Parameters
    ----------
    shape : ShapeErrors
        As measured.
    drift_px : ndarray, shape (2,)
        Motion of the sample during the frame, (y, x).
    variance_px2 : ndarray, shape (2,)
        Its variance.
    lines : int
        Lines of the frame.

    Returns
    -------
    ShapeErrors
        Of the coils alone.
    """
    into = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]) / lines
    if shape.freedom == "similarity":  # the mean scale is not measured
        into = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 1.0]]) / lines
    return ShapeErrors(
        values=shape.values - into @ drift_px,
        covariance=shape.covariance + into @ np.diag(variance_px2) @ into.T,
        systematic=shape.systematic,
        freedom=shape.freedom,
    )


def _vectors(numbers: Array) -> Array:
    """Columns of a cell of edges a and b and an angle."""
    a, b, gamma = numbers
    return np.array([[a, b * np.cos(gamma)], [0.0, b * np.sin(gamma)]])


def _errors(shown: Array, basis: Array, *, has_scale: bool) -> Array:
    """Scale errors and skew by which bases (..., 2, 2) are shown, a rotation left out, (..., 3).

    With ``H = basis shown^-1 = R N``, R a rotation (or a mirror) and N the `scan_matrix`,
    ``H^T H = N^T N`` gives N in closed form.
    """
    back = basis @ np.linalg.inv(shown)
    square = np.swapaxes(back, -1, -2) @ back
    fast = np.sqrt(square[..., 1, 1])
    across = square[..., 0, 1] / fast
    slow = np.sqrt(square[..., 0, 0] - across**2)
    size = np.ones_like(slow) if has_scale else 0.5 * (slow + fast)
    return np.stack([1.0 - slow / size, 1.0 - fast / size, -across / size], axis=-1)


def _matched(shown: Array, cell: Cell) -> tuple[Array, Array]:
    """Find the combination (whole, or half for a centred cell) of its vectors that is shown."""
    whole = np.array(list(product(STEPS, repeat=4)), dtype=np.float64).reshape(-1, 2, 2)
    strain, choice = _best(shown, cell, whole, 1.0)
    if cell.has_scale:
        centred, other = _best(shown, cell, 0.5 * whole, 0.5)
        strain, choice = min((strain, choice), (centred, other), key=lambda one: one[0])
    if strain > LARGEST_STRAIN:
        raise UnusableFrameError(
            "the lattice in this frame differs by more than "
            f"{100 * LARGEST_STRAIN:.0f} % from the reference crystal's"
        )
    return cell.basis @ choice, choice


def _best(shown: Array, cell: Cell, choices: Array, area: float) -> tuple[float, Array]:
    choices = choices[np.isclose(np.abs(np.linalg.det(choices)), area)]
    errors = _errors(shown, cell.basis @ choices, has_scale=cell.has_scale)
    strains = np.abs(errors).max(axis=1)
    number = int(np.argmin(strains))
    return float(strains[number]), choices[number]


def _slopes(function: Callable[[Array], Array], at: Array) -> Array:
    """Differentiate a vector function by each number, one column for each."""
    size = STEP * max(1.0, float(np.abs(at).max()))
    steps = size * np.eye(len(at))
    differences = [function(at + step) - function(at - step) for step in steps]
    return np.stack(differences, axis=1) / (2 * size)
