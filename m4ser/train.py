"""`m4ser train`: what `examples/run_custom.py` does; `accelerate launch -m m4ser train …` for several processes."""

from collections.abc import Sequence

from trainer.experiments import cli, custom
from trainer.experiments.arguments import CorpusArguments, ModelArguments


def main(arguments: Sequence[str]) -> int:
    """Train and test on a corpus; see `trainer.experiments.custom`."""
    sections = CorpusArguments, ModelArguments, custom.CustomRunArguments
    return cli.run_words(custom.main, *sections, words=arguments, prog="m4ser train")
