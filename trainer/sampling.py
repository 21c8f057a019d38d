"""The order in which training utterances come: batches of similar length, the same after a resumed start."""

import logging
from collections.abc import Iterator
from typing import Any, cast

import torch
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from trainer.arguments import M4SERTrainingArguments
from trainer.rows import DURATION_COLUMN

logger = logging.getLogger(__name__)


class EpochSampler(LengthGroupedSampler):
    """Length-grouped order that depends on seed and epoch alone, so that a resumed run sees the same batches.

    Args:
        batch_size: utterances of one update, over all micro-batches and processes.
        lengths: of the utterances, in any unit.
        seed: of the order.
    """

    def __init__(self, batch_size: int, lengths: list[float], seed: int):
        super().__init__(batch_size, lengths=cast(list[int], lengths))  # the library only compares them
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return super().__iter__()


class SamplerEpochCallback(TrainerCallback):
    """Tells a sampler the epoch.

    The data loader's own `set_epoch` does not reach a sampler through the wrappers of a resumed, distributed run.
    """

    def __init__(self):
        self.sampler: EpochSampler | None = None

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Set the sampler's epoch."""
        if self.sampler is not None:
            self.sampler.epoch = int(state.epoch or 0)


def length_grouped_sampler(dataset: Any, args: M4SERTrainingArguments) -> EpochSampler:
    """Return the sampler of `train_sampling_strategy="group_by_length"`.

    Where the durations of the utterances are not known, their order is random, which is told.

    Raises:
        ValueError: the data set has no column `args.length_column_name`, and that is not the default.
    """
    column, columns = args.length_column_name, getattr(dataset, "column_names", [])
    if column in columns:
        lengths = dataset[column]
    elif column == DURATION_COLUMN:
        logger.warning(
            "The durations of the training data are not known: batches are in random order, and not of utterances of "
            "similar length. A column %r (seconds) makes training faster.",
            column,
        )
        lengths = [0.0] * len(dataset)
    else:
        raise ValueError(
            f"The training data has no column {column!r} to group batches by (columns: {', '.join(columns)}). Name "
            "one with length_column_name or set train_sampling_strategy='random'."
        )
    seed = args.seed if args.data_seed is None else args.data_seed
    update_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return EpochSampler(update_size, lengths, seed)
