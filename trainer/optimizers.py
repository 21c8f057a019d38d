"""The main optimizer of [`M4SERTrainer`]: one that is given, and learning rates by part of the model."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainer.arguments import M4SERTrainingArguments
from trainer.errors import TrainingError


def check_optimizers(optimizers: Any, model: Any, args: M4SERTrainingArguments) -> None:
    """Raise `TrainingError` for a given optimizer of another model, or one whose own rates an argument would change."""
    if not isinstance(optimizers, (tuple, list)) or len(optimizers) != 2:
        raise TrainingError("optimizers is a pair, (optimizer, scheduler), either of them None: (optimizer, None).")
    if optimizers[0] is None or model is None:
        return
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizers[0].param_groups for parameter in group["params"]):
        raise TrainingError("The optimizer of optimizers holds no parameter of this model: make it of this one's.")
    if (args.encoder_learning_rate, args.classifier_learning_rate) != (None, None):
        raise TrainingError(
            "encoder_learning_rate and classifier_learning_rate do nothing to an optimizer that is given by "
            "optimizers: give its parameter groups those rates, or pass optimizer_cls_and_kwargs instead."
        )


def set_learning_rate(
    optimizer: torch.optim.Optimizer, modules: Iterable[nn.Module | None], learning_rate: float | None
) -> None:
    """Give the modules' parameters groups of their own with this rate; does nothing where the rate is None."""
    if learning_rate is None:
        return
    theirs = {id(parameter) for module in modules if module is not None for parameter in module.parameters()}
    for group in list(optimizer.param_groups):
        apart = [parameter for parameter in group["params"] if id(parameter) in theirs]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in theirs]
        if apart:
            optimizer.add_param_group({**group, "params": apart, "lr": learning_rate})
