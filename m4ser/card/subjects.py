"""What a card is of: which model is tested on which rows, and on what it was trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict, concatenate_datasets

from data_scripts.constants import SPLITS
from data_scripts.corpora import CORPORA
from data_scripts.corpora.report import prepared_report
from data_scripts.errors import CorpusError
from data_scripts.schema import load_prepared, pick_split
from trainer.experiments.run_folder import PREDICTIONS_FILE, RESULTS_FILE, load_results
from trainer.studies.retest import finished_runs


@dataclass(frozen=True)
class Subject:
    """A model (a folder, or a name on the Hub), the rows that test it, and the splits `train` and `validation`.

    Of these there are as many as are known: none, or `train`, or both.
    """

    model: str
    test: Dataset
    training: DatasetDict


def find_subjects(model: str, data: str, train: str | None = None, split: str | None = None) -> list[Subject]:
    """Return what to test, on the folder `data` and with the training data `train`, both prepared.

    Rows that a finished run was tested on test it, and the rest trained it, unless `data` has a test split or another
    `split` is named; each run of a folder of runs is tested so. Any other model is tested on the split.

    Raises:
        CorpusError: no such data or split, or several models of which none was tested on these rows.
        ExperimentError: a folder without a model or a run.
    """
    dataset, folder = load_prepared(data), Path(model)
    given = DatasetDict() if train is None else _training(load_prepared(train))
    several = folder.is_dir() and not (folder / "config.json").is_file()
    folders = [run.folder for run in finished_runs(folder)] if several else [folder]
    if split is None and "test" not in dataset:
        joined = concatenate_datasets(list(dataset.values()))
        if found := [subject for path in folders for subject in _held_out(path, joined, given)]:
            return found
    if several:
        raise CorpusError(f"{model} holds {len(folders)} runs, none of which was tested on rows of {data}: name one")
    chosen = split or ("test" if len(dataset) > 1 else str(next(iter(dataset))))
    rest = DatasetDict({str(name): part for name, part in dataset.items() if name != chosen})
    return [Subject(model, pick_split(dataset, chosen, data), given or _training(rest))]


def _training(dataset: DatasetDict) -> DatasetDict:
    return DatasetDict({name: dataset[name] for name in SPLITS[:2] if "train" in dataset and name in dataset})


def _held_out(folder: Path, data: Dataset, given: DatasetDict) -> list[Subject]:
    """A finished run with the rows that it was tested on, and the speakers of the others by what it says of them."""
    if not ((folder / PREDICTIONS_FILE).is_file() and (folder / RESULTS_FILE).is_file()):
        return []
    tested = {*pd.read_parquet(folder / PREDICTIONS_FILE, columns=["id"])["id"]}
    described = load_results(folder).get("split") or {}
    named = [(name, {*((described.get(name) or {}).get("speakers") or ())}) for name in SPLITS[:2]]
    places: dict[str, list[int]] = {}
    for place, (identity, who) in enumerate(zip(data["id"], data["speaker"], strict=True)):
        split = "test" if identity in tested else next((name for name, speakers in named if who in speakers), "rest")
        places.setdefault(split, []).append(place)
    parts = DatasetDict({name: data.select(some) for name, some in places.items()})
    return [Subject(str(folder), parts["test"], given or _training(parts))] if "test" in parts else []


def rows_of(subjects: Iterable[Subject], data: str) -> pd.DataFrame:
    """Return one row for each labeled utterance, by its id; `data` is the prepared folder of their corpus.

    Its columns are `speaker`, `sex` (where the corpus tells it), `emotion` (a name), `length` (short, medium, long:
    thirds), `text`, `other_text` (by people where `text` is by a recognizer, and the other way round; `other` says
    which), `subject` and `place` (in its test data).

    Raises:
        CorpusError: there is no label, or two runs test one row.
    """
    report = prepared_report(data)
    record = None if report is None else CORPORA.get(report.corpus)
    sex_of = (record and record.sex_of) or (lambda _: None)
    tables = []
    for number, subject in enumerate(subjects):
        test: Any = subject.test
        frame = test.select_columns(["speaker", "duration", "transcript", "hypothesis"]).to_pandas().astype(object)
        frame = frame.where(frame.notna(), None).set_axis(test["id"][:])
        names = test.features["emotion"].names
        frame["emotion"] = [None if label is None else names[label] for label in test["emotion"]]
        frame["sex"] = [None if who is None else sex_of(who) for who in frame["speaker"]]
        tables.append(frame.assign(subject=number, place=range(len(frame))).dropna(subset="emotion"))
    rows = pd.concat(tables)
    if rows.empty or rows.index.has_duplicates:
        twice = rows.index[rows.index.duplicated()]
        what = f"{twice[0]!r} is tested by two runs: name a folder of one seed" if len(twice) else "no row has a label"
        raise CorpusError(f"{data}: {what}")
    told, other = ("hypothesis", "transcript") if rows["hypothesis"].notna().any() else ("transcript", "hypothesis")
    rows = rows.rename(columns={told: "text", other: "other_text"}).assign(other=other)
    return rows.assign(length=in_thirds(rows.pop("duration").astype(float), ("short", "medium", "long")))


def in_thirds(values: pd.Series, names: Sequence[str]) -> pd.Series:
    """Return the name of the third that each number lies in; none for what is no number."""
    return np.ceil(values.rank(pct=True, method="first") * 3).map(dict(enumerate(names, 1)))
