"""Corpora by name: find the recordings, listen to each of them once, and hand back canonical splits with a report."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from tqdm.auto import tqdm

from data_scripts import manifest, ravdess
from data_scripts.report import PreparationReport
from data_scripts.schema import SPLITS, CorpusError, ScannedCorpus, build_dataset
from modeling_m4ser.audio_m4ser import AudioError, decode_audio

# A corpus is one function: (folder, wanted emotions or None, report) -> what is there. It reads no audio.
CORPORA: dict[str, Callable[[Path, Sequence[str] | None, PreparationReport], ScannedCorpus]] = {
    "ravdess": ravdess.scan,
    "manifest": manifest.scan,
}


@dataclass
class Corpus:
    """A corpus in the canonical schema (see `schema.corpus_features`), and the account of how it came to be."""

    dataset: DatasetDict
    report: PreparationReport


def load_corpus(
    name: str, data_dir: str | os.PathLike, emotions: Sequence[str] | None = None, num_workers: int = 1
) -> Corpus:
    """Read a corpus from its own files into the canonical schema.

    Every recording is decoded once: one that cannot be read is dropped and listed in the report. The `audio` column
    holds absolute paths (and bytes only where a Parquet manifest embeds them).

    Args:
        name: a key of `CORPORA`.
        data_dir: the corpus's folder; for a manifest, the file or its folder.
        emotions: the classes wanted, in the order of their labels; others are dropped and counted. By default all.
        num_workers: how many recordings are decoded at once.

    Raises:
        CorpusError: an unknown corpus or emotion, an absent folder, a manifest that cannot be used, or nothing kept.
    """
    if name not in CORPORA:
        raise CorpusError(f"unknown corpus {name!r}; known: {', '.join(sorted(CORPORA))}")
    if num_workers < 1:
        raise CorpusError(f"num_workers must be at least 1, got {num_workers}")
    if emotions is not None and (not emotions or len(set(emotions)) != len(emotions)):
        raise CorpusError(f"emotions must name at least one class and each only once, got {list(emotions)}")
    data_dir = Path(data_dir)
    if not data_dir.exists():
        raise CorpusError(f"{data_dir} does not exist: give the folder of the {name} corpus")
    if name != "manifest" and not data_dir.is_dir():
        raise CorpusError(f"{data_dir} is not a folder: give the folder of the {name} corpus")
    report = PreparationReport(name)
    scanned = CORPORA[name](data_dir, emotions, report)
    rows = _probe(scanned.rows, report, num_workers)
    if not rows:
        raise CorpusError(_nothing_kept(name, data_dir, scanned, report))
    splits = {}
    for split in SPLITS:
        kept = [row for row in rows if row["split"] == split]
        if kept:
            splits[split] = build_dataset(kept, scanned.emotions)
            report.count(split, kept, scanned.emotions)
    return Corpus(DatasetDict(splits), report)


def _probe(rows: list[dict[str, Any]], report: PreparationReport, num_workers: int) -> list[dict[str, Any]]:
    """The rows whose audio decodes, with their `audio` and `duration`; the others are dropped."""

    def listen(row: dict[str, Any]) -> float | AudioError:
        try:
            samples, rate = decode_audio({"path": row.get("path"), "bytes": row.get("bytes")}, name="the recording")
        except AudioError as error:
            return error
        return samples.size / rate

    # Threads: the decoders release the interpreter while they work, and nothing has to be copied between processes.
    with ThreadPoolExecutor(num_workers) as pool:
        bar = tqdm(pool.map(listen, rows), total=len(rows), desc="reading audio", unit="file", disable=not rows)
        results = list(bar)
    kept = []
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, AudioError):
            report.drop(row["id"], f"unreadable audio: {result}")
        else:
            audio = {"path": row.get("path"), "bytes": row.get("bytes")}
            kept.append({**row, "audio": audio, "duration": result})
    return kept


def _nothing_kept(name: str, data_dir: Path, scanned: ScannedCorpus, report: PreparationReport) -> str:
    """The message for a corpus without a single usable recording."""
    message = f"no usable recording of {name} in {data_dir}; looked for {scanned.looked_for}"
    reasons = [f"{count} × {reason}" for reason, count in report.drop_reasons().items()]
    return f"{message}. Dropped: {'; '.join(reasons)}" if reasons else message
