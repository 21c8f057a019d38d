"""The multimodal fusion module (Section III-E, Eq. 8-17) and the modality discriminator (Section III-G)."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.utils.generic import ModelOutput

from .configuration_m4ser import M4SERConfig


@dataclass
class M4SERModelOutput(ModelOutput):
    """Output of [`MultimodalFusion`] and of [`M4SERModel`]. What the configuration leaves out is None.

    Args:
        pooled (`torch.Tensor` of shape `(B, d)`): H_ST^(ap), Eq. 17.
        speech_hidden (`torch.Tensor` of shape `(B, m, d)`): H_S, Eq. 1.
        text_hidden (`torch.Tensor` of shape `(B, n, d)`): H_T, Eq. 1.
        speech_specific (`torch.Tensor` of shape `(B, m, d)`): H_S^(spe), Eq. 9.
        text_specific (`torch.Tensor` of shape `(B, m, d)`): H_T^(spe), Eq. 10.
        joint_hidden (`torch.Tensor` of shape `(B, m, d)`): H_ST, Eq. 11.
        invariant (`torch.Tensor` of shape `(B, m, d)`): H_ST^(inv), Eq. 12.
        frame_mask (`torch.Tensor` of shape `(B, m)`): True on valid frames.
    """

    pooled: torch.Tensor | None = None
    speech_hidden: torch.Tensor | None = None
    text_hidden: torch.Tensor | None = None
    speech_specific: torch.Tensor | None = None
    text_specific: torch.Tensor | None = None
    joint_hidden: torch.Tensor | None = None
    invariant: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None


class CrossAttention(nn.Module):
    """h-head cross-attention with a key mask: Cross-Attn(query, keys, keys) of Eq. 8-10 and 14."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.attention = nn.MultiheadAttention(
            config.hidden_size, config.num_attention_heads, dropout=config.fusion_dropout, batch_first=True
        )

    def forward(self, query: torch.Tensor, keys: torch.Tensor, key_mask: torch.Tensor) -> torch.Tensor:
        """Attend from a query (B, q, d) to the valid ones of the keys (B, k, d), by their mask (B, k): (B, q, d)."""
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
        """Bring into each query place (B, q, d) what the valid keys (B, k, d) of the other modality add to it."""
        hidden = self.attention_norm(query + self.dropout(self.attention(query, keys, key_mask)))
        return self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))


class HybridModalAttention(nn.Module):
    """HMA block (Fig. 4b), Eq. 14-15: what a modality-specific representation shares with the joint one, gated."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.attention = CrossAttention(config)
        # A 1×1 convolution over frames is one linear layer on each frame.
        self.gate = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.gate_activation = nn.PReLU() if config.gate_prelu else nn.Identity()

    def forward(self, specific: torch.Tensor, joint: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
        """Compute Eq. 14-15: from H_i^(spe) of one modality and H_ST, both (B, m, d), to H_i^(b) (B, m, d)."""
        shared = self.attention(joint, specific, frame_mask)
        gate = self.gate_activation(self.gate(torch.cat([specific, joint], dim=-1)))
        return shared * torch.sigmoid(gate)


class GeneratorLayer(nn.Module):
    """What the MIR generator G (Fig. 4a) consists of: Eq. 12-13."""

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
        """Compute Eq. 12-13: H_ST^(inv) from H_S^(spe), H_T^(spe), and H_ST or what the layer before returned."""
        speech_shared = self.speech_convolution(self.speech_attention(speech, joint, frame_mask))
        text_shared = self.text_convolution(self.text_attention(text, joint, frame_mask))
        return self.norm(joint + speech_shared + text_shared)


class InvariantGenerator(nn.Module):
    """MIR generator G (Fig. 4a): `generator_layers` of [`GeneratorLayer`], one in the paper's figure."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.layers = nn.ModuleList(GeneratorLayer(config) for _ in range(config.generator_layers))

    def forward(
        self, speech: torch.Tensor, text: torch.Tensor, joint: torch.Tensor, frame_mask: torch.Tensor
    ) -> torch.Tensor:
        """Compute H_ST^(inv) of Eq. 13; arguments and result as in [`GeneratorLayer`]."""
        for layer in self.layers:
            joint = layer(speech, text, joint, frame_mask)
        return joint


class TextAligner(nn.Module):
    """Turns n token vectors into m frame vectors: Eq. 11 concatenates H_S ∥ H_T, and the paper does not say how."""

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.attention = CrossAttention(config) if config.text_alignment == "attention" else None

    def forward(
        self, text: torch.Tensor, text_mask: torch.Tensor, speech: torch.Tensor, frame_mask: torch.Tensor
    ) -> torch.Tensor:
        """Give each frame a token vector: (B, m, d) from H_T (B, n, d); only attention reads H_S (B, m, d)."""
        if self.attention is not None:
            return self.attention(speech, text, text_mask)
        return interpolate_tokens(text, text_mask, frame_mask)


class MultimodalFusion(nn.Module):
    """The multimodal fusion module (Fig. 2c): from H_S and H_T to H_ST^(ap), with every representation in between.

    It needs nothing of the encoders: call it directly on features that were computed elsewhere. Modules that the
    configuration leaves out are None: the cross-modal encoders ("w/o MSR", concatenation), the generator ("w/o MIR",
    concatenation), and the aligner with the joint projection ("w/o MIR").
    """

    def __init__(self, config: M4SERConfig):
        super().__init__()
        joint = config.use_modality_invariant or config.fusion == "concat"
        self.aligner = TextAligner(config) if joint else None
        self.joint_projection = nn.Linear(2 * config.hidden_size, config.hidden_size) if joint else None
        specific = config.use_modality_specific
        self.text_query_speech_key = CrossModalEncoder(config) if specific else None
        self.speech_query_token_key = CrossModalEncoder(config) if specific else None
        self.speech_query_text_key = CrossModalEncoder(config) if specific else None
        self.generator = InvariantGenerator(config) if config.use_modality_invariant else None

    def forward(
        self,
        speech_hidden: torch.Tensor,
        frame_mask: torch.Tensor,
        text_hidden: torch.Tensor,
        text_mask: torch.Tensor,
    ) -> M4SERModelOutput:
        """Compute Eq. 8-17 from H_S (B, m, d) and H_T (B, n, d), standardized and projected to d.

        The masks are boolean; valid places come first. Where there are no cross-modal encoders, H_S itself is
        `speech_specific`, and H_T aligned to the frames is `text_specific`.
        """
        speech_specific, text_specific, joint, invariant = speech_hidden, None, None, None
        fused = []
        if self.text_query_speech_key and self.speech_query_token_key and self.speech_query_text_key:
            token_level = self.text_query_speech_key(text_hidden, speech_hidden, frame_mask)
            speech_specific = self.speech_query_token_key(speech_hidden, token_level, text_mask)
            text_specific = self.speech_query_text_key(speech_hidden, text_hidden, text_mask)
            fused += [speech_specific, text_specific]
        if self.aligner and self.joint_projection:
            aligned = self.aligner(text_hidden, text_mask, speech_hidden, frame_mask)
            joint = self.joint_projection(torch.cat([speech_hidden, aligned], dim=-1))
            text_specific = aligned if text_specific is None else text_specific
        if self.generator is not None:
            invariant = self.generator(speech_specific, text_specific, joint, frame_mask)
            fused.append(invariant)
        # The parts have the same valid frames: the mean of their means is the mean over the 3m frames of Eq. 16-17.
        means = [masked_mean(part, frame_mask) for part in fused or [joint]]
        return M4SERModelOutput(
            pooled=sum(means[1:], means[0]) / len(means),
            speech_hidden=speech_hidden,
            text_hidden=text_hidden,
            speech_specific=speech_specific,
            text_specific=text_specific,
            joint_hidden=joint,
            invariant=invariant,
            frame_mask=frame_mask,
        )


def interpolate_tokens(text: torch.Tensor, text_mask: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """Interpolate each utterance's valid tokens (B, n, d) linearly onto its valid frames: (B, m, d).

    Tokens and frames are taken as equal shares of the same stretch of time: frame t of m reads token position
    (t + 1/2)·n/m - 1/2, clamped to 0 … n-1. Both masks are True on the first places; frames after an utterance's last
    one repeat its last token.
    """
    tokens = text_mask.sum(-1, keepdim=True)
    frames = frame_mask.sum(-1, keepdim=True)
    # float32 at least: half precision cannot tell the frames of a long utterance apart.
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
    """Average vectors (B, m, d) over the valid places of a mask (B, m): (B, d)."""
    mask = mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def average_frames(hidden: torch.Tensor, mask: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Average every `size` consecutive frames of (B, m, d), the valid ones alone: (B, ⌈m / size⌉, d) and their mask."""
    if size == 1:
        return hidden, mask
    missing = -hidden.shape[1] % size
    groups = nn.functional.pad(hidden, (0, 0, 0, missing)).unflatten(1, (-1, size))
    valid = nn.functional.pad(mask, (0, missing)).unflatten(1, (-1, size))
    sums = groups.masked_fill(~valid[..., None], 0).sum(2)
    counts = valid.sum(2)
    return sums / counts.clamp(min=1)[..., None].to(sums.dtype), counts > 0


class ModalityDiscriminator(nn.Module):
    """D (Fig. 2f): two linear layers with a ReLU between them. It returns **logits**; the losses apply the sigmoid.

    It runs outside autocast, in the precision of its weights: in half precision the adversarial game is unstable.
    """

    def __init__(self, config: M4SERConfig):
        super().__init__()
        self.hidden = nn.Linear(config.hidden_size, config.discriminator_hidden_size)
        self.output = nn.Linear(config.discriminator_hidden_size, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Score each frame of H_S^(spe), H_T^(spe) or H_ST^(inv) (B, m, d): logits (B, m), above 0 for speech."""
        with torch.autocast(features.device.type, enabled=False):
            hidden = torch.relu(self.hidden(features.to(self.hidden.weight.dtype)))
            return self.output(hidden).squeeze(-1)
