"""AudioFolder, the layout of `datasets` for recordings: a folder for each class, or a table with a column `file_name`.

    [train|validation|test/]CLASS/*.wav             a folder for each class
    [train|…/]CLASS/SPEAKER/*.wav, SPEAKER/CLASS/   and folders of speakers, see `class_folders`
    [train|…/]metadata.csv, .jsonl or .parquet      a table with a column `file_name`

The files are found and read here: the reader of `datasets` needs torchcodec, takes a bracket in a path for a pattern,
and passes over links, other names of splits and what lies beside them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from data_scripts.corpora.class_folders import is_emotion, read_class_folders
from data_scripts.corpora.columns import assign_columns
from data_scripts.corpora.folders import APPLE_DOUBLE, ARCHIVE_SUFFIXES, AUDIO_SUFFIXES, walk
from data_scripts.corpora.lookup import find_places
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import Row
from data_scripts.corpora.split_names import canonical_splits, split_word
from data_scripts.errors import CorpusError
from data_scripts.tables import TABLE_SUFFIXES, read_table

if TYPE_CHECKING:
    from datasets import Dataset

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_LEVEL = "folder_"  # begins the name of a column of folders
_SPLIT = "split of the folder"


def find_audio_folder(folder: Path) -> dict[str, Path] | None:
    """Return {place below it: path} of the files of a folder on disk, archives unpacked; None where it is another kind.

    It is an AudioFolder where more files are recordings than tables. Hidden files and folders `__…` are passed over.
    """
    from datasets import DownloadManager

    files = {}
    for path in walk(folder):
        place = path.relative_to(folder)
        hidden = any(part.startswith((".", "__")) for part in place.parts) and not place.name.startswith("._")
        if not hidden and not path.is_dir():
            files[place.as_posix()] = path
    if _count(files, TABLE_SUFFIXES) > _count(files, AUDIO_SUFFIXES):  # its archives may be large
        return None
    packed = {name: path for name, path in files.items() if path.suffix.lower() in ARCHIVE_SUFFIXES}
    files = _unpacked(files | {name: Path(DownloadManager().extract(str(path))) for name, path in packed.items()})
    return files if _count(files, AUDIO_SUFFIXES) > _count(files, TABLE_SUFFIXES) else None


def _count(names: Iterable[str], suffixes: Collection[str]) -> int:
    """How many files, but for tables of metadata, have one of these suffixes."""
    paths = map(PurePosixPath, names)
    return sum(path.suffix.lower() in suffixes and path.name.lower() not in METADATA_NAMES for path in paths)


def download(files: Sequence[str], base: str) -> dict[str, Path]:
    """Return {place below the base: local path} of files on the Hub, archives unpacked."""
    from datasets import DownloadManager

    places = [file.replace("\\", "/").removeprefix(base.replace("\\", "/")).lstrip("/") for file in files]
    paths = DownloadManager().download_and_extract(list(files))
    return _unpacked(dict(zip(places, map(Path, paths), strict=True)))


def _unpacked(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return {place: path} with what folders hold, which archives have become, in the place of these.

    Where an archive is named as a split, or another holds the same, its name is a folder of that place.
    """
    found = {}
    for name, path in files.items():
        if not path.is_dir():
            found[name] = path
            continue
        archive = PurePosixPath(name)
        for inner in walk(path):
            if inner.is_file():
                place = (archive.parent / inner.relative_to(path).as_posix()).as_posix()
                if place in found or split_word(archive.stem, alone=False):
                    place = (archive.with_suffix("") / inner.relative_to(path).as_posix()).as_posix()
                found[place] = inner
    return found


def read_audio_folder(
    parts: Mapping[str, Mapping[str, Path]], selection: CorpusSelection, report: PreparationReport
) -> "dict[str, Dataset]":
    """Return the splits of an AudioFolder by their own names.

    Where a split has metadata tables, their rows are its rows; a recording that none names is left out. A row without a
    label of its own, and every recording of a split without tables, is of the class that its folders name.

    Args:
        parts: {split: {place: path}} of its files; in a single split, the folders may name others.
        selection: what the user asks for.
        report: takes what is left out.
    """
    from datasets import Dataset

    files, split_of = {}, {}
    for split, part in parts.items():
        for name, path in part.items():
            place = f"{split}/{name}" if name in files else name
            files[place], split_of[place] = path, split
    recordings, tables = _sort_files(files, report)
    if len(parts) == 1:
        split_of = _splits_by_folder([*recordings, *tables], selection)
        recordings = _without_strays(recordings, split_of, selection, report)
    rows = _rows(recordings, tables, split_of, selection, report)
    splits: dict[str, list[Row]] = {}
    _check_labels(rows, tables, selection)
    for row in rows:
        splits.setdefault(row.pop(_SPLIT) or "train", []).append(row)
    columns = dict.fromkeys(column for row in rows for column in row)
    return {
        split: Dataset.from_dict({column: [row.get(column) for row in some] for column in columns})
        for split, some in splits.items()
    }


def _sort_files(files: Mapping[str, Path], report: PreparationReport) -> tuple[dict[str, Path], dict[str, Path]]:
    """The recordings and the metadata tables among files, by their place."""
    recordings, tables = {}, {}
    for name, path in sorted(files.items()):
        place = PurePosixPath(name)
        if place.name.startswith("._"):
            report.drop(name, APPLE_DOUBLE)
        elif place.name.lower() in METADATA_NAMES:
            tables[name] = path
        elif place.suffix.lower() not in AUDIO_SUFFIXES:
            report.drop(name, "neither a recording nor a metadata table")
        elif not path.is_file():
            report.drop(name, "not a file")
        else:
            recordings[name] = path
    return recordings, tables


def _folders(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts[:-1]


def _split_folder(name: str, chosen: Collection[str]) -> str | None:
    """The folder above a file that is a split's: one that the user names, or else one of the usual names."""
    return next((part for part in _folders(name) if part in chosen or split_word(part)), None)


def _splits_by_folder(names: Sequence[str], selection: CorpusSelection) -> dict[str, str | None]:
    """{place: split} by the folders' names, or where these name none by those of all files."""
    chosen = selection.split_names.values()
    folders = {name: _split_folder(name, chosen) for name in names}
    found = {name: part if part is None or part in chosen else split_word(part) for name, part in folders.items()}
    words = {name: split_word(PurePosixPath(name).stem, alone=False) for name in names}
    return words if not any(found.values()) and None not in words.values() else found


def _without_strays(
    recordings: Mapping[str, Path],
    split_of: Mapping[str, str | None],
    selection: CorpusSelection,
    report: PreparationReport,
) -> dict[str, Path]:
    """The recordings but for those that lie beside the folders of splits."""
    splits = sorted({split for split in split_of.values() if split})
    strays = [name for name in recordings if splits and split_of[name] is None]
    if strays and "train" not in canonical_splits(splits).values() and not selection.split_names:
        raise CorpusError(
            f"{selection.where} has recordings beside those of {', '.join(splits)}, e.g. {strays[0]}: put the training "
            "data into a folder train"
        )
    for name in strays:
        report.drop(name, f"beside the folders of the splits ({', '.join(splits)})")
    return {name: path for name, path in recordings.items() if name not in strays}


def _rows(
    recordings: Mapping[str, Path],
    tables: Mapping[str, Path],
    split_of: Mapping[str, str | None],
    selection: CorpusSelection,
    report: PreparationReport,
) -> list[Row]:
    """The rows of tables and of recordings in splits without one, with what their folders say."""
    known = _read_folders(recordings, selection)
    rows, named = [], set()
    stated = [(table, *row) for table, path in tables.items() for row in _table_rows(table, path)]
    elsewhere = find_places((name for _, name, _ in stated), recordings)
    for table, written, given in stated:
        name, how = elsewhere.get(written, (written, ""))
        if how:
            report.repair(name, how)
        named.add(name)
        columns = {role: column for role, column in selection.columns.items() if column in given}
        roles = assign_columns(list(given), columns, table)
        # A table knows better than the folders.
        of_folders = {column: value for column, value in known.get(name, {}).items() if _role(column) not in roles}
        audio, split = str(recordings.get(name, name)), split_of.get(name) or split_of[table]
        rows.append({"id": name, "audio": audio, **of_folders, **given, _SPLIT: split})
    tabled = {split_of[table] for table in tables}
    for name, path in recordings.items():
        if name not in named and tabled & {split_of[name], None}:
            report.drop(name, "named by no metadata table")
        elif name not in named:
            rows.append({"id": name, "audio": str(path), **known[name], _SPLIT: split_of[name]})
    return rows


def _role(column: str) -> str:
    """What a column that the folders fill says."""
    return "emotion" if column == "label" or column.startswith(_LEVEL) else column


def _table_rows(table: str, path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a metadata table, each with the place of its recording."""
    for number, row in enumerate(read_table(path, suffix=PurePosixPath(table).suffix), 1):
        column = next((key for key in row if key.lower() == "file_name"), None)
        if column is None:
            raise CorpusError(f"{table} has no column file_name, which says whose row each is")
        file_name = str(row.pop(column) or "").strip().replace("\\", "/")
        place = PurePosixPath(table).parent / file_name
        if not file_name or place.is_absolute() or ".." in place.parts:
            raise CorpusError(f"{table}, row {number}: file_name {file_name!r} is no file of that folder")
        yield place.as_posix(), {key: value for key, value in row.items() if key and key != "audio"}


def _read_folders(recordings: Iterable[str], selection: CorpusSelection) -> dict[str, dict[str, str]]:
    """{place: what the folders say}: class and speaker, or where these are not clear, a column for each level."""
    chosen = selection.split_names.values()
    folders = {}
    for name in recordings:
        parts = list(_folders(name))
        if (split := _split_folder(name, chosen)) is not None:
            parts.remove(split)
        folders[name] = parts
    wants_levels = any(column.startswith(_LEVEL) for column in selection.columns.values())
    found = None if wants_levels else read_class_folders(folders)
    if found is None:
        return {name: {f"{_LEVEL}{n}": part for n, part in enumerate(parts, 1)} for name, parts in folders.items()}
    return found


def _check_labels(rows: Sequence[Row], tables: Collection[str], selection: CorpusSelection) -> None:
    """Raise where nothing says the classes."""
    columns = {column for row in rows for column in row}
    levels = sorted(column for column in columns if column.startswith(_LEVEL))
    if levels and "emotion" in selection.columns:
        return
    if levels:
        example = next(row["id"] for row in rows if levels[0] in row)
        raise CorpusError(
            f"{selection.where} has folders in folders, e.g. {example}: say which is the class, --label_column_name "
            f"{' or '.join(levels)} (and which the speaker, --speaker_column_name)"
        )
    labels = {row.get("label") for row in rows}
    if columns <= {"id", "audio", "session", _SPLIT} or (
        not tables and len(labels) == 1 and not all(label and is_emotion(label) for label in labels)
    ):
        raise CorpusError(
            f"{selection.where} has recordings, but no labels: put them into a folder for each class, name them in a "
            "metadata.csv with the columns file_name and label, or give a table of them by --data_dir"
        )
