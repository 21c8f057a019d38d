"""How sure a measured number is: intervals, comparisons of two models, Holm's correction, power.

Utterances of one speaker resemble one another, so whole **speakers** are drawn with replacement; the standard deviation
of a metric over the draws is its standard error. With few speakers the percentiles of the draws are far too narrow: of
three speakers, a 95 % interval of them holds the true value in 75 % of cases. So the standard error is corrected for
the number of speakers, and multiplied by Student's t with as many degrees of freedom as the speakers support. Intervals
of one metric are made on the logit scale, which keeps them within 0 and 1 and improves their coverage. The variance
over seeds is added; Satterthwaite's rule joins the degrees of freedom. In simulations the intervals held the true value
in 93 to 99 % of cases, with 3 to 24 speakers of equal or very unequal size; with two seeds that differ more than the
speakers do, in 88 %.

One confusion matrix is kept for each speaker; a draw is a weighted sum of them, so that thousands of draws take a
fraction of a second.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

REPORTED_METRICS = ("wa", "ua", "weighted_f1", "macro_f1")
REPLICATES = 2000
#: Effective speakers below which there is no interval: one of two speakers spans most of 0 to 1.
MINIMUM_CLUSTERS = 2.5


def _recalls_and_f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Utterances, recall and F1 of each class, (..., C); recall and F1 are NaN without any utterance."""
    right, true, predicted = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    known = np.where(true > 0, true, np.nan)
    return true, right / known, 2 * right / (known + predicted)


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))


def _unweighted_accuracy(counts: np.ndarray) -> np.ndarray:
    return np.nanmean(_recalls_and_f1(counts)[1], axis=-1)


def _weighted_f1(counts: np.ndarray) -> np.ndarray:
    true, _, f1 = _recalls_and_f1(counts)
    return np.nansum(true * f1, axis=-1) / true.sum(-1)


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    return np.nanmean(_recalls_and_f1(counts)[2], axis=-1)


#: The metrics of `emotion_metrics`, of counts (..., C, C), rows true; classes without utterances count as there.
METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "wa": _accuracy,
    "accuracy": _accuracy,
    "ua": _unweighted_accuracy,
    "weighted_f1": _weighted_f1,
    "macro_f1": _macro_f1,
}


class ClusteredCounts:
    """The confusion matrices of models on the same utterances, by seed and cluster.

    Args:
        labels: (N,) classes, as numbers or names.
        models: predictions of each model, (N,) or (S, N) for S seeds; those without seeds stand beside each seed.
        clusters: (N,) the cluster of each utterance, such as its speaker; an utterance with None is one of its own. By
            default each utterance is one.

    Attributes:
        matrices: (models, S, K, C, C) counts; rows of C true. Utterances without clusters that have the same label and
            predictions share a column K.
        multiplicity: (K,) the number of clusters in each column.
        sizes: (K,) utterances in each column.
        names: the cluster of each column, None where it has no name.
    """

    def __init__(self, labels: ArrayLike, models: Sequence[ArrayLike], clusters: Sequence[Any] | None):
        true = np.asarray(labels)
        if true.ndim != 1 or not true.size:
            raise ValueError(f"labels must be a non-empty list of classes, got shape {true.shape}")
        predicted = _by_model_and_seed(models, len(true))
        if clusters is not None and len(clusters) != len(true):
            raise ValueError(f"{len(clusters)} clusters for {len(true)} labels")
        everything = np.concatenate([true[None], predicted.reshape(-1, len(true))])
        classes, codes = np.unique(everything, return_inverse=True)
        codes, size = codes.reshape(everything.shape), len(classes)
        if clusters is None:
            _, column, self.multiplicity = np.unique(codes, axis=1, return_inverse=True, return_counts=True)
            column, self.names = column.reshape(-1), [None] * len(self.multiplicity)
        else:
            keys = [(name, index if name is None else None) for index, name in enumerate(clusters)]
            columns = {key: number for number, key in enumerate(dict.fromkeys(keys))}
            column = np.array([columns[key] for key in keys])
            self.multiplicity, self.names = np.ones(len(columns), dtype=int), [name for name, _ in columns]
        number = len(self.names)
        self.sizes = np.bincount(column, minlength=number)
        cells = (column * size + codes[0]) * size + codes[1:]
        matrices = np.array([np.bincount(row, minlength=number * size * size) for row in cells])
        self.matrices = matrices.reshape(*predicted.shape[:2], number, size, size)

    @property
    def shares(self) -> np.ndarray:
        """The share of all utterances in each cluster, (clusters,)."""
        return np.repeat(self.sizes / self.multiplicity, self.multiplicity) / self.sizes.sum()

    def draws(self, seed: int, replicates: int) -> np.ndarray:
        """The counts (R, models, S, C, C) of draws of all clusters with replacement."""
        models, seeds, number, size, _ = self.matrices.shape
        # What is drawn is one cluster of a column.
        single = np.moveaxis(self.matrices, 2, 0).reshape(number, -1) / self.multiplicity[:, None]
        clusters = self.multiplicity.sum()
        weights = np.random.default_rng(seed).multinomial(clusters, self.multiplicity / clusters, size=replicates)
        return (weights @ single).reshape(replicates, models, seeds, size, size)


def _by_model_and_seed(models: Sequence[ArrayLike], utterances: int) -> np.ndarray:
    """Predictions as one array (models, S, N)."""
    rows = [np.atleast_2d(np.asarray(predictions)) for predictions in models]
    for predictions in rows:
        if predictions.ndim != 2 or predictions.shape[1] != utterances:
            raise ValueError(f"predictions of shape {predictions.shape} for {utterances} labels")
    seeds = sorted({len(predictions) for predictions in rows} - {1})
    if len(seeds) > 1:
        raise ValueError(f"paired predictions need the same seeds, got {seeds[0]} and {seeds[1]} of them")
    return np.stack([np.broadcast_to(part, (max(seeds, default=1), utterances)) for part in rows])


def effective_clusters(sizes: ArrayLike) -> float:
    """Return how many equally large clusters tell as much about their spread as clusters of these sizes, at worst.

    The worst is that all utterances of a cluster share one fate: (Σ n²)² / Σ n⁴, which is K for K of one size.
    """
    squares = np.square(np.asarray(sizes, dtype=float) / np.max(sizes))
    return float(squares.sum() ** 2 / np.square(squares).sum())


def variance_correction(shares: np.ndarray) -> float:
    """Return the factor that makes the bootstrap's variance of a mean unbiased; K / (K − 1) for K equal shares (K,).

    For others it is exact where all utterances of a cluster share one fate, and a little large elsewhere.
    """
    squares = np.square(shares).sum()
    return float(1 / (1 + squares - 2 * np.power(shares, 3).sum() / squares))


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


@dataclass(frozen=True)
class PairedDifference(Interval):
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
    metric: str,
    clusters: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> Interval:
    """Return one of `METRICS` with its confidence interval, for other speakers (and other seeds) like these.

    There is **no interval** with fewer than `MINIMUM_CLUSTERS` effective speakers, or where all draws give one value:
    every utterance is right, or all speakers happen to be equally right.

    Args:
        labels: (N,) classes, as numbers or names.
        predictions: (N,), or (S, N) for S seeds of one model. One seed does not tell how much the seed matters.
        metric: a key of `METRICS`.
        clusters: (N,) the speaker of each utterance; one with None is drawn by itself, as all are by default.
        seed: of the draws.
        replicates: number of draws.
        level: how often such intervals shall hold the true value.
    """
    measured = _measure(ClusteredCounts(labels, [predictions], clusters), metric, seed, replicates)
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
    metric: str,
    clusters: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> PairedDifference:
    """Return the difference of two models, first − second, over the same draws of speakers, see `bootstrap_interval`.

    Predictions are (N,), or (S, N) of the same S seeds in the same order.
    """
    measured = _measure(ClusteredCounts(labels, [first, second], clusters), metric, seed, replicates)
    difference, error = measured.estimate, measured.standard_error
    if error is None:
        p_value = 1.0 if difference == 0 else None
        return PairedDifference(**asdict(measured), p_value=p_value, minimum_detectable_difference=None)
    reach, freedom = _quantile(level, measured) * error, cast(float, measured.degrees_of_freedom)
    ends = {"low": max(-1.0, difference - reach), "high": min(1.0, difference + reach)}
    return PairedDifference(
        **{**asdict(measured), **ends},
        p_value=float(2 * stats.t.sf(abs(difference) / error, freedom)),
        minimum_detectable_difference=minimum_detectable_difference(error, freedom, level=level),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for their number by Holm's method: all claims below 0.05 hold together at 5 %.

    A comparison without a p value (None) keeps none, but counts.
    """
    adjusted, largest = list(p_values), 0.0
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[index] = largest
    return adjusted


def minimum_detectable_difference(
    standard_error: float, degrees_of_freedom: float = math.inf, *, power: float = 0.8, level: float = 0.95
) -> float:
    """Return the smallest true difference that a two-sided test finds with this power: 2.80 standard errors or more."""
    quantiles = stats.t.ppf([(1 + level) / 2, power], degrees_of_freedom)
    return float(quantiles.sum() * standard_error)


def breakdown(
    labels: ArrayLike,
    predictions: ArrayLike,
    groups: Sequence[Any],
    metrics: Sequence[str] = REPORTED_METRICS,
) -> dict[str, dict[str, float]]:
    """Return the `utterances` and metrics of each group of utterances, such as a speaker; those in None are left out.

    Each metric is the mean over seeds where predictions are (S, N), and over the classes that the group has.
    """
    counts = ClusteredCounts(labels, [predictions], groups)
    columns = {str(name): column for column, name in enumerate(counts.names) if name is not None}
    return {
        name: {
            "utterances": int(counts.sizes[columns[name]]),
            **{key: float(METRICS[key](counts.matrices[0, :, columns[name]]).mean()) for key in metrics},
        }
        for name in sorted(columns)
    }


def describe_test(
    labels: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str | None],
    sex_of: Callable[[str], str | None] | None = None,
) -> dict[str, Any]:
    """Return what `results.json` says of a test beside its metrics, of predictions (N,) or (S, N).

    `intervals` holds the `method`, and for each metric its `Interval`; `breakdown` the metrics by `speaker` and, where
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
        "intervals": {"method": method, **{key: asdict(interval) for key, interval in intervals.items()}},
        "breakdown": {name: rows for name, rows in groups.items() if rows},
    }


def _measure(counts: ClusteredCounts, metric: str, seed: int, replicates: int) -> Interval:
    """The metric (of two models, its difference) with its standard error, and no interval yet."""
    signs = np.array([1, -1])[: len(counts.matrices), None]
    by_seed = (signs * METRICS[metric](counts.matrices.sum(2))).sum(0)
    shares, seeds = counts.shares, len(by_seed)
    effective = effective_clusters(shares)
    error, freedom = None, None
    if effective >= MINIMUM_CLUSTERS:
        drawn = (signs * METRICS[metric](counts.draws(seed, replicates))).sum(1).mean(-1)
        over_clusters = float(np.var(drawn, ddof=1)) * variance_correction(shares)
        over_seeds = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
        total = over_clusters + over_seeds
        if total > 1e-24:  # rounding leaves some 1e-33 where all draws are alike
            error = math.sqrt(total)
            freedom = total**2 / (over_clusters**2 / (effective - 1) + over_seeds**2 / max(1, seeds - 1))
    return Interval(float(by_seed.mean()), None, None, error, freedom, len(shares), effective)


def _quantile(level: float, measured: Interval) -> float:
    """How many standard errors an interval reaches to either side."""
    return float(stats.t.ppf((1 + level) / 2, measured.degrees_of_freedom))
