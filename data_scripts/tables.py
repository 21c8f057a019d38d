"""Reading tables of text: CSV, JSON Lines and Parquet files become rows, one dictionary each."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_scripts.errors import CorpusError

Row = dict[str, Any]


def read_table(path: Path, empty_cell: str | None = None) -> list[Row]:
    """Return a table's rows as they stand.

    Args:
        path: a file whose name ends in one of `TABLE_SUFFIXES`; text is UTF-8, with or without a byte order mark.
        empty_cell: what an empty CSV cell is. (The other formats tell a null from an empty text themselves.)

    Raises:
        CorpusError: the name ends otherwise, or the file is damaged or not UTF-8; the message names file and line.
        OSError: the file cannot be read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(f"{path} is not a table: its name must end in {', '.join(TABLE_SUFFIXES)}")
    try:
        return reader(path, empty_cell)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x}; probably Windows cp1252). Save it as UTF-8: "
            'in Excel "Save as" > "CSV UTF-8 (comma delimited)", in LibreOffice "Edit filter settings" > UTF-8'
        ) from None


def _read_csv(path: Path, empty_cell: str | None) -> list[Row]:
    # utf-8-sig: Excel begins its files with a byte order mark. Not pandas, which turns the word "None" into a null.
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise CorpusError(f"{path}, line {reader.line_num}: the number of cells is not that of the header")
                rows.append({name.strip(): text or empty_cell for name, text in row.items()})
        except csv.Error as error:
            raise CorpusError(f"{path}, after line {reader.line_num}: {error}") from None
    return rows


def _read_json_lines(path: Path, _: str | None) -> list[Row]:
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


def _read_parquet(path: Path, _: str | None) -> list[Row]:
    import pyarrow.parquet  # here, because it is slow to import and text needs none of it

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet: {error}") from None


_READERS: dict[str, Callable[[Path, str | None], list[Row]]] = {
    ".csv": _read_csv,
    ".json": _read_json_lines,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
TABLE_SUFFIXES = tuple(_READERS)
