"""Listening to each recording once: its length, whether it can be used where it lies, and a 16 kHz mono FLAC if not.

What was found out is remembered in an append-only journal, so that neither a second run nor one after a crash decodes
an unchanged file (same path, size and time of change) again.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import soundfile
from tqdm.auto import tqdm

from data_scripts.schema import SAMPLING_RATE, SPLITS, CorpusError
from modeling_m4ser.audio_m4ser import AudioError, decode_audio, load_audio

try:
    import fcntl
except ImportError:  # Windows: two simultaneous runs are then not noticed
    fcntl = None

JOURNAL_NAME = ".prepare.jsonl"  # hidden, so that load_dataset(folder) passes it over
AUDIO_FOLDER = "audio"
_VERSION = 1  # of what an entry means: entries of another version are not used
_NAME = "the recording"  # what error messages say: with its path, no two of them could be counted together


@dataclass(frozen=True)
class RecordingInfo:
    """What one recording turned out to be.

    Attributes:
        duration: seconds.
        direct: it is 16 kHz mono WAV or FLAC, to be used where it lies.
        flac: the name of its 16 kHz mono FLAC, if one was made; then
        size: of the FLAC, in bytes, and
        digest: of its content.
        data: the FLAC, or the recording itself where `direct`, of a row that brought bytes; never in the journal.
    """

    duration: float
    direct: bool
    flac: str | None = None
    size: int | None = None
    digest: str | None = None
    data: bytes | None = None


def encode_flac(samples: np.ndarray) -> bytes:
    """Return a 16 kHz mono waveform (samples,) in [-1, 1] as 16-bit FLAC; what was 16-bit stays exactly what it was."""
    # Scaled here: libsndfile writes 1.0 as 32767 but reads 32768 as 1.0, which would shift loud samples by one step.
    scaled = np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, scaled, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def is_direct(source: str | bytes) -> bool:
    """Whether a file, or its bytes, is 16 kHz mono WAV or FLAC, which everything reads without conversion."""
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            return (file.samplerate, file.channels) == (SAMPLING_RATE, 1) and file.format in ("WAV", "WAVEX", "FLAC")
    except (soundfile.SoundFileError, TypeError):
        return False


def flac_name(identity: str) -> str:
    """Return a file name for an utterance's FLAC, different for different ids."""
    plain = re.sub(r"[^\w.-]", "_", identity)[:100].lstrip(".")
    return f"{plain}.flac" if plain == identity else f"{plain}-{_digest(identity.encode())}.flac"


def inspect_recording(
    row: dict[str, Any], folder: Path | None = None, always: bool = False
) -> RecordingInfo | AudioError:
    """Decode a row's recording once, all of it.

    Args:
        row: with `id`, and `path` or `bytes`.
        folder: gets a FLAC, whole or not at all, where the recording is not direct; None: no FLAC is made.
        always: make a FLAC of a direct recording too.

    Returns:
        What it is, or the error of a recording that cannot be used.

    Raises:
        CorpusError: this user may not read the file. That is no fault of the recording, so it is not left out for it.
        OSError: the FLAC cannot be written.
    """
    data, path = row.get("bytes"), row.get("path")
    try:
        samples, rate = decode_audio({"path": path, "bytes": data}, name=_NAME)
    except AudioError as error:
        if isinstance(error.__cause__, PermissionError):
            raise CorpusError(f"no permission to read {path}: make the corpus readable for your user (chmod)") from None
        return error
    duration, direct = samples.size / rate, is_direct(path if data is None else data)
    if folder is None or (direct and not always):
        return RecordingInfo(duration, direct, data=data)
    try:
        flac = encode_flac(load_audio({"array": samples, "sampling_rate": rate}, SAMPLING_RATE, name=_NAME))
    except AudioError as error:
        return error
    if data is not None:
        return RecordingInfo(duration, direct, data=flac)
    name = flac_name(row["id"])
    write_atomically(folder / name, flac)
    return RecordingInfo(duration, direct, flac=name, size=len(flac), digest=_digest(flac))


def inspect_recordings(
    rows: Sequence[dict[str, Any]], hear: Callable[[dict], RecordingInfo | AudioError], num_workers: int
) -> Iterator[RecordingInfo | AudioError]:
    """Yield `hear` of every row, in order, with a progress bar; the first exception stops it."""
    # Threads: the decoders release the interpreter while they work, and nothing has to be copied between processes.
    pool = ThreadPoolExecutor(num_workers)
    try:
        yield from tqdm(pool.map(hear, rows), total=len(rows), desc="reading audio", unit="file", disable=not rows)
    finally:
        pool.shutdown(cancel_futures=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all, its folder being made if absent."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class RecordingStore:
    """The recordings of one prepared folder: what is known of each, and the FLAC files made of them.

    The FLACs lie in `folder/audio`, or, once embedded, in the split files, from where they are taken again.

    Args:
        folder: the prepared folder, made if absent.
        embed: every recording gets a FLAC, not only those that are not direct.

    Raises:
        CorpusError: another process is preparing this folder.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, embed: bool):
        self.folder, self.embed, self.audio = folder, embed, folder / AUDIO_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / JOURNAL_NAME, "ab+")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CorpusError(f"{folder} is being prepared by another process: wait until it has ended") from None
        for rubbish in [*self.audio.glob(".*.tmp"), *folder.glob(".*.tmp")]:  # of a run that was killed
            rubbish.unlink()
        self._entries, self._owner = self._read()
        self._embedded = EmbeddedAudio(folder)

    def __enter__(self) -> "RecordingStore":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def hear(self, rows: Sequence[dict[str, Any]], num_workers: int) -> list[RecordingInfo | AudioError]:
        """Listen to the rows' recordings, except those already known; the answers are in the rows' order."""
        keys = [_key(row) for row in rows]
        answers: list[RecordingInfo | AudioError | None] = [
            self._known(row, key) for row, key in zip(rows, keys, strict=True)
        ]
        new = [number for number, answer in enumerate(answers) if answer is None]
        results = inspect_recordings(
            [rows[number] for number in new], lambda row: inspect_recording(row, self.audio, self.embed), num_workers
        )
        for number, heard in zip(new, results, strict=True):
            answers[number] = heard
            # Errors are not remembered: their cause (a missing package, the disk) may lie outside the recording.
            if isinstance(heard, RecordingInfo) and keys[number] is not None:
                self._append(keys[number], heard)
        return answers

    def audio_of(self, row: dict[str, Any], heard: RecordingInfo) -> dict[str, Any]:
        """Return the `audio` value of a row: where its recording lies, or its bytes."""
        as_it_was = heard.direct and not self.embed
        if heard.data is not None:
            return {"path": row.get("path") if as_it_was else flac_name(row["id"]), "bytes": heard.data}
        if not self.embed:
            path = row["path"] if as_it_was else str((self.audio / heard.flac).resolve())
            return {"path": path, "bytes": None}
        file = self.audio / heard.flac
        data = file.read_bytes() if file.is_file() else self._embedded.get(row["split"], row["id"])
        if data is None or _digest(data) != heard.digest:
            raise CorpusError(f"{file} has changed since it was made: delete {self.folder} and run again")
        return {"path": heard.flac, "bytes": data}

    def remove_unused(self, answers: Sequence[RecordingInfo | AudioError]) -> None:
        """Remove the FLACs that this store made and the prepared files no longer name."""
        used = set() if self.embed else {heard.flac for heard in answers if isinstance(heard, RecordingInfo)}
        for name in self._owner.keys() - used:
            (self.audio / name).unlink(missing_ok=True)
        if self.audio.is_dir() and not any(self.audio.iterdir()):
            self.audio.rmdir()

    def _known(self, row: dict[str, Any], key: tuple | None) -> RecordingInfo | None:
        """What is known of a recording, if it serves: its FLAC, where one is needed, must still be there."""
        heard = self._entries.get(key) if key is not None else None
        if heard is None or (heard.direct and not self.embed):
            return heard
        if heard.flac != flac_name(row["id"]) or self._owner.get(heard.flac) != key:
            return None
        file = self.audio / heard.flac
        if file.is_file():
            return heard if file.stat().st_size == heard.size else None
        data = self._embedded.get(row["split"], row["id"]) if self.embed else None
        return heard if data is not None and _digest(data) == heard.digest else None

    def _read(self) -> tuple[dict[tuple, RecordingInfo], dict[str, tuple]]:
        """The journal's entries, and which recording each FLAC was last made of."""
        entries: dict[tuple, RecordingInfo] = {}
        owner: dict[str, tuple] = {}
        self._file.seek(0)
        raw = self._file.read()
        for line in raw.splitlines():
            try:
                version, path, size, changed, fields = json.loads(line)
                if version != _VERSION:
                    continue
                heard = RecordingInfo(**fields)
            except (ValueError, TypeError):
                continue  # a line torn by a crash
            entries[path, size, changed] = heard
            if heard.flac is not None:
                owner[heard.flac] = (path, size, changed)
        if raw and not raw.endswith(b"\n"):
            self._write(b"\n")  # or the next line would be joined to the torn one and lost with it
        return entries, owner

    def _append(self, key: tuple, heard: RecordingInfo) -> None:
        """Remember what was heard."""
        fields = {name: value for name, value in asdict(heard).items() if value is not None}
        self._write(json.dumps([_VERSION, *key, fields], ensure_ascii=False).encode() + b"\n")
        self._entries[key] = heard
        if heard.flac is not None:
            self._owner[heard.flac] = key

    def _write(self, data: bytes) -> None:
        """Hand a line over to the system, where a kill of this process cannot reach it."""
        self._file.write(data)
        self._file.flush()


class EmbeddedAudio:
    """The recordings inside the split files that an earlier run wrote, one row group in memory at a time."""

    def __init__(self, folder: Path):
        self._files: dict[str, pyarrow.parquet.ParquetFile] = {}
        self._places: dict[tuple[str, str], tuple[int, int]] = {}
        self._group: tuple[tuple[str, int], Any] | None = None
        for split in SPLITS:
            path = folder / f"{split}.parquet"
            try:
                file = pyarrow.parquet.ParquetFile(path)
                groups = [file.read_row_group(g, columns=["id"])["id"] for g in range(file.num_row_groups)]
            except (OSError, KeyError, pyarrow.ArrowException):
                continue  # none, or nothing of ours
            self._files[split] = file
            for number, ids in enumerate(groups):
                for row, identity in enumerate(ids.to_pylist()):
                    self._places[split, identity] = (number, row)

    def get(self, split: str, identity: str) -> bytes | None:
        """Return the bytes of an utterance's recording; None where it is not there."""
        place = self._places.get((split, identity))
        if place is None:
            return None
        group, row = place
        if self._group is None or self._group[0] != (split, group):
            self._group = (split, group), self._files[split].read_row_group(group, columns=["audio"])["audio"]
        return self._group[1][row].as_py()["bytes"]


def _key(row: dict[str, Any]) -> tuple[str, int, int] | None:
    """What tells a recording from its changed self; None for bytes, and for a file that is not there."""
    if row.get("bytes") is not None:
        return None
    try:
        state = os.stat(row["path"])
    except OSError:
        return None
    return str(row["path"]), state.st_size, state.st_mtime_ns


def _digest(data: bytes) -> str:
    """A short fingerprint."""
    return hashlib.sha256(data).hexdigest()[:16]
