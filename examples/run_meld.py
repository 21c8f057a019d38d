r"""MELD as the paper uses it: 7 emotions, its own split, ASR text (Tables III and IV).

    python examples/run_meld.py --config examples/configs/meld_hubert_base.yaml \
        --data_dir MELD.Raw --output_dir runs/meld [--seeds 1 2 3]

`--data_dir` is the official release, `--prepared_dir` a folder written by `python -m data_scripts.prepare`.
The best epoch is chosen on the development split.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from data_scripts.corpora.options import option_help
from trainer import experiments
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments


@dataclass
class MeldArguments(CorpusArguments):
    """Where MELD lies."""

    corpus: str = field(default="meld", metadata=option_help("Name of the corpus.", "NAME"))


def main(corpus: MeldArguments, model: ModelArguments, runs: RunArguments, args: "ExperimentArguments") -> None:
    """Train, choose on the development split, test."""
    experiments.check_experiment(corpus, [model], runs, args, lambda dataset: experiments.own_split(dataset, runs))
    dataset = experiments.prepare_corpus(corpus, Path(args.output_dir) / "corpus", [model])
    experiments.run_folds(
        experiments.own_split(dataset, runs),
        corpus,
        model,
        runs,
        args,
        "MELD, its own train, development and test split.",
    )


if __name__ == "__main__":
    run_script(main, MeldArguments, ModelArguments, RunArguments)
