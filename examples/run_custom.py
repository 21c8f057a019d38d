r"""Train and test M4SER on your own corpus, or on RAVDESS, with speakers held out.

    accelerate launch examples/run_custom.py --corpus manifest --data_dir my_corpus --output_dir runs/mine \
        --asr_model openai/whisper-small.en

A manifest is a CSV, JSONL or Parquet file with the columns `audio` and `emotion`, optionally `transcript`,
`hypothesis`, `speaker` and `split`. Missing hypotheses are written by `--asr_model`. A corpus with its own
train/validation/test splits keeps them; any other is divided into speaker-independent folds.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import data_scripts
from data_scripts.corpora.ravdess import voice
from trainer import experiments
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments


@dataclass
class CustomRunArguments(RunArguments):
    """Which runs to make of a corpus without splits of its own."""

    num_folds: int = field(default=6, metadata={"help": "Speaker-independent folds."})


def main(corpus: CorpusArguments, model: ModelArguments, runs: CustomRunArguments, args: "ExperimentArguments") -> None:
    """Run every fold with every seed, then print the summary."""
    dataset = experiments.prepare_corpus(corpus, Path(args.output_dir) / "corpus")
    if set(dataset) == {"train"}:
        # RAVDESS numbers tell the speakers' sex: each fold then hears as many women as men.
        kind = voice if corpus.corpus == "ravdess" else None
        folds = data_scripts.speaker_folds(dataset, runs.num_folds, runs.split_seed, stratify=kind)
        chosen, protocol = runs.choose(folds, dataset), "speakers held out"
    else:
        chosen, protocol = experiments.own_split(dataset, runs), "its own split"
    experiments.run_folds(chosen, corpus, model, runs, args, f"Corpus: {corpus.corpus}, {protocol}.")


if __name__ == "__main__":
    run_script(main, CorpusArguments, ModelArguments, CustomRunArguments)
