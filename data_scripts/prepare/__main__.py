"""Prepare a corpus: `python -m data_scripts.prepare iemocap --data_dir … --output_dir …`.

A dataset of the Hugging Face world goes in by name: `python -m data_scripts.prepare dataset --dataset_name …`.

Writes one Parquet file per split, a dataset card, and report.json, in which every item that was dropped, repaired or
noted is listed with its reason. The same command takes up an interrupted run and brings a finished one up to date.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.corpora.options import add_options
from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser

PROG = "python -m data_scripts.prepare"


def parse_arguments(arguments: Sequence[str] | None = None, prog: str = PROG) -> argparse.Namespace:
    """Return the options of the command `prog`; a wrong one prints the usage and exits with 2."""
    parser = CommandParser(prog=prog, description=f"Prepare a corpus: {prog} iemocap --data_dir … --output_dir …")
    parser.add_argument("corpus", choices=sorted(CORPORA))
    parser.add_argument(
        "--output_dir", type=Path, required=True, metavar="FOLDER", help="Where the prepared corpus goes."
    )
    add_options(parser, skip=("corpus",))
    parser.add_argument("--embed_audio", action="store_true", help="Put the audio into the Parquet files, as FLAC.")
    parser.add_argument(
        "--push_to_hub",
        metavar="REPO",
        help="Also upload it as a dataset (new repositories are private; audio is embedded). Check the corpus's "
        "license first.",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command line; returns the exit status: 0, or 2 after one line that says what the user can change."""
    options = parse_arguments(arguments, prog)
    return run_command(lambda: _prepare(options))


def _prepare(options: argparse.Namespace) -> None:
    """Do what the command line asks."""
    selection = CorpusSelection.parse(options)
    # Imported after the options are read, so that --help and a wrong option are answered at once.
    from data_scripts.prepare.folder import prepare_folder, push_to_hub

    embed_audio = options.embed_audio or options.push_to_hub is not None
    report = prepare_folder(selection, options.output_dir, embed_audio)
    print(report.table())
    for warning in report.audit.warnings() if report.audit is not None else ():
        print(f"warning: {warning}", file=sys.stderr)
    print(f"written to {options.output_dir}")
    if options.push_to_hub is not None:
        print(f"pushed to {push_to_hub(options.output_dir, options.push_to_hub)}")


if __name__ == "__main__":
    sys.exit(main())
