"""Training that is told to end, by a signal, saves a checkpoint first."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from transformers.trainer_callback import TrainerCallback
from transformers.utils import logging

logger: Any = logging.get_logger(__name__)

#: What schedulers send before they kill.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class StopCallback(TrainerCallback):
    """Once a signal of `STOP_SIGNALS` has come to any process, all save a checkpoint at the end of the same step.

    They exit with 128 + its number, as a shell says of what a signal has ended: 143 for SIGTERM, 138 for SIGUSR1. An
    evaluation that is due then is made first, so that the run that goes on is the undisturbed one.
    """

    def __init__(self):
        self._received = 0  # in this process
        self._agreed = 0  # in any process, at the end of the last step
        self._group: Any = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, signals are followed; Python lets the main thread alone do so."""
        self._received = self._agreed = 0
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        self._received = number

    def on_step_end(self, args, state, control, **kwargs):
        """Let all processes know of a signal, and save; at the end of an epoch, together with what is due then."""
        self._agreed = self._received
        if args.world_size > 1:
            self._group = self._group or dist.new_group(backend="gloo")  # by the CPU: no step waits for a GPU
            received = torch.tensor(self._received)
            dist.all_reduce(received, dist.ReduceOp.MAX, group=self._group)
            self._agreed = int(received)
        if self._agreed and not float(state.epoch or 0).is_integer():
            control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs):
        """Save."""
        if self._agreed:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        """Exit: what has been computed is on the disk."""
        if self._agreed:
            if args.should_log:
                logger.warning(
                    f"Stopped at step {state.global_step} by {signal.Signals(self._agreed).name}, after saving a "
                    "checkpoint: run the same command again to go on."
                )
            raise SystemExit(128 + self._agreed)


def start_worker(then: Callable[[int], None] | None, number: int) -> None:
    """Start a worker of a data loader, out of reach of the signals that its process's group is sent."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    if then is not None:
        then(number)
