"""The balanced emotion loss: its weights, its mean, by hand."""

import math

import pytest
import torch

from trainer import BalancedCrossEntropy


def test_each_utterance_weighs_by_its_class():
    """Three of class 0 and one of class 1 among two: weights 4/(2·3) and 4/(2·1), whose mean over the data is 1."""
    loss = BalancedCrossEntropy([0, 0, 1, 0], num_labels=4)
    torch.testing.assert_close(loss.weight[:2], torch.tensor([2 / 3, 2.0]))
    assert loss.weight[torch.tensor([0, 0, 1, 0])].mean() == pytest.approx(1)
    logits = torch.randn(4, 4, dtype=torch.float64)
    log_probabilities = logits.log_softmax(-1)
    expected = -(2 / 3 * (log_probabilities[[0, 1, 3], 0]).sum() + 2 * log_probabilities[2, 1]) / 4
    torch.testing.assert_close(loss(logits, torch.tensor([0, 0, 1, 0])), expected, atol=1e-6, rtol=0)


def test_it_is_not_divided_by_the_weights_of_the_batch():
    """A batch of the rare class alone counts twice as much as plain cross-entropy would."""
    loss = BalancedCrossEntropy([0, 0, 1, 0], num_labels=2)
    assert loss(torch.zeros(3, 2), torch.ones(3, dtype=torch.long)).item() == pytest.approx(2 * math.log(2), rel=1e-6)


def test_half_precision_logits_are_computed_in_full():
    loss = BalancedCrossEntropy([0, 1], num_labels=2)
    assert loss(torch.zeros(2, 2, dtype=torch.bfloat16), torch.tensor([0, 1])).dtype == torch.float32
