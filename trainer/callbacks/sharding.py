"""FSDP2, where each process keeps a share of every parameter: what [`M4SERTrainer`] asks of it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.fsdp.fully_sharded_data_parallel import StateDictType
from transformers import Trainer

from trainer.errors import TrainingError


def prepare_sharding(accelerator: Accelerator) -> None:
    """Refuse ways of sharding that the two optimizers cannot share, and keep what must not be half precision out of it.

    Half precision is that of autocast alone, as without sharding: weights and gradients are exchanged, and what the
    model returns comes, in float32. Without sharding nothing is done.

    Raises:
        TrainingError: FSDP of the first version, or `cpu_ram_efficient_loading`.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        return
    if plugin.fsdp_version != 2:
        raise TrainingError("M4SERTrainer shards with FSDP2 only: set fsdp_version: 2 in accelerate's configuration.")
    if plugin.cpu_ram_efficient_loading:
        raise TrainingError(
            "cpu_ram_efficient_loading leaves the weights out of all processes but the first and hands them on in "
            "shares, and the discriminator, which is not sharded, has none: set fsdp_cpu_ram_efficient_loading: false."
        )
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = MixedPrecisionPolicy(output_dtype=torch.float32)


@contextmanager
def whole_states(accelerator: Accelerator) -> Iterator[None]:
    """Inside, a sharded model is saved as a whole, whatever the kind of its checkpoints."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        yield
        return
    kind, plugin.state_dict_type = plugin.state_dict_type, StateDictType.FULL_STATE_DICT
    try:
        yield
    finally:
        plugin.state_dict_type = kind


@contextmanager
def gathered(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Inside, a sharded model's weights are whole in every process, and no pass waits for another process.

    In evaluation, encoders with group norms run utterances of one length at a time: some processes have more passes.
    """
    shares = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in shares:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in shares:
            again = module is not model and accelerator.state.fsdp_plugin.reshard_after_forward
            module.set_reshard_after_forward(again, recurse=False)
            module.reshard()


class ShardingMixin(Trainer):
    """Evaluation runs on whole weights, the model is saved as a whole, and half precision is that of autocast."""

    def autocast_smart_context_manager(self, *args, **kwargs) -> AbstractContextManager:
        """Inside, half precision is that of autocast: accelerate gives a sharded model none."""
        if self.accelerator.is_fsdp2:
            return self.accelerator.autocast()
        return super().autocast_smart_context_manager(*args, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        """Run the library's loop, also where the processes' batches need different numbers of passes."""
        with gathered(self.model, self.accelerator):
            return super().evaluation_loop(*args, **kwargs)

    def save_model(self, *args, **kwargs) -> None:
        """Save the whole model, also where checkpoints are shares of it."""
        with whole_states(self.accelerator):
            super().save_model(*args, **kwargs)


def run_all_layers(model: nn.Module) -> None:
    """Keep encoders from leaving out layers at random (`layerdrop`): processes that share weights wait for each."""
    for module in model.modules():
        module._is_fsdp_managed_module = True  # transformers' own mark, which it sets on what it shards itself


def kept_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that an optimizer moves, by the names they have in a checkpoint: of a share, that share.

    After an evaluation, modules still hold gathered weights, which a change of the shares would not reach.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    return {name.replace("_checkpoint_wrapped_module.", ""): value for name, value in model.named_parameters()}
