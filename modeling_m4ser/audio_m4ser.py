"""Audio of any kind, from anywhere, as the float32 mono waveform a speech encoder reads.

soundfile decodes WAV, FLAC, OGG, MP3 and AIFF, and PyAV what soundfile cannot (mp4, m4a …). Both carry their own
codecs: no FFmpeg installation is needed. This file travels to the Hub with the model, and a program that only feeds
arrays needs none of these packages: their imports may fail.

An input that cannot be used raises `AudioError`; the message names the file or argument and says what to do. Silence
and very short clips are valid audio.
"""

import contextlib
import http.client
import io
import math
import numbers
import os
import struct
import urllib.request
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    av: Any
    soundfile: Any
    soxr: Any

try:
    import soundfile
except (ImportError, OSError):  # OSError: the package is there, its libsndfile is not
    soundfile = None

try:
    import soxr
except ImportError:
    soxr = None

try:
    import av
except ImportError:
    av = None

URL_TIMEOUT = 30.0  # seconds
MAX_CHANNELS = 32  # an array with more is a batch or a spectrogram
_BLOCK_FRAMES = 1 << 20  # decoded at a time
_UNKNOWN_BYTES = 0x7FFF0000  # programs that stream a WAV into a pipe leave sizes from here on in its header
_UNKNOWN_FRAMES = 0x7FFFFFFFFFFFFFFF  # what libsndfile says of a streamed FLAC, and then cannot read
_CONTAINERS_STATING_LENGTH = ("mov,mp4", "matroska")  # FFmpeg may guess that of others from the bit rate


class AudioError(ValueError):
    """The audio cannot be used; the message names the file or argument and the way out."""


def load_audio(
    audio: Any, sampling_rate: int = 16000, source_rate: float | None = None, name: str | None = None
) -> np.ndarray:
    """Load audio as a mono waveform at a given rate.

    Args:
        audio: a path; an http(s) URL; the bytes of a file or an open binary file; a waveform (numpy array, torch tensor
            or list), (samples,), (channels, samples) or (samples, channels), where the shorter axis counts the channels
            and integers are scaled to [-1, 1]; or a dictionary as `datasets` and `transformers` pass it: {"path",
            "bytes"}, {"array", "sampling_rate"} or {"raw", "sampling_rate"}.
        sampling_rate (`int`, defaults to 16000): the rate wanted, in hertz.
        source_rate (`float`, *optional*): the rate of a bare waveform. Files and dictionaries state their own.
        name (`str`, *optional*): what error messages call audio that has no path.

    Returns:
        `np.ndarray` of shape `(samples,)`, float32.

    Raises:
        AudioError: a missing, empty, truncated or non-audio file, no audio stream, no samples, NaN or infinite samples,
            a waveform without a rate, a rate that is not positive, an unknown kind of input.
        ImportError: the package that would read this input is not installed.
    """
    wanted = _positive_rate(sampling_rate, "sampling_rate", name or "the audio")
    samples, rate = decode_audio(audio, source_rate=source_rate, name=name)
    if rate == wanted:
        return samples
    if soxr is None:
        raise ImportError(f"resampling from {rate:g} to {wanted:g} Hz needs soxr: pip install soxr")
    resampled = soxr.resample(samples, rate, wanted)
    if resampled.size == 0:
        raise AudioError(f"{_label(audio, name)}: {samples.size} samples at {rate:g} Hz are too few to resample")
    return resampled


def decode_audio(audio: Any, source_rate: float | None = None, name: str | None = None) -> tuple[np.ndarray, float]:
    """Load audio as a mono waveform at its own rate, which `load_audio` then resamples.

    Args:
        audio: as in `load_audio`.
        source_rate (`float`, *optional*): as in `load_audio`.
        name (`str`, *optional*): as in `load_audio`.

    Returns:
        `tuple[np.ndarray, float]`: the waveform `(samples,)`, float32, and its rate in hertz.

    Raises:
        AudioError: as in `load_audio`.
        ImportError: as in `load_audio`.
    """
    label = _label(audio, name)
    waveform = _as_waveform(audio, source_rate, label)
    if waveform is not None:
        samples, rate = _mono(waveform[0], label), waveform[1]
    else:
        with _open(audio, label) as handle:
            decoded = _decode_soundfile(handle, label)
            channels_last, rate = decoded if decoded is not None else _decode_av(handle, label)
        samples = channels_last.mean(axis=1, dtype=np.float32)
    if samples.size == 0:
        raise AudioError(f"{label} holds no audio samples: its length is zero")
    if not np.isfinite(samples).all():
        raise AudioError(f"{label} holds NaN or infinite samples: it was corrupted or overflowed; make the file again")
    return samples, rate


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


def audio_duration(audio: Any, source_rate: float | None = None, name: str | None = None) -> float:
    """Return the length of audio in seconds, from the file's header where it states one, else by decoding.

    Damage that only decoding reveals is not looked for.

    Args:
        audio: as in `load_audio`.
        source_rate (`float`, *optional*): as in `load_audio`.
        name (`str`, *optional*): as in `load_audio`.

    Raises:
        AudioError: as in `load_audio`.
        ImportError: as in `load_audio`.
    """
    label = _label(audio, name)
    if _as_waveform(audio, source_rate, label) is None:
        with _open(audio, label) as handle:
            stated = _stated_duration(handle, label)
        if stated:
            return stated
    samples, rate = decode_audio(audio, source_rate=source_rate, name=name)
    return samples.size / rate


# Kinds of input


def _label(audio: Any, name: str | None) -> str:
    """Return what error messages call this audio."""
    if name is not None:
        return str(name)
    if isinstance(audio, Mapping):
        return str(audio.get("path") or "the audio dictionary")
    if isinstance(audio, (str, os.PathLike)):
        return os.fspath(audio) or "the audio path (an empty string)"
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return "the audio bytes"
    if hasattr(audio, "read"):
        return str(getattr(audio, "name", "the audio file object"))
    return "the audio array" if hasattr(audio, "__len__") else "the audio argument"


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
        way_out = 'pass source_rate=…, or {"array": …, "sampling_rate": …}'
    if source_rate is None:
        raise AudioError(f"{label}: the sampling rate of the waveform is missing; {way_out}")
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise AudioError(f"{label} is not a waveform: {error}") from error
    return samples, _positive_rate(source_rate, "sampling rate", label)


def _positive_rate(rate: Any, argument: str, label: str) -> float:
    """Return `rate` if it is a positive number of hertz."""
    number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not (number and math.isfinite(rate) and rate > 0):  # pyright: ignore[reportOperatorIssue]
        raise AudioError(f"{label}: {argument} must be a positive number of hertz, got {rate!r}")
    return rate  # pyright: ignore[reportReturnType]


def _mono(samples: np.ndarray, label: str) -> np.ndarray:
    """Return a waveform of any shape and type that `load_audio` documents as one float32 channel (samples,)."""
    samples = _as_float(samples, label)
    if samples.ndim == 2 and samples.size:
        if min(samples.shape) > MAX_CHANNELS:
            raise AudioError(f"{label} of shape {samples.shape} is no waveform: pass (samples,) or (channels, samples)")
        return samples.mean(axis=int(samples.shape[1] < samples.shape[0]), dtype=np.float32)
    if samples.ndim > 2 or samples.ndim == 0:
        raise AudioError(f"{label} of shape {samples.shape} is no waveform: pass (samples,) or (channels, samples)")
    return samples.reshape(-1)


def _as_float(samples: np.ndarray, label: str) -> np.ndarray:
    """Return an array in float32, with integers scaled from their full range to [-1, 1]."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which decode_audio reports
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
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = half if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - centre) / half).astype(np.float32)


@contextlib.contextmanager
def _open(audio: Any, label: str) -> Iterator[BinaryIO]:
    """Open the file that `audio` is, names, or points to, as a seekable binary stream."""
    source: Any
    if isinstance(audio, Mapping):
        source = audio.get("bytes")
        source = audio.get("path") if source is None else source
        if source is None:
            keys = ", ".join(map(repr, audio)) or "none"
            raise AudioError(f'{label} needs a value under "path", "bytes" or "array"; its keys: {keys}')
    else:
        source = audio
    if hasattr(source, "read"):
        source = source.read()
        if not isinstance(source, bytes):
            raise AudioError(f"{label} is a text stream: open the file in binary mode ('rb')")
    elif isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        source = _download(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        handle: BinaryIO = io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)) and os.fspath(source):
        handle = _open_path(source, label)
    else:
        raise AudioError(f"{label} names no file: give a path, a URL or bytes")
    with handle:
        if handle.seek(0, io.SEEK_END) == 0:
            raise AudioError(f"{label} is empty (0 bytes): record, copy or download it again")
        handle.seek(0)
        yield handle


def _open_path(path: str | os.PathLike, label: str) -> BinaryIO:
    """Open a file."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise AudioError(f"{label}: no such audio file; check the path (working folder: {os.getcwd()})") from None
    except IsADirectoryError:
        raise AudioError(f"{label} is a folder, not an audio file: name a file in it") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{label} cannot be opened: {error}") from error


def _download(url: str) -> bytes:
    """Return the bytes behind an http(s) address."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "m4ser"})
        with urllib.request.urlopen(request, timeout=URL_TIMEOUT) as response:
            return response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AudioError(f"{url} cannot be downloaded: {error}; check the address, or download it yourself") from error


# Decoding


def _check_not_cut(handle: BinaryIO, label: str) -> None:
    """Raise where a WAV or AIFF file ends before its samples do.

    libsndfile and FFmpeg silently take the end of the file for the end of the recording. Most other formats show a cut
    when they are decoded.
    """
    kind, _, form = struct.unpack("4s4s4s", handle.read(12).ljust(12, b"\0"))
    if not (kind in (b"RIFF", b"RF64") and form == b"WAVE") and kind != b"FORM":
        handle.seek(0)
        return
    size_format = ">I" if kind == b"FORM" else "<I"
    end = handle.seek(0, io.SEEK_END)
    place, long_size = 12, None
    while place + 8 <= end:
        handle.seek(place)
        chunk, size = struct.unpack("4s4s", handle.read(8))
        size = struct.unpack(size_format, size)[0]
        if chunk == b"ds64":  # RF64 states sizes over 4 GB apart from the chunk itself
            long_size = struct.unpack("<8xQ", handle.read(16).ljust(16, b"\0"))[0]
        elif chunk in (b"data", b"SSND"):
            size = long_size if long_size is not None and size == 0xFFFFFFFF else size
            there = end - place - 8
            if there < size and (size < _UNKNOWN_BYTES or long_size is not None):
                raise AudioError(f"{label} is truncated: {there} of {size} bytes of samples are there; copy it again")
            break
        place += 8 + size + size % 2
    handle.seek(0)


def _decode_soundfile(handle: BinaryIO, label: str) -> tuple[np.ndarray, float] | None:
    """Return samples (frames, channels) and rate; None where libsndfile does not know the format."""
    _check_not_cut(handle, label)
    file = _open_soundfile(handle)
    if file is None:
        return None
    blocks = []
    # In blocks, since a damaged header may promise more frames than memory holds.
    with file:
        try:
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block)
        except soundfile.SoundFileError as error:
            raise AudioError(f"{label} is truncated or corrupted: {error} Copy or export it again") from error
        frames, rate, channels = file.frames, file.samplerate, file.channels
    decoded = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    if len(decoded) < frames:
        raise AudioError(f"{label} is truncated: {len(decoded)} of {frames} frames could be decoded; copy it again")
    return decoded, rate


def _open_soundfile(handle: BinaryIO) -> Any:
    """Open a file with soundfile; None, and the stream at its start again, where soundfile cannot."""
    if soundfile is None:
        return None
    try:
        file = soundfile.SoundFile(handle)
    except (soundfile.SoundFileError, TypeError):  # TypeError: it wants to be told the format of headerless .raw files
        file = None
    if file is not None and file.frames == _UNKNOWN_FRAMES:
        file.close()
        file = None
    if file is None:
        handle.seek(0)
    return file


@contextlib.contextmanager
def _open_av(handle: BinaryIO, label: str) -> Iterator[tuple[Any, float | None]]:
    """Open PyAV's first audio stream, with its length in seconds if stated; FFmpeg's errors become AudioError."""
    if av is None:
        missing = "av" if soundfile is not None else "soundfile and av"
        raise ImportError(f"reading {label} needs {missing}: pip install {missing.replace(' and', '')}")
    try:
        # A playlist (HLS, concat) may name other files and addresses, which FFmpeg would open: allow no protocol.
        with av.open(handle, options={"protocol_whitelist": "none"}) as container:
            if not container.streams.audio:
                raise AudioError(f"{label} has no audio stream (its format: {container.format.long_name})")
            stream = container.streams.audio[0]
            yield stream, _stated_by_container(container, stream)
    except (av.FFmpegError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{label} is not audio, or is truncated: {reason}; copy or export it again") from error


def _stated_by_container(container: Any, stream: Any) -> float | None:
    """Return the length in seconds that the container's header states; None where there is only FFmpeg's guess."""
    if not container.format.name.startswith(_CONTAINERS_STATING_LENGTH):
        return None
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska and WebM state one length for all; with a picture, it may be the picture's.
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def _decode_av(handle: BinaryIO, label: str) -> tuple[np.ndarray, float]:
    """Return samples (frames, channels) and rate, through PyAV."""
    with _open_av(handle, label) as (stream, stated):
        as_float = av.AudioResampler(format="fltp")
        rate = stream.rate
        decoded = [part for frame in stream.container.decode(stream) for part in as_float.resample(frame)]
        samples = [part.to_ndarray().T for part in decoded]
    frames = sum(map(len, samples))
    # Containers round lengths to packets: only a real gap is a cut.
    if frames and stated and stated - frames / rate > max(0.25, 0.02 * stated):
        raise AudioError(
            f"{label} is truncated: {frames / rate:.2f} of {stated:.2f} seconds could be decoded; copy it again"
        )
    return np.concatenate(samples) if samples else np.zeros((0, 1), np.float32), rate


def _stated_duration(handle: BinaryIO, label: str) -> float | None:
    """Return the length in seconds that the header states; None where it states none."""
    _check_not_cut(handle, label)
    file = _open_soundfile(handle)
    if file is not None:
        with file:
            return file.frames / file.samplerate
    with _open_av(handle, label) as (_, stated):
        return stated
