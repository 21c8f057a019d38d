"""From a corpus on disk to a prepared dataset with hypotheses, once, whatever the number of processes."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from datasets import DatasetDict
from transformers import GenerationConfig
from transformers.utils import logging

from data_scripts.audit import OFFICIAL_SPLIT, audit_dataset
from data_scripts.constants import SPLITS
from data_scripts.corpora import scan_corpus
from data_scripts.corpora.report import prepared_report
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import build_dataset, load_prepared, select_rows
from data_scripts.transcribe.dataset import HypothesesFile, fill_folder, import_hypotheses, read_hypotheses
from data_scripts.transcribe.whisper import (
    RecognizerError,
    WhisperRecognizer,
    check_whisper,
    checkpoint_name,
    language_options,
)
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, ModelArguments
from trainer.experiments.first_look import guess_language
from trainer.experiments.run_folder import settings_differences

logger = logging.get_logger(__name__)


def prepare_corpus(
    arguments: CorpusArguments, folder: str | Path, models: Sequence[ModelArguments] = ()
) -> DatasetDict:
    """Return the corpus as a prepared dataset with its hypotheses.

    It is prepared into `folder`, unless that has been done or `prepared_dir` names a prepared folder. Missing
    hypotheses are filled in there.

    Args:
        arguments: which corpus, which of its classes and sessions, and where hypotheses come from.
        folder: keeps the prepared corpus, with its report.
        models: which will be trained; where none of them reads hypotheses, the ASR model does not write them.

    Raises:
        ExperimentError: `folder` was prepared from another selection.
        CorpusError: the corpus or the hypotheses cannot be read, or it does not have what is wanted.
    """
    folder = prepared_folder(arguments, folder)
    with PartialState().main_process_first():
        if arguments.prepared_dir is None and not _is_prepared(folder, arguments):
            report = prepare_folder(arguments, folder)
            print(report.table(), flush=True)
        dataset = load_prepared(folder)
        if any(text is None for part in dataset.values() for text in part["hypothesis"][:]):
            reads = not models or any(model.reads_hypotheses for model in models)
            dataset = _with_hypotheses(folder, dataset, arguments, reads)
    return _selected(dataset, arguments)


def outline_corpus(arguments: CorpusArguments, folder: str | Path) -> DatasetDict:
    """Return what `prepare_corpus` would as far as it is known before a recording is read or recognised.

    Durations are null unless the corpus is prepared, hypotheses that an ASR model will write are empty. Recordings that
    cannot be used are still among the rows.

    Raises:
        ExperimentError, CorpusError: as `prepare_corpus`.
        RecognizerError: the ASR model cannot be loaded.
    """
    folder = prepared_folder(arguments, folder)
    if arguments.prepared_dir is not None or _is_prepared(folder, arguments):
        dataset = load_prepared(folder)
    else:
        dataset = _scanned(arguments)
    missing = {
        (str(split), identity): ""
        for split, part in dataset.items()
        for identity, text in zip(part["id"][:], part["hypothesis"][:], strict=True)
        if text is None
    }
    if missing and arguments.hypotheses is not None:
        dataset, _ = import_hypotheses(dataset, read_hypotheses(arguments.hypotheses), "", missing_only=True)
    elif missing and arguments.asr_model is not None:
        if (settings := check_whisper(arguments.asr_model, _language(arguments))) is not None:
            _warn_of_language(settings, checkpoint_name(arguments.asr_model), dataset)
        dataset, _ = import_hypotheses(dataset, missing, arguments.asr_model)
    return _selected(dataset, arguments)


def _warn_of_language(settings: GenerationConfig, recognizer: str, dataset: DatasetDict) -> None:
    """Tell where people wrote another language than the one that the recognizer knows."""
    written = guess_language(text for part in dataset.values() for text in part["transcript"][:] if text)
    if written not in (None, "English"):
        try:
            language_options(settings, written.split()[0], recognizer)
        except RecognizerError as error:
            logger.warning_once(f"The transcripts look {written}, but {error}, such as openai/whisper-small.")


def _scanned(arguments: CorpusArguments) -> DatasetDict:
    """The rows of a corpus, their recordings not read."""
    scanned, _ = scan_corpus(arguments)
    parts = {split: [row for row in scanned.rows if row["split"] == split] for split in SPLITS}
    dataset = DatasetDict()
    for split, part in parts.items():
        if part:
            rows = [{**row, "audio": {"path": row.get("path"), "bytes": None}} for row in part]
            dataset[split] = build_dataset(rows, scanned.emotions)
    if arguments.strict:
        audit_dataset(dataset, OFFICIAL_SPLIT if scanned.official_split else "").refuse()
    return dataset


def _selected(dataset: DatasetDict, arguments: CorpusArguments) -> DatasetDict:
    """The wanted classes and sessions of a folder that was prepared with others; a preparation leaves no others."""
    wanted = arguments.emotions, arguments.sessions
    return dataset if arguments.prepared_dir is None or not any(wanted) else select_rows(dataset, *wanted)


def _language(arguments: CorpusArguments) -> str | None:
    return arguments.asr_language or arguments.record.language


def prepared_folder(arguments: CorpusArguments, folder: str | Path) -> Path:
    """Return where a prepared corpus lies: in `prepared_dir`, or in the folder where `prepare_corpus` keeps it."""
    return Path(folder if arguments.prepared_dir is None else arguments.prepared_dir)


def accepted_in_own_split(arguments: CorpusArguments, folder: str | Path) -> str:
    """Return why speakers may be in several of a corpus' own splits, as its preparation says; empty: they may not."""
    report = prepared_report(prepared_folder(arguments, folder))
    return "" if report is None or report.audit is None else report.audit.accepted


def _is_prepared(folder: Path, wanted: CorpusArguments) -> bool:
    """Whether a corpus lies in a folder already; raises where it is not the one that is wanted."""
    report = prepared_report(folder)
    if report is None:
        return False
    now = wanted.describe()
    if differences := list(settings_differences({name: report.selection.get(name) for name in now}, now)):
        raise ExperimentError(
            f"{folder} was prepared from another selection ({'; '.join(differences)}). Choose another --output_dir, "
            "ask for the same again, or delete that folder."
        )
    return True


def _with_hypotheses(folder: Path, dataset: DatasetDict, arguments: CorpusArguments, reads: bool) -> DatasetDict:
    """Import the hypotheses, or let the ASR model write those that a model reads."""
    if arguments.hypotheses is not None:
        source = HypothesesFile(arguments.hypotheses, arguments.asr_model or "unknown")
    elif arguments.asr_model is not None and reads:
        source = WhisperRecognizer(arguments.asr_model, language=_language(arguments))
    else:
        return dataset
    dataset, report = fill_folder(folder, dataset, source, missing_only=True)
    if kept := report.get("kept"):
        print(f"{arguments.hypotheses}: {len(kept)} utterances keep the hypothesis they have, e.g. {kept[0]}")
    if missing := report.get("without_hypothesis"):
        print(f"{arguments.hypotheses}: no hypothesis for {len(missing)} utterances, the first is {missing[0]}")
    return dataset
