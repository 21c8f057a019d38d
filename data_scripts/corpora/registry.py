"""Corpora by name: find the recordings, inspect each of them once, and hand back canonical splits with a report."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from data_scripts.corpora import iemocap, manifest, meld, ravdess
from data_scripts.corpora.report import PreparationReport
from data_scripts.prepare.recordings import RecordingInfo, inspect_recording, inspect_recordings
from data_scripts.schema import SPLITS, CorpusError, ScannedCorpus, build_dataset
from modeling_m4ser.audio_m4ser import AudioError

# A corpus is one function: (folder, wanted emotions or None, report) -> what is there. It reads no audio.
CORPORA: dict[str, Callable[[Path, Sequence[str] | None, PreparationReport], ScannedCorpus]] = {
    "iemocap": iemocap.scan,
    "manifest": manifest.scan,
    "meld": meld.scan,
    "ravdess": ravdess.scan,
}
LONG_SECONDS = 30.0  # beyond it Whisper needs its long-form algorithm, and the processor cuts by default


@dataclass
class Corpus:
    """A corpus in the canonical schema (see `schema.corpus_features`), and the account of how it came to be."""

    dataset: DatasetDict
    report: PreparationReport


def load_corpus(
    name: str,
    data_dir: str | os.PathLike,
    emotions: Sequence[str] | None = None,
    num_workers: int = 1,
    sessions: Sequence[str] | None = None,
) -> Corpus:
    """Read a corpus from its own files into the canonical schema, in memory.

    Every recording is decoded once: one that cannot be read is dropped and listed in the report. The `audio` column
    holds absolute paths of the corpus's own files (and bytes only where a Parquet manifest embeds them).
    `data_scripts.preparation.prepare_folder` writes the same rows to disk, and does not inspect them twice.

    Args:
        name: a key of `CORPORA`.
        data_dir: the corpus's folder; for a manifest, the file or its folder.
        emotions: the classes wanted, in the order of their labels; others are dropped and counted. By default all
            (of IEMOCAP, the four of the paper).
        num_workers: how many recordings are decoded at once.
        sessions: the sessions of IEMOCAP wanted, such as ["1", "2"]; by default all five.

    Raises:
        CorpusError: an unknown corpus, emotion or session, an absent or incomplete folder, a manifest that cannot be
            used, or nothing kept: of the corpus, or of a session or official split.
        OSError: a folder cannot be read.
    """
    scanned, report = scan_corpus(name, data_dir, emotions, sessions, num_workers)
    answers = list(inspect_recordings(scanned.rows, inspect_recording, num_workers))
    kept = keep_usable(scanned, answers, report, data_dir)
    splits = {}
    for split, rows in kept.items():
        audio = [{**row, "audio": {"path": row.get("path"), "bytes": row.get("bytes")}} for row, _ in rows]
        splits[split] = build_dataset(audio, scanned.emotions)
    return Corpus(DatasetDict(splits), report)


def scan_corpus(
    name: str,
    data_dir: str | os.PathLike,
    emotions: Sequence[str] | None,
    sessions: Sequence[str] | None,
    num_workers: int,
) -> tuple[ScannedCorpus, PreparationReport]:
    """Find a corpus's utterances, without reading their audio; arguments and errors are those of `load_corpus`."""
    if name not in CORPORA:
        raise CorpusError(f"unknown corpus {name!r}; known: {', '.join(sorted(CORPORA))}")
    if num_workers < 1:
        raise CorpusError(f"num_workers must be at least 1, got {num_workers}")
    if emotions is not None and (not emotions or len(set(emotions)) != len(emotions)):
        raise CorpusError(f"emotions must name at least one class and each only once, got {list(emotions)}")
    if sessions is not None and name != "iemocap":
        raise CorpusError(f"sessions can be chosen of iemocap only, not of {name}")
    data_dir = Path(data_dir)
    if not data_dir.exists():
        raise CorpusError(f"{data_dir} does not exist: give the folder of the {name} corpus")
    if name != "manifest" and not data_dir.is_dir():
        raise CorpusError(f"{data_dir} is not a folder: give the folder of the {name} corpus")
    report = PreparationReport(name)
    scan = CORPORA[name] if sessions is None else partial(iemocap.scan, sessions=sessions)
    scanned = scan(data_dir, emotions, report)
    report.expected = scanned.expected
    return scanned, report


def keep_usable(
    scanned: ScannedCorpus,
    answers: Sequence[RecordingInfo | AudioError],
    report: PreparationReport,
    data_dir: str | os.PathLike,
) -> dict[str, list[tuple[dict[str, Any], RecordingInfo]]]:
    """Return each split's usable rows, with `duration`, and what was heard of them; report the others and the counts.

    Raises:
        CorpusError: nothing is kept, or nothing of a session or split that must not be empty.
    """
    kept: dict[str, list[tuple[dict[str, Any], RecordingInfo]]] = {split: [] for split in SPLITS}
    for row, heard in zip(scanned.rows, answers, strict=True):
        if isinstance(heard, AudioError):
            report.drop(row["id"], f"unreadable audio: {heard}")
            continue
        if heard.duration > LONG_SECONDS:
            report.note(row["id"], f"longer than {LONG_SECONDS:g} s: kept whole; max_audio_seconds cuts it in training")
        kept[row["split"]].append(({**row, "duration": heard.duration}, heard))
    rows = [row for some in kept.values() for row, _ in some]
    if not rows:
        raise CorpusError(
            f"no usable recording of {report.corpus} in {data_dir}; looked for {scanned.looked_for}{_reasons(report)}"
        )
    for column, values in scanned.never_empty.items():
        if empty := [value for value in values if not any(row[column] == value for row in rows)]:
            raise CorpusError(
                f"no usable utterance of {column} {', '.join(empty)} of {report.corpus} in {data_dir}: "
                f"{scanned.way_out}{_reasons(report)}"
            )
    for split in SPLITS:
        if kept[split]:
            report.count(split, [row for row, _ in kept[split]], scanned.emotions)
    return {split: some for split, some in kept.items() if some}


def _reasons(report: PreparationReport) -> str:
    """What was dropped, for the end of an error message."""
    reasons = [f"{count} × {reason}" for reason, count in report.drop_reasons().items()]
    return f". Dropped: {'; '.join(reasons)}" if reasons else ""
