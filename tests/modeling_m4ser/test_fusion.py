"""The fusion module: what is left out of it, its dropouts, its masks, and the discriminator."""

import pytest
import torch
from torch import nn

from modeling_m4ser.fusion_m4ser import (
    CrossModalEncoder,
    ModalityDiscriminator,
    MultimodalFusion,
    average_frames,
    interpolate_tokens,
    masked_mean,
)
from tests.helpers.tiny import SIZE, ragged_batch, tiny_config, tiny_model
from trainer.experiments.ablations import ABLATIONS

HALF = 0.5  # dropout: what is kept is doubled


class Constant(nn.Module):
    """Stands for a part of a block: the same number everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, query, *_):
        return torch.full_like(query, self.value)


def features(frames=6, tokens=4, seed=0):
    """H_S and H_T of two utterances, the second one shorter, with their masks."""
    generator = torch.Generator().manual_seed(seed)
    speech = torch.randn(2, frames, SIZE, generator=generator)
    text = torch.randn(2, tokens, SIZE, generator=generator)
    frame_mask = torch.tensor([[True] * frames, [True] * (frames - 2) + [False] * 2])
    text_mask = torch.tensor([[True] * tokens, [True] * (tokens - 1) + [False]])
    return speech, frame_mask, text, text_mask


# Without parts


@pytest.mark.parametrize("name", ["only speech", "only text"])
def test_one_modality_has_no_fusion(name):
    model = tiny_model(**ABLATIONS[name])
    assert model.m4ser.fusion is None
    output = model(**ragged_batch(model))
    kept, gone = ("speech_hidden", "text_hidden") if name == "only speech" else ("text_hidden", "speech_hidden")
    assert kept in output
    assert not {gone, "speech_specific", "text_specific", "joint_hidden", "invariant"} & set(output)
    expected = torch.stack([row[mask].mean(0) for row, mask in zip(output[kept], output.frame_mask, strict=True)])
    torch.testing.assert_close(output.pooled, expected)


@pytest.mark.parametrize("name", ["w/o MSR", "speech & text + concat", "w/o MIR"])
def test_what_is_left_of_the_fusion_is_pooled(name):
    speech, frame_mask, text, text_mask = features()
    output = MultimodalFusion(tiny_config(**ABLATIONS[name])).eval()(speech, frame_mask, text, text_mask)
    if name == "w/o MIR":
        assert output.joint_hidden is output.invariant is None
        parts = [output.speech_specific, output.text_specific]
    else:  # the encoders speak for themselves
        assert torch.equal(output.speech_specific, speech)
        assert torch.equal(output.text_specific, interpolate_tokens(text, text_mask, frame_mask))
        parts = [output.joint_hidden if output.invariant is None else output.invariant]
    torch.testing.assert_close(output.pooled, sum(masked_mean(part, frame_mask) for part in parts) / len(parts))


# Fewer frames


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_frames_are_averaged_over_the_valid_ones_alone(size):
    hidden = torch.randn(3, 7, SIZE)
    lengths = (7, 4, 1)
    mask = torch.arange(7)[None] < torch.tensor(lengths)[:, None]
    pooled, pooled_mask = average_frames(hidden.masked_fill(~mask[..., None], float("nan")), mask, size)
    for row, length in enumerate(lengths):
        expected = [hidden[row, start : min(start + size, length)].mean(0) for start in range(0, length, size)]
        assert pooled_mask[row].sum() == len(expected)
        assert pooled_mask[row, : len(expected)].all()
        torch.testing.assert_close(pooled[row, : len(expected)], torch.stack(expected))


def test_a_model_of_pooled_frames_fuses_means_of_its_frames():
    plain, pooling = tiny_model(spread=True), tiny_model(spread=True, frame_pooling=3)
    batch = ragged_batch(plain)
    with torch.no_grad():
        frames, output = plain(**batch), pooling(**batch)
    expected, mask = average_frames(frames.speech_hidden, frames.frame_mask, 3)
    assert torch.equal(output.frame_mask, mask)
    assert output.invariant.shape == expected.shape
    torch.testing.assert_close(output.speech_hidden[mask], expected[mask])


# Dropout


def block(training=True):
    """A cross-modal encoder that only adds: without its norms, so that a dropped value shows."""
    encoder = CrossModalEncoder(tiny_config(fusion_dropout=HALF)).train(training)
    encoder.attention_norm = encoder.feed_forward_norm = nn.Identity()
    return encoder


@pytest.mark.parametrize("place", ["attention", "feed_forward"])
def test_dropout_of_a_cross_modal_encoder_s_two_residual_branches(place):
    query, keys, mask = torch.zeros(2, 40, SIZE), torch.zeros(2, 5, SIZE), torch.ones(2, 5, dtype=torch.bool)
    encoder = block()
    encoder.attention, encoder.feed_forward = Constant(0.0), Constant(0.0)
    setattr(encoder, place, Constant(1.0))
    added = encoder(query, keys, mask)
    assert set(added.unique().tolist()) == {0.0, 2.0}
    assert added.mean().item() == pytest.approx(1.0, abs=0.15)
    assert torch.equal(encoder.eval()(query, keys, mask), torch.ones_like(query))


def test_dropout_inside_the_feed_forward_part():
    encoder, seen = block(), []
    encoder.feed_forward[3].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    hidden = torch.randn(2, 40, SIZE)
    encoder.feed_forward(hidden)
    encoder.eval().feed_forward(hidden)
    trained, expected = seen
    dropped = trained == 0
    assert dropped.float().mean().item() == pytest.approx(HALF, abs=0.05)
    torch.testing.assert_close(trained[~dropped], 2 * expected[~dropped])


@pytest.mark.parametrize("dropout", [0.0, HALF])
def test_dropout_of_attention_weights(dropout):
    fusion = MultimodalFusion(tiny_config(fusion_dropout=dropout, text_alignment="attention")).train()
    layer = fusion.generator.layers[0]
    query, keys, mask = torch.randn(2, 6, SIZE), torch.randn(2, 5, SIZE), torch.ones(2, 5, dtype=torch.bool)
    for block in (fusion.text_query_speech_key, layer.speech_attention, layer.text_attention, fusion.aligner):
        attention = block.attention
        assert torch.equal(attention(query, keys, mask), attention(query, keys, mask)) == (dropout == 0)
        attention.eval()
        assert torch.equal(attention(query, keys, mask), attention(query, keys, mask))
    expected = fusion.eval()(*features()).pooled
    assert torch.equal(fusion.train()(*features()).pooled, expected) == (dropout == 0)


# Parts


def test_the_activation_and_the_inner_size_are_the_configuration_s():
    encoder = CrossModalEncoder(tiny_config(hidden_act="relu", intermediate_size=20)).eval()
    assert encoder.feed_forward[0].out_features == encoder.feed_forward[3].in_features == 20
    assert torch.equal(encoder.feed_forward[1](torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))


def test_interpolation_of_a_long_utterance_in_half_precision():
    frames = 1500
    text = torch.arange(40.0)[None, :, None]
    text_mask, frame_mask = torch.ones(1, 40, dtype=torch.bool), torch.ones(1, frames, dtype=torch.bool)
    exact = interpolate_tokens(text, text_mask, frame_mask)
    halved = interpolate_tokens(text.bfloat16(), text_mask, frame_mask)
    assert halved.dtype == torch.bfloat16
    assert (halved.float() - exact).abs().max() <= 0.2


def test_the_discriminator_works_in_its_own_precision_under_autocast():
    discriminator = ModalityDiscriminator(tiny_config())
    inputs = torch.randn(2, 3, SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = discriminator(inputs.bfloat16())
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, discriminator(inputs.bfloat16().float()), rtol=0, atol=0)
