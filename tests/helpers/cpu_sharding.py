"""FSDP2 between processes without GPUs: accelerate offers it on GPUs only, though torch does not ask for one."""

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


def allow_sharding_on_cpu() -> None:
    """Let accelerate shard in this process: what it does for GPUs when its state is made, done for CPUs too."""
    make = AcceleratorState.__init__

    def make_sharded(self, *args, fsdp_plugin=None, **kwargs):
        fresh = AcceleratorState._shared_state == {}
        make(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fresh and fsdp_plugin is not None:
            if self.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self.mixed_precision)
            self.fsdp_plugin = fsdp_plugin
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = make_sharded
    # Checkpoints in shares name the device as accelerate does, "cpu:0", which torch cannot load to.
    torch.serialization.register_package(
        0, lambda storage: None, lambda storage, location: storage if location.startswith("cpu:") else None
    )
