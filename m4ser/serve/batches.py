"""Micro-batches: what several clients ask at the same time is answered together."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any


class Batcher:
    """Gathers items into batches, and answers them one batch after another, in a thread of its own.

    Whatever came while a batch was answered is the next one. A batch that is not full waits for those that are on
    their way, but never longer than `seconds`; an item that comes alone waits for nothing.

    Args:
        answer (`Callable`): from a list of items to the list of their answers.
        size (`int`): how many items a batch has at most.
        seconds (`float`): how long the first of a batch waits for others.
    """

    def __init__(self, answer: Callable[[list], list], size: int, seconds: float):
        self._answer, self._size, self._seconds = answer, size, seconds
        self._queue: SimpleQueue[tuple[Any, Future]] = SimpleQueue()
        self._coming = 0
        Thread(target=self._work, name="batches", daemon=True).start()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Announce an item that will be submitted; called in one thread alone."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    def submit(self, item: Any) -> Future:
        """Return the answer to come; one that is cancelled before its batch begins is left out."""
        future: Future = Future()
        self._queue.put((item, future))
        return future

    def _work(self) -> None:
        while True:
            batch = [(item, future) for item, future in self._gather() if future.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                answers = self._answer([item for item, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    future.set_result(answer)
            except Exception as error:  # the clients are told, and the thread lives on
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)

    def _gather(self) -> list[tuple[Any, Future]]:
        batch = [self._queue.get()]
        end = monotonic() + self._seconds
        with suppress(Empty):
            while len(batch) < self._size:
                left = end - monotonic() if self._coming else 0.0
                batch.append(self._queue.get(left > 0, left))
        return batch
