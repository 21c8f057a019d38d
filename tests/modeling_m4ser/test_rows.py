"""One reading of a row: its columns by their names, and the audio and text that they are."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, DatasetDict

from modeling_m4ser.audio_m4ser import load_audio
from modeling_m4ser.parts_m4ser import PartError
from modeling_m4ser.rows_m4ser import (
    COLUMN_NAMES,
    Utterance,
    find_columns,
    read_channel,
    read_collection,
    read_utterance,
    without_decoding,
)

RATE = 16000
TEXT = "so happy"
LEFT, RIGHT = np.random.default_rng(0).integers(-9000, 9000, (2, 700)).astype(np.int16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The recordings `LEFT`, `LEFT` and `RIGHT` as two channels, and `RIGHT`, `LEFT`, `RIGHT` one after the other."""
    folder = tmp_path_factory.mktemp("rows")
    soundfile.write(folder / "left.wav", LEFT, RATE)
    soundfile.write(folder / "both.wav", np.stack([LEFT, RIGHT], 1), RATE)
    soundfile.write(folder / "three.wav", np.concatenate([RIGHT, LEFT, RIGHT]), RATE)
    return folder


def test_no_name_means_two_things():
    names = [name for role, groups in COLUMN_NAMES.items() for group in ((role,), *groups) for name in group]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["Audio Path", "ASR-text", "emo"], {"audio": ["Audio Path"], "emotion": ["emo"], "hypothesis": ["ASR-text"]}),
        (["path", "AUDIO", "file"], {"audio": ["AUDIO"]}),
        (["path", "bytes", "sampling_rate"], {"audio": ["bytes"], "sampling_rate": ["sampling_rate"]}),
        (["wav", "path"], {"audio": ["path", "wav"]}),
        (["Label", "label "], {"emotion": ["Label", "label "]}),
        (["words", "raw"], {}),
    ],
)
def test_columns_by_their_names(found, expected):
    assert find_columns(found) == find_columns(iter(found)) == expected


ROWS = {
    "the usual names": {"audio": "left.wav", "text": TEXT},
    "the trainer's names": {"file": "left.wav", "hypothesis": TEXT},
    "a path": {"path": "left.wav", "text": TEXT},
    "human text in two forms": {"path": "left.wav", "raw_text": "Not, this!", "normalized_text": TEXT},
    "human text": {"Audio": "left.wav", "sentence": TEXT},
    "recognized text first": {"audio": "left.wav", "transcript": "not this", "asr": TEXT},
    "values that are none": {"audio": None, "file": "left.wav", "text": None, "hypothesis": None, "sentence": TEXT},
    "an array's keys": {"array": LEFT, "sampling_rate": RATE, "path": "gone.wav", "text": TEXT},
    "a path in a column of arrays": {"array": "left.wav", "sampling_rate": RATE, "text": TEXT},
    "samples in a column of bytes": {"Bytes": LEFT, "sampling_rate": RATE, "text": TEXT},
    "a dictionary in a column of bytes": {"bytes": {"array": LEFT, "sampling_rate": RATE}, "text": TEXT},
    "a file's keys": {"path": "gone.wav", "bytes": "left.wav", "text": TEXT},
    "transformers' keys": {"raw": LEFT, "sampling_rate": RATE, "text": TEXT},
    "an array and its rate": {"audio": (LEFT / 2.0**15).tolist(), "sample_rate": RATE, "text": TEXT},
    "a rate beside a file": {"audio": "left.wav", "sampling_rate": 8000, "text": TEXT},
    "a channel": {"audio": "both.wav", "channel": 0, "text": TEXT},
    "another channel, as text": {"audio": "both.wav", "audio_channel": " 1", "text": TEXT},
    "a channel of an array": {"array": np.stack([RIGHT, LEFT]), "sampling_rate": RATE, "channel": 1.0, "text": TEXT},
    "missing values": {"wav": np.nan, "file": "left.wav", "text": pd.NA, "asr": np.nan, "ref": TEXT, "channel": pd.NaT},
    "masked values": {"wav": np.ma.masked, "file": "left.wav", "text": TEXT, "channel": np.ma.array(1, mask=True)},
    "torchaudio's keys": {"waveform": LEFT, "sample_rate": np.int64(RATE), "text": TEXT},
    "an array under other keys": {"Array": LEFT, "sample_rate": RATE, "text": TEXT},
    "a dictionary within": {"audio": {"array": LEFT, "sample_rate": RATE}, "text": TEXT},
    "a clip of gradio": {"audio": (RATE, LEFT), "text": TEXT},
    "two names of one recording": {"file": "left.wav", "path": "left.wav", "text": TEXT},
    "a pair": ("left.wav", TEXT),
    "a pair as a list": ["left.wav", np.str_(TEXT)],
    "a pair with a clip of gradio": ((RATE, LEFT), TEXT),
    "a named tuple": Utterance("left.wav", TEXT),
    "a row of pandas": pd.Series({"file": "left.wav", "text": TEXT}),
}
START, END = len(LEFT) / RATE, 2 * len(LEFT) / RATE  # of `LEFT` in three.wav: 43.75 and 87.5 ms
PARTS = {
    "seconds": {"start": START, "end": END},
    "numpy scalars": {"begin": np.float64(START), "stop": np.array(END)},
    "a length": {"offset": START, "duration": END - START},
    "a start alone, of two": {"start_time": START, "end": END, "duration": 9.0, "length": 40},
    "milliseconds": {"start_ms": 43.75, "End (ms)": "87.5"},
    "camels": {"startMs": 43.75, "endTimeMs": 87.5},
    "Praat's names": {"xmin": START, "xmax": END},
    "a finish": {"t_start": START, "finish_ms": 87.5},
    "two units": {"start_s": START, "end_ms": 87.5},
    "samples": {"start_sample": 700, "end_sample": "1400"},
    "samples at a rate of their own": {"start_frame": 350, "num_frames": 350, "sampling_rate": "8000"},
    "seconds first": {"start": START, "end": END, "start_sample": 1, "end_sample": 2},
    "text": {"Start-Time": " 0.04375", "end_time": "0,0875"},
    "clocks": {"start": "00:00:00,04375", "end": "0:00.0875"},
    "durations": {"start": timedelta(seconds=START), "end_ms": timedelta(seconds=END)},
    "blank cells": {"start": START, "end": " ", "stop": None, "duration": END - START},
}
ROWS |= {f"a part in {kind}": {"audio": "three.wav", "text": TEXT, **times} for kind, times in PARTS.items()}
ROWS |= {
    "an end that was rounded up": {"audio": "left.wav", "text": TEXT, "end": 0.05},
    "the whole": {"audio": "left.wav", "text": TEXT, "duration": 0.01, "start": None, "end": ""},
    "a part of a dictionary": {
        "audio": {"array": np.stack([RIGHT, LEFT]).ravel(), "sampling_rate": RATE},
        "text": TEXT,
    },
}
ROWS["a part of a dictionary"]["audio"] |= {"start_sample": 700}
ROWS["a part of the row, not of its dictionary"] = {
    "audio": {"array": np.concatenate([RIGHT, LEFT, RIGHT]), "sampling_rate": RATE, "start": 0.0, "end": START},
    "text": TEXT,
    **PARTS["seconds"],
}


@pytest.mark.parametrize("kind", ROWS)
def test_every_way_of_writing_a_row(files, kind):
    def placed(key, value):
        if not isinstance(value, str) or not (files / value).is_file():
            return value
        return (files / value).read_bytes() if key == "bytes" else str(files / value)

    row: Any = ROWS[kind]
    if isinstance(row, pd.Series):
        row = row.map(lambda value: placed("file", value))
    elif isinstance(row, Utterance):
        row = row._replace(audio=placed("audio", row.audio))
    elif not isinstance(row, dict):
        row = type(row)([placed("audio", row[0]), row[1]])
    else:
        row = {key: placed(key, value) for key, value in row.items()}
    audio, text, channel, part = read_utterance(row)
    assert text == TEXT
    expected = RIGHT if kind.startswith("another") else LEFT
    np.testing.assert_array_equal(load_audio(audio, channel=channel, part=part), expected / np.float32(2**15))


def tables(files):
    """Collections of `LEFT` with `TEXT` and `RIGHT` without."""
    paths = [str(files / "left.wav"), str(files / "right.wav")]
    columns = {"file": paths, "text": [TEXT, None]}
    frame, table = (
        pd.DataFrame({**columns, "speaker": [1, 2]}),
        Dataset.from_dict({"audio": paths, "text": [TEXT, None]}),
    )
    pairs = list(zip(paths, columns["text"], strict=True))
    return {
        "frame": frame,
        "rows of a frame": [row for _, row in frame.iterrows()],
        "named tuples": frame.itertuples(),
        "columns": columns,
        "pyarrow": pa.table(columns),
        "pyarrow arrays": pa.table({"array": [LEFT, RIGHT], "sampling_rate": [RATE, RATE], "text": [TEXT, None]}),
        "a data set": table.cast_column("audio", Audio()),
        "a data set in pandas' format": table.with_format("pandas"),
        "a data set in arrow's format": table.cast_column("audio", Audio()).with_format("arrow"),
        "a stream": table.cast_column("audio", Audio()).to_iterable_dataset(),
        "pairs": pairs,
        "a tuple of pairs": tuple(pairs),
        "an iterator": iter(pairs),
        "an array of pairs": np.array(pairs, dtype=object),
    }


def clips(files):
    """Collections of `LEFT` and `RIGHT` alone."""
    paths = [str(files / "left.wav"), str(files / "right.wav")]
    table = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio())
    return {
        "a column": table["audio"],
        "a column of a stream": table.to_iterable_dataset()["audio"],
        "a column of pandas": pd.Series(paths, index=["b", 7]),
        "an array": np.array(paths),
        "pyarrow": pa.array(paths),
        "clips of gradio": ((RATE, LEFT), (RATE, RIGHT)),
        "a generator": (path for path in paths),
        "an iterator": map(Path, paths),
        "the columns of a frame": pd.DataFrame({"file": paths}).to_dict("list"),
    }


@pytest.mark.parametrize("given", [tables, clips])
def test_every_kind_of_collection(files, given):
    soundfile.write(files / "right.wav", RIGHT, RATE)
    for kind, inputs in given(files).items():
        collection = inputs if isinstance(inputs, list) else read_collection(inputs)
        assert collection is not None, kind
        read = [read_utterance(each) for each in collection]
        assert [utterance.text for utterance in read] == [TEXT if given is tables else None, None], kind
        for utterance, samples in zip(read, (LEFT, RIGHT), strict=True):
            np.testing.assert_array_equal(load_audio(utterance.audio), samples / np.float32(2**15), err_msg=kind)


@pytest.mark.parametrize(
    "inputs",
    [
        *("a.wav", Path("a"), b"x", io.BytesIO(b"x"), LEFT, LEFT.tolist(), torch.zeros(9), pd.Series(LEFT), None),
        *((RATE, LEFT), ("a.wav", TEXT), Utterance("a.wav"), pd.Series({"file": "a.wav"}), {"a.wav", "b.wav"}),
        {"audio": [0.0] * 9, "text": TEXT},
    ],
)
def test_one_input_is_no_collection(inputs):
    assert read_collection(inputs) is None


@pytest.mark.parametrize("rate", [RATE, float(RATE), np.int32(RATE), torch.tensor(RATE), torch.tensor([RATE])])
def test_a_waveform_and_its_rate_are_a_pair_in_any_order(rate):
    for clip in ((rate, LEFT), (LEFT, rate), [rate, torch.from_numpy(LEFT)], ((LEFT / 2.0**15).tolist(), rate)):
        for inputs in (clip, (clip, None), {"audio": clip}):
            audio, text, *_ = read_utterance(inputs)
            assert text is None
            np.testing.assert_array_equal(load_audio(audio), LEFT / np.float32(2**15))


def test_audio_alone_and_text_alone():
    assert read_utterance("a.wav") == Utterance("a.wav")
    assert read_utterance({"text": TEXT}) == Utterance(None, TEXT)
    for audio in ({"array": LEFT, "sampling_rate": RATE, "path": "a.wav"}, {"bytes": b"x", "path": "a.wav"}):
        assert read_utterance({**audio, "speaker": "a"}).audio == audio
    assert read_utterance({"audio": Path("a.wav"), "label": 3}) == Utterance(Path("a.wav"))


PATHS = ("b.wav", "no such.MP3 ", "/a/b.flac", Path("b"), "https://a.org/b", __file__)


@pytest.mark.parametrize("text", ["play it by ear.", "abc.com.au", "so", "w.a.v.", "wav", "c:/", "a" * 5000, "\0", ""])
def test_a_transcript_is_no_path(text):
    assert read_utterance(("a.wav", text)).text == text


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("a.wav", TEXT, 3), r"A tuple input is \(audio, text\); got 3 items. Pass several inputs as a list"),
        ({"speech": "a.wav"}, r"needs 'audio' and 'text'; got values for \['speech'\]"),
        ({"audio": None, "text": np.nan}, "needs 'audio' and 'text'"),
        (DatasetDict(test=Dataset.from_dict({"audio": ["a.wav"]})), r"\['test'\]: pass one of these splits"),
        ({1: 2}, "needs 'audio' and 'text'"),
        ({"audio": "a.wav", "sentence": [TEXT]}, r"must be a string, not list \(sentence\)"),
        ({"path": "a.wav", "file": "b.wav"}, "Several columns may be the audio: path, file; leave in the one"),
        ({"audio": "a.wav", "text": TEXT, "asr": "no"}, "Several columns may be the hypothesis: text, asr"),
        *((("a.wav", path), "is a recording in the place of a transcript: pass two clips as a list") for path in PATHS),
        (("a.wav", 3), "must be a string, not int"),
        ({"audio": "a.wav", "text": 2.5}, "must be a string, not float"),
        *(
            ({"audio": "a.wav", "text": TEXT, **times}, message)
            for times, message in (
                ({"start": 2, "end": 1.5}, r"a part ends after its start \(2 to 1.5\)"),
                ({"start": 1, "duration": 0}, r"ends after its start \(1 to 1\)"),
                ({"start_ms": -1, "end": 3}, r"starts at 0 or later \(its start is -0.001\)"),
                ({"start": np.nan, "end": 3}, r"its start is no time: give seconds.* \(nan\)"),
                ({"offset": 1, "duration": "inf"}, r"its duration is no time.*\('inf'\)"),
                ({"start": np.ma.array(1, mask=True), "end": 3}, r"its start is no time"),
                ({"start_sample": "1:00"}, r"its start_sample is no time: give a number of samples \('1:00'\)"),
                ({"start": "2:75", "end": 200}, r"its start is no time"),
                ({"start": "1.5:00:00", "end": 9000}, r"its start is no time"),
                ({"start": True, "end": 2}, r"its start is no time"),
                ({"end": [1, 2]}, r"its end is no time"),
                ({"start": 0.5, "end_sample": 9000}, "in seconds and in samples: add the column sampling_rate"),
                ({"onset": 1, "offset": 2}, r"several columns for its start: keep one \(offset, onset\)"),
            )
        ),
    ],
)
def test_what_cannot_be_read_says_why(inputs, message):
    with pytest.raises(ValueError, match=message):
        read_utterance(inputs)


@pytest.mark.parametrize(
    ("value", "channel"),
    [
        (None, None),
        (1, 1),
        ("1", 1),
        (" 0 ", 0),
        ("", None),
        (1.0, 1),
        (np.nan, None),
        ("left", "left"),
        (-1, -1),
        (0.5, 0.5),
    ],
)
def test_channels_of_tables(value, channel):
    assert read_channel(value) == channel
    assert type(read_channel(value)) is type(channel)


def test_a_part_outside_the_recording(files):
    """test_parts.py has the numbers."""
    utterance = read_utterance({"audio": str(files / "left.wav"), "text": TEXT, "start": 0.02, "end": 0.0544})
    with pytest.raises(PartError, match=r"left.wav: the part is not inside the recording.*s, of 0.04375 s\)"):
        load_audio(utterance.audio, part=utterance.part)


def test_audio_columns_stay_undecoded(files):
    table = Dataset.from_dict({"audio": [str(files / "left.wav")], "text": [TEXT]})
    decoding = table.cast_column("audio", Audio(sampling_rate=RATE))
    for dataset in (decoding, decoding.to_iterable_dataset()):
        (row,) = without_decoding(dataset)
        assert row["audio"] == {"path": str(files / "left.wav"), "bytes": None}
    assert without_decoding(table) is table
    assert without_decoding(decoding, ["text"]) is decoding
    buffer = io.BytesIO()
    soundfile.write(buffer, LEFT, RATE, format="WAV")
    embedded = Dataset.from_dict({"a": [{"path": "x.wav", "bytes": buffer.getvalue()}]}).cast_column("a", Audio())
    assert without_decoding(embedded)[0]["a"]["bytes"] == buffer.getvalue()
