"""Inspecting each recording once: its length, whether it can be used where it lies, and a 16 kHz mono FLAC if not.

The results are kept in a journal, so that neither a second run nor one after a crash decodes an unchanged file (same
path, size and time of change) again.
"""

import hashlib
import io
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet
import soundfile
from tqdm.auto import tqdm

from data_scripts.audit import AUDITED_COLUMNS, OFFICIAL_SPLIT, audit_splits, shared_times
from data_scripts.constants import SAMPLING_RATE, SPLITS
from data_scripts.copies import acoustic_fingerprint, as_16_bit, content_digest, group_copies
from data_scripts.corpora.base import ScannedCorpus
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.files import write_atomically
from data_scripts.journal import Journal
from modeling_m4ser.audio_m4ser import AudioError, decode_audio, load_audio, resample, silence_reason
from modeling_m4ser.decoding_m4ser import decode_file
from modeling_m4ser.opening_m4ser import open_audio
from modeling_m4ser.parts_m4ser import PartError

JOURNAL_NAME = ".prepare.jsonl"  # hidden, so that load_dataset(folder) passes it over
AUDIO_FOLDER = "audio"
LONG_SECONDS = 30.0  # beyond it Whisper needs its long-form algorithm, and the processor cuts by default

_JOURNAL_SETTINGS = {"work": "recordings", "version": 5}  # records of another version are not used
# What error messages call a recording. With its path in them, no two drops would be counted together by reason.
_RECORDING_LABEL = "the recording"

_last_decoded = threading.local()

Row = dict[str, Any]
FileState = tuple[Any, ...]  # path (or digest of bytes), size, time of change, channel and part taken


@dataclass(frozen=True)
class RecordingInfo:
    """What the inspection of one recording found."""

    duration: float  # seconds
    needs_no_conversion: bool  # 16 kHz mono WAV or FLAC, which is used where it lies
    content: str = ""  # equal for copies with equal samples, see `content_digest`
    fingerprint: str = ""  # what other copies are looked for by, see `acoustic_fingerprint`
    silence: str | None = None  # why it holds no sound; such a one has no FLAC
    flac: str | None = None  # the file name of its 16 kHz mono FLAC
    size: int | None = None  # of that FLAC, in bytes
    repairs: Sequence[str] = ()  # what was repaired or left out of it
    # Where no FLAC file is made, what cannot be read where it lies: the bytes that a row brought, or the FLAC of one of
    # several channels or of a part; never in the journal.
    data: bytes | None = None


def encode_flac(samples: np.ndarray) -> bytes:
    """Return a 16 kHz mono waveform (samples,) in [-1, 1] as 16-bit FLAC; 16-bit samples come back unchanged."""
    buffer = io.BytesIO()
    soundfile.write(buffer, as_16_bit(samples), SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def needs_no_conversion(source: str | bytes | None, samples: int | None = None) -> bool:
    """Return whether a file, or its bytes, is 16 kHz mono WAV or FLAC, which everything reads without conversion.

    `samples`: how many of it are wanted; by default all. A part of a file needs one of its own, and so does a file that
    others read in part: one that is joined, or whose header does not count all.
    """
    if source is None:
        return False
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            usual = (file.samplerate, file.channels) == (SAMPLING_RATE, 1) and file.format in ("WAV", "WAVEX", "FLAC")
            usual = usual and samples in (None, file.frames)
            return usual and file.frames > 0  # a header without samples, of a recorder cut off, is read so by some
    except soundfile.SoundFileError:
        return False


def flac_name(identity: str) -> str:
    """Return a file name for an utterance's FLAC, different for different ids."""
    plain = re.sub(r"[^\w.-]", "_", identity)[:100].lstrip(".")
    return f"{plain}.flac" if plain == identity else f"{plain}-{_digest(identity.encode())}.flac"


def inspect_recording(row: Row, folder: Path | None = None, always: bool = False) -> RecordingInfo | AudioError:
    """Decode a row's recording once, all of it; return what was found, or the error of one that cannot be used.

    `folder` gets a FLAC of what is not used where it lies (with `always`, of any recording); None: none is written.
    """
    path, channel, part = row.get("path"), row.get("channel"), row.get("part")
    try:
        data = bytes_of(row)
        repairs: list[str] = []
        audio = {"path": path, "bytes": data} if part is None or data is not None else _decoded(str(path), repairs)
        samples, rate = decode_audio(audio, name=_RECORDING_LABEL, channel=channel, part=part, tell=repairs.append)
        as_it_is = needs_no_conversion(path if data is None else data, samples.size)
        duration = samples.size / rate
        if silence := silence_reason(samples):
            return RecordingInfo(duration, as_it_is, silence=silence)
        samples = resample(samples, rate, SAMPLING_RATE, _RECORDING_LABEL)
    except AudioError as error:
        if isinstance(error.__cause__, PermissionError):  # no fault of the recording, so it is not left out for it
            raise CorpusError(f"no permission to read {path}: make the corpus readable for your user (chmod)") from None
        return error
    info = RecordingInfo(
        duration, as_it_is, content_digest(samples), acoustic_fingerprint(samples), repairs=tuple(repairs)
    )
    if folder is None:
        stays = as_it_is or (channel is None and part is None)
        return replace(info, data=data if stays else encode_flac(samples))
    if as_it_is and data is None and not always:
        return info
    flac = encode_flac(samples)
    name = flac_name(row["id"])
    write_atomically(folder / name, flac)
    return replace(info, flac=name, size=len(flac))


def _decoded(path: str, repairs: list[str]) -> dict[str, Any]:
    """A file as an array, decoded once for the parts of it that a thread takes one after another; says its repairs."""
    state = _file_state({"path": path})
    if state is None or getattr(_last_decoded, "state", None) != state:
        _last_decoded.state, told = None, []
        with open_audio(path, _RECORDING_LABEL) as file:
            samples, rate = decode_file(file, _RECORDING_LABEL, told.append)
        _last_decoded.audio = {"path": path, "array": samples, "sampling_rate": rate}
        _last_decoded.state, _last_decoded.repairs = state, told
    repairs += _last_decoded.repairs
    return _last_decoded.audio


def bytes_of(row: Row) -> bytes | None:
    """Return the bytes of a row's audio, which may be a function that loads them; None for a file."""
    data = row.get("bytes")
    return cast(bytes, data()) if callable(data) else cast(bytes | None, data)


def inspect_recordings(
    rows: Sequence[Row], inspect: Callable[[Row], RecordingInfo | AudioError], num_workers: int
) -> Iterator[RecordingInfo | AudioError]:
    """Yield `inspect` of every row, in order, with a progress bar; the first exception stops it."""
    # Threads: the decoders release the interpreter while they work, and nothing has to be copied between processes.
    pool = ThreadPoolExecutor(num_workers)
    try:
        yield from tqdm(pool.map(inspect, rows), total=len(rows), desc="reading audio", unit="file", disable=not rows)
    finally:
        pool.shutdown(cancel_futures=True)


def keep_usable(
    scanned: ScannedCorpus, found: Sequence[RecordingInfo | AudioError], report: PreparationReport
) -> dict[str, list[tuple[Row, RecordingInfo]]]:
    """Return each split's usable rows, with `duration`, `content` and what was found; report the others, and leaks."""
    kept: dict[str, list[tuple[Row, RecordingInfo]]] = {split: [] for split in SPLITS}
    for row, info in zip(scanned.rows, found, strict=True):
        if isinstance(info, AudioError):
            report.drop(row["id"], info.reason if isinstance(info, PartError) else f"unreadable audio: {info}")
            continue
        if info.silence is not None:
            report.drop(row["id"], f"no sound: {info.silence}")
            continue
        for repair in info.repairs:
            report.repair(row["id"], repair)
        if info.duration > LONG_SECONDS:
            report.note(row["id"], f"longer than {LONG_SECONDS:g} s: kept whole; max_audio_seconds cuts it in training")
        kept[row["split"]].append(({**row, "duration": info.duration}, info))
    rows = [row for part in kept.values() for row, _ in part]
    scanned.check_kept(rows, report)
    for split in SPLITS:
        if kept[split]:
            report.count(split, [row for row, _ in kept[split]], scanned.emotions)
    splits = {split: part for split, part in kept.items() if part}
    _name_copies([pair for part in splits.values() for pair in part])
    columns = {
        split: {name: [row.get(name) for row, _ in part] for name in AUDITED_COLUMNS} for split, part in splits.items()
    }
    report.audit = audit_splits(columns, OFFICIAL_SPLIT if scanned.official_split else "")
    times = shared_times({split: [row for row, _ in part] for split, part in splits.items()})
    report.audit.recordings += [parts for parts in times if parts not in report.audit.recordings]  # copies are told
    return splits


def _name_copies(pairs: Sequence[tuple[Row, RecordingInfo]]) -> None:
    """Give every row its `content`."""

    def load(number: int) -> np.ndarray:
        row, _ = pairs[number]
        audio = {"path": row.get("path"), "bytes": bytes_of(row)}
        return load_audio(audio, SAMPLING_RATE, name=row["id"], channel=row.get("channel"), part=row.get("part"))

    names = group_copies([info.content for _, info in pairs], [info.fingerprint for _, info in pairs], load)
    for (row, _), name in zip(pairs, names, strict=True):
        row["content"] = name


class RecordingStore(Journal):
    """The recordings of one prepared folder: what is known of each, and the FLAC files made of them.

    The FLACs lie in `folder/audio`. With `embed`, every recording gets one, and it goes into the split files.
    """

    def __init__(self, folder: Path, embed: bool):
        self.folder, self.embed, self.audio_folder = folder, embed, folder / AUDIO_FOLDER
        super().__init__(folder / JOURNAL_NAME, _JOURNAL_SETTINGS, restart=True, activity="prepared")
        for leftover in [*self.audio_folder.glob(".*.tmp"), *folder.glob(".*.tmp")]:  # of a run that was killed
            leftover.unlink()
        self._infos: dict[FileState, RecordingInfo] = {}
        self._flac_sources: dict[str, FileState] = {}  # which recording each FLAC was last made of
        for state, fields in self.records:
            self._remember(tuple(state), RecordingInfo(**fields))
        self._used_flacs: set[str | None] = set()

    def finished_splits(
        self, scanned: ScannedCorpus, report: PreparationReport, num_workers: int
    ) -> dict[str, Iterator[Row]]:
        """Inspect a corpus's recordings; return for each split that keeps a row an iterator of its canonical rows.

        The iterator loads their audio one by one, and gives them the hypotheses of an earlier preparation.
        """
        found = self._inspect(scanned.rows, num_workers)
        kept = keep_usable(scanned, found, report)
        if not self.embed:
            self._used_flacs = {info.flac for info in found if isinstance(info, RecordingInfo)}
        return {split: self._finish(split, part) for split, part in kept.items()}

    def remove_unused(self) -> None:
        """Remove the FLACs that this store made and no split file refers to."""
        for name in self._flac_sources.keys() - self._used_flacs:
            (self.audio_folder / name).unlink(missing_ok=True)
        if self.audio_folder.is_dir() and not any(self.audio_folder.iterdir()):
            self.audio_folder.rmdir()

    def _inspect(self, rows: Sequence[Row], num_workers: int) -> list[RecordingInfo | AudioError]:
        """What is found of each row's recording, in the rows' order; those already known are not decoded again."""
        states = [_file_state(row) for row in rows]
        found: list[Any] = [self._known(row, state) for row, state in zip(rows, states, strict=True)]
        new = [number for number, info in enumerate(found) if info is None]
        inspect = partial(inspect_recording, folder=self.audio_folder, always=self.embed)
        for number, info in zip(new, inspect_recordings([rows[n] for n in new], inspect, num_workers), strict=True):
            found[number], state = info, states[number]
            # Errors are not remembered: their cause (a missing package, the disk) may lie outside the recording.
            if isinstance(info, RecordingInfo) and state is not None:
                self.append([state, {key: value for key, value in asdict(info).items() if value is not None}])
                self._remember(state, info)
        return found

    def _known(self, row: Row, state: FileState | None) -> RecordingInfo | None:
        """What is known of a recording, if it serves: its FLAC, where one is needed, must still be there."""
        info = self._infos.get(state) if state is not None else None
        if info is None or info.silence is not None or self._stays(row, info):
            return info
        if info.flac is None or info.flac != flac_name(row["id"]) or self._flac_sources.get(info.flac) != state:
            return None
        file = self.audio_folder / info.flac
        return info if file.is_file() and file.stat().st_size == info.size else None

    def _stays(self, row: Row, info: RecordingInfo) -> bool:  # is used where it lies
        return info.needs_no_conversion and row.get("bytes") is None and not self.embed

    def _remember(self, state: FileState, info: RecordingInfo) -> None:
        self._infos[state] = info
        if info.flac is not None:
            self._flac_sources[info.flac] = state

    def _finish(self, split: str, rows: Sequence[tuple[Row, RecordingInfo]]) -> Iterator[Row]:
        """The rows with their audio, loaded one by one, and the hypotheses they had before."""
        earlier = earlier_hypotheses(self.folder / f"{split}.parquet")
        for row, info in tqdm(rows, desc=f"writing {split}", unit="row"):
            finished = {**row, "audio": self._audio(row, info)}
            known = earlier.get(row["id"])
            same = known and abs(known["duration"] - row["duration"]) < 1e-3
            same = same and known["content"] in (None, row["content"], info.content)
            if finished.get("hypothesis") is None and same:
                finished |= {name: known[name] for name in ("hypothesis", "asr_model")}
            yield finished

    def _audio(self, row: Row, info: RecordingInfo) -> dict[str, Any]:
        """The `audio` value of a row: where its recording lies, or its bytes."""
        if self._stays(row, info):
            return {"path": row["path"], "bytes": None}
        file = self.audio_folder / str(info.flac)
        if self.embed:
            return {"path": info.flac, "bytes": file.read_bytes()}
        return {"path": str(file.resolve()), "bytes": None}


def earlier_hypotheses(path: Path) -> dict[str, Row]:
    """Return the rows {id: row} of a split file that have a hypothesis; none where it is absent or not ours.

    Their `content` is None where it does not tell a recording: copies of each other are called after one of them, and
    folders of earlier versions have none.
    """
    try:
        columns = ["id", "duration", "hypothesis", "asr_model"]
        columns += {"content"}.intersection(pyarrow.parquet.read_schema(path).names)
        table = pyarrow.parquet.read_table(path, columns=columns)
        rows = table.to_pylist()
        sharing = Counter(row.get("content") for row in rows)
        alone = ({**row, "content": row.get("content") if sharing[row.get("content")] == 1 else None} for row in rows)
        return {row["id"]: row for row in alone if row["hypothesis"] is not None}
    except (OSError, KeyError, pyarrow.ArrowException):
        return {}


def _file_state(row: Row) -> FileState | None:
    """What tells a recording from its changed self, another channel and another part; None where there is no file."""
    taken = row.get("channel"), *row.get("part", ())
    try:
        if (data := bytes_of(row)) is not None:
            return f"bytes {_digest(data)}", len(data), 0, *taken
        state = os.stat(row["path"])
    except (OSError, AudioError):
        return None
    return str(row["path"]), state.st_size, state.st_mtime_ns, *taken


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
