import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from strategies import few

from nion_distortion._order import median, quantiles

NUMBERS = st.floats(-1e6, 1e6, width=32)


@few
@given(arrays(np.float32, st.integers(1, 60), elements=NUMBERS), st.floats(0.0, 1.0))
def test_quantiles_and_medians_are_those_of_numpy(
    values: npt.NDArray[np.float32], share: float
) -> None:
    exact = values.astype(np.float64)
    scale = 1e-12 * (1.0 + np.abs(exact).max())
    assert median(values) == pytest.approx(np.median(exact), abs=scale)
    found = quantiles(values, [0.0, share, 1.0])
    expected = np.quantile(exact, [0.0, share, 1.0])
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=scale)


def test_any_shape_and_whole_numbers() -> None:
    values = np.arange(24).reshape(2, 3, 4)
    assert median(values[:, ::2]) == np.median(values[:, ::2])
    assert quantiles(values.T, [0.3]) == pytest.approx([np.quantile(values, 0.3)])


def test_values_stay_as_they_are() -> None:
    values = np.array([3.0, 1.0, 2.0])
    median(values)
    assert values.tolist() == [3.0, 1.0, 2.0]
