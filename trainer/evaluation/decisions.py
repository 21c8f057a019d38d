"""The thresholds that turn probabilities into decisions, fitted on validation data, and what they are worth on a test.

What is fitted here, [`modeling_m4ser.decisions_m4ser.decide`] applies. The sets are split conformal ones (Sadinle et
al. 2019): they hold the stated share of labels as far as the validation data are like what comes, speakers included.
"""

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import ArrayLike
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

from data_scripts.constants import SAMPLING_RATE
from modeling_m4ser import M4SERForEmotionClassification
from modeling_m4ser.decisions_m4ser import UNCERTAIN, decide, is_outside
from modeling_m4ser.domain_m4ser import SoundDomain
from modeling_m4ser.sound_m4ser import describe_sound
from trainer.evaluation.calibration import calibrated_probabilities, fit_temperature
from trainer.inputs.augmentation import load_at_speed

#: The most training clips that the domain is fitted on: enough for a covariance of some hundred dimensions.
MAX_DOMAIN_CLIPS = 2000
#: The share of validation rows that may be flagged as unlike the training data.
MAX_FLAGGED = 0.02


def describe_sounds(data: Dataset) -> np.ndarray:
    """Return what rows of `data_scripts.schema` sound like, (N, 48): see [`~sound_m4ser.describe_sound`]."""
    rows: Any = data
    return np.stack([describe_sound(load_at_speed(row, SAMPLING_RATE)) for row in rows])


def fit_domain(sounds: ArrayLike) -> SoundDomain:
    """Return what tells sounds from those of training clips (N, 48), by a Ledoit-Wolf estimate of their covariance."""
    values = np.asarray(sounds, dtype=float)
    # The estimate draws all variances to their mean: a dimension much smaller than the rest would not count.
    scaler = StandardScaler().fit(values)
    variances, directions = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(scaler.transform(values)).covariance_)
    # Only where all clips sound the same, nothing is drawn anywhere.
    directions /= np.sqrt(np.maximum(variances, np.finfo(np.float32).eps))
    domain = SoundDomain()
    domain.mean.copy_(torch.from_numpy(scaler.mean_))
    domain.whitening.copy_(torch.from_numpy(directions / scaler.scale_[:, None]))
    return domain


def coverage_threshold(confidence: ArrayLike, coverage: float) -> float:
    """Return the highest confidence that a share `coverage` of rows (N,), in (0, 1], reaches."""
    falling = np.sort(np.asarray(confidence, dtype=float))[::-1]
    return float(falling[math.ceil(round(coverage * len(falling), 9)) - 1])


def conformal_quantile(probabilities: ArrayLike, labels: ArrayLike, coverage: float) -> float:
    """Return q: labels of a probability of at least 1 − q make sets that hold the true one in `coverage` of cases.

    It is the ⌈(N + 1) coverage⌉-th smallest of 1 minus the true labels' probabilities, of (N, C). Where N rows are too
    few for so high a coverage it is 1, and a set holds every label.
    """
    scores = np.sort(1 - np.take_along_axis(np.asarray(probabilities), np.asarray(labels)[:, None], axis=1)[:, 0])
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return float(scores[rank - 1]) if rank <= len(scores) else 1.0


def flagging_threshold(scores: ArrayLike, share: float = MAX_FLAGGED) -> float:
    """Return the lowest of scores (N,) that at most `share` of them lie above."""
    rising = np.sort(np.asarray(scores, dtype=float))
    return float(rising[len(rising) - 1 - math.floor(share * len(rising))])


def fit_decisions(
    model: M4SERForEmotionClassification,
    training_sounds: np.ndarray | None,
    logits: np.ndarray,
    sounds: np.ndarray | None,
    labels: np.ndarray,
    coverage: float = 0.8,
    set_coverage: float = 0.9,
) -> None:
    """Give a trained model its temperature and the thresholds of its decisions.

    Args:
        model: its configuration and its `sound_domain` change.
        training_sounds: of clips that it was trained on, (M, 48), see `describe_sounds`; None where it hears none.
        logits: of validation rows, (N, e).
        sounds: of these, (N, 48).
        labels: their classes, (N,).
        coverage: the share of such rows that get a label, the most confident ones, in (0, 1].
        set_coverage: the share of such rows whose set holds the true label, in (0, 1).
    """
    config = model.config
    config.calibration_temperature = fit_temperature(logits, labels)
    probabilities = calibrated_probabilities(logits, config.calibration_temperature)
    config.reject_below = coverage_threshold(probabilities.max(-1), coverage)
    config.conformal_quantile = conformal_quantile(probabilities, labels, set_coverage)
    if training_sounds is not None:
        model.sound_domain = fit_domain(training_sounds).to(model.device)
        config.ood_threshold = flagging_threshold(model.ood_score(sounds))


def describe_decisions(
    model: M4SERForEmotionClassification, logits: np.ndarray, sounds: np.ndarray | None, labels: np.ndarray
) -> dict[str, Any]:
    """Return what `results.json` says of a fitted model's decisions on test rows, arguments as in `fit_decisions`.

    `coverage` is the share of rows that get a label and `accuracy` how many of these are right (None without any);
    `set_coverage` and `set_size` are of the sets; `flagged` is the share unlike the training data.
    """
    config, counts = model.config, Counter()
    probabilities = torch.from_numpy(calibrated_probabilities(logits, config.calibration_temperature))
    scores = [None] * len(labels) if sounds is None else model.ood_score(sounds).tolist()
    for row, score, label in zip(probabilities, scores, labels, strict=True):
        decided, truth = decide(config, row, score), config.id2label[int(label)]
        counts["answered"] += decided["decision"] != UNCERTAIN
        counts["right"] += decided["decision"] == truth
        counts["held"] += truth in decided["labels"]
        counts["labels"] += len(decided["labels"])
        counts["flagged"] += is_outside(config, score)
    thresholds = ("reject_below", "conformal_quantile", "ood_threshold")
    return {
        **{name: getattr(config, name) for name in thresholds},
        "test": {
            "coverage": counts["answered"] / len(labels),
            "accuracy": counts["right"] / counts["answered"] if counts["answered"] else None,
            "set_coverage": counts["held"] / len(labels),
            "set_size": counts["labels"] / len(labels),
            "flagged": counts["flagged"] / len(labels),
        },
    }


def risk_coverage(probabilities: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return (N, 2): of the k most confident of N rows, their share k / N and how many are right, for k = 1 … N."""
    scores, true = np.asarray(probabilities), np.asarray(labels)
    order, counts = np.argsort(-scores.max(-1), kind="stable"), np.arange(1, len(true) + 1)
    right = (scores.argmax(-1) == true)[order].cumsum()
    return np.stack([counts / len(true), right / counts], axis=-1)
