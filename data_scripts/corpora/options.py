"""The command-line options that say what is wanted of a corpus, the same for every command."""

import argparse
from pathlib import Path
from typing import Any

from data_scripts.corpora.columns import COLUMN_HELP, COLUMN_OPTIONS, column_choices
from data_scripts.corpora.hf_dataset import DATASET_HELP, split_choices
from data_scripts.corpora.labels import LABEL_MAP_HELP
from data_scripts.corpora.registry import CorpusSelection


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of datasets, columns and labels, and how recordings are prepared, to a command's parser."""
    for option, text in DATASET_HELP.items():
        parser.add_argument(f"--{option}", metavar="NAME", help=f"dataset: {text.removeprefix('a dataset: ')}")
    parser.add_argument("--output_dir", type=Path, help="where the prepared corpus goes")
    parser.add_argument("--emotions", nargs="+", metavar="NAME", help="keep only these classes, in this order")
    parser.add_argument("--label_map", nargs="+", metavar="LABEL=CLASS", help=LABEL_MAP_HELP)
    for role, option in COLUMN_OPTIONS.items():
        parser.add_argument(
            f"--{option}", metavar="NAME", help=f"manifest or dataset: the column with {COLUMN_HELP[role]}"
        )
    parser.add_argument("--strict", action="store_true", help="stop where a recording or speaker is in two splits")
    parser.add_argument("--num_workers", type=int, default=2, help="recordings decoded at once (default 2)")


def selection_of(options: Any, corpus: str, place: str | Path, sessions: list[str] | None = None) -> CorpusSelection:
    """Return what the options ask for.

    Args:
        options: of a parser with `add_selection_options`, or another object with these attributes.
        corpus: the corpus's name.
        place: its folder, table or name on the Hub.
        sessions: the sessions wanted.

    Raises:
        CorpusError: the corpus does not have what is wanted.
    """
    return CorpusSelection(
        corpus,
        place,
        options.emotions,
        sessions,
        column_choices(options),
        options.label_map,
        split_choices(options),
        options.dataset_config_name,
    )
