"""The worker: newest wins, drops are counted, no exception ends it."""

import logging
import threading
import weakref

import numpy as np
import pytest

from nion_distortion.worker import Worker

PATIENCE_S = 10.0


class Gate:
    """Work that waits to be let go, and says when it began."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.seen: list[object] = []

    def __call__(self, item: object) -> None:
        self.seen.append(item)
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE_S)

    def wait_begun(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE_S)


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_newest_item_wins_and_replaced_ones_count_as_dropped() -> None:
    gate = Gate()
    worker = Worker(gate)
    worker.submit(1)
    gate.wait_begun()
    for item in (2, 3, 4):
        worker.submit(item)
    gate.go.release()
    gate.wait_begun()
    gate.go.release()
    assert worker.close()
    assert gate.seen == [1, 4]
    assert worker.dropped == 2


def test_worker_that_takes_all_lets_who_submits_wait() -> None:
    gate, submitted = Gate(), threading.Event()
    worker = Worker(gate, takes_all=True)

    def submit() -> None:
        for item in (1, 2, 3):  # one in hand, one that waits, and one too many
            worker.submit(item)
        submitted.set()

    threading.Thread(target=submit).start()
    gate.wait_begun()
    assert not submitted.is_set()
    gate.go.release(3)
    assert submitted.wait(PATIENCE_S)
    for _ in range(2):
        gate.wait_begun()
    assert worker.close()
    assert gate.seen == [1, 2, 3]
    assert worker.dropped == 0


def test_who_waits_to_submit_is_let_go_when_the_worker_is_closed() -> None:
    gate, submitted = Gate(), threading.Event()
    worker = Worker(gate, takes_all=True)

    def submit() -> None:
        for item in (1, 2, 3):
            worker.submit(item)
        submitted.set()

    threading.Thread(target=submit).start()
    gate.wait_begun()
    worker.close(timeout_s=0.0)
    assert submitted.wait(PATIENCE_S)
    gate.go.release()
    assert worker.close()
    assert gate.seen == [1]


def test_none_is_an_item_like_any_other() -> None:
    gate = Gate()
    worker = Worker(gate)
    worker.submit(None)
    gate.wait_begun()
    gate.go.release()
    assert worker.close()
    assert gate.seen == [None]


def test_exception_is_logged_with_traceback_told_and_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Exception] = []
    done = threading.Event()

    def work(item: int) -> None:
        if item == 1:
            raise RuntimeError("bad item")
        done.set()

    both = threading.Event()

    def failed(error: Exception) -> None:
        told.append(error)
        both.set()
        raise KeyError("the owner fails too")

    with caplog.at_level(logging.ERROR):
        worker = Worker(work, failed=failed)
        worker.submit(1)
        assert both.wait(PATIENCE_S)
        worker.submit(2)
        assert done.wait(PATIENCE_S)
        assert worker.close()
    assert [str(error) for error in told] == ["bad item"]
    assert "RuntimeError: bad item" in caplog.text
    assert "KeyError" in caplog.text


def test_failure_that_repeats_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Semaphore(0)

    def work(item: str) -> None:
        raise RuntimeError(item)

    worker = Worker(work, failed=lambda _: told.release())
    for item in ("one", "one", "two"):
        worker.submit(item)
        assert told.acquire(timeout=PATIENCE_S)
    assert worker.close()
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        "one",
        "two",
    ]


def test_prepare_and_finish_run_on_the_workers_thread_and_may_fail() -> None:
    order: list[object] = []
    done = threading.Event()

    def prepare() -> None:
        order.append(threading.current_thread().name)
        raise ImportError("nothing there")

    def finish() -> None:
        order.append(threading.current_thread().name)
        raise OSError("nothing left")

    def work(item: object) -> None:
        order.append(item)
        done.set()

    def failed(error: Exception) -> None:
        order.append(str(error))

    worker = Worker(work, failed=failed, prepare=prepare, finish=finish, name="w1")
    worker.submit("item")
    assert done.wait(PATIENCE_S)
    assert worker.close()
    assert order == ["w1", "nothing there", "item", "w1", "nothing left"]


def test_close_ends_the_thread_leaves_the_waiting_item_and_ignores_later_ones() -> None:
    gate = Gate()
    worker = Worker(gate, name="w2")
    worker.submit("first")
    gate.wait_begun()
    worker.submit("never begun")
    assert not worker.close(timeout_s=0.0)
    gate.go.release()
    assert worker.close()
    worker.submit("too late")
    assert gate.seen == ["first"]
    assert worker.dropped == 0
    assert not threads_named("w2")


def test_worker_can_be_closed_from_its_own_work() -> None:
    closed: list[bool] = []
    done = threading.Event()

    def work(_: object) -> None:
        closed.append(worker.close())
        done.set()

    worker = Worker(work)
    worker.submit(0)
    assert done.wait(PATIENCE_S)
    assert worker.close()
    assert closed == [False]


def test_submit_does_not_wait_for_the_work_in_hand() -> None:
    gate = Gate()
    worker = Worker(gate)
    worker.submit("slow")
    gate.wait_begun()
    outside = threading.Thread(target=worker.submit, args=("next",))
    outside.start()
    outside.join(PATIENCE_S)
    assert not outside.is_alive()
    gate.go.release()
    gate.wait_begun()
    gate.go.release()
    assert worker.close()


def test_many_submitters_lose_nothing_but_what_is_counted() -> None:
    seen: list[int] = []
    worker = Worker(seen.append)

    def submit_all() -> None:
        for item in range(500):
            worker.submit(item)

    submitters = [threading.Thread(target=submit_all) for _ in range(4)]
    for thread in submitters:
        thread.start()
    for thread in submitters:
        thread.join()
    dropped = worker.dropped
    assert worker.close()
    assert len(seen) + dropped in (1999, 2000)  # the last one may have waited when it was closed


class Kept(logging.Handler):
    """Keeps every record, as Nion Swift does."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_a_log_that_keeps_its_records_does_not_keep_the_arrays_of_what_failed() -> None:
    arrays: list[weakref.ref[object]] = []

    def cause(values: np.ndarray) -> None:
        raise ValueError(f"first {values[0]}")

    def work(item: float) -> None:
        values = np.full(1000, item)
        arrays.append(weakref.ref(values))
        try:
            cause(values)
        except ValueError as error:
            raise RuntimeError("second") from error

    handler, done = Kept(), threading.Event()
    log = logging.getLogger("nion_distortion.worker")
    log.addHandler(handler)
    worker = Worker(work, failed=lambda _: done.set())
    worker.submit(2.0)
    assert done.wait(PATIENCE_S)
    assert worker.close()
    log.removeHandler(handler)
    (record,) = handler.records
    assert arrays[0]() is None
    said = logging.Formatter().format(record)
    assert "in cause" in said
    assert "RuntimeError: second" in said
