"""The multimodal fusion module (Section III-E, Eq. 8-17) and the modality discriminator (Section III-G)."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_m4ser import M4SERConfig


class CrossAttention(nn.Module):
    """h-head cross-attention with a key mask: Cross-Attn(query, keys, keys) of Eq. 8-10 and 14."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.attention = nn.MultiheadAttention(
            config.hidden_size, config.num_attention_heads, dropout=config.fusion_dropout, batch_first=True
        )

    def forward(self, query: torch.Tensor, keys: torch.Tensor, key_mask: torch.Tensor) -> torch.Tensor:
        """query (B, q, d), keys (B, k, d), boolean key_mask (B, k), True on valid keys -> (B, q, d)."""
        return self.attention(query, keys, keys, key_padding_mask=~key_mask, need_weights=False)[0]


class CrossModalEncoder(nn.Module):
    """CME block (Fig. 3): cross-attention, then a feed-forward part, each with a residual and a layer norm after it."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.attention = CrossAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.hidden_size, config.intermediate_size),
            ACT2FN[config.hidden_act],
            nn.Dropout(config.fusion_dropout),
            nn.Linear(config.intermediate_size, config.hidden_size),
        )
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.fusion_dropout)

    def forward(self, query: torch.Tensor, keys: torch.Tensor, key_mask: torch.Tensor) -> torch.Tensor:
        """query (B, q, d), keys (B, k, d), key_mask (B, k) -> (B, q, d)."""
        hidden = self.attention_norm(query + self.dropout(self.attention(query, keys, key_mask)))
        return self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))


class HybridModalAttention(nn.Module):
    """HMA block (Fig. 4b), Eq. 14-15: what a modality-specific representation shares with the joint one, gated."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.attention = CrossAttention(config)
        # A 1×1 convolution over frames is one linear layer on each frame.
        self.gate = nn.Linear(2 * config.hidden_size, config.hidden_size)

    def forward(self, specific: torch.Tensor, joint: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
        """specific H_i^(spe) and joint H_ST, both (B, m, d) -> H_i^(b) (B, m, d)."""
        shared = self.attention(joint, specific, frame_mask)
        return shared * torch.sigmoid(self.gate(torch.cat([specific, joint], dim=-1)))


class InvariantGenerator(nn.Module):
    """MIR generator G (Fig. 4a), Eq. 11-13."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        size = config.hidden_size
        self.speech_attention = HybridModalAttention(config)
        self.text_attention = HybridModalAttention(config)
        self.speech_convolution = nn.Sequential(nn.Linear(size, size), nn.PReLU())
        self.text_convolution = nn.Sequential(nn.Linear(size, size), nn.PReLU())
        self.norm = nn.LayerNorm(size)

    def forward(
        self, speech: torch.Tensor, text: torch.Tensor, joint: torch.Tensor, frame_mask: torch.Tensor
    ) -> torch.Tensor:
        """H_S^(spe), H_T^(spe), H_ST, all (B, m, d) -> H_ST^(inv) (B, m, d)."""
        speech_shared = self.speech_convolution(self.speech_attention(speech, joint, frame_mask))
        text_shared = self.text_convolution(self.text_attention(text, joint, frame_mask))
        return self.norm(joint + speech_shared + text_shared)


class TextAligner(nn.Module):
    """n token vectors -> m frame vectors, so that H_S ∥ H_T of Eq. 11 exists (the paper does not say how)."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.attention = CrossAttention(config) if config.text_alignment == "attention" else None

    def forward(
        self, text: torch.Tensor, text_mask: torch.Tensor, speech: torch.Tensor, frame_mask: torch.Tensor
    ) -> torch.Tensor:
        """text (B, n, d) with mask (B, n), speech (B, m, d) with mask (B, m) -> (B, m, d)."""
        if self.attention is not None:
            return self.attention(speech, text, text_mask)
        return interpolate_tokens(text, text_mask, frame_mask)


def interpolate_tokens(text: torch.Tensor, text_mask: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """
    Linear interpolation of each utterance's valid tokens onto its valid frames.

    Frame t of m looks at token position (t + 1/2)·n/m − 1/2, held inside 0 … n−1: tokens and frames are taken as equal
    shares of the same stretch of time.

    Args:
        text: (B, n, d); text_mask: (B, n); frame_mask: (B, m), valid places first in both.

    Returns:
        (B, m, d); rows past an utterance's last frame repeat its last token.
    """
    tokens = text_mask.sum(-1, keepdim=True)
    frames = frame_mask.sum(-1, keepdim=True)
    # In float32 or better: half precision cannot tell the frames of a long utterance apart.
    precision = torch.promote_types(text.dtype, torch.float32)
    steps = torch.arange(frame_mask.shape[1], device=text.device, dtype=precision)[None, :]
    position = ((steps + 0.5) * tokens / frames - 0.5).clamp(min=0)
    position = torch.minimum(position, (tokens - 1).to(position.dtype))
    left = position.floor().long()
    right = torch.minimum(left + 1, tokens - 1)
    weight = (position - left)[..., None].to(text.dtype)

    def pick(index: torch.Tensor) -> torch.Tensor:
        return text.gather(1, index[..., None].expand(-1, -1, text.shape[-1]))

    return torch.lerp(pick(left), pick(right), weight)


def masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the valid places of the second axis: (B, m, d), (B, m) -> (B, d)."""
    mask = mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


class ModalityDiscriminator(nn.Module):
    """
    D (Fig. 2f): two linear layers with a ReLU between. Returns **logits**; the paper's sigmoid lives in the losses.

    Runs outside autocast in its weights' own precision: half precision makes the adversarial game unstable.
    """

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.hidden = nn.Linear(config.hidden_size, config.discriminator_hidden_size)
        self.output = nn.Linear(config.discriminator_hidden_size, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, m, d) -> logits (B, m): above 0 says speech, below 0 text."""
        with torch.autocast(features.device.type, enabled=False):
            hidden = torch.relu(self.hidden(features.to(self.hidden.weight.dtype)))
            return self.output(hidden).squeeze(-1)
