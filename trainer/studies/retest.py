"""Finished runs tested on other data than their own: another corpus, or the same speech with other transcripts."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset, DatasetDict

from data_scripts.corpora.folders import walk
from data_scripts.files import fingerprint, folder_name
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.errors import ExperimentError
from trainer.evaluation.prediction import predict
from trainer.experiments.protocols import with_clusters
from trainer.experiments.run_folder import (
    PREDICTIONS_FILE,
    RESULTS_FILE,
    claim_folder,
    corpus_fingerprint,
    load_results,
)
from trainer.studies.tables import TableRow

#: How the row of a model that was trained on human text ends.
HUMAN_TEXT = ", human text"
#: Says what kept predictions are of.
TESTED_FILE = "tested.json"
Cluster = Callable[[str, str | None], str]


@dataclass(frozen=True)
class FinishedRun:
    """A run that is finished.

    Attributes:
        row: its row in its grid or its ablation, and what else tells it apart, e.g. a learning rate or the grid.
        name: its fold and seed, as folders: the same for the same run of another row.
    """

    folder: Path
    row: str
    name: str
    results: Mapping[str, Any] = field(compare=False)

    @property
    def place(self) -> Path:
        """Where its predictions are kept: ROW/FOLD/SEED."""
        return Path(folder_name(self.row)) / self.name

    @property
    def hears_only(self) -> bool:
        """Whether the model reads no text."""
        return self.results["model_config"].get("modalities") == "speech"


def finished_runs(*roots: str | os.PathLike) -> list[FinishedRun]:
    """Return the trained runs under folders of grids (ROW/FOLD/seedN), of `run_folds` or of one run, by their paths.

    Linear probes, which leave no model, are passed over. A cell of a grid says which row it is of; another run is named
    by its ablation. Models that were trained on human text are apart from those that were trained on ASR text.
    """
    found = []
    for root in map(Path, roots):
        results = sorted(path for path in (walk(root) if root.is_dir() else ()) if path.name == RESULTS_FILE)
        folders = [path.parent for path in results if path.with_name("config.json").is_file()]
        if not folders:
            raise ExperimentError(f"{root} holds no finished run: no folder in it has a {RESULTS_FILE} and a model.")
        found += [_read_run(folder, folder.relative_to(root).parts) for folder in folders]
    return found


def _read_run(folder: Path, parts: Sequence[str]) -> FinishedRun:
    """A run whose folder lies at `parts` under that of the grid."""
    results = load_results(folder)
    arguments = results["arguments"]
    (row,) = arguments.get("runs", {}).get("rows") or [arguments.get("model", {}).get("ablation", "M4SER")]
    apart = [part for part in parts[:-2] if part != folder_name(row)]
    run = FinishedRun(folder, row, "/".join(parts[-2:]) or folder.name, results)
    if results["text_column"] == "transcript" and not run.hears_only and not row.endswith(HUMAN_TEXT):
        row += HUMAN_TEXT
    return replace(run, row=" ".join([row, *apart]))


def check_runs_unique(runs: Iterable[FinishedRun]) -> None:
    """Raise where two runs would be one in a table, or in the folders of their predictions."""
    known: dict[Path, FinishedRun] = {}
    for run in runs:
        other = known.setdefault(run.place, run)
        if other is not run:
            raise ExperimentError(f"{other.folder} and {run.folder} are both {run.row}, {run.name}: test them apart.")


def retest_run(
    run: FinishedRun, data: Dataset, folder: str | os.PathLike, *, text_column: str = "hypothesis", **options: Any
) -> pd.DataFrame:
    """Return the predictions of a finished run, indexed by id, sorted, with `speaker`, `emotion` and `predicted`.

    They are kept in `folder`, with what they are of, and what is there already is read back. `options` are further ones
    of `predict`.
    """
    emotions, known = data.features["emotion"].names, run.results["emotions"]
    if unknown := sorted({emotions[label] for label in data["emotion"]} - set(known)):
        raise ExperimentError(
            f"{run.folder} knows {', '.join(known)}, but not {', '.join(unknown)}: prepare the data with --label_map, "
            "or with --emotions that leave these out."
        )
    settings = {
        # By its results and not by its folder, which may be moved, or hold another model by now.
        "model": fingerprint(run.results),
        "data": corpus_fingerprint(DatasetDict({"test": data})),
        "text_column": text_column,
        "bf16": options.get("bf16", False),
    }
    folder = Path(folder)
    claim_folder(folder, settings, TESTED_FILE)
    kept = folder / PREDICTIONS_FILE
    if not kept.is_file():
        model: Any = M4SERForEmotionClassification.from_pretrained(run.folder)
        processor = M4SERProcessor.from_pretrained(run.folder)
        table = predict(model, processor, data, text_column=text_column, **options)
        table = table[["id", "speaker", "emotion", "predicted"]].set_index("id").sort_index()
        table.to_parquet(temporary := kept.with_suffix(".part"))
        temporary.replace(kept)  # so that what is there is whole
    return pd.read_parquet(kept)


def retest_runs(
    runs: Sequence[FinishedRun], parts: Mapping[str, Dataset], folder: str | os.PathLike, **options: Any
) -> dict[str, dict[FinishedRun, pd.DataFrame]]:
    """Return name of the data -> run -> its predictions, kept in `folder`/NAME/ROW/FOLD/SEED.

    The data differ by their texts alone, so models of speech alone are tested on the first.
    """
    check_runs_unique(runs)
    tables: dict[str, dict[FinishedRun, pd.DataFrame]] = {name: {} for name in parts}
    for number, run in enumerate(runs, 1):
        table = None
        for name, data in parts.items():
            if table is None or not run.hears_only:
                table = retest_run(run, data, Path(folder, folder_name(name) if name else "", run.place), **options)
            tables[name][run] = table
        print(f"{number} of {len(runs)}: {run.row}, {run.name}", flush=True)
    return tables


def table_rows(tables: Mapping[FinishedRun, pd.DataFrame], cluster: Cluster) -> list[TableRow]:
    """Return the rows of a table, for `make_table`, of what `retest_run` gave for each run."""
    rows: dict[str, dict[str, pd.DataFrame]] = {}
    for run, table in tables.items():
        rows.setdefault(run.row, {})[run.name] = with_clusters(table.reset_index(), cluster)
    return [TableRow(name, runs, len(runs), len(runs)) for name, runs in rows.items()]
