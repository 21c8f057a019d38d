"""Folds of whole dialogues, or of other groups: every utterance is tested, and none beside one of its group."""

from itertools import chain

import pytest
from datasets import concatenate_datasets

from data_scripts.constants import SPLITS
from data_scripts.schema import build_dataset
from data_scripts.splits import SplitError, dialogue_of, group_folds

EMOTIONS = ["happy", "sad"]


def dialogues(lengths, name="train_dia{}_utt{}"):
    """Dialogues of these lengths, of two speakers in turn; one utterance of three is sad."""
    rows = []
    for number, length in enumerate(lengths):
        for place in range(length):
            row = {"id": name.format(number, place), "audio": {"path": "a.wav", "bytes": None}, "duration": 1.0}
            rows.append(row | {"speaker": "ab"[place % 2], "emotion": EMOTIONS[place % 3 == 1]})
    return build_dataset(rows, EMOTIONS)


def test_a_dialogue_is_an_id_without_its_utterance():
    assert dialogue_of("train_dia0_utt13") == "train_dia0" != dialogue_of("test_dia0_utt13")
    assert dialogue_of("Ses01F_script02_1_M003") == "Ses01F_script02_1"
    assert dialogue_of("03-01-05-01-01-01-12") == ""


@pytest.mark.parametrize("num_folds", [3, 5])
def test_group_folds_keep_each_dialogue_in_one_part(num_folds):
    data = dialogues([3 + number % 7 for number in range(40)])
    folds = group_folds(data, num_folds, seed=1)
    groups = [identity.rpartition("_")[0] for identity in data["id"]]
    assert sorted(chain(*(fold.test for fold in folds))) == list(range(len(data)))
    for number, fold in enumerate(folds):
        assert fold.validation == folds[(number + 1) % num_folds].test
        assert sorted([*fold.train, *fold.validation, *fold.test]) == list(range(len(data)))
        parts = [{groups[row] for row in getattr(fold, split)} for split in SPLITS]
        assert sum(map(len, parts)) == len(set(groups)) == len(set.union(*parts))
        assert len(fold.test) == pytest.approx(len(data) / num_folds, abs=4)
        sad = sum(data["emotion"][row] for row in fold.test) / len(fold.test)
        assert sad == pytest.approx(sum(data["emotion"]) / len(data), abs=0.05)
    assert [fold.test for fold in group_folds(data, num_folds, seed=1)] == [fold.test for fold in folds]
    assert [fold.test for fold in group_folds(data, num_folds, seed=2)] != [fold.test for fold in folds]


def test_group_folds_take_other_groups_too():
    data = dialogues([2] * 12)
    folds = group_folds(data, 3, group=lambda identity: str(int(identity.split("_")[1][3:]) // 4))
    tested = [{int(data["id"][row].split("_")[1][3:]) // 4 for row in fold.test} for fold in folds]
    assert sorted(tested, key=min) == [{0}, {1}, {2}]


def test_group_folds_refuse_what_would_leak_or_be_empty():
    with pytest.raises(SplitError, match="'clip3' names no dialogue"):
        group_folds(dialogues([2] * 4, name="clip3"), 3)
    joined = concatenate_datasets([dialogues([2] * 4), dialogues([2] * 4)])
    with pytest.raises(SplitError, match="an id occurs twice"):
        group_folds(joined, 3)
    with pytest.raises(SplitError, match="3 folds need as many groups; the dataset has 2"):
        group_folds(dialogues([9, 9]), 3)
    with pytest.raises(SplitError, match="num_folds must be at least 3"):
        group_folds(dialogues([9, 9]), 2)
    with pytest.raises(SplitError, match="3 folds cannot be made"):
        group_folds(dialogues([2, 2]), 3, group=str.upper)
