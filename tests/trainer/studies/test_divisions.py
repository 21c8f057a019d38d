"""What tables are measured on: shares of the training data, one corpus after another, a split of a prepared folder."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from datasets import ClassLabel, DatasetDict

from data_scripts.corpora.report import PreparationReport
from data_scripts.schema import save_prepared
from data_scripts.splits import SplitError, k_shot
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS
from trainer.errors import ExperimentError
from trainer.experiments.arguments import GridArguments
from trainer.experiments.protocols import divide
from trainer.studies.divisions import CorpusSplit, WholeCorpus, shared_emotions, transfer_inputs, with_training_share


def names(data):
    known = data.features["emotion"].names
    return [known[label] for label in data["emotion"]]


# Shares of the training data


@pytest.fixture(scope="module")
def folds():
    """Three folds of different speakers."""
    return divide(DatasetDict(train=tiny_corpus(48)), "manifest", GridArguments(protocol="speaker_folds", num_folds=3))


def ids(folds, split):
    return {name: data[split]["id"][:] for name, (data, _) in folds.folds.items()}


@pytest.mark.parametrize("share", [0.001, 0.25, 0.45, 0.7])
def test_each_class_keeps_its_share_of_every_fold(folds, share):
    """Rounded, and at least one; what is validated and tested stays."""
    part = with_training_share(folds, share, seed=0)
    assert part.folds.keys() == folds.folds.keys()
    for name, (data, described) in part.folds.items():
        whole = Counter(names(folds.folds[name][0]["train"]))
        expected = {emotion: max(1, math.floor(share * count + 0.5)) for emotion, count in whole.items()}
        assert Counter(names(data["train"])) == expected
        assert described["train"] == {"utterances": len(data["train"]), "share": share, "seed": 0}
        assert described["test"] == folds.folds[name][1]["test"]
    for split in ("validation", "test"):
        assert ids(part, split) == ids(folds, split)
    assert (part.numbers, part.cluster) == (folds.numbers, folds.cluster)
    assert part.description == f"{folds.description}, {100 * share:g} % of the training data"


def test_a_smaller_share_is_a_part_of_a_larger_one_and_another_seed_draws_others(folds):
    shares = (0.25, 0), (0.5, 0), (0.25, 1)
    quarter, half, other = (ids(with_training_share(folds, *each), "train") for each in shares)
    whole = ids(folds, "train")
    for name in whole:
        assert set(quarter[name]) < set(half[name]) < set(whole[name])
        assert quarter[name] != other[name]
        assert sorted(quarter[name], key=whole[name].index) == quarter[name]
    assert with_training_share(folds, 1, seed=0) is folds
    same = replace(folds, folds=dict.fromkeys(("one", "another"), folds.folds["fold1"]))
    one, another = ids(with_training_share(same, 0.5, seed=0), "train").values()
    assert one != another, "each fold draws its own"
    for share in (0, -0.5, 1.01, 25):
        with pytest.raises(ExperimentError, match="lies above 0 and at most at 1"):
            with_training_share(folds, share, seed=0)


# From one corpus to another


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Makes a corpus of a name in the registry, whose splits lie in a folder."""

    def load(registered, label_map, **splits):
        folder = tmp_path_factory.mktemp("corpora") / "series"
        save_prepared(DatasetDict(splits), folder)
        PreparationReport(registered).save(folder / "report.json")
        return WholeCorpus.load(folder, label_map)

    return load


@pytest.fixture(scope="module")
def source(load):
    return load("iemocap", {}, train=tiny_corpus(16), test=tiny_corpus(8, seed=1))


@pytest.fixture(scope="module")
def target(load):
    """Other names for two of the four emotions."""
    return load("meld", {EMOTIONS[0]: "calm", EMOTIONS[1]: "joy"}, train=tiny_corpus(60, seed=2))


def fold_of(*arguments):
    ((data, described),) = transfer_inputs(*arguments).folds.folds.values()
    return data, described


def test_labels_are_renamed_and_keep_their_utterances(load, target):
    before, after = Counter(names(tiny_corpus(60, seed=2))), Counter(names(target.data))
    assert (after["calm"], after["joy"]) == (before[EMOTIONS[0]], before[EMOTIONS[1]])
    joined = load("manifest", {EMOTIONS[1].upper(): EMOTIONS[0]}, train=tiny_corpus(60, seed=2))
    assert (target.name, joined.name) == ("meld", "series")
    assert Counter(names(joined.data))[EMOTIONS[0]] == before[EMOTIONS[0]] + before[EMOTIONS[1]]
    assert joined.data.features["emotion"].names == [name for name in EMOTIONS if name != EMOTIONS[1]]


def test_the_whole_source_trains_and_the_target_is_divided(source, target):
    assert shared_emotions(source, target) == list(EMOTIONS[2:])
    data, described = fold_of(source, target, 0, 0)
    assert Counter(names(data["train"])) == Counter(name for name in names(source.data) if name in EMOTIONS[2:])
    assert set(data["train"]["id"]) <= set(source.data["id"])
    labels = dict(zip(target.data["id"], names(target.data), strict=True))
    rest = [*data["validation"]["id"], *data["test"]["id"]]
    assert sorted(rest) == sorted(clip for clip, name in labels.items() if name in EMOTIONS[2:])
    assert len(data["test"]) == pytest.approx(0.7 * len(rest), abs=2)
    assert {tuple(part.features["emotion"].names) for part in data.values()} == {tuple(EMOTIONS[2:])}
    assert described["left_out"] == {"iemocap": 24 - len(data["train"]), "meld": 60 - len(rest)}
    assert names(data["test"]) == [labels[clip] for clip in data["test"]["id"]]
    inputs = transfer_inputs(source, target, 0, 0)
    assert (inputs.utterances, inputs.emotions) == (sum(map(len, data.values())), list(EMOTIONS[2:]))
    assert "24 utterances in the layout of IEMOCAP" in inputs.stand_in
    assert "60 utterances in the layout of MELD" in inputs.stand_in


def test_shots_are_the_seeds_and_move_from_validation_to_training_and_never_from_the_test(source, target):
    none, _ = fold_of(source, target, 0, 3)
    few, described = fold_of(source, target, 2, 3)
    assert few["test"]["id"] == none["test"]["id"]
    drawn = few["train"].select(range(len(none["train"]), len(few["train"])))
    assert Counter(names(drawn)) == dict.fromkeys(EMOTIONS[2:], 2)
    assert sorted([*drawn["id"], *few["validation"]["id"]]) == sorted(none["validation"]["id"])
    assert drawn["id"][:] == [none["validation"]["id"][row] for row in k_shot(none["validation"], 2, 3)]
    assert drawn["id"][:] != [none["validation"]["id"][row] for row in k_shot(none["validation"], 2, 0)]
    assert described["shots"] == 2
    assert fold_of(source, target, 2, 4)[0]["test"]["id"] != few["test"]["id"]
    with pytest.raises(SplitError, match="choose a smaller k"):
        transfer_inputs(source, target, 40, 3)


def test_classes_keep_the_order_of_the_source_and_two_must_be_shared(load, source):
    backwards = tiny_corpus(16).cast_column("emotion", ClassLabel(names=list(EMOTIONS[::-1])))
    target = load("manifest", {EMOTIONS[0]: "zeal"}, train=backwards)
    assert target.data.features["emotion"].names == [*EMOTIONS[:0:-1], "zeal"]
    assert shared_emotions(source, target) == list(EMOTIONS[1:])
    with pytest.raises(ExperimentError, match=r"share 1 emotions: --label_map can give"):
        shared_emotions(source, load("manifest", dict.fromkeys(EMOTIONS[1:], "else"), train=tiny_corpus(8)))


def test_classes_are_shared_in_any_spelling(load, source):
    shouted = tiny_corpus(60, seed=2).cast_column("emotion", ClassLabel(names=[name.upper() for name in EMOTIONS]))
    target = load("manifest", {}, train=shouted)
    assert shared_emotions(target, source) == [name.upper() for name in EMOTIONS]
    data, described = fold_of(source, target, 0, 0)
    assert {tuple(part.features["emotion"].names) for part in data.values()} == {tuple(EMOTIONS)}
    assert set(described["left_out"].values()) == {0}
    labels = dict(zip(shouted["id"], names(shouted), strict=True))
    assert [name.upper() for name in names(data["test"])] == [labels[clip] for clip in data["test"]["id"]]


def test_a_table_draws_the_targets_clusters(load, source, target):
    by_dialogue = transfer_inputs(source, target, 0, 0).folds.cluster
    assert by_dialogue("train_dia3_utt4", "Ross") == by_dialogue("train_dia3_utt5", "Joey")
    by_speaker = transfer_inputs(source, load("manifest", {}, train=tiny_corpus(16)), 0, 0).folds.cluster
    assert by_speaker("train_dia3_utt4", "Ross") == "Ross"


# A split that finished runs are tested on


def test_a_tested_split_knows_its_corpus_and_judges_it_as_a_whole(load, tmp_path):
    splits = {"train": tiny_corpus(12), "test": tiny_corpus(6)}
    save_prepared(DatasetDict(splits), tmp_path / "own")
    plain = CorpusSplit.load(tmp_path / "own", "test")
    assert (plain.title, plain.stand_in) == ("6 utterances, split test of own", False)
    tested = CorpusSplit.load(load("meld", {}, **splits).folder, "test")
    assert (tested.corpus, len(tested.data), len(tested.dataset)) == ("meld", 6, 2)
    assert tested.title == "6 utterances, split test of series (a stand-in corpus)"
    assert "18 utterances in the layout of MELD" in tested.notes[1]
    dialogue = tested.cluster("dia3_utt4", "Ross")
    assert dialogue == tested.cluster("dia3_utt5", "Joey") != plain.cluster("dia3_utt4", "Ross")
