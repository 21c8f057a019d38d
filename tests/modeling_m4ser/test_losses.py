"""The losses at their edges; test_equations.py holds them against the paper's equations."""

import pytest
import torch

from modeling_m4ser import M4SEROutput, modeling_m4ser
from modeling_m4ser.losses_m4ser import (
    LOSSES,
    AdversarialLoss,
    at_least_float32,
    frame_mean,
    gather_across_processes,
    label_contrastive_loss,
    token_cross_entropy,
)
from tests.helpers.tiny import SIZE, ragged_batch, tiny_model


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_are_in_float32_at_least(dtype):
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert at_least_float32(torch.ones(2, dtype=dtype)).dtype == wanted
    assert label_contrastive_loss(torch.randn(3, 4).to(dtype), torch.tensor([0, 0, 1]), 0.07).dtype == wanted
    assert token_cross_entropy(torch.randn(1, 2, 3).to(dtype), torch.tensor([[0, -100]])).dtype == wanted


def test_token_cross_entropy_counts_labelled_tokens_alone():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    labels = torch.tensor([[4, -100, 0], [-100, -100, -100]])
    expected = -(logits[0, 0].log_softmax(-1)[4] + logits[0, 2].log_softmax(-1)[0]) / 2
    torch.testing.assert_close(token_cross_entropy(logits, labels), expected)
    nothing = token_cross_entropy(logits, torch.full((2, 3), -100))
    nothing.backward()
    assert nothing == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_frames_of_long_utterances_weigh_more_and_one_process_gathers_nothing():
    values = torch.tensor([[1.0, 1.0, 1.0], [5.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert frame_mean(values, mask) == 2.0
    assert gather_across_processes(values) is values


def test_the_discriminator_wants_speech_above_zero_and_text_below():
    model = tiny_model()
    loss = AdversarialLoss("modality")
    speech, text, invariant = torch.randn(3, 1, 4, SIZE)
    mask = torch.ones(1, 4, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss.discriminator_loss(model.discriminator, speech, text, invariant, mask)["loss"].backward()
        optimizer.step()
    assert (model.discriminator(speech) > 0).all()
    assert (model.discriminator(text) < 0).all()


def test_the_contrastive_loss_sees_the_rows_of_all_processes_in_training_alone(monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(modeling_m4ser, "gather_across_processes", lambda rows: torch.cat([rows, rows.roll(1, 0)]))
    batch, temperature = ragged_batch(model), model.config.temperature
    for training in (False, True):
        output = model.train(training)(**batch)
        pooled, labels = output.pooled, batch["labels"]
        if training:
            pooled, labels = torch.cat([pooled, pooled.roll(1, 0)]), torch.cat([labels, labels.roll(1, 0)])
        torch.testing.assert_close(output.contrastive_loss, label_contrastive_loss(pooled, labels, temperature))


def test_every_part_of_eq_22_has_its_weights_and_its_output():
    model = tiny_model()
    for name, loss in LOSSES.items():
        assert all(isinstance(getattr(model.config, weight), (int, float)) for weight in loss.weights), name
        assert name == "adversarial" or hasattr(M4SEROutput(), f"{name}_loss"), "the Trainer computes that one"
        assert f"{name}_loss" in model.config.keys_to_ignore_at_inference
    with pytest.raises(TypeError, match="no loss prosody; its losses: emotion, detection, "):
        model.combine_losses(emotion=torch.ones(()), prosody=torch.ones(()))
