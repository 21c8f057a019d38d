"""Audio of any kind, from anywhere, as the float32 mono waveform a speech encoder reads.

Files are opened in `opening_m4ser.py` and decoded in `decoding_m4ser.py`; `levels_m4ser.py` scales the samples and
joins the channels. A program that only feeds arrays needs none of the packages that decode or resample: their imports
may fail.
"""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .decoding_m4ser import BLOCK_FRAMES, Tell, decode_file, logger, stated_duration, stream_file, warn
from .levels_m4ser import (
    AudioError,
    channels_last,
    check_rate,
    check_samples,
    mix_channels,
    one_line,
    pick_channel,
    silence_reason,
)
from .opening_m4ser import open_audio
from .parts_m4ser import Part

try:
    import soxr
except ImportError:
    soxr: Any = None


def load_audio(
    audio: Any,
    sampling_rate: float = 16000,
    source_rate: float | None = None,
    name: str | None = None,
    channel: int | None = None,
    part: Part | None = None,
) -> np.ndarray:
    """Load audio as a mono waveform at a given rate.

    Args:
        audio: a path; an http(s) URL; the bytes of a file or an open binary file; a waveform (numpy array, torch tensor
            or list), (samples,), (channels, samples) or (samples, channels), where the shorter axis counts the channels
            and integers are scaled to [-1, 1]; or a dictionary as `datasets` and `transformers` pass it: {"path",
            "bytes"}, {"array", "sampling_rate"} or {"raw", "sampling_rate"}.
        sampling_rate (`float`, defaults to 16000): the rate wanted, in hertz.
        source_rate (`float`, *optional*): the rate of a bare waveform. Files and dictionaries state their own.
        name (`str`, *optional*): what error messages call audio that has no path.
        channel (`int`, *optional*): which channel to take, counted from 0; by default the mean of all, or the strongest
            where they cancel each other, with a warning.
        part (`Part`, *optional*): which part of the recording to take; by default all of it.

    Returns:
        `np.ndarray` of shape `(samples,)`, float32. Of a recording without any sound, a warning says so.

    Raises:
        AudioError: a missing, empty, truncated or non-audio file, no audio stream, no samples, NaN or infinite samples,
            integers stored as floats or in a wider type as they are, a waveform without a rate, a rate outside 4 kHz
            to 768 kHz, a channel or part that is not there, an unknown kind of input.
        ImportError: the package that would read this input is not installed.
    """
    label = _label(audio, name)
    wanted = check_rate(sampling_rate, "sampling_rate", name or "the audio")
    samples, rate = decode_audio(audio, source_rate=source_rate, name=name, channel=channel, part=part)
    has_sound(samples, label)
    return resample(samples, rate, wanted, label)


def has_sound(samples: np.ndarray, label: str) -> bool:
    """Return whether samples (samples,) hold any sound, as they were recorded: resampling adds ripples to a constant.

    A warning names those that hold none.
    """
    if reason := silence_reason(samples):
        logger.warning_once(
            f"{label} holds no sound ({reason}): what is recognised in it means nothing; check the recording."
        )
    return reason is None


def resample(samples: np.ndarray, rate: float, wanted: float, label: str) -> np.ndarray:
    """Return samples (samples,) of `rate` at `wanted` hertz; `AudioError` where they are too few."""
    if rate == wanted:
        return samples
    if soxr is None:
        raise ImportError(f"resampling from {rate:g} to {wanted:g} Hz needs soxr: pip install soxr")
    resampled = soxr.resample(samples, rate, wanted)
    if resampled.size == 0:
        raise AudioError(f"{label}: {samples.size} samples at {rate:g} Hz are too few to resample")
    return resampled


def decode_audio(
    audio: Any,
    source_rate: float | None = None,
    name: str | None = None,
    channel: int | None = None,
    part: Part | None = None,
    tell: Tell | None = None,
    max_seconds: float = math.inf,
) -> tuple[np.ndarray, float]:
    """Load audio as `load_audio` does, but return it at its own rate: the waveform `(samples,)` and its hertz.

    What is repaired or left out of it goes to `tell`, by default to the log. A file that lasts longer than
    `max_seconds` raises `TooLongError`, and no more of it is decoded.
    """
    label = _label(audio, name)
    tell = tell or warn(label)
    waveform = _as_waveform(audio, source_rate, label)
    if waveform is not None:
        channels, rate = channels_last(waveform[0], label), waveform[1]
        channels = channels if part is None else channels[part.frames(len(channels), rate, label)]
    else:
        with open_audio(audio, label) as handle:
            channels, rate = decode_file(handle, label, tell, max_seconds, part)
    if channel is not None:
        channels = pick_channel(channels, channel, label)
    check_samples(channels, label)
    samples, taken = mix_channels(channels)
    if taken is not None:
        tell(
            f"its {channels.shape[1]} channels cancel each other, as where a microphone's poles are swapped; "
            f"channel {taken}, the strongest, is read alone. Choose one with channel=…."
        )
    return samples, rate


def stream_audio(
    audio: Any, name: str | None = None, max_seconds: float = math.inf
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield audio of any length, as `load_audio` takes it, in blocks (samples, channels), float32, and their hertz.

    WAV, FLAC, OGG and AIFF are never in memory as a whole; a file that was cut may raise `AudioError` only at its end,
    and one that lasts longer than `max_seconds` raises `TooLongError` there.
    """
    label = _label(audio, name)
    waveform = _as_waveform(audio, None, label)
    if waveform is not None:
        check_samples(samples := channels_last(waveform[0], label), label)
        yield from (
            (samples[place : place + BLOCK_FRAMES], waveform[1]) for place in range(0, len(samples), BLOCK_FRAMES)
        )
        return
    with open_audio(audio, label) as handle:
        frames = 0
        for block, rate in stream_file(handle, label, warn(label), max_seconds):
            check_samples(block, label)
            frames += len(block)
            yield block, rate
        if not frames:
            raise AudioError(f"{label} holds no audio samples: its length is zero")


def audio_name(audio: Any) -> str | None:
    """Return the path or address of audio as `load_audio` takes it, in one line; None where it has none."""
    if isinstance(audio, Mapping):
        audio = audio.get("path")
    elif hasattr(audio, "read"):
        audio = getattr(audio, "name", getattr(audio, "filename", None))
    return one_line(audio) or None if isinstance(audio, (str, os.PathLike)) else None


def trim_silence(
    waveform: np.ndarray, sampling_rate: int, threshold_db: float, margin_seconds: float = 0.1
) -> np.ndarray:
    """Cut the silence before and after the speech; pauses inside stay.

    Silence is what lies more than `threshold_db` under the loudest 10 ms.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): mono audio.
        sampling_rate (`int`): its rate in hertz.
        threshold_db (`float`): a positive number of decibels.
        margin_seconds (`float`, defaults to 0.1): silence to keep at either end.

    Returns:
        `np.ndarray` of shape `(samples,)`: a view of `waveform`. Digital silence and clips under 10 ms stay whole.
    """
    window = sampling_rate // 100
    windows = len(waveform) // window
    power = np.square(waveform[: windows * window], dtype=np.float64).reshape(windows, window).mean(axis=1)
    if not power.any():
        return waveform
    (loud,) = np.nonzero(power >= power.max() * 10 ** (-threshold_db / 10))
    margin = int(margin_seconds * sampling_rate)
    return waveform[max(0, loud[0] * window - margin) : (loud[-1] + 1) * window + margin]


def normalize_rms(waveform: np.ndarray, target_dbfs: float) -> np.ndarray:
    """Scale a waveform to a level.

    The loudness of a recording depends on the distance of the microphone as much as on the speaker.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): mono audio.
        target_dbfs (`float`): the root mean square wanted, in decibels relative to full scale, i.e. negative.

    Returns:
        `np.ndarray` of shape `(samples,)`. Digital silence stays as it is.
    """
    power = np.square(waveform, dtype=np.float64).mean() if waveform.size else 0.0
    if power == 0:
        return waveform
    return (waveform * np.sqrt(10 ** (target_dbfs / 10) / power)).astype(waveform.dtype)


def audio_duration(
    audio: Any, source_rate: float | None = None, name: str | None = None, part: Part | None = None
) -> float:
    """Return the length of audio, or of a part of it, in seconds.

    That of a WAV, AIFF or FLAC comes from its header, of a part with a start and an end in seconds from these, of
    others by decoding.
    """
    if part is not None and part.end is not None and not part.in_samples:
        return part.end - part.start
    label = _label(audio, name)
    if part is None and _as_waveform(audio, source_rate, label) is None:
        with open_audio(audio, label) as handle:
            if stated := stated_duration(handle, label):
                return stated
    samples, rate = decode_audio(audio, source_rate=source_rate, name=name, part=part)
    return samples.size / rate


# Kinds of input


def _label(audio: Any, name: str | None) -> str:
    """Return what error messages call this audio."""
    if name is not None:
        return one_line(name)
    given = audio_name(audio)
    if given is not None:
        return given
    kinds = {
        "dictionary": isinstance(audio, Mapping),
        "path (an empty string)": isinstance(audio, str),
        "bytes": isinstance(audio, (bytes, bytearray, memoryview)),
        "file object": hasattr(audio, "read"),
        "array": hasattr(audio, "__len__"),
        "argument": True,
    }
    return "the audio " + next(kind for kind, is_it in kinds.items() if is_it)


def _as_waveform(audio: Any, source_rate: float | None, label: str) -> tuple[np.ndarray, float] | None:
    """Return the samples and rate of an input that is a waveform already; None where there is something to decode."""
    samples: Any
    if isinstance(audio, Mapping):
        samples = audio.get("array", audio.get("raw"))
        if samples is None:
            return None
        source_rate = audio.get("sampling_rate", source_rate)
        way_out = 'add its "sampling_rate" to the dictionary'
    elif hasattr(audio, "get_all_samples"):  # what `datasets` yields where torchcodec decodes its audio column
        decoded = audio.get_all_samples()
        samples, source_rate, way_out = decoded.data, decoded.sample_rate, ""
    elif isinstance(audio, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(audio, "read"):
        return None
    elif not (isinstance(audio, (list, tuple)) or hasattr(audio, "__array__")):
        raise AudioError(
            f"{label}: audio is a path, a URL, bytes, a waveform or a dictionary, not {type(audio).__name__}"
        )
    else:
        samples = audio
        way_out = 'write {"array": …, "sampling_rate": …} in its place, or call load_audio with source_rate=…'
    if source_rate is None:
        raise AudioError(f"{label}: the sampling rate of the waveform is missing; {way_out}")
    if hasattr(samples, "cpu"):
        try:
            samples = samples.detach().cpu()
            samples = (samples.float() if samples.is_floating_point() else samples).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantized, without data
            raise AudioError(
                f"{label} is a tensor that numpy cannot read ({samples.dtype}, {samples.layout}, on {samples.device}): "
                "pass its .to_dense() or .dequantize()"
            ) from error
    if np.ma.is_masked(samples):
        raise AudioError(f"{label} holds masked samples, which are none: cut them out, or fill them (.filled(0))")
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise AudioError(f"{label} is not a waveform: {error}") from error
    return samples, check_rate(source_rate, "sampling rate", label)
