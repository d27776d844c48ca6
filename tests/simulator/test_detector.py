from typing import Any

import numpy as np
import pytest

from simulator.detector import Detector

ELECTRONS = np.full((400, 400), 20.0)


def test_mean_and_variance_are_those_of_gain_offset_poisson_and_readout() -> None:
    detector = Detector(gain=27.0, offset=14700.0, readout_noise_e=1.5)
    values = detector.read(ELECTRONS, np.random.default_rng(0)).astype(np.float64)
    assert values.mean() == pytest.approx(27.0 * 20.0 + 14700.0, abs=27 * 5 * np.sqrt(22.25) / 400)
    assert values.var() == pytest.approx(27.0**2 * (20.0 + 1.5**2), rel=0.02)


def test_variance_follows_the_signal() -> None:
    electrons = np.linspace(5, 100, 8)[:, None] * np.ones((8, 40000))
    values = Detector(gain=3.0).read(electrons, np.random.default_rng(1)).astype(np.float64)
    np.testing.assert_allclose(values.var(axis=1), 9.0 * electrons[:, 0], rtol=0.04)


def test_without_noise_a_pixel_holds_its_expectation() -> None:
    detector = Detector(gain=0.01, offset=-0.2, noise=False)
    values = detector.read(ELECTRONS, np.random.default_rng(0))
    np.testing.assert_allclose(values, 0.0, atol=1e-7)


def test_quantized_values_are_whole() -> None:
    detector = Detector(gain=2.7, quantized=True, readout_noise_e=0.5)
    values = detector.read(ELECTRONS, np.random.default_rng(0))
    np.testing.assert_array_equal(values, np.rint(values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"counts_at_peak": 0.0}, "counts_at_peak must be positive, not 0.0"),
        ({"gain": -1.0}, "gain must be positive, not -1.0"),
        ({"background": -0.1}, "background must not be negative, not -0.1"),
        ({"readout_noise_e": np.inf}, "readout_noise_e must not be negative, not inf"),
    ],
)
def test_impossible_detectors_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Detector(**values)
