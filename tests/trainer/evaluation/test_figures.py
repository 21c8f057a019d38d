"""Figures: valid images, whatever is missing from the history."""

import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from trainer.evaluation import figures
from trainer.evaluation.calibration import ReliabilityCurve
from trainer.evaluation.figures import (
    LOSS_TITLES,
    METRIC_TITLES,
    plot_confusion_matrix,
    plot_label_distribution,
    plot_learning_curve,
    plot_loss_curves,
    plot_reliability,
    plot_robustness,
    plot_sensitivity,
)
from trainer.evaluation.significance import Interval

EIGHT = ["neutral", "calm", "happy / excited", "sad", "angry", "fearful", "disgusted", "very surprised"]


def history():
    entries = [{"step": step, "epoch": step / 10} | dict.fromkeys(LOSS_TITLES, 5 / step) for step in range(1, 21)]
    metrics = [{"step": step, "eval_loss": 2.0} | dict.fromkeys(METRIC_TITLES, step / 20) for step in (10, 20)]
    return [*entries, *metrics, {"step": 20, "train_runtime": 3.0, "train_loss": 1.0}]


def check_png(path):
    """The file is a PNG with something drawn on white; returns its width and height."""
    assert path.stat().st_size > 0
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
        assert pixels.min() < 128
        assert pixels.max() == 255
        return image.size


@pytest.fixture
def drawn(monkeypatch):
    """The figures as matplotlib objects, caught where they are saved."""
    caught, save = [], figures.save_figure

    def catch(figure, path):
        caught.append(figure)
        return save(figure, path)

    monkeypatch.setattr(figures, "save_figure", catch)
    return caught


def panels(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.axison}


def test_loss_curves(tmp_path, drawn):
    path = plot_loss_curves(history(), tmp_path / "new" / "folder" / "losses.png")
    check_png(path)
    shown = panels(drawn[0])
    assert set(shown) == {*LOSS_TITLES.values(), "Validation metrics (%)"}
    dashed = shown[LOSS_TITLES["loss_generator"]].get_lines()[-1]
    assert dashed.get_ydata()[0] == pytest.approx(2 * math.log(2))
    total = shown["Total"].get_lines()
    assert list(total[0].get_xdata()) == list(range(1, 21))
    assert list(total[1].get_xdata()) == [10, 20]
    assert [line.get_label() for line in shown["Validation metrics (%)"].get_lines()] == list(METRIC_TITLES.values())
    assert shown["Validation metrics (%)"].get_lines()[0].get_ydata()[-1] == 100


@pytest.mark.parametrize("left_out", [*LOSS_TITLES, "metrics", "all but one", "step"])
def test_missing_keys(tmp_path, drawn, left_out):
    missing = {"metrics": list(METRIC_TITLES), "all but one": [*list(LOSS_TITLES)[1:], *METRIC_TITLES]}
    keys = missing.get(left_out, [left_out])
    entries = [{key: value for key, value in entry.items() if key not in keys} for entry in history()]
    check_png(plot_loss_curves(entries, tmp_path / "losses.png"))
    shown = panels(drawn[0])
    assert not {LOSS_TITLES.get(key, key) for key in keys} & set(shown)
    if left_out == "step":  # only the entries with an epoch can be placed
        assert shown["Total"].get_xlabel() == "epoch"


def test_values_that_are_not_finite_are_left_out(tmp_path, drawn):
    entries = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": math.inf}]
    entries += [{"step": 4, "loss": 1.0, "loss_generator": math.nan}, {"step": 5, "loss": None}]
    check_png(plot_loss_curves(entries, tmp_path / "losses.png"))
    shown = panels(drawn[0])
    assert set(shown) == {"Total"}
    assert list(shown["Total"].get_lines()[0].get_ydata()) == [2.0, 1.0]


@pytest.mark.parametrize("entries", [[], [{"step": 3, "train_runtime": 1.0}]])
def test_empty_history_says_so(tmp_path, drawn, entries):
    check_png(plot_loss_curves(entries, tmp_path / "losses.png"))
    assert not panels(drawn[0])
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["no losses were logged"]


def test_confusion_matrix(tmp_path, drawn):
    path = plot_confusion_matrix([[3, 1], [0, 0]], ["angry", "costs $5 or $6"], tmp_path / "matrix.png", "Fold 1")
    check_png(path)
    ax = drawn[0].axes[0]
    # Row by row: 3 of 4 and 1 of 4; a class without utterances has no percentages.
    assert [text.get_text() for text in ax.texts] == ["75.0\n(3)", "25.0\n(1)", "–", "–"]
    assert ax.get_ylabel().startswith("true")
    assert ax.get_xlabel() == "predicted"
    assert ax.get_title() == "Fold 1"


def test_eight_long_names_do_not_overlap(tmp_path, drawn):
    counts = np.full((8, 8), 12) + np.diag([1500] * 8)
    check_png(plot_confusion_matrix(counts.tolist(), EIGHT, tmp_path / "matrix.png", "A title " * 12))
    figure = drawn[0]
    renderer = FigureCanvasAgg(figure).get_renderer()
    cells = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    names = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    for boxes in (cells, names):
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize("matrix", [[[1, 2]], [[1, 2], [3, -1]], [[1, 2], [3, math.nan]], [[1]]])
def test_confusion_matrix_refuses_nonsense(tmp_path, matrix):
    with pytest.raises(ValueError, match="matrix"):
        plot_confusion_matrix(matrix, ["a", "b"], tmp_path / "matrix.png")


def test_label_distribution(tmp_path, drawn):
    counts = {"train": dict.fromkeys(EIGHT, 4000), "validation": {"calm": 3}, "a test split": dict.fromkeys(EIGHT, 0)}
    check_png(plot_label_distribution(counts, tmp_path / "labels.png"))
    ax = drawn[0].axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == EIGHT
    assert [bar.get_width() for bar in ax.containers[1]] == [0, 3, 0, 0, 0, 0, 0, 0]
    renderer = FigureCanvasAgg(drawn[0]).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    check_png(plot_label_distribution({"one": {"only": 1}}, tmp_path / "one.png"))


@pytest.mark.parametrize("counts", [{}, {"train": {}}, {"train": {"sad": math.nan}}, {"train": {"sad": -1}}])
def test_label_distribution_refuses_nonsense(tmp_path, counts):
    with pytest.raises(ValueError, match="counts_by_split"):
        plot_label_distribution(counts, tmp_path / "labels.png")


def test_pyplot_is_left_alone(tmp_path):
    from matplotlib import pyplot

    plot_loss_curves(history(), tmp_path / "losses.png")
    assert pyplot.get_fignums() == []


def test_reliability(tmp_path, drawn):
    nothing = math.nan
    curves = {
        "as trained": ReliabilityCurve(*map(np.array, ([nothing, 0.5, 0.9], [nothing, 0.25, 0.6], [0, 4, 10]))),
        "costs $5 or $6": ReliabilityCurve(
            *map(np.array, ([nothing, 0.5, nothing], [nothing, 0.5, nothing], [0, 14, 0]))
        ),
    }
    check_png(plot_reliability(curves, tmp_path / "deep" / "reliability.png"))
    ax, below = drawn[0].axes
    diagonal, first, second = ax.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 100]
    np.testing.assert_allclose(first.get_xydata(), [[50, 25], [90, 60]])
    np.testing.assert_allclose(second.get_xydata(), [[50, 50]])
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()
    assert [part.get_data().values.tolist() for part in below.patches] == [[0, 4, 10], [0, 14, 0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["right probabilities", *curves]


def test_no_curve_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no curve"):
        plot_reliability({}, tmp_path / "reliability.png")


# Sensitivity


def test_sensitivity_draws_each_value_at_its_height_with_its_interval(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.append(figure) or path)
    with_ends = Interval(0.5, 0.4, 0.6, 0.05, 9.0, 10, 10.0)
    without = Interval(0.7, None, None, None, None, 2, 2.0)
    plot_sensitivity(
        {"α": [("0.1", with_ends, True), ("1", without, False)], "γ": [("0.01", with_ends, True)]}, "UA", "x"
    )
    first, second = drawn[0].axes
    assert (first.get_title(), second.get_title()) == ("α", "γ")
    assert [label.get_text() for label in first.get_xticklabels()] == ["0.1", "1"]
    lines = [np.asarray(line.get_xydata(), dtype=float) for line in first.lines]
    assert any(np.allclose(line, [[0, 40], [0, 60]]) for line in lines)
    assert any(np.allclose(line, [[0, 50], [1, 70]]) for line in lines)
    assert "UA" in first.get_ylabel()
    squares = [line for line in first.lines if line.get_marker() == "s"]
    assert [line.get_xdata()[0] for line in squares] == [0]


def test_sensitivity_is_a_picture(tmp_path):
    point = Interval(0.5, 0.4, 0.6, 0.05, 9.0, 10, 10.0)
    panels = {name: [(str(value), point, value == 0.1) for value in (0.01, 0.1, 0.5, 1)] for name in "αβγλ"}
    width, height = check_png(plot_sensitivity(panels, "UA", tmp_path / "deep" / "sensitivity.png"))
    assert width > 2 * height
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_sensitivity({"α": []}, "UA", tmp_path / "x.png")


# Robustness


def test_robustness_draws_curves_with_bands_and_each_model_s_marker(tmp_path, drawn):
    known, unknown = Interval(0.5, 0.4, 0.6, 0.05, 9.0, 10, 10.0), Interval(0.3, None, None, None, None, 2, 2.0)
    curves = {"M4SER": [(0.0, known), (0.6, known)], "costs $5 or $6": [(0.0, unknown), (0.6, unknown)]}
    markers = {"Whisper": (0.28, {"M4SER": 0.45, "costs $5 or $6": 0.25})}
    check_png(plot_robustness(curves, markers, "W-F1", tmp_path / "deep" / "robustness.png"))
    (ax,) = drawn[0].axes
    first, second, marker, other, _ = ax.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[0, 50], [60, 50]])
    np.testing.assert_allclose(second.get_xydata(), [[0, 30], [60, 30]])
    np.testing.assert_allclose([*marker.get_xydata(), *other.get_xydata()], [[28, 45], [28, 25]])
    assert (marker.get_color(), other.get_color()) == (first.get_color(), second.get_color())
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() != second.get_linestyle()
    band, nothing = (part.get_paths() for part in ax.collections)
    assert {tuple(np.round(corner, 6)) for corner in band[0].vertices} == {(0, 40), (0, 60), (60, 40), (60, 60)}
    assert not nothing
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [*curves, "Whisper"]


def test_five_curves_leave_the_legend_free_and_fit_a_column(tmp_path, drawn):
    point = Interval(0.5, 0.4, 0.6, 0.05, 9.0, 10, 10.0)
    rows = ("M4SER", "w/o AED & AEC", "speech & text + concat", "only text", "only speech")
    names = (*(f"openai/whisper-{size}.en" for size in ("tiny", "base")), "Whisper with beam search where greedy fails")
    markers = {name: (0.2, dict.fromkeys(rows, 0.5)) for name in names}
    width, _ = check_png(plot_robustness({row: [(0.1, point)] for row in rows}, markers, "W-F1", tmp_path / "x.png"))
    assert width <= 3.8 * drawn[0].dpi
    assert len({line.get_linestyle() for line in drawn[0].axes[0].get_lines()[:5]}) >= 4
    renderer = FigureCanvasAgg(drawn[0]).get_renderer()
    drawn[0].draw(renderer)
    legend = drawn[0].legends[0].get_window_extent(renderer)
    assert not legend.overlaps(drawn[0].axes[0].get_window_extent(renderer))


# Learning curve


def test_a_learning_curve_starts_at_no_data(tmp_path, drawn):
    known = [Interval(e, e - 0.1, e + 0.1, 0.05, 9.0, 10, 10.0) for e in (0.4, 0.5)]
    curves = {"M4SER": [(450, known[0]), (1800, known[1])], "concat": [(450, known[1])]}
    check_png(plot_learning_curve(curves, "W-F1", tmp_path / "deep" / "learning_curve.png"))
    (ax,) = drawn[0].axes
    first, second = ax.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[450, 40], [1800, 50]])
    np.testing.assert_allclose(second.get_xydata(), [[450, 50]])
    band = ax.collections[0].get_paths()[0]
    assert {tuple(np.round(corner, 6)) for corner in band.vertices} == {(450, 30), (450, 50), (1800, 40), (1800, 60)}
    assert ax.get_xlim()[0] == 0
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("training utterances", "W-F1 (%), 95 % interval")


@pytest.mark.parametrize("curves", [{}, {"M4SER": []}])
def test_curves_of_nothing_are_refused(tmp_path, curves):
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_robustness(curves, {}, "W-F1", tmp_path / "x.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_learning_curve(curves, "W-F1", tmp_path / "x.png")
