"""What the Trainer refuses: other classes than the model's, and launches that two optimizers cannot share."""

from types import SimpleNamespace

import pytest

from tests.helpers.tiny import EMOTIONS, tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator, compute_emotion_metrics
from trainer.compatibility import check_classes, check_launch
from trainer.errors import TrainingError


def test_a_collator_or_metrics_of_other_classes_are_refused(tmp_path):
    model, turned = tiny_model("whisper"), EMOTIONS[::-1]
    for metrics in (compute_emotion_metrics(EMOTIONS), compute_emotion_metrics(["a", "b", "c", "d"]), max, None):
        check_classes(model, list, metrics)
    with pytest.raises(TrainingError, match="names the classes sad, neutral, happy, angry, in another order than the"):
        check_classes(model, list, compute_emotion_metrics(turned))
    config = tiny_config("whisper", id2label=dict(enumerate(turned)), label2id=None)
    collator = M4SERDataCollator(tiny_processor(tmp_path, "whisper"), config)
    with pytest.raises(TrainingError, match="made for the classes sad, neutral, happy, angry, the model has angry, ha"):
        check_classes(model, collator, None)


@pytest.mark.parametrize(
    ("changes", "variable", "named"),
    [
        ({"deepspeed": "zero.json"}, None, "DeepSpeed"),
        ({}, "ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ({"n_gpu": 2}, None, r"nn\.DataParallel"),
    ],
)
def test_launches_that_two_optimizers_cannot_share_are_refused(monkeypatch, changes, variable, named):
    args = SimpleNamespace(deepspeed=None, n_gpu=1)
    check_launch(args)
    if variable:
        monkeypatch.setenv(variable, "true")
    with pytest.raises(TrainingError, match=f"does not run under {named}.*accelerate launch --multi_gpu"):
        check_launch(SimpleNamespace(**{**vars(args), **changes}))
