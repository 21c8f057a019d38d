"""Batches of any data set: its columns are found, and its utterances come by length."""

import logging
from typing import Any, cast

from torch.utils.data import DataLoader
from transformers.trainer_utils import has_length

from trainer.arguments import M4SERTrainingArguments
from trainer.inputs.rows import RowReader
from trainer.inputs.sampling import LongestFirstEvaluationMixin, SamplerEpochCallback, length_grouped_sampler

logger = logging.getLogger(__name__)


class AnyDataMixin(LongestFirstEvaluationMixin):
    """The part of a [`transformers.Trainer`] that reads data sets in columns of their own, also those given later.

    Attributes:
        row_reader: reads them; without one, rows go to the collator as they are.
        sampler_epoch: a callback of the trainer.
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
