"""Linear probes as rows of a table: logistic regression on what the encoders give as published."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from transformers import set_seed

from data_scripts.files import write_atomically
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.arguments import ExperimentArguments
from trainer.evaluation.linear_probe import fit_probe, speech_features, text_features
from trainer.experiments.arguments import ModelArguments
from trainer.experiments.model import build_model
from trainer.experiments.protocols import Division
from trainer.experiments.run import PREDICTIONS_FILE, RESULTS_FILE, load_results
from trainer.experiments.run_folder import PRESENTATION_ARGUMENTS, changed_arguments, claim_folder, run_settings

Published = tuple[M4SERForEmotionClassification, M4SERProcessor]


class ProbeRunner:
    """Fits the linear probes of a grid.

    Args:
        folds: the corpus divided.
        model: what the rows of the table start from; the encoders are read as published, whatever it makes of them.
        metric: of validation, which chooses the regularisation.
        args: training arguments; the encoders run where training would.
    """

    def __init__(self, folds: Division, model: ModelArguments, metric: str, args: ExperimentArguments):
        self.folds, self.metric, self.args = folds, metric, args
        plain = {"ablation": "M4SER", "model_options": {}, "speech_options": {}, "text_options": {}}
        self.model = dataclasses.replace(model, **cast(Any, plain), freeze_speech_layers=0)
        self._features: dict[tuple[str, str, str], np.ndarray] = {}

    def settings(self, encoders: Sequence[str], fold: str) -> dict[str, Any]:
        """Return what decides a probe.

        Args:
            encoders: `speech`, `text` or both, whose features it reads.
            fold: of the corpus.
        """
        data, split = self.folds.folds[fold]
        model = changed_arguments(self.model, PRESENTATION_ARGUMENTS)
        settings = run_settings({}, data, split, self.model.text_column)
        return {"model": model, "probe": list(encoders), "metric": self.metric, **settings}

    def run(self, encoders: Sequence[str], fold: str, folder: Path) -> Mapping[str, Any]:
        """Fit a probe in the main process; the others read what it wrote, and so does a later launch.

        Args:
            encoders: see `settings`.
            fold: see `settings`.
            folder: of the run.
        """
        with PartialState().main_process_first():
            if (folder / RESULTS_FILE).is_file():
                return load_results(folder)
            claim_folder(folder, self.settings(encoders, fold))
            data, split = self.folds.folds[fold]
            emotions = data["train"].features["emotion"].names
            labels = {str(name): np.asarray(part["emotion"][:]) for name, part in data.items()}
            fitted = fit_probe(self.features(data, encoders), labels, emotions, self.metric)
            table = pd.DataFrame(
                {
                    "id": data["test"]["id"][:],
                    "speaker": data["test"]["speaker"][:],
                    "emotion": [emotions[label] for label in labels["test"]],
                    "predicted": [emotions[label] for label in fitted.predictions],
                }
            )
            table.to_parquet(folder / PREDICTIONS_FILE, index=False)
            results = {"metrics": fitted.metrics, "emotions": emotions, "split": dict(split)}
            results["regularisation"] = fitted.regularisation
            write_atomically(folder / RESULTS_FILE, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
            return results

    def features(self, data: DatasetDict, encoders: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the features of these encoders side by side, split -> (N, d); no utterance is encoded twice."""
        build = functools.cache(lambda: self._published(data["train"].features["emotion"].names))
        return {
            str(split): np.hstack([self._vectors(kind, str(split), part, build) for kind in encoders])
            for split, part in data.items()
        }

    def _vectors(self, kind: str, split: str, part: Dataset, build: Callable[[], Published]) -> np.ndarray:
        # Folds are made of one list of utterances; the ids of a corpus' own splits may repeat from split to split.
        prefix = split if len(self.folds.folds) == 1 else ""
        keys = [(kind, prefix, identity) for identity in part["id"]]
        if missing := [index for index, key in enumerate(keys) if key not in self._features]:
            vectors = self._encode(kind, *build(), part.select(missing))
            self._features |= {keys[index]: each for index, each in zip(missing, vectors, strict=True)}
        return np.stack([self._features[key] for key in keys])

    def _encode(
        self, kind: str, model: M4SERForEmotionClassification, processor: M4SERProcessor, part: Dataset
    ) -> np.ndarray:
        if kind == "speech":
            return speech_features(model, processor, part)
        return text_features(model, processor, part, self.model.text_column)

    def _published(self, emotions: Sequence[str]) -> Published:
        """A model with the encoders as published, where training would have it."""
        set_seed(0)
        model, processor = build_model(self.model, emotions)
        return cast(Any, model).to(self.args.device), processor
