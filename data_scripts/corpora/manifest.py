"""Bring your own corpus: a CSV, TSV, JSON Lines or Parquet manifest with one row for each recording.

Columns: `audio` and `emotion`; optional `id`, `transcript`, `hypothesis`, `asr_model`, `speaker`, `session`, `split`,
or what `columns` reads as these. Audio paths are relative to the manifest's folder. Without a split column all is
training data; without ids the audio paths serve.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_scripts.constants import SPLITS
from data_scripts.corpora.base import CorpusRecord, ScannedCorpus, Selection, check_emotions
from data_scripts.corpora.columns import assign_columns, missing_columns
from data_scripts.corpora.folders import children
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.tables import DELIMITED_SUFFIXES, Row, read_table

REQUIRED_COLUMNS = ("audio", "emotion")
OPTIONAL_COLUMNS = ("id", "transcript", "hypothesis", "asr_model", "speaker", "session", "split")
MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MANIFEST_LAYOUT = (
    f"a manifest ({', '.join(MANIFEST_SUFFIXES[:-1])} or {MANIFEST_SUFFIXES[-1]}) with the columns audio and emotion"
)

_SPLIT_NAMES = {name: name for name in SPLITS} | {"dev": "validation", "valid": "validation", "val": "validation"}
_SPLIT_NAMES["development"] = "validation"


def scan(selection: Selection, report: PreparationReport) -> ScannedCorpus:
    """Read a manifest; rows without a usable label or audio file go into `report`, by their id.

    Args:
        selection: `data_dir` is the manifest, or a folder with exactly one. By default the classes are all that occur,
            sorted.
        report: takes the drops, and what the columns were read as.

    Raises:
        CorpusError: no manifest or several, one that is empty, damaged or in an unknown encoding, columns missing or
            ambiguous, ids twice, an
            unknown split, or a wanted emotion that no row has.
        OSError: the folder or file cannot be read.
    """
    path = find_manifest(selection.data_dir)
    items = _read_items(path, selection, report)
    _check_ids(items, path)
    _set_splits(items, path)
    labels = sorted({item["emotion"] for item in items if item["emotion"]})
    check_emotions(selection.emotions or (), labels, path)
    wanted = list(selection.emotions or labels)
    kept = []
    for item in items:
        reason = _unusable(item, wanted)
        if reason is None:
            kept.append(item)
        else:
            report.drop(item["id"], reason)
    return ScannedCorpus(emotions=wanted, rows=kept, looked_for=MANIFEST_LAYOUT)


def find_manifest(data_dir: Path) -> Path:
    """Return the manifest that `data_dir` is or contains.

    Raises:
        CorpusError: it contains none or several.
        OSError: the folder cannot be read.
    """
    if data_dir.is_file():
        if data_dir.suffix.lower() not in MANIFEST_SUFFIXES:
            raise CorpusError(f"{data_dir} is not a manifest: its name must end in {', '.join(MANIFEST_SUFFIXES)}")
        return data_dir
    visible = (path for path in children(data_dir) if not path.name.startswith("."))
    files = [path for path in visible if path.suffix.lower() in MANIFEST_SUFFIXES]
    if len(files) != 1:
        names = ", ".join(path.name for path in files)
        found = (
            f"{len(files)} manifests ({names}): name one of them" if files else f"nothing; looked for {MANIFEST_LAYOUT}"
        )
        raise CorpusError(f"{data_dir} holds {found}")
    return files[0]


def _read_items(path: Path, selection: Selection, report: PreparationReport) -> list[Row]:
    """The manifest's rows by their canonical columns."""
    rows = read_table(path)
    if not rows:
        raise CorpusError(f"{path} has no rows: write one line for each recording")
    found = list(dict.fromkeys(column for row in rows for column in row))
    columns = assign_columns(found, dict(selection.columns), path)
    if missing := [role for role in REQUIRED_COLUMNS if role not in columns]:
        raise missing_columns(missing, found, path)
    report.columns = columns
    report.unread_columns = [column for column in found if column and column not in columns.values()]
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
    item = {name: None if row.get(name) is None else str(row[name]) for name in (*OPTIONAL_COLUMNS, "emotion")}
    for name in ("id", "emotion", "speaker", "session", "split", "asr_model"):
        item[name] = (item[name] or "").strip() or None
    audio = row.get("audio")
    data = audio.get("bytes") if isinstance(audio, dict) else None
    name = audio.get("path") if isinstance(audio, dict) else audio
    name = None if name is None else str(name).strip() or None
    item["bytes"] = data
    item["path"] = _locate(path.parent, name) if name and data is None else name
    item["id"] = item["id"] or name or f"row {number}"
    return item


def _locate(folder: Path, name: str) -> str:
    """The absolute path of a recording; the backslashes of a table made on Windows work everywhere."""
    path = folder / name
    if "\\" in name and not path.is_file():
        path = folder / name.replace("\\", "/")
    return str(path.resolve())


def _check_ids(items: list[Row], path: Path) -> None:
    """Raise where an id occurs twice: results and hypotheses are joined on it."""
    twice = [name for name, count in Counter(item["id"] for item in items).items() if count > 1]
    if twice:
        names = ", ".join(twice[:5]) + (" …" if len(twice) > 5 else "")
        raise CorpusError(f"{path} has {len(twice)} ids more than once: {names}. Give every row an id of its own")


def _set_splits(items: list[Row], path: Path) -> None:
    """Bring the splits to their canonical names; without any, all rows are training data."""
    if not any(item["split"] for item in items):
        for item in items:
            item["split"] = "train"
        return
    for item in items:
        split = _SPLIT_NAMES.get((item["split"] or "").lower())
        if split is None:
            problem = (
                f"the unknown split {item['split']!r}" if item["split"] else "no split, though other rows have one"
            )
            raise CorpusError(f"{path}: {item['id']} has {problem}; use {', '.join(SPLITS)}")
        item["split"] = split


def _unusable(item: Row, wanted: Sequence[str]) -> str | None:
    """Why a row cannot be kept; None where it can."""
    if item["emotion"] is None:
        return "no emotion"
    if item["emotion"] not in wanted:
        return f"emotion not selected: {item['emotion']}"
    if item["bytes"] is None and item["path"] is None:
        return "no audio"
    if item["bytes"] is None and not Path(item["path"]).is_file():
        return "audio file missing"
    return None


RECORD = CorpusRecord(
    name="manifest",
    title="Speech emotion corpus",
    licence=None,
    about="Made from a manifest.",
    scan=scan,
    has_columns=True,
    takes_file=True,
)
