"""A whole experiment in two processes that share the weights.

python tests/helpers/sharded_run.py FOLDER: the run directory is `FOLDER/run`.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from datasets import DatasetDict

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers.corpus import NO_DROPOUT, tiny_corpus
from tests.helpers.cpu_sharding import allow_sharding_on_cpu
from tests.helpers.distributed_worker import join
from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import text_config, tiny_model, tiny_processor
from trainer.experiments.run import run_experiment


def run(folder: Path, processes: int = 1, **arguments):
    """Train, choose and measure as a command does, with the same global batch for any number of processes."""
    torch.set_num_threads(1)

    def build(emotions):
        text = text_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        place = folder / f"processor{dist.get_rank() if processes > 1 else 0}"
        place.mkdir()
        return tiny_model("whisper", seed=1, text_config=text, **NO_DROPOUT), tiny_processor(place, "whisper")

    data = DatasetDict(train=tiny_corpus(16), validation=tiny_corpus(11, seed=1), test=tiny_corpus(9, seed=2))
    args = experiment_arguments(
        folder / "run", per_device_train_batch_size=4 // processes, per_device_eval_batch_size=2, **arguments
    )
    return run_experiment(build, data, args, description="Noise.", split={"name": "fold1"})


def _process(rank: int, processes: int, folder: Path) -> None:
    join(rank, processes, folder)
    allow_sharding_on_cpu()
    run(folder, processes, fsdp=True, fsdp_config={"state_dict_type": "SHARDED_STATE_DICT"})
    dist.destroy_process_group()


if __name__ == "__main__":
    given = (2, Path(sys.argv[1]).resolve())
    torch.multiprocessing.start_processes(_process, given, nprocs=2, start_method="fork")
