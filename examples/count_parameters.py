r"""Table V: how many parameters each row has, by module, beside the paper's numbers.

    python examples/count_parameters.py
    python examples/count_parameters.py --size base --model_options '{"generator_layers": 4}' --output_dir runs/table_v

Parameters are counted in the configurations of HuBERT (`--size`) and bert-base: nothing is downloaded, no weight is
made. What they cost in time says `examples/benchmark.py`. The table is printed; `--output_dir` keeps it as
`parameters.md`.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_scripts.errors import run_command
from data_scripts.files import write_atomically
from data_scripts.parsers import CommandParser
from trainer.studies.paper import COST_TABLE
from trainer.studies.parameters import ENCODER_SIZES, MODULE_GROUPS, count_parameters, inference_parameters


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--size", choices=ENCODER_SIZES, default="large", help="of HuBERT (default large, Table V's)")
    add("--model_options", type=json.loads, default={}, metavar="JSON", help="e.g. '{\"generator_layers\": 4}'")
    add("--output_dir", type=Path, metavar="FOLDER", help="also write parameters.md there")
    return parser.parse_args(arguments)


def table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the table in Markdown: a row of Table V each, millions of parameters by module, and totals."""
    from trainer.evaluation.summary import markdown_table

    lines = []
    for row, groups in counts.items():
        modules = (f"{count / 1e6:.2f}" if count else "–" for count in groups.values())
        training, inference = (f"{n / 1e6:.1f}" for n in (sum(groups.values()), inference_parameters(groups)))
        lines.append([row, *modules, training, COST_TABLE[row]["parameters"], inference])
    return markdown_table(["row", *MODULE_GROUPS, "training", "paper", "inference"], lines)


def main(options: argparse.Namespace) -> None:
    """Count, print the table, and write it."""
    counts = {row: count_parameters(row, options.size, **options.model_options) for row in COST_TABLE}
    changed = f" {json.dumps(options.model_options)}" if options.model_options else ""
    heading = f"Millions of parameters, frozen ones too. HuBERT: {options.size}.{changed}"
    text = f"{heading}\n\n{table(counts)}\n\nThe paper: hubert-large and bert-base on IEMOCAP."
    print(text, flush=True)
    if options.output_dir is not None:
        write_atomically(options.output_dir / "parameters.md", text + "\n")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(parse_arguments())))
