r"""The paper's ablations (Table IV, and the rows that only Table V has) and linear probes, as one resumable table.

    accelerate launch examples/run_ablation.py --config examples/configs/meld_hubert_base.yaml --corpus meld \
        --data_dir MELD.Raw --output_dir runs/ablation --seeds 1 2 3
    accelerate launch examples/run_ablation.py ... --protocol dialogue_folds --rows M4SER "speech & text + concat"

Every row gets the same data, seeds and epochs, and where --learning_rates are given, the same choice of one on
validation data. Rows without a module really lack it. A launch that was stopped, however hard, goes on at the cell
(row, fold, seed) where it stood, by the same command. `ablation.md`, `.csv` and `.json` in the output folder hold the
table of what is finished, the paper's numbers beside it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from trainer import experiments
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from datasets import DatasetDict

    from trainer import ExperimentArguments
    from trainer.experiments.comparison import Comparison, Row
    from trainer.experiments.suite import Grid

#: Every row is compared with these.
REFERENCES = ("speech & text + concat", "M4SER")
#: How often one of two models alone is right, before anything has been measured.
ASSUMED_DISAGREEMENT = 0.2


def choose_rows(model: ModelArguments, runs: GridArguments) -> "list[Row]":
    """Return the rows of the table that are wanted, in its order.

    Raises:
        ExperimentError: an unknown row, or options that would undo what a row leaves out.
    """
    from trainer.experiments.comparison import PROBE_ROWS, Row

    every = {name: Row(name, {"ablation": name}) for name in ABLATIONS} | {row.name: row for row in PROBE_ROWS}
    if unknown := [name for name in runs.rows or () if name not in every]:
        raise ExperimentError(f"rows: {unknown[0]!r} is none of: {', '.join(every)}.")
    decided = {name for row in ABLATIONS.values() for name in row}
    if undone := sorted(decided & set(model.options("model_options"))):
        raise ExperimentError(f"model_options sets {', '.join(undone)}, which the rows decide: leave it out.")
    if model.ablation != "M4SER" and runs.rows != [model.ablation]:
        raise ExperimentError(f"The rows of this table are chosen by --rows: leave --ablation {model.ablation!r} out.")
    return [row for name, row in every.items() if not runs.rows or name in runs.rows]


def say_power(comparison: "Comparison") -> None:
    """Print what the design can tell apart, before anything is run."""
    from trainer.experiments.tables import smallest_difference

    tested = comparison.division.tested
    smallest = smallest_difference(tested, ASSUMED_DISAGREEMENT)
    print(
        f"{tested} utterances are tested ({comparison.division.description}). With one seed each and a power of 80 %, "
        f"two models are told apart from a difference of {100 * smallest:.1f} points of accuracy on, if one alone is "
        f"right in {ASSUMED_DISAGREEMENT:.0%} of cases (assumed). The table says what these data resolve.",
        flush=True,
    )


def write_table(comparison: "Comparison", grid: "Grid", name: str, dataset: "DatasetDict") -> None:
    """Write the table of what is finished."""
    from trainer.experiments import paper
    from trainer.experiments.tables import make_table

    utterances = sum(map(len, dataset.values()))
    corpus = {"iemocap": "IEMOCAP", "meld": "MELD"}.get(name, name)
    heading = f"# Ablations on {corpus}, {utterances} utterances, {comparison.division.description}"
    metrics, notes = ["wa", "ua", "weighted_f1", "macro_f1"], []
    if name in paper.METRICS:
        metrics = list(dict.fromkeys([*paper.METRICS[name].values(), *metrics[1:]]))
        if paper.is_stand_in(name, utterances):
            heading += " (a stand-in corpus)"
            notes.append(
                f"**Stand-in corpus**: {utterances} utterances in the layout of {corpus}, which has "
                f"{paper.UTTERANCES[name]}. The paper's numbers, of another corpus, cannot be compared with these."
            )
    rows = comparison.table_rows(grid)
    emotions = next(iter(dataset.values())).features["emotion"].names
    published = paper.ABLATION_TABLE.get(name, {})
    make_table(rows, emotions, metrics, comparison.metric, REFERENCES, published, heading, notes).write(
        comparison.root / "ablation"
    )


def main(corpus: CorpusArguments, model: ModelArguments, runs: GridArguments, args: "ExperimentArguments") -> None:
    """Divide the corpus, run the cells, and keep the table up to date."""
    rows = choose_rows(model, runs)
    dataset = experiments.prepare_corpus(corpus, Path(args.output_dir) / "corpus")
    from trainer.experiments.comparison import Comparison  # late: --help needs no torch
    from trainer.experiments.data import corpus_name
    from trainer.experiments.protocols import divide
    from trainer.experiments.suite import Grid

    name = corpus_name(corpus)
    division = divide(dataset, name, runs)
    description = f"Corpus: {name}, {division.description}."
    comparison = Comparison(rows, division, corpus, model, runs, args, description)
    if args.should_log:
        say_power(comparison)
    shown = dict.fromkeys(("wa", "ua", comparison.metric))

    def after_cell(grid: Grid) -> None:
        write_table(comparison, grid, name, dataset)

    with Grid(args.output_dir, comparison.run_cell, list(shown), after_cell) as grid:
        comparison.run(grid)
        if args.should_log:
            write_table(comparison, grid, name, dataset)  # with the last row's choice of a learning rate
            print((comparison.root / "ablation.md").read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    run_script(main, CorpusArguments, ModelArguments, GridArguments)
