"""The linear probe: its features, and which split it is fitted, chosen and tested on."""

import numpy as np
import pytest
from datasets import DatasetDict
from sklearn.linear_model import LogisticRegression

from data_scripts.splits import speaker_folds
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS, tiny_model, tiny_processor
from trainer.evaluation import linear_probe as module
from trainer.evaluation.linear_probe import INVERSE_REGULARIZATIONS, linear_probe, speech_features


@pytest.fixture(scope="module")
def data():
    corpus = DatasetDict(train=tiny_corpus(24))
    return speaker_folds(corpus, 3)[0].select(corpus)


def test_probe_features_ignore_the_batch(data, tmp_path):
    model, processor = tiny_model("hubert"), tiny_processor(tmp_path, "hubert")
    together = speech_features(model, processor, data["test"], batch_size=8)
    alone = speech_features(model, processor, data["test"], batch_size=1)
    assert together.shape == (len(data["test"]), 2 * 24)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    metrics = linear_probe(model, processor, data, EMOTIONS)
    assert 0 <= metrics["ua"] <= 1
    assert metrics["regularisation"] in INVERSE_REGULARIZATIONS


def test_it_is_fitted_on_train_chosen_on_validation_by_ua_and_measured_on_test(monkeypatch):
    """Against the same written out, on features whose best regularisation differs between the splits."""
    generator = np.random.default_rng(3)
    sizes, labels, features = {"train": 40, "validation": 30, "test": 30}, {}, {}
    for split, size in sizes.items():
        labels[split] = np.minimum(generator.integers(0, 6, size), 3)  # class 3 is three times as frequent
        signal = 0.7 * np.eye(4)[labels[split]]
        noise = generator.normal(size=(size, 4))
        features[split] = np.hstack([50 * (signal + noise) + 7, 0.01 * generator.normal(size=(size, 8))])
    monkeypatch.setattr(module, "speech_features", lambda model, processor, part: features[part["name"]])
    data = {split: {"name": split, "emotion": labels[split]} for split in sizes}

    mean, deviation = features["train"].mean(0), features["train"].std(0)

    def recalls(strength, split):
        classifier = LogisticRegression(C=strength, max_iter=2000)
        classifier.fit((features["train"] - mean) / deviation, labels["train"])
        predicted = classifier.predict((features[split] - mean) / deviation)
        by_class = [np.mean(predicted[labels[split] == label] == label) for label in range(4)]
        return float(np.mean(by_class)), float(np.mean(predicted == labels[split]))

    scores = {split: {c: recalls(c, split) for c in INVERSE_REGULARIZATIONS} for split in ("validation", "test")}
    chosen = max(INVERSE_REGULARIZATIONS, key=lambda c: scores["validation"][c][0])
    others = (
        max(INVERSE_REGULARIZATIONS, key=lambda c: scores["test"][c][0]),
        max(INVERSE_REGULARIZATIONS, key=lambda c: scores["validation"][c][1]),
        min(INVERSE_REGULARIZATIONS, key=lambda c: scores["validation"][c][0]),
    )
    assert chosen not in others, "another seed: the splits agree on what is best"
    metrics = linear_probe(None, None, data, EMOTIONS)
    assert metrics["regularisation"] == chosen
    assert (metrics["ua"], metrics["wa"]) == pytest.approx(scores["test"][chosen])
    assert scores["test"][chosen] != scores["validation"][chosen]
