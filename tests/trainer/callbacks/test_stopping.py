"""A signal to stop saves a checkpoint at the end of the step, in all processes, and the run goes on from there."""

import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from transformers.trainer_callback import TrainerControl

from tests.helpers import faults_worker
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.faults_worker import At
from tests.helpers.tiny import tiny_model
from trainer.callbacks.stopping import StopCallback, start_worker

#: Two epochs of four steps, with dropout.
OPTIONS = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "logging_steps": 1,
}


def trainer_of(folder, at=None, number=signal.SIGTERM):
    trainer = tiny_trainer(folder, tiny_model("whisper", seed=1), eval_data=tiny_corpus(4), **OPTIONS)
    if at is not None:
        trainer.add_callback(At(at, lambda: os.kill(os.getpid(), number)))
    return trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    trainer = trainer_of(tmp_path_factory.mktemp("whole"))
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("at", "number", "saved"),
    [(2, signal.SIGTERM, 3), (3, signal.SIGUSR1, 4), (5, signal.SIGTERM, 6), (7, signal.SIGTERM, 8)],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path, caplog, whole, at, number, saved):
    """The signal comes when the step's end is over, so that the next one is still made; 4 and 8 end an epoch."""
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as end:
        trainer_of(tmp_path, at, number).train()
    assert end.value.code == 128 + number
    assert f"Stopped at step {saved} by {number.name}" in caplog.text
    assert signal.getsignal(number) == handler
    assert (tmp_path / "run" / f"checkpoint-{saved}" / "trainer_state.json").is_file()
    again = trainer_of(tmp_path)
    again.train(resume_from_checkpoint=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    logs = [
        [(row["step"], row.get("loss"), row.get("eval_loss")) for row in one.state.log_history[:-1]]
        for one in (whole, again)
    ]
    assert logs[0] == logs[1]


def test_a_training_follows_signals_of_its_own_alone_and_gives_them_back():
    def is_stopped():
        control = TrainerControl()
        stop.on_step_end(SimpleNamespace(world_size=1), SimpleNamespace(epoch=0.5), control)
        return control.should_save

    def other(*_):
        pass

    stop = StopCallback()
    before = signal.signal(signal.SIGTERM, other)
    try:
        with stop.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            assert is_stopped()
        assert signal.getsignal(signal.SIGTERM) is other
        with stop.listening():
            assert not is_stopped()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_trainer_in_another_thread_leaves_signals_alone(tmp_path):
    trainer, handler = trainer_of(tmp_path), signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=trainer.train)
    thread.start()
    assert signal.getsignal(signal.SIGTERM) == handler
    thread.join()
    assert trainer.state.global_step == 8


def test_workers_of_data_loaders_are_not_in_reach_of_what_stops_their_group(tmp_path):
    seen = []
    if (child := os.fork()) == 0:
        start_worker(seen.append, 3)
        os._exit(0 if os.getpgid(0) == os.getpid() and seen == [3] else 1)
    assert os.waitpid(child, 0)[1] == 0
    loader = trainer_of(tmp_path).get_train_dataloader()
    assert loader.worker_init_fn.func is start_worker
    assert loader.worker_init_fn.args[0] is not None, "their seeds are the library's"
    assert trainer_of(tmp_path).get_eval_dataloader().worker_init_fn.func is start_worker


def test_a_signal_or_a_loss_that_is_not_finite_in_one_process_stops_all_alike(tmp_path):
    command = [sys.executable, faults_worker.__file__, "stops", "2", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first["signalled"] == second["signalled"] == [143, 5, ["checkpoint-5"]]
    assert first["spoiled"] == second["spoiled"]
    message, step, left = first["spoiled"]
    assert message.startswith("Not finite at step 5: emotion (nan), loss (nan), on the rows clip")
    assert message.count("clip") == 2, "those of the one micro-batch"
    assert (step, left) == (5, ["checkpoint-3"])
