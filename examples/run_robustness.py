r"""Robustness to recognition errors: weighted F1 of finished runs against the word error rate of the transcripts.

    python examples/run_robustness.py --runs runs/ablation_meld --prepared_dir runs/ablation_meld/corpus \
        --output_dir runs/robustness_meld --hypotheses "Whisper small.en=small.csv"

Nothing is trained. Each model is tested on the same speech with human text, with human text that a noise model has made
errors in (`trainer/inputs/asr_noise.py`, fitted on the train split's hypotheses or on `--pairs`), with the corpus' own
hypotheses, and with further ones. Predictions are kept in the output folder, so that the command goes on where it was
stopped. `robustness.md`, `.csv`, `.json` and `.png` there hold the table and the figure.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.errors import CorpusError, run_command
from data_scripts.parsers import CommandParser
from trainer.experiments.cli import add_test_options

#: Rows that tell whether fusion, and error detection and correction in it, help against errors.
ROWS = ("M4SER", "w/o AED & AEC", "speech & text + concat", "only text", "only speech")
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add_test_options(parser)
    add = parser.add_argument
    add("--rows", nargs="+", default=list(ROWS), help="of the runs, in the table's order")
    add("--wer", nargs="+", type=_share, default=list(LEVELS), help="of the noise model, 0 to 1")
    add("--pairs", help="table with the columns hypothesis and reference that the noise is fitted on")
    tables = {"nargs": "+", "default": [], "metavar": "NAME=FILE"}
    add("--hypotheses", help="tables with the columns id and hypothesis", **tables)
    add("--seed", type=int, default=0, help="of the noise (default 0)")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"a word error rate is given as a share, 0 to 1, not {text}")
    return share


def main(options: argparse.Namespace) -> None:
    """Make the conditions, test the runs on them, write table and figure, and print the table."""
    from data_scripts.transcribe.dataset import Hypotheses, read_hypotheses
    from trainer.inputs.asr_noise import fit
    from trainer.studies import robustness
    from trainer.studies.divisions import CorpusSplit
    from trainer.studies.retest import finished_runs, retest_runs
    from trainer.studies.tables import join_tables

    further = dict(text.partition("=")[::2] for text in options.hypotheses)
    if not all(further.values()) or len(further) < len(options.hypotheses):
        raise CorpusError("--hypotheses takes NAME=FILE, each NAME once")
    runs = robustness.choose_runs(finished_runs(*options.runs), options.rows)
    tested = CorpusSplit.load(options.prepared_dir, options.split)
    noise = fit(robustness.read_pairs(options.pairs, tested.dataset, options.prepared_dir))
    # Of a file for the whole corpus, the lines of this split alone.
    recognised: dict[str, Hypotheses] = {
        name: {(None, key[1]): text for key, text in read_hypotheses(file).items() if key[0] in (None, options.split)}
        for name, file in further.items()
    }
    conditions = robustness.make_conditions(tested.data, noise, options.wer, recognised, options.seed)
    folder = Path(options.output_dir)
    predictions = retest_runs(
        runs,
        {condition.name: condition.data for condition in conditions},
        folder / "predictions",
        bf16=options.bf16,
        batch_size=options.batch_size,
        feature_cache_dir=options.feature_cache_dir,
    )
    tables = robustness.condition_tables(conditions, predictions, runs[0].results["emotions"], tested.cluster)
    heading = f"# Robustness to recognition errors: {tested.title}"
    notes = [*robustness.describe_noise(noise, options.seed), *tested.notes]
    robustness.draw(conditions, tables, folder / "robustness.png")
    table = join_tables(tables, heading, notes)
    table.write(folder / "robustness", ["robustness.png"])
    print(table.to_markdown(), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(parse_arguments())))
