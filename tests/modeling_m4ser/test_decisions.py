"""What to do with an answer."""

import torch

from modeling_m4ser import M4SERConfig
from modeling_m4ser.decisions_m4ser import decide


def test_without_thresholds_the_decision_is_the_best_label_where_somebody_speaks():
    config, scores = M4SERConfig(id2label=["angry", "sad"]), torch.tensor([0.3, 0.7])
    assert decide(config, scores)["decision"] == "sad"
    assert decide(config, scores, has_speech=False)["decision"] == "no_speech"
