"""SpecAugment of Whisper's encoder, the weighted sum of layers, and encoder settings that a user changes on loading."""

import math

import pytest
import torch
from transformers import AutoModel

from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification
from modeling_m4ser.encoders_m4ser import WhisperSpeechEncoder
from tests.helpers.tiny import MEL_BINS, SPEECH_KINDS, ragged_batch, speech_config, take, text_config, tiny_model

AUGMENT = {"apply_spec_augment": True, "mask_time_prob": 0.3, "mask_feature_prob": 0.3, "mask_feature_length": 4}


def encode(encoder, frames=60):
    torch.manual_seed(1)
    inputs = torch.randn(2, MEL_BINS, frames)
    return encoder(inputs, torch.ones(2, frames, dtype=torch.long))[0]


def test_whisper_spec_augment_masks_in_training_alone():
    torch.manual_seed(0)
    encoder = WhisperSpeechEncoder.from_config(speech_config("whisper", **AUGMENT, dropout=0.0))
    plain = encode(encoder.eval())
    assert torch.equal(plain, encode(encoder))
    masked = encode(encoder.train())
    assert not torch.allclose(plain, masked, atol=1e-2)
    assert not torch.equal(masked, encode(encoder)), "the masks are not drawn anew"


def test_whisper_without_spec_augment_is_the_same_in_training():
    encoder = WhisperSpeechEncoder.from_config(
        speech_config("whisper", dropout=0.0, **{**AUGMENT, "apply_spec_augment": False})
    )
    assert torch.equal(encode(encoder.eval()), encode(encoder.train()))


def test_spec_augment_leaves_the_caller_s_tensor_and_short_clips_alone():
    encoder = WhisperSpeechEncoder.from_config(speech_config("whisper", **AUGMENT, dropout=0.0)).train()
    inputs = torch.randn(2, MEL_BINS, 60)
    before = inputs.clone()
    encoder(inputs, torch.ones(2, 60, dtype=torch.long))
    assert torch.equal(before, inputs)
    assert torch.equal(encode(encoder, 9), encode(encoder.eval(), 9))


@pytest.mark.parametrize("kind", ["whisper", "hubert"])
def test_options_change_the_encoders_and_keep_their_weights(tmp_path, kind):
    speech, text = AutoModel.from_config(speech_config(kind)), AutoModel.from_config(text_config())
    speech.save_pretrained(tmp_path / "speech")
    text.save_pretrained(tmp_path / "text")
    model = M4SERForEmotionClassification.from_encoders_pretrained(
        str(tmp_path / "speech"),
        str(tmp_path / "text"),
        speech_options={"apply_spec_augment": True, "mask_time_prob": 0.2},
        text_options={"hidden_dropout_prob": 0.37},
        num_attention_heads=4,
        num_labels=3,
    )
    for config in (model.config.speech_config, model.m4ser.speech_encoder.model.config):
        assert config.apply_spec_augment and config.mask_time_prob == 0.2
    dropouts = {m.p for m in model.m4ser.text_encoder.modules() if isinstance(m, torch.nn.Dropout)}
    assert 0.37 in dropouts
    loaded = model.m4ser.speech_encoder.model.state_dict()
    source = speech.encoder.state_dict() if kind == "whisper" else speech.state_dict()
    assert all(torch.equal(source[name], loaded[name]) for name in source)
    model.save_pretrained(tmp_path / "saved")
    again = M4SERForEmotionClassification.from_pretrained(tmp_path / "saved")
    assert again.config.speech_config.mask_time_prob == 0.2


def layer_sum_model(kind, **overrides):
    config = speech_config(kind, use_weighted_layer_sum=True, **overrides)
    return tiny_model(kind, speech_config=config)


@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_layers_are_weighed_by_the_softmax_of_learned_numbers(kind):
    model = layer_sum_model(kind)
    encoder, batch = model.m4ser.speech_encoder, ragged_batch(model)
    inputs = batch[encoder.input_name], batch["speech_attention_mask"]
    lower = []
    encoder.layers[0].register_forward_hook(lambda layer, entered, left: lower.append((entered[0], left)))
    with torch.no_grad():
        equal, mask = encoder(*inputs)
        entered, left = lower[0]
        left = left[0] if isinstance(left, tuple) else left
        encoder.layer_weights.copy_(torch.tensor([0.3, -40.0, 2.0]))
        weighed, _ = encoder(*inputs)
        encoder.layer_weights = None
        last, _ = encoder(*inputs)
    torch.testing.assert_close(equal[mask], ((entered + left + last) / 3)[mask])
    share = 1 / (1 + math.exp(2.0 - 0.3))
    torch.testing.assert_close(weighed[mask], (share * entered + (1 - share) * last)[mask])


@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_weighed_layers_do_not_know_the_padding(kind):
    model = layer_sum_model(kind)
    batch = ragged_batch(model)
    with torch.no_grad():
        together = model(**batch).logits
        alone = torch.cat([model(**take(batch, index)).logits for index in range(len(together))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("freeze", ["freeze_encoders", "freeze_speech_layers"])
def test_layer_weights_learn_over_frozen_layers(freeze):
    model = layer_sum_model("whisper").train()
    model.freeze_encoders() if freeze == "freeze_encoders" else model.freeze_speech_layers(1)
    model(**ragged_batch(model)).loss.backward()
    encoder = model.m4ser.speech_encoder
    assert encoder.layer_weights.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in encoder.layers[0].parameters())


def test_layer_weights_are_saved_and_start_equal_where_a_checkpoint_has_none(tmp_path):
    model = layer_sum_model("whisper")
    torch.nn.init.normal_(model.m4ser.speech_encoder.layer_weights)
    model.save_pretrained(tmp_path / "weighed")
    again = M4SERForEmotionClassification.from_pretrained(tmp_path / "weighed")
    assert torch.equal(again.m4ser.speech_encoder.layer_weights, model.m4ser.speech_encoder.layer_weights)
    tiny_model("whisper").save_pretrained(tmp_path / "plain")
    config = M4SERConfig.from_pretrained(tmp_path / "plain")
    config.speech_config.use_weighted_layer_sum = True
    started = M4SERForEmotionClassification.from_pretrained(tmp_path / "plain", config=config)
    assert started.m4ser.speech_encoder.layer_weights.tolist() == [0, 0, 0]


def test_layers_that_are_dropped_cannot_be_weighed():
    with pytest.raises(ValueError, match="set its layerdrop to 0"):
        layer_sum_model("hubert", layerdrop=0.1)
