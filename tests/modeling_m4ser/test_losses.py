"""The losses at their edges; test_equations.py holds them against the paper's equations."""

import pytest
import torch

from modeling_m4ser import modeling_m4ser
from modeling_m4ser.losses_m4ser import at_least_float32, label_contrastive_loss, token_cross_entropy
from tests.helpers.tiny import ragged_batch, tiny_model


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_are_in_float32_at_least(dtype):
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert at_least_float32(torch.ones(2, dtype=dtype)).dtype == wanted
    assert label_contrastive_loss(torch.randn(3, 4).to(dtype), torch.tensor([0, 0, 1]), 0.07).dtype == wanted
    assert token_cross_entropy(torch.randn(1, 2, 3).to(dtype), torch.tensor([[0, -100]])).dtype == wanted


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
