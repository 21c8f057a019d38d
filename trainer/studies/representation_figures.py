"""The figures of what models make of utterances: t-SNE, weights over time, confusion matrices side by side."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trainer.evaluation.drawing import COLOURS, DPI, plain_tick_labels, save_figure
from trainer.studies.representations import UtteranceWeights, scaled

_MARKERS = "osD^vPX*"
_STRIPS = {
    "speech": r"$H_S$",
    "text": r"$H_T$",
    "speech_specific": r"$\hat{H}_S^{spe}$",
    "text_specific": r"$\hat{H}_T^{spe}$",
}
_LETTER = 0.085  # inches, of a word's letter at 8 points
_LINE = 0.14  # inches, of a line of text at 8 points


@dataclass(frozen=True)
class ReadText:
    """One text of an utterance, and what a model made of it.

    Attributes:
        title: above its weights.
        words: (word, first token, token after the last), as `word_tokens` returns them.
        weights: of the utterance with this text.
    """

    title: str
    words: Sequence[tuple[str, int, int]]
    weights: UtteranceWeights


def plot_embeddings(panels: Mapping[str, tuple[np.ndarray, Sequence[str]]], path: str | Path, columns: int = 2) -> Path:
    """Draw points in a plane by their kind, one panel beside the other, as the paper's Fig. 9 and 10.

    Args:
        panels: title -> (points (N, 2), the kind of each). Kinds keep their colour and sign through all panels, in the
            order they are first met.
        path: the PNG file to write; its folder is made.
        columns: panels beside each other.

    Returns:
        The path written.

    Raises:
        ValueError: there is no panel, or points and kinds differ in number.
    """
    if not panels:
        raise ValueError("panels holds nothing to draw")
    kinds = list(dict.fromkeys(kind for _, names in panels.values() for kind in names))
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.4 * columns, 3.2 * rows + 0.5), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    drawn: dict[str, Any] = {}
    for ax, (title, (points, names)) in zip(axes, panels.items(), strict=False):
        if len(points) != len(names):
            raise ValueError(f"{title}: {len(points)} points, but {len(names)} kinds")
        for index, kind in enumerate(kinds):
            own = np.asarray(points)[[name == kind for name in names]]
            colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]
            style = {"s": 14, "c": colour, "marker": marker, "alpha": 0.75, "linewidths": 0}
            drawn[kind] = ax.scatter(own[:, 0], own[:, 1], **style)
        ax.set_title(title, fontsize=10, parse_math=False, wrap=True)
        ax.set_xticks([])  # a place in a t-SNE has no unit
        ax.set_yticks([])
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    options = {"loc": "outside lower center", "ncols": min(4, len(kinds)), "fontsize": 9, "frameon": False}
    legend = figure.legend([drawn[kind] for kind in kinds], kinds, markerscale=1.6, **options)
    plain_tick_labels(legend.get_texts())
    return save_figure(figure, path)


def plot_weights(texts: Sequence[ReadText], seconds: float, path: str | Path) -> Path:
    """Draw the weights of speech and text over the time of an utterance, as the paper's Fig. 11.

    Of each text four strips: H_S and H_T as the encoders give them, and both specific representations; each is scaled
    from its least to its largest weight. Tokens are taken as equal shares of the time, as the model interpolates them
    onto the frames. The special tokens at both ends of H_T stay grey. Below stand the words.

    Args:
        texts: each with the words it has.
        seconds: how long the utterance lasts, as far as it is read.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.

    Raises:
        ValueError: there is no text.
    """
    if not texts:
        raise ValueError("texts holds nothing to draw")
    width = max(7.0, 1.2 + _LINE * max(len(text.weights.text) for text in texts))
    slants = [_words_slant(text, width - 1.2) for text in texts]
    below = [max([len(word) for word, *_ in text.words], default=1) * _LETTER for text in texts]
    heights = [1.9 + (room if slant else _LINE) for room, slant in zip(below, slants, strict=True)]
    heights.append(0.5)  # of the colours' meaning
    figure = Figure(figsize=(width, sum(heights)), dpi=DPI, layout="constrained")
    image: Any = None
    rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    *parts, foot = rows
    for part, text, slant in zip(parts, texts, slants, strict=True):
        axes = part.subplots(len(_STRIPS), 1)
        for ax, (name, label) in zip(axes, _STRIPS.items(), strict=True):
            image = _draw_strip(ax, name, text.weights, seconds)
            ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        centres = [seconds * (first + last) / 2 / len(text.weights.text) for _, first, last in text.words]
        axes[-1].set_xticks(centres, [word for word, *_ in text.words], rotation=slant, fontsize=8)
        plain_tick_labels(axes[-1].get_xticklabels())
        axes[-1].tick_params(axis="x", length=2)
        axes[0].set_title(text.title, fontsize=10, parse_math=False)
    bar = foot.colorbar(image, cax=foot.add_axes((0.35, 0.6, 0.3, 0.2)), orientation="horizontal", ticks=[0, 1])
    bar.ax.set_xticklabels(["least", "largest weight of the strip"], fontsize=8)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return save_figure(figure, path)


def _words_slant(text: ReadText, inches: float) -> int:
    """0 where all words of a text fit beside each other on so many inches, 90 otherwise."""
    token = inches / len(text.weights.text)
    centres = [((first + last) / 2 * token, len(word) * _LETTER / 2) for word, first, last in text.words]
    pairs = itertools.pairwise(centres)
    return 0 if all(right - left > a + b for (left, a), (right, b) in pairs) else 90


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


def plot_confusion_shares(panels: Mapping[str, np.ndarray], label_names: Sequence[str], path: str | Path) -> Path:
    """Draw the confusion matrices of several models beside each other, in per cent, as the paper's Fig. 12.

    Args:
        panels: title -> (classes, classes) shares in [0, 1], rows true, each adding up to 1; a row of NaN, of a class
            that nobody tested, is drawn as dashes.
        label_names: names of the classes, by index.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.

    Raises:
        ValueError: there is no panel, or one of another shape.
    """
    size = len(label_names)
    if not panels or any(np.shape(shares) != (size, size) for shares in panels.values()):
        raise ValueError(f"panels needs matrices of shape ({size}, {size})")
    columns = math.ceil(len(panels) / math.ceil(len(panels) / 4))  # four beside each other at most
    rows = math.ceil(len(panels) / columns)
    side = 0.7 + 0.45 * size
    figure = Figure(figsize=(columns * side + 1.2, rows * (side + 0.5) + 0.3), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    image: Any = None
    for index, (ax, (title, shares)) in enumerate(zip(axes.flatten(), panels.items(), strict=False)):
        image = ax.imshow(100 * np.asarray(shares), cmap="Blues", vmin=0, vmax=100)
        for place in np.ndindex(size, size):
            share = 100 * shares[place]
            text, colour = ("–", "black") if np.isnan(share) else (f"{share:.0f}", "white" if share > 55 else "black")
            ax.text(place[1], place[0], text, ha="center", va="center", color=colour, fontsize=8)
        below = index + columns >= len(panels)
        ax.set_xticks(range(size), label_names if below else [""] * size, rotation=90, fontsize=8)
        ax.set_yticks(range(size), label_names if index % columns == 0 else [""] * size, fontsize=8)
        plain_tick_labels([*ax.get_xticklabels(), *ax.get_yticklabels()])
        ax.set_title(title, fontsize=9, parse_math=False)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    for ax in axes.flatten()[len(panels) :]:
        ax.set_axis_off()
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("true", fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.01)
    bar.set_label("% of the true class", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return save_figure(figure, path)
