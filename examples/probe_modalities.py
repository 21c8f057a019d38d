r"""Ask trained models whether their invariant representation looks like one modality, as one table.

    python examples/probe_modalities.py --prepared_dir runs/meld/corpus --runs runs/meld/M4SER runs/meld/w_o_GAN

Each row of a grid, or each ablation, is one model with its seeds. Every model is probed beside the same encoders under
a fusion that was never trained. Shares are percentages with 95 % intervals over utterances, and over seeds where there
are several; differences are to the first line.
"""

import argparse
import sys
from collections.abc import Sequence

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser
from trainer.errors import ExperimentError


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--runs", required=True, nargs="+", metavar="FOLDER", help="finished runs, of folds and seeds, or grids")
    add("--prepared_dir", required=True, metavar="FOLDER", help="prepared folder")
    add("--split", default="test", help="split to read (default test)")
    add("--utterances", type=int, default=200, metavar="N", help="how many to read, evenly spaced (default 200)")
    add("--seed", type=int, default=0, help="of the frames, the probe and the untrained fusion")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Probe the models and their untrained controls, and print the table."""
    from data_scripts.splits import evenly_spaced
    from trainer.studies.analysis import runs_by_row
    from trainer.studies.divisions import CorpusSplit
    from trainer.studies.modality_probe import probe_runs, probe_table
    from trainer.studies.retest import check_runs_unique

    data = CorpusSplit.load(options.prepared_dir, options.split).data
    rows = [data[row] for row in evenly_spaced(len(data), options.utterances)]
    models = runs_by_row(options.runs)
    check_runs_unique(run for runs in models.values() for run in runs)
    if len({len(runs) for runs in models.values()}) > 1:
        counts = ", ".join(f"{len(runs)} of {row}" for row, runs in models.items())
        raise ExperimentError(f"Every model needs equally many runs, so that seeds can be paired; there are {counts}.")
    findings = {}
    for row, runs in models.items():
        found, control = probe_runs(sorted(runs, key=lambda run: run.name), rows, options.seed)
        findings |= {row: found, f"{row}, untrained fusion": control}
    print(probe_table(findings), flush=True)
    print(f"\n{len(rows)} utterances of {options.prepared_dir}, {options.split}.")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(parse_arguments())))
