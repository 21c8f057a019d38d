"""Splits: every speaker or session tested once, nothing in two places, the same seed the same split."""

import json
from collections import Counter
from itertools import chain

import pytest
from datasets import DatasetDict, concatenate_datasets

from data_scripts import splits
from data_scripts.constants import SPLITS
from data_scripts.corpora.ravdess import voice
from data_scripts.schema import build_dataset
from data_scripts.splits import (
    SplitError,
    complete_splits,
    k_shot,
    leave_one_session_out,
    leave_one_speaker_out,
    random_split,
    speaker_folds,
    utterance_folds,
)

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
    assert [fold.speakers["validation"] for fold in folds] == [["a"], ["b"], ["d"], ["c"]]  # the next fold's test


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


@pytest.mark.parametrize(
    ("seed", "held_out"),
    [(0, ["Ses03F", "Ses05F", "Ses05M", "Ses02F", "Ses01M"]), (1, ["Ses05F", "Ses03F", "Ses02M", "Ses02M", "Ses04M"])],
)
def test_leave_one_session_out_known_answer(sessions, seed, held_out):
    # Guards published numbers, as above. The order of the rows must not matter.
    backwards = sessions.select(range(len(sessions))[::-1])
    for dataset in (sessions, backwards):
        folds = leave_one_session_out(dataset, seed=seed)
        assert [fold.speakers["validation"] for fold in folds] == [[name] for name in held_out]
        assert all(rows == sorted(rows) for fold in folds for rows in (fold.train, fold.validation, fold.test))


def test_leave_one_session_out_with_a_share_draws_for_each_fold_and_seed(sessions):
    folds = leave_one_session_out(sessions, 0.25)
    assert folds[0].validation == [9, 18, 19, 21, 28, 30, 32, 35]
    assert folds[1].validation == [2, 3, 6, 19, 32, 33, 34, 37]
    assert all(rows == sorted(rows) for fold in folds for rows in (fold.train, fold.validation, fold.test))
    assert leave_one_session_out(sessions, 0.25, seed=1)[0].validation != folds[0].validation


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


def test_a_fault_in_the_division_is_found_out(sessions, monkeypatch):
    """The folds are checked once more when they are made, whatever made them."""
    rows_by, allot = splits._rows_by, splits._allot

    def leaking_sessions(dataset, column, rows=None):
        groups = rows_by(dataset, column, rows)
        if column == "session":
            groups["Ses02"] = groups["Ses02"] + groups["Ses01"]
        return groups

    def leaking_parts(groups, shares):
        parts = allot(groups, shares)
        return parts | {"test": parts["test"] + parts["train"][:1]}

    monkeypatch.setattr(splits, "_rows_by", leaking_sessions)
    with pytest.raises(SplitError, match="session_Ses01 would leak: session Ses01 in both train and test"):
        leave_one_session_out(sessions)
    monkeypatch.setattr(splits, "_rows_by", rows_by)
    monkeypatch.setattr(splits, "_allot", leaking_parts)
    for column in ("speaker", "session"):
        with pytest.raises(SplitError, match=f"random would leak: {column} .* in both train and test"):
            random_split(sessions, 0.6, 0.2, 0.2, by=column)


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


# Each speaker tested, in one fold of its own


def test_leave_one_speaker_out_validates_on_the_partner(sessions):
    folds = leave_one_speaker_out(sessions)
    assert [fold.name for fold in folds] == [f"speaker_{name}" for name in sorted(IEMOCAP)]
    for fold in folds:
        (tested,) = fold.speakers["test"]
        (partner,) = fold.speakers["validation"]
        assert partner == tested[:5] + {"F": "M", "M": "F"}[tested[5]]
        assert fold.sessions["test"] == fold.sessions["validation"] == [tested[:5]]
        assert fold.speakers["train"] == [name for name in IEMOCAP if name[:5] != tested[:5]]  # eight, of four sessions
        assert [len(fold.train), len(fold.validation), len(fold.test)] == [32, 4, 4]
        assert sorted(rows_of(fold)) == list(range(40))
    assert leave_one_speaker_out(sessions, seed=1) == folds  # nothing is drawn


def test_all_partners_validate():
    three = make(["a", "b", "c", "d", "e"], session=lambda speaker: "1" if speaker in "abc" else "2")
    folds = leave_one_speaker_out(three)
    assert [fold.speakers["validation"] for fold in folds] == [["b", "c"], ["a", "c"], ["a", "b"], ["e"], ["d"]]


def test_leave_one_speaker_out_with_a_speaker_of_another_session(sessions):
    # Guards published numbers; the order of the rows must not matter.
    known = {
        0: ["Ses04F", "Ses04F", "Ses04F", "Ses03F", "Ses01M", "Ses02M", "Ses05F", "Ses01F", "Ses01M", "Ses01M"],
        1: ["Ses04F", "Ses04F", "Ses01M", "Ses03M", "Ses04F", "Ses02F", "Ses03F", "Ses02M", "Ses03M", "Ses03F"],
    }
    backwards = sessions.select(range(len(sessions))[::-1])
    for seed, held_out in known.items():
        for dataset in (sessions, backwards):
            folds = leave_one_speaker_out(dataset, "speaker", seed)
            assert [fold.speakers["validation"] for fold in folds] == [[name] for name in held_out]
            for fold in folds:
                assert fold.speakers["validation"][0][:5] != fold.speakers["test"][0][:5]
                assert len(fold.speakers["train"]) == 8
                assert sorted(chain(*fold.speakers.values())) == IEMOCAP
                assert sorted(rows_of(fold)) == list(range(40))


def test_leave_one_speaker_out_with_a_share(sessions):
    labels = list(sessions["emotion"])
    folds = leave_one_speaker_out(sessions, 0.25)
    for fold in folds:
        (tested,) = fold.speakers["test"]
        assert tested not in fold.speakers["train"] + fold.speakers["validation"]
        assert Counter(labels[row] for row in fold.validation) == {0: 4, 1: 4}  # of 18 each
        assert sorted(rows_of(fold)) == list(range(40))
    assert folds[0].validation == [11, 13, 14, 25, 26, 27, 32, 36]
    assert leave_one_speaker_out(sessions, 0.25, seed=1)[0].validation != folds[0].validation


def test_leave_one_speaker_out_without_sessions(actors):
    folds = leave_one_speaker_out(actors, "speaker")
    assert [fold.speakers["test"] for fold in folds] == [[name] for name in ACTORS]
    assert all(fold.speakers["validation"] != fold.speakers["test"] for fold in folds)
    with pytest.raises(SplitError, match="64 of 64 rows have no session"):
        leave_one_speaker_out(actors)


def test_leave_one_speaker_out_refuses(sessions):
    for validation in ("test", "session", 0, 1.0, 0.0, None, "0.2"):
        with pytest.raises(SplitError, match='validation must be "partner", "speaker" or a share'):
            leave_one_speaker_out(sessions, validation)
    with pytest.raises(SplitError, match="at least 3; the dataset has only a, b"):
        leave_one_speaker_out(make(["a", "b"]))
    alone = make(["a", "b", "c"], session=lambda speaker: "2" if speaker == "c" else "1")
    with pytest.raises(SplitError, match="speaker_c would have no validation data"):
        leave_one_speaker_out(alone)
    together = make(["a", "b", "c"], session=lambda _: "1")
    with pytest.raises(SplitError, match="speaker_a would have no train data"):
        leave_one_speaker_out(together)
    with pytest.raises(SplitError, match="speaker_a would have no validation data: every other speaker shares"):
        leave_one_speaker_out(together, "speaker")
    shared_names = sessions.map(
        lambda row: {"speaker": "x" if row["speaker"] in ("Ses01F", "Ses02F") else row["speaker"]}
    )
    with pytest.raises(SplitError, match="speaker_Ses01M would leak: session Ses02 in both train and validation"):
        leave_one_speaker_out(shared_names)


def test_a_tested_speaker_who_is_trained_on_is_found_out(sessions, monkeypatch):
    rows_by = splits._rows_by

    def leaking_speakers(dataset, column, rows=None):
        groups = rows_by(dataset, column, rows)
        return groups | {"Ses02F": groups["Ses02F"] + groups["Ses01F"]} if column == "speaker" else groups

    monkeypatch.setattr(splits, "_rows_by", leaking_speakers)
    for validation in ("speaker", 0.25):
        with pytest.raises(SplitError, match="speaker_Ses01F would leak: speaker Ses01F in both train and test"):
            leave_one_speaker_out(sessions, validation)


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


def test_random_split_known_answers(actors):
    fold = random_split(actors, by="utterance", seed=0)
    assert (fold.validation, fold.test) == ([13, 16, 21, 24, 29, 56], [2, 27, 30, 31, 41, 62])
    assert fold.train == sorted(fold.train)
    assert fold != random_split(actors, by="utterance", seed=1)
    speakers = random_split(actors, seed=0).speakers
    assert (speakers["validation"], speakers["test"]) == (["01", "13"], ["07"])
    assert k_shot(actors, 2, seed=0) == [5, 33, 48, 52]


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


# For corpora without speakers, or with splits of their own


def test_utterance_folds(actors):
    folds = utterance_folds(actors, 4, seed=3)
    assert [fold.name for fold in folds] == ["fold1", "fold2", "fold3", "fold4"]
    assert sorted(chain.from_iterable(fold.test for fold in folds)) == list(range(64))
    labels = actors["emotion"][:]
    for number, fold in enumerate(folds):
        assert sorted(rows_of(fold)) == list(range(64))
        assert fold.validation == folds[(number + 1) % 4].test
        assert Counter(labels[row] for row in fold.test) == {0: 8, 1: 8}
    assert folds == utterance_folds(actors, 4, seed=3) != utterance_folds(actors, 4, seed=4)
    with pytest.raises(SplitError, match="num_folds must be at least 3"):
        utterance_folds(actors, 2)
    with pytest.raises(SplitError, match="would have no"):
        utterance_folds(make(["a"], 2), 3)


def ids(dataset):
    return {split: set(part["id"]) for split, part in dataset.items()}


def test_validation_is_made_of_training_speakers(actors):
    test = make(["t"])
    completed, protocol = complete_splits(DatasetDict({"train": actors, "test": test}), seed=1)
    assert protocol == "its own split; validation on 10% of the speakers of its training data"
    found = ids(completed)
    assert found["test"] == set(test["id"])
    assert found["train"] | found["validation"] == set(actors["id"])
    speakers = {split: set(part["speaker"]) for split, part in completed.items()}
    assert not speakers["train"] & speakers["validation"]
    assert len(speakers["validation"]) == 2
    again, _ = complete_splits(DatasetDict({"train": actors, "test": test}), seed=2)
    assert ids(again)["validation"] != found["validation"]


def test_validation_is_made_of_utterances_where_speakers_are_few_or_unknown():
    train = make(["a", "b"], 20)
    for part in (train, train.remove_columns("speaker").add_column("speaker", [None] * 40)):
        completed, protocol = complete_splits(DatasetDict({"train": part, "test": make(["t"])}))
        assert protocol == "its own split; validation on 10% of the utterances of its training data"
        assert Counter(completed["validation"]["emotion"]) == {0: 2, 1: 2}
        assert len(completed["train"]) == 36


def test_whole_and_insufficient_splits(actors):
    whole = DatasetDict(dict.fromkeys(SPLITS, actors))
    assert complete_splits(whole) == (whole, "its own split")
    untested, protocol = complete_splits(DatasetDict({"train": actors, "validation": make(["v"])}))
    assert protocol == "its own split; tested on its validation data"
    assert ids(untested)["test"] == ids(untested)["validation"] == {"v-0", "v-1", "v-2", "v-3"}
    for parts in ({"train": actors}, {"validation": actors, "test": actors}):
        with pytest.raises(SplitError, match="train and test are needed, or rows of no split at all"):
            complete_splits(DatasetDict(parts))
