"""Micro-batches: who waits for whom, and what becomes of failures and of those who gave up."""

import threading

import pytest

from m4ser.serve.batches import Batcher


class Echo:
    """Answers an item with (item, size of its batch) once it may; items that are errors are raised."""

    def __init__(self, may_go=True):
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        if may_go:
            self.go.set()

    def __call__(self, items):
        self.begun.release()
        assert self.go.wait(10)
        if errors := [item for item in items if isinstance(item, Exception)]:
            raise errors[0]
        return [(item, len(items)) for item in items]


def test_what_came_meanwhile_is_the_next_batch_in_order_without_those_who_left():
    echo = Echo(may_go=False)
    batcher = Batcher(echo, 3, 0.0)
    futures = [batcher.submit(0)]
    assert echo.begun.acquire(timeout=10)
    futures += [batcher.submit(number) for number in range(1, 7)]
    assert futures.pop(2).cancel()
    echo.go.set()
    assert [future.result(10) for future in futures] == [(0, 1), (1, 2), (3, 2), (4, 3), (5, 3), (6, 3)]


def test_a_batch_waits_for_what_is_on_its_way_and_no_longer():
    batcher = Batcher(Echo(), 3, 30.0)
    assert batcher.submit("alone").result(10) == ("alone", 1)  # nobody is on the way: no wait of 30 s
    with batcher.coming(), batcher.coming():
        futures = [batcher.submit(number) for number in range(3)]
        assert [future.result(10)[1] for future in futures] == [3, 3, 3]
    assert batcher.submit("afterwards").result(10) == ("afterwards", 1)  # they have come
    slow = Batcher(Echo(), 3, 0.05)
    with slow.coming():
        assert slow.submit("impatient").result(10) == ("impatient", 1)


def test_threads_that_are_free_share_what_waits():
    echo = Echo(may_go=False)
    batcher = Batcher(echo, 8, 0.0, workers=2)
    futures = [batcher.submit(number) for number in range(4)]
    assert all(echo.begun.acquire(timeout=10) for _ in range(2))
    echo.go.set()
    assert all(future.result(10)[1] < 4 for future in futures)


def test_a_failure_is_told_to_its_batch_and_the_next_is_answered():
    batcher = Batcher(Echo(), 4, 0.0)
    with pytest.raises(KeyError):
        batcher.submit(KeyError("lost")).result(10)
    assert batcher.submit("well").result(10) == ("well", 1)
