"""Turns do not depend on the blocks they are heard in, lose no speech, and are as long as they may be."""

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_m4ser import speech_m4ser
from modeling_m4ser.segments_m4ser import Segment
from modeling_m4ser.speech_m4ser import RATE, GivenSegments, SpeechFinder, Turn, WhisperSegments, load_silero, pieces

LONGEST = 2 * RATE
BLOCKS = st.lists(st.integers(1, 30000), min_size=1, max_size=8)


@pytest.fixture(scope="module", autouse=True)
def loud_is_speech():
    """Put a detector of loud samples in the place of silero-vad."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_m4ser, "load_silero", lambda: lambda frame: float(abs(frame).max() > 0.1))
        yield


@st.composite
def recordings(draw):
    """Noise that is loud and quiet in turn."""
    parts = draw(st.lists(st.tuples(st.integers(200, 40000), st.sampled_from([0.001, 0.5])), min_size=1, max_size=6))
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(-1, 1, length) * level for length, level in parts]).astype(np.float32)


def heard(finder, samples, blocks=(10**9,)):
    """All turns of a recording that comes in blocks of these sizes, over and over."""
    turns, place = [], 0
    while place < len(samples):
        for size in blocks:
            turns += finder.push(samples[place : place + size])
            place += size
    return turns + finder.push(samples[:0], last=True)


def same(first, second):
    return [(turn.start, turn.end, turn.text) for turn in first] == [
        (turn.start, turn.end, turn.text) for turn in second
    ] and all(np.array_equal(a.samples, b.samples) for a, b in zip(first, second, strict=True))


@settings(max_examples=40)
@given(samples=recordings(), blocks=BLOCKS)
def test_heard_turns_are_the_same_in_any_blocks_and_hold_all_speech(samples, blocks):
    turns = heard(SpeechFinder(LONGEST), samples)
    assert same(turns, heard(SpeechFinder(LONGEST), samples, blocks))
    inside = np.zeros(len(samples), bool)
    for turn in turns:
        assert 0 < turn.end - turn.start <= LONGEST
        np.testing.assert_array_equal(turn.samples, samples[turn.start : turn.end])
        assert not inside[turn.start : turn.end].any(), "turns do not overlap"
        inside[turn.start : turn.end] = True
    (lost,) = np.nonzero((np.abs(samples) > 0.1) & ~inside)
    # A loud stretch of up to 0.25 s is a click, in whichever frames it lies; a longer one is speech.
    runs = np.split(lost, np.nonzero(np.diff(lost) > 0.5 * RATE)[0] + 1)
    assert all(len(run) == 0 or run[-1] - run[0] <= 0.25 * RATE + 512 for run in runs)


def test_long_speech_is_cut_where_it_is_quietest():
    samples = np.full(5 * RATE, 0.5, np.float32)
    samples[int(1.6 * RATE) : int(1.75 * RATE)] = 0.11
    first, second, *_ = heard(SpeechFinder(LONGEST), samples)
    assert 1.6 * RATE < first.end == second.start < 1.75 * RATE


@settings(max_examples=30)
@given(
    samples=recordings(),
    blocks=BLOCKS,
    times=st.lists(st.tuples(st.integers(0, 12000), st.integers(1, 9000)), min_size=1, max_size=5),
)
def test_given_segments_are_what_they_say_in_any_blocks(samples, blocks, times):
    segments = sorted(
        Segment(start / 1000, (start + length) / 1000, None, str(n)) for n, (start, length) in enumerate(times)
    )
    turns = {turn.text: turn for turn in heard(GivenSegments(segments), samples, blocks)}
    assert len(turns) == len(segments)
    for start, end, _, text in segments:
        expected = samples[round(start * RATE) : round(end * RATE)]
        np.testing.assert_array_equal(turns[text].samples, expected)
        assert turns[text].end == (round(start * RATE) + len(expected) if len(expected) else round(end * RATE))


@pytest.mark.parametrize("size", [7000, 10**9])
def test_whisper_goes_on_where_its_last_segment_began(size):
    windows = []

    def transcribe(window):
        windows.append(int(window[0]))
        return [Segment(0, 12, None, "one"), Segment(13, 25, None, "two"), Segment(25, len(window) / RATE, None, "cut")]

    samples = np.repeat(np.arange(70, dtype=np.float32), RATE)  # each sample tells its second
    turns = heard(WhisperSegments(transcribe), samples, [size])
    assert windows == [0, 25, 50]
    assert [(turn.start / RATE, turn.end / RATE, turn.text) for turn in turns] == [
        *((0, 12, "one"), (13, 25, "two"), (25, 37, "one"), (38, 50, "two")),
        *((50, 62, "one"), (63, 70, "two")),
    ]
    assert all(turn.samples[0] == turn.start // RATE for turn in turns)


@given(length=st.integers(1, 100_000), words=st.none() | st.lists(st.sampled_from(["a", "b", "c"])))
def test_pieces_are_the_turn_and_share_out_its_words(length, words):
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    turn = Turn(500, 500 + length, samples, "Ann", None if words is None else " ".join(words))
    cut = list(pieces(turn, RATE))
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in cut]), samples)
    assert [piece.end for piece in cut[:-1]] == [piece.start for piece in cut[1:]]
    assert all(len(piece.samples) == piece.end - piece.start <= RATE and piece.speaker == "Ann" for piece in cut)
    assert [piece.text for piece in cut if piece.text is None] == ([] if words is not None else [None] * len(cut))
    assert " ".join(filter(None, (piece.text for piece in cut))) == " ".join(words or [])


def test_windows_overlap_and_end_with_the_turn():
    turn = Turn(0, 70, np.zeros(70, np.float32), text="a b c d e f g")
    assert [(piece.start, piece.end, piece.text) for piece in pieces(turn, 99, window=30, hop=20)] == [
        *((0, 30, "a b c"), (20, 50, "c d e"), (40, 70, "e f g"))
    ]
    assert [(piece.start, piece.end) for piece in pieces(turn, 99, window=50, hop=50)] == [(0, 50), (20, 70)]
    assert [piece.text for piece in pieces(turn, 99, window=35)] == ["a b c", "d e f g"]


def test_silero_hears_speech_and_no_noise(shared_dir, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    if importlib.util.find_spec("silero_vad") is None:
        pytest.skip("silero-vad is not installed")
    monkeypatch.setattr(speech_m4ser, "load_silero", load_silero)
    threads = torch.get_num_threads()
    speech, _ = soundfile.read(shared_dir / "data/ravdess/Actor_01/03-01-05-02-01-01-01.flac", dtype="float32")
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    (turn,) = heard(SpeechFinder(10 * RATE), np.concatenate([noise, speech, noise]))
    assert RATE < turn.start < turn.end < RATE + len(speech)
    assert torch.get_num_threads() == threads


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install silero-vad"):
        load_silero()
