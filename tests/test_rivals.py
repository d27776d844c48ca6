from collections.abc import Mapping

import pytest

from benchmarks.rivals import Compared, compare_rivals
from benchmarks.sections import RIVALS

Found = Mapping[str, Mapping[str, list[Compared]]]


@pytest.fixture(scope="module")
def found() -> Found:
    return compare_rivals(seeds=1)


def test_ours_leaves_less_than_each_rival(found: Found) -> None:
    assert list(found) == ["fly-back", "real-like"]
    for kind, ways in found.items():
        assert tuple(ways) == RIVALS
        (ours,) = ways["ours, 5 frames"]
        for way in RIVALS[:3]:
            (rival,) = ways[way]
            for judged in ("same_frame", "other_frame", "other_sample"):
                share = getattr(ours, judged).share
                assert share > getattr(rival, judged).share, (kind, way, judged)


def test_columns_of_another_sample_come_nearest_to_their_places_by_ours(found: Found) -> None:
    ways = found["fly-back"]  # in the other scan the judged frame's own walk hides the difference
    (ours,) = ways["ours, 5 frames"]

    assert max(ours.columns_pm) < 5.0  # of 20 to 50 counts
    for way in RIVALS[:3]:
        assert sum(ours.columns_pm) < sum(ways[way][0].columns_pm), way
