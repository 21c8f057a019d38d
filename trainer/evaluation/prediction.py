"""A model's answers on rows of a corpus, as one table: the loop that runs, retests and studies share."""

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import Trainer

from data_scripts.files import fingerprint
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.arguments import M4SERTrainingArguments
from trainer.collator import M4SERDataCollator
from trainer.evaluation.calibration import calibrated_probabilities
from trainer.inputs.feature_cache import cache_features
from trainer.m4ser_trainer import M4SERTrainer


def predict(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    data: Dataset,
    *,
    text_column: str = "hypothesis",
    batch_size: int = 32,
    bf16: bool = False,
    feature_cache_dir: str | os.PathLike | None = None,
) -> pd.DataFrame:
    """Return what a finished model answers to rows of `data_scripts.schema`, see the table of `answer_with`.

    Classes that the model does not have are no reason to stop. `feature_cache_dir` keeps what the speech encoder gives,
    for other models with the same frozen one.
    """
    collator = M4SERDataCollator(processor, model.config, text_column, with_auxiliary_labels=False)
    with tempfile.TemporaryDirectory() as scratch:
        args = M4SERTrainingArguments(
            output_dir=scratch,
            per_device_eval_batch_size=batch_size,
            bf16=bf16,
            use_cpu=not torch.accelerator.is_available(),  # or half precision is refused
            disable_tqdm=True,
            report_to=[],
        )
        trainer = M4SERTrainer(model=model, args=args, data_collator=collator, processing_class=processor)
        if feature_cache_dir is not None and model.config.uses_speech:
            model.freeze_speech_encoder()
            collator.feature_cache = cache_features(
                model, processor, [data], feature_cache_dir, batch_size, show_progress=False
            )
        return answer_with(trainer, data)


def answer_with(trainer: Trainer, data: Dataset) -> pd.DataFrame:
    """Return what a trainer's model answers to rows of `data_scripts.schema`, on all its processes, in their order.

    The columns are `id`, `speaker`, `emotion` (its name; None where unknown), `predicted` (likewise), `text` (that the
    model read) and `logit_NAME` for each class of the model.
    """
    config, emotions = cast(Any, trainer.model).config, data.features["emotion"].names
    names = list(config.id2label.values())
    collator, order = cast(M4SERDataCollator, trainer.data_collator), longest_first(data)
    rows: Any = data.remove_columns("emotion").select(order)
    trainer.data_collator = dataclasses.replace(collator, with_auxiliary_labels=False)
    try:
        answers: Any = trainer.predict(rows).predictions
    finally:
        trainer.data_collator = collator
    logits = np.asarray(answers)[np.argsort(order)].astype(np.float64)
    return pd.DataFrame(
        {
            "id": data["id"][:],
            "speaker": data["speaker"][:],
            "emotion": [None if label is None else emotions[label] for label in data["emotion"]],
            "predicted": [names[index] for index in logits.argmax(-1)],
            "text": data[collator.text_column][:],
            **{f"logit_{name}": logits[:, index] for index, name in enumerate(names)},
        }
    )


def longest_first(data: Dataset) -> np.ndarray:
    """Return the indices of rows by falling duration: batches have little padding, and the largest comes first."""
    return np.argsort(-np.asarray(data["duration"][:], dtype=float), kind="stable")


def rows_read(ids: Iterable[str | None]) -> dict[str, Any]:
    """Return what results say of the rows that a number was read from: how many, and a hash of their ids' set."""
    names = list(map(str, ids))
    return {"utterances": len(names), "ids": fingerprint(sorted(names))}


def logits_of(table: pd.DataFrame) -> np.ndarray:
    """Return the logits (N, e) of what `predict` gave, in the order of the model's classes."""
    return table.filter(regex="^logit_").to_numpy()


def with_probabilities(table: pd.DataFrame, emotions: Sequence[str], temperature: float = 1.0) -> pd.DataFrame:
    """Return what `predict` gave with the calibrated `probability_NAME` in place of `logit_NAME`."""
    scores = calibrated_probabilities(logits_of(table), temperature)
    columns = {f"probability_{name}": scores[:, index] for index, name in enumerate(emotions)}
    return table[["id", "speaker", "emotion", "predicted", "text"]].assign(**columns)
