"""Factors and inverses against NumPy."""

import numpy as np
import numpy.typing as npt
import pytest

from nion_distortion.gaussian_process.factors import SMALLEST, divide, factorise, invert

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


def test_a_matrix_that_is_not_positive_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        factorise(np.array([[1.0, 2.0], [2.0, 1.0]]))
