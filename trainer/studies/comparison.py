"""A table from its rows to its files: all rows get the same data, seeds and budget, and the same choice of a rate.

A grid is rows × seeds × folds; each cell of it is a run in a folder of its own, and a finished one is not run again. So
the same command goes on where it was stopped.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from tqdm.auto import tqdm

from data_scripts.files import folder_name
from data_scripts.journal import locked
from trainer.arguments import ExperimentArguments
from trainer.errors import ExperimentError
from trainer.evaluation.significance import METRICS, REPORTED_METRICS
from trainer.evaluation.summary import format_row, summarize
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cross_validation import args_for_run, audit_folds
from trainer.experiments.data import prepared_folder
from trainer.experiments.model import build_model
from trainer.experiments.protocols import with_clusters
from trainer.experiments.run import check_run, run_experiment
from trainer.experiments.run_folder import PREDICTIONS_FILE, check_settings
from trainer.inputs.feature_cache import FEATURES_FOLDER
from trainer.studies import paper
from trainer.studies.divisions import TableInputs
from trainer.studies.probe_rows import ProbeRunner
from trainer.studies.tables import REFERENCES, Table, TableRow, join_tables, make_table

LOCK_FILE = "grid.lock"


@dataclasses.dataclass(frozen=True)
class RowSpec:
    """What one row of a table is.

    Attributes:
        model: the fields of `ModelArguments` that it changes.
        probe: the encoders (`speech`, `text`) whose frozen features a linear probe reads; empty for a trained model.
    """

    name: str
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    probe: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TableSpec:
    """What tells one table from another.

    Attributes:
        name: of its files in the output folder, `NAME.md`, `.csv` and `.json`.
        published: row -> {metric: percent}, as the paper prints them.
        draw: called with the finished table and the path of its figure, `NAME.png`.
        folder: of its files and cells, in the grid's output folder.
    """

    title: str
    name: str
    published: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    references: Sequence[str] = REFERENCES
    draw: Callable[[Table, Path], Any] | None = None
    folder: str = ""


@dataclasses.dataclass(frozen=True)
class GridSetup:
    """What all cells of a grid share; `model` is what the rows start from, `args.output_dir` the grid's folder."""

    rows: Sequence[RowSpec]
    corpus: CorpusArguments
    model: ModelArguments
    runs: GridArguments
    args: ExperimentArguments

    @property
    def folder(self) -> Path:
        """Of the grid."""
        return Path(str(self.args.output_dir))

    @property
    def models(self) -> list[ModelArguments]:
        """Of the rows."""
        return [dataclasses.replace(self.model, **row.model) for row in self.rows]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a grid; `rate` is the learning rate that is tried, None where there is nothing to choose."""

    row: str
    fold: str
    seed: int
    rate: float | None = None

    @property
    def folder(self) -> Path:
        """Where the cell lies under the grid's folder: ROW[/learning_rate_RATE]/FOLD/seedN."""
        tried = [] if self.rate is None else [f"learning_rate {self.rate:g}"]
        return Path(*map(folder_name, (self.row, *tried, self.fold)), f"seed{self.seed}")


#: Linear probes as rows of any table.
PROBE_ROWS = (
    RowSpec("linear probe, speech", probe=("speech",)),
    RowSpec("linear probe, text", probe=("text",)),
    RowSpec("linear probe, both", probe=("speech", "text")),
)


def ablation_rows(names: Sequence[str]) -> list[RowSpec]:
    """Return the ablations of these names, keys of `ABLATIONS`, in this order."""
    return choose_rows([RowSpec(name, {"ablation": name}) for name in ABLATIONS], names)


def choose_rows(rows: Sequence[RowSpec], names: Sequence[str]) -> list[RowSpec]:
    """Return the rows of these names, in the names' order."""
    by_name = {row.name: row for row in rows}
    if unknown := [name for name in names if name not in by_name]:
        raise ExperimentError(f"rows: {unknown[0]!r} is none of: {', '.join(by_name)}.")
    return [by_name[name] for name in dict.fromkeys(names)]


class TableRunner:
    """Runs the rows of a table as cells of one grid, in folders under `root`.

    Attributes:
        metric: of validation, which chooses the epoch, the learning rate and a probe's regularisation.
        rates: the learning rate of each row that has chosen; None where there was nothing to choose.
        results: of every cell so far.
    """

    def __init__(self, setup: GridSetup, inputs: TableInputs, root: Path):
        self.rows = {row.name: row for row in setup.rows}
        self.folds, self.corpus, self.model = inputs.folds, setup.corpus, setup.model
        self.runs, self.args, self.root = setup.runs, setup.args, root
        self.description = f"Corpus: {inputs.title}, {inputs.folds.description}."
        self.seeds = list(dict.fromkeys(self.runs.seeds or [self.args.seed]))
        self.metric = (self.args.metric_for_best_model or "ua").removeprefix("eval_")
        if self.metric not in METRICS:
            raise ExperimentError(
                f"metric_for_best_model must be one of {', '.join(METRICS)} here, not {self.metric!r}."
            )
        self.rates: dict[str, float | None] = {}
        self.results: dict[Cell, Mapping[str, Any]] = {}
        self.probes = ProbeRunner(self.folds, self.model, self.metric, self.args)
        self._check_folders()
        self._audits = audit_folds(self.folds.folds, self.corpus, root, tell=self.args.should_log)

    def run(self) -> Iterator[Cell]:
        """Run cell after cell, and yield each when it is finished.

        Every row runs with the first seed, and chooses its learning rate; then every row runs with the other seeds. So
        all rows can be compared early, and a grid that is stopped has seeds of all of them.
        """
        total = len(self.folds.folds) * sum(len(self._candidates(row)) + len(self._seeds(row)) - 1 for row in self.rows)
        shown = list(dict.fromkeys(("wa", "ua", self.metric)))
        hidden = not self.args.should_log or self.args.disable_tqdm
        # The other processes of a launch follow the main one, which alone holds the lock.
        main = PartialState().is_main_process
        self.root.mkdir(parents=True, exist_ok=True)
        lock = locked(self.root / LOCK_FILE, "filled") if main else contextlib.nullcontext()
        with lock, tqdm(total=total, unit="cell", disable=hidden) as progress:
            for cell in self._order():
                probe = self.rows[cell.row].probe
                folder = self.root / cell.folder
                self.results[cell] = self.probes.run(probe, cell.fold, folder) if probe else self.run_cell(cell)
                progress.update()
                if self.args.should_log:
                    scores = format_row(summarize([self.results[cell]], shown))
                    place = f"{len(self.results)} of {total} cells"
                    progress.write(f"{place}: {cell.folder.as_posix()}: {scores}")
                yield cell

    def cells(self, row: str, rate: float | None, seed: int) -> list[Cell]:
        """Return the cells of a row with a learning rate and a seed, one for each fold."""
        return [Cell(row, fold, seed, rate) for fold in self.folds.folds]

    def run_cell(self, cell: Cell) -> Mapping[str, Any]:
        """Train and test one cell in its folder, and return its results; a finished one's are read."""
        data, split = self.folds.folds[cell.fold]
        sections, settings = self.arguments(cell)
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

    def arguments(self, cell: Cell) -> tuple[dict[str, Any], ExperimentArguments]:
        """Return the argument objects of a trained cell: those recorded with it, and those of training."""
        number = self.folds.numbers[cell.fold]
        alone = {"rows": [cell.row], "seeds": [cell.seed], "folds": number and [number], "learning_rates": None}
        sections = {
            "corpus": self.corpus,
            "model": dataclasses.replace(self.model, **self.rows[cell.row].model),
            "runs": dataclasses.replace(self.runs, **alone),
        }
        settings = args_for_run(self.args, self.root / cell.folder, cell.seed)
        if cell.rate is not None:
            if settings.discriminator_follows and settings.discriminator_learning_rate == settings.learning_rate:
                settings.discriminator_learning_rate = cell.rate
            settings.learning_rate = cell.rate
        return sections, settings

    def table_rows(self) -> list[TableRow]:
        """Return what is finished, for a table: rows that have chosen their learning rate.

        A row counts the seeds of which every fold is finished; before there is one, what there is of the first seed.
        """
        found = []
        for row in self.rows:
            rate = self.rates.get(row, self._candidates(row)[0])
            if row not in self.rates and rate is not None:
                continue
            by_seed = {seed: self.cells(row, rate, seed) for seed in self._seeds(row)}
            done = {seed: [cell for cell in cells if cell in self.results] for seed, cells in by_seed.items()}
            whole = {seed: cells for seed, cells in done.items() if len(cells) == len(self.folds.folds)}
            counted = whole or {seed: cells for seed, cells in list(done.items())[:1] if cells}
            if counted:
                predictions = {seed: self._predictions(cells) for seed, cells in counted.items()}
                finished, planned = (sum(map(len, cells.values())) for cells in (done, by_seed))
                found.append(TableRow(row, predictions, finished, planned, {"learning rate": rate}))
        return found

    def _order(self) -> Iterator[Cell]:
        """The cells in turn; the results of those before decide the learning rate of those that follow."""
        for row in self.rows:
            candidates = self._candidates(row)
            for rate in candidates:
                yield from self.cells(row, rate, self.seeds[0])
            scores = {rate: self._validation(row, rate) for rate in candidates}
            self.rates[row] = max(candidates, key=lambda rate: scores[rate])
        for position, seed in enumerate(self.seeds[1:], 1):
            for row in self.rows:
                if len(self._seeds(row)) > position:
                    yield from self.cells(row, self.rates[row], seed)

    def _candidates(self, row: str) -> list[float | None]:
        """The learning rates that a row tries."""
        rates: list[float | None] = list(dict.fromkeys(self.runs.learning_rates or []))
        return rates if rates and not self.rows[row].probe else [None]

    def _seeds(self, row: str) -> list[int]:
        return self.seeds[:1] if self.rows[row].probe else self.seeds

    def _validation(self, row: str, rate: float | None) -> float:
        """The mean over folds, with the first seed, of the validation metric."""
        results = [self.results[cell] for cell in self.cells(row, rate, self.seeds[0])]
        return float(np.mean([result["metrics"]["validation"][self.metric] for result in results]))

    def _check_folders(self) -> None:
        """Raise, before the first of many hours, where the folder of a cell belongs to other settings."""
        for name, row in self.rows.items():
            for rate, seed, fold in itertools.product(self._candidates(name), self._seeds(name), self.folds.folds):
                cell = Cell(name, fold, seed, rate)
                if row.probe:
                    check_settings(self.root / cell.folder, self.probes.settings(row.probe, fold))
                else:
                    sections, args = self.arguments(cell)
                    check_run({**sections, "training": args}, *self.folds.folds[fold], sections["model"].text_column)

    def _predictions(self, cells: Sequence[Cell]) -> pd.DataFrame:
        """The test predictions of all folds together, by id, each with its cluster."""
        columns = ["id", "speaker", "emotion", "predicted"]
        parts = [pd.read_parquet(self.root / cell.folder / PREDICTIONS_FILE, columns=columns) for cell in cells]
        return with_clusters(pd.concat(parts, ignore_index=True), self.folds.cluster)


def run_table(spec: TableSpec, inputs: TableInputs, setup: GridSetup) -> Table:
    """Run every cell that is not finished, write the table after each, print and return it."""
    folder = setup.folder / spec.folder
    runner = TableRunner(setup, inputs, folder)
    heading = f"{spec.title} on {inputs.title}, {inputs.utterances} utterances, {inputs.folds.description}"
    printed = paper.METRICS.get(inputs.name, {}).values() or ("wa",)
    metrics = list(dict.fromkeys([*printed, *REPORTED_METRICS[1:]]))
    published = spec.published if setup.runs.paper or not inputs.stand_in else {}

    def table() -> Table:
        choices = inputs.emotions, metrics, runner.metric, spec.references, published
        return make_table(runner.table_rows(), *choices, inputs.heading(heading), inputs.notes)

    for _ in runner.run():
        if setup.args.should_save:
            table().write(folder / spec.name)
    finished = table()  # with the last row's choice of a learning rate
    if setup.args.should_log:
        _write(finished, folder / spec.name, spec.draw and partial(spec.draw, finished))
        print(finished.to_markdown(), flush=True)
    return finished


def run_tables(
    whole: str,
    heading: str,
    notes: Sequence[str],
    parts: Mapping[str, tuple[TableSpec, TableInputs]],
    setup: GridSetup,
    draw: Callable[[Mapping[str, Table], Path], Any] | None = None,
) -> None:
    """Run several tables (by label) of the same rows, and write those that are finished as one, `whole`, above them.

    `draw` is called with label -> finished table and the path of the whole's figure.
    """
    tables = {}
    for label, (spec, inputs) in parts.items():
        tables[label] = run_table(spec, inputs, setup)
        if setup.args.should_log:
            _write(join_tables(tables, heading, notes), setup.folder / whole, draw and partial(draw, tables))


def _write(table: Table, path: Path, draw: Callable[[Path], Any] | None) -> None:
    """Write a table and its figure."""
    figure = path.with_suffix(".png")
    if draw is not None:
        draw(figure)
    table.write(path, [figure.name] if draw is not None else [])
