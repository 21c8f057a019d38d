"""From a corpus on disk to a prepared dataset with hypotheses, once, whatever the number of processes."""

import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import ClassLabel, Dataset, DatasetDict

from data_scripts.audit import AUDITED_COLUMNS, Audit, audit_splits
from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import load_prepared, split_parts
from data_scripts.transcribe.dataset import import_into_folder, transcribe_folder
from data_scripts.transcribe.whisper import WhisperRecognizer
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments


def prepare_corpus(arguments: CorpusArguments, folder: str | Path) -> DatasetDict:
    """Return the corpus as a prepared dataset, kept in `folder` with its report; a prepared folder is used as it is.

    Raises:
        ExperimentError: no `data_dir`; or `folder` was prepared from another selection.
        CorpusError: the corpus or the hypotheses cannot be read.
    """
    if arguments.corpus == "prepared" and arguments.data_dir is not None:
        return load_prepared(arguments.data_dir)
    selection = arguments.selection()
    folder = Path(folder)
    with PartialState().main_process_first():
        if (folder / "report.json").is_file():
            _check_selection(folder, selection)
        else:
            report = prepare_folder(selection, folder, num_workers=arguments.num_workers, strict=arguments.strict)
            print(report.table(), flush=True)
        dataset = load_prepared(folder)
        if any(text is None for part in dataset.values() for text in part["hypothesis"]):
            _write_hypotheses(folder, arguments)
            dataset = load_prepared(folder)
    return dataset


def load_split(folder: str | Path, split: str) -> Dataset:
    """Return one split of a prepared folder.

    Args:
        folder: that `data_scripts.prepare` made.
        split: its name.

    Raises:
        CorpusError: the folder is none, or has no such split.
    """
    return pick_split(load_prepared(folder), split, folder)


def pick_split(dataset: DatasetDict, split: str, folder: str | Path) -> Dataset:
    """Return one split of a prepared dataset.

    Args:
        dataset: prepared.
        split: its name.
        folder: where the dataset is from, for the message.

    Raises:
        CorpusError: there is no such split.
    """
    if split not in dataset:
        raise CorpusError(f"{folder} has no split {split}; it has {', '.join(map(str, dataset))}")
    return dataset[split]


def evenly_spaced(data: Dataset, count: int) -> list[dict[str, Any]]:
    """Return rows of a dataset, evenly spaced, all where there are no more.

    Args:
        data: any rows.
        count: how many at most.
    """
    step = max(1, len(data) // count)
    return [data[index] for index in range(0, len(data), step)][:count]


def corpus_name(arguments: CorpusArguments) -> str:
    """Return the corpus' name in the registry, of a prepared folder as its report says; `prepared` where it does not.

    Args:
        arguments: which corpus.
    """
    report = Path(arguments.data_dir or "") / "report.json"
    if arguments.corpus != "prepared" or not report.is_file():
        return arguments.corpus
    return PreparationReport.from_json(report.read_text(encoding="utf-8")).corpus


def audit_dataset(data: DatasetDict, accepted: str = "") -> Audit:
    """Compare the splits of a run with one another; nothing is decoded for it.

    Args:
        data: canonical splits. Copies of recordings are found by the column `content`, which preparation fills.
        accepted: why speakers may be in several of them, see `Audit`.
    """
    columns = {}
    for split, part in split_parts(data).items():
        columns[split] = {name: part[name][:] for name in AUDITED_COLUMNS if name in part.column_names}
        emotion = part.features["emotion"]
        if isinstance(emotion, ClassLabel):
            columns[split]["emotion"] = [emotion.int2str(label) for label in columns[split]["emotion"]]
    return audit_splits(columns, accepted)


def print_warnings(audit: Audit, name: str) -> None:
    """Print what leaks between the splits of a fold, one line for each kind, on stderr."""
    for warning in audit.warnings():
        print(f"warning: {name}: {warning}", file=sys.stderr, flush=True)


def prepared_folder(arguments: CorpusArguments, folder: str | Path) -> Path:
    """Return where a prepared corpus lies.

    Args:
        arguments: which corpus.
        folder: where `prepare_corpus` keeps one that it prepares.
    """
    return Path(arguments.data_dir or "") if arguments.corpus == "prepared" else Path(folder)


def accepted_in_own_split(arguments: CorpusArguments, folder: str | Path) -> str:
    """Return why speakers may be in several of a corpus' own splits, as its preparation says; empty: they may not.

    Args:
        arguments: which corpus.
        folder: where `prepare_corpus` kept it.
    """
    report = prepared_folder(arguments, folder) / "report.json"
    if not report.is_file():
        return ""
    audit = PreparationReport.from_json(report.read_text(encoding="utf-8")).audit
    return audit.accepted if audit is not None else ""


def _check_selection(folder: Path, selection: CorpusSelection) -> None:
    """Raise where a folder was prepared from something else than what is asked for now."""
    prepared = PreparationReport.from_json((folder / "report.json").read_text(encoding="utf-8")).selection
    differences = [
        f"{name} {prepared.get(name)!r} there, {value!r} now"
        for name, value in selection.describe().items()
        if prepared.get(name) != value
    ]
    if differences:
        raise ExperimentError(
            f"{folder} was prepared from another selection ({'; '.join(differences)}). Choose another --output_dir, "
            "ask for the same again, or delete that folder."
        )


def _write_hypotheses(folder: Path, arguments: CorpusArguments) -> None:
    """Import the hypotheses or let the ASR model write them; without either, human text may be all one needs."""
    if arguments.hypotheses is not None:
        report = import_into_folder(folder, arguments.hypotheses, arguments.asr_model or "unknown")
        missing = report["without_hypothesis"]
        if missing:
            print(f"{arguments.hypotheses}: no hypothesis for {len(missing)} utterances, the first is {missing[0]}")
    elif arguments.asr_model is not None:
        language = arguments.asr_language or CORPORA[arguments.corpus].language
        recognizer = WhisperRecognizer(arguments.asr_model, language=language)
        transcribe_folder(folder, recognizer, missing_only=True)
