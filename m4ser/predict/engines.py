"""What runs a `Predictor` over rows: this process and those of `accelerate launch`, or a Ray cluster."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from data_scripts.errors import UserError
from m4ser.predict.inputs import Inputs, Row
from m4ser.predict.predictor import Predictor, Settings


@contextmanager
def processes() -> Iterator[tuple[int, int, Callable[[], None]]]:
    """Yield this process's number, how many `accelerate launch` or `torchrun` started, and a wait for all of them."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield 0, 1, lambda: None
        return
    import torch.distributed

    # The slowest may be hours behind. Nothing but the waiting is shared, so any machine's CPU will do.
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=365))
    try:
        yield torch.distributed.get_rank(), count, torch.distributed.barrier
    finally:
        torch.distributed.destroy_process_group()


def run_local(settings: Settings, inputs: Inputs, places: Sequence[int], rank: int, count: int) -> Iterator[list[Row]]:
    """Yield the answers to the rows at these places, chunk by chunk; of several processes, each takes its share."""
    if settings.device is None and count > 1 and settings.runtime == "torch":
        import torch

        if torch.cuda.is_available():
            settings = replace(settings, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    predict = Predictor(settings)
    for start in range(rank * settings.chunk_size, len(places), count * settings.chunk_size):
        yield predict([inputs[place] for place in places[start : start + settings.chunk_size]])


def run_ray(settings: Settings, inputs: Inputs, places: Sequence[int], rank: int, count: int) -> Iterator[list[Row]]:
    """Yield the answers from a Ray cluster; its actors must see the files at the same paths.

    Parts are written where this runs, and resuming reads those: Ray keeps no checkpoint. An actor has a GPU to itself,
    or a CPU, and one CPU is left for what moves the rows, without which Ray waits for itself.
    """
    if count > 1:
        raise UserError("--engine ray starts its own processes: run it without accelerate launch or torchrun")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray ({error}): pip install 'm4ser[ray]'") from None

    ray.init(ignore_reinit_error=True, log_to_driver=False)
    machines = ray.cluster_resources()
    gpus, cpus = int(machines.get("GPU", 0)), machines.get("CPU", 1)
    needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1 if cpus > 1 else 0.5}
    chunks = [places[start : start + settings.chunk_size] for start in range(0, len(places), settings.chunk_size)]
    # A block for each chunk: Ray shares out blocks.
    rows = ray.data.from_items([{"places": chunk} for chunk in chunks], override_num_blocks=len(chunks))
    answers = rows.map_batches(
        _Actor,
        fn_constructor_args=(settings, inputs),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=gpus or max(1, int(cpus) - 1)),
        **needs,
    )
    for batch in answers.iter_batches(batch_size=None):
        yield from map(pickle.loads, batch["answers"])


class _Actor:
    """A `Predictor` that reads its rows itself, by their places; the answers to a chunk travel as one value."""

    def __init__(self, settings: Settings, inputs: Inputs):
        self._predict, self._inputs = Predictor(settings), inputs

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        (places,) = batch["places"]
        return {"answers": [pickle.dumps(self._predict([self._inputs[int(place)] for place in places]))]}
