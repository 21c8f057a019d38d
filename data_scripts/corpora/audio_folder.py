"""AudioFolder, the layout of `datasets` for recordings: a folder for each class, or a table with a column `file_name`.

`datasets` finds the files and their splits; they are read here, because its own reader needs torchcodec.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from data_scripts.corpora.columns import assign_columns
from data_scripts.corpora.folders import APPLE_DOUBLE, walk
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import Row
from data_scripts.corpora.split_names import split_word
from data_scripts.errors import CorpusError
from data_scripts.tables import read_table

if TYPE_CHECKING:
    from datasets import Dataset

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def read_audio_folder(
    data_files: Mapping[Any, Sequence[Any]], base: str, owner: str, report: PreparationReport
) -> "dict[str, Dataset]":
    """Return the splits of an AudioFolder from its files (archives are unpacked) as a builder of `datasets` lists them.

    Where a split has metadata tables, their rows are its rows; a recording that none names is left out. A row without a
    label of its own, and every recording of a split without tables, is of the class its folder is named after. The
    files lie in `base`, a folder or its address on the Hub.
    """
    from datasets import Dataset

    splits = {}
    for split, files in data_files.items():
        recordings, tables = _sort_files(_local_files([str(file) for file in files], base), report)
        if tables:
            rows = _table_rows(tables, recordings, report)
        else:
            rows = [_row(name, path) for name, path in recordings.items()]
        columns = dict.fromkeys(column for row in rows for column in row)
        splits[str(split)] = Dataset.from_dict({column: [row.get(column) for row in rows] for column in columns})
    if all(set(part.column_names) <= {"id", "audio"} for part in splits.values()):
        raise CorpusError(
            f"{owner} has recordings, but no labels: put them into a folder for each class, or name them in a "
            "metadata.csv with the columns file_name and label"
        )
    return splits


def _local_files(files: Sequence[str], base: str) -> dict[str, Path]:
    """{place below the base: local path} of files, downloaded and unpacked where needed."""
    from datasets import DownloadManager

    paths = DownloadManager().download_and_extract(list(files))
    found = {}
    for file, path in zip(files, map(Path, paths), strict=True):
        name = PurePosixPath(file.replace("\\", "/").removeprefix(base.replace("\\", "/")).lstrip("/"))
        if path.is_dir():
            for inner in walk(path):
                if inner.is_file():
                    found[(name.parent / inner.relative_to(path).as_posix()).as_posix()] = inner
        else:
            found[name.as_posix()] = path
    return found


def _sort_files(files: Mapping[str, Path], report: PreparationReport) -> tuple[dict[str, Path], dict[str, Path]]:
    """The recordings and the metadata tables among files, by their place."""
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder

    recordings, tables = {}, {}
    for name, path in sorted(files.items()):
        place = PurePosixPath(name)
        if place.name.startswith("._"):
            report.drop(name, APPLE_DOUBLE)
        elif place.name in METADATA_NAMES:
            tables[name] = path
        elif place.suffix.lower() in AudioFolder.EXTENSIONS:
            recordings[name] = path
        else:
            report.drop(name, "neither a recording nor a metadata table")
    return recordings, tables


def _row(name: str, path: Path) -> Row:
    """A recording, whose class is the name of its folder, unless that is a split's."""
    folder = PurePosixPath(name).parent.name
    row = {"id": name, "audio": str(path)}
    return row if not folder or split_word(folder) else {**row, "label": folder}


def _table_rows(tables: Mapping[str, Path], recordings: Mapping[str, Path], report: PreparationReport) -> list[Row]:
    """The rows of metadata tables, each with the path of its recording."""
    rows, named = [], set()
    for table, table_path in tables.items():
        for number, row in enumerate(read_table(table_path, suffix=PurePosixPath(table).suffix), 1):
            column = next((key for key in row if key.lower() == "file_name"), None)
            if column is None:
                raise CorpusError(f"{table} has no column file_name, which says whose row each is")
            file_name = str(row.pop(column) or "").strip().replace("\\", "/")
            place = PurePosixPath(table).parent / file_name
            if not file_name or place.is_absolute() or ".." in place.parts:
                raise CorpusError(f"{table}, row {number}: file_name {file_name!r} is no file of that folder")
            name = place.as_posix()
            named.add(name)
            given = {key: value for key, value in row.items() if key and key != "audio"}
            path = recordings.get(name)
            of_file = {"id": name, "audio": None} if path is None else _row(name, path)
            if "emotion" in assign_columns(list(given), {}, table):
                of_file.pop("label", None)
            rows.append({**of_file, **given})
    for name in sorted(recordings.keys() - named):
        report.drop(name, "named by no metadata table")
    return rows
