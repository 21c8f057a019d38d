"""The losses of Eq. 22: their table, and what computes them.

A further loss of the model is an entry of `LOSSES` with a function here, its weight in `M4SERConfig`, and its value in
the forward pass and output of `modeling_m4ser.py`: training weighs, averages, logs and draws it by the table.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from .edits_m4ser import IGNORE_INDEX


class Loss(NamedTuple):
    """What is known of a part of Eq. 22.

    Attributes:
        weights (`tuple[str, ...]`): fields of [`M4SERConfig`]; their product weighs it.
        counted_by (`str`): what it is a mean over: `"utterances"`, `"frames"`, `"passes"` (forward passes), or the
            labels of a batch that are not -100, by their name.
        title (`str`): its name in figures.
    """

    weights: tuple[str, ...]
    counted_by: str
    title: str


#: The parts of Eq. 22 by name, in the order of their sum. The model's output is `NAME_loss`, the log has `loss_NAME`.
LOSSES = {
    "emotion": Loss((), "utterances", r"Emotion, $\mathcal{L}_{ER}$"),
    "detection": Loss(
        ("auxiliary_weight", "detection_weight"), "detection_labels", r"Error detection, $\mathcal{L}_{AED}$"
    ),
    "correction": Loss(("auxiliary_weight",), "correction_labels", r"Error correction, $\mathcal{L}_{AEC}$"),
    "contrastive": Loss(("contrastive_weight",), "passes", r"Contrastive, $\mathcal{L}_{LCL}$"),
    "adversarial": Loss(
        ("adversarial_weight",), "frames", r"Adversarial, $\mathcal{L}_{GAN} = \mathcal{L}_{D} + \mathcal{L}_{G}$"
    ),
}


def token_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Average the cross-entropy over labelled tokens, L_AED of Eq. 3 and L_AEC of Eq. 7.

    Logits are (B, n, classes), labels (B, n) with -100 where a token does not count. The mean is in float32 at least;
    where no token counts it is 0, with a graph.
    """
    total = cross_entropy(
        at_least_float32(logits.flatten(0, 1)), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


def discriminator_loss(
    discriminator: nn.Module,
    speech: torch.Tensor,
    text: torch.Tensor,
    invariant: torch.Tensor,
    frame_mask: torch.Tensor,
    objective: str = "modality",
) -> dict[str, torch.Tensor]:
    """Compute D's side of Eq. 20 on H_S^(spe), H_T^(spe) and H_ST^(inv) (B, m, d), which are detached here.

    D *maximises* L_D alone (`objective="modality"`) or L_D + L_G (`"paper"`), means over the valid frames of the batch:
    there is the `loss` to minimise, and the terms `discriminator` (L_D ≤ 0) and `generator` (L_G ≥ 2 ln 2).
    """
    logits = discriminator(torch.cat([speech, text, invariant]).detach())
    speech_logits, text_logits, invariant_logits = logits.chunk(3)
    modality = frame_mean(logsigmoid(speech_logits) + logsigmoid(-text_logits), frame_mask)
    ambiguity = frame_mean(-logsigmoid(invariant_logits) - logsigmoid(-invariant_logits), frame_mask)
    gain = modality + ambiguity if objective == "paper" else modality
    return {"loss": -gain, "discriminator": modality, "generator": ambiguity}


def generator_loss(discriminator: nn.Module, invariant: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """Compute L_G of Eq. 20 on H_ST^(inv) (B, m, d), which the rest of the network minimises.

    It is least, 2 ln 2, where D cannot tell the modality.
    """
    logits = discriminator(invariant)
    return frame_mean(-logsigmoid(logits) - logsigmoid(-logits), frame_mask)


def frame_mean(values: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """Average values (B, m) over all valid frames of the batch."""
    mask = frame_mask.to(values.dtype)
    return (values * mask).sum() / mask.sum()


def label_contrastive_loss(
    pooled: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    include_self: bool = False,
    reduction: str = "mean",
) -> torch.Tensor:
    """Compute the label-based contrastive loss, Eq. 21, over the anchors that have a positive.

    `pooled` is H_ST^(ap) (B, d); an utterance with a negative label (B,) does not count. `include_self`: whether A(i)
    holds the anchor itself. The loss is in float32 at least, and 0, with a graph, where no anchor has a positive.
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
    total = per_anchor.sum()
    return total if reduction == "sum" else total / (positives_per_anchor > 0).sum().clamp(min=1)


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Return half-precision values in float32, and others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def gather_across_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Collect the rows (B, …) of all processes, as many of each, in the order of their ranks.

    Every process then computes the same loss of all rows, but only its own rows carry a gradient. That gradient is
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
