"""Batches of any data set: its columns are found, and in training, utterances of similar length come together."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
import torch
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import has_length

from trainer.arguments import M4SERTrainingArguments
from trainer.callbacks.divergence import encode_ids
from trainer.errors import TrainingError
from trainer.inputs.rows import DURATION_COLUMN, RowReader

logger = logging.getLogger(__name__)

#: What a batch that is trained on says of its rows, see `CollatorWithIds`.
ROW_IDS = "row_ids"


class EpochSampler(LengthGroupedSampler):
    """Length-grouped order that depends on seed and epoch alone, so that a resumed run sees the same batches.

    `batch_size` are the utterances of one update, over all micro-batches and processes; `lengths` are in any unit.
    `current_epoch` is asked at the start of each pass: the data loader's own `set_epoch` does not reach a sampler
    through the wrappers of a resumed, distributed run.
    """

    def __init__(self, batch_size: int, lengths: list[float], seed: int, current_epoch: Callable[[], int]):
        super().__init__(batch_size, lengths=cast(list[int], lengths))  # the library only compares them
        self.seed = seed
        self.current_epoch = current_epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.current_epoch())
        return super().__iter__()


def length_grouped_sampler(
    dataset: Any, args: M4SERTrainingArguments, current_epoch: Callable[[], int]
) -> EpochSampler:
    """Return the sampler of `train_sampling_strategy="group_by_length"`; a random one where no durations are known."""
    column, columns = args.length_column_name, getattr(dataset, "column_names", [])
    if column in columns:
        lengths = [_length(value, f"train_dataset[{index}]", column) for index, value in enumerate(dataset[column])]
    elif column == DURATION_COLUMN:
        logger.warning(
            "The durations of the training data are not known: batches are in random order, and not of utterances of "
            "similar length. A column %r (seconds) makes training faster.",
            column,
        )
        lengths = [0.0] * len(dataset)
    else:
        raise TrainingError(
            f"The training data has no column {column!r} to group batches by (columns: {', '.join(columns)}). Name "
            "one with length_column_name or set train_sampling_strategy='random'."
        )
    seed = args.seed if args.data_seed is None else args.data_seed
    update_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return EpochSampler(update_size, lengths, seed, current_epoch)


def _length(value: Any, row: str, column: str) -> float:
    """Return what batches are grouped by, as a number; text and time spans such as "00:01:02.5" in seconds."""
    try:
        try:
            length = float(value)
        except (TypeError, ValueError):
            length = pd.Timedelta(value).total_seconds()
    except (TypeError, ValueError):
        length = math.nan
    if not math.isfinite(length):
        raise TrainingError(
            f"{row} has the {column} {value!r}, which is no number: batches are grouped by it. Complete the column, "
            "leave it out (recordings are measured then), or set train_sampling_strategy='random'."
        )
    return length


@dataclass
class CollatorWithIds:
    """Makes a collator's batches to train on, with the ids of their rows, as `encode_ids` writes them, as `ROW_IDS`."""

    collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch."""
        collate = getattr(self.collator, "training_batch", self.collator)
        return {**collate(rows), ROW_IDS: encode_ids(str(row.get("id")) for row in rows)}


class AnyDataMixin(Trainer):
    """The part of a [`transformers.Trainer`] that reads data sets in columns of their own.

    Without a `row_reader`, rows go to the collator as they are.
    """

    row_reader: RowReader | None = None

    def read_data(self, dataset: Any, name: str, training: bool = False) -> Any:
        """Return a data set, or of an evaluation several by name, in the collator's columns."""
        if self.row_reader is None or dataset is None:
            return dataset
        if isinstance(dataset, dict) and dataset and not training:
            return {key: self.read_data(part, f"{name}[{key!r}]") for key, part in dataset.items()}
        return self.row_reader.read(dataset, name, training)

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches of the training data; it may have been exchanged since the trainer was made."""
        self.train_dataset = self.read_data(self.train_dataset, "train_dataset", training=True)
        if self.args.train_sampling_strategy == "group_by_length" and not has_length(self.train_dataset):
            logger.warning(
                "The training data is a stream: it comes in its own order, and batches are not of utterances of "
                "similar length. dataset.shuffle(seed=…, buffer_size=…) mixes a stream of `datasets`."
            )
        collator = self.data_collator
        if self.is_in_train and self.row_reader is not None:  # whoever asks else gives the batches to a model
            self.data_collator = CollatorWithIds(collator)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collator

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the batches of an evaluation, on a data set in columns of its own too."""
        self._forget_batches()
        self.eval_dataset = self.read_data(self.eval_dataset, "eval_dataset")
        several = self.eval_dataset if isinstance(self.eval_dataset, dict) else {}
        is_name = isinstance(eval_dataset, str) and eval_dataset in several
        return super().get_eval_dataloader(eval_dataset if is_name else self.read_data(eval_dataset, "eval_dataset"))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Return the batches of a prediction, on a data set in columns of its own too."""
        self._forget_batches()
        return super().get_test_dataloader(self.read_data(test_dataset, "test_dataset"))

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        # What the model's `forward` does not take, the collator does.
        return dataset if self.row_reader else super()._remove_unused_columns(dataset, description)

    def _get_collator_with_removed_columns(self, data_collator: Callable, description: str | None = None) -> Callable:
        known = super()._get_collator_with_removed_columns
        return data_collator if self.row_reader else known(data_collator, description)

    def _forget_batches(self) -> None:
        """Metrics by batches (`batch_eval_metrics`) start over, also after an evaluation that was interrupted."""
        reset = getattr(self.compute_metrics, "reset", None)
        if callable(reset):
            reset()

    def _get_train_sampler(self, train_dataset: Any = None):
        train_dataset = cast(Any, self.train_dataset) if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        args = cast(M4SERTrainingArguments, self.args)
        return length_grouped_sampler(train_dataset, args, lambda: int(self.state.epoch or 0))

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return SequentialSampler(eval_dataset)  # the library's groups by length in a random order
