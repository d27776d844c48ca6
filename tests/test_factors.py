"""Factors and inverses against NumPy."""

import numpy as np
import numpy.typing as npt
import pytest

from nion_distortion.gaussian_process.factors import (
    SMALLEST,
    cleared,
    divide,
    eliminate,
    factorise,
    invert,
    inverted,
    mirrored,
    reduce,
    subtract_square,
)

SIZES = (1, 2, SMALLEST, SMALLEST + 1, 3 * SMALLEST + 7)


@pytest.fixture(params=SIZES)
def positive(request: pytest.FixtureRequest) -> npt.NDArray[np.float64]:
    """Return a symmetric positive matrix."""
    size = int(request.param)
    half = np.random.default_rng(size).normal(size=(size, size + 5))
    return np.asarray(half @ half.T)


def test_the_factor_is_numpys(positive: npt.NDArray[np.float64]) -> None:
    factor = factorise(positive.copy())
    np.testing.assert_allclose(np.triu(factor), np.linalg.cholesky(positive).T, atol=1e-10)


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_are_divided_by_the_factor(
    positive: npt.NDArray[np.float64], *, transposed: bool
) -> None:
    upper = np.linalg.cholesky(positive).T
    rows = np.random.default_rng(0).normal(size=(4, len(positive)))
    divided = divide(rows.copy(), factorise(positive), transposed=transposed)
    np.testing.assert_allclose(divided @ (upper.T if transposed else upper), rows, atol=1e-9)


def test_the_inverse_is_numpys(positive: npt.NDArray[np.float64]) -> None:
    expected = np.linalg.inv(positive)
    inverse = invert(factorise(positive))
    np.testing.assert_allclose(
        np.triu(inverse), np.triu(expected), atol=1e-10 * np.abs(expected).max()
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_columns_are_reduced_by_the_factor(
    positive: npt.NDArray[np.float64], *, transposed: bool
) -> None:
    upper = np.linalg.cholesky(positive).T
    columns = np.random.default_rng(0).normal(size=(len(positive), 4))
    found = reduce(columns.copy(), factorise(positive), transposed=transposed)
    np.testing.assert_allclose((upper if transposed else upper.T) @ found, columns, atol=1e-9)


def test_the_inverse_of_a_factor_is_numpys(positive: npt.NDArray[np.float64]) -> None:
    inverse = cleared(inverted(factorise(positive.copy())))
    expected = np.linalg.inv(np.linalg.cholesky(positive).T)
    np.testing.assert_allclose(inverse, expected, atol=1e-9 * np.abs(expected).max())


def test_a_square_is_subtracted_from_the_upper_triangle(
    positive: npt.NDArray[np.float64],
) -> None:
    rows = np.random.default_rng(0).normal(size=(3, len(positive)))
    expected = np.triu(positive - rows.T @ rows)
    subtract_square(positive, rows)
    np.testing.assert_allclose(np.triu(positive), expected, atol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_left_of_a_matrix_is_its_schur_complement(
    positive: npt.NDArray[np.float64], share: float
) -> None:
    count, factor = round(share * len(positive)), np.linalg.cholesky(positive).T
    corner = factor[count:, count:]
    matrix = positive.copy()
    rest = eliminate(matrix, count)
    np.testing.assert_allclose(mirrored(rest.copy()), corner.T @ corner, atol=1e-9)
    factorise(rest)
    np.testing.assert_allclose(np.triu(matrix), factor, atol=1e-9)


def test_rows_that_are_not_contiguous_are_refused() -> None:
    with pytest.raises(ValueError, match="beside each other"):
        divide(np.ones((3, 2)).T, np.eye(3))


def test_a_matrix_that_is_not_positive_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        factorise(np.array([[1.0, 2.0], [2.0, 1.0]]))
