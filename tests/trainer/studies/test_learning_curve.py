"""Less training data: how much, of which classes, and that nothing else changes."""

from collections import Counter

import pytest
from datasets import DatasetDict

from tests.helpers.corpus import tiny_corpus
from trainer.errors import ExperimentError
from trainer.experiments.arguments import GridArguments
from trainer.experiments.protocols import divide
from trainer.studies.learning_curve import training_utterances, with_training_share


@pytest.fixture(scope="module")
def division():
    """Three folds of different speakers."""
    return divide(DatasetDict(train=tiny_corpus(48)), "manifest", GridArguments(protocol="speaker_folds", num_folds=3))


def ids(division, split):
    return {name: data[split]["id"][:] for name, (data, _) in division.folds.items()}


def test_each_class_keeps_its_share_of_every_fold(division):
    half = with_training_share(division, 0.5, seed=0)
    assert half.folds.keys() == division.folds.keys()
    for name, (data, described) in half.folds.items():
        whole = Counter(division.folds[name][0]["train"]["emotion"])
        kept = Counter(data["train"]["emotion"])
        assert kept.keys() == whole.keys()
        assert all(abs(kept[label] - 0.5 * whole[label]) <= 0.5 for label in whole)
        assert described["train"] == {"utterances": len(data["train"]), "share": 0.5, "seed": 0}
        assert described["test"] == division.folds[name][1]["test"]
        assert data["train"].features == division.folds[name][0]["train"].features
    assert training_utterances(half) == pytest.approx(0.5 * training_utterances(division), abs=2)


def test_validation_and_test_stay(division):
    part = with_training_share(division, 0.25, seed=0)
    for split in ("validation", "test"):
        assert ids(part, split) == ids(division, split)
    assert (part.numbers, part.cluster, part.tested) == (division.numbers, division.cluster, division.tested)


def test_a_smaller_share_is_a_part_of_a_larger_one_and_another_seed_draws_others(division):
    quarter, half, other = (
        ids(with_training_share(division, share, seed), "train") for share, seed in ((0.25, 0), (0.5, 0), (0.25, 1))
    )
    whole = ids(division, "train")
    for name in whole:
        assert set(quarter[name]) < set(half[name]) < set(whole[name])
        assert quarter[name] != other[name]
        assert sorted(quarter[name], key=whole[name].index) == quarter[name]


def test_no_class_vanishes(division):
    least = with_training_share(division, 0.001, seed=0)
    for name, (data, _) in least.folds.items():
        assert set(data["train"]["emotion"]) == set(division.folds[name][0]["train"]["emotion"])


def test_all_of_it_is_the_division_itself(division):
    assert with_training_share(division, 1, seed=0) is division
    assert with_training_share(division, 0.5, 0).description == f"{division.description}, 50 % of the training data"


@pytest.mark.parametrize("share", [0, -0.5, 1.01, 25])
def test_no_share_is_refused(division, share):
    with pytest.raises(ExperimentError, match="lies above 0 and at most at 1"):
        with_training_share(division, share, seed=0)
