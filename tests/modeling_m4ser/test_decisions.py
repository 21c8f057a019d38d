"""What to do with an answer: the order of its reasons, its set, and what measures the distance from training data."""

import math

import numpy as np
import pytest
import torch

from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification
from modeling_m4ser.decisions_m4ser import decide
from modeling_m4ser.domain_m4ser import DomainDistance
from tests.helpers.tiny import ragged_batch, tiny_model
from trainer.experiments.ablations import ABLATIONS

SCORES = torch.tensor([0.3, 0.5, 0.2])


def config(**thresholds):
    return M4SERConfig(id2label=["angry", "sad", "calm"], **thresholds)


def test_without_thresholds_the_decision_is_the_best_label_where_somebody_speaks():
    assert decide(config(), SCORES) == {
        "decision": "sad",
        "confidence": pytest.approx(0.5),
        "labels": ["sad"],
        "ood_score": None,
    }
    assert decide(config(), SCORES, ood_score=1e9)["decision"] == "sad"
    assert decide(config(), SCORES, has_speech=False)["decision"] == "no_speech"


@pytest.mark.parametrize(
    ("thresholds", "score", "has_speech", "decision"),
    [
        ({"reject_below": 0.5}, None, True, "sad"),
        ({"reject_below": 0.51}, None, True, "uncertain"),
        ({"ood_threshold": 2.0}, 2.0, True, "sad"),
        ({"ood_threshold": 2.0}, 2.1, True, "uncertain"),
        ({"ood_threshold": 2.0}, math.nan, True, "uncertain"),
        ({"ood_threshold": 2.0}, None, True, "sad"),
        ({"ood_threshold": 2.0, "reject_below": 0.9}, 9.0, False, "no_speech"),
    ],
)
def test_no_speech_comes_before_a_strange_sound_and_a_low_confidence(thresholds, score, has_speech, decision):
    assert decide(config(**thresholds), SCORES, score, has_speech)["decision"] == decision


@pytest.mark.parametrize(
    ("quantile", "labels"),
    [(None, ["sad"]), (0.1, ["sad"]), (0.5, ["sad"]), (0.71, ["sad", "angry"]), (1.0, ["sad", "angry", "calm"])],
)
def test_a_set_holds_every_label_that_is_probable_enough_and_at_least_the_best(quantile, labels):
    assert decide(config(conformal_quantile=quantile), SCORES)["labels"] == labels


def test_distance_by_hand():
    distance = DomainDistance(2)
    distance.mean.copy_(torch.tensor([1.0, 2.0]))
    distance.whitening.copy_(torch.diag(torch.tensor([1.0, 0.5])))  # standard deviations 1 and 2
    assert distance(torch.tensor([[1.0, 2.0], [2.0, 4.0], [1.0, 6.0]])).tolist() == pytest.approx([0, 1, math.sqrt(2)])


def test_what_measures_the_distance_is_saved_loaded_in_float32_and_absent_from_other_models(tmp_path):
    model = tiny_model()
    assert model.ood_score(torch.zeros(1, 24)) is None
    old = set(model.state_dict())
    model.ood_scorer, model.config.ood_threshold = DomainDistance(24), 1.5
    torch.nn.init.normal_(model.ood_scorer.whitening)
    model.save_pretrained(tmp_path)
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.config.ood_threshold == 1.5
    assert set(loaded.state_dict()) == old | {"ood_scorer.mean", "ood_scorer.whitening"}
    assert loaded.ood_scorer.whitening.dtype == torch.float32 != loaded.classifier.weight.dtype
    pooled = torch.randn(3, 24)
    assert torch.equal(loaded.ood_score(pooled), model.ood_score(pooled))
    # One that was not fitted says nothing of anything.
    assert not tiny_model(ood_threshold=1.0).ood_score(pooled).any()


@pytest.mark.parametrize("name", ["M4SER", "only text", "only speech"])
def test_every_kind_of_model_has_a_distance_of_its_pooled_features(name):
    model = tiny_model("whisper", ood_threshold=1.0, **ABLATIONS[name])
    model.ood_scorer.whitening.copy_(torch.eye(24))
    with torch.no_grad():
        output = model(**ragged_batch(model, with_labels=False))
    scores = model.ood_score(output.pooled)
    assert scores.shape == (3,)
    np.testing.assert_allclose(scores, output.pooled.square().mean(-1).sqrt(), rtol=1e-5)
