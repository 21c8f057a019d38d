"""Copies of a recording: exact ones by a digest, lossy ones by their sound; and what only resembles it."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from data_scripts import copies
from data_scripts.copies import acoustic_fingerprint, content_digest, group_copies, same_sound
from modeling_m4ser.audio_m4ser import load_audio
from tests.helpers import SHARED

RATE = 16000


def voice(seed: int, words: int = 0) -> np.ndarray:
    """Three seconds of something like speech: the same words with another seed are another recording of them."""
    rhythm = np.random.default_rng(words)
    rng = np.random.default_rng(seed)
    pieces = [np.zeros(1600)]
    for _ in range(12):
        seconds, pitch, colour = rhythm.uniform(0.1, 0.3), rhythm.uniform(90, 250), rhythm.uniform(300, 2500)
        time = np.arange(int(seconds * rng.uniform(0.97, 1.03) * RATE)) / RATE
        tone = pitch * rng.uniform(0.98, 1.02)
        harmonics = (
            np.exp(-(((n * tone - colour) / 500) ** 2)) * np.sin(2 * np.pi * (n * tone * time + rng.uniform()))
            for n in range(1, 20)
        )
        pieces += [sum(harmonics) * np.hanning(len(time)), np.zeros(int(rhythm.uniform(0, 0.1) * RATE))]
    samples = np.concatenate([*pieces, np.zeros(1600)])
    samples = samples / np.abs(samples).max() / 2 + rng.normal(scale=1e-3, size=len(samples))
    return samples.astype(np.float32)


def stored(samples: np.ndarray, rate: int, kind: str, subtype: str) -> np.ndarray:
    """The waveform as it comes back from a file, at 16 kHz."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return load_audio(buffer.getvalue())


def copies_of(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Copies with other samples, by how they were made."""
    return {
        "MP3": stored(samples, RATE, "MP3", "MPEG_LAYER_III"),
        "Vorbis": stored(samples, RATE, "OGG", "VORBIS"),
        "8 kHz": stored(soxr.resample(samples, RATE, 8000), 8000, "WAV", "PCM_16"),
        "half as loud": samples / 2,
        "turned over": -samples,
        "50 ms later": np.concatenate([np.zeros(800, np.float32), samples]),
        "50 ms less": samples[800:],
    }


def names(recordings):
    """What `group_copies` calls them."""
    asked = []

    def load(number):
        asked.append(number)
        return recordings[number]

    digests = [content_digest(samples) for samples in recordings]
    return group_copies(digests, [acoustic_fingerprint(samples) for samples in recordings], load), digests, asked


def test_the_digest_is_of_the_16_bit_samples():
    samples = np.arange(-32768, 32768, dtype=np.float32) / 32768
    assert content_digest(samples) == content_digest(samples + np.float32(2**-18))
    assert len(content_digest(samples)) == 16
    changed = samples.copy()
    changed[7] += 2**-15
    assert content_digest(changed) != content_digest(samples)
    assert content_digest(samples[:-1]) != content_digest(samples)


def test_lossy_copies_are_found_and_the_same_words_are_not_taken_for_one():
    original, again, others = voice(0), voice(1), [voice(seed, words=seed) for seed in (2, 3)]
    recordings = [again, original, *others, *copies_of(original).values()]
    found, digests, _ = names(recordings)
    group = [1, *range(4, len(recordings))]
    assert {found[number] for number in group} == {min(digests[number] for number in group)}
    assert len(set(found)) == 4
    # Whatever the order.
    turned, *_ = names(recordings[::-1])
    assert turned[::-1] == found


@pytest.mark.parametrize("kind", list(copies_of(voice(0))))
def test_every_kind_of_copy_alone(kind):
    original = voice(5)
    copy = copies_of(original)[kind]
    found, digests, _ = names([original, voice(6), copy])
    assert digests[0] != digests[2]
    assert found == [min(digests[0], digests[2]), digests[1], min(digests[0], digests[2])]


@pytest.mark.parametrize("block", [1, 5])
def test_copies_are_found_across_blocks(monkeypatch, block):
    """Recordings are compared in blocks: what lies in two of them is compared too."""
    monkeypatch.setattr(copies, "_BLOCK", block)
    recordings = [voice(number, words=number) for number in range(6)]
    recordings += [samples / 2 for samples in recordings]
    found, *_ = names(recordings)
    assert found[:6] == found[6:]
    assert len(set(found)) == 6


@pytest.mark.parametrize("recordings", ["noises", "equal samples"])
def test_only_what_is_alike_is_listened_to(recordings):
    rng = np.random.default_rng(0)
    noises = [rng.normal(scale=0.1, size=RATE).astype(np.float32) for _ in range(20)]
    found, digests, asked = names(noises if recordings == "noises" else [voice(0), voice(0)])
    assert found == digests
    assert len(set(found)) == (20 if recordings == "noises" else 1)
    assert not asked


def test_recordings_that_are_hardly_any():
    click, nothing = np.array([0.5], np.float32), np.zeros(400, np.float32)
    tone = np.sin(np.arange(4000) * 3).astype(np.float32)  # above all bands
    found, digests, _ = names([click, nothing, tone, voice(0)])
    assert found == digests
    assert not same_sound(nothing, nothing)
    assert group_copies([], [], lambda _: nothing) == []


@pytest.mark.slow
def test_no_two_recordings_of_actors_are_taken_for_one():
    """960 clips of two sentences, each spoken several times by everybody; one pair is a copy."""
    files = sorted((SHARED / "data" / "ravdess").glob("Actor_*/*.flac"))
    if not files:
        pytest.skip("no RAVDESS in ../shared")
    recordings = [load_audio(str(path)) for path in files]
    found, digests, _ = names(recordings)
    assert len(files) == 960
    assert len(set(digests)) == 959
    assert found == digests
