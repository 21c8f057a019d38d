r"""What more training data is worth: rows of the ablations, trained on shares of the same data and tested on the same.

    accelerate launch examples/run_learning_curve.py --config examples/configs/meld_hubert_base.yaml --corpus meld \
        --data_dir MELD.Raw --output_dir runs/learning_curve --shares 0.25 0.5 1 --seeds 1 2 3

Shares are drawn by emotion, a smaller one from a larger one. All train for the same number of epochs, so fewer data
also mean fewer updates. Rows, seeds and shares are cells of grids: the same command goes on where it was stopped. The
tables are `share25/learning_curve.md` and so on; `learning_curve.md`, `.csv`, `.json` and `.png` above them hold all.
"""

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
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


def draw(tables: "dict[float, Table]", utterances: dict[float, float], path: Path) -> None:
    """Draw the curve of each row.

    Args:
        tables: share -> its table.
        utterances: share -> how many train.
        path: of the figure.
    """
    from trainer.evaluation.figures import plot_learning_curve
    from trainer.evaluation.significance import Interval
    from trainer.studies.tables import TITLES

    curves: dict[str, list[tuple[float, Interval]]] = {}
    for share, table in tables.items():
        for record in table.records:
            curves.setdefault(record["row"], []).append((utterances[share], Interval(**record["interval"])))
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
    from trainer.studies.comparison import ablation_rows
    from trainer.studies.learning_curve import training_utterances, with_training_share
    from trainer.studies.table_run import TableKind, fill_table, make_material
    from trainer.studies.tables import join_tables

    folder = Path(str(args.output_dir))
    rows = ablation_rows(runs.rows or ROWS)
    whole = make_material(corpus, runs, folder)
    shares = sorted(set(curve.shares))
    divisions = {share: with_training_share(whole.division, share, runs.split_seed) for share in shares}
    if corpus.corpus != "prepared":
        # The grids of all shares read the one corpus that was prepared above them.
        corpus = CorpusArguments(corpus="prepared", data_dir=str(prepared_folder(corpus, folder / "corpus")))
    tables, utterances = {}, {share: training_utterances(division) for share, division in divisions.items()}
    for share, division in divisions.items():
        kind = TableKind(f"Learning curve, {100 * share:g} %", "learning_curve", ROWS)
        settings = copy.copy(args)
        settings.output_dir = str(folder / f"share{100 * share:g}")
        material = dataclasses.replace(whole, division=division)
        tables[share] = fill_table(kind, rows, material, corpus, model, runs, settings)
        if args.should_log:
            heading = whole.heading(f"Learning curve on {whole.title}, {whole.division.description}")
            parts = {f"{100 * each:g} % ({utterances[each]:g} utterances)": table for each, table in tables.items()}
            join_tables(parts, heading, [NOTE, *whole.notes]).write(folder / "learning_curve")
            draw(tables, utterances, folder / "learning_curve.png")


if __name__ == "__main__":
    run_script(main, CurveArguments, CorpusArguments, ModelArguments, GridArguments)
