import json
from typing import NamedTuple

import numpy as np
import pytest

from nion_distortion._plain import as_plain


class Pair(NamedTuple):
    value: float
    std: float


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(1.5), 1.5),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array(7), 7),
        (Pair(2.0, np.nan), {"value": 2.0, "std": None}),
        ({1: (True, None, "a")}, {"1": [True, None, "a"]}),
        (frozenset({"smooth"}), ["smooth"]),
        (-np.inf, None),
        (3 + 4j, "(3+4j)"),
    ],
)
def test_every_value_becomes_what_json_knows(value: object, expected: object) -> None:
    assert as_plain(value) == expected
    assert json.loads(json.dumps(as_plain(value), allow_nan=False)) == expected
