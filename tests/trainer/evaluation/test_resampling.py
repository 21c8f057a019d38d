"""The fast bootstrap: the same metrics as scikit-learn's, the same draws as resampled utterances."""

import itertools

import numpy as np
import pytest

from trainer.evaluation.metrics import emotion_metrics
from trainer.evaluation.resampling import (
    METRICS,
    ClusteredCounts,
    as_metric,
    effective_clusters,
    variance_correction,
)


@pytest.fixture
def few():
    """Labels, predictions of two seeds and speakers of 12 utterances; class 3 is predicted and never true."""
    labels = np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 1, 0])
    predictions = np.array([[0, 1, 1, 1, 2, 3, 0, 0, 2, 0, 2, 0], [0, 0, 1, 2, 2, 2, 1, 1, 2, 3, 1, 0]])
    return labels, predictions, list("aaaabbbbcccc")


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_those_of_emotion_metrics(few, name):
    labels, predictions, _ = few
    values = as_metric(name)(ClusteredCounts(labels, [predictions], None).matrices.sum(2))
    expected = [emotion_metrics(row, labels, list("wxyz"))[name] for row in predictions]
    np.testing.assert_allclose(values, [expected])


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"unknown metric 'f1'; known: wa, accuracy, ua"):
        as_metric("f1")


def test_names_count_as_numbers_do(few):
    labels, predictions, speakers = few
    names = np.array(["angry", "happy", "neutral", "sad"])
    by_number = ClusteredCounts(labels, [predictions], speakers).matrices
    by_name = ClusteredCounts(names[labels].tolist(), [names[predictions]], np.array(speakers)).matrices
    np.testing.assert_array_equal(by_number, by_name)


@pytest.mark.parametrize("clusters", ["speakers", None])
def test_draws_are_those_of_resampled_utterances(few, clusters):
    """Mean and covariance of the drawn counts are those of the multinomial draw of whole clusters."""
    labels, predictions, speakers = few
    speakers = speakers if clusters else list(range(len(labels)))
    counts = ClusteredCounts(labels, [predictions], speakers if clusters else None)
    drawn = np.concatenate(list(counts.draws(0, 20_000))).reshape(20_000, -1)
    single = ClusteredCounts(labels, [predictions], speakers).matrices
    single = np.moveaxis(single, 2, 0).reshape(len(set(speakers)), -1)
    np.testing.assert_allclose(drawn.mean(0), single.sum(0), atol=0.1)
    deviations = single - single.mean(0)
    np.testing.assert_allclose(np.cov(drawn.T, ddof=0), deviations.T @ deviations, atol=0.3)
    # A draw has as many clusters as there are, each whole.
    if clusters:
        whole = {sum(single[list(some)]).tobytes() for some in itertools.product(range(3), repeat=3)}
        assert {row.astype(single.dtype).tobytes() for row in drawn[:500]} == whole
    else:
        assert (drawn.sum(-1) == 2 * len(labels)).all()


def test_draws_come_in_parts_of_the_same_number(few, monkeypatch):
    counts = ClusteredCounts(few[0], [few[1]], few[2])
    whole = np.concatenate(list(counts.draws(3, 50)))
    monkeypatch.setattr("trainer.evaluation.resampling._WEIGHTS_AT_ONCE", 21)
    parts = list(counts.draws(3, 50))
    assert [len(part) for part in parts] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_unknown_speakers_stand_for_themselves(few):
    labels, predictions, _ = few
    counts = ClusteredCounts(labels, [predictions], ["a"] * 4 + [None] * 8)
    assert counts.names == ["a"] + [None] * 8
    assert counts.sizes.tolist() == [4] + [1] * 8
    np.testing.assert_allclose(counts.shares, np.array([4] + [1] * 8) / 12)


def test_utterances_that_are_alike_share_a_column(few):
    labels, predictions, _ = few
    counts = ClusteredCounts(labels, [predictions[0], predictions], None)
    assert counts.multiplicity.sum() == 12
    assert len(counts.multiplicity) == len({*zip(labels.tolist(), *predictions.tolist(), strict=True)})
    np.testing.assert_allclose(counts.shares, np.full(12, 1 / 12))
    # The model without seeds stands beside each seed of the other.
    np.testing.assert_array_equal(counts.matrices[0, 0], counts.matrices[0, 1])
    np.testing.assert_array_equal(counts.matrices[0, 0], counts.matrices[1, 0])


def test_effective_clusters_and_correction_by_hand():
    assert effective_clusters([7] * 5) == pytest.approx(5)
    # (4 + 1 + 1)² / (16 + 1 + 1)
    assert effective_clusters([2, 1, 1]) == pytest.approx(2)
    assert variance_correction(np.full(4, 0.25)) == pytest.approx(4 / 3)


def test_the_corrected_variance_is_right_on_average():
    """Speakers of very unequal size who each have one value: the truth is the variance of the weighted mean."""
    sizes = np.array([50, 20, 20, 5, 5])
    shares, rng = sizes / sizes.sum(), np.random.default_rng(0)
    values = rng.normal(size=(20_000, 5))
    deviations = shares * (values - (values @ shares)[:, None])
    bootstrap = (deviations**2).sum(-1)  # what infinitely many draws give, to first order
    assert variance_correction(shares) * bootstrap.mean() == pytest.approx((shares**2).sum(), rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([], [[]], None), "non-empty"),
        (([[0]], [[0]], None), r"shape \(1, 1\)"),
        (([0, 1], [[0]], None), r"shape \(1, 1\) for 2 labels"),
        (([0, 1], [[0, 1]], ["a"]), "1 clusters for 2 labels"),
        (([0, 1], [np.zeros((2, 2)), np.zeros((3, 2))], None), "the same seeds, got 2 and 3"),
    ],
)
def test_bad_input_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        ClusteredCounts(*arguments)
