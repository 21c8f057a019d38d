"""What of the training data travels with the weights, and models that have none of it."""

import numpy as np
import torch

from modeling_m4ser import M4SERForEmotionClassification
from modeling_m4ser.domain_m4ser import SoundDomain
from modeling_m4ser.sound_m4ser import SOUND_SIZE
from tests.helpers.tiny import tiny_model

SOUNDS = np.random.default_rng(0).normal(size=(3, SOUND_SIZE))


def test_the_domain_is_saved_loaded_in_float32_and_absent_from_other_models(tmp_path):
    model = tiny_model()
    assert model.ood_score(SOUNDS) is None
    old = set(model.state_dict())
    model.sound_domain, model.config.ood_threshold = SoundDomain(), 1.5
    torch.nn.init.normal_(model.sound_domain.whitening)
    model.save_pretrained(tmp_path)
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.config.ood_threshold == 1.5
    assert set(loaded.state_dict()) == old | {"sound_domain.mean", "sound_domain.whitening"}
    assert loaded.sound_domain.whitening.dtype == torch.float32 != loaded.classifier.weight.dtype
    assert (loaded.ood_score(SOUNDS) == model.ood_score(SOUNDS)).all()


def test_a_model_with_the_former_distance_loads_without_and_says_so(tmp_path, caplog):
    model = tiny_model()
    model.config.ood_threshold = 1.5
    model.ood_scorer = torch.nn.Module()
    model.ood_scorer.register_buffer("mean", torch.zeros(24))
    model.save_pretrained(tmp_path)
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path)
    assert (loaded.sound_domain, loaded.config.ood_threshold, loaded.ood_score(SOUNDS)) == (None, None, None)
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.endswith("Train it again to have it do so.")
