"""Training that fails: what is not finite stops it, by its step, its terms and its rows; what explodes is told."""

import logging
import math

import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from tests.helpers.corpus import tiny_trainer
from tests.helpers.tiny import tiny_model
from trainer.callbacks.divergence import DivergenceCallback, decode_ids, encode_ids
from trainer.errors import TrainingError


class Broken(torch.autograd.Function):
    """A loss as it is, and a gradient that is none."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0] * float("inf")


def trainer_with(folder, at, change, **options):
    """A trainer whose emotion loss is changed at forward pass `at`, and the rows of every pass."""
    passes = []

    def loss(logits, labels):
        passes.append(labels)
        found = cross_entropy(logits, labels)
        return change(found) if len(passes) == at else found

    options = {"max_steps": 6, "logging_steps": 3, "per_device_train_batch_size": 4, **options}
    trainer, rows = tiny_trainer(folder, tiny_model("whisper"), emotion_loss_func=loss, **options), []
    collate = trainer.data_collator.__call__

    def watch(batch):
        rows.append([row["id"] for row in batch])
        return collate(batch)

    trainer.data_collator = watch
    return trainer, rows


SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "logging_steps": 100}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda loss: loss * float("nan"), SAVED, r"at step 5: emotion \(nan\), loss \(nan\), on"),
        (lambda loss: loss / 0, {"gradient_accumulation_steps": 2}, r"at step 3: emotion \(inf\), loss \(inf\), on"),
        (lambda loss: loss / 0, {"max_steps": 5, "logging_steps": 100}, r"at step 5: emotion"),  # at the very end
        (Broken.apply, {}, r"at step 5: gradient \((nan|inf)\), on"),
        (Broken.apply, {"max_grad_norm": 0.0}, r"at step 5: gradient"),
    ],
)
def test_what_is_not_finite_stops_training_and_is_named(tmp_path, change, options, message):
    trainer, rows = trainer_with(tmp_path, 5, change, **options)
    with pytest.raises(TrainingError, match=message) as caught:
        trainer.train()
    assert f"on the rows {', '.join(rows[4])}. " in str(caught.value)
    if options is SAVED:
        (kept,) = (tmp_path / "run").glob("checkpoint-*")
        assert kept.name == "checkpoint-4"
        assert all(weights.isfinite().all() for weights in AutoModel.from_pretrained(kept).parameters())


def test_the_rows_are_those_of_the_micro_batch():
    watch = DivergenceCallback(Accelerator(cpu=True))
    watch.begin_update([encode_ids([name]) for name in ("first", "second", "third")])
    for loss in (1.0, math.inf, 1.0):
        watch.add_losses(1, {"loss": torch.tensor(loss)})
    with pytest.raises(TrainingError, match=r"at step 1: loss \(inf\), on the rows second\. "):
        watch.check()


def test_a_loss_that_explodes_is_told_once(tmp_path, caplog):
    trainer, _ = trainer_with(tmp_path, 2, lambda loss: loss * 1e4, logging_steps=1, max_grad_norm=1e-9)
    trainer.train()
    told = [record.getMessage() for record in caplog.records if "training diverges" in record.getMessage()]
    assert len(told) == 1
    assert "at step 2" in told[0]
    for start, loss, times in ((2e-4, 0.9, 0), (2.0, 1999.0, 0), (2.0, 2001.0, 1)):
        caplog.clear()
        watch = DivergenceCallback(Accelerator(cpu=True))
        for step, value in enumerate((start, loss, loss), 1):
            watch.add_losses(step, {"loss": torch.tensor(value)})
            watch.check()
        assert sum(record.levelno == logging.WARNING for record in caplog.records) == times


def test_each_run_has_a_start_of_its_own(caplog):
    watch = DivergenceCallback(Accelerator(cpu=True))
    for values in ((2.0, 3000.0), (3000.0, 4000.0), (2.0, 3000.0)):
        watch.on_train_begin(None, None, None)
        for step, value in enumerate(values, 1):
            watch.add_losses(step, {"loss": torch.tensor(value)})
        watch.check()
    assert [record.getMessage()[:30] for record in caplog.records] == ["The loss was 2 at the start an"] * 2


def test_no_step_waits_for_the_host():
    """A value on the device `meta` cannot be read."""
    watch = DivergenceCallback(Accelerator(cpu=True))
    watch.begin_update([None])
    watch.add_losses(1, {"loss": torch.ones((), device="meta"), "emotion": None})
    watch.add_gradient(1, torch.ones((), device="meta"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        watch.check()


def test_ids_of_any_length_and_script_pass_as_bytes():
    names = ["a", "", "Ses01F_impro01/F000", "情" * 50, "x" * 300]
    assert decode_ids(encode_ids(names)) == ["a", "", names[2], "情" * 33, "x" * 100]
