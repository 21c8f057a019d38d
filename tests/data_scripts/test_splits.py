"""Splits: every speaker, session or dialogue tested once, nothing in two places, the same seed the same split."""

import json
from collections import Counter
from itertools import chain, pairwise

import pytest
from datasets import DatasetDict, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from data_scripts import splits
from data_scripts.constants import SPLITS, dialogue_of
from data_scripts.corpora.ravdess import voice
from data_scripts.schema import build_dataset
from data_scripts.splits import (
    SplitError,
    complete_splits,
    evenly_spaced,
    group_folds,
    k_shot,
    leave_one_session_out,
    leave_one_speaker_out,
    random_split,
    speaker_folds,
    utterance_folds,
)

EMOTIONS = ["happy", "sad"]
ACTORS = [f"{number:02d}" for number in range(1, 17)]
IEMOCAP = [f"Ses0{number}{letter}" for number in range(1, 6) for letter in "FM"]


def make(speakers, per_speaker=4, session=lambda speaker: None, name="{}-{}"):
    """A dataset in which each speaker says `per_speaker` utterances, happy and sad in turn."""
    rows = []
    for speaker in speakers:
        for number in range(per_speaker):
            row = {"id": name.format(speaker, number), "audio": {"path": "a.wav", "bytes": None}, "duration": 1.0}
            rows.append(row | {"speaker": speaker, "session": session(speaker), "emotion": EMOTIONS[number % 2]})
    return build_dataset(rows, EMOTIONS)


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


def present(dataset, column, rows):
    """The values of a column in some rows."""
    values = dataset[column][:]
    return {values[row] for row in rows}


#: Every division into folds: (function of dataset, number of folds and seed; the column whose values are tested whole;
#: the columns of which nothing may be in two splits; whether the next fold's test data validates).
DIVISIONS = {
    "speakers": (speaker_folds, "speaker", ("speaker",), True),
    "speakers by sex": (lambda data, n, seed: speaker_folds(data, n, seed, lambda name: name[-1]), "speaker", (), True),
    "utterances": (utterance_folds, "id", ("id",), True),
    "groups": (lambda data, n, seed: group_folds(data, n, seed, lambda name: name[:5]), "session", ("session",), True),
    "sessions": (lambda data, n, seed: leave_one_session_out(data, seed=seed), "session", ("speaker",), False),
    "sessions, a share": (lambda data, n, seed: leave_one_session_out(data, 0.3, seed), "session", (), False),
    "partners": (lambda data, n, seed: leave_one_speaker_out(data, seed=seed), "speaker", ("speaker",), False),
    "one speaker": (lambda data, n, seed: leave_one_speaker_out(data, "speaker", seed), "speaker", ("speaker",), False),
    "one speaker, a share": (lambda data, n, seed: leave_one_speaker_out(data, 0.3, seed), "speaker", (), False),
}


@settings(max_examples=6)
@given(
    num_sessions=st.integers(3, 5),
    per_session=st.integers(2, 3),
    per_speaker=st.integers(4, 6),
    num_folds=st.integers(3, 6),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("division", DIVISIONS)
def test_all_is_tested_once_and_nothing_is_in_two_places(
    division, num_sessions, per_session, per_speaker, num_folds, seed
):
    make_folds, column, apart, rotates = DIVISIONS[division]
    names = [f"Ses{session:02d}{number}" for session in range(num_sessions) for number in range(per_session)]
    data = make(names, per_speaker, session=lambda speaker: speaker[:5])
    num_folds = min(num_folds, num_sessions)
    folds = make_folds(data, num_folds, seed)
    tested = [present(data, column, fold.test) for fold in folds]
    assert sorted(chain(*tested)) == sorted(present(data, column, range(len(data))))
    for number, fold in enumerate(folds):
        assert sorted(rows_of(fold)) == list(range(len(data)))
        assert all([fold.train, fold.validation, fold.test])
        for rows in (fold.train, fold.validation):
            assert rows == sorted(rows)
            assert not tested[number] & present(data, column, rows)
        for kind in apart:
            parts = [present(data, kind, getattr(fold, split)) for split in SPLITS]
            assert sum(map(len, parts)) == len(set.union(*parts))
        for split in SPLITS:
            assert fold.speakers[split] == sorted(present(data, "speaker", getattr(fold, split)))
            assert fold.sessions[split] == sorted(present(data, "session", getattr(fold, split)))
        if rotates:
            assert fold.validation == folds[(number + 1) % num_folds].test
            assert fold.name == f"fold{number + 1}"
        else:
            assert fold.name == f"{column}_{min(tested[number])}"
    assert make_folds(data, num_folds, seed) == folds


@pytest.mark.parametrize("division", ["speakers", "sessions", "one speaker"])
def test_spellings_of_one_speaker_are_in_one_place(division):
    alike = {"7": "07", "7.0": "07", "anna ": "Anna"}
    data = make(["07", "Anna", "3", "4", "5", "7", "anna ", "7.0"], session=str)
    for fold in DIVISIONS[division][0](data, 3, 0):
        parts = [
            {alike.get(name, name) for name in present(data, "speaker", rows)}
            for rows in (fold.train, fold.validation, fold.test)
        ]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 5
        assert [len(fold.speakers[split]) for split in SPLITS] == [len(part) for part in parts]


@pytest.mark.parametrize("division", sorted(set(DIVISIONS) - {"partners"}))  # of which nothing is drawn
def test_another_seed_is_another_division(sessions, division):
    make_folds = DIVISIONS[division][0]
    assert make_folds(sessions, 3, 1) != make_folds(sessions, 3, 2)


def test_a_fault_in_the_division_is_found_out(sessions, monkeypatch):
    """The folds are checked once more when they are made, whatever made them."""
    fold = splits._fold

    def leaking(name, dataset, rows, wanted=SPLITS):
        return fold(name, dataset, {**rows, "train": [*rows["train"], rows["test"][0]]}, wanted)

    monkeypatch.setattr(splits, "_fold", leaking)
    for divide, message in (
        (lambda: speaker_folds(sessions, 4), "fold1 would leak: speaker .* in both train and test"),
        (lambda: leave_one_session_out(sessions), "session_Ses01 would leak: speaker Ses01. in both train and test"),
        (lambda: leave_one_session_out(sessions, 0.25), "session_Ses01 would leak: .* in both train and test"),
        (lambda: leave_one_speaker_out(sessions, "speaker"), "speaker_Ses01F would leak: speaker Ses01F in both"),
        (lambda: leave_one_speaker_out(sessions, 0.25), "speaker_Ses01F would leak: speaker Ses01F in both train and"),
        (lambda: random_split(sessions, 0.6, 0.2, 0.2), "random would leak: speaker .* in both train and test"),
        (lambda: random_split(sessions, 0.6, 0.2, 0.2, by="session"), "random would leak: session .* in both train"),
    ):
        with pytest.raises(SplitError, match=message):
            divide()

    def of_a_trained_session(name, dataset, rows, wanted=SPLITS):
        """Validation by another speaker than the partner, one of whose session is trained on."""
        speakers = dataset["speaker"][:]
        taken = [row for row in rows["train"] if speakers[row] == speakers[rows["train"][0]]]
        rows = {**rows, "validation": taken, "train": [row for row in rows["train"] if row not in taken]}
        return fold(name, dataset, rows, wanted)

    monkeypatch.setattr(splits, "_fold", of_a_trained_session)
    with pytest.raises(SplitError, match=r"would leak: session .* in both train and validation"):
        leave_one_speaker_out(sessions, "partner")


# Known answers guard published numbers: another draw for the same seed would silently change every fold.


def test_speaker_folds_known_answer():
    folds = speaker_folds(make(["a", "b", "c", "d"], 1), 4, seed=0)
    assert [fold.speakers["test"] for fold in folds] == [["c"], ["a"], ["b"], ["d"]]
    assert [fold.speakers["validation"] for fold in folds] == [["a"], ["b"], ["d"], ["c"]]  # the next fold's test


HELD_OUT = {
    (leave_one_session_out, 0): ["Ses03F", "Ses05F", "Ses05M", "Ses02F", "Ses01M"],
    (leave_one_session_out, 1): ["Ses05F", "Ses03F", "Ses02M", "Ses02M", "Ses04M"],
    (leave_one_speaker_out, 0): [
        *("Ses04F", "Ses04F", "Ses04F", "Ses03F", "Ses01M", "Ses02M", "Ses05F", "Ses01F", "Ses01M", "Ses01M")
    ],
    (leave_one_speaker_out, 1): [
        *("Ses04F", "Ses04F", "Ses01M", "Ses03M", "Ses04F", "Ses02F", "Ses03F", "Ses02M", "Ses03M", "Ses03F")
    ],
}


@pytest.mark.parametrize(("leave_one_out", "seed"), HELD_OUT)
def test_held_out_speakers_known_answer(sessions, leave_one_out, seed):
    folds = leave_one_out(sessions, "speaker", seed)
    assert [fold.speakers["validation"] for fold in folds] == [[name] for name in HELD_OUT[leave_one_out, seed]]
    tested = [fold.speakers["test"][0][:5] for fold in folds]
    assert all(fold.speakers["validation"][0][:5] != test for fold, test in zip(folds, tested, strict=True))


@pytest.mark.parametrize(
    "divide",
    [
        lambda data: speaker_folds(data, 3),
        lambda data: speaker_folds(data, 3, stratify=lambda name: name[-1]),
        lambda data: utterance_folds(data, 3),
        lambda data: group_folds(data, 3, group=lambda name: name[:6]),
        *(lambda data, kind=kind: leave_one_session_out(data, kind) for kind in ("speaker", 0.25)),
        *(lambda data, kind=kind: leave_one_speaker_out(data, kind) for kind in ("speaker", 0.25)),
        lambda data: [random_split(data)],
        lambda data: [random_split(data, by="utterance")],
        lambda data: [k_shot(data, 3)],
    ],
    ids=range(11),
)
def test_the_order_of_rows_does_not_matter(sessions, divide):
    def ids(data):
        parts = [
            [fold] if isinstance(fold, list) else [fold.train, fold.validation, fold.test] for fold in divide(data)
        ]
        return [[sorted(data[rows]["id"]) for rows in fold] for fold in parts]

    assert ids(sessions.shuffle(seed=1)) == ids(sessions)


def test_shares_known_answers(sessions, actors):
    folds = leave_one_session_out(sessions, 0.25)
    assert folds[0].validation == [9, 18, 19, 21, 28, 30, 32, 35]
    assert folds[1].validation == [2, 3, 6, 19, 32, 33, 34, 37]
    assert leave_one_speaker_out(sessions, 0.25)[0].validation == [11, 13, 14, 25, 26, 27, 32, 36]
    labels = list(sessions["emotion"])
    assert Counter(labels[row] for row in folds[0].validation) == {0: 4, 1: 4}  # a quarter of 16 each
    fold = random_split(actors, by="utterance", seed=0)
    assert (fold.validation, fold.test) == ([13, 16, 21, 24, 29, 56], [2, 27, 30, 31, 41, 62])
    speakers = random_split(actors, seed=0).speakers
    assert (speakers["validation"], speakers["test"]) == (["01", "13"], ["07"])
    assert k_shot(actors, 2, seed=0) == [5, 33, 48, 52]
    assert k_shot(actors, 5, seed=1) != k_shot(actors, 5, seed=2)
    for fold in utterance_folds(actors, 4, seed=3):
        assert Counter(actors["emotion"][row] for row in fold.test) == {0: 8, 1: 8}


# What each division promises besides


def test_speaker_folds_are_balanced(actors):
    folds = speaker_folds(actors, 6, stratify=voice)
    sizes = [len(fold.speakers["test"]) for fold in folds]
    assert (min(sizes), max(sizes)) == (2, 3)
    for fold in folds:
        assert set(Counter(map(voice, fold.speakers["test"])).values()) <= {1, 2}
        assert {voice(speaker) for speaker in fold.speakers["validation"]} == {"male", "female"}


def test_leave_one_speaker_out_validates_on_the_partner(sessions):
    folds = leave_one_speaker_out(sessions)
    for fold in folds:
        (tested,) = fold.speakers["test"]
        assert fold.speakers["validation"] == [tested[:5] + {"F": "M", "M": "F"}[tested[5]]]
        assert fold.speakers["train"] == [name for name in IEMOCAP if name[:5] != tested[:5]]  # eight, of four sessions
    assert leave_one_speaker_out(sessions, seed=1) == folds  # nothing is drawn
    three = make(["a", "b", "c", "d", "e"], session=lambda speaker: "1" if speaker in "abc" else "2")
    validated = [fold.speakers["validation"] for fold in leave_one_speaker_out(three)]
    assert validated == [["b", "c"], ["a", "c"], ["a", "b"], ["e"], ["d"]]


def test_random_split_keeps_the_shares(actors, sessions):
    fold = random_split(actors, 0.5, 0.25, 0.25, seed=5)
    assert [len(fold.speakers[split]) for split in SPLITS] == [8, 4, 4]
    assert sorted(chain(*fold.speakers.values())) == ACTORS
    assert fold == random_split(actors, 0.5, 0.25, 0.25, seed=5) != random_split(actors, 0.5, 0.25, 0.25, seed=6)
    by_session = random_split(sessions, 0.6, 0.2, 0.2, by="session")
    assert [len(by_session.sessions[split]) for split in SPLITS] == [3, 1, 1]
    by_utterance = random_split(actors, 0, 0.25, 0.75, by="utterance")
    labels = list(actors["emotion"])
    assert by_utterance.train == []
    assert list(by_utterance.select(actors)) == ["validation", "test"]
    assert Counter(labels[row] for row in by_utterance.validation) == {0: 8, 1: 8}
    assert Counter(labels[row] for row in by_utterance.test) == {0: 24, 1: 24}
    for seed in range(10):  # every split is filled while speakers suffice
        few = random_split(make(["a", "b", "c"]), 0.8, 0.1, 0.1, seed=seed)
        assert [len(few.speakers[split]) for split in SPLITS] == [1, 1, 1]


def test_group_folds_share_the_emotions_and_sizes():
    parts = [make([str(number)], 3 + number % 7, name="train_dia{}_utt{}") for number in range(40)]
    data = concatenate_datasets(parts)
    assert dialogue_of("Ses01F_script02_1_M003") == "Ses01F_script02_1"
    for fold in group_folds(data, 5, seed=1):  # by dialogue
        dialogues = [{dialogue_of(data["id"][row]) for row in getattr(fold, split)} for split in SPLITS]
        assert sum(map(len, dialogues)) == len(set.union(*dialogues)) == 40
        assert len(fold.test) == pytest.approx(len(data) / 5, abs=4)
        sad = sum(data["emotion"][row] for row in fold.test) / len(fold.test)
        assert sad == pytest.approx(sum(data["emotion"]) / len(data), abs=0.05)


@given(size=st.integers(0, 400), count=st.integers(1, 400))
def test_evenly_spaced_rows_reach_both_ends(size, count):
    rows = list(evenly_spaced(size, count))
    assert min(size, (count + 1) // 2) <= len(rows) <= min(size, count)
    assert len({later - row for row, later in pairwise(rows)}) <= 1
    if rows:
        step = rows[1] - rows[0] if len(rows) > 1 else size
        assert rows[0] == 0
        assert rows[-1] >= size - step


# What is refused

WITHOUT = make(["a", "b", None, "c"])
TOGETHER = make(["a", "b", "c"], session=lambda _: "1")
ONE_ALONE = make(["a", "b", "c"], session=lambda speaker: "2" if speaker == "c" else "1")
TWO_SESSIONS = make(["1", "2", "3"], session=lambda speaker: "b" if speaker == "1" else "a").select(range(8))
MOVED = make(IEMOCAP, session=lambda speaker: speaker[:5]).map(lambda row: {"speaker": row["speaker"][-1]})
SHARED = make(IEMOCAP, session=lambda speaker: speaker[:5]).map(
    lambda row: {"speaker": "x" if row["speaker"] in ("Ses01F", "Ses02F") else row["speaker"]}
)
ALL = make(ACTORS)
CLIPS = make("ab", name="clip3{}{}")
DIALOGUES = make("abcd", name="{}_{}")


@pytest.mark.parametrize(
    ("divide", "message"),
    [
        (lambda: speaker_folds(ALL, 2), "num_folds must be at least 3"),
        (lambda: speaker_folds(ALL, 17), "17 folds need as many speakers; the dataset has 16"),
        (lambda: speaker_folds(WITHOUT, 3), r"4 of 16 rows have no speaker .the first is row 8.*--split_by utterance"),
        (lambda: speaker_folds(ALL.remove_columns("speaker"), 3), "no column 'speaker'; its columns: id, audio"),
        (lambda: speaker_folds(DatasetDict(train=ALL, test=ALL), 4), "already has the splits train, test"),
        (lambda: speaker_folds(ALL.select([]), 4), "empty"),
        (lambda: utterance_folds(make(["a"], 2), 3), "3 folds need as many utterances; the dataset has 2"),
        (lambda: group_folds(CLIPS, 3), "'clip3a0' names no dialogue"),
        (lambda: group_folds(concatenate_datasets([DIALOGUES, DIALOGUES]), 3), "an id occurs twice"),
        (lambda: group_folds(make("ab", name="{}_{}"), 3), "3 folds need as many groups; the dataset has 2"),
        (lambda: group_folds(make("ab", 2), 3, group=str.upper), "3 folds cannot be made"),
        (lambda: leave_one_session_out(ALL), "64 of 64 rows have no session"),
        (lambda: leave_one_session_out(TOGETHER), "at least 2; the dataset has only 1"),
        (lambda: leave_one_session_out(TWO_SESSIONS), "session_a would have no train data"),
        (lambda: leave_one_session_out(MOVED), r"session_Ses01 would leak: speaker (F|M|F, M) in both train and test"),
        (lambda: leave_one_speaker_out(make(["a", "b"])), "at least 3; the dataset has only a, b"),
        (lambda: leave_one_speaker_out(ALL), "64 of 64 rows have no session"),
        (lambda: leave_one_speaker_out(ONE_ALONE), "speaker_c would have no validation data"),
        (lambda: leave_one_speaker_out(TOGETHER), "speaker_a would have no train data"),
        (lambda: leave_one_speaker_out(TOGETHER, "speaker"), "speaker_a would have no validation data: every other"),
        (
            lambda: leave_one_speaker_out(SHARED),
            "speaker_Ses01M would leak: session Ses02 in both train and validation",
        ),
        (lambda: random_split(make(["a", "b"])), "3 splits by speaker need as many; the dataset has 2"),
        (lambda: random_split(ALL, by="dialogue"), r"by must be .* got 'dialogue'"),
        (lambda: random_split(ALL.select([0]), 0.5, 0, 0.5, by="utterance"), "would have no test data"),
        (lambda: random_split(ALL, 0.5, 0.5, 0.5), "between 0 and 1 and sum to 1"),
        (lambda: random_split(ALL, 1.5, -0.5, 0), "between 0 and 1 and sum to 1"),
        (lambda: k_shot(ALL, 33), r"not every emotion has 33 utterances: happy \(32\), sad \(32\)"),
        (lambda: k_shot(make(["a"], 1), 1), r"sad \(0\); choose a smaller k"),
        (lambda: k_shot(ALL, 0), "k must be at least 1"),
        (lambda: evenly_spaced(9, 0), "must be at least 1, got 0"),
        *(
            (lambda f=function, v=value: f(SHARED, v), f"validation must be {ways} or a share between 0 and 1, got")
            for function, ways in (
                (leave_one_session_out, '"speaker"'),
                (leave_one_speaker_out, '"partner", "speaker"'),
            )
            for value in ("test", "session", 0, 1.0, 0.0, 2.5, None, "0.2")
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(divide, message):
    with pytest.raises(SplitError, match=message):
        divide()


# A fold, and splits of a corpus's own


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
    train = make(["a", "b", "c", "d"], 10)
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
