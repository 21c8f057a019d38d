"""Fill the `hypothesis` column of a prepared dataset: by recognising its audio, or from a file of ready hypotheses.

The Parquet files are replaced together once every utterance is done; `transcription.json` beside them holds the word
error rate of each split, the counts and everything needed to repeat the run. Each batch that has been recognised is
recorded in a journal in the same folder: a run killed at any moment loses at most the batch in flight, and the same
command takes up where it stopped.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jiwer
import numpy as np
from datasets import Dataset, DatasetDict, Value
from tqdm.auto import tqdm
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from data_scripts.corpora.split_names import canonical_splits
from data_scripts.errors import CorpusError
from data_scripts.files import fingerprint, write_atomically
from data_scripts.journal import Journal
from data_scripts.schema import save_prepared
from data_scripts.tables import read_table
from data_scripts.versions import collect_versions
from modeling_m4ser.audio_m4ser import AudioError, load_audio
from modeling_m4ser.preparation_m4ser import LIKE_APOSTROPHE

REPORT_NAME = "transcription.json"

# Split, id, duration in seconds, content: ids are unique only within a split, and a recording may be replaced.
Key = tuple[str, str, float | None, str | None]
Hypotheses = Mapping[tuple[str | None, str], str]  # by (split, or None where ids are unique without it; id)


class TranscriptionError(CorpusError):
    """A dataset cannot be transcribed as asked; the message says what to change."""


@dataclass(frozen=True)
class HypothesesFile:
    """A table of ready hypotheses, as `read_hypotheses` takes it, and the recogniser's name for `asr_model`."""

    path: str | Path
    name: str


class Recognizer(Protocol):
    """What `fill_folder` needs of a speech recogniser; `data_scripts.transcribe.whisper` has one."""

    name: str  # what goes into the `asr_model` column

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a transcript, JSON-ready."""
        ...

    def transcribe(self, batch: Sequence[np.ndarray]) -> list[str]:
        """Return the transcripts of float32 mono 16 kHz arrays of shape (samples,), in order."""
        ...


def fill_folder(
    folder: str | Path,
    dataset: DatasetDict,
    source: Recognizer | HypothesesFile,
    batch_size: int = 16,
    missing_only: bool = False,
) -> tuple[DatasetDict, dict[str, Any]]:
    """Fill a prepared folder's hypotheses in place; the filled dataset, and what went into `transcription.json`.

    What a recogniser has done is kept in a journal, which no second process can use until the result is saved: its
    batches run over all splits, longest clips first. An interrupted and resumed run forms the same batches as an
    undisturbed one, so its output is the same even where the recogniser's rounding depends on the batch. An utterance
    whose audio cannot be decoded has neither `hypothesis` nor `asr_model`, and is tried again by the next run.
    """
    if batch_size < 1:
        raise TranscriptionError(f"batch_size must be at least 1, got {batch_size}")
    folder = Path(folder)
    with contextlib.ExitStack() as held:
        if isinstance(source, HypothesesFile):
            filled, found = import_hypotheses(dataset, read_hypotheses(source.path), source.name, missing_only)
            found = {"source": Path(source.path).name, **found}
        else:
            # Hidden, so that load_dataset(folder) passes it over.
            path = folder / f".transcribe-{fingerprint(source.settings)}.jsonl"
            journal = held.enter_context(Journal(path, source.settings, activity="transcribed"))
            filled, undecodable = _recognize(dataset, source, journal, batch_size, missing_only)
            found = {"settings": source.settings, "undecodable": undecodable}
        report = {
            "asr_model": source.name,
            **found,
            "counts": {str(split): _counts(part) for split, part in filled.items()},
            "word_error_rate": word_error_rates(filled, getattr(source, "spelling_mapping", None)),
            "versions": collect_versions(),
        }
        save_prepared(filled, folder)
        write_atomically(folder / REPORT_NAME, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return filled, report


def _recognize(
    dataset: DatasetDict, recognizer: Recognizer, journal: Journal, batch_size: int, missing_only: bool
) -> tuple[DatasetDict, dict[str, str]]:
    """The dataset with what the recogniser, or an earlier run of it, heard; those not decodable, and why."""
    parts = {str(split): part for split, part in dataset.items()}
    texts = {split: part["hypothesis"][:] for split, part in parts.items()}
    models = {split: part["asr_model"][:] for split, part in parts.items()}
    keys = ((key, row) for split, part in parts.items() for row, key in enumerate(_keys(part, split)))
    wanted = [(key, row) for key, row in keys if not missing_only or texts[key[0]][row] is None]
    wanted.sort(key=lambda place: (-(place[0][2] or 0.0), place[0][:2]))
    undecodable = _recognize_all(wanted, parts, recognizer, journal, batch_size)
    found = _found(journal)
    for key, row in wanted:
        texts[key[0]][row] = found.get(key)
        models[key[0]][row] = recognizer.name if key in found else None
    filled = {split: _with_hypotheses(part, texts[split], models[split]) for split, part in parts.items()}
    return DatasetDict(filled), undecodable


def _recognize_all(
    wanted: list[tuple[Key, int]],
    parts: Mapping[str, Dataset],
    recognizer: Recognizer,
    journal: Journal,
    batch_size: int,
) -> dict[str, str]:
    """Recognise every utterance (key, row) that the journal lacks, a record a batch; those not decodable, and why."""
    found, undecodable = _found(journal), {}
    with tqdm(total=len(wanted), desc=f"transcribing with {recognizer.name}", unit="clip") as progress:
        for start in range(0, len(wanted), batch_size):
            keys, clips = [], []
            for key, row in wanted[start : start + batch_size]:
                if key in found:
                    continue
                try:
                    clips.append(load_audio(parts[key[0]][row]["audio"], name=key[1]))
                    keys.append(key)
                except AudioError as error:
                    undecodable[f"{key[0]}/{key[1]}"] = str(error)
            if clips:
                entries = [
                    {"split": split, "id": name, "duration": duration, "content": content, "hypothesis": text}
                    for (split, name, duration, content), text in zip(keys, recognizer.transcribe(clips), strict=True)
                ]
                journal.append({"utterances": entries})
            progress.update(min(batch_size, len(wanted) - start))
    return undecodable


def _found(journal: Journal) -> dict[Key, str]:
    """The transcripts in the journal."""
    entries = (entry for record in journal.records for entry in record["utterances"])
    return {
        (e["split"], e["id"], e["duration"], e.get("content")): e["hypothesis"]
        for e in entries
        if e["hypothesis"] is not None
    }


def _keys(part: Dataset, split: str) -> list[Key]:
    """The keys of a split's rows in the journal, in order."""
    ids, durations = part["id"][:], part["duration"][:]
    contents = part["content"][:] if "content" in part.column_names else [None] * len(ids)
    if twice := sorted(name for name, count in Counter(ids).items() if count > 1):
        raise TranscriptionError(f"split {split!r} has {len(twice)} ids more than once, the first is {twice[0]!r}")
    rounded = (None if duration is None else round(duration, 4) for duration in durations)
    return [(split, *each) for each in zip(ids, rounded, contents, strict=True)]


def _with_hypotheses(dataset: Dataset, texts: list[str | None], models: list[str | None]) -> Dataset:
    """The dataset with both recognition columns replaced, the order of columns kept."""
    order = dataset.column_names
    dataset = dataset.remove_columns(["hypothesis", "asr_model"])
    dataset = dataset.add_column("hypothesis", texts, feature=Value("string"))
    dataset = dataset.add_column("asr_model", models, feature=Value("string"))
    return dataset.select_columns(order)


def read_hypotheses(path: str | Path) -> dict[tuple[str | None, str], str]:
    """Read a table of ready hypotheses, with the columns `id`, `hypothesis` and, where ids repeat, `split`."""
    try:
        # An empty cell is a hypothesis without words; a missing one is an error.
        rows = read_table(Path(path), empty_cell="")
    except (CorpusError, OSError) as error:
        raise TranscriptionError(f"cannot read hypotheses: {error}") from error
    splits = canonical_splits({str(row["split"]) for row in rows if row.get("split")})
    found: dict[tuple[str | None, str], str] = {}
    for number, row in enumerate(rows, start=1):
        if row.get("id") is None or row.get("hypothesis") is None:
            raise TranscriptionError(f"{path}: row {number} lacks 'id' or 'hypothesis'; both columns are needed")
        key = (splits.get(str(row.get("split")), row.get("split")) or None, str(row["id"]))
        if key in found:
            raise TranscriptionError(f"{path}: id {key[1]!r} appears twice (again in row {number})")
        found[key] = str(row["hypothesis"]).strip()
    return found


def import_hypotheses(
    dataset: DatasetDict, hypotheses: Hypotheses, asr_model: str, missing_only: bool = False
) -> tuple[DatasetDict, dict[str, Any]]:
    """Fill `hypothesis` and `asr_model` from ready hypotheses; other utterances keep what they have.

    With `missing_only`, so does every utterance that has one. Returns the dataset, and {"imported": n, "kept": [those
    that keep another text than the file's], "without_hypothesis": ["split/id", …], "not_in_dataset": [id, …]}.
    """
    used: dict[tuple[str | None, str], str] = {}
    kept, without, filled = [], [], {}
    for split, part in ((str(name), part) for name, part in dataset.items()):
        texts, models = part["hypothesis"][:], part["asr_model"][:]
        for index, name in enumerate(part["id"]):
            key = (split, name) if (split, name) in hypotheses else (None, name)
            if key not in hypotheses:
                without.append(f"{split}/{name}")
                continue
            if key in used:
                raise TranscriptionError(f"id {name!r} is in {used[key]!r} and {split!r}: add a 'split' column")
            used[key] = split
            if not missing_only or texts[index] is None:
                texts[index], models[index] = hypotheses[key], asr_model
            elif texts[index] != hypotheses[key]:
                kept.append(f"{split}/{name}")
        filled[split] = _with_hypotheses(part, texts, models)
    if not used:
        raise TranscriptionError(
            f"none of the {len(hypotheses)} ids of the file is in the dataset (the file has e.g. "
            f"{next(iter(hypotheses), (None, None))[1]!r}, the dataset {without[0] if without else None!r})"
        )
    absent = [name for split, name in hypotheses if (split, name) not in used]
    counts = {"imported": len(used) - len(kept), "kept": kept, "without_hypothesis": without, "not_in_dataset": absent}
    return DatasetDict(filled), counts


def word_error_rates(dataset: DatasetDict, spelling_mapping: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the word error rate of each split after Whisper's English normaliser, over texts that have words there.

    Typographic apostrophes become plain ones first: the normaliser reads "I’m" as two words and "I'm" as "i am".
    `spelling_mapping` makes British spellings American, as `WhisperRecognizer` has it.
    """
    normalizer = EnglishTextNormalizer(spelling_mapping or {})
    rates = {}
    for split, part in dataset.items():
        pairs = [
            [normalizer(text.translate(LIKE_APOSTROPHE)) for text in pair]
            for pair in zip(part["transcript"], part["hypothesis"], strict=True)
            if None not in pair
        ]
        pairs = [pair for pair in pairs if pair[0]]
        references, hypotheses = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        rates[str(split)] = {
            "wer": round(jiwer.wer(references, hypotheses), 4) if pairs else None,
            "with_error": round(sum(r != h for r, h in pairs) / len(pairs), 4) if pairs else None,
            "utterances": len(pairs),
            "words": sum(len(reference.split()) for reference in references),
        }
    return rates


def _counts(part: Dataset) -> dict[str, int]:
    """How many utterances of a split have a hypothesis, and one without words."""
    return {
        "utterances": len(part),
        "with_hypothesis": sum(text is not None for text in part["hypothesis"]),
        "empty_hypothesis": sum(text == "" for text in part["hypothesis"]),
    }
