"""Fill the `hypothesis` column of a prepared dataset: by recognising its audio, or from a file of ready hypotheses.

The Parquet files are replaced together once every utterance is done; `transcription.json` beside them holds the word
error rate of each split, the counts and everything needed to repeat the run. Each batch that has been recognised is
recorded in a journal in the same folder: a run killed at any moment loses at most the batch in flight, and the same
command takes up where it stopped.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jiwer
import numpy as np
from datasets import Dataset, DatasetDict, Value
from tqdm.auto import tqdm
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from data_scripts.errors import CorpusError
from data_scripts.files import fingerprint, write_atomically
from data_scripts.journal import Journal
from data_scripts.schema import load_prepared, save_prepared, split_parts, stamp_card
from data_scripts.tables import read_table
from data_scripts.versions import collect_versions
from modeling_m4ser.audio_m4ser import AudioError, load_audio
from modeling_m4ser.processing_m4ser import LIKE_APOSTROPHE

REPORT_NAME = "transcription.json"

Key = tuple[str, str, float | None]  # split, id, duration in seconds: ids are unique only within a split
Hypotheses = Mapping[tuple[str | None, str], str]  # by (split, or None where ids are unique without it; id)


class TranscriptionError(CorpusError):
    """A dataset cannot be transcribed as asked; the message says what to change."""


class Recognizer(Protocol):
    """What `transcribe_folder` needs of a speech recogniser; `data_scripts.transcribe.whisper` has one.

    Attributes:
        name: what goes into the `asr_model` column.
    """

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a transcript, JSON-ready."""
        ...

    def transcribe(self, batch: Sequence[np.ndarray]) -> list[str]:
        """Return the transcripts of float32 mono 16 kHz arrays of shape (samples,), in order."""
        ...


def transcribe_folder(
    folder: str | Path, recognizer: Recognizer, batch_size: int = 16, missing_only: bool = False
) -> dict[str, Any]:
    """Recognise a prepared folder's utterances in place; an interrupted run goes on where it stopped.

    Batches run over all splits, longest clips first. An interrupted and resumed run forms the same batches as an
    undisturbed one, so its output is the same even where the recogniser's rounding depends on the batch.

    Args:
        folder: written by `data_scripts.prepare`.
        recognizer: see `Recognizer`.
        batch_size: clips recognised at once.
        missing_only: whether to leave the utterances alone that have a hypothesis.

    Returns:
        The report that went into `transcription.json`. An utterance whose audio cannot be decoded is listed in it, and
        has neither `hypothesis` nor `asr_model`.

    Raises:
        CorpusError: the folder is not a prepared one, `batch_size` is below 1, or an id is twice in a split.
        JournalError: another process is transcribing the folder with this recogniser.
        OSError: the folder cannot be written.
    """
    if batch_size < 1:
        raise TranscriptionError(f"batch_size must be at least 1, got {batch_size}")
    folder = Path(folder)
    parts = split_parts(load_prepared(folder))
    keys = {split: _keys(part, split) for split, part in parts.items()}
    given = {split: [missing_only and text is not None for text in part["hypothesis"]] for split, part in parts.items()}
    wanted = [(key, row) for split in keys for row, key in enumerate(keys[split]) if not given[split][row]]
    wanted.sort(key=lambda place: (-(place[0][2] or 0.0), place[0][:2]))
    # Hidden, so that load_dataset(folder) passes it over.
    path = folder / f".transcribe-{fingerprint(recognizer.settings)}.jsonl"
    with Journal(path, recognizer.settings, activity="transcribed") as journal:
        _recognize_all(wanted, parts, recognizer, journal, batch_size)
        entries = _entries(journal)
        filled, undecodable = {}, {}
        for split, part in parts.items():
            texts, models = part["hypothesis"][:], part["asr_model"][:]
            for row, key in enumerate(keys[split]):
                if not given[split][row]:
                    texts[row] = entries[key]["hypothesis"]
                    models[row] = None if texts[row] is None else recognizer.name
                    if error := entries[key]["error"]:
                        undecodable[f"{split}/{key[1]}"] = error
            filled[split] = _with_hypotheses(part, texts, models)
        report = {"asr_model": recognizer.name, "settings": recognizer.settings, "undecodable": undecodable}
        return _save(DatasetDict(filled), report, folder, getattr(recognizer, "spelling_mapping", None))


def import_into_folder(folder: str | Path, hypotheses: str | Path, asr_model: str) -> dict[str, Any]:
    """Put a file's hypotheses into a prepared folder.

    Args:
        folder: written by `data_scripts.prepare`.
        hypotheses: the file, see `read_hypotheses`.
        asr_model: the name of the recogniser that they come from.

    Returns:
        The report that went into `transcription.json`.

    Raises:
        CorpusError: the folder is not a prepared one, or the file cannot be used.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    dataset, imported = import_hypotheses(load_prepared(folder), read_hypotheses(hypotheses), asr_model)
    return _save(dataset, {"asr_model": asr_model, "source": Path(hypotheses).name, **imported}, folder)


def _recognize_all(
    wanted: list[tuple[Key, int]],
    parts: Mapping[str, Dataset],
    recognizer: Recognizer,
    journal: Journal,
    batch_size: int,
) -> None:
    """Recognise every utterance (key, row) that the journal does not hold yet; one record of it for each batch."""
    entries = _entries(journal)
    new = [place for place in wanted if place[0] not in entries]
    # What could not be decoded last time may have been repaired since; tried apart, it leaves the other batches alone.
    failed = [place for place in wanted if place[0] in entries and entries[place[0]]["error"]]
    batches = [some[start : start + batch_size] for some in (new, failed) for start in range(0, len(some), batch_size)]
    done = len(wanted) - len(new) - len(failed)
    with tqdm(total=len(wanted), initial=done, desc=f"transcribing with {recognizer.name}", unit="clip") as progress:
        for batch in batches:
            journal.append({"utterances": _recognize(batch, parts, recognizer)})
            progress.update(len(batch))


def _entries(journal: Journal) -> dict[Key, dict[str, Any]]:
    """The last entry of each utterance in the journal."""
    entries = (entry for record in journal.records for entry in record["utterances"])
    return {(entry["split"], entry["id"], entry["duration"]): entry for entry in entries}


def _keys(part: Dataset, split: str) -> list[Key]:
    """The keys of a split's rows in the journal, in order."""
    ids, durations = part["id"][:], part["duration"][:]
    if len(set(ids)) != len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise TranscriptionError(f"split {split!r} has {len(twice)} ids more than once, the first is {twice[0]!r}")
    return [(split, name, None if d is None else round(d, 4)) for name, d in zip(ids, durations, strict=True)]


def _recognize(
    batch: Sequence[tuple[Key, int]], parts: Mapping[str, Dataset], recognizer: Recognizer
) -> list[dict[str, Any]]:
    """One batch of (key, row), recognised: an entry for the journal for each."""
    entries, clips, decoded = [], [], []
    for (split, name, duration), row in batch:
        entry = {"split": split, "id": name, "duration": duration, "hypothesis": None, "error": None}
        try:
            clips.append(load_audio(parts[split][row]["audio"], name=name))
            decoded.append(entry)
        except AudioError as error:
            entry["error"] = str(error)
        entries.append(entry)
    if clips:
        for entry, text in zip(decoded, recognizer.transcribe(clips), strict=True):
            entry["hypothesis"] = text
    return entries


def _with_hypotheses(dataset: Dataset, texts: list[str | None], models: list[str | None]) -> Dataset:
    """The dataset with both recognition columns replaced, the order of columns kept."""
    order = dataset.column_names
    dataset = dataset.remove_columns(["hypothesis", "asr_model"])
    dataset = dataset.add_column("hypothesis", texts, feature=Value("string"))
    dataset = dataset.add_column("asr_model", models, feature=Value("string"))
    return dataset.select_columns(order)


def read_hypotheses(path: str | Path) -> dict[tuple[str | None, str], str]:
    """Read ready hypotheses.

    Args:
        path: a UTF-8 CSV with a header, a JSON Lines or a Parquet file; columns `id` and `hypothesis`, and `split`
            where ids repeat across splits.

    Returns:
        {(split or None, id): hypothesis}

    Raises:
        TranscriptionError: not readable, not UTF-8, a column or value missing, or an id given twice.
    """
    path = Path(path)
    try:
        # An empty cell is a hypothesis without words; a missing one is an error.
        rows = read_table(path, empty_cell="")
    except (CorpusError, OSError) as error:
        raise TranscriptionError(f"cannot read hypotheses: {error}") from error
    found: dict[tuple[str | None, str], str] = {}
    for number, row in enumerate(rows, start=1):
        if row.get("id") is None or row.get("hypothesis") is None:
            raise TranscriptionError(f"{path}: row {number} lacks 'id' or 'hypothesis'; both columns are needed")
        key = (row.get("split") or None, str(row["id"]))
        if key in found:
            raise TranscriptionError(f"{path}: id {key[1]!r} appears twice (again in row {number})")
        found[key] = str(row["hypothesis"]).strip()
    return found


def import_hypotheses(
    dataset: DatasetDict, hypotheses: Hypotheses, asr_model: str
) -> tuple[DatasetDict, dict[str, Any]]:
    """Fill `hypothesis` and `asr_model` from ready hypotheses; other utterances keep what they have.

    Args:
        dataset: a canonical dataset.
        hypotheses: as `read_hypotheses` returns them.
        asr_model: the name of the recogniser that they come from.

    Returns:
        The dataset, and {"imported": n, "without_hypothesis": ["split/id", …], "not_in_dataset": [id, …]}.

    Raises:
        TranscriptionError: not one id fits the dataset, or an id without a split is in several splits.
    """
    used: dict[tuple[str | None, str], str] = {}
    without, filled = [], {}
    for split, part in split_parts(dataset).items():
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


def word_error_rates(dataset: DatasetDict, spelling_mapping: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the word error rate of each split after Whisper's English normaliser.

    Typographic apostrophes become plain ones first: the normaliser reads "I’m" as two words and "I'm" as "i am".

    Args:
        dataset: a canonical dataset; utterances count that have both texts and whose normalised transcript has words.
        spelling_mapping: British to American spellings (`WhisperRecognizer.spelling_mapping`); none by default.

    Returns:
        {split: {"wer": errors per word, or None, "with_error": share of utterances, "utterances", "words"}}
    """
    normalizer = EnglishTextNormalizer(spelling_mapping or {})

    def normalize(text: str) -> str:
        return normalizer(text.translate(LIKE_APOSTROPHE))

    return {split: _word_error_rate(part, normalize) for split, part in split_parts(dataset).items()}


def _word_error_rate(part: Dataset, normalize: Callable[[str], str]) -> dict[str, Any]:
    """One split's entry of `word_error_rates`."""
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


def _save(
    dataset: DatasetDict, report: dict[str, Any], folder: Path, spelling_mapping: dict[str, str] | None = None
) -> dict[str, Any]:
    """Write the filled dataset and its report; the report, with what can be said of any dataset."""
    counts = {
        split: {
            "utterances": len(part),
            "with_hypothesis": sum(text is not None for text in part["hypothesis"]),
            "empty_hypothesis": sum(text == "" for text in part["hypothesis"]),
        }
        for split, part in split_parts(dataset).items()
    }
    rates = word_error_rates(dataset, spelling_mapping)
    report = {**report, "counts": counts, "word_error_rate": rates, "versions": collect_versions()}
    save_prepared(dataset, folder)
    stamp_card(folder)
    write_atomically(folder / REPORT_NAME, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report
