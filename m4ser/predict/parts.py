"""The folder of a prediction: what it was made with, append-only Parquet parts, and from them one row an id.

    manifest.json               all that decides an answer; with other settings the folder is refused
    parts/part-….parquet        answers as they came: whole or not there, never changed
    predictions.parquet|csv|…   one row an id, in the order of the inputs

A kill at any moment loses at most the rows that are not yet in a part, and the same command predicts those.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_scripts.errors import UserError
from data_scripts.files import replace_together

_ROWS, _SECONDS = 1000, 30.0  # after which a part is written
_BLOCK = 10_000  # rows of the table that are in memory at once
_TEXT, _NUMBER, _PLACE = pa.string(), pa.float64(), pa.int64()
_WORDS = pa.struct({"start": _PLACE, "end": _PLACE, "text": _TEXT, "replacement": _TEXT, "confidence": _NUMBER})
_INPUT = "input"  # of parts: the digest of what was read, see `Inputs`


def table_schema(labels: Iterable[str], corrections: bool = False, embeddings: bool = False) -> pa.Schema:
    """Return the columns of a table of predictions, for a model with these labels."""
    columns = {"id": _TEXT, "file": _TEXT, "seconds": _NUMBER, "text": _TEXT, "asr_model": _TEXT, "label": _TEXT}
    columns |= {f"probability_{name}": _NUMBER for name in labels}
    columns |= {"confidence": _NUMBER, "decision": _TEXT, "labels": pa.list_(_TEXT), "ood_score": _NUMBER}
    columns |= {"corrected_text": _TEXT, "corrections": pa.list_(_WORDS)} if corrections else {}
    columns |= {"embedding": pa.list_(pa.float32())} if embeddings else {}
    columns |= {"ok": pa.bool_(), "error_type": _TEXT, "error": _TEXT, "tries": pa.int32()}
    return pa.schema(list(columns.items()))


class _Place(NamedTuple):
    """Where the best answer to an id stands, and whether it is a good one."""

    part: int
    row: int
    ok: bool
    tries: int


class Parts:
    """The parts in a folder, to append to and to read.

    Args:
        folder: of the prediction.
        schema: see `table_schema`.
        digests: {id: digest} of the inputs, in order. Answers to other inputs stay, but do not count.
    """

    def __init__(self, folder: Path, schema: pa.Schema, digests: Mapping[str, str]):
        self.folder, self.schema, self.digests = folder / "parts", schema, digests
        self.folder.mkdir(parents=True, exist_ok=True)
        self._waiting: list[dict[str, Any]] = []
        self._since = time.monotonic()
        self._found = self.best()

    def unanswered(self) -> list[int]:
        """Return the places, in order, of the inputs that had no good answer when this was made."""
        return [
            place for place, name in enumerate(self.digests) if not (found := self._found.get(name)) or not found.ok
        ]

    def best(self) -> dict[str, _Place]:
        """Return {id: where its best answer stands}: a success beats a failure, a later one an earlier one."""
        found: dict[str, _Place] = {}
        for number, path in enumerate(self.paths()):
            columns = _read(path, ["id", _INPUT, "ok", "tries"]).to_pydict()
            for row, (name, digest, ok, tries) in enumerate(zip(*columns.values(), strict=True)):
                before = found.get(name)
                if self.digests.get(name) == digest and not (before and (before.ok, before.tries) > (ok, tries)):
                    found[name] = _Place(number, row, ok, tries)
        return found

    def paths(self) -> list[Path]:
        """Return the parts that are there, in the order of their names, which is that of their times."""
        return sorted(self.folder.glob("part-*.parquet"))

    def append(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Take answers, and write a part where there are enough of them, or the last is long ago."""
        for answer in answers:
            name = answer["id"]
            tries = self._found[name].tries if name in self._found else 0
            self._waiting.append({**answer, _INPUT: self.digests[name], "tries": tries + 1})
        if len(self._waiting) >= _ROWS or time.monotonic() - self._since >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits; on return no kill and no power failure can lose it."""
        if self._waiting:
            table = pa.Table.from_pylist(self._waiting, self.schema.append(pa.field(_INPUT, pa.string())))
            # Of two processes at the same time, the random part keeps them apart.
            path = self.folder / f"part-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
            with replace_together([path], durable=True) as (temporary,):
                pq.write_table(table, temporary, compression="zstd")
        self._waiting, self._since = [], time.monotonic()

    def rows(self) -> Iterator[pa.Table]:
        """Yield the table of predictions in blocks: one row an id that was answered, in the order of the inputs."""
        best, paths = self.best(), self.paths()
        places = [best[name] for name in self.digests if name in best]
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            numbers = np.array([place.part for place in block])
            taken, order = [], []
            for number in np.unique(numbers):
                (here,) = np.nonzero(numbers == number)
                taken.append(_read(paths[number], self.schema.names).take([block[index].row for index in here]))
                order.append(here)
            yield pa.concat_tables(taken).take(np.argsort(np.concatenate(order))).cast(self.schema)

    def failures(self) -> Counter[str]:
        """Return how many inputs have failed, by the kind of error."""
        failed = {(place.part, place.row) for place in self.best().values() if not place.ok}
        parts = {number: _read(self.paths()[number], ["error_type"])["error_type"] for number, _ in failed}
        return Counter(str(parts[number][row]) for number, row in failed)


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=list(columns), partitioning=None)
    except pa.ArrowException as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and its rows are predicted again") from error
