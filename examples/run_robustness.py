r"""Robustness to recognition errors: weighted F1 of finished runs against the word error rate of the transcripts.

    python examples/run_robustness.py --runs runs/ablation_meld --dataset runs/ablation_meld/corpus \
        --output_dir runs/robustness_meld --hypotheses "Whisper small.en=small.csv"

Nothing is trained. Each model is tested on the same speech with human text, with human text that a noise model has made
errors in (`trainer/studies/asr_noise.py`, fitted on the train split's hypotheses or on `--pairs`), with the corpus' own
hypotheses, and with further ones. Predictions are kept in the output folder, so that the command goes on where it was
stopped. `robustness.md`, `.csv`, `.json` and `.png` there hold the table and the figure.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_scripts.errors import CorpusError, run_command

#: Rows that tell whether fusion, and error detection and correction in it, help against errors.
ROWS = ("M4SER", "w/o AED & AEC", "speech & text + concat", "only text", "only speech")
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", required=True, nargs="+", help="folders of grids, of folds and seeds, or of one run")
    parser.add_argument("--dataset", required=True, help="prepared folder")
    parser.add_argument("--split", default="test", help="split to test on (default test)")
    parser.add_argument("--output_dir", required=True, help="where predictions, table and figure are kept")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), help="of the runs, in the table's order")
    parser.add_argument("--wer", nargs="+", type=_share, default=list(LEVELS), help="of the noise model, 0 to 1")
    parser.add_argument("--pairs", help="table with the columns hypothesis and reference that the noise is fitted on")
    parser.add_argument(
        "--hypotheses", nargs="+", default=[], metavar="NAME=FILE", help="tables with the columns id and hypothesis"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--bf16", action="store_true", help="run in half precision")
    parser.add_argument("--feature_cache_dir", help="keep the states of frozen speech encoders there, for all runs")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"a word error rate is given as a share, 0 to 1, not {text}")
    return share


def read_pairs(path: str | None, dataset: Mapping[Any, Any], folder: str) -> list[tuple[str, str]]:
    """Return the (hypothesis, reference) pairs of a table, or of the train split of a prepared corpus.

    Raises:
        CorpusError: the table or the split is absent or lacks a column.
    """
    from data_scripts.tables import read_table

    if path is None:
        if "train" not in dataset:
            raise CorpusError(f"{folder} has no train split to fit the noise model on: give --pairs FILE")
        part = dataset["train"]
        pairs = zip(part["hypothesis"], part["transcript"], strict=True)
    else:
        rows = read_table(Path(path), empty_cell="")
        if rows and not {"hypothesis", "reference"} <= set(rows[0]):
            raise CorpusError(f"{path} needs the columns hypothesis and reference; it has {', '.join(rows[0])}")
        pairs = ((row["hypothesis"], row["reference"]) for row in rows)
    return [(hypothesis, reference) for hypothesis, reference in pairs if None not in (hypothesis, reference)]


def choose_runs(folders: Sequence[str], rows: Sequence[str]) -> list[Any]:
    """Return the finished runs of these rows, in the rows' order; rows without one are told.

    Raises:
        ExperimentError: no run is of these rows, or a folder holds none.
    """
    from trainer.errors import ExperimentError
    from trainer.studies.retest import finished_runs

    found = [run for folder in folders for run in finished_runs(folder)]
    chosen = [run for row in rows for run in found if run.row == row]
    there = {run.row for run in found}
    if not chosen:
        raise ExperimentError(f"--rows: no finished run is of {', '.join(rows)}; there are {', '.join(sorted(there))}.")
    if missing := [row for row in rows if row not in there]:
        print(f"no finished run of: {', '.join(missing)}", flush=True)
    return chosen


def main(options: argparse.Namespace) -> None:
    """Make the conditions, test the runs on them, write table and figure, and print the table."""
    from data_scripts.schema import load_prepared
    from data_scripts.transcribe.dataset import read_hypotheses
    from trainer.experiments.arguments import CorpusArguments
    from trainer.experiments.data import corpus_name, pick_split
    from trainer.experiments.protocols import usual_cluster
    from trainer.studies.asr_noise import fit
    from trainer.studies.robustness import make_conditions, measure, retest_conditions, write
    from trainer.studies.table_run import describe_data

    further = dict(text.partition("=")[::2] for text in options.hypotheses)
    if not all(further.values()) or len(further) < len(options.hypotheses):
        raise CorpusError("--hypotheses takes NAME=FILE, each NAME once")
    runs = choose_runs(options.runs, options.rows)
    dataset = load_prepared(options.dataset)
    data = pick_split(dataset, options.split, options.dataset)
    noise = fit(read_pairs(options.pairs, dataset, options.dataset))
    # Of a file for the whole corpus, the lines of this split alone.
    recognised = {
        name: {(None, key[1]): text for key, text in read_hypotheses(file).items() if key[0] in (None, options.split)}
        for name, file in further.items()
    }
    conditions = make_conditions(data, noise, options.wer, recognised, options.seed)
    folder = Path(options.output_dir)
    tables = retest_conditions(
        runs,
        conditions,
        folder / "predictions",
        bf16=options.bf16,
        batch_size=options.batch_size,
        feature_cache_dir=options.feature_cache_dir,
    )
    corpus = corpus_name(CorpusArguments(corpus="prepared", data_dir=options.dataset))
    records = measure(conditions, tables, usual_cluster(corpus))
    title, notes = describe_data(options.dataset, dataset, options.split)
    notes.append(f"Seed of the noise: {options.seed}.")
    write(records, noise, f"# Robustness to recognition errors: {title}", notes, folder)
    print((folder / "robustness.md").read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
