"""How a corpus is divided for a table: by its own split, or into folds that together test every utterance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from datasets import DatasetDict, concatenate_datasets

from data_scripts.constants import dialogue_of
from data_scripts.corpora import CORPORA
from data_scripts.splits import (
    complete_splits,
    group_folds,
    leave_one_session_out,
    leave_one_speaker_out,
    speaker_folds,
)
from trainer.errors import ExperimentError
from trainer.experiments.arguments import GridArguments, RunArguments

OWN_SPLIT = "own_split"


@dataclass(frozen=True)
class DatasetFolds:
    """A corpus divided.

    Attributes:
        folds: name -> (splits, description), see `run_folds`.
        numbers: name -> the fold's number on the command line; None for the corpus' own split.
        cluster: maps an utterance's id and speaker to what it is drawn with in a bootstrap: utterances of one dialogue,
            or of one speaker, are not independent.
    """

    folds: Mapping[str, tuple[DatasetDict, Mapping[str, Any]]]
    numbers: Mapping[str, int | None]
    description: str
    cluster: Callable[[str, str | None], str]


def divide(dataset: DatasetDict, corpus: str, runs: GridArguments) -> DatasetFolds:
    """Divide a corpus as `runs.protocol` says; by default by its own split, by session (IEMOCAP) or by speaker.

    A protocol that makes folds joins the corpus' own splits first.
    """
    record = CORPORA.get(corpus)
    usual = "own_split" if len(dataset) > 1 else record.protocol if record else "speaker_folds"
    protocol = runs.protocol or usual
    cluster = _dialogue if protocol == "dialogue_folds" else usual_cluster(corpus)
    if protocol == "own_split":
        dataset, description = complete_splits(dataset, runs.split_seed)
        folds = own_split(dataset, runs)
        return DatasetFolds(folds, dict.fromkeys(folds), description, _utterance if cluster is _speaker else cluster)
    joined = _join(dataset)
    if protocol == "dialogue_folds":
        folds = group_folds(joined, runs.num_folds, runs.split_seed)
        description = f"{runs.num_folds} folds of whole dialogues"
    elif protocol == "leave_one_session_out":
        folds, description = leave_one_session_out(joined, seed=runs.split_seed), "leave one session out"
    elif protocol == "leave_one_speaker_out":
        folds, description = leave_one_speaker_out(joined, seed=runs.split_seed), "leave one speaker out"
    else:
        # Each fold hears as many women as men, where the corpus knows them.
        folds = speaker_folds(joined, runs.num_folds, runs.split_seed, stratify=record and record.sex_of)
        description = f"{runs.num_folds} folds of whole speakers"
    chosen = runs.choose(folds, joined)
    numbers = {fold.name: number for number, fold in enumerate(folds, 1) if fold.name in chosen}
    return DatasetFolds(chosen, numbers, description, cluster)


def with_clusters(table: pd.DataFrame, cluster: Callable[[str, str | None], str]) -> pd.DataFrame:
    """Return predictions, indexed by id and sorted, with what each utterance is drawn with as the column `cluster`."""
    speakers = [None if pd.isna(speaker) else speaker for speaker in table["speaker"]]
    clusters = [cluster(*each) for each in zip(table["id"], speakers, strict=True)]
    return table.assign(cluster=clusters).set_index("id").sort_index()


def usual_cluster(corpus: str) -> Callable[[str, str | None], str]:
    """Return the `DatasetFolds.cluster` of a corpus tested as a whole: dialogues where ids tell them, or speakers."""
    record = CORPORA.get(corpus)
    return _speaker if record is None or record.dialogue_of is None else _dialogue


def own_split(dataset: DatasetDict, runs: RunArguments) -> dict[str, tuple[DatasetDict, dict[str, Any]]]:
    """Return the corpus' own train, validation and test splits as the only fold.

    Raises:
        ExperimentError: `runs` chooses among folds.
    """
    if runs.folds not in (None, [1]):
        raise ExperimentError(f"This corpus has its own split, which is one fold: leave --folds {runs.folds} out.")
    counts = {str(name): {"utterances": len(part)} for name, part in dataset.items()}
    return {OWN_SPLIT: (dataset, {"name": OWN_SPLIT, **counts})}


def _join(dataset: DatasetDict) -> DatasetDict:
    """All rows as one split."""
    joined = concatenate_datasets(list(dataset.values()))
    if len(set(joined["id"][:])) < len(joined):
        raise ExperimentError(
            "An id is in two of the corpus' own splits, which cannot be joined to folds then: give each utterance an "
            "id of its own, or use --protocol own_split."
        )
    return DatasetDict({"train": joined})


def _dialogue(identity: str, speaker: str | None) -> str:
    return dialogue_of(identity) or identity


def _speaker(identity: str, speaker: str | None) -> str:
    return speaker or identity


def _utterance(identity: str, speaker: str | None) -> str:
    return identity
