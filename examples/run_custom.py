"""Train and test M4SER on your own corpus, or on RAVDESS, with speakers held out.

    accelerate launch examples/run_custom.py --corpus manifest --data_dir my_corpus --output_dir runs/mine \\
        --asr_model openai/whisper-small.en

A manifest is a CSV, JSONL or Parquet file with the columns `audio` and `emotion`, optionally `transcript`,
`hypothesis`, `speaker` and `split`. Missing hypotheses are written by `--asr_model`. A corpus with its own
train/validation/test splits keeps them; any other is divided into speaker-independent folds.
"""

from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.corpora.ravdess import voice
from data_scripts.splits import speaker_folds
from trainer import M4SERTrainingArguments
from trainer.experiments.cli import parse_arguments, run_main
from trainer.experiments.cross_validation import RunArguments, own_split, run_folds
from trainer.experiments.data import CorpusArguments, prepare_corpus
from trainer.experiments.run import ModelArguments


@dataclass
class CustomRunArguments(RunArguments):
    """Which runs to make of a corpus without splits of its own."""

    num_folds: int = field(default=6, metadata={"help": "Speaker-independent folds."})


def main() -> None:
    """Every fold with every seed, then the summary."""
    corpus, model, runs, args = parse_arguments(
        (CorpusArguments, ModelArguments, CustomRunArguments, M4SERTrainingArguments)
    )
    dataset = prepare_corpus(corpus, Path(args.output_dir) / "corpus")
    if set(dataset) == {"train"}:
        # RAVDESS numbers tell the speakers' sex: each fold then hears as many women as men.
        kind = voice if corpus.corpus == "ravdess" else None
        folds = runs.choose(speaker_folds(dataset, runs.num_folds, runs.split_seed, stratify=kind), dataset)
    else:
        folds = own_split(dataset)
    run_folds(folds, model, runs, args, description=f"Corpus: {corpus.corpus}, speakers held out.")


if __name__ == "__main__":
    run_main(main)
