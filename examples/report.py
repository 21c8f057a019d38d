"""One report of every table and figure that there is: Markdown, and HTML in one file.

    python examples/report.py --runs runs
    python examples/report.py --runs runs other_runs --output_dir my_report

Tables and figures under `--runs` are copied to the output folder (small files only: Markdown, JSON, figures), and the
report is of everything in it, whatever is missing yet. `make results` does so with `runs` and `examples/results`.
"""

import argparse
import sys
from collections.abc import Sequence

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--runs", nargs="*", default=["runs"], metavar="FOLDER", help="folders of experiments (default runs)")
    add("--output_dir", default="runs/report", metavar="FOLDER", help="where they and the report are kept")
    add("--paper", action="store_true", help="show the paper's numbers beside those of stand-in corpora, too")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Write the report, and say where."""
    from trainer.studies.report import PAGE_FILE, update_report

    path = update_report(options.runs, options.output_dir, options.paper)
    print(f"{path}\n{path.with_name(PAGE_FILE)}")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(parse_arguments())))
