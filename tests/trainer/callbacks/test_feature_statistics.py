"""Standardised encoder features: the statistics, when they are measured, and that they stay with the model."""

import numpy as np
import pytest
import torch

from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.tiny import parameters_of, ragged_batch, take, tiny_model
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


def test_hidden_vectors_have_mean_0_and_deviation_1():
    model = tiny_model("whisper", standardize_features=True)
    batch = ragged_batch(model)
    before = model(**batch).speech_hidden
    measure_features(model, [batch])
    with torch.no_grad():
        output = model(**batch)
    assert not torch.allclose(before, output.speech_hidden, atol=0.1)
    text_mask = batch["text_attention_mask"].bool()
    for hidden, mask in ((output.speech_hidden, output.frame_mask), (output.text_hidden, text_mask)):
        vectors = hidden[mask]
        torch.testing.assert_close(vectors.mean(0), torch.zeros(24), atol=1e-4, rtol=0)
        torch.testing.assert_close(vectors.std(0, correction=0), torch.ones(24), atol=1e-3, rtol=0)


def test_a_dimension_that_never_varies_is_not_blown_up():
    model = tiny_model("whisper", standardize_features=True)
    norm = model.m4ser.speech_encoder.model.layer_norm
    norm.weight.data[3] = 0
    batch = ragged_batch(model)
    measure_features(model, [batch])
    norm.bias.data[3] += 1e-3
    with torch.no_grad():
        moved = model(**batch).speech_hidden[0, 0, 3]
    assert 0 < abs(moved) < 1


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


def test_a_resumed_run_keeps_its_statistics_bit_for_bit(tmp_path):
    arguments = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3}
    whole = tiny_model("whisper", standardize_features=True)
    tiny_trainer(tmp_path / "whole", whole, **arguments).train()
    resumed = tiny_model("whisper", seed=1, standardize_features=True)
    checkpoint = tmp_path / "whole" / "run" / "checkpoint-3"
    tiny_trainer(tmp_path / "resumed", resumed, **arguments).train(resume_from_checkpoint=str(checkpoint))
    for name, value in parameters_of(whole).items():
        assert torch.equal(value, parameters_of(resumed)[name]), name
    for name, buffer in whole.m4ser.named_buffers():
        assert torch.equal(buffer, resumed.m4ser.get_buffer(name)), name
