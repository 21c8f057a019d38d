"""One reading of a row: its columns by their names, and the audio and text that they are."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from modeling_m4ser.audio_m4ser import load_audio
from modeling_m4ser.rows_m4ser import (
    COLUMN_NAMES,
    Utterance,
    find_columns,
    read_channel,
    read_utterance,
    without_decoding,
)

RATE = 16000
TEXT = "so happy"
LEFT, RIGHT = np.random.default_rng(0).integers(-9000, 9000, (2, 700)).astype(np.int16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The recordings `LEFT`, and `LEFT` and `RIGHT` as two channels."""
    folder = tmp_path_factory.mktemp("rows")
    soundfile.write(folder / "left.wav", LEFT, RATE)
    soundfile.write(folder / "both.wav", np.stack([LEFT, RIGHT], 1), RATE)
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
    "human text": {"Audio": "left.wav", "sentence": TEXT},
    "recognized text first": {"audio": "left.wav", "transcript": "not this", "asr": TEXT},
    "values that are none": {"audio": None, "file": "left.wav", "text": None, "hypothesis": None, "sentence": TEXT},
    "an array's keys": {"array": LEFT, "sampling_rate": RATE, "path": "gone.wav", "text": TEXT},
    "a file's keys": {"path": "gone.wav", "bytes": "left.wav", "text": TEXT},
    "transformers' keys": {"raw": LEFT, "sampling_rate": RATE, "text": TEXT},
    "an array and its rate": {"audio": (LEFT / 2.0**15).tolist(), "sample_rate": RATE, "text": TEXT},
    "a rate beside a file": {"audio": "left.wav", "sampling_rate": 8000, "text": TEXT},
    "a channel": {"audio": "both.wav", "channel": 0, "text": TEXT},
    "another channel, as text": {"audio": "both.wav", "audio_channel": " 1", "text": TEXT},
    "a channel of an array": {"array": np.stack([RIGHT, LEFT]), "sampling_rate": RATE, "channel": 1.0, "text": TEXT},
    "a pair": ("left.wav", TEXT),
}


@pytest.mark.parametrize("kind", ROWS)
def test_every_way_of_writing_a_row(files, kind):
    def placed(key, value):
        if not isinstance(value, str) or not (files / value).is_file():
            return value
        return (files / value).read_bytes() if key == "bytes" else str(files / value)

    row = ROWS[kind]
    if isinstance(row, tuple):
        row = (placed("audio", row[0]), row[1])
    else:
        row = {key: placed(key, value) for key, value in row.items()}
    audio, text, channel = read_utterance(row)
    assert text == TEXT
    expected = RIGHT if kind.startswith("another") else LEFT
    np.testing.assert_array_equal(load_audio(audio, channel=channel), expected / np.float32(2**15))


def test_audio_alone_and_text_alone():
    assert read_utterance("a.wav") == Utterance("a.wav")
    assert read_utterance({"text": TEXT}) == Utterance(None, TEXT)
    for audio in ({"array": LEFT, "sampling_rate": RATE, "path": "a.wav"}, {"bytes": b"x", "path": "a.wav"}):
        assert read_utterance({**audio, "speaker": "a"}).audio == audio
    assert read_utterance({"audio": Path("a.wav"), "label": 3}) == Utterance(Path("a.wav"))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("a.wav", TEXT, 3), r"A tuple input is \(audio, text\); got 3 items"),
        ({"speech": "a.wav"}, r"needs 'audio' and 'text'; got the keys \['speech'\]"),
        ({"audio": None, "text": None}, "needs 'audio' and 'text'"),
        (("a.wav", 3), "must be a string, not int"),
        ({"audio": "a.wav", "text": 2.5}, "must be a string, not float"),
    ],
)
def test_what_cannot_be_read_says_why(inputs, message):
    with pytest.raises(ValueError, match=message):
        read_utterance(inputs)


@pytest.mark.parametrize(
    ("value", "channel"),
    [(None, None), (1, 1), ("1", 1), (" 0 ", 0), ("", None), (1.0, 1), (np.nan, None), ("left", "left"), (-1, -1)],
)
def test_channels_of_tables(value, channel):
    assert read_channel(value) == channel
    assert type(read_channel(value)) is type(channel)


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
