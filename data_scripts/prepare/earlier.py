"""What an earlier preparation left in the split files of a folder: embedded recordings and hypotheses."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet

from data_scripts.corpora.base import SPLITS

# No file, or one that is not ours: then there is nothing to take over.
_UNREADABLE = (OSError, KeyError, pyarrow.ArrowException)


class EarlierPreparation:
    """The split files that an earlier run wrote; of their audio one row group is in memory at a time.

    Args:
        folder: the prepared folder. It may be empty, or hold other files.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[str, pyarrow.parquet.ParquetFile] = {}
        self._places: dict[tuple[str, str], tuple[int, int]] = {}
        self._loaded_group: tuple[tuple[str, int], Any] | None = None
        for split in SPLITS:
            try:
                file = pyarrow.parquet.ParquetFile(folder / f"{split}.parquet")
                groups = [file.read_row_group(g, columns=["id"])["id"] for g in range(file.num_row_groups)]
            except _UNREADABLE:
                continue
            self._files[split] = file
            for group, ids in enumerate(groups):
                for row, identity in enumerate(ids.to_pylist()):
                    self._places[split, identity] = (group, row)

    def audio(self, split: str, identity: str) -> bytes | None:
        """Return the bytes of an utterance's recording; None where the files hold none."""
        place = self._places.get((split, identity))
        if place is None:
            return None
        group, row = place
        if self._loaded_group is None or self._loaded_group[0] != (split, group):
            column = self._files[split].read_row_group(group, columns=["audio"])["audio"]
            self._loaded_group = (split, group), column
        return self._loaded_group[1][row].as_py()["bytes"]

    def hypothesis(self, split: str, identity: str, duration: float) -> tuple[str, str | None] | None:
        """Return (hypothesis, asr_model) of an utterance; None where there is none, or the recording was another."""
        earlier = self._hypotheses.get((split, identity))
        if earlier is None or abs(earlier[0] - duration) >= 1e-3:
            return None
        return earlier[1:]

    @cached_property
    def _hypotheses(self) -> dict[tuple[str, str], tuple[float, str, str | None]]:
        """What the utterances of the split files hold: {(split, id): (duration, hypothesis, asr_model)}."""
        found = {}
        for split in SPLITS:
            try:
                columns = ["id", "duration", "hypothesis", "asr_model"]
                table = pyarrow.parquet.read_table(self._folder / f"{split}.parquet", columns=columns)
            except _UNREADABLE:
                continue
            for row in table.to_pylist():
                if row["hypothesis"] is not None:
                    found[split, row["id"]] = row["duration"], row["hypothesis"], row["asr_model"]
        return found
