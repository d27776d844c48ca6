"""The STEM controller: controls that can be set and do nothing."""

from collections.abc import Sequence

from nion.device_kit import InstrumentDevice
from nion.instrumentation import stem_controller
from nion.utils import Geometry

from simulator.nion_device.parameters import HIGH_TENSION_V

__all__ = ["make_controller"]

INSTRUMENT_ID = "nion_distortion_stem"


class _Values(InstrumentDevice.ValueManagerLike):
    """A dictionary of controls; "NAME.x" and "NAME.y" together are one 2-D control."""

    def __init__(self) -> None:
        pairs = ("CSH", "stage_position_m", "beam_shift_m")
        self._values = {f"{name}.{axis}": 0.0 for name in pairs for axis in "xy"}
        self._values |= {"EHT": HIGH_TENSION_V, "C10": 0.0, "BeamCurrent": 30e-12}
        self._values |= {"ConvergenceAngle": 0.03, "ZLPoffset": 0.0}

    def get_value(self, name: str) -> float | None:
        return self._values.get(name)

    def set_value(self, name: str, value: float) -> bool:
        known = name in self._values
        self._values[name] = value
        return known

    def inform_value(self, name: str, value: float) -> bool:
        return self.set_value(name, value)

    def get_value_2d(
        self,
        s: str,
        default_value: Geometry.FloatPoint | None = None,
        *,
        axis: stem_controller.AxisType | None = None,  # noqa: ARG002  # one pair of axes only
    ) -> Geometry.FloatPoint:
        if f"{s}.x" in self._values:
            return Geometry.FloatPoint(y=self._values[f"{s}.y"], x=self._values[f"{s}.x"])
        if default_value is None:
            raise KeyError(s)
        return default_value

    def set_value_2d(
        self,
        s: str,
        value: Geometry.FloatPoint,
        *,
        axis: stem_controller.AxisType | None = None,  # noqa: ARG002  # one pair of axes only
    ) -> bool:
        self._values[f"{s}.y"], self._values[f"{s}.x"] = value.y, value.x
        return True

    def inform_control_2d(
        self, s: str, value: Geometry.FloatPoint, *, axis: stem_controller.AxisType
    ) -> bool:
        return self.set_value_2d(s, value, axis=axis)

    def get_reference_setting_index(self, settings_control: str) -> int:  # noqa: ARG002
        return 0


class _Axes(InstrumentDevice.AxisManagerLike):
    @property
    def supported_axis_descriptions(self) -> Sequence[stem_controller.AxisDescription]:
        return []

    def axis_transform_point(
        self,
        point: Geometry.FloatPoint,
        from_axis: stem_controller.AxisDescription,  # noqa: ARG002
        to_axis: stem_controller.AxisDescription,  # noqa: ARG002
    ) -> Geometry.FloatPoint:
        return point


def make_controller() -> InstrumentDevice.Instrument:
    """Make a controller without a stage, a gun or a lens.

    Returns
    -------
    Instrument
        Not yet registered.
    """
    return InstrumentDevice.Instrument(INSTRUMENT_ID, _Values(), _Axes())
