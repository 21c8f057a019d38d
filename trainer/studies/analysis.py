"""What the analysis of finished runs (`examples/analyze.py`) needs: runs by row, models, utterances, a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from data_scripts.errors import CorpusError
from data_scripts.schema import load_prepared
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.collator import M4SERDataCollator
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments
from trainer.experiments.data import corpus_name
from trainer.experiments.run_folder import PREDICTIONS_FILE
from trainer.studies import paper
from trainer.studies.consistency import SPACES, consistency_table
from trainer.studies.retest import FinishedRun, finished_runs

#: Columns of the texts that Table VII compares.
TEXT_COLUMNS = ("hypothesis", "transcript")


@dataclass(frozen=True)
class LoadedRun:
    """The model of a finished run.

    Attributes:
        row: what the run is called.
        run: where it is from.
        model: in evaluation mode.
        processor: of the model.
    """

    row: str
    run: FinishedRun
    model: M4SERForEmotionClassification
    processor: M4SERProcessor

    @classmethod
    def load(cls, row: str, run: FinishedRun) -> "LoadedRun":
        """Load the model of a run.

        Args:
            row: what to call it.
            run: the run.
        """
        model: Any = M4SERForEmotionClassification.from_pretrained(run.folder).eval()
        return cls(row, run, model, M4SERProcessor.from_pretrained(run.folder))

    def collator(self, text_column: str | None = None) -> M4SERDataCollator:
        """Return the collator of the model.

        Args:
            text_column: of the texts that it reads; by default those that the run was trained on.
        """
        column = text_column or self.run.results["text_column"]
        return M4SERDataCollator(self.processor, self.model.config, column, with_auxiliary_labels=False)

    def can_read(self, row: Mapping[str, Any]) -> bool:
        """Whether an utterance has the text that the model was trained to read.

        Args:
            row: of a prepared corpus.
        """
        return not self.model.config.uses_text or row[self.run.results["text_column"]] is not None

    def can_compare(self, row: Mapping[str, Any]) -> bool:
        """Whether an utterance has both texts, with two word pieces in each: one alone has no course over time.

        Args:
            row: of a prepared corpus.
        """
        texts = [row[column] for column in TEXT_COLUMNS]
        return all(text is not None and len(self.processor.encode_transcript(text)) > 1 for text in texts)


def runs_by_row(roots: Sequence[str]) -> dict[str, list[FinishedRun]]:
    """Return finished runs by their row, see `finished_runs`.

    Args:
        roots: folders of runs, of folds and seeds, or of grids.

    Raises:
        ExperimentError: a folder holds no finished run, or the runs know different emotions.
    """
    found: dict[str, list[FinishedRun]] = {}
    once: dict[Path, FinishedRun] = {}
    for run in (run for root in roots for run in finished_runs(root)):
        once.setdefault(run.folder.resolve(), run)
    for run in once.values():
        found.setdefault(run.row, []).append(run)
    runs = [run for some in found.values() for run in some]
    for run in runs:
        if run.results["emotions"] != runs[0].results["emotions"]:
            raise ExperimentError(f"{run.folder} knows other emotions than {runs[0].folder}: analyze them apart.")
    return found


def named_emotions(rows: Sequence[Mapping[str, Any]], data: Dataset) -> list[dict[str, Any]]:
    """Return rows with their emotion's name in the place of its number.

    Args:
        rows: of the dataset.
        data: which has the names.
    """
    names = data.features["emotion"].names
    return [{**row, "emotion": names[row["emotion"]]} for row in rows]


def find_rows(data: Dataset, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the utterances with some ids.

    Args:
        data: a split of a prepared corpus.
        ids: of its utterances.

    Raises:
        CorpusError: naming an id that is not there.
    """
    places = {name: index for index, name in enumerate(data["id"][:])}
    if missing := [name for name in ids if name not in places]:
        raise CorpusError(f"no utterance {missing[0]!r} in this split; its first is {next(iter(places), None)!r}")
    return [data[places[name]] for name in ids]


def count_labels(folders: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the emotions of whole prepared corpora, all splits together (Fig. 6).

    Args:
        folders: that `data_scripts.prepare` made.

    Returns:
        The corpus' name, or its folder where two have the same name -> emotion -> utterances, the most frequent first.
        A corpus in the layout of one of the paper's and of another size is called a stand-in.
    """
    names = [corpus_name(CorpusArguments(corpus="prepared", data_dir=folder)) for folder in folders]
    counts = {}
    for folder, name in zip(folders, names, strict=True):
        parts = load_prepared(folder).values()
        emotions = [part.features["emotion"].names[label] for part in parts for label in part["emotion"]]
        counted = pd.Series(emotions, dtype=str).value_counts()
        title = paper.TITLES.get(name, name) if names.count(name) == 1 else str(folder)
        if paper.is_stand_in(name, len(emotions)):
            title += " stand-in"
        counts[title] = {str(key): int(n) for key, n in counted.items()}
    return counts


def mean_confusion(runs: Sequence[FinishedRun]) -> np.ndarray:
    """Return the mean confusion matrix of some runs, e.g. of all folds (Fig. 12).

    Args:
        runs: at least one.

    Returns:
        (classes, classes) shares of the true class, rows true: the mean over the runs that test this class. A class
        that none of them tests is a row of NaN.
    """
    emotions = runs[0].results["emotions"]
    shares = []
    for run in runs:
        table = pd.read_parquet(Path(run.folder) / PREDICTIONS_FILE)
        counts = pd.crosstab(table["emotion"], table["predicted"])
        counts = counts.reindex(index=emotions, columns=emotions, fill_value=0).to_numpy(dtype=float)
        totals = counts.sum(1, keepdims=True)
        shares.append(np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0))
    tested = ~np.isnan(shares)
    sums, times = np.nansum(shares, axis=0), tested.sum(0)
    return np.divide(sums, times, out=np.full(sums.shape, np.nan), where=times > 0)


def consistency_page(distances: Mapping[str, Mapping[str, Any]], heading: str) -> str:
    """Return Table VII as a page in Markdown: means over utterances, single utterances, and the paper's examples.

    Args:
        distances: row -> `mean`: text column -> distances of each utterance; `single`: id -> text column -> distances.
        heading: what was read.
    """
    lines = [
        "# Speech and text: DTW distance of their weights (Table VII)",
        "",
        f"{heading} Weights are scaled to 0 … 1 in each utterance; a distance is the root mean square difference along "
        "the warping path. 95 % intervals over utterances (Student's t).",
        "",
        consistency_table({row: found["mean"] for row, found in distances.items()}),
        "",
        "| row | utterance | space | ASR text | human text |",
        "|---|---|---|---|---|",
        *_single_lines(distances),
        "",
    ]
    printed = paper.CONSISTENCY_TABLE.items()
    examples = (f"({name}) {each['hypothesis']} and {each['transcript']}" for name, each in printed)
    lines.append(
        f"The paper, with ASR and human text: {', '.join(examples)}. It does not say how it scales "
        "weights and distances, and its models for human text are trained on it: only the order of the two compares."
    )
    return "\n".join(lines) + "\n"


def _single_lines(distances: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for row, found in distances.items():
        for name, texts in found["single"].items():
            for space in SPACES:
                cells = [f"{texts[column][space]:.3f}" for column in TEXT_COLUMNS]
                yield f"| {' | '.join([row, name, space, *cells])} |"
