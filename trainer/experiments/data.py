"""From a corpus on disk to a prepared dataset with hypotheses, once, whatever the number of processes."""

from pathlib import Path

from accelerate import PartialState
from datasets import DatasetDict

from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import load_prepared
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
            print(prepare_folder(selection, folder, num_workers=arguments.num_workers).table(), flush=True)
        dataset = load_prepared(folder)
        if any(text is None for part in dataset.values() for text in part["hypothesis"]):
            _write_hypotheses(folder, arguments)
            dataset = load_prepared(folder)
    return dataset


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
        transcribe_folder(folder, WhisperRecognizer(arguments.asr_model, language=language))
