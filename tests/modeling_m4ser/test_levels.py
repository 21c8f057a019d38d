"""Levels and channels: what is scaled, mixed, refused, and called silent, by the numbers."""

import contextlib

import numpy as np
import pytest

from modeling_m4ser.audio_m4ser import AudioError
from modeling_m4ser.levels_m4ser import channels_last, check_samples, mix_channels, silence_reason


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


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        *(([1.0, -1.0], None), ([1.5, -9.9], None), ([10.0, 0.5], None), ([2.0, 0.5], None)),
        *(([peak, 0.5], "a holds floats up to 10.01, where full scale is 1") for peak in (10.01, -10.01)),
        *(([1.0, 2.0], "floats up to 2"), ([-2.0, 0.0], "floats up to 2"), ([12000.25], "floats up to 12000")),
        *(([30000, bad], "NaN or infinite") for bad in (np.nan, np.inf, -np.inf)),
    ],
)
def test_floats_of_another_scale(samples, problem):
    samples = np.array(samples, np.float32)
    with pytest.raises(AudioError, match=problem) if problem else contextlib.nullcontext():
        check_samples(samples, "a")


@pytest.mark.parametrize(
    "samples",
    [
        *(np.array(values, np.int32) for values in ([256, 3], [-(2**23) - 1, 5], [512, -1024], [-(2**31), 0, 2**30])),
        np.array([-(2**15), 0, 2**14], np.int16),
        np.array([-128, 0, 64], np.int8),
        np.array([0, 128, 192], np.uint8),
        np.array([0, 0, 1]),  # plain integers within [-1, 1]
    ],
    ids=lambda samples: f"{samples.dtype} up to {samples.max()}",
)
def test_integers_are_scaled_to_one(samples):
    middle, full = {"uint8": (128, 128), "int64": (0, 1)}.get(str(samples.dtype), (0, -np.iinfo(samples.dtype).min))
    scaled = channels_last(samples, "a")
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[:, 0], (samples.astype(float) - middle) / full, rtol=1e-6)


@pytest.mark.parametrize("values", [[257], [-257], [32768, 3], [-32768, 3], [512, 1], [2**23, 1], [2**24 - 1, 5]])
def test_fewer_bits_in_int32_are_refused(values):
    with pytest.raises(AudioError, match=f"integers up to {max(map(abs, values))}, .*16- to 24-bit samples"):
        channels_last(np.array(values, np.int32), "a")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("decibels", [-6, -30])
@pytest.mark.parametrize("bits", [16, 20, 24])
def test_bits_in_int32_are_read_right_or_refused(bits, decibels, order):
    """Moved up to the top they are what they were; as they are, or without their sign, they are refused."""
    samples = noise(4000) / 0.5 * 10 ** (decibels / 20)
    as_they_are = np.rint(samples * 2 ** (bits - 1)).astype(order + "i4")
    moved = (as_they_are.astype(np.int64) << (32 - bits)).astype(order + "i4")
    np.testing.assert_allclose(channels_last(moved, "a")[:, 0], samples, atol=2.0**-bits)
    for refused in (as_they_are, (as_they_are % 2**bits).astype(order + "i4")):
        with pytest.raises(AudioError, match="16- to 24-bit samples"):
            channels_last(refused, "a")


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
    alone = channels * (np.arange(count) == 1)  # one that sounds beside silent ones
    for each in (channels, alone.astype(np.float32), np.zeros((9, count), np.float32)):
        mixed, channel = mix_channels(each)
        assert channel is None
        np.testing.assert_allclose(mixed, each.mean(axis=1), atol=1e-6)


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
