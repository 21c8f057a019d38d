"""Training that fails says so: a loss or gradient that is not finite stops it, one that explodes is told."""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers.trainer_callback import TrainerCallback

from trainer.errors import TrainingError

logger = logging.getLogger(__name__)

#: The loss is told once where it is so many times what it was at the start, or so high where that was below 1.
EXPLOSION = 1000.0
_ID_BYTES = 100


def encode_ids(names: Iterable[str]) -> torch.Tensor:
    """Return ids as bytes (B, 100), cut where they are longer: text does not pass through a data loader's devices."""
    fixed = (name.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"\0") for name in names)
    return torch.frombuffer(bytearray(b"".join(fixed)), dtype=torch.uint8).view(-1, _ID_BYTES)


def decode_ids(ids: torch.Tensor) -> list[str]:
    """Return what `encode_ids` was given."""
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in ids.tolist()]


class DivergenceCallback(TrainerCallback):
    """Reads the losses and gradients of all steps before anything is logged, evaluated or saved, and at the end.

    Until then they stay on the device, so that no step waits for the host. What is not finite is found before a
    checkpoint is written in place of a good one.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._ids: list[torch.Tensor | None] = []
        self._micro_batch = 0
        self._records: list[tuple[int, list[torch.Tensor | None], dict[str, torch.Tensor]]] = []
        self._start: float | None = None
        self._told = False

    def begin_update(self, ids: list[torch.Tensor | None]) -> None:
        """Take the rows of an update's micro-batches, see `encode_ids`; None where they are not known."""
        self._ids, self._micro_batch = ids, 0

    def add_losses(self, step: int, losses: Mapping[str, torch.Tensor | None]) -> None:
        """Keep the losses of the next micro-batch, by name."""
        ids = self._ids[self._micro_batch : self._micro_batch + 1]
        self._records.append((step, ids, {name: loss.detach() for name, loss in losses.items() if loss is not None}))
        self._micro_batch += 1

    def add_gradient(self, step: int, norm: torch.Tensor) -> None:
        """Keep the norm of an update's gradient."""
        self._records.append((step, self._ids, {"gradient": norm.detach()}))

    def check(self) -> None:
        """Read what was kept, and start over.

        Raises:
            TrainingError: it is not finite, in any process, and all raise the same; names the step, the terms and the
                rows.
        """
        records, self._records = self._records, []
        kept = [value.float() for _, _, values in records for value in values.values()]
        flat = torch.stack(kept) if kept else torch.zeros(1, device=self.accelerator.device)
        wrong = cast(torch.Tensor, self.accelerator.reduce((~flat.isfinite()).sum(), "sum"))
        wrong, *numbers = torch.cat([wrong[None], flat]).tolist()
        numbers, found = iter(numbers), []
        for step, ids, values in records:
            read = dict(zip(values, numbers, strict=False))
            if terms := [f"{name} ({value})" for name, value in read.items() if not math.isfinite(value)]:
                rows = [name for part in ids if part is not None for name in decode_ids(part)]
                found.append((step, "gradient" in read, terms, rows))
            elif not found:
                self._tell_explosion(step, read.get("loss"))
        if wrong:
            # A gradient is of all processes: what spoiled it is the loss of one.
            step, _, terms, rows = min(gather_object(found[:1]), key=lambda each: each[:2])
            raise TrainingError(
                f"Not finite at step {step}: {', '.join(terms)}{', on the rows ' * bool(rows)}{', '.join(rows)}. "
                "Training stopped; the checkpoints before it are kept. Look at these rows, lower learning_rate, or "
                "leave bf16 and fp16 out."
            )

    def _tell_explosion(self, step: int, loss: float | None) -> None:
        if loss is None:
            return
        self._start = loss if self._start is None else self._start
        if loss > EXPLOSION * max(self._start, 1.0) and not self._told:
            self._told = True
            logger.warning(
                f"The loss was {self._start:.3g} at the start and is {loss:.3g} at step {step}: training diverges. "
                "Lower learning_rate."
            )

    def on_train_begin(self, args, state, control, **kwargs):
        """Forget an earlier run."""
        self._records, self._start, self._told = [], None, False

    def on_step_end(self, args, state, control, **kwargs):
        """Check where the host waits anyway."""
        if control.should_log or control.should_evaluate or control.should_save:
            self.check()

    def on_epoch_end(self, args, state, control, **kwargs):
        """Check where the host waits anyway."""
        self.on_step_end(args, state, control)

    def on_train_end(self, args, state, control, **kwargs):
        """Check the steps after the last log."""
        self.check()
