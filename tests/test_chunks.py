import multiprocessing
import os
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


def test_all_calls_share_one_helper_also_after_a_failure() -> None:
    def fail(start: int, _stop: int) -> None:
        raise ZeroDivisionError(str(start))

    def helpers() -> set[int]:
        meet = threading.Barrier(2, timeout=20)

        def part(start: int, _stop: int) -> int:
            if start == 0 or start == 100 // CHUNKS:
                meet.wait()
            return threading.get_ident()

        return set(for_chunks(part, 100)) - {threading.get_ident()}

    first = helpers()
    with pytest.raises(ZeroDivisionError):
        for_chunks(fail, 100)
    assert helpers() == first


def test_a_helper_in_use_leaves_other_calls_to_their_callers() -> None:
    is_busy, go_on = threading.Barrier(3, timeout=20), threading.Event()

    def hold(start: int, _stop: int) -> None:
        if start == 0 or start == 100 // CHUNKS:  # on both threads of the other caller
            is_busy.wait()
            assert go_on.wait(timeout=20)

    other = threading.Thread(target=for_chunks, args=(hold, 100))
    other.start()
    is_busy.wait()
    assert for_chunks(lambda *_: 1, 100) == [1] * CHUNKS
    go_on.set()
    other.join(timeout=20)
    assert not other.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_a_helper_of_its_own() -> None:
    for_chunks(lambda *_: None, 100)  # the parent's helper runs
    child = multiprocessing.get_context("fork").Process(target=test_both_threads_work)
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
