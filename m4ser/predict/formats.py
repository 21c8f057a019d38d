"""The table of predictions as Parquet, CSV or JSON Lines; what is no number or text of its own is JSON in a CSV."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_scripts.files import replace_together


def write_table(blocks: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write blocks of a table, one in memory at a time, as what the name of `path` says; it appears whole."""
    with replace_together([path], durable=True) as (temporary,):
        if path.suffix == ".parquet":
            with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                for block in blocks:
                    writer.write_table(block)
            return
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            rows = (row for block in blocks for row in block.to_pylist())
            if path.suffix == ".csv":
                table = csv.writer(file)
                table.writerow(schema.names)
                table.writerows(map(_cell, row.values()) for row in rows)
            else:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
