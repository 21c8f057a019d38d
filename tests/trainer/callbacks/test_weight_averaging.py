"""The moving average of the weights: its value, when it is used, and what a checkpoint keeps of it."""

import pytest
import torch
from transformers import TrainerCallback

from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.tiny import parameters_of, tiny_model
from trainer.callbacks.weight_averaging import MOVING_WEIGHTS_FILE


class Watch(TrainerCallback):
    """Keeps the weights before training and after each update."""

    def __init__(self):
        self.seen = []

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.seen.append(parameters_of(model))

    def on_step_end(self, args, state, control, model, **kwargs):
        self.seen.append(parameters_of(model))


def average_by_hand(seen, decay):
    """The recursion, number by number."""
    mean = {name: value.clone() for name, value in seen[0].items()}
    for update, weights in enumerate(seen[1:], 1):
        kept = min(decay, (1 + update) / (10 + update))
        mean = {name: kept * mean[name] + (1 - kept) * weights[name] for name in mean}
    return mean


def watched(tmp_path, model, **arguments):
    trainer = tiny_trainer(tmp_path, model, per_device_train_batch_size=4, **arguments)
    watch = Watch()
    trainer.add_callback(watch)
    return trainer, watch


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_training_leaves_the_average_in_the_model(tmp_path, decay):
    model = tiny_model("whisper")
    trainer, watch = watched(tmp_path, model, num_train_epochs=2, ema_decay=decay)
    trainer.train()
    assert len(watch.seen) == 9
    expected, final = average_by_hand(watch.seen, decay), watch.seen[-1]
    for name, value in parameters_of(model).items():
        # D is no part of what inference runs: it stays as its own optimizer left it.
        wanted = final[name] if name.startswith("discriminator.") else expected[name]
        torch.testing.assert_close(value, wanted, atol=1e-6, rtol=0)
    moved = max((final[name] - expected[name]).abs().max().item() for name in final)
    assert moved == 0 if decay == 0 else moved > 1e-4


def test_validation_checkpoints_and_what_is_left_are_of_the_average_and_training_is_not(tmp_path):
    arguments = {"num_train_epochs": 3, "eval_strategy": "epoch", "save_strategy": "epoch"}
    # The worst epoch counts as the best one, which is not the last: what is left must be its average.
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    data, model = tiny_corpus(6), tiny_model("whisper")
    trainer, watch = watched(tmp_path, model, eval_data=data, ema_decay=0.9, **arguments, **best)
    trainer.train()
    validated = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.state.best_global_step < trainer.state.global_step
    for epoch, loss in enumerate(validated, 1):
        saved = M4SERForEmotionClassification.from_pretrained(tmp_path / "run" / f"checkpoint-{4 * epoch}")
        expected = average_by_hand(watch.seen[: 4 * epoch + 1], 0.9)
        for part in (saved, *([model] if trainer.state.best_global_step == 4 * epoch else [])):
            for name, value in parameters_of(part).items():
                if not name.startswith("discriminator."):
                    torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)
        assert tiny_trainer(tmp_path, saved).evaluate(data)["eval_loss"] == pytest.approx(loss, abs=1e-6)
    plain, without = watched(tmp_path / "plain", tiny_model("whisper"), eval_data=data, **arguments)
    plain.train()
    assert all(torch.equal(value, watch.seen[-1][name]) for name, value in without.seen[-1].items())


@pytest.mark.parametrize(("written", "read"), [(0.9, None), (None, 0.9)])
def test_a_checkpoint_of_the_other_kind_is_refused(tmp_path, written, read):
    arguments = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    tiny_trainer(tmp_path, tiny_model("whisper"), ema_decay=written, **arguments).train()
    checkpoint = tmp_path / "run" / "checkpoint-1"
    assert (checkpoint / MOVING_WEIGHTS_FILE).exists() == (written is not None)
    trainer = tiny_trainer(tmp_path, tiny_model("whisper"), ema_decay=read, **arguments)
    with pytest.raises(ValueError, match="ema_decay"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
