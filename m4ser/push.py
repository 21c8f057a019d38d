"""`m4ser push RUN you/your-model`: publish a finished run on the Hub, with all that its users need.

That is the weights, the code, the processor, the model card with its measurements, results.json, the figures, and what
Inference Endpoints run. Predictions stay here: they hold people's names and words. Log in before by `hf auth login`.
"""

import argparse
from collections.abc import Sequence

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options; a wrong one prints the usage and exits with 2."""
    parser = CommandParser(prog="m4ser push", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="the folder of the run, with its results.json")
    parser.add_argument("repository", metavar="REPOSITORY", help="you/your-model; it is made where it does not exist")
    parser.add_argument("--full", action="store_true", help="with error detection, error correction, discriminator")
    # Without the flag, the owner's own setting decides.
    parser.add_argument("--private", action="store_true", default=None, help="a new repository is private")
    parser.add_argument("--revision", help="the branch to push to")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Publish a run and print its address; returns the exit status."""
    return run_command(lambda: _push(parse_arguments(arguments)))


def _push(options: argparse.Namespace) -> None:
    from trainer.experiments.hub import push_run  # late: --help needs none of it

    choice = {"full": options.full, "private": options.private, "revision": options.revision}
    print(f"pushed to {push_run(options.run, options.repository, **choice)}")
