r"""Train and test M4SER on your own corpus, or on RAVDESS, with speakers held out.

    m4ser train --data_dir my_corpus --output_dir runs/mine --preset small
    m4ser train --data_dir my_corpus --output_dir runs/mine --asr_model openai/whisper-small.en
    m4ser train --dataset_name user/name --output_dir runs/mine --split_by utterance
    m4ser train --preset ravdess4 --data_dir Audio_Speech_Actors_01-24.zip --output_dir runs/ravdess4

`--data_dir` is a table (CSV, TSV, JSONL, Parquet) or its folder; `--dataset_name` a dataset of the Hub, an AudioFolder,
or what `save_to_disk` wrote. Needed are a recording and a label in each row; optional are `transcript`, `hypothesis`,
`speaker` and `split`, by these names, their usual synonyms, or the options that name a column. Missing hypotheses are
written by `--asr_model`. A corpus with its own splits keeps them; any other is divided into speaker-independent folds.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import data_scripts
from trainer import experiments
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments

if TYPE_CHECKING:
    from datasets import DatasetDict

    from trainer.arguments import ExperimentArguments
    from trainer.experiments.checks import Folds


@dataclass
class CustomRunArguments(RunArguments):
    """Which runs to make of a corpus without splits of its own."""

    num_folds: int = field(default=6, metadata={"help": "Folds of a corpus that has no splits."})
    split_by: str = field(
        default="speaker",
        metadata={
            "help": "'speaker' holds speakers out; 'utterance' divides at random, for a corpus that names none: its "
            "results are better than on new speakers."
        },
    )

    def __post_init__(self):
        if self.split_by not in ("speaker", "utterance"):
            raise ExperimentError(f"split_by must be 'speaker' or 'utterance', not {self.split_by!r}.")


def divide(dataset: "DatasetDict", corpus: CorpusArguments, runs: CustomRunArguments) -> "tuple[Folds, str]":
    """Return the folds to run, and the protocol in words."""
    if set(dataset) != {"train"}:
        dataset, protocol = data_scripts.complete_splits(dataset, runs.split_seed)
        return experiments.own_split(dataset, runs), protocol
    if runs.split_by == "speaker":
        sex_of = corpus.record.sex_of  # each fold then hears as many women as men
        folds = data_scripts.speaker_folds(dataset, runs.num_folds, runs.split_seed, stratify=sex_of)
        protocol = "speakers held out"
    else:
        folds = data_scripts.utterance_folds(dataset, runs.num_folds, runs.split_seed)
        protocol = "divided at random, so that tested speakers may be trained on"
    return runs.choose(folds, dataset), protocol


def main(corpus: CorpusArguments, model: ModelArguments, runs: CustomRunArguments, args: "ExperimentArguments") -> None:
    """Run every fold with every seed, then print the summary."""
    from trainer.experiments.first_look import first_look  # late: --help needs no torch

    experiments.check_experiment(corpus, [model], runs, args, lambda dataset: divide(dataset, corpus, runs)[0])
    dataset = experiments.prepare_corpus(corpus, Path(args.output_dir) / "corpus", [model])
    if args.should_log:
        small = model.speech_encoder != ModelArguments().speech_encoder
        print(*first_look(dataset, runs.split_by == "speaker", preset_helps=not small), sep="\n", flush=True)
    folds, protocol = divide(dataset, corpus, runs)
    experiments.run_folds(folds, corpus, model, runs, args, f"Corpus: {corpus.corpus}, {protocol}.")
