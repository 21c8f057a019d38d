"""Batches of any data set: its columns are found, and its utterances come by length.

In training, lengths are mixed in each epoch; in evaluation, the longest come first, and answers in the data's order.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import recursively_apply
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import EvalPrediction, Trainer
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, has_length

from trainer.arguments import M4SERTrainingArguments
from trainer.errors import TrainingError
from trainer.inputs.rows import DURATION_COLUMN, RowReader

logger = logging.getLogger(__name__)


class EpochSampler(LengthGroupedSampler):
    """Length-grouped order that depends on seed and epoch alone, so that a resumed run sees the same batches.

    `batch_size` are the utterances of one update, over all micro-batches and processes; `lengths` are in any unit.
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
    """Return the sampler of `train_sampling_strategy="group_by_length"`; a random one where no durations are known."""
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
        raise TrainingError(
            f"The training data has no column {column!r} to group batches by (columns: {', '.join(columns)}). Name "
            "one with length_column_name or set train_sampling_strategy='random'."
        )
    seed = args.seed if args.data_seed is None else args.data_seed
    update_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return EpochSampler(update_size, lengths, seed)


class LongestFirstSampler(Sampler[int]):
    """Descending lengths, unknown ones last: batches have little padding, and the largest comes first."""

    def __init__(self, lengths: list[float | None]):
        self.order = np.argsort(-np.asarray(lengths, dtype=float), kind="stable")

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())

    def __len__(self) -> int:
        return len(self.order)


class AnyDataMixin(Trainer):
    """The part of a [`transformers.Trainer`] that reads data sets in columns of their own, longest first in evaluation.

    Predictions, labels, and what `compute_metrics` is given, come in the order of the data. Data without a column
    `args.length_column_name`, and streams, are read as they come; so are all where batches are returned one by one
    (`eval_do_concat_batches=False`) or the last rows may be left out (`dataloader_drop_last`). Without a `row_reader`,
    rows go to the collator as they are.
    """

    row_reader: RowReader | None = None
    sampler_epoch: SamplerEpochCallback

    def read_data(self, dataset: Any, name: str, training: bool = False) -> Any:
        """Return a data set, or several by name, in the collator's columns."""
        if self.row_reader is None or dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, dict):
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
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the batches of an evaluation, on a data set in columns of its own too."""
        self._forget_batches()
        self.eval_dataset = self.read_data(self.eval_dataset, "eval_dataset")
        return super().get_eval_dataloader(self.read_data(eval_dataset, "eval_dataset"))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Return the batches of a prediction, on a data set in columns of its own too."""
        self._forget_batches()
        return super().get_test_dataloader(self.read_data(test_dataset, "test_dataset"))

    def _forget_batches(self) -> None:
        """Metrics by batches (`batch_eval_metrics`) start over, also after an evaluation that was interrupted."""
        reset = getattr(self.compute_metrics, "reset", None)
        if callable(reset):
            reset()

    def _get_train_sampler(self, train_dataset: Any = None):
        train_dataset = cast(Any, self.train_dataset) if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        self.sampler_epoch.sampler = length_grouped_sampler(train_dataset, cast(M4SERTrainingArguments, self.args))
        return self.sampler_epoch.sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        column, columns = self.args.length_column_name, getattr(eval_dataset, "column_names", None) or []
        can_restore = self.args.eval_do_concat_batches and not self.args.dataloader_drop_last
        if can_restore and column in columns:
            return LongestFirstSampler(list(eval_dataset[column]))
        return SequentialSampler(eval_dataset)

    def evaluation_loop(self, dataloader: DataLoader, *args, **kwargs) -> EvalLoopOutput:
        """Run the library's loop; what comes of it is in the order of the data."""
        order = _reading_order(dataloader)
        if order is None:
            return super().evaluation_loop(dataloader, *args, **kwargs)
        compute_metrics = self.compute_metrics
        if compute_metrics is not None and not self.args.batch_eval_metrics:
            self.compute_metrics = _in_data_order(compute_metrics, order)
        try:
            output = super().evaluation_loop(dataloader, *args, **kwargs)
        finally:
            self.compute_metrics = compute_metrics
        return output._replace(
            predictions=_restore(output.predictions, order), label_ids=_restore(output.label_ids, order)
        )


def _reading_order(dataloader: DataLoader) -> np.ndarray | None:
    """Return the indices in the order in which a longest-first data loader reads them, over all processes."""
    batches = getattr(dataloader, "batch_sampler", None)
    batches = getattr(batches, "batch_sampler", batches)  # inside accelerate's, which keeps one process's share
    sampler = getattr(batches, "sampler", None)
    return sampler.order if isinstance(sampler, LongestFirstSampler) else None


def _restore(values: Any, order: np.ndarray) -> Any:
    """Put the rows of arrays, in whatever they are nested, back where they come from.

    What has no row for each utterance stays: `preprocess_logits_for_metrics` may have made one number of a batch.
    """
    back = np.argsort(order)
    return recursively_apply(
        lambda array: array[back] if len(array) == len(back) else array,
        values,
        test_type=lambda value: isinstance(value, np.ndarray),
    )


def _in_data_order(compute_metrics: Callable, order: np.ndarray) -> Callable[[EvalPrediction], dict[str, float]]:
    def compute(seen: EvalPrediction) -> dict[str, float]:
        parts = (seen.predictions, seen.label_ids, seen.inputs, seen.losses)
        return compute_metrics(EvalPrediction(*_restore(parts, order)))

    return compute
