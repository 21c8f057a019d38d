"""An exponential moving average (EMA) of the weights, which is steadier than the weights themselves."""

import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback

from trainer.callbacks.sharding import kept_parameters
from trainer.errors import TrainingError

MOVING_WEIGHTS_FILE = "moving_weights.safetensors"


class WeightAveragingCallback(TrainerCallback):
    """After update t, average ← d · average + (1 − d) · weights with d = min(decay, (1 + t) / (10 + t)).

    The second term lets the average leave the first, random weights behind. During a run the model holds the moving
    weights; inside `applied()`, and once the run has ended, it holds the average. A checkpoint's model is the average
    too. The moving weights are saved beside it, so that a resumed run continues from them.
    """

    def __init__(self, model: nn.Module, names: Collection[str], decay: float):
        self.model = model
        self.names = names
        self.decay = decay
        self.average: list[torch.Tensor] | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights that are averaged: sharding puts others in their place."""
        kept = kept_parameters(self.model)
        return [kept[name] for name in self.names]

    def start(self) -> None:
        """The weights as they are now become the average."""
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model holds the average (outside a run: what it holds anyway)."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        if self.average is not None:
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                moving = parameter.clone()
                parameter.copy_(mean)
                mean.copy_(moving)

    def save_moving(self, folder: str, should_save: bool) -> None:
        """Write the moving weights beside a checkpoint's model, in one process; all of them call this."""
        whole = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if should_save:
            moving = {name: whole[name].contiguous() for name in self.names}
            save_file(moving, os.path.join(folder, MOVING_WEIGHTS_FILE))

    def resume(self, folder: str) -> None:
        """Go on from a checkpoint, whose model, the average, is loaded already."""
        self.start()
        moving = load_file(os.path.join(folder, MOVING_WEIGHTS_FILE))
        set_model_state_dict(self.model, moving, options=StateDictOptions(full_state_dict=True, strict=False))

    def on_train_begin(self, args, state, control, **kwargs):
        """Start, unless a checkpoint was resumed."""
        if self.average is None:
            self.start()

    def on_step_end(self, args, state, control, **kwargs):
        """Move the average."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        with torch.no_grad():
            for mean, parameter in zip(self.average or [], self.parameters, strict=True):
                mean.lerp_(parameter, 1 - decay)

    def on_train_end(self, args, state, control, **kwargs):
        """Leave the average in the model."""
        self._exchange()
        self.average = None


class WeightAveragingMixin(Trainer):
    """Evaluation, saving and choosing the best model see the average; checkpoints hold the moving weights as well."""

    _average: WeightAveragingCallback | None = None

    def average_weights(self, names: Collection[str], decay: float | None) -> None:
        """Average the model's parameters of these names from the next run on; without a decay none."""
        if self._average is not None:
            self.remove_callback(self._average)
        self._average = None if decay is None else WeightAveragingCallback(self.model, names, decay)
        if self._average is not None:
            self.add_callback(self._average)

    def _averaged(self) -> AbstractContextManager:
        """Inside, the model is what it would be if training ended now."""
        return nullcontext() if self._average is None else self._average.applied()

    def evaluation_loop(self, *args, **kwargs):
        """Evaluate the average."""
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
        with self._averaged():  # a sharded model is saved once more here
            super()._save_optimizer_and_scheduler(output_dir)
        if self._average is not None:
            self._average.save_moving(output_dir, self.args.should_save)

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
