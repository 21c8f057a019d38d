"""Several processes (gloo, CPU), in whole copies and in shares, against one process at the same global batch."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import distributed_worker, sharded_run
from trainer.experiments.run_folder import load_log, load_results

SHARES = {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}
WHOLE_STATES = {"fsdp": True, "fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}}
#: What else needs the processes to agree: the statistics of the encoders, the moving average, both when resumed.
AVERAGED = {"standardize": True, "ema_decay": 0.9, "max_steps": 6, "logging_steps": 3, "resume": 3}
ACCUMULATED = {"gradient_accumulation_steps": 4}


def launch(processes: int, *runs: tuple[Path, dict]) -> list[list[dict]]:
    """Run the worker with each folder and options, and return what each process saved; a process alone is this one."""
    for folder, options in runs:
        folder.mkdir()
        if processes == 1:
            distributed_worker.train(folder, **options)
    if processes > 1:
        given = json.dumps({str(folder): options for folder, options in runs})
        command = [sys.executable, distributed_worker.__file__, str(processes), given]
        done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stderr[-3000:]
    return [
        [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(processes)] for folder, _ in runs
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process saves, run once for the same options."""
    done = {}

    def run(**options):
        key = json.dumps(options, sort_keys=True)
        if key not in done:
            (done[key],) = launch(1, (tmp_path_factory.mktemp("one") / "run", options))
        return done[key]

    return run


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes save of the same options, in whole copies and in shares."""
    folder, options = tmp_path_factory.mktemp("pair"), {"per_device_train_batch_size": 4, **AVERAGED}
    return dict(
        zip(("copies", "shares"), launch(2, (folder / "a", options), (folder / "b", options | SHARES)), strict=True)
    )


def slow(processes, sharding, options, name):
    return pytest.param((processes, sharding, options), id=name, marks=pytest.mark.slow)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("copies", id="ddp"),
        pytest.param("shares", id="fsdp2"),
        slow(2, {}, ACCUMULATED, "ddp accumulated"),
        slow(2, WHOLE_STATES, {"resume": 10}, "fsdp2 of whole states"),
        slow(2, SHARES, ACCUMULATED, "fsdp2 accumulated"),
        slow(4, {}, {}, "four ddp"),
        slow(4, SHARES, AVERAGED, "four fsdp2"),
    ],
)
def runs(request, alone, tmp_path_factory):
    """What one process saved, and what several did of the same global batch."""
    if request.param in ("copies", "shares"):
        return alone(per_device_train_batch_size=8, **AVERAGED), request.getfixturevalue("pair")[request.param]
    processes, sharding, options = request.param
    several = {"per_device_train_batch_size": 8 // processes, **options, **sharding}
    (found,) = launch(processes, (tmp_path_factory.mktemp("several") / "run", several))
    return alone(per_device_train_batch_size=8, **options), found


def test_they_ran_in_several_processes_and_in_shares_of_all_but_the_discriminator(runs, request):
    several = runs[1]
    assert [state["world"] for state in runs[0]] == [1]
    assert [state["world"] for state in several] == [len(several)] * len(several)
    own = sum(name.startswith("discriminator.") for name in several[0]["parameters"])
    sharded = "fsdp2" in request.node.callspec.id
    assert own
    assert all(state["whole"] == own for state in several) == sharded


def test_the_ranks_are_bit_identical(runs):
    first, *others = (state["parameters"] for state in runs[1])
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_a_resumed_run_ends_where_the_undisturbed_one_does(runs):
    for state in (*runs[0], *runs[1]):
        for name, value in state.get("resumed", {}).items():
            assert torch.equal(value, state["parameters"][name]), name


def test_several_processes_equal_one(runs):
    """Discriminator included, contrastive loss on: its positives come from all ranks."""
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


def test_predictions_come_once_and_in_the_order_of_the_data(runs):
    """11 rows, 2 at a time: the last batch of several processes is filled up with rows seen before."""
    for state in (*runs[0], *runs[1]):
        assert state["labels"].tolist() == [index % 4 for index in range(11)]
    one, two = runs[0][0]["logits"], runs[1][0]["logits"]
    assert all(torch.equal(two, state["logits"]) for state in runs[1])
    assert torch.pdist(one).min() > 1e-5, "rows so alike that another order would pass"
    assert (one - two).abs().max() < 1e-6


def test_eq_21_over_several_processes_is_the_loss_of_one(runs):
    (labels, loss, gradient) = runs[0][0]["contrastive"]
    for state in runs[1]:
        gathered, rank_loss, rank_gradient = state["contrastive"]
        assert torch.equal(gathered, labels)
        torch.testing.assert_close(rank_loss, loss, rtol=0, atol=1e-12)
        torch.testing.assert_close(rank_gradient, gradient, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_in_float32_too_two_processes_equal_one(alone, tmp_path):
    (one,) = alone(per_device_train_batch_size=8, dtype="float32")
    (several,) = launch(2, (tmp_path / "run", {"per_device_train_batch_size": 4, "dtype": "float32"}))
    first, second = (state["parameters"] for state in several)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert max((value - first[name]).abs().max() for name, value in one["parameters"].items()) < 1e-5


@pytest.mark.slow
def test_shares_in_bf16_agree_with_one_process_within_its_rounding(alone, tmp_path):
    options = {"dtype": "float32", "bf16": True, "max_steps": 4}
    (one,) = alone(per_device_train_batch_size=8, **options)
    (several,) = launch(2, (tmp_path / "run", {"per_device_train_batch_size": 4, **options, **SHARES}))
    first, second = (state["parameters"] for state in several)
    assert all(torch.equal(first[name], second[name]) for name in first)
    difference = (one["logits"] - several[0]["logits"]).abs().max()
    assert 0 < difference < 2**-7 * one["logits"].abs().max(), "the step from one number of bf16 to the next"


@pytest.mark.slow
def test_a_whole_experiment_in_shares_is_that_of_one_process(tmp_path):
    """Training, choosing the epoch, calibration, the correction's threshold, measuring, and the saved model."""
    found = []
    for name in ("one", "shares"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "one":
            sharded_run.run(folder)
        else:
            command = [sys.executable, sharded_run.__file__, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
            assert done.returncode == 0, done.stderr[-3000:]
        results, table = load_results(folder / "run"), pd.read_parquet(folder / "run" / "predictions.parquet")
        weights = load_file(folder / "run" / "model.safetensors")
        found.append((results, table, weights, load_log(folder / "run")))
    (one, table, weights, log), (shares, other_table, other_weights, other_log) = found
    assert (one["processes"], shares["processes"]) == (1, 2)
    assert one["metrics"] == shares["metrics"]
    assert one["best_checkpoint"] == shares["best_checkpoint"]
    assert one["calibration"]["temperature"] == pytest.approx(shares["calibration"]["temperature"], rel=1e-3)
    pd.testing.assert_frame_equal(table, other_table, rtol=0, atol=1e-4)
    assert weights.keys() == other_weights.keys()
    learned = weights.keys() - {"ood_scorer.whitening"}  # of few rows, its axes are as good in any direction
    assert max((weights[name] - other_weights[name]).abs().max() for name in learned) < 1e-5
    other = ("runtime", "per_second", "eval_loss")  # the last is a mean over batches, which are others
    for first, second in zip(log, other_log, strict=True):
        kept = {name: value for name, value in first.items() if not name.endswith(other)}
        assert kept == pytest.approx({name: second[name] for name in kept}, abs=1e-3)
