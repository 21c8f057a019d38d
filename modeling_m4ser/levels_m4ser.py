"""From samples of any number type and any number of channels to one float32 channel, and whether it holds any sound.

What would be read at a wrong level or speed raises `AudioError`: its emotion would be that of another recording.
"""

import numbers
from typing import Any

import numpy as np

#: The sampling rates in hertz that audio may have: other numbers are none (16 for 16 kHz, a count, an index).
LOWEST_RATE, HIGHEST_RATE = 4000, 768_000
MAX_CHANNELS = 32  # an array with more is a batch or a spectrogram
_STEP_16_BIT = 2.0**-15
# Floats over full scale are usual where a mix or a decoder overshot; ten times as much is another scale.
_HIGHEST_FLOAT = 10.0
# Of what unrelated channels keep of their power in a mean: less is left only where they cancel each other.
_CANCELLED_SHARE = 0.1


def one_line(text: Any) -> str:
    """Return text without its line breaks: names of files and columns may hold some, and messages are one line."""
    return " ".join(map(str.strip, str(text).splitlines()))


class AudioError(ValueError):
    """The audio cannot be used; the message, one line, names the file or argument and the way out."""

    def __init__(self, message: object):
        super().__init__(one_line(message))


class TooLongError(AudioError):
    """The audio lasts longer than it may; no more of it was decoded."""


def only_number(value: Any) -> Any:
    """Return the number that an array of one holds, None where it is masked; anything else as it is."""
    if np.ma.is_masked(value):
        return None
    holds_one = getattr(value, "shape", None) in ((), (1,)) and not getattr(value, "is_meta", False)
    return value.item() if holds_one else value


def check_rate(rate: Any, argument: str, label: str) -> float:
    """Return `rate`, a number or an array of one number, where audio may have so many hertz; else `AudioError`."""
    number = only_number(rate)
    is_number = isinstance(number, numbers.Real) and not isinstance(number, bool)
    if not (is_number and LOWEST_RATE <= number <= HIGHEST_RATE):  # pyright: ignore[reportOperatorIssue]
        raise AudioError(
            f"{label}: {argument} must be a number of hertz from {LOWEST_RATE} to {HIGHEST_RATE}, such as 16000, got "
            f"{rate!r}"
        )
    return number  # pyright: ignore[reportReturnType]


def channels_last(samples: np.ndarray, label: str) -> np.ndarray:
    """Return a waveform of any shape and type that `load_audio` documents as (samples, channels), float32."""
    samples = _as_float(samples, label)
    if samples.ndim not in (1, 2) or (samples.size and samples.ndim == 2 and min(samples.shape) > MAX_CHANNELS):
        raise AudioError(f"{label} of shape {samples.shape} is no waveform: pass (samples,) or (channels, samples)")
    if samples.ndim == 1 or samples.size == 0:
        return samples.reshape(-1, 1)
    return samples if samples.shape[1] < samples.shape[0] else samples.T


def pick_channel(channels: np.ndarray, channel: Any, label: str) -> np.ndarray:
    """Return channel number `channel`, counted from 0, of a waveform (samples, channels), as (samples, 1)."""
    if not isinstance(channel, numbers.Integral) or isinstance(channel, bool) or int(channel) < 0:
        raise AudioError(f"{label}: channel must be a whole number, counted from 0, got {channel!r}")
    index, count = int(channel), channels.shape[1]
    if index >= count:
        raise AudioError(
            f"{label} has {count} channel{'s' * (count > 1)}: channel={index} is not there (they are counted from 0)"
        )
    return channels[:, index : index + 1]


def check_samples(samples: np.ndarray, label: str) -> None:
    """Raise where float samples are none, no numbers, or not those of a waveform within about [-1, 1]."""
    if samples.size == 0:
        raise AudioError(f"{label} holds no audio samples: its length is zero")
    peak = np.abs(samples).max()
    if not np.isfinite(peak):
        raise AudioError(f"{label} holds NaN or infinite samples: it was corrupted or overflowed; make the file again")
    if peak > _HIGHEST_FLOAT or (peak >= 2 and np.array_equal(samples, np.rint(samples))):
        raise AudioError(
            f"{label} holds floats up to {peak:g}, where full scale is 1: they look like integers stored as floats; "
            "divide them by 32768 if they were 16-bit samples, or pass them as int16"
        )


def mix_channels(channels: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Return the mean (samples,) of channels (samples, channels), or the strongest and its number where they cancel.

    A microphone with its poles swapped gives the other channel with its sign changed: their mean is silence. Unrelated
    channels keep 1 / channels of their power; the mean is taken for cancelled at a tenth of that, 5 % in stereo.
    """
    mean = channels.mean(axis=1, dtype=np.float32)
    count = channels.shape[1]
    if count == 1:
        return mean, None
    powers = [channel.var(dtype=np.float64) for channel in channels.T]
    if mean.var(dtype=np.float64) >= _CANCELLED_SHARE / count * np.mean(powers):
        return mean, None
    strongest = int(np.argmax(powers))
    return np.ascontiguousarray(channels[:, strongest]), strongest


def silence_reason(samples: np.ndarray) -> str | None:
    """Say why samples (samples,), at the rate they were recorded with, hold no sound at all; None where they do."""
    if not samples.any():
        return "silent: every sample is zero"
    if np.abs(samples).max() <= _STEP_16_BIT:  # what dither leaves of digital silence
        return "silent: no sample is more than one 16-bit step from zero"
    if samples.min() == samples.max():
        return "constant: every sample is the same"
    return None


def _as_float(samples: np.ndarray, label: str) -> np.ndarray:
    """Return an array in float32, with integers scaled from their full range to [-1, 1]."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which check_samples reports
            return samples.astype(np.float32)
    if samples.dtype.kind not in "iu":
        raise AudioError(
            f"{label} has the type {samples.dtype}: a waveform holds floats, or integers of 8, 16 or 32 bits"
        )
    if samples.dtype.itemsize == 8:
        # The type numpy gives to plain Python integers: it does not tell the bit depth they were recorded with.
        if samples.size and np.abs(samples).max() > 1:
            raise AudioError(
                f"{label} holds 64-bit integers, whose full scale is unknown: convert it to int16 or float32"
            )
        return samples.astype(np.float32)
    if samples.dtype.kind == "i" and samples.dtype.itemsize == 4:
        # Of 16 to 24 bits as they are, which would be read 48 dB or more too low, the lowest bits are not all zero, as
        # they are where 16, 20 or 24 bits were moved up; without their sign, they reach 2**24. A peak up to 256 is near
        # silence in either.
        peak = np.abs(samples.astype(np.int64)).max() if samples.size else 0
        full = 2**24 if samples.size and samples.min() >= 0 else 2**23
        if 256 < peak <= full and (samples % 256).any():
            raise AudioError(
                f"{label} holds 32-bit integers up to {peak}, where full scale is 2147483648: they look like 16- to "
                "24-bit samples as they are; pass 16 bits as int16, 24 bits with their sign as samples / 2**23"
            )
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = half if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - centre) / half).astype(np.float32)
