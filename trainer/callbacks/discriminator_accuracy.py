"""What the discriminator makes of each representation, measured after each evaluation, outside the training step."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from transformers.trainer_callback import TrainerCallback

from data_scripts.splits import evenly_spaced
from modeling_m4ser import M4SERForEmotionClassification

#: Utterances that are enough for shares of frames, at 50 frames a second.
MAX_UTTERANCES = 128


@torch.no_grad()
def measure_discriminator(
    model: M4SERForEmotionClassification, batches: Iterable[Mapping[str, torch.Tensor]]
) -> dict[str, float]:
    """Return which frames D takes for speech, as shares of all valid frames; labels of the batches are not read.

    `discriminator_accuracy_speech` and `discriminator_accuracy_text`: the shares of H_S^(spe) and H_T^(spe) that D
    tells right. `discriminator_speech_share`: the share of H_ST^(inv) that it takes for speech; 0.5 where it cannot
    tell, but also where it takes whole utterances for one and others for the other.
    """
    if model.discriminator is None:
        raise ValueError("This model has no discriminator: its configuration says use_adversarial=False.")
    was_training = model.training
    model.eval()
    taken, frames = torch.zeros(3), 0
    try:
        for batch in batches:
            inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if "label" not in name}
            features = model(**inputs)
            mask = features["frame_mask"]
            for index, name in enumerate(("speech_specific", "text_specific", "invariant")):
                taken[index] += ((model.discriminator(features[name]) > 0) & mask).sum().cpu()
            frames += int(mask.sum())
    finally:
        model.train(was_training)
    speech, text, invariant = (taken / max(frames, 1)).tolist()
    return {
        "discriminator_accuracy_speech": speech,
        "discriminator_accuracy_text": 1 - text,
        "discriminator_speech_share": invariant,
    }


class DiscriminatorAccuracyCallback(TrainerCallback):
    """Adds `measure_discriminator` of at most `MAX_UTTERANCES` rows, evenly spaced, to the log at each evaluation."""

    def __init__(self, dataset: Any, data_collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]):
        self.rows = Subset(dataset, evenly_spaced(len(dataset), MAX_UTTERANCES))
        self.data_collator = data_collator

    def on_evaluate(self, args, state, control, model: M4SERForEmotionClassification, **kwargs):
        """Measure on the main process."""
        if not state.is_world_process_zero:
            return
        batches = DataLoader(
            cast(Dataset, self.rows), batch_size=args.eval_batch_size, collate_fn=self.data_collator, shuffle=False
        )
        measured = measure_discriminator(model, batches)
        state.log_history.append({"epoch": state.epoch, "step": state.global_step, **measured})
