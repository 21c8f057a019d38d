"""`pipe.timeline` and `pipe.stream`: the same rows by every way in, and what cannot be answered is told."""

import io
import logging

import numpy as np
import pytest
import soundfile
import soxr

from modeling_m4ser import AudioError, speech_m4ser
from modeling_m4ser.audio_m4ser import decode_audio, stream_audio
from modeling_m4ser.segments_m4ser import FORMATS, write_segments
from tests.helpers.tiny import tiny_pretrained
from tests.modeling_m4ser.test_pipeline import load, scores

RATE = 16000
SEGMENTS = [(0.5, 1.25, "ann", "i am happy"), (0.75, 3.5, "ben", "we go home now"), (4, 9, None, "so sad")]


def asr(waveform):
    return f"i am {'abc'[len(waveform) % 3]}"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return load(tiny_pretrained(tmp_path_factory.mktemp("model"), "whisper"))


@pytest.fixture(scope="module", autouse=True)
def loud_is_speech():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_m4ser, "load_silero", lambda: lambda frame: float(abs(frame).max() > 0.1))
        yield


@pytest.fixture(scope="module")
def call():
    """Ten seconds (samples, 2): two who speak in turn and at once."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.01, (10 * RATE, 2)).astype(np.float32)
    for channel, start, end in [(0, 0.5, 2), (1, 1.5, 3), (0, 4, 5), (1, 6, 9.5)]:
        samples[round(start * RATE) : round(end * RATE), channel] += 0.5 * np.sin(
            np.arange(round((end - start) * RATE))
        )
    return samples


def as_file(samples, rate=RATE, form="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype="PCM_24" if form == "FLAC" else "FLOAT")
    return file.getvalue()


def assert_same(rows, others):
    assert [{**row, "scores": None, "confidence": None} for row in rows] == [
        {**row, "scores": None, "confidence": None} for row in others
    ]
    for row, other in zip(rows, others, strict=True):
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-5)
        assert row["confidence"] == pytest.approx(other["confidence"], abs=1e-5)


@pytest.mark.parametrize(("rate", "form", "channel"), [(16000, "WAV", None), (44100, "FLAC", "each"), (8000, "WAV", 1)])
@pytest.mark.parametrize("size", [4000, 333])
def test_a_stream_gives_the_rows_of_the_file(pipe, call, rate, form, channel, size):
    samples = soxr.resample(call, RATE, rate).clip(-0.99, 0.99)
    rows = pipe.timeline(as_file(samples, rate, form), channel=channel, asr=asr, max_seconds=2)
    samples, _ = soundfile.read(io.BytesIO(as_file(samples, rate, form)), dtype="float32")
    blocks = (samples[place : place + size] for place in range(0, len(samples), size))
    streamed = list(pipe.stream(blocks, sampling_rate=rate, channel=channel, asr=asr, max_seconds=2))
    assert_same(rows, sorted(streamed, key=lambda row: (row["start"], row["end"])))
    assert {row["channel"] for row in rows} == {None: {None}, "each": {0, 1}, 1: {1}}[channel]
    assert all(0 < row["end"] - row["start"] <= 2 and row["decision"] == row["label"] for row in rows)


def test_a_row_is_what_the_pipeline_says_of_its_part(pipe, call):
    rows = pipe.timeline(as_file(call), channel="each", asr=asr)
    assert [row["channel"] for row in rows] == [0, 1, 0, 1]
    for row in rows:
        part = {"audio": as_file(call), "channel": row["channel"], "start": row["start"], "end": row["end"]}
        assert row["scores"] == pytest.approx(scores(pipe(part, asr=asr)), abs=1e-5)
        assert row["text"].startswith("i am ")
        assert row["label"] == max(row["scores"], key=row["scores"].get)


def test_a_stream_answers_before_the_next_block_is_asked_for(pipe, call):
    asked = []

    def blocks():
        for second in range(10):
            asked.append(second)
            yield call[second * RATE : (second + 1) * RATE, 0]

    first = next(iter(pipe.stream(blocks(), asr=asr)))
    assert first["end"] < 2.2
    assert asked == [0, 1, 2]


def test_any_format_of_segments_gives_the_same_rows(pipe, call, tmp_path):
    expected = pipe.timeline(as_file(call), segments=SEGMENTS, max_seconds=2)
    assert [(row["start"], row["speaker"], row["text"]) for row in expected if row["start"] in (0.5, 0.75)] == [
        *((0.5, "ann", "i am happy"), (0.75, "ben", "we go"))
    ]
    rows = [dict(zip(("start", "end", "speaker", "text"), segment, strict=True)) for segment in SEGMENTS]
    for form, ending in FORMATS.items():
        (tmp_path / f"call{ending}").write_text(write_segments(rows, form), encoding="utf-8")
        found = pipe.timeline(as_file(call), segments=tmp_path / f"call{ending}", max_seconds=2, asr=asr)
        if form == "rttm":  # without words
            assert [(row["start"], row["end"]) for row in found] == [(row["start"], row["end"]) for row in expected]
        else:
            assert_same(found, expected)


def test_what_cannot_be_classified_is_a_row_with_its_reason(pipe, call):
    def broken(waveform):
        raise ValueError("no license")

    segments = [(9, 10.4, None, "so"), (9.5, 10), (11, 12, "ann", "no")]
    good, unheard, late = pipe.timeline(as_file(call), segments=segments, asr=broken)
    assert (good["start"], good["end"], good["error"]) == (9, 10, None)
    assert unheard["error"] == "no license"
    assert (late["start"], late["end"], late["text"]) == (11, 12, "no")
    assert late["error"] == "the segment begins after the end of the recording"
    assert (late["scores"], late["label"], late["decision"], late["confidence"]) == ({}, None, None, None)


def test_channels_that_cancel_are_told(pipe, call, caplog):
    mono = call[:, :1]
    with caplog.at_level(logging.WARNING):
        pipe.timeline(as_file(np.concatenate([mono, -mono], axis=1)), asr=asr)
    assert "cancel each other: choose one" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "reads what is said: let an ASR model"),
        ({"segments": [(0, 1, None, "i"), (1, 2)]}, "1 of 2 segments have no words"),
        ({"segments": "whisper", "asr": asr}, "needs a Whisper"),
        ({"segments": [(0, 1, None, "i")], "channel": "each"}, "channel='each' finds the turns"),
        ({"asr": asr, "channel": 2}, "channel=2 is not there"),
        ({"asr": asr, "max_seconds": 0.5}, "max_seconds is at least 1.*not 0.5, None and None"),
        ({"asr": asr, "window": 16}, "window at most that"),
        ({"asr": asr, "hop": 1}, "hop needs a window"),
    ],
)
def test_options_that_cannot_be_are_refused(pipe, call, options, message):
    with pytest.raises(ValueError, match=message):
        pipe.timeline(as_file(call), **options)


@pytest.mark.parametrize(("form", "blocks"), [("WAV", 3), ("FLAC", 3), ("MP3", 1)])
def test_a_file_in_blocks_is_the_file(call, form, blocks):
    file = io.BytesIO()
    soundfile.write(file, call if form == "MP3" else np.tile(call, (14, 1)), RATE, format=form)
    found, rates = zip(*stream_audio(file.getvalue()), strict=True)
    assert rates == (RATE,) * blocks
    whole, _ = decode_audio(file.getvalue(), channel=1)
    np.testing.assert_array_equal(np.concatenate(found)[:, 1], whole)


def test_a_cut_file_is_refused(call):
    with pytest.raises(AudioError, match="truncated"):
        list(stream_audio(as_file(call)[:-5000]))
