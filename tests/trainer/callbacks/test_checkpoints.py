"""Checkpoints survive kills and full disks, and one run at a time trains into a folder."""

import errno
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from data_scripts.journal import JournalError
from tests.helpers import faults_worker
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import tiny_model
from trainer.callbacks.checkpoints import ASIDE, LOCK_FILE, publish, trained_into
from trainer.errors import TrainingError
from trainer.experiments.run import RUN_LOCK, run_experiment

OPTIONS = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "max_steps": 5, "ema_decay": 0.9}


class Killed(BaseException):
    """The process ends here."""


def trainer_of(folder, **options):
    return tiny_trainer(folder, tiny_model("whisper", seed=1), **{**OPTIONS, **options})


def break_second(trainer, monkeypatch, place, act):
    """Let the second call of a method end with what `act` raises, after it was done."""
    calls, known = [], getattr(trainer, place)

    def broken(*args, **kwargs):
        calls.append(known(*args, **kwargs))
        if len(calls) == 2:
            act(*args)
        return calls[-1]

    monkeypatch.setattr(trainer, place, broken)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    trainer = trainer_of(tmp_path_factory.mktemp("whole"))
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def whole(trained):
    return trained.model.state_dict()


@pytest.fixture(scope="module")
def checkpoint(trained):
    return Path(trained.args.output_dir) / "checkpoint-5"


@pytest.mark.parametrize("place", ["save_model", "_save_optimizer_and_scheduler", "_save_rng_state", "rotated"])
def test_a_run_that_is_killed_while_saving_goes_on_from_the_checkpoint_before(
    tmp_path, monkeypatch, caplog, whole, place
):
    def kill(*_, **__):
        raise Killed

    trainer, run = trainer_of(tmp_path), tmp_path / "run"
    if place == "rotated":
        monkeypatch.setattr("trainer.callbacks.checkpoints.rotate_checkpoints", kill)
    else:
        break_second(trainer, monkeypatch, place, kill)
    with pytest.raises(Killed):
        trainer.train()
    monkeypatch.undo()
    left = {path.name for path in run.iterdir()}
    assert left == ({"checkpoint-2"} if place == "rotated" else {"checkpoint-2", ASIDE})
    again = trainer_of(tmp_path)
    with caplog.at_level(logging.WARNING):
        again.train(resume_from_checkpoint=get_last_checkpoint(str(run)))
    assert ("checkpoint-4 was being saved when an earlier run was killed" in caplog.text) == (place != "rotated")
    assert all(torch.equal(value, whole[name]) for name, value in again.model.state_dict().items())
    assert {path.name for path in run.iterdir()} == {"checkpoint-5"}


def best_second(folder, monkeypatch, **options):
    """A trainer whose best step is the second of four."""
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "metric_for_best_model": "steps"}
    trainer = trainer_of(folder, eval_data=tiny_corpus(4), max_steps=4, greater_is_better=False, **best, **options)
    monkeypatch.setattr(trainer, "_evaluate", lambda *_: {"eval_steps": trainer.state.global_step})
    return trainer


def test_a_run_folder_that_was_moved_goes_on(tmp_path, monkeypatch):
    trainer = best_second(tmp_path / "first", monkeypatch, save_total_limit=2)

    def kill(*_):
        raise Killed

    monkeypatch.setattr(trainer, "_load_best_model", kill)
    with pytest.raises(Killed):
        trainer.train()
    os.renames(tmp_path / "first" / "run", tmp_path / "second" / "run")
    again = best_second(tmp_path / "second", monkeypatch, save_total_limit=2)
    again.train(resume_from_checkpoint=True)
    assert again.state.best_model_checkpoint == str(tmp_path / "second" / "run" / "checkpoint-2")


def test_the_last_checkpoint_of_a_finished_training_has_another_name_while_it_is_deleted(tmp_path, monkeypatch):
    trainer = best_second(tmp_path, monkeypatch)
    remove = shutil.rmtree

    def kill(path, **options):
        if (Path(path) / "checkpoint-4").exists():
            raise Killed
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", kill)
    with pytest.raises(Killed):
        trainer.train()
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]


def test_with_room_for_two_the_last_checkpoint_stays_beside_the_best_and_both_name_it_by_its_place(
    tmp_path, monkeypatch
):
    best_second(tmp_path, monkeypatch, save_total_limit=2).train()
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    for path in (tmp_path / "run").glob("checkpoint-*/trainer_state.json"):
        assert json.loads(path.read_text())["best_model_checkpoint"] == str(tmp_path / "run" / "checkpoint-2")


def test_a_checkpoint_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    written, place, synced = tmp_path / ASIDE / "checkpoint-1", tmp_path / "checkpoint-1", []
    written.mkdir(parents=True)
    (written / "weights").write_text("w")
    monkeypatch.setattr("trainer.callbacks.checkpoints.sync", lambda path: synced.append((path, place.exists())))
    publish(written, place)
    assert synced == [(written / "weights", False), (written, False), (tmp_path, True)]


def test_a_checkpoint_is_pushed_when_it_has_its_name(tmp_path, monkeypatch):
    pushed, trainer = [], trainer_of(tmp_path, max_steps=2)
    monkeypatch.setattr(
        Trainer, "_push_from_checkpoint", lambda _, folder: pushed.append((Path(folder), Path(folder).is_dir()))
    )
    trainer.args.push_to_hub = True
    trainer.train()
    assert pushed == [(tmp_path / "run" / "checkpoint-2", True)]


def test_a_later_training_takes_the_place_of_an_earlier_one_s_checkpoint(tmp_path):
    for seed in (1, 2):
        trainer = trainer_of(tmp_path, max_steps=2, seed=seed)
        trainer.train()
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint-2"]
        assert torch.load(tmp_path / "run" / "checkpoint-2" / "training_args.bin", weights_only=False).seed == seed


def write_full(*_, **__):
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"weights")


def save_full(*_, **__):
    torch.save(torch.zeros(100), "/dev/full")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("fail", [write_full, save_full])
def test_a_full_disk_in_the_middle_of_a_save_is_one_line_and_leaves_what_was_good(tmp_path, monkeypatch, fail):
    trainer, run = trainer_of(tmp_path), tmp_path / "run"
    break_second(trainer, monkeypatch, "_save_optimizer_and_scheduler", fail)
    message = rf"disk is full: checkpoint-4 does not fit into {run} \(\d+\.\d MB of it written, [\d,.]+ MB free\)"
    with pytest.raises(TrainingError, match=message):
        trainer.train()
    assert [path.name for path in run.iterdir()] == ["checkpoint-2"]


def test_another_error_while_saving_is_not_of_the_disk(tmp_path, monkeypatch):
    trainer = trainer_of(tmp_path)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    break_second(trainer, monkeypatch, "_save_rng_state", fail)
    with pytest.raises(OSError, match="Input/output error"):
        trainer.train()
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]


def test_a_second_run_in_one_folder_says_so(tmp_path):
    trainer = trainer_of(tmp_path)
    with trained_into(tmp_path / "run", saves=True):
        with pytest.raises(JournalError, match=r"run is being trained into by another process: wait until"):
            trainer.train()
        with trained_into(tmp_path / "run", saves=False):
            pass
    assert not (tmp_path / "run" / LOCK_FILE).exists()
    trainer.train()


def test_a_second_run_of_an_experiment_says_so_before_a_model_is_built(tmp_path):
    data = DatasetDict(dict.fromkeys(("train", "validation", "test"), tiny_corpus(4)))
    with (
        trained_into(tmp_path, True, RUN_LOCK),
        pytest.raises(JournalError, match=f"{tmp_path} is being trained into by another process: wait until it"),
    ):
        run_experiment(None, data, experiment_arguments(tmp_path), description="", split={"name": "fold1"})
    assert not list(tmp_path.iterdir())


class Payload:
    """Makes a file of this name where it is loaded as a pickle."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return os.mkdir, (str(self.name),)


@pytest.mark.parametrize("name", ["discriminator_optimizer.pt", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_the_state_of_a_checkpoint_is_data_and_no_code(tmp_path, checkpoint, name):
    shutil.copytree(checkpoint, tmp_path / "run" / checkpoint.name)
    torch.save({"state": Payload(tmp_path / "done")}, tmp_path / "run" / checkpoint.name / name)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        trainer_of(tmp_path).train(resume_from_checkpoint=True)
    assert not (tmp_path / "done").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_runs_that_are_killed_ten_times_end_as_one_that_was_let_alone(tmp_path, processes):
    command = [sys.executable, faults_worker.__file__, "kills", str(processes), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(found)
    assert found["kills"] == 10
    assert found["while saving"] >= 2
    assert found["resumed"] >= 5
    assert all(found["equal"])
