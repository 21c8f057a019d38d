"""Learning rates by part of the model."""

from collections.abc import Iterable

import torch
from torch import nn


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
