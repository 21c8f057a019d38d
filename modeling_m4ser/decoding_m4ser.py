"""Audio files: opening a path, an address or bytes, and decoding what is in them; `audio_m4ser.py` is the way in.

soundfile decodes WAV, FLAC, OGG and AIFF, and PyAV the rest (MP3, mp4, m4a …). Both carry their own codecs: no FFmpeg
installation is needed. What is decoded tells the length of a recording; what a header says of it is believed where its
format states exact sizes, and then a recording that ends before is truncated.
"""

import codecs
import contextlib
import http.client
import io
import os
import re
import struct
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from transformers.utils import logging

from .levels_m4ser import AudioError, check_rate

try:
    import soundfile
except (ImportError, OSError):  # OSError: the package is there, its libsndfile is not
    soundfile: Any = None

try:
    import av
except ImportError:
    av: Any = None

# One for all: a process may hold this code several times, from saved models, and each would warn again.
logger: Any = logging.get_logger("modeling_m4ser")

URL_TIMEOUT = 30.0  # seconds
_BLOCK_FRAMES = 1 << 20  # decoded at a time
_UNKNOWN_BYTES = 0x7FFF0000  # programs that stream a WAV into a pipe leave sizes from here on in its header
_UNKNOWN_FRAMES = 0x7FFFFFFFFFFFFFFF  # what libsndfile says of a streamed FLAC, and then cannot read
_EXACT_FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC")  # of soundfile: their headers state the samples there are
_CONTAINERS_STATING_LENGTH = ("mov,mp4", "matroska")  # FFmpeg may guess that of others from the bit rate
_START_BYTES = 1024
_OGG_PAGE = re.compile(rb"OggS\0(.)", re.DOTALL)
# The tag in an MP3's first frame: which numbers it has, the frames and the bytes of the file.
_XING_TAG = re.compile(rb"(?:Xing|Info)\0\0\0[\x03\x07\x0b\x0f]....(....)", re.DOTALL)


@contextlib.contextmanager
def open_audio(audio: Any, label: str) -> Iterator[BinaryIO]:
    """Open the file that `audio` is, names, or points to, as a seekable binary stream."""
    source: Any = audio
    if isinstance(audio, Mapping):
        source = next((audio[key] for key in ("bytes", "path") if audio.get(key) is not None), None)
        if source is None:
            keys = ", ".join(map(repr, audio)) or "none"
            raise AudioError(f'{label} needs a value under "path", "bytes" or "array"; its keys: {keys}')
    if hasattr(source, "read"):
        source = _read_stream(source, label)
    elif isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        source = _download(source)
    elif isinstance(source, str) and source.lower().startswith("file:"):
        parts = urllib.parse.urlsplit(source)
        if parts.netloc not in ("", "localhost"):
            raise AudioError(
                f"{source} names a file of another machine ({parts.netloc}): copy it here, or write file:///…"
            )
        source = urllib.request.url2pathname(parts.path)
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
        _refuse_text(handle.read(_START_BYTES), label)
        handle.seek(0)
        yield handle


def _read_stream(stream: Any, label: str) -> bytes | bytearray | memoryview:
    """Return what an open file holds, from its start where it can go back, wherever others left it."""
    if hasattr(getattr(stream, "file", None), "read"):  # an upload, whose own `read` may be asynchronous
        stream = stream.file
    if getattr(stream, "closed", False):
        raise AudioError(f"{label} is a closed file: open it again, or pass its path or bytes")
    with contextlib.suppress(AttributeError, OSError):
        stream.seek(0)
    content = stream.read()
    if isinstance(content, str):
        raise AudioError(f"{label} is a text stream: open the file in binary mode ('rb')")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise AudioError(f"{label} gives {type(content).__name__}, not bytes: read it yourself, and pass its bytes")
    return content


def _refuse_text(start: bytes, label: str) -> None:
    """Raise where a file begins as text: what is saved in an audio file's place often does."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)  # its last character may be cut
    except UnicodeDecodeError:
        return
    if all(character.isprintable() or character.isspace() for character in text):
        raise AudioError(
            f"{label} is text, not audio; it begins with {text.strip()[:40]!r}. A web page, a playlist or the pointer "
            "of Git LFS, git-annex or DVC lies in its place: download or pull the recording itself"
        )


def _open_path(path: str | os.PathLike, label: str) -> BinaryIO:
    """Open a file."""
    try:
        return open(os.path.expanduser(path), "rb")
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


def decode_file(handle: BinaryIO, label: str) -> tuple[np.ndarray, float]:
    """Decode what `open_audio` opened: samples (frames, channels), float32, and their rate in hertz.

    Files that were joined give one recording. What cannot be decoded to its end raises `AudioError`.
    """
    decoded = [_decode_one(part, label) for part in _parts(handle)]
    check_rate(decoded[0][1], "its sampling rate", label)
    if len({(samples.shape[1], rate) for samples, rate in decoded}) > 1:
        raise AudioError(f"{label} is joined of recordings with different rates or channels: split it")
    return np.concatenate([samples for samples, _ in decoded]), decoded[0][1]


def _parts(handle: BinaryIO) -> list[BinaryIO]:
    """The files that a WAV or OGG file is joined of; mostly that file alone."""
    start = handle.read(12)
    places = [0]
    if start.startswith(b"OggS"):
        handle.seek(0)
        content, went_on = handle.read(), False
        for page in _OGG_PAGE.finditer(content):
            begins = bool(page[1][0] & 2)
            if begins and went_on:
                places.append(page.start())
            went_on = not begins
    elif start.startswith(b"RIFF"):
        places += [place - 8 for name, place, _ in _chunks(handle) if name == b"RIFF" and place > 8]
    handle.seek(0)
    if len(places) == 1:
        return [handle]
    content = handle.read()
    return [io.BytesIO(content[a:b]) for a, b in zip(places, [*places[1:], len(content)], strict=True)]


def _decode_one(handle: BinaryIO, label: str) -> tuple[np.ndarray, float]:
    """Return samples (frames, channels) and rate of one file."""
    if place := _check_sizes(handle, label):
        content = bytearray(handle.read())
        # As of a WAV that is streamed: decoders read such a one to its end.
        content[:8], content[place - 4 : place] = b"RIFF\xff\xff\xff\xff", b"\xff" * 4
        handle = io.BytesIO(content)
        logger.warning_once(
            f"{label}: its header says that it holds no samples, but {len(content) - place} bytes follow, as where a "
            "recorder was switched off before it could finish the file; they are read as its samples."
        )
    return _decode_soundfile(handle, label) or _decode_av(handle, label)


def _check_sizes(handle: BinaryIO, label: str) -> int:
    """Raise where a WAV, AIFF or MP3 file is shorter than it says it is: decoders would take its end for the end.

    Returns where the samples of a WAV begin that says it holds none; 0 of others.
    """
    start = handle.read(12)
    end = handle.seek(0, io.SEEK_END)
    stated = there = left_open = 0
    if start[:4] in (b"RIFF", b"RF64", b"FORM"):
        long_size = None
        for name, place, size in _chunks(handle):
            if name == b"ds64":  # RF64 states sizes over 4 GB apart from the chunk itself
                long_size = struct.unpack("<8xQ", handle.read(16).ljust(16, b"\0"))[0]
            elif name in (b"data", b"SSND"):
                is_open = size >= _UNKNOWN_BYTES and long_size is None
                size = long_size if size == 0xFFFFFFFF and long_size is not None else size
                # Some programs count the header among the samples.
                stated, there = 0 if is_open or size in (end, end - 8) else size, end - place
                left_open = place if name == b"data" and not size and not _only_chunks(handle, place) else 0
                break
    else:
        # An ID3 tag states its size in four times seven bits.
        tag = 10 + sum(byte << 7 * (3 - n) for n, byte in enumerate(start[6:10])) if start[:3] == b"ID3" else 0
        handle.seek(tag)
        if found := _XING_TAG.search(handle.read(64)):
            stated, there = struct.unpack(">I", found[1])[0], end - tag
    handle.seek(0)
    if there < stated:
        raise AudioError(f"{label} is truncated: {there} of {stated} bytes of samples are there; copy it again")
    return left_open


def _chunks(handle: BinaryIO, place: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and size of the chunks of a RIFF or AIFF file; its own header is the first, of size 4."""
    end = handle.seek(0, io.SEEK_END)
    big = False
    while place + 8 <= end:
        handle.seek(place)
        name, size = struct.unpack("4s4s", handle.read(8))
        big = big or name == b"FORM"
        (size,) = struct.unpack(">I" if big else "<I", size)
        if name in (b"RIFF", b"RF64", b"FORM"):
            size = 4  # the kind of file; chunks follow
        yield name, place + 8, size
        place += 8 + size + size % 2


def _only_chunks(handle: BinaryIO, place: int) -> bool:
    """Return whether all from a place on is whole chunks with readable names, or nothing: no samples look like that."""
    end = handle.seek(0, io.SEEK_END)
    for name, start, size in _chunks(handle, place):
        if not (name.isascii() and name.decode("ascii").isprintable()):
            return False
        place = start + size
    return place <= end + 1  # the last one may lack its padding


def _decode_soundfile(handle: BinaryIO, label: str) -> tuple[np.ndarray, float] | None:
    """Return samples (frames, channels) and rate; None where libsndfile does not know the format."""
    file = _open_soundfile(handle)
    if file is None:
        return None
    if file.format == "MP3" and av is not None:
        file.close()
        handle.seek(0)
        return _decode_av(handle, label, "mp3")  # libsndfile reads only as many frames of it as it guesses
    blocks = []
    # In blocks, since a damaged header may promise more frames than memory holds.
    with file:
        try:
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block)
        except soundfile.SoundFileError as error:
            raise AudioError(f"{label} is truncated or corrupted: {error} Copy or export it again") from error
    decoded = np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32)
    return decoded, file.samplerate


def _open_soundfile(handle: BinaryIO) -> Any:
    """Open a file with soundfile; None, and the stream at its start again, where soundfile cannot."""
    if soundfile is not None:
        # TypeError: it wants to be told the format of headerless .raw files.
        with contextlib.suppress(soundfile.SoundFileError, TypeError):
            file = soundfile.SoundFile(handle)
            if file.frames != _UNKNOWN_FRAMES:
                return file
            file.close()
    handle.seek(0)
    return None


def _decode_av(handle: BinaryIO, label: str, form: str | None = None) -> tuple[np.ndarray, float]:
    """Return samples (frames, channels) and rate of the first audio stream, through PyAV; `form` is known, or found."""
    if av is None:
        missing = "av" if soundfile is not None else "soundfile and av"
        raise ImportError(f"reading {label} needs {missing}: pip install {missing.replace(' and', '')}")
    try:
        # A playlist (HLS, concat) may name other files and addresses, which FFmpeg would open: allow no protocol.
        with av.open(handle, format=form, options={"protocol_whitelist": "none"}) as container:
            if not container.streams.audio:
                raise AudioError(f"{label} has no audio stream (its format: {container.format.long_name})")
            stream = container.streams.audio[0]
            rate, stated = stream.rate, _stated_by_container(container, stream)
            as_float = av.AudioResampler(format="fltp")
            decoded = _frames(container, stream, lenient=form == "mp3")
            samples = [part.to_ndarray().T for frame in decoded for part in as_float.resample(frame)]
    except AudioError:
        raise
    except (av.FFmpegError, EOFError, ValueError) as error:  # ValueError: the stream changes on its way
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{label} is not audio, or is truncated: {reason}; copy or export it again") from error
    frames = sum(map(len, samples))
    # Containers round lengths to packets: only a real gap is a cut.
    if frames and stated and stated - frames / rate > max(0.25, 0.02 * stated):
        raise AudioError(
            f"{label} is truncated: {frames / rate:.2f} of {stated:.2f} seconds could be decoded; copy it again"
        )
    return np.concatenate(samples) if samples else np.zeros((0, 1), np.float32), rate


def _frames(container: Any, stream: Any, lenient: bool) -> Iterator[Any]:
    """Yield the frames of a stream; lenient: leave out those that are damaged."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            if not lenient:
                raise


def _stated_by_container(container: Any, stream: Any) -> float | None:
    """Return the length in seconds that the container's header states; None where there is only FFmpeg's guess."""
    if not container.format.name.startswith(_CONTAINERS_STATING_LENGTH):
        return None
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska and WebM state one length for all; with a picture, it may be the picture's.
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def stated_duration(handle: BinaryIO, label: str) -> float | None:
    """Return the length in seconds of a file whose header states it exactly; None of others."""
    file = None if _check_sizes(handle, label) else _open_soundfile(handle)
    if file is None:
        return None
    with file:
        rate = check_rate(file.samplerate, "its sampling rate", label)
        return file.frames / rate if file.format in _EXACT_FORMATS else None
