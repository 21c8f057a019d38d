"""How a corpus is divided for a table, and which utterances are drawn together in a bootstrap."""

import pytest
from datasets import DatasetDict

from data_scripts.schema import build_dataset
from data_scripts.splits import SplitError
from trainer.errors import ExperimentError
from trainer.experiments.arguments import PROTOCOLS, GridArguments
from trainer.experiments.protocols import divide

EMOTIONS = ["happy", "sad"]


def part(name, sessions=(None,), speakers=6, first=0):
    """Two utterances of each speaker; speakers come in turn to the sessions."""
    rows = []
    for number in range(first, first + speakers):
        for utterance in range(2):
            row = {"id": f"{name}_dia{number}_utt{utterance}", "audio": {"path": "a.wav", "bytes": None}}
            session = sessions[number % len(sessions)]
            row |= {"duration": 1.0, "speaker": f"{name}{number}", "session": session, "emotion": EMOTIONS[utterance]}
            rows.append(row)
    return build_dataset(rows, EMOTIONS)


def own_splits():
    return DatasetDict({name: part(name) for name in ("train", "validation", "test")})


def test_a_corpus_with_its_own_split_keeps_it():
    division = divide(own_splits(), "manifest", GridArguments(folds=[1]))
    assert list(division.folds) == ["own_split"]
    assert division.numbers == {"own_split": None}
    assert sum(len(data["test"]) for data, _ in division.folds.values()) == 12
    assert division.cluster("train_dia0_utt1", "anna") == "train_dia0_utt1"
    assert divide(own_splits(), "meld", GridArguments()).cluster("train_dia0_utt1", "anna") == "train_dia0"


@pytest.mark.parametrize(
    ("corpus", "folds", "cluster"),
    [
        ("iemocap", ["session_1", "session_2", "session_3"], "train_dia0"),
        ("manifest", ["fold1", "fold2", "fold3"], "b"),
    ],
)
def test_without_one_it_is_divided_by_session_or_speaker(corpus, folds, cluster):
    division = divide(DatasetDict(train=part("train", sessions="123")), corpus, GridArguments(num_folds=3))
    assert list(division.folds) == folds
    assert division.numbers == dict(zip(folds, (1, 2, 3), strict=True))
    assert sum(len(data["test"]) for data, _ in division.folds.values()) == 12
    assert division.cluster("train_dia0_utt1", "b") == cluster
    assert division.cluster("clip", None) == "clip"


def test_folds_that_are_chosen_keep_their_numbers():
    runs = GridArguments(num_folds=3, folds=[3, 2], split_seed=4)
    division = divide(DatasetDict(train=part("train")), "manifest", runs)
    assert division.numbers == {"fold2": 2, "fold3": 3}
    every = divide(DatasetDict(train=part("train")), "manifest", GridArguments(num_folds=3, split_seed=4))
    assert division.folds["fold3"][0]["test"]["id"][:] == every.folds["fold3"][0]["test"]["id"][:]
    assert division.folds["fold3"][1]["seed"] == 4


@pytest.mark.parametrize("protocol", sorted({*PROTOCOLS} - {"leave_one_speaker_out"}))  # which draws nothing
def test_a_division_follows_its_seed(protocol):
    dataset = DatasetDict(train=part("train", "123", speakers=12))
    if protocol == "own_split":
        dataset["test"] = part("test")
    drawn = set()
    for seed in range(4):
        runs = GridArguments(protocol=protocol, num_folds=3, split_seed=seed)
        folds = divide(dataset, "manifest", runs).folds
        drawn.add(str([rows["id"][:] for data, _ in folds.values() for rows in data.values()]))
    assert len(drawn) > 1


@pytest.mark.parametrize("protocol", ["dialogue_folds", "speaker_folds", "leave_one_speaker_out"])
def test_folds_are_of_all_of_a_corpus_own_splits(protocol):
    splits = DatasetDict({name: part(name, sessions=(name,)) for name in ("train", "validation", "test")})
    division = divide(splits, "manifest", GridArguments(protocol=protocol, num_folds=4))
    tested = [clip for data, _ in division.folds.values() for clip in data["test"]["id"]]
    assert sorted(tested) == sorted(clip for each in splits.values() for clip in each["id"])
    assert sum(len(data["test"]) for data, _ in division.folds.values()) == 36
    assert len(division.folds) == (18 if protocol == "leave_one_speaker_out" else 4)
    assert division.cluster("train_dia0_utt1", "b") == ("train_dia0" if protocol == "dialogue_folds" else "b")
    assert ("dialogues" if protocol == "dialogue_folds" else "speaker") in division.description


@pytest.mark.parametrize(
    ("splits", "corpus", "options", "error", "message"),
    [
        ({"train": "a", "test": "a"}, "manifest", {"protocol": "dialogue_folds"}, ExperimentError, "An id is in two"),
        ({"train": "a"}, "iemocap", {}, SplitError, "session"),
        ({"train": "a", "validation": "b", "test": "c"}, "manifest", {"folds": [2]}, ExperimentError, "its own split"),
        ({"train": "a"}, "manifest", {"num_folds": 3, "folds": [4]}, ExperimentError, "There is no fold 4"),
    ],
)
def test_what_cannot_be_divided_is_refused(splits, corpus, options, error, message):
    dataset = DatasetDict({split: part(name) for split, name in splits.items()})
    with pytest.raises(error, match=message):
        divide(dataset, corpus, GridArguments(**options))
