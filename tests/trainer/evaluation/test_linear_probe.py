"""The linear probe: its features, and which split it is fitted, chosen and tested on."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict
from sklearn.linear_model import LogisticRegression

from data_scripts.splits import speaker_folds
from modeling_m4ser import load_audio
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS, tiny_model, tiny_processor
from trainer.evaluation import linear_probe as module
from trainer.evaluation.linear_probe import INVERSE_REGULARIZATIONS, FrozenFeatures, encoder_features, fit_probe
from trainer.experiments.ablations import ABLATIONS


@pytest.fixture(scope="module")
def data():
    corpus = DatasetDict(train=tiny_corpus(24))
    return speaker_folds(corpus, 3)[0].select(corpus)


def test_speech_features_are_mean_and_deviation_of_the_utterance_alone(data, tmp_path):
    model, processor = tiny_model("hubert", spread=True), tiny_processor(tmp_path, "hubert")
    features = encoder_features(model, processor, data["test"], "speech", batch_size=8)
    for row, found in zip(data["test"], features, strict=True):
        inputs = processor(audio=load_audio(row["audio"]), sampling_rate=16000)
        with torch.no_grad():
            frames = model.m4ser.speech_encoder.model(inputs["input_values"]).last_hidden_state[0].numpy()
        np.testing.assert_allclose(found, np.hstack([frames.mean(0), frames.std(0)]), atol=1e-5)


def test_no_utterance_is_encoded_twice(data, tmp_path, monkeypatch):
    encoded = []

    def encode(model, processor, part, kind, column):
        if kind == "text":
            return np.full((len(part), 3), 2.0)
        encoded.extend(part["id"])
        return np.ones((len(part), 2))

    monkeypatch.setattr(module, "encoder_features", encode)
    built = []
    features = FrozenFeatures(lambda emotions: built.append(emotions) or (None, None))
    for _ in range(2):
        found = features.of(data, ("speech", "text"))
        assert {split: part.tolist() for split, part in found.items()} == {
            split: [[1, 1, 2, 2, 2]] * len(part) for split, part in data.items()
        }
    assert sorted(encoded) == sorted(identity for part in data.values() for identity in part["id"])
    assert built == [list(EMOTIONS)]
    encoded.clear()
    same_ids = DatasetDict(train=data["test"], test=data["test"])
    FrozenFeatures(lambda emotions: (None, None)).of(same_ids, shared=False)
    assert len(encoded) == 2 * len(data["test"])


def corpus_of(labels, names):
    emotion = ClassLabel(names=list(names))
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {"id": [f"u{i}" for i in range(len(each))], "speaker": ["s"] * len(each), "emotion": list(each)}
            ).cast_column("emotion", emotion)
            for split, each in labels.items()
        }
    )


@pytest.mark.parametrize(("metric", "column"), [("ua", 0), ("wa", 1)])
def test_it_is_fitted_on_train_chosen_on_validation_and_measured_on_test(metric, column):
    """Against the same written out, on features whose best regularisation differs between the splits."""
    generator = np.random.default_rng(3)
    sizes, labels, features = {"train": 40, "validation": 30, "test": 30}, {}, {}
    for split, size in sizes.items():
        labels[split] = np.minimum(generator.integers(0, 6, size), 3)  # class 3 is three times as frequent
        signal = 0.7 * np.eye(4)[labels[split]]
        noise = generator.normal(size=(size, 4))
        features[split] = np.hstack([50 * (signal + noise) + 7, 0.01 * generator.normal(size=(size, 8))])
    mean, deviation = features["train"].mean(0), features["train"].std(0)

    def recalls(strength, split):
        classifier = LogisticRegression(C=strength, max_iter=2000)
        classifier.fit((features["train"] - mean) / deviation, labels["train"])
        predicted = classifier.predict((features[split] - mean) / deviation)
        by_class = [np.mean(predicted[labels[split] == label] == label) for label in range(4)]
        return float(np.mean(by_class)), float(np.mean(predicted == labels[split]))

    scores = {split: {c: recalls(c, split) for c in INVERSE_REGULARIZATIONS} for split in ("validation", "test")}
    best = {split: max(INVERSE_REGULARIZATIONS, key=lambda c, of=of: of[c][column]) for split, of in scores.items()}
    other = max(INVERSE_REGULARIZATIONS, key=lambda c: scores["validation"][c][1 - column])
    chosen = best["validation"]
    assert chosen != other, "another seed: the metrics agree on what is best"
    assert metric == "wa" or chosen != best["test"], "another seed: the splits agree on what is best"
    probe = fit_probe(features, corpus_of(labels, EMOTIONS), metric)
    assert probe.regularisation == chosen
    assert list(probe.predictions) == ["id", "speaker", "emotion", "predicted"]
    assert probe.predictions["emotion"].tolist() == [EMOTIONS[label] for label in labels["test"]]
    assert (probe.predictions["predicted"] == probe.predictions["emotion"]).mean() == pytest.approx(
        scores["test"][chosen][1]
    )
    metrics = probe.metrics["test"]
    assert (metrics["ua"], metrics["wa"]) == pytest.approx(scores["test"][chosen])
    assert scores["test"][chosen] != scores["validation"][chosen]


def test_text_features_are_the_mean_of_the_pieces_that_the_model_reads(tmp_path):
    corpus = tiny_corpus(12)  # texts of different lengths
    model, processor = tiny_model("hubert", spread=True), tiny_processor(tmp_path, "hubert")
    features = encoder_features(model, processor, corpus, "text", batch_size=8)
    assert features.shape == (len(corpus), 24)
    inputs = processor(text=corpus[1]["hypothesis"])  # padded beside longer ones
    with torch.no_grad():
        pieces = model.m4ser.text_encoder.model(inputs["input_ids"]).last_hidden_state[0]
    np.testing.assert_allclose(features[1], pieces.mean(0).numpy(), atol=1e-5)
    human = encoder_features(model, processor, corpus, "text", "transcript")
    assert not np.allclose(human[1], features[1], atol=1e-3)


def test_what_is_not_there_is_told(data, tmp_path):
    processor, silent = tiny_processor(tmp_path, "hubert"), Dataset.from_list([{"id": "clip1", "hypothesis": None}])
    with pytest.raises(ValueError, match="'clip1' has no 'hypothesis'"):
        encoder_features(tiny_model("hubert"), processor, silent, "text")
    for kind, other in (("text", "speech"), ("speech", "text")):
        with pytest.raises(ValueError, match=f"reads {kind} features, and this model has no {kind} encoder"):
            encoder_features(tiny_model("hubert", **ABLATIONS[f"only {other}"]), processor, data["test"], kind)
