"""Twenty training steps of a tiny model, alone or as one of several processes; each process saves what it has then.

python tests/helpers/distributed_worker.py PROCESSES RUNS, which are {output folder: keywords of `train`} as JSON.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from modeling_m4ser.losses_m4ser import gather_across_processes, label_contrastive_loss
from tests.helpers.corpus import deterministic_model, tiny_corpus, tiny_trainer
from tests.helpers.cpu_sharding import allow_sharding_on_cpu


def train(folder: Path, dtype: str = "float64", standardize: bool = False, resume: int | None = None, **arguments):
    """
    Train, validate, predict and save; rank 1 starts with another discriminator, as an unlucky launch would.

    Args:
        folder: of what is saved: `run`, which the processes share, and a file of each.
        dtype: of the model.
        standardize: measure the encoders first.
        resume: train once more, from the checkpoint after this step.
        arguments: of training.
    """
    torch.set_num_threads(1)
    rank = dist.get_rank() if dist.is_initialized() else 0

    def make_trainer():
        model = deterministic_model(standardize_features=standardize).to(getattr(torch, dtype))
        if rank == 1:
            torch.nn.init.normal_(model.discriminator.hidden.weight)
        return tiny_trainer(
            folder / f"process{rank}",
            model,
            tiny_corpus(32),
            eval_data=tiny_corpus(4),
            **{
                "output_dir": str(folder / "run"),
                "eval_strategy": "steps",
                "eval_steps": 4,
                "per_device_eval_batch_size": 2,
                "max_steps": 20,
                "logging_steps": 5,
                **({} if resume is None else {"save_strategy": "steps", "save_steps": resume}),
                **arguments,
            },
        )

    trainer = make_trainer()
    trainer.train()
    predicted = trainer.predict(tiny_corpus(11, seed=1))
    state = {
        "parameters": whole_state(trainer.model),
        "log": trainer.state.log_history,
        "world": trainer.args.world_size,
        "whole": sum(not isinstance(parameter, DTensor) for parameter in trainer.model.parameters()),
        "logits": torch.from_numpy(predicted.predictions),
        "labels": torch.from_numpy(predicted.label_ids),
        "contrastive": contrastive_share(),
    }
    if resume is not None:
        again = make_trainer()
        again.train(resume_from_checkpoint=str(folder / "run" / f"checkpoint-{resume}"))
        state["resumed"] = whole_state(again.model)
    torch.save(state, folder / f"rank{rank}.pt")


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model by name, whole in every process."""
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    return {name: tensor.clone() for name, tensor in whole.items()}


def contrastive_share() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A process's share of eight rows: the gathered labels, the loss (Eq. 21), the gradient averaged over processes."""
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    numbers = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(size, generator=numbers, dtype=torch.float64) for size in ((8, 6), (6, 5)))
    labels = torch.tensor([0, 1, 2, 2, 0, 1, 3, 3])  # two of the four have their positives in the other process alone
    share = slice(rank * 8 // processes, (rank + 1) * 8 // processes)
    weight.requires_grad_(True)
    gathered = gather_across_processes(labels[share])
    loss = label_contrastive_loss(gather_across_processes(rows[share] @ weight), gathered, 0.07)
    loss.backward()
    if processes > 1:
        dist.all_reduce(weight.grad)
    return gathered, loss.detach(), weight.grad / processes


def join(rank: int, processes: int, folder: Path) -> None:
    """Make this process what `accelerate launch` makes of one of several CPU processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes)


def _process(rank: int, processes: int, folder: Path, options: dict) -> None:
    join(rank, processes, folder)
    allow_sharding_on_cpu()
    train(folder, **options)
    dist.destroy_process_group()


if __name__ == "__main__":
    processes, runs = int(sys.argv[1]), json.loads(sys.argv[2])
    for folder, options in runs.items():  # the libraries are loaded once, and then the process is forked
        given = (processes, Path(folder), options)
        torch.multiprocessing.start_processes(_process, given, nprocs=processes, start_method="fork")
