r"""The paper's Fig. 6 and 8 to 12 and its Table VII, of finished runs.

    python examples/analyze.py --dataset runs/ablation_meld/corpus --run runs/ablation_meld --output_dir runs/analysis

`--run` takes folders of runs, of folds and seeds, or of a grid (`run_ablation.py`); their rows are told apart by their
ablation. Confusion matrices are means over all runs of a row. Whatever looks into a model looks into the row's first
run. Nothing is trained. `analysis.json` holds the numbers; with the same arguments, all is the same again.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_scripts.errors import run_command
from trainer.errors import ExperimentError

if TYPE_CHECKING:
    from trainer.studies.analysis import LoadedRun
    from trainer.studies.retest import FinishedRun

TEXTS = {"hypothesis": "ASR text", "transcript": "human text"}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--dataset", required=True, nargs="+", help="prepared folder that the models read; others for Fig. 6 alone"
    )
    parser.add_argument("--run", nargs="+", default=[], metavar="FOLDER", help="finished runs; without, Fig. 6 alone")
    parser.add_argument("--output_dir", required=True, help="where figures and tables are written")
    parser.add_argument("--split", default="test", help="split to read (default test)")
    parser.add_argument("--utterances", type=int, default=300, help="how many to read, evenly spaced (default 300)")
    parser.add_argument(
        "--utterance",
        nargs="+",
        default=[],
        metavar="ID",
        help="of Fig. 11, and by itself in Table VII (default: the first read)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE and of the untrained fusion")
    options = parser.parse_args(arguments)
    if options.utterances < 4:
        parser.error("--utterances must be at least 4")
    return options


def draw_labels(folders: Sequence[str], output: Path) -> None:
    """Fig. 6: how many utterances each emotion has in each corpus."""
    from trainer.evaluation.figures import plot_label_distribution
    from trainer.studies.analysis import count_labels

    plot_label_distribution(count_labels(folders), output / "label_distribution.png")


def draw_logs(rows: "Mapping[str, Sequence[FinishedRun]]", output: Path) -> None:
    """Fig. 8: the losses of each row's first run, and Fig. 12: the mean confusion matrix of all."""
    from data_scripts.files import folder_name
    from trainer.evaluation.figures import plot_confusion_shares, plot_loss_curves
    from trainer.experiments.run_folder import load_log
    from trainer.studies.analysis import mean_confusion

    for row, runs in rows.items():
        try:
            plot_loss_curves(load_log(runs[0].folder), output / f"loss_curves_{folder_name(row)}.png")
        except ExperimentError as error:
            print(f"{row}, no loss curves: {error}", flush=True)
    shares = {f"{row}, {len(runs)} runs" if len(runs) > 1 else row: mean_confusion(runs) for row, runs in rows.items()}
    plot_confusion_shares(shares, next(iter(rows.values()))[0].results["emotions"], output / "confusion_matrices.png")


def draw_embeddings(
    loaded: "LoadedRun", read: Sequence[Mapping[str, Any]], seed: int
) -> tuple[dict[str, Any], dict[str, Any], float | None]:
    """Fig. 9 and 10: a row's panels of each, and how well the emotions are apart (silhouette, cosine; None for one)."""
    import numpy as np
    from sklearn.metrics import silhouette_score

    from trainer.studies.representations import REPRESENTATIONS, embed, mean_representations, untrained_fusion

    emotions = [row["emotion"] for row in read]
    means = mean_representations(loaded.model, read, loaded.collator())
    kinds = len(set(emotions))
    apart, title = None, loaded.row
    if 1 < kinds < len(read):
        apart = float(silhouette_score(means["pooled"], emotions, metric="cosine"))
        title = f"{loaded.row}, silhouette {apart:.2f}"
    by_emotion = {title: (embed(means["pooled"], seed), emotions)}
    by_kind = {}
    if len(means) > 1:
        before = mean_representations(untrained_fusion(loaded.model, seed), read, loaded.collator())
        for when, part in (("before training", before), ("after", means)):
            points = embed(np.concatenate([part[name] for name in REPRESENTATIONS]), seed)
            by_kind[f"{loaded.row}, {when}"] = points, [name for name in REPRESENTATIONS for _ in read]
    return by_emotion, by_kind, apart


def weigh(
    loaded: "LoadedRun", read: Sequence[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]], output: Path
) -> dict[str, Any]:
    """Table VII of a row, and Fig. 11 of some utterances: distances by text, of all utterances and of those shown."""
    from data_scripts.files import folder_name
    from trainer.studies.consistency import speech_text_distances
    from trainer.studies.representation_figures import ReadText, plot_weights
    from trainer.studies.representations import representation_weights, word_tokens

    known, processor = loaded.run.results["emotions"], loaded.processor
    collators = {column: loaded.collator(column) for column in TEXTS}
    found: dict[str, Any] = {"mean": {column: [] for column in TEXTS}, "single": {}}
    for row in read:
        for column, collator in collators.items():
            weights = representation_weights(loaded.model, row, collator)
            found["mean"][column].append(speech_text_distances(weights))
    for row in shown:
        if not loaded.can_compare(row):
            raise ExperimentError(f"utterance {row['id']} has under two word pieces of one text: choose another one.")
        seconds = min(row["duration"], processor.max_audio_seconds)
        texts, single = [], {}
        for column, collator in collators.items():
            weights = representation_weights(loaded.model, row, collator)
            single[column] = speech_text_distances(weights)
            answer = f"{known[weights.predicted]} (true: {row['emotion']})"
            title = f"{row['id']} ({seconds:.1f} s), {loaded.row}, {TEXTS[column]}: {answer}"
            texts.append(ReadText(title, word_tokens(row[column], processor), weights))
        found["single"][row["id"]] = single
        name = f"weights_{folder_name(loaded.row)}_{folder_name(row['id'])}.png"
        plot_weights(texts, seconds, output / name)
    return found


def look_into(rows: "Mapping[str, Sequence[FinishedRun]]", options: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Draw what needs the models, and return the numbers by row."""
    from trainer.experiments.data import evenly_spaced, load_split
    from trainer.studies.analysis import LoadedRun, find_rows, named_emotions
    from trainer.studies.representation_figures import plot_embeddings

    data = load_split(options.dataset[0], options.split)
    read = named_emotions(evenly_spaced(data, options.utterances), data)
    asked = named_emotions(find_rows(data, options.utterance), data)
    by_emotion, by_kind, numbers = {}, {}, {}
    for row, runs in rows.items():
        loaded = LoadedRun.load(row, runs[0])
        readable = [each for each in read if loaded.can_read(each)]
        emotions, kinds, apart = draw_embeddings(loaded, readable, options.seed)
        by_emotion |= emotions
        by_kind |= kinds
        numbers[row] = {"run": str(runs[0].folder), "utterances": len(readable), "silhouette": apart}
        both = [each for each in read if loaded.can_compare(each)]
        if both and loaded.model.config.modalities == "speech_text" and loaded.model.config.use_modality_specific:
            numbers[row]["distances"] = weigh(loaded, both, asked or both[:1], output)
        print(f"{row}: done", flush=True)
    plot_embeddings(by_emotion, output / "emotions_tsne.png")
    if by_kind:
        plot_embeddings(by_kind, output / "representations_tsne.png")
    return numbers


def main(options: argparse.Namespace) -> None:
    """Draw the figures, and write and print Table VII."""
    from data_scripts.files import write_atomically
    from trainer.studies.analysis import consistency_page, runs_by_row
    from trainer.studies.divisions import CorpusSplit

    output = Path(options.output_dir)
    draw_labels(options.dataset, output)
    if not options.run:
        return
    rows = runs_by_row(options.run)
    draw_logs(rows, output)
    numbers = look_into(rows, options, output)
    content = {"options": vars(options), "rows": numbers}
    write_atomically(output / "analysis.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    if distances := {row: found["distances"] for row, found in numbers.items() if "distances" in found}:
        tested = CorpusSplit.load(options.dataset[0], options.split)
        page = consistency_page(distances, f"{tested.title}. {' '.join(tested.notes)} Of each row, its first run.")
        write_atomically(output / "consistency.md", page)
        print(page, flush=True)


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
