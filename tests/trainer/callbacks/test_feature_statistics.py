"""Standardised encoder features: the statistics, when they are measured, and that they stay with the model."""

import numpy as np
import pytest
import torch

from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.tiny import ragged_batch, take, tiny_model
from trainer.callbacks import feature_statistics
from trainer.callbacks.feature_statistics import measure_features
from trainer.experiments.ablations import ABLATIONS


def encoder_vectors(model, batch, modality):
    """The unpadded vectors of an encoder, utterance by utterance."""
    names = {"speech": ("input_features", "speech_attention_mask"), "text": ("input_ids", "text_attention_mask")}
    encoder, vectors = getattr(model.m4ser, f"{modality}_encoder"), []
    for row in range(len(batch["input_ids"])):
        alone = take(batch, row)
        with torch.no_grad():
            vectors.append(encoder(*(alone[name] for name in names[modality]))[0][0].double().numpy())
    return np.concatenate(vectors)


@pytest.mark.parametrize(("modality", "ablation"), [("speech", "M4SER"), ("text", "M4SER"), ("text", "only text")])
def test_statistics_are_those_of_the_valid_vectors(modality, ablation):
    model = tiny_model("whisper", standardize_features=True, **ABLATIONS[ablation]).train()
    batches = [ragged_batch(model, seed=seed) for seed in (0, 1)]
    assert len(model.m4ser.standardizers()) == (2 if ablation == "M4SER" else 1)
    standardizer = getattr(model.m4ser, f"{modality}_standardizer")
    assert not standardizer.measured
    measure_features(model, batches)
    assert standardizer.measured
    assert model.training
    model.eval()
    vectors = np.concatenate([encoder_vectors(model, batch, modality) for batch in batches])
    np.testing.assert_allclose(standardizer.mean, vectors.mean(0), atol=1e-5)
    np.testing.assert_allclose(standardizer.deviation, vectors.std(0), atol=1e-5)


def test_training_measures_evenly_spaced_training_rows_first_and_once(tmp_path, monkeypatch):
    """A corpus sorted by emotion or speaker must not be measured on its first class alone."""
    monkeypatch.setattr(feature_statistics, "MAX_UTTERANCES", 3)
    data, other = tiny_corpus(8), tiny_corpus(8, seed=5)
    model, expected = (tiny_model("whisper", standardize_features=True) for _ in range(2))
    trainer = tiny_trainer(tmp_path, model, data, eval_data=other, max_steps=2, eval_strategy="steps", eval_steps=1)
    measure_features(expected, [trainer.data_collator([data[row] for row in (0, 3, 6)])])
    trainer.train()
    for name, buffer in expected.m4ser.speech_standardizer.named_buffers():
        torch.testing.assert_close(model.m4ser.speech_standardizer.get_buffer(name), buffer, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "saved")
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path / "saved")
    tiny_trainer(tmp_path / "again", loaded, other, max_steps=1).train()
    assert torch.equal(loaded.m4ser.text_standardizer.mean, model.m4ser.text_standardizer.mean)
