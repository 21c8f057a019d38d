"""Levels and channels: what is scaled, mixed, refused, and called silent, by the numbers."""

import numpy as np
import pytest

from modeling_m4ser.audio_m4ser import AudioError
from modeling_m4ser.levels_m4ser import channels_last, check_samples, mix_channels, pick_channel, silence_reason


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5,), (5, 1)), ((2, 5), (5, 2)), ((5, 2), (5, 2)), ((3, 3), (3, 3)), ((32, 99), (99, 32)), ((2, 0), (0, 1))],
)
def test_the_shorter_axis_counts_the_channels(shape, expected):
    samples = noise(*shape)
    channels = channels_last(samples, "a")
    assert channels.shape == expected
    assert channels.dtype == np.float32
    if samples.shape == (2, 5):
        np.testing.assert_array_equal(channels[:, 1], samples[1])


@pytest.mark.parametrize("shape", [(33, 99), (99, 33), (1, 2, 3), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(AudioError, match=r"the clip of shape .* is no waveform"):
        channels_last(noise(*shape) if shape else np.float32(0.5).reshape(()), "the clip")


def test_a_channel_is_a_column():
    channels = noise(9, 3)
    np.testing.assert_array_equal(pick_channel(channels, 2, "a"), channels[:, 2:])
    with pytest.raises(AudioError, match="a has 3 channels: channel=3 is not there"):
        pick_channel(channels, 3, "a")


@pytest.mark.parametrize(
    ("samples", "good"),
    [
        ([0.0, 1.0, -1.0], True),
        ([1.5, -9.9], True),
        ([10.0, 0.5], True),
        ([10.01, 0.5], False),
        ([-10.01, 0.5], False),
        ([1.0, 2.0], False),
        ([-2.0, 0.0], False),
        ([2.0, 0.5], True),
        ([12000.25], False),
    ],
)
def test_floats_of_another_scale(samples, good):
    samples = np.array(samples, np.float32)
    if good:
        check_samples(samples, "a")
    else:
        with pytest.raises(AudioError, match=f"a holds floats up to {np.abs(samples).max():g}, where full scale is 1"):
            check_samples(samples, "a")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_numbers_come_before_the_level(bad):
    with pytest.raises(AudioError, match="NaN or infinite"):
        check_samples(np.array([30000, bad], np.float32), "a")


@pytest.mark.parametrize(
    ("values", "good"),
    [
        ([257], False),
        ([-257], False),
        ([32768, 3], False),
        ([-32768, 3], False),
        ([256, 3], True),
        ([32769], True),
        ([512, -1024], True),
        ([512, 1], False),
        ([-(2**31), 3], True),
    ],
)
def test_sixteen_bits_in_int32(values, good):
    samples = np.array(values, np.int32)
    if good:
        np.testing.assert_allclose(channels_last(samples, "a")[:, 0], samples / 2.0**31, rtol=1e-6)
    else:
        with pytest.raises(AudioError, match=f"integers up to {max(map(abs, values))}, .*16-bit"):
            channels_last(samples, "a")


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize(
    ("gains", "taken"),
    [((1, -1), 0), ((0.8, -1), 1), ((1, -0.5), None), ((1, 0), None), ((1, 1), None), ((1, -1, 0.9, -0.9), 0)],
)
def test_the_mean_or_the_strongest_channel(gains, taken, offset):
    """Power left of the mean: 0 %, 1.2 %, 10 %, 50 % and 100 % of the channels' mean power."""
    channels = noise(4000)[:, None] * np.array(gains, np.float32) + np.float32(offset)
    mixed, channel = mix_channels(channels)
    assert channel == taken
    expected = channels.mean(axis=1) if taken is None else channels[:, taken]
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    assert mixed.dtype == np.float32


@pytest.mark.parametrize("count", [2, 8, 32])
def test_unrelated_channels_are_averaged(count):
    channels = noise(4000, count)
    mixed, channel = mix_channels(channels)
    assert channel is None
    np.testing.assert_allclose(mixed, channels.mean(axis=1), atol=1e-6)
    alone = channels * (np.arange(count) == 1)
    assert mix_channels(alone.astype(np.float32))[1] is None, "one that sounds beside silent ones"
    assert mix_channels(np.zeros((9, count), np.float32))[1] is None


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(100), "silent: every sample is zero"),
        (np.zeros(0), "silent: every sample is zero"),
        (np.tile([1, 0, -1], 30) / 32768, "silent: no sample is more than one 16-bit step from zero"),
        (np.full(100, 0.25), "constant: every sample is the same"),
        (np.full(100, -0.25), "constant: every sample is the same"),
        (np.tile([2, 0, -2], 30) / 32768, None),
        (0.25 + np.tile([2, 0, -2], 30) / 32768, None),
        (noise(100), None),
    ],
)
def test_silence_has_a_reason(samples, reason):
    assert silence_reason(samples.astype(np.float32)) == reason
