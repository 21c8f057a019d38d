"""What of the training data travels with the weights, to tell sounds that are unlike them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from transformers.utils import logging

from .sound_m4ser import SOUND_SIZE, domain_distance

logger: Any = logging.get_logger(__name__)


class SoundDomain(nn.Module):
    """The mean of the training clips' [`~sound_m4ser.describe_sound`], (48,), and what whitens them, (48, 48)."""

    mean: torch.Tensor
    whitening: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(SOUND_SIZE))
        self.register_buffer("whitening", torch.zeros(SOUND_SIZE, SOUND_SIZE))

    def forward(self, sounds: ArrayLike) -> np.ndarray:
        """Return the distances, (B,), of descriptions (B, 48)."""
        return domain_distance(sounds, self.mean.cpu().numpy(), self.whitening.cpu().numpy())


def forget_unknown_domain(model: Any) -> None:
    """Let a model whose weights hold no description of its domain call no sound unlike it, and say so."""
    if model.sound_domain is not None and not model.sound_domain.whitening.any():
        model.sound_domain = model.config.ood_threshold = None
        logger.warning_once(
            "This model was saved with a distance of sound and words that is measured no more: it answers as before, "
            "but calls no sound unlike its training data. Train it again to have it do so."
        )
