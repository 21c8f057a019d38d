"""An exponential moving average of the weights, which is steadier than the weights themselves."""

import contextlib
import os
from collections.abc import Iterator, Mapping

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer_callback import TrainerCallback

MOVING_WEIGHTS = "moving_weights.safetensors"


class WeightAveragingCallback(TrainerCallback):
    """
    After update t, average ← d · average + (1 − d) · weights with d = min(decay, (1 + t) / (10 + t)).

    The second term lets the average leave the first, random weights behind. While a run goes on, the model holds the
    moving weights, and the average but inside `applied()`; when it ends, the model holds the average. So does a
    checkpoint's model; the moving weights lie beside it, for a resumed run to go on from.

    Args:
        parameters: name -> parameter to average.
        decay: about 1 / (1 − decay) updates are remembered.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float):
        self.parameters = dict(parameters)
        self.decay = decay
        self.average: list[torch.Tensor] | None = None

    def start(self) -> None:
        """The weights as they are now become the average."""
        self.average = [parameter.detach().clone() for parameter in self.parameters.values()]

    def stop(self) -> None:
        """Forget the average."""
        self.average = None

    @contextlib.contextmanager
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
        save_file(moving, os.path.join(folder, MOVING_WEIGHTS))

    def resume(self, folder: str) -> None:
        """Go on from a checkpoint, whose model, the average, is loaded already."""
        self.start()
        moving = load_file(os.path.join(folder, MOVING_WEIGHTS))
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
            for mean, parameter in zip(self.average, self.parameters.values(), strict=True):
                mean.lerp_(parameter, 1 - decay)

    def on_train_end(self, args, state, control, **kwargs):
        """Leave the average in the model."""
        self._exchange()
        self.stop()
