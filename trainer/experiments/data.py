"""From a corpus on disk to a prepared dataset with hypotheses, once, whatever the number of processes."""

from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from datasets import DatasetDict

from data_scripts.corpora.registry import CORPORA
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import load_prepared
from data_scripts.transcribe.dataset import import_into_folder, transcribe_folder
from data_scripts.transcribe.whisper import WhisperRecognizer
from trainer.experiments.run import ExperimentError


@dataclass
class CorpusArguments:
    """Which corpus an experiment reads."""

    corpus: str = field(
        default="manifest", metadata={"help": f"{', '.join(CORPORA)}, or prepared (a folder of data_scripts.prepare)."}
    )
    data_dir: str | None = field(default=None, metadata={"help": "Its folder (or the manifest file)."})
    emotions: list[str] | None = field(default=None, metadata={"help": "Use these classes only."})
    sessions: list[str] | None = field(default=None, metadata={"help": "Use these sessions only (IEMOCAP)."})
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
        ExperimentError: no `data_dir`; or `folder` holds other classes than asked for.
        CorpusError: the corpus or the hypotheses cannot be read.
    """
    if arguments.data_dir is None:
        raise ExperimentError("Say where the corpus lies: --data_dir FOLDER.")
    if arguments.corpus == "prepared":
        return load_prepared(arguments.data_dir)
    folder = Path(folder)
    with PartialState().main_process_first():
        if not (folder / "report.json").is_file():
            report = prepare_folder(
                arguments.corpus,
                arguments.data_dir,
                folder,
                arguments.emotions,
                arguments.sessions,
                num_workers=arguments.num_workers,
            )
            print(report.table(), flush=True)
        dataset = load_prepared(folder)
        if any(text is None for part in dataset.values() for text in part["hypothesis"]):
            _write_hypotheses(folder, arguments)
            dataset = load_prepared(folder)
    found = next(iter(dataset.values())).features["emotion"].names
    if arguments.emotions and sorted(found) != sorted(arguments.emotions):
        raise ExperimentError(
            f"{folder} was prepared with the classes {', '.join(found)}; delete it or choose another output_dir."
        )
    return dataset


def _write_hypotheses(folder: Path, arguments: CorpusArguments) -> None:
    """Import the hypotheses or let the ASR model write them; without either, human text may be all one needs."""
    if arguments.hypotheses is not None:
        report = import_into_folder(folder, arguments.hypotheses, arguments.asr_model or "unknown")
        missing = report["without_hypothesis"]
        if missing:
            print(f"{arguments.hypotheses}: no hypothesis for {len(missing)} utterances, the first is {missing[0]}")
    elif arguments.asr_model is not None:
        transcribe_folder(folder, WhisperRecognizer(arguments.asr_model))
