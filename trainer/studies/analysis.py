"""The paper's Fig. 6 and 8 to 12 and its Table VII, of finished runs (`examples/analyze.py`)."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.metrics import silhouette_score

from data_scripts.corpora.report import prepared_name
from data_scripts.errors import CorpusError
from data_scripts.files import folder_name, write_atomically
from data_scripts.schema import load_prepared
from data_scripts.splits import evenly_spaced
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.collator import M4SERDataCollator
from trainer.errors import ExperimentError
from trainer.evaluation.figures import plot_confusion_shares, plot_label_distribution, plot_loss_curves
from trainer.evaluation.summary import markdown_table
from trainer.experiments.run_folder import PREDICTIONS_FILE, load_log
from trainer.studies import paper
from trainer.studies.divisions import CorpusSplit
from trainer.studies.representation_figures import ReadText, plot_embeddings, plot_weights
from trainer.studies.representations import (
    REPRESENTATIONS,
    SPACES,
    embed,
    mean_interval,
    mean_representations,
    representation_weights,
    speech_text_distances,
    untrained_fusion,
    word_tokens,
)
from trainer.studies.retest import FinishedRun, finished_runs

#: Columns of the texts that Table VII compares -> what they are.
TEXTS = {"hypothesis": "ASR text", "transcript": "human text"}
#: One name for what corpora call differently, so that Fig. 6 compares them.
SAME_EMOTION = {
    "joy": "happy",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fearful": "fear",
    "disgusted": "disgust",
    "surprised": "surprise",
}
#: A silhouette below it is called no structure (Kaufman and Rousseeuw 1990).
STRUCTURE = 0.25


@dataclass(frozen=True)
class LoadedRun:
    """A finished run with its model, in evaluation mode, and processor."""

    run: FinishedRun
    model: M4SERForEmotionClassification
    processor: M4SERProcessor

    @classmethod
    def load(cls, run: FinishedRun) -> "LoadedRun":
        """Load the model of a run."""
        model: Any = M4SERForEmotionClassification.from_pretrained(run.folder).eval()
        return cls(run, model, M4SERProcessor.from_pretrained(run.folder))

    def collator(self, text_column: str | None = None) -> M4SERDataCollator:
        """Return the collator of the model, by default of the texts that it was trained on."""
        column = text_column or self.run.results["text_column"]
        return M4SERDataCollator(self.processor, self.model.config, column, with_auxiliary_labels=False)

    def can_read(self, row: Mapping[str, Any]) -> bool:
        """Whether an utterance has the text that the model was trained to read."""
        return not self.model.config.uses_text or row[self.run.results["text_column"]] is not None

    def can_compare(self, row: Mapping[str, Any]) -> bool:
        """Whether an utterance has both texts, with two word pieces in each: one alone has no course over time."""
        texts = [row[column] for column in TEXTS]
        return all(text is not None and len(self.processor.encode_transcript(text)) > 1 for text in texts)


def analyze(
    prepared: Sequence[str],
    roots: Sequence[str],
    output: Path,
    *,
    split: str = "test",
    utterances: int = 300,
    shown: Sequence[str] = (),
    seed: int = 0,
) -> str:
    """Draw the figures into `output`, with `analysis.json` (numbers, names of figures); return the page `analysis.md`.

    `prepared` are the folder that the models read, and others for Fig. 6 alone, which is all there is without `roots`,
    folders of finished runs. `shown` are ids, of Fig. 11 and of single lines of Table VII (default: the first read).
    """
    figures = [plot_label_distribution(count_labels(prepared), output / "label_distribution.png")]
    lines, numbers = ["# Emotions of the corpora (Fig. 6)"], {}
    if roots:
        rows = runs_by_row(roots)
        tested = CorpusSplit.load(prepared[0], split)
        figures += draw_logs(rows, output)
        data = tested.data
        read = find_rows(data, data.select(evenly_spaced(len(data), utterances))["id"][:])
        numbers = _look_into(rows, read, find_rows(data, shown), seed, output, figures)
        heading = f"# Models looked into (Fig. 6 and 8 to 12, Table VII): {tested.title}"
        lines = [heading, "", *page(numbers, tested.notes)]
    text = "\n".join(lines) + "\n"
    names = [figure.name for figure in figures]
    content = json.dumps({"heading": lines[0], "rows": numbers, "figures": names}, indent=2, ensure_ascii=False)
    write_atomically(output / "analysis.json", content + "\n")
    write_atomically(output / "analysis.md", text)
    return text


def runs_by_row(roots: Iterable[str]) -> dict[str, list[FinishedRun]]:
    """Return finished runs by their row, see `finished_runs`; one that is named twice is there once."""
    once: dict[Path, FinishedRun] = {}
    for run in finished_runs(*roots):
        once.setdefault(run.folder.resolve(), run)
    first, found = next(iter(once.values())), {}
    for run in once.values():
        if run.results["emotions"] != first.results["emotions"]:
            raise ExperimentError(
                f"{run.folder} has different classes from {first.folder}; analyze these runs separately."
            )
        found.setdefault(run.row, []).append(run)
    return found


def find_rows(data: Dataset, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the utterances with some ids, each with the name of its emotion."""
    places = {name: index for index, name in enumerate(data["id"][:])}
    if missing := [name for name in ids if name not in places]:
        raise CorpusError(f"no utterance {missing[0]!r} in this split; its first is {next(iter(places), None)!r}")
    names, rows = data.features["emotion"].names, (data[places[name]] for name in ids)
    return [{**row, "emotion": names[row["emotion"]]} for row in rows]


def count_labels(folders: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the emotions of whole prepared corpora, all splits together (Fig. 6), by the names of `SAME_EMOTION`.

    A corpus is called by its folder where two have the same name, and a stand-in where it is one of a paper's corpus.
    """
    names = [prepared_name(folder) for folder in folders]
    counts = {}
    for folder, name in zip(folders, names, strict=True):
        parts = load_prepared(folder).values()
        emotions = [part.features["emotion"].names[label] for part in parts for label in part["emotion"]]
        title = paper.TITLES.get(name, name) if names.count(name) == 1 else str(folder)
        if paper.stand_in_reason(name, len(emotions), folder):
            title += " stand-in"
        counts[title] = dict(Counter(SAME_EMOTION.get(name, name) for name in emotions).most_common())
    return counts


def mean_confusion(runs: Sequence[FinishedRun]) -> np.ndarray:
    """Return the mean confusion matrix of some runs (Fig. 12): (classes, classes) shares of the true class, rows true.

    The mean is over the runs that test a class; one that none of them tests is a row of NaN.
    """
    emotions = runs[0].results["emotions"]
    tables = [pd.read_parquet(Path(run.folder) / PREDICTIONS_FILE) for run in runs]
    shares = [pd.crosstab(table["emotion"], table["predicted"], normalize="index") for table in tables]
    whole: Any = pd.concat([part.reindex(columns=emotions, fill_value=0) for part in shares])
    return whole.groupby(level=0).mean().reindex(emotions).to_numpy()


def draw_logs(rows: Mapping[str, Sequence[FinishedRun]], output: Path) -> list[Path]:
    """Draw Fig. 8, the losses of each row's first run, and Fig. 12, the mean confusion matrix of all."""
    figures = []
    for row, runs in rows.items():
        kept = str(runs[0].results.get("best_checkpoint") or "").rpartition("-")[2]
        path = output / f"loss_curves_{folder_name(row)}.png"
        try:
            figures.append(plot_loss_curves(load_log(runs[0].folder), path, int(kept) if kept else None))
        except ExperimentError as error:
            print(f"{row}, no loss curves: {error}", flush=True)
    shares = {f"{row}, {len(runs)} runs" if len(runs) > 1 else row: mean_confusion(runs) for row, runs in rows.items()}
    emotions = next(iter(rows.values()))[0].results["emotions"]
    return [*figures, plot_confusion_shares(shares, emotions, output / "confusion_matrices.png")]


def _look_into(
    rows: Mapping[str, Sequence[FinishedRun]],
    read: Sequence[Mapping[str, Any]],
    asked: Sequence[Mapping[str, Any]],
    seed: int,
    output: Path,
    figures: list[Path],
) -> dict[str, dict[str, Any]]:
    """Draw what needs the models, of each row's first run, and return the numbers by row."""
    by_emotion, by_kind, numbers = {}, {}, {}
    for row, runs in rows.items():
        loaded = LoadedRun.load(runs[0])
        readable = [each for each in read if loaded.can_read(each)]
        numbers[row] = {"run": str(runs[0].folder), "utterances": len(readable)}
        means = mean_representations(loaded.model, readable, loaded.collator())
        emotions = [each["emotion"] for each in readable]
        apart = None
        if 1 < len(set(emotions)) < len(readable):
            apart = float(silhouette_score(means["pooled"], emotions, metric="cosine"))
        numbers[row]["silhouette"] = apart
        if not by_emotion:
            verb = "form groups" if (apart or 0) > STRUCTURE else "form no groups"
            shown = "" if apart is None else f" (silhouette {apart:.2f})"
            by_emotion[f"{row}: the emotions {verb}{shown}"] = embed(means["pooled"], seed), emotions
        if len(means) > 1:
            before = mean_representations(untrained_fusion(loaded.model, seed), readable, loaded.collator())
            for when, part in (("before training", before), ("after", means)):
                points = embed(np.concatenate([part[name] for name in REPRESENTATIONS]), seed)
                by_kind[f"{row}, {when}"] = points, [name for name in REPRESENTATIONS for _ in readable]
        both = [each for each in read if loaded.can_compare(each)]
        if both and loaded.model.config.modalities == "speech_text" and loaded.model.config.use_modality_specific:
            numbers[row]["distances"] = _weigh(loaded, row, both, asked or both[:1], output, figures)
        print(f"{row}: done", flush=True)
    title = "A point is an utterance, read by the model"
    figures.append(plot_embeddings(by_emotion, output / "emotions_tsne.png", title))
    if by_kind:
        title = "A point is one representation of an utterance: do the three kinds lie apart?"
        figures.append(plot_embeddings(by_kind, output / "representations_tsne.png", title))
    return numbers


def _weigh(
    loaded: LoadedRun,
    row: str,
    read: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    output: Path,
    figures: list[Path],
) -> dict[str, Any]:
    """Measure Table VII of a row and draw Fig. 11: distances by text, of all utterances and of those shown."""
    known, processor = loaded.run.results["emotions"], loaded.processor
    collators = {column: loaded.collator(column) for column in TEXTS}
    found: dict[str, Any] = {"mean": {column: [] for column in TEXTS}, "single": {}}
    for each in read:
        for column, collator in collators.items():
            weights = representation_weights(loaded.model, each, collator)
            found["mean"][column].append(speech_text_distances(weights))
    for each in shown:
        if not loaded.can_compare(each):
            raise ExperimentError(f"utterance {each['id']} has under two word pieces of one text: choose another one.")
        seconds = min(each["duration"], processor.max_audio_seconds)
        texts, single = [], {}
        for column, collator in collators.items():
            weights = representation_weights(loaded.model, each, collator)
            single[column] = speech_text_distances(weights)
            answer = f"{known[weights.predicted]} (true: {each['emotion']})"
            title = f"{each['id']} ({seconds:.1f} s), {row}, {TEXTS[column]}: {answer}"
            texts.append(ReadText(title, word_tokens(each[column], processor), weights))
        found["single"][each["id"]] = single
        name = f"weights_{folder_name(row)}_{folder_name(each['id'])}.png"
        figures.append(plot_weights(texts, seconds, output / name))
    return found


def page(numbers: Mapping[str, Mapping[str, Any]], notes: Sequence[str]) -> Iterator[str]:
    """Yield what the figures do not say, in Markdown: silhouettes, and Table VII where texts could be compared."""
    lines = (
        (row, found["utterances"], None if found["silhouette"] is None else f"{found['silhouette']:.2f}")
        for row, found in numbers.items()
    )
    yield markdown_table(["row", "utterances", "silhouette of the emotions (Fig. 9)"], lines)
    yield ""
    yield from (f"* {note}" for note in notes)
    yield "* Of each row, the first run. A silhouette is 1 where emotions lie apart, 0 or less where they are mixed."
    measured = {row: found["distances"] for row, found in numbers.items() if "distances" in found}
    if not measured:
        return
    yield "\n## Speech and text: DTW distance of their weights (Table VII)\n"
    header = ["row", "space", "utterances", "ASR text", "human text", "ASR − human, paired"]
    yield markdown_table(header, (line for row, found in measured.items() for line in _means(row, found["mean"])))
    yield ""
    singles = (
        (row, name, space, *(f"{texts[column][space]:.3f}" for column in TEXTS))
        for row, found in measured.items()
        for name, texts in found["single"].items()
        for space in SPACES
    )
    yield markdown_table(["row", "utterance", "space", "ASR text", "human text"], singles)
    yield ""
    yield (
        "* Weights are scaled to 0 … 1 in each utterance; a distance is the root mean square difference along the "
        "warping path. 95 % intervals over utterances (Student's t)."
    )
    printed = paper.CONSISTENCY_TABLE.items()
    examples = (f"({name}) {each['hypothesis']} and {each['transcript']}" for name, each in printed)
    yield (
        f"* The paper, with ASR and human text: {', '.join(examples)}. It does not say how it scales weights and "
        "distances, and its models for human text are trained on it: only the order of the two compares."
    )


def _means(row: str, texts: Mapping[str, Sequence[Mapping[str, float]]]) -> Iterator[list[Any]]:
    """A line of Table VII for each space: means, and their paired difference."""
    for space in SPACES:
        heard, written = ([each[space] for each in texts[name]] for name in TEXTS)
        difference = np.subtract(heard, written).tolist()
        yield [row, space, len(heard), _shown(heard), _shown(written), _shown(difference, "+")]


def _shown(values: Sequence[float], sign: str = "") -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:{sign}.3f}" + ("" if low is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]")
