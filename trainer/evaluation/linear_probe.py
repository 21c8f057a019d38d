"""The bar to clear: logistic regression on frozen features of the encoders, under the same split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor, load_audio
from trainer.evaluation.metrics import emotion_metrics

INVERSE_REGULARIZATIONS = (0.001, 0.01, 0.1, 1.0, 10.0)


@torch.no_grad()
def speech_features(
    model: M4SERForEmotionClassification, processor: M4SERProcessor, data: Dataset, batch_size: int = 16
) -> np.ndarray:
    """Mean and standard deviation over time of the speech encoder's frames, (N, 2 d_S)."""
    model.eval()
    encoder = model.m4ser.speech_encoder
    if encoder is None:
        raise ValueError("The linear probe reads speech features, and this model has no speech encoder.")
    features = []
    for rows in _batches(data, batch_size):
        audio = [load_audio(row["audio"], processor.sampling_rate, name=row["id"]) for row in rows]
        batch = processor(audio=audio, sampling_rate=processor.sampling_rate).to(model.device)
        hidden, mask = encoder(batch[encoder.input_name], batch["speech_attention_mask"])
        for frames, valid in zip(hidden, mask, strict=True):
            frames = frames[valid]
            features.append(torch.cat([frames.mean(0), frames.std(0, correction=0)]).cpu().numpy())
    return np.stack(features)


@torch.no_grad()
def text_features(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    data: Dataset,
    text_column: str = "hypothesis",
    batch_size: int = 16,
) -> np.ndarray:
    """Mean of the text encoder's vectors of the pieces that the model reads, the special ones included, (N, d_T).

    Raises:
        ValueError: the model has no text encoder, or a row no text.
    """
    model.eval()
    encoder = model.m4ser.text_encoder
    if encoder is None:
        raise ValueError("The linear probe reads text features, and this model has no text encoder.")
    features = []
    for rows in _batches(data.select_columns(["id", text_column]), batch_size):
        for row in rows:
            if row[text_column] is None:
                raise ValueError(f"Utterance {row['id']!r} has no {text_column!r}, which the linear probe reads.")
        batch = processor(text=[row[text_column] for row in rows]).to(model.device)
        hidden, mask = encoder(batch["input_ids"], batch["text_attention_mask"])
        features += [pieces[valid].mean(0).cpu().numpy() for pieces, valid in zip(hidden, mask, strict=True)]
    return np.stack(features)


def _batches(data: Dataset, batch_size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(data), batch_size):
        yield [data[index] for index in range(start, min(start + batch_size, len(data)))]


@dataclass(frozen=True)
class FittedProbe:
    """A linear probe of one division of the data.

    Attributes:
        regularisation: the one of `INVERSE_REGULARIZATIONS` that was best on validation.
        metrics: of `validation` and `test`, see `emotion_metrics`.
        predictions: (N,) predicted class indices of `test`.
    """

    regularisation: float
    metrics: dict[str, dict[str, Any]]
    predictions: np.ndarray


def fit_probe(
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    emotions: Sequence[str],
    metric: str = "ua",
) -> FittedProbe:
    """Fit logistic regression on standardised features of `train`, choose its strength on `validation`, and `test` it.

    Args:
        features: split -> (N, d).
        labels: split -> (N,) class indices.
        emotions: names of the classes, by index.
        metric: of validation, by which the strength is chosen.
    """
    predict: dict[float, Callable[[np.ndarray], np.ndarray]] = {}
    for strength in INVERSE_REGULARIZATIONS:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        predict[strength] = classifier.fit(features["train"], labels["train"]).predict

    def score(strength: float, split: str) -> dict[str, Any]:
        return emotion_metrics(predict[strength](features[split]), labels[split], emotions)

    best = max(INVERSE_REGULARIZATIONS, key=lambda strength: score(strength, "validation")[metric])
    metrics = {split: score(best, split) for split in ("validation", "test")}
    return FittedProbe(best, metrics, predict[best](features["test"]))


def linear_probe(
    model: M4SERForEmotionClassification, processor: M4SERProcessor, data: DatasetDict, emotions: Sequence[str]
) -> dict[str, Any]:
    """Metrics on `test` of logistic regression on standardised `speech_features`, fitted on `train`.

    The regularisation is the one with the best UA on `validation`.
    """
    features = {str(name): speech_features(model, processor, part) for name, part in data.items()}
    labels = {str(name): np.asarray(part["emotion"][:]) for name, part in data.items()}
    fitted = fit_probe(features, labels, emotions)
    return {**fitted.metrics["test"], "regularisation": fitted.regularisation}
