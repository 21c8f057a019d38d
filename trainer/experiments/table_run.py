"""A table from its rows to its files: the corpus is divided, the grid is run, and the table kept up to date."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets import DatasetDict

from trainer.arguments import ExperimentArguments
from trainer.experiments import paper
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.comparison import Comparison, Row
from trainer.experiments.data import corpus_name, prepare_corpus
from trainer.experiments.protocols import divide
from trainer.experiments.suite import Grid
from trainer.experiments.tables import Table, make_table, smallest_difference

#: How often one of two models alone is right, before anything has been measured.
ASSUMED_DISAGREEMENT = 0.2


@dataclass(frozen=True)
class TableKind:
    """What tells one table from another.

    Attributes:
        title: what it shows, e.g. `Ablations`.
        name: of its files in the output folder, `NAME.md`, `.csv` and `.json`.
        references: the rows that every other one is compared with.
        published: corpus -> row -> {metric: percent}, as the paper prints them.
        after_table: called with each table that is written, and the output folder, e.g. to draw it.
    """

    title: str
    name: str
    references: Sequence[str]
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    after_table: Callable[[Table, Path], None] | None = None


def run_table(
    kind: TableKind,
    rows: Sequence[Row],
    corpus: CorpusArguments,
    model: ModelArguments,
    runs: GridArguments,
    args: ExperimentArguments,
) -> None:
    """Prepare and divide the corpus, run every cell that is not finished, and write and print the table.

    Args:
        kind: of table.
        rows: of the table.
        corpus: which one.
        model: what the rows start from.
        runs: seeds, folds, learning rates, protocol.
        args: training arguments of every row.

    Raises:
        ExperimentError: see [`Comparison`] and `divide`.
        CorpusError: the corpus cannot be read.
    """
    dataset = prepare_corpus(corpus, Path(str(args.output_dir)) / "corpus")
    name = corpus_name(corpus)
    division = divide(dataset, name, runs)
    comparison = Comparison(rows, division, corpus, model, runs, args, f"Corpus: {name}, {division.description}.")
    if args.should_log:
        _say_power(comparison)
    shown = dict.fromkeys(("wa", "ua", comparison.metric))

    def after_cell(grid: Grid) -> None:
        _write(kind, comparison, grid, name, dataset)

    with Grid(str(args.output_dir), comparison.run_cell, list(shown), after_cell) as grid:
        comparison.run(grid)
        if args.should_log:
            _write(kind, comparison, grid, name, dataset)  # with the last row's choice of a learning rate
            print((comparison.root / f"{kind.name}.md").read_text(encoding="utf-8"), flush=True)


def _say_power(comparison: Comparison) -> None:
    """Print what the design can tell apart, before anything is run."""
    tested = comparison.division.tested
    smallest = smallest_difference(tested, ASSUMED_DISAGREEMENT)
    print(
        f"{tested} utterances are tested ({comparison.division.description}). With one seed each and a power of 80 %, "
        f"two models are told apart from a difference of {100 * smallest:.1f} points of accuracy on, if one alone is "
        f"right in {ASSUMED_DISAGREEMENT:.0%} of cases (assumed). The table says what these data resolve.",
        flush=True,
    )


def _write(kind: TableKind, comparison: Comparison, grid: Grid, name: str, dataset: DatasetDict) -> None:
    """Write the table of what is finished."""
    utterances = sum(map(len, dataset.values()))
    corpus = {"iemocap": "IEMOCAP", "meld": "MELD"}.get(name, name)
    heading = f"# {kind.title} on {corpus}, {utterances} utterances, {comparison.division.description}"
    metrics, notes = ["wa", "ua", "weighted_f1", "macro_f1"], []
    if name in paper.METRICS:
        metrics = list(dict.fromkeys([*paper.METRICS[name].values(), *metrics[1:]]))
        if paper.is_stand_in(name, utterances):
            heading += " (a stand-in corpus)"
            notes.append(
                f"**Stand-in corpus**: {utterances} utterances in the layout of {corpus}, which has "
                f"{paper.UTTERANCES[name]}. The paper's numbers, of another corpus, cannot be compared with these."
            )
    emotions = next(iter(dataset.values())).features["emotion"].names
    published = kind.published.get(name, {})
    rows = comparison.table_rows(grid)
    table = make_table(rows, emotions, metrics, comparison.metric, kind.references, published, heading, notes)
    table.write(comparison.root / kind.name)
    if kind.after_table is not None:
        kind.after_table(table, comparison.root)
