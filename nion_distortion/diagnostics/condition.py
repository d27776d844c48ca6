"""Whether what is known of a scan still holds."""

from dataclasses import dataclass
from typing import Literal

from nion_distortion.diagnostics.numbers import PM_PER_NM
from nion_distortion.gaussian_process import DistortionModel
from nion_distortion.gaussian_process.coils import freedom_of
from nion_distortion.gaussian_process.watch import CONTRADICTED, ShapeWatch, Watch

__all__ = ["Condition", "State", "condition_of"]

State = Literal["valid", "ageing", "stale", "none"]

BLIND = {
    "affine": "; a change of scale or skew cannot be seen",
    "similarity": "; a change of the scale of both axes alike cannot be seen",
    "rigid": "",
}
"""Changes of D that no frame can show, by the class of maps that the reference leaves unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The state of a model.

    Parameters
    ----------
    state : {"valid", "ageing", "stale", "none"}
        Whether it still holds.
    reason : str
        One sentence with its number.
    value : float, optional
        That number: the difference of the newest frames over what noise explains (valid), the
        largest one there was (stale), or the growth of the predicted error (ageing); None where
        there is no model or no frame was compared.
    """

    state: State
    reason: str
    value: float | None = None


def condition_of(model: DistortionModel | None) -> Condition:
    """Say whether what is known of a scan still holds.

    Parameters
    ----------
    model : DistortionModel or None
        What is known, at the time of the frame.

    Returns
    -------
    Condition
        Stale before ageing: frames that disagree are worse than time that passed.
    """
    if model is None:
        return Condition(state="none", reason="nothing is known yet of a scan with these settings")
    watch, ageing = model.watch, model.ageing
    changed = _change(watch, model.shape_watch)
    if changed is not None:
        return changed
    if ageing.is_aged and ageing.now_px is not None:
        now_pm = _in_pm(model, ageing.now_px)
        return Condition(
            state="ageing",
            value=ageing.growth,
            reason=f"the predicted error has grown {ageing.growth:.1f} times since the "
            f"calibration, to {now_pm:.1f} pm: a few frames of a crystal would renew it; "
            f"{ageing.told()}",
        )
    if watch is None or not len(watch.recent):
        return Condition(
            state="valid",
            reason=f"not checked yet: no later frame was compared with it{_aged(model)}",
        )
    return Condition(
        state="valid",
        value=watch.score,
        reason=f"the newest frames differ from what is known by {watch.score:.2f} times what "
        f"noise explains (limit {watch.limit:.1f}){_unseen(model)}",
    )


def _change(watch: Watch | None, shapes: ShapeWatch | None) -> Condition | None:
    """Say which change the frames show, if they show one."""
    if watch is not None and watch.contradiction:
        return Condition(
            state="stale",
            value=watch.contradiction,
            reason=f"this frame differs from what is known by {watch.contradiction:.0f} times what "
            f"noise explains (limit {CONTRADICTED:.0f}): nothing is learnt from it; if others "
            "differ as well, the distortion has changed, calibrate anew",
        )
    if watch is not None and watch.is_stale:
        return Condition(
            state="stale",
            value=watch.worst,
            reason=f"frames differ from what is known by up to {watch.worst:.1f} times what noise "
            f"explains (limit {watch.limit:.1f}): the distortion has changed, calibrate anew",
        )
    if shapes is not None and shapes.is_stale:
        return Condition(
            state="stale",
            value=shapes.worst,
            reason="scale and skew of frames differ from what is known by up to "
            f"{shapes.worst:.1f} times what noise explains (limit {shapes.limit:.1f}): the scan, "
            "its focus or the crystal has changed, calibrate anew",
        )
    return None


def _in_pm(model: DistortionModel, value_px: float) -> float:
    return PM_PER_NM * model.settings.pixel_size_nm * value_px


def _aged(model: DistortionModel) -> str:
    """Say what age alone predicts; nothing of a model that is younger than a minute."""
    ageing = model.ageing
    if ageing.now_px is None or ageing.calibrated_px is None:
        return ""
    before_pm, now_pm = (_in_pm(model, one) for one in (ageing.calibrated_px, ageing.now_px))
    return f"; its own error has grown from {before_pm:.2g} to {now_pm:.2g} pm; {ageing.told()}"


def _unseen(model: DistortionModel) -> str:
    """Say how scale and skew compare, and which changes of them the reference does not show."""
    blind = BLIND[freedom_of(model.reference)]
    watch = model.shape_watch
    if watch is None or not len(watch.recent):
        return blind or "; scale and skew are not checked yet"
    return f", their scale and skew by {watch.score:.2f} times (limit {watch.limit:.1f}){blind}"
