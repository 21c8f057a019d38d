"""Two processes (gloo, CPU) against one process at the same global batch, with a validation in between."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import distributed_worker


def launch(folder: Path, processes: int, *arguments: float) -> list[dict]:
    """Run the worker and return what each process saved; a process alone is this one."""
    folder.mkdir()
    if processes == 1:
        distributed_worker.train(folder, *arguments)
    else:
        command = [sys.executable, distributed_worker.__file__, processes, folder, *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
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


def test_eq_21_over_two_processes_is_the_loss_of_one(runs):
    (labels, loss, gradient) = runs[0][0]["contrastive"]
    for rank in range(2):
        gathered, rank_loss, rank_gradient = runs[1][rank]["contrastive"]
        assert torch.equal(gathered, labels)
        torch.testing.assert_close(rank_loss, loss, rtol=0, atol=1e-12)
        torch.testing.assert_close(rank_gradient, gradient, rtol=0, atol=1e-10)
