"""A corpus in memory, without writing anything: for a look at it, and for notebooks."""

import os
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict

from data_scripts.corpora import CorpusSelection, scan_corpus
from data_scripts.corpora.report import PreparationReport
from data_scripts.prepare.recordings import inspect_recording, inspect_recordings, keep_usable
from data_scripts.schema import build_dataset


@dataclass
class Corpus:
    """A corpus in the canonical schema, and the account of what was kept, dropped, repaired and noted."""

    dataset: DatasetDict
    report: PreparationReport


def load_corpus(corpus: str, data_dir: str | os.PathLike | Dataset | DatasetDict, **options: Any) -> Corpus:
    """Read a corpus from its own files into the canonical schema, in memory.

    Every recording is decoded once: one that cannot be read is dropped and listed in the report. The `audio` column
    holds absolute paths of the corpus's own files, and bytes only where a table or dataset embeds them, or where one of
    several channels, or a part of a file, is taken.
    `data_scripts.prepare.folder.prepare_folder` writes the same rows to disk, and does not inspect them twice.

    Args:
        corpus: a key of `data_scripts.corpora.CORPORA`.
        data_dir: the corpus's folder; for a manifest, the file or its folder; for a dataset, its folder, its name on
            the Hub, or a `Dataset` or `DatasetDict` itself.
        options: what is wanted of it, as the command line says it: `emotions`, `sessions`, `label_map`,
            `audio_column_name`, `train_split_name`, `num_workers` …, see `data_scripts.corpora.CorpusSelection`.

    Returns:
        The splits and the report.

    Raises:
        CorpusError: an unknown corpus, emotion or session, an absent or incomplete folder, a manifest that cannot be
            used, or nothing kept: of the corpus, or of a session or official split.
        OSError: a folder cannot be read.
    """
    selection = CorpusSelection(corpus, data_dir, **options)  # pyright: ignore[reportArgumentType] (a dataset too)
    scanned, report = scan_corpus(selection)
    found = list(inspect_recordings(scanned.rows, inspect_recording, selection.num_workers))
    splits = {}
    for split, rows in keep_usable(scanned, found, report).items():
        audio = [{**row, "audio": {"path": row.get("path"), "bytes": info.data}} for row, info in rows]
        splits[split] = build_dataset(audio, scanned.emotions)
    return Corpus(DatasetDict(splits), report)
