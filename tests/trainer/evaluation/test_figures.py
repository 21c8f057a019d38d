"""Figures: valid images, whatever is missing from what they show."""

import math

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.helpers.pictures import boxes_of, check_png, overlap
from trainer.evaluation.calibration import ReliabilityCurve
from trainer.evaluation.figures import (
    LOSS_TITLES,
    METRIC_TITLES,
    plot_confusion_matrix,
    plot_confusion_shares,
    plot_differences,
    plot_label_distribution,
    plot_learning_curve,
    plot_loss_curves,
    plot_reliability,
    plot_risk_coverage,
    plot_robustness,
    plot_sensitivity,
)
from trainer.evaluation.significance import Interval

EIGHT = ["neutral", "calm", "happy / excited", "sad", "angry", "fearful", "disgusted", "very surprised"]
KNOWN = Interval(0.5, 0.4, 0.6, 0.05, 9.0, 10, 10.0)
UNKNOWN = Interval(0.3, None, None, None, None, 2, 2.0)


def history():
    entries = [{"step": step, "epoch": step / 10} | dict.fromkeys(LOSS_TITLES, 5 / step) for step in range(1, 21)]
    metrics = [{"step": step, "eval_loss": 2.0} | dict.fromkeys(METRIC_TITLES, step / 20) for step in (10, 20)]
    return [*entries, *metrics, {"step": 20, "train_runtime": 3.0, "train_loss": 1.0}]


def panels(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.axison}


def test_loss_curves(tmp_path, drawn):
    check_png(plot_loss_curves(history(), tmp_path / "new" / "folder" / "losses.png", kept=10))
    shown = panels(drawn[0])
    assert set(shown) == {*LOSS_TITLES.values(), "Validation metrics (%)"}
    dashed, kept = shown[LOSS_TITLES["loss_generator"]].get_lines()[-2:]
    assert dashed.get_ydata()[0] == pytest.approx(2 * math.log(2))
    assert all(ax.get_lines()[-1].get_xdata()[0] == 10 for ax in shown.values())
    assert kept.get_label() == "kept"
    total = shown["Total"].get_lines()
    assert list(total[0].get_xdata()) == list(range(1, 21))
    assert list(total[1].get_xdata()) == [10, 20]
    metrics = shown["Validation metrics (%)"].get_lines()
    assert [line.get_label() for line in metrics] == [*METRIC_TITLES.values(), "kept"]
    assert metrics[0].get_ydata()[-1] == 100
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("left_out", ["loss", "loss_generator", "metrics", "all but one", "step"])
def test_missing_keys(tmp_path, drawn, left_out):
    missing = {"metrics": list(METRIC_TITLES), "all but one": [*list(LOSS_TITLES)[1:], *METRIC_TITLES]}
    keys = missing.get(left_out, [left_out])
    entries = [{key: value for key, value in entry.items() if key not in keys} for entry in history()]
    plot_loss_curves(entries, tmp_path / "losses.png")
    shown = panels(drawn[0])
    assert not {LOSS_TITLES.get(key, key) for key in keys} & set(shown)
    if left_out == "step":  # only the entries with an epoch can be placed
        assert shown["Total"].get_xlabel() == "epoch"


def test_values_that_are_not_finite_are_left_out_and_nothing_is_said_so(tmp_path, drawn):
    entries = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": math.inf}]
    entries += [{"step": 4, "loss": 1.0, "loss_generator": math.nan}, {"step": 5, "loss": None}]
    plot_loss_curves(entries, tmp_path / "losses.png")
    assert list(panels(drawn[0])) == ["Total"]
    assert list(panels(drawn[0])["Total"].get_lines()[0].get_ydata()) == [2.0, 1.0]
    check_png(plot_loss_curves([{"step": 3, "train_runtime": 1.0}], tmp_path / "losses.png"))
    assert not panels(drawn[1])
    assert [text.get_text() for text in drawn[1].axes[0].texts] == ["no losses were logged"]


def test_a_game_at_its_equilibrium_looks_calm(tmp_path, drawn):
    plot_loss_curves([{"step": step, "loss_generator": 1.39 + step / 1000} for step in range(9)], tmp_path / "x.png")
    low, high = panels(drawn[0])[LOSS_TITLES["loss_generator"]].get_ylim()
    assert high - low >= 0.5


def test_confusion_matrix(tmp_path, drawn):
    path = plot_confusion_matrix([[3, 1], [0, 0]], ["angry", "costs $5 or $6"], tmp_path / "matrix.png", "Fold 1")
    check_png(path)
    ax = drawn[0].axes[0]
    # Row by row: 3 of 4 and 1 of 4; a class without utterances has no percentages.
    assert [text.get_text() for text in ax.texts] == ["75.0\n(3)", "25.0\n(1)", "–", "–"]
    assert ax.get_ylabel().startswith("true")
    assert (ax.get_xlabel(), ax.get_title()) == ("predicted", "Fold 1")


def test_eight_long_names_do_not_overlap(tmp_path, drawn):
    counts = np.full((8, 8), 12) + np.diag([1500] * 8)
    check_png(plot_confusion_matrix(counts.tolist(), EIGHT, tmp_path / "matrix.png", "A title " * 12))
    ax = drawn[0].axes[0]
    assert not overlap(boxes_of(drawn[0], ax.texts))
    assert not overlap(boxes_of(drawn[0], ax.get_yticklabels()))


def test_confusions_side_by_side_are_per_cent_of_the_true_class(tmp_path, drawn):
    shares = np.array([[0.75, 0.25], [np.nan, np.nan]])
    check_png(plot_confusion_shares(dict.fromkeys("abcde", shares), ["angry", "costs $5"], tmp_path / "matrices.png"))
    titled = [ax for ax in drawn[0].axes if ax.get_title()]
    assert [ax.get_title() for ax in titled] == list("abcde")
    assert [text.get_text() for text in titled[4].texts] == ["75", "25", "–", "–"]


def test_a_model_that_answers_one_class_only_is_flagged(tmp_path, drawn):
    plot_confusion_matrix([[3, 0], [2, 0]], ["neutral", "sad"], tmp_path / "one.png", "Test")
    plot_confusion_shares({"M4SER": np.array([[0.0, 1.0], [np.nan, np.nan]])}, ["neutral", "sad"], tmp_path / "x.png")
    assert [figure.axes[0].get_title() for figure in drawn] == ["Test\nanswers neutral only", "M4SER\nanswers sad only"]


def test_label_distribution(tmp_path, drawn):
    counts = {"train": dict.fromkeys(EIGHT, 4000), "validation": {"calm": 3}, "a test split": dict.fromkeys(EIGHT, 0)}
    check_png(plot_label_distribution(counts, tmp_path / "labels.png"))
    ax = drawn[0].axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == EIGHT
    assert [bar.get_width() for bar in ax.containers[1]] == [0, 3, 0, 0, 0, 0, 0, 0]
    assert not overlap(boxes_of(drawn[0], ax.texts))


def test_risk_coverage_shows_the_curve_the_choice_and_what_all_answers_are_worth(tmp_path, drawn):
    curve = np.stack([np.arange(1, 9) / 8, [1, 1, 1, 1, 0.8, 0.9, 0.7, 0.6]], -1)
    check_png(plot_risk_coverage(curve, {"coverage": 0.75, "accuracy": 0.9}, tmp_path / "risk.png"))
    check_png(plot_risk_coverage(curve[:1], {"coverage": 0.0, "accuracy": None}, tmp_path / "nothing.png"))
    line, everything, chosen = drawn[0].axes[0].get_lines()
    np.testing.assert_allclose(line.get_xydata(), 100 * curve[4:])
    assert everything.get_label() == "all: 60.0 % right"
    assert chosen.get_xydata().tolist() == [[75, 90]]
    assert [each.get_label() for each in drawn[1].axes[0].get_lines()] == ["most confident first", "all: 100.0 % right"]


def test_reliability_has_intervals_counts_and_the_error_and_hides_small_bins(tmp_path, drawn):
    nothing = math.nan
    curves = {
        "as trained": ReliabilityCurve(*map(np.array, ([0.2, 0.5, 0.9], [0.0, 0.25, 0.6], [4, 8, 10]))),
        "costs $5 or $6": ReliabilityCurve(
            *map(np.array, ([nothing, 0.5, nothing], [nothing, 0.5, nothing], [0, 14, 0]))
        ),
    }
    check_png(plot_reliability(curves, tmp_path / "deep" / "reliability.png"))
    ax, below = drawn[0].axes
    first, second = ax.containers
    np.testing.assert_allclose(first[0].get_xydata(), [[50, 25], [90, 60]])
    np.testing.assert_allclose(second[0].get_xydata(), [[50, 50]])
    assert first[0].get_color() != second[0].get_color()
    assert first[0].get_marker() != second[0].get_marker()
    # Wilson's interval of 6 of 10.
    np.testing.assert_allclose(first[2][0].get_segments()[1][:, 1], [31.27, 83.18], atol=0.01)
    assert [part.get_data().values.tolist() for part in below.patches] == [[4, 8, 10], [0, 14, 0]]
    # 4 × 0.2 + 8 × 0.25 + 10 × 0.3 over 22: hidden bins count too.
    names = ["perfect calibration", "as trained: ECE 26.4 %", "costs $5 or $6: ECE 0.0 %"]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == set(names)
    assert ax.get_title() == "22 utterances; bins under 5 are not drawn"


def test_sensitivity_draws_each_value_at_its_height_with_its_interval(tmp_path, drawn):
    seventy = Interval(0.7, None, None, None, None, 2, 2.0)
    path = plot_sensitivity(
        {"α": [(0.1, KNOWN, True), (1.0, seventy, False)], "γ": [(0.01, KNOWN, True)]},
        "UA",
        tmp_path / "x.png",
        "2 epochs",
    )
    width, height = check_png(path)
    assert width > height
    first, second = drawn[0].axes
    assert (first.get_title(), second.get_title()) == ("α", "γ")
    assert [label.get_text() for label in first.get_xticklabels()] == ["0.1", "1"]
    lines = [np.asarray(line.get_xydata(), dtype=float) for line in first.lines]
    assert any(np.allclose(line, [[0, 40], [0, 60]]) for line in lines)
    assert any(np.allclose(line, [[0, 50], [1, 70]]) for line in lines)
    assert "UA" in first.get_ylabel()
    assert [line.get_xdata()[0] for line in first.lines if line.get_marker() == "s"] == [0]
    assert drawn[0].legends[0].get_title().get_text() == "2 epochs"


def test_robustness_draws_models_marks_and_the_difference_with_its_band(tmp_path, drawn):
    curves = {"M4SER": [(0.0, KNOWN), (0.6, KNOWN)], "costs $5 or $6": [(0.0, UNKNOWN), (0.6, UNKNOWN)]}
    markers = {"Whisper": (0.28, {"M4SER": 0.45, "costs $5 or $6": 0.25})}
    difference = "M4SER − concat", [(0.0, Interval(0.1, -0.1, 0.3, 0.05, 9.0, 10, 10.0)), (0.6, KNOWN)]
    check_png(plot_robustness(curves, difference, markers, "W-F1", tmp_path / "deep" / "robustness.png"))
    ax, below = drawn[0].axes
    first, second, marker, other, _ = ax.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[0, 50], [0.6, 50]])
    np.testing.assert_allclose(second.get_xydata(), [[0, 30], [0.6, 30]])
    np.testing.assert_allclose([*marker.get_xydata(), *other.get_xydata()], [[0.28, 45], [0.28, 25]])
    assert (marker.get_color(), other.get_color()) == (first.get_color(), second.get_color())
    assert first.get_color() != second.get_color()
    assert not ax.collections
    np.testing.assert_allclose(below.get_lines()[0].get_xydata(), [[0, 10], [0.6, 50]])
    corners = {tuple(np.round(corner, 6)) for corner in below.collections[0].get_paths()[0].vertices}
    assert corners == {(0, -10), (0, 30), (0.6, 40), (0.6, 60)}
    assert below.get_title() == "M4SER − concat"
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [*curves, "Whisper"]


def test_five_curves_leave_the_legend_free_and_fit_a_column(tmp_path, drawn):
    rows = ("M4SER", "w/o AED & AEC", "speech & text + concat", "only text", "only speech")
    names = (*(f"openai/whisper-{size}.en" for size in ("tiny", "base")), "Whisper with beam search where greedy fails")
    markers = {name: (0.2, dict.fromkeys(rows, 0.5)) for name in names}
    path = plot_robustness({row: [(0.1, KNOWN)] for row in rows}, None, markers, "W-F1", tmp_path / "x.png")
    assert check_png(path)[0] <= 3.8 * drawn[0].dpi
    assert len({line.get_linestyle() for line in drawn[0].axes[0].get_lines()[:5]}) >= 4
    renderer = FigureCanvasAgg(drawn[0]).get_renderer()
    drawn[0].draw(renderer)
    legend = drawn[0].legends[0].get_window_extent(renderer)
    assert not legend.overlaps(drawn[0].axes[0].get_window_extent(renderer))


def test_a_learning_curve_starts_at_no_data(tmp_path, drawn):
    known = [Interval(e, e - 0.1, e + 0.1, 0.05, 9.0, 10, 10.0) for e in (0.4, 0.5)]
    curves = {"M4SER": [(450, known[0]), (1800, known[1])], "concat": [(450, UNKNOWN)]}
    check_png(plot_learning_curve(curves, "W-F1", tmp_path / "deep" / "learning_curve.png"))
    (ax,) = drawn[0].axes
    first, second = ax.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[450, 40], [1800, 50]])
    np.testing.assert_allclose(second.get_xydata(), [[450, 30]])
    band, nothing = (part.get_paths() for part in ax.collections)
    assert {tuple(np.round(corner, 6)) for corner in band[0].vertices} == {(450, 30), (450, 50), (1800, 40), (1800, 60)}
    assert not nothing
    assert ax.get_xlim()[0] == 0
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("training utterances", "W-F1 (%), 95 % interval")


def test_differences_are_lines_around_zero(tmp_path, drawn):
    rows = {"MELD": (0.03, 0.01, 0.05), "RAVDESS": (-0.01, -0.02, 0.01), "tiny": (0.5, None, None)}
    check_png(plot_differences(rows, "M4SER − concat", tmp_path / "forest.png"))
    (ax,) = drawn[0].axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(rows)
    _, *lines = ax.get_lines()
    np.testing.assert_allclose([line.get_xdata() for line in lines[::2]], [[1, 5], [-2, 1], [50, 50]])
    # Whatever is clear of zero has a colour of its own.
    assert lines[0].get_color() != lines[2].get_color() == lines[4].get_color()
