"""The one table every corpus becomes: its columns, and its Parquet files on disk.

A prepared corpus is a folder with one Parquet file per split. It opens offline with `load_prepared`, and with a plain
`datasets.load_dataset(folder)` too.
"""

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from datasets.exceptions import DatasetsError

from data_scripts.constants import SAMPLING_RATE, SPLITS
from data_scripts.errors import CorpusError, check_known
from data_scripts.files import find_full_disk, replace_together, write_atomically

# What is held in memory at a time is a Parquet row group: so many rows at most, and so many bytes of their audio.
_ROW_GROUP_ROWS = 500
_ROW_GROUP_BYTES = 8 << 20
#: The dataset card of a prepared folder, and the line of its head that tells its tables from others.
CARD_NAME = "README.md"
TABLES_LINE = "  description: tables "
_TABLES_LINE = re.compile(rf"^({TABLES_LINE})[0-9a-f]*$", re.MULTILINE)
REQUIRED_COLUMNS = ("id", "audio", "duration", "speaker", "session", "emotion", "transcript", "hypothesis", "asr_model")
#: The columns in order. Folders prepared by earlier versions lack the last one.
COLUMNS = (*REQUIRED_COLUMNS, "content")


def corpus_features(emotions: Sequence[str]) -> Features:
    """Return the canonical columns, in order, with these class names.

    Speaker, session, transcript (human), hypothesis (ASR) and asr_model may be null.
    `audio` is never decoded by `datasets` (that would need torchcodec and FFmpeg), but by `load_audio` of
    `modeling_m4ser.audio_m4ser`. `content` is equal in rows whose recordings are copies of one another, so that every
    later division into splits can be audited; it is null where nobody looked.
    """
    names = list(emotions)
    if not names or len(set(names)) != len(names):
        raise CorpusError(f"a corpus needs at least one emotion and each only once, got {names}")
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, Value("string"))
    kinds["audio"] = Audio(sampling_rate=SAMPLING_RATE, decode=False)
    kinds["duration"] = Value("float32")
    kinds["emotion"] = ClassLabel(names=names)
    return Features(kinds)


def build_dataset(rows: Iterable[Mapping[str, Any]], emotions: Sequence[str]) -> Dataset:
    """Return a canonical dataset of these rows, held in memory.

    The rows have canonical columns: `audio` is {"path", "bytes"}, `emotion` a class name; other keys are left out and
    missing ones become null.
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
        encoded.append({name: row.get(name) for name in COLUMNS} | {"emotion": numbers[row["emotion"]]})
    return pyarrow.Table.from_pylist(encoded, schema=corpus_features(emotions).arrow_schema)


def write_split(rows: Iterable[Mapping[str, Any]], emotions: Sequence[str], file: BinaryIO) -> None:
    """Write the rows as Parquet, holding a few megabytes of them at a time; the same rows give the same bytes."""
    # Statistics of the audio column would hold whole recordings.
    columns = [name for name in COLUMNS if name != "audio"]
    schema = corpus_features(emotions).arrow_schema
    with pyarrow.parquet.ParquetWriter(file, schema, write_statistics=columns) as writer:  # pyright: ignore (a list too)
        batch, size = [], 0
        for row in rows:
            batch.append(row)
            size += len(row["audio"]["bytes"] or b"")
            if len(batch) >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
                writer.write_table(_as_table(batch, emotions))
                batch, size = [], 0
        if batch:
            writer.write_table(_as_table(batch, emotions))


def save_splits(
    splits: Mapping[str, Iterable[Mapping[str, Any]]], emotions: Sequence[str], folder: str | os.PathLike
) -> None:
    """Write each split's rows (as `build_dataset` takes them) into a prepared folder, in place of the splits there."""
    paths = {split: Path(folder) / f"{split}.parquet" for split in SPLITS}
    with replace_together(paths[split] for split in splits) as temporary:
        for path, rows in zip(temporary, splits.values(), strict=True):
            with open(path, "wb") as file:
                write_split(rows, emotions, file)
    for split in paths.keys() - splits.keys():
        paths[split].unlink(missing_ok=True)


def save_prepared(dataset: DatasetDict, folder: str | os.PathLike) -> Path:
    """Write one Parquet file per split into `folder` (made if absent), in place of the splits there, and return it.

    A card that lies there is stamped with the fingerprint of the new tables.
    """
    if not dataset:
        raise CorpusError("there is no split to save")
    parts = {str(split): part for split, part in dataset.items()}
    for split, part in parts.items():
        if split not in SPLITS:
            raise CorpusError(f"the split {split!r} is none of {', '.join(SPLITS)}: rename it")
        _check_columns(part, f"the split {split!r}")
    emotions = next(iter(parts.values())).features["emotion"].names
    save_splits({split: _named_rows(part) for split, part in parts.items()}, emotions, folder)
    _stamp_card(folder)
    return Path(folder)


def _named_rows(part: Dataset) -> Iterator[dict[str, Any]]:
    """The rows as `build_dataset` takes them."""
    names = part.features["emotion"].names
    for row in part.with_format(None):
        yield {**row, "emotion": names[row["emotion"]]}  # pyright: ignore (a row is a dictionary)


def tables_digest(folder: str | os.PathLike) -> str:
    """Return a short fingerprint of a prepared folder's split files."""
    digest = hashlib.sha256()
    for split in SPLITS:
        path = Path(folder) / f"{split}.parquet"
        if path.is_file():
            with open(path, "rb") as file:
                digest.update(f"{split} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()[:16]


def _stamp_card(folder: str | os.PathLike) -> None:
    """Write the `tables_digest` into a prepared folder's card, where the card has a place for it.

    `datasets.load_dataset(folder)` takes what it has cached of any folder with the same name and the same card, even
    where the tables are others: with their fingerprint in it, the card differs whenever they do.
    """
    card = Path(folder) / CARD_NAME
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        stamped = _TABLES_LINE.sub(rf"\g<1>{tables_digest(folder)}", text, count=1)
        if stamped != text:
            write_atomically(card, stamped)


def load_prepared(folder: str | os.PathLike) -> DatasetDict:
    """Open a prepared folder: its splits, with the canonical features.

    Raises:
        CorpusError: the folder is absent, holds no prepared split, or its files are damaged or of another schema.
        OSError: the disk of `datasets`' cache is full.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder: give the --output_dir of `python -m data_scripts.prepare`")
    files = {split: str(folder / f"{split}.parquet") for split in SPLITS if (folder / f"{split}.parquet").is_file()}
    if not files:
        raise CorpusError(
            f"{folder} holds none of {', '.join(f'{split}.parquet' for split in SPLITS)}: prepare the corpus first "
            "with `python -m data_scripts.prepare`"
        )
    try:
        # `datasets` takes paths as patterns: a folder may be called "run [1]" and have a "run 1" beside it.
        dataset = load_dataset("parquet", data_files={split: glob.escape(path) for split, path in files.items()})
    except (DatasetsError, ValueError, OSError) as error:
        # `datasets` copies the tables into its cache, so it is not always the folder that is at fault.
        if (full := find_full_disk(error)) is not None:
            raise full from error
        raise CorpusError(f"{folder} cannot be read: {error}; prepare the corpus again") from error
    for split, part in dataset.items():
        _check_columns(part, files[str(split)])
    return dataset


def pick_split(dataset: DatasetDict, split: str, folder: str | os.PathLike) -> Dataset:
    """Return one split of what `load_prepared` found in a folder."""
    check_known(folder, "split", [split], map(str, dataset))
    return dataset[split]


def select_rows(
    dataset: DatasetDict, emotions: Sequence[str] | None = None, sessions: Sequence[str] | None = None
) -> DatasetDict:
    """Return the rows of some classes, in the order of their new numbers, and sessions of a prepared dataset."""
    known = {
        "emotion": [name for part in dataset.values() for name in part.features["emotion"].names],
        "session": [name for part in dataset.values() for name in part["session"] if name],
    }
    for kind, wanted in (("emotion", emotions), ("session", sessions)):
        check_known("the prepared corpus", kind, wanted or (), known[kind])
    selected = DatasetDict()
    for split, part in dataset.items():
        names = part.features["emotion"].names
        wanted = names if emotions is None else list(emotions)
        labels = part["emotion"][:]
        rows = [
            row
            for row, (label, session) in enumerate(zip(labels, part["session"][:], strict=True))
            if names[label] in wanted and (sessions is None or session in sessions)
        ]
        kept, columns = part.select(rows), part.column_names
        if wanted and wanted != names:
            numbers = [wanted.index(names[labels[row]]) for row in rows]
            kept = kept.remove_columns("emotion").add_column("emotion", numbers, feature=ClassLabel(names=wanted))
        selected[split] = kept.select_columns(columns)
    if not any(map(len, selected.values())):
        raise CorpusError("nothing is left of the prepared corpus: choose other emotions or sessions")
    return selected


def _check_columns(part: Dataset, where: str) -> None:
    """Raise where a canonical column is absent or the emotions are not class labels."""
    if missing := [column for column in REQUIRED_COLUMNS if column not in part.column_names]:
        found = ", ".join(part.column_names) or "none"
        raise CorpusError(f"{where} lacks the columns {', '.join(missing)} of a prepared corpus; its columns: {found}")
    if not isinstance(part.features["emotion"], ClassLabel):
        raise CorpusError(f"{where}: the column emotion holds no class labels; prepare the corpus again")
