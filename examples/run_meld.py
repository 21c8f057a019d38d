"""MELD as the paper uses it: 7 emotions, its own split, ASR text (Tables III and IV).

    accelerate launch examples/run_meld.py --config examples/configs/meld_hubert_base.yaml \\
        --data_dir MELD.Raw --output_dir runs/meld [--seeds 1 2 3]

`--data_dir` is the official release, or with `--corpus prepared` a folder written by `python -m data_scripts.prepare`.
The best epoch is chosen on the development split.
"""

from dataclasses import dataclass, field
from pathlib import Path

from trainer import M4SERTrainingArguments
from trainer.experiments.cli import parse_arguments, run_main
from trainer.experiments.cross_validation import RunArguments, own_split, run_folds
from trainer.experiments.data import CorpusArguments, prepare_corpus
from trainer.experiments.run import ModelArguments


@dataclass
class MeldArguments(CorpusArguments):
    """Where MELD lies."""

    corpus: str = field(default="meld", metadata={"help": "meld, or prepared (a prepared folder)."})


def main() -> None:
    """Train, choose on the development split, test."""
    corpus, model, runs, args = parse_arguments((MeldArguments, ModelArguments, RunArguments, M4SERTrainingArguments))
    dataset = prepare_corpus(corpus, Path(args.output_dir) / "corpus")
    run_folds(own_split(dataset), model, runs, args, "MELD, its own train, development and test split.")


if __name__ == "__main__":
    run_main(main)
