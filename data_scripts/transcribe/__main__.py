"""Transcribe a prepared folder: `python -m data_scripts.transcribe --prepared_dir FOLDER --model …`.

    --model openai/whisper-medium.en                      recognise with transformers
    --model medium.en --backend faster-whisper            recognise with faster-whisper
    --hypotheses FILE --asr_model NAME                    import ready hypotheses
    --dataset_name NAME --output_dir FOLDER               prepare a dataset first, in place of --prepared_dir

The same command takes up an interrupted run where it stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.corpora.options import add_options
from data_scripts.corpora.report import prepared_name
from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser

if TYPE_CHECKING:
    from data_scripts.transcribe.dataset import Recognizer

PROG = "python -m data_scripts.transcribe"
BACKENDS = ("transformers", "faster-whisper")


def parse_arguments(arguments: Sequence[str] | None = None, prog: str = PROG) -> argparse.Namespace:
    """Return the options of the command `prog`; a wrong one prints the usage and exits with 2."""
    parser = CommandParser(
        prog=prog,
        description="Fill the hypotheses of a prepared folder: by recognising its audio, or from a file.",
    )
    parser.add_argument("--prepared_dir", metavar="FOLDER", type=Path, help="written by data_scripts.prepare")
    parser.add_argument("--output_dir", metavar="FOLDER", type=Path, help="where a dataset is prepared")
    add_options(parser, skip=("corpus", "data_dir", "sessions"))
    parser.add_argument("--model", metavar="NAME", help="Whisper repository id or folder")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="transformers",
        help="runs the model; faster-whisper needs a CTranslate2 checkpoint and pip install 'm4ser[faster-whisper]'",
    )
    parser.add_argument("--batch_size", metavar="N", type=int, default=16, help="clips decoded at once (default 16)")
    parser.add_argument("--device", help="torch device (default: a CUDA GPU where there is one)")
    parser.add_argument(
        "--language",
        help="language of a multilingual model, e.g. en (default: the corpus's, or where it has none, as detected)",
    )
    parser.add_argument(
        "--max_new_tokens", metavar="N", type=int, default=224, help="cap on the tokens of 30 s (default 224)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of the temperature fallback (default 0; transformers)"
    )
    parser.add_argument(
        "--hypotheses",
        metavar="FILE",
        type=Path,
        help="import this CSV, JSONL or Parquet file (id, hypothesis[, split]) instead",
    )
    parser.add_argument("--missing_only", action="store_true", help="leave the utterances alone that have a hypothesis")
    parser.add_argument("--asr_model", metavar="NAME", help="name for the asr_model column (default: --model)")
    options = parser.parse_args(arguments)
    if (options.prepared_dir is None) == (options.dataset_name is None or options.output_dir is None):
        parser.error("give either --prepared_dir or, to prepare a dataset first, --dataset_name and --output_dir")
    if (options.model is None) == (options.hypotheses is None):
        parser.error("give either --model, to recognise the audio, or --hypotheses, to import a file")
    if options.hypotheses is not None and not options.asr_model:
        parser.error("--hypotheses needs --asr_model, the name of the recogniser that they come from")
    return options


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command line; returns the exit status: 0, or 2 after one line that says what the user can change."""
    options = parse_arguments(arguments, prog)
    return run_command(lambda: _transcribe(options))


def _transcribe(options: argparse.Namespace) -> None:
    """Do what the command line asks, and print what came of it."""
    # Imported after the options are read, so that --help and a wrong option are answered at once.
    from data_scripts.schema import load_prepared
    from data_scripts.transcribe.dataset import HypothesesFile, fill_folder, read_hypotheses

    # What can be wrong is found before a dataset is prepared or a model loaded.
    dataset = None if options.prepared_dir is None else load_prepared(options.prepared_dir)
    if options.hypotheses is None:
        source = _load_recognizer(options)
    else:
        source = HypothesesFile(options.hypotheses, options.asr_model)
        read_hypotheses(source.path)
    if dataset is None:
        from data_scripts.prepare.folder import prepare_folder

        print(prepare_folder(CorpusSelection.parse(options), options.output_dir).table())
        options.prepared_dir = options.output_dir
        dataset = load_prepared(options.prepared_dir)
    _, report = fill_folder(options.prepared_dir, dataset, source, options.batch_size, options.missing_only)
    _print_report(report)


def _load_recognizer(options: argparse.Namespace) -> "Recognizer":
    """The recogniser that the options ask for."""
    record = CORPORA.get(prepared_name(options.prepared_dir) if options.prepared_dir else "dataset")
    shared = {
        "device": options.device,
        "language": options.language or (record.language if record else None),
        "max_new_tokens": options.max_new_tokens,
        "name": options.asr_model,
    }
    if options.backend == "faster-whisper":
        from data_scripts.transcribe.faster_whisper import FasterWhisperRecognizer

        return FasterWhisperRecognizer(options.model, **shared)
    from data_scripts.transcribe.whisper import WhisperRecognizer

    return WhisperRecognizer(options.model, seed=options.seed, **shared)


def _print_report(report: dict[str, Any]) -> None:
    """Print each split's counts and word error rate, and the utterances that could not be decoded."""
    for split, rate in report["word_error_rate"].items():
        counts = report["counts"][split]
        wer = "no transcripts" if rate["wer"] is None else f"WER {rate['wer']:.1%} on {rate['utterances']}"
        print(f"{split}: {counts['with_hypothesis']}/{counts['utterances']} with a hypothesis, {wer}")
    for name, reason in report.get("undecodable", {}).items():
        print(f"undecodable: {name}: {reason}")


if __name__ == "__main__":
    sys.exit(main())
