"""What a table is measured on: a divided corpus, a part of its training data, two corpora, or a tested split."""

import dataclasses
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, concatenate_datasets

from data_scripts.corpora.labels import map_label
from data_scripts.corpora.report import prepared_name
from data_scripts.schema import load_prepared, pick_split
from data_scripts.spellings import spelling_key
from data_scripts.splits import k_shot, random_split, rows_by_emotion
from trainer.arguments import ExperimentArguments
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.checks import check_experiment
from trainer.experiments.data import prepare_corpus, prepared_folder
from trainer.experiments.protocols import DatasetFolds, divide, usual_cluster
from trainer.studies import paper

#: Of the target corpus: for choosing the epoch (and to draw shots from), and for the test.
VALIDATION_SHARE, TEST_SHARE = 0.3, 0.7


@dataclass(frozen=True)
class TableInputs:
    """A divided corpus and what a table says of it.

    Attributes:
        name: of the tested corpus in the registry; says which metrics are shown and which published numbers.
        stand_in: what is said where the corpora are not the paper's; empty where they are.
    """

    name: str
    title: str
    utterances: int
    emotions: Sequence[str]
    folds: DatasetFolds
    stand_in: str

    def heading(self, words: str) -> str:
        """Return a table's heading, which says where the corpora are not the paper's."""
        return f"# {words} (a stand-in corpus)" if self.stand_in else f"# {words}"

    @property
    def notes(self) -> list[str]:
        """What is said below a table."""
        return [self.stand_in] if self.stand_in else []


def prepare_inputs(
    corpus: CorpusArguments, models: Sequence[ModelArguments], runs: GridArguments, args: ExperimentArguments
) -> TableInputs:
    """Check what can be known before, prepare a corpus, kept in the grid's folder, and divide it.

    `models` are those of the table's rows.
    """
    check_experiment(corpus, models, runs, args, lambda dataset: divide(dataset, corpus.corpus, runs).folds)
    folder = Path(str(args.output_dir))
    dataset = prepare_corpus(corpus, folder / "corpus", models)
    name, utterances = corpus.corpus, sum(map(len, dataset.values()))
    emotions = next(iter(dataset.values())).features["emotion"].names
    stand_in = stand_in_note(name, utterances, prepared_folder(corpus, folder / "corpus"))
    folds = divide(dataset, name, runs)
    return TableInputs(name, paper.TITLES.get(name, name), utterances, emotions, folds, stand_in)


def stand_in_note(name: str, utterances: int, folder: str | Path) -> str:
    """Return what a table says of a corpus that has the paper's name and is another one; empty where it is the same."""
    if not (reason := paper.stand_in_reason(name, utterances, folder)):
        return ""
    return (
        f"**Stand-in corpus**: {utterances} utterances in the layout of {paper.TITLES[name]} ({reason}). The paper's "
        "numbers, of another corpus, cannot be compared with these."
    )


# Finished models on a split


@dataclass(frozen=True)
class CorpusSplit:
    """A split (`data`) of a prepared folder that finished models are tested on; `cluster` as in `DatasetFolds`."""

    corpus: str
    dataset: DatasetDict
    data: Dataset
    title: str
    notes: list[str]
    stand_in: bool
    cluster: Callable[[str, str | None], str]

    @classmethod
    def load(cls, folder: str | Path, split: str) -> "CorpusSplit":
        """Read a folder of `data_scripts.prepare`; the title tells its name, not its path."""
        dataset = load_prepared(folder)
        data = pick_split(dataset, split, folder)
        name = prepared_name(folder)
        note = stand_in_note(name, sum(map(len, dataset.values())), folder)
        title = f"{len(data)} utterances, split {split} of {Path(folder).resolve().name}"
        notes = [f"Corpus: {paper.TITLES.get(name, name)}."]
        if note:
            title, notes = f"{title} (a stand-in corpus)", [*notes, note]
        return cls(name, dataset, data, title, notes, bool(note), usual_cluster(name))


# A part of the training data


def check_share(share: float) -> None:
    """Raise `ExperimentError` where so much of the training data cannot be used."""
    if not 0 < share <= 1:
        raise ExperimentError(f"A share of the training data lies above 0 and at most at 1, not at {share:g}.")


def with_training_share(folds: DatasetFolds, share: float, seed: int) -> DatasetFolds:
    """Return folds that train on a share (0 to 1] of their utterances, and validate and test on the same as before.

    The utterances are drawn emotion by emotion, at least one of each that is there. A smaller share is a part of a
    larger one of the same seed.
    """
    check_share(share)
    if share == 1:
        return folds
    smaller = {}
    for name, (data, description) in folds.folds.items():
        rng, drawn = random.Random(f"{seed} {name}"), []
        for rows in rows_by_emotion(data["train"], range(len(data["train"]))).values():
            rng.shuffle(rows)
            drawn += rows[: max(1, math.floor(share * len(rows) + 0.5))]
        train = data["train"].select(sorted(drawn))
        described = {**description, "train": {"utterances": len(train), "share": share, "seed": seed}}
        smaller[name] = DatasetDict({**data, "train": train}), described
    words = f"{folds.description}, {100 * share:g} % of the training data"
    return dataclasses.replace(folds, folds=smaller, description=words)


# From one corpus to another


@dataclass(frozen=True)
class WholeCorpus:
    """All utterances of a prepared corpus, whatever split they are in.

    Attributes:
        registered: its name in the registry.
        labels: the names of its classes before a label map.
    """

    name: str
    registered: str
    data: Dataset
    folder: str
    labels: Sequence[str]

    @classmethod
    def load(cls, folder: str | Path, label_map: Mapping[str, str]) -> "WholeCorpus":
        """Read a prepared folder; `label_map` gives an emotion another name, several may get the same one."""
        registered = prepared_name(folder)
        unnamed = registered in ("prepared", "manifest", "dataset")
        name = Path(folder).resolve().name if unnamed else registered
        data = concatenate_datasets(list(load_prepared(folder).values()))
        labels = data.features["emotion"].names
        emotions = dict.fromkeys(map_label(label, label_map) for label in labels)
        return cls(name, registered, _relabel(data, emotions, label_map), str(folder), labels)

    @property
    def emotions(self) -> list[str]:
        """The classes that have utterances."""
        names = self.data.features["emotion"].names
        present = set(self.data["emotion"])
        return [name for index, name in enumerate(names) if index in present]


def shared_emotions(source: WholeCorpus, target: WholeCorpus) -> list[str]:
    """Return the classes of both corpora in any spelling, at least two, as the source writes and orders them."""
    there = set(map(spelling_key, target.emotions))
    shared = [name for name in source.emotions if spelling_key(name) in there]
    if len(shared) < 2:
        raise ExperimentError(
            f"{source.name} ({', '.join(source.emotions)}) and {target.name} ({', '.join(target.emotions)}) share "
            f"{len(shared)} emotions: --label_map can give the same emotion the same name."
        )
    return shared


def transfer_inputs(source: WholeCorpus, target: WholeCorpus, shots: int, seed: int) -> TableInputs:
    """Return the inputs of a transfer, whose only fold trains on the whole source and is tested on the target.

    30 % of the target, drawn by emotion, are its validation, 70 % its test. With shots, so many of each emotion move
    from validation to training; the test is the same whatever their number. Utterances of other emotions than the
    shared ones are left out. `seed` is of both draws.
    """
    emotions = shared_emotions(source, target)
    train, rest = (_relabel(corpus.data, emotions, {name: name for name in emotions}) for corpus in (source, target))
    left_out = {source.name: len(source.data) - len(train), target.name: len(target.data) - len(rest)}
    parts = random_split(rest, 0.0, VALIDATION_SHARE, TEST_SHARE, by="utterance", seed=seed).select(rest)
    validation = parts["validation"]
    if shots:
        drawn = k_shot(validation, shots, seed)
        train = concatenate_datasets([train, validation.select(drawn)])
        validation = validation.select(sorted(set(range(len(validation))) - set(drawn)))
    data = DatasetDict({"train": train, "validation": validation, "test": parts["test"]})
    with_shots = f", {shots} shots" if shots else ""
    name = f"{source.name} to {target.name}{with_shots}"
    counts = {str(split): {"utterances": len(part)} for split, part in data.items()}
    described = {"name": name, "shots": shots, "seed": seed, "left_out": left_out, **counts}
    words = f"trained on {source.name}, tested on 70 % of {target.name}{with_shots}"
    folds = DatasetFolds({name: (data, described)}, {name: None}, words, usual_cluster(target.registered))
    notes = [stand_in_note(corpus.registered, len(corpus.data), corpus.folder) for corpus in (source, target)]
    title, utterances = f"{target.name} after {source.name}", sum(map(len, data.values()))
    return TableInputs(target.registered, title, utterances, emotions, folds, " ".join(filter(None, notes)))


def _relabel(data: Dataset, emotions: Iterable[str], label_map: Mapping[str, str]) -> Dataset:
    """The utterances of these classes, renamed first, numbered in their order."""
    wanted = list(emotions)
    names = [map_label(name, label_map) for name in data.features["emotion"].names]
    labels = [names[label] for label in data["emotion"]]
    chosen = [index for index, label in enumerate(labels) if label in wanted]
    table = data.select(chosen).remove_columns("emotion")
    numbers = [wanted.index(labels[index]) for index in chosen]
    return table.add_column("emotion", numbers, feature=ClassLabel(names=wanted))  # pyright: ignore[reportCallIssue]
