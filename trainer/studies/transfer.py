"""One corpus for training, another for validation and test (Table VIII), with a few of its utterances (Table IX)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasets import ClassLabel, Dataset, DatasetDict, concatenate_datasets

from data_scripts.splits import k_shot, random_split
from trainer.errors import ExperimentError
from trainer.experiments.protocols import Division, usual_cluster

#: Of the target corpus: for choosing the epoch (and to draw shots from), and for the test.
VALIDATION_SHARE, TEST_SHARE = 0.3, 0.7


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus to train or test on.

    Attributes:
        name: as it is written in tables and folders.
        registered: its name in the registry.
        data: all its utterances, whatever split they are in.
    """

    name: str
    registered: str
    data: Dataset

    @classmethod
    def join(cls, name: str, registered: str, splits: DatasetDict, label_map: Mapping[str, str]) -> "Corpus":
        """Make one of a corpus' splits.

        Args:
            name: as it is written in tables and folders.
            registered: its name in the registry.
            splits: prepared.
            label_map: emotion -> the name that it gets here; several may get the same one.
        """
        data = concatenate_datasets(list(splits.values()))
        names = [label_map.get(name, name) for name in data.features["emotion"].names]
        return cls(name, registered, _numbered(data, [names[label] for label in data["emotion"]], dict.fromkeys(names)))

    @property
    def emotions(self) -> list[str]:
        """The classes that have utterances."""
        names = self.data.features["emotion"].names
        present = set(self.data["emotion"])
        return [name for index, name in enumerate(names) if index in present]


def shared_emotions(source: Corpus, target: Corpus) -> list[str]:
    """Return the classes of both corpora, in the order of the source's.

    Raises:
        ExperimentError: there are fewer than two.
    """
    shared = [name for name in source.emotions if name in target.emotions]
    if len(shared) < 2:
        raise ExperimentError(
            f"{source.name} ({', '.join(source.emotions)}) and {target.name} ({', '.join(target.emotions)}) share "
            f"{len(shared)} emotions: --label_map can give the same emotion the same name."
        )
    return shared


def transfer_division(source: Corpus, target: Corpus, shots: int, seed: int) -> Division:
    """Return the only fold of a transfer: trained on the whole source, validated and tested on the target.

    30 % of the target, drawn by emotion, are its validation, 70 % its test. With shots, so many of each emotion move
    from validation to training; the test is the same whatever their number. Utterances of other emotions than the
    shared ones are left out.

    Args:
        source: to train on.
        target: to test on.
        shots: utterances of each emotion of the target that training gets.
        seed: of both draws.

    Raises:
        ExperimentError: the corpora share fewer than two emotions.
        SplitError: the validation has fewer utterances of an emotion than shots.
    """
    emotions = shared_emotions(source, target)
    train, rest = (_restrict(corpus.data, emotions) for corpus in (source, target))
    left_out = {source.name: len(source.data) - len(train), target.name: len(target.data) - len(rest)}
    parts = random_split(rest, 0.0, VALIDATION_SHARE, TEST_SHARE, by="utterance", seed=seed).select(rest)
    validation = parts["validation"]
    if shots:
        drawn = k_shot(validation, shots, seed)
        train = concatenate_datasets([train, validation.select(drawn)])
        validation = validation.select(sorted(set(range(len(validation))) - set(drawn)))
    data = DatasetDict({"train": train, "validation": validation, "test": parts["test"]})
    name = f"{source.name} to {target.name}" + (f", {shots} shots" if shots else "")
    counts = {str(split): {"utterances": len(part)} for split, part in data.items()}
    description = {"name": name, "shots": shots, "seed": seed, "left_out": left_out, **counts}
    words = f"trained on {source.name}, tested on 70 % of {target.name}" + (f", {shots} shots" if shots else "")
    return Division({name: (data, description)}, {name: None}, words, usual_cluster(target.registered))


def _restrict(data: Dataset, emotions: Sequence[str]) -> Dataset:
    """The utterances of these classes, numbered in their order."""
    names = data.features["emotion"].names
    chosen = data.select([index for index, label in enumerate(data["emotion"]) if names[label] in emotions])
    return _numbered(chosen, [names[label] for label in chosen["emotion"]], emotions)


def _numbered(data: Dataset, labels: Sequence[str], emotions: Iterable[str]) -> Dataset:
    """The data with these labels, numbered in the order of `emotions`."""
    emotions = list(emotions)
    numbers = [emotions.index(label) for label in labels]
    table = data.remove_columns("emotion").add_column("emotion", numbers)  # pyright: ignore[reportCallIssue]
    return table.cast_column("emotion", ClassLabel(names=emotions))
