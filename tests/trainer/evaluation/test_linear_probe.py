"""The linear probe: its features, and which split it is fitted, chosen and tested on."""

import numpy as np
import pytest
from datasets import DatasetDict

from data_scripts.splits import speaker_folds
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS, tiny_model, tiny_processor
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
