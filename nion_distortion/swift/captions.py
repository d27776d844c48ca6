"""Results -> what stands above and below a picture."""

import gettext
from typing import TYPE_CHECKING

from nion_distortion.swift.phrases import estimate, folds, sentence, state_name, translated
from nion_distortion.swift.xdata import KNOWN_CRYSTAL, measured_scale, scale_numbers

if TYPE_CHECKING:
    from nion_distortion.correction import CorrectedFrame
    from nion_distortion.pipeline import FrameReport
    from nion_distortion.session import LiveReport

__all__ = ["caption_of", "pixel_size"]

_ = gettext.gettext


def caption_of(live: "LiveReport", corrected: "CorrectedFrame | None") -> str:
    """Say why there is nothing new, how good the picture is, and whether its scale is known.

    Parameters
    ----------
    live : LiveReport
        The newest.
    corrected : CorrectedFrame or None
        What is shown of it.

    Returns
    -------
    str
        Sentences; numbers with their units and uncertainties.
    """
    report = live.report
    said = [sentence(live.reason or "")]
    if report is not None and corrected is not None:
        said += [
            _corrected_by(live),
            _residual(report),
            folds(report.folded, report.crossed),
            _state(report),
        ]
        said.append(pixel_size(live, corrected))
    return " ".join(filter(None, said))


def _corrected_by(live: "LiveReport") -> str:
    """Say by what the picture was corrected."""
    report = live.report
    if report is None or report.field is None:
        return ""
    if report.field.kind == "frame":
        return _("The sample is taken as the reference.")
    if live.calibration is None:
        return _("Corrected by what earlier frames have shown.")
    said = _("Corrected by the stored calibration {id}.")
    if live.accepted:
        said = _("Corrected by the stored calibration {id} and {frames} later frames.")
    return said.format(id=live.calibration.calibration_id[:6], frames=live.accepted)


def _residual(report: "FrameReport") -> str:
    off_by, left = report.off_by_pm, report.corrected_pm
    if off_by is None or left is None:
        return ""
    said = _("Off by {off}, corrected: {left:.1f} pm expected (rms, no uncertainty).").format(
        off=estimate(off_by), left=left.value
    )
    if report.worth_it is False:
        said += " " + _("Correcting is not worth it: its error exceeds its gain.")
    return said


def _state(report: "FrameReport") -> str:
    if not report.state_reason:
        return ""
    return sentence(f"{state_name(report.state)}: {translated(report.state_reason)}")


def pixel_size(live: "LiveReport", corrected: "CorrectedFrame") -> str:
    """Say how large a pixel is, and how that is known.

    Parameters
    ----------
    live : LiveReport
        The newest.
    corrected : CorrectedFrame
        What is shown.

    Returns
    -------
    str
        One sentence.
    """
    size_pm = 1e3 * corrected.pixel_size_nm
    if measured_scale(live) == KNOWN_CRYSTAL:
        said = _("A pixel is {pm:.2f} pm, by the known crystal").format(pm=size_pm)
        return said + _as_scanned(scale_numbers(live)) + "."
    return _("A pixel is nominally {pm:.2f} pm; nothing has measured the scale.").format(pm=size_pm)


def _as_scanned(numbers: dict[str, float] | None) -> str:
    """Say how large a pixel of the scan was; nothing where that was not measured."""
    if numbers is None:
        return ""
    nominal_pm = 1e3 * numbers["nominal_pixel_size_nm"]
    said = [
        _("{axis} {pm:.3f} ± {std:.3f}").format(
            axis=axis,
            pm=1e3 * numbers[f"scanned_pixel_{name}_nm"],
            std=nominal_pm * numbers[f"scale_error_{name}_std_percent"] / 100,
        )
        for axis, name in (("y", "slow"), ("x", "fast"))
    ]
    return _(" (as scanned: {sizes} pm)").format(sizes=", ".join(said))
