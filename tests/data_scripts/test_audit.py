"""The leak audit: what splits have in common, and what is no leak."""

import json

import pytest

from data_scripts.audit import OFFICIAL_SPLIT, Audit, audit_splits, shared_times
from data_scripts.errors import CorpusError
from modeling_m4ser.parts_m4ser import Part


def part(*rows):
    """Columns of rows of (id, speaker, emotion, content)."""
    return dict(zip(("id", "speaker", "emotion", "content"), map(list, zip(*rows, strict=True)), strict=True))


CLEAN = {
    "train": part(("a", "ann", "sad", "1"), ("b", "ben", "happy", "2")),
    "validation": part(("c", "cem", "sad", "3")),
    "test": part(("d", "dan", "happy", "4"), ("e", "dan", "sad", "5")),
}


def test_splits_without_a_leak():
    audit = audit_splits(CLEAN)
    assert audit == Audit(["train", "validation", "test"])
    assert audit.warnings() == []
    assert [line.split()[-1] for line in audit.table()[1:]] == ["0", "0", "0"]
    audit.refuse()


def test_every_kind_of_leak():
    mixed = ("d", "ann", "happy", "2"), ("e", "dan", "calm", "5"), ("f", "dan", "calm", "5"), ("g", None, "sad", None)
    audit = audit_splits(CLEAN | {"test": part(*mixed)})
    assert audit.recordings == [{"train": ["b"], "test": ["d"]}]
    assert audit.speakers == {"ann": ["train", "test"]}
    assert audit.classes == {"test": {"calm": 2}}
    assert audit.repeated == {"test": 1}
    assert audit.unchecked == {"speaker": 1, "content": 1}
    recordings, speakers, classes = audit.warnings()
    assert recordings.startswith("1 recording is in more than one split (train b = test d)")
    assert speakers.startswith("1 speaker is in more than one split (ann in train and test)")
    assert classes.startswith("1 class is in test that train never shows (calm, 2)")
    assert audit.table() == [
        "leak audit",
        "  recordings in several splits  1",
        "  speakers in several splits    1",
        "  classes that train lacks      1",
        "  copies within test: 1",
        "  not checked: 1 rows without speaker",
        "  not checked: 1 rows without content",
    ]
    with pytest.raises(CorpusError, match=r"the splits leak: 1 recording .*train b = test d.*ann.*calm.*--strict"):
        audit.refuse()
    assert Audit(**json.loads(json.dumps(vars(audit)))) == audit


def test_parts_that_share_time_in_several_splits():
    def row(name, start=None, end=None, in_samples=False, **more):
        part = {} if start is None else {"part": Part(start, end, in_samples)}
        return {"id": name, "path": "a.wav", "bytes": None, **part, **more}

    train = [row("a", 0, 1), row("b", 1.995, 3), row("s", 0, 100, True)]
    apart = [row("c", 0.995, 2), row("d", 0, 1, channel=1), row("e", 0, 1, path="b.wav"), row("t", 100, None, True)]
    assert shared_times({"train": train, "test": apart}) == []
    assert shared_times({"train": [row("a")], "test": [row("b")]}) == []  # no parts: their samples are compared
    inside = [row("f", 2.9), row("g", 2, 2.9), row("h", 5, 6)]
    assert shared_times({"train": train, "test": inside}) == [{"train": ["b"], "test": ["g", "f", "h"]}]  # to the end
    assert shared_times({"train": train, "test": [row("whole")]}) == [{"train": ["a", "b"], "test": ["whole"]}]
    assert shared_times({"train": train, "test": [row("u", 99, 200, True)]}) == [{"train": ["s"], "test": ["u"]}]


def test_a_speaker_is_one_in_every_spelling():
    splits = {"train": part(("a", "07", "sad", "1")), "test": part(("b", "7", "sad", "2"), ("c", "Zoe", "sad", "3"))}
    assert list(audit_splits(splits).speakers.values()) == [["train", "test"]]


def test_validation_counts_too():
    splits = {"train": CLEAN["train"], "validation": part(("v", "ben", "calm", "1"))}
    audit = audit_splits(splits)
    assert audit.recordings == [{"train": ["a"], "validation": ["v"]}]
    assert audit.speakers == {"ben": ["train", "validation"]}
    assert audit.classes == {"validation": {"calm": 1}}
    untrained = {"validation": splits["validation"], "test": CLEAN["test"]}
    assert audit_splits(untrained).classes == {}


def test_speakers_of_an_official_split_are_listed_without_a_warning():
    """Only speakers: a copy is nobody's choice."""
    for content, leaks in (("4", 0), ("1", 1)):
        audit = audit_splits(CLEAN | {"test": part(("d", "ann", "sad", content))}, OFFICIAL_SPLIT)
        assert len(audit.warnings()) == leaks
        assert "  speakers in several splits    1 (the corpus's makers divided it so)" in audit.table()


def test_one_split_leaks_nothing():
    audit = audit_splits({"train": part(("a", None, "sad", "1"), ("b", None, "sad", "1"))})
    assert audit == Audit(["train"], repeated={"train": 1})
    assert audit.table() == ["leak audit", "  copies within train: 1"]
    assert audit_splits({"train": CLEAN["train"]}).table() == []


def test_one_recording_with_several_labels():
    audit = audit_splits(
        {
            "train": part(("a", None, "sad", "1"), ("b", None, "happy", "1"), ("c", None, "sad", "1")),
            "test": part(("d", None, "sad", "2"), ("e", None, "happy", None), ("f", None, "sad", None)),
        }
    )
    assert audit.relabelled == [{"sad": ["a", "c"], "happy": ["b"]}]
    (message,) = audit.warnings()
    assert message.startswith("1 recording has more than one label (a sad = b happy): keep the right one")
    assert "  recordings with several labels: 1" in audit.table()
    with pytest.raises(CorpusError, match=r"^1 recording has more than one label .* Without --strict"):
        audit.refuse()


def test_messages_name_the_first_cases_only():
    many = {split: part(*((f"{split}{n}", None, "sad", str(n)) for n in range(5))) for split in ("train", "test")}
    (message,) = audit_splits(many).warnings()
    assert message.startswith("5 recordings are in more than one split (train train0 = test test0; ")
    assert "train2 = test test2; …)" in message


def test_what_is_not_known_is_in_no_two_splits():
    nobody = {split: part((split, None, "sad", None)) for split in ("train", "test")}
    without = {split: {"id": [split], "emotion": ["sad"]} for split in ("train", "test")}
    expected = Audit(["train", "test"], unchecked={"speaker": 2, "content": 2})
    assert audit_splits(nobody) == audit_splits(without) == expected
