"""Micro-batches: what several clients ask at the same time is answered together."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any


class Batcher:
    """Gathers items into batches, and answers them in threads of its own, each one batch after another.

    Whatever came while batches were answered is shared out between the threads that are free. A batch that is not full
    waits for those that are on their way, but never longer than `seconds`; an item that comes alone waits for nothing.

    `answer` is from a list of items, `size` at most, to their answers; `workers` is how many batches run at a time.
    """

    def __init__(self, answer: Callable[[list], list], size: int, seconds: float, workers: int = 1):
        self._answer, self._size, self._seconds = answer, size, seconds
        self._free, self._lock = workers, Lock()
        self._queue: SimpleQueue[tuple[Any, Future]] = SimpleQueue()
        self._coming = 0
        for _ in range(workers):
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
            try:
                answers = self._answer([item for item, _ in batch]) if batch else []
                answered = list(zip(batch, answers, strict=True))
            except Exception as error:  # the clients are told, and the thread lives on
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), answer in answered:
                    future.set_result(answer)
            with self._lock:
                self._free += 1

    def _gather(self) -> list[tuple[Any, Future]]:
        batch = [self._queue.get()]
        end = monotonic() + self._seconds
        with self._lock:
            share = -(-(1 + self._queue.qsize() + self._coming) // self._free)
            self._free -= 1
        with suppress(Empty):
            while len(batch) < min(self._size, share):
                left = end - monotonic() if self._coming else 0.0
                batch.append(self._queue.get(left > 0, left))
        return batch
