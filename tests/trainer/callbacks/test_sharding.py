"""What is asked of FSDP2 before it shards; that it trains as one process does, `test_distributed.py` shows."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin

from trainer.callbacks.sharding import prepare_sharding
from trainer.errors import TrainingError


@pytest.fixture
def sharding(monkeypatch):
    """An accelerator that shards with these arguments."""
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")

    def make(**arguments):
        plugin = FullyShardedDataParallelPlugin(**{"fsdp_version": 2, **arguments})
        return SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))

    return make


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fsdp_version": 1}, "FSDP2 only: set fsdp_version: 2"),
        ({"cpu_ram_efficient_loading": True}, "discriminator, which is not sharded.*fsdp_cpu_ram_efficient_loading: f"),
    ],
)
def test_what_two_optimizers_cannot_share_is_refused(sharding, arguments, message):
    with pytest.raises(TrainingError, match=message):
        prepare_sharding(sharding(**arguments))


def test_weights_gradients_and_outputs_are_exchanged_in_float32(sharding):
    prepare_sharding(SimpleNamespace(state=SimpleNamespace()))
    plain, half = sharding(), sharding()
    half.state.fsdp_plugin.set_mixed_precision("bf16")
    for accelerator in (plain, half):
        prepare_sharding(accelerator)
    assert plain.state.fsdp_plugin.mixed_precision_policy is None
    policy = half.state.fsdp_plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (None, None, torch.float32)
