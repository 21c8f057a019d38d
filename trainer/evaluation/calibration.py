"""Whether a model's probabilities are right, and the one number that corrects them: temperature scaling.

Guo et al. 2017, "On Calibration of Modern Neural Networks". The temperature is fitted on validation data; it changes no
predicted class.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize
from scipy.special import log_softmax, softmax
from transformers.utils import logging

logger: Any = logging.get_logger(__name__)

BINS = 15
#: A fit ends here. Beyond, probabilities are all but equal, or all but 0 and 1.
TEMPERATURE_RANGE = (0.1, 10.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Mean highest probability, share of right answers (NaN in an empty bin) and number of utterances, (bins,) each.

    The bins are of equal width of the highest probability; the first ends at 1 / bins.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    utterances: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (ECE): mean distance of confidence and accuracy over utterances, in [0, 1]."""
        distances = np.abs(self.accuracy - self.confidence) * self.utterances
        return float(np.nansum(distances) / self.utterances.sum())


def calibrated_probabilities(logits: ArrayLike, temperature: float = 1.0) -> np.ndarray:
    """Return softmax(logits / temperature), (N, C), as the pipeline does."""
    return softmax(np.asarray(logits, dtype=float) / temperature, axis=-1)


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of labels (N,) under logits (N, C), in nats."""
    logits, labels = _checked(logits, labels)
    return float(-log_softmax(logits / temperature, axis=-1)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature at which the labels are most likely, within `TEMPERATURE_RANGE`.

    Where every utterance is right, a lower temperature is always likelier; that says nothing of other data, and 1.0 is
    returned. A fit that ends at the range's bound is warned of. The logits (N, C) must be of data that the model was
    not trained on.
    """
    scores, true = _checked(logits, labels)
    if (scores.argmax(-1) == true).all():
        return 1.0
    # In 1 / T the likelihood has one maximum; the logarithm makes its search as exact for small T as for large.
    found = optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(scores, true, float(np.exp(log_t))),
        bounds=tuple(np.log(TEMPERATURE_RANGE)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    temperature = float(np.exp(found.x))
    if min(abs(np.log(temperature / np.array(TEMPERATURE_RANGE)))) < 1e-3:
        logger.warning(
            f"The calibration ends at its bound, a temperature of {temperature:g}: the probabilities do not fit the "
            f"{len(true)} validation utterances at any, so do not act on them. Train longer or on more data."
        )
    return temperature


def reliability_curve(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> ReliabilityCurve:
    """Return confidence and accuracy by bins of confidence, each without its lower and with its upper end."""
    scores, true = _checked(probabilities, labels)
    confidence, right = scores.max(-1), scores.argmax(-1) == true
    # Rounding keeps a sum of 1 + 1e-16 in the last bin, and a confidence on an edge below it.
    number = np.clip(np.ceil(np.round(confidence * bins, 9)).astype(int) - 1, 0, bins - 1)
    utterances = np.bincount(number, minlength=bins)
    known = np.where(utterances > 0, utterances, np.nan)
    confidences, accuracies = (np.bincount(number, values, minlength=bins) / known for values in (confidence, right))
    return ReliabilityCurve(confidences, accuracies, utterances)


def describe_calibration(logits: ArrayLike, labels: ArrayLike, temperature: float) -> dict[str, Any]:
    """Return what `results.json` says of the calibration on the test, `before` (at temperature 1) and `after`."""
    temperatures = {"before": 1.0, "after": temperature}
    return {
        "temperature": temperature,
        "bins": BINS,
        "ece": {
            key: reliability_curve(calibrated_probabilities(logits, value), labels).error
            for key, value in temperatures.items()
        },
        "nll": {key: negative_log_likelihood(logits, labels, value) for key, value in temperatures.items()},
    }


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, C) as floats and labels (N,), checked."""
    array, true = np.asarray(scores, dtype=float), np.asarray(labels)
    if array.ndim != 2 or not len(array) or true.shape != (len(array),):
        raise ValueError(f"expected scores (N, C) and labels (N,), got shapes {array.shape} and {true.shape}")
    if not np.isfinite(array).all():
        raise ValueError("the scores hold NaN or infinity: training has diverged, or an input is not finite")
    if true.min() < 0 or true.max() >= array.shape[1]:
        raise ValueError(f"labels lie between 0 and {array.shape[1] - 1}, got {true.min()} to {true.max()}")
    return array, true
