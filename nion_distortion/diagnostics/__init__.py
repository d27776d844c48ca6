"""Results -> the numbers that people look at, and what they mean for who sits at the microscope."""

from nion_distortion._uncertainty import with_std
from nion_distortion.diagnostics.advice import FlybackAdvice, flyback_advice
from nion_distortion.diagnostics.condition import Condition, State, condition_of
from nion_distortion.diagnostics.hints import SetupHint, setup_hint
from nion_distortion.diagnostics.numbers import (
    Estimate,
    effective_counts,
    expected_error_pm,
    field_error_pm,
    is_worth_it,
    off_by_pm,
    removed_pm,
    scale_numbers,
)

__all__ = [
    "Condition",
    "Estimate",
    "FlybackAdvice",
    "SetupHint",
    "State",
    "condition_of",
    "effective_counts",
    "expected_error_pm",
    "field_error_pm",
    "flyback_advice",
    "is_worth_it",
    "off_by_pm",
    "removed_pm",
    "scale_numbers",
    "setup_hint",
    "with_std",
]
