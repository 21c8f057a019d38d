"""Drawing speakers with replacement (the cluster bootstrap), fast: metrics of sums of confusion matrices.

One confusion matrix is kept for each speaker; a draw is a weighted sum of them, so that thousands of draws take a
fraction of a second.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

#: Counts (..., C, C), rows true, to values (...) in [0, 1].
Metric = Callable[[np.ndarray], np.ndarray]

_WEIGHTS_AT_ONCE = 4_000_000


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


#: The metrics of `emotion_metrics` by name, with its rule for classes without utterances.
METRICS: dict[str, Metric] = {
    "wa": _accuracy,
    "accuracy": _accuracy,
    "ua": _unweighted_accuracy,
    "weighted_f1": _weighted_f1,
    "macro_f1": _macro_f1,
}


def as_metric(metric: str | Metric) -> Metric:
    """Return a metric given by its name in `METRICS`, or as it is.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
        return METRICS[metric]
    return metric


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

    Raises:
        ValueError: shapes that do not fit, or no utterance.
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

    def draws(self, seed: int, replicates: int) -> Iterator[np.ndarray]:
        """Yield the counts (R, models, S, C, C) of draws of all clusters with replacement, some draws at a time."""
        models, seeds, number, size, _ = self.matrices.shape
        # What is drawn is one cluster of a column.
        single = np.moveaxis(self.matrices, 2, 0).reshape(number, -1) / self.multiplicity[:, None]
        rng, clusters = np.random.default_rng(seed), self.multiplicity.sum()
        step = max(1, _WEIGHTS_AT_ONCE // number)
        for start in range(0, replicates, step):
            weights = rng.multinomial(clusters, self.multiplicity / clusters, size=min(step, replicates - start))
            yield (weights @ single).reshape(len(weights), models, seeds, size, size)


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
    """Return the factor that makes the bootstrap's variance of a mean unbiased; K / (K − 1) for K clusters of one size.

    For others it is exact where all utterances of a cluster share one fate, and a little large elsewhere.

    Args:
        shares: (K,) the share of all utterances in each cluster.
    """
    squares = np.square(shares).sum()
    return float(1 / (1 + squares - 2 * np.power(shares, 3).sum() / squares))
