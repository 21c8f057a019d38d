"""Tables of text: the formats say the same, and what is wrong is named with its file and line."""

import codecs
import csv
import io
import json
import string
import zipfile

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_scripts.errors import CorpusError
from data_scripts.tables import TABLE_SUFFIXES, find_delimiter, read_table

ROWS = [{"id": "01", "text": 'None, "she" said – naïve 漢'}, {"id": "2", "text": None}]


def test_formats_say_the_same(tmp_path):
    spaced = [{f" {name}\t": value for name, value in row.items()} for row in ROWS]
    (tmp_path / "a.CSV").write_text(' id,text \n01,"None, ""she"" said – naïve 漢"\n2,\n', encoding="utf-8")
    for suffix in (".json", ".jsonl"):
        (tmp_path / f"a{suffix}").write_text("\n\n".join(map(json.dumps, spaced)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(spaced), tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        assert read_table(path) == ROWS
        # The other formats tell a null from an empty text.
        assert read_table(path, empty_cell="") == (
            ROWS if path.suffix != ".CSV" else [ROWS[0], {"id": "2", "text": ""}]
        )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,text\nx,y\nx\n", r"a\.csv, line 3: the number of cells is not that of the header"),
        ("a.csv", b"id,text\nx,y,z\n", r"a\.csv, line 2: the number of cells"),
        ("a.csv", b'id,text\n"x,y\n', r"a\.csv, after line 1: unexpected end of data"),
        ("a.csv", "id\ncafé\n".encode("cp1252"), r"a\.csv is not UTF-8 .byte 0xe9; probably Windows cp1252.*CSV UTF-8"),
        ("a.jsonl", '{"id": "café"}'.encode("cp1252"), r"a\.jsonl is not UTF-8 .byte 0xe9"),
        ("a.jsonl", b'{"id": 1}\n\n{"id": \n', r"a\.jsonl, line 3: not JSON"),
        ("a.jsonl", b'{}\n\n["x"]\n', r"a\.jsonl, line 3: expected an object \{\.\.\.\}, got list"),
        ("a.json", b'[{},\n"x"]\n', r"a\.json, row 2: expected an object \{\.\.\.\}, got str"),
        ("a.json", b'[{},\n{"x": }]\n', r"a\.json, line 2: not JSON"),
        ("a.xlsx", b"PK", r"a\.xlsx(: Excel files need `pip install openpyxl`| cannot be read as an Excel file)"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read as Parquet"),
        ("a.csv", "id,text\n1,hi\n".encode("utf-16-le"), r"a\.csv holds zero bytes; probably UTF-16 without a byte"),
        ("a.csv", "id,text\n1,é\n".encode("utf-16-be"), r"a\.csv holds zero bytes; probably UTF-16 without a byte"),
        ("a.tsv", "id\ttext\n".encode("utf-16")[:-1], r"a\.tsv is not UTF-16 .byte 0x0a; truncated data"),
        ("a.csv", "id,text\n".encode("utf-32"), r"a\.csv holds zero characters; probably UTF-32\. Save it"),
        ("a.csv", b"id,text;note\n", r"a\.csv: its header may be separated at comma and semicolon alike"),
        ("a.csv", b"id, id,text\n1,2,3\n", r"a\.csv has the column id more than once"),
        ("a.tsv", b"id\ttext\nx,y\n", r"a\.tsv, line 2: the number of cells"),
        ("a.txt", b"id\nx\n", r"a\.txt is not a table: its name must end in .csv, .json, .*, .tsv, .xlsx"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_table(tmp_path / name)


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_what_a_packed_table_unpacks_to_counts_as_a_whole(tmp_path, monkeypatch, suffix):
    """Of the limit of 1 MB, no batch of rows and no part of an archive takes more than two thirds."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": ["word"] * 200_000}), path, row_group_size=50_000)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in "abc":
                archive.writestr(name, bytes(600_000))
    assert path.stat().st_size < 1e5
    monkeypatch.setenv("M4SER_MAX_TABLE_MB", "1")
    with pytest.raises(CorpusError, match="tables of more than 1 MB are not read"):
        read_table(path)


def test_a_file_is_what_it_is_said_to_be_whatever_its_own_name_ends_in(tmp_path):
    (tmp_path / "snapshot.2024").write_text("id\n1\n")
    assert read_table(tmp_path / "snapshot.2024", suffix=".CSV") == [{"id": "1"}]


def test_empty_tables_and_absent_files(tmp_path):
    for suffix in set(TABLE_SUFFIXES) - {".parquet", ".xlsx"}:
        (tmp_path / f"a{suffix}").write_bytes(b"")
        assert read_table(tmp_path / f"a{suffix}") == []
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.csv")


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table", "list"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_as_pandas_writes_it(tmp_path, orient, suffix):
    """Also of rows that were chosen from others, whose index has gaps."""
    frame = pd.DataFrame([{"id": "x", "text": "y"}, *ROWS])[1:]
    path = tmp_path / f"a{suffix}"
    if orient == "list":
        path.write_text(json.dumps(frame.to_dict("list"), indent=1))
    else:
        frame.to_json(path, orient=orient)
    assert [{name: row[name] for name in ("id", "text")} for row in read_table(path)] == ROWS


def test_an_excel_file(tmp_path):
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame([{"id": "01", "text": "None", "number": 7}, {"id": "x", "text": None, "number": 0.5}])
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    first, second = read_table(tmp_path / "a.xlsx")
    assert (first, second) == ({"id": "01", "text": "None", "number": 7}, {"id": "x", "text": None, "number": 0.5})
    with pd.ExcelWriter(tmp_path / "b.xlsx") as writer:
        for name in ("one", "two"):
            frame.to_excel(writer, sheet_name=name)
    with pytest.raises(CorpusError, match=r"b\.xlsx has several sheets .one, two.: save the one that is meant"):
        read_table(tmp_path / "b.xlsx")


def test_a_cell_of_any_length_and_the_process_s_limit_stays(tmp_path):
    limit, text = csv.field_size_limit(), "x" * 200_000
    (tmp_path / "a.csv").write_text(f"id,text\n1,{text}\n")
    assert read_table(tmp_path / "a.csv") == [{"id": "1", "text": text}]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("audio,emotion", ","),
        ("audio;emotion", ";"),
        ("audio\temotion", "\t"),
        ("audio;emotion;valence, arousal", ";"),
        ('"audio; wav, or flac";emotion', ";"),
        ('audio;"a ""b"", c, d";emotion\r\nx,y,z,u,v', ";"),
        ('audio,"two\nlines; in; one",emotion', ","),
        ('size 5",audio,a;b\n"', ","),
        ("audio", ","),
        ("", ","),
        ("audio|emotion\na;b;c", ","),
    ],
)
def test_the_header_says_what_separates_the_columns(header, delimiter):
    assert find_delimiter(header) == delimiter
    assert find_delimiter(header + "\n,,,;;;;;\t\t\t\t\t\t") == delimiter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that the examples of a property share."""
    return tmp_path_factory.mktemp("tables")


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=8)
NAMES = st.lists(st.text(string.ascii_letters + ' ,;\t"_é漢', min_size=1, max_size=8), min_size=2, max_size=4)
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",  # the codec writes its mark itself
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=NAMES.filter(
        lambda names: len({name.strip() for name in names}) == len(names) and all(map(str.strip, names))
    ),
    rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=4),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_every_delimiter_and_encoding_says_the_same(folder, names, rows, delimiter, encoding, ending):
    rows = [row[: len(names)] for row in rows]
    written = io.StringIO()
    # All quoted, so that a name may hold any delimiter.
    csv.writer(written, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    data = ENCODINGS[encoding] + written.getvalue().encode(encoding)
    expected = [dict(zip([name.strip() for name in names], row, strict=True)) for row in rows]
    for name in ("a.csv", "a.tsv") if delimiter == "\t" else ("a.csv",):
        (folder / name).write_bytes(data)
        assert read_table(folder / name, empty_cell="") == expected


@settings(max_examples=50)
@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), CELLS, min_size=1), max_size=4))
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_json_lines_in_every_encoding(folder, rows, encoding):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "a.jsonl").write_bytes(ENCODINGS[encoding] + text.encode(encoding))
    assert read_table(folder / "a.jsonl") == rows
