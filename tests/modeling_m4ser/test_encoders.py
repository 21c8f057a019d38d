"""The encoders: batches that are their members, SpecAugment, weighted layers, options on loading, freezing."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel

from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification
from modeling_m4ser.encoders_m4ser import FeatureStandardizer, TextEncoder, WhisperSpeechEncoder
from tests.helpers.tiny import (
    EQUAL_LENGTH_KINDS,
    MEL_BINS,
    SIZE,
    SPEECH_KINDS,
    TEXT_KINDS,
    ragged_batch,
    speech_config,
    take,
    text_config,
    tiny_model,
)
from trainer.experiments.ablations import ABLATIONS

AUGMENT = {"apply_spec_augment": True, "mask_time_prob": 0.3, "mask_feature_prob": 0.3, "mask_feature_length": 4}
WEIGHED = {"use_weighted_layer_sum": True}

FRAMES = ("speech_hidden", "speech_specific", "text_specific", "joint_hidden", "invariant")
EVERY_KIND = (*SPEECH_KINDS, *EQUAL_LENGTH_KINDS)


def encode(encoder, frames=60):
    torch.manual_seed(1)
    inputs = torch.randn(2, MEL_BINS, frames)
    return encoder(inputs, torch.ones(2, frames, dtype=torch.long))[0]


# A batch is its members


def batch_model(kind, use_weighted_layer_sum=False, **overrides):
    """A model with batch norms, where it has any, that do not give back what they get."""
    config = speech_config(kind, use_weighted_layer_sum=use_weighted_layer_sum)
    model = tiny_model(kind, spread=True, speech_config=config, **overrides)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    return model


def random_batch(model, seed):
    """One to five utterances, of a sample to a second: ragged, of equal length, or with clips of one sample."""
    dice = np.random.default_rng(seed)
    size = 1 + int(dice.integers(5))
    samples = np.exp(dice.uniform(np.log(100), np.log(16000), size)).astype(int)
    samples = {0: samples, 1: np.repeat(samples[:1], size), 2: np.where(dice.random(size) < 0.5, 1, samples)}[seed % 3]
    tokens = dice.integers(2, 20, size)
    batch = ragged_batch(model, tuple(map(int, samples)), tuple(map(int, tokens)), with_labels=False, seed=seed)
    # Now and then more padding than the longest needs, and anything in it.
    more, name = int(dice.choice([0, 0, 777])), model.m4ser.speech_encoder.input_name
    batch |= {key: nn.functional.pad(batch[key], (0, more)) for key in (name, "speech_attention_mask")}
    padded = batch["speech_attention_mask"] == 0
    padded = padded[:, None] if name == "input_features" else padded
    garbage = (1e3, math.nan)[seed % 2] * torch.randn(batch[name].shape)
    batch[name] = torch.where(padded, garbage.to(model.dtype), batch[name])
    return batch | {"input_ids": torch.where(batch["text_attention_mask"] == 0, 77, batch["input_ids"])}


def difference_to_members(kind, seeds, dtype=torch.float32, **overrides):
    """The largest difference between an utterance's vectors and scores in a batch and alone."""
    model, largest = batch_model(kind, **overrides).to(dtype), 0.0
    for seed in seeds:
        batch = random_batch(model, seed)
        with torch.no_grad():
            together = model(**batch)
            for row in range(len(together.logits)):
                alone = model(**take(batch, row))
                assert int(together.frame_mask[row].sum()) == alone.frame_mask.shape[1]
                for name in (*FRAMES, "text_hidden", "pooled", "logits"):
                    expected = alone[name][0]
                    found = together[name][row, : len(expected)] if expected.dim() > 1 else together[name][row]
                    largest = max(largest, (found - expected).abs().max().item())
    return largest


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in EVERY_KIND),
        *((kind, {"text": "roberta"}) for kind in SPEECH_KINDS),
        *((kind, {"frame_pooling": 3}) for kind in ("hubert", "whisper")),
        *((kind, WEIGHED) for kind in (*SPEECH_KINDS, "hubert-group", "data2vec-audio")),
    ],
)
def test_any_batch_is_its_members(kind, options):
    # WavLM's own frames lose another digit to rounding in float32.
    assert difference_to_members(kind, range(3), **options) < (1e-4 if kind.startswith("wavlm") else 2e-5)
    assert difference_to_members(kind, range(2), torch.float64, **options) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_two_thousand_batches_are_their_members(kind):
    assert difference_to_members(kind, range(2000 // len(EVERY_KIND) + 1)) < 1e-4


def speech_inputs(model, samples):
    batch = ragged_batch(model, samples, (3,) * len(samples))
    return batch[model.m4ser.speech_encoder.input_name], batch["speech_attention_mask"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind != "whisper"])
def test_utterances_of_one_length_are_encoded_together_where_the_padding_is_read(kind, training):
    model = tiny_model(kind).train(training)
    by_length = kind in EQUAL_LENGTH_KINDS and not training
    expected = [(2, 400), (2, 4000), (1, 5210)] if by_length else [(5, 5210)]
    encoder, seen = model.m4ser.speech_encoder, []
    encoder.model.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    hidden, mask = encoder(*speech_inputs(model, (4000, 1, 5210, 4000, 400)))
    assert seen == expected
    if by_length:
        assert mask.sum(-1).tolist() == ([2, 1, 2, 2, 1] if kind == "wav2vec2-adapter" else [12, 1, 16, 12, 1])
        assert hidden.shape == (5, mask.sum(-1).max(), SIZE)
        assert ((hidden.abs().sum(-1) > 0) == mask).all()


def test_gradients_pass_through_a_batch_by_length():
    """As in adapting a model that stays in evaluation mode: the gradient is the members' sum."""
    model = batch_model("hubert-group").double()
    encoder, samples = model.m4ser.speech_encoder, (4000, 2500, 4000)
    inputs, mask = speech_inputs(model, samples)
    encoder(inputs, mask)[0].square().sum().backward()
    together = [parameter.grad.clone() for parameter in encoder.layers.parameters()]
    encoder.zero_grad()
    for row, length in enumerate(samples):
        encoder(inputs[row : row + 1, :length], mask[row : row + 1, :length])[0].square().sum().backward()
    for one, other in zip(together, (parameter.grad for parameter in encoder.layers.parameters()), strict=True):
        torch.testing.assert_close(one, other)
    assert max(grad.abs().max() for grad in together) > 1e-2


def test_whisper_at_full_length_is_the_library_s_encoder():
    model = tiny_model("whisper", speech_config=speech_config("whisper", max_source_positions=15))
    features = torch.randn(2, 16, 30)
    with torch.no_grad():
        ours, _ = model.m4ser.speech_encoder(features, torch.ones(2, 30, dtype=torch.long))
        theirs = model.m4ser.speech_encoder.model(features).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"31 mel frames.*max_audio_seconds"):
        model.m4ser.speech_encoder(torch.randn(1, 16, 31), torch.ones(1, 31, dtype=torch.long))


@pytest.mark.parametrize("applied", [True, False])
def test_whisper_spec_augment_masks_in_training_alone(applied):
    torch.manual_seed(0)
    config = speech_config("whisper", dropout=0.0, **{**AUGMENT, "apply_spec_augment": applied})
    encoder = WhisperSpeechEncoder.from_config(config)
    plain, short = encode(encoder.eval()), encode(encoder, 9)
    assert torch.equal(plain, encode(encoder))
    masked = encode(encoder.train())
    assert torch.allclose(plain, masked, atol=1e-2) != applied
    assert torch.equal(masked, encode(encoder)) != applied, "the masks are not drawn each time"
    assert torch.equal(short, encode(encoder, 9)), "clips shorter than one mask"
    inputs = torch.randn(2, MEL_BINS, 60)
    before = inputs.clone()
    encoder(inputs, torch.ones(2, 60, dtype=torch.long))
    assert torch.equal(before, inputs)


def test_whisper_s_dropout_applies_below_the_layers_in_training_alone():
    config = speech_config("whisper", dropout=0.5, attention_dropout=0.0, activation_dropout=0.0)
    encoder, entered = WhisperSpeechEncoder.from_config(config), []
    encoder.layers[0].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    for training in (False, True):
        encode(encoder.train(training))
        share = (entered[-1] == 0).float().mean().item()
        assert share == pytest.approx(0.5 if training else 0.0, abs=0.06)
    kept = entered[1] != 0
    torch.testing.assert_close(entered[1][kept], 2 * entered[0][kept])


def layer_sum_model(kind, **overrides):
    return tiny_model(kind, speech_config=speech_config(kind, **WEIGHED, **overrides))


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


# Standardizing


def test_standardizers_are_listed_where_they_exist():
    assert tiny_model().m4ser.standardizers() == {}
    core = tiny_model(standardize_features=True).m4ser
    assert core.standardizers() == {"speech": core.speech_standardizer, "text": core.text_standardizer}
    core = tiny_model(standardize_features=True, **ABLATIONS["only text"]).m4ser
    assert core.standardizers() == {"text": core.text_standardizer}


def test_vectors_are_standardized_before_the_projection():
    model = tiny_model(spread=True, standardize_features=True, speech_config=speech_config(size=48))
    core, batch = model.m4ser, ragged_batch(model, with_labels=False)
    transcript = batch["input_ids"], batch["text_attention_mask"]
    sound = batch["input_values"], batch["speech_attention_mask"]
    with torch.no_grad():
        text, speech = core.text_encoder(*transcript)[0], core.speech_encoder(*sound)[0]
        statistics = [(torch.linspace(-1, 1, size), torch.linspace(0.5, 2, size)) for size in (SIZE, 48)]
        core.text_standardizer.set_statistics(*statistics[0])
        core.speech_standardizer.set_statistics(*statistics[1])
        text, speech = ((h - mean) / std for h, (mean, std) in zip((text, speech), statistics, strict=True))
        torch.testing.assert_close(core.encode_text(*transcript)[0], text)
        torch.testing.assert_close(core.encode_speech(sound[0], None, sound[1])[0], core.speech_projection(speech))


def test_a_dimension_that_hardly_varies_is_not_blown_up():
    standardizer = FeatureStandardizer(4)
    assert not standardizer.measured
    assert torch.equal(standardizer(torch.arange(4.0)), torch.arange(4.0))
    standardizer.set_statistics(torch.zeros(4), torch.tensor([1.0, 1.0, 2.0, 0.0]))
    assert standardizer.measured
    torch.testing.assert_close(standardizer(torch.ones(4)), torch.tensor([1.0, 1.0, 0.5, 100.0]))


# Freezing


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("kind", ["hubert", "wavlm", "whisper"])
def test_the_front_end_and_the_lower_layers_freeze(kind, layers):
    model = tiny_model(kind).train()
    model.freeze_speech_layers(layers) if layers else model.freeze_feature_encoder()
    model(**ragged_batch(model)).loss.backward()
    encoder = model.m4ser.speech_encoder
    front = [encoder.model.conv1, encoder.model.conv2] if kind == "whisper" else [encoder.model.feature_extractor]
    kept = encoder.layers[layers:]
    assert len(kept) == 2 - layers
    learning, frozen = ({id(p) for module in part for p in module.parameters()} for part in (kept, front))
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        if layers or id(parameter) in learning | frozen:
            assert parameter.requires_grad == (id(parameter) in learning), name
    with pytest.raises(ValueError, match="Cannot freeze 99 layers"):
        model.freeze_speech_layers(99)


@pytest.mark.parametrize("kind", ["hubert-group", "wavlm", "whisper"])
def test_freeze_encoders(kind):
    """In training too, a frozen encoder does not know the padding: it gives what it gives in evaluation."""
    model = tiny_model(kind)
    batch = ragged_batch(model)
    model.freeze_encoders()
    with torch.no_grad():
        expected = model(**batch)
    outputs = [model.train()(**batch) for _ in range(2)]
    outputs[0].loss.backward()
    for output in outputs:
        assert torch.equal(output.speech_hidden, expected.speech_hidden)
        assert torch.equal(output.text_hidden, expected.text_hidden)
        assert not output.speech_hidden.requires_grad
        assert not output.text_hidden.requires_grad
    assert not torch.equal(outputs[0].logits, outputs[1].logits), "the heads still train with dropout"
    for name, parameter in model.named_parameters():
        if "_encoder." in name:
            assert not parameter.requires_grad, name
            assert parameter.grad is None, name
        elif "discriminator" not in name:
            assert parameter.requires_grad, name
            assert parameter.grad is not None, name


@pytest.mark.parametrize("text", TEXT_KINDS)
def test_the_pooler_is_counted_and_never_trains(tmp_path, text):
    model = tiny_model(text=text).train()
    model.save_pretrained(tmp_path / "model")
    model.m4ser.text_encoder.model.save_pretrained(tmp_path / "text")
    AutoModel.from_config(speech_config()).save_pretrained(tmp_path / "speech")
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path / "model")
    built = M4SERForEmotionClassification.from_encoders_pretrained(
        str(tmp_path / "speech"), str(tmp_path / "text"), num_attention_heads=4
    )
    for each in (model, loaded, built):
        parameters = dict(each.m4ser.text_encoder.named_parameters())
        frozen = {name for name, parameter in parameters.items() if not parameter.requires_grad}
        assert len(frozen) == 2
        assert frozen == {name for name in parameters if "pooler" in name}
    model(**ragged_batch(model)).loss.backward()
    trained = {name for name, parameter in model.m4ser.text_encoder.named_parameters() if parameter.grad is not None}
    assert trained
    assert not any("pooler" in name for name in trained)


@pytest.mark.parametrize("text", TEXT_KINDS)
def test_the_text_encoder_keeps_no_cache_and_needs_no_pooler(text):
    encoder = TextEncoder(AutoModel.from_config(text_config(text), add_pooling_layer=False))
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    asked = []
    encoder.model.register_forward_pre_hook(lambda _, args, kwargs: asked.append(kwargs), with_kwargs=True)
    encoder(torch.tensor([[2, 7, 3]]), torch.ones(1, 3, dtype=torch.long))
    assert asked[0]["use_cache"] is False
