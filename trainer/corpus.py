"""From a corpus on disk to a prepared dataset with hypotheses, once, whatever the number of processes."""

from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from datasets import DatasetDict

from data_scripts.asr import WhisperRecognizer
from data_scripts.corpora import load_corpus
from data_scripts.schema import load_prepared, save_prepared
from data_scripts.transcribe import import_hypotheses, read_hypotheses, transcribe_dataset

from .experiment import ExperimentError


@dataclass
class CorpusArguments:
    """Which corpus an experiment reads."""

    corpus: str = field(default="manifest", metadata={"help": "manifest, ravdess, or prepared (a prepared folder)."})
    data_dir: str | None = field(default=None, metadata={"help": "Its folder (or the manifest file)."})
    emotions: list[str] | None = field(default=None, metadata={"help": "Use these classes only."})
    asr_model: str | None = field(
        default=None, metadata={"help": "Whisper model (Hub name or folder) that writes missing hypotheses."}
    )
    hypotheses: str | None = field(
        default=None, metadata={"help": "CSV or JSONL file with ready hypotheses (columns id, hypothesis)."}
    )
    num_workers: int = field(default=2, metadata={"help": "Threads that read the corpus."})


def prepare_corpus(arguments: CorpusArguments, folder: str | Path) -> DatasetDict:
    """
    The corpus as a prepared dataset, kept in `folder` with its report; what is there already is not made again.

    Raises:
        ExperimentError: no `data_dir`; `folder` holds other classes than asked for; or hypotheses are missing and
            there is no `asr_model`.
        CorpusError: the corpus cannot be read.
    """
    if arguments.data_dir is None:
        raise ExperimentError("Say where the corpus lies: --data_dir FOLDER.")
    if arguments.corpus == "prepared":
        return load_prepared(arguments.data_dir)
    folder = Path(folder)
    with PartialState().main_process_first():
        if not (folder / "report.json").is_file():
            corpus = load_corpus(
                arguments.corpus, arguments.data_dir, arguments.emotions, num_workers=arguments.num_workers
            )
            save_prepared(_with_hypotheses(corpus.dataset, arguments, folder), folder)
            corpus.report.save(folder / "report.json")
            print(corpus.report.table(), flush=True)
        dataset = load_prepared(folder)
    found = next(iter(dataset.values())).features["emotion"].names
    if arguments.emotions and sorted(found) != sorted(arguments.emotions):
        raise ExperimentError(
            f"{folder} was prepared with the classes {', '.join(found)}; delete it or choose another output_dir."
        )
    return dataset


def _with_hypotheses(dataset: DatasetDict, arguments: CorpusArguments, folder: Path) -> DatasetDict:
    """Import the hypotheses, or let the ASR model write those that are missing; human text alone needs none."""
    if arguments.hypotheses is not None:
        dataset, report = import_hypotheses(
            dataset, read_hypotheses(arguments.hypotheses), arguments.asr_model or "unknown"
        )
        if report["without_hypothesis"]:
            raise ExperimentError(
                f"{arguments.hypotheses} lacks {len(report['without_hypothesis'])} utterances, the first is "
                f"{report['without_hypothesis'][0]}."
            )
        return dataset
    if all(text is not None for part in dataset.values() for text in part["hypothesis"]):
        return dataset
    if arguments.asr_model is None:
        return dataset
    return transcribe_dataset(dataset, WhisperRecognizer(arguments.asr_model), folder / "transcription.jsonl")
