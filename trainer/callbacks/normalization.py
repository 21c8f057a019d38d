"""Losses as means over a whole update: what each micro-batch contributes."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from accelerate import Accelerator

from modeling_m4ser import IGNORE_INDEX, M4SERForEmotionClassification
from modeling_m4ser.losses_m4ser import LOSSES

#: What a batch is counted by. Each loss is a mean over one of them.
COUNTED_ITEMS = tuple(dict.fromkeys(["utterances", "frames", *(loss.counted_by for loss in LOSSES.values())]))


class UpdateNormalizer:
    """Turns the means over one micro-batch into parts of the mean over the update.

    With gradient accumulation and several processes, the mean of the micro-batches' means is not the mean over all
    items: micro-batches differ in frames and tokens.
    """

    def __init__(self, model: M4SERForEmotionClassification, accelerator: Accelerator):
        self.model = model
        self.accelerator = accelerator
        self._update: torch.Tensor | None = None

    def begin_update(self, batches: Sequence[Mapping[str, torch.Tensor]], device: torch.device) -> None:
        """Count the items of the coming update, over all its micro-batches and processes."""
        counted = torch.stack([self.count(batch) for batch in batches]).sum(0).to(device)
        self._update = cast(torch.Tensor, self.accelerator.reduce(counted, "sum"))

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the counts of a batch `(items,)`, in the order of `COUNTED_ITEMS`."""
        some_input = next(iter(batch.values()))
        utterances = torch.tensor(len(some_input), device=some_input.device)
        counts = {"utterances": utterances, "frames": utterances * 0, "passes": torch.ones_like(utterances)}
        encoder, mask = self.model.m4ser.speech_encoder, batch.get("speech_attention_mask")
        if encoder is not None and mask is not None:
            lengths = mask.sum(-1) if "speech_states" in batch else encoder.frame_lengths(mask)
            counts["frames"] = torch.ceil(lengths / self.model.config.frame_pooling).sum()
        for name in COUNTED_ITEMS:
            if name not in counts:
                counts[name] = (batch[name] != IGNORE_INDEX).sum() if name in batch else utterances * 0
        return torch.stack([counts[name] for name in COUNTED_ITEMS]).to(torch.float32)

    def shares(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weight of this micro-batch's mean over each kind of item in the update's mean.

        That is its count over the update's, times the number of processes, since gradients are averaged over them.
        """
        local = self.count(batch)
        total = local if self._update is None else self._update
        weights = local * self.accelerator.num_processes / total.clamp(min=1)
        return dict(zip(COUNTED_ITEMS, weights, strict=True))

    def frames_per_utterance(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the frames of the update over its utterances, which makes a mean over frames an utterance's sum."""
        total = self.count(batch) if self._update is None else self._update
        utterances, frames, *_ = total
        return frames / utterances.clamp(min=1)


class LossLog:
    """Sums of the losses by name, kept on the device so that no step waits for the host."""

    def __init__(self):
        self._sums: dict[str, torch.Tensor] = {}
        self._updates = 0

    def add(self, **losses: torch.Tensor | None) -> None:
        """Add the parts of one micro-batch."""
        for name, value in losses.items():
            if value is not None:
                self._sums[name] = self._sums.get(name, 0) + value.detach()

    def end_update(self) -> None:
        """Count one more update."""
        self._updates += 1

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over the updates since the last call, by name, over all processes; then start over."""
        if not (self._sums and self._updates):
            return {}
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name].float() for name in names])
        means = (cast(torch.Tensor, accelerator.reduce(sums, "mean")) / self._updates).tolist()
        self._sums, self._updates = {}, 0
        return dict(zip(names, means, strict=True))
