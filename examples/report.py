"""One report of every table and figure that there is, beside the paper's numbers: Markdown, and HTML in one file.

    python examples/report.py --runs runs --output_dir runs/report

Tables and figures under `--runs` are copied to the output folder (small files only: Markdown, CSV, JSON, PNG), and the
report is of everything in it, whatever is missing yet. `make results` does so with `runs` and `examples/results`.
"""

import argparse
import sys
from collections.abc import Sequence

from data_scripts.errors import run_command


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", nargs="*", default=["runs"], help="folders of experiments (default runs)")
    parser.add_argument("--output_dir", required=True, help="where tables, figures and the report are kept")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Write the report, and say where."""
    from trainer.studies.report import PAGE_FILE, results_of

    path = results_of(options.runs, options.output_dir)
    print(f"{path}\n{path.with_name(PAGE_FILE)}")


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
