"""The figures of runs and tables, drawn without a display: from losses and confusions to sensitivity and robustness.

Figures are built as objects rather than through pyplot, so that nothing global changes and nothing has to be closed.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from modeling_m4ser.losses_m4ser import LOSSES
from trainer.evaluation.calibration import ReliabilityCurve
from trainer.evaluation.drawing import COLOURS, DPI, GREY, plain_tick_labels, save_figure
from trainer.evaluation.significance import Interval

# In the order of the paper's Fig. 8, with the symbols of Eq. 20-22.
LOSS_TITLES = {
    "loss": "Total",
    **{f"loss_{name}": loss.title for name, loss in LOSSES.items()},
    "loss_discriminator": r"Discriminator, $\mathcal{L}_{D}$",
    "loss_generator": r"Generator, $\mathcal{L}_{G}$ (dashed: $2\,\ln 2$)",
}
METRIC_TITLES = {
    "eval_wa": "WA",
    "eval_ua": "UA",
    "eval_weighted_f1": "weighted F1",
    "eval_macro_f1": "macro F1",
}
# Where the discriminator answers 0.5 on every invariant frame.
EQUILIBRIUM = 2 * math.log(2)


def _series(log_history: Iterable[Mapping], key: str, axis: str) -> tuple[list[float], list[float]]:
    """The finite points of one logged quantity, as positions along `axis` and values."""
    points = [(entry[axis], entry[key]) for entry in log_history if key in entry and axis in entry]
    points = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    return [x for x, _ in points], [y for _, y in points]


def _draw_loss(ax, log_history: Sequence[Mapping], key: str, axis: str) -> None:
    """One loss in one panel; the total also shows its validation value, the generator's its equilibrium."""
    x, y = _series(log_history, key, axis)
    ax.plot(x, y, color=COLOURS[0], linewidth=1.3, marker="o" if len(x) < 30 else "", markersize=3, label="training")
    ax.set_title(LOSS_TITLES[key], fontsize=10)
    eval_x, eval_y = _series(log_history, f"eval_{key}", axis)
    if eval_x:
        ax.plot(eval_x, eval_y, color=COLOURS[1], linewidth=1.3, marker="s", markersize=3, label="validation")
        ax.legend(fontsize=8, framealpha=0.8)
    if key == "loss_generator":
        ax.axhline(EQUILIBRIUM, color=GREY, linewidth=1.2, linestyle="--")


def _draw_metrics(ax, log_history: Sequence[Mapping], keys: Sequence[str], axis: str) -> None:
    """The validation metrics in one panel, as percentages."""
    for colour, key in zip(COLOURS, keys, strict=False):
        x, y = _series(log_history, key, axis)
        # Where two metrics coincide (WA and UA on balanced classes), the dashes of the later show the earlier.
        style = "-" if colour in COLOURS[:2] else "--"
        values = [100 * value for value in y]
        ax.plot(x, values, style, color=colour, linewidth=1.3, marker="o", markersize=3, label=METRIC_TITLES[key])
    ax.set_title("Validation metrics (%)", fontsize=10)
    ax.legend(fontsize=8, framealpha=0.8)


def plot_loss_curves(log_history: Sequence[Mapping], path: str | Path) -> Path:
    """Draw every named loss in its own panel and the validation metrics in one more, as the paper's Fig. 8.

    Args:
        log_history: `trainer.state.log_history`: dicts with `step` (or `epoch` alone) and any of the keys of
            `LOSS_TITLES`, those with `eval_` before them, and those of `METRIC_TITLES` (shares in [0, 1]). Absent keys
            and values that are not finite are left out; with nothing to draw, the figure says so.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.
    """
    log_history = list(log_history)
    axis = "step" if any("step" in entry for entry in log_history) else "epoch"
    losses = [key for key in LOSS_TITLES if _series(log_history, key, axis)[0]]
    metrics = [key for key in METRIC_TITLES if _series(log_history, key, axis)[0]]
    panels = len(losses) + bool(metrics)
    columns = min(3, max(1, panels))
    rows = max(1, math.ceil(panels / columns))
    figure = Figure(figsize=(3.9 * columns, 2.7 * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, key in zip(axes, losses, strict=False):
        _draw_loss(ax, log_history, key, axis)
    if metrics:
        _draw_metrics(axes[len(losses)], log_history, metrics, axis)
    for ax in axes[:panels]:
        ax.set_xlabel(axis, fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=axis == "step"))
        ax.tick_params(labelsize=8)
        ax.grid(color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[panels:]:
        ax.set_axis_off()
    if not panels:
        axes[0].text(0.5, 0.5, "no losses were logged", ha="center", va="center", color=GREY)
    return save_figure(figure, path)


def plot_confusion_matrix(
    matrix: Sequence[Sequence[float]], label_names: Sequence[str], path: str | Path, title: str | None = None
) -> Path:
    """Draw a confusion matrix as the paper's Fig. 12: rows true, columns predicted, each row in per cent, counts below.

    Args:
        matrix: (classes, classes) counts, rows true. A row without utterances is drawn as dashes.
        label_names: names of the classes, by index.
        path: the PNG file to write; its folder is made.
        title: a line above the figure.

    Returns:
        The path written.

    Raises:
        ValueError: the matrix is not square with one row per name, or holds a negative or non-finite number.
    """
    counts, names = np.asarray(matrix, dtype=float), [str(name) for name in label_names]
    if counts.shape != (len(names), len(names)) or not names:
        raise ValueError(f"expected a matrix of shape ({len(names)}, {len(names)}), got {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("a confusion matrix holds finite counts of zero or more")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.zeros_like(counts), where=totals > 0)

    size = 2.6 + 0.8 * len(names) + 0.05 * max(map(len, names))
    figure = Figure(figsize=(size + 0.6, size), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(*counts.shape):
        text = f"{shares[row, column]:.1f}\n({counts[row, column]:,g})" if totals[row] else "–"
        colour = "white" if shares[row, column] > 55 else "black"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    long_names = max(map(len, names)) > 8
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long_names else {}
    ax.set_xticks(range(len(names)), names, **slant)
    ax.set_yticks(range(len(names)), [f"{name} ({total:,g})" for name, total in zip(names, totals[:, 0], strict=True)])
    plain_tick_labels([*ax.get_xticklabels(), *ax.get_yticklabels()])
    ax.set_xlabel("predicted")
    ax.set_ylabel("true (utterances)")
    # White lines between the cells.
    ax.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label("% of the true class")
    bar.outline.set_visible(False)
    if title:
        ax.set_title(textwrap.fill(title, width=round(9 * size)), fontsize=11, pad=10, parse_math=False)
    return save_figure(figure, path)


def plot_reliability(curves: Mapping[str, ReliabilityCurve], path: str | Path) -> Path:
    """Draw how often the predicted class is right against how probable the model calls it, and how often it says so.

    On the diagonal the probabilities are right; below it the model is too sure.

    Args:
        curves: name -> curve over the same bins, e.g. before and after calibration.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.

    Raises:
        ValueError: there is no curve.
    """
    if not curves:
        raise ValueError("curves holds no curve")
    figure = Figure(figsize=(4.6, 5.4), dpi=DPI, layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    ax.plot([0, 100], [0, 100], color=GREY, linewidth=1.2, linestyle="--", label="right probabilities")
    for index, (name, curve) in enumerate(curves.items()):
        # Markers and line styles tell the curves apart in print too.
        colour, marker, style = COLOURS[index % len(COLOURS)], "os^D"[index % 4], ("-", ":")[index % 2]
        full = curve.utterances > 0
        ax.plot(
            100 * curve.confidence[full],
            100 * curve.accuracy[full],
            style,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.3,
            label=name,
        )
        edges = np.linspace(0, 100, len(full) + 1)
        below.stairs(curve.utterances, edges, color=colour, linestyle=style, linewidth=1.3)
    ax.set_ylabel("right (%)")
    below.set_ylabel("utterances")
    below.set_xlabel("probability of the predicted class (%)")
    ax.set_ylim(-3, 103)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for part in (ax, below):
        part.grid(color="#dddddd", linewidth=0.6)
        part.spines[["top", "right"]].set_visible(False)
    plain_tick_labels(ax.legend(fontsize=8, framealpha=0.8, loc="upper left").get_texts())
    return save_figure(figure, path)


def plot_label_distribution(counts_by_split: Mapping[str, Mapping[str, int]], path: str | Path) -> Path:
    """Draw how many utterances each emotion has in each split (or corpus), as the paper's Fig. 6.

    Args:
        counts_by_split: split name to a mapping from label name to count. Labels are drawn in the order they are first
            met; a label that a split lacks counts 0.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.

    Raises:
        ValueError: there is no split or no label, or a count is negative or not finite.
    """
    labels = list(dict.fromkeys(label for counts in counts_by_split.values() for label in counts))
    if not labels:
        raise ValueError("counts_by_split holds no counts")
    values = {split: [counts.get(label, 0) for label in labels] for split, counts in counts_by_split.items()}
    if any(not math.isfinite(value) or value < 0 for row in values.values() for value in row):
        raise ValueError("counts_by_split holds a count that is negative or not finite")

    thickness = 0.8 / len(values)
    height = max(2.2, 0.9 + len(labels) * max(0.45, 0.2 * len(values) + 0.12))
    figure = Figure(figsize=(7, height), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    for index, (split, row) in enumerate(values.items()):
        places = np.arange(len(labels)) + (index - (len(values) - 1) / 2) * thickness
        name = f"{split} ({sum(row):,g})"
        bars = ax.barh(places, row, height=0.9 * thickness, color=COLOURS[index % len(COLOURS)], label=name)
        ax.bar_label(bars, labels=[f"{value:,g}" for value in row], padding=3, fontsize=8)
    ax.set_yticks(range(len(labels)), labels)
    plain_tick_labels(ax.get_yticklabels())
    ax.invert_yaxis()  # the first label on top
    ax.set_xlabel("utterances")
    ax.margins(x=0.1, y=0.02)  # room for the counts beside the longest bars
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(loc="outside upper center", ncols=min(4, len(values)), fontsize=9, frameon=False)
    plain_tick_labels(legend.get_texts())
    return save_figure(figure, path)


def plot_sensitivity(panels: Mapping[str, Sequence[tuple[str, Interval, bool]]], metric: str, path: str | Path) -> Path:
    """Draw a metric against the values of one setting after the other, as the paper's Fig. 7.

    Args:
        panels: name of a setting -> (its value, as text; the metric's interval there, a share in [0, 1]; whether it is
            the value of all the other panels), in the order of the axis.
        metric: its name, for the axis.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.

    Raises:
        ValueError: there is no panel, or one without a value.
    """
    if not panels or not all(panels.values()):
        raise ValueError("panels holds nothing to draw")
    figure = Figure(figsize=(2.3 * len(panels) + 0.6, 2.8), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (name, points) in zip(axes, panels.items(), strict=True):
        for place, (_, interval, usual) in enumerate(points):
            ends = [interval.estimate if end is None else end for end in (interval.low, interval.high)]
            ax.plot([place, place], [100 * end for end in ends], color=GREY, linewidth=1.2)
            ax.plot(place, 100 * interval.estimate, "s" if usual else "o", color=COLOURS[1 if usual else 0], zorder=3)
        ax.plot(range(len(points)), [100 * point[1].estimate for point in points], color=COLOURS[0], linewidth=1.0)
        ax.set_xticks(range(len(points)), [value for value, *_ in points], rotation=45 if len(points) > 3 else 0)
        plain_tick_labels(ax.get_xticklabels())
        ax.set_title(name, fontsize=9)
        ax.margins(x=0.12)
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"{metric} (%), 95 % interval")
    return save_figure(figure, path)


def plot_robustness(
    curves: Mapping[str, Sequence[tuple[float, Interval]]],
    markers: Mapping[str, tuple[float, Mapping[str, float]]],
    metric: str,
    path: str | Path,
) -> Path:
    """Draw a metric of several models against the word error rate of their transcripts, one column wide.

    Args:
        curves: name of a model -> (word error rate, the metric's interval there), shares in [0, 1], in rising order.
            Where there is an interval, it is drawn as a band.
        markers: name of other transcripts, e.g. a recogniser's -> (their word error rate, model -> the metric).
        metric: its name, for the axis.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.

    Raises:
        ValueError: there is no model, or one without a point.
    """
    percent = {name: [(100 * rate, interval) for rate, interval in points] for name, points in curves.items()}
    ax, colours = _draw_curves(percent, metric, height=3.6)
    for index, (label, (rate, heights)) in enumerate(markers.items()):
        shape = {"marker": "osD^vP"[index % 6], "markersize": 5, "markeredgewidth": 0.6, "linestyle": "none"}
        for name, height in heights.items():
            ax.plot(100 * rate, 100 * height, color=colours[name], markeredgecolor="white", zorder=3, **shape)
        ax.plot([], [], color=GREY, markeredgecolor="white", label=_in_legend(label), **shape)
    ax.set_xlabel("word error rate (%)", fontsize=8)
    return _save_curves(ax, path)


def plot_learning_curve(curves: Mapping[str, Sequence[tuple[float, Interval]]], metric: str, path: str | Path) -> Path:
    """Draw a metric of several models against how much data they were trained on, one column wide.

    Args:
        curves: name of a model -> (training utterances, the metric's interval there, shares in [0, 1]), in rising
            order. Where there is an interval, it is drawn as a band.
        metric: its name, for the axis.
        path: the PNG file to write; its folder is made.

    Returns:
        The path written.

    Raises:
        ValueError: there is no model, or one without a point.
    """
    ax, _ = _draw_curves(curves, metric, height=2.8)
    ax.set_xlabel("training utterances", fontsize=8)
    ax.set_xlim(left=0)
    return _save_curves(ax, path)


def _draw_curves(
    curves: Mapping[str, Sequence[tuple[float, Interval]]], metric: str, height: float
) -> tuple[Any, dict[str, str]]:
    """Draw the curve of each model with its band, one column wide; return the axes and the models' colours."""
    if not curves or not all(curves.values()):
        raise ValueError("curves holds nothing to draw")
    ax = Figure(figsize=(3.5, height), dpi=2 * DPI, layout="constrained").subplots()
    ax.set_ylabel(f"{metric} (%), 95 % interval", fontsize=8)
    ax.tick_params(labelsize=8)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    styles = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(curves)}
    for index, (name, points) in enumerate(curves.items()):
        places = [place for place, _ in points]
        low, high = (
            [100 * getattr(i, end) if i.low is not None else math.nan for _, i in points] for end in ("low", "high")
        )
        ax.fill_between(places, low, high, color=colours[name], alpha=0.1, linewidth=0)
        heights = [100 * interval.estimate for _, interval in points]
        line = {"color": colours[name], "linestyle": styles[index % len(styles)], "linewidth": 1.4}
        ax.plot(places, heights, marker=".", ms=3, label=_in_legend(name), **line)
    return ax, colours


def _in_legend(name: str) -> str:
    """A long name in several lines, so that two columns of a legend are no wider than the figure."""
    return textwrap.fill(name, 28)


def _save_curves(ax, path: str | Path) -> Path:
    """Put the legend of all curves and markers above, and write the figure."""
    legend = ax.figure.legend(loc="outside upper center", ncols=2, fontsize=7, frameon=False, handlelength=2.6)
    plain_tick_labels(legend.get_texts())
    return save_figure(ax.figure, path)
