"""A table from its rows to its files: the corpus is divided, the grid is run, and the table kept up to date."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets import DatasetDict

from trainer.arguments import ExperimentArguments
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.data import corpus_name, prepare_corpus
from trainer.experiments.protocols import Division, divide
from trainer.studies import paper
from trainer.studies.comparison import Comparison, Row
from trainer.studies.grid import Grid
from trainer.studies.tables import Table, make_table, smallest_difference

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
        after_table: called with the finished table and the output folder, e.g. to draw it.
    """

    title: str
    name: str
    references: Sequence[str]
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    after_table: Callable[[Table, Path], None] | None = None


@dataclass(frozen=True)
class Material:
    """What a table is measured on.

    Attributes:
        name: of the tested corpus in the registry; says which metrics are shown and which published numbers.
        title: of the corpus or corpora, for the heading.
        utterances: how many there are in all.
        emotions: names of the classes.
        division: into folds.
        stand_in: what is said where the corpora are not the paper's; empty where they are.
    """

    name: str
    title: str
    utterances: int
    emotions: Sequence[str]
    division: Division
    stand_in: str

    def heading(self, words: str) -> str:
        """Return the heading of a table, which says so where the corpora are not the paper's.

        Args:
            words: what the table shows.
        """
        return f"# {words} (a stand-in corpus)" if self.stand_in else f"# {words}"

    @property
    def notes(self) -> list[str]:
        """What is said below a table."""
        return [self.stand_in] if self.stand_in else []


def run_table(
    kind: TableKind,
    rows: Sequence[Row],
    corpus: CorpusArguments,
    model: ModelArguments,
    runs: GridArguments,
    args: ExperimentArguments,
) -> None:
    """`make_material`, then `fill_table`.

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
    material = make_material(corpus, runs, Path(str(args.output_dir)))
    fill_table(kind, rows, material, corpus, model, runs, args)


def make_material(corpus: CorpusArguments, runs: GridArguments, folder: Path) -> Material:
    """Prepare and divide a corpus.

    Args:
        corpus: which one; where it is not prepared yet, it is kept in `folder`/corpus.
        runs: folds and protocol.
        folder: of the table or tables.

    Raises:
        ExperimentError: see `divide`.
        CorpusError: the corpus cannot be read.
    """
    dataset = prepare_corpus(corpus, folder / "corpus")
    name = corpus_name(corpus)
    utterances = sum(map(len, dataset.values()))
    emotions = next(iter(dataset.values())).features["emotion"].names
    division, stand_in = divide(dataset, name, runs), stand_in_note(name, utterances)
    return Material(name, paper.TITLES.get(name, name), utterances, emotions, division, stand_in)


def stand_in_note(name: str, utterances: int) -> str:
    """Return what a table says of a corpus that has the paper's name and not its size; empty where it has both.

    Args:
        name: of the corpus in the registry.
        utterances: that it has here.
    """
    if not paper.is_stand_in(name, utterances):
        return ""
    return (
        f"**Stand-in corpus**: {utterances} utterances in the layout of {paper.TITLES[name]}, which has "
        f"{paper.UTTERANCES[name]}. The paper's numbers, of another corpus, cannot be compared with these."
    )


def describe_data(folder: str | Path, dataset: DatasetDict, split: str) -> tuple[str, list[str]]:
    """Return what a table calls the split of a prepared folder that it was measured on, and notes below the table.

    Args:
        folder: of `data_scripts.prepare`; its name, not its path, is told.
        dataset: what it holds.
        split: that is tested.
    """
    name = corpus_name(CorpusArguments(corpus="prepared", data_dir=str(folder)))
    note = stand_in_note(name, sum(map(len, dataset.values())))
    title = f"{len(dataset[split])} utterances, split {split} of {Path(folder).resolve().name}"
    if note:
        title += " (a stand-in corpus)"
    return title, [f"Corpus: {paper.TITLES.get(name, name)}.", *filter(None, [note])]


def fill_table(
    kind: TableKind,
    rows: Sequence[Row],
    material: Material,
    corpus: CorpusArguments,
    model: ModelArguments,
    runs: GridArguments,
    args: ExperimentArguments,
) -> Table:
    """Run every cell that is not finished, write the table after each, print and return it.

    Args:
        kind: of table.
        rows: of the table.
        material: the corpus divided.
        corpus: where it came from, recorded with each run.
        model: what the rows start from.
        runs: seeds and learning rates.
        args: training arguments of every row; `output_dir` is the table's folder.

    Raises:
        ExperimentError: see [`Comparison`].
    """
    division = material.division
    description = f"Corpus: {material.title}, {division.description}."
    comparison = Comparison(rows, division, corpus, model, runs, args, description)
    if args.should_log:
        _say_power(comparison)
    shown = dict.fromkeys(("wa", "ua", comparison.metric))

    def after_cell(grid: Grid) -> None:
        _table(kind, comparison, grid, material).write(comparison.root / kind.name)

    with Grid(str(args.output_dir), comparison.run_cell, list(shown), after_cell) as grid:
        comparison.run(grid)
        table = _table(kind, comparison, grid, material)  # with the last row's choice of a learning rate
    if args.should_log:
        table.write(comparison.root / kind.name)
        if kind.after_table is not None:
            kind.after_table(table, comparison.root)
        print((comparison.root / f"{kind.name}.md").read_text(encoding="utf-8"), flush=True)
    return table


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


def _table(kind: TableKind, comparison: Comparison, grid: Grid, material: Material) -> Table:
    """The table of what is finished."""
    division = material.division
    heading = f"{kind.title} on {material.title}, {material.utterances} utterances, {division.description}"
    metrics = ["wa", "ua", "weighted_f1", "macro_f1"]
    if material.name in paper.METRICS:
        metrics = list(dict.fromkeys([*paper.METRICS[material.name].values(), *metrics[1:]]))
    return make_table(
        comparison.table_rows(grid),
        material.emotions,
        metrics,
        comparison.metric,
        kind.references,
        kind.published.get(material.name, {}),
        material.heading(heading),
        material.notes,
    )
