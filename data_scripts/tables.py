"""Reading tables: CSV, TSV, JSON, JSON Lines, Parquet and Excel files become rows, one dictionary each."""

import codecs
import csv
import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_scripts.errors import CorpusError

Row = dict[str, Any]

#: What separates the columns of a CSV, by its name in messages.
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
#: The tables that know no null: an empty cell may be one, or an empty text.
DELIMITED_SUFFIXES = (".csv", ".tsv", ".xlsx")

#: A table is read whole, and takes several times its size: more than this many MB are refused.
LIMIT = "M4SER_MAX_TABLE_MB"
_USUAL_LIMIT = 2000

# The first line. A quoted name may hold line breaks and delimiters; a quote inside a name is an ordinary character.
_HEADER = re.compile(r'(?:(?<![^,;\t])"(?:[^"]|"")*"|[^\r\n])*')
_QUOTED_NAME = re.compile(r'(?<![^,;\t])"(?:[^"]|"")*"')
_SAVE_AS_UTF_8 = (
    'Save it as UTF-8: in Excel "Save as" > "CSV UTF-8 (comma delimited)", in LibreOffice "Edit filter settings" > '
    "UTF-8"
)


def read_table(path: Path, empty_cell: str | None = None, suffix: str | None = None) -> list[Row]:
    """Return a table's rows as they stand; white space around the names of its columns is taken off.

    Args:
        path: a file whose name ends in one of `TABLE_SUFFIXES`. Text is UTF-8, with or without a byte order mark, or
            UTF-16 with one. A CSV is separated by what its header is: commas, semicolons or tabs. JSON is an object on
            each line, a list of objects, or an object of columns as pandas writes it.
        empty_cell: what an empty cell of a CSV, TSV or Excel file is. (The others tell a null from an empty text.)
        suffix: what the name would end in, of a file whose own name says nothing, as in a cache of downloads.

    Raises:
        CorpusError: it cannot be read so; the message names file and line.
    """
    reader = _READERS.get((suffix or path.suffix).lower())
    if reader is None:
        raise CorpusError(f"{path} is not a table: its name must end in {', '.join(TABLE_SUFFIXES)}")
    _check_size(path, path.stat().st_size)
    return [{name.strip(): value for name, value in row.items()} for row in reader(path, empty_cell)]


def _check_size(path: Path, size: int) -> None:
    limit = float(os.environ.get(LIMIT) or _USUAL_LIMIT)
    if size > limit * 1e6:
        raise CorpusError(
            f"{path} holds {size / 1e6:,.0f} MB, and tables of more than {limit:,.0f} MB are not read: divide it, or "
            f"set {LIMIT} in the environment"
        )


def _read_text(path: Path) -> str:
    """The text of a file, its line ends as they stand."""
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    # No text holds this character. In UTF-16 every second byte of Western text is one.
    if encoding == "utf-8" and b"\0" in data:
        raise CorpusError(f"{path} holds zero bytes; probably UTF-16 without a byte order mark. {_SAVE_AS_UTF_8}")
    try:
        text = data.decode(encoding).removeprefix("\ufeff")  # Excel begins its files with a byte order mark
    except UnicodeDecodeError as error:
        why = error.reason if encoding == "utf-16" else "probably Windows cp1252"
        byte = error.object[error.start]
        raise CorpusError(f"{path} is not {encoding.upper()} (byte {byte:#04x}; {why}). {_SAVE_AS_UTF_8}") from None
    if "\0" in text:
        raise CorpusError(f"{path} holds zero characters; probably UTF-32. {_SAVE_AS_UTF_8}")
    return text


def find_delimiter(text: str) -> str:
    """Return the one of `DELIMITERS` that a CSV's header has most of; the rows' texts are full of commas."""
    match = _HEADER.match(text)
    header = _QUOTED_NAME.sub("", match[0] if match else "")
    counts = Counter(character for character in header if character in DELIMITERS).most_common(2)
    if len(counts) == 2 and counts[0][1] == counts[1][1]:
        names = " and ".join(DELIMITERS[character] for character, _ in counts)
        raise ValueError(f"its header may be separated at {names} alike: put names that contain one in quotes")
    return counts[0][0] if counts else ","


def _read_csv(path: Path, empty_cell: str | None) -> list[Row]:
    text = _read_text(path)
    try:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else find_delimiter(text)
    except ValueError as error:
        raise CorpusError(f"{path}: {error}") from None
    # Not pandas, which turns the word "None" into a null.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    limit = csv.field_size_limit()  # 131,072 characters in a cell, for the whole process
    csv.field_size_limit(max(limit, len(text)))
    try:
        names = Counter(filter(None, (name.strip() for name in reader.fieldnames or ())))
        if twice := [name for name, count in names.items() if count > 1]:
            raise CorpusError(f"{path} has the column {', '.join(twice)} more than once: give each its own name")
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise CorpusError(f"{path}, line {reader.line_num}: the number of cells is not that of the header")
            rows.append({name: cell or empty_cell for name, cell in row.items()})
    except csv.Error as error:
        raise CorpusError(f"{path}, after line {reader.line_num}: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _read_json(path: Path, _: str | None) -> list[Row]:
    """The rows of a file that holds one JSON value, or one on each line."""
    text = _read_text(path)
    try:
        value = _from_json(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise CorpusError(f"{path}, line {error.lineno}: not JSON ({error})") from None
        rows = _json_lines(text, path)
    else:
        try:
            rows = {f"row {number}": row for number, row in enumerate(_json_rows(value), 1)}
        except (TypeError, ValueError):
            raise CorpusError(f"{path}: not a table: its columns and its rows do not fit each other") from None
    for place, row in rows.items():
        if not isinstance(row, dict):
            raise CorpusError(f"{path}, {place}: expected an object {{...}}, got {type(row).__name__}")
    return list(rows.values())


def _json_lines(text: str, path: Path) -> dict[str, Any]:
    """The values by their lines."""
    rows = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows[f"line {number}"] = _from_json(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path}, line {number}: not JSON ({error})") from None
    return rows


def _from_json(text: str) -> Any:
    """A JSON value; NaN, which Python and pandas write for what is missing, is null."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:  # brackets in brackets; a number of thousands of digits
        raise json.JSONDecodeError(str(error).partition(":")[0], "", 0) from None


def _json_rows(value: Any) -> list[Any]:
    """The rows of one JSON value: a list of them, what pandas' `to_json` writes in any `orient`, or a single one."""
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    if isinstance(data := value.get("data"), list) and value.keys() <= {"data", "columns", "index", "schema"}:
        names = value.get("columns")
        return data if names is None else [dict(zip(map(str, names), row, strict=True)) for row in data]
    columns = list(value.values())
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if columns and all(isinstance(column, dict) for column in columns):
        if all(map(str.isdecimal, value)):  # "index"
            return columns
        if all(map(str.isdecimal, columns[0])):  # "columns"
            return [{name: column.get(row) for name, column in value.items()} for row in columns[0]]
    return [value]


def _read_parquet(path: Path, _: str | None) -> list[Row]:
    import pyarrow.parquet  # here, because it is slow to import and text needs none of it

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows, size = [], 0
            for batch in file.iter_batches():  # values that repeat take no place in the file
                size += batch.nbytes
                _check_size(path, size)
                rows += batch.to_pylist()
            return rows
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet: {error}") from None


def _read_excel(path: Path, empty_cell: str | None) -> list[Row]:
    import pandas  # slow to import, as above

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(part.file_size for part in archive.infolist()))
    try:
        sheets = pandas.read_excel(path, sheet_name=None, dtype=object, na_filter=False)
    except ImportError:
        raise CorpusError(
            f"{path}: reading Excel files needs `pip install openpyxl`; or save it as CSV UTF-8"
        ) from None
    # Everything: what the package raises for a damaged file has no class in common.
    except Exception as error:
        raise CorpusError(f"{path} cannot be read as an Excel file: {error}") from None
    filled = [name for name, sheet in sheets.items() if len(sheet)]
    if len(filled) > 1:
        raise CorpusError(f"{path} has several sheets ({', '.join(filled)}): save the one that is meant as CSV UTF-8")
    return [
        {str(name): empty_cell if cell == "" else cell for name, cell in row.items()}
        for name in filled
        for row in sheets[name].to_dict("records")
    ]


_READERS: dict[str, Callable[[Path, str | None], list[Row]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
    ".tsv": _read_csv,
    ".xlsx": _read_excel,
}
TABLE_SUFFIXES = tuple(_READERS)
