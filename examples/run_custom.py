"""Train and test M4SER on your own corpus, or on RAVDESS: `m4ser train` as a script, for a copy of the repository."""

from trainer.experiments.arguments import CorpusArguments, ModelArguments
from trainer.experiments.cli import run_script
from trainer.experiments.custom import CustomRunArguments, main

if __name__ == "__main__":
    run_script(main, CorpusArguments, ModelArguments, CustomRunArguments)
