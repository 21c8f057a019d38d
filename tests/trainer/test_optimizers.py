"""Learning rates by part of the model, and an optimizer that is given."""

import pytest
import torch
from torch.optim import SGD

from tests.helpers.tiny import tiny_model
from trainer import M4SERTrainingArguments
from trainer.errors import TrainingError
from trainer.optimizers import check_optimizers, set_learning_rate


def test_parts_have_groups_of_their_own_and_no_parameter_two():
    model = tiny_model("whisper")
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.5)
    encoders = model.m4ser.speech_encoder, None
    set_learning_rate(optimizer, encoders, None)
    assert len(optimizer.param_groups) == 1
    set_learning_rate(optimizer, encoders, 0.0)
    set_learning_rate(optimizer, [model.classifier], 0.02)
    assert [(group["lr"], group["momentum"]) for group in optimizer.param_groups] == [(r, 0.5) for r in (0.01, 0, 0.02)]
    rest, encoder, classifier = ({id(part) for part in group["params"]} for group in optimizer.param_groups)
    assert encoder == {id(part) for part in model.m4ser.speech_encoder.parameters()}
    assert classifier == {id(part) for part in model.classifier.parameters()}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    assert rest | encoder | classifier == {id(part) for part in model.parameters()}


@pytest.mark.parametrize(
    ("given", "rates", "message"),
    [
        (lambda own: own, {}, r"^optimizers is a pair, \(optimizer, scheduler\)"),
        (lambda own: (SGD([torch.ones(1)]), None), {}, "holds no parameter of this model"),
        (lambda own: (own, None), {"classifier_learning_rate": 0.1}, "do nothing to an optimizer that is given"),
        (lambda own: (own, None), {}, None),
        (lambda own: (None, None), {"encoder_learning_rate": 0.1}, None),
    ],
)
def test_an_optimizer_that_is_given_is_of_this_model_and_has_its_own_rates(tmp_path, given, rates, message):
    model = tiny_model("whisper")
    arguments = M4SERTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **rates)
    optimizers = given(SGD(model.parameters()))
    if message is None:
        check_optimizers(optimizers, model, arguments)
    else:
        with pytest.raises(TrainingError, match=message):
            check_optimizers(optimizers, model, arguments)
