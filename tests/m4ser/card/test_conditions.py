"""Changes of sound and words do what their names say, the same each time."""

import numpy as np
import pandas as pd
import pytest

from m4ser.card.conditions import EXACT, SPEECHLESS, TIERS, all_conditions

RATE = 16000
ROWS = pd.DataFrame(
    {"emotion": ["sad", "sad", "happy"], "text": ["we go home", "so it is", None], "other_text": ["a", "b", "c"]},
    index=["r1", "r2", "r3"],
    dtype=object,
).assign(other="transcript")
FOUND = {each.name: each for each in all_conditions(ROWS, hears=True, reads=True)}


@pytest.fixture(scope="module")
def voice():
    """One second of a gliding buzz, in which the waveform of no moment is that of another."""
    times = np.arange(RATE) / RATE
    return (0.2 * np.sin(2 * np.pi * (200 * times + 300 * times**2)) * np.hanning(RATE)).astype(np.float32)


def correlation(first, second):
    """The highest of two waveforms laid over each other at any shift."""
    products = np.fft.irfft(np.fft.rfft(first, 1 << 16) * np.fft.rfft(second, 1 << 16).conj())
    return np.abs(products).max() / np.linalg.norm(first) / np.linalg.norm(second)


@pytest.mark.parametrize("name", [name for name, each in FOUND.items() if each.sound is not None])
def test_sounds_are_repeatable_and_can_be_heard(name, voice):
    heard = FOUND[name].waveform(voice, "r1")
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 1
    np.testing.assert_array_equal(heard, FOUND[name].waveform(voice, "r1"))
    if FOUND[name].tier in TIERS:
        seconds = len(heard) / RATE
        assert 0.49 <= seconds <= 3.01
        assert "speed" in name or correlation(heard, voice) > 0.4
    else:
        assert FOUND[name].tier in (SPEECHLESS, EXACT)
        assert not heard.any() or correlation(heard, voice) < 0.2


@pytest.mark.parametrize("kind", ["white", "speech-shaped"])
@pytest.mark.parametrize("decibels", [20, 10, 0])
def test_noise_is_as_loud_as_it_says(kind, decibels, voice):
    noise = FOUND[f"{kind} noise {decibels} dB"].waveform(voice, "r1") - voice
    assert 10 * np.log10(np.mean(voice**2) / np.mean(noise**2)) == pytest.approx(decibels, abs=0.3)
    assert (noise != FOUND[f"{kind} noise {decibels} dB"].waveform(voice, "r2") - voice).any()


@pytest.mark.parametrize("seconds", [0.3, 0.8])
def test_reverberation_falls_by_60_decibels_in_its_time(seconds):
    click = np.zeros(RATE, np.float32)
    click[0] = 0.5
    heard = FOUND[f"reverberation {seconds} s"].waveform(click, "r1")
    early, late = (np.mean(heard[start : start + 800] ** 2) for start in (1, 1 + int(seconds / 2 * RATE)))
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=2)


def test_speed_and_trimming_change_the_length(voice):
    lengths = {
        "speed 1.1": RATE / 1.1,
        "speed 0.9": RATE / 0.9,
        "0.5 s off the start": RATE / 2,
        "first half": RATE / 2,
    }
    for name, length in lengths.items():
        assert len(FOUND[name].waveform(voice, "r1")) == pytest.approx(length, abs=20)


def test_words():
    def read(name):
        return FOUND[name].words(ROWS)

    assert read("no transcript") == ["", "", ""]
    assert read("upper case") == ["WE GO HOME", "SO IT IS", ""]
    assert read("the transcript instead") == ["a", "b", "c"]
    assert sorted(read("words shuffled")[0].split()) == ["go", "home", "we"]
    other = read("transcript of another emotion")
    assert other[:2] == [None, None]
    assert other[2] in ("we go home", "so it is")
    kept = [read(f"{share} % of words wrong")[0] for share in (20, 50)]
    assert all(len(text.split()) == 3 for text in kept)
    assert not [each for each in all_conditions(ROWS.assign(other_text=None), True, True) if "instead" in each.name]
