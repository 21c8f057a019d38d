"""Opening audio files: a path, an address, bytes or an open file, and what of these is no recording."""

import contextlib
import http.client
import io
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from .levels_m4ser import AudioError
from .signatures_m4ser import what_else

URL_TIMEOUT = 30.0  # seconds
START_BYTES = 4096  # more than the headers that are text themselves have


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
        address, source = source, local_path(source)
        if source == address:
            raise AudioError(f"{address} names a file of another machine: copy it here, or write file:///…")
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
        start = handle.read(START_BYTES)
        if what := what_else(start):
            raise AudioError(f"{label} is {what}")
        if not any(start) and not any(handle.read()):
            raise AudioError(
                f"{label} holds zero bytes alone, as a copy leaves that broke off: copy or download it again"
            )
        handle.seek(0)
        yield handle


def local_path(address: str) -> str:
    """Return the path in a `file:` address; one of another machine as it is."""
    parts = urllib.parse.urlsplit(address)
    return urllib.request.url2pathname(parts.path) if parts.netloc in ("", "localhost") else address


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


def _open_path(path: str | os.PathLike, label: str) -> BinaryIO:
    """Open a file."""
    path = os.path.expanduser(path)
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # reading may never end
        raise AudioError(f"{label} is a pipe or a device: pass an open file or its bytes")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        way_out = f"check the path (working folder: {os.getcwd()})"
        if os.path.islink(path):
            way_out = f"it is a link to {os.readlink(path)}: fetch that, as with `git annex get` or `datalad get`"
        elif os.path.exists(f"{path}.dvc"):
            way_out = "its pointer .dvc is there: fetch it with `dvc pull`"
        raise AudioError(f"{label}: no such audio file; {way_out}") from None
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
