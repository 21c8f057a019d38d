"""Bring your own corpus: a CSV, JSON Lines or Parquet manifest with one row for each recording.

Columns: `audio` and `emotion`; optional `id`, `transcript`, `hypothesis`, `asr_model`, `speaker`, `session`, `split`.
Audio paths are relative to the manifest's folder. Without a split column all is training data; without ids the audio
paths serve.
"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from data_scripts.corpora.report import PreparationReport
from data_scripts.schema import SPLITS, CorpusError, ScannedCorpus

REQUIRED = ("audio", "emotion")
OPTIONAL = ("id", "transcript", "hypothesis", "asr_model", "speaker", "session", "split")
SUFFIXES = (".csv", ".jsonl", ".parquet")
LOOKED_FOR = "a manifest (.csv, .jsonl or .parquet) with the columns audio and emotion"

_SPLIT_NAMES = {name: name for name in SPLITS} | {"dev": "validation", "valid": "validation", "val": "validation"}


def scan(data_dir: Path, emotions: Sequence[str] | None, report: PreparationReport) -> ScannedCorpus:
    """Read a manifest; rows without a usable label or audio file go into `report`, by their id.

    Args:
        data_dir: the manifest, or a folder with exactly one.
        emotions: the classes wanted, in order; others are dropped. By default all that occur, sorted.
        report: takes the drops.

    Raises:
        CorpusError: no manifest or several, one that is empty, damaged or not UTF-8, columns missing, ids twice, an
            unknown split, or a wanted emotion that no row has.
    """
    path = find_manifest(data_dir)
    rows = read_manifest(path)
    if not rows:
        raise CorpusError(f"{path} has no rows: write one line for each recording")
    found = list(dict.fromkeys(column for row in rows for column in row))
    if missing := [column for column in REQUIRED if column not in found]:
        hint = "; separate the columns by commas" if len(found) == 1 and ";" in found[0] else ""
        raise CorpusError(f"{path} lacks the columns {', '.join(missing)}; its columns: {', '.join(found)}{hint}")
    items = [_canonical(row, number, path) for number, row in enumerate(rows, 1)]
    _check_ids(items, path)
    _set_splits(items, path)
    labels = sorted({item["emotion"] for item in items if item["emotion"]})
    if unknown := [name for name in emotions or () if name not in labels]:
        raise CorpusError(f"{path} labels no row {', '.join(unknown)}; its emotions: {', '.join(labels) or 'none'}")
    wanted = list(emotions or labels)
    kept = []
    for item in items:
        reason = _unusable(item, wanted)
        if reason is None:
            kept.append(item)
        else:
            report.drop(item["id"], reason)
    return ScannedCorpus(emotions=wanted, rows=kept, looked_for=LOOKED_FOR)


def find_manifest(data_dir: Path) -> Path:
    """Return the manifest that `data_dir` is or contains.

    Raises:
        CorpusError: it contains none or several.
    """
    if data_dir.is_file():
        if data_dir.suffix.lower() not in SUFFIXES:
            raise CorpusError(f"{data_dir} is not a manifest: its name must end in {', '.join(SUFFIXES)}")
        return data_dir
    files = sorted(
        path for path in data_dir.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if len(files) != 1:
        names = ", ".join(path.name for path in files)
        found = f"{len(files)} manifests ({names}): name one of them" if files else f"nothing; looked for {LOOKED_FOR}"
        raise CorpusError(f"{data_dir} holds {found}")
    return files[0]


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return a manifest's rows as they stand; an empty CSV cell is None.

    Raises:
        CorpusError: the file is damaged, or is not UTF-8.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x}; probably Windows cp1252). Save it as UTF-8: "
            'in Excel "Save as" > "CSV UTF-8 (comma delimited)", in LibreOffice "Edit filter settings" > UTF-8'
        ) from None


def _read_csv(path: Path) -> list[dict[str, Any]]:
    # utf-8-sig: Excel begins its files with a byte order mark. Not pandas, which turns the word "None" into a null.
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise CorpusError(f"{path}, line {reader.line_num}: the number of cells is not that of the header")
                rows.append({name.strip(): text or None for name, text in row.items()})
        except csv.Error as error:
            raise CorpusError(f"{path}, after line {reader.line_num}: {error}") from None
    for row in rows:
        # A named recogniser and no words is an utterance in which it heard nothing, which is not "not transcribed".
        if row.get("asr_model") and "hypothesis" in row:
            row["hypothesis"] = row["hypothesis"] or ""
    return rows


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{path}, line {number}: expected an object {{...}}, got {type(row).__name__}")
        rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet: {error}") from None


def _canonical(row: dict[str, Any], number: int, path: Path) -> dict[str, Any]:
    """The row with text values, its audio resolved, and an id."""
    item = {name: None if row.get(name) is None else str(row[name]) for name in (*OPTIONAL, "emotion")}
    for name in ("id", "emotion", "speaker", "session", "split", "asr_model"):
        item[name] = (item[name] or "").strip() or None
    audio = row.get("audio")
    data = audio.get("bytes") if isinstance(audio, dict) else None
    name = audio.get("path") if isinstance(audio, dict) else audio
    name = None if name is None else str(name).strip() or None
    item["bytes"] = data
    item["path"] = str((path.parent / name).resolve()) if name and data is None else name
    item["id"] = item["id"] or name or f"row {number}"
    return item


def _check_ids(items: list[dict[str, Any]], path: Path) -> None:
    """Raise where an id occurs twice: results and hypotheses are joined on it."""
    twice = [name for name, count in Counter(item["id"] for item in items).items() if count > 1]
    if twice:
        names = ", ".join(twice[:5]) + (" …" if len(twice) > 5 else "")
        raise CorpusError(f"{path} has {len(twice)} ids more than once: {names}. Give every row an id of its own")


def _set_splits(items: list[dict[str, Any]], path: Path) -> None:
    """Bring the splits to their canonical names; without any, all rows are training data."""
    if not any(item["split"] for item in items):
        for item in items:
            item["split"] = "train"
        return
    for item in items:
        split = _SPLIT_NAMES.get((item["split"] or "").lower())
        if split is None:
            told = f"the unknown split {item['split']!r}" if item["split"] else "no split, though other rows have one"
            raise CorpusError(f"{path}: {item['id']} has {told}; use {', '.join(SPLITS)}")
        item["split"] = split


def _unusable(item: dict[str, Any], wanted: Sequence[str]) -> str | None:
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
