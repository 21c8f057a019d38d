"""The modality discriminator D during training: its optimizer, its update, its place beside the main model."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from modeling_m4ser import M4SERForEmotionClassification, M4SEROutput
from modeling_m4ser.losses_m4ser import discriminator_loss, generator_loss
from trainer.arguments import M4SERTrainingArguments
from trainer.callbacks.adapters import active_copy
from trainer.errors import TrainingError

DISCRIMINATOR_OPTIMIZER_FILE = "discriminator_optimizer.pt"


class Adversary:
    """D and its own Adam, from the first update to the last checkpoint (Algorithm 1, line 23).

    D is trained outside the accelerator: in float32 and without loss scaling; its gradients are averaged and clipped
    here. The main optimizer never sees D's parameters, and data-parallel wrapping and sharding leave them out.
    """

    def __init__(self, model: M4SERForEmotionClassification, args: M4SERTrainingArguments, accelerator: Accelerator):
        self.discriminator = active_copy(model.discriminator)
        self.objective = model.config.discriminator_objective
        self.args = args
        self.accelerator = accelerator
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=cast(float, args.discriminator_learning_rate),
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
        )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, D's parameters take no gradient and do not count as trainable."""
        self.discriminator.requires_grad_(False)
        try:
            yield
        finally:
            self.discriminator.requires_grad_(True)

    def follow_schedule(self, optimizer: torch.optim.Optimizer) -> None:
        """Give D the share of its rate that the rest has of its own.

        A D of constant rate would run away from a generator whose rate goes to 0.
        """
        group = optimizer.param_groups[0]
        initial = group.get("initial_lr", 0)
        for own in self.optimizer.param_groups:
            own["lr"] = cast(float, self.args.discriminator_learning_rate) * (group["lr"] / initial if initial else 1.0)

    def update(self, outputs: M4SEROutput, share: torch.Tensor, step: bool) -> dict[str, torch.Tensor]:
        """Let D ascend its objective on the features of one micro-batch, cut from the graph, and move after the last.

        Returns `discriminator` (L_D) and `generator` (L_G) of Eq. 20 before D's step, times the weight `share` of this
        micro-batch in the update's mean over frames, detached.
        """
        features = (outputs[name] for name in ("speech_specific", "text_specific", "invariant", "frame_mask"))
        terms = discriminator_loss(self.discriminator, *features, objective=self.objective)
        (terms["loss"] * share).backward()
        if step:
            for parameter in self.discriminator.parameters():
                parameter.grad = cast(torch.Tensor, self.accelerator.reduce(parameter.grad, "mean"))
            norm = nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.args.discriminator_max_grad_norm)
            # In fp16, an update that overflows is skipped, as the gradient scaler skips those of the rest.
            if self.accelerator.scaler is None or norm.isfinite():
                self.optimizer.step()
            self.optimizer.zero_grad()
        return {name: (terms[name] * share).detach() for name in ("discriminator", "generator")}

    def generator_loss(self, outputs: M4SEROutput) -> torch.Tensor:
        """Return L_G of Eq. 20 against the D of now; its gradient reaches the features and not D."""
        with self.frozen():
            return generator_loss(self.discriminator, outputs["invariant"], outputs["frame_mask"])

    def leave_data_parallel(self, model: nn.Module) -> None:
        """Keep D out of the coming wrapping or sharding of `model`, and start all processes from one D."""
        (place,) = [name for name, module in model.named_modules() if module is self.discriminator]
        if self.accelerator.is_fsdp2:
            self.accelerator.state.fsdp_plugin.ignored_modules = re.escape(place)
            self.discriminator.to(self.accelerator.device)  # the rest is moved as it is sharded
        else:
            names = [f"{place}.{name}" for name, _ in self.discriminator.named_parameters()]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
        # What is not wrapped is not broadcast either.
        for parameter in self.discriminator.parameters():
            torch.distributed.broadcast(parameter.data, src=0)

    def save(self, folder: str) -> None:
        """Write the state of D's optimizer into a checkpoint; D itself is part of the model."""
        torch.save(self.optimizer.state_dict(), os.path.join(folder, DISCRIMINATOR_OPTIMIZER_FILE))

    def load(self, checkpoint: str) -> None:
        """Restore the state of D's optimizer from a checkpoint."""
        path = os.path.join(checkpoint, DISCRIMINATOR_OPTIMIZER_FILE)
        if not os.path.isfile(path):
            raise TrainingError(
                f"{checkpoint} holds no {DISCRIMINATOR_OPTIMIZER_FILE}: it is no checkpoint of an adversarial M4SER "
                "run, or an incomplete one. Resume from another checkpoint or set use_adversarial=False."
            )
        self.optimizer.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
