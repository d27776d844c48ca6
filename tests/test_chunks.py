import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few

from nion_distortion._chunks import CHUNKS, for_chunks


@few
@given(st.integers(0, 500), st.integers(0, 60))
def test_chunks_cover_all_rows_once_and_in_order(length: int, smallest: int) -> None:
    parts = for_chunks(lambda start, stop: list(range(start, stop)), length, smallest=smallest)
    assert [row for part in parts for row in part] == list(range(length))
    assert len(parts) == 1 or min(map(len, parts)) >= smallest


def test_result_is_that_of_one_call() -> None:
    values = np.random.default_rng(1).normal(size=(1000, 5))

    def sums(start: int, stop: int) -> Any:
        return values[start:stop].sum(axis=1)

    np.testing.assert_array_equal(np.concatenate(for_chunks(sums, 1000)), sums(0, 1000))


def test_few_rows_stay_on_the_callers_thread() -> None:
    threads = for_chunks(lambda *_: threading.get_ident(), 100, smallest=51)
    assert threads == [threading.get_ident()]


def test_both_threads_work() -> None:
    meet = threading.Barrier(2, timeout=20)

    def part(start: int, _stop: int) -> int:
        if start == 0 or start == 100 // CHUNKS:  # the first two chunks wait for each other
            meet.wait()
        return threading.get_ident()

    assert len(set(for_chunks(part, 100))) == 2


@pytest.mark.parametrize("fails", ["caller", "helper"])
def test_exceptions_of_either_thread_reach_the_caller(fails: str) -> None:
    meet, caller = threading.Barrier(2, timeout=20), threading.get_ident()

    def part(start: int, _stop: int) -> None:
        if start == 0 or start == 100 // CHUNKS:
            meet.wait()
            mine = "caller" if threading.get_ident() == caller else "helper"
            if mine == fails:
                raise ZeroDivisionError(mine)

    with pytest.raises(ZeroDivisionError, match=fails):
        for_chunks(part, 100)


def test_no_thread_is_left_after_a_failure() -> None:
    def part(start: int, _stop: int) -> None:
        raise ZeroDivisionError(str(start))

    with pytest.raises(ZeroDivisionError):
        for_chunks(part, 100)
    assert not [t for t in threading.enumerate() if t.name == "nion_distortion.chunks"]
