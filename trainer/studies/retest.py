"""Finished runs tested on other data than their own: another corpus, or the same speech with other transcripts."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset

from data_scripts.files import fingerprint, folder_name, write_atomically
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.errors import ExperimentError
from trainer.evaluation.prediction import predict
from trainer.experiments.protocols import with_clusters
from trainer.experiments.run import PREDICTIONS_FILE, RESULTS_FILE, load_results
from trainer.studies.tables import TableRow

#: How the row of a model that was trained on human text ends.
HUMAN_TEXT = ", human text"
Cluster = Callable[[str, str | None], str]


@dataclass(frozen=True)
class FinishedRun:
    """A run that is finished.

    Attributes:
        folder: where it lies.
        row: its row in its grid or its ablation, and what else tells it apart, e.g. a learning rate or the grid.
        name: its fold and seed, as folders: the same for the same run of another row.
        results: what its `results.json` holds.
    """

    folder: Path
    row: str
    name: str
    results: Mapping[str, Any] = field(compare=False)


def finished_runs(root: str | os.PathLike) -> list[FinishedRun]:
    """Return the trained runs under a folder, e.g. of a grid (ROW/FOLD/seedN), in the order of their paths.

    Linear probes, which leave no model, are passed over. A cell of a grid says which row it is of; another run is named
    by its ablation. Models that were trained on human text are apart from those that were trained on ASR text.

    Args:
        root: a grid's folder, the folder of `run_folds`, or one run.

    Raises:
        ExperimentError: there is none.
    """
    root = Path(root)
    found = []
    for path in sorted(root.rglob(RESULTS_FILE)):
        folder, results = path.parent, load_results(path.parent)
        if not (folder / "config.json").is_file():
            continue
        row, parts = _row(results), folder.relative_to(root).parts
        apart = [part for part in parts[:-2] if part != folder_name(row)]
        reads = results["model_config"].get("modalities") != "speech"
        if results["text_column"] == "transcript" and reads and not row.endswith(HUMAN_TEXT):
            row += HUMAN_TEXT
        found.append(FinishedRun(folder, " ".join([row, *apart]), "/".join(parts[-2:]) or folder.name, results))
    if not found:
        raise ExperimentError(f"{root} holds no finished run: no folder in it has a {RESULTS_FILE} and a model.")
    return found


def _row(results: Mapping[str, Any]) -> str:
    """What a grid calls the row of a run, or the run's ablation."""
    arguments = results["arguments"]
    (row,) = arguments.get("runs", {}).get("rows") or [arguments.get("model", {}).get("ablation", "M4SER")]
    return row


def refuse_doubles(runs: Iterable[FinishedRun]) -> None:
    """Raise where two runs would be one in a table, or in the folders of their predictions.

    Args:
        runs: of one table.

    Raises:
        ExperimentError: two are of the same fold and seed, and of the same row or rows whose folders are the same.
    """
    known: dict[tuple[str, str], FinishedRun] = {}
    for run in runs:
        other = known.setdefault((folder_name(run.row), run.name), run)
        if other is not run:
            raise ExperimentError(f"{other.folder} and {run.folder} are both {run.row}, {run.name}: test them apart.")


def retest_run(
    run: FinishedRun,
    data: Dataset,
    folder: str | os.PathLike,
    *,
    text_column: str = "hypothesis",
    bf16: bool = False,
    batch_size: int = 32,
    feature_cache_dir: str | os.PathLike | None = None,
) -> pd.DataFrame:
    """Test a finished run on data, and keep its predictions; what is there already is read back.

    Args:
        run: a trained model.
        data: rows of `data_scripts.schema`.
        folder: where `predictions.parquet` is kept, with `tested.json`, which says what on.
        text_column: of the transcripts that the model reads.
        bf16: whether to run in half precision.
        batch_size: of the model.
        feature_cache_dir: keep what the speech encoder gives there, for other runs with the same frozen one.

    Returns:
        A table indexed by id, sorted, with `speaker`, `emotion` and `predicted`.

    Raises:
        ExperimentError: the model does not know an emotion of the data; or the folder is of another model,
            other data or settings.
    """
    emotions = data.features["emotion"].names
    known = run.results["emotions"]
    present = {emotions[label] for label in data["emotion"]}
    if unknown := sorted(present - set(known)):
        raise ExperimentError(
            f"{run.folder} knows {', '.join(known)}, but not {', '.join(unknown)}: prepare the data with --label_map, "
            "or with --emotions that leave these out."
        )
    # By its results and not by its folder, which may be moved, or hold another model by now.
    model = fingerprint(run.results)
    settings = {"model": model, "data": data._fingerprint, "text_column": text_column, "bf16": bf16}
    folder = Path(folder)
    kept, described = folder / PREDICTIONS_FILE, folder / "tested.json"
    if described.is_file():
        if json.loads(described.read_text(encoding="utf-8")) != settings:
            raise ExperimentError(
                f"{folder} holds a test of another model, data or settings: choose another --output_dir."
            )
        return pd.read_parquet(kept)
    table = predict(
        M4SERForEmotionClassification.from_pretrained(run.folder),
        M4SERProcessor.from_pretrained(run.folder),
        data,
        text_column=text_column,
        batch_size=batch_size,
        bf16=bf16,
        feature_cache_dir=feature_cache_dir,
    )[["id", "speaker", "emotion", "predicted"]]
    table = table.set_index("id").sort_index()
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(kept)
    write_atomically(described, json.dumps(settings, indent=2) + "\n")
    return table


def table_rows(tables: Mapping[FinishedRun, pd.DataFrame], cluster: Cluster) -> list[TableRow]:
    """Return the rows of a table, see `trainer.studies.tables.make_table`.

    Args:
        tables: what `retest_run` gave for each run.
        cluster: maps an id and a speaker to what is drawn together in a bootstrap.

    Raises:
        ExperimentError: see `refuse_doubles`.
    """
    refuse_doubles(tables)
    rows: dict[str, dict[str, pd.DataFrame]] = {}
    for run, table in tables.items():
        rows.setdefault(run.row, {})[run.name] = with_clusters(table.reset_index(), cluster)
    return [TableRow(name, runs, len(runs), len(runs)) for name, runs in rows.items()]
