"""Reports -> pictures (Matplotlib) and the HTML report; the same for command and notebook."""

from nion_distortion.figures.pictures import (
    components_figure,
    difference_figure,
    displacement_figure,
    drift_figure,
    history_figure,
    pair_figure,
    residual_figure,
    uncertainty_figure,
)
from nion_distortion.figures.report import write_report

__all__ = [
    "components_figure",
    "difference_figure",
    "displacement_figure",
    "drift_figure",
    "history_figure",
    "pair_figure",
    "residual_figure",
    "uncertainty_figure",
    "write_report",
]
