"""Tables of text: the formats say the same, and what is wrong is named with its file and line."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from data_scripts.errors import CorpusError
from data_scripts.tables import TABLE_SUFFIXES, read_table

ROWS = [{"id": "01", "text": 'None, "she" said – naïve 漢'}, {"id": "2", "text": None}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_csv(tmp_path, encoding, ending):
    path = tmp_path / "a.CSV"
    text = ending.join(["id, text ", '01,"None, ""she"" said – naïve 漢"', "2,", ""])
    path.write_bytes(text.encode(encoding))
    assert read_table(path) == ROWS
    assert read_table(path, empty_cell="")[1] == {"id": "2", "text": ""}


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_lines(tmp_path, encoding, suffix):
    path = tmp_path / f"a{suffix}"
    lines = "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    path.write_bytes(lines.encode(encoding))
    assert read_table(path) == read_table(path, empty_cell="") == ROWS


def test_parquet(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet") == read_table(tmp_path / "a.parquet", empty_cell="") == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,text\nx,y\nx\n", r"a\.csv, line 3: the number of cells is not that of the header"),
        ("a.csv", b"id,text\nx,y,z\n", r"a\.csv, line 2: the number of cells"),
        ("a.csv", b'id,text\n"x,y\n', r"a\.csv, after line 1: unexpected end of data"),
        ("a.csv", "id\ncafé\n".encode("cp1252"), r"a\.csv is not UTF-8 .byte 0xe9; probably Windows cp1252.*CSV UTF-8"),
        ("a.jsonl", '{"id": "café"}'.encode("cp1252"), r"a\.jsonl is not UTF-8 .byte 0xe9"),
        ("a.jsonl", b'{"id": 1}\n\n{"id": \n', r"a\.jsonl, line 3: not JSON"),
        ("a.jsonl", b'["x"]\n', r"a\.jsonl, line 1: expected an object \{\.\.\.\}, got list"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read as Parquet"),
        ("a.txt", b"id\nx\n", r"a\.txt is not a table: its name must end in \.csv, \.json, \.jsonl, \.parquet"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_table(tmp_path / name)


def test_empty_tables_and_absent_files(tmp_path):
    for suffix in set(TABLE_SUFFIXES) - {".parquet"}:
        (tmp_path / f"a{suffix}").write_bytes(b"")
        assert read_table(tmp_path / f"a{suffix}") == []
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.csv")
