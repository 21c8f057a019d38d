"""Audio files: opening a path, an address or bytes, and decoding what is in them; `audio_m4ser.py` is the way in.

soundfile decodes WAV, FLAC, OGG, MP3 and AIFF, and PyAV what soundfile cannot (mp4, m4a …). Both carry their own
codecs: no FFmpeg installation is needed.
"""

import contextlib
import http.client
import io
import os
import re
import struct
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from transformers.utils import logging

if TYPE_CHECKING:
    av: Any
    soundfile: Any

try:
    import soundfile
except (ImportError, OSError):  # OSError: the package is there, its libsndfile is not
    soundfile = None

try:
    import av
except ImportError:
    av = None

logger: Any = logging.get_logger(__name__)

URL_TIMEOUT = 30.0  # seconds
_BLOCK_FRAMES = 1 << 20  # decoded at a time
_UNKNOWN_BYTES = 0x7FFF0000  # programs that stream a WAV into a pipe leave sizes from here on in its header
_UNKNOWN_FRAMES = 0x7FFFFFFFFFFFFFFF  # what libsndfile says of a streamed FLAC, and then cannot read
_CONTAINERS_STATING_LENGTH = ("mov,mp4", "matroska")  # FFmpeg may guess that of others from the bit rate
_START_BYTES = 1024
_GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_WEB_PAGES = {
    "HTML": re.compile(rb"<(!doctype html|!--|html|head|body|title|script)\b|<!--"),
    "XML": re.compile(rb"<\?xml\b"),
    "JSON": re.compile(rb'\{\s*("|\})|\[\s*\{\s*"'),
}


class AudioError(ValueError):
    """The audio cannot be used; the message names the file or argument and the way out."""


@contextlib.contextmanager
def open_audio(audio: Any, label: str) -> Iterator[BinaryIO]:
    """Open the file that `audio` is, names, or points to, as a seekable binary stream.

    Args:
        audio: a path, a `file://`, `http://` or `https://` address, bytes, an open binary file, or a dictionary with
            "path" or "bytes". `~` in a path is the user's home folder.
        label (`str`): what error messages call it.

    Yields:
        The file from its start. The header of a WAV whose recorder died before it could state the length is completed.

    Raises:
        AudioError: nothing to open, an empty or cut file, a Git LFS pointer, a saved web page.
    """
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
    elif isinstance(source, str) and source.lower().startswith("file:"):
        source = _path_of_address(source)
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
        _check_start(handle.read(_START_BYTES), label)
        handle.seek(0)
        length = _check_not_cut(handle, label)
        yield handle if length is None else _with_length(handle, *length)


def _check_start(start: bytes, label: str) -> None:
    """Raise where a file is one of those that are often saved in an audio file's place."""
    if start.startswith(_GIT_LFS_POINTER):
        raise AudioError(
            f"{label} is a Git LFS pointer, not the recording itself: run `git lfs pull` in its repository"
        )
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kind = next((kind for kind, pattern in _WEB_PAGES.items() if pattern.match(text)), None)
    if kind is not None:
        raise AudioError(
            f"{label} is a web page ({kind}), not audio: the server answered with an error or a login form; check the "
            "address and download it again"
        )


def _path_of_address(address: str) -> str:
    """Return the path that a `file://` address names."""
    parts = urllib.parse.urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise AudioError(
            f"{address} names a file of another machine ({parts.netloc}): copy it here, or write file:///…"
        )
    return urllib.request.url2pathname(parts.path)


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
    """Decode what `open_audio` opened.

    Args:
        handle: the file.
        label (`str`): what error messages call it.

    Returns:
        `tuple[np.ndarray, float]`: samples (frames, channels), float32, and their rate in hertz.

    Raises:
        AudioError: not audio, truncated, or without an audio stream.
        ImportError: the package that would read it is not installed.
    """
    decoded = _decode_soundfile(handle, label)
    return decoded if decoded is not None else _decode_av(handle, label)


def _check_not_cut(handle: BinaryIO, label: str) -> tuple[int, int] | None:
    """Raise where a WAV or AIFF file ends before its samples do.

    libsndfile and FFmpeg silently take the end of the file for the end of the recording. Most other formats show a cut
    when they are decoded.

    Returns:
        `tuple[int, int] | None`: of a WAV that says it holds no samples while samples follow, the place of the size of
        its "data" chunk, and what it should be.
    """
    kind, _, form = struct.unpack("4s4s4s", handle.read(12).ljust(12, b"\0"))
    is_wav = kind in (b"RIFF", b"RF64") and form == b"WAVE"
    place, long_size, unstated = 12, None, None
    end = handle.seek(0, io.SEEK_END) if is_wav or kind == b"FORM" else 0
    while place + 8 <= end:
        chunk, size = _chunk_header(handle, place, ">I" if kind == b"FORM" else "<I")
        if chunk == b"ds64":  # RF64 states sizes over 4 GB apart from the chunk itself
            long_size = struct.unpack("<8xQ", handle.read(16).ljust(16, b"\0"))[0]
        elif chunk in (b"data", b"SSND"):
            size = long_size if long_size is not None and size == 0xFFFFFFFF else size
            there = end - place - 8
            if there < size and (size < _UNKNOWN_BYTES or long_size is not None):
                raise AudioError(f"{label} is truncated: {there} of {size} bytes of samples are there; copy it again")
            if is_wav and size == 0 and not _only_chunks(handle, place + 8, end):
                unstated = place + 4, there
            break
        place += 8 + size + size % 2
    handle.seek(0)
    if unstated is not None:
        logger.warning_once(
            f"{label}: its header says that it holds no samples, but {unstated[1]} bytes follow, as where a recorder "
            "was switched off before it could finish the file; they are read as its samples."
        )
    return unstated


def _chunk_header(handle: BinaryIO, place: int, size_format: str = "<I") -> tuple[bytes, int]:
    """Return the name and size of the chunk that starts at a place."""
    handle.seek(place)
    name, size = struct.unpack("4s4s", handle.read(8))
    return name, struct.unpack(size_format, size)[0]


def _only_chunks(handle: BinaryIO, place: int, end: int) -> bool:
    """Return whether all from a place on is whole chunks with readable names, or nothing: no samples look like that."""
    while place + 8 <= end:
        name, size = _chunk_header(handle, place)
        if not (name.isascii() and name.decode("ascii").isprintable()):
            return False
        place += 8 + size + size % 2
    return place <= end + 1  # the last one may lack its padding


def _with_length(handle: BinaryIO, place: int, size: int) -> BinaryIO:
    """Return a copy of a WAV file with the size of its "data" chunk put in."""
    data = bytearray(handle.read())
    struct.pack_into("<I", data, place, min(size, 0xFFFFFFFF))
    # As plain RIFF: RF64 would state the length in a second place.
    struct.pack_into("<4sI", data, 0, b"RIFF", min(len(data) - 8, 0xFFFFFFFF))
    return io.BytesIO(data)


def _decode_soundfile(handle: BinaryIO, label: str) -> tuple[np.ndarray, float] | None:
    """Return samples (frames, channels) and rate; None where libsndfile does not know the format."""
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


def stated_duration(handle: BinaryIO, label: str) -> float | None:
    """Return the length in seconds that the header states; None where it states none.

    Args:
        handle: the file, as `open_audio` opened it.
        label (`str`): what error messages call it.

    Raises:
        AudioError: as in `decode_file`.
        ImportError: as in `decode_file`.
    """
    file = _open_soundfile(handle)
    if file is not None:
        with file:
            return file.frames / file.samplerate
    with _open_av(handle, label) as (_, stated):
        return stated


__all__ = ["AudioError", "decode_file", "open_audio", "stated_duration"]
