"""The rows of a table under one protocol: the same data, seeds and budget, and the same choice of learning rate."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
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
from trainer.errors import ExperimentError
from trainer.evaluation.linear_probe import fit_probe, speech_features, text_features
from trainer.evaluation.resampling import METRICS
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cross_validation import audit_folds, with_output
from trainer.experiments.data import prepared_folder
from trainer.experiments.model import build_model
from trainer.experiments.protocols import Division, with_clusters
from trainer.experiments.run import PREDICTIONS_FILE, RESULTS_FILE, load_results, run_experiment
from trainer.experiments.run_folder import (
    PRESENTATION_ARGUMENTS,
    changed_arguments,
    check_settings,
    claim_folder,
    run_settings,
)
from trainer.inputs.feature_cache import FEATURES_FOLDER
from trainer.studies.grid import Cell, Grid
from trainer.studies.tables import TableRow


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: of the row.
        model: the fields of `ModelArguments` that it changes.
        probe: the encoders (`speech`, `text`) whose frozen features a linear probe reads; empty for a trained model.
    """

    name: str
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    probe: tuple[str, ...] = ()


#: Linear probes as rows of any table.
PROBE_ROWS = (
    Row("linear probe, speech", probe=("speech",)),
    Row("linear probe, text", probe=("text",)),
    Row("linear probe, both", probe=("speech", "text")),
)


def ablation_rows(names: Sequence[str]) -> list[Row]:
    """Return the ablations of these names, in this order.

    Args:
        names: keys of `ABLATIONS`.

    Raises:
        ExperimentError: an unknown name.
    """
    if unknown := [name for name in names if name not in ABLATIONS]:
        raise ExperimentError(f"rows: {unknown[0]!r} is none of: {', '.join(ABLATIONS)}.")
    return [Row(name, {"ablation": name}) for name in names]


class Comparison:
    """Runs the rows of a table as cells of one grid.

    Args:
        rows: of the table.
        division: the corpus divided.
        corpus: what it was made from, recorded with each run.
        model: what the rows start from.
        runs: seeds and learning rates.
        args: training arguments of every row; `output_dir` is the grid's folder.
        description: Markdown about data and protocol, for the model cards.

    Attributes:
        metric: of validation, which chooses the epoch, the learning rate and a probe's regularisation.
        seeds: of training. A probe has no randomness, and runs once.
        rates: the learning rate of each row that has chosen; None where there was nothing to choose.

    Raises:
        ExperimentError: learning rates shall be chosen by something that is no metric; or a folder of the grid belongs
            to other settings. Nothing has been run then.
        CorpusError: `corpus.strict`, and the splits of a fold leak.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        division: Division,
        corpus: CorpusArguments,
        model: ModelArguments,
        runs: GridArguments,
        args: ExperimentArguments,
        description: str,
    ):
        self.rows, self.division, self.corpus, self.model = rows, division, corpus, model
        self.runs, self.args, self.description = runs, args, description
        self.root = Path(str(args.output_dir))
        self.seeds = list(dict.fromkeys(runs.seeds or [args.seed]))
        self.metric = (args.metric_for_best_model or "ua").removeprefix("eval_")
        if self.metric not in METRICS:
            raise ExperimentError(
                f"metric_for_best_model must be one of {', '.join(METRICS)} here, not {self.metric!r}."
            )
        self.rates: dict[str, float | None] = {}
        self._features: dict[tuple[Any, ...], np.ndarray] = {}
        for row in rows:
            for rate in self._candidates(row):
                for seed in self._seeds(row):
                    self._check(row, rate, seed)
        self._audits = audit_folds(division.folds, corpus, self.root, tell=args.should_log)

    def run(self, grid: Grid) -> None:
        """Run every row with the first seed, and choose its learning rate; then every row with the other seeds.

        So all rows can be compared early, and a grid that is stopped has seeds of all of them.
        """
        folds = len(self.division.folds)
        runs = {row.name: len(self._candidates(row)) + len(self._seeds(row)) - 1 for row in self.rows}
        left = {name: count * folds for name, count in runs.items()}

        def run_cells(row: Row, cells: Sequence[Cell]) -> None:
            left[row.name] -= len(cells)
            grid.run(cells, left)

        for row in self.rows:
            candidates = self._candidates(row)
            run_cells(row, [cell for rate in candidates for cell in self.cells(row, rate, self.seeds[0])])
            scores = {rate: self._validation(grid, row, rate) for rate in candidates}
            self.rates[row.name] = max(candidates, key=lambda rate: scores[rate])
        for position, seed in enumerate(self.seeds[1:], 1):
            for row in self.rows:
                if len(self._seeds(row)) > position:
                    run_cells(row, self.cells(row, self.rates[row.name], seed))

    def cells(self, row: Row, rate: float | None, seed: int) -> list[Cell]:
        """Return the cells of a row with a learning rate and a seed, one for each fold."""
        arguments = {"model": dict(row.model), "probe": row.probe, "learning_rate": rate}
        variant = "" if rate is None else f"learning_rate {rate:g}"
        return [Cell(row.name, fold, seed, arguments, variant) for fold in self.division.folds]

    def run_cell(self, cell: Cell, folder: Path) -> Mapping[str, Any]:
        """Train and test, or probe, one cell in its folder, and return its results; the grid's `run`."""
        if cell.arguments["probe"]:
            return self._probe(cell, folder)
        data, split = self.division.folds[cell.fold]
        sections, settings = self._sections(cell, folder)
        return run_experiment(
            partial(build_model, sections["model"]),
            data,
            settings,
            description=f"{self.description} Fold: {cell.fold}.",
            split=split,
            text_column=sections["model"].text_column,
            arguments=sections,
            audit=self._audits[cell.fold],
            features_folder=prepared_folder(self.corpus, self.root / "corpus") / FEATURES_FOLDER,
        )

    def table_rows(self, grid: Grid) -> list[TableRow]:
        """Return what is finished, for a table: rows that have chosen their learning rate.

        A row counts the seeds of which every fold is finished; before there is one, what there is of the first seed.
        """
        found = []
        for row in self.rows:
            rate = self.rates[row.name] if row.name in self.rates else next(iter(self._candidates(row)))
            if row.name not in self.rates and rate is not None:
                continue
            by_seed = {seed: self.cells(row, rate, seed) for seed in self._seeds(row)}
            planned = sum(map(len, by_seed.values()))
            done = {seed: [cell for cell in cells if cell in grid.finished] for seed, cells in by_seed.items()}
            whole = {seed: cells for seed, cells in done.items() if len(cells) == len(self.division.folds)}
            counted = whole or {seed: cells for seed, cells in list(done.items())[:1] if cells}
            if counted:
                predictions = {seed: self._predictions(cells) for seed, cells in counted.items()}
                finished = sum(map(len, done.values()))
                found.append(TableRow(row.name, predictions, finished, planned, {"learning rate": rate}))
        return found

    def _candidates(self, row: Row) -> list[float | None]:
        """The learning rates that a row tries."""
        rates: list[float | None] = list(dict.fromkeys(self.runs.learning_rates or []))
        return rates if rates and not row.probe else [None]

    def _seeds(self, row: Row) -> list[int]:
        return self.seeds[:1] if row.probe else self.seeds

    def _validation(self, grid: Grid, row: Row, rate: float | None) -> float:
        """The mean over folds, with the first seed, of the validation metric."""
        results = [grid.finished[cell] for cell in self.cells(row, rate, self.seeds[0])]
        return float(np.mean([result["metrics"]["validation"][self.metric] for result in results]))

    def _check(self, row: Row, rate: float | None, seed: int) -> None:
        """Raise where a cell's folder belongs to other settings."""
        for cell in self.cells(row, rate, seed):
            folder = self.root / cell.folder
            check_settings(folder, self._probe_settings(cell) if row.probe else self._settings(cell, folder))

    def _sections(self, cell: Cell, folder: Path) -> tuple[dict[str, Any], ExperimentArguments]:
        """The argument objects of a trained cell: those recorded with it, and those of training."""
        number = self.division.numbers[cell.fold]
        alone = {"rows": [cell.row], "seeds": [cell.seed], "folds": number and [number], "learning_rates": None}
        sections = {
            "corpus": self.corpus,
            "model": dataclasses.replace(self.model, **cell.arguments["model"]),
            "runs": dataclasses.replace(self.runs, **alone),
        }
        settings = with_output(self.args, folder, cell.seed)
        if (rate := cell.arguments["learning_rate"]) is not None:
            if settings.discriminator_learning_rate == settings.learning_rate:
                settings.discriminator_learning_rate = rate  # it follows learning_rate where it was not set
            settings.learning_rate = rate
        return sections, settings

    def _settings(self, cell: Cell, folder: Path) -> dict[str, Any]:
        """What decides a trained cell."""
        sections, settings = self._sections(cell, folder)
        text_column = sections["model"].text_column
        return run_settings({**sections, "training": settings}, *self.division.folds[cell.fold], text_column)

    def _published(self) -> ModelArguments:
        """The encoders as published, whatever the rows make of them."""
        return dataclasses.replace(
            self.model, ablation="M4SER", model_options={}, speech_options={}, text_options={}, freeze_speech_layers=0
        )

    def _probe_settings(self, cell: Cell) -> dict[str, Any]:
        """What decides a probe."""
        data, split = self.division.folds[cell.fold]
        model = changed_arguments(self._published(), PRESENTATION_ARGUMENTS)
        settings = run_settings({}, data, split, self.model.text_column)
        return {"model": model, "probe": list(cell.arguments["probe"]), "metric": self.metric, **settings}

    def _probe(self, cell: Cell, folder: Path) -> Mapping[str, Any]:
        """Fit a linear probe in the main process; the others read what it wrote."""
        with PartialState().main_process_first():
            if (folder / RESULTS_FILE).is_file():
                return load_results(folder)
            claim_folder(folder, self._probe_settings(cell))
            data, split = self.division.folds[cell.fold]
            emotions = data["train"].features["emotion"].names
            features = self._frozen(data, cell.arguments["probe"])
            labels = {str(name): np.asarray(part["emotion"][:]) for name, part in data.items()}
            fitted = fit_probe(features, labels, emotions, self.metric)
            table = pd.DataFrame(
                {
                    "id": data["test"]["id"][:],
                    "speaker": data["test"]["speaker"][:],
                    "emotion": [emotions[label] for label in labels["test"]],
                    "predicted": [emotions[label] for label in fitted.predictions],
                }
            )
            table.to_parquet(folder / PREDICTIONS_FILE, index=False)
            results = {
                "metrics": fitted.metrics,
                "emotions": emotions,
                "split": dict(split),
                "regularisation": fitted.regularisation,
            }
            write_atomically(folder / RESULTS_FILE, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
            return results

    def _frozen(self, data: DatasetDict, kinds: Sequence[str]) -> dict[str, np.ndarray]:
        """The features of these encoders side by side, split -> (N, d); no utterance is encoded twice in a grid."""
        model = processor = None
        features = {}
        for split, part in data.items():
            # Folds are made of one list of utterances; the ids of a corpus' own splits may repeat from split to split.
            prefix = split if len(self.division.folds) == 1 else ""
            columns = []
            for kind in kinds:
                keys = [(kind, prefix, identity) for identity in part["id"]]
                if missing := [index for index, key in enumerate(keys) if key not in self._features]:
                    if model is None or processor is None:
                        model, processor = self._published_model(part.features["emotion"].names)
                    vectors = self._encode(kind, model, processor, part.select(missing))
                    self._features |= {keys[index]: each for index, each in zip(missing, vectors, strict=True)}
                columns.append(np.stack([self._features[key] for key in keys]))
            features[str(split)] = np.hstack(columns)
        return features

    def _published_model(self, emotions: Sequence[str]) -> tuple[M4SERForEmotionClassification, M4SERProcessor]:
        """A model with the encoders as published, where training would have it."""
        set_seed(0)
        model, processor = build_model(self._published(), emotions)
        return cast(Any, model).to(self.args.device), processor

    def _encode(
        self, kind: str, model: M4SERForEmotionClassification, processor: M4SERProcessor, part: Dataset
    ) -> np.ndarray:
        if kind == "speech":
            return speech_features(model, processor, part)
        return text_features(model, processor, part, self.model.text_column)

    def _predictions(self, cells: Sequence[Cell]) -> pd.DataFrame:
        """The test predictions of all folds together, by id, each with its cluster."""
        columns = ["id", "speaker", "emotion", "predicted"]
        parts = [pd.read_parquet(self.root / cell.folder / PREDICTIONS_FILE, columns=columns) for cell in cells]
        table = pd.concat(parts, ignore_index=True)
        return with_clusters(table, self.division.cluster)
