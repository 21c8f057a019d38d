"""The adversarial objective (Eq. 20) and the label-based contrastive loss (Eq. 21)."""

import torch
import torch.distributed as dist
from torch.nn.functional import logsigmoid, normalize

from .fusion_m4ser import ModalityDiscriminator


class AdversarialLoss:
    """Both sides of Eq. 20; expectations run over the valid frames of the batch.

    The discriminator *maximises* L_D + L_G (`objective="paper"`) or L_D alone (`"modality"`) on features cut from the
    graph; the rest of the network *minimises* L_G through features that are not.
    """

    def __init__(self, objective: str = "paper"):
        if objective not in ("paper", "modality"):
            raise ValueError(f"discriminator_objective must be 'paper' or 'modality', not {objective!r}.")
        self.objective = objective

    def discriminator_loss(
        self,
        discriminator: ModalityDiscriminator,
        speech: torch.Tensor,
        text: torch.Tensor,
        invariant: torch.Tensor,
        frame_mask: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Args:
            speech, text, invariant: H_S^(spe), H_T^(spe), H_ST^(inv), each (B, m, d); detached here.
            frame_mask: (B, m).

        Returns:
            `loss` to minimise, and the terms `discriminator` (L_D, ≤ 0) and `generator` (L_G, ≥ 2 ln 2) of Eq. 20.
        """
        logits = discriminator(torch.cat([speech, text, invariant]).detach())
        speech_logits, text_logits, invariant_logits = logits.chunk(3)
        modality = frame_mean(logsigmoid(speech_logits) + logsigmoid(-text_logits), frame_mask)
        ambiguity = frame_mean(-logsigmoid(invariant_logits) - logsigmoid(-invariant_logits), frame_mask)
        gain = modality + ambiguity if self.objective == "paper" else modality
        return {"loss": -gain, "discriminator": modality, "generator": ambiguity}

    def generator_loss(
        self, discriminator: ModalityDiscriminator, invariant: torch.Tensor, frame_mask: torch.Tensor
    ) -> torch.Tensor:
        """L_G of Eq. 20; its minimum, 2 ln 2, is where D cannot tell the modality."""
        logits = discriminator(invariant)
        return frame_mean(-logsigmoid(logits) - logsigmoid(-logits), frame_mask)


def frame_mean(values: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """Mean of (B, m) values over all valid frames of the batch."""
    mask = frame_mask.to(values.dtype)
    return (values * mask).sum() / mask.sum()


def label_contrastive_loss(
    pooled: torch.Tensor, labels: torch.Tensor, temperature: float, include_self: bool = False
) -> torch.Tensor:
    """Label-based contrastive loss, Eq. 21, as the mean over anchors that have a positive.

    Args:
        pooled: H_ST^(ap), (B, d).
        labels: emotions (B,); a negative label takes the utterance out.
        temperature: τ.
        include_self: whether A(i) holds the anchor itself.

    Returns:
        Scalar in float32 or better; 0 (with a graph) where no anchor has a positive.
    """
    features = normalize(at_least_float32(pooled), dim=-1)
    similarity = features @ features.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    known = labels >= 0
    candidates = known[None, :].expand_as(itself)
    positives = (labels[:, None] == labels[None, :]) & known[:, None] & ~itself
    if not include_self:
        candidates = candidates & ~itself
    # The largest finite negative, not -inf: a row without candidates would turn the gradient into NaN.
    lowest = torch.finfo(similarity.dtype).min
    log_probability = similarity - similarity.masked_fill(~candidates, lowest).logsumexp(-1, keepdim=True)
    positives_per_anchor = positives.sum(-1)
    per_anchor = -(log_probability * positives).sum(-1) / positives_per_anchor.clamp(min=1)
    return per_anchor.sum() / (positives_per_anchor > 0).sum().clamp(min=1)


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Half precision -> float32, for losses; float32 and float64 stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def gather_across_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Rows of all processes in rank order; the tensor itself where there is one process. Every process brings the same
    number of rows, as accelerate's even batches do.

    Every process computes the same loss of all rows, and only its own rows carry a gradient here. That gradient is
    multiplied by the number of processes, which cancels the mean that data-parallel training takes over them.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensor
    processes = dist.get_world_size()
    parts = [torch.empty_like(tensor) for _ in range(processes)]
    dist.all_gather(parts, tensor.detach().contiguous())
    own = tensor.view_as(tensor)
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * processes)
    parts[dist.get_rank()] = own
    return torch.cat(parts)
