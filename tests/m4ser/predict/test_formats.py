"""The table in three formats holds the same."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq

from m4ser.predict.formats import write_table
from m4ser.predict.parts import table_schema
from tests.m4ser.predict.test_parts import answer


def test_formats_hold_the_same(tmp_path):
    schema = table_schema(["angry", "sad"], corrections=True, embeddings=True)
    blocks = [pa.Table.from_pylist([answer("u1") | {"text": 'née "x",\ny'}], schema)]
    blocks.append(pa.Table.from_pylist([answer("u2", ok=False)], schema))
    for name in ("parquet", "csv", "jsonl"):
        write_table(blocks, schema, tmp_path / f"t.{name}")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert rows == pa.concat_tables(blocks).to_pylist()
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_text("utf-8").splitlines()] == rows
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["text"] == rows[0]["text"]
    assert [float(first["probability_sad"]), json.loads(first["embedding"])] == [1 - 1 / 64, rows[0]["embedding"]]
    assert json.loads(first["corrections"]) == rows[0]["corrections"]
    assert (second["label"], second["labels"], second["error"]) == ("", "", "u2 is cut off")
