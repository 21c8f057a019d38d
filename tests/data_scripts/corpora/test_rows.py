"""From a table's row to an utterance: texts, numbers that pandas made floats, channels, and what cannot be used."""

import pytest

from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import as_utterance, check_ids, drop_unusable, set_splits
from data_scripts.errors import CorpusError


def test_values_become_text():
    given = {"id": " 7 ", "emotion": 3.0, "speaker": 12, "transcript": " hi ", "hypothesis": "", "split": ""}
    expected = {"id": "7", "emotion": "3", "speaker": "12", "transcript": " hi ", "hypothesis": ""}
    assert as_utterance(given) == expected | dict.fromkeys(("session", "split", "asr_model"))
    labels = [as_utterance({"emotion": value})["emotion"] for value in (float("nan"), "  ", 0, 1.5)]
    assert labels == [None, None, "0", "1.5"]


@pytest.mark.parametrize(("value", "channel"), [("0", 0), (1, 1), (1.0, 1), (" 2 ", 2), ("", None)])
def test_channels(value, channel):
    assert as_utterance({"channel": value})["channel"] == channel
    assert "channel" not in as_utterance({"channel": None})


def test_split_names():
    items = [{"id": "a", "split": name} for name in ("train", "DEV", "val", "valid", "eval", "development", "test")]
    set_splits(items, "it")
    assert [item["split"] for item in items] == ["train", *["validation"] * 5, "test"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (lambda value=value: as_utterance({"channel": value}), "is no number: channels are counted 0, 1, …")
            for value in ("left", "-1", "1.5", -1, 0.5)
        ),
        (lambda: check_ids([{"id": "a"}, {"id": "b"}, {"id": "a"}], "it"), "it has 1 ids more than once: a"),
        (lambda: set_splits([{"id": "a", "split": "dve"}], "it"), "it: a has the unknown split 'dve'"),
        (
            lambda: set_splits([{"id": "a", "split": "test"}, {"id": "b", "split": None}], "it"),
            "it: b has no split, though other rows have one",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(CorpusError, match=message):
        call()


def test_what_cannot_be_used_is_dropped_with_its_reason(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    there = {"emotion": "sad", "bytes": None, "path": str(tmp_path / "a.wav")}
    items = [
        {"id": "kept", **there},
        {"id": "bytes", **there, "path": None, "bytes": b"x"},
        {"id": "label", **there, "emotion": None},
        {"id": "audio", **there, "path": None},
        {"id": "file", **there, "path": str(tmp_path / "b.wav")},
    ]
    report = PreparationReport("x")
    assert [item["id"] for item in drop_unusable(items, report)] == ["kept", "bytes"]
    assert {note["id"]: note["reason"] for note in report.dropped} == {
        "label": "no emotion",
        "audio": "no audio",
        "file": "audio file missing",
    }
