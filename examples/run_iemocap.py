"""IEMOCAP as the paper uses it: 4 emotions, leave one session out, ASR text (Tables II and IV).

    accelerate launch examples/run_iemocap.py --config examples/configs/iemocap_hubert_base.yaml \\
        --data_dir IEMOCAP_full_release --output_dir runs/iemocap [--folds 1]

`--data_dir` is the official release, or with `--corpus prepared` a folder written by `python -m data_scripts.prepare`.
The best epoch is chosen on a speaker held out of the training sessions; the test session is heard once, at the end.
"""

from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.splits import leave_one_session_out
from trainer import M4SERTrainingArguments
from trainer.experiments.cli import parse_arguments, run_main
from trainer.experiments.cross_validation import RunArguments, run_folds
from trainer.experiments.data import CorpusArguments, prepare_corpus
from trainer.experiments.run import ModelArguments


@dataclass
class IemocapArguments(CorpusArguments):
    """Where IEMOCAP lies and how it is divided."""

    corpus: str = field(default="iemocap", metadata={"help": "iemocap, or prepared (a prepared folder)."})
    validation: str = field(
        default="speaker",
        metadata={"help": "'speaker' holds out one speaker of the training sessions, 0.1 a tenth of their utterances."},
    )


def main() -> None:
    """One fold per session."""
    corpus, model, runs, args = parse_arguments(
        (IemocapArguments, ModelArguments, RunArguments, M4SERTrainingArguments)
    )
    dataset = prepare_corpus(corpus, Path(args.output_dir) / "corpus")
    validation = corpus.validation if corpus.validation == "speaker" else float(corpus.validation)
    folds = leave_one_session_out(dataset, validation, runs.split_seed)
    held_out = "one speaker" if validation == "speaker" else f"{validation:.0%}"
    description = (
        f"IEMOCAP, leave one session out; validation on {held_out} of the training sessions, never the test session."
    )
    run_folds(runs.choose(folds, dataset), model, runs, args, description)


if __name__ == "__main__":
    run_main(main)
