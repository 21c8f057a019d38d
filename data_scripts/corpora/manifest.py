"""Bring your own corpus: a manifest (CSV, TSV, JSON, Parquet or Excel) with one row for each recording.

Columns: `audio` and `emotion`; optional `id`, `transcript`, `hypothesis`, `asr_model`, `speaker`, `session`, `split`,
or what `columns` reads as these. Audio paths are relative to the manifest's folder. Without a split column all is
training data, unless there is a manifest for each split, such as train.csv and test.csv; without ids the audio paths
serve.
"""

from pathlib import Path

from data_scripts.corpora.base import CorpusRecord, ScannedCorpus
from data_scripts.corpora.folders import children
from data_scripts.corpora.lookup import locate, locate_recordings
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import (
    as_utterance,
    check_ids,
    drop_unusable,
    forget_times_of_clips,
    name_rows,
    read_columns,
    recording_name,
    set_splits,
)
from data_scripts.corpora.split_names import split_word
from data_scripts.errors import CorpusError
from data_scripts.tables import DELIMITED_SUFFIXES, TABLE_SUFFIXES, Row, read_table

MANIFEST_LAYOUT = (
    f"a manifest ({', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}) with the columns audio and emotion"
)
#: What is taken for the manifest of a folder only where nothing else is: such files often hold something else.
_UNUSUAL_SUFFIXES = (".json", ".xlsx")


def scan(selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """Read a manifest; rows without a usable label or audio file go into `report`, by their id."""
    items: list[Row] = []
    columns: dict[str, str] = {}
    for split, path in _find_manifests(selection.place).items():
        items += _read_items(path, split, selection, report)
        columns |= report.columns
    report.columns = columns
    name_rows(items)
    check_ids(items, selection.place)
    items = set_splits(items, selection.split_names, selection.place, report)
    folder = selection.place if selection.place.is_dir() else selection.place.parent
    items = locate_recordings(drop_unusable(items, report), folder, selection.place, report)
    forget_times_of_clips(items, report)
    return ScannedCorpus(items, search_hint=MANIFEST_LAYOUT)


def _find_manifests(data_dir: Path) -> dict[str, Path]:
    """The manifest that `data_dir` is or contains, as {"": path}; of several that are splits, {name of split: path}."""
    if data_dir.is_file():
        if data_dir.suffix.lower() not in TABLE_SUFFIXES:
            raise CorpusError(f"{data_dir} is not a manifest: its name must end in {', '.join(TABLE_SUFFIXES)}")
        return {"": data_dir}
    tables = [path for path in children(data_dir) if path.suffix.lower() in TABLE_SUFFIXES and path.name[0] not in ".~"]
    files = [path for path in tables if path.suffix.lower() not in _UNUSUAL_SUFFIXES] or tables
    if not files:
        raise CorpusError(
            f"{data_dir} holds no table; looked for {MANIFEST_LAYOUT}. Folders of recordings, one for each class, go "
            "in by --dataset_name"
        )
    splits = {split_word(path.stem, alone=False): path for path in files}
    if len(files) > 1 and (None in splits or len(splits) < len(files)):
        names = ", ".join(path.name for path in files)
        raise CorpusError(f"{data_dir} holds {len(files)} manifests ({names}): name one of them")
    return {"": files[0]} if len(files) == 1 else splits


def _read_items(path: Path, split: str, selection: CorpusSelection, report: PreparationReport) -> list[Row]:
    """A manifest's rows by their canonical columns; without a split of their own they are of that of its name."""
    rows = read_table(path)
    if not rows:
        raise CorpusError(f"{path} has no rows: write one line for each recording")
    found = list(dict.fromkeys(column for row in rows for column in row))
    columns = read_columns(found, selection, path, report)
    values = [{role: row.get(column) for role, column in columns.items()} for row in rows]
    if path.suffix.lower() in DELIMITED_SUFFIXES:
        for row in values:
            # These know no null. Where a recogniser is named, an empty hypothesis means that it recognised no words;
            # where none is, that the utterance has not been transcribed.
            if row.get("asr_model") and "hypothesis" in row:
                row["hypothesis"] = row["hypothesis"] or ""
    pairs = zip(values, rows, strict=True)
    return [_canonical({"split": split, **each}, row, number, path) for number, (each, row) in enumerate(pairs, 1)]


def _canonical(values: Row, row: Row, number: int, path: Path) -> Row:
    """A row's values as text, its audio resolved, and the name of its recording."""
    try:
        item = as_utterance(values, row)
    except CorpusError as error:
        raise CorpusError(f"{path}, row {number}: {error}") from None
    audio = values.get("audio")
    data = audio.get("bytes") if isinstance(audio, dict) else None
    name = audio.get("path") if isinstance(audio, dict) else audio
    name = None if name is None else str(name).strip() or None
    item["bytes"] = data
    item["path"] = locate(path.parent, name) if name and data is None else name
    item["name"] = recording_name(item, name) if name else f"row {number}"
    return item


RECORD = CorpusRecord(
    name="manifest",
    title="Speech emotion corpus",
    license=None,
    about="Made from a manifest.",
    scan=scan,
    has_columns=True,
    has_splits=True,
    takes_file=True,
)
