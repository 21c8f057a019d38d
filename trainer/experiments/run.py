"""One experiment from data to a finished run directory; every example script is built on it."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import DatasetDict
from transformers import set_seed
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from modeling_m4ser import ABLATIONS, M4SERForEmotionClassification, M4SERProcessor
from trainer.arguments import M4SERTrainingArguments
from trainer.callbacks.progress import EpochLinesCallback
from trainer.collator import M4SERDataCollator
from trainer.evaluation.figures import plot_confusion_matrix, plot_label_distribution, plot_loss_curves
from trainer.evaluation.metrics import compute_emotion_metrics, emotion_metrics
from trainer.experiments.model_card import write_model_card
from trainer.m4ser_trainer import M4SERTrainer
from trainer.provenance import collect_versions

RESULTS = "results.json"
PREDICTIONS = "predictions.parquet"


class ExperimentError(ValueError):
    """An experiment cannot be run as asked; the message says what to change."""


@dataclass
class ModelArguments:
    """Which model an experiment trains."""

    speech_encoder: str = field(
        default="facebook/hubert-base-ls960",
        metadata={"help": "Hub name or folder: hubert, wav2vec2, wavlm, data2vec-audio or whisper."},
    )
    text_encoder: str = field(
        default="google-bert/bert-base-uncased", metadata={"help": "Hub name or folder of a BERT-like model."}
    )
    ablation: str = field(default="M4SER", metadata={"help": f"Row of Table IV: {', '.join(ABLATIONS)}."})
    model_options: str = field(
        default="{}", metadata={"help": "Further M4SERConfig fields, as JSON (a mapping in a YAML file)."}
    )
    speech_options: str = field(
        default="{}", metadata={"help": "Fields of the speech encoder's own configuration, e.g. SpecAugment, as JSON."}
    )
    text_options: str = field(
        default="{}", metadata={"help": "Fields of the text encoder's own configuration, as JSON."}
    )
    processor_options: str = field(
        default="{}", metadata={"help": "Arguments of M4SERProcessor, e.g. trim_silence_db, as JSON."}
    )
    text_column: str = field(
        default="hypothesis", metadata={"help": "'hypothesis' (ASR text) or 'transcript' (human text, Table VI)."}
    )
    freeze_encoders: bool = field(default=False, metadata={"help": "Train the fusion and the heads alone."})
    freeze_speech_layers: int = field(
        default=0, metadata={"help": "Freeze so many of the speech encoder's lowest layers, and what lies under them."}
    )
    train_feature_encoder: bool = field(
        default=False, metadata={"help": "Also train the speech encoder's convolutions, which stay frozen otherwise."}
    )

    def __post_init__(self):
        if self.ablation not in ABLATIONS:
            raise ExperimentError(f"ablation {self.ablation!r} is none of: {', '.join(ABLATIONS)}.")
        if self.text_column not in ("hypothesis", "transcript"):
            raise ExperimentError(f"text_column must be 'hypothesis' or 'transcript', not {self.text_column!r}.")
        for name in ("model_options", "speech_options", "text_options", "processor_options"):
            value = getattr(self, name)
            if isinstance(value, str):
                try:
                    setattr(self, name, json.loads(value))
                except json.JSONDecodeError as error:
                    raise ExperimentError(f"{name} is no JSON ({error}): {value!r}.") from error

    def build(self, emotions: Sequence[str]) -> tuple[M4SERForEmotionClassification, M4SERProcessor]:
        """
        The model on pretrained encoders, with these classes, and its processor.

        Raises:
            ExperimentError: an encoder is not to be had, or options contradict each other or the encoder.
        """
        try:
            return self._build(emotions)
        except (OSError, ValueError) as error:
            raise ExperimentError(str(error)) from error

    def _build(self, emotions: Sequence[str]) -> tuple[M4SERForEmotionClassification, M4SERProcessor]:
        options = {**ABLATIONS[self.ablation], **self.model_options}
        if self.text_column == "transcript":
            # Human text has no ASR errors to learn from (Table VI).
            options |= {"use_error_detection": False, "use_error_correction": False}
        processor = M4SERProcessor.from_encoders_pretrained(
            self.speech_encoder, self.text_encoder, **self.processor_options
        )
        model = M4SERForEmotionClassification.from_encoders_pretrained(
            self.speech_encoder,
            self.text_encoder,
            speech_options=self.speech_options,
            text_options=self.text_options,
            id2label=dict(enumerate(emotions)),
            label2id={name: index for index, name in enumerate(emotions)},
            **options,
        )
        if self.freeze_speech_layers:
            model.freeze_speech_layers(self.freeze_speech_layers)
        elif not self.train_feature_encoder:
            model.freeze_feature_encoder()
        if self.freeze_encoders:
            model.freeze_encoders()
        return model, processor


def run_experiment(
    build: Callable[[Sequence[str]], tuple[M4SERForEmotionClassification, M4SERProcessor]],
    data: DatasetDict,
    args: M4SERTrainingArguments,
    *,
    description: str,
    split: Mapping[str, Any],
    text_column: str = "hypothesis",
) -> dict[str, Any]:
    """
    Train on `train`, keep the best epoch on `validation`, measure on `test`, and write the run directory.

    `args.output_dir` then holds the model with its code, processor and card, `checkpoint-*`, `results.json`,
    `predictions.parquet`, `loss_curves.png`, `confusion_matrix.png` and `label_distribution.png`. A directory with a
    `results.json` is finished: its results are returned. One with checkpoints is resumed from the last.

    Args:
        build: emotions -> model and processor; called after seeding.
        data: prepared splits `train`, `validation`, `test` (rows of `data_scripts.schema`).
        args: training arguments.
        description: Markdown about data and protocol, for the model card.
        split: what `Fold.describe()` says, for the results.
        text_column: `hypothesis` or `transcript`.

    Returns:
        What `results.json` holds.

    Raises:
        ExperimentError: a split is missing.
    """
    folder = Path(args.output_dir)
    if (folder / RESULTS).is_file():
        return load_results(folder)
    missing = [name for name in ("train", "validation", "test") if name not in data]
    if missing:
        raise ExperimentError(f"The data has no {' and no '.join(missing)} split; it has: {', '.join(data)}.")
    emotions = data["train"].features["emotion"].names

    set_seed(args.seed)
    model, processor = build(emotions)
    trainer = M4SERTrainer(
        model=model,
        args=args,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=M4SERDataCollator(processor, model.config, text_column),
        compute_metrics=compute_emotion_metrics(emotions),
        processing_class=processor,
    )
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(EpochLinesCallback)
    started = time.time()
    checkpoint = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    trainer.train(resume_from_checkpoint=checkpoint)
    train_seconds = time.time() - started

    validation = _predict(trainer, data["validation"], emotions)
    test = _predict(trainer, data["test"], emotions)
    results = {
        "metrics": {"validation": validation["metrics"], "test": test["metrics"]},
        "emotions": emotions,
        "seed": args.seed,
        "split": dict(split),
        "best_checkpoint": trainer.state.best_model_checkpoint and Path(trainer.state.best_model_checkpoint).name,
        "epochs": trainer.state.epoch,
        "train_seconds": round(train_seconds, 1),
        "model_config": json.loads(model.config.to_json_string(use_diff=False)),
        "training_arguments": args.to_sanitized_dict(),
        "text_column": text_column,
        "versions": collect_versions(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "description": description,
    }
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        _write_run(folder, results, test, data, trainer, processor)
    trainer.accelerator.wait_for_everyone()
    return results


def load_results(folder: str | Path) -> dict[str, Any]:
    """`results.json` of a finished run directory."""
    path = Path(folder) / RESULTS
    if not path.is_file():
        raise ExperimentError(f"{folder} is no finished run: it has no {RESULTS}.")
    return json.loads(path.read_text(encoding="utf-8"))


def _predict(trainer: M4SERTrainer, dataset, emotions: Sequence[str]) -> dict[str, Any]:
    """Logits (N, e) in the order of the data, and the metrics with the confusion matrix."""
    output = trainer.predict(dataset)
    logits = np.asarray(output.predictions, dtype=np.float64)
    metrics = emotion_metrics(logits.argmax(-1), output.label_ids, emotions)
    return {"logits": logits, "metrics": metrics}


def _write_run(
    folder: Path,
    results: dict[str, Any],
    test: dict[str, Any],
    data: DatasetDict,
    trainer: M4SERTrainer,
    processor: M4SERProcessor,
) -> None:
    """Everything of a run directory but the weights. `results.json` comes last: it says that the run is finished."""
    emotions, logits, rows = results["emotions"], test["logits"], data["test"]
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    table = pd.DataFrame(
        {
            "id": rows["id"][:],
            "speaker": rows["speaker"][:],
            "emotion": [emotions[index] for index in rows["emotion"]],
            "predicted": [emotions[index] for index in logits.argmax(-1)],
            "text": rows[results["text_column"]][:],
            **{f"probability_{name}": scores[:, index] for index, name in enumerate(emotions)},
        }
    )
    table.to_parquet(folder / PREDICTIONS, index=False)
    metrics = results["metrics"]["test"]
    plot_loss_curves(trainer.state.log_history, folder / "loss_curves.png")
    title = f"Test set: WA {100 * metrics['wa']:.1f} %, UA {100 * metrics['ua']:.1f} %"
    plot_confusion_matrix(metrics["confusion_matrix"], emotions, folder / "confusion_matrix.png", title)
    counts = {
        name: dict(pd.Series([emotions[index] for index in part["emotion"]]).value_counts())
        for name, part in data.items()
    }
    plot_label_distribution(counts, folder / "label_distribution.png")
    write_model_card(
        folder,
        model_name=folder.resolve().name,
        config=trainer.model.config,
        labels=emotions,
        metrics=metrics,
        dataset_description=results["description"],
        training_arguments=trainer.args,
        versions=results["versions"],
    )
    (folder / RESULTS).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
