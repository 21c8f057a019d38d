"""Linear probes as rows of a table: logistic regression on what the encoders give as published."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from accelerate import PartialState
from datasets import DatasetDict

from data_scripts.files import write_atomically
from trainer.arguments import ExperimentArguments
from trainer.evaluation.linear_probe import FrozenFeatures, fit_probe
from trainer.experiments.arguments import ModelArguments
from trainer.experiments.model import build_model
from trainer.experiments.protocols import DatasetFolds
from trainer.experiments.run_folder import (
    PREDICTIONS_FILE,
    RESULTS_FILE,
    changed_arguments,
    claim_folder,
    load_results,
    run_settings,
)


class ProbeRunner:
    """Fits the linear probes of a grid; the encoders are read as published, whatever `model` makes of them."""

    def __init__(self, folds: DatasetFolds, model: ModelArguments, metric: str, args: ExperimentArguments):
        self.folds, self.metric = folds, metric
        plain = {"ablation": "M4SER", "model_options": {}, "speech_options": {}, "text_options": {}}
        self.model = dataclasses.replace(model, **cast(Any, plain), freeze_speech_layers=0)
        self._features = FrozenFeatures(functools.partial(build_model, self.model), model.text_column, args.device)

    def settings(self, encoders: Sequence[str], fold: str) -> dict[str, Any]:
        """Return what decides a probe of the features of these encoders (`speech`, `text` or both) on a fold."""
        data, split = self.folds.folds[fold]
        model = changed_arguments(self.model)
        settings = run_settings({}, data, split, self.model.text_column)
        return {"model": model, "probe": list(encoders), "metric": self.metric, **settings}

    def run(self, encoders: Sequence[str], fold: str, folder: Path) -> Mapping[str, Any]:
        """Fit a probe in the main process; the others read what it wrote, and so does a later launch."""
        with PartialState().main_process_first():
            if (folder / RESULTS_FILE).is_file():
                return load_results(folder)
            claim_folder(folder, self.settings(encoders, fold))
            data, split = self.folds.folds[fold]
            fitted = fit_probe(self.features(data, encoders), data, self.metric)
            fitted.predictions.to_parquet(folder / PREDICTIONS_FILE, index=False)
            emotions = data["train"].features["emotion"].names
            results = {"metrics": fitted.metrics, "emotions": emotions, "split": dict(split)}
            results |= {"regularisation": fitted.regularisation, "rows": fitted.rows}
            write_atomically(folder / RESULTS_FILE, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
            return results

    def features(self, data: DatasetDict, encoders: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the features of these encoders side by side, split -> (N, d); no utterance is encoded twice."""
        return self._features.of(data, encoders, shared=len(self.folds.folds) > 1)
