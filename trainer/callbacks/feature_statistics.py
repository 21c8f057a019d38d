"""The mean and standard deviation of what the encoders give, measured once before training."""

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Subset
from transformers.trainer_callback import TrainerCallback

from modeling_m4ser import M4SERForEmotionClassification

if TYPE_CHECKING:
    from trainer.m4ser_trainer import M4SERTrainer

#: Utterances that are enough to know the statistics of a few hundred dimensions by, at 50 frames a second.
MAX_STATISTICS_UTTERANCES = 1000


class _Moments:
    """Count, sum and sum of squares of vectors, in double precision."""

    def __init__(self):
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, vectors: torch.Tensor) -> None:
        """vectors (N, size)."""
        vectors = vectors.double()
        self.count += len(vectors)
        self.total = self.total + vectors.sum(0)
        self.squares = self.squares + vectors.square().sum(0)

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, (size,) each."""
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0).sqrt()


@torch.no_grad()
def measure_features(model: M4SERForEmotionClassification, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
    """
    Give the model's standardisers (`standardize_features`) the statistics of its encoders on these batches.

    The encoders run as in evaluation; every valid frame and token counts the same. [`trainer.M4SERTrainer`] does this
    before its first step; a training loop of one's own calls it.

    Args:
        batches: what [`trainer.M4SERDataCollator`] makes; labels are not read.
    """
    core, was_training = model.m4ser, model.training
    speech, text = _Moments(), _Moments()
    model.eval()
    for batch in batches:
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        if core.speech_standardizer is not None:
            encoder = core.speech_encoder
            hidden, mask = encoder(batch[encoder.input_name], batch["speech_attention_mask"])
            speech.add(hidden[mask])
        if core.text_standardizer is not None:
            hidden, mask = core.text_encoder(batch["input_ids"], batch["text_attention_mask"])
            text.add(hidden[mask])
    model.train(was_training)
    for standardizer, moments in ((core.speech_standardizer, speech), (core.text_standardizer, text)):
        if standardizer is not None:
            standardizer.set_statistics(*moments.statistics())


class FeatureStatisticsCallback(TrainerCallback):
    """
    Measures a new model's encoders on the training data before the first step.

    Every process measures for itself, over the same utterances: at most `MAX_STATISTICS_UTTERANCES`, evenly spaced
    (the first of a stream). A model that was measured before, loaded or resumed, keeps what its fusion was trained on.
    """

    def __init__(self, trainer: "M4SERTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        trainer = self.trainer
        core, data = trainer.model.m4ser, trainer.train_dataset
        standardizers = [part for part in (core.speech_standardizer, core.text_standardizer) if part is not None]
        if all(part.measured for part in standardizers):
            return
        if hasattr(data, "__len__"):
            rows = Subset(data, range(0, len(data), -(-len(data) // MAX_STATISTICS_UTTERANCES)))
        else:
            rows = list(itertools.islice(data, MAX_STATISTICS_UTTERANCES))
        batches = DataLoader(
            rows,
            batch_size=args.eval_batch_size,
            collate_fn=trainer.data_collator,
            num_workers=args.dataloader_num_workers,
        )
        measure_features(trainer.model, batches)
