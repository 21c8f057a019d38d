"""The figures of what models make of utterances: t-SNE, and weights over time. See `trainer.evaluation.figures`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trainer.evaluation.drawing import COLOURS, DPI, MATH, legend_above, new_axes, save_figure
from trainer.studies.representations import UtteranceWeights, scaled

_MARKERS = "osD^vPX*"
_STRIPS = {
    "speech": r"speech, $H_S$",
    "text": r"text, $H_T$",
    "speech_specific": r"speech-specific, $\hat{H}_S^{spe}$",
    "text_specific": r"text-specific, $\hat{H}_T^{spe}$",
}
_LINE = 0.14  # inches, of a line of text at 8 points
_LETTER = 0.085  # inches, of a letter at 8 points


@dataclass(frozen=True)
class ReadText:
    """One text of an utterance with its words, see `word_tokens`, and what a model made of it."""

    title: str
    words: Sequence[tuple[str, int, int]]
    weights: UtteranceWeights


def plot_embeddings(panels: Mapping[str, tuple[np.ndarray, Sequence[str]]], path: str | Path, title: str) -> Path:
    """Draw points (N, 2) in a plane by their kind, one panel beside the other, as the paper's Fig. 9 and 10.

    Kinds keep their colour and sign through all panels, in the order they are first met.
    """
    kinds = list(dict.fromkeys(kind for _, names in panels.values() for kind in names))
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = new_axes(max(4.6, 3.4 * columns), 3.2 * rows + 0.9, rows, columns, grid=None)
    for ax, (name, (points, names)) in zip(axes, panels.items(), strict=False):
        for index, kind in enumerate(kinds):
            own = np.asarray(points)[[name == kind for name in names]]
            colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]
            ax.scatter(own[:, 0], own[:, 1], s=14, c=colour, marker=marker, alpha=0.75, linewidths=0, label=kind)
        ax.set_title(name, fontsize=9, wrap=True)
        ax.set_xticks([])  # a place in a t-SNE has no unit
        ax.set_yticks([])
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color("#cccccc")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    legend_above(figure, min(4, len(kinds)), title=title, markerscale=1.6)
    return save_figure(figure, path)


def plot_weights(texts: Sequence[ReadText], seconds: float, path: str | Path) -> Path:
    """Draw the weights of speech and text over the time of an utterance (s), as the paper's Fig. 11.

    Of each text four strips: H_S and H_T as the encoders give them, and both specific representations; each is scaled
    from its least to its largest weight. Tokens are taken as equal shares of the time, as the model interpolates them
    onto the frames. The special tokens at both ends of H_T stay grey. Below stand the words.
    """
    width = max(8.0, 2.2 + _LINE * max(len(text.weights.text) for text in texts))
    heights = [1.9 + _LETTER * max([len(word) for word, *_ in text.words], default=1) for text in texts]
    heights.append(0.6)  # of the colours' meaning
    figure = Figure(figsize=(width, sum(heights)), dpi=DPI, layout="constrained")
    image: Any = None
    rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    *parts, foot = rows
    for part, text in zip(parts, texts, strict=True):
        axes = part.subplots(len(_STRIPS), 1)
        for ax, (name, label) in zip(axes, _STRIPS.items(), strict=True):
            image = _draw_strip(ax, name, text.weights, seconds)
            ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, gid=MATH)
        centres = [seconds * (first + last) / 2 / len(text.weights.text) for _, first, last in text.words]
        axes[-1].set_xticks(centres, [word for word, *_ in text.words], rotation=90, fontsize=8)
        axes[-1].tick_params(axis="x", length=2)
        axes[0].set_title(text.title, fontsize=10)
    bar = foot.colorbar(image, cax=foot.add_axes((0.4, 0.6, 0.3, 0.2)), orientation="horizontal", ticks=[0, 1])
    bar.ax.set_xticklabels(["least weight", "largest weight of the strip"], fontsize=8)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    foot.text(0.38, 0.7, "size of the features; grey: special tokens", ha="right", va="center", fontsize=8)
    return save_figure(figure, path)


def _draw_strip(ax: Any, name: str, weights: UtteranceWeights, seconds: float) -> Any:
    values = np.array(getattr(weights, name), dtype=float)
    if name == "text":
        values[1:-1] = scaled(values[1:-1])
        values[[0, -1]] = np.nan
    else:
        values = scaled(values)
    edges = np.linspace(0, seconds, len(values) + 1)
    image = ax.pcolormesh(edges, [0, 1], np.ma.masked_invalid(values)[None], cmap="cividis", vmin=0, vmax=1)
    ax.set_facecolor("#dddddd")  # where there is no weight
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return image
