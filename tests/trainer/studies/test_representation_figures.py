"""The figures show what they are given, and no words lie on each other."""

import numpy as np
import pytest

from tests.helpers.pictures import boxes_of, check_png, overlap
from trainer.studies.representation_figures import ReadText, plot_embeddings, plot_weights
from trainer.studies.representations import UtteranceWeights

LOOKS_AT_PICTURES = True
RNG = np.random.default_rng(0)


def read_text(words, frames=40):
    """A text whose words have two tokens each."""
    places = [(word, 1 + 2 * index, 3 + 2 * index) for index, word in enumerate(words)]
    tokens = RNG.normal(size=2 * len(words) + 2)
    weights = UtteranceWeights(RNG.normal(size=frames), tokens, *RNG.normal(size=(2, frames)), 0)
    return ReadText("costs $5", places, weights)


def test_points_keep_their_colour_through_all_panels(tmp_path, drawn):
    first, second = RNG.normal(size=(6, 2)), RNG.normal(size=(3, 2))
    panels = {"a": (first, ["sad", "happy"] * 3), "b": (second, ["happy", "angry", "happy"])}
    check_png(plot_embeddings(panels, tmp_path / "new" / "points.png", "what to see"))
    left, right = drawn[0].axes
    legend = drawn[0].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["sad", "happy", "angry"]
    assert legend.get_title().get_text() == "what to see"
    sad, happy, _ = left.collections
    np.testing.assert_array_equal(sad.get_offsets(), first[::2])
    np.testing.assert_array_equal(right.collections[1].get_offsets(), second[[0, 2]])
    np.testing.assert_array_equal(happy.get_facecolor(), right.collections[1].get_facecolor())


@pytest.mark.parametrize("words", [["oh", "that's", "amusing"], ["extraordinarily", "a"] * 25], ids=["short", "long"])
def test_words_stand_under_their_tokens_and_apart(tmp_path, drawn, words):
    text = read_text(words)
    check_png(plot_weights([text, text], 4.0, tmp_path / "weights.png"))
    figure = drawn[0]
    strips = figure.subfigs[1].axes
    labels = strips[3].get_xticklabels()
    assert [label.get_text() for label in labels] == words
    # Tokens are equal shares of the time; the first word has the second and third.
    assert strips[3].get_xticks()[0] == pytest.approx(4.0 * 2 / (2 * len(words) + 2))
    assert not overlap(boxes_of(figure, labels))
    above = figure.subfigs[0].axes[3].get_xticklabels()
    (title,) = boxes_of(figure, [strips[0].title])
    assert not any(box.overlaps(title) for box in boxes_of(figure, above))


def test_strips_are_scaled_and_special_tokens_left_out(tmp_path, drawn):
    text = read_text(["oh", "no"])
    plot_weights([text], 2.0, tmp_path / "weights.png")
    speech, tokens, *_ = (ax.collections[0].get_array().squeeze() for ax in drawn[0].subfigs[0].axes)
    assert tokens.mask.tolist() == [True, False, False, False, False, True]
    assert (tokens.min(), tokens.max()) == (speech.min(), speech.max()) == (0, 1)
    assert speech.argmax() == text.weights.speech.argmax()
