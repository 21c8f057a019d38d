"""An exponential moving average (EMA) of the weights, which is steadier than the weights themselves."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback

from trainer.errors import TrainingError

MOVING_WEIGHTS_FILE = "moving_weights.safetensors"


class WeightAveragingCallback(TrainerCallback):
    """After update t, average ← d · average + (1 − d) · weights with d = min(decay, (1 + t) / (10 + t)).

    The second term lets the average leave the first, random weights behind. During a run the model holds the moving
    weights; inside `applied()`, and once the run has ended, it holds the average. A checkpoint's model is the average
    too. The moving weights are saved beside it, so that a resumed run continues from them.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float):
        self.parameters = dict(parameters)
        self.decay = decay
        self.average: list[torch.Tensor] | None = None

    def start(self) -> None:
        """The weights as they are now become the average."""
        self.average = [parameter.detach().clone() for parameter in self.parameters.values()]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model holds the average (outside a run: what it holds anyway)."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        if self.average is not None:
            for index, parameter in enumerate(self.parameters.values()):
                parameter.data, self.average[index] = self.average[index], parameter.data

    def save_moving(self, folder: str) -> None:
        """Write the moving weights beside a checkpoint's model."""
        moving = {name: parameter.detach().contiguous() for name, parameter in self.parameters.items()}
        save_file(moving, os.path.join(folder, MOVING_WEIGHTS_FILE))

    def resume(self, folder: str) -> None:
        """Go on from a checkpoint, whose model, the average, is loaded already."""
        self.start()
        moving = load_file(os.path.join(folder, MOVING_WEIGHTS_FILE))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(moving[name])

    def on_train_begin(self, args, state, control, **kwargs):
        """Start, unless a checkpoint was resumed."""
        if self.average is None:
            self.start()

    def on_step_end(self, args, state, control, **kwargs):
        """Move the average."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        with torch.no_grad():
            for mean, parameter in zip(self.average or [], self.parameters.values(), strict=True):
                mean.lerp_(parameter, 1 - decay)

    def on_train_end(self, args, state, control, **kwargs):
        """Leave the average in the model."""
        self._exchange()
        self.average = None


class WeightAveragingMixin(Trainer):
    """Evaluation, saving and choosing the best model see the average; checkpoints hold the moving weights as well."""

    _average: WeightAveragingCallback | None = None

    def average_weights(self, parameters: Mapping[str, nn.Parameter], decay: float | None) -> None:
        """Average these parameters, by name, from the next run on, and no others; without a decay none."""
        if self._average is not None:
            self.remove_callback(self._average)
        self._average = None if decay is None else WeightAveragingCallback(parameters, decay)
        if self._average is not None:
            self.add_callback(self._average)

    def _averaged(self) -> AbstractContextManager:
        """Inside, the model is what it would be if training ended now."""
        return nullcontext() if self._average is None else self._average.applied()

    def evaluation_loop(self, *args, **kwargs):
        """Run the library's loop on the average."""
        with self._averaged():
            return super().evaluation_loop(*args, **kwargs)

    def save_model(self, *args, **kwargs) -> None:
        """Save the average."""
        with self._averaged():
            super().save_model(*args, **kwargs)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self._average is not None:
            # The best checkpoint's average is in the model now, and stays there.
            self._average.average = None

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self._average is not None and self.args.should_save:
            self._average.save_moving(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        if os.path.isfile(os.path.join(checkpoint, MOVING_WEIGHTS_FILE)) != (self._average is not None):
            raise TrainingError(
                f"{checkpoint} was written with another ema_decay: one of the two runs averages its weights and the "
                "other does not. Resume with the setting it was started with."
            )
        if self._average is not None:
            self._average.resume(checkpoint)
