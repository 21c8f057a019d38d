r"""The paper's Fig. 6 and 8 to 12 and its Table VII, of finished runs.

    python examples/analyze.py --prepared_dir runs/meld/corpus --runs runs/meld --output_dir runs/analysis

`--runs` takes folders of runs, of folds and seeds, or of a grid (`run_ablation.py`); their rows are told apart by their
ablation. Confusion matrices are means over all runs of a row. Whatever looks into a model looks into the row's first
run. Nothing is trained. `analysis.json` holds the numbers; with the same arguments, all is the same again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    folder: dict[str, Any] = {"nargs": "+", "metavar": "FOLDER"}
    add("--prepared_dir", required=True, help="prepared folder that the models read; others for Fig. 6 alone", **folder)
    add("--runs", default=[], help="finished runs; without, Fig. 6 alone", **folder)
    add("--output_dir", required=True, type=Path, metavar="FOLDER", help="where figures and tables are written")
    add("--split", default="test", help="split to read (default test)")
    add("--utterances", type=int, default=300, metavar="N", help="how many to read, evenly spaced (default 300)")
    add("--utterance", nargs="+", default=[], metavar="ID", help="of Fig. 11 and Table VII (default: the first read)")
    add("--seed", type=int, default=0, help="of t-SNE and of the untrained fusion")
    add("--figure_format", nargs="+", choices=("png", "pdf", "svg"), default=["png"], help="of figures (default png)")
    options = parser.parse_args(arguments)
    if options.utterances < 4:
        parser.error("--utterances must be at least 4")
    return options


def main(options: argparse.Namespace) -> None:
    """Draw the figures, and write and print the page."""
    from trainer.evaluation.drawing import set_figure_formats
    from trainer.studies.analysis import analyze

    set_figure_formats(options.figure_format)
    choices = {"split": options.split, "utterances": options.utterances, "seed": options.seed}
    text = analyze(options.prepared_dir, options.runs, options.output_dir, shown=options.utterance, **choices)
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(parse_arguments())))
