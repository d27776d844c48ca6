"""The finite basis held against GPyTorch's exact posterior and scikit-learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from model_cases import flyback_model
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Kernel

from benchmarks.cross_check import compare, linearised, refined
from nion_distortion.distortion import DistortionSamples
from nion_distortion.files import read_frames
from nion_distortion.frame import ScanSettings
from nion_distortion.gaussian_process import basis as functions
from nion_distortion.gaussian_process import hyperparameters as priors
from nion_distortion.gaussian_process.cosines import WIDE
from nion_distortion.gaussian_process.evidence import scored
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.linearisation import Linearised, precision_of
from nion_distortion.gaussian_process.posterior import marginal, solve
from nion_distortion.pipeline import process_frame

Array = npt.NDArray[np.float64]

STO = Path(__file__).resolve().parents[2] / "shared/data/sto/16_STOimage_1.ser"


def small_frame() -> tuple[FrameFit, DistortionSamples]:
    model, _ = flyback_model()
    assert model.last is not None
    return model.last, model.samples[-1]


def test_a_calibrations_basis_is_the_exact_posterior() -> None:
    """At 500 places, rim included, with all terms on."""
    fit, samples = small_frame()
    for found in compare(*linearised(samples, fit), refined(fit, samples)):
        assert found.mean_rms < 0.1
        assert found.mean_worst < 0.5
        assert found.std_worst < 0.1


def test_a_live_basis_is_near_the_exact_posterior() -> None:
    """Its waves along x are fewer."""
    fit, samples = small_frame()
    for found in compare(*linearised(samples, fit), fit):
        assert found.mean_rms < 0.1
        assert found.std_worst < 0.1


def test_the_smooth_term_has_the_room_and_the_waves_that_it_needs() -> None:
    """A longer one is reflected from farther away, a shorter one has finer waves, none has few."""
    fit, samples = small_frame()
    sizes = {}
    for name, change in {
        "as it is": (0.0, 0.0),
        "longer": (0.0, 0.4),
        "shorter": (0.0, -0.4),
    }.items():
        sizes[name] = suited_to(fit, samples, change)
    none = suited_to(fit, samples, (-9.0, 0.0))
    margins, counts = ({name: one[k] for name, one in sizes.items()} for k in (0, 1))
    assert margins["shorter"] < margins["as it is"] < margins["longer"]
    assert counts["shorter"] > counts["as it is"] > counts["longer"] > none[1]


def suited_to(
    fit: FrameFit, samples: DistortionSamples, change: tuple[float, float]
) -> tuple[float, int]:
    """Margin and waves after a change of the logarithms of amplitude and length."""
    logs = fit.hyperparameters.logs.copy()
    logs[:, [priors.NAMES.index(name) for name in ("smooth", "smooth_length")]] += change
    changed = replace(fit.hyperparameters, logs=logs)
    basis = priors.suited(fit.basis, changed, precision_of(samples, changed))
    return basis.margin, basis.smooth_count


@pytest.mark.skipif(not STO.is_file(), reason="the real micrographs are not here")
def test_of_a_real_frame_a_calibrations_basis_is_the_exact_posterior() -> None:
    """A live one misses waves of the smooth term, which is shorter than two cells there."""
    model = process_frame(read_frames(STO)[0]).model
    assert model is not None
    assert model.last is not None
    given = linearised(model.samples[-1], model.last)
    for found in compare(*given, refined(model.last, model.samples[-1])):
        assert found.mean_rms < 0.1
        assert found.std_rms < 0.05
    for found in compare(*given, model.last):  # no target: 0.21 and 0.05
        assert found.mean_rms < 0.3
        assert found.std_rms < 0.1


# a small case: smooth motion, a flat affine map, and noise

SCAN = ScanSettings(
    shape_px=(120, 120), field_of_view_nm=4.0, dwell_time_us=1.0, flyback_time_us=60.0
)
SMALL_BASIS = functions.Basis.of_scan(SCAN, 20.0, frozenset({"smooth"}))
AMPLITUDE_PX, LENGTH, NOISE_PX = 0.8, 0.1, 0.3


def small_logs() -> Array:
    logs = np.full(len(priors.NAMES), -20.0)
    logs[priors.NAMES.index("smooth")] = np.log(AMPLITUDE_PX)
    logs[priors.NAMES.index("smooth_length")] = np.log(LENGTH)
    return logs


def small_case() -> tuple[Linearised, Array]:
    """150 columns, and the same places in sizes of the frame."""
    rng = np.random.default_rng(4)
    places = rng.uniform(0, 119, (150, 2))
    unit = (places + 0.5) / 120
    waves = np.sin(2 * np.pi * unit)[:, ::-1] + unit
    given = Linearised(
        predicted_px=places,
        crystal=np.c_[np.ones(150), unit].T,
        targets=waves + NOISE_PX * rng.normal(size=(150, 2)),
        weights=np.tile(np.eye(2) / NOISE_PX**2, (150, 1, 1)),
        lattice_precision=1 / 900.0,
    )
    return given, unit


def regressor(given: Linearised, unit: Array) -> GaussianProcessRegressor:
    kernel: Kernel = ConstantKernel(AMPLITUDE_PX**2) * RBF(LENGTH * WIDE)
    kernel += ConstantKernel(900.0, "fixed") * DotProduct(1.0, "fixed")
    fitted = GaussianProcessRegressor(kernel, alpha=NOISE_PX**2, optimizer=None)
    return fitted.fit(unit, given.targets[:, 1])


def test_smooth_motion_is_that_of_scikit_learn() -> None:
    given, unit = small_case()
    variances, _ = priors.prior_variances(SMALL_BASIS, small_logs())
    precision = np.tile(np.r_[1 / variances, np.full(3, 1 / 900.0)], (2, 1))
    posterior = solve(given.information(SMALL_BASIS), precision)
    asked = np.random.default_rng(5).uniform(0, 119, (300, 2))
    mean, std = regressor(given, unit).predict((asked + 0.5) / 120, return_std=True)
    design = SMALL_BASIS.design(asked, spare=3)
    design[-3:] = np.c_[np.ones(300), (asked + 0.5) / 120].T
    off = (posterior.mean[1] @ design - mean) / std
    own = np.sqrt(np.einsum("kn,kl,ln->n", design, posterior.covariance[1], design))
    assert np.sqrt(np.mean(off**2)) < 0.1
    np.testing.assert_allclose(own, std, rtol=0.1)


def test_the_evidence_rises_where_that_of_scikit_learn_does() -> None:
    """Value and slope against the marginal likelihood under the continuous kernel."""
    given, unit = small_case()
    fitted = regressor(given, unit)
    known = marginal(given.information(SMALL_BASIS), SMALL_BASIS.size, np.full((2, 3), 1 / 900.0))
    names = [priors.NAMES.index(name) for name in ("smooth", "smooth_length")]
    start, values = fitted.kernel_.theta, []
    for change in (np.zeros(2), np.array([0.3, -0.1])):
        logs = small_logs()
        logs[names] += change
        variances, slopes = priors.prior_variances(SMALL_BASIS, logs)
        found = scored([(known.blocks[1], known.vector[1])], SMALL_BASIS.size, variances)
        # scikit-learn's first logarithm is that of the variance
        theirs, up = fitted.log_marginal_likelihood(
            start + change * [2, 1], eval_gradient=True, clone_kernel=False
        )
        ours = -(slopes @ (found.slope / variances))[names]
        np.testing.assert_allclose(ours, up * [2, 1], rtol=0.05, atol=0.5)
        values.append((-found.value, theirs))
    assert np.ptp([ours for ours, _ in values]) > 1
    gains = np.diff(values, axis=0)[0]
    assert gains[0] == pytest.approx(gains[1], abs=0.3)
