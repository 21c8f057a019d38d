r"""Test finished runs on other data: another test set, another corpus, or the same speech with other transcripts.

    python examples/retest.py --runs runs/ablation --dataset OTHER --output_dir runs/ablation_other

`--runs` is the folder of a grid (`run_ablation.py`), of folds and seeds, or of one run; `--dataset` a folder that
`data_scripts.prepare` made. Nothing is trained. Each model is tested on every utterance of the split, and keeps its
predictions in the output folder, so that the command goes on where it was stopped. `retest.md`, `.csv` and `.json`
there hold the table: metrics, intervals, and each row against concatenation and M4SER.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.errors import run_command

REFERENCES = ("speech & text + concat", "M4SER")
METRICS = ("accuracy", "ua", "weighted_f1", "macro_f1")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", required=True, help="folder of a grid, of folds and seeds, or of one run")
    parser.add_argument("--dataset", required=True, help="prepared folder")
    parser.add_argument("--split", default="test", help="split to test on (default test)")
    parser.add_argument("--text_column", default="hypothesis", choices=("hypothesis", "transcript"))
    parser.add_argument("--output_dir", required=True, help="where predictions and the table are kept")
    parser.add_argument("--metric", default="weighted_f1", help="of intervals and differences (default weighted_f1)")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--bf16", action="store_true", help="run in half precision")
    parser.add_argument("--feature_cache_dir", help="keep the states of frozen speech encoders there, for all runs")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Test the runs, write the table, and print it."""
    from data_scripts.schema import load_prepared
    from trainer.errors import ExperimentError
    from trainer.evaluation.resampling import METRICS as KNOWN
    from trainer.experiments.arguments import CorpusArguments
    from trainer.experiments.data import corpus_name, pick_split
    from trainer.experiments.protocols import usual_cluster
    from trainer.studies import paper
    from trainer.studies.retest import finished_runs, refuse_doubles, retest_run, table_rows
    from trainer.studies.table_run import describe_data
    from trainer.studies.tables import make_table

    if options.metric not in KNOWN:
        raise ExperimentError(f"metric must be one of {', '.join(KNOWN)}, not {options.metric!r}.")
    runs = finished_runs(options.runs)
    refuse_doubles(runs)
    dataset = load_prepared(options.dataset)
    data = pick_split(dataset, options.split, options.dataset)
    corpus = corpus_name(CorpusArguments(corpus="prepared", data_dir=options.dataset))
    title, notes = describe_data(options.dataset, dataset, options.split)
    heading = f"# {Path(options.runs).resolve().name} tested on {title}"
    notes.insert(0, f"The models read the column {options.text_column}; none was trained for this table.")
    metrics = list(dict.fromkeys([*METRICS, options.metric]))
    tables = {}
    for number, run in enumerate(runs, 1):
        tables[run] = retest_run(
            run,
            data,
            Path(options.output_dir) / run.folder.relative_to(options.runs),
            text_column=options.text_column,
            bf16=options.bf16,
            batch_size=options.batch_size,
            feature_cache_dir=options.feature_cache_dir,
        )
        print(f"{number} of {len(runs)}: {run.row}, {run.name}", flush=True)
    rows, emotions = table_rows(tables, usual_cluster(corpus)), runs[0].results["emotions"]
    published = paper.ABLATION_TABLE.get(corpus, {})
    table = make_table(rows, emotions, metrics, options.metric, REFERENCES, published, heading, notes)
    table.write(Path(options.output_dir) / "retest")
    print((Path(options.output_dir) / "retest.md").read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
