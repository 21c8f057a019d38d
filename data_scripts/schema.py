"""The one table every corpus becomes: its columns, and its Parquet files on disk.

A prepared corpus is a folder with one Parquet file per split. It opens offline with `load_prepared`, and with a plain
`datasets.load_dataset(folder)` too.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from datasets.exceptions import DatasetsError

SPLITS = ("train", "validation", "test")
SAMPLING_RATE = 16000
_GROUP_ROWS = 500  # rows of a Parquet row group, and
_GROUP_BYTES = 8 << 20  # bytes of its audio: what is held in memory at a time
REQUIRED_COLUMNS = (
    "id",
    "audio",
    "duration",
    "speaker",
    "session",
    "emotion",
    "transcript",
    "hypothesis",
    "asr_model",
)


class CorpusError(ValueError):
    """A corpus, a manifest or a prepared folder cannot be used; the message names it and says what to do."""


@dataclass
class ScannedCorpus:
    """What a corpus module found on disk, before any audio is read.

    Attributes:
        emotions: the class names, in the order of their numbers.
        rows: one dictionary for each utterance: `split`, `id`, `path` or `bytes` of the audio, `emotion` (a name), and
            where known `speaker`, `session`, `transcript`, `hypothesis`, `asr_model`.
        looked_for: the files the module searches, in words, for the error that nothing was found.
        never_empty: the values of a column (`split` or `session`) that must keep an utterance each: an empty one would
            make an empty fold or split.
        way_out: what a user can do where one of those is empty.
        expected: what a complete corpus would keep, see `PreparationReport.expected`.
    """

    emotions: list[str]
    rows: list[dict[str, Any]]
    looked_for: str
    never_empty: dict[str, list[str]] = field(default_factory=dict)
    way_out: str = ""
    expected: dict[str, dict[str, int]] = field(default_factory=dict)


def corpus_features(emotions: Sequence[str]) -> Features:
    """Return the canonical columns, in order, with these class names.

    `speaker`, `session`, `transcript` (human), `hypothesis` (ASR) and `asr_model` may be null. `audio` is never
    decoded by `datasets` (that would need torchcodec and FFmpeg): `modeling_m4ser.audio_m4ser.load_audio` reads its
    dictionaries.

    Raises:
        CorpusError: no class names, or one of them twice.
    """
    names = list(emotions)
    if not names or len(set(names)) != len(names):
        raise CorpusError(f"a corpus needs at least one emotion and each only once, got {names}")
    kinds = dict.fromkeys(REQUIRED_COLUMNS, Value("string"))
    kinds["audio"] = Audio(sampling_rate=SAMPLING_RATE, decode=False)
    kinds["duration"] = Value("float32")
    kinds["emotion"] = ClassLabel(names=names)
    return Features(kinds)


def build_dataset(rows: Iterable[Mapping[str, Any]], emotions: Sequence[str]) -> Dataset:
    """Return a canonical dataset of these rows, held in memory.

    Args:
        rows: dictionaries of canonical columns; `audio` is {"path", "bytes"}, `emotion` a class name; other keys are
            left out and missing ones become null.
        emotions: the class names.

    Raises:
        CorpusError: an emotion that is not among `emotions`.
    """
    # Not Dataset.from_list: encoding an Audio column imports torchcodec, even for a path that is only stored.
    return Dataset(_as_table(rows, emotions))


def _as_table(rows: Iterable[Mapping[str, Any]], emotions: Sequence[str]) -> pyarrow.Table:
    """The rows as an Arrow table whose metadata tells `datasets` the features."""
    numbers = {name: number for number, name in enumerate(emotions)}
    encoded = []
    for row in rows:
        if row["emotion"] not in numbers:
            raise CorpusError(f"{row['id']}: unknown emotion {row['emotion']!r}; the classes are {', '.join(emotions)}")
        encoded.append({name: row.get(name) for name in REQUIRED_COLUMNS} | {"emotion": numbers[row["emotion"]]})
    return pyarrow.Table.from_pylist(encoded, schema=corpus_features(emotions).arrow_schema)


def write_split(rows: Iterable[Mapping[str, Any]], emotions: Sequence[str], file: BinaryIO) -> None:
    """Write the rows (as `build_dataset` takes them) as Parquet, holding a few megabytes of them at a time.

    The same rows give the same bytes.

    Raises:
        CorpusError: an emotion that is not among `emotions`.
        OSError: the file cannot be written.
    """
    # Statistics of the audio column would hold whole recordings.
    columns = [name for name in REQUIRED_COLUMNS if name != "audio"]
    schema = corpus_features(emotions).arrow_schema
    with pyarrow.parquet.ParquetWriter(file, schema, write_statistics=columns) as writer:
        batch, size = [], 0
        for row in rows:
            batch.append(row)
            size += len(row["audio"]["bytes"] or b"")
            if len(batch) >= _GROUP_ROWS or size >= _GROUP_BYTES:
                writer.write_table(_as_table(batch, emotions))
                batch, size = [], 0
        if batch:
            writer.write_table(_as_table(batch, emotions))


def save_prepared(dataset: DatasetDict, folder: str | os.PathLike) -> Path:
    """Write one Parquet file per split into `folder` (made if absent) and return it.

    Each file appears whole or not at all. Splits left there by an earlier preparation and absent from `dataset` are
    removed: they would silently join it.

    Raises:
        CorpusError: no split, a split that is not train, validation or test, or one without a canonical column.
        OSError: the folder cannot be written.
    """
    if not dataset:
        raise CorpusError("there is no split to save")
    for split, part in dataset.items():
        if split not in SPLITS:
            raise CorpusError(f"the split {split!r} is none of {', '.join(SPLITS)}: rename it")
        _check_columns(part, f"the split {split!r}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = {split: folder / f".{split}.parquet.tmp" for split in dataset}
    try:
        for split, part in dataset.items():
            # A batch size of our own: datasets' estimate opens every audio file that a row names.
            part.to_parquet(temporary[split], batch_size=500)
        for split, file in temporary.items():
            os.replace(file, folder / f"{split}.parquet")
    finally:
        for file in temporary.values():
            file.unlink(missing_ok=True)
    for split in set(SPLITS) - set(dataset):
        (folder / f"{split}.parquet").unlink(missing_ok=True)
    return folder


def load_prepared(folder: str | os.PathLike) -> DatasetDict:
    """Open a folder written by `save_prepared`: its splits, with the canonical features.

    Raises:
        CorpusError: the folder is absent, holds no prepared split, or its files are damaged or of another schema.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder: give the --output_dir of `python -m data_scripts.prepare`")
    files = {split: str(folder / f"{split}.parquet") for split in SPLITS if (folder / f"{split}.parquet").is_file()}
    if not files:
        raise CorpusError(
            f"{folder} holds none of {', '.join(f'{split}.parquet' for split in SPLITS)}: prepare the corpus first "
            "with `python -m data_scripts.prepare`"
        )
    try:
        dataset = load_dataset("parquet", data_files=files)
    except (DatasetsError, ValueError, OSError) as error:
        raise CorpusError(f"{folder} cannot be read: {error}; prepare the corpus again") from error
    for split, part in dataset.items():
        _check_columns(part, files[split])
    return dataset


def _check_columns(part: Dataset, where: str) -> None:
    """Raise where a canonical column is absent or the emotions are not class labels."""
    missing = [column for column in REQUIRED_COLUMNS if column not in part.column_names]
    if missing:
        found = ", ".join(part.column_names) or "none"
        raise CorpusError(f"{where} lacks the columns {', '.join(missing)} of a prepared corpus; its columns: {found}")
    if not isinstance(part.features["emotion"], ClassLabel):
        raise CorpusError(f"{where}: the column emotion holds no class labels; prepare the corpus again")
