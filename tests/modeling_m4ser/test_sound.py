"""Descriptions of sounds: what they depend on, what they do not, and their distance from others."""

import numpy as np
import pytest

from modeling_m4ser.sound_m4ser import SOUND_SIZE, describe_sound, domain_distance
from trainer.evaluation.decisions import fit_domain

RATE = 16000
NOISE = np.random.default_rng(0).normal(size=3 * RATE)
TIMES = np.arange(3 * RATE) / RATE


def test_distance_by_hand():
    mean, whitening = np.array([1.0, 2.0]), np.diag([1.0, 0.5])  # standard deviations 1 and 2
    assert domain_distance([[1, 2], [2, 4], [1, 6]], mean, whitening) == pytest.approx([0, 1, np.sqrt(2)])


def test_a_description_is_that_of_the_models_that_were_saved():
    """Their means and thresholds are of these numbers."""
    found = describe_sound(speech(1))
    assert found[[0, 1, 5, 23, 24, 25, 30, 47]] == pytest.approx(
        [1.9239, 1.436, 2.6518, 0.5408, 0.39149, 0.27004, 0.55459, 0.31879], rel=1e-3
    )


def test_a_description_is_of_the_first_minute():
    minute = np.tile(speech(1), 30)
    found = describe_sound(minute)
    assert (describe_sound(np.append(minute, NOISE)) == found).all()
    assert np.abs(describe_sound(np.append(minute[: 58 * RATE], NOISE)) - found).max() > 1


def test_level_pauses_and_a_flat_filter_hardly_change_a_description():
    clip = speech(1)
    found, silence = describe_sound(clip), np.zeros(RATE, np.float32)
    assert describe_sound(0.01 * clip) == pytest.approx(found, abs=1e-3)
    assert describe_sound(np.concatenate([silence, clip, silence])) == pytest.approx(found, abs=0.05)
    bright = np.append(clip[0], clip[1:] - 0.5 * clip[:-1])  # as another microphone
    others = [describe_sound(speech(seed)) for seed in range(2, 6)]
    assert np.abs(describe_sound(bright) - found).mean() < 0.5 * np.abs(np.stack(others) - found).mean()


def test_a_steady_sound_moves_less_than_speech():
    tone, moving = describe_sound(np.sin(2 * np.pi * 440 * TIMES)), describe_sound(speech(1))
    assert (tone[1:24] < moving[1:24]).all()
    assert tone[25:].mean() < 0.1 * moving[25:].mean()


def test_what_is_no_speech_lies_farther_than_any_speech():
    domain = fit_domain([describe_sound(speech(seed)) for seed in range(40)])
    distances = [
        domain_distance([describe_sound(clip) for clip in clips], domain.mean.numpy(), domain.whitening.numpy())
        for clips in (
            [speech(seed) for seed in range(40, 50)],
            [NOISE, 1e-3 * NOISE, NOISE * (1 + np.sin(20 * TIMES)), np.sin(2000 * TIMES), (NOISE > 3.5) * 1.0],
        )
    ]
    assert distances[0].max() < distances[1].min()


@pytest.mark.parametrize("samples", [1, 2, 399, 800])
def test_short_and_silent_clips_have_a_description(samples):
    for clip in (np.zeros(samples, np.float32), NOISE[:samples]):
        found = describe_sound(clip)
        assert found.shape == (SOUND_SIZE,)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def speech(seed):
    """Two seconds of vowels that glide, with pauses: a pulse train through two moving resonances."""
    rng = np.random.default_rng(seed)
    count, steps = 2 * RATE, 12
    pitch = np.interp(np.arange(count), np.linspace(0, count, steps), rng.uniform(90, 250, steps))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    clip = np.zeros(count)
    formants = [
        np.interp(np.arange(count), np.linspace(0, count, steps), rng.uniform(*ends, steps))
        for ends in ((250, 900), (900, 2500))
    ]
    for harmonic in range(1, 30):
        gains = sum(np.exp(-((harmonic * pitch - formant) ** 2) / 2e4) for formant in formants)
        clip += gains * np.sin(harmonic * phase)
    level = np.interp(np.arange(count), np.linspace(0, count, steps), rng.uniform(0.02, 1, steps))
    return (0.1 * level * clip + 1e-4 * rng.normal(size=count)).astype(np.float32)
