"""Splits: every speaker or session tested once, nothing in two places, the same seed the same split."""

import json
from collections import Counter
from itertools import chain

import pytest
from datasets import DatasetDict, concatenate_datasets

from data_scripts.corpora.base import SPLITS
from data_scripts.corpora.ravdess import voice
from data_scripts.schema import build_dataset
from data_scripts.splits import SplitError, k_shot, leave_one_session_out, random_split, speaker_folds

EMOTIONS = ["happy", "sad"]


def make(speakers, per_speaker=4, session=lambda speaker: None):
    """A dataset in which each speaker says `per_speaker` utterances, happy and sad in turn."""
    rows = []
    for speaker in speakers:
        for number in range(per_speaker):
            row = {"id": f"{speaker}-{number}", "audio": {"path": "a.wav", "bytes": None}, "duration": 1.0}
            rows.append(row | {"speaker": speaker, "session": session(speaker), "emotion": EMOTIONS[number % 2]})
    return build_dataset(rows, EMOTIONS)


ACTORS = [f"{number:02d}" for number in range(1, 17)]
IEMOCAP = [f"Ses0{number}{letter}" for number in range(1, 6) for letter in "FM"]


@pytest.fixture(scope="module")
def actors():
    return make(ACTORS)


@pytest.fixture(scope="module")
def sessions():
    """Five sessions of two speakers, as in IEMOCAP."""
    return make(IEMOCAP, session=lambda speaker: speaker[:5])


def rows_of(fold):
    """All row numbers of a fold."""
    return [*fold.train, *fold.validation, *fold.test]


# By speaker


@pytest.mark.parametrize("num_folds", [3, 4, 6, 16])
@pytest.mark.parametrize("stratify", [None, voice])
def test_speaker_folds(actors, num_folds, stratify):
    folds = speaker_folds(actors, num_folds, seed=3, stratify=stratify)
    assert [fold.name for fold in folds] == [f"fold{number}" for number in range(1, num_folds + 1)]
    assert sorted(speaker for fold in folds for speaker in fold.speakers["test"]) == ACTORS
    assert sorted(speaker for fold in folds for speaker in fold.speakers["validation"]) == ACTORS
    speakers = list(actors["speaker"])
    for fold in folds:
        assert sorted(rows_of(fold)) == list(range(len(actors)))
        assert sorted(chain(*fold.speakers.values())) == ACTORS  # each in one split only
        for split in SPLITS:
            assert sorted({speakers[row] for row in getattr(fold, split)}) == fold.speakers[split] != []


def test_speaker_folds_are_balanced(actors):
    folds = speaker_folds(actors, 6, stratify=voice)
    sizes = [len(fold.speakers["test"]) for fold in folds]
    assert (min(sizes), max(sizes)) == (2, 3)
    for fold in folds:
        assert set(Counter(map(voice, fold.speakers["test"])).values()) <= {1, 2}
        assert {voice(speaker) for speaker in fold.speakers["validation"]} == {"male", "female"}


def test_speaker_folds_follow_the_seed_only(actors):
    assert speaker_folds(actors, 4, 1) == speaker_folds(actors, 4, 1)
    assert speaker_folds(actors, 4, 1) != speaker_folds(actors, 4, 2)
    backwards = actors.select(range(len(actors))[::-1])
    for one, other in zip(speaker_folds(actors, 4, 1), speaker_folds(backwards, 4, 1), strict=True):
        assert one.speakers == other.speakers


def test_speaker_folds_known_answer():
    # Guards published numbers: another deal for the same seed would silently change every fold.
    folds = speaker_folds(make(["a", "b", "c", "d"], 1), 4, seed=0)
    assert [fold.speakers["test"] for fold in folds] == [["c"], ["a"], ["b"], ["d"]]


@pytest.mark.parametrize(("num_folds", "message"), [(2, "at least 3"), (17, "as many speakers; the dataset has 16")])
def test_speaker_folds_refuses(actors, num_folds, message):
    with pytest.raises(SplitError, match=message):
        speaker_folds(actors, num_folds)


def test_speakers_must_be_known(actors):
    with pytest.raises(SplitError, match=r"4 of 16 rows have no speaker .the first is row 8."):
        speaker_folds(make(["a", "b", None, "c"]), 3)
    with pytest.raises(SplitError, match="no column 'speaker'; its columns: id, audio"):
        speaker_folds(actors.remove_columns("speaker"), 3)


# By session


def test_leave_one_session_out_with_a_held_out_speaker(sessions):
    folds = leave_one_session_out(sessions)
    assert [fold.sessions["test"] for fold in folds] == [[f"Ses0{number}"] for number in range(1, 6)]
    assert folds[0].name == "session_Ses01"
    for fold in folds:
        assert sorted(rows_of(fold)) == list(range(len(sessions)))
        assert fold.sessions["test"][0] not in fold.sessions["train"] + fold.sessions["validation"]
        assert len(fold.speakers["validation"]) == 1
        assert len(fold.speakers["train"]) == 7
        assert sorted(chain(*fold.speakers.values())) == IEMOCAP
    assert leave_one_session_out(sessions, seed=1) == leave_one_session_out(sessions, seed=1)
    assert leave_one_session_out(sessions, seed=1) != leave_one_session_out(sessions, seed=2)


def test_leave_one_session_out_with_a_share(sessions):
    labels = list(sessions["emotion"])
    for fold in leave_one_session_out(sessions, validation=0.25):
        assert sorted(rows_of(fold)) == list(range(len(sessions)))
        assert Counter(labels[row] for row in fold.validation) == {0: 4, 1: 4}  # a quarter of 16 each
        assert fold.sessions["test"][0] not in fold.sessions["train"] + fold.sessions["validation"]


def test_a_speaker_of_two_sessions_would_leak():
    shared_names = make(IEMOCAP, session=lambda speaker: speaker[:5]).map(lambda row: {"speaker": row["speaker"][-1]})
    for validation in ("speaker", 0.2):
        with pytest.raises(SplitError, match=r"session_Ses01 would leak: speaker (F|M|F, M) in both train and test"):
            leave_one_session_out(shared_names, validation)


@pytest.mark.parametrize("validation", ["test", 0, 1.0, 0.0, 2.5, None, "0.2"])
def test_unknown_validation(sessions, validation):
    with pytest.raises(SplitError, match='validation must be "speaker" or a share'):
        leave_one_session_out(sessions, validation)


def test_sessions_must_suffice(actors):
    with pytest.raises(SplitError, match="64 of 64 rows have no session"):
        leave_one_session_out(actors)
    with pytest.raises(SplitError, match="at least 2; the dataset has only s"):
        leave_one_session_out(make(ACTORS, session=lambda _: "s"))
    with pytest.raises(SplitError, match="session_a would have no train data"):
        leave_one_session_out(
            make(["1", "2", "3"], session=lambda speaker: "b" if speaker == "1" else "a").select(range(8))
        )


# At random


def test_random_split_by_speaker(actors):
    fold = random_split(actors, 0.5, 0.25, 0.25, seed=5)
    assert [len(fold.speakers[split]) for split in SPLITS] == [8, 4, 4]
    assert sorted(chain(*fold.speakers.values())) == ACTORS
    assert sorted(rows_of(fold)) == list(range(len(actors)))
    assert fold == random_split(actors, 0.5, 0.25, 0.25, seed=5) != random_split(actors, 0.5, 0.25, 0.25, seed=6)


def test_random_split_fills_every_split_while_speakers_suffice():
    for seed in range(10):
        fold = random_split(make(["a", "b", "c"]), 0.8, 0.1, 0.1, seed=seed)
        assert [len(fold.speakers[split]) for split in SPLITS] == [1, 1, 1]
    with pytest.raises(SplitError, match="3 splits by speaker need as many; the dataset has 2"):
        random_split(make(["a", "b"]))


def test_random_split_by_session(sessions):
    fold = random_split(sessions, 0.6, 0.2, 0.2, by="session")
    assert [len(fold.sessions[split]) for split in SPLITS] == [3, 1, 1]


def test_random_split_by_utterance_divides_every_emotion(actors):
    fold = random_split(actors, 0, 0.25, 0.75, by="utterance")
    labels = list(actors["emotion"])
    assert fold.train == []
    assert list(fold.select(actors)) == ["validation", "test"]
    assert Counter(labels[row] for row in fold.validation) == {0: 8, 1: 8}
    assert Counter(labels[row] for row in fold.test) == {0: 24, 1: 24}
    assert sorted(rows_of(fold)) == list(range(64))


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (1.5, -0.5, 0), (0.2, 0.2, 0.2)])
def test_random_split_refuses_shares(actors, shares):
    with pytest.raises(SplitError, match="between 0 and 1 and sum to 1"):
        random_split(actors, *shares)


def test_random_split_refuses_the_rest(actors):
    with pytest.raises(SplitError, match=r"by must be .* got 'dialogue'"):
        random_split(actors, by="dialogue")
    with pytest.raises(SplitError, match="would have no test data"):
        random_split(actors.select([0]), 0.5, 0, 0.5, by="utterance")


# Few shots


def test_k_shot(actors):
    rows = k_shot(actors, 5, seed=1)
    labels = list(actors["emotion"])
    assert rows == sorted(set(rows))
    assert Counter(labels[row] for row in rows) == {0: 5, 1: 5}
    assert rows == k_shot(actors, 5, seed=1) != k_shot(actors, 5, seed=2)
    assert len(k_shot(actors, 32)) == 64


def test_k_shot_refuses(actors):
    with pytest.raises(SplitError, match=r"not every emotion has 33 utterances: happy \(32\), sad \(32\)"):
        k_shot(actors, 33)
    with pytest.raises(SplitError, match=r"sad \(0\); choose a smaller k"):
        k_shot(make(["a"], 1), 1)
    with pytest.raises(SplitError, match="k must be at least 1"):
        k_shot(actors, 0)


# A fold


def test_fold_selects_and_describes(actors):
    fold = speaker_folds(DatasetDict({"train": actors}), 4)[0]
    parts = fold.select(actors)
    assert {split: part.num_rows for split, part in parts.items()} == {"train": 32, "validation": 16, "test": 16}
    assert sorted(set(parts["test"]["speaker"])) == fold.speakers["test"]
    described = json.loads(json.dumps(fold.describe()))
    assert described["name"] == "fold1"
    assert described["test"] == {"utterances": 16, "speakers": fold.speakers["test"], "sessions": []}
    with pytest.raises(SplitError, match="fold1 was made from 64 rows; this dataset has 63"):
        fold.select(actors.select(range(63)))


def test_one_split_at_a_time(actors):
    both = DatasetDict({"train": actors, "test": actors})
    with pytest.raises(SplitError, match="already has the splits train, test"):
        speaker_folds(both, 4)
    with pytest.raises(SplitError, match="empty"):
        speaker_folds(actors.select([]), 4)
    assert len(speaker_folds(concatenate_datasets(list(both.values())), 4)[0].test) == 32
