"""SpecAugment of Whisper's encoder, and encoder settings that a user changes on loading."""

import pytest
import torch
from transformers import AutoModel

from modeling_m4ser import M4SERForEmotionClassification
from modeling_m4ser.encoders_m4ser import WhisperSpeechEncoder
from tests.tiny import MEL_BINS, speech_config, text_config

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
