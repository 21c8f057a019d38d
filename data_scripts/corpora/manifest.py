"""Bring your own corpus: a CSV, TSV, JSON Lines or Parquet manifest with one row for each recording.

Columns: `audio` and `emotion`; optional `id`, `transcript`, `hypothesis`, `asr_model`, `speaker`, `session`, `split`,
or what `columns` reads as these. Audio paths are relative to the manifest's folder. Without a split column all is
training data; without ids the audio paths serve.
"""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from data_scripts.corpora.base import CorpusRecord, ScannedCorpus
from data_scripts.corpora.folders import children
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import as_utterance, check_ids, drop_unusable, read_columns, set_splits
from data_scripts.errors import CorpusError
from data_scripts.tables import DELIMITED_SUFFIXES, Row, read_table

MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MANIFEST_LAYOUT = (
    f"a manifest ({', '.join(MANIFEST_SUFFIXES[:-1])} or {MANIFEST_SUFFIXES[-1]}) with the columns audio and emotion"
)


def scan(selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """Read a manifest; rows without a usable label or audio file go into `report`, by their id."""
    path = _find_manifest(selection.place)
    items = _read_items(path, selection, report)
    check_ids(items, path)
    set_splits(items, path)
    return ScannedCorpus(drop_unusable(items, report), search_hint=MANIFEST_LAYOUT)


def _find_manifest(data_dir: Path) -> Path:
    """The manifest that `data_dir` is or contains."""
    if data_dir.is_file():
        if data_dir.suffix.lower() not in MANIFEST_SUFFIXES:
            raise CorpusError(f"{data_dir} is not a manifest: its name must end in {', '.join(MANIFEST_SUFFIXES)}")
        return data_dir
    visible = (path for path in children(data_dir) if not path.name.startswith("."))
    files = [path for path in visible if path.suffix.lower() in MANIFEST_SUFFIXES]
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise CorpusError(f"{data_dir} holds {len(files)} manifests ({names}): name one of them")
    if not files:
        raise CorpusError(
            f"{data_dir} holds nothing; looked for {MANIFEST_LAYOUT}. Folders of recordings, one for each class, go in "
            "by --dataset_name"
        )
    return files[0]


def _read_items(path: Path, selection: CorpusSelection, report: PreparationReport) -> list[Row]:
    """The manifest's rows by their canonical columns."""
    rows = read_table(path)
    if not rows:
        raise CorpusError(f"{path} has no rows: write one line for each recording")
    found = list(dict.fromkeys(column for row in rows for column in row))
    columns = read_columns(found, selection, path, report)
    rows = [{role: row.get(column) for role, column in columns.items()} for row in rows]
    if path.suffix.lower() in DELIMITED_SUFFIXES:
        for row in rows:
            # These know no null. Where a recogniser is named, an empty hypothesis means that it recognised no words;
            # where none is, that the utterance has not been transcribed.
            if row.get("asr_model") and "hypothesis" in row:
                row["hypothesis"] = row["hypothesis"] or ""
    return [_canonical(row, number, path) for number, row in enumerate(rows, 1)]


def _canonical(row: Row, number: int, path: Path) -> Row:
    """The row with text values, its audio resolved, and an id."""
    try:
        item = as_utterance(row)
    except CorpusError as error:
        raise CorpusError(f"{path}, row {number}: {error}") from None
    audio = row.get("audio")
    data = audio.get("bytes") if isinstance(audio, dict) else None
    name = audio.get("path") if isinstance(audio, dict) else audio
    name = None if name is None else str(name).strip() or None
    item["bytes"] = data
    item["path"] = _locate(path.parent, name) if name and data is None else name
    # Two speakers of one file may each have a channel of it.
    channel = f" channel {item['channel']}" if name and item.get("channel") is not None else ""
    item["id"] = item["id"] or f"{name or f'row {number}'}{channel}"
    return item


def _locate(folder: Path, name: str) -> str:
    """The absolute path of a recording, or of a `file://` address; a table's backslashes work everywhere."""
    if name.lower().startswith("file:"):
        name = url2pathname(urlsplit(name).path)
    path = folder / Path(name).expanduser()
    if "\\" in name and not path.is_file():
        path = folder / name.replace("\\", "/")
    return str(path.resolve())


RECORD = CorpusRecord(
    name="manifest",
    title="Speech emotion corpus",
    license=None,
    about="Made from a manifest.",
    scan=scan,
    has_columns=True,
    takes_file=True,
)
