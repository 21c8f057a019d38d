"""From one corpus to another: who is trained on, who is tested, and under which names."""

from collections import Counter

import pytest
from datasets import ClassLabel, DatasetDict

from data_scripts.splits import SplitError, k_shot
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS
from trainer.errors import ExperimentError
from trainer.studies.transfer import Corpus, shared_emotions, transfer_division


def names(data):
    known = data.features["emotion"].names
    return [known[label] for label in data["emotion"]]


@pytest.fixture(scope="module")
def source():
    splits = DatasetDict(train=tiny_corpus(16), test=tiny_corpus(8, seed=1))
    return Corpus.join("acted", "iemocap", splits, {})


@pytest.fixture(scope="module")
def target():
    """Other names for three of the four emotions, in another order; one of them is joined with another."""
    rows = tiny_corpus(60, seed=2)
    renamed = {EMOTIONS[0]: "calm", EMOTIONS[1]: "joy"}
    return Corpus.join("series", "meld", DatasetDict(train=rows), renamed)


def fold_of(division):
    return next(iter(division.folds.values()))


def test_labels_are_renamed_and_keep_their_utterances(target):
    before = Counter(EMOTIONS[label] for label in tiny_corpus(60, seed=2)["emotion"])
    after = Counter(names(target.data))
    assert after["calm"] == before[EMOTIONS[0]]
    assert after["joy"] == before[EMOTIONS[1]]
    joined = Corpus.join("x", "meld", DatasetDict(train=tiny_corpus(60, seed=2)), {EMOTIONS[1]: EMOTIONS[0]})
    assert Counter(names(joined.data))[EMOTIONS[0]] == before[EMOTIONS[0]] + before[EMOTIONS[1]]
    assert joined.data.features["emotion"].names == [name for name in EMOTIONS if name != EMOTIONS[1]]


def test_the_whole_source_trains_and_the_target_is_divided(source, target):
    assert shared_emotions(source, target) == list(EMOTIONS[2:])
    data, described = fold_of(transfer_division(source, target, 0, seed=0))
    shared = Counter(name for name in names(source.data) if name in EMOTIONS[2:])
    assert Counter(names(data["train"])) == shared
    assert set(data["train"]["id"]) <= set(source.data["id"])
    rest = [*data["validation"]["id"], *data["test"]["id"]]
    wanted = [i for i, name in zip(target.data["id"], names(target.data), strict=True) if name in EMOTIONS[2:]]
    assert sorted(rest) == sorted(wanted)
    assert len(data["test"]) == pytest.approx(0.7 * len(rest), abs=2)
    assert {tuple(part.features["emotion"].names) for part in data.values()} == {tuple(EMOTIONS[2:])}
    assert described["left_out"] == {
        "acted": len(source.data) - len(data["train"]),
        "series": len(target.data) - len(rest),
    }
    labels = dict(zip(target.data["id"], names(target.data), strict=True))
    assert all(labels[i] == name for i, name in zip(data["test"]["id"], names(data["test"]), strict=True))


def test_shots_move_from_validation_to_training_and_never_from_the_test(source, target):
    none, _ = fold_of(transfer_division(source, target, 0, seed=3))
    few, described = fold_of(transfer_division(source, target, 2, seed=3))
    assert few["test"]["id"] == none["test"]["id"]
    drawn = few["train"].select(range(len(none["train"]), len(few["train"])))
    assert Counter(names(drawn)) == dict.fromkeys(EMOTIONS[2:], 2)
    assert sorted([*drawn["id"], *few["validation"]["id"]]) == sorted(none["validation"]["id"])
    assert described["shots"] == 2
    assert fold_of(transfer_division(source, target, 2, seed=4))[0]["test"]["id"] != few["test"]["id"]
    with pytest.raises(SplitError, match="choose a smaller k"):
        transfer_division(source, target, 40, seed=3)


def test_shots_are_the_seed_s(source, target):
    rest = fold_of(transfer_division(source, target, 0, seed=3))[0]["validation"]
    drawn = fold_of(transfer_division(source, target, 2, seed=3))[0]["train"]["id"][-4:]
    assert drawn == [rest["id"][row] for row in k_shot(rest, 2, 3)]
    assert drawn != [rest["id"][row] for row in k_shot(rest, 2, 0)]


def test_classes_keep_the_order_of_the_source(source):
    assert source.data.features["emotion"].names == list(EMOTIONS)
    backwards = DatasetDict(train=tiny_corpus(16).cast_column("emotion", ClassLabel(names=list(EMOTIONS[::-1]))))
    target = Corpus.join("x", "manifest", backwards, {EMOTIONS[0]: "zeal"})
    assert target.data.features["emotion"].names == [*EMOTIONS[:0:-1], "zeal"]
    assert shared_emotions(source, target) == list(EMOTIONS[1:])


def test_a_table_draws_the_target_s_clusters(source, target):
    by_dialogue = transfer_division(source, target, 0, 0).cluster
    assert by_dialogue("train_dia3_utt4", "Ross") == by_dialogue("train_dia3_utt5", "Joey")
    by_speaker = transfer_division(target, Corpus("x", "manifest", source.data), 0, 0).cluster
    assert by_speaker("train_dia3_utt4", "Ross") == "Ross"


def test_corpora_of_other_classes_are_refused(source):
    other = Corpus.join("x", "manifest", DatasetDict(train=tiny_corpus(8)), dict.fromkeys(EMOTIONS[1:], "else"))
    with pytest.raises(ExperimentError, match=r"share 1 emotions: --label_map can give"):
        shared_emotions(source, other)
