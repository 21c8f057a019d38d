"""What is measured of a model after each evaluation, outside the training step, and kept in the log."""

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers.trainer_callback import TrainerCallback

from data_scripts.splits import evenly_spaced
from modeling_m4ser import M4SERForEmotionClassification
from trainer.callbacks.sharding import gathered

#: Utterances that are enough for shares of frames, at 50 frames a second, and to see a trend of word error rates.
MAX_UTTERANCES = 128


class MeasuringCallback(TrainerCallback):
    """Adds `measure(model, rows)` of at most `MAX_UTTERANCES` rows, evenly spaced, to the log after each evaluation.

    Numbers that are None are left out, and nothing is measured where there are no rows. `name` is that of what is
    measured; `rows` then holds those that are read.
    """

    def __init__(
        self,
        name: str,
        rows: Dataset,
        measure: Callable[[M4SERForEmotionClassification, Dataset], Mapping[str, float | None]],
        accelerator: Accelerator,
    ):
        self.name, self.measure, self.accelerator = name, measure, accelerator
        self.rows = rows.select(evenly_spaced(len(rows), MAX_UTTERANCES))

    def on_evaluate(self, args, state, control, model: M4SERForEmotionClassification, **kwargs):
        """Measure on the main process."""
        with gathered(model, self.accelerator):
            if state.is_world_process_zero and len(self.rows):
                measured = self.measure(model, self.rows)
                known = {name: value for name, value in measured.items() if value is not None}
                state.log_history.append({"epoch": state.epoch, "step": state.global_step, **known})


@torch.no_grad()
def measure_discriminator(
    model: M4SERForEmotionClassification, batches: Iterable[Mapping[str, torch.Tensor]]
) -> dict[str, float]:
    """Return which frames D takes for speech, as shares of all valid frames; labels of the batches are not read.

    `discriminator_accuracy_speech` and `discriminator_accuracy_text`: the shares of H_S^(spe) and H_T^(spe) that D
    tells right. `discriminator_speech_share`: the share of H_ST^(inv) that it takes for speech; 0.5 where it cannot
    tell, but also where it takes whole utterances for one and others for the other.
    """
    discriminator, was_training = cast(torch.nn.Module, model.discriminator), model.training
    model.eval()
    taken, frames = torch.zeros(3), 0
    try:
        for batch in batches:
            inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if "label" not in name}
            features = model(**inputs)
            mask = features["frame_mask"]
            for index, name in enumerate(("speech_specific", "text_specific", "invariant")):
                taken[index] += ((discriminator(features[name]) > 0) & mask).sum().cpu()
            frames += int(mask.sum())
    finally:
        model.train(was_training)
    speech, text, invariant = (taken / max(frames, 1)).tolist()
    return {
        "discriminator_accuracy_speech": speech,
        "discriminator_accuracy_text": 1 - text,
        "discriminator_speech_share": invariant,
    }
