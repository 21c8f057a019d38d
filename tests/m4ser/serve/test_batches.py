"""Micro-batches: who waits for whom, and what becomes of failures and of those who gave up."""

import threading
from time import monotonic

import pytest

from m4ser.serve.batches import Batcher


class Echo:
    """Answers an item with (item, size of its batch), when it is let; items that are errors are raised."""

    def __init__(self):
        self.batches, self.go, self.begun = [], threading.Event(), threading.Event()

    def __call__(self, items):
        self.batches.append(items)
        self.begun.set()
        assert self.go.wait(10)
        if errors := [item for item in items if isinstance(item, Exception)]:
            raise errors[0]
        return [(item, len(items)) for item in items]


def test_what_came_meanwhile_is_the_next_batch_in_order():
    echo = Echo()
    batcher = Batcher(echo, 3, 0.0)
    futures = [batcher.submit(0)]
    assert echo.begun.wait(10)
    futures += [batcher.submit(number) for number in range(1, 6)]
    echo.go.set()
    assert [future.result(10) for future in futures] == [(0, 1), (1, 3), (2, 3), (3, 3), (4, 2), (5, 2)]


def test_a_batch_waits_for_what_is_on_its_way_and_no_longer():
    echo = Echo()
    echo.go.set()
    batcher = Batcher(echo, 3, 30.0)
    began = monotonic()
    assert batcher.submit("alone").result(10) == ("alone", 1)  # nobody is on the way: no wait of 30 s
    with batcher.coming():
        first = batcher.submit("first")
        assert not first.done()
        second, third = batcher.submit("second"), batcher.submit("third")
        assert [each.result(10)[1] for each in (first, second, third)] == [3, 3, 3]
    assert monotonic() - began < 20
    with Batcher(echo, 3, 0.05).coming():
        pass
    slow = Batcher(echo, 3, 0.05)
    with slow.coming():
        assert slow.submit("impatient").result(10) == ("impatient", 1)


def test_a_failure_is_told_to_its_batch_and_the_next_is_answered():
    echo = Echo()
    echo.go.set()
    batcher = Batcher(echo, 4, 0.0)
    with pytest.raises(KeyError):
        batcher.submit(KeyError("lost")).result(10)
    assert batcher.submit("well").result(10) == ("well", 1)


def test_what_was_cancelled_before_its_batch_is_left_out():
    echo = Echo()
    batcher = Batcher(echo, 4, 0.0)
    first = batcher.submit("first")
    assert echo.begun.wait(10)
    gone, kept = batcher.submit("gone"), batcher.submit("kept")
    assert gone.cancel()
    echo.go.set()
    assert (first.result(10), kept.result(10)) == (("first", 1), ("kept", 1))
    assert echo.batches == [["first"], ["kept"]]
