r"""Test finished runs on other data: another test set, another corpus, or the same speech with other transcripts.

    python examples/retest.py --runs runs/ablation --prepared_dir OTHER --output_dir runs/ablation_other

`--runs` names folders of grids (`run_ablation.py`), of folds and seeds, or of one run; `--prepared_dir` a folder that
`data_scripts.prepare` made. Nothing is trained. Each model is tested on every utterance of the split, and keeps its
predictions in the output folder, so that the command goes on where it was stopped. `retest.md`, `.csv` and `.json`
there hold the table: metrics, intervals, and each row against concatenation and M4SER.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser
from trainer.experiments.cli import add_test_options

METRICS = ("accuracy", "ua", "weighted_f1", "macro_f1")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add_test_options(parser)
    add = parser.add_argument
    add("--text_column", default="hypothesis", choices=("hypothesis", "transcript"))
    add("--metric", default="weighted_f1", choices=("wa", *METRICS), help="of intervals and differences")
    add("--paper", action="store_true", help="show the paper's numbers beside a stand-in corpus too")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Test the runs, write the table, and print it."""
    from trainer.studies import paper
    from trainer.studies.divisions import CorpusSplit
    from trainer.studies.retest import finished_runs, retest_runs, table_rows
    from trainer.studies.tables import REFERENCES, make_table

    runs, tested = finished_runs(*options.runs), CorpusSplit.load(options.prepared_dir, options.split)
    (tables,) = retest_runs(
        runs,
        {"": tested.data},
        options.output_dir,
        text_column=options.text_column,
        bf16=options.bf16,
        batch_size=options.batch_size,
        feature_cache_dir=options.feature_cache_dir,
    ).values()
    rows, emotions = table_rows(tables, tested.cluster), runs[0].results["emotions"]
    metrics = list(dict.fromkeys([*METRICS, options.metric]))
    published = paper.ABLATION_TABLE.get(tested.corpus, {}) if options.paper or not tested.stand_in else {}
    names = ", ".join(Path(folder).resolve().name for folder in options.runs)
    heading = f"# {names} tested on {tested.title}"
    notes = [f"The models read the column {options.text_column}; none was trained for this table.", *tested.notes]
    table = make_table(rows, emotions, metrics, options.metric, REFERENCES, published, heading, notes)
    table.write(Path(options.output_dir) / "retest")
    print(table.to_markdown(), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(parse_arguments())))
