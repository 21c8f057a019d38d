r"""What more training data is worth: rows of the ablations, trained on shares of the same data and tested on the same.

    accelerate launch examples/run_learning_curve.py --config examples/configs/meld_hubert_base.yaml --corpus meld \
        --data_dir MELD.Raw --output_dir runs/learning_curve --shares 0.25 0.5 1 --seeds 1 2 3

Shares are drawn by emotion, a smaller one from a larger one. All train for the same number of epochs, so fewer data
also mean fewer updates. Rows, seeds and shares are cells of grids: the same command goes on where it was stopped. The
tables are `share25/learning_curve.md` and so on; `learning_curve.md`, `.csv`, `.json` and `.png` above them hold all.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments
    from trainer.studies.tables import Table

#: The rows where nothing else is asked for, and those that others are compared with.
ROWS = ("speech & text + concat", "M4SER")
NOTE = (
    "The differences are to the rows with as much training data. All are trained for the same number of epochs, "
    "validated and tested on the same utterances."
)


@dataclass
class CurveArguments:
    """How much of the training data is used."""

    shares: list[float] = field(
        default_factory=lambda: [0.25, 0.5, 1.0],
        metadata={"help": "Of the training data, above 0 and up to 1; drawn with --split_seed."},
    )


def draw(utterances: Mapping[str, float], tables: "Mapping[str, Table]", path: Path) -> None:
    """Draw the curve of each row, by label -> how many utterances train, and its table."""
    from trainer.evaluation.figures import plot_learning_curve
    from trainer.evaluation.significance import Interval
    from trainer.studies.tables import TITLES, names_in_figures

    shown = names_in_figures(tables.values())
    curves: dict[str, list[tuple[float, Interval]]] = {}
    for label, table in tables.items():
        for record in table.records:
            curves.setdefault(shown[record["row"]], []).append((utterances[label], Interval(**record["interval"])))
    plot_learning_curve(curves, TITLES[next(iter(tables.values())).metric], path)


def main(
    curve: CurveArguments,
    corpus: CorpusArguments,
    model: ModelArguments,
    runs: GridArguments,
    args: "ExperimentArguments",
) -> None:
    """Run a table for each share, and write them as one."""
    from trainer.experiments.data import prepared_folder
    from trainer.studies.comparison import GridSetup, TableSpec, ablation_rows, run_tables
    from trainer.studies.divisions import check_share, prepare_inputs, with_training_share

    for share in curve.shares:
        check_share(share)
    folder = Path(str(args.output_dir))
    rows = ablation_rows(runs.rows or ROWS)
    whole = prepare_inputs(corpus, GridSetup(rows, corpus, model, runs, args).models, runs, args)
    parts, utterances = {}, {}
    for share in sorted(set(curve.shares)):
        folds = with_training_share(whole.folds, share, runs.split_seed)
        trained = fmean(len(data["train"]) for data, _ in folds.folds.values())
        label, name = f"{100 * share:g} % ({trained:g} utterances)", f"share{100 * share:g}"
        spec = TableSpec(f"Learning curve, {100 * share:g} %", "learning_curve", references=ROWS, folder=name)
        parts[label] = spec, dataclasses.replace(whole, folds=folds)
        utterances[label] = trained
    # The grids of all shares read the one corpus that was prepared above them.
    prepared = CorpusArguments(prepared_dir=str(prepared_folder(corpus, folder / "corpus")))
    setup = GridSetup(rows, prepared, model, runs, args)
    heading = whole.heading(f"Learning curve on {whole.title}, {whole.folds.description}")
    run_tables("learning_curve", heading, [NOTE, *whole.notes], parts, setup, partial(draw, utterances))


if __name__ == "__main__":
    run_script(main, CurveArguments, CorpusArguments, ModelArguments, GridArguments)
