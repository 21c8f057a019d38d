"""Emotion-recognition metrics under the names the field uses, computed offline.

WA ("weighted accuracy") is plain accuracy over all utterances; UA ("unweighted accuracy") is the mean of the per-class
recalls. Some published code swaps the two names.
"""

import re
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support
from transformers import EvalPrediction

#: The paper that everything here implements.
CITATION = """\
@article{he2025m4ser,
  title   = {{M4SER}: Multimodal, Multirepresentation, Multitask, and Multistrategy Learning
             for Speech Emotion Recognition},
  author  = {He, Jiajun and Shi, Xiaohan and Hu, Cheng-Hung and Mi, Jinyi and Li, Xingfeng and Toda, Tomoki},
  journal = {IEEE Transactions on Audio, Speech and Language Processing},
  year    = {2025}
}"""

_DESCRIPTION = """
Emotion-recognition metrics: wa (accuracy over all utterances), ua (mean of the per-class recalls), weighted and macro
F1, F1 and recall of every class, and the confusion matrix.
"""


def metric_keys(label_names: Sequence[str]) -> list[str]:
    """What stands for each label in names such as `f1_<label>`.

    Letters, digits, `-` and `_` stay; any other run of characters becomes one `_`, since loggers read spaces and
    slashes as structure. Where that leaves nothing of a name or makes two alike, every key carries its class index.
    """
    names = [str(name) for name in label_names]
    if not names:
        raise ValueError("label_names is empty")
    if len(set(names)) != len(names):
        raise ValueError(f"label_names holds a name twice: {names}")
    plain = [re.sub(r"[^\w-]+", "_", name).strip("_") for name in names]
    if "" in plain or len(set(plain)) != len(plain):
        return [f"{key}_{index}".strip("_") for index, key in enumerate(plain)]
    return plain


def _class_indices(values: ArrayLike, number_of_classes: int, argument: str) -> np.ndarray:
    """`values` as a checked (N,) integer array of class indices."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{argument} must be a non-empty list of class indices, got shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{argument} must hold integers, got {array.dtype}")
    wrong = array[(array < 0) | (array >= number_of_classes)]
    if wrong.size:
        raise ValueError(f"{argument} holds {int(wrong[0])}, outside the {number_of_classes} classes")
    return array


def emotion_metrics(predictions: ArrayLike, references: ArrayLike, label_names: Sequence[str]) -> dict[str, Any]:
    """All metrics of a set of utterances.

    A class **without any reference utterance** has no recall: it is left out of UA and macro F1 (predicting it still
    costs the class that was missed), and has no `f1_<label>` or `recall_<label>` entry rather than an invented zero.

    Args:
        predictions: (N,) predicted class indices.
        references: (N,) true class indices.
        label_names: names of the classes, by index.

    Returns:
        `wa` and `accuracy` (the same number), `ua`, `weighted_f1`, `macro_f1`, `f1_<label>` and `recall_<label>` (see
        [`metric_keys`]) as floats in [0, 1]; `confusion_matrix` as counts, rows true, columns predicted, all classes.

    Raises:
        ValueError: empty input, different lengths, or an index outside `label_names`.
    """
    keys = metric_keys(label_names)
    predicted = _class_indices(predictions, len(keys), "predictions")
    true = _class_indices(references, len(keys), "references")
    if len(predicted) != len(true):
        raise ValueError(f"{len(predicted)} predictions for {len(true)} references")

    present = np.unique(true)
    # sklearn's annotations know only the default of zero_division.
    never: Any = 0
    _, recalls, f1s, _ = precision_recall_fscore_support(true, predicted, labels=present, zero_division=never)
    by_class = list(zip(present.tolist(), np.atleast_1d(recalls), np.atleast_1d(f1s), strict=True))
    accuracy = float(np.mean(predicted == true))
    results: dict[str, Any] = {
        "wa": accuracy,
        "ua": float(np.mean(recalls)),
        "accuracy": accuracy,
        "weighted_f1": float(f1_score(true, predicted, labels=present, average="weighted", zero_division=never)),
        "macro_f1": float(np.mean(f1s)),
    }
    results |= {f"f1_{keys[label]}": float(f1) for label, _, f1 in by_class}
    results |= {f"recall_{keys[label]}": float(recall) for label, recall, _ in by_class}
    results["confusion_matrix"] = np.asarray(confusion_matrix(true, predicted, labels=range(len(keys)))).tolist()
    return results


class EmotionMetrics(evaluate.Metric):
    """[`emotion_metrics`] as a metric of the evaluate library, without a call to the Hub.

        metric = EmotionMetrics(label_names=["neutral", "happy", "sad", "angry"])
        metric.add_batch(predictions=[0, 1], references=[0, 2])
        metric.compute()["ua"]

    `evaluate.load("trainer/evaluation/metrics.py", label_names=[...])` gives the same object.

    Args:
        label_names: names of the classes, by index; may be given to `compute` instead.
        **kwargs: those of `evaluate.Metric` (`keep_in_memory`, `num_process`, `process_id`, `experiment_id` ...).
    """

    def __init__(self, label_names: Sequence[str] | None = None, **kwargs):
        self.label_names = None if label_names is None else list(label_names)
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=str(emotion_metrics.__doc__),
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references, label_names: Sequence[str] | None = None) -> dict:
        label_names = self.label_names if label_names is None else label_names
        if label_names is None:
            raise ValueError("EmotionMetrics needs label_names, at construction or in compute()")
        return emotion_metrics(predictions, references, label_names)


class TrainerMetrics:
    """What [`compute_emotion_metrics`] returns: [`emotion_metrics`] as a trainer's `compute_metrics`."""

    def __init__(self, label_names: Sequence[str]):
        self.label_names = list(label_names)
        metric_keys(self.label_names)  # a bad list of names fails here, not after the first epoch
        self.reset()

    def reset(self) -> None:
        """Forget the batches of an evaluation that did not reach its end."""
        self._batches: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, prediction: EvalPrediction, compute_result: bool | None = None) -> dict[str, float]:
        """Return the metrics of all utterances; with `batch_eval_metrics`, of all batches once the last has come.

        Raises:
            ValueError: logits of another shape, or holding NaN, which argmax would turn into a confident class.
        """
        predicted, true = self._classes(prediction)
        if compute_result is not None:
            self._batches.append((predicted, true))
            if not compute_result:
                return {}
            predicted, true = (np.concatenate(parts) for parts in zip(*self._batches, strict=True))
            self.reset()
        results = emotion_metrics(predicted, true, self.label_names)
        del results["confusion_matrix"]
        return results

    def _classes(self, prediction: EvalPrediction) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true classes (N,) each, of arrays or tensors; of several, the first."""
        given: Any = prediction.predictions, prediction.label_ids
        logits, labels = (torch.as_tensor(part[0] if isinstance(part, tuple) else part).cpu() for part in given)
        if logits.ndim != 2 or logits.shape[1] != len(self.label_names):
            raise ValueError(f"expected logits of shape (N, {len(self.label_names)}), got {tuple(logits.shape)}")
        if logits.isnan().any():
            raise ValueError("the logits hold NaN: training has diverged, or an input is not finite")
        return logits.argmax(-1).numpy(), labels.numpy()


def compute_emotion_metrics(label_names: Sequence[str]) -> TrainerMetrics:
    """The `compute_metrics` argument of the Hugging Face Trainer, with `batch_eval_metrics` or without.

    Args:
        label_names: names of the classes, by index.

    Returns:
        A function from an `EvalPrediction` with logits (N, classes) and labels (N,) to a flat dict of floats:
        everything [`emotion_metrics`] gives but the confusion matrix, which a trainer cannot log.
    """
    return TrainerMetrics(label_names)
