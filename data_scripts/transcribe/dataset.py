"""Fill the ``hypothesis`` column of a prepared dataset: by recognising its audio, or from a file of ready hypotheses.

    python -m data_scripts.transcribe --dataset PREPARED_FOLDER --model openai/whisper-medium.en
    python -m data_scripts.transcribe --dataset PREPARED_FOLDER --model medium.en --backend faster-whisper
    python -m data_scripts.transcribe --dataset PREPARED_FOLDER --hypotheses FILE --asr_model NAME

The Parquet files are replaced, one by one and each atomically, once every utterance is done; ``transcription.json``
beside them holds the word error rate of each split, the counts and everything needed to repeat the run. What has been
recognised is kept in a journal in the same folder: a run killed at any moment loses at most the batch in flight, and
the same command takes up where it stopped.
"""

import argparse
import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import jiwer
import numpy as np
from datasets import Dataset, DatasetDict, Value
from tqdm.auto import tqdm
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from data_scripts.errors import CorpusError
from data_scripts.schema import load_prepared, save_prepared
from data_scripts.transcribe.faster_whisper import FasterWhisperRecognizer
from data_scripts.transcribe.whisper import RecognizerError, WhisperRecognizer
from modeling_m4ser.audio_m4ser import AudioError, load_audio

BACKENDS: dict[str, Callable[..., "Recognizer"]] = {
    "transformers": WhisperRecognizer,
    "faster-whisper": FasterWhisperRecognizer,
}

Key = tuple[str, str, float | None]  # split, id, duration in seconds: ids are unique only within a split


class TranscriptionError(CorpusError):
    """A dataset cannot be transcribed as asked: what to change is in the message."""


class Recognizer(Protocol):
    """What ``transcribe_dataset`` needs of a speech recogniser; ``data_scripts.asr.WhisperRecognizer`` is one."""

    name: str
    settings: dict

    def transcribe(self, batch: Sequence[np.ndarray]) -> list[str]:
        """Transcripts of float32 mono 16 kHz arrays of shape ``(samples,)``, in order."""


class Journal:
    """Append-only record of the utterances already recognised.

    A JSON line per finished batch, written and synchronised to the disk before the next batch starts, so a batch is
    there whole or not at all. The first line names the recogniser's settings. A line torn by a crash does not parse and
    is passed over.

    Args:
        path: the journal file; created, with its folder, where absent.
        settings: JSON-ready settings of the recogniser.

    Raises:
        TranscriptionError: the file was written under other settings.
    """

    def __init__(self, path: str | Path, settings: dict):
        self.path = Path(path)
        self.entries: dict[Key, dict] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        raw = self.path.read_bytes() if self.path.exists() else b""
        found = None
        for line in raw.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            found = record.get("settings", found)
            for entry in record.get("utterances", ()):
                self.entries[entry["split"], entry["id"], entry["duration"]] = entry
        if found is not None and found != settings:
            raise TranscriptionError(
                f"{self.path} was written with other settings ({found}, now {settings}): use another journal"
            )
        if raw and not raw.endswith(b"\n"):
            self._write(b"\n")  # or the next line would be joined to the torn one and lost with it
        if found is None:
            self._write(json.dumps({"settings": settings}).encode() + b"\n")

    def append(self, entries: list[dict]) -> None:
        """Record one batch: dicts with ``split, id, duration, hypothesis, error``. On return it survives a crash."""
        self._write(json.dumps({"utterances": entries}, ensure_ascii=False).encode() + b"\n")
        for entry in entries:
            self.entries[entry["split"], entry["id"], entry["duration"]] = entry

    def _write(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def transcribe_dataset(
    dataset: DatasetDict, recognizer: Recognizer, journal_path: str | Path, batch_size: int = 16
) -> DatasetDict:
    """Recognise every utterance that the journal does not hold yet and fill ``hypothesis`` and ``asr_model``.

    Batches run over all splits, longest clips first. An interrupted and resumed run forms the same batches as an
    undisturbed one, so its output is the same even where the recogniser's rounding depends on the batch.

    Args:
        dataset: canonical dataset (``data_scripts.schema``).
        recognizer: see ``Recognizer``.
        journal_path: append-only progress file, see ``Journal``; its ``error`` entries name the undecodable utterances.
        batch_size: clips decoded at once.

    Returns:
        The dataset with both columns filled; both are null for an utterance whose audio cannot be decoded.

    Raises:
        TranscriptionError: ``batch_size`` below 1, an id twice in a split, or a journal of another recogniser.
    """
    if batch_size < 1:
        raise TranscriptionError(f"batch_size must be at least 1, got {batch_size}")
    journal = Journal(journal_path, recognizer.settings)
    rows = [(key, index) for split in dataset for index, key in enumerate(_keys(dataset, split))]
    rows.sort(key=lambda row: (-(row[0][2] or 0.0), row[0][:2]))
    new = [row for row in rows if row[0] not in journal.entries]
    # What could not be decoded last time may have been repaired since; tried apart, it leaves the other batches alone.
    failed = [row for row in rows if row[0] in journal.entries and journal.entries[row[0]]["error"]]
    batches = [part[start : start + batch_size] for part in (new, failed) for start in range(0, len(part), batch_size)]
    done = len(rows) - len(new) - len(failed)
    with tqdm(total=len(rows), initial=done, desc=f"transcribing with {recognizer.name}", unit="clip") as progress:
        for batch in batches:
            journal.append(_recognize(batch, dataset, recognizer))
            progress.update(len(batch))

    def fill(split: str) -> Dataset:
        texts = [journal.entries[key]["hypothesis"] for key in _keys(dataset, split)]
        return _with_hypotheses(dataset[split], texts, [None if text is None else recognizer.name for text in texts])

    return DatasetDict({split: fill(split) for split in dataset})


def _keys(dataset: DatasetDict, split: str) -> list[Key]:
    """Journal keys of a split's rows, in order."""
    ids, durations = dataset[split]["id"][:], dataset[split]["duration"][:]
    if len(set(ids)) != len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise TranscriptionError(f"split {split!r} has {len(twice)} ids more than once, the first is {twice[0]!r}")
    return [(split, name, None if d is None else round(d, 4)) for name, d in zip(ids, durations, strict=True)]


def _recognize(batch: list[tuple[Key, int]], dataset: DatasetDict, recognizer: Recognizer) -> list[dict]:
    """Journal entries of one batch of (key, row index)."""
    entries, clips, decoded = [], [], []
    for (split, name, duration), index in batch:
        entry = {"split": split, "id": name, "duration": duration, "hypothesis": None, "error": None}
        try:
            clips.append(load_audio(dataset[split][index]["audio"], name=name))
            decoded.append(entry)
        except AudioError as error:
            entry["error"] = str(error)
        entries.append(entry)
    if clips:
        for entry, text in zip(decoded, recognizer.transcribe(clips), strict=True):
            entry["hypothesis"] = text
    return entries


def _with_hypotheses(dataset: Dataset, texts: list[str | None], models: list[str | None]) -> Dataset:
    """``dataset`` with both recognition columns replaced, the order of columns kept."""
    order = dataset.column_names
    dataset = dataset.remove_columns(["hypothesis", "asr_model"])
    dataset = dataset.add_column("hypothesis", texts, feature=Value("string"))
    dataset = dataset.add_column("asr_model", models, feature=Value("string"))
    return dataset.select_columns(order)


def read_hypotheses(path: str | Path) -> dict[tuple[str | None, str], str]:
    """Read ready hypotheses.

    Args:
        path: UTF-8 ``.csv`` with a header, or ``.jsonl``; columns ``id`` and ``hypothesis``, and ``split`` where ids
            repeat across splits.

    Returns:
        ``{(split or None, id): hypothesis}``.

    Raises:
        TranscriptionError: not readable, not UTF-8, a column or value missing, or an id given twice.
    """
    path = Path(path)
    rows: list[dict]
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".jsonl", ".json"):
                rows = [json.loads(line) for line in file if line.strip()]
            else:
                rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise TranscriptionError(f"{path} is not UTF-8 (see byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise TranscriptionError(f"cannot read hypotheses from {path}: {error}") from error
    found: dict[tuple[str | None, str], str] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.get("id") is None or row.get("hypothesis") is None:
            raise TranscriptionError(f"{path}: row {number} lacks 'id' or 'hypothesis'; both columns are needed")
        key = (row.get("split") or None, str(row["id"]))
        if key in found:
            raise TranscriptionError(f"{path}: id {key[1]!r} appears twice (again in row {number})")
        found[key] = str(row["hypothesis"]).strip()
    return found


def import_hypotheses(
    dataset: DatasetDict, hypotheses: dict[tuple[str | None, str], str], asr_model: str
) -> tuple[DatasetDict, dict]:
    """Fill ``hypothesis`` and ``asr_model`` from ``read_hypotheses``; other utterances keep what they have.

    Returns:
        The dataset, and ``{"imported": n, "without_hypothesis": ["split/id", …], "not_in_dataset": [id, …]}``.

    Raises:
        TranscriptionError: not one id fits the dataset, or an id without a split is in several splits.
    """
    used, without, filled = {}, [], {}
    for split, part in dataset.items():
        texts, models = part["hypothesis"][:], part["asr_model"][:]
        for index, name in enumerate(part["id"]):
            key = (split, name) if (split, name) in hypotheses else (None, name)
            if key not in hypotheses:
                without.append(f"{split}/{name}")
            elif key in used:
                raise TranscriptionError(f"id {name!r} is in {used[key]!r} and {split!r}: add a 'split' column")
            else:
                used[key] = split
                texts[index], models[index] = hypotheses[key], asr_model
        filled[split] = _with_hypotheses(part, texts, models)
    if not used:
        raise TranscriptionError(
            f"none of the {len(hypotheses)} ids of the file is in the dataset (the file has e.g. "
            f"{next(iter(hypotheses), (None, None))[1]!r}, the dataset {without[0] if without else None!r})"
        )
    absent = [name for split, name in hypotheses if (split, name) not in used]
    return DatasetDict(filled), {"imported": len(used), "without_hypothesis": without, "not_in_dataset": absent}


def word_error_rates(dataset: DatasetDict, spelling_mapping: dict[str, str] | None = None) -> dict[str, dict]:
    """Word error rate of each split after Whisper's English normaliser.

    Args:
        dataset: canonical dataset; utterances count that have both texts and whose normalised transcript has words.
        spelling_mapping: British to American spellings (``WhisperRecognizer.spelling_mapping``); none by default.

    Returns:
        ``{split: {"wer": errors per word, or None, "with_error": share of utterances, "utterances", "words"}}``
    """
    normalize = EnglishTextNormalizer(spelling_mapping or {})
    return {split: _word_error_rate(part, normalize) for split, part in dataset.items()}


def _word_error_rate(part: Dataset, normalize: Callable[[str], str]) -> dict:
    """One split's entry of ``word_error_rates``."""
    pairs = [
        (normalize(reference), normalize(hypothesis))
        for reference, hypothesis in zip(part["transcript"], part["hypothesis"], strict=True)
        if reference is not None and hypothesis is not None
    ]
    pairs = [(reference, hypothesis) for reference, hypothesis in pairs if reference]
    if not pairs:
        return {"wer": None, "with_error": None, "utterances": 0, "words": 0}
    references, hypotheses = (list(texts) for texts in zip(*pairs, strict=True))
    return {
        "wer": round(jiwer.wer(references, hypotheses), 4),
        "with_error": round(sum(r != h for r, h in pairs) / len(pairs), 4),
        "utterances": len(pairs),
        "words": sum(len(reference.split()) for reference in references),
    }


def summarize(dataset: DatasetDict, spelling_mapping: dict[str, str] | None = None) -> dict:
    """What ``transcription.json`` says of any dataset: counts and word error rate by split, and versions."""
    counts = {
        split: {
            "utterances": len(part),
            "with_hypothesis": sum(text is not None for text in part["hypothesis"]),
            "empty_hypothesis": sum(text == "" for text in part["hypothesis"]),
        }
        for split, part in dataset.items()
    }
    packages = ("transformers", "torch", "datasets", "jiwer")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    return {"counts": counts, "word_error_rate": word_error_rates(dataset, spelling_mapping), "versions": versions}


def _write_report(report: dict, folder: Path) -> None:
    """Write ``transcription.json``, whole or not at all."""
    temporary = folder / ".transcription.json.tmp"
    temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, folder / "transcription.json")


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data_scripts.transcribe", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", required=True, type=Path, help="folder written by data_scripts.prepare")
    parser.add_argument("--model", help="Whisper repository id or folder")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="transformers",
        help="what runs the model; faster-whisper takes CTranslate2 checkpoints and is an extra",
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, help="clips decoded at once (default 16; faster-whisper takes one)"
    )
    parser.add_argument("--device", help="torch device (default: a CUDA GPU where there is one)")
    parser.add_argument("--language", help="language of a multilingual model, e.g. en (default: detected)")
    parser.add_argument("--max_new_tokens", type=int, default=224, help="cap on the tokens of 30 s (default 224)")
    parser.add_argument("--seed", type=int, default=0, help="of the temperature fallback (default 0; transformers)")
    parser.add_argument("--hypotheses", type=Path, help="import this CSV or JSONL (id, hypothesis[, split]) instead")
    parser.add_argument("--asr_model", help="name for the asr_model column (default: --model)")
    options = parser.parse_args(arguments)
    if (options.model is None) == (options.hypotheses is None):
        parser.error("give either --model, to recognise the audio, or --hypotheses, to import a file")
    if options.hypotheses is not None and not options.asr_model:
        parser.error("--hypotheses needs --asr_model, the name of the recogniser that they come from")
    return options


def transcribe_folder(folder: str | Path, recognizer: Recognizer, batch_size: int = 16) -> dict:
    """Fill a prepared folder's hypotheses in, in place; the report that went into ``transcription.json``.

    An interrupted run goes on where it stopped.
    """
    folder = Path(folder)
    fingerprint = hashlib.sha256(json.dumps(recognizer.settings, sort_keys=True).encode()).hexdigest()[:12]
    # Hidden, so that load_dataset(folder) passes it over.
    journal_path = folder / f".transcribe-{fingerprint}.jsonl"
    dataset = transcribe_dataset(load_prepared(folder), recognizer, journal_path, batch_size)
    entries = Journal(journal_path, recognizer.settings).entries
    undecodable = {"/".join(key[:2]): e["error"] for key, e in sorted(entries.items()) if e["error"]}
    report = {"asr_model": recognizer.name, "settings": recognizer.settings, "undecodable": undecodable}
    report |= summarize(dataset, getattr(recognizer, "spelling_mapping", None))
    save_prepared(dataset, folder)
    _write_report(report, folder)
    return report


def import_into_folder(folder: str | Path, hypotheses: str | Path, asr_model: str) -> dict:
    """Put a file's hypotheses (see `read_hypotheses`) into a prepared folder; the report that was written."""
    folder = Path(folder)
    dataset, imported = import_hypotheses(load_prepared(folder), read_hypotheses(hypotheses), asr_model)
    report = {"asr_model": asr_model, "source": Path(hypotheses).name} | imported | summarize(dataset)
    save_prepared(dataset, folder)
    _write_report(report, folder)
    return report


def _run(options: argparse.Namespace) -> dict:
    """Do what the command line asks; the report."""
    if options.hypotheses is not None:
        return import_into_folder(options.dataset, options.hypotheses, options.asr_model)
    load_prepared(options.dataset)  # a wrong folder is told before the recogniser is loaded
    recognizer = BACKENDS[options.backend](
        options.model,
        device=options.device,
        language=options.language,
        max_new_tokens=options.max_new_tokens,
        name=options.asr_model,
        **({"seed": options.seed} if options.backend == "transformers" else {}),
    )
    return transcribe_folder(options.dataset, recognizer, options.batch_size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status (0, or 2 after one line that says what is wrong)."""
    options = _parse_arguments(arguments)
    try:
        report = _run(options)
    except (TranscriptionError, RecognizerError, CorpusError, OSError) as error:
        print(f"transcribe: {error}", file=sys.stderr)
        return 2
    for split, rate in report["word_error_rate"].items():
        counts = report["counts"][split]
        wer = "no transcripts" if rate["wer"] is None else f"WER {rate['wer']:.1%} on {rate['utterances']}"
        print(f"{split}: {counts['with_hypothesis']}/{counts['utterances']} with a hypothesis, {wer}")
    for name, reason in report.get("undecodable", {}).items():
        print(f"undecodable: {name}: {reason}")
    return 0
