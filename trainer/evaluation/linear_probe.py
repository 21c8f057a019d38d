"""The linear-probe baseline: logistic regression on frozen features of the encoders, under the same split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import set_seed

from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor, load_audio
from trainer.errors import TrainingError
from trainer.evaluation.metrics import emotion_metrics
from trainer.evaluation.prediction import rows_read

INVERSE_REGULARIZATIONS = (0.001, 0.01, 0.1, 1.0, 10.0)

BuildModel = Callable[[Sequence[str]], tuple[M4SERForEmotionClassification, M4SERProcessor]]


@torch.no_grad()
def encoder_features(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    data: Dataset,
    kind: str,
    text_column: str = "hypothesis",
    batch_size: int = 16,
) -> np.ndarray:
    """Return features of the encoder of a `kind`.

    Of `speech`, mean and standard deviation of the frames over time, (N, 2 d_S); of `text`, the mean of the vectors of
    the pieces that the model reads, the special ones included, (N, d_T).
    """
    model.eval()
    encoder = getattr(model.m4ser, f"{kind}_encoder")
    if encoder is None:
        raise TrainingError(f"The linear probe reads {kind} features, and this model has no {kind} encoder.")
    features = []
    for rows in data.select_columns(["id", "audio" if kind == "speech" else text_column]).iter(batch_size):
        identities, values = cast(Mapping[str, list[Any]], rows).values()
        if kind == "speech":
            named, rate = zip(identities, values, strict=True), processor.sampling_rate
            batch = processor(audio=[load_audio(s, rate, name=name) for name, s in named], sampling_rate=rate)
        elif None in values:
            lacking = identities[values.index(None)]
            raise TrainingError(f"Utterance {lacking!r} has no {text_column!r}, which the linear probe reads.")
        else:
            batch = processor(text=values)
        batch = batch.to(model.device)
        hidden, mask = encoder(batch[getattr(encoder, "input_name", "input_ids")], batch[f"{kind}_attention_mask"])
        for padded, valid in zip(hidden, mask, strict=True):
            vectors = padded[valid]
            parts = [vectors.mean(0), vectors.std(0, correction=0)] if kind == "speech" else [vectors.mean(0)]
            features.append(torch.cat(parts).cpu().numpy())
    return np.stack(features)


class FrozenFeatures:
    """The features of a pretrained model's encoders, built when something is to be encoded; no utterance is twice."""

    def __init__(self, build: BuildModel, text_column: str = "hypothesis", device: torch.device | None = None):
        self._build, self._text_column, self._device = build, text_column, device
        self._model: tuple[M4SERForEmotionClassification, M4SERProcessor] | None = None
        self._kept: dict[tuple[str, ...], np.ndarray] = {}

    def of(self, data: DatasetDict, kinds: Sequence[str] = ("speech",), shared: bool = True) -> dict[str, np.ndarray]:
        """Return the features of these encoders side by side, split -> (N, d).

        `shared` says whether an id is the same utterance in every split, and in the data of other calls, as in folds;
        the ids of a corpus's own splits may repeat.
        """
        features = {}
        for split, part in data.items():
            columns = []
            for kind in kinds:
                keys = [(kind, "" if shared else str(split), identity) for identity in part["id"]]
                if missing := [index for index, key in enumerate(keys) if key not in self._kept]:
                    vectors = self._encode(kind, part.select(missing))
                    self._kept |= {keys[index]: each for index, each in zip(missing, vectors, strict=True)}
                columns.append(np.stack([self._kept[key] for key in keys]))
            features[str(split)] = np.hstack(columns)
        return features

    def _encode(self, kind: str, part: Dataset) -> np.ndarray:
        if self._model is None:
            set_seed(0)
            model, processor = self._build(part.features["emotion"].names)
            self._model = (model if self._device is None else cast(Any, model).to(self._device)), processor
        return encoder_features(*self._model, part, kind, self._text_column)


@dataclass(frozen=True)
class FittedProbe:
    """A linear probe of one division: the best of `INVERSE_REGULARIZATIONS`, and metrics by split.

    `predictions` has the columns `id`, `speaker`, `emotion` and `predicted` of the test split; `rows` says what it was
    fitted, chosen and tested on, see `rows_read`.
    """

    regularisation: float
    metrics: dict[str, dict[str, Any]]
    predictions: pd.DataFrame
    rows: dict[str, dict[str, Any]]


def fit_probe(features: Mapping[str, np.ndarray], data: DatasetDict, metric: str = "ua") -> FittedProbe:
    """Fit logistic regression on standardised features (N, d), choose its strength on `validation`, and `test` it."""
    emotions = data["train"].features["emotion"].names
    labels = {split: np.asarray(data[split]["emotion"][:]) for split in ("train", "validation", "test")}
    predict: dict[float, Callable[[np.ndarray], np.ndarray]] = {}
    for strength in INVERSE_REGULARIZATIONS:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        predict[strength] = classifier.fit(features["train"], labels["train"]).predict

    def score(strength: float, split: str) -> dict[str, Any]:
        return emotion_metrics(predict[strength](features[split]), labels[split], emotions)

    best = max(INVERSE_REGULARIZATIONS, key=lambda strength: score(strength, "validation")[metric])
    answers = {"emotion": labels["test"], "predicted": predict[best](features["test"])}
    table = data["test"].select_columns(["id", "speaker"]).to_pandas()
    table = cast(pd.DataFrame, table).assign(**{name: np.take(emotions, found) for name, found in answers.items()})
    read = {"fit": data["train"]["id"], "regularisation": data["validation"]["id"], "test": table["id"]}
    rows = {use: rows_read(ids) for use, ids in read.items()}
    return FittedProbe(best, {split: score(best, split) for split in ("validation", "test")}, table, rows)
