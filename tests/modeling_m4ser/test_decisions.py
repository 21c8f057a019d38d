"""What to do with an answer: the order of its reasons, and its set."""

import math

import pytest
import torch

from modeling_m4ser import M4SERConfig
from modeling_m4ser.decisions_m4ser import decide

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
