"""From a table's row to an utterance: texts, numbers that pandas made floats, channels, and what cannot be used."""

import pytest

from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import (
    as_utterance,
    check_ids,
    drop_unusable,
    forget_times_of_clips,
    name_rows,
    recording_name,
    set_splits,
)
from data_scripts.errors import CorpusError
from tests.helpers.layouts import write_wav


def test_values_become_text():
    given = {"id": " 7 ", "emotion": 3.0, "speaker": 12, "transcript": " hi ", "hypothesis": "", "split": ""}
    expected = {"id": "7", "emotion": 3.0, "speaker": "12", "transcript": " hi ", "hypothesis": ""}
    assert as_utterance(given, {}) == expected | dict.fromkeys(("session", "split", "asr_model"))
    speakers = [as_utterance({"speaker": value}, {})["speaker"] for value in (float("nan"), "  ", 0, 1.5)]
    assert speakers == [None, None, "0", "1.5"]


@pytest.mark.parametrize(("value", "channel"), [("0", 0), (1, 1), (1.0, 1), (" 2 ", 2), ("", None)])
def test_channels(value, channel):
    assert as_utterance({"channel": value}, {})["channel"] == channel
    assert "channel" not in as_utterance({"channel": None}, {})


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ({"start": "2", "end": "1"}, "a part ends after its start"),
        ({"offset": -1}, "a part starts at 0 or later"),
        ({"start_ms": "soon"}, "its start_ms is no time: give seconds, milliseconds in a column _ms, or hh:mm:ss"),
        ({"start_sample": 1, "end_sample": 5, "sampling_rate": 16}, "sampling_rate must be a number of hertz"),
    ],
)
def test_times_that_are_none_drop_their_row(times, reason):
    report = PreparationReport("x")
    assert drop_unusable([{**as_utterance({"id": "a"}, times), "bytes": b"x"}], report) == []
    assert reason in report.dropped[0]["reason"]


def test_rows_without_an_id_are_named_after_their_recording():
    given = [{}, {"channel": 1}, {"start": 1, "end": "00:02.50"}, {"start_sample": 5}, {}, {"id": "mine"}]
    items = [as_utterance(values, values) for values in given]
    items = [item | {"name": recording_name(item, "a.wav")} for item in items]
    name_rows(items)
    names = ["a.wav", "a.wav channel 1", "a.wav 1-2.5 s", "a.wav 5- samples", "a.wav (2)", "mine"]
    assert [item["id"] for item in items] == names
    assert as_utterance({}, {"duration": 3}) == as_utterance({}, {})


@pytest.mark.parametrize(
    ("starts", "seconds", "whole"),
    [
        ([0, 976, 9.5, 0.8], [1, 1.05, 1, 1], True),  # clips of longer recordings
        ([0, 976, 9.5, 0.8], [1, 1, 1.5, 1], False),  # the files are others
        ([0, 0.01, 0, 0], [1, 1, 1, 1], False),  # parts that are the whole file
        ([0, 976], [1, 1], False),  # too few to tell
        ([0, 0.1, 0.2, 0.3], [5, 5, 5, 5], False),
    ],
)
def test_times_of_clips_that_were_cut_already(tmp_path, starts, seconds, whole):
    items = []
    for number, (start, length) in enumerate(zip(starts, seconds, strict=True)):
        path = write_wav(tmp_path / f"{number}.wav", length, 8000)
        item = as_utterance({"id": str(number)}, {"start": start, "end": start + 1})
        items.append({**item, "path": str(path), "bytes": path.read_bytes() if number == 1 else None})
    report = PreparationReport("x")
    forget_times_of_clips(items, report)
    assert ["part" in item for item in items] == [not whole] * len(items)
    assert [each["id"] for each in report.repaired] == ([item["id"] for item in items] if whole else [])


def splits_of(*names, **chosen):
    """The splits that rows with these names get, and how many rows are left out."""
    report = PreparationReport("x")
    items = [{"id": name, "split": name} for name in names]
    return [item["split"] for item in set_splits(items, chosen, "it", report)], len(report.dropped)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("train", "Training", "test", "TESTING"), ["train", "train", "test", "test"]),
        (("DEV", "val", "valid", "eval", "development", "test"), ["validation"] * 5 + ["test"]),
        (("train", "dev", "eval"), ["train", "validation", "test"]),
        (("train", "eval"), ["train", "validation"]),
        ((None, ""), ["train", "train"]),
    ],
)
def test_split_names(names, found):
    assert splits_of(*names) == (found, 0)


def test_chosen_splits():
    assert splits_of("train", "holdout", "x", test="holdout", train="x") == (["test", "train"], 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (lambda value=value: as_utterance({"channel": value}, {}), "is no number: channels are counted 0, 1, …")
            for value in ("left", "-1", "1.5", -1, 0.5)
        ),
        (lambda: check_ids([{"id": "a"}, {"id": "b"}, {"id": "a"}], "it"), "it has 1 ids more than once: a"),
        (lambda: splits_of("dve"), "it: dve has the unknown split 'dve'; use .* --train_split_name NAME"),
        (lambda: splits_of("test", None), "it: None has no split, though other rows have one"),
        (lambda: splits_of("a", test="b"), "it has no split b; it has a"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(CorpusError, match=message):
        call()


def test_rows_without_audio_are_dropped():
    items = [
        {"id": "path", "path": "a.wav", "bytes": None},
        {"id": "bytes", "path": None, "bytes": b"x"},
        {"id": "none", "path": None, "bytes": None},
    ]
    report = PreparationReport("x")
    assert [item["id"] for item in drop_unusable(items, report)] == ["path", "bytes"]
    assert report.dropped == [{"id": "none", "reason": "no audio"}]
