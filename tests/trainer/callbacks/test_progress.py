"""The progress bar: one line for each validation."""

from types import SimpleNamespace

import pytest

from trainer.callbacks.progress import EpochLinesCallback

SCORES = {"eval_wa": 0.625, "eval_ua": 0.5}


@pytest.mark.parametrize(
    ("logs", "losses", "main_process", "expected"),
    [
        (SCORES, [2.0, 1.25], True, ["epoch 3: loss 1.250, validation WA 62.5 %, UA 50.0 %"]),
        (SCORES, [], True, ["epoch 3: validation WA 62.5 %, UA 50.0 %"]),
        (SCORES, [], False, []),
        ({"loss": 1.0}, [1.0], True, []),
    ],
)
def test_a_validation_is_one_line_with_the_latest_loss(logs, losses, main_process, expected):
    written, callback = [], EpochLinesCallback()
    callback.training_bar = SimpleNamespace(write=written.append)
    history = [*({"loss": loss} for loss in losses), {"eval_ua": 0.5}]
    state = SimpleNamespace(is_world_process_zero=main_process, log_history=history, epoch=3.0)
    callback.on_log(None, state, None, logs=logs)
    assert written == expected
