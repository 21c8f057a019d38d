"""Random input of every kind: a documented error or finite scores, and one answer for one sound, whatever its type."""

import numpy as np
import pytest
import torch

from modeling_m4ser import SpeechTextEmotionPipeline
from tests.helpers.tiny import speech_config, tiny_model, tiny_processor
from tests.modeling_m4ser.test_audio import BARE, FORMS, encoded

SECONDS = 3
WORDS = ("so", "can't", "我很高兴", "שלום עולם", "مرحبا", "👩\u200d👧", "[LAUGHTER]", "\x00", "\u202e", "\u0301")
HALVES = ("\ud83d\ude00", "\ud83d", "\ude00", "\udfff\ud800")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    config = speech_config("hubert", conv_dim=[4] * 7)
    processor = tiny_processor(tmp_path_factory.mktemp("tokenizer"))
    return SpeechTextEmotionPipeline(model=tiny_model(spread=True, speech_config=config), processor=processor)


def random_text(rng):
    """From nothing to far more word pieces than the model takes."""
    words = rng.choice([*WORDS, *HALVES], size=rng.choice([0, 1, 5, 200], p=[0.15, 0.2, 0.6, 0.05]))
    return rng.choice([" ", ""]).join(words.tolist())


def random_sound(rng):
    """Samples (n, channels), int16, and their rate."""
    # FLAC has only multiples of 10 over 65535.
    rate = 10 * round(float(np.exp(rng.uniform(np.log(400), np.log(9600)))))
    length, channels = int(np.exp(rng.uniform(0, np.log(SECONDS * rate)))), int(rng.integers(1, 5))
    shape = rng.choice(["noise", "tone", "silence", "constant", "opposite"], p=[0.5, 0.2, 0.1, 0.1, 0.1])
    if shape == "tone":
        hertz = rng.uniform(50, 1500, size=channels)
        wave = np.sin(2 * np.pi * hertz * np.arange(length)[:, None] / rate)
    elif shape in ("silence", "constant"):
        wave = np.ones((length, channels)) * (shape == "constant")
    else:
        wave = rng.normal(size=(length, channels))
    if shape == "opposite":
        wave = wave[:, :1] * np.where(np.arange(channels) % 2, -1, 1)
    level = np.exp(rng.uniform(np.log(1), np.log(60000)))  # over 32767 it clips
    return np.clip(np.rint(wave * level), -32768, 32767).astype(np.int16), rate


def same_sound(rng, samples, rate, folder):
    """Another type of the same sound."""
    if rng.random() < 0.7:
        kind = str(rng.choice(list(FORMS)))
        audio = FORMS[kind]((samples / 32768).astype(np.float32), rate, folder)
        return kind, {"array": audio, "sampling_rate": rate} if kind in BARE else audio
    kinds = {
        "int32": lambda: samples.astype(np.int32) << 16,
        "torch int16": lambda: torch.from_numpy(samples.T.copy()),
        "float64": lambda: samples / 32768,
        "flat": lambda: samples[:, 0] if samples.shape[1] == 1 else samples,
        "flac": lambda: encoded(samples, rate, "FLAC", subtype="PCM_16"),
    }
    kind = str(rng.choice(list(kinds)))
    audio = kinds[kind]()
    return kind, audio if kind == "flac" else {"array": audio, "sampling_rate": rate}


def answer(pipe, audio, text, **options):
    """Scores by label, or the message of a documented error."""
    try:
        given = pipe({"audio": audio, "text": text}, **options)
    except ValueError as error:
        return str(error)
    scores = {item["label"]: item["score"] for item in given}
    assert len(scores) == 4
    assert np.isfinite(list(scores.values())).all()
    assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
    return scores


def check_case(pipe, case, folder):
    """One random input, the same for the same number."""
    rng = np.random.default_rng([7, case])
    samples, rate = random_sound(rng)
    text = random_text(rng)
    if rng.random() < 0.3:
        wav = encoded(samples, rate, subtype="PCM_16")
        cut = int(rng.integers(len(wav)))
        cut -= cut in (samples.nbytes, samples.nbytes + 8)  # as where the header is counted among the samples
        for damaged in (wav[:cut], rng.bytes(int(rng.integers(1, 3000)))):
            assert isinstance(answer(pipe, damaged, text), str)
        return
    # Of as many samples as channels, no array tells which axis is which.
    if samples.shape[1] >= len(samples):
        samples = samples[:, :1]
    channel = [None, int(rng.integers(samples.shape[1]))][int(rng.random() < 0.2)]
    expected = answer(pipe, {"array": samples, "sampling_rate": rate}, text, channel=channel)
    kind, audio = same_sound(rng, samples, rate, folder)
    given = answer(pipe, audio, text, channel=channel)
    if isinstance(expected, str):
        assert _too_short(expected), expected
        assert _too_short(given), (kind, given)
    else:
        assert given == pytest.approx(expected, abs=1e-5), kind


def _too_short(given):
    return isinstance(given, str) and "too few to resample" in given


@pytest.mark.parametrize("cases", [range(200), pytest.param(range(200, 20_000), marks=pytest.mark.slow)])
def test_any_input(pipe, cases, tmp_path):
    for case in cases:
        try:
            check_case(pipe, case, tmp_path)
        except Exception as error:
            raise AssertionError(f"case {case}: {type(error).__name__}: {error}") from error
