"""Losses of the emotion classifier other than the paper's plain cross-entropy (Eq. 19)."""

from collections.abc import Sequence

import torch
from torch import nn

from modeling_m4ser.losses_m4ser import at_least_float32


class BalancedCrossEntropy(nn.Module):
    """Cross-entropy in which rare classes weigh as much as frequent ones; the `emotion_loss_func` of [`M4SERTrainer`].

    Each class weighs the inverse of its share of the training data, so that the weights' mean over that data is 1. The
    loss is the mean over utterances: unlike `nn.CrossEntropyLoss(weight=…)`, it is not divided by the weights' sum, and
    a batch of rare classes counts for more.

    Args:
        labels: class indices of the training data (N,).
        num_labels: number of classes e.
    """

    weight: torch.Tensor

    def __init__(self, labels: Sequence[int], num_labels: int):
        super().__init__()
        counts = torch.bincount(torch.as_tensor(labels), minlength=num_labels)
        self.register_buffer("weight", len(labels) / (counts.clamp(min=1) * (counts > 0).sum()))

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (B, e) and labels (B,) as a scalar."""
        logits = at_least_float32(logits)
        losses = nn.functional.cross_entropy(logits, labels, weight=self.weight.to(logits), reduction="none")
        return losses.mean()
