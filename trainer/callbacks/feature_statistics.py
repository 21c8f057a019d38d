"""The mean and standard deviation of what the encoders give, measured once before training."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import TrainingArguments

from data_scripts.splits import evenly_spaced
from modeling_m4ser import M4SERForEmotionClassification

#: Utterances that are enough to know the statistics of a few hundred dimensions by, at 50 frames a second.
MAX_UTTERANCES = 1000


@torch.no_grad()
def measure_features(model: M4SERForEmotionClassification, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
    """Give the model's standardizers (`standardize_features`) the statistics of its encoders on these batches.

    The encoders run as in evaluation; every valid frame and token counts the same; labels are not read.
    [`trainer.M4SERTrainer`] does this before its first step; call it in a training loop of your own.
    """
    core, was_training = model.m4ser, model.training
    # Count, sum and sum of squares of each dimension.
    moments = {name: [torch.zeros((), dtype=torch.double)] * 3 for name in core.standardizers()}
    model.eval()
    try:
        for batch in batches:
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            for name, sums in moments.items():
                encoder: Any = core.get_submodule(f"{name}_encoder")
                mask = batch[f"{name}_attention_mask"]
                if name == "speech" and "speech_states" in batch:
                    hidden, mask = encoder.combine_states(batch["speech_states"], mask)
                else:
                    hidden, mask = encoder(batch[getattr(encoder, "input_name", "input_ids")], mask)
                vectors = hidden[mask].double()
                new = vectors.new_tensor(len(vectors)), vectors.sum(0), vectors.square().sum(0)
                moments[name] = [before.to(vectors) + part for before, part in zip(sums, new, strict=True)]
    finally:
        model.train(was_training)
    for name, standardizer in core.standardizers().items():
        count, total, squares = moments[name]
        mean = total / count
        standardizer.set_statistics(mean, (squares / count - mean.square()).clamp(min=0).sqrt())


def measure_new_model(
    model: M4SERForEmotionClassification,
    dataset: Any,
    data_collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    args: TrainingArguments,
) -> None:
    """Measure a new model's encoders on the training data, before it is sharded and takes its first step.

    Every process measures for itself, over the same utterances: at most `MAX_UTTERANCES`, evenly spaced (the first ones
    of a stream). A model that was measured before, loaded or resumed, keeps the statistics its fusion was trained on.
    """
    if all(standardizer.measured for standardizer in model.m4ser.standardizers().values()):
        return
    if hasattr(dataset, "__len__"):
        rows = Subset(dataset, evenly_spaced(len(dataset), MAX_UTTERANCES))
    else:
        rows = list(itertools.islice(dataset, MAX_UTTERANCES))
    batches = DataLoader(
        cast(Dataset, rows),
        batch_size=args.eval_batch_size,
        collate_fn=data_collator,
        num_workers=args.dataloader_num_workers,
    )
    model.to(args.device)  # sharding would move it later
    measure_features(model, batches)
