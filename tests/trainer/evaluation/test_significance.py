"""Intervals and comparisons: coverage on simulated speakers and seeds, an independent implementation, known numbers."""

import functools
import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from trainer.evaluation.metrics import emotion_metrics
from trainer.evaluation.significance import (
    METRICS,
    REPORTED_METRICS,
    ClusteredCounts,
    bootstrap_interval,
    breakdown,
    describe_test,
    effective_clusters,
    holm,
    minimum_detectable_difference,
    paired_bootstrap,
    variance_correction,
)

#: Speakers as in RAVDESS' tests, as in a corpus of 24, and six main speakers with 18 guests, as in MELD.
SPEAKERS = {
    "three": [60] * 3,
    "ten": [60] * 10,
    "twenty-four": [50] * 24,
    "six and guests": [100, 95, 90, 80, 75, 70] + [5] * 18,
}
#: How far speakers, seeds and speakers by seeds differ, in logits of the chance to be right.
SPREADS = {"alike": (0.0, 0.0, 0.0), "speakers": (0.5, 0.0, 0.0), "speakers and seeds": (0.5, 0.2, 0.2)}


def simulate(rng, sizes, spreads, models=1, seeds=1):
    """Labels (N,), predictions (models, seeds, N) and speakers (N,) of one corpus; the models are equally good."""
    speakers, (by_speaker, by_seed, by_both) = np.repeat(np.arange(len(sizes)), sizes), spreads
    labels = rng.choice(4, len(speakers), p=(0.4, 0.3, 0.2, 0.1))
    shape = (models, seeds, len(sizes))
    skill = 1 + by_speaker * rng.standard_normal(len(sizes)) + by_seed * rng.standard_normal((models, seeds, 1))
    skill = skill + by_both * rng.standard_normal(shape)
    # Half of the luck lies in the utterance, the same for all models and seeds.
    shared = rng.random((*shape[:2], len(speakers))) < 0.5
    luck = np.where(shared, rng.random(len(speakers)), rng.random(shared.shape))
    right = luck < 1 / (1 + np.exp(-skill[..., speakers]))
    wrong = (labels + rng.integers(1, 4, right.shape)) % 4
    return labels, np.where(right, labels, wrong), speakers


@functools.cache
def true_value(spreads, metric):
    """The metric over all speakers, averaged over all seeds."""
    labels, predictions, _ = simulate(np.random.default_rng(99), [20] * 2000, spreads, seeds=100)
    counts = [np.bincount(labels * 4 + row, minlength=16).reshape(4, 4) for row in predictions[0]]
    return METRICS[metric](np.array(counts)).mean()


def coverage(speakers, spread, metric, seeds, draws):
    """In which share of corpora the interval, where there is one, holds the true value."""
    rng, held = np.random.default_rng(7), []
    for _ in range(draws):
        labels, predictions, clusters = simulate(rng, SPEAKERS[speakers], SPREADS[spread], seeds=seeds)
        interval = bootstrap_interval(labels, predictions[0], metric, clusters, replicates=500)
        if interval.low is not None:  # once in hundreds of draws, three speakers are equally right
            held.append(interval.low <= true_value(SPREADS[spread], metric) <= interval.high)
    assert len(held) > 0.98 * draws
    return np.mean(held)


@pytest.mark.parametrize(
    ("speakers", "spread", "metric", "seeds"),
    [
        ("three", "speakers", "ua", 1),
        ("twenty-four", "speakers", "wa", 1),
        ("six and guests", "speakers", "macro_f1", 1),
        ("ten", "speakers and seeds", "weighted_f1", 3),
    ],
)
def test_intervals_hold_the_true_value(speakers, spread, metric, seeds):
    assert 0.91 <= coverage(speakers, spread, metric, seeds, draws=200) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("speakers", "spread", "metric", "seeds", "most"),
    [
        *itertools.product(["three", "ten", "twenty-four"], ["alike", "speakers"], ["wa", "macro_f1"], [1], [0.97]),
        # With unequal speakers and several seeds, intervals are rather too wide.
        *itertools.product(["six and guests"], ["alike", "speakers"], ["ua"], [1], [0.985]),
        *itertools.product(["ten", "twenty-four"], ["speakers and seeds"], ["ua"], [3, 5], [0.985]),
    ],
)
def test_intervals_hold_the_true_value_as_often_as_they_say(speakers, spread, metric, seeds, most):
    assert 0.93 <= coverage(speakers, spread, metric, seeds, draws=1000) <= most


@pytest.mark.parametrize(("speakers", "spread", "seeds"), [("ten", "speakers", 1), ("ten", "speakers and seeds", 3)])
def test_equal_models_are_seldom_told_apart(speakers, spread, seeds):
    rng, found = np.random.default_rng(8), 0
    for _ in range(200):
        labels, (first, second), clusters = simulate(rng, SPEAKERS[speakers], SPREADS[spread], models=2, seeds=seeds)
        found += paired_bootstrap(labels, first, second, "ua", clusters, replicates=300).p_value < 0.05
    assert found <= 20


@pytest.fixture
def two():
    """Labels, predictions of two models and speakers of 2,000 utterances by 100 speakers; the first model is better."""
    rng = np.random.default_rng(0)
    labels, speakers = rng.integers(0, 4, 2000), rng.integers(0, 100, 2000)
    chances = (0.66 + 0.1 * rng.standard_normal(100))[speakers]
    models = [
        np.where(rng.random(2000) < chances - loss, labels, (labels + rng.integers(1, 4, 2000)) % 4)
        for loss in (0.0, 0.06)
    ]
    return labels, *models, speakers


def test_the_interval_by_hand():
    """Three equal speakers, 10 % apart: Student's t with two degrees of freedom, on the logit scale."""
    labels, speakers = np.zeros(300, dtype=int), np.repeat(["a", "b", "c"], 100)
    predictions = np.concatenate([np.arange(100) >= right for right in (50, 60, 70)]).astype(int)
    interval = bootstrap_interval(labels, predictions, "wa", speakers, replicates=40_000)
    assert interval.estimate == pytest.approx(0.6)
    assert interval.standard_error == pytest.approx(0.1 / math.sqrt(3), rel=0.02)  # sd 0.1 (n - 1) over root 3
    assert interval.degrees_of_freedom == pytest.approx(2)
    reach = stats.t.ppf(0.975, 2) * interval.standard_error / (0.6 * 0.4)
    for end, change in ((interval.low, -reach), (interval.high, reach)):
        assert end == pytest.approx(1 / (1 + math.exp(-(math.log(0.6 / 0.4) + change))))
    narrower = bootstrap_interval(labels, predictions, "wa", speakers, replicates=40_000, level=0.5)
    assert interval.low < narrower.low < 0.6 < narrower.high < interval.high
    # Of two models, the difference itself, in points: here to one that is always right.
    paired = paired_bootstrap(labels, predictions, labels, "wa", speakers, replicates=40_000)
    assert (paired.estimate, paired.standard_error) == pytest.approx((-0.4, interval.standard_error))
    reach = stats.t.ppf(0.975, 2) * paired.standard_error
    assert (paired.low, paired.high) == pytest.approx((-0.4 - reach, -0.4 + reach))
    assert paired.p_value == pytest.approx(2 * stats.t.cdf(-0.4 / paired.standard_error, 2))


def test_unequal_speakers_support_fewer_degrees_of_freedom(two):
    """Four times 100 utterances and 16 times 10: (4 × 100² + 16 × 10²)² / (4 × 100⁴ + 16 × 10⁴) − 1."""
    labels, first, *_ = two
    speakers = np.repeat(np.arange(20), [100] * 4 + [10] * 16)
    interval = bootstrap_interval(labels[:560], first[:560], "wa", speakers)
    assert interval.clusters == 20
    assert interval.effective_clusters == pytest.approx(41_600**2 / 400_160_000)
    assert interval.degrees_of_freedom == pytest.approx(interval.effective_clusters - 1)


def test_seeds_add_their_variance():
    """Many utterances, all right but for a share that the seed decides: what is left is the spread over seeds."""
    labels = np.zeros(30_000, dtype=int)
    predictions = np.stack([(np.arange(30_000) % 100 < wrong).astype(int) for wrong in (20, 30, 40)])
    interval = bootstrap_interval(labels, predictions, "wa")
    assert interval.estimate == pytest.approx(0.7)
    assert interval.standard_error == pytest.approx(0.1 / math.sqrt(3), rel=0.01)
    assert interval.degrees_of_freedom == pytest.approx(2, rel=0.01)
    alone = bootstrap_interval(labels, predictions[1], "wa")
    assert alone.standard_error == pytest.approx(math.sqrt(0.7 * 0.3 / 30_000), rel=0.1)


def test_what_models_share_cancels_in_pairs(two):
    labels, first, second, speakers = two
    paired = paired_bootstrap(labels, first, second, "ua", speakers).standard_error
    single = [bootstrap_interval(labels, part, "ua", speakers).standard_error for part in (first, second)]
    assert paired < math.hypot(*single)
    seeds = np.stack([first, second, first])
    # Seed by seed the same: nothing is left to chance.
    assert paired_bootstrap(labels, seeds, seeds, "ua", speakers).p_value == 1
    assert paired_bootstrap(labels, seeds, seeds[[1, 2, 0]], "ua", speakers).p_value > 0.5
    assert paired_bootstrap(labels, seeds, first, "ua", speakers).estimate == pytest.approx(
        paired_bootstrap(labels, second, first, "ua", speakers).estimate / 3
    )


def test_p_value_and_interval_say_the_same(two):
    labels, first, second, speakers = two
    compared = paired_bootstrap(labels, first, second, "wa", speakers)
    backwards = paired_bootstrap(labels, second, first, "wa", speakers)
    assert backwards.estimate == -compared.estimate
    assert backwards.p_value == pytest.approx(compared.p_value)
    assert backwards.low == pytest.approx(-compared.high)
    assert backwards.low != paired_bootstrap(labels, second, first, "wa", speakers, seed=1).low
    edge = 1 - compared.p_value
    assert paired_bootstrap(labels, first, second, "wa", speakers, level=edge).low == pytest.approx(0, abs=1e-9)
    expected = minimum_detectable_difference(compared.standard_error, compared.degrees_of_freedom)
    assert compared.minimum_detectable_difference == expected


def test_too_few_speakers_have_no_interval():
    labels, predictions = [0, 1] * 50, [0, 0] * 25 + [0, 1] * 25
    for speakers in (["a"] * 100, ["a"] * 50 + ["b"] * 50, ["a"] * 94 + ["b", "c", "d"] * 2):
        interval = bootstrap_interval(labels, predictions, "wa", speakers)
        assert interval.estimate == 0.75
        assert (interval.low, interval.high, interval.standard_error) == (None, None, None)
        compared = paired_bootstrap(labels, labels, predictions, "wa", speakers)
        assert (compared.estimate, compared.low, compared.p_value) == (0.25, None, None)
    assert bootstrap_interval(labels, predictions, "wa", ["a"] * 34 + ["b"] * 33 + ["c"] * 33).low is not None


def test_where_all_draws_agree_there_is_no_interval():
    labels = [0, 1] * 20
    assert bootstrap_interval(labels, labels, "ua").low is None
    assert bootstrap_interval(labels, [1, 0] * 20, "wa").low is None
    same = paired_bootstrap(labels, labels, labels, "ua")
    assert (same.estimate, same.low, same.p_value, same.minimum_detectable_difference) == (0, None, 1, None)
    assert paired_bootstrap(labels, labels, [1, 0] * 20, "wa").p_value is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02, None, 0.01]) == [0.04, None, pytest.approx(0.03)]
    assert holm([]) == []


def test_power_by_hand():
    assert minimum_detectable_difference(0.01) == pytest.approx(0.028016, abs=1e-6)
    assert minimum_detectable_difference(0.01, power=0.5, level=0.9) == pytest.approx(0.016449, abs=1e-6)
    assert minimum_detectable_difference(0.01, 2) == pytest.approx(0.01 * (4.302653 + 1.060660), abs=1e-6)


def test_breakdown_is_each_groups_own(two):
    labels, first, _, speakers = two
    groups = [None if speaker == 3 else f"{speaker % 2}" for speaker in speakers]
    rows = breakdown(labels, first, groups)
    assert list(rows) == ["0", "1"]
    for name, row in rows.items():
        own = np.array([group == name for group in groups])
        metrics = emotion_metrics(first[own], labels[own], list("abcd"))
        assert row == pytest.approx({"utterances": own.sum(), **{key: metrics[key] for key in REPORTED_METRICS}})
    by_seed = breakdown([0, 0, 1], [[0, 1, 1], [0, 0, 0]], ["a", "a", "b"], ["wa"])
    assert by_seed == {"a": {"utterances": 2, "wa": 0.75}, "b": {"utterances": 1, "wa": 0.5}}


def test_describe_test(two):
    labels, first, _, speakers = two
    names = [f"{speaker:03}" for speaker in speakers]
    described = json.loads(json.dumps(describe_test(labels, first, names, lambda name: "mf"[int(name) % 2])))
    assert set(described["intervals"]) == {"method", *REPORTED_METRICS}
    assert described["intervals"]["ua"] == asdict(bootstrap_interval(labels, first, "ua", names))
    assert described["intervals"]["method"]["clusters"] == "speaker"
    assert "no_interval" not in described["intervals"]["method"]
    assert len(described["breakdown"]["speaker"]) == 100
    assert described["breakdown"]["sex"] == breakdown(labels, first, ["mf"[speaker % 2] for speaker in speakers])


def test_describe_test_of_few_or_unknown_speakers():
    labels, predictions = [0, 1] * 10, [0, 1, 0, 0] * 5
    described = describe_test(labels, predictions, ["a", "b"] * 10)
    assert described["intervals"]["wa"]["low"] is None
    assert described["intervals"]["method"]["no_interval"].startswith("2 speakers")
    assert set(described["breakdown"]) == {"speaker"}
    unknown = describe_test(labels, predictions, [None] * 20, lambda name: "male")
    assert unknown["intervals"]["method"]["clusters"] == "utterance"
    assert unknown["intervals"]["wa"] == asdict(bootstrap_interval(labels, predictions, "wa", [None] * 20))
    assert unknown["intervals"]["wa"]["clusters"] == 20
    assert unknown["breakdown"] == {}


@pytest.fixture
def few():
    """Labels, predictions of two seeds and speakers of 12 utterances; class 3 is predicted and never true."""
    labels = np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 1, 0])
    predictions = np.array([[0, 1, 1, 1, 2, 3, 0, 0, 2, 0, 2, 0], [0, 0, 1, 2, 2, 2, 1, 1, 2, 3, 1, 0]])
    return labels, predictions, list("aaaabbbbcccc")


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_those_of_emotion_metrics(few, name):
    labels, predictions, _ = few
    values = METRICS[name](ClusteredCounts(labels, [predictions], None).matrices.sum(2))
    expected = [emotion_metrics(row, labels, list("wxyz"))[name] for row in predictions]
    np.testing.assert_allclose(values, [expected])
    words = np.array(["angry", "happy", "neutral", "sad"])
    by_name = ClusteredCounts(words[labels].tolist(), [words[predictions]], None).matrices.sum(2)
    np.testing.assert_array_equal(METRICS[name](by_name), values)


@pytest.mark.parametrize("clusters", ["speakers", None])
def test_draws_are_those_of_resampled_utterances(few, clusters):
    """Mean and covariance of the drawn counts are those of the multinomial draw of whole clusters."""
    labels, predictions, speakers = few
    speakers = speakers if clusters else list(range(len(labels)))
    counts = ClusteredCounts(labels, [predictions], speakers if clusters else None)
    drawn = counts.draws(0, 20_000).reshape(20_000, -1)
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


def test_unknown_speakers_stand_for_themselves_and_utterances_that_are_alike_share_a_column(few):
    labels, predictions, _ = few
    counts = ClusteredCounts(labels, [predictions], ["a"] * 4 + [None] * 8)
    assert counts.names == ["a"] + [None] * 8
    np.testing.assert_allclose(counts.shares, np.array([4] + [1] * 8) / 12)
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
    # Speakers of one value each, of variance 1: the weighted mean's variance, over what the bootstrap gives on average.
    shares = np.array([0.5, 0.2, 0.2, 0.05, 0.05])
    deviations = shares[:, None] * (np.eye(5) - shares)
    assert variance_correction(shares) == pytest.approx(np.square(shares).sum() / np.square(deviations).sum())


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
def test_counts_of_bad_input_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        ClusteredCounts(*arguments)
