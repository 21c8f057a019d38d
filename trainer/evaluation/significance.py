"""How sure a measured number is: intervals, comparisons of two models, Holm's correction, power.

Utterances of one speaker resemble one another, so whole **speakers** are drawn with replacement; the standard deviation
of a metric over the draws is its standard error. With few speakers the percentiles of the draws are far too narrow: of
three speakers, a 95 % interval of them holds the true value in 75 % of cases. So the standard error is corrected for
the number of speakers, and multiplied by Student's t with as many degrees of freedom as the speakers support. Intervals
of one metric are made on the logit scale, which keeps them within 0 and 1 and improves their coverage. The variance
over seeds is added; Satterthwaite's rule joins the degrees of freedom. In simulations the intervals held the true value
in 93 to 98 % of cases, with 3 to 24 speakers of equal or very unequal size; with two seeds that differ more than the
speakers do, in 88 %.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from trainer.evaluation.resampling import ClusteredCounts, Metric, as_metric, effective_clusters, variance_correction

REPORTED_METRICS = ("wa", "ua", "weighted_f1", "macro_f1")
REPLICATES = 2000
#: Effective speakers below which there is no interval: one of two speakers spans most of 0 to 1.
MINIMUM_CLUSTERS = 2.5


@dataclass(frozen=True)
class Interval:
    """A number with its confidence interval.

    Attributes:
        estimate: the metric; its mean over seeds, where there are several.
        low: the interval's lower end. It and the next three are None where there is no interval, see
            `bootstrap_interval`.
        high: its upper end.
        standard_error: of the estimate.
        degrees_of_freedom: of Student's t.
        clusters: how many speakers (or utterances) were drawn from.
        effective_clusters: how many equally large ones tell as much.
    """

    estimate: float
    low: float | None
    high: float | None
    standard_error: float | None
    degrees_of_freedom: float | None
    clusters: int
    effective_clusters: float

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as a dict."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison(Interval):
    """The difference of two models on the same utterances, first − second.

    Attributes:
        p_value: two-sided, of no difference. It is below 1 − level exactly where the interval leaves 0 out. Without an
            interval it is None, or 1 where the difference is 0.
        minimum_detectable_difference: the smallest true difference that such a comparison finds in 80 % of cases; None
            without an interval.
    """

    p_value: float | None
    minimum_detectable_difference: float | None


def bootstrap_interval(
    labels: ArrayLike,
    predictions: ArrayLike,
    metric: str | Metric,
    clusters: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> Interval:
    """Return a metric with its confidence interval, for other speakers (and other seeds) like these.

    There is **no interval** with fewer than `MINIMUM_CLUSTERS` effective speakers, or where all draws give one value,
    as when every utterance is right.

    Args:
        labels: (N,) classes, as numbers or names.
        predictions: (N,), or (S, N) for S seeds of one model. One seed does not tell how much the seed matters.
        metric: a key of `METRICS`, or a function from counts (..., C, C), rows true, to values in [0, 1].
        clusters: (N,) the speaker of each utterance; one with None is drawn by itself, as all are by default.
        seed: of the draws.
        replicates: number of draws.
        level: how often such intervals shall hold the true value.

    Raises:
        ValueError: shapes that do not fit, no utterance, or an unknown metric.
    """
    measured = _measure(ClusteredCounts(labels, [predictions], clusters), as_metric(metric), seed, replicates)
    if measured.standard_error is None:
        return measured
    center, slope = math.log(measured.estimate / (1 - measured.estimate)), measured.estimate * (1 - measured.estimate)
    reach = _quantile(level, measured) * measured.standard_error / slope
    low, high = (0.5 + 0.5 * math.tanh((center + change) / 2) for change in (-reach, reach))
    return Interval(**{**asdict(measured), "low": low, "high": high})


def paired_bootstrap(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    metric: str | Metric,
    clusters: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> Comparison:
    """Return the difference of two models, first − second, over the same draws of speakers.

    Args:
        labels: (N,) classes.
        first: (N,), or (S, N) for S seeds.
        second: the same seeds in the same order; or (N,) of a model without seeds.
        metric: see `bootstrap_interval`, which also says when there is no interval.
        clusters: see there.
        seed: see there.
        replicates: see there.
        level: see there.

    Raises:
        ValueError: see there; or unequal numbers of seeds.
    """
    measured = _measure(ClusteredCounts(labels, [first, second], clusters), as_metric(metric), seed, replicates)
    difference, error = measured.estimate, measured.standard_error
    if error is None:
        p_value = 1.0 if difference == 0 else None
        return Comparison(**asdict(measured), p_value=p_value, minimum_detectable_difference=None)
    reach, freedom = _quantile(level, measured) * error, measured.degrees_of_freedom
    ends = {"low": max(-1.0, difference - reach), "high": min(1.0, difference + reach)}
    return Comparison(
        **{**asdict(measured), **ends},
        p_value=float(2 * stats.t.sf(abs(difference) / error, freedom)),
        minimum_detectable_difference=minimum_detectable_difference(error, freedom, level=level),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for their number by Holm's method: all claims below 0.05 hold together at 5 %.

    A comparison without a p value (None) keeps none, but counts.

    Raises:
        ValueError: a p value outside [0, 1].
    """
    if any(p is not None and not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"p values lie between 0 and 1, got {list(p_values)}")
    adjusted, largest = list(p_values), 0.0
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[index] = largest
    return adjusted


def minimum_detectable_difference(
    standard_error: float, degrees_of_freedom: float | None = None, *, power: float = 0.8, level: float = 0.95
) -> float:
    """Return the smallest true difference that a two-sided test finds with this power: 2.80 standard errors or more.

    Args:
        standard_error: of the difference. For two models on the same utterances it is `Comparison.standard_error`; on
            different ones, the root of the sum of both squared `Interval.standard_error`.
        degrees_of_freedom: of Student's t; the normal distribution by default.
        power: how often such a difference shall be found.
        level: 1 − the level of the test.
    """
    freedom = math.inf if degrees_of_freedom is None else degrees_of_freedom
    return float((stats.t.ppf((1 + level) / 2, freedom) + stats.t.ppf(power, freedom)) * standard_error)


def size_needed(difference: float, standard_error: float, size: int, *, power: float = 0.8, level: float = 0.95) -> int:
    """Return how many speakers (or utterances) it takes to find a difference with this power.

    Args:
        difference: the true difference to find.
        standard_error: of the difference measured on `size` speakers.
        size: `Comparison.clusters`.
        power: see `minimum_detectable_difference`.
        level: see there.

    Raises:
        ValueError: the difference is 0.
    """
    if difference == 0:
        raise ValueError("no number of speakers finds a difference of 0")
    smallest = minimum_detectable_difference(standard_error, power=power, level=level)
    return math.ceil(size * (smallest / difference) ** 2)


def breakdown(
    labels: ArrayLike,
    predictions: ArrayLike,
    groups: Sequence[Any],
    metrics: Sequence[str] = REPORTED_METRICS,
) -> dict[str, dict[str, float]]:
    """Return the metrics of each group of utterances, such as a speaker or a sex.

    Args:
        labels: (N,) classes.
        predictions: (N,), or (S, N) for S seeds, over which the mean is taken.
        groups: (N,) the group of each utterance; those with None are left out.
        metrics: keys of `METRICS`.

    Returns:
        Name of the group -> `utterances`, and each metric over the classes that the group has.

    Raises:
        ValueError: see `bootstrap_interval`.
    """
    counts = ClusteredCounts(labels, [predictions], groups)
    columns = {str(name): column for column, name in enumerate(counts.names) if name is not None}
    return {
        name: {
            "utterances": int(counts.sizes[columns[name]]),
            **{key: float(as_metric(key)(counts.matrices[0, :, columns[name]]).mean()) for key in metrics},
        }
        for name in sorted(columns)
    }


def describe_test(
    labels: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str | None],
    sex_of: Callable[[str], str | None] | None = None,
) -> dict[str, Any]:
    """Return what `results.json` says of a test beside its metrics.

    Args:
        labels: (N,) classes.
        predictions: (N,), or (S, N).
        speakers: (N,); None where unknown.
        sex_of: the sex of a speaker, for a corpus that tells.

    Returns:
        `intervals`: the `method`, and for each metric its `Interval`; `breakdown`: the metrics by `speaker` and, where
        it is known, by `sex`.
    """
    intervals = {key: bootstrap_interval(labels, predictions, key, speakers) for key in REPORTED_METRICS}
    known = {speaker for speaker in speakers if speaker is not None}
    method: dict[str, Any] = {
        "name": "cluster bootstrap, Student's t on the logit scale",
        "clusters": "speaker" if known else "utterance",
        "level": 0.95,
        "replicates": REPLICATES,
        "seed": 0,
    }
    if intervals["wa"].effective_clusters < MINIMUM_CLUSTERS:
        method["no_interval"] = f"{len(known)} speakers, or one with most of the utterances, tell too little of others"
    sexes = [None if sex_of is None or speaker is None else sex_of(speaker) for speaker in speakers]
    groups = {"speaker": breakdown(labels, predictions, speakers), "sex": breakdown(labels, predictions, sexes)}
    return {
        "intervals": {"method": method, **{key: interval.to_json() for key, interval in intervals.items()}},
        "breakdown": {name: rows for name, rows in groups.items() if rows},
    }


def _measure(counts: ClusteredCounts, metric: Metric, seed: int, replicates: int) -> Interval:
    """The metric (of two models, its difference) with its standard error, and no interval yet."""
    signs = np.array([1, -1])[: len(counts.matrices), None]
    by_seed = (signs * metric(counts.matrices.sum(2))).sum(0)
    shares, seeds = counts.shares, len(by_seed)
    effective = effective_clusters(shares)
    error, freedom = None, None
    if effective >= MINIMUM_CLUSTERS:
        drawn = [(signs * metric(part)).sum(1).mean(-1) for part in counts.draws(seed, replicates)]
        over_clusters = float(np.var(np.concatenate(drawn), ddof=1)) * variance_correction(shares)
        over_seeds = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
        total = over_clusters + over_seeds
        if total > 1e-24:  # rounding leaves some 1e-33 where all draws are alike
            error = math.sqrt(total)
            freedom = total**2 / (over_clusters**2 / (effective - 1) + over_seeds**2 / max(1, seeds - 1))
    return Interval(float(by_seed.mean()), None, None, error, freedom, len(shares), effective)


def _quantile(level: float, measured: Interval) -> float:
    """How many standard errors an interval reaches to either side."""
    return float(stats.t.ppf((1 + level) / 2, measured.degrees_of_freedom))
