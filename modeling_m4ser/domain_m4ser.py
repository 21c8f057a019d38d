"""How far an utterance lies from the training data; what follows from it is decided in `decisions_m4ser.py`."""

import torch
from torch import nn


class DomainDistance(nn.Module):
    """How far pooled features lie from those of the training data: their Mahalanobis distance / √d, there about 1.

    Buffers alone: the mean of the training features, (d,), and what whitens them, (d, d).
    """

    mean: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("whitening", torch.zeros(size, size))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return the distances (B,), float32, of pooled features (B, d)."""
        whitened = (pooled.float() - self.mean.float()) @ self.whitening.float()
        return whitened.square().mean(-1).sqrt()
