"""The bar to clear: logistic regression on frozen speech features, under the same split."""

from collections.abc import Sequence
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
    for start in range(0, len(data), batch_size):
        rows = [data[index] for index in range(start, min(start + batch_size, len(data)))]
        audio = [load_audio(row["audio"], processor.sampling_rate, name=row["id"]) for row in rows]
        batch = processor(audio=audio, sampling_rate=processor.sampling_rate).to(model.device)
        hidden, mask = encoder(batch[encoder.input_name], batch["speech_attention_mask"])
        for frames, valid in zip(hidden, mask, strict=True):
            frames = frames[valid]
            features.append(torch.cat([frames.mean(0), frames.std(0, correction=0)]).cpu().numpy())
    return np.stack(features)


def linear_probe(
    model: M4SERForEmotionClassification, processor: M4SERProcessor, data: DatasetDict, emotions: Sequence[str]
) -> dict[str, Any]:
    """Metrics on `test` of logistic regression on standardised `speech_features`, fitted on `train`.

    The regularisation is the one with the best UA on `validation`.
    """
    features = {name: speech_features(model, processor, part) for name, part in data.items()}
    labels = {name: np.asarray(part["emotion"][:]) for name, part in data.items()}

    def score(strength: float, split: str) -> dict[str, Any]:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        classifier.fit(features["train"], labels["train"])
        return emotion_metrics(classifier.predict(features[split]), labels[split], emotions)

    best = max(INVERSE_REGULARIZATIONS, key=lambda strength: score(strength, "validation")["ua"])
    return {**score(best, "test"), "regularisation": best}
