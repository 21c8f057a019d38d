"""Ten training steps of a tiny model, alone or as one of several processes; each process saves what it has then.

python tests/helpers/distributed_worker.py PROCESSES OUTPUT_FOLDER BATCH_SIZE_PER_PROCESS [EMA_DECAY]
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modeling_m4ser.losses_m4ser import gather_across_processes, label_contrastive_loss
from tests.helpers.corpus import deterministic_model, tiny_corpus, tiny_trainer


def train(folder: Path, batch_size: int, ema_decay: float | None = None) -> None:
    """
    Train, validate, predict and save; rank 1 starts with another discriminator, as an unlucky launch would.

    With the average of the weights comes what else needs the processes to agree: the statistics of the encoders.
    """
    torch.set_num_threads(1)
    model = deterministic_model(standardize_features=ema_decay is not None)
    trainer = tiny_trainer(
        folder / f"process{dist.get_rank() if dist.is_initialized() else 0}",
        model,
        tiny_corpus(16),
        eval_data=tiny_corpus(4),
        eval_strategy="steps",
        eval_steps=4,
        ema_decay=ema_decay,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=2,
        max_steps=10,
        logging_steps=5,
    )
    if trainer.args.process_index == 1:
        torch.nn.init.normal_(model.discriminator.hidden.weight)
    trainer.train()
    predicted = trainer.predict(tiny_corpus(11, seed=1))
    state = {
        "parameters": model.state_dict(),
        "log": trainer.state.log_history,
        "world": trainer.args.world_size,
        "logits": torch.from_numpy(predicted.predictions),
        "labels": torch.from_numpy(predicted.label_ids),
        "contrastive": contrastive_share(),
    }
    torch.save(state, folder / f"rank{trainer.args.process_index}.pt")


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


def _process(rank: int, processes: int, folder: Path, *arguments) -> None:
    """What `accelerate launch` makes of one of several CPU processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes)
    train(folder, *arguments)
    dist.destroy_process_group()


if __name__ == "__main__":
    processes, folder, size, *decay = sys.argv[1:]
    arguments = (int(processes), Path(folder).resolve(), int(size), *map(float, decay))
    # The libraries are loaded once, and then the process is forked.
    torch.multiprocessing.start_processes(_process, arguments, nprocs=int(processes), start_method="fork")
