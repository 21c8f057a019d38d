"""The progress bar: one line for each validation."""

from types import SimpleNamespace

from trainer.callbacks.progress import EpochLinesCallback


def lines_of(logs, history=(), main_process=True):
    written = []
    callback = EpochLinesCallback()
    callback.training_bar = SimpleNamespace(write=written.append)
    state = SimpleNamespace(is_world_process_zero=main_process, log_history=list(history), epoch=3.0)
    callback.on_log(None, state, None, logs=logs)
    return written


def test_a_validation_is_one_line_with_the_latest_loss():
    history = [{"loss": 2.0}, {"loss": 1.25}, {"eval_ua": 0.5}]
    assert lines_of({"eval_wa": 0.625, "eval_ua": 0.5}, history) == [
        "epoch 3: loss 1.250, validation WA 62.5 %, UA 50.0 %"
    ]
    assert lines_of({"eval_wa": 0.625, "eval_ua": 0.5}) == ["epoch 3: validation WA 62.5 %, UA 50.0 %"]


def test_other_logs_and_processes_are_silent():
    assert lines_of({"loss": 1.0}) == []
    assert lines_of({"eval_wa": 0.5, "eval_ua": 0.5}, main_process=False) == []
