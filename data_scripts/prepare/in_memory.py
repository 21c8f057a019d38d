"""A corpus in memory, without writing anything: for a look at it, and for notebooks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets import Dataset, DatasetDict

from data_scripts.corpora.registry import CorpusSelection, scan_corpus
from data_scripts.corpora.report import PreparationReport
from data_scripts.prepare.recordings import check_num_workers, inspect_recording, inspect_recordings, keep_usable
from data_scripts.schema import build_dataset


@dataclass
class Corpus:
    """A corpus in the canonical schema, and the account of how it came to be.

    Attributes:
        dataset: its splits, see `data_scripts.schema.corpus_features`.
        report: what was kept, dropped, repaired and noted.
    """

    dataset: DatasetDict
    report: PreparationReport


def load_corpus(
    name: str,
    data_dir: str | os.PathLike | Dataset | DatasetDict,
    emotions: Sequence[str] | None = None,
    num_workers: int = 1,
    sessions: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    label_map: Mapping[str, str] | str | Sequence[str] | None = None,
    split_names: Mapping[str, str] | None = None,
    config_name: str | None = None,
) -> Corpus:
    """Read a corpus from its own files into the canonical schema, in memory.

    Every recording is decoded once: one that cannot be read is dropped and listed in the report. The `audio` column
    holds absolute paths of the corpus's own files (and bytes only where a Parquet manifest embeds them).
    `data_scripts.prepare.folder.prepare_folder` writes the same rows to disk, and does not inspect them twice.

    Args:
        name: a key of `data_scripts.corpora.CORPORA`.
        data_dir: the corpus's folder; for a manifest, the file or its folder; for a dataset, its folder, its name on
            the Hub, or a `Dataset` or `DatasetDict` itself.
        emotions: the classes wanted, in the order of their labels; others are dropped and counted. By default all
            (of IEMOCAP, the four of the paper).
        num_workers: how many recordings are decoded at once.
        sessions: the sessions of IEMOCAP wanted, such as ["1", "2"]; by default all five.
        columns: of a manifest or dataset, {role: column} where a column goes by an unusual name; the roles are
            `audio`, `emotion`, `hypothesis` (the text that the model reads), `transcript` (of people) and `speaker`.
        label_map: labels that become another class, e.g. {"excited": "happy"}.
        split_names: of a dataset, {"train" | "validation" | "test": its own name}; others are then left out.
        config_name: of a dataset, where it has several configurations.

    Returns:
        The splits and the report.

    Raises:
        CorpusError: an unknown corpus, emotion or session, an absent or incomplete folder, a manifest that cannot be
            used, or nothing kept: of the corpus, or of a session or official split.
        OSError: a folder cannot be read.
    """
    check_num_workers(num_workers)
    selection = CorpusSelection(
        name, data_dir, emotions, sessions, columns, label_map, split_names=split_names, config_name=config_name
    )
    scanned, report = scan_corpus(selection)
    found = list(inspect_recordings(scanned.rows, inspect_recording, num_workers))
    splits = {}
    for split, rows in keep_usable(scanned, found, report).items():
        audio = [{**row, "audio": {"path": row.get("path"), "bytes": row.get("bytes")}} for row, _ in rows]
        splits[split] = build_dataset(audio, scanned.emotions)
    return Corpus(DatasetDict(splits), report)
