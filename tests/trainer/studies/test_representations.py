"""Means and weights are those of the model's own output, words stand where their tokens do, DTW is a plain loop's."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from tests.helpers.tiny import tiny_model
from tests.trainer.studies.conftest import answer
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.studies.representations import (
    REPRESENTATIONS,
    SPACES,
    UtteranceWeights,
    dtw_distance,
    embed,
    mean_interval,
    mean_representations,
    representation_weights,
    scaled,
    speech_text_distances,
    untrained_fusion,
    weights_of,
    word_tokens,
)

RNG = np.random.default_rng(0)


def test_means_are_over_the_frames_of_each_utterance(setting):
    model, rows, collator = setting
    # Another corpus may number its emotions otherwise; they are not read.
    found = mean_representations(model, [{**row, "emotion": 77} for row in rows], collator)
    assert set(found) == {"pooled", *REPRESENTATIONS}
    for index, row in enumerate(rows):
        output = answer(model, collator, row)
        np.testing.assert_allclose(found["pooled"][index], output["pooled"][0], atol=1e-5)
        for name, field in REPRESENTATIONS.items():
            np.testing.assert_allclose(found[name][index], output[field][0].mean(0), atol=1e-5)


def test_a_row_without_them_has_no_means_of_specific_and_invariant(setting):
    _, rows, collator = setting
    for row in ("speech & text + concat", "w/o MIR"):
        assert set(mean_representations(tiny_model("whisper", **ABLATIONS[row]), rows[:2], collator)) == {"pooled"}


def test_weights_are_the_sums_of_sizes(setting):
    model, rows, collator = setting
    weights, output = representation_weights(model, rows[1], collator), answer(model, collator, rows[1])
    plain = [sum(abs(value) for value in frame) for frame in output["text_hidden"][0].tolist()]
    np.testing.assert_allclose(weights.text, plain, rtol=1e-5)
    for name, field in (("speech", "speech_hidden"), ("speech_specific",) * 2, ("text_specific",) * 2):
        np.testing.assert_allclose(getattr(weights, name), output[field][0].abs().sum(-1), rtol=1e-5)
    assert weights.predicted == output["logits"][0].argmax()
    np.testing.assert_array_equal(weights_of(np.array([[1.0, -2.0], [0.0, 0.5]])), [3, 0.5])
    np.testing.assert_allclose(scaled(np.array([3.0, 5.0, 4.0])), [0, 1, 0.5])
    np.testing.assert_array_equal(scaled(np.array([2.0, 2.0])), [0, 0])


def test_words_have_their_tokens(setting):
    processor = setting[2].processor
    text = "I can't  believe IT, xyz"
    ids = processor(text=text)["input_ids"][0].tolist()
    found = word_tokens(text, processor)
    assert [word for word, *_ in found] == ["i", "can't", "believe", "it", "xyz"]
    for word, first, last in found:
        assert processor.decode_transcript(ids[first:last]).replace(" ", "") == word
    # Together they are all tokens but the special ones at both ends.
    assert [token for _, first, last in found for token in range(first, last)] == list(range(1, len(ids) - 1))
    assert word_tokens("", processor) == []


def test_an_untrained_fusion_keeps_the_encoders(setting):
    model, _, _ = setting
    control = untrained_fusion(model, 5)
    for name, tensor in model.state_dict().items():
        if "_encoder." in name:
            assert torch.equal(tensor, control.state_dict()[name]), name
    trained, random = (m.m4ser.fusion.joint_projection.weight for m in (model, control))
    assert not torch.equal(trained, random)
    assert torch.equal(random, untrained_fusion(model, 5).m4ser.fusion.joint_projection.weight)
    assert not torch.equal(random, untrained_fusion(model, 6).m4ser.fusion.joint_projection.weight)


def test_the_layout_shows_groups_and_is_the_same_again():
    points = np.random.default_rng(0).normal(size=(20, 5)) + np.repeat([[0.0], [40.0]], 10, 0)
    placed = embed(points, 3)
    assert placed.shape == (20, 2)
    np.testing.assert_array_equal(placed, embed(points, 3))
    distances = np.linalg.norm(placed[:, None] - placed[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(1) // 10
    assert nearest.tolist() == [0] * 10 + [1] * 10
    with pytest.raises(ExperimentError, match="at least 4 utterances, not 3"):
        embed(points[:3])


@pytest.fixture
def warping():
    pytest.importorskip("dtaidistance", reason="the extra `analysis` is not installed")


def warped(first, second):
    """The least sum of squares over all paths, and the lengths that a path with this sum may have."""
    costs = {(-1, -1): (0.0, {0})}
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            before = [costs[place] for place in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if place in costs]
            least = min(cost for cost, _ in before)
            steps = {step + 1 for cost, lengths in before if math.isclose(cost, least) for step in lengths}
            costs[i, j] = least + (a - b) ** 2, steps
        costs.pop((-1, -1), None)
    return costs[len(first) - 1, len(second) - 1]


@pytest.mark.parametrize("lengths", [(1, 1), (1, 7), (9, 4), (12, 30)])
def test_the_distance_is_that_of_a_plain_loop(warping, lengths):
    first, second = (RNG.normal(size=length) for length in lengths)
    squares, steps = warped(scaled(first), scaled(second))
    assert any(dtw_distance(first, second) == pytest.approx(math.sqrt(squares / step)) for step in steps)


def test_tempo_and_scale_do_not_count_and_shape_does(warping):
    first = RNG.normal(size=20)
    assert dtw_distance(first, np.repeat(7 * first + 3, 3)) == pytest.approx(0, abs=1e-7)
    assert dtw_distance(first, -first) > 0.05
    assert dtw_distance(first, RNG.normal(size=33)) <= 1


def test_the_special_tokens_do_not_count(warping):
    words, frames = RNG.normal(size=6), RNG.normal(size=30)
    weights = UtteranceWeights(np.repeat(words, 4), np.array([99.0, *words, -99.0]), frames, -frames, 0)
    found = speech_text_distances(weights)
    assert set(found) == set(SPACES)
    assert found["encoders, H"] == pytest.approx(0, abs=1e-7)
    assert found["cross-modal, H^(spe)"] == dtw_distance(frames, -frames) > 0


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "dtaidistance", None)
    with pytest.raises(ExperimentError, match=r"dtaidistance: pip install .*analysis"):
        dtw_distance(np.ones(3), np.ones(3))


def test_intervals_are_students():
    values = RNG.normal(size=12)
    mean, low, high = mean_interval(values)
    reach = stats.t.ppf(0.975, 11) * values.std(ddof=1) / math.sqrt(12)
    assert (mean, low, high) == pytest.approx((values.mean(), values.mean() - reach, values.mean() + reach))
    assert mean_interval([0.5]) == (0.5, None, None)
    assert mean_interval([0.5, 0.5]) == (0.5, None, None)
