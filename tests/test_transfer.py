"""A calibration on another sample: what the sample does is kept, and only D is applied."""

from dataclasses import replace

import pytest
from model_cases import SMALL, flyback_model

from benchmarks.transfer import transfer
from nion_distortion.correction import correct_frame
from nion_distortion.frame import Frame
from nion_distortion.options import Options
from nion_distortion.pipeline import process_frame
from simulator.microscope import Microscope
from simulator.specimen import make_specimen


def other_sample() -> Frame:
    return Microscope(make_specimen("batio3_polar", rotation_rad=0.5), seed=3).shot(SMALL).frame


def test_polar_shift_and_strain_step_are_kept() -> None:
    found = {name: one.value for name, one in transfer(quick=True).items()}

    for name in ("shift", "step"):
        mean, sd = found[f"transfer {name}"], found[f"transfer {name}-sd"]
        assert mean is not None
        assert sd is not None
        assert mean < 0.5
        assert sd < 0.5


def test_what_one_frame_did_is_refused_on_another_sample() -> None:
    field = flyback_model()[0].frame_estimate().field

    assert field.kind == "frame"
    with pytest.raises(ValueError, match="frame"):
        correct_frame(other_sample(), field)


@pytest.mark.parametrize("is_flat", [False, True])
def test_another_sample_gets_d_alone_and_teaches_nothing(is_flat: bool) -> None:  # noqa: FBT001
    model, frame = flyback_model()[0], other_sample()
    if is_flat:  # no lattice to be found
        frame = replace(frame, image=0 * frame.image + 7.0, provenance={})

    report = process_frame(frame, model=model, options=Options(sample="unknown"))

    assert report.unusable is None
    assert report.corrected is not None
    assert report.field is not None
    assert report.field.kind == "stationary"
    assert report.model is model
