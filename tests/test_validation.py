import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nion_distortion._validation import (
    as_array,
    as_finite,
    as_positive,
    check_length,
    frozen,
    reduce_frozen,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holder:
    values: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_array("values", self.values, (None,)))

    def __reduce__(self) -> Any:
        return reduce_frozen(self)


def test_a_writeable_array_is_copied_before_it_is_frozen() -> None:
    mine = np.arange(4.0)
    kept = frozen(mine)
    mine[0] = 9
    assert kept[0] == 0
    assert not kept.flags.writeable


def test_a_frozen_array_is_not_copied_again() -> None:
    kept = frozen(np.arange(4.0))
    assert frozen(kept) is kept
    assert as_array("values", kept, (4,)) is kept


def test_arrays_get_the_wanted_type() -> None:
    array = as_array("valid", [[0, 1, 2]], (None, 3), np.bool_)
    assert array.dtype == np.bool_
    assert array.tolist() == [[False, True, True]]


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 1), ()])
def test_another_shape_is_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^places must have shape \(n, 3\), not \("):
        as_array("places", np.zeros(shape), (None, 3))


@pytest.mark.parametrize("value", [None, "wide", [1.0, 2.0], object()])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^width must be a number, not "):
        as_finite("width", value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^width must be finite, not "):
        as_finite("width", value)


@pytest.mark.parametrize("value", [0.0, -1e-300, -5])
def test_a_number_that_is_not_positive_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^width must be positive, not "):
        as_positive("width", value)


def test_good_numbers_pass() -> None:
    assert as_positive("width", np.float32(2)) == 2.0
    assert as_finite("width", -3) == -3.0


def test_rows_must_be_as_many_as_their_companions() -> None:
    check_length("rows", np.zeros((3, 2)), 3)
    with pytest.raises(ValueError, match=r"^rows must have 4 rows, not 3$"):
        check_length("rows", np.zeros((3, 2)), 4)


def test_arrays_are_read_only_after_unpickling_too() -> None:
    again = pickle.loads(pickle.dumps(Holder(values=np.arange(3.0))))
    assert again.values.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        again.values[0] = 1
