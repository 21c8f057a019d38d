"""The figures of runs and tables; each function writes `path` as `drawing.save_figure` does, and returns the file.

Metrics and differences are shares in [0, 1], drawn in per cent.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from scipy.stats import binomtest

from modeling_m4ser.losses_m4ser import LOSSES
from trainer.evaluation.calibration import ReliabilityCurve
from trainer.evaluation.drawing import COLOURS, DPI, GREY, MATH, legend_above, model_styles, new_axes, save_figure
from trainer.evaluation.significance import Interval

# In the order of the paper's Fig. 8, with the symbols of Eq. 20-22.
LOSS_TITLES = {
    "loss": "Total",
    **{f"loss_{name}": loss.title for name, loss in LOSSES.items()},
    "loss_discriminator": r"Discriminator, $\mathcal{L}_{D}$",
    "loss_generator": r"Generator, $\mathcal{L}_{G}$ (dashed: $2\,\ln 2$)",
}
METRIC_TITLES = {"eval_wa": "WA", "eval_ua": "UA", "eval_weighted_f1": "weighted F1", "eval_macro_f1": "macro F1"}
#: Where the discriminator answers 0.5 on every invariant frame.
EQUILIBRIUM = 2 * math.log(2)
#: A bin of a reliability plot with fewer utterances says nothing, and is not drawn.
MIN_BIN = 5

Points = Sequence[tuple[float, Interval]]


def _series(log_history: Iterable[Mapping], key: str, axis: str) -> tuple[list[float], list[float]]:
    """The finite points of one logged quantity, as positions along `axis` and values."""
    points = [(entry[axis], entry[key]) for entry in log_history if key in entry and axis in entry]
    points = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    return [x for x, _ in points], [y for _, y in points]


def _draw_loss(ax: Axes, log_history: Sequence[Mapping], key: str, axis: str) -> None:
    """One loss in one panel; the total also shows its validation value, the generator's its equilibrium."""
    x, y = _series(log_history, key, axis)
    ax.plot(x, y, color=COLOURS[0], linewidth=1.3, marker="o" if len(x) < 30 else "", markersize=3, label="training")
    ax.set_title(LOSS_TITLES[key], fontsize=10, gid=MATH)
    eval_x, eval_y = _series(log_history, f"eval_{key}", axis)
    if eval_x:
        ax.plot(eval_x, eval_y, color=COLOURS[1], linewidth=1.3, marker="s", markersize=3, label="validation")
    if key == "loss_generator":
        ax.axhline(EQUILIBRIUM, color=GREY, linewidth=1.2, linestyle="--")
        low, high = ax.get_ylim()  # a hundredth around the equilibrium is no news
        ax.set_ylim(min(low, EQUILIBRIUM - 0.25), max(high, EQUILIBRIUM + 0.25))


def _draw_metrics(ax: Axes, log_history: Sequence[Mapping], keys: Sequence[str], axis: str) -> None:
    """The validation metrics in one panel, as percentages."""
    for index, key in enumerate(keys):
        x, y = _series(log_history, key, axis)
        # Where metrics coincide (WA and UA on balanced classes), the dashes and smaller marks of the later show both.
        line = {"linestyle": "-" if index < 2 else "--", "marker": "osD^"[index], "markersize": 5 - index}
        ax.plot(x, [100 * value for value in y], color=COLOURS[index], linewidth=1.3, label=METRIC_TITLES[key], **line)
    ax.set_title("Validation metrics (%)", fontsize=10)


def plot_loss_curves(log_history: Sequence[Mapping], path: str | Path, kept: int | None = None) -> Path:
    """Draw every named loss in its own panel and the validation metrics in one more, as the paper's Fig. 8.

    `log_history` is the trainer's; what it lacks, or is not finite, is left out. `kept` is the step that was kept.
    """
    log_history = list(log_history)
    axis = "step" if any("step" in entry for entry in log_history) else "epoch"
    losses = [key for key in LOSS_TITLES if _series(log_history, key, axis)[0]]
    metrics = [key for key in METRIC_TITLES if _series(log_history, key, axis)[0]]
    panels = len(losses) + bool(metrics)
    columns = min(3, max(1, panels))
    rows = max(1, math.ceil(panels / columns))
    figure, axes = new_axes(3.9 * columns, 2.7 * rows, rows, columns)
    for ax, key in zip(axes, losses, strict=False):
        _draw_loss(ax, log_history, key, axis)
    if metrics:
        _draw_metrics(axes[len(losses)], log_history, metrics, axis)
    for ax in axes[:panels]:
        if kept is not None and axis == "step":
            ax.axvline(kept, color=GREY, linewidth=1.2, linestyle=":", label="kept")
        ax.set_xlabel(axis, fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=axis == "step"))
        if len(ax.get_legend_handles_labels()[1]) > 1 + (kept is not None):
            ax.legend(fontsize=8, framealpha=0.8)
    for ax in axes[panels:]:
        ax.set_axis_off()
    if not panels:
        axes[0].text(0.5, 0.5, "no losses were logged", ha="center", va="center", color=GREY)
    return save_figure(figure, path)


def _draw_confusion(ax: Axes, shares: np.ndarray, texts: np.ndarray, names: Sequence[str], title: str | None) -> Any:
    """One confusion matrix, in per cent; return the image. A model that answers one class only is pointed out."""
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), text in np.ndenumerate(texts):
        colour = "white" if shares[row, column] > 55 else "black"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    answers = np.flatnonzero(np.nansum(shares, axis=0))
    if flagged := len(answers) == 1 and len(names) > 1:
        title = f"{title or ''}\nanswers {names[answers[0]]} only".strip()
    if title:
        ax.set_title(title, fontsize=10, pad=8, color="#B00020" if flagged else "black")
    # White lines between the cells.
    ax.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="both", length=0)
    return image


def _add_bar(figure: Any, image: Any, axes: Any) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("% of the true class", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def plot_confusion_matrix(
    matrix: Sequence[Sequence[float]], label_names: Sequence[str], path: str | Path, title: str | None = None
) -> Path:
    """Draw (classes, classes) counts, rows true, in per cent of the row with the counts below."""
    counts, names = np.asarray(matrix, dtype=float), label_names
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.zeros_like(counts), where=totals > 0)
    texts = np.empty(counts.shape, dtype=object)
    for row, column in np.ndindex(*counts.shape):
        texts[row, column] = f"{shares[row, column]:.1f}\n({counts[row, column]:,g})" if totals[row] else "–"

    size = 2.6 + 0.8 * len(names) + 0.05 * max(map(len, names))
    figure, (ax,) = new_axes(size + 0.6, size, grid=None)
    image = _draw_confusion(ax, shares, texts, names, title and textwrap.fill(title, width=round(9 * size)))
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 8 else {}
    ax.set_xticks(range(len(names)), names, **slant)
    ax.set_yticks(range(len(names)), [f"{name} ({total:,g})" for name, total in zip(names, totals[:, 0], strict=True)])
    ax.set_xlabel("predicted", fontsize=9)
    ax.set_ylabel("true (utterances)", fontsize=9)
    _add_bar(figure, image, ax)
    return save_figure(figure, path)


def plot_confusion_shares(panels: Mapping[str, np.ndarray], label_names: Sequence[str], path: str | Path) -> Path:
    """Draw (classes, classes) shares of several models beside each other, rows true, as the paper's Fig. 12.

    A row of NaN, of a class that nobody tested, is drawn as dashes.
    """
    size = len(label_names)
    columns = math.ceil(len(panels) / math.ceil(len(panels) / 4))  # four beside each other at most
    rows = math.ceil(len(panels) / columns)
    side = 0.7 + 0.45 * size
    figure, axes = new_axes(columns * side + 1.2, rows * (side + 0.5) + 0.3, rows, columns, grid=None)
    image: Any = None
    for index, (ax, (title, shares)) in enumerate(zip(axes, panels.items(), strict=False)):
        percent = 100 * np.asarray(shares, dtype=float)
        texts = np.array([["–" if np.isnan(share) else f"{share:.0f}" for share in row] for row in percent])
        image = _draw_confusion(ax, percent, texts, label_names, textwrap.fill(title, width=round(10 * side)))
        below, first = index + columns >= len(panels), index % columns == 0
        ax.set_xticks(range(size), label_names if below else [""] * size, rotation=90)
        ax.set_yticks(range(size), label_names if first else [""] * size)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("true", fontsize=9)
    _add_bar(figure, image, axes)
    return save_figure(figure, path)


def plot_reliability(curves: Mapping[str, ReliabilityCurve], path: str | Path) -> Path:
    """Draw how often the predicted class is right against how probable the model calls it, and how often it says so.

    On the diagonal the probabilities are right; below it the model is too sure. Bars are 95 % intervals (Wilson) of a
    bin; bins of fewer than `MIN_BIN` utterances are not drawn. The legend has the expected calibration error (ECE).
    """
    figure, (ax, below) = new_axes(4.6, 5.6, 2, sharex=True, height_ratios=[3, 1])
    ax.plot([0, 100], [0, 100], color=GREY, linewidth=1.2, linestyle="--", label="perfect calibration")
    for index, (name, curve) in enumerate(curves.items()):
        # Markers and line styles tell the curves apart in print too.
        colour = COLOURS[index % len(COLOURS)]
        style: dict[str, Any] = {"marker": "os^D"[index % 4], "linestyle": ("-", ":")[index % 2]}
        drawn = curve.utterances >= MIN_BIN
        x, y = 100 * curve.confidence[drawn], 100 * curve.accuracy[drawn]
        totals = curve.utterances[drawn]
        tests = [binomtest(round(k * n / 100), int(n)) for k, n in zip(y, totals, strict=True)]
        ends = np.array([test.proportion_ci(method="wilson")[:] for test in tests]).reshape(-1, 2).T * 100
        bars = np.maximum(0, [y - ends[0], ends[1] - y])
        label = f"{name}: ECE {100 * curve.error:.1f} %"
        ax.errorbar(x, y, bars, color=colour, markersize=4, linewidth=1.3, elinewidth=0.6, label=label, **style)
        edges = np.linspace(0, 100, len(drawn) + 1)
        below.stairs(curve.utterances, edges, color=colour, linestyle=style["linestyle"], linewidth=1.3)
    count = f"{int(next(iter(curves.values())).utterances.sum()):,} utterances"
    ax.set_title(f"{count}; bins under {MIN_BIN} are not drawn", fontsize=9)
    ax.set_ylabel("right (%)", fontsize=9)
    below.set_ylabel("utterances", fontsize=9)
    below.set_xlabel("probability of the predicted class (%)", fontsize=9)
    ax.set_ylim(-3, 103)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.legend(fontsize=8, framealpha=0.8, loc="upper left")
    return save_figure(figure, path)


def plot_risk_coverage(curve: np.ndarray, chosen: Mapping[str, float | None], path: str | Path) -> Path:
    """Draw how often the answers kept are right against the share kept, the most confident first.

    `curve` has rows (coverage, accuracy); `chosen` has both of the model's own decisions, the accuracy None where it
    decides nothing.
    """
    figure, (ax,) = new_axes(4.6, 3.4)
    drawn = 100 * curve[min(MIN_BIN, len(curve)) - 1 :]  # the share of fewer says nothing
    ax.plot(*drawn.T, color=COLOURS[0], linewidth=1.4, label="most confident first")
    ax.axhline(drawn[-1, 1], color=GREY, linewidth=1.2, linestyle=":", label=f"all: {drawn[-1, 1]:.1f} % right")
    if chosen["accuracy"] is not None:
        x, y = 100 * chosen["coverage"], 100 * chosen["accuracy"]
        ax.plot(x, y, "s", color=COLOURS[1], markersize=7, label=f"decided: {x:.0f} %, {y:.1f} % right")
    ax.set_title(f"{len(curve):,} test utterances", fontsize=9)
    ax.set_xlabel("answered (%)", fontsize=9)
    ax.set_ylabel("right of these (%)", fontsize=9)
    ax.set_xlim(0, 103)
    ax.legend(fontsize=8, framealpha=0.8, loc="best")
    return save_figure(figure, path)


def plot_label_distribution(counts_by_split: Mapping[str, Mapping[str, int]], path: str | Path) -> Path:
    """Draw how many utterances each emotion has in each split (or corpus), as the paper's Fig. 6."""
    labels = list(dict.fromkeys(label for counts in counts_by_split.values() for label in counts))
    values = {split: [counts.get(label, 0) for label in labels] for split, counts in counts_by_split.items()}
    thickness = 0.8 / len(values)
    height = max(2.2, 0.9 + len(labels) * max(0.45, 0.2 * len(values) + 0.12))
    figure, (ax,) = new_axes(7, height, grid="x")
    for index, (split, row) in enumerate(values.items()):
        places = np.arange(len(labels)) + (index - (len(values) - 1) / 2) * thickness
        name = f"{split} ({sum(row):,g})"
        bars = ax.barh(places, row, height=0.9 * thickness, color=COLOURS[index % len(COLOURS)], label=name)
        ax.bar_label(bars, labels=[f"{value:,g}" for value in row], padding=3, fontsize=8)
    ax.set_yticks(range(len(labels)), labels, fontsize=9)
    ax.invert_yaxis()  # the first label on top
    ax.set_xlabel("utterances", fontsize=9)
    ax.margins(x=0.1, y=0.02)  # room for the counts beside the longest bars
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    legend_above(figure, min(4, len(values)), 9)
    return save_figure(figure, path)


def plot_sensitivity(
    panels: Mapping[str, Sequence[tuple[Any, Interval, bool]]], metric: str, path: str | Path, note: str = ""
) -> Path:
    """Draw a metric against the values of one setting after the other, as the paper's Fig. 7.

    A panel has (value, the metric there, whether it is the value of all other panels), in the order of the axis.
    `note` says how it was trained.
    """
    figure, axes = new_axes(2.3 * len(panels) + 0.6, 3.1, 1, len(panels), grid="y", sharey=True)
    for ax, (name, points) in zip(axes, panels.items(), strict=True):
        for place, (_, interval, usual) in enumerate(points):
            ends = [interval.estimate if end is None else end for end in (interval.low, interval.high)]
            ax.plot([place, place], [100 * end for end in ends], color=GREY, linewidth=1.2)
            label, style = ("usual value", "s") if usual else ("other value", "o")
            ax.plot(place, 100 * interval.estimate, style, color=COLOURS[1 if usual else 0], zorder=3, label=label)
        ax.plot(range(len(points)), [100 * point[1].estimate for point in points], color=COLOURS[0], linewidth=1.0)
        values = [f"{value:g}" if isinstance(value, float) else f"{value}" for value, *_ in points]
        ax.set_xticks(range(len(points)), values, rotation=45 if len(points) > 3 else 0)
        ax.set_title(name, fontsize=9)
        ax.margins(x=0.12)
    axes[0].set_ylabel(f"{metric} (%), 95 % interval", fontsize=9)
    legend_above(figure, 2, title=note)
    return save_figure(figure, path)


def plot_robustness(
    curves: Mapping[str, Points],
    difference: tuple[str, Points] | None,
    markers: Mapping[str, tuple[float, Mapping[str, float]]],
    metric: str,
    path: str | Path,
) -> Path:
    """Draw a metric of several models against the word error rate, and below it one paired difference with its band.

    `curves` has points of models in rising order; `difference` is what is subtracted from what, and its points;
    `markers` are other transcripts, e.g. a recogniser's: their word error rate, and the metric by model.
    """
    panels = 1 + (difference is not None)
    figure, axes = new_axes(3.5, 2 + 1.9 * panels, panels, dpi=2 * DPI, sharex=True)
    styles = model_styles(curves)
    _draw_curves(axes[0], curves, styles, band=difference is None)
    axes[0].set_ylabel(f"{metric} (%)", fontsize=8)
    for index, (label, (rate, heights)) in enumerate(markers.items()):
        # Hollow and growing, so that marks at one place show through each other.
        shape = {"marker": "osD^vP"[index % 6], "markersize": 4 + index, "linestyle": "none", "fillstyle": "none"}
        for name, height in heights.items():
            axes[0].plot(rate, 100 * height, color=styles[name]["color"], zorder=3, **shape)
        axes[0].plot([], [], color=GREY, label=textwrap.fill(label, 28), **shape)
    legend_above(figure, 2, 7, handlelength=2.6)
    if difference is not None:
        name, points = difference
        _draw_curves(axes[1], {name: points}, {name: {"color": COLOURS[-1]}}, band=True)
        axes[1].axhline(0, color=GREY, linewidth=1)
        axes[1].set_title(name, fontsize=8)
        axes[1].set_ylabel(f"points of {metric},\n95 % interval", fontsize=8)
    axes[-1].xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:g}")
    axes[-1].set_xlabel("word error rate (%)", fontsize=8)
    return save_figure(figure, path)


def plot_learning_curve(curves: Mapping[str, Points], metric: str, path: str | Path) -> Path:
    """Draw a metric of several models against their training utterances, one column wide; intervals are bands."""
    figure, (ax,) = new_axes(3.5, 2.8, dpi=2 * DPI)
    _draw_curves(ax, curves, model_styles(curves), band=True)
    ax.set_ylabel(f"{metric} (%), 95 % interval", fontsize=8)
    ax.set_xlabel("training utterances", fontsize=8)
    ax.set_xlim(left=0)
    legend_above(figure, 2, 7, handlelength=2.6)
    return save_figure(figure, path)


def _draw_curves(ax: Axes, curves: Mapping[str, Points], styles: Mapping[str, Any], *, band: bool) -> None:
    """One curve a model, in per cent, with its interval as a band where asked."""
    for name, points in curves.items():
        places = [place for place, _ in points]
        if band:
            low, high = (
                [100 * getattr(i, end) if i.low is not None else math.nan for _, i in points] for end in ("low", "high")
            )
            ax.fill_between(places, low, high, color=styles[name]["color"], alpha=0.12, linewidth=0)
        heights = [100 * interval.estimate for _, interval in points]
        ax.plot(places, heights, marker=".", ms=3, linewidth=1.4, label=textwrap.fill(name, 28), **styles[name])


def plot_differences(
    rows: Mapping[str, tuple[float, float | None, float | None]], title: str, path: str | Path
) -> Path:
    """Draw differences of two models, (estimate, low, high), as a forest around zero; `title` says of which."""
    figure, (ax,) = new_axes(8, 1.1 + 0.36 * len(rows), grid="x")
    ax.axvline(0, color=GREY, linewidth=1)
    for place, (estimate, *ends) in enumerate(rows.values()):
        known = [100 * (estimate if end is None else end) for end in ends]
        clear = None not in ends and (known[0] > 0 or known[1] < 0)
        colour = COLOURS[0] if clear else GREY
        ax.plot(known, [place, place], color=colour, linewidth=1.6)
        ax.plot(100 * estimate, place, "o", color=colour, markersize=5)
    ax.set_yticks(range(len(rows)), [textwrap.fill(name, 60) for name in rows])
    ax.invert_yaxis()
    ax.set_xlabel("points, 95 % interval (blue: without 0)", fontsize=9)
    ax.set_title(title, fontsize=10)
    return save_figure(figure, path)
