"""Runs that are killed, stopped and spoiled, as one or several processes; the libraries are loaded once for all.

python tests/helpers/faults_worker.py MODE PROCESSES FOLDER: `kills` prints what came of ten kills as JSON, `stops` has
each process save what ended two trainings in which one of them was signalled, and got a loss that is not finite.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from data_scripts.errors import UserError
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.distributed_worker import join
from tests.helpers.tiny import tiny_model
from trainer.callbacks.checkpoints import ASIDE

KILLS = 10
OPTIONS = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 30,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 1,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "ema_decay": 0.9,
    "logging_steps": 5,
}


def make_trainer(folder: Path, rank: int, **options):
    """With dropout, accumulation, a moving average and a discriminator: all of it has a state to lose."""
    torch.set_num_threads(1)
    options = {**OPTIONS, "output_dir": str(folder / "run"), **options}
    model = tiny_model("whisper", seed=1)
    return tiny_trainer(folder / f"process{rank}", model, tiny_corpus(24), eval_data=tiny_corpus(4, seed=1), **options)


def train(rank: int, processes: int, folder: Path) -> None:
    """Go on from the last checkpoint to the end, with saves that take their time; process 0 writes the weights."""
    if processes > 1:
        join(rank, processes, folder)
    trainer = make_trainer(folder, rank)
    for name in ("save_model", "_save_optimizer_and_scheduler", "_save_rng_state"):
        setattr(trainer, name, slowly(getattr(trainer, name)))
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder / "run")))
    if rank == 0:
        torch.save(trainer.model.state_dict(), folder / "end.tmp")
        os.replace(folder / "end.tmp", folder / "end.pt")


def slowly(save):
    def wait(*args, **kwargs):
        save(*args, **kwargs)
        time.sleep(0.05)

    return wait


def attempt(processes: int, folder: Path, seconds: float | None) -> bool:
    """Run all processes, and kill them after so many seconds; whether they were."""
    (folder / "run").mkdir(parents=True, exist_ok=True)  # where all processes look for a checkpoint
    (folder / "rendezvous").unlink(missing_ok=True)
    started = []
    for rank in range(processes):
        if (process := os.fork()) == 0:
            log = os.open(folder / f"log{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                train(rank, processes, folder)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        started.append(process)
    end = time.monotonic() + (600 if seconds is None else seconds)
    ended: dict[int, int] = {}
    while len(ended) < processes and time.monotonic() < end:
        time.sleep(0.002)
        ended |= {pid: status for pid in started if pid not in ended and (status := waited(pid)) is not None}
    for pid in set(started) - set(ended):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not any(ended.values()), f"a process failed, see {folder}"
    return len(ended) < processes


def waited(pid: int) -> int | None:
    """How a process ended; None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return status if done else None


def kill(processes: int, folder: Path) -> dict:
    """Kill runs at random moments, let them end, and compare with one that was let alone."""
    started = time.monotonic()
    assert not attempt(processes, folder / "whole", None)
    whole, seconds = torch.load(folder / "whole" / "end.pt"), time.monotonic() - started
    kills = saving = resumed = runs = 0
    numbers, equal = random.Random(0), []
    while kills < KILLS:
        place = folder / f"killed{runs}"
        runs += 1
        going = True
        while going:
            going = attempt(processes, place, numbers.uniform(0.05, 0.3) * seconds if kills < KILLS else None)
            kills += going
            saving += going and (place / "run" / ASIDE).is_dir()
            resumed += going and bool(list((place / "run").glob("checkpoint-*")))
        end = torch.load(place / "end.pt")
        equal.append(all(torch.equal(end[name], whole[name]) for name in whole))
    return {"kills": kills, "while saving": saving, "resumed": resumed, "runs": runs, "equal": equal}


class At(TrainerCallback):
    """Does something at the end of a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.act()


def checkpoints(trainer) -> list[str]:
    """The names of what was saved."""
    return sorted(path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*"))


def stop(rank: int, processes: int, folder: Path) -> None:
    """One process is signalled, and then one gets a loss that is not finite; each saves how its trainings ended."""
    join(rank, processes, folder)
    found = {}
    trainer = make_trainer(folder / "signalled", rank, save_strategy="no", load_best_model_at_end=False)
    if rank == 1:
        trainer.add_callback(At(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    try:
        trainer.train()
    except SystemExit as end:
        found["signalled"] = [end.code, trainer.state.global_step, checkpoints(trainer)]
    trainer = make_trainer(folder / "spoiled", rank, load_best_model_at_end=False, max_steps=8)
    passes = []

    def loss(logits, labels):
        passes.append(labels)
        return logits.mean() * (float("nan") if rank == 1 and len(passes) == 9 else 1.0)

    trainer.emotion_loss_func = loss
    try:
        trainer.train()
    except UserError as error:
        found["spoiled"] = [str(error), trainer.state.global_step, checkpoints(trainer)]
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    mode, processes, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).resolve()
    if mode == "kills":
        print(json.dumps(kill(processes, folder)))
    else:
        torch.multiprocessing.start_processes(stop, (processes, folder), nprocs=processes, start_method="fork")
