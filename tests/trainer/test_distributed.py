"""Two processes (gloo, CPU) against one process at the same global batch, with a validation in between."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).parents[1] / "helpers" / "distributed_worker.py"


def launch(folder: Path, processes: int, *arguments: float) -> list[dict]:
    """Run the worker and return what each process saved."""
    folder.mkdir()
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no"]
    # accelerate starts several processes under --multi_gpu alone; ACCELERATE_USE_CPU makes them CPU processes on gloo.
    command += ["--multi_gpu", "--main_process_port", "0"] if processes > 1 else ["--cpu"]
    done = subprocess.run(
        [*command, str(WORKER), str(folder), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.fixture(
    scope="module",
    params=[pytest.param((), id="plain"), pytest.param((0.9,), id="averaged", marks=pytest.mark.slow)],
)
def runs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    return launch(folder / "one", 1, 8, *request.param), launch(folder / "two", 2, 4, *request.param)


def test_two_processes_ran(runs):
    assert [state["world"] for state in runs[0]] == [1]
    assert [state["world"] for state in runs[1]] == [2, 2]


def test_the_two_ranks_are_bit_identical(runs):
    first, second = (state["parameters"] for state in runs[1])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_equal_one(runs):
    """Discriminator included, contrastive loss on: its positives come from both ranks."""
    one, two = runs[0][0]["parameters"], runs[1][0]["parameters"]
    assert {name for name in one if name.startswith("discriminator.")}
    for name in one:
        assert (one[name] - two[name]).abs().max() < 1e-5, name


def test_logged_losses_agree(runs):
    one, two = (next(entry for entry in run[0]["log"] if "loss" in entry) for run in runs)
    names = [name for name in one if name.startswith("loss")]
    assert len(names) == 8
    for name in names:
        assert one[name] == pytest.approx(two[name], abs=1e-5), name


def test_predictions_come_in_the_order_of_the_data(runs):
    """11 rows, 2 at a time: the last batch of two processes is filled up with rows seen before."""
    for state in (*runs[0], *runs[1]):
        assert state["labels"].tolist() == [index % 4 for index in range(11)]
    one, two = runs[0][0]["logits"], runs[1][0]["logits"]
    assert torch.equal(two, runs[1][1]["logits"])
    assert torch.pdist(one).min() > 1e-5, "rows so alike that another order would pass"
    assert (one - two).abs().max() < 1e-6
